#!/usr/bin/env bash
# tools.sh TOOL…: installs nfpm, crane, helm or validate-krew-manifest from its Go module, at a pinned version. They go to
# $GOBIN, else to Go's default folder; on GitHub's runners that folder is put into PATH.
set -euo pipefail
declare -A modules=(
  [nfpm]=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.4
  [crane]=github.com/google/go-containerregistry/cmd/crane@v0.22.1
  [helm]=helm.sh/helm/v3/cmd/helm@v3.22.0
  [validate-krew-manifest]=sigs.k8s.io/krew/cmd/validate-krew-manifest@v0.4.3
)
for tool in "$@"; do
  module=${modules[$tool]:-}
  [ -n "$module" ] || { echo "$tool: one of ${!modules[*]}" >&2; exit 2; }
  GOFLAGS='' go install "$module"
done
bin=${GOBIN:-$(go env GOPATH)/bin}
if [ -n "${GITHUB_PATH:-}" ]; then echo "$bin" >>"$GITHUB_PATH"; fi
echo "$bin"
