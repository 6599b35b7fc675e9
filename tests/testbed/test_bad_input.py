#!/usr/bin/env python3
"""gpuwaste against what goes wrong: servers, credentials and rights that fail one by one, pages that lie.

usage: GPUWASTE=target/release/gpuwaste python3 tests/testbed/test_bad_input.py
"""
import base64, contextlib, http.server, json, os, pathlib, resource, select, shutil, signal, socket, ssl, stat, subprocess, sys, tempfile, threading, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "armour"))
import fake, test_cluster, testbed
from test_cluster import BINARY, DAY, NOW, gpuwaste, namespaces, node, page, pod, scan

PRICE = 55.04 / 8  # One GPU of a p5.48xlarge in us-east-1 on demand, as the catalogue has it.


def exporter(name, on, ip):
    return pod(name, on, 0, ns="gpu-operator", image="nvcr.io/nvidia/k8s/dcgm-exporter:4.5.3-4.8.2", args=(), ip=ip, owner=("apps/v1", "DaemonSet", "dcgm"), port=9400)


def steady(report):
    """Totals without what tokens cost, which changes with the second in which a page is read."""
    return {k: v for k, v in report["totals"].items() if "token" not in k}


def devices(holders):
    """A card at rest but for those that `holders` names: {index: (namespace, pod, watts)}."""
    rows = []
    for i in range(8):
        ns, name, watts = holders.get(i, ("", "", 70))
        rows.append(f'DCGM_FI_DEV_GPU_UTIL{{gpu="{i}",UUID="GPU-{i}",modelName="NVIDIA H100 80GB HBM3",pod="{name}",namespace="{ns}",container="server"}} {50 if watts > 200 else 0}')
        rows.append(f'DCGM_FI_DEV_POWER_USAGE{{gpu="{i}",UUID="GPU-{i}"}} {watts}')
    return "\n".join(rows) + "\n"


def wait_for(done, what="the API server did not take the change"):
    # The authorizer hears of a changed role a moment later.
    for _ in range(60):
        found = done()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(what)


