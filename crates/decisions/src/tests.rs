#![allow(clippy::unwrap_used, clippy::expect_used, clippy::float_cmp)]

use crate::entry::{Entry, Event, Known, Reason, SCHEMA, Seen, Told};
use crate::report::decision::DecisionState;
use crate::state::standing;
use crate::store::{Append, Folder};
use crate::units::{Confidence, UsdPerHour};
use gpuwaste_judge::analyze::finding::FindingKind;
use jiff::Timestamp;
use proptest::prelude::*;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

pub(crate) fn at(text: &str) -> Timestamp {
    let text = if text.len() == 10 {
        format!("{text}T12:00:00Z")
    } else {
        text.to_owned()
    };
    text.parse().unwrap()
}

pub(crate) fn usd(amount: f64) -> UsdPerHour {
    UsdPerHour::from_usd(amount).unwrap()
}

pub(crate) fn entry(id: &str) -> Entry {
    Entry {
        schema: SCHEMA,
        finding: Known {
            id: id.into(),
            check: "dark-capacity".into(),
            part: Some("idle".into()),
            kind: FindingKind::Recoverable,
            cluster: Some("one".into()),
            subject: "ml/chat".into(),
            namespace: Some("ml".into()),
            name: Some("chat".into()),
            pool: Some("h100".into()),
            owner: None,
            title: "chat: no request in 9 d, holding 4 GPUs".into(),
            grade: None,
            confidence: Confidence::Measured,
            decided_on: at("2026-11-01"),
            tool: "0.1.0".into(),
            evidence: [("idle_for".to_string(), crate::entry::Value::Number(777_600.0))].into(),
        },
        events: Vec::new(),
        outcomes: Vec::new(),
    }
}

pub(crate) fn event(day: &str, state: Told) -> Event {
    Event {
        at: at(day),
        state,
        reason: (state == Told::Dismissed).then_some(Reason::Intended),
        note: None,
        until: None,
        reference: None,
        by: None,
        inferred: false,
        seen: Some(seen(10.0)),
    }
}

pub(crate) fn seen(amount: f64) -> Seen {
    Seen {
        usd_per_hour: Some(usd(amount)),
        model: Some("meta-llama/Llama-3.1-8B-Instruct".into()),
        gpu: Some("H100-SXM5-80GB".into()),
        replicas: Some(4),
        gpus_per_replica: Some(1),
        ..Seen::default()
    }
}

fn add(id: &str, event: Event) -> Append {
    Append {
        entry: entry(id),
        events: vec![event],
        outcomes: Vec::new(),
    }
}

#[test]
fn a_file_is_what_was_written() {
    let mut e = entry("0123456789abcdef");
    e.events = vec![event("2026-11-01", Told::Claimed), event("2026-11-02", Told::Applied)];
    e.events[0].note = Some("with \"quotes\", a ]] and\n[[event]] on a line".into());
    let text = e.print().unwrap();
    assert_eq!(Entry::parse(&text, &e.finding.id).unwrap(), e, "{text}");
}

