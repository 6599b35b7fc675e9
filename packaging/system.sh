#!/usr/bin/env bash
# system.sh VERSION OUT: .deb and .rpm from the archives of Linux in OUT, by nfpm.
set -euo pipefail
out=$(cd "${2:?folder}" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export VERSION=${1:?version}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for archive in "$out/gpuwaste-$VERSION"-*-unknown-linux-gnu.tar.gz; do
  case $archive in *x86_64*) ARCH=amd64 ;; *) ARCH=arm64 ;; esac
  tar -xzf "$archive" -C "$work"
  TREE=$work/$(basename "$archive" .tar.gz)
  export ARCH TREE
  for packager in deb rpm; do nfpm package --config packaging/nfpm.yaml --packager "$packager" --target "$out"; done
done
