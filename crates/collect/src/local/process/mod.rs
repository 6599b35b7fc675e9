//! Processes on GPUs, joined with /proc: what runs, under whom, and where it listens. Command lines and environments are
//! read here, handed to the engines, and dropped.

mod cgroup;
mod record;
mod slurm;

use crate::engine::{self, ContainerSpec, exporters};
use crate::snapshot::cluster::{Container, ContainerRole, ContainerState, Pod};
use cgroup::{Keeper, keeper};
use jiff::{SignedDuration, Timestamp};
pub(super) use record::{Group, pods};
use record::{base, hidden, plain, pod, program};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Ticks of a second in /proc/PID/stat: USER_HZ, fixed at 100 by Linux's user-space interface (proc(5)).
const TICKS: f64 = 100.0;
/// Longest command line and environment that are read (the kernel's own limit on one is far higher).
const MAX_BYTES: u64 = 1 << 20;
/// Steps up to a process's parents: vLLM's workers stand three below the server.
const MAX_PARENTS: usize = 12;

/// What Slurm tells a job's processes of the job (sbatch's manual, output environment variables), and the label it becomes.
const SLURM: &[(&str, &str)] = &[
    ("SLURM_JOB_USER", "slurm/user"),
    ("SLURM_JOB_ACCOUNT", "slurm/account"),
    ("SLURM_JOB_PARTITION", "slurm/partition"),
];

/// Programs that stand above a server without being part of it.
const SHELLS: &[&str] = &[
    "sh",
    "bash",
    "dash",
    "zsh",
    "fish",
    "tmux",
    "tmux: server",
    "screen",
    "sshd",
    "login",
    "su",
    "sudo",
    "systemd",
    "init",
    "tini",
    "dumb-init",
    "containerd-shim",
    "containerd-shim-runc-v2",
    "conmon",
    "dockerd",
    "slurmstepd",
    "supervisord",
];

/// NVIDIA's own helpers: they hold a context and do no work (R3: infrastructure holds nothing).
const HELPERS: &[&str] = &[
    "nvidia-cuda-mps-server",
    "nvidia-cuda-mps-control",
    "nv-hostengine",
    "nvidia-persistenced",
];

/// One process.
#[derive(Clone, Debug, Default)]
struct Process {
    pid: u32,
    parent: u32,
    /// /proc/PID/comm.
    name: String,
    arguments: Vec<String>,
    /// Ticks after boot; with the pid it names the process for good.
    start_ticks: u64,
    keeper: Keeper,
}

/// /proc, or a copy of it in a test.
pub(super) struct Processes {
    root: PathBuf,
    booted_at: Option<Timestamp>,
}

impl Processes {
    pub(super) fn at(root: &Path) -> Self {
        let booted_at = fs::read_to_string(root.join("stat")).ok().and_then(|text| {
            let seconds = text
                .lines()
                .find_map(|l| l.strip_prefix("btime "))?
                .trim()
                .parse()
                .ok()?;
            Timestamp::from_second(seconds).ok()
        });
        Self {
            root: root.into(),
            booted_at,
        }
    }

    pub(super) fn booted_at(&self) -> Option<Timestamp> {
        self.booted_at
    }

    /// The group that a process on a GPU belongs to: the nearest process upwards that is a known server, else the topmost
    /// one that is no shell.
    pub(super) fn group(&self, pid: u32, node: &str) -> Group {
        let Some(process) = self.read(pid) else {
            return hidden(pid, node);
        };
        let mut chain = vec![process];
        while let Some(above) = chain
            .last()
            .map(|p| p.parent)
            .filter(|p| *p > 1 && chain.len() < MAX_PARENTS)
        {
            match self.read(above) {
                Some(parent) if !SHELLS.contains(&parent.name.as_str()) && parent.keeper == chain[0].keeper => {
                    chain.push(parent);
                }
                _ => break,
            }
        }
        let known = chain.iter().find_map(|p| {
            let spec = self.spec(p);
            let settings = engine::recognise(&spec)?;
            Some((p, Some(settings), engine::role(&spec)))
        });
        let (process, settings, role) = known.unwrap_or_else(|| {
            let top = chain.last().unwrap_or(&chain[0]);
            let role = chain.iter().find_map(|p| engine::role(&self.spec(p)));
            (top, None, role)
        });
        let helper = base(process.arguments.first().map_or(process.name.as_str(), String::as_str));
        let helper = HELPERS.contains(&helper) || exporters::is_program(helper);
        let program = match &settings {
            Some(s) => {
                let model = s
                    .served_names
                    .first()
                    .or(s.model.as_ref())
                    .map_or("", |m| base(m.trim_end_matches('/')));
                format!("{} {model}", s.engine.map_or("server", |e| e.name()))
            }
            None => program(process),
        };
        let (namespace, kind, name) = match &process.keeper {
            Keeper::Kubernetes(uid) => ("kubernetes", "Pod", uid.clone()),
            Keeper::Slurm(job) => ("slurm", "SlurmJob", job.clone()),
            Keeper::Systemd(unit) => ("systemd", "SystemdUnit", unit.clone()),
            Keeper::Container => ("container", "Container", program),
            Keeper::Nobody => ("process", "Process", program),
        };
        let name = plain(&name);
        let labels = match &process.keeper {
            Keeper::Slurm(_) => self.of_job(process.pid),
            _ => BTreeMap::new(),
        };
        let started_at = self.started_at(process);
        let container = Container {
            name: "process".into(),
            server: settings.map(Box::new),
            role: if helper {
                Some(ContainerRole::GpuInfrastructure)
            } else {
                role
            },
            state: Some(ContainerState::Running { since: started_at }),
            ready: true,
            ..Container::default()
        };
        Group {
            key: (process.pid, process.start_ticks),
            pod: Pod {
                ip: self.address(process.pid),
                labels,
                ..pod(
                    namespace,
                    kind,
                    &name,
                    process.pid,
                    process.start_ticks,
                    node,
                    started_at,
                    container,
                )
            },
            hidden: false,
        }
    }

