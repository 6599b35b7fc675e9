#!/usr/bin/env python3
"""Real Slurm jobs on GPUs of this host: `--local` names the job, and what it was given is its own, process or none.

slurmctld and two slurmd (Debian's packages), munge with a key of the test's own, device files that are no GPUs, and the NVML
stand-in. Once with Slurm's cgroups and once without. Needs root and the packages slurm-wlm and munge: elsewhere the test is
skipped and says so; with CI set it fails instead.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/slurm/test_slurm.py
"""
import json, os, pathlib, shutil, socket, subprocess, sys, tempfile, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from hpc import DAEMONS, free_ports, until

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = pathlib.Path(os.environ.get("GPUWASTE", "target/debug/gpuwaste")).resolve()
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scancel")
MISSING = [p for p in PROGRAMS if not shutil.which(p)]
SKIP = None
if MISSING or os.geteuid() != 0:
    SKIP = f"needs root and the packages slurm-wlm and munge (missing: {', '.join(MISSING) or 'root'})"
    if os.environ.get("CI"):
        raise SystemExit(f"FAILED: {SKIP}")

CONF = DAEMONS + """
ClusterName=test
ProctrackType={track}
SelectTypeParameters=CR_Core
GresTypes=gpu
NodeName=gpu1 NodeHostName={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=1000 Gres=gpu:h100:4
NodeName=cpu1 NodeHostName={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=1000
PartitionName=serving Nodes=gpu1 Default=YES MaxTime=INFINITE State=UP
PartitionName=batch Nodes=cpu1 MaxTime=INFINITE State=UP
"""


class Slurm:
    """A cluster of two nodes on this host, ended with the test."""

    def __init__(self, track):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gpuwaste-slurm-"))
        self.children = []
        self.folder.chmod(0o755)
        for name in ("state", "spool", "log", "munge", "dev", "out"):
            (self.folder / name).mkdir(mode=0o755)
        (self.folder / "out").chmod(0o777)
        for index in range(4):
            # /dev/null by another name: Slurm wants a device file, and nobody opens it.
            os.mknod(self.folder / f"dev/nvidia{index}", 0o20666, os.makedev(1, 3))
        key = self.folder / "munge/key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        host = socket.gethostname()
        write = lambda name, text: (self.folder / name).write_text(text)
        write("slurm.conf", CONF.format(host=host, ports=free_ports(3), folder=self.folder, track=track))
        write("gres.conf", f"NodeName=gpu1 Name=gpu Type=h100 File={self.folder}/dev/nvidia[0-3]\n")
        write("cgroup.conf", "CgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=no\n")
        self.env = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self):
        munge = self.folder / "munge"
        self.daemon("munged", "--foreground", f"--key-file={munge}/key", f"--socket={munge}/socket", f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed")
        until("munged", lambda: (munge / "socket").exists())
        self.daemon("slurmctld", "-D")
        for node in ("gpu1", "cpu1"):
            self.daemon("slurmd", "-D", "-N", node)
        until("idle nodes", lambda: self.run("sinfo", "-h", "-N", "-o", "%T").split() == ["idle", "idle"])

    def daemon(self, *command):
        with (self.folder / f"log/{command[0]}-{len(self.children)}.out").open("w") as log:
            self.children.append(subprocess.Popen(command, env=self.env, stdout=log, stderr=log, stdin=subprocess.DEVNULL))

    def run(self, *command):
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60).stdout

    def submit(self, name, body, *arguments):
        """A batch job of the user nobody; `body` may write what the test has to know to $OUT."""
        script = self.folder / f"{name}.sh"
        script.write_text(f"#!/bin/bash\nOUT={self.folder}/out\n{body}\nwait\n")
        asked = subprocess.run(["sbatch", "--parsable", "--uid=nobody", "-D", "/", "-o", "/dev/null", "-J", name, *arguments, script], env=self.env, capture_output=True, text=True, timeout=60)
        if asked.returncode:
            raise AssertionError(asked.stderr)
        return asked.stdout.strip()

    def pid(self, name):
        file = self.folder / f"out/{name}"
        try:
            return int(until(f"a process of {name}", lambda: file.exists() and file.read_text().strip()))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.run('squeue')}\n{self.log()}") from None

    def log(self):
        return "\n".join(f"== {f.name}\n" + "\n".join(f.read_text(errors="replace").splitlines()[-15:]) for f in sorted((self.folder / "log").iterdir()))

    def stop(self):
        self.run("scancel", "--full", "--signal=KILL", "--user=nobody")
        self.run("scancel", "--user=nobody")
        for _ in range(50):
            if not self.run("squeue", "-h").strip():
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


def standin(folder):
    """The NVML stand-in as the driver's library."""
    target = BINARY.parent.parent
    subprocess.run(["cargo", "build", "--quiet", "-p", "nvml-standin", "--target-dir", target], cwd=ROOT, check=True)
    shutil.copy(target / "debug/libnvidia_ml.so", folder / "libnvidia-ml.so.1")
    shutil.copy(target / "debug/vllm", folder / "vllm")


def h100(index, *pids):
    return {"name": "NVIDIA H100 80GB HBM3", "uuid": f"GPU-{index}", "gpu_percent": 0, "memory_total": 85520809984, "memory_used": 1000000, "power_milliwatts": 70000, "pids": list(pids)}


