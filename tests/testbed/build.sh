#!/usr/bin/env bash
# Builds the real kube-apiserver, kube-scheduler, kube-controller-manager, kubectl and etcd that the tests run against, into a cache outside the clone.
# Prints the folder with the binaries. Needs Go >= 1.26; cold about 3-10 minutes, warm at once.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
key=$(cat "$here"/kube/go.mod "$here"/kube/go.sum "$here"/etcd/go.mod "$here"/etcd/go.sum "$here"/build.sh | sha256sum | cut -c1-16)
cache=${GPUWASTE_TESTBED_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gpuwaste-testbed}
bin=$cache/$key
version=$(sed -n 's/^\s*k8s.io\/kubernetes \(v[0-9.]*\).*/\1/p' "$here/kube/go.mod" | head -n 1)
IFS=. read -r major minor _ <<<"${version#v}"

missing=
for program in etcd kube-apiserver kube-scheduler kube-controller-manager kubectl; do [ -x "$bin/$program" ] || missing=1; done
if [ -n "$missing" ]; then
  mkdir -p "$bin.part"
  base=k8s.io/component-base/version
  # Without the -X flags /version says v0.0.0-master and clients stumble.
  (cd "$here/kube" && CGO_ENABLED=0 GOFLAGS=-mod=mod go build -trimpath \
    -ldflags "-s -w -X $base.gitVersion=$version -X $base.gitMajor=$major -X $base.gitMinor=$minor" \
    -o "$bin.part/" k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kube-scheduler \
    k8s.io/kubernetes/cmd/kube-controller-manager k8s.io/kubernetes/cmd/kubectl) >&2
  (cd "$here/etcd" && CGO_ENABLED=0 GOFLAGS=-mod=mod go build -trimpath -ldflags "-s -w" -o "$bin.part/etcd" go.etcd.io/etcd/server/v3) >&2
  rm -rf "$bin"
  mv "$bin.part" "$bin"
fi
echo "$bin"
