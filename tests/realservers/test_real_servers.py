#!/usr/bin/env python3
"""gpuwaste against real inference servers on a CPU: vLLM in two versions and llama.cpp, idle, loaded and under KV pressure.

The servers run in a network namespace behind the real API server's pod proxy; the GPUs that their pods hold exist only in
the API server. What gpuwaste says is compared with what this file's own clients sent and with the servers' own pages.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/realservers/test_real_servers.py
"""
import calendar, datetime, http.client, json, os, pathlib, re, shutil, signal, subprocess, sys, threading, time, unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests/testbed"))
import testbed
from testbed import stamp

BINARY = pathlib.Path(os.environ.get("GPUWASTE", "target/debug/gpuwaste")).resolve()
DAY = 86400
PRICE = 55.04 / 8  # p5.48xlarge in us-east-1, a GPU
PORT, SIMULATED = 8000, 8001
# A network for each run: a killed one may have left its own behind.
NEAR, SIMULATOR, SERVER = (f"10.{140 + os.getpid() % 60}.7.{i}" for i in (1, 2, 3))
BLOCKS, BLOCK, LENGTH, SEQUENCES = 64, 128, 2048, 16  # vLLM on a CPU: 8,192 tokens, four sequences of full length
STARTS_WITHIN = 600  # seconds; about 60 on two idle cores
LAG = 2  # seconds


def build(what):
    """The folder of a server; builds it where it is missing."""
    done = subprocess.run(["bash", str(HERE / "build.sh"), what], check=True, stdout=subprocess.PIPE, text=True)
    return pathlib.Path(done.stdout.strip().splitlines()[-1])


def node(name, gpus):
    labels = {"node.kubernetes.io/instance-type": "p5.48xlarge" if gpus else "m5.large", "topology.kubernetes.io/region": "us-east-1", "karpenter.sh/capacity-type": "on-demand"}
    amounts = {"cpu": "192", "memory": "2000Gi", "pods": "110", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    begun = stamp(time.time() - 30 * DAY)
    return {"kind": "Node", "metadata": {"name": name, "creationTimestamp": begun, "labels": labels}, "spec": {"providerID": f"aws:///x/{name}"},
            "status": {"capacity": amounts, "allocatable": amounts, "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": begun}]}}


def pod(name, on, ip, image, args, gpus, port=PORT, container_age=3 * DAY):
    begun = stamp(time.time() - 3 * DAY)
    resources = {"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"nvidia.com/gpu": "1"} if gpus else {}}
    return {"kind": "Pod", "metadata": {"name": name, "namespace": "ml", "creationTimestamp": begun},
            "spec": {"nodeName": on, "containers": [{"name": "server", "image": image, "args": args, "resources": resources, "ports": [{"containerPort": port}]}]},
            "status": {"phase": "Running", "podIP": ip, "startTime": begun, "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": begun}],
                       "containerStatuses": [{"name": "server", "image": "", "imageID": "", "ready": True, "restartCount": 0, "state": {"running": {"startedAt": stamp(time.time() - container_age)}}}]}}


class Page:
    """The server's own metrics page, read by other means than gpuwaste's."""

    def __init__(self, text):
        self.rows = [(m[1], m[2] or "", float(m[3])) for m in re.finditer(r"^([a-zA-Z_:]+)(\{.*\})? (\S+)$", text, re.M)]

    def sum(self, name):
        found = [v for n, _, v in self.rows if n == name]
        if not found:
            raise KeyError(name)
        return sum(found)


