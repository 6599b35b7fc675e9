#!/usr/bin/env python3
"""Jobs that have ended, as a real slurmdbd keeps them, read by sacct and by slurmrestd: hours of GPUs by user, and what they did.

The jobs are really submitted, run and end; their times are then moved in the database, since nobody waits for ten hours, and
jobstats' summaries are put there, too (22.05's sacctmgr would write them in small letters). The truth is what is written here.
Needs root and the packages slurm-wlm, slurmdbd, slurmrestd, slurm-wlm-jwt-plugin, mariadb-server and munge: elsewhere the test is skipped
and says so; with CI set it fails instead.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/slurm/test_slurm_past.py
"""
import base64, csv, gzip, io, json, pathlib, sys, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from hpc import Asks, Cluster, skip, until  # noqa: E402

SKIP = skip("slurmrestd")
HOUR = 3600
PRICES = """
[[price]]
partition = "long"
usd_per_gpu_hour = 3.0
as_of = "2026-11-01"

[[price]]
gpu = "H100"
usd_per_gpu_hour = 2.0
as_of = "2026-11-01"
"""


def summary(hours, nodes):
    """JS1: as jobstats 1.0 writes it. A node: host memory in use, and (percent, memory in use) of each of its GPUs."""
    node = lambda host, gpus: {
        "used_memory": host, "total_memory": 64e9, "cpus": 4, "total_time": 100.0,
        "gpu_utilization": {str(i): g[0] for i, g in enumerate(gpus)}, "gpu_used_memory": {str(i): g[1] for i, g in enumerate(gpus)},
        "gpu_total_memory": {str(i): 80e9 for i in range(len(gpus))}}
    text = json.dumps({"nodes": {name: node(*of) for name, of in nodes.items()}, "total_time": hours * HOUR, "gpus": sum(len(g) for _, g in nodes.values())})
    return "JS1:" + base64.b64encode(gzip.compress(text.encode())).decode()