class Pages(unittest.TestCase):
    """16 GPUs: `work` holds 8 and works, `calm` holds 2 and has done nothing for three days, 6 are free. All is read; then one page after the other is not."""

    @classmethod
    def setUpClass(cls):
        if not testbed.can_make_networks():
            if os.environ.get("CI"):
                raise RuntimeError("CI must be able to make network namespaces (root, iproute2)")
            raise unittest.SkipTest("SKIPPED LOUDLY: no root or iproute2, so no pod answers")
        cls.bed = testbed.Testbed(["one"]).__enter__()
        cls.addClassCleanup(cls.bed.__exit__)
        cls.work, cls.calm, cls.near, cls.far = (f"10.231.78.{i}" for i in range(2, 6))
        cls.good = {f"{cls.work}:8000/metrics": page(5000), f"{cls.calm}:8000/metrics": page(0),
                    f"{cls.near}:9400/metrics": devices({6: ("ml", "calm-0", 70), 7: ("ml", "calm-0", 70)}),
                    f"{cls.far}:9400/metrics": devices({i: ("ml", "work-0", 500) for i in range(8)})}
        server = lambda name, on, gpus, ip: pod(name, on, gpus, owner=("apps/v1", "StatefulSet", name[:-2]), ip=ip, args=("--model", "Qwen/Qwen2.5-7B-Instruct", "-tp", str(gpus)))
        cls.bed.seed("one", namespaces("ml", "gpu-operator") + [node("near"), node("far"), server("calm-0", "near", 2, cls.calm), server("work-0", "far", 8, cls.work), exporter("dcgm-n", "near", cls.near), exporter("dcgm-f", "far", cls.far)])
        cls.bed.apply("one", gpuwaste("rbac", "--with", "scrape").stdout)
        cls.config = cls.bed.kubeconfig(["one"])
        cls.bed.network([cls.work, cls.calm, cls.near, cls.far], cls.good)
        cls.whole = cls.report()

    @classmethod
    def report(cls, **pages):
        """A scan with some pages replaced, by (address, port)."""
        return cls.scanned({}, **pages)[1]

    @classmethod
    def scanned(cls, replaced, *args):
        cls.pages = {**cls.good, **replaced}
        part = cls.bed.dir / "pages.part"
        part.write_text(json.dumps(cls.pages))
        part.replace(cls.bed.dir / "pages.json")
        return scan(cls.config, "--prometheus", "none", "--observe", "0", "--timeout", "3s", *args)

    def test_all_is_read_to_begin_with(self):
        t = self.whole["totals"]
        self.assertEqual((t["gpus"], t["gpus_free"], t["gpus_idle"], t["gpus_working"]), (16, 6, 2, 8))
        self.assertAlmostEqual(t["waste_usd_per_hour"], 8 * PRICE, places=4)
        self.assertAlmostEqual(t["coverage_percent"], 100)

    def lost(self, replaced, gpus, states, said, where=None):
        """`gpus` GPUs fall out of what is known; everything else stays as it was; a gate then says 3."""
        done, report = self.scanned(replaced)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("panicked", done.stderr)
        before, t = self.whole["totals"], report["totals"]
        self.assertEqual((t["nodes"], t["gpus"], t["gpus_free"]), (2, 16, 6))
        self.assertAlmostEqual(t["spend_usd_per_hour"], before["spend_usd_per_hour"])
        self.assertAlmostEqual(t["coverage_percent"], 100 - gpus / 16 * 100, places=4)
        self.assertEqual((t["gpus_idle"], t["gpus_working"], t["gpus_unknown"]), states)
        self.assertAlmostEqual(t["waste_usd_per_hour"], (6 + states[0]) * PRICE, places=4)
        gaps = [g for g in report["gaps"] if said in g["reason"] and (where or "") in g["what"]]
        self.assertTrue(gaps, report["gaps"])
        self.assertTrue(all(g["remedy"] and g["effect"] for g in gaps))
        done, _ = self.scanned(replaced, "--max-waste", "1000", "--min-coverage", str(100 - gpus / 32 * 100))
        self.assertEqual(done.returncode, 3, done.stderr)
        return report

    def test_pages_of_a_server_at_work(self):
        at, good = f"{self.work}:8000/metrics", self.good[f"{self.work}:8000/metrics"]
        nothing = "no metrics of a known engine"
        for name, body, said in [
            ("cut before any value", good[:40], nothing),
            ("binary", {"hex": os.urandom(4096).hex()}, nothing),
            ("zeroes", {"hex": "00" * 4096}, nothing),
            ("empty", {"repeat": "", "code": 200}, nothing),
            ("another page", "<!DOCTYPE html><html><body>log in</body></html>\n", nothing),
            ("200 MB of something else", {"repeat": "some_metric_of_another_kind{label=\"value\"} 1\n", "bytes": 200 << 20}, "8 MiB"),
            ("cut off on its way", {"head": good, "length": len(good) + 100_000}, "cut off"),
            ("500", {"head": "boom", "code": 500}, "500"),
            ("404", {"head": "nothing", "code": 404}, "404"),
            ("no answer", {"head": good, "wait": 8}, "no answer within 3 s"),
        ]:
            with self.subTest(name):
                self.lost({at: body}, 8, (2, 0, 8), said, "ml/work-0")

    def test_values_that_are_none(self):
        at = f"{self.work}:8000/metrics"
        for odd in ("NaN", "+Inf", "-Inf"):
            with self.subTest(odd):
                lines = [l.rsplit(" ", 1)[0] + f" {odd}" if l.startswith("vllm:") and "_info" not in l else l for l in page(5000).splitlines()]
                done, report = self.scanned({at: "\n".join(lines) + "\n"})
                self.assertEqual(done.returncode, 0, done.stderr)
                t = report["totals"]
                self.assertEqual((t["gpus_idle"], t["gpus_working"], t["gpus_unknown"]), (2, 0, 8))
                self.assertAlmostEqual(t["coverage_percent"], 50)
                self.assertAlmostEqual(t["waste_usd_per_hour"], 8 * PRICE, places=4)
                self.assertNotIn("NaN", json.dumps(report))
        # An idle server whose counters are no numbers is not idle.
        calm = f"{self.calm}:8000/metrics"
        for name in ("vllm:request_success_total", "vllm:generation_tokens_total", "vllm:prompt_tokens_total", "vllm:num_requests_running"):
            with self.subTest(name):
                lines = [l.rsplit(" ", 1)[0] + " NaN" if l.startswith(name) else l for l in page(0).splitlines()]
                t = self.scanned({calm: "\n".join(lines) + "\n"})[1]["totals"]
                self.assertEqual((t["gpus_idle"], t["gpus_working"], t["gpus_unknown"]), (0, 8, 2))
                self.assertAlmostEqual(t["waste_usd_per_hour"], 6 * PRICE, places=4)

    def test_duplicates_change_nothing(self):
        pages = {k: v + v for k, v in self.good.items()}
        report = self.scanned(pages)[1]
        self.assertEqual(steady(report), steady(self.whole))
        rates = lambda r: {w["name"]: w["observed"]["requests_per_second"] for w in r["workloads"]}
        for name, rate in rates(self.whole).items():
            self.assertAlmostEqual((rates(report)[name] or {"mean": 0}).get("mean", 0) or 0, (rate or {"mean": 0}).get("mean", 0) or 0, places=2)

    def test_a_long_page_is_read_to_8_mib_and_memory_stays_small(self):
        at = f"{self.work}:8000/metrics"
        long = {"head": self.good[at], "repeat": "vllm:another{engine=\"0\"} 1\n", "bytes": 200 << 20}
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        done, report = self.scanned({at: long})
        self.assertEqual(done.returncode, 0, done.stderr)
        # What stood before the cut is used, and the cut is said.
        self.assertEqual(steady(report), steady(self.whole))
        self.assertTrue(any("8 MiB" in g["reason"] and "work-0" in g["what"] for g in report["gaps"]), report["gaps"])
        self.assertLess(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, max(before, 400 << 10), "peak KiB")

    def test_pages_of_an_exporter(self):
        # The witness of `calm` is gone: nobody can say that it would not have objected.
        at = f"{self.near}:9400/metrics"
        for name, body, said in [("binary", {"hex": os.urandom(2048).hex()}, "no GPU figures"), ("500", {"head": "", "code": 500}, "500"), ("200 MB", {"repeat": "node_cpu{cpu=\"0\"} 1\n", "bytes": 200 << 20}, "8 MiB")]:
            with self.subTest(name):
                self.lost({at: body}, 2, (0, 8, 2), said, "gpu-operator/dcgm-n")
        # Absurd readings are none.
        for value in ("9223372036854775794", "NaN", "-5", "1e300"):
            with self.subTest(value):
                text = "\n".join(l.rsplit(" ", 1)[0] + " " + value for l in self.good[at].splitlines()) + "\n"
                t = self.scanned({at: text})[1]["totals"]
                self.assertEqual((t["gpus_idle"], t["gpus_working"], t["gpus_unknown"]), (0, 8, 2))

    def test_a_servers_clock_is_ahead(self):
        calm = f"{self.calm}:8000/metrics"
        ahead = page(0).replace(f"process_start_time_seconds {NOW - 3 * DAY}", f"process_start_time_seconds {NOW + 3 * DAY}")
        self.assertNotEqual(ahead, page(0))
        done, report = self.scanned({calm: ahead})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(any("clocks of 1 servers" in g["what"] for g in report["gaps"]), report["gaps"])
        self.assertEqual(report["totals"]["gpus_idle"], 0, "no life was seen")
        self.assertAlmostEqual(report["totals"]["waste_usd_per_hour"], 6 * PRICE, places=4)
        self.assertEqual(report["totals"]["gpus_working"], 8)

    def test_the_proxy_is_refused_in_one_namespace(self):
        # Exporters may be read, servers may not.
        role = {"metadata": {"name": "gpuwaste-scrape"}, "rules": [{"apiGroups": [""], "resources": ["pods/proxy"], "verbs": ["get"]}]}
        path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/gpuwaste-scrape"
        self.bed.apply("one", gpuwaste("rbac", "--with", "scrape", "--namespace", "gpu-operator").stdout)
        self.bed.request("one", "PUT", path, {**role, "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "rules": []})
        try:
            refused = lambda: [g for g in self.report()["gaps"] if "pods/proxy" in g["reason"]]
            gaps = wait_for(refused)
            self.assertEqual([("ml" in g["what"], "--namespace ml" in g["remedy"]) for g in gaps], [(True, True)])
            t = self.report()["totals"]
            self.assertEqual((t["gpus_idle"], t["gpus_free"], t["gpus_unknown"]), (0, 6, 10))
            self.assertAlmostEqual(t["waste_usd_per_hour"], 6 * PRICE, places=4)
            self.assertAlmostEqual(t["coverage_percent"], 100 - 10 / 16 * 100)
            done, _ = self.scanned({}, "--max-waste", "1000")
            self.assertEqual(done.returncode, 3, done.stderr)
        finally:
            self.bed.request("one", "PUT", path, {**role, "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"})
            wait_for(lambda: not [g for g in self.report()["gaps"] if "pods/proxy" in g["reason"]])

    def test_from_inside_the_cluster(self):
        """A pod's own account, and pods at their own addresses."""
        token = self.bed.dir / "account"
        token.mkdir(exist_ok=True)
        (token / "token").write_text("reader-token")
        (token / "namespace").write_text("gpuwaste")
        shutil.copy(self.bed.dir / "ca.pem", token / "ca.crt")
        self.scanned({})
        place = "/var/run/secrets/kubernetes.io/serviceaccount"
        script = f"mount -t tmpfs none /run && mkdir -p /var/run/secrets/kubernetes.io && mount -t tmpfs none /var/run/secrets && mkdir -p {place} && cp {token}/* {place}/ && exec {os.path.abspath(BINARY)} scan --format json --observe 0 --prometheus none"
        env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.bed.ports["one"])}
        done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, env=env, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual(report["sources"][0]["name"], "in-cluster")
        self.assertEqual(steady(report), steady(self.whole))
        # Without rights on the proxy: pods are asked at their own addresses.
        self.assertEqual([s["status"] for s in report["sources"] if s["kind"] in ("exporter", "engine")], ["ok", "ok"])


