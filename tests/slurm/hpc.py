"""A real Slurm cluster on this host for the tests: slurmctld, slurmdbd on MariaDB, and slurmd of many nodes. GPUs are device files.

Needs root and Debian's packages slurm-wlm, slurmdbd, mariadb-server and munge; with `rest`, slurmrestd and slurm-wlm-jwt-plugin.
"""
import json, os, pathlib, shutil, socket, subprocess, tempfile, time

BINARY = pathlib.Path(os.environ.get("GPUWASTE", "target/debug/gpuwaste")).resolve()
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "mariadbd", "mariadb-install-db", "munged", "sbatch", "sacctmgr")
os.environ["PATH"] += ":/usr/sbin:/sbin"


def skip(*more):
    """Why a test cannot run here, or None. With CI set it fails instead."""
    missing = [p for p in (*PROGRAMS, *more) if not shutil.which(p)]
    if not missing and os.geteuid() == 0:
        return None
    why = f"needs root and the packages slurm-wlm, slurmdbd, mariadb-server, munge{', slurmrestd' if more else ''} (missing: {', '.join(missing) or 'root'})"
    if os.environ.get("CI"):
        raise SystemExit(f"FAILED: {why}")
    return why


def free_ports(count):
    taken = [socket.socket() for _ in range(count)]
    for s in taken:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in taken]
    for s in taken:
        s.close()
    return ports


def until(what, ask, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = ask()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {seconds} s")


# What every cluster here has: one host, munge with a key of its own, and files in a folder of its own.
DAEMONS = """
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
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
ReturnToService=2
SlurmdParameters=config_overrides
"""

CONF = DAEMONS + """
ClusterName=hpc
ProctrackType=proctrack/linuxproc
JobAcctGatherType=jobacct_gather/none
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu,shard
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
        try:
            self.start_all()
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    def start_all(self):
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

    def serve(self):
        """slurmrestd on a port of its own, after `accept_tokens` and `start`: (URL, what 'scontrol token' prints for nobody)."""
        token = self.run("scontrol", "token", "username=nobody", "lifespan=3600").strip()
        port = free_ports(1)[0]
        # It runs as root here, which it refuses elsewhere, and passes each caller's token on.
        environment = {**self.env, "SLURMRESTD_SECURITY": "disable_user_check", "SLURM_JWT": "daemon"}
        with (self.folder / "log/rest.out").open("w") as log:
            self.rest = subprocess.Popen(["slurmrestd", "-a", "rest_auth/jwt", "-s", "openapi/v0.0.38,openapi/dbv0.0.38", f"127.0.0.1:{port}"],
                                         env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.children.append(self.rest)

        def listens():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", port)) == 0

        until("slurmrestd", listens)
        return f"http://127.0.0.1:{port}", token

    def accept_tokens(self):
        key = self.folder / "jwt.key"
        key.write_bytes(os.urandom(32))
        key.chmod(0o600)
        lines = f"AuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key={key}"
        self.configure(lines)
        database = self.folder / "slurmdbd.conf"
        database.write_text(f"{database.read_text()}{lines}\n")

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


class Asks:
    """What runs gpuwaste beside the cluster `slurm` of its class."""

    binary = BINARY

    @classmethod
    def gpuwaste(cls, *arguments, expect=(0, 1), user=None):
        done = subprocess.run([cls.binary, *map(str, arguments)], env=cls.slurm.env, cwd=cls.slurm.folder, capture_output=True, text=True, timeout=120, user=user)
        if done.returncode not in expect:
            raise AssertionError(f"exit {done.returncode}: {done.stderr}\n{cls.slurm.log()}")
        return done

    @classmethod
    def collect(cls, *arguments, **how):
        return json.loads(cls.gpuwaste("collect", *arguments, "-q", "-o", "-", **how).stdout)
