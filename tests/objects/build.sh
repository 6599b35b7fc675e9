#!/usr/bin/env bash
# Installs the stores that the tests read from, into a cache outside the clone: Versity S3 Gateway (Apache-2.0), fake-gcs-server
# (BSD) and Azurite (MIT). Prints the folder with them. Needs Go >= 1.26 and npm; cold some minutes, warm at once.
set -euo pipefail
key=$(sha256sum "${BASH_SOURCE[0]}" | cut -c1-16)
root=${XDG_CACHE_HOME:-$HOME/.cache}/gpuwaste-objects
bin=$root/$key
if [ ! -e "$bin/done" ]; then
  mkdir -p "$root"
  exec 9>"$root/lock"
  flock 9
  if [ ! -e "$bin/done" ]; then
    mkdir -p "$bin"
    GOBIN=$bin CGO_ENABLED=0 go install github.com/versity/versitygw/cmd/versitygw@v1.8.0 >&2
    GOBIN=$bin CGO_ENABLED=0 go install github.com/fsouza/fake-gcs-server@v1.56.1 >&2
    npm install --prefix "$bin" --no-audit --no-fund --loglevel=error azurite@3.35.0 >&2
    touch "$bin/done"
  fi
fi
echo "$bin"
