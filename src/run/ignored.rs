//! What was asked for and came to nothing: options that a source has no use for, namespaces and selectors that match nothing. Where a
//! gate is set there is no verdict, since it would pass by mistake.

use crate::cli::SourceArgs;
use crate::judge::fleet::Fleet;
use crate::report::document::Report;
use crate::verdict::Verdict;

/// Options of a live Kubernetes alone.
const CLUSTER: [&str; 4] = ["selector", "no-scrape", "scrape-budget", "observe"];
/// Options that Slurm beside a snapshot has a use for, too.
const LIVE: [&str; 13] = [
    "timeout",
    "window",
    "prometheus",
    "prometheus-header",
    "prometheus-token-file",
    "prometheus-user",
    "prometheus-password-file",
    "prometheus-ca-file",
    "prometheus-client-cert",
    "prometheus-client-key",
    "prometheus-sigv4-region",
    "prometheus-match",
    "cluster-name",
];

/// In words, each with the way out.
pub(super) fn doubts(args: &SourceArgs, fleet: &Fleet) -> Vec<String> {
    let recorded = args.demo || !args.snapshot.is_empty();
    let mut doubts = Vec::new();
    if recorded {
        let what = if args.demo { "--demo" } else { "--snapshot" };
        // Conflicts with --demo; beside a snapshot it is read as ever.
        let slurm = args.slurm || args.slurm_rest.is_some() || !args.slurm_dir.is_empty();
        let unused = |o: &&String| CLUSTER.contains(&o.as_str()) || !slurm && LIVE.contains(&o.as_str());
        for option in args.given.iter().filter(unused) {
            // Snapshots are renamed by it.
            if option == "cluster-name" && !args.demo {
                continue;
            }
            doubts.push(format!(
                "--{option} has no use with {what}, and was ignored: it says what is read of a live fleet"
            ));
        }
    }
    for namespace in &args.namespace {
        if !fleet.pods.iter().any(|p| &p.namespace == namespace) {
            let names = if recorded { "gpuwaste ls" } else { "kubectl get ns" };
            doubts.push(format!(
                "-n {namespace}: no pod with a GPU was seen in that namespace; look at its name ('{names}'), or leave -n out"
            ));
        }
    }
    if recorded {
        return doubts;
    }
    if let Some(selector) = args
        .selector
        .as_deref()
        .filter(|_| !fleet.pods.iter().any(|p| p.selected))
    {
        doubts.push(format!(
            "-l {selector}: no pod with a GPU has these labels; 'kubectl get pods -A -l {selector}' shows which have"
        ));
    }
    doubts
}

/// Says each, and takes a verdict back that rests on nothing.
pub(super) fn apply(verdict: &mut Verdict, report: &mut Report, doubts: Vec<String>) {
    if doubts.is_empty() {
        return;
    }
    let why = "it would pass over something that was not what was asked for";
    for gate in &mut report.gates {
        gate.doubt(why);
    }
    let gated = !report.gates.is_empty();
    for doubt in doubts {
        verdict.lines.push(format!("warning: {doubt}"));
    }
    if gated && verdict.code == 0 {
        verdict
            .lines
            .push("no verdict: the gate would pass over something that was not what was asked for".into());
        verdict.code = 3;
    }
}
