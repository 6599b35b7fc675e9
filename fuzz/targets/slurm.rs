//! What Slurm's commands print, from JSON and from text, to a cluster.
#![no_main]

use gpuwaste_slurm::{account, cluster, config, gres, hostlist, job, jobstats, node, steps};
use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    // The parts in one input, as they are saved in one folder.
    let mut parts = text.split('\u{1}');
    let mut part = || parts.next().unwrap_or_default();
    let (nodes, jobs, conf, accounts, steps) = (part(), part(), part(), part(), part());
    let zone = TimeZone::UTC;
    let nodes = node::of_json(nodes).unwrap_or_else(|_| node::of_text(nodes, &zone));
    let jobs = job::of_json(jobs).unwrap_or_else(|_| job::of_text(jobs, &zone));
    let mut accounting = account::Accounting::default();
    account::add(accounts, &zone, &mut accounting);
    jobstats::summary(accounts);
    gres::parse(conf);
    gres::tres(conf);
    gres::index_set(conf);
    gres::memory(conf);
    if let Some(names) = hostlist::expand(conf) {
        assert!(names.len() <= 1 << 17, "a host list of {} names", names.len());
    }
    config::version(conf);
    let held: u64 = nodes.items.iter().map(node::Node::gpus).fold(0, u64::saturating_add);
    let built = cluster::build(&cluster::Input {
        name: None,
        config: config::parse(conf),
        nodes,
        jobs: Some(jobs),
        steps: (!steps.is_empty()).then(|| steps::of_text(steps)),
        is_instance: |_| false,
    });
    for used in accounting.by_owner(1_796_000_000, built.cluster.nodes.as_deref().unwrap_or_default()) {
        assert!(used.gpu_hours.is_finite() && used.gpu_hours >= 0.0, "{used:?}");
    }
    let given: usize = built.cluster.pods.iter().map(|p| p.gpu_indices.len()).sum();
    assert!(
        given <= 1 << 20,
        "{given} GPUs given, of {held}, by {} bytes",
        data.len()
    );
});
