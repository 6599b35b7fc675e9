#!/bin/sh
# Installs gpuwaste from a release: curl -fsSL …/install.sh | sh
#
#   GPUWASTE_VERSION   which release (the newest one where empty)
#   GPUWASTE_BIN       where the binary goes (~/.local/bin)
#   GPUWASTE_LIBC      gnu or musl (gnu; musl where the system has no glibc)
#   GPUWASTE_URL       where releases lie, for a mirror of your own
#
# It downloads one archive and its checksum, compares them, and puts one file into place. It asks for no other right,
# changes no profile, and leaves what is there untouched where anything fails.
set -eu

fail() {
  echo "gpuwaste: $*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

fetch() { # URL FILE
  if have curl; then
    curl -fsSL --retry 2 -o "$2" "$1"
  elif have wget; then
    wget -q -O "$2" "$1"
  else
    fail "neither curl nor wget is installed"
  fi
}

# In a function, so that a download that is cut off runs nothing.
main() {
  url=${GPUWASTE_URL:-https://github.com/@REPOSITORY@/releases}
  version=${GPUWASTE_VERSION:-@VERSION@}
  bin=${GPUWASTE_BIN:-$HOME/.local/bin}
  version=${version#v}
  case $version in *[!0-9A-Za-z.+-]* | "") fail "GPUWASTE_VERSION: '$version' is no version (for example 0.2.0)" ;; esac

  case $(uname -m) in
    x86_64 | amd64) arch=x86_64 ;;
    aarch64 | arm64) arch=aarch64 ;;
    *) fail "there is no build for $(uname -m): cargo install builds one (see the README)" ;;
  esac
  case $(uname -s) in
    Linux)
      libc=${GPUWASTE_LIBC:-}
      if [ -z "$libc" ]; then
        # ldd names musl on Alpine; without any ldd the static build runs anyway.
        if have ldd && ! ldd --version 2>&1 | grep -qi musl; then libc=gnu; else libc=musl; fi
      fi
      case $libc in gnu | musl) ;; *) fail "GPUWASTE_LIBC: '$libc' is neither gnu nor musl" ;; esac
      target=$arch-unknown-linux-$libc
      ;;
    Darwin) target=$arch-apple-darwin ;;
    *) fail "there is no build for $(uname -s) here: see the releases at $url" ;;
  esac

  name=gpuwaste-$version-$target
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT TERM
  for part in tar.gz tar.gz.sha256; do
    fetch "$url/download/v$version/$name.$part" "$work/$name.$part" || fail "$url/download/v$version/$name.$part could not be read"
  done
  wanted=$(cut -d' ' -f1 "$work/$name.tar.gz.sha256")
  if have sha256sum; then
    got=$(sha256sum "$work/$name.tar.gz" | cut -d' ' -f1)
  elif have shasum; then
    got=$(shasum -a 256 "$work/$name.tar.gz" | cut -d' ' -f1)
  else
    fail "neither sha256sum nor shasum is installed: what was downloaded cannot be checked"
  fi
  if [ -z "$wanted" ] || [ "$got" != "$wanted" ]; then
    fail "the checksum of $name.tar.gz is $got and should be '$wanted': nothing was installed"
  fi
  tar -xzf "$work/$name.tar.gz" -C "$work"
  "$work/$name/gpuwaste" --version >/dev/null || fail "the build for $target does not run here (GPUWASTE_LIBC=musl is the static one)"
  mkdir -p "$bin"
  # A rename within the folder: one that runs meanwhile goes on with its old file.
  cp "$work/$name/gpuwaste" "$bin/.gpuwaste.$$"
  chmod 755 "$bin/.gpuwaste.$$"
  mv "$bin/.gpuwaste.$$" "$bin/gpuwaste"
  echo "$("$bin/gpuwaste" --version) is installed as $bin/gpuwaste"
  case ":$PATH:" in *":$bin:"*) ;; *) echo "$bin is not in PATH: export PATH=\"$bin:\$PATH\"" ;; esac
  echo "First: gpuwaste scan --demo"
}

main
