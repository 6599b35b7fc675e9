#!/usr/bin/env python3
"""A wrong answer is not an empty one: what an API server, a store or a page says is believed only where it is what was asked for.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/armour/test_answers.py
"""
import json, pathlib, re, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import fake, world
from world import DAY, GPU, NOW, dcgm, deployment, gpuwaste, node, owned, page, pod, scan

WEB = ("--model", "meta-llama/Llama-3.3-70B-Instruct", "--tensor-parallel-size", "8")
FLEET = [node("gpu-1"), node("gpu-2"), owned("web", "gpu-1", gpus=8, args=WEB), *deployment("web")]
ARGS = ("--no-scrape", "--prometheus", "none")
#: Answers that are none, whatever was asked for.
WRONG = ["204", "206", "304", "302", "html", "garbage", "empty-body", "empty-object", "null", "array", "no-kind", "status-200", "table", "metadata-only", "other-kind", "other-version", "items-null", "items-missing", "items-object"]


def asked(name, fault, *args, objects=FLEET, **more):
    where = fake.re.compile(fake.READS[name]["path"])
    with fake.serve(fake.World(objects, **more), fake.FAILURES[fault], where.search) as server, fake.config(server) as config:
        done, report = scan(config, *(args or ARGS))
        return done, report, server


class Answers(unittest.TestCase):
    def test_without_a_fault(self):
        with fake.serve(fake.World(FLEET)) as server, fake.config(server) as config:
            done, report = scan(config, *ARGS, "--max-waste", "1", "--gate-confidence", "estimated")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual((report["totals"]["gpus"], report["totals"]["gpus_free"]), (16, 8))
        self.assertEqual(report["gaps"], [])

    def test_whoever_waits_is_told_for_what(self):
        with fake.serve(fake.World(FLEET)) as server, fake.config(server) as config:
            done, _ = scan(config, *ARGS, "-v")
            quiet, _ = scan(config, *ARGS)
        told = re.findall(r"(?m)^gpuwaste: ([\d.]+) s: [^:]+: (.+) \((\d+) requests\)$", done.stderr)
        self.assertEqual([what for _, what, _ in told], ["nodes", "pods on 2 GPU nodes", "owners of 1 pod", "done"], done.stderr)
        for figures in ([float(s) for s, _, _ in told], [int(n) for _, _, n in told]):
            self.assertEqual(figures, sorted(figures))
        self.assertGreater(int(told[-1][2]), 4)
        self.assertNotIn("requests)", quiet.stderr)

    def test_pods_that_are_none_free_no_gpu(self):
        for fault in WRONG + ["endless", "items-odd"]:
            with self.subTest(fault):
                done, report, server = asked("pods", fault)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual((report["totals"]["waste_usd_per_hour"], report["totals"]["gpus_free"]), (None, 0), report["findings"])
                self.assertTrue(any("pods" in g["what"] for g in report["gaps"]), report["gaps"])
                self.assertEqual(asked("pods", fault, *ARGS, "--max-waste", "1000")[0].returncode, 3)
                self.assertLess(sum("/pods" in path for _, path, _ in server.asked), 20, "a list that never ends is left")

    def test_nodes_that_are_none_are_no_empty_cluster(self):
        for fault in WRONG + ["endless"]:
            with self.subTest(fault):
                done, report, _ = asked("nodes", fault)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIsNone(report["totals"]["coverage_percent"])
                self.assertTrue(any(g["what"] == "nodes" for g in report["gaps"]))

    def test_slices_that_are_none_lose_no_gpu(self):
        """Nodes whose GPUs only DRA hands out: without what drivers publish, nobody knows."""
        nodes = [node("d-1", gpus=0), node("d-2", gpus=0)]
        devices = lambda n: [{"name": f"gpu-{i}", "attributes": {"type": {"string": "gpu"}, "uuid": {"string": f"GPU-{n}-{i}"}, "productName": {"string": "NVIDIA H100 80GB HBM3"}}, "capacity": {"memory": {"value": "80Gi"}}} for i in range(8)]
        slices = [{"kind": "ResourceSlice", "metadata": {"name": f"s-{n}"}, "spec": {"driver": "gpu.nvidia.com", "nodeName": n, "pool": {"name": n, "generation": 1, "resourceSliceCount": 1}, "devices": devices(n)}} for n in ("d-1", "d-2")]
        busy = owned("web", "d-1", gpus=0)
        fleet = [*nodes, *slices, busy, *deployment("web")]
        with fake.serve(fake.World(fleet)) as server, fake.config(server) as config:
            _, whole = scan(config, *ARGS)
        self.assertEqual((whole["totals"]["gpus"], whole["totals"]["gpus_free"]), (16, 16), whole["gaps"])
        for fault in WRONG + ["404-bare", "404-resource", "403", "items-odd"]:
            with self.subTest(fault):
                done, report, _ = asked("resourceslices", fault, objects=fleet)
                self.assertEqual(done.returncode, 0, done.stderr)
                totals = report["totals"]
                self.assertEqual((totals["gpus_unhealthy"], totals["waste_usd_per_hour"]), (0, None), report["findings"])
                self.assertTrue(any("resourceslices" in g["what"] for g in report["gaps"]), report["gaps"])
        # The whole group, by a proxy that knows no such path: the API server's own list of groups says that it is served.
        group = {"code": 404, "headers": {"Content-Type": "text/plain"}, "body": "404 page not found\n"}
        with fake.serve(fake.World(fleet), group, lambda path: "resource.k8s.io" in path) as server, fake.config(server) as config:
            _, report = scan(config, *ARGS)
        self.assertEqual((report["totals"]["gpus_unhealthy"], report["totals"]["waste_usd_per_hour"]), (0, None), report["findings"])

    def test_owners_that_are_none_are_said(self):
        for name in ("deployments", "replicasets"):
            for fault in WRONG + ["404-bare", "404-status"]:
                with self.subTest(f"{name} {fault}"):
                    done, report, _ = asked(name, fault)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    if name == "deployments":
                        self.assertTrue(any("deployments" in g["what"] for g in report["gaps"]), report["gaps"])

    def test_objects_without_what_the_api_always_has(self):
        def without(kind, *path, value=None):
            objects = json.loads(json.dumps(FLEET))
            for o in (o for o in objects if o["kind"] == kind):
                place = o
                for key in path[:-1]:
                    place = place[key]
                if value is None:
                    place.pop(path[-1], None)
                else:
                    place[path[-1]] = value
            return objects

        crashing = [node("gpu-1"), pod("p", "gpu-1", gpus=8, crash=True)]
        for name, objects in [
            ("pods without status", without("Pod", "status")), ("without a phase", without("Pod", "status", "phase")), ("with a phase of their own", without("Pod", "status", "phase", value="Sleeping")),
            ("running without conditions", without("Pod", "status", "conditions", value=[])), ("of 1969", without("Pod", "metadata", "creationTimestamp", value="1969-12-31T23:59:59Z")),
            ("of 9999", without("Pod", "metadata", "creationTimestamp", value="9999-12-31T23:59:59Z")), ("of no time", without("Pod", "metadata", "creationTimestamp")),
        ]:
            with self.subTest(name), fake.serve(fake.World(objects)) as server, fake.config(server) as config:
                done, report = scan(config, *ARGS)
                self.assertEqual(done.returncode, 0, done.stderr)
                totals = report["totals"]
                self.assertEqual((totals["gpus_stuck"], totals["gpus_unknown"], totals["gpus_free"]), (0, 8, 8), report["findings"])
                self.assertTrue(any("the state of pods" in g["what"] for g in report["gaps"]), report["gaps"])
        for name, objects in [
            ("nodes without status", without("Node", "status")), ("without conditions", without("Node", "status", "conditions")), ("without capacity", without("Node", "status", "capacity")),
            ("of 1969", without("Node", "metadata", "creationTimestamp", value="1969-12-31T23:59:59Z")), ("with 1Ei GPUs", without("Node", "status", "capacity", value={"nvidia.com/gpu": "1Ei"})),
            ("with -1 GPUs", without("Node", "status", "allocatable", value={"nvidia.com/gpu": "-1"})),
        ]:
            with self.subTest(name), fake.serve(fake.World(objects)) as server, fake.config(server) as config:
                done, report = scan(config, *ARGS)
                self.assertEqual(done.returncode, 0, done.stderr)
                totals = report["totals"]
                self.assertEqual((totals["gpus_unhealthy"], totals["gpus_free"], totals["waste_usd_per_hour"] or 0), (0, 0, 0), report["findings"])
                self.assertTrue(any("nodes" in g["what"] for g in report["gaps"]), report["gaps"])
        # What is told is believed: a crash loop stays one.
        with fake.serve(fake.World(crashing)) as server, fake.config(server) as config:
            self.assertEqual(scan(config, *ARGS)[1]["totals"]["gpus_stuck"], 8)

    def test_one_pod_that_is_none_is_that_pods(self):
        odd = pod("odd", "gpu-2", gpus=2)
        odd["spec"]["containers"] = "none"
        other = [node("gpu-1"), node("gpu-2"), node("gpu-3"), odd, owned("web", "gpu-1", gpus=8), *deployment("web")]
        with fake.serve(fake.World(other)) as server, fake.config(server) as config:
            done, report = scan(config, *ARGS)
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = {n["name"]: n["states"] for n in report["nodes"]}
        self.assertEqual((rows["gpu-2"]["unknown"], rows["gpu-3"]["free"]), (8, 8), rows)
        self.assertTrue(any("ml/odd" in g["what"] for g in report["gaps"]), report["gaps"])

    def test_requests_that_are_no_quantity_free_no_gpu(self):
        for amount in ("1Ei", "-1", "abc", "0.5"):
            odd = pod("odd", "gpu-1", gpus=1)
            odd["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = amount
            with self.subTest(amount), fake.serve(fake.World([node("gpu-1"), node("gpu-2"), odd])) as server, fake.config(server) as config:
                _, report = scan(config, *ARGS)
                rows = {n["name"]: n["states"] for n in report["nodes"]}
                self.assertEqual((rows["gpu-1"]["unknown"], rows["gpu-2"]["free"]), (8, 8), rows)
                self.assertTrue(any("what is requested by pods ml/odd" in g["what"] for g in report["gaps"]), report["gaps"])

    def test_nodes_twice_are_paid_once(self):
        class Twice(fake.World):
            def list(self, known, namespace, query):
                code, body, kind = super().list(known, namespace, query)
                body = json.loads(body)
                if known["kind"] in ("Node", "Pod"):
                    body["items"] *= 2
                return code, json.dumps(body).encode(), kind

        with fake.serve(Twice(FLEET)) as server, fake.config(server) as config:
            done, report = scan(config, *ARGS)
        self.assertAlmostEqual(report["totals"]["spend_usd_per_hour"], 2 * 55.04)
        self.assertEqual((report["totals"]["gpus"], report["totals"]["gpus_free"]), (16, 8))
        self.assertTrue(any("more than once" in g["reason"] for g in report["gaps"]), report["gaps"])

    def test_a_cache_of_absurd_size_is_no_small_one(self):
        text = page(5000).replace('num_gpu_blocks="20000"', f'num_gpu_blocks="{2 ** 60 + 1}"')
        pages = {("ml", "web-5d9c-aaaaa", 8000, "/metrics"): text}
        with fake.serve(fake.World(FLEET, pages=pages)) as server, fake.config(server) as config:
            done, report = scan(config, "--prometheus", "none", "--observe", "0")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(any("KV blocks" in g["what"] for g in report["gaps"]), report["gaps"])
        self.assertFalse([f for f in report["findings"] if f["check"] in ("kv-pressure", "undersized-tier")], report["findings"])

    def test_manifests_with_amounts_that_are_none(self):
        for amount in ('"1Ei"', "-1", '"abc"', '"-1"', "0.5"):
            text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: x}}\nspec:\n  containers:\n  - name: c\n    image: vllm/vllm-openai:v0.11.0\n    args: [--model, meta-llama/Llama-3.1-405B-Instruct]\n    resources: {{limits: {{nvidia.com/gpu: {amount}}}}}\n"
            with self.subTest(amount), world.folder({"p.yaml": text}) as folder:
                done = gpuwaste("check", folder / "p.yaml", "--max-at-risk", "0", "--format", "json")
                report = json.loads(done.stdout)
                self.assertTrue(any(re.search("is no number|below 0|part of a device|more than any node", g["reason"]) for g in report["gaps"]), report["gaps"])
                self.assertEqual(report["totals"]["gpus"], 0, "no default stands for it")

    def test_unpriced_gpus_have_no_price_of_zero(self):
        mystery = node("gpu-1", kind="acme.8x", labels={"nvidia.com/gpu.product": "NVIDIA-Z9000"})
        with fake.serve(fake.World([mystery, node("gpu-2"), pod("p", "gpu-1", gpus=2)])) as server, fake.config(server) as config:
            for form in ("table", "markdown", "html", "junit"):
                with self.subTest(form):
                    done = gpuwaste("scan", "--format", form, *ARGS, "--group-by", "gpu", config=config)
                    for row in fake.re.split("\n|<(?=tr|div|p>|section)", done.stdout):
                        if "Z9000" in row or "not assessed" in row.lower():
                            self.assertNotRegex(row, r"\$0\.00|\b0\.00\b")


