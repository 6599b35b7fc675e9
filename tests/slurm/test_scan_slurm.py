#!/usr/bin/env python3
"""A real Slurm cluster, read by its own commands: slurmctld, slurmdbd on MariaDB, and slurmd of many nodes on this host.

The truth is what was submitted: which jobs asked for how many GPUs and where they may run, which nodes were drained and why. The
report must say the same: free, held, unhealthy GPUs, whose they are, and what they cost. Fake GPUs: Slurm counts device files.
Needs root and the packages slurm-wlm, slurmdbd, mariadb-server and munge: elsewhere the test is skipped and says so; with CI set
it fails instead.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/slurm/test_scan_slurm.py
"""
import base64, gzip, json, os, pathlib, pwd, shutil, socket, subprocess, sys, tempfile, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
BINARY = pathlib.Path(os.environ.get("GPUWASTE", "target/debug/gpuwaste")).resolve()
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "mariadbd", "mariadb-install-db", "munged", "sbatch", "sacctmgr")
os.environ["PATH"] += ":/usr/sbin:/sbin"
MISSING = [p for p in PROGRAMS if not shutil.which(p)]
SKIP = None
if MISSING or os.geteuid() != 0:
    SKIP = f"needs root and the packages slurm-wlm, slurmdbd, mariadb-server and munge (missing: {', '.join(MISSING) or 'root'})"
    if os.environ.get("CI"):
        raise SystemExit(f"FAILED: {SKIP}")

from test_slurm import free_ports, until  # noqa: E402

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

CONF = """
ClusterName=hpc
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/log/ctld
SlurmdLogFile={folder}/log/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu,shard
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=1000,bf_interval=2
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[1]}
AccountingStoragePass={folder}/munge/socket
AccountingStorageTRES=gres/gpu,gres/gpu:h100
AccountingStoreFlags=job_comment
{extra}
NodeName=gpu[1-6] NodeHostName={host} NodeAddr=127.0.0.1 Port=[{first}-{sixth}] CPUs=64 RealMemory=512000 Gres=gpu:h100:8
NodeName=mig1 NodeHostName={host} NodeAddr=127.0.0.1 Port={seventh} CPUs=64 RealMemory=512000 Gres=gpu:a100_1g.5gb:7
NodeName=shard1 NodeHostName={host} NodeAddr=127.0.0.1 Port={eighth} CPUs=64 RealMemory=512000 Gres=gpu:l40s:4,shard:l40s:16
NodeName=cpu1 NodeHostName={host} NodeAddr=127.0.0.1 Port={ninth} CPUs=64 RealMemory=512000
PartitionName=train Nodes=gpu[1-5] Default=YES MaxTime=INFINITE State=UP DefMemPerCPU=2000
PartitionName=long Nodes=gpu6 MaxTime=7-0 State=UP DefMemPerCPU=2000
PartitionName=parts Nodes=mig1,shard1 MaxTime=INFINITE State=UP DefMemPerCPU=2000
PartitionName=batch Nodes=cpu1 MaxTime=INFINITE State=UP DefMemPerCPU=2000
"""
NODES = [f"gpu{i}" for i in range(1, 7)] + ["mig1", "shard1", "cpu1"]
# Nodes without a slurmd: gpu5 is what a board that died looks like.
DEAD = {"gpu5"}


def consecutive(count):
    """Ports in a row: a range in slurm.conf."""
    for first in range(21000, 29000, 37):
        taken = []
        try:
            for port in range(first, first + count):
                s = socket.socket()
                taken.append(s)
                s.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for s in taken:
                s.close()
    raise AssertionError("no free ports")


