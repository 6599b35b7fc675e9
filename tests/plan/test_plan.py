#!/usr/bin/env python3
"""A plan, carried out: its commands are run as printed, against the real API server, scheduler and controllers (Deployments,
ReplicaSets, StatefulSets, disruption budgets). Only the kubelets are a stand-in: they make bound pods Ready and let deleted ones go.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/plan/test_plan.py
"""
import calendar, json, os, pathlib, re, subprocess, sys, threading, time, unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "testbed"))
import testbed
from testbed import stamp

BINARY = os.environ.get("GPUWASTE", "target/debug/gpuwaste")
NOW = time.time()
DAY = 86400
NS = "ml"


def node(name, zone=None, small=False):
    """Eight H100s; `small`: two cards of a smaller tier."""
    labels = {"node.kubernetes.io/instance-type": "p5.48xlarge", "topology.kubernetes.io/region": "us-east-1", "karpenter.sh/capacity-type": "on-demand",
              "karpenter.sh/nodepool": "h100", "kubernetes.io/hostname": name, "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    amounts = {"cpu": "192", "memory": "2000Gi", "pods": "110", "nvidia.com/gpu": "8"}
    if small:
        labels |= {"node.kubernetes.io/instance-type": "g7e.12xlarge", "karpenter.sh/nodepool": "g7e", "nvidia.com/gpu.product": "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition"}
        amounts |= {"cpu": "48", "memory": "500Gi", "nvidia.com/gpu": "2"}
    if zone:
        labels["topology.kubernetes.io/zone"] = zone
    return {"kind": "Node", "metadata": {"name": name, "creationTimestamp": stamp(NOW - 30 * DAY), "labels": labels},
            "spec": {"providerID": f"aws:///x/i-{name}", "taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]},
            "status": {"capacity": amounts, "allocatable": amounts, "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp(NOW - 30 * DAY)}]}}


def template(name, gpus, apart=False, more=None):
    resources = {"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"nvidia.com/gpu": str(gpus)} if gpus else {}}
    spec = {"containers": [{"name": "server", "image": "vllm/vllm-openai:v0.11.0", "args": ["--model", "Qwen/Qwen2.5-7B-Instruct"], "resources": resources}],
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}], "terminationGracePeriodSeconds": 1}
    if apart:
        term = {"labelSelector": {"matchLabels": {"app": name}}, "topologyKey": "kubernetes.io/hostname"}
        spec["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    spec |= more or {}
    return {"metadata": {"labels": {"app": name}}, "spec": spec}


def moved(value, by):
    """The same facts, so many seconds later."""
    if isinstance(value, dict):
        return {k: moved(v, by) for k, v in value.items()}
    if isinstance(value, list):
        return [moved(v, by) for v in value]
    if isinstance(value, str) and re.fullmatch(r"20\d\d-\d\d-\d\dT[0-9:.]+Z", value):
        return stamp(seconds(value) + by)
    return value


def seconds(text):
    return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))


class Kubelets(threading.Thread):
    """Makes bound pods Ready, lets deleted ones go, and looks at every moment whether what must hold does."""

    def __init__(self, bed):
        super().__init__(daemon=True)
        self.bed, self.ending, self.broken, self.least, self.looks = bed, threading.Event(), [], {}, 0

    def pods(self):
        code, text = self.bed.request("test", "GET", f"/api/v1/namespaces/{NS}/pods")
        return json.loads(text)["items"] if code == 200 else []

    def run(self):
        while not self.ending.wait(0.1):
            try:
                self.turn()
            except OSError:
                continue

    def turn(self):
        pods = self.pods()
        ready = {}
        for pod in pods:
            meta, path = pod["metadata"], f"/api/v1/namespaces/{NS}/pods/{pod['metadata']['name']}"
            is_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
            if meta.get("deletionTimestamp"):
                self.bed.request("test", "DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0})
            elif pod["spec"].get("nodeName") and not is_ready:
                now = stamp(time.time())
                status = {"phase": "Running", "startTime": now, "conditions": [{"type": k, "status": "True", "lastTransitionTime": now} for k in ("Initialized", "Ready", "ContainersReady")],
                          "containerStatuses": [{"name": "server", "image": "", "imageID": "", "ready": True, "restartCount": 0, "state": {"running": {"startedAt": now}}}]}
                self.bed.request("test", "PATCH", path + "/status", {"status": status}, kind="application/strategic-merge-patch+json")
            if is_ready and not meta.get("deletionTimestamp"):
                app = meta["labels"]["app"]
                ready[app] = ready.get(app, 0) + 1
        self.looks += 1
        for app, least in self.least.items():
            if ready.get(app, 0) < least:
                self.broken.append(f"{ready.get(app, 0)} of {app} are Ready, {least} must be")


class Plan(unittest.TestCase):
    def setUp(self):
        self.bed = testbed.Testbed().__enter__()
        self.addCleanup(self.bed.__exit__)
        self.bed.seed("test", [{"kind": "Namespace", "metadata": {"name": n}, "status": {"phase": "Active"}} for n in (NS, "default")])
        self.bed.seed("test", self.world())
        self.bed.apply("test", subprocess.run([BINARY, "rbac"], check=True, capture_output=True, text=True).stdout)
        self.admin = self.bed.kubeconfig(["test"], "admin-token", name="admin")
        self.bed.schedule("test")
        controllers = "deployment-controller,replicaset-controller,statefulset-controller,disruption-controller"
        self.bed.spawn("controllers", self.bed.bin / "kube-controller-manager", f"--kubeconfig={self.admin}", f"--controllers={controllers}", "--leader-elect=false",
                       "--bind-address=127.0.0.1", f"--secure-port={testbed.free_port()}", f"--cert-dir={self.bed.dir}/controllers-certs")
        self.kubelets = Kubelets(self.bed)
        self.kubelets.start()
        self.addCleanup(self.kubelets.ending.set)

    # --- the world -----------------------------------------------------------------------------------------------------

    def ask(self, method, path, body=None, kind="application/json"):
        code, text = self.bed.request("test", method, path, body, kind=kind)
        self.assertIn(code, (200, 201), f"{method} {path}: {text[:600]}")
        return json.loads(text)

    def until(self, what, true, seconds=60):
        end = time.time() + seconds
        while time.time() < end:
            if true():
                return
            time.sleep(0.1)
        logs = "".join((self.bed.dir / f"{n}.log").read_text()[-1500:] for n in ("controllers", "scheduler-test"))
        self.fail(f"{what}: not after {seconds} s\n{[(p['metadata']['name'], p['spec'].get('nodeName'), p['status'].get('phase')) for p in self.kubelets.pods()]}\n{logs}")

    def ready(self, app):
        return [p for p in self.kubelets.pods() if p["metadata"]["labels"]["app"] == app and not p["metadata"].get("deletionTimestamp")
                and any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions", []))]

    def workload(self, kind, name, gpus, on, apart=False, least=None, more=None):
        """Replicas on these nodes, in this order; `least`: its disruption budget's minAvailable."""
        spec = {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template(name, gpus, apart, more)}
        if kind == "statefulsets":
            spec["serviceName"] = name
        place = f"/apis/apps/v1/namespaces/{NS}/{kind}"
        self.ask("POST", place, {"apiVersion": "apps/v1", "kind": {"deployments": "Deployment", "statefulsets": "StatefulSet"}[kind], "metadata": {"name": name}, "spec": spec})
        for i, where in enumerate(on):
            self.cordon({n for n in self.nodes() if n != where})
            self.ask("PATCH", f"{place}/{name}/scale", {"spec": {"replicas": i + 1}}, kind="application/merge-patch+json")
            self.until(f"{name} on {where}", lambda: len(self.ready(name)) == i + 1)
        self.cordon(set())
        self.assertEqual(sorted(p["spec"]["nodeName"] for p in self.ready(name)), sorted(on))
        if least is not None:
            budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": name}}}}
            self.ask("POST", f"/apis/policy/v1/namespaces/{NS}/poddisruptionbudgets", budget)
            status = lambda: self.ask("GET", f"/apis/policy/v1/namespaces/{NS}/poddisruptionbudgets/{name}").get("status", {})
            self.until(f"budget of {name}", lambda: status().get("currentHealthy") == len(on))
            self.kubelets.least[name] = least

    def nodes(self):
        return {n["metadata"]["name"]: n for n in self.ask("GET", "/api/v1/nodes")["items"]}

    def cordon(self, names):
        for name, seen in self.nodes().items():
            if bool(seen["spec"].get("unschedulable")) != (name in names):
                self.ask("PATCH", f"/api/v1/nodes/{name}", {"spec": {"unschedulable": True if name in names else None}}, kind="application/merge-patch+json")

    # --- the plan ------------------------------------------------------------------------------------------------------

    def gpuwaste(self, command, *args):
        done = subprocess.run([BINARY, command, "--kubeconfig", str(self.bed.kubeconfig()), "--no-scrape", "--prometheus", "none", "-q", "--format", "json", *args],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def carry_out(self, plan):
        """Each step's commands, one by one, as they are printed."""
        env = {**os.environ, "KUBECONFIG": str(self.admin), "PATH": f"{self.bed.bin}:{os.environ['PATH']}", "HOME": str(self.bed.dir)}
        price = {n["name"]: n["usd_per_hour"] for n in plan["nodes"]}
        pending = lambda: {p["metadata"]["name"] for p in self.kubelets.pods() if not p["spec"].get("nodeName")}
        waited = pending()
        for step in plan["steps"]:
            before = {p["metadata"]["name"] for p in self.kubelets.pods()}
            for command in step["commands"]:
                done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=env, timeout=90)
                self.assertEqual(done.returncode, 0, f"{command}\n{done.stdout}{done.stderr}")
            # What is paid for is what is there.
            self.assertAlmostEqual(step["bill_after_usd_per_hour"], sum(price[n] for n in self.nodes()), places=5)
            if step["kind"] == "move":
                app = step["workload"].split("/")[1]
                new = [p for p in self.ready(app) if p["metadata"]["name"] not in before or p["metadata"]["name"] == step["pod"].split("/")[1]]
                self.assertEqual([p["spec"]["nodeName"] for p in new], [step["to"]], step["what"])
            self.assertLessEqual(pending(), waited, f"after step {step['number']} somebody waits who did not")

    def test_whole_nodes_empty_and_nobody_is_hurt(self):
        self.workload("deployments", "chat", 2, ["n1", "n2"], apart=True, least=1)
        self.workload("statefulsets", "web", 2, ["n1", "n3"], least=1)
        self.workload("deployments", "solo", 1, ["n3"], least=1)
        self.workload("deployments", "batch", 3, ["n4"])
        self.workload("deployments", "router", 0, ["n1", "n3"], least=1)
        # One replica more is raised before the old one goes: there are never fewer.
        self.kubelets.least |= {"chat": 2, "solo": 1, "batch": 1}
        plan = self.gpuwaste("plan")
        totals = plan["totals"]
        price = plan["nodes"][0]["usd_per_hour"]
        # 12 GPUs need two nodes of 8, and the replicas of chat need one each.
        self.assertEqual(totals["nodes_returned"], 2, json.dumps(plan["stays"], indent=1))
        self.assertAlmostEqual(totals["saved_usd_per_hour"], 2 * price, places=5)
        self.assertAlmostEqual(totals["at_most_usd_per_hour"], 2 * price, places=5)
        report = self.gpuwaste("scan")
        self.assertEqual(report["plan"], {"moves": totals["moves"], "usd_per_hour": totals["saved_usd_per_hour"]})
        self.carry_out(plan)
        gone = {n["name"] for n in plan["nodes"] if n["returned"]}
        self.assertEqual(set(self.nodes()), {"n1", "n2", "n3", "n4"} - gone)
        self.assertFalse([n for n, seen in self.nodes().items() if seen["spec"].get("unschedulable")], "nothing stays cordoned")
        count = {app: len(self.ready(app)) for app in ("chat", "web", "solo", "batch", "router")}
        self.assertEqual(count, {"chat": 2, "web": 2, "solo": 1, "batch": 1, "router": 2})
        self.assertEqual(len({p["spec"]["nodeName"] for p in self.ready("chat")}), 2)
        self.assertGreater(self.kubelets.looks, 20)
        self.assertEqual(self.kubelets.broken, [])
        after = self.gpuwaste("scan")
        self.assertAlmostEqual(after["totals"]["spend_usd_per_hour"], totals["spend_after_usd_per_hour"], places=5)
        again = self.gpuwaste("plan")["totals"]
        self.assertEqual((again["saved_usd_per_hour"], again["moves"]), (0, 0))

    def test_who_waits_gets_the_node_first(self):
        self.workload("deployments", "small", 2, ["n1", "n2", "n3", "n4"])
        self.ask("POST", f"/apis/apps/v1/namespaces/{NS}/deployments", {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "large"},
                 "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "large"}}, "template": template("large", 8)}})
        waiting = lambda: [c for p in self.kubelets.pods() if p["metadata"]["labels"]["app"] == "large" for c in p["status"].get("conditions", []) if c.get("reason") == "Unschedulable"]
        self.until("the large pod waits", waiting)
        self.kubelets.least["small"] = 4
        plan = self.gpuwaste("plan")
        # Four pods of two GPUs fill one node; one of the three others is for who waits.
        self.assertEqual(plan["totals"]["nodes_returned"], 2, json.dumps(plan["stays"], indent=1))
        self.assertEqual(len([w for w in plan["waiting"] if w["node"]]), 1)
        self.carry_out(plan)
        self.until("the large pod runs", lambda: len(self.ready("large")) == 1)
        self.assertEqual(len(self.nodes()), 2)
        self.assertEqual(self.kubelets.broken, [])


    def world(self):
        """The nodes of each test."""
        if "zones" in self._testMethodName:
            return [node(n, zone) for n, zone in (("n1", "a"), ("n2", "a"), ("n3", "b"), ("n4", "c"))]
        if "tier" in self._testMethodName:
            return [node("n1"), node("n2"), node("small", small=True)]
        return [node(f"n{i}") for i in range(1, 5)]

    def test_pods_that_are_spread_over_zones_move_within_them(self):
        spread = [{"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1, "minDomains": 3, "whenUnsatisfiable": "DoNotSchedule",
                   "labelSelector": {"matchLabels": {"app": "wide"}}, "matchLabelKeys": ["pod-template-hash"]}]
        self.workload("deployments", "wide", 2, ["n1", "n3", "n4"], more={"topologySpreadConstraints": spread})
        self.workload("deployments", "here", 4, ["n2"])
        # There is room for all of them in one zone, and two zones would have none then.
        self.kubelets.least |= {"wide": 3, "here": 1}
        plan = self.gpuwaste("plan")
        self.assertEqual(plan["totals"]["nodes_returned"], 1, json.dumps(plan, indent=1))
        self.assertEqual([(s["workload"], s["from"], s["to"]) for s in plan["steps"] if s["kind"] == "move"], [(f"Deployment {NS}/wide", "n1", "n2")], json.dumps([plan["stays"], plan["pinned"]], indent=1))
        self.carry_out(plan)
        zones = {n: seen["metadata"]["labels"]["topology.kubernetes.io/zone"] for n, seen in self.nodes().items()}
        self.assertEqual(sorted(zones.values()), ["a", "b", "c"])
        self.assertEqual(sorted(zones[p["spec"]["nodeName"]] for p in self.ready("wide")), ["a", "b", "c"])
        self.assertEqual(self.kubelets.broken, [])
        self.assertEqual(self.gpuwaste("plan")["totals"]["saved_usd_per_hour"], 0)
        # One of them on a node without GPUs, which no snapshot holds, and in a zone of its own.
        plain = node("plain", "d")
        plain["status"] |= {part: {"cpu": "8", "memory": "32Gi", "pods": "110"} for part in ("capacity", "allocatable")}
        plain["metadata"]["labels"] = {"topology.kubernetes.io/zone": "d", "kubernetes.io/hostname": "plain"}
        stray = template("wide", 0) | {"kind": "Pod"}
        stray["metadata"] = {"name": "stray", "namespace": NS, "labels": self.ready("wide")[0]["metadata"]["labels"],
                             "ownerReferences": [{"apiVersion": "example.com/v1", "kind": "Other", "name": "o", "uid": "o", "controller": True}]}
        stray["spec"]["nodeName"] = "plain"
        path = self.bed.dir / "seen.json"
        def collected():
            subprocess.run([BINARY, "collect", "--kubeconfig", str(self.bed.kubeconfig()), "--no-scrape", "--prometheus", "none", "-q", "-o", path], check=True, timeout=60)
            seen = json.loads(path.read_text())["clusters"][0]
            return [s.get("elsewhere") for s in seen["selections"]], seen["other_domains"]
        self.assertEqual(collected(), ([False], {}))
        self.bed.seed("test", [plain, stray | {"status": {"phase": "Running"}}])
        self.assertEqual(collected(), ([True], {"topology.kubernetes.io/zone": ["d"]}))
        self.assertEqual([p["pods"] for p in self.gpuwaste("plan")["pinned"]], [3])

    def test_a_workload_goes_to_a_smaller_tier_and_back(self):
        server = {"name": "server", "image": "vllm/vllm-openai:v0.11.0", "args": ["--model", "openai/gpt-oss-120b", "--tensor-parallel-size", "2", "--max-model-len", "65536"],
                  "ports": [{"name": "http", "containerPort": 8000}], "resources": {"requests": {"cpu": "32", "memory": "200Gi"}, "limits": {"nvidia.com/gpu": "2"}}}
        self.workload("deployments", "gpt-oss-120b", 2, ["n1"], more={"containers": [server]})
        self.workload("deployments", "large", 7, ["n2"])
        self.kubelets.least |= {"gpt-oss-120b": 1, "large": 1}
        # Its load is the demo's: the same model on the same cards, with the same settings.
        live, demo = self.bed.dir / "live.json", self.bed.dir / "demo.json"
        subprocess.run([BINARY, "collect", "--kubeconfig", str(self.bed.kubeconfig()), "--no-scrape", "--prometheus", "none", "-q", "-o", live], check=True, timeout=60)
        subprocess.run([BINARY, "collect", "--demo", "-q", "-o", demo], check=True, timeout=60)
        seen, told = json.loads(live.read_text()), json.loads(demo.read_text())
        later = seconds(seen["taken_at"]) - seconds(told["taken_at"])
        mine, theirs = seen["clusters"][0], next(c for c in told["clusters"] if c["name"] == "prod-aws-us-east-1")
        pod = next(p for p in mine["pods"] if p["name"].startswith("gpt-oss-120b"))
        old = next(p for p in theirs["pods"] if p["name"].startswith("gpt-oss-120b"))
        since = moved({k: old[k] for k in ("created_at", "started_at", "ready", "scheduled")}, later)
        pod |= since
        pod["containers"][0]["state"] = moved(old["containers"][0]["state"], later)
        for owner in mine["controllers"]:
            owner["created_at"] = since["created_at"]
        names = lambda text: text.replace(old["name"], pod["name"]).replace(old["uid"], pod["uid"]).replace('"agents"', f'"{NS}"')
        about = lambda entries: [json.loads(names(json.dumps(e))) for e in entries if "gpt-oss-120b" in json.dumps(e) and "GPU-" not in json.dumps(e)]
        mine["engines"] = moved(about(theirs["engines"]), later)
        history = theirs["history"]
        mine["history"] = moved(history | {"gpus": [], "nodes": [], "usage": [], "pods": about(history["pods"]), "workloads": about(history["workloads"])}, later)
        live.write_text(json.dumps(seen))
        run = lambda *args: json.loads(subprocess.run([BINARY, "plan", "--snapshot", str(live), "-q", "--format", "json", *args], check=True, capture_output=True, text=True).stdout)
        self.assertEqual([s for s in run()["steps"] if s["kind"] == "tier"], [])
        plan = run("--allow", "tier")
        steps = [s for s in plan["steps"] if s["kind"] == "tier"]
        self.assertEqual([s["nodes"] for s in steps], [["small"]], json.dumps(plan, indent=1))
        self.assertEqual([n["name"] for n in plan["nodes"] if n["returned"]], ["n1"])
        self.carry_out(plan)
        self.assertEqual(set(self.nodes()), {"n2", "small"})
        new = self.ready("gpt-oss-120b")
        self.assertEqual([p["spec"]["nodeName"] for p in new], ["small"])
        self.assertEqual(self.kubelets.broken, [])
        # The way back, to a node that is there again.
        self.bed.seed("test", [node("n1")])
        env = {**os.environ, "KUBECONFIG": str(self.admin), "PATH": f"{self.bed.bin}:{os.environ['PATH']}", "HOME": str(self.bed.dir)}
        for command in steps[0]["undo"]:
            subprocess.run(["sh", "-c", command], check=True, capture_output=True, env=env, timeout=90)
        self.until("it is back", lambda: [p["spec"]["nodeName"] for p in self.ready("gpt-oss-120b")] == ["n1"])
        self.assertEqual(self.kubelets.broken, [])


if __name__ == "__main__":
    unittest.main(verbosity=1)