# Read only where a pod's owners lead to them and the API server serves them: test_owners.py refuses these, in a cluster that has them.
OF_OPERATORS = {"leaderworkerset.x-k8s.io", "argoproj.io", "jobset.x-k8s.io", "kaito.sh", "ray.io", "serving.kserve.io"}


class Rights(unittest.TestCase):
    """Each rule that `gpuwaste rbac` prints is taken away on its own: its gap, in `scan` and in `doctor`, and nothing else."""

    @classmethod
    def setUpClass(cls):
        cls.bed = testbed.Testbed(["one"]).__enter__()
        cls.addClassCleanup(cls.bed.__exit__)
        owned = lambda name, kind, owner, **more: {"kind": kind, "metadata": {"name": name, "namespace": "ml", **({"ownerReferences": [{"apiVersion": owner[0], "kind": owner[1], "name": owner[2], "uid": "0", "controller": True}]} if owner else {})}, "spec": more}
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}], "restartPolicy": "Never"}}
        selector = {"matchLabels": {"a": "b"}}
        cls.bed.seed("one", namespaces("ml", "other") + [
            node("gpu-1"), node("gpu-2"),
            pod("web-5d9c-aaaaa", "gpu-1", owner=("apps/v1", "ReplicaSet", "web-5d9c"), labels={"pod-template-hash": "5d9c"}), owned("web-5d9c", "ReplicaSet", ("apps/v1", "Deployment", "web"), replicas=1, selector=selector, template=template),
            owned("web", "Deployment", None, replicas=1, selector=selector, template=template),
            pod("bare-zzzzz", "gpu-1", owner=("apps/v1", "ReplicaSet", "bare")), owned("bare", "ReplicaSet", None, replicas=1, selector=selector, template=template),
            pod("set-0", "gpu-1", owner=("apps/v1", "StatefulSet", "set")), owned("set", "StatefulSet", None, replicas=1, serviceName="x", selector=selector, template=template),
            pod("nightly-1-x", "gpu-1", owner=("batch/v1", "Job", "nightly-1"), args=()), owned("nightly-1", "Job", ("batch/v1", "CronJob", "nightly"), template=template),
            owned("nightly", "CronJob", None, schedule="0 0 * * *", jobTemplate={"spec": {"template": template}}),
            pod("lws-0", "gpu-2", 2, owner=("apps/v1", "StatefulSet", "lws"), labels={"leaderworkerset.sigs.k8s.io/name": "lws", "leaderworkerset.sigs.k8s.io/group-index": "0"}),
            pod("mine", "gpu-2", ns="other"),
        ])
        cls.bed.apply("one", gpuwaste("rbac").stdout)
        cls.config = cls.bed.kubeconfig(["one"])
        cls.path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/gpuwaste"
        cls.role = json.loads(cls.bed.request("one", "GET", cls.path)[1])

    def put(self, role):
        role = {**role, "metadata": {k: v for k, v in role["metadata"].items() if k != "resourceVersion"}}
        status, text = self.bed.request("one", "PUT", self.path, role)
        self.assertEqual(status, 200, text)

    def scan(self, *args, config=None):
        return scan(config or self.config, "--no-scrape", *args)

    def refusals(self):
        return [g for g in self.scan()[1]["gaps"] if "403" in g["reason"]]

    def test_each_rule(self):
        words = {"nodes": "nodes", "namespaces": "kube-system", "pods": "pods of all namespaces", "horizontalpodautoscalers": "horizontal pod autoscalers", "poddisruptionbudgets": "pod disruption budgets", "services": "history"}
        wait_for(lambda: not self.refusals())
        whole = self.scan()[1]
        self.assertGreaterEqual(len(self.role["rules"]), 13)
        for rule in self.role["rules"]:
            (resource,), (group,) = rule["resources"], rule["apiGroups"]
            if group in OF_OPERATORS:
                continue
            with self.subTest(f"{group}/{resource}"):
                self.put({**self.role, "rules": [r for r in self.role["rules"] if r != rule]})
                try:
                    gaps = wait_for(self.refusals, f"no gap where {resource} of {group} is refused")
                    what = "metrics.k8s.io" if group == "metrics.k8s.io" else words.get(resource, resource)
                    self.assertEqual([what in g["what"] for g in gaps], [True], gaps)
                    self.assertIn("gpuwaste rbac", gaps[0]["remedy"])
                    done, report = self.scan()
                    self.assertEqual(done.returncode, 0, done.stderr)
                    before, after = whole["totals"], report["totals"]
                    self.assertLessEqual(after["waste_usd_per_hour"] or 0, before["waste_usd_per_hour"] + 1e-6)
                    self.assertLessEqual(after["coverage_percent"] or 0, before["coverage_percent"])
                    if resource not in ("nodes", "pods"):
                        self.assertEqual((after["gpus"], after["gpus_free"]), (before["gpus"], before["gpus_free"]))
                        self.assertAlmostEqual(after["spend_usd_per_hour"], before["spend_usd_per_hour"])
                    elif group == "":
                        self.assertIsNone(after["waste_usd_per_hour"], "a refused read is never waste")
                        self.assertEqual(self.scan("--max-waste", "1000")[0].returncode, 3, "nor a clean report under a gate")
                    doctor = gpuwaste("doctor", "--no-scrape", config=self.config)
                    self.assertIn(doctor.returncode, (0, 3), doctor.stderr)
                    for part in (gaps[0]["what"], "403", gaps[0]["remedy"]):
                        self.assertIn(part, doctor.stdout)
                finally:
                    self.put(self.role)
                    wait_for(lambda: not self.refusals())

    def test_no_right_at_all_is_nothing_read(self):
        config = self.bed.kubeconfig(["one"], "nobody-token")
        for command in ("scan", "doctor"):
            done = gpuwaste(command, "--no-scrape", config=config)
            self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
            self.assertIn("403", done.stderr)
            self.assertIn("gpuwaste rbac", done.stderr)
        done = gpuwaste("collect", "--no-scrape", "-o", str(self.bed.dir / "none.json"), config=config)
        self.assertEqual(done.returncode, 2)
        self.assertFalse((self.bed.dir / "none.json").exists())

    def test_one_namespace_is_refused(self):
        roles = gpuwaste("rbac", "--namespace", "ml").stdout.replace("kind: ServiceAccount\n  name: gpuwaste\n  namespace: gpuwaste\n", "kind: User\n  name: nobody\n  apiGroup: rbac.authorization.k8s.io\n")
        self.bed.apply("one", roles)
        config = self.bed.kubeconfig(["one"], "nobody-token")
        try:
            wait_for(lambda: self.scan("-n", "ml", config=config)[0].returncode == 0)
            # All that a namespace's Role grants is used: only what exists cluster-wide is missing.
            _, report = self.scan("-n", "ml", "--prometheus", "none", config=config)
            refused = sorted(g["what"] for g in report["gaps"] if "403" in g["reason"])
            self.assertEqual(refused, ["deviceclasses", "nodes", "pods outside the given namespaces", "resourceslices", "the uid of namespace kube-system"])
            rows = {w["name"]: w["kind"] for w in report["workloads"]}
            self.assertEqual(rows, {"web": "Deployment", "bare": "ReplicaSet", "set": "StatefulSet", "nightly": "CronJob", "lws": "LeaderWorkerSet"})
            done, report = self.scan("-n", "ml", "-n", "other", config=config)
            self.assertEqual(done.returncode, 0, done.stderr)
            gap = next(g for g in report["gaps"] if g["what"] == "pods in namespace other")
            self.assertIn("403", gap["reason"])
            self.assertEqual({w["name"] for w in report["workloads"]}, set(rows))
            self.assertIsNone(report["totals"]["waste_usd_per_hour"])
            self.assertEqual(self.scan("-n", "ml", "-n", "other", "--max-waste", "1000", config=config)[0].returncode, 3)
        finally:
            self.bed.request("one", "DELETE", "/apis/rbac.authorization.k8s.io/v1/namespaces/ml/rolebindings/gpuwaste")


