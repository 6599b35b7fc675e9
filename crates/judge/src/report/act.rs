//! The one thing to do about a finding: in a few words for a first screen, and as commands where it can be one.
//!
//! All of it comes from the finding's own structure (its part, kind, evidence, placement, patch), never from its sentences.

use super::document::ReportFinding;
use super::text::{count, plain, plural};
use crate::analyze::finding::EvidenceValue;
use crate::analyze::stop::Stop;
use std::collections::BTreeSet;

fn number(f: &ReportFinding, name: &str) -> Option<f64> {
    f.evidence.iter().find(|e| e.name == name).and_then(|e| match e.value {
        EvidenceValue::Number(n) => Some(n),
        _ => None,
    })
}

fn expected(f: &ReportFinding, name: &str) -> Option<f64> {
    f.evidence.iter().find(|e| e.name == name).and_then(|e| e.expected)
}

fn text<'f>(f: &'f ReportFinding, name: &str) -> Option<&'f str> {
    f.evidence.iter().find(|e| e.name == name).and_then(|e| match &e.value {
        EvidenceValue::Text(t) => Some(t.as_str()),
        _ => None,
    })
}

/// What to do, in the imperative and in at most about sixty columns; the summary of the fix says it whole.
pub fn short(f: &ReportFinding) -> String {
    let kind = f.subject.kind.as_deref().unwrap_or("workload");
    let stop = || Stop::of(kind).words(kind);
    if let Some(said) = of_slurm(f, kind) {
        return said.into();
    }
    let said = match (f.check.as_str(), f.part.as_deref().unwrap_or_default()) {
        ("dark-capacity", "stuck") => match text(f, "cause") {
            Some("image-pull") => "correct its image or pull secret".into(),
            Some("terminating") => "remove what blocks its deletion (finalizers, a lost node)".into(),
            Some("node-lost") => "mend or replace its node".into(),
            _ => format!("{} until it is mended", stop()),
        },
        ("dark-capacity", "idle") => idle(f, &stop()),
        ("dark-capacity", "unallocated") => match number(f, "nodes_wholly_free").filter(|n| *n >= 1.0) {
            Some(n) => format!("scale the pool down by {}", plural(n as u64, "node")),
            None => "give them to work that waits, or drain a node".into(),
        },
        ("dark-capacity", "unhealthy") => match text(f, "cause") {
            Some("node cordoned") => "uncordon the node, or drain and delete it".into(),
            Some("node not ready") => "repair or replace the node".into(),
            _ => "repair, reset or replace the GPUs".into(),
        },
        ("dark-capacity", "unmanaged") => "find the processes, and give them a pod".into(),
        ("stranded-gpu", "host") => "move pods without a GPU off the node".into(),
        ("stranded-gpu", "scatter") => "move a small pod to free a whole node".into(),
        ("undersized-tier", _) => match placement(f) {
            Some(target) => format!("move it to {target}"),
            None => "quantize its weights, or shorten its context".into(),
        },
        ("oversized-tier", _) => placement(f).map_or_else(
            || "move it to a cheaper GPU".into(),
            |target| format!("move it to {target}: one replica first"),
        ),
        ("over-replicated", _) => match (number(f, "replicas_low"), expected(f, "replicas_low")) {
            (Some(now), Some(enough)) => format!("run {} instead of {}", plural(enough as u64, "replica"), count(now)),
            _ => "run fewer replicas".into(),
        },
        ("kv-pressure", "config") => "lower max-num-seqs, or give the cache more memory".into(),
        ("kv-pressure", "oom") => "raise the container's memory limit".into(),
        ("kv-pressure", "gpu-oom") => "look for 'out of memory' in its log (kubectl logs --previous)".into(),
        ("kv-pressure", _) => "lower max-num-seqs, use an FP8 KV cache, or add a replica".into(),
        ("cpu-gpu-imbalance", "spec") => match expected(f, "vcpu") {
            Some(n) => format!("give the container at least {} vCPU", count(n)),
            None => "give the container more vCPU".into(),
        },
        ("cpu-gpu-imbalance", _) => "raise the container's CPU limit".into(),
        ("parallelism-mismatch", _) => match expected(f, "gpus_held_per_replica") {
            Some(n) => format!("ask for {} a replica", plural(n as u64, "GPU")),
            None => "make GPUs and parallelism agree".into(),
        },
        ("idle-schedule", _) => "scale it to 0 by the clock (KEDA cron)".into(),
        ("cost-growth", _) => growth(f),
        ("sharing-mismatch", "shares") => "ask for one share".into(),
        ("sharing-mismatch", "memory") => "lower --gpu-memory-utilization until it adds up to 1".into(),
        ("sharing-mismatch", "crowded") => "let fewer pods share the card".into(),
        ("sharing-mismatch", "spread") => "pack shared GPUs (MostAllocated)".into(),
        ("sharing-mismatch", _) => "make shares and pods agree".into(),
        ("mig-layout", "mismatch") => "cut the free part to the size that waits".into(),
        ("mig-layout", _) => "choose a layout that uses the whole card".into(),
        ("cpu-pods-on-gpu-node", _) => "taint the pool for GPU pods only".into(),
        ("low-utilization", "idle-hours") => "ask for the GPUs that a job uses".into(),
        ("low-utilization", "smaller-gpu") => "try such jobs on the smaller GPU".into(),
        ("low-utilization", "no-step") => "ask its user whether it uses them".into(),
        ("low-utilization", "time-limit") => "ask for shorter --time".into(),
        ("stranded-gpu", "asked-cpus") => "ask for the node's CPUs a GPU (--cpus-per-gpu)".into(),
        ("stranded-gpu", "asked-memory") => "ask for the memory that is used (--mem-per-gpu)".into(),
        ("stranded-gpu", "asked-nodes") => "ask for whole nodes (--gpus-per-node)".into(),
        ("low-utilization", _) => "find what its GPUs wait for, then hold fewer".into(),
        ("spec-hygiene", _) => "say what the manifest leaves open".into(),
        _ => first_sentence(&f.fix.summary),
    };
    plain(&said)
}

