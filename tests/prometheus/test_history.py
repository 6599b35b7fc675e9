#!/usr/bin/env python3
"""gpuwaste on a real Prometheus with two weeks of history, named and found through a real API server's service proxy.

usage: GPUWASTE=target/release/gpuwaste python3 tests/prometheus/test_history.py
Expected findings come from the generator's own arithmetic (world.py).
"""
import json, os, pathlib, resource, subprocess, sys, tempfile, time, unittest, urllib.parse, urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "testbed"))
import backend, store, testbed, world
from world import BIN, DAY, GPU_PRICE, HOUR, WINDOW

BINARY = os.environ.get("GPUWASTE", "target/debug/gpuwaste")
# Of its own, so that two runs on one machine do not meet.
SUBNET = f"10.232.{40 + os.getpid() % 200}"
ADDRESS = f"{SUBNET}.2"


def run(*args, timeout=600):
    """(result, seconds, peak RSS in MiB)."""
    before = time.time()
    command = [sys.executable, "-c", "import resource,subprocess,sys; r=subprocess.run(sys.argv[1:]); sys.stderr.write(f'\\nRSS {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}'); sys.exit(r.returncode)", BINARY, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout)
    text, _, rss = done.stderr.rpartition("\nRSS ")
    done.stderr = text
    return done, time.time() - before, int(rss) / 1024


def curl_seconds(url, asked):
    """The same questions by curl, as many at once as gpuwaste asks."""
    children, begun = [], time.time()
    for path, form in asked:
        while sum(c.poll() is None for c in children) >= 3:
            time.sleep(0.02)
        children.append(subprocess.Popen(["curl", "-s", "-o", "/dev/null", "--data", form, url + path], stdin=subprocess.DEVNULL))
    for child in children:
        child.wait()
    return time.time() - begun


