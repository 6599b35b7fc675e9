//! What the README and the docs show is what the binary prints and takes. `BLESS=1 cargo test --test readme` brings it up to date.

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
    let rows = output(&["catalog", "checks", "-v"]);
    let row = |line: &str| {
        let (id, what) = line.split_once(' ').expect("an id and a sentence");
        format!("| [`{id}`](docs/checks/{id}.md) | {} |\n", what.trim())
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
    assert!(commands[0].trim().starts_with("cargo run -- scan --demo"));
    assert!(commands[1].trim().starts_with("cargo test"));
}

/// The README and the pages of docs, by name.
fn pages() -> Vec<(String, String)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|e| e.unwrap().path());
    let mut all: Vec<PathBuf> = docs.filter(|p| p.extension().is_some_and(|e| e == "md")).collect();
    all.extend([
        root.join("README.md"),
        root.join("CONTRIBUTING.md"),
        root.join("SECURITY.md"),
    ]);
    all.sort();
    let read = |p: &PathBuf| (p.display().to_string(), std::fs::read_to_string(p).unwrap());
    all.iter().map(read).collect()
}

/// `gpuwaste …` in code blocks and in backticks: each command, without what shells make of the rest of the line.
fn commands(page: &str) -> Vec<String> {
    let joined = page.replace("\\\n", " ");
    let mut found = Vec::new();
    let mut fenced = false;
    for line in joined.lines() {
        fenced ^= line.starts_with("```");
        if fenced || line.starts_with("    ") {
            // "helm template … | gpuwaste check -", "- gpuwaste scan …", "entry: gpuwaste check …, files: …"
            let starts = line.match_indices("gpuwaste ").filter(|(at, _)| {
                let before = line[..*at].trim_end();
                before.is_empty() || before.ends_with(['|', '-', ':'])
            });
            found.extend(starts.map(|(at, _)| line[at..].to_string()));
        } else {
            let quoted = line.split('`').skip(1).step_by(2);
            found.extend(quoted.filter(|w| w.starts_with("gpuwaste ")).map(String::from));
        }
    }
    let own = |line: &String| {
        let line = line.split(['#', '|', '>', ',']).next().unwrap_or_default();
        line.split_whitespace().map(String::from).collect::<Vec<_>>().join(" ")
    };
    found.iter().map(own).collect()
}

#[test]
fn every_flag_and_command_of_the_pages_exists() {
    let mut flags = 0;
    let mut helps: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
    for (page, text) in pages() {
        for line in commands(&text) {
            let mut words = line.split_whitespace().skip(1);
            let Some(command) = words.next().filter(|c| c.chars().all(|c| c.is_ascii_lowercase())) else {
                continue;
            };
            let help = helps
                .entry(command.to_string())
                .or_insert_with(|| output(&[command, "--help"]));
            for flag in words.filter(|w| w.starts_with("--")) {
                let flag = flag.split('=').next().unwrap_or(flag);
                let is_there = help
                    .split(|c: char| !(c.is_alphanumeric() || c == '-'))
                    .any(|w| w == flag);
                assert!(is_there, "{page}: {flag} of: {line}");
                flags += 1;
            }
        }
    }
    assert!(flags > 40, "{flags}");
    for command in ["completions bash", "man", "explain dark-capacity"] {
        assert!(!output(&command.split(' ').collect::<Vec<_>>()).is_empty());
    }
    let line = "    helm template chat | gpuwaste check - --max-at-risk 0  # fails";
    assert_eq!(commands(line), ["gpuwaste check - --max-at-risk 0"]);
}

/// Examples that need no cluster are run as they stand there.
#[test]
fn every_example_that_needs_no_cluster_runs() {
    let offline = ["fit", "catalog", "rbac", "explain", "schema", "completions", "man"];
    let mut ran = 0;
    for (page, text) in pages() {
        for line in commands(&text) {
            let words: Vec<&str> = line.split_whitespace().skip(1).collect();
            // "explain CHECK", "configmaps=NAMESPACE/NAME": places to fill in.
            let place = |w: &str| w.len() > 2 && w.chars().all(|c| c.is_ascii_uppercase());
            let whole = !words
                .iter()
                .any(|w| w.contains('…') || w.split(['=', '/', ':']).any(place));
            if words.first().is_some_and(|c| offline.contains(c)) && whole {
                let done = run(tempdir().unwrap().path(), &words);
                assert!(!done.expect(0, &[]).out.is_empty(), "{page}: {line}");
                ran += 1;
            }
        }
    }
    assert!(ran > 8, "{ran}");
}

/// The policy of the docs is read as it stands there, and each of its keys is known.
#[test]
fn the_policy_of_the_docs_is_one() {
    let text = include_str!("../docs/verdicts.md");
    let policy = text
        .split("```toml\n")
        .nth(1)
        .expect("a policy")
        .split("```")
        .next()
        .unwrap();
    let dir = tempdir().unwrap();
    std::fs::write(dir.path().join("gpuwaste.toml"), policy).unwrap();
    let shown = run(dir.path(), &["scan", "--demo", "--print-policy"])
        .expect(0, &[])
        .out;
    assert!(shown.contains("max_new_waste = 5  # gpuwaste.toml"), "{shown}");
    assert!(shown.contains("standby for the launch"), "{shown}");
}

/// Exit codes stand in the docs and in the help: the same ones.
#[test]
fn the_exit_codes_of_the_docs_are_the_helps() {
    let page = include_str!("../docs/verdicts.md");
    let help = output(&["--help"]);
    for code in 0..=3 {
        assert!(page.contains(&format!("\n| {code} | ")), "{code}");
        assert!(help.contains(&format!("\n  {code}  ")), "{code}: {help}");
    }
}
