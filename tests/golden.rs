//! Every format of three small reports and of the demo, byte for byte (but the version, and what is the same in every page of HTML).
//!
//! What changed on purpose: look at the difference, then `INSTA_UPDATE=always cargo test --test golden`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{command, finish};
use gpuwaste_judge::report::Format;
use std::path::Path;
use tempfile::tempdir;

/// Under `fixtures`.
const FILES: [&str; 6] = [
    "decisions/chat.yaml",
    "manifests/deployment-vllm.yaml",
    "manifests/statefulset-sglang.yaml",
    "manifests/others.yaml",
    "slurm/24.05/nodes.json",
    "slurm/24.05/jobs.json",
];

/// 2026-11-30 02:23 UTC, minutes after the newest time in the saved answers of Slurm: for what takes its time from this machine.
const NOW: &str = "1796005400";

fn fixtures(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(path)
        .display()
        .to_string()
}

/// What is printed, without what another release or another page has, too.
fn shown(args: &[&str], format: &str) -> String {
    let dir = tempdir().unwrap();
    // Relative, so that no report names a folder of this machine.
    for file in FILES {
        let name = Path::new(file).file_name().unwrap();
        std::fs::copy(fixtures(file), dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("taken.txt"), NOW).unwrap();
    let mut run = command(dir.path(), args);
    run.args(["--format", format]).env("SOURCE_DATE_EPOCH", NOW);
    let done = finish(run, None);
    assert!(matches!(done.code, 0 | 1 | 3), "{done:?}");
    let text = done.out.replace(env!("CARGO_PKG_VERSION"), "[version]");
    if format != "html" {
        return text;
    }
    ["style", "script"].iter().fold(text, |text, tag| without(&text, tag))
}

/// Without what stands between `<tag>` and `</tag>`.
fn without(text: &str, tag: &str) -> String {
    let (open, close) = (format!("<{tag}"), format!("</{tag}>"));
    let mut parts = text.split(&open);
    let mut kept = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (inside, after) = part.split_once(&close).unwrap_or((part, ""));
        let head = inside.split_once('>').map_or("", |(head, _)| head);
        kept.push_str(&format!("{open}{head}>…{close}{after}"));
    }
    kept
}

fn golden(name: &str, args: &[&str], left_out: &[&str]) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for format in Format::ALL
            .map(|(_, name)| name)
            .into_iter()
            .filter(|f| !left_out.contains(f))
        {
            insta::assert_snapshot!(format!("{name}-{format}"), shown(args, format));
        }
    });
}

#[test]
fn a_manifest_that_leaves_much_open() {
    golden("manifest", &["check", "chat.yaml"], &[]);
}

#[test]
fn manifests_some_of_which_cannot_be_judged() {
    let files = ["deployment-vllm.yaml", "statefulset-sglang.yaml", "others.yaml"];
    let gates = ["--max-waste", "1", "--min-coverage", "50"];
    let args: Vec<&str> = ["check"].into_iter().chain(files).chain(gates).collect();
    golden("manifests", &args, &[]);
}

#[test]
fn a_slurm_cluster() {
    golden("slurm", &["scan", "--slurm-dir", "."], &[]);
}

#[test]
fn the_demo() {
    // Not those of which a million characters would stand here: they have tests of their own.
    golden("demo", &["scan", "--demo"], &["json", "html", "sarif"]);
}