class History(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not store.available():
            raise unittest.SkipTest("prometheus and promtool are not installed")
        cls.dir = pathlib.Path(tempfile.mkdtemp(prefix="gpuwaste-history-"))
        cls.addClassCleanup(lambda: subprocess.run(["rm", "-rf", str(cls.dir)]))
        cls.world = world.World()
        begun = time.time()
        cls.samples = store.backfill(cls.world, cls.dir / "fleet")
        print(f"history of {cls.world.gpus} GPUs x 14 d: {cls.samples / 1e6:.1f} M samples in {time.time() - begun:.0f} s", file=sys.stderr)
        cls.bed = testbed.Testbed(["prod", "bare"]).__enter__()
        cls.addClassCleanup(cls.bed.__exit__)
        namespaces = [{"kind": "Namespace", "metadata": {"name": n}, "status": {"phase": "Active"}} for n in ("ml", "monitoring")]
        cls.bed.seed("prod", namespaces + cls.world.objects)
        cls.bed.seed("bare", namespaces[:1] + cls.world.objects)
        cls.config = cls.bed.kubeconfig(["prod"], "admin-token")
        cls.prometheus = store.Prometheus(cls.dir / "fleet").__enter__()
        cls.addClassCleanup(cls.prometheus.__exit__)
        cls.backend = backend.Backend(cls.prometheus.url)
        cls.snapshot = cls.dir / "direct.json.zst"
        cls.collected, cls.seconds, cls.rss = run("collect", "--kubeconfig", cls.config, "--no-scrape", "--prometheus", cls.backend.url("pass"), "-o", cls.snapshot, "--timeout", "120s")
        assert cls.collected.returncode == 0, cls.collected.stderr
        cls.report = cls.judge(cls.snapshot)

    @classmethod
    def judge(cls, snapshot, *args):
        done, _, _ = run("scan", "--snapshot", snapshot, "--format", "json", *args)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def find(self, check, name, part=None, report=None):
        found = [f for f in (report or self.report)["findings"] if f["check"] == check and f["subject"]["name"] == name and (part is None or f["part"] == part)]
        self.assertLessEqual(len(found), 1, found)
        return found[0] if found else None

    def evidence(self, finding, name):
        return next(e["value"] for e in finding["evidence"] if e["name"] == name)

    def observed(self, name, report=None):
        return next(w for w in (report or self.report)["workloads"] if w["name"] == name)["observed"]

    # --- what is found -----------------------------------------------------------------------------------------------

    def test_idle_is_measured_and_only_what_is_idle(self):
        idle = {f["subject"]["name"]: f for f in self.report["findings"] if f["part"] == "idle"}
        w = self.world
        silent = {x["name"] for x in (w.ghost, w.notebook)}
        measured = {n for n, f in idle.items() if f["confidence"] == "measured"}
        self.assertEqual(measured, silent | {"sliceidle"}, "the truth: no request in the window, or no activity")
        for name in silent:
            truth = getattr(w, name)
            self.assertEqual(sum(w.bins(truth, lambda l: l.rps)), 0)
            self.assertAlmostEqual(idle[name]["waste_usd_per_hour"], truth["replicas"] * truth["gpus"] * GPU_PRICE, places=3)
        self.assertAlmostEqual(idle["sliceidle"]["waste_usd_per_hour"], GPU_PRICE / 7, places=3, msg="a MIG instance is its slices of the card")
        # No request and a card at rest, but 100 % "utilization": one says idle, the other that it works. Nobody's waste, and said.
        self.assertEqual(sum(w.bins(w.spin, lambda l: l.rps)), 0)
        self.assertNotIn("spin", idle)
        self.assertEqual(next(x for x in self.report["workloads"] if x["name"] == "spin")["state"], "unknown")
        refused = [n for c in self.report["checks"] if c["id"] == "dark-capacity" for n in c["not_assessed"] if n["reason"].startswith("one source says idle")]
        self.assertEqual([(n["gpus"], n["usd_per_hour"]) for n in refused], [(1, GPU_PRICE)])
        # Five hours of life are no week; a third of the samples is no window; shared devices are nobody's own.
        self.assertEqual(idle["young"]["confidence"], "estimated")
        self.assertIn("5 h", idle["young"]["title"])
        self.assertNotIn("sparse", idle)
        for name in ("chat", "office", "stuckprof", "train", "pressed", "starved", "shareone", "sharetwo", "slicebusy"):
            self.assertNotIn(name, idle)
        self.assertEqual(next(x for x in self.report["workloads"] if x["name"] == "stuckprof")["state"], "working", "profiling counters stuck at 0")

    def test_free_for_a_day_is_measured(self):
        free = [f for f in self.report["findings"] if f["part"] == "unallocated" and f["subject"]["pool"] == "h100"]
        self.assertEqual(len(free), 1)
        self.assertEqual(free[0]["confidence"], "measured")
        unheld = sum(len(n["free"]) for n in self.world.nodes)
        self.assertAlmostEqual(free[0]["waste_usd_per_hour"], unheld * GPU_PRICE, places=3)

    def test_pressure_and_starvation_by_bins(self):
        w = self.world
        pressed = self.find("kv-pressure", "pressed")
        share = w.share(w.pressed, lambda l: l.kv >= 0.95 and l.waiting > 0, lambda l: l.rps > 0)
        self.assertEqual(pressed["confidence"], "measured")
        self.assertAlmostEqual(pressed["at_risk_usd_per_hour"], 8 * GPU_PRICE * share, delta=0.05 * 8 * GPU_PRICE * share)
        starved = {f["subject"]["name"]: f for f in self.report["findings"] if f["check"] == "cpu-gpu-imbalance" and f["part"] is None}
        self.assertEqual(set(starved), {"starved", "unqueued", "unlimited"}, "a queue, or half of the usual load; a light load starves nobody; without a limit the machine is one")
        for name, finding in starved.items():
            truth = getattr(w, name)
            share = w.share(truth, lambda l: l.throttle >= 0.25 or l.cpu >= 0.9, lambda l: l.rps > 0)
            expected = truth["gpus"] * GPU_PRICE * share * (1 - 0.12 / 0.6)
            self.assertEqual(finding["confidence"], "measured")
            self.assertAlmostEqual(finding["at_risk_usd_per_hour"], expected, delta=0.05 * expected, msg=name)
        self.assertEqual([f["subject"]["name"] for f in self.report["findings"] if f["check"] == "kv-pressure" and f["part"] is None], ["pressed"])

    def test_restarts_under_pressure_are_likely_gpu_memory(self):
        w = self.world
        found = {f["subject"]["name"]: f for f in self.report["findings"] if f["part"] == "gpu-oom"}
        self.assertEqual(set(found), {"crashy"}, "calm hours explain nothing, and host memory says so itself")
        crashes = sum(w.now - WINDOW < t <= w.now for t in w.crash_times(w.crashy))
        self.assertGreaterEqual(crashes, 6)
        self.assertAlmostEqual(self.evidence(found["crashy"], "restarts_after_pressure"), crashes, delta=1)
        self.assertEqual((found["crashy"]["confidence"], found["crashy"]["usd_per_hour"], found["crashy"]["claims"]), ("estimated", None, []))

    def test_thresholds_of_the_policy_reach_the_store(self):
        policy, target = self.dir / "policy.toml", self.dir / "policy.json"
        # pressed runs at 0.99 in its bad hours and at 0.4 else, where nothing waits: at 0.995 it is never full.
        policy.write_text("[thresholds.kv-pressure]\nkv_pressure_usage = 0.995\n[thresholds.cpu-gpu-imbalance]\ngpu_starved = 0.1\n")
        done, _, _ = run("collect", "--kubeconfig", self.config, "--no-scrape", "--prometheus", self.prometheus.url, "--window", "2d", "--policy", policy, "-o", target, "--timeout", "120s")
        self.assertEqual(done.returncode, 0, done.stderr)
        other = lambda report: {(f["check"], f["subject"]["name"]) for f in report["findings"] if f["check"] in ("kv-pressure", "cpu-gpu-imbalance") and f["part"] is None}
        self.assertEqual(other(self.judge(target, "--policy", policy)), set())
        # Counted by one policy, judged by another: nobody can say, and says so.
        plain = self.judge(target)
        self.assertEqual(other(plain), set())
        self.assertTrue([g for g in plain["gaps"] if "kv_pressure_usage 0.995, not 0.95" in g["reason"]], plain["gaps"])
        check = next(c for c in plain["checks"] if c["id"] == "kv-pressure")
        self.assertIn("other thresholds", " ".join(n["reason"] for n in check["not_assessed"]))

    def test_devices_of_other_makers(self):
        others = world.Others(now=self.world.now)
        store.backfill(others, self.dir / "others")
        self.bed.seed("bare", others.objects)
        target = self.dir / "others.json"
        with store.Prometheus(self.dir / "others") as prometheus:
            done, _, _ = run("collect", "--kubeconfig", self.bed.kubeconfig(["bare"], "admin-token"), "--no-scrape", "--prometheus", prometheus.url, "-o", target, "--timeout", "120s")
        self.assertEqual(done.returncode, 0, done.stderr)
        report = self.judge(target)
        source = next(s for s in report["sources"] if s["kind"] == "prometheus")
        self.assertIn("AMD's device metrics, Gaudi's metrics", source["detail"])
        idle = {f["subject"]["name"]: f for f in report["findings"] if f["part"] == "idle"}
        self.assertEqual({n: f["confidence"] for n, f in idle.items()}, {"amdquiet": "measured", "hpuquiet": "measured"})
        self.assertAlmostEqual(idle["amdquiet"]["waste_usd_per_hour"], 67.2 / 8, places=3)
        self.assertAlmostEqual(idle["hpuquiet"]["waste_usd_per_hour"], 13.10904 / 8, places=3)
        states = {w["name"]: w["state"] for w in report["workloads"]}
        self.assertEqual((states["amdworks"], states["hpuworks"]), ("working", "working"))
        free = {f["subject"]["pool"]: f["confidence"] for f in report["findings"] if f["part"] == "unallocated"}
        self.assertEqual((free["amd"], free["hpu"]), ("measured", "measured"))
        used = {h["name"]: h["gpu_bins"] / u["bins"] for u in json.loads(target.read_text())["clusters"][0]["history"]["usage"][:1] for h in u["held"]}
        self.assertAlmostEqual(used["amdworks"], 1, delta=0.02)
        self.assertAlmostEqual(used["hpuworks"], 1, delta=0.02)

    def test_quiet_hours_are_priced(self):
        quiet = [f for f in self.report["findings"] if f["check"] == "idle-schedule"]
        self.assertEqual([f["subject"]["name"] for f in quiet], ["office"])
        hours = self.world.idle_hours(self.world.office)
        self.assertAlmostEqual(self.evidence(quiet[0], "idle_hours_per_week"), hours, delta=0.07 * hours)
        self.assertAlmostEqual(quiet[0]["waste_usd_per_hour"], 8 * GPU_PRICE * hours / 168, delta=0.08 * 8 * GPU_PRICE * hours / 168)
        self.assertEqual(quiet[0]["confidence"], "estimated", "one week may be a holiday")

    def test_costs_that_outgrow_work(self):
        w = self.world
        growth = self.find("cost-growth", "falling", "workload")
        tokens = lambda start, end: w.integral(w.falling, lambda l: l.rps * (l.output + 0.25 * l.prompt), start, end)
        then, now = tokens(w.now - 2 * WINDOW, w.now - WINDOW), tokens(w.now - WINDOW, w.now)
        spend = 8 * GPU_PRICE
        self.assertAlmostEqual(growth["usd_per_hour"], spend * (1 - now / then), delta=0.03 * spend)
        self.assertEqual((growth["kind"], growth["waste_usd_per_hour"], growth["claims"]), ("trend", None, []))
        parts = [e["value"] for e in growth["evidence"] if e["name"].startswith("change_by_")]
        change = self.evidence(growth, "spend_now") - self.evidence(growth, "spend_before")
        self.assertEqual(len(parts), 7)
        self.assertAlmostEqual(sum(parts), change, delta=1e-6)
        per_million = lambda total: spend / (total / 168) * 1e6
        plain = lambda start, end: w.integral(w.falling, lambda l: l.rps * (l.output + l.prompt), start, end)
        self.assertAlmostEqual(self.evidence(growth, "usd_per_million_tokens_now"), per_million(plain(w.now - WINDOW, w.now)), delta=0.03 * per_million(plain(w.now - WINDOW, w.now)))
        steady = {f["subject"]["name"] for f in self.report["findings"] if f["check"] == "cost-growth" and f["part"] == "workload"}
        self.assertEqual(steady, {"falling"})

    def test_figures_are_the_truths(self):
        w = self.world
        quantile = lambda v, q: sorted(v)[int(q * (len(v) - 1))]
        # chat lost a pod in mid-window: its time counts for the workload. Rank series, HA pairs and renamed gauges count once.
        for name, of, field in (("chat", lambda l: l.rps * l.output, "output_tokens_per_second"), ("chat", lambda l: l.rps, "requests_per_second"), ("search", lambda l: l.rps, "requests_per_second"),
                                ("draft", lambda l: l.rps * l.prompt, "prompt_tokens_per_second"), ("pressed", lambda l: l.rps, "requests_per_second")):
            truth, seen = w.bins(getattr(w, name), of), self.observed(name)[field]
            for stat, value in (("mean", sum(truth) / len(truth)), ("p50", quantile(truth, 0.5)), ("p95", quantile(truth, 0.95)), ("p99", quantile(truth, 0.99)), ("max", max(truth))):
                self.assertAlmostEqual(seen[stat], value, delta=0.03 * max(truth), msg=f"{name} {field} {stat}")
            self.assertGreater(seen["coverage"], 0.97)
        self.assertAlmostEqual(self.observed("chat")["kv_usage"]["max"], max(l.kv for t, l in w.loads(w.chat) if t > w.now - WINDOW), delta=0.01)
        self.assertAlmostEqual(self.observed("sparse")["requests_per_second"]["coverage"], 1 / 3, delta=0.03)
        self.assertEqual(self.report["totals"]["gpus"], w.gpus)
        self.assertLessEqual(self.report["totals"]["waste_usd_per_hour"], self.report["totals"]["spend_usd_per_hour"])

    # --- how it is asked ---------------------------------------------------------------------------------------------

    def test_it_asks_little_and_politely(self):
        asked = [a for a in self.backend.asked if a[0] == "pass"]
        queries = [(path, body) for _, method, path, body, _ in asked if path.startswith("/api/v1/query")]
        self.assertLessEqual(len(queries), 25)
        for _, body in queries:
            text = urllib.parse.parse_qs(body)["query"][0]
            self.assertLess(len(text), 4096)
            for pod in self.world.pods:
                self.assertNotIn(pod["name"], text)
        again = curl_seconds(self.prometheus.url, queries)
        ratio = self.seconds / max(again, 0.1)
        source = next(s for s in self.report["sources"] if s["kind"] == "prometheus")
        print(f"{self.world.gpus} GPUs: {source['detail']}; whole collect {self.seconds:.1f} s, RSS {self.rss:.0f} MiB, the same queries by curl {again:.1f} s, ratio {ratio:.2f}", file=sys.stderr)
        self.assertLess(self.rss, 256)
        self.assertLessEqual(ratio, 2)
        for word in ("both generations", "exported_pod", "keeps 60d", "engine metrics"):
            self.assertIn(word, source["detail"])

    def test_the_replay_is_the_scan(self):
        self.assertEqual(self.judge(self.snapshot), self.judge(self.snapshot))
        self.assertEqual(self.report["window_seconds"], WINDOW)

    def test_short_history_is_a_gap_and_no_trend(self):
        target = self.dir / "long.json"
        done, _, _ = run("collect", "--kubeconfig", self.config, "--no-scrape", "--prometheus", self.prometheus.url, "--window", "14d", "-o", target, "--timeout", "120s")
        self.assertEqual(done.returncode, 0, done.stderr)
        report = self.judge(target)
        self.assertFalse([f for f in report["findings"] if f["check"] == "cost-growth"])
        self.assertTrue(next(c for c in report["checks"] if c["id"] == "cost-growth")["not_assessed"])
        # Two weeks seen: no holiday. young's two GPUs are still young.
        self.assertEqual(self.find("idle-schedule", "office", report=report)["confidence"], "measured")
        both = run("diff", self.snapshot, target, "--format", "json")[0]
        difference = json.loads(both.stdout)
        self.assertIn("cost-growth", {f["check"] for f in difference["gone_findings"]})
        self.assertTrue(all(f["not_judged"] for f in difference["gone_findings"] if f["check"] == "cost-growth"))
        self.assertAlmostEqual(difference["spend_usd_per_hour"]["delta"], 0)
        self.assertIsNotNone(difference["work"]["output_tokens_per_second"]["new"])

    # --- found through the API server --------------------------------------------------------------------------------

    def test_found_by_label_through_the_service_proxy(self):
        if not testbed.can_make_networks():
            self.skipTest("needs root and iproute2 for a network namespace")
        space = f"gpuwastep{os.getpid() % 10000}"
        near, far = f"gp{os.getpid() % 10000}a", f"gp{os.getpid() % 10000}b"
        ip = lambda *a: subprocess.run(["ip", *a], check=True, capture_output=True)
        ip("netns", "add", space)
        self.addCleanup(lambda: subprocess.run(["ip", "netns", "del", space], capture_output=True))
        ip("link", "add", near, "type", "veth", "peer", "name", far)
        ip("link", "set", far, "netns", space)
        ip("addr", "add", f"{SUBNET}.1/24", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", space, "addr", "add", f"{ADDRESS}/24", "dev", far)
        ip("-n", space, "link", "set", far, "up")
        ip("-n", space, "link", "set", "lo", "up")
        copy = self.dir / "proxied"
        subprocess.run(["cp", "-r", self.dir / "fleet", copy], check=True)
        labels = {"app": "kube-prometheus-stack-prometheus"}
        ports = [{"name": "http-web", "port": 9090, "protocol": "TCP"}]
        # The API server proxies only to addresses that are a pod's own.
        self.bed.seed("prod", [{"kind": "Pod", "metadata": {"name": "prom-0", "namespace": "monitoring"}, "spec": {"nodeName": "other", "containers": [{"name": "prometheus", "image": "prometheus"}]},
                                "status": {"phase": "Running", "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]}}])
        pod = {"kind": "Pod", "namespace": "monitoring", "name": "prom-0"}
        with store.Prometheus(copy, ADDRESS, space):
            for kind, body in (("services", {"spec": {"ports": [{**ports[0], "targetPort": 9090}]}}), ("endpoints", {"subsets": [{"addresses": [{"ip": ADDRESS, "targetRef": pod}], "ports": ports}]})):
                code, text = self.bed.request("prod", "POST", f"/api/v1/namespaces/monitoring/{kind}", {"apiVersion": "v1", "kind": kind[:-1].capitalize() if kind == "services" else "Endpoints", "metadata": {"name": "prom", "namespace": "monitoring", "labels": labels}, **body})
                self.assertEqual(code, 201, text)
            slice_ = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "prom-1", "namespace": "monitoring", "labels": {"kubernetes.io/service-name": "prom"}}, "addressType": "IPv4",
                      "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": True}, "targetRef": pod}], "ports": ports}
            self.bed.request("prod", "POST", "/apis/discovery.k8s.io/v1/namespaces/monitoring/endpointslices", slice_)
            # The window moves on while the tests run: what is compared is read one after the other.
            direct, target = self.dir / "direct-again.json", self.dir / "proxied.json"
            done, _, _ = run("collect", "--kubeconfig", self.config, "--no-scrape", "--prometheus", self.prometheus.url, "-o", direct, "--timeout", "120s")
            self.assertEqual(done.returncode, 0, done.stderr)
            done, seconds, _ = run("collect", "--kubeconfig", self.config, "--no-scrape", "-o", target, "--timeout", "120s")
            self.assertEqual(done.returncode, 0, done.stderr)
            report = self.judge(target)
            source = next(s for s in report["sources"] if s["kind"] == "prometheus")
            print(f"through the proxy: {source['name']}: {source['detail']}", file=sys.stderr)
            self.assertEqual((source["name"], source["status"]), ("monitoring/prom:9090", "ok"))
            key = lambda r: {(f["id"], f["confidence"]): f["usd_per_hour"] for f in r["findings"]}
            ours, theirs = key(report), key(self.judge(direct))
            self.assertEqual(set(ours), set(theirs))
            for id_, usd in theirs.items():
                self.assertEqual(ours[id_] is None, usd is None, id_)
                self.assertAlmostEqual(ours[id_] or 0, usd or 0, delta=0.02 * abs(usd or 0) + 0.01)
            doctor, _, _ = run("doctor", "--kubeconfig", self.config, "--no-scrape", "--window", "1d", "--timeout", "120s")
            self.assertRegex(doctor.stdout, r"ok +prometheus monitoring/prom:9090: Prometheus 2.*keeps 60d.*both generations")
            # A reader without services/proxy is told what to run.
            roles = run("rbac")[0].stdout
            self.bed.apply("prod", roles)
            reader = self.bed.kubeconfig(["prod"], "reader-token", "reader")
            done, _, _ = run("collect", "--kubeconfig", reader, "--no-scrape", "-o", self.dir / "reader.json")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("kubectl port-forward -n monitoring svc/prom", done.stderr)
            self.assertIn("gpuwaste rbac --with prometheus=monitoring/prom:9090", done.stderr)
            self.bed.apply("prod", run("rbac", "--with", "prometheus=monitoring/prom:9090")[0].stdout)
            done, _, _ = run("collect", "--kubeconfig", reader, "--no-scrape", "--window", "1d", "-o", self.dir / "reader.json", "--timeout", "120s")
            self.assertNotIn("port-forward", done.stderr)
            self.assertIsNotNone(json.loads((self.dir / "reader.json").read_text())["clusters"][0].get("history"))

        # What the store itself says is told, not that nothing came: the API server hands its errors on.
        for mode, words in (("503", "it answered 503"), ("504", "it answered 504"), ("422", "it answered 422"), ("html", "login page"), ("login", "redirect"), ("401", "credentials of its own"), ("cut", "cut off")):
            child = subprocess.Popen(["ip", "netns", "exec", space, sys.executable, backend.__file__, ADDRESS, "9090", mode], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
            try:
                child.stdout.readline()
                done, seconds, _ = run("collect", "--kubeconfig", self.config, "--no-scrape", "-o", self.dir / "behind.json", "--timeout", "60s")
            finally:
                child.kill()
                child.wait()
                child.stdout.close()
            self.assertEqual(done.returncode, 0, f"{mode}: it was found, not named\n{done.stderr}")
            self.assertIn(words, done.stderr, mode)
            self.assertIn("kubectl port-forward -n monitoring svc/prom", done.stderr, mode)
            self.assertLess(seconds, 45, mode)

    def test_without_a_store_it_says_so(self):
        done, _, _ = run("collect", "--kubeconfig", self.bed.kubeconfig(["bare"], "admin-token"), "--no-scrape", "-o", self.dir / "bare.json")
        self.assertEqual(done.returncode, 0)
        self.assertIn("--prometheus URL", done.stderr)

    # --- backends that misbehave -------------------------------------------------------------------------------------

    def bad(self, mode, *args):
        target = self.dir / f"bad-{mode}.json"
        done, seconds, _ = run("collect", "--kubeconfig", self.config, "--no-scrape", "--prometheus", self.backend.url(mode), "--window", "1d", "-o", target, *args)
        self.assertNotIn("panicked", done.stderr)
        self.assertLess(seconds, 180)
        return done, json.loads(target.read_text())

    def test_every_misbehaviour_is_a_clear_gap(self):
        for mode, words in (("slow", "no answer within 1 s"), ("422", "422"), ("503", "503"), ("504", "504"), ("html", "login page"), ("login", "redirect"), ("401", "credentials of its own"), ("type", "content type"), ("cut", "cut off")):
            done, snapshot = self.bad(mode, "--timeout", "1s" if mode == "slow" else "30s")
            self.assertEqual(done.returncode, 3, f"{mode}: a source that was named failed\n{done.stderr}")
            self.assertIn(words, done.stderr, mode)
            self.assertNotIn("history", snapshot["clusters"][0], mode)
            gap = next(g for g in snapshot["gaps"] if g["source"].startswith("prometheus"))
            self.assertTrue(gap["remedy"], mode)

    def test_queries_that_fail_are_gaps_too(self):
        for mode, words in (("q-422", "422"), ("q-503", "503"), ("q-cut", "cut off"), ("q-html", "login page")):
            done, snapshot = self.bad(mode)
            self.assertEqual(done.returncode, 3, f"{mode}\n{done.stderr}")
            self.assertIn(words, done.stderr, mode)

    def test_warnings_make_the_answer_partial(self):
        done, snapshot = self.bad("warnings", "--timeout", "120s")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("No StoreAPIs matched", done.stderr)
        self.assertEqual(next(s for s in snapshot["sources"] if s["kind"] == "prometheus")["status"], "partial")

    def test_what_is_too_much_is_asked_in_pieces(self):
        done, snapshot = self.bad("heavy", "--timeout", "120s")
        self.assertEqual(done.returncode, 0, done.stderr)
        whole, plain = self.bad("plain", "--timeout", "120s")
        loads = lambda s: {(w["namespace"], w["name"]): w.get("output_tokens", {}) for w in s["clusters"][0]["history"]["workloads"]}
        pieces, whole = loads(snapshot), loads(plain)
        self.assertEqual(set(pieces), set(whole))
        for key, figure in whole.items():
            for stat, value in figure.items():
                if value is None:
                    self.assertIsNone(pieces[key][stat], f"{key} {stat}")
                    continue
                self.assertAlmostEqual(pieces[key][stat], value, delta=0.02 * abs(value) + 1, msg=f"{key} {stat}")
        self.assertEqual(len(snapshot["clusters"][0]["history"]["gpus"]), len(plain["clusters"][0]["history"]["gpus"]))

    def test_credentials_are_sent_and_never_shown(self):
        token = self.dir / "token"
        token.write_text("CANARY-TOKEN\n")
        done, _ = self.bad("401", "--prometheus-token-file", str(token), "--prometheus-header", "X-Scope-OrgID: CANARY-ORG", "-v")
        headers = [a[4] for a in self.backend.asked if a[0] == "401"][-1]
        self.assertEqual((headers["authorization"], headers["x-scope-orgid"]), ("Bearer CANARY-TOKEN", "CANARY-ORG"))
        password = self.dir / "password"
        password.write_text("CANARY-PASSWORD\n")
        url = self.backend.url("401").replace("http://", "http://CANARY-USER:CANARY-INLINE@")
        more, _, _ = run("collect", "--kubeconfig", self.config, "--no-scrape", "--prometheus", url, "--prometheus-user", "7", "--prometheus-password-file", password, "-o", self.dir / "auth.json", "-v")
        import base64
        self.assertEqual([a[4] for a in self.backend.asked if a[0] == "401"][-1]["authorization"], "Basic " + base64.b64encode(b"7:CANARY-PASSWORD").decode())
        for text in (done.stderr, done.stdout, more.stderr, more.stdout, (self.dir / "auth.json").read_text(), (self.dir / "bad-401.json").read_text()):
            self.assertNotIn("CANARY", text)

    def test_sigv4(self):
        env = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "CANARY-SECRET", "AWS_SESSION_TOKEN": "session"}
        command = [BINARY, "collect", "--kubeconfig", str(self.config), "--no-scrape", "--prometheus", self.backend.url("401"), "--prometheus-sigv4-region", "eu-west-1", "-o", str(self.dir / "sig.json")]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, stdin=subprocess.DEVNULL)
        signed = [a[4] for a in self.backend.asked if a[0] == "401"][-1]
        self.assertRegex(signed["authorization"], r"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/\d+/eu-west-1/aps/aws4_request")
        self.assertNotIn("CANARY", done.stderr)
        bare = subprocess.run(command, capture_output=True, text=True, env={k: v for k, v in os.environ.items() if not k.startswith("AWS_")}, stdin=subprocess.DEVNULL)
        self.assertIn("AWS_ACCESS_KEY_ID", bare.stderr)


