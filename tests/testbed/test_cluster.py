#!/usr/bin/env python3
"""gpuwaste against the real API server: rights, paging, refusals, owners, pods that answer.

usage: GPUWASTE=target/release/gpuwaste python3 tests/testbed/test_cluster.py
"""
import http.server, json, os, pathlib, re, socket, subprocess, sys, tempfile, threading, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "armour"))
import fake, testbed
from testbed import stamp

HERE = pathlib.Path(__file__).resolve().parent
BINARY = os.environ.get("GPUWASTE", "target/debug/gpuwaste")
NOW = time.time()
DAY = 86400


def node(name, gpus=8, kind="p5.48xlarge", age=30 * DAY, pool="h100", cpu="192", **status):
    labels = {"node.kubernetes.io/instance-type": kind, "topology.kubernetes.io/region": "us-east-1", "karpenter.sh/capacity-type": "on-demand", "karpenter.sh/nodepool": pool}
    amounts = {"cpu": cpu, "memory": "2000Gi", "pods": "110", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    return {"kind": "Node", "metadata": {"name": name, "creationTimestamp": stamp(NOW - age), "labels": labels}, "spec": {"providerID": f"aws:///x/{name}"},
            "status": {"capacity": amounts, "allocatable": amounts, "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp(NOW - age)}], **status}}


def pod(name, on, gpus=1, ns="ml", image="vllm/vllm-openai:v0.11.0", args=("--model", "Qwen/Qwen2.5-7B-Instruct"), owner=None, labels=None, ip=None, annotations=None, init=(), ready=True, age=3 * DAY, port=8000):
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}, "requests": {"cpu": "4", "memory": "16Gi"}} if gpus else {"requests": {"cpu": "2"}}
    meta = {"name": name, "namespace": ns, "creationTimestamp": stamp(NOW - age), "labels": labels or {}, "annotations": annotations or {}}
    if owner:
        meta["ownerReferences"] = [{"apiVersion": owner[0], "kind": owner[1], "name": owner[2], "uid": "0", "controller": True}]
    spec = {"containers": [{"name": "server", "image": image, "args": list(args), "resources": resources, "ports": [{"containerPort": port}],
                            "env": [{"name": "HF_TOKEN", "value": "CANARY-ENV"}]}], "initContainers": list(init)}
    status = {"phase": "Running", "startTime": stamp(NOW - age), "conditions": [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": stamp(NOW - age)}],
              "containerStatuses": [{"name": "server", "image": "", "imageID": "", "ready": ready, "restartCount": 0, "state": {"running": {"startedAt": stamp(NOW - age)}}}]}
    if ip:
        status["podIP"] = ip
    if on:
        spec["nodeName"] = on
    else:
        status = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available: 2 Insufficient nvidia.com/gpu.", "lastTransitionTime": stamp(NOW - 3600)}]}
    return {"kind": "Pod", "metadata": meta, "spec": spec, "status": status}


def namespaces(*names):
    return [{"kind": "Namespace", "metadata": {"name": n}, "status": {"phase": "Active"}} for n in names]


def gpuwaste(*args, config=None, env=None):
    command = [BINARY, *args] + (["--kubeconfig", str(config)] if config else [])
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, env={**os.environ, **(env or {})})


def scan(config, *args):
    done = gpuwaste("scan", "--format", "json", *args, config=config)
    return done, (json.loads(done.stdout) if done.stdout else None)


class Cluster(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bed = testbed.Testbed(["one", "two", "wide", "smi"]).__enter__()
        cls.addClassCleanup(cls.bed.__exit__)
        bed = cls.bed
        cls.roles = gpuwaste("rbac").stdout
        cls.addresses = [f"10.231.77.{i}" for i in range(2, 10)]
        idle, busy, exporter, store, *others = cls.addresses
        cls.pages = {f"{idle}:8000/metrics": page(0), f"{busy}:8000/metrics": [page(5000), page(5040)], f"{exporter}:9400/metrics": dcgm("busy-0"),
                     f"{busy}:8000/v1/models": json.dumps({"data": [{"id": "served", "root": "meta-llama/Llama-3.1-8B-Instruct", "parent": None, "max_model_len": 4096}]}),
                     **{f"{store}:9090/api/v1{path}": json.dumps({"status": "success", "data": data}) for path, data in
                        (("/label/__name__/values", ["nvidia_smi_utilization_gpu_ratio"]), ("/labels", ["uuid"]), ("/status/buildinfo", {"version": "3.5.0", "goVersion": "go1.24"}))}}
        cls.store = store
        replica = ("apps/v1", "ReplicaSet", "web-5d9c")
        bed.seed("one", namespaces("ml", "other", "gpu-operator") + [
            node("gpu-1"), node("gpu-2"), node("cpu-1", gpus=0, kind="m5.large"),
            pod("web-5d9c-aaaaa", "gpu-1", 2, owner=replica, labels={"pod-template-hash": "5d9c"}, ip=idle, args=("--model", "Qwen/Qwen2.5-7B-Instruct", "-tp", "2"), annotations={"note": "CANARY-ANNOTATION"}),
            {"kind": "Deployment", "metadata": {"name": "web", "namespace": "ml"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}},
            pod("busy-0", "gpu-1", 1, ns="other", owner=("apps/v1", "StatefulSet", "busy"), ip=busy, args=("--model", "x/y", "--api-key", "CANARY-ARG")),
            {"kind": "StatefulSet", "metadata": {"name": "busy", "namespace": "other"}, "spec": {"replicas": 1, "serviceName": "x", "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}},
            pod("sidecar", "gpu-2", 1, init=[{"name": "s", "image": "x", "restartPolicy": "Always", "resources": {"limits": {"nvidia.com/gpu": "1"}}}, {"name": "i", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "2"}}}]),
            pod("lws-0", "gpu-2", 2, owner=("leaderworkerset.x-k8s.io/v1", "StatefulSet", "lws"), labels={"leaderworkerset.sigs.k8s.io/name": "lws", "leaderworkerset.sigs.k8s.io/group-index": "0"}),
            pod("lws-0-1", "gpu-2", 2, owner=("apps/v1", "StatefulSet", "lws-0"), labels={"leaderworkerset.sigs.k8s.io/name": "lws", "leaderworkerset.sigs.k8s.io/group-index": "0"}),
            pod("waits", None, 16),
            pod("dcgm-x", "gpu-1", 0, ns="gpu-operator", image="nvcr.io/nvidia/k8s/dcgm-exporter:4.5.3-4.8.2", args=(), ip=exporter, port=9400, owner=("apps/v1", "DaemonSet", "dcgm")),
        ])
        bed.seed("two", namespaces("ml") + [node("b-1", 4, "g6e.12xlarge", pool="l40s")])
        bed.seed("wide", namespaces("ml") + [node(f"n-{i}", 8 if i < 2 else 0, "p5.48xlarge" if i < 2 else "m5.large") for i in range(40)]
                 + [pod(f"p-{i}", f"n-{i % 40}", 1 if i % 40 < 2 and i < 80 else 0) for i in range(1300)])
        cls.other_exporters(others)
        for name in ("one", "two", "wide", "smi"):
            bed.apply(name, cls.roles)
        cls.reader = bed.kubeconfig(["one"])
        cls.networked = testbed.can_make_networks()
        if cls.networked:
            bed.network(cls.addresses, cls.pages)
        elif os.environ.get("CI"):
            raise RuntimeError("CI must be able to make network namespaces (root, iproute2)")
        else:
            print("SKIPPED LOUDLY: no root or iproute2, so no pod answers and the pod proxy is not tested", file=sys.stderr)

    @classmethod
    def other_exporters(cls, addresses):
        """Nodes that nvidia_gpu_exporter and all-smi watch: a training job at work, and servers without a request for days on a hot and on a cool card."""
        smi, hot, cool, quiet = addresses
        raw = HERE.parent.parent / "fixtures/raw"
        cls.pages |= {f"{smi}:9835/metrics": (raw / "nvidia-gpu-exporter-1.prom").read_text(), f"{hot}:9090/metrics": all_smi(95, 300), f"{cool}:9090/metrics": all_smi(0, 33), f"{quiet}:8000/metrics": page(0)}
        watcher = lambda name, on, image, ip, port: pod(name, on, 0, ns="gpu-monitoring", image=image, args=("api", "--port", "9090") if port == 9090 else (), ip=ip, port=port, owner=("apps/v1", "DaemonSet", name[:-2]))
        cls.bed.seed("smi", namespaces("ml", "gpu-monitoring") + [
            node("s-1", 2, "on-premises"), node("s-2", 1, "g6e.xlarge", pool="l40s"), node("s-3", 1, "g6e.xlarge", pool="l40s"),
            pod("train", "s-1", 2, image="acme/megatron:1", args=("torchrun", "--nproc-per-node=2", "train.py")),
            pod("hot-0", "s-2", 1, owner=("apps/v1", "StatefulSet", "hot"), ip=quiet), pod("cool-0", "s-3", 1, owner=("apps/v1", "StatefulSet", "cool"), ip=quiet),
            watcher("nvidia-gpu-exporter-1", "s-1", "docker.io/utkuozdemir/nvidia_gpu_exporter:1.4.1", smi, 9835),
            watcher("all-smi-2", "s-2", "registry.example/tools/all-smi:0.26.2", hot, 9090), watcher("all-smi-3", "s-3", "registry.example/tools/all-smi:0.26.2", cool, 9090),
        ])

    def test_a_scan_passes_with_nothing_but_what_rbac_grants(self):
        done, report = scan(self.reader, "--no-scrape", "--prometheus", "none")
        self.assertEqual(done.returncode, 0, done.stderr)
        # Served by this API server but for metrics.k8s.io and LeaderWorkerSets, which nobody installed.
        self.assertEqual({re.sub(r" .*", "", g["what"]) for g in report["gaps"]} - {"metrics.k8s.io"}, set(), report["gaps"])
        t = report["totals"]
        self.assertEqual((t["nodes"], t["gpus"]), (2, 16))
        self.assertAlmostEqual(t["spend_usd_per_hour"], 2 * 55.04)
        self.assertEqual(t["gpus_free"] + t["gpus_working"] + t["gpus_idle"] + t["gpus_stuck"] + t["gpus_unhealthy"] + t["gpus_unknown"], 16)
        # 2 (web) + 1 (busy) held on gpu-1; 3 (sidecar rule) + 4 (lws) on gpu-2.
        self.assertEqual(t["gpus_free"], 16 - 3 - 7)
        self.assertAlmostEqual(t["waste_usd_per_hour"], 6 * 55.04 / 8, places=5)

    def test_owners_are_climbed_to_the_top(self):
        _, report = scan(self.reader, "--no-scrape")
        rows = {w["name"]: w for w in report["workloads"]}
        self.assertEqual((rows["web"]["kind"], rows["web"]["engine"], rows["web"]["model"]), ("Deployment", "vllm", "Qwen/Qwen2.5-7B-Instruct"))
        self.assertEqual((rows["lws"]["kind"], rows["lws"]["replicas"], rows["lws"]["gpus_per_replica"]), ("LeaderWorkerSet", 1, 4))
        self.assertEqual(rows["busy"]["kind"], "StatefulSet")
        self.assertEqual(rows["sidecar"]["gpus_per_replica"], 3)

    def until(self, done):
        # The authorizer hears of a changed role a moment later.
        for _ in range(50):
            if done():
                return
            time.sleep(0.1)
        self.fail("the API server did not take the change")

    def test_namespaced_rights_see_their_namespace_and_call_nothing_free(self):
        roles = gpuwaste("rbac", "--namespace", "ml").stdout.replace("name: gpuwaste\n", "name: gpuwaste-ns\n")
        roles = roles.replace("kind: ServiceAccount\n  name: gpuwaste-ns\n  namespace: gpuwaste\n", "kind: User\n  name: nobody\n  apiGroup: rbac.authorization.k8s.io\n")
        self.bed.apply("one", roles)
        config = self.bed.kubeconfig(["one"], "nobody-token")
        done, report = scan(config, "--no-scrape", "-n", "ml")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("web", {w["name"] for w in report["workloads"]})
        self.assertNotIn("busy", {w["name"] for w in report["workloads"]})
        self.assertIsNone(report["totals"]["waste_usd_per_hour"])
        done, _ = scan(config, "--no-scrape", "-n", "ml", "--max-waste", "0")
        self.assertEqual(done.returncode, 3)

    def test_a_store_is_looked_for_in_the_namespaces_that_may_be_read(self):
        """Services of the cluster may not be listed: those of `-n` and of monitoring namespaces are, and the way out is told."""
        nobody = lambda text: text.replace("kind: ServiceAccount\n  name: gpuwaste\n  namespace: gpuwaste\n", "kind: User\n  name: nobody\n  apiGroup: rbac.authorization.k8s.io\n")
        self.bed.apply("one", nobody(gpuwaste("rbac", "--namespace", "ml").stdout))
        config = self.bed.kubeconfig(["one"], "nobody-token")
        history = lambda: next(g for g in scan(config, "--no-scrape", "-n", "ml")[1]["gaps"] if g["what"] == "the window's history")
        self.until(lambda: scan(config, "--no-scrape", "-n", "ml")[0].returncode == 0)
        gap = history()
        self.assertIn("labels of Prometheus, Thanos, VictoriaMetrics or Mimir in ml;", gap["reason"])
        self.assertIn("403 Forbidden on services of all namespaces and of monitoring, ", gap["reason"])
        self.assertIn("--prometheus URL", gap["remedy"])
        # A store that nobody labelled in -n is none; one in a monitoring namespace is found as soon as it may be listed.
        self.bed.seed("one", namespaces("monitoring"))
        ports = [{"name": "http-web", "port": 9090, "protocol": "TCP"}]
        # The API server proxies only to addresses that are a pod's own.
        prom = pod("prom-0", "elsewhere", 0, ns="monitoring", image="prom/prometheus:v3.5.0", args=(), ip=self.store, port=9090)
        prom["status"]["podIPs"] = [{"ip": self.store}]
        self.bed.seed("one", [prom])
        target = {"addresses": [self.store], "conditions": {"ready": True}, "targetRef": {"kind": "Pod", "namespace": "monitoring", "name": "prom-0"}}
        for group, kind, body in (("api/v1", "services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "prom", "labels": {"app": "kube-prometheus-stack-prometheus"}}, "spec": {"ports": [{**ports[0], "targetPort": 9090}]}}),
                                  ("apis/discovery.k8s.io/v1", "endpointslices", {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "prom-1", "labels": {"kubernetes.io/service-name": "prom"}}, "addressType": "IPv4", "endpoints": [target], "ports": ports}),
                                  ("api/v1", "endpoints", {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "prom"}, "subsets": [{"addresses": [{"ip": self.store, "targetRef": target["targetRef"]}], "ports": ports}]})):
            code, text = self.bed.request("one", "POST", f"/{group}/namespaces/monitoring/{kind}", body)
            self.assertEqual(code, 201, text)
        role = ("apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata:\n  name: find\n  namespace: monitoring\nrules:\n- apiGroups: [\"\"]\n  resources: [\"services\"]\n  verbs: [\"list\"]\n---\n"
                "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata:\n  name: find\n  namespace: monitoring\nroleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: Role\n  name: find\nsubjects:\n- kind: User\n  name: nobody\n  apiGroup: rbac.authorization.k8s.io\n")
        self.bed.apply("one", role)
        self.until(lambda: "monitoring/prom:9090" in history()["source"])
        gap = history()
        self.assertIn("services/proxy", gap["reason"])
        for way in ("gpuwaste rbac --with prometheus=monitoring/prom:9090", "kubectl port-forward -n monitoring svc/prom", "--prometheus http://127.0.0.1:"):
            self.assertIn(way, gap["remedy"])
        if not self.networked:
            return
        self.bed.apply("one", nobody(gpuwaste("rbac", "--namespace", "ml", "--with", "prometheus=monitoring/prom:9090").stdout))
        self.until(lambda: "services/proxy" not in history()["reason"])
        # It answers, and holds series of an exporter that keeps no holders and no SMs: said by its name.
        self.assertIn("nvidia_gpu_exporter", history()["reason"])

    def test_exporters_that_ask_nvidia_smi(self):
        if not self.networked:
            self.skipTest("no network namespaces (said loudly above)")
        self.bed.apply("smi", gpuwaste("rbac", "--with", "scrape").stdout)
        config = self.bed.kubeconfig(["smi"])
        refused = lambda: any("pods/proxy" in g["reason"] for g in scan(config, "--observe", "0", "--prometheus", "none")[1]["gaps"])
        self.until(lambda: not refused())
        done, report = scan(config, "--observe", "0", "--prometheus", "none")
        self.assertEqual(done.returncode, 0, done.stderr)
        source = next(s for s in report["sources"] if s["kind"] == "exporter")
        self.assertEqual((source["status"], source["detail"]), ("ok", "3 of 3 pods answered"))
        states = {w["name"]: w["state"] for w in report["workloads"]}
        self.assertEqual(states["train"], "working", "a kernel ran on one of its cards")
        # No request in three days: idle where the card is cool, unknown where it draws what no idle card draws.
        self.assertEqual((states["cool"], states["hot"]), ("idle", "unknown"), report["workloads"])
        self.assertEqual([f["subject"]["name"] for f in report["findings"] if f["part"] == "idle"], ["cool"])
        _, alone = scan(config, "--no-scrape", "--prometheus", "none")
        self.assertNotIn("working", {w["state"] for w in alone["workloads"]}, "it was the exporter that told")
        doctor = gpuwaste("doctor", "--observe", "0", "--prometheus", "none", config=config)
        self.assertIn("nvidia_gpu_exporter (nvidia-smi), 2 devices: GPU_UTIL, memory, power\n", doctor.stdout)
        self.assertIn("all-smi, 2 devices: GPU_UTIL, memory, power\n", doctor.stdout)

    def test_pages_of_500_and_the_cost_of_few_gpu_nodes(self):
        config = self.bed.kubeconfig(["wide"])
        done, report = scan(config, "--no-scrape")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((report["totals"]["nodes"], report["totals"]["gpus"]), (2, 16))
        self.assertEqual(report["totals"]["gpus_allocated"], 4)

    def test_several_contexts_and_one_that_fails(self):
        both = self.bed.kubeconfig(["one", "two"])
        _, report = scan(both, "--no-scrape", "--all-contexts")
        self.assertEqual({n["cluster"] for n in report["nodes"]}, {"one", "two"})
        broken = json.loads(both.read_text())
        broken["clusters"][1]["cluster"]["server"] = f"https://127.0.0.1:{testbed.free_port()}"
        path = self.bed.dir / "half"
        path.write_text(json.dumps(broken))
        done, report = scan(path, "--no-scrape", "--all-contexts")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(any(g["source"] == "kubernetes two" for g in report["gaps"]))
        done, _ = scan(path, "--no-scrape", "--context", "one", "--context", "two")
        self.assertEqual(done.returncode, 3, "a named context that fails")

    def test_gpus_that_the_server_does_not_use(self):
        self.bed.seed("two", [pod("wide-open", "b-1", 4, args=("--model", "x/y", "--tensor-parallel-size", "2"))])
        _, report = scan(self.bed.kubeconfig(["two"]), "--no-scrape")
        finding = next(f for f in report["findings"] if f["check"] == "parallelism-mismatch")
        self.assertAlmostEqual(finding["waste_usd_per_hour"], 10.49264 / 2, places=5)

    def refused(self, config, *words, args=(), env=None):
        begun = time.time()
        done = gpuwaste("scan", "--no-scrape", *args, config=config, env=env)
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
        return time.time() - begun

    def test_what_cannot_be_read_says_why_and_what_to_do(self):
        good = json.loads(self.reader.read_text())

        def variant(name, change):
            config = json.loads(json.dumps(good))
            change(config)
            path = self.bed.dir / f"variant-{name}"
            path.write_text(json.dumps(config))
            return path

        self.refused(self.reader, "no context 'nope'", "one", args=("--context", "nope"))
        self.refused(self.bed.dir / "missing-file", "could not read the kubeconfig")
        self.refused(variant("401", lambda c: c["users"][0]["user"].update(token="expired")), "401", "log in")
        self.refused(variant("ca", lambda c: c["clusters"][0]["cluster"].pop("certificate-authority-data")), "TLS", "certificate-authority-data")
        self.refused(variant("name", lambda c: c["clusters"][0]["cluster"].update({"tls-server-name": "elsewhere"})), "TLS", "tls-server-name")
        self.refused(variant("port", lambda c: c["clusters"][0]["cluster"].update(server=f"https://127.0.0.1:{testbed.free_port()}")), "no connection")
        took = self.refused(variant("gone", lambda c: c["clusters"][0]["cluster"].update(server="https://127.0.0.1:1")), "127.0.0.1" if False else "connection")
        self.assertLess(took, 6)
        plugin = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin-xyz", "installHint": "install it with: brew install xyz", "interactiveMode": "Never"}}
        self.refused(variant("plugin", lambda c: c["users"][0].update(user=plugin)), "no-such-plugin-xyz", "brew install xyz")
        done, _ = scan(variant("sni", lambda c: c["clusters"][0]["cluster"].update({"tls-server-name": "kubernetes"})), "--no-scrape")
        self.assertEqual(done.returncode, 0, done.stderr)
        half = self.bed.dir / "list"
        half.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []}))
        done = gpuwaste("scan", "--no-scrape", "--format", "json", env={"KUBECONFIG": f"{half}:{self.reader}"})
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_no_secret_reaches_any_output(self):
        snapshot = self.bed.dir / "snapshot.json"
        collected = gpuwaste("collect", "--no-scrape", "-o", str(snapshot), config=self.reader)
        self.assertEqual(collected.returncode, 0, collected.stderr)
        texts = [snapshot.read_text(), collected.stderr]
        for form in ("table", "json", "csv", "markdown", "prometheus"):
            done = gpuwaste("scan", "--snapshot", str(snapshot), "--format", form)
            self.assertEqual(done.returncode, 0, done.stderr)
            texts += [done.stdout, done.stderr]
        for text in texts:
            self.assertNotIn("CANARY", text)
        self.assertIn("Qwen/Qwen2.5-7B-Instruct", texts[0])

    def test_dry_run_reads_nothing(self):
        done = gpuwaste("scan", "--dry-run", config=self.bed.dir / "missing-file")
        self.assertEqual(done.returncode, 0)
        self.assertIn("GET /api/v1/pods?limit=500", done.stdout)
        self.assertNotRegex(done.stdout, r"secrets|/exec|/log\b|nodes/.*proxy|portforward")

    def test_servers_say_what_really_happened(self):
        if not self.networked:
            self.skipTest("no network namespaces (said loudly above)")
        _, refused = scan(self.reader, "--observe", "0")
        self.assertTrue(any("pods/proxy" in g["reason"] for g in refused["gaps"]), refused["gaps"])
        self.assertEqual(refused["totals"]["gpus_idle"], 0, "a refused scrape is never idleness")
        self.bed.apply("one", gpuwaste("rbac", "--with", "scrape").stdout)
        self.until(lambda: not any("pods/proxy" in g["reason"] for g in scan(self.reader, "--observe", "0")[1]["gaps"]))
        _, report = scan(self.reader, "--observe", "1s")
        self.assertEqual(report["totals"]["gpus_idle"], 2)
        idle = next(f for f in report["findings"] if f["part"] == "idle")
        self.assertEqual((idle["subject"]["name"], idle["confidence"]), ("web", "measured"))
        self.assertAlmostEqual(idle["waste_usd_per_hour"], 2 * 55.04 / 8)
        self.assertTrue(all(c["gpu"].startswith(("GPU-", "slot-")) for c in idle["claims"]))
        busy = next(w for w in report["workloads"] if w["name"] == "busy")
        self.assertEqual((busy["state"], busy["model"], busy["max_model_len"]), ("working", "meta-llama/Llama-3.1-8B-Instruct", 4096))
        self.assertEqual(next(w for w in report["workloads"] if w["name"] == "web")["state"], "idle")


