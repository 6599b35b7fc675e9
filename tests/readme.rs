//! What the README shows is what the binary prints. `BLESS=1 cargo test --test readme` brings it up to date.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::run;
use std::path::PathBuf;
use tempfile::tempdir;

/// Lines of the demo's report that the README shows.
const SHOWN: usize = 40;

fn output(args: &[&str]) -> String {
    run(tempdir().unwrap().path(), args).expect(0, &[]).out
}

/// The text between `<!-- name -->` and `<!-- /name -->`.
fn block<'a>(readme: &'a str, name: &str) -> &'a str {
    let start = format!("<!-- {name} -->\n");
    let from = readme.find(&start).unwrap_or_else(|| panic!("no {start}")) + start.len();
    let until = readme[from..].find(&format!("<!-- /{name} -->")).expect("its end");
    &readme[from..from + until]
}

fn demo() -> String {
    let report = output(&["scan", "--demo"]);
    let shown: Vec<&str> = report.lines().take(SHOWN).map(str::trim_end).collect();
    format!("```text\n{}\n…\n```\n", shown.join("\n"))
}

fn checks() -> String {
    let rows = output(&["catalog", "checks"]);
    let row = |line: &str| {
        let (id, what) = line.split_once(' ').expect("an id and a sentence");
        format!("| `{id}` | {} |\n", what.trim())
    };
    format!(
        "| check | finds |\n|---|---|\n{}",
        rows.lines().map(row).collect::<String>()
    )
}

#[test]
fn the_readme_shows_what_the_binary_prints() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let mut readme = std::fs::read_to_string(&path).unwrap();
    for (name, now) in [("demo", demo()), ("checks", checks())] {
        if std::env::var_os("BLESS").is_some() {
            let shown = block(&readme, name).to_string();
            let mark = |text: &str| format!("<!-- {name} -->\n{text}<!-- /{name} -->");
            readme = readme.replace(&mark(&shown), &mark(&now));
            std::fs::write(&path, &readme).unwrap();
        }
        assert_eq!(
            block(&readme, name),
            now,
            "'{name}' of README.md: BLESS=1 cargo test --test readme"
        );
    }
}

#[test]
fn the_two_commands_come_first() {
    let readme = include_str!("../README.md");
    let commands: Vec<&str> = readme.lines().filter(|l| l.starts_with("    ")).take(2).collect();
    assert!(commands[0].trim().starts_with("cargo run --release -- scan --demo"));
    assert!(commands[1].trim().starts_with("cargo test"));
}

#[test]
fn every_flag_and_command_of_the_readme_exists() {
    let readme = include_str!("../README.md");
    let mut seen = 0;
    for line in readme.lines().filter(|l| l.starts_with("    gpuwaste ")) {
        let line = line.split(['#', '|', '>']).next().unwrap_or_default();
        let mut words = line.split_whitespace().skip(1);
        let command = words.next().expect("a command");
        let help = output(&[command, "--help"]);
        for flag in words.filter(|w| w.starts_with("--")) {
            assert!(help.contains(flag), "{flag} of: {line}");
            seen += 1;
        }
    }
    assert!(seen > 10);
    for command in ["completions bash", "man", "explain dark-capacity"] {
        assert!(!output(&command.split(' ').collect::<Vec<_>>()).is_empty());
    }
}
