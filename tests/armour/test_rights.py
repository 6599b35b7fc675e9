#!/usr/bin/env python3
"""What is read is what `--dry-run` said and what `rbac` grants, by the audit log of a real API server; nothing granted goes unused.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/armour/test_rights.py
"""
import json, os, pathlib, re, sys, time, unittest, urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "testbed")]
import test_owners, testbed
from test_cluster import gpuwaste, namespaces, node, page, pod, stamp

#: What a scan may look up by name and by list, each with an object that is there and one that is gone.
OWNERS = [("apps/v1", "ReplicaSet"), ("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"), ("batch/v1", "Job"), ("batch/v1", "CronJob"), ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"),
          *((f"{group}/{version}", kind) for group, version, kind, _ in test_owners.CRDS if kind != "LeaderWorkerSet")]
READER = "system:serviceaccount:gpuwaste:gpuwaste"
SERVER, EXPORTER, STORE = "10.231.91.2", "10.231.91.3", "10.231.91.4"
#: A plain list of the whole cluster where the account has rights on some namespaces alone is asked for, and refused.
TRIED = re.compile(r"^/api/v1/(nodes|pods|services|namespaces/[a-z-]+/services|namespaces/kube-system)$|^/apis/resource\.k8s\.io/v1/(resourceslices|deviceclasses|resourceclaims)$")


def pattern(line):
    """A line of --dry-run as a pattern of the URLs that it stands for."""
    path = line.removeprefix("GET ").split("  # ")[0].split("?")[0]
    text = re.escape(path)
    for word, what in (("NAMESPACE", "[^/]+"), ("NAME", "[^/:]+"), ("POD", "[^/:]+"), ("PORT", r"\d+"), ("VERSION", "v[0-9a-z]+")):
        text = re.sub(rf"(?<![A-Z]){word}(?![A-Z])", lambda _, w=what: w, text)
    text = re.sub(r"\\\[(.*?)\\\]", lambda m: "(?:" + m[1].replace(r"\|", "|") + ")?", text)
    return re.compile(f"^{text}$")


def rules(yaml):
    """(namespace or None, group, resource, name or None, verb) of each thing that the roles grant."""
    granted = set()
    for document in yaml.split("\n---\n"):
        if not re.search(r"^kind: (Cluster)?Role$", document, re.M):
            continue
        place = re.search(r"^  namespace: (\S+)$", document, re.M)
        for rule in document.split("\n- apiGroups: ")[1:]:
            read = lambda key: json.loads(re.search(rf"{key}: (\[.*\])", rule)[1]) if key in rule else [None]
            group = json.loads(rule.split("\n")[0])[0]
            granted |= {(place and place[1], group, r, n, v) for r in read("resources") for n in read("resourceNames") for v in read("verbs")}
    return granted


