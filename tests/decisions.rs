//! The ledger of decisions from outside: decide, scan --ledger in every format, gates; and docs/decisions.md, whose commands
//! are run and whose output is compared. `BLESS=1 cargo test --test decisions` brings the page up to date.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Done, command, finish, run, same, total};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::{TempDir, tempdir};

/// 2026-11-26 12:00 UTC, the day after the demo was read.
const NOW: &str = "1795694400";

fn decide(folder: &Path, args: &[&str]) -> Done {
    let mut all = vec!["decide"];
    all.extend_from_slice(args);
    let mut command = command(folder, &all);
    command.env("SOURCE_DATE_EPOCH", NOW);
    finish(command, None)
}

/// The demo's report in a folder, and the ids of its recoverable findings with a price, dearest first.
fn demo() -> (TempDir, Value, Vec<String>) {
    let dir = tempdir().unwrap();
    let report = run(dir.path(), &["scan", "--demo", "--format", "json"])
        .expect(0, &[])
        .json();
    std::fs::write(dir.path().join("report.json"), report.to_string()).unwrap();
    let ids = report["findings"].as_array().unwrap().iter();
    let priced = |f: &&Value| f["kind"] == "recoverable" && f["usd_per_hour"].is_number() && f["status"] == "new";
    let ids = ids
        .filter(priced)
        .map(|f| f["id"].as_str().unwrap().to_string())
        .collect();
    (dir, report, ids)
}

fn finding<'r>(report: &'r Value, id: &str) -> &'r Value {
    report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["id"] == *id)
        .unwrap()
}

/// Claims the first, dismisses the second, snoozes the third.
fn decided() -> (TempDir, Value, Vec<String>) {
    let (dir, report, ids) = demo();
    let with = |words: &[&str]| decide(dir.path(), &[words, &["--report", "report.json"]].concat()).expect(0, &[]);
    with(&[
        &ids[0][..6],
        "claim",
        "--until",
        "2026-12-20",
        "--ref",
        "https://example.com/pr/1",
    ]);
    with(&[
        &ids[1],
        "dismiss",
        "--reason",
        "intended",
        "--note",
        "standby | <b>bold</b>",
        "--by",
        "ops",
    ]);
    with(&[&ids[2], "snooze", "--until", "14d"]);
    (dir, report, ids)
}

#[test]
fn findings_carry_their_state_and_nothing_leaves_the_totals() {
    let (dir, before, ids) = decided();
    let scan = |format: &str| {
        run(
            dir.path(),
            &["scan", "--demo", "--ledger", "gpuwaste.ledger", "--format", format],
        )
        .expect(0, &[])
    };
    let report = scan("json").json();
    for (id, state) in ids.iter().zip(["claimed", "dismissed", "snoozed", "open"]) {
        assert_eq!(finding(&report, id)["decision"]["state"], state, "{id}");
    }
    assert_eq!(
        finding(&report, &ids[0])["decision"]["reference"],
        "https://example.com/pr/1"
    );
    for name in [
        "waste_usd_per_hour",
        "waste_now_usd_per_hour",
        "at_risk_usd_per_hour",
        "spend_usd_per_hour",
    ] {
        assert!(same(total(&before, name), total(&report, name)), "{name}");
    }
    let states = report["totals"]["decisions"].as_array().unwrap();
    let sum = |name: &str| states.iter().filter_map(|s| s[name].as_f64()).sum::<f64>();
    assert!(
        same(sum("waste_usd_per_hour"), total(&report, "waste_usd_per_hour")),
        "{states:?}"
    );
    assert!(
        same(sum("at_risk_usd_per_hour"), total(&report, "at_risk_usd_per_hour")),
        "{states:?}"
    );
    let schema = run(dir.path(), &["schema", "report"]).expect(0, &[]).json();
    let errors: Vec<String> = jsonschema::validator_for(&schema)
        .unwrap()
        .iter_errors(&report)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");

    let args = ["scan", "--demo", "-v", "--ledger", "gpuwaste.ledger"];
    let table = run(dir.path(), &args).expect(0, &[]).out;
    let dismissed = states.iter().find(|s| s["state"] == "dismissed").unwrap();
    let money = format!("${:.2}/h", dismissed["waste_usd_per_hour"].as_f64().unwrap());
    let line = |name: &str| {
        table
            .lines()
            .find(|l| l.trim_start().starts_with(name))
            .map(String::from)
    };
    assert!(line("Dismissed").is_some_and(|l| l.contains(&money)), "{table}");
    assert!(line("Snoozed").is_some() && line("Open").is_some(), "{table}");
    assert!(
        table.contains("(claimed until 2026-12-20)") || table.contains("(claimed\n"),
        "{table}"
    );
    let title = |id: &str| finding(&report, id)["title"].as_str().unwrap().to_string();
    assert!(
        !table.contains(&title(&ids[1])[..30]),
        "what was dismissed is out of the list"
    );

    let sarif = scan("sarif").json();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let of = |id: &str| {
        results
            .iter()
            .find(|r| r["partialFingerprints"]["gpuwaste/v1"] == *id)
            .unwrap()
    };
    assert_eq!(of(&ids[0])["suppressions"][0]["status"], "underReview");
    assert_eq!(of(&ids[1])["suppressions"][0]["status"], "accepted");
    assert!(
        of(&ids[1])["suppressions"][0]["justification"]
            .as_str()
            .unwrap()
            .contains("intended")
    );
    assert!(of(&ids[3])["suppressions"].is_null());

    let csv = scan("csv").out;
    let row = csv.lines().find(|l| l.contains(&ids[1])).unwrap();
    assert!(row.contains(",dismissed,intended,2027-02-24,"), "{row}");
    let html = scan("html").out;
    assert!(html.contains("class=\"tag t-claimed\"") && html.contains("id=\"by-decision\""));
    assert!(html.contains("<option value=\"snoozed\""), "it is a filter");
    let markdown = scan("markdown").out;
    assert!(
        markdown.contains("Snoozed and dismissed: 2 findings") && markdown.contains("standby \\| &lt;b&gt;"),
        "{markdown}"
    );
    let junit = scan("junit").out;
    assert!(
        junit.contains("dismissed as intended until 2027-02-24; standby"),
        "{junit}"
    );
    let prometheus = scan("prometheus").out;
    assert!(
        prometheus.contains("gpuwaste_decided_waste_usd_per_hour{state=\"dismissed\"} "),
        "{prometheus}"
    );
    // The same bytes twice.
    assert_eq!(scan("json").out, scan("json").out);
}