@unittest.skipIf(SKIP, f"SKIPPED LOUDLY: {SKIP}")
class Past(Asks, unittest.TestCase):
    # Name: user, account, what it asks for, hours that it ran, what its summary says.
    JOBS = {
        "dead": ("nobody", "ml", ["-w", "gpu1", "--gres=gpu:4", "-t", "6000"], 10, {"gpu1": (3e9, [(0, 0)] * 4)}),
        "half": ("nobody", "ml", ["-w", "gpu1", "--gres=gpu:2", "-t", "6000"], 20, {"gpu1": (3e9, [(95.0, 70e9), (0, 0)])}),
        "low": ("nobody", "bio", ["-p", "long", "--gres=gpu:8", "-t", "6000"], 10, {"gpu6": (200e9, [(20.0, 40e9)] * 8)}),
        "silent": ("nobody", "ml", ["-w", "gpu2", "--gres=gpu:2", "-t", "6000"], 5, None),
        "greedy": ("root", None, ["-w", "gpu2", "--gres=gpu:1", "-c", "40", "-t", "6000"], 10, {"gpu2": (3e9, [(90.0, 70e9)])}),
        "wide": ("root", None, ["-w", "gpu3,gpu4", "-N", "2", "--gres=gpu:2", "-t", "6000"], 10, {"gpu3": (3e9, [(90.0, 70e9)] * 2), "gpu4": (3e9, [(90.0, 70e9)] * 2)}),
        "other": ("nobody", "ml", ["-w", "gpu2", "--gres=gpu:1", "-t", "6000"], 30, {"gpu2": (3e9, [(0, 0)] * 2)}),
    }
    # The last one had one GPU, and its summary tells of two: it is another run's.

    @classmethod
    def setUpClass(cls):
        cls.slurm = s = Cluster()
        cls.addClassCleanup(s.stop)
        s.accept_tokens()
        s.start()
        ids = {}
        for name, (user, account, ask, _, _) in cls.JOBS.items():
            who = [f"--uid={user}", "-A", account] if account else []
            ids[name] = s.run("sbatch", "--parsable", "-D", "/", "-o", "/dev/null", "-J", name, *who, *ask, "--wrap", "sleep 0.2").strip()
        until("all ended", lambda: not s.run("squeue", "-h", check=False).strip())
        done = lambda: s.run("sacct", "-a", "-X", "-n", "-P", "-o", "state").split()
        until("in the database", lambda: done().count("COMPLETED") == len(ids))
        cls.now = int(time.time())
        sock = s.folder / "my/sock"
        for name, (*_, hours, told) in cls.JOBS.items():
            end = cls.now - 600
            comment = f"'{summary(hours, told)}'" if told else "NULL"
            s.run("mariadb", "--no-defaults", f"--socket={sock}", "-u", "root", "slurm_acct", "-e",
                  f"UPDATE hpc_job_table SET time_submit={end - hours * HOUR}, time_eligible={end - hours * HOUR}, time_start={end - hours * HOUR}, time_end={end}, admin_comment={comment} WHERE id_job={ids[name]}")
        cls.url, token = s.serve()
        (s.folder / "token").write_text(token)
        (s.folder / "prices.toml").write_text(PRICES)
        (s.folder / "gpuwaste.toml").write_text("[thresholds.low-utilization]\nlow_utilization_gpu_hours = 50\npast_limit_gpu_hours = 500\n")
        cls.snapshot = cls.collect("--slurm")
        cls.report = json.loads(cls.scan("--slurm").stdout)

    @classmethod
    def scan(cls, *more):
        return cls.gpuwaste("scan", *more, "--prices", cls.slurm.folder / "prices.toml", "--policy", cls.slurm.folder / "gpuwaste.toml", "--group-by", "user", "-q", *([] if "--format" in more else ["--format", "json"]))

    def part(self, name):
        return [f for f in self.report["findings"] if f["part"] == name]

    def evidence(self, finding, name):
        return next(e["value"] for e in finding["evidence"] if e["name"] == name)

    def test_hours_are_those_of_the_jobs(self):
        past = self.snapshot["clusters"][0]["past"]
        held = lambda user: round(sum(p["gpu_hours"] for p in past if p["labels"]["slurm/user"] == user), 3)
        self.assertEqual((held("nobody"), held("root")), (40 + 40 + 80 + 10 + 30, 10 + 40))
        known = sum(p["watched_gpu_hours"] for p in past)
        # Neither the silent one nor the one whose summary is another's.
        self.assertAlmostEqual(known, 40 + 40 + 80 + 10 + 40, places=3)

    def test_slurmrestd_tells_the_same(self):
        other = self.collect("--slurm-rest", self.url, "--slurm-token-file", self.slurm.folder / "token")
        plain = lambda s: sorted((json.dumps(p, sort_keys=True) for p in s["clusters"][0]["past"]))
        self.assertEqual(plain(other), plain(self.snapshot))

    def test_gpus_that_did_nothing(self):
        (idle,) = self.part("idle-hours")
        self.assertEqual((idle["owner"], idle["kind"], idle["claims"]), ("nobody", "trend", []))
        self.assertAlmostEqual(self.evidence(idle, "gpu_hours_idle"), 40 + 20, places=2)
        self.assertAlmostEqual(self.evidence(idle, "gpu_hours_idle_beside_others_at_work"), 20, places=2)
        self.assertAlmostEqual(self.evidence(idle, "cost_of_the_window"), 60 * 2.0, places=1)
        self.assertAlmostEqual(idle["usd_per_hour"], 120 / 168, places=3)

    def test_little_use(self):
        (low,) = self.part("low-hours")
        self.assertAlmostEqual(self.evidence(low, "gpu_hours"), 80, places=2)
        self.assertAlmostEqual(self.evidence(low, "gpu_activity_mean"), 0.2, places=3)
        self.assertAlmostEqual(self.evidence(low, "cost_of_the_window"), 64 * 3.0, places=1)

    def test_what_was_asked_for(self):
        # 40 of 64 CPUs for one GPU: four others of the node had none.
        (cpus,) = self.part("asked-cpus")
        self.assertEqual((cpus["owner"], cpus["usd_per_hour"]), ("root", None))
        self.assertAlmostEqual(self.evidence(cpus, "gpu_hours_beside"), 4 * 10, places=2)
        # Four GPUs on two nodes: one would have held them.
        (nodes,) = self.part("asked-nodes")
        self.assertAlmostEqual(self.evidence(nodes, "gpu_hours_beside"), 6 * 10, places=2)

    def test_time_limits(self):
        limits = {f["owner"]: f for f in self.part("time-limit")}
        self.assertEqual({f["usd_per_hour"] for f in limits.values()}, {None})
        used = self.evidence(limits["nobody"], "gpu_hours_used")
        self.assertAlmostEqual(used, 200, places=1)

    def test_nothing_of_it_is_waste_of_now(self):
        self.assertNotIn("low-utilization", {f["check"] for f in self.report["findings"] if f["waste_usd_per_hour"]})
        parts = {f["part"] for f in self.report["findings"] if f["waste_usd_per_hour"]}
        self.assertLessEqual(parts, {"unallocated", "unhealthy", "host"})

    def test_a_line_a_user(self):
        groups = {g["name"]: g for g in self.report["groups"]["rows"]}
        past = groups["nobody"]["past"]
        self.assertAlmostEqual(past["gpu_hours"], 200, places=1)
        self.assertAlmostEqual(past["usd"], 120 * 2.0 + 80 * 3.0, places=0)
        self.assertAlmostEqual(past["idle_usd"], 120, places=0)
        self.assertAlmostEqual(past["unused_usd"], 120 + 2.0 + 64 * 3.0, places=0)
        page = self.scan("--slurm", "--format", "markdown").stdout
        self.assertIn("by user", page)
        (line,) = [l for l in page.splitlines() if l.startswith("- nobody: ")]
        self.assertIn("60 of 160 GPU-hours did nothing", line)
        rows = list(csv.DictReader(io.StringIO(self.scan("--slurm", "--format", "csv").stdout)))
        (row,) = [r for r in rows if r["record"] == "group" and r["subject"] == "nobody"]
        self.assertAlmostEqual(float(row["gpu_hours"]), 200, places=1)
        self.assertTrue(row["title"].startswith("nobody: "))


if __name__ == "__main__":
    unittest.main(verbosity=2)
