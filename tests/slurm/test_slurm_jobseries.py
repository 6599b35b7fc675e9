#!/usr/bin/env python3
"""What GPUs of Slurm's jobs did, where no dcgm-exporter is: a real Prometheus with the series of jobstats' exporter, or of
slurm-job-exporter, by the names and labels of their sources (plazonic/nvidia_gpu_prometheus_exporter, main.go;
guilbaults/slurm-job-exporter, slurm-job-exporter.py). These name the job themselves.

The outputs are those that a real Slurm 22.05.8 printed, as in test_slurm_activity.py.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/slurm/test_slurm_jobseries.py
"""
import json, pathlib, sys, tempfile, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import test_slurm_activity as activity  # noqa: E402
from test_slurm_activity import BEGAN, DAY, HOUR, STEP, store  # noqa: E402

# Which job has which GPU, as Slurm says in the recorded outputs.
HOLDS = {("gpu1", 0): 1, ("gpu1", 1): 1, ("gpu1", 2): 16, ("gpu1", 3): 17, ("gpu1", 4): 2, ("gpu1", 5): 3, ("gpu1", 6): 3, ("gpu1", 7): 4,
         ("gpu2", 0): 3, ("gpu2", 1): 3, ("gpu2", 2): 5, ("gpu2", 3): 5, ("gpu2", 4): 13, ("gpu2", 5): 15, ("gpu2", 6): 15, ("gpu2", 7): 15}
# The job before it, that worked until an hour before the next one began; in a store that looks at cards alone its work is the next one's.
BEFORE = 9000


def job(host, index, age):
    """(job, whether it computes) at a time, seconds before the end."""
    now = HOLDS.get((host, index))
    if now is None:
        return None, False
    if age <= BEGAN[now] * HOUR:
        return now, now in (16, 2, 15) or (now == 3 and (host, index) != ("gpu2", 1))
    return (BEFORE + now, True) if age > (BEGAN[now] + 1) * HOUR else (None, False)


class Jobstats:
    def __init__(self, now):
        self.times = range(int(now) - 7 * DAY, int(now) + 1, STEP)

    def series(self):
        end = self.times[-1]
        for host in ("gpu1", "gpu2"):
            for i in range(8):
                samples = {}
                for t in self.times:
                    of, busy = job(host, i, end - t)
                    samples.setdefault(of, []).append((t, busy))
                for of, points in samples.items():
                    yield from self.device(host, i, of, points)

    def device(self, host, i, of, points):
        who = f'jobid="{of}",userid="1000"' if of else 'jobid="",userid=""'
        labels = f'ordinal="{i}",minor_number="{i}",uuid="GPU-{host}-{i}",name="NVIDIA H100 80GB HBM3",GPU_I_ID="",{who},instance="{host}:9445",job="gpu",cluster="hpc"'
        for name, on, off in (("duty_cycle", 96, 0), ("power_usage_milliwatts", 290000, 35000), ("memory_used_bytes", 4e10, 4e6)):
            yield f"nvidia_gpu_{name}{{{labels}}}", [(t, on if busy else off) for t, busy in points]
        if of:
            yield f"nvidia_gpu_jobId{{{labels}}}", [(t, of) for t, _ in points]


class SlurmJob(Jobstats):
    """Only while a job runs, and without the card's UUID."""

    def device(self, host, i, of, points):
        if not of:
            return
        labels = f'user="ann",account="ml",slurmjobid="{of}",gpu="{i}",gpu_type="NVIDIA H100 80GB HBM3",instance="{host}:9798",job="slurm-jobs"'
        for name, on, off in (("utilization_gpu", 96, 0), ("power_gpu", 290000, 35000), ("memory_usage_gpu", 4e10, 4e6)):
            yield f"slurm_job_{name}{{{labels}}}", [(t, on if busy else off) for t, busy in points]


class Cases:
    world = None

    @classmethod
    def setUpClass(cls):
        if not store.available():
            if activity.os.environ.get("CI"):
                raise AssertionError("prometheus and promtool are not installed")
            raise unittest.SkipTest("SKIPPED LOUDLY: prometheus and promtool are not installed")
        cls.dir = pathlib.Path(tempfile.mkdtemp(prefix="gpuwaste-slurm-jobseries-"))
        cls.addClassCleanup(lambda: activity.subprocess.run(["rm", "-rf", str(cls.dir)]))
        now = time.time()
        store.backfill(cls.world(now), cls.dir / "store")
        cls.prometheus = store.Prometheus(cls.dir / "store").__enter__()
        cls.addClassCleanup(cls.prometheus.__exit__)
        activity.Activity.save.__func__(cls, now)
        (cls.dir / "prices.toml").write_text('[[price]]\ngpu = "H100"\nusd_per_gpu_hour = 2.0\n')
        cls.snapshot = cls.dir / "hpc.json"
        activity.Activity.run_it.__func__(cls, "collect", "--slurm-dir", cls.dir / "saved", "--prometheus", cls.prometheus.url, "-o", cls.snapshot)
        done = activity.Activity.run_it.__func__(cls, "scan", "--snapshot", cls.snapshot, "--prices", cls.dir / "prices.toml", "--format", "json", "-q")
        cls.report = json.loads(done.stdout)

    def test_every_gpu_is_what_its_job_did(self):
        states = {n["name"]: {k: v for k, v in n["states"].items() if v} for n in self.report["nodes"]}
        self.assertEqual(states["gpu1"], {"idle": 4, "working": 4})
        # One of job 3's, and both of job 5's; the paused one is unknown.
        self.assertEqual(states["gpu2"], {"working": 4, "idle": 3, "unknown": 1})

    def test_idle_jobs_and_their_dollars(self):
        idle = {f["subject"]["name"]: f for f in self.report["findings"] if f["part"] == "idle"}
        # Array job 2 has tasks 16, 17 and 2: one of them does nothing.
        self.assertEqual({name: f["usd_per_hour"] for name, f in idle.items()}, {"1": 4.0, "2": 2.0, "3": 2.0, "4": 6.0})
        self.assertEqual({name for name, f in idle.items() if f["confidence"] == "measured"}, {"1", "2", "3"})

    def test_the_source_is_named(self):
        details = " ".join(s["detail"] for s in self.report["sources"])
        self.assertIn(self.named, details)
        self.assertIn("jobs by their ids", details)


class OfJobstats(Cases, unittest.TestCase):
    world, named = Jobstats, "jobstats' series"


class OfSlurmJobExporter(Cases, unittest.TestCase):
    world, named = SlurmJob, "slurm-job-exporter's series"


if __name__ == "__main__":
    unittest.main(verbosity=2)
