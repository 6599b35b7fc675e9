//! The documentation holds together: every page is in the book, every link and path leads somewhere, every rule that code
//! cites is written down, and every number that a page repeats is the binary's.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::run;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::tempdir;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files of a folder of the repository, below it.
fn files(folder: &Path, keep: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
            found.extend(files(&path, keep));
        } else if keep(&path) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn has_extension(path: &Path, among: &[&str]) -> bool {
    path.extension()
        .and_then(|e| e.to_str())
        .is_some_and(|e| among.contains(&e))
}

/// Pages of the book, and the pages beside it, by their path from the root.
fn pages() -> BTreeMap<String, String> {
    let mut all = files(&root().join("docs"), &|p| has_extension(p, &["md"]));
    all.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|p| root().join(p)));
    let from_root = |p: &PathBuf| p.strip_prefix(root()).unwrap().to_str().unwrap().to_string();
    all.iter()
        .map(|p| (from_root(p), fs::read_to_string(p).unwrap()))
        .collect()
}

/// The text without what stands in code blocks.
fn prose(page: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in page.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside && !line.starts_with("    ") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Headings as GitHub and mdBook name them.
fn anchors(page: &str) -> BTreeSet<String> {
    let named = |line: &str| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        text.chars()
            .filter_map(|c| match c {
                ' ' | '-' => Some('-'),
                c if c.is_alphanumeric() || c == '_' => Some(c),
                _ => None,
            })
            .collect()
    };
    prose(page).lines().filter(|l| l.starts_with('#')).map(named).collect()
}

/// What `](…)` points to.
fn links(page: &str) -> Vec<String> {
    let text = prose(page);
    let after = text.split("](").skip(1);
    after
        .filter_map(|rest| Some(rest.split_once(')')?.0.to_string()))
        .collect()
}

/// Words in backticks.
fn code(page: &str) -> Vec<String> {
    let text = prose(page);
    text.split('`').skip(1).step_by(2).map(String::from).collect()
}

#[test]
fn every_page_is_in_the_book_once() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let mut listed = links(&summary);
    let all = listed.len();
    listed.sort();
    listed.dedup();
    assert_eq!(all, listed.len(), "a page stands twice in docs/SUMMARY.md");
    let mut there: Vec<String> = pages()
        .into_keys()
        .filter_map(|p| p.strip_prefix("docs/").map(String::from))
        .filter(|p| p != "SUMMARY.md")
        .collect();
    there.sort();
    assert_eq!(listed, there, "docs/SUMMARY.md and the pages that are there");
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let mut followed = 0;
    for (name, text) in &pages {
        let here = root().join(name);
        for link in links(text).iter().filter(|l| !l.contains("://")) {
            let (file, anchor) = link
                .split_once('#')
                .map_or((link.as_str(), None), |(f, a)| (f, Some(a)));
            let target = if file.is_empty() {
                here.clone()
            } else {
                here.parent().unwrap().join(file)
            };
            let target = target
                .canonicalize()
                .unwrap_or_else(|_| panic!("{name} links to {link}, which is not there"));
            if let Some(anchor) = anchor {
                let there = anchors(&fs::read_to_string(target).unwrap());
                assert!(there.contains(anchor), "{name} links to {link}: there is {there:?}");
            }
            followed += 1;
        }
    }
    assert!(followed > 100, "{followed}");
}

/// Paths of the repository that pages name in backticks.
#[test]
fn every_path_that_a_page_names_is_there() {
    let first: BTreeSet<&str> = ["crates", "src", "tests", "docs", "fixtures", ".ci"].into();
    let mut named = 0;
    for (page, text) in pages() {
        for word in code(&text) {
            let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            let is_path = word.split('/').next().is_some_and(|f| first.contains(f)) && word.contains('/');
            if plain && is_path && !word.contains("NAME") {
                assert!(root().join(&word).exists(), "{page} names {word}, which is not there");
                named += 1;
            }
        }
    }
    assert!(named > 80, "{named}");
}

/// Sources, scripts and data: everything that may cite a rule.
fn sources() -> Vec<(String, String)> {
    let kept = |p: &Path| has_extension(p, &["rs", "py", "sh", "toml", "csv", "css", "js"]);
    let mut all: Vec<PathBuf> = ["crates", "src", "tests", ".ci"]
        .iter()
        .flat_map(|f| files(&root().join(f), &kept))
        .collect();
    all.extend([
        root().join(".ci/run"),
        root().join(".ci/purity"),
        root().join("Cargo.toml"),
    ]);
    let read = |p: &PathBuf| {
        let name = p.strip_prefix(root()).unwrap().display().to_string();
        (name, String::from_utf8_lossy(&fs::read(p).unwrap()).into_owned())
    };
    all.iter().map(read).collect()
}