    /// /proc/PID/stat: the name, and the fields behind it.
    fn stat(&self, pid: u32) -> Option<(String, Vec<String>)> {
        let stat = fs::read_to_string(self.root.join(pid.to_string()).join("stat")).ok()?;
        // The name may hold spaces and brackets: everything behind the last one is numbers.
        let (head, numbers) = stat.rsplit_once(')')?;
        let fields = numbers.split_whitespace().map(String::from).collect();
        Some((head.split_once('(')?.1.to_string(), fields))
    }

    fn read(&self, pid: u32) -> Option<Process> {
        let folder = self.root.join(pid.to_string());
        let (name, fields) = self.stat(pid)?;
        let keeper = match keeper(&fs::read_to_string(folder.join("cgroup")).unwrap_or_default()) {
            // Where Slurm tracks processes without cgroups, only their environment names the job.
            Keeper::Nobody => self.variable(pid, "SLURM_JOB_ID").map_or(Keeper::Nobody, Keeper::Slurm),
            told => told,
        };
        Some(Process {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            name,
            arguments: words(&capped(&folder.join("cmdline"))),
            start_ticks: fields.get(19)?.parse().ok()?,
            keeper,
        })
    }

    fn environment(&self, pid: u32) -> Vec<String> {
        words(&capped(&self.root.join(pid.to_string()).join("environ")))
    }

    fn environment_of(&self, pid: u32, name: &str) -> Option<String> {
        let all = self.environment(pid);
        let value = all.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.to_string())
    }

    /// One of its variables, where it is a short word and nothing else.
    fn variable(&self, pid: u32, name: &str) -> Option<String> {
        self.environment_of(pid, name).filter(|value| plain(value) == *value)
    }

    /// Whose job it is, as labels.
    fn of_job(&self, pid: u32) -> BTreeMap<String, String> {
        let told = |(name, label): &(&str, &str)| Some(((*label).to_string(), self.variable(pid, name)?));
        SLURM.iter().filter_map(told).collect()
    }

    fn spec(&self, process: &Process) -> ContainerSpec {
        ContainerSpec {
            image: String::new(),
            command: process.arguments.clone(),
            args: Vec::new(),
            env: self
                .environment(process.pid)
                .iter()
                .filter_map(|word| word.split_once('='))
                // Nothing of an environment is looked at but what engines take settings from.
                .filter(|(name, _)| engine::reads_variable(name))
                .map(|(name, value)| (name.to_string(), Some(value.to_string())))
                .collect(),
            ..ContainerSpec::default()
        }
    }

    fn started_at(&self, process: &Process) -> Option<Timestamp> {
        let after = SignedDuration::try_from_secs_f64(process.start_ticks as f64 / TICKS).ok()?;
        self.booted_at?.checked_add(after).ok()
    }

    /// Where its ports are reached from here: loopback in our own network namespace, else its first own address.
    fn address(&self, pid: u32) -> Option<String> {
        let space = |who: &str| fs::read_link(self.root.join(who).join("ns/net")).ok();
        match (space("self"), space(&pid.to_string())) {
            (Some(own), Some(its)) if own != its => {
                let table = fs::read_to_string(self.root.join(pid.to_string()).join("net/fib_trie")).ok()?;
                local_address(&table)
            }
            _ => Some("127.0.0.1".into()),
        }
    }
}