class Connection(unittest.TestCase):
    """The ways to a server, and what bars them."""

    @classmethod
    def setUpClass(cls):
        cls.bed = testbed.Testbed(["one"]).__enter__()
        cls.addClassCleanup(cls.bed.__exit__)
        cls.bed.seed("one", namespaces("ml") + [node("gpu-1")])
        cls.bed.apply("one", gpuwaste("rbac").stdout)
        cls.good = json.loads(cls.bed.kubeconfig(["one"]).read_text())

    def config(self, user=None, **cluster):
        config = json.loads(json.dumps(self.good))
        config["clusters"][0]["cluster"].update(cluster)
        if user:
            config["users"][0]["user"] = user
        path = self.bed.dir / f"config-{time.monotonic_ns()}"
        path.write_text(json.dumps(config))
        return path

    def passes(self, config, env=None):
        done = gpuwaste("scan", "--no-scrape", "--prometheus", "none", "--format", "json", config=config, env=env)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["totals"]["gpus"], 8)

    def fails(self, config, *words, env=None):
        begun = time.monotonic()
        done = gpuwaste("scan", "--no-scrape", "--prometheus", "none", config=config, env=env)
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
        self.assertNotIn("CANARY", done.stderr)
        return time.monotonic() - begun

    def plugin(self, name, script):
        path = self.bed.dir / name
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(0o755)
        return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path), "args": ["get-token"], "env": [{"name": "CLUSTER", "value": "one"}], "interactiveMode": "Never"}}

    def test_a_server_that_does_not_answer_costs_5_seconds(self):
        # A full backlog: the kernel drops further connections, as a firewall does.
        with socket.socket() as deaf, contextlib.ExitStack() as held:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            for _ in range(4):
                client = held.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(deaf.getsockname())
            took = self.fails(self.config(server=f"https://127.0.0.1:{deaf.getsockname()[1]}"), "did not answer within 5 s", "VPN")
        self.assertGreater(took, 4.5)
        self.assertLess(took, 8)

    def test_a_server_that_accepts_and_says_nothing(self):
        with socket.socket() as mute:
            mute.bind(("127.0.0.1", 0))
            mute.listen(8)
            took = self.fails(self.config(server=f"https://127.0.0.1:{mute.getsockname()[1]}"), "within")
        self.assertLess(took, 35)

    def test_a_ca_used_as_the_servers_own_certificate(self):
        run = lambda *a: subprocess.run(["openssl", *a], check=True, capture_output=True, cwd=self.bed.dir)
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "self.key", "-out", "self.pem", "-days", "2", "-subj", "/CN=self", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:TRUE")
        with api(lambda path, n: (200, {})) as plain:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.bed.dir / "self.pem", self.bed.dir / "self.key")
            plain.socket = context.wrap_socket(plain.socket, server_side=True)

            own = base64.b64encode((self.bed.dir / "self.pem").read_bytes()).decode()
            server = f"https://127.0.0.1:{plain.server_port}"
            self.fails(self.config(server=server, **{"certificate-authority-data": own}), "TLS", "CA certificate used as a server's own", "leaf")

    def test_an_exec_plugin_that_works(self):
        good = self.plugin("good-plugin", 'test "$1" = get-token && test "$CLUSTER" = one || exit 3\n'
                           'echo \'{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"reader-token"}}\'\n')
        self.passes(self.config(good))

    def test_exec_plugins_that_do_not(self):
        failing = self.plugin("failing-plugin", "echo 'CANARY-SECRET: your session ended' >&2; exit 7\n")
        self.fails(self.config(failing), "failing-plugin", "by hand")
        silent = self.plugin("silent-plugin", "echo 'CANARY not json'\n")
        self.fails(self.config(silent), "plugin", "by hand")
        expired = self.plugin("expired-plugin", 'echo \'{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"CANARY-old"}}\'\n')
        self.fails(self.config(expired), "401", "log in again")
        missing = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin-xyz", "installHint": "install it with: brew install xyz", "interactiveMode": "Never"}}
        self.fails(self.config(missing), "no-such-plugin-xyz", "not installed", "brew install xyz")
        del missing["exec"]["installHint"]
        self.fails(self.config(missing), "no-such-plugin-xyz", "install")

    def test_http_proxies(self):
        with tunnel() as proxy:
            self.passes(self.config(**{"proxy-url": f"http://127.0.0.1:{proxy.port}"}))
            self.assertTrue(proxy.asked and all(a == f"127.0.0.1:{self.bed.ports['one']}" for a in proxy.asked), proxy.asked)
            asked = len(proxy.asked)
            self.passes(self.config(), env={"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}", "NO_PROXY": ""})
            self.assertGreater(len(proxy.asked), asked, "HTTPS_PROXY is honoured")
        self.fails(self.config(**{"proxy-url": f"http://127.0.0.1:{testbed.free_port()}"}), "proxy")

    def test_tls_server_name(self):
        self.passes(self.config(**{"tls-server-name": "kubernetes"}))
        self.fails(self.config(**{"tls-server-name": "elsewhere"}), "TLS", "tls-server-name")

    def test_kubeconfig_lists(self):
        """Users, clusters and contexts in files of their own, as kubectl merges them; the first to name a current context wins."""
        parts = []
        for key in ("users", "clusters", "contexts"):
            path = self.bed.dir / f"part-{key}"
            path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", key: self.good[key], **({"current-context": "one"} if key == "contexts" else {})}))
            parts.append(str(path))
        self.passes(None, env={"KUBECONFIG": ":".join(parts)})
        broken = self.bed.dir / "broken"
        broken.write_text("clusters: [")
        done = gpuwaste("scan", env={"KUBECONFIG": str(broken)})
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("kubeconfig", done.stderr)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *where):
        # A client that hangs up is what some of these tests are about; anything else is a fault of the test.
        if not isinstance(sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1], OSError):
            super().handle_error(*where)