/// The same of jobs and partitions.
fn of_slurm(f: &ReportFinding, kind: &str) -> Option<&'static str> {
    if !matches!(kind, "SlurmJob" | "Partition") {
        return None;
    }
    Some(match (f.check.as_str(), f.part.as_deref().unwrap_or_default()) {
        ("dark-capacity", "stuck") => "look on its nodes at prolog, epilog and slurmd",
        ("dark-capacity", "idle") => "ask its user what it waits for, then limit idle time",
        ("dark-capacity", "unallocated") => "let jobs that wait have them: partition and QOS limits",
        ("dark-capacity", "unhealthy") => "repair what the reason says, then State=RESUME",
        ("dark-capacity", "unmanaged") => "find the processes that run outside of jobs",
        ("stranded-gpu", "host") => "limit cores and memory a GPU (DefCpuPerGPU)",
        ("stranded-gpu", "scatter") => "pack small jobs together (CR_Pack_Nodes, LLN=NO)",
        _ => return None,
    })
}

fn idle(f: &ReportFinding, stop: &str) -> String {
    // Without a patch it is a standby, or only some of its GPUs are idle, or nobody knows how its kind is stopped.
    if f.fix.patch.is_some() || f.subject.kind.as_deref().is_some_and(|k| Stop::of(k).patch().is_none()) {
        format!("ask its owner, then {stop}")
    } else {
        "ask its owner: remove it, or let it scale to 0".into()
    }
}

/// "8 × H200-SXM5-141GB".
fn placement(f: &ReportFinding) -> Option<String> {
    let p = f.fix.placement.as_ref()?;
    Some(format!(
        "{} × {}",
        u64::from(p.gpus) * u64::from(p.replicas.max(1)),
        p.gpu
    ))
}

/// The largest part of a growth, as the check splits it.
fn growth(f: &ReportFinding) -> String {
    let part = f
        .evidence
        .iter()
        .filter_map(|e| Some((e.name.strip_prefix("change_by_")?, number(f, &e.name)?)))
        .max_by(|a, b| a.1.total_cmp(&b.1));
    match part {
        Some(("capacity", _)) => "look at the free GPUs: capacity grew most",
        Some(("efficiency", _)) => "scale down what the work left behind (efficiency)",
        Some(("price", _)) => "look at the prices: dearer GPUs",
        Some(("new_workloads", _)) => "look at what was launched: new workloads grew most",
        Some(("mix", _)) => "look at what moved to dearer GPUs",
        Some(("volume", _)) => "nothing, if the work is wanted: volume grew most",
        _ => "look at the largest part of the split",
    }
    .into()
}

