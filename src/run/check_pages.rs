//! `docs/checks`: a page a check, made of its doc comment, the demo's examples and the policy's keys.
//! `BLESS=1 cargo test -p gpuwaste --lib check_pages` brings them up to date.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::source::demo;
use crate::analyze::examples::EXAMPLES;
use crate::analyze::{CHECKS, Check};
use crate::judge::report_of;
use crate::report::document::Report;
use crate::report::example;
use crate::settings::{Settings, print};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

const MADE: &str = "<!-- Made from the check's doc comment: BLESS=1 cargo test -p gpuwaste --lib check_pages -->";

/// The paragraphs that every check has, in this order.
const HEADINGS: [&str; 5] = [
    "What it finds",
    "Why it costs",
    "How the dollars are computed",
    "When it is wrong",
    "What to do",
];

fn page(check: &dyn Check, report: &Report, policy: &str) -> String {
    let id = check.id();
    let mut text = format!("# {id}\n\n{MADE}\n\n{}\n\nSince {}.", check.summary(), check.since());
    let parts: Vec<String> = check.parts().iter().flatten().map(|p| format!("`{id}/{p}`")).collect();
    if !parts.is_empty() {
        write!(text, " Parts: {}.", parts.join(", ")).unwrap();
    }
    writeln!(text, " [Exact definition](../definitions.md#{id}).\n").unwrap();
    text += &paragraphs(&check.explain());
    text += &examples(id, report);
    text += &keys(id, policy);
    text
}

/// "What it finds. …" as a heading and what is under it; indented lines name parts.
fn paragraphs(explain: &str) -> String {
    let mut out = String::new();
    let mut listed = false;
    for line in explain.lines() {
        let heading = HEADINGS
            .iter()
            .find_map(|h| Some((h, line.strip_prefix(h)?.strip_prefix(". ")?)));
        if let Some((heading, rest)) = heading {
            listed = false;
            writeln!(out, "## {heading}\n\n{rest}").unwrap();
        } else if let Some((part, rest)) = named_part(line) {
            let gap = if listed { "" } else { "\n" };
            listed = true;
            writeln!(out, "{gap}- *{part}*: {rest}").unwrap();
        } else if listed && !line.is_empty() {
            writeln!(out, "  {}", line.trim_start()).unwrap();
        } else {
            writeln!(out, "{line}").unwrap();
        }
    }
    out
}

/// "  idle         held by …": a part and the beginning of its sentence.
fn named_part(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix("  ").filter(|r| !r.starts_with(' '))?;
    let (part, rest) = rest.split_once("  ")?;
    Some((part, rest.trim_start()))
}

fn examples(id: &str, report: &Report) -> String {
    let filled: Vec<String> = EXAMPLES
        .iter()
        .filter(|e| e.check == id)
        .filter_map(|e| example::fill(report, e))
        .collect();
    if filled.is_empty() {
        return String::new();
    }
    let mut out = "\n## For example\n\nIn `gpuwaste scan --demo`:\n".to_string();
    for text in filled {
        let mut sums = false;
        out.push('\n');
        for line in text.lines() {
            // Sums stand apart, as code.
            if line.starts_with("    ") != sums {
                sums = !sums;
                out.push('\n');
            }
            writeln!(out, "{line}").unwrap();
        }
    }
    out
}

/// The check's keys of the policy file, with defaults and meanings.
fn keys(id: &str, policy: &str) -> String {
    let start = format!("\n[thresholds.{id}]\n");
    let Some(at) = policy.find(&start) else {
        return String::new();
    };
    let section = policy[at + start.len()..].split("\n\n").next().unwrap();
    let mut out = format!(
        "\n## Keys of the policy\n\nUnder `[thresholds.{id}]` of `gpuwaste.toml`; those of `[thresholds.shared]` count too.\n\n\
         | key | default | meaning |\n|---|---|---|\n"
    );
    let mut meaning = Vec::new();
    for line in section.lines() {
        if let Some(comment) = line.strip_prefix('#') {
            meaning.push(comment.trim());
        } else if let Some((key, value)) = line.split_once(" = ") {
            let value = value.split("  #").next().unwrap();
            writeln!(out, "| `{key}` | {value} | {} |", meaning.join(" ").replace('|', "\\|")).unwrap();
            meaning.clear();
        }
    }
    out
}

fn index() -> String {
    let mut out = format!("# Checks\n\n{MADE}\n\n| check | finds | since |\n|---|---|---|\n");
    for check in CHECKS {
        let id = check.id();
        writeln!(out, "| [`{id}`]({id}.md) | {} | {} |", check.summary(), check.since()).unwrap();
    }
    out + "\nThe same in the terminal: `gpuwaste explain CHECK`. What exactly fires: [definitions](../definitions.md).\n"
}

#[test]
fn each_check_has_a_page_that_says_what_its_file_says() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/checks");
    let settings = Settings::default();
    let (report, policy) = (report_of(&demo().unwrap(), &settings), print(&settings));
    let mut pages: BTreeMap<String, String> = CHECKS
        .iter()
        .map(|c| (format!("{}.md", c.id()), page(*c, &report, &policy)))
        .collect();
    pages.insert("README.md".into(), index());
    let bless = std::env::var_os("BLESS").is_some();
    for (name, now) in &pages {
        let path = folder.join(name);
        if bless {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, now).unwrap();
        }
        let shown = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            &shown, now,
            "docs/checks/{name}: BLESS=1 cargo test -p gpuwaste --lib check_pages"
        );
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(pages.contains_key(&name), "docs/checks/{name} is of no check");
    }
}

#[test]
fn every_paragraph_of_a_check_becomes_a_heading() {
    for check in CHECKS {
        let text = paragraphs(&check.explain());
        let found: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("## ")).collect();
        assert_eq!(found, HEADINGS, "{}", check.id());
        assert!(!check.since().is_empty());
    }
    assert_eq!(
        paragraphs("What it finds. Two:\n  one    of\n         these\n\nWhat to do. Nothing."),
        "## What it finds\n\nTwo:\n\n- *one*: of\n  these\n\n## What to do\n\nNothing.\n"
    );
}
