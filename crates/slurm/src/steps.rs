//! `scontrol -o show step`: which of its GPUs a job can use now. A process of a job runs in one of its steps: the script's own on its first
//! node (batch), a shell's (interactive), or those that `srun` starts; a node of the job on which none runs does nothing for it.

use crate::gres;
use crate::hostlist;
use crate::job::Job;
use crate::text;
use std::collections::HashMap;

/// Steps that run, by the job's name in Slurm's words ("12", "5_1" for a task of an array).
#[derive(Clone, Debug, Default)]
pub struct Steps {
    /// Of each node, the most GPUs that steps there can have; `None`: all that the job has there.
    jobs: HashMap<String, HashMap<String, Option<u64>>>,
}

/// Lines that are no step's are left out: a job of which nothing is read is not judged.
pub fn of_text(text: &str) -> Steps {
    let mut all = Steps::default();
    for line in text.lines() {
        let pairs = text::pairs(line);
        let get = |key: &str| pairs.iter().find(|(k, _)| *k == key).map_or("", |(_, v)| v.as_str());
        let Some((job, step)) = get("StepId").split_once('.') else {
            continue;
        };
        // What comes by ssh is put there; it is there all the time.
        if step == "extern" {
            continue;
        }
        let told = all.jobs.entry(job.to_owned()).or_default();
        let numbered = step.starts_with(|c: char| c.is_ascii_digit());
        let tres = get("TRES");
        let gpus = (numbered && !crate::lenient::told(tres).is_empty()).then(|| gres::tres(tres).gpus.unwrap_or(0));
        for node in hostlist::expand(get("NodeList")).unwrap_or_default() {
            let sum = told.entry(node).or_insert(Some(0));
            // How many of several nodes' are on which is not told: all may be on one.
            *sum = sum.zip(gpus).map(|(a, b)| a.saturating_add(b));
        }
    }
    all
}

impl Steps {
    /// The most of the job's GPUs on a node that steps which run can have; `None`: not told, or all of them.
    pub(crate) fn gpus(&self, job: &Job, node: &str) -> Option<u64> {
        if job.het.is_some() {
            return None;
        }
        let task = job.array.zip(job.task).map(|(array, task)| format!("{array}_{task}"));
        let by_id = self.jobs.get(&job.id.to_string());
        let told = task.and_then(|t| self.jobs.get(&t)).or(by_id);
        match told {
            // A script without its own step begins or ends just now.
            None if job.batch != Some(false) => None,
            None => Some(0),
            Some(nodes) => nodes.get(node).copied().unwrap_or(Some(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a Slurm 22.05.8 printed it.
    const TEXT: &str = "\
StepId=2.batch UserId=65534 StartTime=1796059349 TimeLimit=UNLIMITED State=RUNNING Partition=train NodeList=gpu1 Nodes=1 CPUs=0 Tasks=1 Name=batch Network=(null) TRES=(null) ResvPorts=(null)
StepId=3.batch UserId=65534 StartTime=1796059349 TimeLimit=UNLIMITED State=RUNNING Partition=train NodeList=gpu3 Nodes=1 CPUs=0 Tasks=1 Name=batch Network=(null) TRES=(null) ResvPorts=(null)
StepId=3.1 UserId=65534 StartTime=1796059351 State=RUNNING NodeList=gpu3 Nodes=1 CPUs=1 Tasks=1 Name=sleep TRES=cpu=1,gres/gpu:h100=1,gres/gpu=1,mem=2000M,node=1 SrunHost:Pid=vm:806
StepId=4.batch UserId=65534 NodeList=gpu3 Nodes=1 TRES=(null)
StepId=4.0 UserId=65534 NodeList=gpu[3-4] Nodes=2 CPUs=2 Tasks=2 Name=sleep TRES=cpu=2,gres/gpu:h100=4,gres/gpu=4,mem=4000M,node=2
StepId=5_1.batch UserId=65534 NodeList=gpu2 Nodes=1 TRES=(null)
StepId=6.extern UserId=0 NodeList=gpu4 Nodes=1 TRES=cpu=1,gres/gpu=2
StepId=7.0 UserId=0 NodeList=gpu4 Nodes=1 TRES=cpu=1,gres/gpu=1

garbage
";

    fn job(id: u64, batch: bool) -> Job {
        Job {
            id,
            batch: Some(batch),
            ..Job::default()
        }
    }

    #[test]
    fn which_gpus_steps_can_have() {
        let steps = of_text(TEXT);
        let of = |job: &Job, node: &str| steps.gpus(job, node);
        // A script is on its first node alone: nothing of the job is on the second.
        assert_eq!((of(&job(2, true), "gpu1"), of(&job(2, true), "gpu2")), (None, Some(0)));
        assert_eq!(of(&job(3, true), "gpu3"), None, "the script may use all");
        assert_eq!((of(&job(4, true), "gpu3"), of(&job(4, true), "gpu4")), (None, Some(4)));
        let task = Job {
            array: Some(5),
            task: Some(1),
            ..job(9, true)
        };
        assert_eq!((of(&task, "gpu2"), of(&task, "gpu3")), (None, Some(0)));
        assert_eq!(of(&job(6, false), "gpu4"), Some(0), "salloc, and nothing was started");
        assert_eq!(of(&job(7, false), "gpu4"), Some(1));
        assert_eq!(of(&job(8, true), "gpu1"), None, "its script has not begun");
        assert_eq!(of(&job(8, false), "gpu1"), Some(0));
        let het = Job {
            het: Some(8),
            ..job(8, false)
        };
        assert_eq!(of(&het, "gpu1"), None);
    }
}
