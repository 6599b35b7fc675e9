#!/usr/bin/env bash
# archive.sh TARGET BINARY VERSION OUT [HOST_BINARY]: OUT/gpuwaste-VERSION-TARGET.tar.gz (.zip for Windows) and its .sha256.
#
# In it: the binary, licence, README, changelog, completions, one manual page a command, and the SBOM (OUT/sbom.cdx.json
# where it exists). HOST_BINARY writes completions and manual pages where BINARY is another machine's. The same input gives
# the same bytes: times are SOURCE_DATE_EPOCH or that of the last commit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${1:?target} binary=${2:?binary} version=${3:?version} out=${4:?folder} host=${5:-$2}
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
name=gpuwaste-$version-$target
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
to=$work/$name
mkdir -p "$to/completions" "$to/man" "$out"
case $target in *windows*) exe=gpuwaste.exe ;; *) exe=gpuwaste ;; esac
install -m 755 "$binary" "$to/$exe"
install -m 644 LICENSE README.md CHANGELOG.md "$to/"
"$host" completions bash >"$to/completions/gpuwaste.bash"
"$host" completions zsh >"$to/completions/_gpuwaste"
"$host" completions fish >"$to/completions/gpuwaste.fish"
"$host" man --dir "$to/man"
if [ -e "$out/sbom.cdx.json" ]; then install -m 644 "$out/sbom.cdx.json" "$to/"; fi
find "$work" -exec touch -h -d "@$epoch" {} +
case $target in
  *windows*)
    archive=$out/$name.zip
    rm -f "$archive"
    here=$(cd "$out" && pwd)
    (cd "$work" && find "$name" -type f | LC_ALL=C sort | TZ=UTC zip -q -X "$here/$name.zip" -@)
    ;;
  *)
    archive=$out/$name.tar.gz
    tar -C "$work" --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner -cf - "$name" | gzip -9n >"$archive"
    ;;
esac
(cd "$out" && sha256sum "$(basename "$archive")" >"$(basename "$archive").sha256")
echo "$archive"