fn capped(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        // A process that ends meanwhile leaves what was read to there.
        let _ = file.take(MAX_BYTES).read_to_end(&mut bytes);
    }
    bytes
}

fn words(bytes: &[u8]) -> Vec<String> {
    bytes
        .split(|b| *b == 0)
        .filter(|w| !w.is_empty())
        .map(|w| String::from_utf8_lossy(w).into_owned())
        .collect()
}

/// The first address of a network namespace that is not loopback, from its `fib_trie`.
fn local_address(table: &str) -> Option<String> {
    let mut last = None;
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = Some(address);
        } else if line.starts_with("/32 host LOCAL")
            && let Some(address) = last.filter(|a| !a.starts_with("127."))
        {
            return Some(address.to_string());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::server::EngineKind;
    use std::collections::BTreeSet;

    /// (pid, parent, comm, arguments, environment, cgroup).
    type Row<'a> = (u32, u32, &'a str, &'a [&'a str], &'a [&'a str], &'a str);

    /// A /proc with these processes.
    fn proc(rows: &[Row<'_>]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("stat"), "cpu 1 2\nbtime 1700000000\n").unwrap();
        for (pid, parent, comm, arguments, environment, cgroup) in rows {
            let folder = root.path().join(pid.to_string());
            fs::create_dir(&folder).unwrap();
            let zeros = "0 ".repeat(17);
            fs::write(
                folder.join("stat"),
                format!("{pid} ({comm}) S {parent} {zeros}5000 0 0"),
            )
            .unwrap();
            fs::write(folder.join("cmdline"), arguments.join("\0") + "\0").unwrap();
            fs::write(folder.join("environ"), environment.join("\0")).unwrap();
            fs::write(folder.join("cgroup"), cgroup).unwrap();
        }
        root
    }

    #[test]
    fn every_variable_that_an_engine_reads_arrives_and_no_other() {
        let all = || engine::ENGINES.engines().iter().flat_map(|e| e.facts().variables);
        let names: BTreeSet<String> = all().map(|v| v.name.replace('*', "TENSOR_PARALLEL_SIZE")).collect();
        assert!(names.len() > 40, "{names:?}");
        let mut environment: Vec<String> = names.iter().map(|n| format!("{n}=1")).collect();
        environment.push("HF_TOKEN=CANARY".into());
        environment.push("NIM_API_KEY=CANARY".into());
        let environment: Vec<&str> = environment.iter().map(String::as_str).collect();
        let root = proc(&[(20, 1, "server", &["server"], &environment, "")]);
        let processes = Processes::at(root.path());
        let spec = processes.spec(&processes.read(20).unwrap());
        let arrived: BTreeSet<String> = spec.env.into_iter().map(|(name, _)| name).collect();
        assert_eq!(arrived, names);
    }

    #[test]
    fn a_worker_belongs_to_the_server_above_it() {
        let root = proc(&[
            (10, 1, "bash", &["bash", "-c", "vllm serve x"], &[], ""),
            (
                20,
                10,
                "vllm",
                &[
                    "/usr/bin/python3",
                    "/usr/bin/vllm",
                    "serve",
                    "Qwen/Qwen2.5-7B-Instruct",
                    "--port",
                    "8100",
                    "--api-key",
                    "CANARY",
                ],
                &["HF_TOKEN=CANARY"],
                "",
            ),
            (30, 20, "VLLM::EngineCor", &["VLLM::EngineCore"], &[], ""),
            (31, 30, "VLLM::Worker_TP", &["VLLM::Worker_TP0"], &[], ""),
            (32, 30, "VLLM::Worker_TP", &["VLLM::Worker_TP1"], &[], ""),
        ]);
        let processes = Processes::at(root.path());
        let found: Vec<(Group, String)> = [31, 32]
            .iter()
            .map(|pid| (processes.group(*pid, "host"), "nvidia.com/gpu".to_string()))
            .collect();
        let groups = pods(found);
        assert_eq!(groups.len(), 1);
        let pod = &groups[0].pod;
        assert_eq!(pod.requests().devices["nvidia.com/gpu"], 2);
        let server = pod.containers[0].server.as_ref().unwrap();
        assert_eq!((server.engine, server.port), (Some(EngineKind::Vllm), Some(8100)));
        assert_eq!(pod.owner.as_ref().unwrap().name, "vllm-Qwen2.5-7B-Instruct");
        assert_eq!(pod.started_at.unwrap().as_second(), 1_700_000_050);
        assert!(!serde_json::to_string(pod).unwrap().contains("CANARY"));
    }

    #[test]
    fn jobs_hold_the_gpus_that_slurm_gave_them() {
        let script = ["/bin/bash", "/var/spool/slurmd/job00007/slurm_script"];
        let root = proc(&[
            (10, 1, "slurmd", &["slurmd"], &["SLURM_JOB_GPUS=5"], ""),
            (11, 1, "slurmstepd", &["slurmstepd: [7.batch]"], &[], ""),
            (
                20,
                11,
                "slurm_script",
                &script,
                &["SLURM_JOB_ID=7", "SLURM_JOB_GPUS=0,1"],
                "",
            ),
            (
                21,
                20,
                "python",
                &["python", "x.py"],
                &["SLURM_JOB_ID=7", "SLURM_JOB_GPUS=0,1,2"],
                "",
            ),
            (12, 1, "slurmstepd", &["slurmstepd: [8.0]"], &[], ""),
            (
                30,
                12,
                "python",
                &["python", "y.py"],
                &["SLURM_JOB_ID=8", "SLURM_STEP_GPUS=3"],
                "",
            ),
            (13, 1, "slurmstepd", &["slurmstepd: [9.0]"], &[], ""),
            (40, 13, "sleep", &["sleep", "1"], &["SLURM_JOB_ID=9"], ""),
        ]);
        let jobs = Processes::at(root.path()).jobs();
        let told: Vec<(&str, u32, Vec<u32>)> = jobs
            .iter()
            .map(|(id, job)| (id.as_str(), job.pid, job.gpus.iter().copied().collect()))
            .collect();
        assert_eq!(told, [("7", 20, vec![0, 1]), ("8", 30, vec![3])]);
    }

    #[test]
    fn jobs_units_and_strangers_are_kept_as_such() {
        let root = proc(&[
            (
                20,
                1,
                "slurm_script",
                &["/bin/bash", "/var/spool/slurmd/job/slurm_script"],
                &[],
                "0::/system.slice/slurmstepd.scope/job_7/step_batch",
            ),
            (
                21,
                20,
                "python",
                &["python", "train.py", "--token=CANARY"],
                &[],
                "0::/system.slice/slurmstepd.scope/job_7/step_batch",
            ),
            (
                40,
                1,
                "ollama",
                &["/usr/local/bin/ollama", "serve"],
                &[],
                "0::/system.slice/ollama.service",
            ),
            (
                41,
                40,
                "ollama",
                &["/usr/local/bin/ollama", "runner", "--model", "/x/blob"],
                &[],
                "0::/system.slice/ollama.service",
            ),
            (50, 1, "nvidia-cuda-mps", &["nvidia-cuda-mps-server"], &[], ""),
            (
                60,
                1,
                "python",
                &["python", "train.py"],
                &[
                    "SLURM_JOB_ID=4711",
                    "SLURM_JOB_USER=ann",
                    "SLURM_JOB_PARTITION=long\nname",
                    "TOKEN=CANARY",
                ],
                "0::/",
            ),
            (
                61,
                1,
                "python",
                &["python", "train.py"],
                &["SLURM_JOB_ID=4711"],
                "0::/system.slice/train.service",
            ),
        ]);
        let processes = Processes::at(root.path());
        let job = processes.group(21, "host").pod;
        assert_eq!(
            job.owner.map(|o| (o.kind, o.name)),
            Some(("SlurmJob".into(), "7".into()))
        );
        let unit = processes.group(41, "host").pod;
        assert_eq!(unit.owner.map(|o| o.name), Some("ollama".into()));
        assert_eq!(
            unit.containers[0].server.as_ref().and_then(|s| s.engine),
            Some(EngineKind::Ollama)
        );
        let helper = processes.group(50, "host").pod;
        assert_eq!(helper.containers[0].role, Some(ContainerRole::GpuInfrastructure));
        // Without a cgroup of Slurm's its environment names the job; what is no plain word is left out.
        let untracked = processes.group(60, "host").pod;
        assert_eq!(
            untracked.owner.as_ref().map(|o| (o.kind.as_str(), o.name.as_str())),
            Some(("SlurmJob", "4711"))
        );
        assert_eq!(
            untracked.labels,
            BTreeMap::from([("slurm/user".to_string(), "ann".to_string())])
        );
        let unit = processes.group(61, "host").pod;
        assert_eq!(unit.owner.map(|o| o.kind), Some("SystemdUnit".into()));
        let stranger = processes.group(999, "host");
        assert!(stranger.hidden && stranger.pod.containers[0].server.is_none());
    }

    #[test]
    fn the_address_of_another_network_namespace_is_its_own() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\nLocal:\n     |-- 127.0.0.1\n        /32 host LOCAL\n        |-- 172.17.0.0\n           /16 link UNICAST\n        |-- 172.17.0.2\n           /32 host LOCAL\n";
        assert_eq!(local_address(table).as_deref(), Some("172.17.0.2"));
        assert_eq!(local_address("|-- 127.0.0.1\n /32 host LOCAL\n"), None);
    }
}