class Cluster:
    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gpuwaste-hpc-"))
        self.folder.chmod(0o755)
        self.children = []
        for name in ("state", "spool", "log", "munge", "dev", "saved", "my"):
            (self.folder / name).mkdir(mode=0o755)
        for index in range(8):
            os.mknod(self.folder / f"dev/nvidia{index}", 0o20666, os.makedev(1, 3))
        key = self.folder / "munge/key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self.ports = free_ports(3)
        self.first = consecutive(9)
        self.configure("")
        self.write("gres.conf", "\n".join([
            f"NodeName=gpu[1-6] Name=gpu Type=h100 File={self.folder}/dev/nvidia[0-7]",
            f"NodeName=mig1 Name=gpu Type=a100_1g.5gb File={self.folder}/dev/nvidia[0-6]",
            f"NodeName=shard1 Name=gpu Type=l40s File={self.folder}/dev/nvidia[0-3]",
            "NodeName=shard1 Name=shard Count=16", ""]))
        self.write("cgroup.conf", "CgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=no\n")
        self.write("slurmdbd.conf", "\n".join([
            "AuthType=auth/munge", f"AuthInfo=socket={self.folder}/munge/socket", "DbdHost=localhost", f"DbdPort={self.ports[1]}", "SlurmUser=root",
            f"LogFile={self.folder}/log/dbd", f"PidFile={self.folder}/dbd.pid", "StorageType=accounting_storage/mysql", "StorageHost=127.0.0.1",
            f"StoragePort={self.ports[2]}", "StorageUser=slurm", "StoragePass=test", "StorageLoc=slurm_acct", ""]))
        (self.folder / "slurmdbd.conf").chmod(0o600)
        self.env = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def write(self, name, text):
        (self.folder / name).write_text(text)

    def configure(self, extra):
        self.write("slurm.conf", CONF.format(
            host=socket.gethostname(), ports=self.ports, folder=self.folder, extra=extra, first=self.first, sixth=self.first + 5,
            seventh=self.first + 6, eighth=self.first + 7, ninth=self.first + 8))

    def daemon(self, *command):
        with (self.folder / f"log/{pathlib.Path(command[0]).name}-{len(self.children)}.out").open("w") as log:
            child = subprocess.Popen(command, env=self.env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.children.append(child)
        return child

    def run(self, *command, check=True, env=None, user=None):
        done = subprocess.run(command, env={**self.env, **(env or {})}, capture_output=True, text=True, timeout=60, user=user)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(map(str, command))}: {done.stderr}\n{self.log()}")
        return done.stdout

    def database(self):
        my = self.folder / "my"
        shutil.chown(my, "mysql", "mysql")
        data, sock = my / "data", my / "sock"
        self.run("mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db")
        self.daemon("mariadbd", "--no-defaults", "--user=mysql", f"--datadir={data}", f"--socket={sock}", f"--port={self.ports[2]}", "--bind-address=127.0.0.1",
                    f"--pid-file={my}/pid", "--innodb-flush-log-at-trx-commit=0")
        until("mariadbd", lambda: sock.exists() and self.run("mariadb", "--no-defaults", f"--socket={sock}", "-u", "root", "-e", "SELECT 1", check=False))
        grants = "".join(f"CREATE USER slurm@'{h}' IDENTIFIED BY 'test'; GRANT ALL ON *.* TO slurm@'{h}';" for h in ("127.0.0.1", "localhost"))
        self.run("mariadb", "--no-defaults", f"--socket={sock}", "-u", "root", "-e", grants)

    def start(self):
        munge = self.folder / "munge"
        self.daemon("munged", "--foreground", f"--key-file={munge}/key", f"--socket={munge}/socket", f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed")
        until("munged", lambda: (munge / "socket").exists())
        self.database()
        self.daemon("slurmdbd", "-D")
        until("slurmdbd", lambda: "started" in self.text("log/dbd"))
        until("a known cluster", lambda: self.run("sacctmgr", "-i", "add", "cluster", "hpc", check=False) or "hpc" in self.run("sacctmgr", "-n", "show", "cluster", check=False))
        for account in ("ml", "bio"):
            self.run("sacctmgr", "-i", "add", "account", account, f"Description={account}", "Organization=test", check=False)
        self.run("sacctmgr", "-i", "add", "user", "nobody", "Account=ml,bio", check=False)
        self.controller = self.daemon("slurmctld", "-D")
        until("slurmctld", lambda: self.run("sinfo", "-h", check=False))
        for node in NODES:
            if node not in DEAD:
                self.daemon("slurmd", "-D", "-N", node)
        alive = len(NODES) - len(DEAD)
        until("idle nodes", lambda: self.run("sinfo", "-h", "-N", "-o", "%N %T", check=False).count(" idle") >= alive)

    def text(self, name):
        file = self.folder / name
        return file.read_text(errors="replace") if file.exists() else ""

    def submit(self, name, *arguments, user="nobody", account="ml"):
        script = self.folder / "job.sh"
        script.write_text("#!/bin/bash\nsleep 900 &\nwait\n")
        who = [f"--uid={user}", "-A", account] if user else []
        return self.run("sbatch", "--parsable", "-D", "/", "-o", "/dev/null", "-J", name, *who, *arguments, str(script)).strip()

    def running(self, *jobs):
        states = lambda: {l.split()[0]: l.split()[1] for l in self.run("squeue", "-h", "-r", "-o", "%i %T").splitlines()}
        until(f"jobs {jobs} run", lambda: all(states().get(j) == "RUNNING" for j in jobs))

    def log(self):
        return "\n".join(f"== {f.name}\n" + "\n".join(f.read_text(errors="replace").splitlines()[-8:]) for f in sorted((self.folder / "log").iterdir()))

    def stop(self):
        self.run("scancel", "--user=nobody", check=False)
        for _ in range(40):
            if not self.run("squeue", "-h", "-t", "R,S,CG", check=False).strip():
                break
            time.sleep(0.2)
        for child in reversed(self.children):
            child.terminate()
        for child in self.children:
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@unittest.skipIf(SKIP, f"SKIPPED LOUDLY: {SKIP}")
class Scan(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.slurm = s = Cluster()
        cls.addClassCleanup(s.stop)
        try:
            s.start()
        except AssertionError as error:
            raise AssertionError(f"{error}\n{s.log()}") from None
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
    def gpuwaste(cls, *arguments, expect=(0, 1), user=None):
        done = subprocess.run([cls.binary, *map(str, arguments)], env=cls.slurm.env, cwd=cls.slurm.folder, capture_output=True, text=True, timeout=120, user=user)
        if done.returncode not in expect:
            raise AssertionError(f"exit {done.returncode}: {done.stderr}")
        return done

    @classmethod
    def collect(cls, *arguments, **how):
        return json.loads(cls.gpuwaste("collect", *arguments, "-q", "-o", "-", **how).stdout)

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
