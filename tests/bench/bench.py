#!/usr/bin/env python3
"""Benchmarks that print; nothing here asserts a time. Each figure is the median of several runs, beside a baseline of the same run.

usage: cargo build --release && python3 tests/bench/bench.py [start] [manifests] [metrics] [cluster] [sparse] [exporters]

`cluster`, `sparse` and `exporters` need what the tests of the real API server need (Go, openssl, curl; exporters: root and iproute2).
GPUWASTE names another binary; RUNS another number of runs.
"""
import itertools, json, os, pathlib, re, statistics, subprocess, sys, tempfile, time, urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent / "testbed")]
import testbed, world

BINARY = os.environ.get("GPUWASTE", str(ROOT / "target/release/gpuwaste"))
RUNS = int(os.environ.get("RUNS", "5"))


# A child's peak memory starts at its parent's own, so that a small parent is put between: what is seeded here is large.
BETWEEN = """import json, os, sys, time
started = time.perf_counter()
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(child, 0)
with open(sys.argv[1], "w") as out:
    json.dump([time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024], out)
sys.exit(os.waitstatus_to_exitcode(status) & 255)
"""


def run(*command, **more):
    """(wall seconds, CPU seconds, peak MiB) of one run; its output is dropped unless asked for."""
    with tempfile.NamedTemporaryFile() as told:
        between = [sys.executable, "-I", "-S", "-c", BETWEEN, told.name]
        child = subprocess.run([*between, *(str(c) for c in command)], stdin=subprocess.DEVNULL, stdout=more.get("stdout", subprocess.DEVNULL), stderr=subprocess.PIPE)
        if child.returncode != 0:
            raise RuntimeError(f"{command} ended with {child.returncode}: {child.stderr.decode()[-800:]}")
        return tuple(json.load(told))


def several(what, target, runs=RUNS, before=lambda: None):
    figures = [(before(), run(*what))[1] for _ in range(runs)]
    wall, cpu, rss = (statistics.median(f[i] for f in figures) for i in range(3))
    return {"wall": wall, "cpu": cpu, "rss": max(f[2] for f in figures), "best": min(f[0] for f in figures), "target": target}


def line(name, f, more=""):
    print(f"{name:<34} {f['wall'] * 1000:>9.1f} ms (best {f['best'] * 1000:.1f}), CPU {f['cpu'] * 1000:.1f} ms, {f['rss']:.0f} MiB   target {f['target']}{more}", flush=True)


def start():
    true = several(["/bin/true"], "", 15)
    line("--version", several([BINARY, "--version"], "10 ms", 15), f"; /bin/true {true['wall'] * 1000:.1f} ms")
    line("scan --demo", several([BINARY, "scan", "--demo", "-q"], "100 ms", 15))
    print(f"{'release binary':<34} {os.path.getsize(BINARY) / 1e6:>9.1f} MB   target 20 MB")


MANIFEST = """apiVersion: apps/v1
kind: Deployment
metadata: {{name: server-{i}, namespace: team-{team}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: server-{i}}}}}
  template:
    metadata: {{labels: {{app: server-{i}}}}}
    spec:
      nodeSelector: {{node.kubernetes.io/instance-type: {kind}}}
      containers:
        - name: server
          image: vllm/vllm-openai:v0.11.0
          args: [--model={model}, --max-model-len=8192, --max-num-seqs=16]
          env:
            - {{name: HF_HOME, value: /data}}
          readinessProbe: {{httpGet: {{path: /health, port: 8000}}, periodSeconds: 5}}
          resources:
            requests: {{cpu: "6", memory: 24Gi}}
            limits: {{nvidia.com/gpu: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: server-{i}, namespace: team-{team}}}
spec: {{selector: {{app: server-{i}}}, ports: [{{port: 80, targetPort: 8000}}]}}
"""


def manifests():
    """10,000 files of a server and its Service each; and the same as one stream."""
    models = ["Qwen/Qwen2.5-7B-Instruct", "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-14B", "mistralai/Mistral-7B-Instruct-v0.3"]
    kinds = ["g6.2xlarge", "g5.2xlarge", "p5.4xlarge"]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        texts = [MANIFEST.format(i=i, team=i % 50, replicas=1 + i % 3, kind=kinds[i % 3], model=models[i % 4]) for i in range(10_000)]
        for i, text in enumerate(texts):
            (folder / f"server-{i}.yaml").write_text(text)
        line("check, 10,000 files", several([BINARY, "check", folder, "-q", "--format", "json"], "3 s"))
        (folder / "all").mkdir()
        (folder / "all/stream.yaml").write_text("---\n".join(texts))
        line("check, the same in one file", several([BINARY, "check", folder / "all", "-q", "--format", "json"], "3 s"))


def seed(bed, cluster, objects):
    began, count = time.time(), 0
    objects = iter(objects)
    while chunk := list(itertools.islice(objects, 2000)):
        bed.seed(cluster, chunk)
        count += len(chunk)
    print(f"# {count} objects in {cluster} after {time.time() - began:.0f} s", flush=True)


def pages(bed, cluster, path, limit=500):
    """The URLs of a list's pages; their continue tokens stay good for minutes."""
    urls, token = [], ""
    while True:
        url = f"{path}{'&' if '?' in path else '?'}limit={limit}" + (f"&continue={urllib.parse.quote(token, safe='')}" if token else "")
        urls.append(url)
        status, body = bed.request(cluster, "GET", url)
        assert status == 200, (status, body[:300])
        # The token stands in the list's own metadata, before the items.
        found = re.search(rb'"continue":"([^"]+)"', body[:2000])
        if not found:
            return urls
        token = found.group(1).decode()