#[test]
fn gates_count_what_is_undecided() {
    let (dir, _, ids) = decided();
    let scan = |more: &[&str]| {
        let mut args = vec![
            "scan",
            "--demo",
            "-q",
            "--ledger",
            "gpuwaste.ledger",
            "--gate-confidence",
            "assumed",
            "--format",
            "json",
        ];
        args.extend_from_slice(more);
        run(dir.path(), &args)
    };
    let report = scan(&[]).json();
    let states = report["totals"]["decisions"].as_array().unwrap();
    let of = |state: &str| {
        states.iter().find(|s| s["state"] == state).unwrap()["waste_usd_per_hour"]
            .as_f64()
            .unwrap()
    };
    let open = of("open");
    for gate in ["--max-new-waste", "--max-waste"] {
        let limit = |by: f64| format!("{:.2}", open + by);
        let held = scan(&[gate, &limit(0.01)]);
        assert!(
            held.err.contains("not breached only because findings with a decision"),
            "{}",
            held.err
        );
        held.expect(0, &[]);
        let broken = scan(&[gate, &limit(-0.02)]).expect(1, &["over the limit"]);
        assert!(
            !broken.err.contains(&ids[0]),
            "what is decided is no culprit: {}",
            broken.err
        );
    }
    let hidden = of("snoozed") + of("dismissed");
    scan(&["--max-dismissed", &format!("{:.2}", hidden + 0.01)]).expect(0, &[]);
    scan(&["--max-dismissed", &format!("{:.2}", hidden - 0.01)]).expect(1, &["max-dismissed", &ids[1]]);
    run(dir.path(), &["scan", "--demo", "--max-dismissed", "5"]).expect(2, &["--ledger"]);
}