fn first_sentence(summary: &str) -> String {
    summary
        .split(". ")
        .next()
        .unwrap_or_default()
        .trim_end_matches('.')
        .to_owned()
}

/// What a shell takes as one word, whatever a tenant called it.
pub fn quoted(word: &str) -> String {
    let word = plain(word);
    let safe = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    // A leading dash would be an option.
    if !word.is_empty() && word.chars().all(safe) && !word.starts_with('-') {
        return word;
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Commands that do what the fix says, one a line (a patch may have several); empty where it takes a person. `context`: the
/// kubeconfig's, where a report has several clusters.
pub fn commands(f: &ReportFinding, context: Option<&str>) -> Vec<String> {
    // What is only written is changed where it is written.
    if f.subject.location.is_some() {
        return Vec::new();
    }
    let kubectl = match context {
        Some(context) => format!("kubectl --context={}", quoted(context)),
        None => "kubectl".into(),
    };
    let s = &f.subject;
    if f.check == "dark-capacity" && text(f, "cause") == Some("node cordoned") {
        let nodes: BTreeSet<&str> = f.claims.iter().map(|c| c.node.as_str()).collect();
        return nodes
            .into_iter()
            .map(|n| format!("{kubectl} uncordon {}", quoted(n)))
            .collect();
    }
    let (Some(kind), Some(namespace), Some(name), Some(patch)) = (&s.kind, &s.namespace, &s.name, &f.fix.patch) else {
        return Vec::new();
    };
    // A whole object beside it, not a change of it.
    if patch.starts_with("apiVersion:") {
        let lines: Vec<String> = patch.lines().map(plain).collect();
        return vec![format!("{kubectl} apply -f - <<'EOF'\n{}\nEOF", lines.join("\n"))];
    }
    let target = quoted(&format!("{}/{name}", kind.to_lowercase()));
    let namespace = quoted(namespace);
    if Stop::Scale.patch() == Some(patch.as_str()) && Stop::of(kind) == Stop::Scale {
        return vec![format!("{kubectl} -n {namespace} scale {target} --replicas=0")];
    }
    // Kubernetes' own kinds merge containers by their name; others know the plain merge alone.
    let built_in = matches!(
        kind.as_str(),
        "Deployment" | "StatefulSet" | "ReplicaSet" | "DaemonSet" | "Job" | "CronJob"
    );
    let how = if built_in { "" } else { " --type=merge" };
    let lines: Vec<String> = patch.lines().map(plain).collect();
    let body = lines.join("\n").replace('\'', "'\\''");
    vec![format!("{kubectl} -n {namespace} patch {target}{how} -p '{body}'")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::CHECKS;

    #[test]
    fn a_shell_gets_words() {
        assert_eq!(quoted("ml/llama-70b"), "ml/llama-70b");
        assert_eq!(quoted("a b; rm -rf '/'"), "'a b; rm -rf '\\''/'\\'''");
        assert_eq!(quoted("-o"), "'-o'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn every_finding_of_the_demo_has_a_short_action_and_its_commands_are_words() {
        let report = crate::report_of(&crate::guards::recorded_demo(), &crate::settings::Settings::default());
        for f in &report.findings {
            let said = short(f);
            assert!(!said.is_empty() && said.chars().count() <= 72, "{}: {said}", f.title);
            assert_eq!(f.fix.action.as_deref(), Some(said.as_str()));
            for command in &f.fix.commands {
                assert!(command.starts_with("kubectl --context="), "{command}");
                assert_eq!(command.matches('\'').count() % 2, 0, "{command}");
            }
        }
        assert!(report.findings.iter().any(|f| !f.fix.commands.is_empty()));
    }

    #[test]
    fn each_part_of_a_check_has_its_own_words() {
        let report = crate::report_of(&crate::guards::recorded_demo(), &crate::settings::Settings::default());
        for check in CHECKS {
            for part in check.parts() {
                let mut f = report.findings[0].clone();
                f.check = check.id().into();
                f.part = part.map(str::to_owned);
                f.evidence.clear();
                f.fix.placement = None;
                f.fix.summary = "the fallback".into();
                assert_ne!(short(&f), "the fallback", "{} {part:?}", check.id());
            }
        }
    }
}
