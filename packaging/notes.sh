#!/usr/bin/env bash
# notes.sh VERSION: the release's notes, which are its section of the changelog.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=${1:?version}
notes=$(awk -v head="## [$version]" 'index($0, "## [") == 1 {on = index($0, head) == 1; next} on' CHANGELOG.md | sed -e '/./,$!d')
[ -n "$notes" ] || { echo "CHANGELOG.md has no section [$version]" >&2; exit 1; }
echo "$notes"