def get(path):
    connection = http.client.HTTPConnection(SERVER, PORT, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


class Load:
    """Clients that each keep one streamed request open, and their diary."""

    def __init__(self, clients, prompt, answer, model="tiny/llama"):
        self.answer = answer
        self.body = {"model": model, "stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True, "temperature": 1.0}
        self.prompt, self.ending, self.aborted = prompt, False, False
        self.diary, self.errors, self.open, self.lock = [], [], {}, threading.Lock()
        self.threads = [threading.Thread(target=self.client, args=(i,), daemon=True) for i in range(clients)]
        for thread in self.threads:
            thread.start()

    def client(self, number):
        words, turn = ["import", "return", "self", "def", "value", "name"], 0
        while not self.ending:
            # No two prompts begin alike, so that no block is shared.
            turn += 1
            prompt = " ".join([f"{number} {turn}"] + [words[(number + turn + i * i) % 6] for i in range(self.prompt)])
            # Nor do they end together.
            entry = {"sent": time.time(), "first": None, "done": None, "usage": None, "answer": self.answer - 150 * (number % 5)}
            with self.lock:
                self.diary.append(entry)
            connection = http.client.HTTPConnection(SERVER, PORT, timeout=600)
            try:
                connection.connect()
                with self.lock:
                    self.open[number] = connection
                connection.request("POST", "/v1/completions", json.dumps({**self.body, "prompt": prompt, "max_tokens": entry["answer"]}), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                if answer.status != 200:
                    raise RuntimeError(f"{answer.status} {answer.read()[:300]}")
                for line in answer:
                    if line.startswith(b"data: {"):
                        entry["first"] = entry["first"] or time.time()
                        entry["usage"] = json.loads(line[6:]).get("usage") or entry["usage"]
                entry["done"] = time.time()
            except Exception as error:
                entry["done"] = time.time()
                if not self.aborted:
                    self.errors.append(repr(error))
                    return
            finally:
                connection.close()

    def started(self):
        return sum(e["first"] is not None for e in self.diary)

    def in_flight(self, since, until):
        """(requests that were answered all the time and a while longer, requests that were open at some time)"""
        ends = lambda e: e["done"] or float("inf")
        # The server knows of an end before its client does.
        return (sum(e["first"] is not None and e["first"] <= since and ends(e) >= until + LAG for e in self.diary),
                sum(e["sent"] <= until and ends(e) >= since for e in self.diary))

    def finish(self):
        """No new requests; those that are open are answered to the end."""
        self.ending = True
        for thread in self.threads:
            thread.join(600)

    def abort(self):
        self.ending = self.aborted = True
        with self.lock:
            for connection in self.open.values():
                if connection.sock:
                    # A socket that is read by another thread is woken by its shutdown alone.
                    try:
                        connection.sock.shutdown(2)
                    except OSError:
                        pass
        for thread in self.threads:
            thread.join(60)


class Server:
    """What each server's tests share. Subclasses start the server and name its numbers."""

    # Three days, like its pod: what the process itself says of its age must win.
    CONTAINER_AGE = 3 * DAY

    @classmethod
    def setUpClass(cls):
        if not testbed.can_make_networks():
            if os.environ.get("CI"):
                raise RuntimeError("CI must be able to make network namespaces (root, iproute2)")
            print("SKIPPED LOUDLY: no root or iproute2, so no pod answers", file=sys.stderr)
            raise unittest.SkipTest("no network namespaces")
        command, env = cls.command()
        cls.bed = testbed.Testbed(["one"]).__enter__()
        cls.addClassCleanup(cls.bed.__exit__)
        # A simulator that speaks vLLM's metrics: it holds no GPU, and nobody may call it a server.
        cls.bed.network([SIMULATOR, SERVER], {f"{SIMULATOR}:{SIMULATED}/metrics": 'vllm:num_requests_running{model_name="sim"} 3\nvllm:prompt_tokens_total{model_name="sim"} 9\n'}, base=NEAR)
        cls.log = cls.bed.dir / "server.log"
        with open(cls.log, "wb") as log:
            cls.process = subprocess.Popen(["ip", "netns", "exec", cls.bed.space, *map(str, command)], env={**os.environ, **env}, cwd=cls.bed.dir, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        cls.addClassCleanup(cls.stop)
        image, args = cls.spec()
        cls.bed.seed("one", [{"kind": "Namespace", "metadata": {"name": "ml"}, "status": {"phase": "Active"}}, node("gpu-1", 8), node("cpu-1", 0),
                             pod("server", "gpu-1", SERVER, image, args, True, container_age=cls.CONTAINER_AGE),
                             # The same server once more, as pods without a GPU: beside GPUs and elsewhere.
                             pod("cpu-beside", "gpu-1", SERVER, image, args, False), pod("cpu-elsewhere", "cpu-1", SERVER, image, args, False),
                             pod("simulator", "gpu-1", SIMULATOR, "ghcr.io/llm-d/llm-d-inference-sim:v0.5.0", ["--model", "sim"], False, SIMULATED)])
        cls.bed.apply("one", subprocess.run([BINARY, "rbac", "--with", "scrape"], check=True, capture_output=True, text=True).stdout)
        cls.config = cls.bed.kubeconfig(["one"])
        cls.wait_until(cls.is_up, STARTS_WITHIN, "the server did not start")

    @classmethod
    def stop(cls):
        # Its workers too, which outlive it.
        try:
            os.killpg(cls.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        cls.process.wait()

    @classmethod
    def wait_until(cls, done, seconds, complaint):
        until = time.time() + seconds
        while time.time() < until:
            if done():
                return
            if cls.process.poll() is not None:
                complaint = f"the server ended with {cls.process.returncode}"
                break
            time.sleep(0.5)
        raise RuntimeError(f"{complaint}:\n" + cls.log.read_text(errors="replace")[-6000:])

    @classmethod
    def is_up(cls):
        try:
            return get("/health")[0] == 200 and get("/metrics")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def tearDown(self):
        # A test that failed leaves no load behind.
        for load in getattr(self, "loads", []):
            load.abort()
        if self.process.poll() is not None:
            print(self.log.read_text(errors="replace")[-6000:], file=sys.stderr)

    def load(self, *args):
        self.loads = [*getattr(self, "loads", []), Load(*args)]
        return self.loads[-1]

    def run_gpuwaste(self, *args, env=None):
        done = subprocess.run([str(BINARY), *map(str, args)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, env={**os.environ, **(env or {})})
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def moved(self, hours, observe):
        """A snapshot that would be read `hours` from now if nothing happened until then: what is read now has a later time,
        what is older keeps its own. (Moving this machine's clock is no way: the API server's Date would contradict it.)"""
        path, _, begun = self.collect(f"later-{hours}.json", observe)
        when = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

        def shifted(value):
            if isinstance(value, dict):
                return {k: shifted(v) for k, v in value.items()}
            if isinstance(value, list):
                return [shifted(v) for v in value]
            if isinstance(value, str) and when.fullmatch(value):
                at = datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
                if at.timestamp() >= begun - 1:
                    return (at + datetime.timedelta(hours=hours)).isoformat().replace("+00:00", "Z")
            return value

        path.write_text(json.dumps(shifted(json.loads(path.read_text()))))
        return path

    def scan(self, *args, later=None, observe="1s"):
        if later:
            args = ("--snapshot", self.moved(later, observe), *args)
        live = () if "--snapshot" in args else ("--kubeconfig", self.config, "--prometheus", "none", "--observe", observe, "--timeout", "60s", "--scrape-budget", "200s")
        report = json.loads(self.run_gpuwaste("scan", "--format", "json", *live, *args).stdout)
        if live:
            asked = [s for s in report["sources"] if s["kind"] == "engine"]
            self.assertEqual([(s["status"], s["detail"]) for s in asked], [("ok", "1 of 1 pods answered")], report["gaps"])
        return report

    def collect(self, name, observe="1s"):
        """(file, what it holds of the server, when its metrics were asked for at the earliest)"""
        path, begun = self.bed.dir / name, time.time()
        self.run_gpuwaste("collect", "-o", path, "--kubeconfig", self.config, "--prometheus", "none", "--observe", observe, "--timeout", "60s", "--scrape-budget", "200s")
        (scrape,) = json.loads(path.read_text())["clusters"][0]["engines"]
        return path, scrape, begun

    def workload(self, report):
        """The one server of the fleet: nothing else is a workload."""
        self.assertEqual([w["name"] for w in report["workloads"]], ["server"], "pods without GPUs are no GPU servers")
        return report["workloads"][0]

    def judged(self, report, check, part=None):
        return [f for f in report["findings"] if f["check"] == check and f["part"] == part and f["subject"]["name"] == "server"]

    def idle(self, report):
        return self.judged(report, "dark-capacity", "idle")

    def quiet(self):
        page = Page(get("/metrics")[1])
        return page.sum(self.RUNNING) == 0 and page.sum(self.WAITING) == 0

    # --- what holds for all of them --------------------------------------------------------------------------------

    def nothing_asked_yet(self):
        """A process of a few minutes is not idle, whatever its pod's age; a day later without a request it is."""
        first = report = self.scan()
        row = self.workload(report)
        self.assertEqual((row["state"], self.idle(report)), ("unknown", []), "too young to be judged")
        self.assertEqual((report["totals"]["gpus_unknown"], report["totals"]["gpus_idle"]), (1, 0))
        self.assertEqual(row["observed"]["running"]["max"], 0)
        for later, confidence in ((2, "estimated"), (25, "measured")):
            report = self.scan(later=later)
            self.assertEqual(self.workload(report)["state"], "idle")
            (finding,) = self.idle(report)
            self.assertEqual(finding["confidence"], confidence, f"{later} h: {finding['confidence_reasons']}")
            self.assertAlmostEqual(finding["waste_usd_per_hour"], PRICE, places=5)
            self.assertEqual(len(finding["claims"]), 1)
        return first, row

    def local(self):
        """`--local` on the host where it runs: its process on a stand-in GPU, itself and its word are real."""
        target = BINARY.parent.parent
        subprocess.run(["cargo", "build", "--quiet", "-p", "nvml-standin", "--target-dir", target], cwd=ROOT, check=True)
        folder = self.bed.dir / "nvml"
        folder.mkdir()
        shutil.copy(target / "debug/libnvidia_ml.so", folder / "libnvidia-ml.so.1")
        gpu = {"name": "NVIDIA H100 80GB HBM3", "uuid": "GPU-a", "gpu_percent": 0, "memory_total": 85520809984, "memory_used": 7 << 30, "power_milliwatts": 70000, "pids": [self.worker()]}
        (folder / "scenario.json").write_text(json.dumps({"driver": "570.86.15", "devices": [gpu]}))
        done = self.run_gpuwaste("scan", "--local", "--format", "json", "--observe", "0s", env={"LD_LIBRARY_PATH": str(folder), "NVML_STANDIN": str(folder / "scenario.json")})
        report = json.loads(done.stdout)
        self.assertEqual([(s["status"], s["detail"]) for s in report["sources"] if s["kind"] == "engine"], [("ok", "1 of 1 pods answered")], report["gaps"])
        (row,) = report["workloads"]
        return row

    def worker(self):
        """The process that would hold the GPU: what the server started, if it starts anything for that."""
        return self.process.pid

    def is_seen_at_work(self, report):
        row = self.workload(report)
        self.assertEqual((row["state"], self.idle(report)), ("working", []))
        self.assertEqual((report["totals"]["gpus_working"], report["totals"]["gpus_idle"]), (1, 0))
        return row

    def under_load(self, clients, load):
        """Every reading's running and waiting are the requests that the clients had open then."""
        self.wait_until(lambda: load.errors or load.started() >= clients, 300, "no answer to the load")
        # The gauges follow a step later.
        self.wait_until(lambda: Page(get("/metrics")[1]).sum(self.RUNNING) > 0, 60, "no request runs")
        readings, held = [], 0
        for _ in range(15):
            _, scrape, before = self.collect("load.json")
            time.sleep(LAG)
            self.assertEqual(load.errors, [])
            self.assertEqual(len(scrape["readings"]), 2)
            for reading in scrape["readings"]:
                at = parsed(reading["at"])
                least, most = load.in_flight(before, at)
                self.assertTrue(least <= reading["running"] + reading["waiting"] <= most, f"{least} to {most} in flight: {reading}")
                before, held = at, max(held, least)
                readings.append(reading)
            if held == clients:
                break
        # Else the bounds prove nothing.
        self.assertGreater(held, 0, "no look fell into the middle of a request")
        row = self.is_seen_at_work(self.scan())
        self.assertLessEqual(row["observed"]["running"]["max"], clients)
        return readings, row


def parsed(text):
    """Seconds since the epoch, of RFC 3339 in UTC."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction or 0}")


class Vllm(Server):
    RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"

    @classmethod
    def command(cls):
        folder = build(f"vllm-{cls.VERSION}")
        # Served under a relative path, so that the server calls the model by a name as a hub would.
        cls.model = build("model") / "tiny"
        cls.env = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_HOST_IP": "127.0.0.1", "VLLM_LOOPBACK_IP": "127.0.0.1",
                   "GLOO_SOCKET_IFNAME": "lo", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1", "PATH": f"{folder}/bin:{os.environ['PATH']}"}
        serve = [folder / "bin/vllm", "serve", "tiny/llama", "--host", "0.0.0.0", "--port", PORT, "--max-model-len", LENGTH, "--max-num-seqs", SEQUENCES, "--enforce-eager", "--num-gpu-blocks-override", BLOCKS]
        return ["bash", "-c", 'mkdir -p tiny && ln -s "$0" tiny/llama && exec "$@"', cls.model, *serve], cls.env

    @classmethod
    def spec(cls):
        # The spec is wrong about the model and its length: the server's own word corrects both.
        return "vllm/vllm-openai:v0.11.0", ["--model", "meta-llama/Llama-3.1-8B-Instruct", "--max-model-len", "8192", "--max-num-seqs", str(SEQUENCES)]

    def worker(self):
        # Its command line says nothing but this; the server stands above it.
        named = lambda pid: (pathlib.Path("/proc") / pid / "cmdline").read_bytes().startswith(b"VLLM::EngineCore")
        (found,) = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and os.getsid(int(pid)) == self.process.pid and named(pid)]
        return found

    def test_idle_then_loaded_then_under_kv_pressure(self):
        with self.subTest("idle"):
            self.idle_phase()
        with self.subTest("loaded"):
            self.loaded_phase()
        with self.subTest("under KV pressure"):
            self.pressure_phase()

    def idle_phase(self):
        report, row = self.nothing_asked_yet()
        (gap,) = [g for g in report["gaps"] if g["what"] == "model of Pod ml/server"]
        self.assertEqual(gap["reason"], "the spec names meta-llama/Llama-3.1-8B-Instruct, the server says tiny/llama")
        self.assertEqual((row["engine"], row["engine_version"], row["model"]), ("vllm", self.SAYS, "tiny/llama"))
        self.assertEqual((row["max_model_len"], row["max_num_seqs"], row["gpus_per_replica"]), (LENGTH, SEQUENCES, 1))
        here = self.local()
        for figure in ("engine", "engine_version", "model", "max_model_len", "max_num_seqs", "state"):
            self.assertEqual(here[figure], row[figure], f"{figure} on the host itself")
        _, scrape, _ = self.collect("idle.json", observe="0s")
        told = scrape["identity"]
        self.assertEqual((told["kv_blocks"], told["block_size"], told["kv_capacity"]), (BLOCKS, BLOCK, BLOCKS * BLOCK), "the server's own block count")
        self.assertEqual((told["model_root"], told["served_names"]), ("tiny/llama", ["tiny/llama"]))
        (reading,) = scrape["readings"]
        for figure in ("requests", "prompt_tokens", "output_tokens", "preemptions", "running", "waiting", "kv_usage"):
            self.assertEqual(reading[figure], 0, figure)
        # The kernel's own word on the process's age.
        started = int((pathlib.Path("/proc") / str(self.process.pid) / "stat").read_text().rsplit(")", 1)[1].split()[19])
        booted = int(re.search(r"^btime (\d+)$", pathlib.Path("/proc/stat").read_text(), re.M)[1])
        self.assertAlmostEqual(parsed(scrape["process_started_at"]), booted + started / os.sysconf("SC_CLK_TCK"), delta=30)

    def loaded_phase(self):
        clients, answer = 3, 1900
        load = self.load(clients, 20, answer)
        readings, _ = self.under_load(clients, load)
        for reading in readings:
            # Sequences of at most 2,048 tokens; the denominator leaves out one block.
            self.assertTrue(0 <= reading["kv_usage"] <= clients * LENGTH / BLOCK / (BLOCKS - 1), reading)
        self.assertGreater(max(r["kv_usage"] for r in readings), 0)
        report = self.scan()
        self.assertEqual(self.judged(report, "kv-pressure"), [], "a load that fits is no pressure")
        load.finish()
        self.assertEqual(load.errors, [])
        self.wait_until(self.quiet, 60, "requests are left over")
        usage = [e["usage"] for e in load.diary]
        self.assertEqual([u["completion_tokens"] for u in usage], [e["answer"] for e in load.diary])
        asked, told = sum(u["prompt_tokens"] for u in usage), sum(e["answer"] for e in load.diary)
        path, scrape, _ = self.collect("after.json")
        for reading in scrape["readings"]:
            self.assertEqual((reading["requests"], reading["prompt_tokens"], reading["output_tokens"], reading["running"]), (len(usage), asked, told, 0), "what was sent, to the token")
            self.assertEqual(reading["preemptions"], 0)
        # Lifetime rates: what was sent over the process's age.
        row = self.is_seen_at_work(self.scan("--snapshot", path))
        age = parsed(scrape["readings"][-1]["at"]) - parsed(scrape["process_started_at"])
        for figure, amount in (("requests_per_second", len(usage)), ("prompt_tokens_per_second", asked), ("output_tokens_per_second", told)):
            self.assertAlmostEqual(row["observed"][figure]["mean"] / (amount / age), 1, delta=0.05, msg=figure)
        # A day without a further request is no idleness since start: something was asked.
        self.is_seen_at_work(self.scan(later=25))

    def pressure_phase(self):
        clients = 24
        load = self.load(clients, 300, 1200)
        self.wait_until(lambda: load.errors or Page(get("/metrics")[1]).sum("vllm:num_preemptions_total") >= 3, 300, "no preemption under pressure")
        fired = 0
        for attempt in range(12):
            path, scrape, _ = self.collect(f"pressure-{attempt}.json")
            self.assertEqual(load.errors, [])
            readings = scrape["readings"]
            self.assertEqual(len(readings), 2)
            # The definition in docs/definitions.md, by arithmetic of its own: bad looks, and the share of requests that waited in them.
            bad = [r for r in readings if r["kv_usage"] >= 0.95 and r["waiting"] > 0 and r["running"] > 0]
            share = sum(r["waiting"] / (r["waiting"] + r["running"]) for r in bad) / 2
            report = self.scan("--snapshot", path)
            self.is_seen_at_work(report)
            findings = self.judged(report, "kv-pressure")
            self.assertEqual(len(findings), 1 if bad else 0, readings)
            if not bad:
                continue
            (finding,) = findings
            self.assertEqual((finding["kind"], finding["confidence"]), ("at-risk", "estimated"), finding["confidence_reasons"])
            self.assertAlmostEqual(finding["at_risk_usd_per_hour"], PRICE * share, places=4)
            evidence = {e["name"]: e["value"] for e in finding["evidence"]}
            for name, figure in (("kv_cache_usage", "kv_usage"), ("waiting", "waiting")):
                self.assertAlmostEqual(evidence[name], max(r[figure] for r in readings), places=9)
            self.assertEqual(evidence["kv_capacity"], BLOCKS * BLOCK)
            self.assertTrue(all(0 < r["running"] + r["waiting"] <= clients for r in bad), bad)
            fired += 1
            if fired == 2:
                break
        self.assertGreater(fired, 0, "the cache was full, and no look saw it")
        # The same from a live scan: pressure or none, it is at work, and no waste.
        self.is_seen_at_work(self.scan())
        load.abort()
        self.wait_until(self.quiet, 120, "requests are left over")
        page = Page(get("/metrics")[1])
        preempted, finished = page.sum("vllm:num_preemptions_total"), page.sum("vllm:request_success_total")
        self.assertGreater(preempted / finished, 0.01)
        # An hour later the counters alone tell of it, a day later surely; the queue is gone by then.
        for later, confidence in ((2, "estimated"), (25, "measured")):
            report = self.scan(later=later)
            (finding,) = self.judged(report, "kv-pressure")
            self.assertEqual(finding["confidence"], confidence)
            evidence = {e["name"]: e["value"] for e in finding["evidence"]}
            self.assertAlmostEqual(evidence["preemptions_per_request"], preempted / finished, places=6)
            self.assertAlmostEqual(finding["at_risk_usd_per_hour"], PRICE * min(1, preempted / finished), places=4)
            self.is_seen_at_work(report)


class Vllm32(Vllm, unittest.TestCase):
    VERSION, SAYS = "0.32.0", "0.32.0"


class Vllm12(Vllm, unittest.TestCase):
    VERSION, SAYS = "0.12.0", "0.12.0"


class Llamacpp(Server, unittest.TestCase):
    RUNNING, WAITING = "llamacpp:requests_processing", "llamacpp:requests_deferred"
    # It does not tell when it started: its container's start, which the kubelet tells, is all there is.
    CONTAINER_AGE = 0

    @classmethod
    def command(cls):
        cls.gguf = build("model") / "tiny.gguf"
        return [build("llamacpp") / "llama-server", "-m", cls.gguf, "--metrics", "--host", "0.0.0.0", "--port", PORT, "-c", 8192, "-np", 2, "-t", 1], {}

    @classmethod
    def spec(cls):
        return "ghcr.io/ggml-org/llama.cpp:server-cuda", ["-m", "/models/other.gguf", "--metrics", "-c", "65536", "-np", "2", "-ngl", "99", "--port", str(PORT)]

    def test_idle_then_loaded(self):
        with self.subTest("idle"):
            _, row = self.nothing_asked_yet()
            self.assertEqual(row["engine"], "llamacpp")
            self.assertEqual(row["max_model_len"], json.loads(get("/props")[1])["default_generation_settings"]["n_ctx"], "the server's own word")
            here = self.local()
            for figure in ("engine", "engine_version", "max_model_len", "state"):
                self.assertEqual(here[figure], row[figure], f"{figure} on the host itself")
        with self.subTest("loaded"):
            clients, answer = 3, 3000
            load = self.load(clients, 20, answer)
            readings, row = self.under_load(2, load)
            self.assertIn((2, 1), [(r["running"], r["waiting"]) for r in readings], "two slots, three clients")
            for reading in readings:
                self.assertLessEqual(reading["running"], 2)
                for figure in ("kv_usage", "preemptions"):
                    self.assertNotIn(figure, reading, "it does not tell: null, not 0")
            self.assertIsNone(row["observed"]["kv_usage"])
            self.assertIsNone(row["observed"]["preemptions_per_hour"])
            load.finish()
            self.assertEqual(load.errors, [])
            self.wait_until(self.quiet, 60, "requests are left over")
            page = Page(get("/metrics")[1])
            _, scrape, _ = self.collect("after.json")
            told = sum(e["usage"]["completion_tokens"] for e in load.diary)
            self.assertEqual(told, sum(e["answer"] for e in load.diary))
            for reading in scrape["readings"]:
                self.assertEqual(reading["prompt_tokens"], page.sum("llamacpp:prompt_tokens_total"))
                self.assertEqual(reading["output_tokens"], told)
            report = self.scan(later=25)
            self.is_seen_at_work(report)
            self.assertEqual(self.judged(report, "kv-pressure"), [])
            (check,) = [c for c in report["checks"] if c["id"] == "kv-pressure"]
            self.assertTrue(any("neither KV use nor preemptions" in n["reason"] and n["gpus"] == 1 for n in check["not_assessed"]), check)


if __name__ == "__main__":
    unittest.main(verbosity=1)
