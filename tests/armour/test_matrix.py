#!/usr/bin/env python3
"""The fault matrix: each read of a scan, failing in each way. In every cell the fault is named, nothing rises, and no gate that was breached passes.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/armour/test_matrix.py
"""
import concurrent.futures, json, pathlib, re, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import fake
from world import DAY, NOW, dcgm, deployment, node, owned, page, pod, scan

#: Columns, as faults.json calls them, and clocks.
FAULTS = ["401", "403", "404-bare", "404-status", "410", "429", "500", "reset", "black-hole", "cut", "garbage", "empty-body", "other-kind", "slow"]
CLOCKS = {"+1 h": 3600, "-1 h": -3600}
#: A read of a store that was named, not of one behind the API server.
NAMED = "named store: "
NAMED_READS = {"named-names": "^/api/v1/label/", "named-labels": "^/api/v1/labels", "named-status": "^/api/v1/status/", "named-queries": "^/api/v1/query"}
#: Reads that this fleet has no use for: a ReplicaSet's Deployment is in its pods' labels.
NOT_ASKED = {"replicasets"}
SETTINGS_MAP = {"kind": "ConfigMap", "metadata": {"name": "args", "namespace": "ml"}, "data": {"MODEL": "Qwen/Qwen2.5-7B-Instruct"}}
STORE_SERVICE = {"kind": "Service", "metadata": {"name": "prometheus", "namespace": "monitoring", "labels": {"app.kubernetes.io/name": "prometheus"}}, "spec": {"ports": [{"name": "web", "port": 9090}]}}


def tp(gpus):
    return ("--model", "Qwen/Qwen2.5-7B-Instruct", "--tensor-parallel-size", str(gpus))


def by_map(name, on):
    """A server whose model stands in a ConfigMap."""
    made = owned(name, on, gpus=2, args=("--model", "$(MODEL)", "--tensor-parallel-size", "2"))
    made["spec"]["containers"][0]["env"] = [{"name": "MODEL", "valueFrom": {"configMapKeyRef": {"name": "args", "key": "MODEL"}}}]
    return made


def exporter(on):
    made = pod(f"dcgm-{on}", on, gpus=0, ns="gpu-operator", image="nvcr.io/nvidia/k8s/dcgm-exporter:4.5.3", args=(), port=9400, owner=("apps/v1", "DaemonSet", "dcgm"))
    made["spec"]["containers"][0]["name"] = "exporter"
    made["status"]["containerStatuses"][0]["name"] = "exporter"
    return made