#[test]
fn what_cannot_be_read_says_the_line_and_the_way_out() {
    let dir = tempdir().unwrap();
    let folder = Folder::new(dir.path());
    let id = "0123456789abcdef";
    let path = folder.append(&add(id, event("2026-11-01", Told::Claimed))).unwrap();
    let good = std::fs::read_to_string(&path).unwrap();
    let conflict = good.replace(
        "state = \"claimed\"",
        "<<<<<<< HEAD\nstate = \"claimed\"\n=======\nstate = \"applied\"\n>>>>>>> theirs",
    );
    let line = 1 + conflict.lines().position(|l| l.starts_with("<<<<<<<")).unwrap();
    let unknown = 1 + good.lines().position(|l| l.starts_with("state")).unwrap();
    let cases = [
        (conflict, format!("line {line}: conflict markers")),
        (
            good.replace("schema = 1", "schema = 2\nnovel = 3"),
            "line 1: it has schema 2".into(),
        ),
        (good[..good.len() - 4].to_string(), "cut off".into()),
        (
            good[..good.find("[[event]]").unwrap()].to_string(),
            "no [[event]]".into(),
        ),
        (
            good.replace("state = \"claimed\"", "state = \"done\""),
            format!("line {unknown}: "),
        ),
        (
            good.replace("subject = ", "subjects = "),
            "unknown field `subjects`".into(),
        ),
        (
            good.replace(id, "fedcba9876543210"),
            "its name says 0123456789abcdef".into(),
        ),
        (String::new(), "line".into()),
    ];
    for (text, words) in cases {
        std::fs::write(&path, &text).unwrap();
        let error = folder.read().unwrap_err();
        assert!(
            error.contains(&words) && error.contains("0123456789abcdef.toml"),
            "{words}: {error}"
        );
        // What cannot be read is not written over.
        let again = folder.append(&add(id, event("2026-11-02", Told::Applied))).unwrap_err();
        assert!(again.contains("0123456789abcdef.toml"), "{again}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

/// Every prefix of a file is refused or is the file without whole events at its end: nothing is guessed.
#[test]
fn a_file_cut_anywhere_is_refused() {
    let mut e = entry("0123456789abcdef");
    e.events = vec![event("2026-11-01", Told::Claimed), event("2026-11-02", Told::Applied)];
    let text = e.print().unwrap();
    let mut refused = 0;
    for cut in 0..text.len() - 1 {
        match Entry::parse(&text[..cut], &e.finding.id) {
            Err(_) => refused += 1,
            // A cut between two lines may leave a whole event without its last figures.
            Ok(part) => assert!(part.events.len() <= 2 && text[..cut].ends_with('\n')),
        }
    }
    assert!(refused > text.len() * 9 / 10, "{refused} of {}", text.len());
}

#[test]
fn a_clock_that_runs_backwards_is_refused() {
    let dir = tempdir().unwrap();
    let folder = Folder::new(dir.path());
    folder
        .append(&add("0123456789abcdef", event("2026-11-05", Told::Claimed)))
        .unwrap();
    let error = folder
        .append(&add("0123456789abcdef", event("2026-11-04", Told::Applied)))
        .unwrap_err();
    assert!(error.contains("runs backwards") && error.contains(".toml"), "{error}");
    let book = folder.read().unwrap();
    assert_eq!(book.entries["0123456789abcdef"].events.len(), 1);
}

#[test]
fn ids_from_elsewhere_write_nowhere_else() {
    let dir = tempdir().unwrap();
    let folder = Folder::new(&dir.path().join("ledger"));
    for id in ["../escape", "a/b", "", "-rf", "A", "x\0"] {
        assert!(
            folder.append(&add(id, event("2026-11-05", Told::Claimed))).is_err(),
            "{id}"
        );
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn writers_at_once_lose_no_event() {
    const WRITERS: usize = 8;
    const EACH: usize = 12;
    let dir = tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let path = dir.path();
            scope.spawn(move || {
                // A handle of its own: locks are between openings of the folder.
                let folder = Folder::new(path);
                for i in 0..EACH {
                    let mut event = event("2026-11-05", Told::Claimed);
                    event.by = Some(format!("{writer}-{i}"));
                    folder.append(&add("0123456789abcdef", event)).unwrap();
                }
            });
        }
    });
    let book = Folder::new(dir.path()).read().unwrap();
    let events = &book.entries["0123456789abcdef"].events;
    let by: std::collections::BTreeSet<_> = events.iter().map(|e| e.by.clone()).collect();
    assert_eq!((events.len(), by.len()), (WRITERS * EACH, WRITERS * EACH));
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "no partial files stay behind"
    );
}

fn git(folder: &Path, args: &[&str]) -> (bool, String) {
    let done = Command::new("git")
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
            "-c",
            "commit.gpgsign=false",
        ])
        .args(args)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", folder)
        .output()
        .expect("git is installed");
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    (done.status.success(), text)
}

