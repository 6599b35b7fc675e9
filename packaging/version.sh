#!/usr/bin/env bash
# version.sh KIND REF: "version=X.Y.Z" of the workspace; refuses a tag that says another, or that the changelog does not know.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
kind=${1:?tag or branch} ref=${2:?name}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
chart=$(sed -n 's/^appVersion: //p' packaging/helm/gpuwaste/Chart.yaml)
if [ "$chart" != "$version" ]; then
  echo "packaging/helm/gpuwaste/Chart.yaml says $chart, Cargo.toml $version" >&2
  exit 1
fi
if [ "$kind" = tag ]; then
  if [ "$ref" != "v$version" ]; then
    echo "the tag is $ref, the version in Cargo.toml is $version" >&2
    exit 1
  fi
  if ! grep -qF "## [$version]" CHANGELOG.md; then
    echo "CHANGELOG.md has no section [$version]" >&2
    exit 1
  fi
fi
echo "version=$version"