class Rights(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not testbed.can_make_networks():
            if os.environ.get("CI"):
                raise RuntimeError("CI must be able to make network namespaces (root, iproute2)")
            raise unittest.SkipTest("SKIPPED LOUDLY: no root or iproute2, so no pod answers")
        cls.bed = testbed.Testbed(["whole", "part", "few"])
        policy = cls.bed.dir / "audit.yaml"
        policy.write_text("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n")
        # One log for all: a run goes to one of them.
        cls.log = cls.bed.dir / "audit.log"
        cls.bed.extra += [f"--audit-policy-file={policy}", f"--audit-log-path={cls.log}", "--audit-log-mode=blocking-strict"]
        cls.bed.__enter__()
        cls.addClassCleanup(cls.bed.__exit__)
        owned = []
        for i, (version, kind) in enumerate(OWNERS):
            for name in ("there", "gone"):
                owned.append(pod(f"{kind.lower()}-{name}", "gpu-1", owner=(version, kind, f"{name}-{i}"), ip=SERVER if (i, name) == (0, "there") else None))
        mapped = pod("mapped", "gpu-2", owner=("apps/v1", "StatefulSet", "there-2"))
        mapped["spec"]["containers"][0]["env"] = [{"name": "MODEL", "valueFrom": {"configMapKeyRef": {"name": "args", "key": "MODEL"}}}]
        mapped["spec"]["containers"][0]["args"] = ["--model", "$(MODEL)"]
        dcgm = pod("dcgm", "gpu-1", 0, ns="gpu-operator", image="nvcr.io/nvidia/k8s/dcgm-exporter:4.5.3", args=(), ip=EXPORTER, port=9400)
        there = [{"kind": kind, "metadata": {"name": f"there-{i}", "namespace": "ml"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}}}
                 for i, (version, kind) in enumerate(OWNERS) if kind in ("ReplicaSet", "Deployment", "StatefulSet")]
        maps = [{"kind": "ConfigMap", "metadata": {"name": "args", "namespace": "ml"}, "data": {"MODEL": "Qwen/Qwen2.5-7B-Instruct"}}]
        fleet = [*namespaces("ml", "gpu-operator", "monitoring"), *(node(f"gpu-{i}", gpus=32) for i in (1, 2)), *owned, mapped, dcgm, *there, *maps]
        for name in cls.bed.names:
            cls.bed.seed(name, json.loads(json.dumps(fleet)))
            for group, version, kind, plural in test_owners.CRDS:
                cls.bed.request(name, "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", test_owners.crd(group, version, kind, plural))
            cls.served(name)
            for i, (version, kind) in enumerate(OWNERS):
                plural = next((p for _, _, k, p in test_owners.CRDS if k == kind), None)
                if plural:
                    made = {"apiVersion": version, "kind": kind, "metadata": {"name": f"there-{i}"}, "spec": {}}
                    status, text = cls.bed.request(name, "POST", f"/apis/{version}/namespaces/ml/{plural}", made)
                    assert status == 201, text
            ports = [{"name": "web", "port": 9090}]
            for kind, body in (("services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "prometheus", "labels": {"app.kubernetes.io/name": "prometheus"}}, "spec": {"ports": ports}}),
                               ("endpoints", {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "prometheus"}, "subsets": [{"addresses": [{"ip": STORE}], "ports": ports}]})):
                status, text = cls.bed.request(name, "POST", f"/api/v1/namespaces/monitoring/{kind}", body)
                assert status == 201, text
        # Where one node of five has GPUs pods are read node by node.
        cls.bed.seed("few", [node(f"cpu-{i}", gpus=0, kind="m5.large", cpu="2") for i in range(9)])
        data = lambda value: json.dumps({"status": "success", "data": value})
        store = {"/label/__name__/values": ["DCGM_FI_DEV_GPU_UTIL", "vllm:num_requests_running"], "/labels": ["pod", "namespace", "UUID", "cluster"], "/label/cluster/values": ["whole"], "/status/buildinfo": {"version": "3.5.0", "goVersion": "go1.24"},
                 "/status/runtimeinfo": {"storageRetention": "30d"}, "/query": {"resultType": "vector", "result": [{"metric": {}, "value": [time.time(), "1"]}]}, "/query_range": {"resultType": "matrix", "result": []}}
        cls.bed.network([SERVER, EXPORTER, STORE], {f"{SERVER}:8000/metrics": page(100), f"{EXPORTER}:9400/metrics": "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"GPU-0\"} 0\n", **{f"{STORE}:9090/api/v1{path}": data(value) for path, value in store.items()}})

    @classmethod
    def served(cls, name):
        for _ in range(100):
            if all(cls.bed.request(name, "GET", f"/apis/{group}/{version}/{plural}")[0] == 200 for group, version, _, plural in test_owners.CRDS):
                return
            time.sleep(0.2)
        raise RuntimeError("the custom resources are not served")

    def grant(self, cluster, *args):
        yaml = gpuwaste("rbac", *args).stdout
        self.bed.apply(cluster, yaml)
        for _ in range(100):
            # The authorizer hears of a changed role a moment later.
            if self.bed.request(cluster, "GET", "/api/v1/namespaces/ml/configmaps/args", token="reader-token")[0] == 200:
                return rules(yaml)
            time.sleep(0.1)
        raise RuntimeError("the rights are not granted")

    def audited(self, since):
        time.sleep(0.2)
        with open(self.log) as log:
            log.seek(since)
            return [e for e in map(json.loads, log) if e["user"]["username"] == READER]

    def run_one(self, cluster, granted, *args, tried=None):
        """What was asked, of which each is in --dry-run and in the roles; the rules that it used."""
        config = self.bed.kubeconfig([cluster])
        dry = gpuwaste(*args, "--dry-run", config=config)
        self.assertEqual(dry.returncode, 0, dry.stderr)
        since = self.log.stat().st_size
        done = gpuwaste(*args, config=config)
        self.assertIn(done.returncode, (0, 3), done.stderr)
        self.assertNotIn("--dry-run does not list it", done.stdout + done.stderr)
        events = self.audited(since)
        self.assertTrue(events)
        said = [pattern(line) for line in dry.stdout.splitlines() if line.startswith("GET /")]
        used = set()
        for event in events:
            path = urllib.parse.urlsplit(event["requestURI"]).path
            with self.subTest(path):
                self.assertTrue([p for p in said if p.match(path)], f"{path} is not in --dry-run")
                self.assertIn(event["verb"], ("get", "list"))
                about = event.get("objectRef", {})
                if not about.get("resource"):
                    self.assertIn(path, ("/version", "/apis"))
                    continue
                resource = about["resource"] + ("/" + about["subresource"] if about.get("subresource") else "")
                name = about.get("name") if event["verb"] == "get" else None
                mine = {g for g in granted if g[0] in (None, about.get("namespace")) and g[1:3] == (about.get("apiGroup", ""), resource) and g[3] in (None, name) and g[4] == event["verb"]}
                if not mine:
                    self.assertTrue(tried and tried.match(path) and event["responseStatus"]["code"] == 403, f"{event['verb']} {path} is not granted")
                used |= mine
        return events, used

    def test_every_request_is_planned_and_granted_and_every_right_is_used(self):
        extra = ("--with", "scrape", "--with", "configmaps=ml/args", "--with", "prometheus=monitoring/prometheus:9090")
        granted = self.grant("whole", *extra)
        self.grant("few", *extra)
        runs = [("whole", ("scan", "--format", "json", "--observe", "1s")), ("whole", ("scan", "--format", "json", "--no-scrape", "--prometheus", "none")), ("whole", ("scan", "--format", "json", "-l", "a=b", "-n", "ml", "--observe", "0")),
                ("few", ("scan", "--format", "json", "--observe", "0")), ("few", ("doctor", "--observe", "0")), ("whole", ("collect", "-o", "/dev/null", "--observe", "0", "--prometheus", "none"))]
        used = set()
        for cluster, args in runs:
            events, mine = self.run_one(cluster, granted, *args)
            used |= mine
            proxied = {e["objectRef"]["resource"] for e in events if e.get("objectRef", {}).get("subresource") == "proxy"}
            expected = {"pods", "services"} - ({"pods"} if "--no-scrape" in args else set()) - ({"services"} if "none" in args else set())
            self.assertEqual(proxied, expected, args)
        nodewise = [e for e in self.audited(0) if "spec.nodeName" in urllib.parse.unquote(e["requestURI"])]
        self.assertTrue(nodewise, "the list node by node")
        # The three names of one service are the ways that the API server knows it by; a run takes the one of its port's scheme.
        unused = {g for g in granted - used if g[2] != "services/proxy"}
        self.assertEqual(unused, set())
        print(f"{len(used)} rights, each used; {len(runs)} runs", file=sys.stderr)

    def test_rights_on_some_namespaces(self):
        granted = self.grant("part", "-n", "ml", "--with", "scrape", "--with", "configmaps=ml/args", "--with", "prometheus=monitoring/prometheus:9090")
        self.assertTrue(all(g[0] for g in granted), "no role of the whole cluster")
        used = set()
        for args in (("scan", "--format", "json", "-n", "ml", "--observe", "0"), ("scan", "--format", "json", "-n", "ml", "-l", "a=b", "--observe", "0")):
            used |= self.run_one("part", granted, *args, tried=TRIED)[1]
        unused = {g[2:] for g in granted - used if g[2] != "services/proxy"}
        print(f"of some namespaces: {len(used)} rights used, not: {sorted(map(str, unused))}", file=sys.stderr)
        self.assertEqual(unused, set())


if __name__ == "__main__":
    unittest.main(verbosity=1)