@unittest.skipIf(SKIP, f"SKIPPED LOUDLY: {SKIP}")
class Jobs(unittest.TestCase):
    track = "proctrack/cgroup"

    @classmethod
    def setUpClass(cls):
        cls.slurm = Slurm(cls.track)
        cls.addClassCleanup(cls.slurm.stop)
        standin(cls.slurm.folder)
        try:
            cls.slurm.start()
        except AssertionError as error:
            if "cgroup" in cls.track and not os.environ.get("CI"):
                raise unittest.SkipTest(f"SKIPPED LOUDLY: no slurmd with cgroups here: {error}\n{cls.slurm.log()}") from None
            raise AssertionError(f"{error}\n{cls.slurm.log()}") from None
        port = free_ports(1)[0]
        # One server on one of two GPUs; a task that `srun` starts; a job that is at its CPU's part; one without GPUs.
        serve = f'{cls.slurm.folder}/vllm serve Qwen/Qwen2.5-7B-Instruct --port {port} --api-key CANARY-KEY >/dev/null &\necho $! >$OUT/server'
        cls.server = cls.slurm.submit("server", serve, "-p", "serving", "--gres=gpu:2")
        cls.server_pid = cls.slurm.pid("server")
        train = "srun bash -c 'echo $$ >'$OUT'/train; exec sleep 600' &"
        cls.train = cls.slurm.submit("train", train, "-p", "serving", "--gres=gpu:1")
        cls.train_pid = cls.slurm.pid("train")
        cls.plain = cls.slurm.submit("plain", "sleep 600 &\necho $! >$OUT/plain", "-p", "batch")
        cls.plain_pid = cls.slurm.pid("plain")
        scenario = {"driver": "570.86.15", "devices": [h100(0, cls.server_pid), h100(1), h100(2, cls.train_pid), h100(3)]}
        (cls.slurm.folder / "scenario.json").write_text(json.dumps(scenario))
        cls.snapshot = cls.gpuwaste("collect", "--local", "--observe", "1s", "-q", "-o", "-")
        host = cls.snapshot["clusters"][0]
        # Booted long ago: what is free on a host that has just come up is nothing to tell.
        host["nodes"][0]["created_at"] = "2020-01-01T00:00:00Z"
        (cls.slurm.folder / "host.json").write_text(json.dumps(cls.snapshot))
        (cls.slurm.folder / "gpuwaste.toml").write_text('[ownership]\nlabels = ["slurm/user"]\n')
        cls.report = cls.gpuwaste("scan", "--snapshot", cls.slurm.folder / "host.json", "--format", "json")
        cls.pods = {p["owner"]["name"]: p for p in host["pods"]}

    @classmethod
    def gpuwaste(cls, *arguments):
        folder = cls.slurm.folder
        env = {**os.environ, "LD_LIBRARY_PATH": str(folder), "NVML_STANDIN": str(folder / "scenario.json")}
        done = subprocess.run([BINARY, *arguments], env=env, cwd=folder, capture_output=True, text=True, timeout=120)
        if done.returncode not in (0, 1):
            raise AssertionError(done.stderr)
        return json.loads(done.stdout)

    def test_a_job_owns_its_processes(self):
        self.assertEqual({(p["owner"]["kind"], p["namespace"]) for p in self.pods.values()}, {("SlurmJob", "slurm")})
        self.assertEqual(set(self.pods), {self.server, self.train}, "the job without GPUs holds none")
        for job in (self.server, self.train):
            self.assertEqual(self.pods[job]["labels"], {"slurm/user": "nobody", "slurm/partition": "serving"})
        idle = [f for f in self.report["findings"] if f["part"] == "idle"]
        self.assertEqual([(f["subject"]["kind"], f["subject"]["name"], f["subject"]["model"]) for f in idle], [("SlurmJob", self.server, "Qwen/Qwen2.5-7B-Instruct")])
        self.assertEqual([f["owner"] for f in idle], ["nobody"])
        self.assertNotIn("CANARY", json.dumps([self.snapshot, self.report]))

    def test_a_gpu_without_a_process_is_its_jobs(self):
        gpus = {g["uuid"]: [h["name"] for h in g.get("holders", [])] for g in self.snapshot["clusters"][0]["gpus"]}
        server, train = (self.pods[job]["name"] for job in (self.server, self.train))
        self.assertEqual(gpus, {"GPU-0": [server], "GPU-1": [server], "GPU-2": [train], "GPU-3": []})
        free = [f for f in self.report["findings"] if f["part"] == "unallocated"]
        self.assertEqual([[c["gpu"] for c in f["claims"]] for f in free], [["GPU-3"]])

    def test_slurm_tracks_as_this_test_says(self):
        cgroup = pathlib.Path(f"/proc/{self.server_pid}/cgroup").read_text()
        self.assertEqual(f"job_{self.server}" in cgroup, self.track == "proctrack/cgroup", cgroup)


class JobsWithoutCgroups(Jobs):
    track = "proctrack/linuxproc"


if __name__ == "__main__":
    if SKIP:
        print(f"SKIPPED LOUDLY: {SKIP}", file=sys.stderr)
    unittest.main()
