#!/usr/bin/env bash
# manifests.sh VERSION REPOSITORY OUT: from the archives in OUT writes SHA256SUMS, install.sh, the Homebrew formula
# (gpuwaste.rb) and the krew manifest (gpuwaste.yaml). REPOSITORY is OWNER/NAME on GitHub.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
version=${1:?version} repository=${2:?owner/name} out=${3:?folder}
[[ $repository =~ ^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$ ]] || { echo "$repository: not OWNER/NAME" >&2; exit 2; }
[[ $version =~ ^[0-9A-Za-z.+-]+$ ]] || { echo "$version: not a version" >&2; exit 2; }
base=https://github.com/$repository/releases/download/v$version
(
  cd "$out"
  shopt -s nullglob
  sha256sum -- "gpuwaste-$version"-*.tar.gz "gpuwaste-$version"-*.zip *.deb *.rpm sbom.cdx*.json >SHA256SUMS
)

sum() { cut -d' ' -f1 "$out/gpuwaste-$version-$1.sha256"; }

sed -e "s|@REPOSITORY@|$repository|" -e "s|@VERSION@|$version|" install.sh >"$out/install.sh"

formula() {
  cat <<RUBY
class Gpuwaste < Formula
  desc "Finds waste in GPU fleets: which model runs on which GPU, and what it costs"
  homepage "https://github.com/$repository"
  version "$version"
  license "Apache-2.0"

RUBY
  local system arch target on_arch
  for system in macos linux; do
    echo "  on_$system do"
    for arch in x86_64 aarch64; do
      case $system in macos) target=$arch-apple-darwin ;; *) target=$arch-unknown-linux-gnu ;; esac
      [ -e "$out/gpuwaste-$version-$target.tar.gz" ] || continue
      case $arch in x86_64) on_arch=intel ;; *) on_arch=arm ;; esac
      printf '    on_%s do\n      url "%s"\n      sha256 "%s"\n    end\n' "$on_arch" "$base/gpuwaste-$version-$target.tar.gz" "$(sum "$target.tar.gz")"
    done
    echo "  end"
  done
  cat <<'RUBY'

  def install
    bin.install "gpuwaste"
    bin.install_symlink "gpuwaste" => "kubectl-gpuwaste"
    man1.install Dir["man/*.1"]
    bash_completion.install "completions/gpuwaste.bash" => "gpuwaste"
    zsh_completion.install "completions/_gpuwaste"
    fish_completion.install "completions/gpuwaste.fish"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/gpuwaste --version")
    assert_match "Spend", shell_output("#{bin}/gpuwaste scan --demo")
  end
end
RUBY
}
formula >"$out/gpuwaste.rb"

krew() {
  cat <<YAML
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: gpuwaste
spec:
  version: v$version
  homepage: https://github.com/$repository
  shortDescription: Find waste in GPU fleets, in dollars per hour
  description: |
    Which model runs on which GPU, what it needs, and what it costs per hour to leave it there: idle, free, oversized
    and failing GPUs, ranked by dollars. It gets and lists, and changes nothing.
  caveats: |
    The rights it needs: kubectl gpuwaste rbac | kubectl apply -f -
  platforms:
YAML
  local os arch target file
  while read -r os arch target; do
    for file in "gpuwaste-$version-$target.tar.gz" "gpuwaste-$version-$target.zip"; do
      [ -e "$out/$file" ] || continue
      local bin=gpuwaste
      [ "$os" != windows ] || bin=gpuwaste.exe
      cat <<YAML
  - selector: {matchLabels: {os: $os, arch: $arch}}
    uri: $base/$file
    sha256: $(sum "${file#"gpuwaste-$version-"}")
    bin: $bin
    files:
    - {from: gpuwaste-$version-$target/$bin, to: .}
    - {from: gpuwaste-$version-$target/LICENSE, to: .}
YAML
    done
  done <<'TARGETS'
linux amd64 x86_64-unknown-linux-gnu
linux arm64 aarch64-unknown-linux-gnu
darwin amd64 x86_64-apple-darwin
darwin arm64 aarch64-apple-darwin
windows amd64 x86_64-pc-windows-msvc
TARGETS
}
krew >"$out/gpuwaste.yaml"