#[test]
fn decide_refuses_in_words() {
    let (dir, _, ids) = demo();
    let report = ["--report", "report.json"];
    for (words, why) in [
        (
            vec![ids[0].as_str(), "fixed"],
            "none of claim, applied, dismiss, snooze, reopen",
        ),
        (
            vec![&ids[0], "dismiss"],
            "--reason is one of wrong, intended, cannot, not-worth, later",
        ),
        (vec![&ids[0], "claim", "--reason", "wrong"], "belongs to dismiss"),
        (vec!["claim"], "about which findings"),
        (vec!["ffffffffff", "claim"], "no finding has an id that begins with"),
        (vec![&ids[0][..2], "claim"], "too short"),
        (vec![&ids[0], "claim", "--until", "2026-01-01"], "still to come"),
        (vec![&ids[0], "claim", "--until", "soon"], "2027-01-31"),
        (
            vec![&ids[0], "dismiss", "--reason", "wrong", "--until", "2027-06-01"],
            "30 days at most",
        ),
        (vec![&ids[0], "reopen"], "nothing is decided about it"),
        (vec!["--check", "dark-capacity", "claim"], "--yes decides"),
        (vec![&ids[0], "--check", "dark-capacity", "claim"], "not both"),
    ] {
        let args = [words.as_slice(), &report].concat();
        decide(dir.path(), &args).expect(2, &[why]);
    }
    assert!(!dir.path().join("gpuwaste.ledger").exists(), "nothing was written");
    run(dir.path(), &["scan", "--demo", "--ledger", "nowhere"]).expect(2, &["no ledger nowhere", "gpuwaste decide"]);
    let all = decide(
        dir.path(),
        &[
            "--check",
            "dark-capacity/idle",
            "--yes",
            "dismiss",
            "--reason",
            "later",
            "--report",
            "report.json",
        ],
    );
    let all = all.expect(0, &[]);
    assert!(
        all.out.lines().count() > 1 && all.out.lines().all(|l| l.starts_with("snoozed until")),
        "{}",
        all.out
    );
    // Without a report: what the ledger has.
    let idle = all
        .out
        .lines()
        .next()
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap()
        .trim_end_matches(".toml")
        .to_string();
    decide(dir.path(), &[&idle[..8], "reopen"]).expect(0, &[]);
    std::fs::write(
        dir.path().join("gpuwaste.ledger").join(format!("{idle}.toml")),
        "schema = 1\n[finding\n",
    )
    .unwrap();
    run(dir.path(), &["scan", "--demo", "--ledger", "gpuwaste.ledger"]).expect(2, &[&idle, "line 2"]);
}

/// Manifests are judged by the same ledger.
#[test]
fn check_takes_a_ledger() {
    let dir = tempdir().unwrap();
    let manifest = include_str!("../fixtures/decisions/chat.yaml");
    std::fs::write(dir.path().join("chat.yaml"), manifest).unwrap();
    let check = |more: &[&str]| {
        let args = [&["check", "chat.yaml", "--gpu", "H100", "--format", "json"], more].concat();
        let mut command = command(dir.path(), &args);
        command.env("SOURCE_DATE_EPOCH", NOW);
        finish(command, None)
    };
    let report = check(&[]).expect(0, &[]);
    std::fs::write(dir.path().join("report.json"), &report.out).unwrap();
    let report = report.json();
    let priced = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["usd_per_hour"].as_f64().is_some_and(|u| u > 0.0));
    let id = priced.expect("a finding with a price")["id"].as_str().unwrap();
    check(&["--max-waste", "0"]).expect(1, &[id]);
    let all = [
        "--subject",
        "ml/*",
        "--yes",
        "dismiss",
        "--reason",
        "cannot",
        "--report",
        "report.json",
    ];
    let all = decide(dir.path(), &all).expect(0, &[]);
    assert!(all.out.lines().count() > 2, "{}", all.out);
    let decided = check(&["--max-waste", "0", "--ledger", "gpuwaste.ledger"])
        .expect(0, &["--max-dismissed limits"])
        .json();
    assert_eq!(finding(&decided, id)["decision"]["state"], "dismissed");
}

/// The lines of a page's console blocks: where each command stands, the day it is run on, and the output below it.
struct Step {
    line: usize,
    command: String,
    day: String,
    shown: Vec<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let (mut steps, mut inside, mut day) = (Vec::<Step>::new(), false, NOW.to_string());
    for (line, text) in page.lines().enumerate() {
        if let Some(date) = text.strip_prefix("<!-- day ").and_then(|t| t.strip_suffix(" -->")) {
            let at: jiff::Timestamp = format!("{date}T12:00:00Z").parse().expect("a date");
            day = at.as_second().to_string();
        }
        if text.starts_with("```") {
            inside = text == "```console";
        } else if let Some(command) = text.strip_prefix("$ ").filter(|_| inside) {
            let step = Step {
                line,
                command: command.into(),
                day: day.clone(),
                shown: Vec::new(),
            };
            steps.push(step);
        } else if inside {
            steps.last_mut().expect("a command").shown.push(text.into());
        }
    }
    steps
}

/// Every command of the walk is run by a shell in one folder, and prints what the page shows.
#[test]
fn the_walks_print_what_the_pages_show() {
    walked("docs/decisions.md", 6);
    walked("docs/learned.md", 4);
}

