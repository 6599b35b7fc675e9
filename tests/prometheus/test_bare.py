#!/usr/bin/env python3
"""gpuwaste on a real Prometheus that scraped GPU exporters of bare-metal hosts, without any Kubernetes.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/prometheus/test_bare.py
"""
import datetime, json, os, pathlib, subprocess, sys, tempfile, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import backend, store

BINARY = os.path.abspath(os.environ.get("GPUWASTE", "target/debug/gpuwaste"))
DAY, STEP = 86400, 300


class World:
    """Two hosts with 8 and 4 cards, a third that left two days ago; one vLLM server. Half of the cards of gpu-01 compute."""

    def __init__(self, now):
        self.times = range(int(now) - 7 * DAY, int(now) + 1, STEP)

    def series(self):
        end = self.times[-1]
        for host, address, cards, model in (("gpu-01", "10.0.0.1", 8, "NVIDIA H100 80GB HBM3"), ("3f2a9c01be7d", "10.0.0.2", 4, "NVIDIA A100-SXM4-80GB"), ("gone", "10.0.0.3", 8, "NVIDIA H100 80GB HBM3")):
            times = [t for t in self.times if host != "gone" or t < end - 2 * DAY]
            for i in range(cards):
                labels = f'gpu="{i}",UUID="GPU-{address}-{i}",device="nvidia{i}",modelName="{model}",Hostname="{host}",instance="{address}:9400",job="dcgm"'
                works = host == "gpu-01" and i < 4
                for name, value in (("DCGM_FI_DEV_GPU_UTIL", 96 if works else 0), ("DCGM_FI_DEV_POWER_USAGE", 610 if works else 71), ("DCGM_FI_DEV_FB_USED", 70000 if works else 4),
                                    ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.95 if works else 0), ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", 0.4 if works else 0), ("DCGM_FI_PROF_DRAM_ACTIVE", 0.5 if works else 0)):
                    yield name + "{" + labels + "}", [(t, value) for t in times]
        server = 'instance="10.0.0.1:8000",job="vllm",model_name="meta-llama/Llama-3.3-70B-Instruct"'
        yield "vllm:num_requests_running{" + server + "}", [(t, 3) for t in self.times]
        yield "vllm:request_success_total{" + server + ',finished_reason="stop"}', [(t, (t - self.times[0]) / 10) for t in self.times]
        yield "vllm:generation_tokens_total{" + server + "}", [(t, t - self.times[0]) for t in self.times]


