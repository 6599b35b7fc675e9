#!/usr/bin/env bash
# sbom.sh OUT: OUT/sbom.cdx.json, what the binary is made of (CycloneDX 1.5), by cargo-cyclonedx; the same for one commit, wherever it is made.
# The tool is built once into a cache outside the clone: some minutes.
set -euo pipefail
out=$(mkdir -p "${1:?folder}" && cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=0.5.9
root=${XDG_CACHE_HOME:-$HOME/.cache}/gpuwaste-cyclonedx/$version
if [ ! -x "$root/bin/cargo-cyclonedx" ]; then
  env -u CARGO_TARGET_DIR cargo install cargo-cyclonedx --version "=$version" --locked --debug --root "$root" >&2
fi
# It writes one file beside each Cargo.toml of the workspace: the binary's is kept.
trap 'git ls-files --others --exclude-standard | grep -E "(^|/)sbom\.cdx\.json$" | xargs -r rm -f' EXIT
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)} \
  "$root/bin/cargo-cyclonedx" cyclonedx --format json --spec-version 1.5 --target all --override-filename sbom.cdx >&2
# Where it was made is nobody's concern: paths begin at the clone.
sed "s|path+file://$PWD|path+file://|g" sbom.cdx.json >"$out/sbom.cdx.json"
