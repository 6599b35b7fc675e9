#!/usr/bin/env bash
# build.sh TARGET: the shipped binary for a Rust target, with the `dist` profile; its path is the last line printed.
#
# Linux binaries are linked by zig (cargo-zigbuild), so that they run on glibc 2.17 and newer (RHEL 7, Amazon Linux 2: HPC
# login nodes) whatever this machine has; *-musl is static, for containers. Others are built by the system's own linker.
# Needs: Rust, Python 3 (`pip` installs zig and cargo-zigbuild into a cache outside the clone).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${1:?usage: build.sh TARGET, for example x86_64-unknown-linux-gnu}
out=${CARGO_TARGET_DIR:-target}
zig=ziglang==0.15.2 zigbuild=cargo-zigbuild==0.24.1

say() { echo "$*" >&2; }

rustup target add "$target" >&2
case $target in
  *-linux-*)
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/gpuwaste-zig-${zig##*=}-${zigbuild##*=}
    if [ ! -e "$cache/done" ]; then
      python3 -m venv "$cache"
      "$cache/bin/pip" install -q --disable-pip-version-check "$zig" "$zigbuild" >&2
      touch "$cache/done"
    fi
    # Whichever zig is installed elsewhere is not used.
    export PATH=$cache/bin:$PATH
    with=$target
    case $target in *-gnu) with=$target.2.17 ;; esac
    say "building $with with zig"
    cargo zigbuild --locked --profile dist --bin gpuwaste --target "$with" >&2
    ;;
  *)
    say "building $target"
    cargo build --locked --profile dist --bin gpuwaste --target "$target" >&2
    ;;
esac
binary=$out/$target/dist/gpuwaste
[ -e "$binary" ] || binary=$binary.exe
test -s "$binary"
echo "$binary"
