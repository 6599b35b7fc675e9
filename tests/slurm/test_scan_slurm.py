#!/usr/bin/env python3
"""A real Slurm cluster, read by its own commands: slurmctld, slurmdbd on MariaDB, and slurmd of many nodes on this host.

The truth is what was submitted: which jobs asked for how many GPUs and where they may run, which nodes were drained and why. The
report must say the same: free, held, unhealthy GPUs, whose they are, and what they cost. Fake GPUs: Slurm counts device files.
Needs root and the packages slurm-wlm, slurmdbd, mariadb-server and munge: elsewhere the test is skipped and says so; with CI set
it fails instead.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/slurm/test_scan_slurm.py
"""
import json, os, pathlib, pwd, shutil, subprocess, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from hpc import BINARY, Asks, Cluster, skip, until  # noqa: E402

SKIP = skip()

# What H100, L40S and A100 GPUs cost here, dollars per hour; the partition `long` has a price of its own.
PRICES = """
[[price]]
partition = "long"
usd_per_gpu_hour = 3.5
as_of = "2026-11-01"

[[price]]
gpu = "H100"
usd_per_gpu_hour = 2.0
as_of = "2026-11-01"

[[price]]
node = "shard*"
usd_per_gpu_hour = 1.0
as_of = "2026-11-01"

[[price]]
node = "mig*"
usd_per_hour = 7.0
as_of = "2026-11-01"
"""