def world_time(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class Bare(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not store.available():
            raise unittest.SkipTest("prometheus and promtool are not installed")
        cls.dir = pathlib.Path(tempfile.mkdtemp(prefix="gpuwaste-bare-"))
        cls.addClassCleanup(lambda: subprocess.run(["rm", "-rf", str(cls.dir)]))
        store.backfill(World(time.time()), cls.dir / "fleet")
        cls.prometheus = store.Prometheus(cls.dir / "fleet").__enter__()
        cls.addClassCleanup(cls.prometheus.__exit__)

    def run_it(self, *args):
        env = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.dir), "KUBECONFIG": str(self.dir / "none")}
        return subprocess.run([BINARY, *map(str, args)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, env=env)

    def hold(self, report):
        nodes = {n["name"]: n for n in report["nodes"]}
        self.assertEqual({n: (x["gpus"], x["gpu"]) for n, x in nodes.items()}, {"gpu-01": (8, "H100-SXM5-80GB"), "10.0.0.2": (4, "A100-SXM4-80GB")}, "a host that left is none; a container's id is no host")
        t = report["totals"]
        self.assertEqual((t["gpus"], t["gpus_working"], t["gpus_unknown"], t["gpus_free"], t["gpus_idle"]), (12, 4, 8, 0, 0), "four compute; of the others nobody says who holds them")
        self.assertEqual([f for f in report["findings"] if f["usd_per_hour"]], [], "no dollars of waste")
        self.assertFalse(t["waste_usd_per_hour"])
        self.assertGreater(t["spend_usd_per_hour"], 12, "as far as priced")
        servers = [w for w in report["workloads"] if w["model"] == "meta-llama/Llama-3.3-70B-Instruct"]
        self.assertEqual([(w["engine"], w["name"], w["usd_per_hour"]) for w in servers], [("vllm", "10.0.0.1:8000", None)], report["workloads"])
        self.assertAlmostEqual(servers[0]["observed"]["output_tokens_per_second"]["mean"], 1.0, delta=0.05)
        self.assertTrue(any(g["what"] == "who holds which GPU" for g in report["gaps"]))
        text = json.dumps(report)
        self.assertNotIn("gpuwaste rbac", text, "there is no cluster to grant anything in")

    def test_scan_reads_hosts_without_a_cluster(self):
        done = self.run_it("scan", "--prometheus", self.prometheus.url, "--format", "json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.hold(json.loads(done.stdout))

    def test_a_recording_says_the_same(self):
        file = self.dir / "bare.json"
        done = self.run_it("collect", "--prometheus", self.prometheus.url, "-o", file)
        self.assertEqual(done.returncode, 0, done.stderr)
        done = self.run_it("scan", "--snapshot", file, "--format", "json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.hold(json.loads(done.stdout))

    def test_a_store_by_another_clock_is_asked_by_its_own_and_believed_less(self):
        skewed = backend.Backend(self.prometheus.url)
        for mode, words in (("ahead", "3 h ahead of"), ("behind", "3 h behind")):
            file = self.dir / f"{mode}.json"
            done = self.run_it("collect", "--prometheus", skewed.url(mode), "-o", file)
            self.assertEqual(done.returncode, 0, done.stderr)
            told = json.loads(file.read_text())
            clocks = told["clusters"][0]["clocks"]
            self.assertEqual([c["of"] for c in clocks], ["store"], clocks)
            self.assertAlmostEqual(clocks[0]["ahead_seconds"], backend.SKEWS[mode], delta=3)
            # Its window ends now all the same: by this machine's clock nothing or the past would have been read.
            self.assertLess(abs(world_time(told["clusters"][0]["history"]["end"]) - time.time()), 300)
            done = self.run_it("scan", "--snapshot", file, "--format", "json", "--max-waste", "0", "--min-coverage", "0")
            report = json.loads(done.stdout)
            self.hold(report)
            gap = next(g for g in report["gaps"] if g["what"] == "of when its series are")
            self.assertIn(f"its clock is {words} this machine's", gap["reason"])
            self.assertEqual([f["title"] for f in report["findings"] if f["confidence"] == "measured"], [])
            self.assertEqual(done.returncode, 3, done.stderr)
        plain = self.run_it("collect", "--prometheus", skewed.url("pass"), "-o", file)
        self.assertEqual((plain.returncode, json.loads(file.read_text())["clusters"][0].get("clocks", [])), (0, []), plain.stderr)

    def test_a_store_that_tells_no_time_is_a_gap_and_no_guess(self):
        file = self.dir / "timeless.json"
        done = self.run_it("collect", "--prometheus", backend.Backend(self.prometheus.url).url("timeless"), "-o", file)
        self.assertEqual(done.returncode, 0, done.stderr)
        told = json.loads(file.read_text())
        self.assertEqual(told["clusters"][0].get("clocks", []), [])
        self.assertTrue(any(g["what"] == "of when its series are" and "Date" in g["reason"] for g in told["gaps"]), told["gaps"])

    def test_a_price_of_ones_own_is_spend(self):
        prices = self.dir / "prices.toml"
        prices.write_text('[[price]]\nnode = "gpu-01"\nusd_per_hour = 20.0\n')
        done = self.run_it("scan", "--prometheus", self.prometheus.url, "--prices", prices, "--format", "json")
        self.assertEqual(done.returncode, 0, done.stderr)
        node = next(n for n in json.loads(done.stdout)["nodes"] if n["name"] == "gpu-01")
        self.assertEqual((node["price"]["usd_per_hour"], node["price"]["source"]), (20.0, "user"))

    def test_a_store_without_exporters_says_so(self):
        done = self.run_it("scan", "--prometheus", self.prometheus.url, "--prometheus-match", 'job="other"', "--format", "json")
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn("no device of a GPU exporter", done.stderr)


if __name__ == "__main__":
    unittest.main()
