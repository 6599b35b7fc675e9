//! Jobs of Slurm on this host: a GPU that a job was given is held, whether or not a process of it is on the GPU right now.

use super::Processes;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Slurm's daemon of a job's step; what a user started stands right below it.
const STEP: &str = "slurmstepd";

/// A job with GPUs here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::local) struct Job {
    /// The process that stands for it: the first below a step.
    pub(in crate::local) pid: u32,
    /// As Slurm counts this host's GPUs: places in gres.conf, which are the driver's own order on most hosts.
    pub(in crate::local) gpus: BTreeSet<u32>,
}

impl Processes {
    /// Jobs by id. Only steps' own processes are looked at: the environment that Slurm gave them says which GPUs they have.
    pub(in crate::local) fn jobs(&self) -> BTreeMap<String, Job> {
        let mut jobs: BTreeMap<String, Job> = BTreeMap::new();
        for pid in self.below_steps() {
            let Some(id) = self.variable(pid, "SLURM_JOB_ID") else {
                continue;
            };
            // A batch script has the job's GPUs, a task of `srun` its step's (sbatch's and srun's manuals).
            let given = ["SLURM_JOB_GPUS", "SLURM_STEP_GPUS"];
            let list = given.iter().find_map(|name| self.environment_of(pid, name));
            let gpus = list.map(|l| indices(&l)).unwrap_or_default();
            if !gpus.is_empty() {
                let job = jobs.entry(id).or_insert_with(|| Job { pid, ..Job::default() });
                job.gpus.extend(gpus);
            }
        }
        jobs
    }

    fn below_steps(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(&self.root) else {
            return Vec::new();
        };
        let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let mut names: BTreeMap<u32, (String, u32)> = BTreeMap::new();
        for pid in pids {
            if let Some((name, fields)) = self.stat(pid)
                && let Some(parent) = fields.get(1).and_then(|p| p.parse().ok())
            {
                names.insert(pid, (name, parent));
            }
        }
        let of_step = |parent: &u32| names.get(parent).is_some_and(|(name, _)| name == STEP);
        let steps = names
            .iter()
            .filter(|(_, (name, parent))| name != STEP && of_step(parent));
        steps.map(|(pid, _)| *pid).collect()
    }
}

/// "0,2" or "0-3,6"; what is no such list names no GPU.
fn indices(list: &str) -> BTreeSet<u32> {
    /// More GPUs than any host has.
    const MOST: u32 = 64;
    let mut all = BTreeSet::new();
    for part in list.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<u32>(), to.parse::<u32>())
            && to < MOST
        {
            all.extend(from..=to);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::indices;

    #[test]
    fn lists_of_gpus_are_read() {
        for (list, expected) in [
            ("0,1", vec![0, 1]),
            ("3", vec![3]),
            ("0-2,7", vec![0, 1, 2, 7]),
            ("", vec![]),
            ("(null)", vec![]),
            ("0-4000000000", vec![]),
            ("5-2", vec![]),
        ] {
            assert_eq!(indices(list).into_iter().collect::<Vec<_>>(), expected, "{list}");
        }
    }
}