#[test]
fn git_merges_decisions_of_two_branches() {
    let dir = tempdir().unwrap();
    let repository = dir.path();
    let folder = Folder::new(&repository.join("gpuwaste.ledger"));
    let decide = |id: &str, day: &str, told: Told| folder.append(&add(id, event(day, told))).unwrap();
    let commit = |what: &str| {
        assert!(git(repository, &["add", "-A"]).0);
        let (done, text) = git(repository, &["commit", "-qm", what]);
        assert!(done, "{text}");
    };
    assert!(git(repository, &["init", "-q", "-b", "main"]).0);
    decide("aaaa", "2026-11-01", Told::Snoozed);
    commit("base");
    assert!(git(repository, &["checkout", "-qb", "theirs"]).0);
    decide("bbbb", "2026-11-02", Told::Claimed);
    decide("cccc", "2026-11-02", Told::Dismissed);
    commit("theirs");
    assert!(git(repository, &["checkout", "-q", "main"]).0);
    decide("dddd", "2026-11-03", Told::Claimed);
    commit("ours");
    // Different findings: no conflict, nothing lost.
    let (merged, text) = git(repository, &["merge", "-q", "theirs", "-m", "merge"]);
    assert!(merged, "{text}");
    let book = folder.read().unwrap();
    assert_eq!(
        book.entries.keys().collect::<Vec<_>>(),
        ["aaaa", "bbbb", "cccc", "dddd"]
    );

    // The same finding: git says so, and so does the ledger, until somebody keeps both.
    assert!(git(repository, &["checkout", "-qb", "other"]).0);
    decide("aaaa", "2026-11-04", Told::Claimed);
    commit("other");
    assert!(git(repository, &["checkout", "-q", "main"]).0);
    let path = decide("aaaa", "2026-11-05", Told::Dismissed);
    commit("mine");
    let (merged, _) = git(repository, &["merge", "-q", "other", "-m", "merge"]);
    assert!(!merged, "two decisions about one finding are no matter for git");
    let error = folder.read().unwrap_err();
    assert!(
        error.contains("aaaa.toml: line") && error.contains("conflict markers"),
        "{error}"
    );
    let kept: String = std::fs::read_to_string(&path)
        .unwrap()
        .lines()
        .filter(|l| !["<<<<<<<", "=======", ">>>>>>>"].iter().any(|m| l.starts_with(m)))
        .map(|l| format!("{l}\n"))
        .collect();
    // git merges line by line: lines that both blocks have stand once where they are between the markers' sides.
    if let Ok(entry) = Entry::parse(&kept, "aaaa") {
        assert_eq!(
            entry.in_time().last().unwrap().state,
            Told::Dismissed,
            "the later one stands"
        );
    }
}

