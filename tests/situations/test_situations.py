#!/usr/bin/env python3
"""Situations of real fleets, each with what is true of it said first, served by a small API server and judged from outside.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/situations/test_situations.py
"""
import json, pathlib, sys, tempfile, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "armour"))
import fake
from world import DAY, GPU, NOW, dcgm, deployment, node, owned, page, pod, scan

NODE = 8 * GPU
VLLM = "vllm/vllm-openai:v0.11.0"


def exporter(on, **more):
    made = pod(f"dcgm-{on}", on, gpus=0, ns="gpu-operator", image="nvcr.io/nvidia/k8s/dcgm-exporter:4.5.3", args=(), port=9400, owner=("apps/v1", "DaemonSet", "dcgm"), **more)
    rename(made, "exporter")
    return made


def rename(made, name):
    made["spec"]["containers"][0]["name"] = name
    made["status"]["containerStatuses"][0]["name"] = name


def shown(on, held, **more):
    return {("gpu-operator", f"dcgm-{on}", 9400, "/metrics"): dcgm(held, **more)}


def also(made, name, gpus=1, image=VLLM, args=("--model", "Qwen/Qwen2.5-7B-Instruct"), port=8001):
    """A second container with GPUs of its own."""
    first, status = made["spec"]["containers"][0], made["status"]["containerStatuses"][0]
    made["spec"]["containers"].append({**first, "name": name, "image": image, "args": list(args), "ports": [{"containerPort": port}], "resources": {"limits": {"nvidia.com/gpu": str(gpus)}, "requests": {"cpu": "8"}} if gpus else {}})
    made["status"]["containerStatuses"].append({**status, "name": name})
    return made


def tainted(made, key, value="", effect="NoSchedule", hours=1):
    made["spec"].setdefault("taints", []).append({"key": key, "value": value, "effect": effect, "timeAdded": fake.stamp(NOW - hours * 3600)})
    return made


def condition(made, kind, status, reason="Found", hours=5):
    made["status"]["conditions"].append({"type": kind, "status": status, "reason": reason, "lastTransitionTime": fake.stamp(NOW - hours * 3600)})
    return made