class Expiring(unittest.TestCase):
    """A continue token that expires in mid-list: the list begins anew."""

    def test_a_list_begins_anew_after_410(self):
        asked, empty = [], fake.World()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                code, body, _ = empty.answer(self.path)
                body = json.loads(body) if body.startswith(b"{") else {}
                if self.path.startswith("/api/v1/nodes"):
                    nodes = {"kind": "NodeList", "apiVersion": "v1"}
                    if "continue=" not in self.path:
                        body = {**nodes, "metadata": {"continue": "t"}, "items": [node("gpu-1")]}
                    elif sum("nodes" in p and "continue" in p for p in asked) == 1:
                        code, body = 410, {"kind": "Status", "reason": "Expired", "message": "too old"}
                    else:
                        body = {**nodes, "metadata": {}, "items": [node("gpu-2")]}
                elif self.path.startswith("/api/v1/pods") and not any(p.startswith("/api/v1/pods") for p in asked[:-1]):
                    code, body = 429, {"kind": "Status", "reason": "TooManyRequests"}
                text = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                if code == 429:
                    self.send_header("Retry-After", "1")
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "config"
            path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                                        "users": [{"name": "u", "user": {"token": "t"}}], "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}))
            done, report = scan(path, "--no-scrape")
        server.shutdown()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((report["totals"]["nodes"], report["totals"]["gpus"]), (2, 16), "no node twice, none lost")
        self.assertEqual(sum(p.startswith("/api/v1/pods") for p in asked), 2, "429 is tried again")