/// "R6" as a word; "DeepSeek-R1" and "R1-Distill" are models.
fn cited(line: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    line.split(|c: char| !is_word(c))
        .filter(|w| w.len() <= 3 && w.starts_with('R') && w.len() > 1 && w[1..].chars().all(|c| c.is_ascii_digit()))
        .map(String::from)
        .collect()
}

#[test]
fn every_rule_that_is_cited_is_written_down() {
    let rules = fs::read_to_string(root().join("docs/rules.md")).unwrap();
    let written: BTreeSet<String> = rules
        .lines()
        .filter_map(|l| l.strip_prefix("## "))
        .map(String::from)
        .collect();
    let expected: BTreeSet<String> = (1..=12).map(|n| format!("R{n}")).collect();
    assert_eq!(written, expected);
    let mut citations = 0;
    for (name, text) in sources()
        .into_iter()
        .filter(|(n, _)| has_extension(Path::new(n), &["rs"]))
    {
        for line in text.lines().filter(|l| l.contains("//")) {
            for rule in cited(line) {
                assert!(written.contains(&rule), "{name} cites {rule}: {line}");
                citations += 1;
            }
        }
    }
    assert!(citations > 40, "{citations}");
    assert_eq!(
        cited("as R6 and (R11) say, not DeepSeek-R1 or R1-8B"),
        ["R11", "R6"].map(String::from).into()
    );
}

/// A page of documentation that a source names must be one of ours.
#[test]
fn no_source_points_to_a_page_that_is_not_there() {
    let known: BTreeSet<String> = pages()
        .into_keys()
        .flat_map(|p| {
            let short = p.rsplit('/').next().unwrap().to_string();
            [p, short]
        })
        .chain(["CHANGELOG.md".to_string()])
        .collect();
    let mut named = 0;
    for (name, text) in sources() {
        for line in text
            .lines()
            .filter(|l| !l.contains("://") && !has_extension(Path::new(&name), &["csv"]))
        {
            let words = line.split(|c: char| !(c.is_alphanumeric() || "/._-".contains(c)));
            for word in words.filter(|w| has_extension(Path::new(w), &["md"])) {
                // A file that a test writes, or another project's.
                let page = word
                    .strip_prefix("docs/")
                    .map(|p| p.strip_prefix("checks/").unwrap_or(p));
                let ours = page.is_some_and(|p| !p.contains('/'))
                    || word.chars().all(|c| c.is_ascii_lowercase() || c == '-' || c == '.');
                let written = name.starts_with("tests/") && !word.starts_with("docs/");
                if ours && !written {
                    assert!(known.contains(word), "{name} names {word}: {line}");
                    named += 1;
                }
            }
        }
    }
    assert!(named > 15, "{named}");
}

/// `key` = value, wherever a page writes it, is what the binary judges by.
#[test]
fn numbers_that_pages_repeat_are_the_binarys() {
    let policy = run(tempdir().unwrap().path(), &["scan", "--print-policy"])
        .expect(0, &[])
        .out;
    let defaults: BTreeMap<&str, f64> = policy
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.split_once(" = "))
        .filter_map(|(key, rest)| Some((key, rest.split("  #").next()?.trim().parse().ok()?)))
        .collect();
    let mut compared = BTreeSet::new();
    for page in ["docs/rules.md", "docs/definitions.md"] {
        let text = prose(&fs::read_to_string(root().join(page)).unwrap()).replace('\n', " ");
        let parts: Vec<&str> = text.split('`').collect();
        for pair in parts[1..].chunks(2).filter(|p| p.len() == 2) {
            let Some(value) = pair[1].trim_start().strip_prefix("= ") else {
                continue;
            };
            let digits: String = value.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            let Ok(value) = digits.trim_end_matches('.').parse::<f64>() else {
                continue;
            };
            let now = defaults.get(pair[0]);
            assert_eq!(now, Some(&value), "{page}: `{}` = {value}", pair[0]);
            compared.insert(pair[0].to_string());
        }
    }
    // Every threshold has its place in the definitions.
    let told = code(&fs::read_to_string(root().join("docs/definitions.md")).unwrap());
    let rules = code(&fs::read_to_string(root().join("docs/rules.md")).unwrap());
    let thresholds = policy.split("\n[checks]").next().unwrap();
    for key in thresholds
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| Some(l.split_once(" = ")?.0))
    {
        assert!(told.iter().chain(&rules).any(|w| w == key), "no definition names {key}");
    }
    assert!(compared.len() > 40, "{}", compared.len());
}
