#!/usr/bin/env python3
"""What GPUs of Slurm's jobs did, as a real Prometheus with dcgm-exporter's series tells it.

The outputs are those that a real Slurm 22.05.8 printed (fixtures/slurm), with other start times; the series are of hosts, and name
no job: the job is known by the node and the index that Slurm gave it.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/slurm/test_slurm_activity.py
"""
import json, os, pathlib, subprocess, sys, tempfile, time, unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/prometheus"))
import store  # noqa: E402

BINARY = os.path.abspath(os.environ.get("GPUWASTE", "target/debug/gpuwaste"))
HOUR, DAY, STEP = 3600, 86400, 300

# Hours since each job began, by its id.
BEGAN = {1: 40, 16: 60, 17: 60, 2: 60, 3: 200, 4: 3, 5: 3, 13: 60, 15: 3, 6: 60, 7: 60}


def works(host, index, age):
    """Whether the GPU computes, `age` seconds before the end."""
    return {
        # Job 1: its predecessor worked until 41 h ago, it never did.
        ("gpu1", 0): age > 41 * HOUR, ("gpu1", 1): age > 41 * HOUR,
        # Tasks of an array: the second does nothing.
        ("gpu1", 2): True, ("gpu1", 3): age > 70 * HOUR, ("gpu1", 4): True,
        # Job 3 is on four GPUs of two nodes; one of them was never used.
        ("gpu1", 5): True, ("gpu1", 6): True, ("gpu2", 0): True, ("gpu2", 1): False,
        # Job 15 works; 4 and 5 have done nothing in their three hours.
        ("gpu2", 5): True, ("gpu2", 6): True, ("gpu2", 7): True,
        # Nobody holds it, and something computes there.
        ("shard1", 3): True,
        # Free since two days.
        ("shard1", 2): age > 48 * HOUR,
    }.get((host, index), False)


class World:
    def __init__(self, now):
        self.times = range(int(now) - 7 * DAY, int(now) + 1, STEP)

    def series(self):
        end = self.times[-1]
        for host, cards, model in (("gpu1", 8, "NVIDIA H100 80GB HBM3"), ("gpu2", 8, "NVIDIA H100 80GB HBM3"), ("gpu3", 8, "NVIDIA H100 80GB HBM3"), ("shard1", 4, "NVIDIA L40S"), ("elsewhere", 8, "NVIDIA H100 80GB HBM3")):
            for i in range(cards):
                labels = f'gpu="{i}",UUID="GPU-{host}-{i}",device="nvidia{i}",modelName="{model}",Hostname="{host}.cluster.example",instance="{host}:9400",job="dcgm"'
                busy = lambda t: works(host, i, end - t)
                for name, on, off in (("DCGM_FI_DEV_GPU_UTIL", 96, 0), ("DCGM_FI_DEV_POWER_USAGE", 290, 35), ("DCGM_FI_DEV_FB_USED", 40000, 4), ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.95, 0)):
                    yield name + "{" + labels + "}", [(t, on if busy(t) else off) for t in self.times]