@contextlib.contextmanager
def api(answer):
    """An API server of a few lines: `answer(path, times asked)` gives (code, body) or (code, body, headers)."""
    counts = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            path = self.path
            with lock:
                counts[path] = counts.get(path, 0) + 1
            code, body, *headers = answer(path, counts[path])
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers[0] if headers else {})}
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            if int(headers["Content-Length"]) != len(data):
                self.close_connection = True

        def log_message(self, *_):
            pass

    lock = threading.Lock()
    server = Server(("127.0.0.1", 0), Handler)
    server.counts = counts
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class tunnel:
    """A CONNECT proxy."""

    def __enter__(self):
        self.asked = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(client,), daemon=True).start()

    def one(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            got = client.recv(4096)
            if not got:
                return
            head += got
        verb, where, _ = head.split(b"\r\n")[0].decode().split(" ")
        if verb != "CONNECT":
            client.sendall(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
            return client.close()
        self.asked.append(where)
        host, port = where.rsplit(":", 1)
        with socket.create_connection((host, int(port))) as far, client:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            while True:
                for ready in select.select([client, far], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    (far if ready is client else client).sendall(data)


TWO_NODES = fake.World([node("gpu-1"), node("gpu-2"), pod("held", "gpu-1", 8)])


def fleet(path):
    """Two nodes with 8 GPUs each, one of them held."""
    code, body, kind = TWO_NODES.answer(path)
    return code, body, {"Content-Type": kind}


class Hiccups(unittest.TestCase):
    """An API server that is busy, breaks off, or is none."""

    def scan(self, answer, *args):
        with api(answer) as server, tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "config"
            path.write_text(json.dumps(plain_config(server.server_port)))
            done = gpuwaste("scan", "--no-scrape", "--prometheus", "none", "--format", "json", *args, config=path)
            return done, json.loads(done.stdout) if done.stdout else None, server.counts

    def test_busy_servers_are_asked_again(self):
        for code, headers in [(429, {"Retry-After": "1"}), (500, {}), (503, {"Retry-After": "1"}), (504, {})]:
            with self.subTest(code):
                busy = lambda path, n: (code, {"kind": "Status", "reason": "TooManyRequests"}, headers) if path.startswith(("/api/v1/nodes", "/api/v1/pods")) and n <= 2 else fleet(path)
                begun = time.monotonic()
                done, report, counts = self.scan(busy)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual((report["totals"]["gpus"], report["totals"]["gpus_free"]), (16, 8))
                self.assertEqual([n for path, n in counts.items() if path.startswith("/api/v1/pods")], [3])
                self.assertGreater(time.monotonic() - begun, 2 if headers else 1, "it waits in between")

    def test_a_read_that_fails_for_good_is_a_gap(self):
        html = (200, b"<html>a proxy's login page</html>", {"Content-Type": "text/html"})
        half = (200, b'{"metadata":{},"items":[{"metadata":{"name":"x"', {"Content-Length": "90000"})
        for name, bad, reason in [("503", (503, {"kind": "Status", "message": "etcd is away"}), "503"), ("html", html, "could not be read"), ("cut off", half, "cut off")]:
            for resource, what, gate in [("/api/v1/nodes", "nodes", 3), ("/api/v1/pods", "pods of all namespaces", 3), ("/apis/policy", "pod disruption budgets", 0), ("/apis/autoscaling", "horizontal pod autoscalers", 0), ("/api/v1/namespaces/kube-system", "the uid", 0)]:
                with self.subTest(f"{name} {resource}"):
                    answer = lambda path, n: bad if path.startswith(resource) else fleet(path)
                    done, report, _ = self.scan(answer)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    gaps = [g for g in report["gaps"] if what in g["what"]]
                    self.assertTrue(gaps and reason in gaps[0]["reason"], report["gaps"])
                    if gate:
                        self.assertIsNone(report["totals"]["waste_usd_per_hour"])
                        self.assertEqual(self.scan(answer, "--max-waste", "1000")[0].returncode, gate)
                    else:
                        self.assertEqual((report["totals"]["gpus"], report["totals"]["gpus_free"]), (16, 8))

    def test_not_an_api_server(self):
        done, _, _ = self.scan(lambda path, n: (200, b"<html>hello</html>", {"Content-Type": "text/html"}))
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertNotIn("panicked", done.stderr)

    def test_ctrl_c_is_130_with_nothing_on_stdout(self):
        asked = threading.Event()

        def slow(path, n):
            if path.startswith("/api/v1/pods"):
                asked.set()
                time.sleep(20)
            return fleet(path)

        for command in (["scan", "--format", "json"], ["collect", "-o", "-"], ["doctor"]):
            asked.clear()
            with self.subTest(command[0]), api(slow) as server, tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "config"
                path.write_text(json.dumps(plain_config(server.server_port)))
                child = subprocess.Popen([BINARY, *command, "--kubeconfig", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
                self.assertTrue(asked.wait(20))
                child.send_signal(signal.SIGINT)
                out, err = child.communicate(timeout=5)
                self.assertEqual((child.returncode, out), (130, b""), err)

    def test_ctrl_c_while_a_plugin_waits_for_a_login(self):
        with tempfile.TemporaryDirectory() as folder:
            plugin, mark = pathlib.Path(folder) / "slow-plugin", pathlib.Path(folder) / "begun"
            plugin.write_text(f"#!/bin/sh\ntouch {mark}\nexec sleep 15\n")
            plugin.chmod(0o755)
            config = plain_config(testbed.free_port())
            config["users"][0]["user"] = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}}
            path = pathlib.Path(folder) / "config"
            path.write_text(json.dumps(config))
            child = subprocess.Popen([BINARY, "scan", "--kubeconfig", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
            wait_for(mark.exists, "the plugin was not started")
            begun = time.monotonic()
            child.send_signal(signal.SIGINT)
            child.wait(timeout=5)
            self.assertEqual(child.returncode, 130)
            self.assertLess(time.monotonic() - begun, 3)
            child.stdout.close()
            child.stderr.close()


def plain_config(port):
    return {"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "u", "user": {"token": "t"}}], "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}


if __name__ == "__main__":
    unittest.main(verbosity=1)
