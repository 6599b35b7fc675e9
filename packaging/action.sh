#!/usr/bin/env bash
# The steps of action.yml: `install` puts a release's binary into the job's PATH, `run` runs it with $ARGS.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case ${1:?install or run} in
  install)
    url=${GPUWASTE_URL:-https://github.com/$REPOSITORY/releases}
    if [ -z "${GPUWASTE_VERSION:-}" ]; then
      # "latest" is a redirect to the newest release's page.
      GPUWASTE_VERSION=$(curl -fsSL -o /dev/null -w '%{url_effective}' "$url/latest")
      GPUWASTE_VERSION=${GPUWASTE_VERSION##*/v}
    fi
    export GPUWASTE_VERSION GPUWASTE_URL=$url GPUWASTE_BIN=${RUNNER_TEMP:?}/gpuwaste
    sh "$here/install.sh"
    echo "$GPUWASTE_BIN" >>"$GITHUB_PATH"
    ;;
  run)
    # Words as a shell splits them, and nothing more: no substitution, no command.
    mapfile -t args < <(xargs -n 1 printf '%s\n' <<<"$ARGS")
    more=()
    if [ "${SUMMARY:-}" = true ]; then more+=(--format "markdown=${RUNNER_TEMP:?}/gpuwaste.md"); fi
    if [ -n "${SARIF:-}" ]; then more+=(--format "sarif=$SARIF"); fi
    # With any --format the table is only printed where it is asked for.
    if [ "${#more[@]}" -gt 0 ]; then more+=(--format table); fi
    code=0
    gpuwaste "${args[@]}" "${more[@]}" || code=$?
    echo "exit-code=$code" >>"$GITHUB_OUTPUT"
    if [ "${SUMMARY:-}" = true ] && [ -s "$RUNNER_TEMP/gpuwaste.md" ]; then cat "$RUNNER_TEMP/gpuwaste.md" >>"$GITHUB_STEP_SUMMARY"; fi
    exit "$code"
    ;;
  *)
    echo "$1: install or run" >&2
    exit 2
    ;;
esac
