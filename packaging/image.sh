#!/usr/bin/env bash
# image.sh REFERENCE VERSION TARBALL=PLATFORM…: an image of the static builds, pushed to REFERENCE, without a container daemon
# (crane). For example:
#   image.sh registry.example/gpuwaste:0.2.0 0.2.0 gpuwaste-0.2.0-x86_64-unknown-linux-musl.tar.gz=linux/amd64
#
# In it, and nothing else: the binary, the certificates that TLS needs, an unprivileged user, /tmp.
set -euo pipefail
reference=${1:?reference} version=${2:?version}
shift 2
certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
epoch=${SOURCE_DATE_EPOCH:-0}
insecure=()
case $reference in localhost:* | 127.0.0.1:*) insecure=(--insecure) ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
manifests=()
for pair in "$@"; do
  archive=${pair%=*} platform=${pair##*=}
  root=$work/${platform//\//-}
  mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/tmp" "$root/licenses" "$root.in"
  tar -xzf "$archive" -C "$root.in" --strip-components=1
  install -m 755 "$root.in/gpuwaste" "$root/usr/bin/gpuwaste"
  install -m 644 "$root.in/LICENSE" "$root/licenses/gpuwaste"
  install -m 644 "$certificates" "$root/etc/ssl/certs/ca-certificates.crt"
  chmod 1777 "$root/tmp"
  echo 'nonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin' >"$root/etc/passwd"
  echo 'nonroot:x:65532:' >"$root/etc/group"
  tar -C "$root" --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner -cf "$root.tar" .
  one=$reference-${platform##*/}
  crane append "${insecure[@]}" --platform "$platform" -f "$root.tar" -t "$one" >&2
  crane mutate "${insecure[@]}" "$one" -t "$one" --set-platform "$platform" --user 65532:65532 --entrypoint /usr/bin/gpuwaste --workdir /tmp \
    --env SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt --label "org.opencontainers.image.version=$version" \
    --label org.opencontainers.image.licenses=Apache-2.0 --label org.opencontainers.image.title=gpuwaste >&2
  manifests+=(-m "$one")
done
crane index append "${insecure[@]}" "${manifests[@]}" -t "$reference" >&2
crane digest "${insecure[@]}" "$reference"