class Large(unittest.TestCase):
    def test_a_thousand_gpus_at_coarse_steps(self):
        if not store.available():
            self.skipTest("prometheus and promtool are not installed")
        folder = pathlib.Path(tempfile.mkdtemp(prefix="gpuwaste-large-"))
        self.addCleanup(lambda: subprocess.run(["rm", "-rf", str(folder)]))
        big = world.World(scale=9, step=1200)
        samples = store.backfill(big, folder / "fleet")
        with testbed.Testbed(["large"]) as bed, store.Prometheus(folder / "fleet") as prometheus:
            bed.seed("large", [{"kind": "Namespace", "metadata": {"name": "ml"}, "status": {"phase": "Active"}}] + big.objects)
            pass_on = backend.Backend(prometheus.url)
            target = folder / "large.json"
            done, seconds, rss = run("collect", "--kubeconfig", bed.kubeconfig(["large"], "admin-token"), "--no-scrape", "--prometheus", pass_on.url("pass"), "-o", target, "--timeout", "300s")
            self.assertEqual(done.returncode, 0, done.stderr)
            queries = [(path, body) for _, _, path, body, _ in pass_on.asked if path.startswith("/api/v1/query")]
            again = curl_seconds(prometheus.url, queries)
            source = next(s for s in json.loads(target.read_text())["sources"] if s["kind"] == "prometheus")
            print(f"{big.gpus} GPUs, {samples / 1e6:.1f} M samples: {source['detail']}; whole collect {seconds:.1f} s, RSS {rss:.0f} MiB, by curl {again:.1f} s, ratio {seconds / max(again, 0.1):.2f}", file=sys.stderr)
            self.assertGreater(big.gpus, 1000)
            self.assertLessEqual(len(queries), 25)
            self.assertLess(rss, 256)


if __name__ == "__main__":
    unittest.main(verbosity=1)