def page(requests):
    l = 'engine="0",model_name="served"'
    return (f"process_start_time_seconds {NOW - 3 * DAY}\nvllm:num_requests_running{{{l}}} {1 if requests else 0}\nvllm:num_requests_waiting{{{l}}} 0\nvllm:kv_cache_usage_perc{{{l}}} 0.1\n"
            f"vllm:prompt_tokens_total{{{l}}} {requests * 100}\nvllm:generation_tokens_total{{{l}}} {requests * 50}\n"
            f'vllm:request_success_total{{{l},finished_reason="stop"}} {requests}\nvllm:cache_config_info{{block_size="16",num_gpu_blocks="20000",engine="0"}} 1\n')


def all_smi(utilization, watts):
    labels = 'gpu="NVIDIA L40S", instance="h", gpu_uuid="GPU-a", gpu_index="0"'
    figures = {"utilization": utilization, "power_consumption_watts": watts, "memory_used_bytes": 4e10, "memory_total_bytes": 48305799168}
    return "".join(f"all_smi_gpu_{name}{{{labels}}} {value}\n" for name, value in figures.items())


def dcgm(holder):
    rows = []
    for i in range(8):
        owner = f',pod="{holder}",namespace="other",container="server"' if i == 5 else ""
        rows.append(f'DCGM_FI_DEV_GPU_UTIL{{gpu="{i}",UUID="GPU-{i}",modelName="NVIDIA H100 80GB HBM3",Hostname="x"{owner}}} {90 if i == 5 else 0}')
        rows.append(f'DCGM_FI_DEV_POWER_USAGE{{gpu="{i}",UUID="GPU-{i}"{owner}}} {500 if i == 5 else 70}')
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    unittest.main(verbosity=1)
