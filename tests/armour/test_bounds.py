#!/usr/bin/env python3
"""Whatever is sent, or lies in a folder: a scan ends, says what it left, and stays under 600 MiB.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/armour/test_bounds.py
"""
import gzip, json, os, pathlib, subprocess, sys, tempfile, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import fake
from world import BINARY, DAY, NOW, dcgm, deployment, node, owned, page, pod

MOST = 600 << 20
ARGS = ("--no-scrape", "--prometheus", "none", "--format", "json")
FLEET = [node("gpu-1"), node("gpu-2"), owned("web", "gpu-1", gpus=8), *deployment("web")]


#: Its child's peak: a process that Python starts begins with Python's own.
MEASURE = "import os,resource,subprocess,sys; code=subprocess.run(sys.argv[1:]).returncode; os.write(3, b'%d' % resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"


def run(*args, config=None, timeout=120):
    """(exit code, stdout, stderr, peak bytes)."""
    command = ["timeout", "-k", "1", str(timeout), str(pathlib.Path(BINARY).resolve()), *map(str, args)] + (["--kubeconfig", str(config)] if config else [])
    with tempfile.TemporaryFile() as peak:
        done = subprocess.run(["bash", "-c", f'exec 3>&{peak.fileno()}; exec "$@"', "-", sys.executable, "-c", MEASURE, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, pass_fds=[peak.fileno()])
        peak.seek(0)
        return done.returncode, done.stdout, done.stderr, int(peak.read()) << 10


class Hostile(fake.World):
    """A world in which some paths have another answer: path pattern → what makes the body, of the request's query."""

    def __init__(self, objects, bodies=(), **more):
        super().__init__(objects, **more)
        self.bodies = [(fake.re.compile(pattern), body) for pattern, body in bodies]

    def answer(self, target):
        url = fake.urllib.parse.urlsplit(target)
        for pattern, body in self.bodies:
            if pattern.search(url.path):
                made = body(dict(fake.urllib.parse.parse_qsl(url.query)))
                return 200, made, "application/json" if made[:1] in (b"{", b"[") else "text/plain"
        return super().answer(target)


def tiny_pods(count):
    each = '{"metadata":{"name":"p%d","namespace":"n","uid":"u%d","creationTimestamp":"2026-11-01T00:00:00Z"},"spec":{"nodeName":"gpu-1","containers":[{"name":"c","resources":{"limits":{"nvidia.com/gpu":"1"}}}]},"status":{"phase":"Running"}}'
    items = ",".join(each % (i, i) for i in range(count))
    return ('{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[%s]}' % items).encode()


class Bounds(unittest.TestCase):
    def bounded(self, done, says, codes=(0, 2, 3)):
        code, out, err, peak = done
        self.assertNotEqual(code, 124, f"it hangs: {err}")
        self.assertIn(code, codes, err)
        self.assertNotRegex(err, "panicked|RUST_BACKTRACE")
        gaps = json.loads(out)["gaps"] if out.startswith("{") else []
        self.assertRegex(err + json.dumps(gaps), says or ".")
        self.assertLess(peak, MOST, f"{peak >> 20} MiB")
        print(f"{self.id().split('.')[-1]}: {peak >> 20} MiB", file=sys.stderr)
        return gaps

    def scan(self, bodies, *args, headers=None, **more):
        with fake.serve(Hostile(FLEET, bodies, **more), headers=headers) as server, fake.config(server) as config:
            return run("scan", *(args or ARGS), config=config)

    def test_a_page_of_very_many_pods(self):
        body = tiny_pods(110_000)
        self.assertGreater(len(body), 20 << 20)
        gaps = self.bounded(self.scan([("/api/v1/pods$", lambda _: body)], headers={"X-Gzip": "1"}), "page of more than")
        self.assertTrue(any("pods" in g["what"] for g in gaps))

    def test_a_page_larger_than_any(self):
        body = b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[' + b" " * (200 << 20) + b"]}"
        self.bounded(self.scan([("/api/v1/pods$", lambda _: body)], headers={"X-Gzip": "1"}), "larger than 128 MiB")

    def test_tokens_without_end(self):
        count = iter(range(10 ** 9))
        one = json.loads(tiny_pods(1))
        body = lambda _: json.dumps(one | {"metadata": {"continue": str(next(count))}}).encode()
        self.bounded(self.scan([("/api/v1/pods$", body)]), "more than 1600 pages")

    def test_answers_of_a_store(self):
        rows = ",".join('{"metric":{"pod":"p%d","namespace":"n"},"value":[1,"1"]}' % i for i in range(500_000))
        body = ('{"status":"success","data":{"resultType":"vector","result":[%s]}}' % rows).encode()
        self.assertTrue(20 << 20 < len(body) < 64 << 20)
        service = {"kind": "Service", "metadata": {"name": "prometheus", "namespace": "monitoring", "labels": {"app.kubernetes.io/name": "prometheus"}}, "spec": {"ports": [{"name": "web", "port": 9090}]}}
        store = fake.Store(names=["gpu-1", "web-5d9c-aaaaa"])
        with fake.serve(Hostile([*FLEET, service], [("/proxy/api/v1/query$", lambda _: body)], store=store)) as server, fake.config(server) as config:
            self.bounded(run("scan", "--no-scrape", "--format", "json", config=config), "not read: prometheus")

    def test_pages_of_metrics(self):
        lines = "".join('DCGM_FI_DEV_GPU_UTIL{gpu="%d",UUID="GPU-%d",modelName="NVIDIA H100"} 0\n' % (i, i) for i in range(100_000))
        exporter = pod("dcgm-gpu-1", "gpu-1", gpus=0, ns="gpu-operator", image="nvcr.io/nvidia/k8s/dcgm-exporter:4.5.3", args=(), port=9400)
        text = lines.encode()
        self.assertGreater(len(text), 7 << 20)
        with fake.serve(Hostile([*FLEET, exporter], [("/proxy/metrics$", lambda _: text)])) as server, fake.config(server) as config:
            self.bounded(run("scan", "--prometheus", "none", "--observe", "0", "--format", "json", config=config), "more GPUs than a node can have")

    def test_a_day_of_patience(self):
        with fake.serve(fake.World(FLEET), {"code": 429, "headers": {"Retry-After": "86400"}, "body": ""}, fake.re.compile("/api/v1/pods").search) as server, fake.config(server) as config:
            self.bounded(run("scan", *ARGS, config=config), "429")

    def test_more_gpu_pods_than_are_held(self):
        """Page after page of pods that each hold a GPU: the list is given up with a gap, and no gate passes."""
        def pods(query):
            start = int(query.get("continue") or 0)
            page = tiny_pods(2000).replace(b'"p', b'"p%d-' % start)
            return page.replace(b'"metadata":{},"items"', b'"metadata":{"continue":"%d"},"items"' % (start + 2000), 1) if start < 398000 else page
        with fake.serve(Hostile(FLEET, [("/api/v1/pods", pods)])) as server, fake.config(server) as config:
            self.bounded(run("scan", *ARGS, "--max-waste", "0", config=config), "more than 50000 objects", codes=(3,))

    def test_pages_that_hold_nothing(self):
        """Each with another token: a list that never ends, at no cost in objects."""
        empty = lambda query: ('{"kind":"PodList","apiVersion":"v1","metadata":{"continue":"%d"},"items":[]}' % (int(query.get("continue") or 0) + 1)).encode()
        with fake.serve(Hostile(FLEET, [("/api/v1/pods", empty)])) as server, fake.config(server) as config:
            self.bounded(run("scan", *ARGS, config=config), "100 empty pages in a row")

    def test_an_object_of_any_size(self):
        """A ConfigMap that no API server could hold."""
        made = owned("mapped", "gpu-2", gpus=2, args=("--model", "$(MODEL)"))
        made["spec"]["containers"][0]["env"] = [{"name": "MODEL", "valueFrom": {"configMapKeyRef": {"name": "args", "key": "MODEL"}}}]
        for size, said in ((60_000_000, "an answer larger than 9 MiB"), (8_000_000, ".")):
            large = json.dumps({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "args", "namespace": "ml"}, "data": {"MODEL": "x" * size}}).encode()
            with fake.serve(Hostile([*FLEET, made, *deployment("mapped")], [("/configmaps/args", lambda query: large)])) as server, fake.config(server) as config:
                self.bounded(run("scan", *ARGS, config=config, timeout=60), said)

    def test_objects_that_are_large(self):
        """Few pods of many containers: by the memory in use, where counting pods tells nothing."""
        containers = ",".join('{"name":"c%d","resources":{"limits":{"nvidia.com/gpu":"1"}}}' % i for i in range(400))
        each = '{"metadata":{"name":"p%d-%d","namespace":"n","uid":"u%d-%d","creationTimestamp":"2026-11-01T00:00:00Z"},"spec":{"nodeName":"gpu-1","containers":[' + containers + ']},"status":{"phase":"Running"}}'
        def pods(query):
            start = int(query.get("continue") or 0)
            items = ",".join(each % (start, i, start, i) for i in range(50))
            return ('{"kind":"PodList","apiVersion":"v1","metadata":{"continue":"%d"},"items":[%s]}' % (start + 1, items)).encode()
        with fake.serve(Hostile(FLEET, [("/api/v1/pods", pods)])) as server, fake.config(server) as config:
            self.bounded(run("scan", *ARGS, "--max-waste", "0", config=config), "takes more memory than reading may", codes=(3,))

    def test_a_snapshot_of_many_tiny_objects(self):
        """A few bytes each in the file, a kilobyte each when read: the process ends, and says so."""
        with fake.serve(fake.World(FLEET)) as server, fake.config(server) as config, tempfile.TemporaryDirectory() as folder:
            seed = pathlib.Path(folder) / "seed.json"
            self.assertEqual(run("collect", *ARGS[:-2], "-q", "-o", seed, config=config)[0], 0)
            whole = json.loads(seed.read_text())
        pods, gap = whole["clusters"][0]["pods"], {"source": "", "what": "", "reason": "", "effect": "", "remedy": ""}
        tiny = {k: v for k, v in pods[0].items() if k in ("namespace", "name", "uid", "phase")} | {"containers": []}
        for what, place, each in (("gaps", whole.setdefault("gaps", []), gap), ("pods", pods, tiny), ("containers", pods[0]["containers"], {"name": "c"})):
            with self.subTest(what), tempfile.TemporaryDirectory() as folder:
                place.append("HERE")
                text, _ = json.dumps(whole).encode(), place.pop()
                one = json.dumps(each, separators=(",", ":")).encode()
                path = pathlib.Path(folder) / "tiny.json.gz"
                with gzip.open(path, "wb", 1) as out:
                    out.write(text.replace(b'"HERE"', b",".join([one] * (100_000_000 // len(one)))))
                self.bounded(run("scan", "--snapshot", path, "--format", "json", "--max-waste", "0"), "MiB of memory" if what != "gaps" else "", codes=(2,) if what != "gaps" else (2, 3))

    def test_a_snapshot_that_swells(self):
        """More than is held as text: the rest is decoded as it comes."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "bomb.json.gz"
            with gzip.open(path, "wb", 1) as out:
                out.write(b'{"schema":1,"tool_version":"x","taken_at":"2026-11-25T22:00:00Z","clusters":[],"sources":[],"gaps":[]')
                for _ in range(320):
                    out.write(b" " * (1 << 20))
                out.write(b"}")
            self.bounded(run("scan", "--snapshot", path, "--format", "json"), "", codes=(0,))

    def test_devices_are_read_to_a_bound(self):
        for args in (("scan", "--demo", "--policy"), ("scan", "--demo", "--prices"), ("scan", "--demo", "--baseline"), ("show", "1", "--report"), ("scan", "--snapshot"), ("check",)):
            with self.subTest(args):
                self.bounded(run(*args, "/dev/zero"), "larger than|not a gpuwaste snapshot|NUL|binary|more than 520 MiB of memory", codes=(2,))

    def test_pipes_in_folders_are_not_waited_for(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            for file in ("config.json", "model.gguf", "nodes.json", "jobs.json", "a.yaml", "0123456789abcdef.toml"):
                os.mkfifo(folder / file)
            for args in (("scan", "--demo", "--format", "json", "--models"), ("scan", "--slurm-dir"), ("check",), ("scan", "--demo", "--ledger")):
                with self.subTest(args):
                    self.bounded(run(*args, folder, timeout=20), "no plain file|no Kubernetes object|no config.json|ledger", codes=(0, 2, 3))

    def test_a_pipe_that_was_named_is_read(self):
        """`--snapshot <(zcat …)`."""
        done = subprocess.run(["bash", "-c", f'"$0" scan --snapshot <("$0" collect --demo -q -o -) --format json -q | head -c 20', str(pathlib.Path(BINARY).resolve())], capture_output=True, text=True, timeout=60)
        self.assertTrue(done.stdout.startswith("{"), done.stderr)

    def test_many_manifests_of_many_replicas(self):
        text = 'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d%d, namespace: n}\nspec:\n  replicas: 2000\n  selector: {matchLabels: {a: b}}\n  template:\n    metadata: {labels: {a: b}}\n    spec:\n      containers:\n      - {name: c, image: "vllm/vllm-openai:v0.11.0", args: ["--model", "Qwen/Qwen2.5-7B-Instruct"], resources: {limits: {nvidia.com/gpu: "1"}}}\n'
        with tempfile.TemporaryDirectory() as name:
            for i in range(300):
                (pathlib.Path(name) / f"d{i}.yaml").write_text(text % i)
            self.bounded(run("check", name, "--format", "json"), "all manifests together ask for more pods", codes=(0, 3))


if __name__ == "__main__":
    unittest.main()