fn walked(name: &str, least: usize) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = root.join(name);
    let page = std::fs::read_to_string(&path).unwrap();
    let dir = tempdir().unwrap();
    std::os::unix::fs::symlink(root.join("fixtures/decisions"), dir.path().join("weeks")).unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_gpuwaste")).parent().unwrap();
    let mut lines: Vec<String> = page.lines().map(String::from).collect();
    let steps = steps(&page);
    assert!(steps.len() >= least, "{}", steps.len());
    let mut wrong = Vec::new();
    for step in steps.iter().rev().map(|s| s.line).collect::<Vec<_>>().iter().rev() {
        let step = steps.iter().find(|s| s.line == *step).unwrap();
        let done = Command::new("sh")
            .args(["-c", &format!("{} 2>&1", step.command)])
            .current_dir(dir.path())
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .env("HOME", dir.path())
            .env("LC_ALL", "C.UTF-8")
            .env("SOURCE_DATE_EPOCH", &step.day)
            .output()
            .unwrap();
        let out = String::from_utf8(done.stdout).unwrap();
        let now: Vec<String> = out.lines().map(|l| l.trim_end().to_string()).collect();
        if now != step.shown {
            wrong.push((step, now));
        }
    }
    if std::env::var_os("BLESS").is_some() {
        for (step, now) in wrong.iter().rev() {
            lines.splice(step.line + 1..step.line + 1 + step.shown.len(), now.iter().cloned());
        }
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        return;
    }
    if let Some((step, now)) = wrong.first() {
        panic!(
            "{name}, line {}: $ {}\n{}\nBLESS=1 cargo test --test decisions",
            step.line + 1,
            step.command,
            now.join("\n")
        );
    }
}

/// Facts of a snapshot: the same bytes every time, a server once, joined with itself nothing new; what is wrong with a file is told
/// with the way out; and a record of decisions needs a ledger.
#[test]
fn measured_facts_are_written_joined_and_refused_in_words() {
    let dir = tempdir().unwrap();
    let at = dir.path();
    run(at, &["collect", "--demo", "-q", "-o", "demo.json"]).expect(0, &[]);
    let write = |args: &[&str], to: &str| {
        let mut all = vec!["learned"];
        all.extend_from_slice(args);
        all.extend_from_slice(&["-o", to]);
        run(at, &all).expect(0, &[]);
        std::fs::read_to_string(at.join(to)).unwrap()
    };
    let once = write(&["--from", "demo.json"], "a.json");
    assert!(once.matches("\"server\"").count() > 15, "{once}");
    assert_eq!(
        once,
        write(&["--from", "demo.json", "demo.json"], "b.json"),
        "a snapshot twice counts once"
    );
    assert_eq!(once, write(&["--learned", "a.json", "--from", "demo.json"], "c.json"));
    assert_eq!(once, write(&["--learned", "b.json", "--learned", "c.json"], "d.json"));
    for name in ["copilot", "prod-aws", "us-east-1", "usd", "ml/", "eval"] {
        assert!(!once.contains(name), "{name}");
    }
    let conflict = format!("<<<<<<< HEAD\n{once}=======\n{once}>>>>>>> b\n");
    let cases = [
        ("conflict.json", conflict, "conflict marker"),
        ("cut.json", once[..once.len() / 2].to_string(), "cut off"),
        (
            "newer.json",
            once.replacen("\"schema\": 1", "\"schema\": 9", 1),
            "schema 9",
        ),
        ("word.json", once.replace("\"0.11.0\"", "\"acme-build\""), "settings"),
        ("record.json", "{\"schema\": 1, \"record\": {}}".into(), "--ledger"),
        ("empty.json", String::new(), "empty"),
    ];
    for (file, text, word) in &cases {
        std::fs::write(at.join(file), text).unwrap();
        for command in [
            &["scan", "--demo"][..],
            &["fit", "openai/gpt-oss-20b"],
            &["learned", "--from", "demo.json"],
        ] {
            let args = [command, &["--learned", file]].concat();
            run(at, &args).expect(
                2,
                &[if *file == "record.json" {
                    "record of decisions"
                } else {
                    *word
                }],
            );
        }
    }
    run(at, &["scan", "--demo", "--learned", "record.json"]).expect(2, &["--ledger"]);
    // `--learned <(…)`: what comes through a pipe comes once.
    std::fs::create_dir(at.join("ledger")).unwrap();
    let piped = |args: &[&str], text: &str| {
        finish(
            command(at, &[args, &["--learned", "/dev/stdin"]].concat()),
            Some(text.as_bytes()),
        )
    };
    piped(&["scan", "--demo", "--ledger", "ledger"], &cases[4].1).expect(0, &[]);
    piped(&["fit", "--compare", "openai/gpt-oss-20b,openai/gpt-oss-120b"], &once).expect(0, &[]);
    // Restarts that nobody told are not none.
    let mut silent: Value = serde_json::from_str(&once).unwrap();
    for fact in silent["facts"].as_array_mut().unwrap() {
        fact.as_object_mut().unwrap().remove("restarts").unwrap();
    }
    std::fs::write(at.join("silent.json"), silent.to_string()).unwrap();
    let table = run(at, &["learned", "--learned", "silent.json"]).expect(0, &[]).out;
    assert!(table.lines().skip(1).all(|l| l.ends_with(" –")), "{table}");
}
