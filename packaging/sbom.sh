#!/usr/bin/env bash
# sbom.sh OUT: OUT/sbom.cdx.json, what the binary is made of (CycloneDX 1.5), by cargo-cyclonedx.
set -euo pipefail
out=$(mkdir -p "${1:?folder}" && cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=0.5.9
root=${XDG_CACHE_HOME:-$HOME/.cache}/gpuwaste-cyclonedx/$version
if [ ! -x "$root/bin/cargo-cyclonedx" ]; then
  env -u CARGO_TARGET_DIR cargo install cargo-cyclonedx --version "=$version" --locked --debug --root "$root" >&2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"; git ls-files --others --exclude-standard | grep -E "sbom\.cdx\.json$" | xargs -r rm -f' EXIT
"$root/bin/cargo-cyclonedx" cyclonedx --format json --spec-version 1.5 --target all --override-filename sbom.cdx >&2
mv sbom.cdx.json "$out/sbom.cdx.json"