def curl(bed, cluster, urls):
    """One process, one connection, gzip, as the user agent that gets compact JSON."""
    config = bed.dir / "curl"
    config.write_text("".join(f'url = "https://127.0.0.1:{bed.ports[cluster]}{u}"\noutput = "/dev/null"\n' for u in urls))
    return ["curl", "-sS", "--compressed", "-A", "x", "--cacert", bed.dir / "ca.pem", "-H", "Authorization: Bearer reader-token", "-K", config]


def against_curl(name, bed, cluster, lists, target):
    bed.apply(cluster, subprocess.run([BINARY, "rbac"], check=True, capture_output=True, text=True).stdout)
    config = bed.kubeconfig([cluster])
    scan = [BINARY, "scan", "--kubeconfig", config, "--no-scrape", "-q", "--format", "json", *(["--prometheus", "none"] if prometheus_known() else [])]
    run(*scan)
    rounds = []
    for _ in range(RUNS):
        urls = [u for path in lists for u in pages(bed, cluster, path)]
        fetched, scanned = run(*curl(bed, cluster, urls)), run(*scan)
        rounds.append((scanned, fetched, scanned[0] / fetched[0]))
    middle = lambda of: statistics.median(of(r) for r in rounds)
    figures = {"wall": middle(lambda r: r[0][0]), "cpu": middle(lambda r: r[0][1]), "rss": max(r[0][2] for r in rounds), "best": min(r[0][0] for r in rounds), "target": target}
    line(name, figures, f"; curl of {len(urls)} pages {middle(lambda r: r[1][0]) * 1000:.0f} ms; ratio {middle(lambda r: r[2]):.2f} (rounds {' '.join(f'{r[2]:.2f}' for r in rounds)})")


def prometheus_known():
    return "--prometheus" in subprocess.run([BINARY, "scan", "--help"], capture_output=True, text=True).stdout


def cluster():
    with testbed.Testbed(["big"]) as bed:
        seed(bed, "big", world.fleet(1000, 1000, 50_000, 2000))
        against_curl("1,000 nodes, 50,000 pods", bed, "big", ["/api/v1/nodes", "/api/v1/pods", "/apis/apps/v1/deployments"], "1.5 x curl, 256 MiB")
        snapshot_of(bed, "big")


def snapshot_of(bed, name):
    path = bed.dir / "fleet.json.zst"
    run(BINARY, "collect", "--kubeconfig", bed.kubeconfig([name]), "--no-scrape", "-q", "-o", path)
    plain = bed.dir / "fleet.json"
    with open(plain, "wb") as out:
        run("zstd", "-dc", path, stdout=out)
    line("8,000 GPUs from a snapshot (zst)", several([BINARY, "scan", "--snapshot", path, "-q"], "1 s, 256 MiB"), f"; {path.stat().st_size / 1e6:.1f} MB")
    line("8,000 GPUs from a snapshot (JSON)", several([BINARY, "scan", "--snapshot", plain, "-q", "--format", "json"], "1 s, 256 MiB"), f"; {plain.stat().st_size / 1e6:.1f} MB")


def sparse():
    with testbed.Testbed(["wide"]) as bed:
        seed(bed, "wide", world.fleet(5000, 50, 100_000, 150))
        lists = ["/api/v1/nodes"] + [f"/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-{i}" for i in range(5000) if i * 50 // 5000 != (i + 1) * 50 // 5000]
        against_curl("5,000 nodes, 50 with GPUs", bed, "wide", lists, "3 s, 128 MiB")


def exporters():
    """A thousand exporters behind one address, read through the pod proxy at the default rate."""
    if not testbed.can_make_networks():
        print("SKIPPED: exporters need root and iproute2")
        return
    address, count = "10.231.66.2", 1000
    field = lambda gpu: f'gpu="{gpu}",UUID="GPU-{gpu}",modelName="NVIDIA H100 80GB HBM3"'
    body = "".join(f"DCGM_FI_DEV_GPU_UTIL{{{field(g)}}} 97\nDCGM_FI_DEV_POWER_USAGE{{{field(g)}}} 540\n" for g in range(8))
    with testbed.Testbed(["many"]) as bed:
        objects = list(world.fleet(count, count, count, 1))
        for number, item in enumerate(o for o in objects if o["kind"] == "Pod"):
            main = item["spec"]["containers"][0]
            item["spec"] |= {"containers": [{"name": "dcgm", "image": "nvcr.io/nvidia/k8s/dcgm-exporter:4.5.3", "ports": [{"name": "metrics", "containerPort": 9400}], "env": main["env"]}], "nodeName": f"node-{number}"}
            item["status"] |= {"podIP": address, "containerStatuses": []}
        seed(bed, "many", objects)
        bed.apply("many", subprocess.run([BINARY, "rbac", "--with", "scrape"], check=True, capture_output=True, text=True).stdout)
        bed.network([address], {f"{address}:9400/metrics": body})
        scan = [BINARY, "scan", "--kubeconfig", bed.kubeconfig(["many"]), "--format", "json", "--scrape-budget", "120s", *(["--prometheus", "none"] if prometheus_known() else [])]
        line("1,000 exporters, two looks", several(scan, "90 s", 1))


def metrics():
    for out in subprocess.run(["cargo", "bench", "-q", "-p", "gpuwaste-engine", "--bench", "metrics"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines():
        if "MB/s" in out:
            print(out)


BENCHES = {"start": start, "manifests": manifests, "metrics": metrics, "cluster": cluster, "sparse": sparse, "exporters": exporters}

if __name__ == "__main__":
    print(f"# {BINARY}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name in sys.argv[1:] or BENCHES:
        BENCHES[name]()