class Situations(unittest.TestCase):
    def judge(self, objects, pages=None, *args):
        with fake.serve(fake.World(objects, pages=pages or {})) as server, fake.config(server) as config:
            done, report = scan(config, "--prometheus", "none", "--observe", "0", "--timeout", "5s", *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("panicked", done.stderr)
        self.report, self.states = report, {k[5:]: report["totals"][k] for k in report["totals"] if k.startswith("gpus_")}
        return report

    def found(self, check, part=None, name=None):
        return [f for f in self.report["findings"] if f["check"] == check and (part is None or f["part"] == part) and (name is None or f["subject"]["name"] == name)]

    # --- who holds what ---

    def test_two_servers_in_one_pod_of_which_one_works(self):
        """The pod cannot go while one of its servers works; nothing of it is measured waste."""
        web = also(owned("web", "gpu-1", gpus=1), "second")
        of = lambda busy: {("ml", "web-5d9c-aaaaa", 8000, "/metrics"): page(0), ("ml", "web-5d9c-aaaaa", 8001, "/metrics"): page(90000 if busy else 0, running=int(busy)),
                           **shown("gpu-1", {0: ("ml", "web-5d9c-aaaaa", 0), 1: ("ml", "web-5d9c-aaaaa", busy)})}
        objects = [node("gpu-1"), exporter("gpu-1"), web, *deployment("web")]
        self.judge(objects, of(True))
        self.assertFalse(self.found("dark-capacity", "idle"), self.report["findings"])
        self.assertFalse(self.found("parallelism-mismatch"), "each container has its own GPU")
        self.judge(objects, of(False))
        self.assertTrue(all(f["usd_per_hour"] <= 2 * GPU + 1e-6 for f in self.found("dark-capacity", "idle")))

    def test_a_sidecar_that_embeds_beside_an_idle_server(self):
        """A reranker with a GPU of its own works: the pod is not idle, even where only devices tell."""
        rag = also(owned("rag", "gpu-1", gpus=1), "rerank", image="ghcr.io/huggingface/text-embeddings-inference:1.7", args=("--model-id", "BAAI/bge-reranker-large"), port=8080)
        self.judge([node("gpu-1"), exporter("gpu-1"), rag, *deployment("rag")],
                   {("ml", "rag-5d9c-aaaaa", 8000, "/metrics"): page(0), **shown("gpu-1", {0: ("ml", "rag-5d9c-aaaaa", 0), 1: ("ml", "rag-5d9c-aaaaa", 1)})})
        self.assertFalse(self.found("dark-capacity", "idle"), self.report["findings"])

    def test_an_init_container_that_asks_for_more(self):
        """Kubernetes reserves the largest of init and sum: four GPUs are held, not one; so four of eight are free."""
        made = owned("conv", "gpu-1", gpus=1)
        made["spec"]["initContainers"] = [{"name": "convert", "image": "acme/convert:1", "resources": {"limits": {"nvidia.com/gpu": "4"}}}]
        self.judge([node("gpu-1"), made, *deployment("conv")])
        self.assertEqual((self.states["free"], self.report["totals"]["gpus_allocated"]), (4, 4))

    def test_a_restartable_init_container_is_a_sidecar(self):
        """restartPolicy Always makes it run beside the others: two GPUs are held."""
        made = owned("side", "gpu-1", gpus=1)
        made["spec"]["initContainers"] = [{"name": "cache", "image": "acme/cache:1", "restartPolicy": "Always", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]
        self.judge([node("gpu-1"), made, *deployment("side")])
        self.assertEqual(self.report["totals"]["gpus_allocated"], 2)

    def test_finished_jobs_that_nobody_removed(self):
        """Succeeded and Failed pods hold nothing: the node is free, whatever they asked for."""
        done, failed = pod("batch-1", "gpu-1", gpus=4, owner=("batch/v1", "Job", "batch")), pod("batch-2", "gpu-1", gpus=4, owner=("batch/v1", "Job", "batch"))
        done["status"]["phase"], failed["status"]["phase"] = "Succeeded", "Failed"
        self.judge([node("gpu-1"), done, failed])
        self.assertEqual((self.states["free"], self.report["totals"]["gpus_allocated"]), (8, 0))
        self.assertTrue(all(f["confidence"] != "measured" for f in self.found("dark-capacity", "unallocated")))

    def test_overprovisioning_pods_keep_room_on_purpose(self):
        """Pods of negative priority with the pause image keep nodes warm: held on purpose, neither free nor idle."""
        room = owned("room", "gpu-1", gpus=8, image="registry.k8s.io/pause:3.10", args=(), priority=-10)
        self.judge([node("gpu-1"), room, *deployment("room")])
        self.assertEqual(self.states["free"], 0)
        self.assertFalse([f for f in self.report["findings"] if f["usd_per_hour"]], self.report["findings"])

    # --- is the device sound, and how many are there ---

    def test_a_monitor_calls_the_gpus_of_a_node_broken(self):
        """EKS' and AKS' agents, node-problem-detector, NVSentinel: what nobody holds there is to be repaired, not to be given away."""
        for kind, status in (("AcceleratedHardwareReady", "False"), ("GPUMissing", "True"), ("XIDErrors", "True"), ("GpuNvlinkWatch", "True")):
            with self.subTest(kind):
                self.judge([condition(node("gpu-1"), kind, status)])
                [broken] = self.found("dark-capacity", "unhealthy")
                self.assertEqual((broken["usd_per_hour"], broken["grade"], self.states["free"]), (NODE, "reusable", 0))
                self.assertIn(kind, broken["fix"]["summary"])
        # The other side of each: sound, or not about GPUs, or a moment old.
        for kind, status in (("AcceleratedHardwareReady", "True"), ("GPUMissing", "False"), ("KernelDeadlock", "True"), ("GPUDriverVersion", "True")):
            with self.subTest(kind):
                self.judge([condition(node("gpu-1"), kind, status)])
                self.assertEqual(self.states["free"], 8)
        self.judge([condition(node("gpu-1"), "XIDErrors", "True", hours=0.1)])
        self.assertFalse([f for f in self.report["findings"] if f["usd_per_hour"]], self.report["findings"])
        # A server at work there is at work.
        self.judge([condition(node("gpu-1"), "XIDErrors", "True"), owned("web", "gpu-1", gpus=1), *deployment("web")], {("ml", "web-5d9c-aaaaa", 8000, "/metrics"): page(90000, running=1)})
        self.assertEqual((self.states["working"], self.states["unhealthy"]), (1, 7))

    def test_two_exporters_of_which_one_sees_work(self):
        """One shows nothing, the other 90 % and 500 W on the same device: no second source can deny that."""
        second = exporter("gpu-1")
        second["metadata"].update(name="other-gpu-1", uid="uid-other")
        objects = [node("gpu-1"), exporter("gpu-1"), second, owned("web", "gpu-1", gpus=1), *deployment("web")]
        of = lambda first, other: {("ml", "web-5d9c-aaaaa", 8000, "/metrics"): page(0), **shown("gpu-1", {0: ("ml", "web-5d9c-aaaaa", first)}), ("gpu-operator", "other-gpu-1", 9400, "/metrics"): dcgm({0: ("ml", "web-5d9c-aaaaa", other)})}
        for first, other in ((0, 1), (1, 0)):
            self.judge(objects, of(first, other))
            self.assertFalse(self.found("dark-capacity", "idle"), self.report["findings"])
        self.judge(objects, of(0, 0))
        self.assertTrue(self.found("dark-capacity", "idle"))

    # --- servers ---

    def test_ranks_in_pods_of_their_own(self):
        """Each pod runs one of two ranks, with a page of its own: both were read. Idle together, and at work together."""
        ranks = [owned("web", "gpu-1", replica=i, gpus=1, args=("--model", "Qwen/Qwen2.5-7B-Instruct", "-dp", "2", "--data-parallel-rank", str(i))) for i in (0, 1)]
        of = lambda *requests: {("ml", f"web-5d9c-{'ab'[i] * 5}", 8000, "/metrics"): page(n) for i, n in enumerate(requests)}
        for requests, state in (((0, 0), "idle"), ((0, 9000), "working")):
            self.judge([node("gpu-1"), *ranks, *deployment("web", replicas=2)], of(*requests))
            self.assertEqual(self.states[state], 2, requests)
        # One page of two: of the other rank nobody knows.
        self.judge([node("gpu-1"), *ranks, *deployment("web", replicas=2)], of(0))
        self.assertFalse(self.found("dark-capacity", "idle"))

    def test_the_front_answered_and_the_engine_counts_nothing(self):
        """90,000 completions went out by HTTP: the counters of zero are another process'. Probes are no work."""
        objects = [node("gpu-1"), owned("web", "gpu-1", gpus=1), *deployment("web")]
        for handler, idle in (("/v1/chat/completions", 0), ("/health", 1)):
            method = "POST" if idle == 0 else "GET"
            self.judge(objects, {("ml", "web-5d9c-aaaaa", 8000, "/metrics"): page(0) + f'http_requests_total{{handler="{handler}",method="{method}",status="2xx"}} 90000\n'})
            self.assertEqual(self.states["idle"], idle, handler)

    def test_metrics_at_a_port_of_their_own(self):
        """The page is at the port that is named for it, or at the engine's own, which nobody declared. A page at the first port counts, whatever is at others."""
        web = owned("web", "gpu-1", gpus=1)
        web["spec"]["containers"][0]["ports"] = [{"containerPort": 8000, "name": "http"}, {"containerPort": 9095, "name": "metrics"}]
        at = lambda **ports: {("ml", "web-5d9c-aaaaa", int(p[1:]), "/metrics"): page(n) for p, n in ports.items()}
        for pages, state in ((at(p9095=9000), "working"), (at(p9095=0), "idle"), (at(p8000=9000, p9095=0), "working"), ({}, "unknown")):
            self.judge([node("gpu-1"), web, *deployment("web")], pages)
            self.assertEqual(self.states[state], 1, (state, self.report["gaps"]))
        triton = owned("tri", "gpu-1", gpus=1, image="nvcr.io/nvidia/tritonserver:25.03-py3", args=("tritonserver", "--model-repository=/m"), port=8000)
        served = "".join(f'{n}{{model="{m}",version="1"}} {v}\n' for n in ("nv_inference_request_success", "nv_inference_count") for m, v in (("a", 0), ("b", 900)))
        self.judge([node("gpu-1"), triton, *deployment("tri")], {("ml", "tri-5d9c-aaaaa", 8002, "/metrics"): served})
        self.assertEqual(self.states["working"], 1, self.report["gaps"])

    def test_the_prefill_side_of_a_graph_rests(self):
        """Dynamo's decode workers take short prompts themselves, and need not be told what they are: the prefill side is no waste while they work."""
        def worker(component, *args):
            made = owned(f"g-{component}", "gpu-1", gpus=1, image="nvcr.io/nvidia/ai-dynamo/vllm-runtime:0.7.0", args=("python3", "-m", "dynamo.vllm", "--model", "Qwen/Qwen2.5-7B-Instruct", *args), port=9090)
            made["metadata"]["labels"].update({"nvidia.com/dynamo-graph-deployment-name": "g", "nvidia.com/dynamo-component": component, "nvidia.com/dynamo-component-type": "worker"})
            made["spec"]["containers"][0]["ports"] = [{"containerPort": 9090, "name": "system"}]
            return made
        objects = [node("gpu-1"), worker("prefill", "--is-prefill-worker"), *deployment("g-prefill"), worker("decode"), *deployment("g-decode")]
        for requests, state in ((90000, "working"), (0, "idle")):
            self.judge(objects, {("ml", f"g-{c}-5d9c-aaaaa", 9090, "/metrics"): page(n) for c, n in (("prefill", 0), ("decode", requests))})
            self.assertEqual(self.states[state], 2, requests)
        # Of one model in one namespace, and nothing else in common: each stands for itself.
        alone = [node("gpu-1"), owned("one", "gpu-1", gpus=1, args=("--model", "Qwen/Qwen2.5-7B-Instruct", "--kv-transfer-config.kv_connector", "NixlConnector", "--kv-transfer-config.kv_role", "kv_producer")), *deployment("one"), owned("two", "gpu-1", gpus=1), *deployment("two")]
        self.judge(alone, {("ml", f"{n}-5d9c-aaaaa", 8000, "/metrics"): page(0 if n == "two" else 9000) for n in ("one", "two")})
        self.assertEqual((self.states["idle"], self.states["working"]), (1, 1))

    def test_an_opt_out_with_a_colon(self):
        """"dark-capacity: standby" names the check, and why."""
        self.judge([node("gpu-1"), owned("web", "gpu-1", gpus=1), *deployment("web", ignore="dark-capacity: standby for failover")], {("ml", "web-5d9c-aaaaa", 8000, "/metrics"): page(0)})
        self.assertFalse([f for f in self.found("dark-capacity", "idle") if f["status"] != "suppressed"])

    def test_requests_that_wait_were_sent(self):
        """Fifty wait and none has finished in six days: the server hangs. Nobody may say that it got no request."""
        objects = [node("gpu-1"), owned("web", "gpu-1", gpus=1), *deployment("web")]
        waiting = page(0).replace('num_requests_waiting{engine="0",model_name="served"} 0', 'num_requests_waiting{engine="0",model_name="served"} 50')
        self.assertNotEqual(waiting, page(0))
        self.judge(objects, {("ml", "web-5d9c-aaaaa", 8000, "/metrics"): waiting})
        self.assertFalse(self.found("dark-capacity", "idle"), self.report["findings"])

    def test_a_server_as_a_daemonset(self):
        """Idle on every node: waste, but a DaemonSet has no replicas to scale to 0."""
        daemons = [pod(f"edge-{i}", f"gpu-{i}", gpus=1, owner=("apps/v1", "DaemonSet", "edge")) for i in (1, 2)]
        above = {"kind": "DaemonSet", "metadata": {"name": "edge", "namespace": "ml", "creationTimestamp": fake.stamp(NOW - 20 * DAY)}, "spec": {}}
        self.judge([node("gpu-1"), node("gpu-2"), *daemons, above], {("ml", f"edge-{i}", 8000, "/metrics"): page(0) for i in (1, 2)})
        [idle] = self.found("dark-capacity", "idle")
        self.assertAlmostEqual(idle["usd_per_hour"], 2 * GPU, places=4)
        self.assertNotIn("scale DaemonSet", idle["fix"]["summary"])

    def test_several_api_servers_of_one_engine(self):
        """One page sums them all (Prometheus' multiprocess mode): without a request on it nobody asked any."""
        web = owned("many", "gpu-1", gpus=2, args=("--model", "Qwen/Qwen2.5-7B-Instruct", "--tensor-parallel-size", "2", "--api-server-count", "4"))
        self.judge([node("gpu-1"), exporter("gpu-1"), web, *deployment("many")], {("ml", "many-5d9c-aaaaa", 8000, "/metrics"): page(0), **shown("gpu-1", {i: ("ml", "many-5d9c-aaaaa", 0) for i in (0, 1)})})
        [idle] = self.found("dark-capacity", "idle")
        self.assertAlmostEqual(idle["usd_per_hour"], 2 * GPU, places=4)

    def test_adapters_without_a_number_are_not_sized(self):
        """LoRA adapters take memory that nobody told: the server works, and no smaller tier is advised for it."""
        web = owned("lora", "gpu-1", gpus=1, args=("--model", "Qwen/Qwen3-1.7B", "--enable-lora", "--max-model-len", "2048"))
        self.judge([node("gpu-1"), web, *deployment("lora")], {("ml", "lora-5d9c-aaaaa", 8000, "/metrics"): page(90000, running=1)})
        self.assertFalse(self.found("oversized-tier") + self.found("over-replicated"), self.report["findings"])
        self.assertEqual(self.states["working"], 1)

    def test_ray_with_a_head_without_gpus(self):
        """The workers hold the GPUs and show nothing of the engine: busy by their devices, never idle for the head's silence."""
        labels = lambda kind: {"ray.io/cluster": "llm", "ray.io/node-type": kind, "ray.io/is-ray-node": "yes"}
        head = pod("llm-head", "cpu-1", gpus=0, image="rayproject/ray-ml:2.40.0", args=("ray", "start", "--head"), labels=labels("head"))
        workers = [pod(f"llm-worker-{i}", "gpu-1", gpus=4, image="rayproject/ray-ml:2.40.0-gpu", args=("ray", "start", "--address=llm-head:6379"), labels=labels("worker")) for i in (0, 1)]
        cpu = node("cpu-1", gpus=0, kind="m7i.4xlarge", pool="cpu")
        held = {i: ("ml", f"llm-worker-{i // 4}", 1) for i in range(8)}
        self.judge([node("gpu-1"), cpu, exporter("gpu-1"), head, *workers], shown("gpu-1", held))
        self.assertFalse([f for f in self.report["findings"] if f["usd_per_hour"]], self.report["findings"])
        self.assertEqual(self.states["working"], 8)
        self.judge([node("gpu-1"), cpu, head, *workers])
        self.assertEqual(self.states["unknown"], 8, "nobody tells what they do")

    def test_a_page_behind_an_auth_proxy_is_that_pods_alone(self):
        """A sidecar answers 403 in its own words: no right is missing, and the neighbour's page is read all the same."""
        a, b = owned("shut", "gpu-1", gpus=1), owned("open", "gpu-1", gpus=1)
        world = fake.World([node("gpu-1"), a, *deployment("shut"), b, *deployment("open")], pages={("ml", "open-5d9c-aaaaa", 8000, "/metrics"): page(90000, running=1)})
        shut = {"code": 403, "headers": {"Content-Type": "text/plain"}, "body": "Forbidden (proxy)"}
        with fake.serve(world, shut, lambda path: "/pods/shut" in path) as server, fake.config(server) as config:
            _, report = scan(config, "--prometheus", "none", "--observe", "0")
        self.assertEqual((report["totals"]["gpus_working"], report["totals"]["gpus_unknown"]), (1, 1))
        self.assertFalse([g for g in report["gaps"] if "pods/proxy" in g["reason"]], report["gaps"])

    def test_an_exporter_that_names_no_pods(self):
        """Two idle servers by their counters, and one hot device that is anybody's: neither server is waste."""
        objects = [node("gpu-1"), exporter("gpu-1"), owned("one", "gpu-1", gpus=1), *deployment("one"), owned("two", "gpu-1", gpus=1), *deployment("two")]
        pages = {("ml", f"{n}-5d9c-aaaaa", 8000, "/metrics"): page(0) for n in ("one", "two")}
        hot = "\n".join(f'DCGM_FI_DEV_GPU_UTIL{{gpu="{i}",UUID="GPU-{i}",modelName="NVIDIA H100 80GB HBM3"}} {95 if i == 5 else 0}\nDCGM_FI_DEV_POWER_USAGE{{gpu="{i}",UUID="GPU-{i}",modelName="NVIDIA H100 80GB HBM3"}} {600 if i == 5 else 70}' for i in range(8))
        self.judge(objects, {**pages, ("gpu-operator", "dcgm-gpu-1", 9400, "/metrics"): hot + "\n"})
        self.assertFalse(self.found("dark-capacity", "idle"), self.report["findings"])
        self.judge(objects, {**pages, ("gpu-operator", "dcgm-gpu-1", 9400, "/metrics"): hot.replace(" 95", " 0").replace(" 600", " 70") + "\n"})
        self.assertEqual(sum(f["usd_per_hour"] for f in self.found("dark-capacity", "idle")), 2 * GPU)

    # --- scaled to zero, waiting, leaving ---

    def test_scaled_to_zero_holds_nothing(self):
        """KServe and Knative at zero replicas: no pod, no finding on the service, and the node is what is free."""
        isvc = {"kind": "InferenceService", "metadata": {"name": "chat", "namespace": "ml", "creationTimestamp": fake.stamp(NOW - 20 * DAY)}, "spec": {"predictor": {"minReplicas": 0}}}
        self.judge([node("gpu-1"), isvc, *deployment("chat-predictor-00001-deployment", replicas=0)])
        self.assertEqual(self.states["free"], 8)
        self.assertEqual({f["subject"]["namespace"] for f in self.report["findings"]}, {None})

    def test_a_pool_at_zero_under_an_autoscaler(self):
        """No GPU node, one pod that waits for one: nothing is wasted, and nothing is called clean."""
        cpu = node("cpu-1", gpus=0, kind="m7i.4xlarge", pool="cpu")
        report = self.judge([cpu, pod("wait", None, gpus=1)])
        self.assertEqual((report["totals"]["gpus"], report["totals"]["waste_usd_per_hour"] or 0), (0, 0))
        self.assertFalse([f for f in report["findings"] if f["usd_per_hour"]])

    def test_a_pod_waits_that_would_fit_on_a_free_node(self):
        """It has waited for an hour, and fits: something keeps it from there. The node it would take is not to be removed; where it fits nowhere the free one can go."""
        self.judge([node("gpu-1"), node("gpu-2")])
        [free] = self.found("dark-capacity", "unallocated")
        self.assertEqual(free["grade"], "now")
        self.judge([node("gpu-1"), pod("wait", None, gpus=4)])
        [free] = self.found("dark-capacity", "unallocated")
        self.assertEqual((round(free["usd_per_hour"], 4), free["grade"]), (NODE, "reusable"))
        self.assertIn("ml/wait waits and fits on gpu-1", free["fix"]["summary"])
        self.assertNotIn("Scale the pool down", free["fix"]["summary"])
        self.assertAlmostEqual(self.report["totals"]["waste_now_usd_per_hour"] or 0, 0)
        # Two nodes are free and it takes one: the other can go.
        self.judge([node("gpu-1"), node("gpu-2"), pod("wait", None, gpus=4)])
        self.assertAlmostEqual(self.report["totals"]["waste_now_usd_per_hour"], NODE, places=4)
        self.assertIn("gpu-2: wholly free", self.found("dark-capacity", "unallocated")[0]["fix"]["summary"])
        for more in (dict(nodeSelector={"zone": "other"}), dict(gpus=16)):
            self.judge([node("gpu-1"), pod("wait", None, **{"gpus": 4, **more})])
            self.assertEqual(self.found("dark-capacity", "unallocated")[0]["grade"], "now", more)
        greedy = pod("wait", None, gpus=4)
        greedy["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "400"
        self.judge([node("gpu-1"), greedy])
        self.assertEqual(self.found("dark-capacity", "unallocated")[0]["grade"], "now")

    def test_replicas_that_serve_different_models(self):
        """Each of four loads its own: none is a spare of the others, nor is their load one. Of one model they are as before."""
        objects = [node("gpu-1"), *[owned("web", "gpu-1", replica=i, gpus=1, args=("--model", "/models/current", "--max-model-len", "4096")) for i in range(4)], *deployment("web", replicas=4)]
        names = ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-3B-Instruct", "Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct")
        def served(names):
            pages = {}
            for i, name in enumerate(names):
                at = ("ml", f"web-5d9c-{'abcd'[i] * 5}", 8000)
                pages[(*at, "/metrics")] = page(900, days=6).replace("served", name)
                pages[(*at, "/v1/models")] = json.dumps({"object": "list", "data": [{"id": name, "object": "model", "root": name, "max_model_len": 4096}]})
            self.judge(objects, pages)
        apart = lambda: {c["id"] for c in self.report["checks"] for n in c["not_assessed"] if "different ones" in n["reason"]}
        served(names[:1] * 4)
        self.assertEqual((self.report["workloads"][0]["model"], apart()), (names[0], set()))
        served(names)
        self.assertFalse(self.found("over-replicated") + self.found("oversized-tier"), self.report["findings"])
        self.assertIsNone(self.report["workloads"][0]["model"])
        self.assertLessEqual({"over-replicated", "oversized-tier"}, apart())

    def test_an_image_for_other_cards(self):
        """A CUDA image finds no GPU on an MI300X, nor does ROCm's on an H100: said, without dollars."""
        amd = node("gpu-1", gpus=0, kind="Standard_ND96isr_MI300X_v5", labels={"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"})
        for of in ("capacity", "allocatable"):
            amd["status"][of] = {**amd["status"][of], "amd.com/gpu": "8"}
        def on(made, image, resource):
            web = owned("web", "gpu-1", gpus=1, image=image)
            web["spec"]["containers"][0]["resources"]["limits"] = {resource: "1"}
            self.judge([made, web, *deployment("web")])
            found = self.found("spec-hygiene", "vendor")
            self.assertFalse([f for f in found if f["usd_per_hour"]])
            return len(found)
        self.assertEqual(on(amd, "vllm/vllm-openai:v0.11.0", "amd.com/gpu"), 1)
        self.assertEqual(on(amd, "rocm/vllm:rocm6.4.1_vllm_0.10.1_20250909", "amd.com/gpu"), 0)
        self.assertEqual(on(node("gpu-1"), "rocm/vllm:rocm6.4.1_vllm_0.10.1_20250909", "nvidia.com/gpu"), 1)
        self.assertEqual(on(node("gpu-1"), "vllm/vllm-openai:v0.11.0", "nvidia.com/gpu"), 0)

    def test_nodes_that_are_no_machines(self):
        """KWOK's, run.ai's and Liqo's nodes, virtual kubelets: simulated, another cluster's, or billed by the pod. Nobody pays for eight idle GPUs there."""
        for labels, taint in (({"type": "kwok"}, None), ({}, "kwok.x-k8s.io/node"), ({"run.ai/simulated-gpu-node-pool": "default"}, None), ({"liqo.io/type": "virtual-node"}, None), ({"type": "virtual-kubelet"}, None), ({}, "virtual-kubelet.io/provider")):
            made = node("gpu-1", labels=labels)
            self.judge([tainted(made, taint) if taint else made])
            self.assertEqual((self.states["free"], self.states["unknown"], self.report["totals"]["spend_usd_per_hour"]), (0, 8, None), (labels, taint))
            self.assertFalse(self.report["findings"])
            self.assertTrue([g for g in self.report["gaps"] if "no machine" in g["reason"]])
        # Whoever pays for one knows its price; that its GPUs are free still nobody does.
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as prices:
            prices.write('[[price]]\nnode = "gpu-*"\nusd_per_hour = 12\n')
            prices.flush()
            self.judge([node("gpu-1", labels={"type": "virtual-kubelet"})], None, "--prices", prices.name)
        self.assertEqual((self.states["free"], self.states["unknown"], self.report["totals"]["spend_usd_per_hour"]), (0, 8, 12))
        self.judge([node("gpu-1", labels={"type": "gpu"})])
        self.assertEqual(self.states["free"], 8)

    def test_chips_that_are_advertised_three_times(self):
        """AWS' plugin counts chips, the same chips by their older name, and their cores: twelve chips. On which of them a pod's cores are nobody tells."""
        chips = node("gpu-1", gpus=0, kind="inf2.48xlarge")
        for of in ("capacity", "allocatable"):
            chips["status"][of] = {**chips["status"][of], "aws.amazon.com/neuron": "12", "aws.amazon.com/neurondevice": "12", "aws.amazon.com/neuroncore": "24"}
        self.judge([chips])
        self.assertEqual((self.report["totals"]["gpus"], self.states["free"]), (12, 12))
        holder = pod("serve", "gpu-1", gpus=0, image="acme/neuron:1", args=())
        holder["spec"]["containers"][0]["resources"] = {"limits": {"aws.amazon.com/neuroncore": "2"}, "requests": {"cpu": "1"}}
        self.judge([chips, holder])
        self.assertEqual((self.report["totals"]["gpus"], self.states["free"]), (12, 0))
        holder["spec"]["containers"][0]["resources"]["limits"] = {"aws.amazon.com/neuron": "2"}
        self.judge([chips, holder])
        self.assertEqual((self.report["totals"]["gpus"], self.states["free"]), (12, 10))

    def test_nodes_that_leave_are_not_free(self):
        """Spot reclaim, Karpenter's and the cluster autoscaler's own removal: the node goes by itself, today."""
        for key in ("aws-node-termination-handler/spot-itn", "karpenter.sh/disrupted", "ToBeDeletedByClusterAutoscaler", "cloud.google.com/impending-node-termination", "DeletionCandidateOfClusterAutoscaler", "node.kubernetes.io/out-of-service", "node.cloudprovider.kubernetes.io/shutdown"):
            with self.subTest(key):
                self.judge([tainted(node("gpu-1"), key)])
                self.assertFalse([f for f in self.report["findings"] if f["usd_per_hour"]], self.report["findings"])

    def test_a_node_under_maintenance_costs_and_says_so(self):
        """A taint of one's own for three days: paid, and no pod that waits can get it: not 'give it to work that waits' alone."""
        self.judge([tainted(node("gpu-1"), "maintenance", "true", hours=72)])
        free = self.found("dark-capacity")
        self.assertAlmostEqual(sum(f["usd_per_hour"] for f in free), NODE, places=4)
        self.assertTrue(any("maintenance" in json.dumps(f) for f in free), free)

    def test_how_a_node_is_paid_for_in_other_words(self):
        """Spot by GKE's newer label, by what people and tools write on nodes, and of a card without its machine: never the on-demand price, nor sure to end."""
        def paid(labels, kind="p5.48xlarge", provider=None, gpus=8):
            made = node("gpu-1", gpus=gpus, kind=kind or "x", labels=labels)
            made["metadata"]["labels"].pop("karpenter.sh/capacity-type")
            if not kind:
                made["metadata"]["labels"].pop("node.kubernetes.io/instance-type")
            made["spec"]["providerID"] = provider or made["spec"]["providerID"]
            self.judge([made])
            [free] = self.found("dark-capacity", "unallocated")
            return round(free["usd_per_hour"], 4), free["grade"], free["confidence"]
        gke = lambda **more: {"topology.kubernetes.io/region": "us-central1", **{f"cloud.google.com/{k.replace('_', '-')}": v for k, v in more.items()}}
        google = dict(kind="a3-highgpu-8g", provider="gce://p/us-central1-a/n")
        listed, spot = paid(gke(), **google), paid(gke(gke_spot="true"), **google)
        self.assertLess(spot[0], 0.8 * listed[0])
        for value in ("spot", "preemptible"):
            self.assertEqual(paid(gke(gke_provisioning=value), **google), spot)
        self.assertEqual(paid(gke(gke_provisioning="standard"), **google), listed)
        for more in ({"gke_flex_start": "true"}, {"gke_queued": "true"}):
            # Google's own list of flex-start prices, not the on-demand rate.
            self.assertEqual(paid(gke(**more), **google), (38.32, "reusable", "estimated"), more)
        spot = paid({"eks.amazonaws.com/capacityType": "SPOT"})
        self.assertLess(spot[0], 0.8 * NODE)
        for key, value in (("lifecycle", "Ec2Spot"), ("node.kubernetes.io/lifecycle", "spot"), ("spotinst.io/node-lifecycle", "spot"), ("scheduling.cast.ai/spot", "true")):
            self.assertEqual(paid({key: value}), spot, key)
        self.assertEqual(paid({"spotinst.io/node-lifecycle": "od"})[0], round(NODE, 4))
        card = dict(kind=None, provider="gce://p/us-central1-a/n", gpus=1)
        of_card = lambda **more: paid(gke(gke_accelerator="nvidia-l4", **more), **card)
        self.assertLess(of_card(gke_spot="true")[0], 0.8 * of_card()[0])

    def test_cards_that_only_transcode(self):
        """Encoders and decoders at work, and no kernel: neither free nor idle. Without video the same cards are free."""
        rows = lambda video: "".join(f'DCGM_FI_DEV_{name}{{gpu="{i}",UUID="GPU-{i}",modelName="NVIDIA H100 80GB HBM3"}} {value}\n' for i in range(8) for name, value in (("GPU_UTIL", 0), ("POWER_USAGE", 110), ("ENC_UTIL", 0), ("DEC_UTIL", video)))
        for video, free in ((70, 0), (0, 8)):
            self.judge([node("gpu-1"), exporter("gpu-1")], {("gpu-operator", "dcgm-gpu-1", 9400, "/metrics"): rows(video)})
            self.assertEqual(self.states["free"], free, video)

    def test_a_pod_that_does_not_die(self):
        """Terminating for two days behind a finalizer: it holds four GPUs that nobody can use."""
        dying = owned("gone", "gpu-1", gpus=4)
        dying["metadata"].update(deletionTimestamp=fake.stamp(NOW - 2 * DAY), finalizers=["acme/keep"])
        dying["status"]["conditions"][0].update(status="False", lastTransitionTime=fake.stamp(NOW - 2 * DAY))
        dying["status"]["containerStatuses"][0]["ready"] = False
        self.judge([node("gpu-1"), dying, *deployment("gone")])
        [stuck] = self.found("dark-capacity", "stuck")
        self.assertAlmostEqual(stuck["usd_per_hour"], 4 * GPU, places=4)

    # --- parts of cards ---

    def test_mig_that_is_being_cut(self):
        """mig-manager is at work: nothing is handed out for some minutes, nothing is broken."""
        cutting = node("gpu-1", gpus=0, labels={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count": "8", "nvidia.com/mig.config": "all-1g.10gb", "nvidia.com/mig.config.state": "pending", "nvidia.com/mig.capable": "true"})
        self.judge([cutting])
        self.assertFalse([f for f in self.report["findings"] if f["usd_per_hour"]], self.report["findings"])

    def test_time_slices_are_not_cards(self):
        """Four replicas a card and one pod: eight cards are paid, and no free GPU is more than a card."""
        sliced = node("gpu-1", gpus=32, labels={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-SHARED", "nvidia.com/gpu.count": "8", "nvidia.com/gpu.replicas": "4", "nvidia.com/gpu.sharing-strategy": "time-slicing"})
        self.judge([sliced, owned("web", "gpu-1", gpus=1), *deployment("web")], {("ml", "web-5d9c-aaaaa", 8000, "/metrics"): page(90000, running=1)})
        self.assertEqual(self.report["totals"]["gpus"], 8)
        self.assertAlmostEqual(self.report["totals"]["spend_usd_per_hour"], NODE, places=4)
        self.assertLessEqual(self.states["free"], 7)

    def test_a_notebook_nobody_has_history_of(self):
        """One look at a calm device is no day of rest: unknown, not idle."""
        book = pod("book-0", "gpu-1", gpus=1, image="quay.io/jupyter/pytorch-notebook:cuda12", args=(), owner=("apps/v1", "StatefulSet", "book"), port=8888)
        self.judge([node("gpu-1"), exporter("gpu-1"), book], shown("gpu-1", {0: ("ml", "book-0", 0)}))
        self.assertFalse(self.found("dark-capacity", "idle"), self.report["findings"])
        self.assertEqual(self.states["unknown"], 1)


if __name__ == "__main__":
    unittest.main(verbosity=1)