@unittest.skipIf(SKIP, f"SKIPPED LOUDLY: {SKIP}")
class Scan(Asks, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.slurm = s = Cluster()
        cls.addClassCleanup(s.stop)
        s.start()
        # Another user runs it too: where it was built may be closed to him.
        cls.binary = shutil.copy(BINARY, s.folder / "gpuwaste")
        jobs = cls.jobs = {}
        # Every job names its node where the truth needs it; which GPUs of it, Slurm decides.
        jobs["one"] = s.submit("one", "-w", "gpu1", "--gres=gpu:2", "-c", "4", "--mem=20000")
        jobs["array"] = s.submit("array", "-w", "gpu1", "--array=0-2", "--gres=gpu:1")
        jobs["gang"] = s.submit("gang", "-w", "gpu1,gpu2", "-N", "2", "--ntasks-per-node=1", "--gres=gpu:h100:2", account="bio")
        jobs["paused"] = s.submit("paused", "-w", "gpu2", "--gres=gpu:1")
        jobs["wide"] = s.submit("wide", "-p", "long", "--gres=gpu:8")
        jobs["mig"] = s.submit("mig", "-p", "parts", "--gres=gpu:a100_1g.5gb:2")
        jobs["shard"] = s.submit("shard", "-p", "parts", "--gres=shard:3")
        jobs["cpu"] = s.submit("cpu", "-w", "gpu2", "-c", "8")
        het = subprocess.run(["sbatch", "--parsable", "-D", "/", "-o", "/dev/null", "-J", "het", "--uid=nobody", "-A", "ml", "-w", "gpu2", "--gres=gpu:1", ":",
                              "-A", "ml", "-w", "gpu3", "--gres=gpu:1", str(s.folder / "job.sh")], env=s.env, capture_output=True, text=True, timeout=60)
        jobs["het"] = het.stdout.strip()
        # A name that looks like fields of the output, and like a spreadsheet's formula.
        jobs["odd"] = s.submit("=HYPERLINK(1) NodeList=gpu4 GRES=gpu:h100:8(IDX:0-7)", "-w", "gpu3", "--gres=gpu:1")
        s.running(jobs["one"], *(f"{jobs['array']}_{i}" for i in range(3)), jobs["gang"], jobs["paused"], jobs["wide"], jobs["mig"], jobs["shard"], jobs["cpu"], jobs["odd"], f"{jobs['het']}+0")
        s.run("scontrol", "suspend", jobs["paused"])
        # The backfill scheduler marks nodes that it plans for such a job: that is a state of its own, here of a node without a free GPU.
        jobs["waits"] = s.submit("waits", "-p", "long", "--gres=gpu:8")
        until("a reason", lambda: s.run("squeue", "-h", "-j", jobs["waits"], "-o", "%r").strip() == "Resources")
        jobs["held"] = s.submit("held", "--hold", "--gres=gpu:1")
        s.run("scontrol", "update", "NodeName=gpu4", "State=DRAIN", "Reason=GPU 3 Xid 79, <b>ticket</b> 7")
        s.run("scontrol", "update", "NodeName=gpu5", "State=DOWN", "Reason=bad board")
        (s.folder / "prices.toml").write_text(PRICES)
        # An hour and more goes by for who reads: what has just been drained is nothing to tell.
        cls.snapshot = cls.collect("--slurm")
        cls.later = cls.aged(cls.snapshot, hours=30)
        cls.report = cls.scan("--snapshot", cls.later)

    @classmethod
    def scan(cls, *arguments, **how):
        return json.loads(cls.gpuwaste("scan", *arguments, "--prices", cls.slurm.folder / "prices.toml", "--format", "json", "-q", **how).stdout)

    @classmethod
    def aged(cls, snapshot, hours):
        """The same cluster, looked at later: nothing changed but the clock."""
        from datetime import datetime, timedelta
        taken = datetime.fromisoformat(snapshot["taken_at"].replace("Z", "+00:00")[:26].rstrip("+") + ("" if "+00:00" in snapshot["taken_at"].replace("Z", "+00:00")[:26] else "+00:00"))
        older = {**snapshot, "taken_at": (taken + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")}
        file = cls.slurm.folder / f"later-{hours}.json"
        file.write_text(json.dumps(older))
        return file

    def states(self, report):
        return {n["name"]: {k: v for k, v in n["states"].items() if v} for n in report["nodes"]}

    def test_every_gpu_is_in_the_state_that_was_made(self):
        self.assertEqual(self.states(self.report), {
            # 2 + 3 + 2 held, one free.
            "gpu1": {"unknown": 7, "free": 1},
            # 2 of the gang, the paused one, one of the heterogeneous job.
            "gpu2": {"unknown": 4, "free": 4},
            "gpu3": {"unknown": 2, "free": 6},
            "gpu4": {"unhealthy": 8},
            "gpu5": {"unhealthy": 8},
            "gpu6": {"unknown": 8},
            "mig1": self.states(self.report)["mig1"],
            "shard1": {"unknown": 1, "free": 3},
        })
        mig = self.states(self.report)["mig1"]
        self.assertAlmostEqual(mig["unknown"] * 7, 2, places=3)
        self.assertEqual(self.report["totals"]["gpus_free"] + self.report["totals"]["gpus_unhealthy"] + self.report["totals"]["gpus_unknown"], self.report["totals"]["gpus"])

    def test_a_node_on_which_nothing_was_started_is_a_hint(self):
        """The gang's script runs on its first node, and starts nothing on the second; all other jobs' scripts have their GPUs."""
        hints = [f for f in self.report["findings"] if f["part"] == "no-step"]
        self.assertEqual([f["subject"]["name"] for f in hints], [self.jobs["gang"]])
        self.assertIn("2 GPUs of its 4 in no step that runs, on gpu2", hints[0]["title"])
        self.assertIsNone(hints[0]["usd_per_hour"])

    def test_holders_are_slurms_own_indices(self):
        listed = json.loads(self.slurm.run("squeue", "--json"))["jobs"]
        truth = {}
        for job in listed:
            if job["job_state"] not in ("RUNNING", "SUSPENDED"):
                continue
            nodes = self.slurm.run("scontrol", "show", "hostnames", job["nodes"]).split()
            for node, detail in zip(nodes, job["gres_detail"]):
                if detail.startswith("gpu:h100"):
                    inside = detail.split("IDX:")[1].rstrip(")")
                    indices = []
                    for part in inside.split(","):
                        low, _, high = part.partition("-")
                        indices += range(int(low), int(high or low) + 1)
                    truth[(str(job["job_id"]), node)] = indices
        pods = self.snapshot["clusters"][0]["pods"]
        told = {(p["name"].split(".")[0], p["node"]): p["gpu_indices"] for p in pods if p.get("gpu_indices") and p["node"].startswith("gpu")}
        self.assertEqual(told, truth)
        self.assertEqual(len(truth), 1 + 3 + 2 + 1 + 1 + 2 + 1)

    def test_arrays_and_heterogeneous_jobs_count_once(self):
        workloads = {w["name"]: w for w in self.report["workloads"]}
        self.assertEqual({w["kind"] for w in workloads.values()}, {"SlurmJob"})
        self.assertEqual((workloads[self.jobs["array"]]["replicas"], workloads[self.jobs["array"]]["gpus_per_replica"]), (3, 1))
        self.assertEqual((workloads[self.jobs["gang"]]["replicas"], workloads[self.jobs["gang"]]["gpus_per_replica"]), (1, 4))
        self.assertEqual((workloads[self.jobs["het"]]["replicas"], workloads[self.jobs["het"]]["gpus_per_replica"]), (1, 2))
        self.assertEqual(workloads[self.jobs["gang"]]["namespace"], "bio")
        self.assertEqual(workloads[self.jobs["one"]]["owner"], "nobody")

    def test_what_is_free_and_broken_costs_what_the_price_file_says(self):
        found = [f for f in self.report["findings"] if f["check"] == "dark-capacity"]
        free = {f["subject"]["name"]: f for f in found if f["part"] == "unallocated"}
        self.assertEqual(free["train"]["usd_per_hour"], 2.0 * (1 + 4 + 6))
        claims = {}
        for claim in free["train"]["claims"]:
            claims[claim["node"]] = claims.get(claim["node"], 0) + 1
        self.assertEqual(claims, {"gpu1": 1, "gpu2": 4, "gpu3": 6})
        self.assertEqual({f["subject"]["kind"] for f in found}, {"Partition"})
        unhealthy = {f["evidence"][0]["value"]: f for f in found if f["part"] == "unhealthy"}
        self.assertEqual({k: v["usd_per_hour"] for k, v in unhealthy.items()}, {"node drained": 16.0, "node not ready": 16.0})
        drained = unhealthy["node drained"]
        self.assertIn("GPU 3 Xid 79", json.dumps(drained["evidence"]))
        self.assertIn("scontrol update NodeName=gpu4 State=RESUME", drained["fix"]["summary"])
        self.assertEqual(drained["confidence"], "measured", drained)
        # One's own machines: what is free can be used again, and no bill stops.
        self.assertEqual(self.report["totals"]["waste_now_usd_per_hour"], 0)
        self.assertEqual({e["source"] for f in found for e in f["evidence"]} - {"witness"}, {"slurm"})
        self.assertEqual(self.report["totals"]["spend_usd_per_hour"], 2.0 * 40 + 3.5 * 8 + 4 + 7)

    def test_jobs_without_activity_are_no_waste(self):
        idle = [f for f in self.report["findings"] if f["part"] in ("idle", "stuck")]
        self.assertEqual(idle, [])
        check = next(c for c in self.report["checks"] if c["id"] == "dark-capacity")
        reasons = {n["reason"]: n["gpus"] for n in check["not_assessed"]}
        self.assertIn("its job is suspended: somebody paused it", reasons)
        self.assertTrue(any("prometheus" in (g["remedy"] or "") for g in self.report["gaps"]))

    def test_demand_is_named_and_costs_nothing(self):
        source = next(s for s in self.report["sources"] if s["kind"] == "slurm")
        self.assertIn("2 queued jobs ask for 9 GPUs", source["detail"])
        self.assertIn("Slurm 22.05", source["detail"])

    def test_the_live_scan_is_the_snapshots(self):
        live = self.scan("--slurm")
        self.assertEqual({k: v for k, v in self.states(live).items() if k != "gpu4"}, {k: v for k, v in self.states(self.report).items() if k != "gpu4"})
        both = self.scan("--slurm", "--snapshot", self.later, "--cluster-name", "other")
        self.assertEqual(both["totals"]["gpus"], live["totals"]["gpus"], "one cluster, read twice, counts once")
        other = json.loads(self.later.read_text())
        other["clusters"][0].update(name="other", uid="slurm/other")
        (self.slurm.folder / "other.json").write_text(json.dumps(other))
        two = self.scan("--slurm", "--snapshot", self.slurm.folder / "other.json")
        self.assertEqual(two["totals"]["gpus"], 2 * live["totals"]["gpus"])

    def test_saved_outputs_tell_the_same(self):
        saved = self.slurm.folder / "saved"
        save = lambda name, *command, env=None: (saved / name).write_text(self.slurm.run(*command, env=env))
        save("nodes.json", "sinfo", "--all", "--json")
        save("jobs.json", "squeue", "--all", "--json")
        save("steps.txt", "scontrol", "-o", "show", "step")
        save("config.txt", "scontrol", "show", "config")
        save("taken.txt", "date", "+%s")
        again = self.collect("--slurm-dir", saved)
        here = self.snapshot["clusters"][0]
        # A boot time is the host's uptime, taken from its clock: it differs by a second from look to look.
        steady = lambda nodes: [{k: v for k, v in n.items() if k not in ("created_at", "ready")} for n in nodes]
        self.assertEqual(steady(again["clusters"][0]["nodes"]), steady(here["nodes"]))
        self.assertEqual(again["clusters"][0]["pods"], here["pods"])
        (saved / "nodes.json").unlink()
        (saved / "jobs.json").unlink()
        save("nodes.txt", "scontrol", "-d", "-o", "show", "node", env={"SLURM_TIME_FORMAT": "%s"})
        save("jobs.txt", "scontrol", "-d", "-o", "show", "job", env={"SLURM_TIME_FORMAT": "%s"})
        text = self.collect("--slurm-dir", saved)["clusters"][0]
        self.assertEqual(steady(text["nodes"]), steady(here["nodes"]))
        # From text, a job whose name looks like fields is not believed: its GPU is somebody's.
        held = lambda c: sorted((p["node"], i) for p in c["pods"] if p.get("node") for i in p.get("gpu_indices", []))
        self.assertEqual(held(text), held(here))
        shutil.rmtree(saved)
        saved.mkdir()

    def test_a_user_who_sees_only_his_own(self):
        self.slurm.configure("PrivateData=jobs,usage")
        try:
            self.slurm.run("scontrol", "reconfigure")
            until("private jobs", lambda: "jobs" in self.slurm.run("scontrol", "show", "config").split("PrivateData")[1].split("\n")[0])
            root = self.slurm.submit("root", "-w", "gpu3", "--gres=gpu:1", user=None)
            self.slurm.running(root)
            view = self.collect("--slurm", user=pwd.getpwnam("nobody").pw_uid)
            pods = view["clusters"][0]["pods"]
            hidden = [p for p in pods if p["name"].startswith("not-shown")]
            self.assertEqual([(p["node"], len(p["gpu_indices"])) for p in hidden], [("gpu3", 1)])
            self.assertTrue(any("PrivateData" in g["reason"] for g in view["gaps"]), view["gaps"])
            report = self.scan("--snapshot", self.aged(view, hours=31))
            self.assertEqual(self.states(report)["gpu3"], {"unknown": 3, "free": 5}, "somebody's GPU is not free")
        finally:
            self.slurm.run("scancel", "--name=root", check=False)
            self.slurm.configure("")
            self.slurm.run("scontrol", "reconfigure", check=False)
            until("nodes that are free again", lambda: not self.slurm.run("squeue", "-h", "--name=root").strip())

    def test_nothing_of_the_users_is_kept_or_written_raw(self):
        text = json.dumps(self.snapshot)
        for canary in ("job.sh", "/dev/null", "sleep 900"):
            self.assertNotIn(canary, text)
        html = self.gpuwaste("scan", "--snapshot", self.later, "--format", "html", "-q").stdout
        self.assertNotIn("<b>ticket</b>", html)
        self.assertIn("&lt;b&gt;ticket", html)

    def test_the_dry_run_lists_commands_and_runs_none(self):
        done = subprocess.run([BINARY, "scan", "--slurm", "--dry-run"], env={"PATH": "/nonexistent"}, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        for command in ("scontrol show config", "sinfo --all --json", "squeue --all --json", "sacct -a -X -P"):
            self.assertIn(command, done.stdout)
        self.assertFalse(any(verb in done.stdout for verb in ("update", "scancel", "sbatch")))

    def test_no_slurm_is_a_clear_error(self):
        done = subprocess.run([BINARY, "scan", "--slurm"], env={"PATH": "/nonexistent"}, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertIn("--slurm-dir", done.stderr)
        beside = self.gpuwaste("scan", "--slurm-dir", "/nonexistent", "--snapshot", self.later, "--format", "json", "-q", expect=(3,))
        self.assertTrue(any(s["kind"] == "slurm" and s["status"] == "failed" for s in json.loads(beside.stdout)["sources"]))

    def test_doctor_says_what_was_read(self):
        done = self.gpuwaste("doctor", "--slurm", expect=(0, 3))
        self.assertIn("list jobs", done.stdout)
        self.assertIn("slurm", done.stdout)


if __name__ == "__main__":
    if SKIP:
        print(f"SKIPPED LOUDLY: {SKIP}", file=sys.stderr)
    unittest.main()