class Stores(unittest.TestCase):
    """The same for Prometheus."""

    def test_an_answer_that_is_none(self):
        good = {"status": "success", "data": ["DCGM_FI_DEV_GPU_UTIL", "vllm:num_requests_running"]}
        for name, body in [
            ("a status of its own", {"status": "fine", "data": good["data"]}), ("no data", {"status": "success"}), ("data null", {"status": "success", "data": None}),
            ("names that are none", {"status": "success", "data": [1, 2]}), ("another type", {"status": "success", "data": {"resultType": "vector", "result": []}}), ("a list", []),
        ]:
            store = lambda ns, service, path, query: (200, json.dumps(body).encode(), "application/json")
            with self.subTest(name), fake.serve(fake.World(FLEET)) as server, fake.config(server) as config, fake.serve(World(body)) as other:
                done, report = scan(config, "--no-scrape", "--prometheus", other.url)
                self.assertEqual(done.returncode, 3, done.stderr)
                self.assertTrue([g for g in report["gaps"] if g["source"].startswith("prometheus")], report["gaps"])


class World:
    """A store that always says the same."""
    ahead = 0

    def __init__(self, body):
        self.body = body

    def answer(self, target):
        return 200, json.dumps(self.body).encode(), "application/json"


if __name__ == "__main__":
    unittest.main(verbosity=1)