#[test]
fn decisions_expire_and_reopen_by_evidence() {
    let mut e = entry("aaaa");
    let state = |e: &Entry, day: &str, now: &Seen| standing(e, Some(now), at(day));
    assert_eq!(state(&e, "2026-11-01", &seen(10.0)).state, DecisionState::Open);
    e.events = vec![event("2026-11-01", Told::Dismissed)];
    // 90 days, the last one included.
    assert_eq!(state(&e, "2027-01-30", &seen(10.0)).state, DecisionState::Dismissed);
    let over = state(&e, "2027-01-31", &seen(10.0));
    assert_eq!(over.state, DecisionState::Open);
    assert!(over.reopened.unwrap().contains("until 2027-01-30"));
    // 30 where the tool was wrong.
    e.events[0].reason = Some(Reason::Wrong);
    assert_eq!(state(&e, "2026-12-01", &seen(10.0)).state, DecisionState::Dismissed);
    assert_eq!(state(&e, "2026-12-02", &seen(10.0)).state, DecisionState::Open);
    // Evidence.
    let changed = |change: fn(&mut Seen)| {
        let mut now = seen(10.0);
        change(&mut now);
        state(&e, "2026-11-02", &now)
    };
    assert_eq!(
        changed(|s| s.usd_per_hour = Some(usd(12.0))).state,
        DecisionState::Dismissed
    );
    assert_eq!(
        changed(|s| s.usd_per_hour = Some(usd(0.5))).state,
        DecisionState::Dismissed
    );
    for (change, words) in [
        ((|s| s.usd_per_hour = Some(usd(12.01))) as fn(&mut Seen), "$12.01/h"),
        (|s| s.model = Some("other".into()), "model"),
        (|s| s.gpu = Some("L4".into()), "GPU"),
        (|s| s.replicas = Some(5), "4 replicas, and has 5"),
        (|s| s.gpus_per_replica = Some(2), "GPUs a replica"),
    ] {
        let now = changed(change);
        assert_eq!(now.state, DecisionState::Open, "{words}");
        assert!(now.reopened.unwrap().contains(words), "{words}");
    }
    // What could not be read is no evidence.
    let unread = |s: &mut Seen| {
        (s.model, s.gpu, s.replicas, s.usd_per_hour) = (None, None, None, None);
    };
    assert_eq!(changed(unread).state, DecisionState::Dismissed);
    // A claim ends, what was applied must be gone, what was verified and is back is open.
    e.events = vec![event("2026-11-01", Told::Claimed)];
    e.events[0].until = Some("2026-11-10".parse().unwrap());
    assert_eq!(state(&e, "2026-11-10", &seen(99.0)).state, DecisionState::Claimed);
    assert!(
        state(&e, "2026-11-11", &seen(10.0))
            .reopened
            .unwrap()
            .contains("still here")
    );
    e.events.push(event("2026-11-12", Told::Applied));
    assert_eq!(state(&e, "2026-11-13", &seen(10.0)).state, DecisionState::Applied);
    assert_eq!(state(&e, "2026-11-14", &seen(10.0)).state, DecisionState::Open);
    e.events.push(event("2026-11-14", Told::Verified));
    assert!(state(&e, "2026-11-20", &seen(10.0)).reopened.unwrap().contains("back"));
    e.events.push(event("2026-11-21", Told::Open));
    assert_eq!(state(&e, "2026-11-21", &seen(10.0)).said(), None);
}

fn any_event() -> impl Strategy<Value = Event> {
    let told = prop_oneof![
        Just(Told::Claimed),
        Just(Told::Applied),
        Just(Told::Dismissed),
        Just(Told::Snoozed),
        Just(Told::Open),
        Just(Told::Verified),
        Just(Told::Reverted),
        Just(Told::Regressed)
    ];
    let text = proptest::option::of("[^\u{0}-\u{8}\u{b}-\u{1f}\u{7f}]{0,40}");
    (0i64..400, told, text.clone(), text, 0.0f64..1e4).prop_map(|(day, state, note, by, amount)| Event {
        at: Timestamp::from_second(1_793_000_000 + day * 86_400).unwrap(),
        note,
        by,
        seen: Some(seen(amount)),
        ..event("2026-11-01", state)
    })
}

proptest! {
    /// Whatever is written is read back, whatever stands in notes.
    #[test]
    fn files_survive_any_text(events in proptest::collection::vec(any_event(), 1..6)) {
        let e = Entry { events, ..entry("aaaa") };
        let text = e.print().unwrap();
        prop_assert_eq!(Entry::parse(&text, "aaaa").unwrap(), e);
    }

    /// The order of blocks in the file says nothing, as after a merge of two branches; their time does.
    #[test]
    fn the_order_of_blocks_says_nothing(mut events in proptest::collection::vec(any_event(), 1..6), amount in 0.0f64..1e4, day in 0i64..500) {
        events.sort_by_key(|e| e.at);
        events.dedup_by_key(|e| e.at);
        let e = Entry { events: events.clone(), ..entry("aaaa") };
        events.reverse();
        let back = Entry { events, ..entry("aaaa") };
        let when = Timestamp::from_second(1_793_000_000 + day * 86_400).unwrap();
        prop_assert_eq!(standing(&e, Some(&seen(amount)), when), standing(&back, Some(&seen(amount)), when));
    }

    /// Guard 3: nothing stays hidden for ever.
    #[test]
    fn nothing_is_hidden_for_ever(events in proptest::collection::vec(any_event(), 1..6)) {
        let e = Entry { events, ..entry("aaaa") };
        let late = Timestamp::from_second(1_793_000_000 + 900 * 86_400).unwrap();
        let then = standing(&e, Some(&seen(1.0)), late);
        prop_assert!(then.state == DecisionState::Open, "{:?}", then);
    }
}
