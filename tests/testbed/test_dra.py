#!/usr/bin/env python3
"""Dynamic resource allocation on the real API server, with the real kube-scheduler allocating the claims.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/testbed/test_dra.py
"""
import json, os, pathlib, re, subprocess, sys, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import testbed
from testbed import stamp

BINARY = os.environ.get("GPUWASTE", "target/debug/gpuwaste")
NOW = time.time()
DAY = 86400
H100 = "NVIDIA H100 80GB HBM3"
P5 = 55.04  # p5.48xlarge, us-east-1, on-demand
GATES = "--feature-gates=DRAExtendedResource=true,DRAPartitionableDevices=true,DRAConsumableCapacity=true"


def node(name, plugin=0, kind="p5.48xlarge", pool="h100"):
    labels = {"topology.kubernetes.io/region": "us-east-1", "karpenter.sh/capacity-type": "on-demand", "karpenter.sh/nodepool": pool, "kubernetes.io/hostname": name}
    if kind:
        labels["node.kubernetes.io/instance-type"] = kind
    amounts = {"cpu": "192", "memory": "2000Gi", "pods": "110", **({"nvidia.com/gpu": str(plugin)} if plugin else {})}
    return {"kind": "Node", "metadata": {"name": name, "creationTimestamp": stamp(NOW - 30 * DAY), "labels": labels}, "spec": {"providerID": f"aws:///x/{name}"},
            "status": {"capacity": amounts, "allocatable": amounts, "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp(NOW - 30 * DAY)}]}}


def gpu(index, **more):
    return {"name": f"gpu-{index}", "attributes": {"type": {"string": "gpu"}, "uuid": {"string": f"GPU-{index}"}, "productName": {"string": H100}, "architecture": {"string": "Hopper"},
            "driverVersion": {"version": "580.65.6"}, "resource.kubernetes.io/pciBusID": {"string": f"0000:{index:02x}:00.0"}}, "capacity": {"memory": {"value": "81559Mi"}}, **more}


def counters(slices):
    return {f"memory-slice-{i}": {"value": "1"} for i in slices}


def whole(index):
    return gpu(index, consumesCounters=[{"counterSet": f"gpu-{index}-counter-set", "counters": {**counters(range(8)), "multiprocessors": {"value": "132"}}}])


def mig(index, profile, start, size, sms):
    return {"name": f"gpu-{index}-mig-{profile.replace('.', '')}-{start}", "attributes": {"type": {"string": "mig"}, "parentUUID": {"string": f"GPU-{index}"}, "profile": {"string": profile},
            "productName": {"string": H100}}, "capacity": {"memory": {"value": "9984Mi"}},
            "consumesCounters": [{"counterSet": f"gpu-{index}-counter-set", "counters": {**counters(range(start, start + size)), "multiprocessors": {"value": str(sms)}}}]}


def slices(name, devices, driver="gpu.nvidia.com", generation=1, count=1, number=0, **more):
    return {"kind": "ResourceSlice", "metadata": {"name": f"{name}-{driver}-{generation}-{number}"},
            "spec": {"driver": driver, "nodeName": name, "pool": {"name": name, "generation": generation, "resourceSliceCount": count}, **({"devices": devices} if devices else {}), **more}}


def device_class(name, expression, **more):
    return {"kind": "DeviceClass", "metadata": {"name": name}, "spec": {"selectors": [{"cel": {"expression": expression}}], **more}}


CLASSES = [
    device_class("gpu.nvidia.com", "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'gpu'", extendedResourceName="nvidia.com/gpu"),
    device_class("mig.nvidia.com", "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'mig'"),
    device_class("compute-domain-default-channel.nvidia.com", "device.driver == 'compute-domain.nvidia.com'"),
]


def claim(name, count=1, cls="gpu.nvidia.com", ns="ml", selector=None, **more):
    exactly = {"deviceClassName": cls, **({"count": count} if not more.get("allocationMode") else {}), **more}
    if selector:
        exactly["selectors"] = [{"cel": {"expression": selector}}]
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name, "namespace": ns}, "spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}}


def pod(name, *claims, on=None, ns="ml", gpus=0, template=None, image="vllm/vllm-openai:v0.11.0", args=("--model", "Qwen/Qwen2.5-7B-Instruct")):
    resources = {"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {**({"nvidia.com/gpu": str(gpus)} if gpus else {})}}
    names = [{"name": c, "resourceClaimName": c} for c in claims] + ([{"name": "made", "resourceClaimTemplateName": template}] if template else [])
    if names:
        resources["claims"] = [{"name": c["name"]} for c in names]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": ns},
            "spec": {"containers": [{"name": "server", "image": image, "args": list(args), "resources": resources}], **({"resourceClaims": names} if names else {}),
                     **({"nodeSelector": {"kubernetes.io/hostname": on}} if on else {})}}


def bound(name, on, gpus):
    """A pod that the device plugin serves, as it stands after days."""
    item = pod(name, gpus=gpus)
    item["metadata"]["creationTimestamp"] = stamp(NOW - 3 * DAY)
    item["spec"]["nodeName"] = on
    item["status"] = {"phase": "Running", "startTime": stamp(NOW - 3 * DAY), "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp(NOW - 3 * DAY)}]}
    return item


class Dra(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bed = testbed.Testbed(["one", "half", "plain"], extra_flags=[GATES, "--runtime-config=resource.k8s.io/v1beta1=true,resource.k8s.io/v1beta2=true"]).__enter__()
        cls.addClassCleanup(cls.bed.__exit__)
        cls.roles = subprocess.run([BINARY, "rbac"], capture_output=True, text=True, check=True).stdout
        for name in cls.bed.names:
            cls.bed.apply(name, cls.roles)
        cls.one()
        cls.half()
        cls.bed.seed("plain", [namespace("ml"), node("p-0", plugin=8), bound("web", "p-0", 3)])

    @classmethod
    def one(cls):
        """Everything by DRA: whole GPUs, MIG on demand, shared and idle claims, a stale generation, an incomplete pool."""
        bed = cls.bed
        bed.seed("one", [namespace("ml"), namespace("watch", {"resource.kubernetes.io/admin-access": "true"}), *CLASSES,
                         node("d-0"), node("d-1"), node("d-2"), node("d-3", kind=None)])
        post(bed, "one", slices("d-0", [gpu(i) for i in range(8)], generation=2))
        # The last generation, which the driver has not removed yet, and a driver that publishes no GPUs.
        post(bed, "one", slices("d-0", [gpu(i) for i in range(6)], generation=1))
        post(bed, "one", slices("d-0", [{"name": f"channel-{i}"} for i in range(20)], driver="compute-domain.nvidia.com"))
        # Counters and devices stand in slices of their own.
        post(bed, "one", slices("d-1", None, count=2, sharedCounters=[{"name": f"gpu-{i}-counter-set", "counters": {**counters(range(8)), "multiprocessors": {"value": "132"}}} for i in range(8)]))
        parts = [whole(i) for i in range(8)] + [mig(i, "1g.10gb", s, 1, 16) for i in range(2) for s in range(7)] + [mig(i, "3g.40gb", s, 4, 60) for i in range(2) for s in (0, 4)]
        post(bed, "one", slices("d-1", parts, count=2, number=1))
        # Half a pool: the driver has not written its second slice.
        post(bed, "one", slices("d-2", [gpu(i) for i in range(4)], count=2))
        # No label tells what this node has; only the driver does.
        post(bed, "one", slices("d-3", [gpu(i) for i in range(2)]))
        cls.scheduler = bed.schedule("one", GATES)
        objects = [
            claim("pair", 2), pod("big", "pair", on="d-0"),
            claim("shared"), pod("share-a", "shared", on="d-0"), pod("share-b", "shared", on="d-0"),
            claim("watch-all", ns="watch", allocationMode="All", adminAccess=True), pod("monitor", "watch-all", on="d-0", ns="watch", image="x", args=()),
            claim("small", cls="mig.nvidia.com", selector="device.attributes['gpu.nvidia.com'].profile == '1g.10gb'"), pod("tiny", "small", on="d-1"),
            claim("third", cls="mig.nvidia.com", selector="device.attributes['gpu.nvidia.com'].profile == '3g.40gb'"), pod("mid", "third", on="d-1"),
            claim("whole-card"), pod("wide", "whole-card", on="d-1"),
            pod("by-name", gpus=1, on="d-0"),
            claim("too-many", 9), pod("waits", "too-many", on="d-0"),
        ]
        for item in objects:
            post(bed, "one", item)
        cls.from_template("one", "made-for-me", "d-3")
        wait_bound(bed, "one", ["ml/big", "ml/share-a", "ml/share-b", "watch/monitor", "ml/tiny", "ml/mid", "ml/wide", "ml/by-name", "ml/made-for-me"])
        # What a claim that nobody uses looks like after two days: allocated, reserved for nobody.
        old = claim("forgotten")
        old["metadata"]["creationTimestamp"] = stamp(NOW - 2 * DAY)
        taken = {r["device"] for r in results(bed, "one", "d-0")}
        free = next(f"gpu-{i}" for i in range(8) if f"gpu-{i}" not in taken)
        old["status"] = {"allocation": {"devices": {"results": [{"request": "gpu", "driver": "gpu.nvidia.com", "pool": "d-0", "device": free}]},
                                        "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["d-0"]}]}]}}}
        bed.seed("one", [old])

    @classmethod
    def from_template(cls, cluster, name, on):
        """A claim made from a template, as kube-controller-manager makes it."""
        bed = cls.bed
        item = json.loads(post(bed, cluster, pod(name, template="one-gpu", on=on)))
        made = claim(f"{name}-made-x7x2k")
        made["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": item["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}]
        made["metadata"]["annotations"] = {"resource.kubernetes.io/pod-claim-name": "made"}
        post(bed, cluster, made)
        status, text = bed.request(cluster, "PATCH", f"/api/v1/namespaces/ml/pods/{name}/status", {"status": {"resourceClaimStatuses": [{"name": "made", "resourceClaimName": made["metadata"]["name"]}]}}, kind="application/strategic-merge-patch+json")
        assert status == 200, text

    @classmethod
    def half(cls):
        """One node of the device plugin, one of DRA, and one where both speak of the same eight GPUs."""
        bed = cls.bed
        bed.seed("half", [namespace("ml"), *CLASSES[1:], device_class("gpu.nvidia.com", "device.driver == 'gpu.nvidia.com'"), node("plugin-0", plugin=8), node("dra-0"), node("both-0", plugin=8), bound("on-plugin", "plugin-0", 5), bound("on-both", "both-0", 2)])
        post(bed, "half", slices("dra-0", [gpu(i) for i in range(8)]))
        post(bed, "half", slices("both-0", [gpu(i) for i in range(8)]))
        bed.schedule("half", GATES)
        for item in [claim("c-dra", 3), pod("by-claim", "c-dra", on="dra-0"), claim("c-both", 4), pod("by-both", "c-both", on="both-0")]:
            post(bed, "half", item)
        wait_bound(bed, "half", ["ml/by-claim", "ml/by-both"])

    def scan(self, cluster, *args, token="reader-token"):
        config = self.bed.kubeconfig([cluster], token)
        done = subprocess.run([BINARY, "scan", "--format", "json", "--no-scrape", "--kubeconfig", str(config), *args], capture_output=True, text=True, timeout=120)
        self.assertIn(done.returncode, (0, 3), done.stderr)
        return json.loads(done.stdout)

    def states_add_up(self, report):
        t = report["totals"]
        states = sum(t[f"gpus_{s}"] for s in ("free", "unhealthy", "stuck", "idle", "working", "unknown"))
        self.assertAlmostEqual(states, t["gpus"], places=5)
        self.assertAlmostEqual(sum(n["price"]["usd_per_hour"] for n in report["nodes"]), t["spend_usd_per_hour"], places=5)

    def test_a_cluster_of_claims(self):
        report = self.scan("one")
        self.states_add_up(report)
        nodes = {n["name"]: n for n in report["nodes"]}
        self.assertEqual({n: v["gpus"] for n, v in nodes.items()}, {"d-0": 8, "d-1": 8, "d-2": 8, "d-3": 2})
        self.assertEqual({v["gpu"] for v in nodes.values()}, {"H100-SXM5-80GB"}, "the driver's product name, where no label tells")
        t = report["totals"]
        # d-0: big 2, shared 1, by-name 1, forgotten 1 → 3 free; the monitor's administrative access holds nothing.
        # d-1: one card whole, 1/7 and 3/7 of others (or of one); d-2: four of eight are unseen, so none is free; d-3: one.
        held = 2 + 1 + 1 + 1 + 1 + 1 / 7 + 3 / 7 + 1
        self.assertAlmostEqual(t["gpus_allocated"], held, places=3)
        self.assertAlmostEqual(t["gpus_free"], 8 + 8 + 2 - held, places=3)
        self.assertAlmostEqual(t["gpus_idle"], 1, places=5)
        self.assertEqual(nodes["d-2"]["states"].get("free", 0), 0)
        self.assertTrue(any("DRA pool d-2" in g["what"] for g in report["gaps"]), report["gaps"])

    def test_claims_that_nobody_uses_are_dark_capacity(self):
        report = self.scan("one")
        found = [f for f in report["findings"] if f["subject"].get("kind") == "ResourceClaim"]
        self.assertEqual([(f["subject"]["name"], f["check"], f["part"]) for f in found], [("forgotten", "dark-capacity", "idle")])
        self.assertAlmostEqual(found[0]["usd_per_hour"], P5 / 8, places=5)
        self.assertEqual(found[0]["confidence"], "estimated")
        self.assertIn("kubectl delete resourceclaim -n ml forgotten", found[0]["fix"]["summary"])

    def test_pods_that_hold_claims_are_recognised_and_pay_their_share(self):
        rows = {w["name"]: w for w in self.scan("one")["workloads"]}
        share = P5 / 8
        self.assertEqual((rows["big"]["engine"], rows["big"]["model"]), ("vllm", "Qwen/Qwen2.5-7B-Instruct"))
        for name, dollars in {"big": 2 * share, "share-a": share / 2, "share-b": share / 2, "tiny": share / 7, "mid": share * 3 / 7, "wide": share, "by-name": share}.items():
            self.assertAlmostEqual(rows[name]["usd_per_hour"], dollars, places=4, msg=name)
        self.assertNotIn("monitor", {n for n, r in rows.items() if r.get("usd_per_hour")})
        self.assertEqual(rows["made-for-me"]["gpus_per_replica"], 1, "a claim made from a template")

    def test_the_scheduler_made_the_claim_for_an_extended_resource(self):
        item = json.loads(self.bed.request("one", "GET", "/api/v1/namespaces/ml/pods/by-name")[1])
        self.assertTrue(item["status"]["extendedResourceClaimStatus"]["resourceClaimName"])

    def test_half_device_plugin_and_half_dra_is_one_inventory(self):
        report = self.scan("half")
        self.states_add_up(report)
        nodes = {n["name"]: n for n in report["nodes"]}
        self.assertEqual({n: v["gpus"] for n, v in nodes.items()}, {"plugin-0": 8, "dra-0": 8, "both-0": 8})
        t = report["totals"]
        self.assertAlmostEqual(t["spend_usd_per_hour"], 3 * P5, places=5)
        self.assertEqual((t["gpus_allocated"], t["gpus_free"]), (5 + 3 + 2 + 4, 24 - 14))
        rows = {w["name"]: w for w in report["workloads"]}
        self.assertAlmostEqual(rows["by-both"]["usd_per_hour"], 4 * P5 / 8, places=4)
        self.assertAlmostEqual(rows["on-both"]["usd_per_hour"], 2 * P5 / 8, places=4)

    def test_a_plain_cluster_has_no_gap_about_dra(self):
        report = self.scan("plain")
        self.assertEqual((report["totals"]["gpus_allocated"], report["totals"]["gpus_free"]), (3, 5))
        self.assertFalse([g for g in report["gaps"] if "resource" in g["what"].lower() or "DRA" in g["what"]], report["gaps"])

    def test_each_missing_right_is_a_gap_and_frees_nothing(self):
        whole = self.scan("one")
        path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/gpuwaste"
        role = json.loads(self.bed.request("one", "GET", path)[1])
        try:
            for resource in ("resourceslices", "resourceclaims", "deviceclasses"):
                with self.subTest(resource):
                    without = [r for r in role["rules"] if resource not in r["resources"]]
                    self.assertLess(len(without), len(role["rules"]))
                    self.put(path, {**role, "rules": without})
                    report = self.until(lambda: self.scan("one"), lambda r: any(g["what"] == resource for g in r["gaps"]))
                    gap = next(g for g in report["gaps"] if g["what"] == resource)
                    self.assertIn("403", gap["reason"])
                    self.assertEqual(self.rights("one")[f"list {resource}"], ("no", "not read"))
                    self.assertIn("gpuwaste rbac", gap["remedy"])
                    self.assertLessEqual(report["totals"]["waste_usd_per_hour"] or 0, whole["totals"]["waste_usd_per_hour"] + 1e-6)
                    self.states_add_up(report)
                    if resource != "deviceclasses":
                        self.assertEqual((report["totals"]["gpus_free"], report["totals"]["gpus_idle"], report["totals"]["gpus_unhealthy"]), (0, 0, 0), "unseen is not free")
        finally:
            self.put(path, role)

    def rights(self, cluster, *args, config=None):
        """doctor's rows: {right: (answer, what came of it)}."""
        done = subprocess.run([BINARY, "doctor", "--no-scrape", "--prometheus", "none", "--kubeconfig", str(config or self.bed.kubeconfig([cluster])), *args], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        self.assertIn(done.returncode, (0, 3), done.stderr)
        table = done.stdout.split("\nRights in ")[1].split("\n\n")[0].splitlines()[1:]
        return {right: (answer, told) for answer, right, told in (re.match(r"  (\S+) +(.+?)  +(.+)", row).groups() for row in table)}

    def test_doctor_tells_each_right_of_dra(self):
        of = lambda rows: [rows[f"list {r}"] for r in ("resourceslices", "deviceclasses", "resourceclaims")]
        slices, classes, claims = of(self.rights("one"))
        self.assertRegex(slices[1], r"^\d+ GPU devices in 4 pools$")
        self.assertGreaterEqual(int(slices[1].split()[0]), 8 + 8 + 4 + 2)
        self.assertRegex(claims[1], r"^\d+ claims$")
        self.assertEqual([slices[0], classes[0], claims[0]], ["yes"] * 3)
        self.assertEqual(of(self.rights("plain")), [("yes", "0 GPU devices in 0 pools"), ("yes", "0 device classes"), ("yes", "0 claims")])
        # Of a release before structured parameters: not refused, there is nothing to read.
        with OldServer(self.bed, "plain", "v1alpha3") as server:
            self.assertEqual(of(self.rights("plain", config=server.config())), [("-", "resource.k8s.io is not served")] * 3)

    def test_older_servers_are_read_in_their_own_version(self):
        """The same objects through v1beta2 and v1beta1, with v1 hidden from discovery by a proxy in front."""
        whole = self.scan("one")
        for version in ("v1beta2", "v1beta1"):
            with self.subTest(version), OldServer(self.bed, "one", version) as server:
                snapshot = server.scan()
                self.assertEqual(snapshot["totals"]["gpus_allocated"], whole["totals"]["gpus_allocated"])
                self.assertEqual(snapshot["totals"]["gpus_free"], whole["totals"]["gpus_free"])
                self.assertEqual({f["id"] for f in snapshot["findings"]}, {f["id"] for f in whole["findings"]})
                self.assertTrue(all(f"/{version}/" in p for p in server.asked if "/resource.k8s.io/" in p), server.asked)

    def put(self, path, body):
        body = {**body, "metadata": {k: v for k, v in body["metadata"].items() if k != "resourceVersion"}}
        status, text = self.bed.request("one", "PUT", path, body)
        self.assertEqual(status, 200, text)

    def until(self, make, done):
        for _ in range(50):
            value = make()
            if done(value):
                return value
            time.sleep(0.1)
        self.fail("it did not come to that")


class OldServer:
    """The API server as a release before resource.k8s.io/v1 shows itself: discovery names `version` only, and v1 is not served."""

    def __init__(self, bed, cluster, version):
        self.bed, self.cluster, self.version, self.asked = bed, cluster, version, []

    def __enter__(self):
        import http.server, threading
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.asked.append(self.path)
                status, body = outer.bed.request(outer.cluster, "GET", self.path, token="reader-token")
                if self.path.split("?")[0] in ("/apis", "/apis/resource.k8s.io"):
                    told = json.loads(body)
                    for group in told.get("groups", [told]):
                        if group["name"] == "resource.k8s.io":
                            group["versions"] = [v for v in group["versions"] if v["version"] == outer.version]
                            group["preferredVersion"] = {"groupVersion": f"resource.k8s.io/{outer.version}", "version": outer.version}
                    body = json.dumps(told).encode()
                elif "/resource.k8s.io/v1/" in self.path:
                    status, body = 404, b"404 page not found\n"
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def config(self):
        config = {"apiVersion": "v1", "kind": "Config", "current-context": self.cluster, "clusters": [{"name": self.cluster, "cluster": {"server": f"http://127.0.0.1:{self.server.server_address[1]}"}}],
                  "users": [{"name": "u", "user": {}}], "contexts": [{"name": self.cluster, "context": {"cluster": self.cluster, "user": "u"}}]}
        path = self.bed.dir / f"old-{self.version}"
        path.write_text(json.dumps(config))
        return path

    def scan(self):
        done = subprocess.run([BINARY, "scan", "--format", "json", "--no-scrape", "--kubeconfig", str(self.config())], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def namespace(name, labels=None):
    return {"kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}, "status": {"phase": "Active"}}


def post(bed, cluster, item):
    item.setdefault("apiVersion", testbed.GROUPS[item["kind"]][0])
    plural = testbed.GROUPS[item["kind"]][1]
    version = item["apiVersion"]
    place = f"namespaces/{item['metadata']['namespace']}/" if "namespace" in item["metadata"] else ""
    status, text = bed.request(cluster, "POST", f"/{'apis' if '/' in version else 'api'}/{version}/{place}{plural}", item)
    if status != 201:
        raise RuntimeError(f"{item['kind']} {item['metadata']['name']}: {status} {text[:800]}")
    return text


def results(bed, cluster, pool):
    claims = json.loads(bed.request(cluster, "GET", "/apis/resource.k8s.io/v1/resourceclaims")[1])["items"]
    return [r for c in claims for r in c.get("status", {}).get("allocation", {}).get("devices", {}).get("results", []) if r["pool"] == pool and not r.get("adminAccess")]


def wait_bound(bed, cluster, names):
    left = set(names)
    for _ in range(150):
        for name in sorted(left):
            ns, pod_name = name.split("/")
            item = json.loads(bed.request(cluster, "GET", f"/api/v1/namespaces/{ns}/pods/{pod_name}")[1])
            if item["spec"].get("nodeName"):
                left.discard(name)
        if not left:
            return
        time.sleep(0.2)
    why = {n: json.loads(bed.request(cluster, "GET", f"/api/v1/namespaces/{n.split('/')[0]}/pods/{n.split('/')[1]}")[1]).get("status") for n in left}
    raise RuntimeError(f"not scheduled: {json.dumps(why)[:3000]}\n" + (bed.dir / f"scheduler-{cluster}.log").read_text()[-2500:])


if __name__ == "__main__":
    unittest.main()