class Activity(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not store.available():
            if os.environ.get("CI"):
                raise AssertionError("prometheus and promtool are not installed")
            raise unittest.SkipTest("SKIPPED LOUDLY: prometheus and promtool are not installed")
        cls.dir = pathlib.Path(tempfile.mkdtemp(prefix="gpuwaste-slurm-activity-"))
        cls.addClassCleanup(lambda: subprocess.run(["rm", "-rf", str(cls.dir)]))
        now = time.time()
        store.backfill(World(now), cls.dir / "store")
        cls.prometheus = store.Prometheus(cls.dir / "store").__enter__()
        cls.addClassCleanup(cls.prometheus.__exit__)
        cls.save(now)
        (cls.dir / "prices.toml").write_text('[[price]]\ngpu = "H100"\nusd_per_gpu_hour = 2.0\n\n[[price]]\ngpu = "L40S"\nusd_per_gpu_hour = 1.0\n')
        cls.snapshot = cls.dir / "hpc.json"
        cls.collected = cls.run_it("collect", "--slurm-dir", cls.dir / "saved", "--prometheus", cls.prometheus.url, "-o", cls.snapshot)
        cls.report = cls.scan("--snapshot", cls.snapshot)

    @classmethod
    def save(cls, now):
        saved = cls.dir / "saved"
        saved.mkdir()
        recorded = ROOT / "fixtures/slurm/22.05"
        nodes = json.loads((recorded / "nodes.json").read_text())
        for node in nodes["nodes"]:
            node["boot_time"] = int(now - 30 * DAY) if node["boot_time"] else 0
            if node["reason_changed_at"]:
                node["reason_changed_at"] = int(now - 3 * DAY)
        jobs = json.loads((recorded / "jobs.json").read_text())
        for job in jobs["jobs"]:
            if job["job_id"] in BEGAN:
                job["start_time"] = job["submit_time"] = int(now - BEGAN[job["job_id"]] * HOUR)
        (saved / "nodes.json").write_text(json.dumps(nodes))
        (saved / "jobs.json").write_text(json.dumps(jobs))
        (saved / "config.txt").write_text((recorded / "config.txt").read_text())
        (saved / "taken.txt").write_text(f"{int(now)}\n")

    @classmethod
    def run_it(cls, *args):
        done = subprocess.run([BINARY, *map(str, args)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, cwd=cls.dir)
        if done.returncode not in (0, 1):
            raise AssertionError(f"exit {done.returncode}: {done.stderr}")
        return done

    @classmethod
    def scan(cls, *args):
        return json.loads(cls.run_it("scan", *args, "--prices", cls.dir / "prices.toml", "--format", "json", "-q").stdout)

    def test_every_gpu_is_what_it_did(self):
        states = {n["name"]: {k: v for k, v in n["states"].items() if v} for n in self.report["nodes"]}
        self.assertEqual(states["gpu1"], {"idle": 4, "working": 4})
        # Three at work and one beside them that is not; job 5's two have done nothing in their three hours, and the paused one is unknown.
        self.assertEqual(states["gpu2"], {"working": 4, "idle": 3, "unknown": 1})
        self.assertEqual(states["gpu3"], {"unhealthy": 8})
        # Three shards of a card are one job's, and the card did nothing; another computes for nobody.
        self.assertEqual(states["shard1"], {"idle": 1, "unknown": 1, "free": 2})
        self.assertNotIn("elsewhere", states)

    def test_idle_jobs_are_found_and_no_others(self):
        idle = {f["subject"]["name"]: f for f in self.report["findings"] if f["part"] == "idle"}
        self.assertEqual({name: f["usd_per_hour"] for name, f in idle.items()}, {"1": 4.0, "2": 2.0, "3": 2.0, "4": 6.0, "7": 1.0})
        # Job 4 is of two parts, three hours old; of the others more than a day of their own time is known.
        self.assertEqual({name: f["confidence"] for name, f in idle.items() if f["confidence"] != "measured"}, {"4": "estimated"})
        rest = {name: next(e["value"] for e in f["evidence"] if e["name"] == "at_rest") for name, f in idle.items()}
        self.assertAlmostEqual(rest["1"] / HOUR, 40, delta=0.2)
        self.assertAlmostEqual(rest["2"] / HOUR, 60, delta=0.2)
        self.assertEqual({name: f["owner"] for name, f in idle.items()}, {"1": "root", "2": "nobody", "3": "nobody", "4": idle["4"]["owner"], "7": "root"})
        advice = {name: f["fix"]["summary"] for name, f in idle.items()}
        self.assertNotIn("scancel", json.dumps(advice))
        self.assertIn("17", advice["2"], "the task that does nothing is named")
        self.assertIn("--gpus", advice["3"])

    def test_without_the_store_nothing_of_it_is_waste(self):
        report = self.scan("--slurm-dir", self.dir / "saved")
        self.assertEqual([f for f in report["findings"] if f["part"] == "idle"], [])
        states = {n["name"]: {k: v for k, v in n["states"].items() if v} for n in report["nodes"]}
        self.assertEqual(states["gpu1"], {"unknown": 8})

    def test_by_user_in_markdown_and_csv(self):
        out = self.run_it("scan", "--snapshot", self.snapshot, "--prices", self.dir / "prices.toml", "--group-by", "owner", "--format", "markdown", "-q").stdout
        self.assertIn("nobody", out)
        rows = self.run_it("scan", "--snapshot", self.snapshot, "--prices", self.dir / "prices.toml", "--format", "csv", "-q").stdout
        self.assertIn("SlurmJob", rows)


if __name__ == "__main__":
    unittest.main()