def fleet():
    """Of every kind of finding one: idle, stuck, free, at risk (thrown back); one opted out, one that works, replicas with an autoscaler and a budget."""
    nodes = [node(f"gpu-{i}") for i in range(1, 6)]
    slices = [{"kind": "ResourceSlice", "metadata": {"name": "s-1"}, "spec": {"driver": "gpu.nvidia.com", "nodeName": "dra-1", "pool": {"name": "dra-1", "generation": 1, "resourceSliceCount": 1},
               "devices": [{"name": f"gpu-{i}", "attributes": {"type": {"string": "gpu"}, "uuid": {"string": f"GPU-d-{i}"}, "productName": {"string": "NVIDIA H100 80GB HBM3"}}, "capacity": {"memory": {"value": "80Gi"}}} for i in range(8)]}},
              {"kind": "DeviceClass", "metadata": {"name": "gpu.nvidia.com"}, "spec": {"selectors": [{"cel": {"expression": 'device.driver == "gpu.nvidia.com"'}}]}}]
    claim = {"kind": "ResourceClaim", "metadata": {"name": "one", "namespace": "ml", "uid": "c-1", "creationTimestamp": fake.stamp(NOW - 9 * DAY)}, "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.nvidia.com", "count": 1}}]}},
             "status": {"allocation": {"devices": {"results": [{"request": "gpu", "driver": "gpu.nvidia.com", "pool": "dra-1", "device": "gpu-0"}]}}}}
    hpa = {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "idle", "namespace": "ml"}, "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "pair"}, "minReplicas": 1, "maxReplicas": 4}}
    budget = {"kind": "PodDisruptionBudget", "metadata": {"name": "pair", "namespace": "ml"}, "spec": {"selector": {"matchLabels": {"app": "pair"}}}, "status": {"desiredHealthy": 1}}
    set_pod = pod("sts-0", "gpu-5", gpus=1, owner=("apps/v1", "StatefulSet", "sts"))
    job_pod = pod("train-x", "gpu-5", gpus=1, image="acme/train:1", args=(), owner=("batch/v1", "Job", "train"))
    isvc_pod = owned("isvc-predictor", "gpu-5", gpus=1)
    isvc_pod["metadata"]["labels"]["serving.kserve.io/inferenceservice"] = "isvc"
    above = [{"kind": "StatefulSet", "metadata": {"name": "sts", "namespace": "ml", "creationTimestamp": fake.stamp(NOW - 20 * DAY)}, "spec": {"replicas": 1}},
             {"kind": "Job", "metadata": {"name": "train", "namespace": "ml", "creationTimestamp": fake.stamp(NOW - 20 * DAY)}, "spec": {}, "status": {}},
             {"kind": "InferenceService", "metadata": {"name": "isvc", "namespace": "ml", "creationTimestamp": fake.stamp(NOW - 20 * DAY)}, "spec": {"predictor": {"model": {"modelFormat": {"name": "huggingface"}}}}}]
    isvc = deployment("isvc-predictor")
    isvc[0]["metadata"]["ownerReferences"] = [{"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "name": "isvc", "uid": "0", "controller": True}]
    return [*nodes, node("dra-1", gpus=0), *slices, claim, *(exporter(f"gpu-{i}") for i in range(1, 6)), SETTINGS_MAP, STORE_SERVICE,
            owned("idle", "gpu-1", gpus=4, args=tp(4)), *deployment("idle"), owned("kept", "gpu-1", gpus=2, args=tp(2)), *deployment("kept", ignore="all: kept for the release"), by_map("mapped", "gpu-1"), *deployment("mapped"),
            owned("loop", "gpu-2", gpus=4, crash=True, args=tp(4)), *deployment("loop"), owned("hot", "gpu-2", gpus=4, args=tp(4)), *deployment("hot"),
            owned("pair", "gpu-4", gpus=4, replica=0, args=tp(4)), owned("pair", "gpu-4", gpus=4, replica=1, args=tp(4)), *deployment("pair", replicas=2), hpa, budget, set_pod, job_pod, isvc_pod, *isvc, *above]


def pages():
    name = lambda stem, replica=0: f"{stem}-5d9c-{'abcdefgh'[replica] * 5}"
    held = {"gpu-1": {**{i: ("ml", name("idle"), 0) for i in range(4)}, **{i: ("ml", name("kept"), 0) for i in (4, 5)}, **{i: ("ml", name("mapped"), 1) for i in (6, 7)}},
            "gpu-2": {**{i: ("ml", name("loop"), 0) for i in range(4)}, **{i: ("ml", name("hot"), 1) for i in range(4, 8)}}, "gpu-3": {},
            "gpu-4": {**{i: ("ml", name("pair"), 1) for i in range(4)}, **{i: ("ml", name("pair", 1), 1) for i in range(4, 8)}},
            "gpu-5": {0: ("ml", "sts-0", 0), 1: ("ml", "train-x", 1), 2: ("ml", name("isvc-predictor"), 1)}}
    told = {("gpu-operator", f"dcgm-{n}", 9400, "/metrics"): dcgm(h, first=100 * i) for i, (n, h) in enumerate(held.items())}
    for pod_name, text in {name("idle"): page(0), name("kept"): page(0), name("mapped"): page(90000, running=2), name("hot"): page(90000, preemptions=40000, running=3),
                           name("pair"): page(90000, running=2), name("pair", 1): page(80000, running=2), "sts-0": page(0), name("isvc-predictor"): page(70000, running=1)}.items():
        told[("ml", pod_name, 8000, "/metrics")] = text
    return told


LEVELS = ["assumed", "estimated", "measured"]


class Matrix(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.fleet, cls.pages = fleet(), pages()

    def scan(self, fault=None, path=None, *args, ahead=0):
        store = fake.Store(names=["gpu-1", "hot-5d9c-aaaaa"])
        if path and path.startswith(NAMED):
            return self.scan_named(store, fault, path.removeprefix(NAMED), *args)
        world = fake.World(self.fleet, pages=self.pages, store=store, ahead=ahead)
        if ahead:
            # Who is ahead writes the times of its objects so.
            shift = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ")
            moved = lambda m: fake.stamp(fake.calendar.timegm(fake.time.strptime(m[0], "%Y-%m-%dT%H:%M:%SZ")) + ahead)
            world.objects = [fake.json.loads(shift.sub(moved, fake.json.dumps(o))) for o in world.objects]
        where = re.compile(path).search if path else None
        with fake.serve(world, *([fault, where] if fault else [])) as server, fake.config(server) as config:
            done, report = scan(config, "--observe", "0", "--timeout", "1s", "--min-coverage", "0.001", *args)
            self.assertFalse(re.search("panicked|RUST_BACKTRACE", done.stderr), done.stderr)
            return done, report, {p.split("?")[0] for _, p, _ in server.asked if where and where(p)}

    def scan_named(self, store, fault, path, *args):
        """The store at an address of its own, given with --prometheus; it is the one that fails."""
        where = re.compile(path).search
        with fake.serve(fake.World(self.fleet, pages=self.pages)) as server, fake.config(server) as config, fake.serve(store, *([fault, where] if fault else [])) as own:
            done, report = scan(config, "--observe", "0", "--timeout", "1s", "--min-coverage", "0.001", "--prometheus", own.url, *args)
            self.assertFalse(re.search("panicked|RUST_BACKTRACE", done.stderr), done.stderr)
            return done, report, {p.split("?")[0] for _, p, _ in own.asked if where(p)}

    def cell(self, whole, gates, fault, path, ahead=0):
        """("1 3" …, what is wrong) of one cell: each gate's verdict."""
        wrong, said = [], []
        for level, limits in gates:
            done, report, asked = self.scan(fault, path, *limits, "--gate-confidence", level, ahead=ahead)
            if report is None:
                # No cluster, no verdict: an error of its own.
                said.append("2")
                if done.returncode != 2:
                    wrong.append(f"no report and exit {done.returncode}")
                continue
            if path and not asked:
                return "not asked", []
            verdicts = ["1" if g["breached"] else "3" if g["undecided"] else "0" for g in report["gates"] if g["name"] != "min-coverage"]
            said.append("".join(verdicts))
            if "0" in verdicts or done.returncode not in (1, 3):
                wrong.append(f"{level}: {[(g['name'], g['limit'], g['actual']) for g in report['gates']]}, exit {done.returncode}")
            wrong += self.risen(whole, report)
            quiet = lambda s: re.sub(r"[\d.]+", "N", json.dumps(s))
            same = quiet if path and path.startswith(NAMED) else json.dumps
            new = [g for g in report["gaps"] if same(g) not in map(same, whole["gaps"])]
            failed = [s for s in report["sources"] if quiet(s) not in map(quiet, whole["sources"])]
            if not new and not failed:
                wrong.append("no gap and no source tells of it")
        return " ".join(said), wrong

    def risen(self, whole, report):
        before, after, wrong = whole["totals"], report["totals"], []
        for key in ("waste_usd_per_hour", "at_risk_usd_per_hour", "coverage_percent"):
            if (after[key] or 0) > (before[key] or 0) + 1e-6:
                wrong.append(f"{key} {before[key]} → {after[key]}")
        key = lambda f: (f["check"], f["part"], f["subject"]["namespace"], f["subject"]["name"])
        known = {}
        for f in whole["findings"]:
            usd, level = known.get(key(f), (0, -1))
            known[key(f)] = (usd + (f["usd_per_hour"] or 0), max(level, LEVELS.index(f["confidence"])))
        for f in report["findings"]:
            usd, level = known.get(key(f), (0, -1))
            if (f["usd_per_hour"] or 0) > usd + 1e-6 or LEVELS.index(f["confidence"]) > level:
                wrong.append(f"{key(f)} {f['usd_per_hour']} {f['confidence']}: was {usd} {level}")
        return wrong

    def test_every_read_failing_in_every_way(self):
        _, whole, _ = self.scan()
        _, by_name, _ = self.scan(None, NAMED)
        self.assertEqual(self.risen(whole, by_name), [])
        parts = {(f["check"], f["part"]) for f in whole["findings"]}
        for wanted in [("dark-capacity", "idle"), ("dark-capacity", "stuck"), ("dark-capacity", "unallocated"), ("kv-pressure", None)]:
            self.assertIn(wanted, parts)
        gates = {}
        for level in ("assumed", "measured"):
            _, report, _ = self.scan(None, None, "--max-waste", "0", "--max-at-risk", "0", "--gate-confidence", level)
            limits = []
            for gate in report["gates"]:
                if gate["name"] != "min-coverage":
                    self.assertTrue(gate["actual"] > 0.02, (level, gate))
                    limits += [f"--{gate['name']}", f"{gate['actual'] - 0.01:.6f}"]
            gates[level] = limits
            self.assertEqual(self.scan(None, None, *limits, "--gate-confidence", level)[0].returncode, 1)
        jobs = [(r["name"], f, r["path"], fake.FAILURES[f], 0) for r in fake.TABLE["reads"] for f in FAULTS if not r.get("quiet")]
        jobs += [(name, f, NAMED + path, fake.FAILURES[f], 0) for name, path in NAMED_READS.items() for f in FAULTS]
        jobs += [("clock", name, None, None, ahead) for name, ahead in CLOCKS.items()]
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            # Each read under both levels, each cell under one; clocks under both.
            levels = lambda place, job: list(gates.items()) if job[4] else [list(gates.items())[(place + place // len(FAULTS)) % 2]]
            cells = list(pool.map(lambda x: self.cell(by_name if x[1][0] in NAMED_READS else whole, levels(*x), x[1][3], x[1][2], x[1][4]), enumerate(jobs)))
        rows = {}
        for (read, fault, *_), (said, _) in zip(jobs, cells):
            rows.setdefault(read, {})[fault] = said
        print("\n" + "\n".join(f"{read:18}" + "  ".join(f"{f}:{s}" for f, s in row.items()) for read, row in rows.items()), file=sys.stderr)
        wrong = [f"{read} {fault}: {w}" for (read, fault, *_), (_, all) in zip(jobs, cells) for w in all]
        print(f"{len(cells)} cells, {len(wrong)} wrong", file=sys.stderr)
        self.assertEqual({read for read, row in rows.items() if set(row.values()) == {"not asked"}}, NOT_ASKED)
        self.assertFalse([r for r, row in rows.items() if r not in NOT_ASKED and "not asked" in row.values()], "each fault of each read")
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main(verbosity=1)
