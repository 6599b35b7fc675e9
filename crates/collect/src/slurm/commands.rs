//! The commands themselves: nothing that changes anything, each with a time limit and a bound.

use super::{NO_CONFIG, Output, Outputs};
use crate::held;
use crate::options::CollectOptions;
use anyhow::{Result, bail};
use gpuwaste_slurm::config::{self, Config, version};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::io::{ErrorKind, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// What a command says of its failure.
const MOST_WORDS: usize = 300;
/// Days of accounting that are asked for, one call each: large windows hurt slurmdbd.
const DAYS: i64 = 7;

/// From this release on `scontrol` writes JSON, and `sinfo`'s tells groups.
const SCONTROL_JSON: (u32, u32) = (23, 2);
/// From this release on `sinfo` and `squeue` write JSON.
const SINFO_JSON: (u32, u32) = (21, 8);

const CONFIG: &[&str] = &["scontrol", "show", "config"];
const NODES_JSON: &[&str] = &["scontrol", "-d", "show", "nodes", "--json"];
const NODES_SINFO: &[&str] = &["sinfo", "--all", "--json"];
const NODES_TEXT: &[&str] = &["scontrol", "-d", "-o", "show", "node"];
const JOBS_JSON: &[&str] = &["squeue", "--all", "--json"];
const JOBS_TEXT: &[&str] = &["scontrol", "-d", "-o", "show", "job"];
const STEPS: &[&str] = &["scontrol", "-o", "show", "step"];
/// A day's jobs, allocations only; the fields that `gpuwaste_slurm::account` reads.
const PAST: &[&str] = &["sacct", "-a", "-X", "-P", "-n", "-o", gpuwaste_slurm::account::FIELDS];

/// Says what would be run (`--dry-run`).
pub fn dry_run() -> Vec<String> {
    let told = |command: &[&str], why: &str| format!("{}  # {why}", command.join(" "));
    vec![
        told(&["sinfo", "--version"], "which release it is"),
        told(
            CONFIG,
            "the cluster's name, and what PrivateData hides; nothing else of it is kept",
        ),
        told(NODES_JSON, "nodes, GPUs, states and reasons (Slurm 23.02 and later)"),
        told(NODES_SINFO, "the same (21.08 to 22.05)"),
        told(NODES_TEXT, "the same (before, or where JSON fails)"),
        told(JOBS_JSON, "jobs and the GPUs that they hold or wait for"),
        told(JOBS_TEXT, "the same (before 21.08, or where JSON fails)"),
        told(
            STEPS,
            "which of a job's GPUs a step that runs can use; names of steps are not kept",
        ),
        format!(
            "{} -S DAY -E NEXT_DAY  # GPU-hours of jobs that have ended, one call a day, {DAYS} days; AdminComment is read for jobstats' figures and dropped",
            PAST.join(" ")
        ),
    ]
}

pub(super) fn read(options: &CollectOptions) -> Result<Outputs> {
    let release = match run(&["sinfo", "--version"], options.timeout) {
        Ok(text) => version(&text),
        Err(Failure::Missing) => bail!(
            "sinfo is not there: run it on a login node of the cluster, or read saved outputs with --slurm-dir DIR"
        ),
        Err(Failure::Failed(why)) => bail!("sinfo --version: {why}"),
    };
    // An unknown release is asked as a new one; what it refuses is asked as of an old one.
    let at_least = |wanted: (u32, u32)| release.is_none_or(|r| r >= wanted);
    let limit = options.timeout;
    let config = run(CONFIG, limit).map_or_else(|_| Config::default(), |text| config::parse(&text));
    let at = Timestamp::now();
    let nodes = if at_least(SCONTROL_JSON) {
        either(NODES_JSON, NODES_TEXT, limit)
    } else if at_least(SINFO_JSON) {
        either(NODES_SINFO, NODES_TEXT, limit)
    } else {
        run(NODES_TEXT, limit).map(Output::Text).map_err(Failure::words)
    };
    let jobs = if at_least(SINFO_JSON) {
        either(JOBS_JSON, JOBS_TEXT, limit)
    } else {
        run(JOBS_TEXT, limit).map(Output::Text).map_err(Failure::words)
    };
    let steps = run(STEPS, limit).ok();
    Ok(Outputs {
        at,
        at_unsure: None,
        config,
        steps,
        hidden: NO_CONFIG,
        nodes,
        jobs,
        accounting: accounting(at, limit),
        zone: TimeZone::system(),
    })
}

/// The days that are asked for, each from and to as Slurm reads it: "uts", seconds since 1970 (Slurm 20.02 and later).
pub(super) fn days(at: Timestamp) -> impl Iterator<Item = (String, String)> {
    (0..DAYS).map(move |day| {
        let ends = at - SignedDuration::from_hours(24 * day);
        let begins = ends - SignedDuration::from_hours(24);
        (format!("uts{}", begins.as_second()), format!("uts{}", ends.as_second()))
    })
}

/// A day at a time; the first day that fails is the last that is asked.
fn accounting(at: Timestamp, limit: Duration) -> Vec<Result<Output, String>> {
    let mut told = Vec::new();
    for (from, to) in days(at) {
        let command = [PAST, &["-S", &from, "-E", &to]].concat();
        let read = run(&command, limit).map(Output::Text).map_err(Failure::words);
        let failed = read.is_err();
        told.push(read);
        if failed {
            break;
        }
    }
    told
}

fn either(json: &[&str], text: &[&str], limit: Duration) -> Result<Output, String> {
    let first = match run(json, limit) {
        Ok(told) if told.trim_start().starts_with('{') => return Ok(Output::Json(told)),
        Ok(_) => "it printed no JSON".to_string(),
        Err(failure) => failure.words(),
    };
    run(text, limit)
        .map(Output::Text)
        .map_err(|second| format!("{}: {first}; {}: {}", json.join(" "), text.join(" "), second.words()))
}

enum Failure {
    Missing,
    Failed(String),
}

impl Failure {
    fn words(self) -> String {
        match self {
            Self::Missing => "the command is not there".into(),
            Self::Failed(why) => why,
        }
    }
}

/// Runs one command to its end or its limit. Times come as seconds, in no language but the C locale's, and no variable of the
/// user's changes what is listed.
fn run(command: &[&str], limit: Duration) -> Result<String, Failure> {
    let mut child = Command::new(command[0]);
    child
        .args(&command[1..])
        .env("SLURM_TIME_FORMAT", "%s")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (key, _) in std::env::vars_os() {
        let of_slurm = ["SQUEUE_", "SINFO_", "SACCT_", "SCONTROL_"];
        if of_slurm.iter().any(|p| key.to_string_lossy().starts_with(p)) {
            child.env_remove(&key);
        }
    }
    let mut child = child.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::Missing,
        _ => Failure::Failed(error.to_string()),
    })?;
    let most = held::max_read();
    let over = Arc::new(AtomicBool::new(false));
    let out = child.stdout.take().map(|pipe| aside(pipe, most, &over));
    let err = child.stderr.take().map(|pipe| aside(pipe, 1 << 16, &over));
    let until = Instant::now() + limit;
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(20)),
            Ok(None) => break Err(late(limit)),
            Err(error) => break Err(Failure::Failed(error.to_string())),
        }
    };
    // What a command started may outlive it and hold its pipes: nobody waits for that longer than for the command.
    let text = |pipe: Option<Receiver<Vec<u8>>>| match pipe {
        None => Ok(Vec::new()),
        Some(pipe) => pipe
            .recv_timeout(until.saturating_duration_since(Instant::now()))
            .map_err(|_| late(limit)),
    };
    let read = ended.and_then(|status| Ok((status, text(out)?, text(err)?)));
    if read.is_err() {
        over.store(true, Ordering::Relaxed);
        let _ = child.kill();
        let _ = child.wait();
    }
    let (status, out, err) = read?;
    if !status.success() {
        let said: String = String::from_utf8_lossy(&err).trim().chars().take(MOST_WORDS).collect();
        let said = if said.is_empty() { status.to_string() } else { said };
        return Err(Failure::Failed(said));
    }
    if out.len() as u64 >= most {
        return Err(Failure::Failed(held::too_much(most)));
    }
    Ok(String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

fn late(limit: Duration) -> Failure {
    Failure::Failed(format!("it took longer than {} s (--timeout)", limit.as_secs()))
}

/// Reads a pipe to its end on a thread of its own.
fn aside(pipe: impl Read + Send + 'static, most: u64, over: &Arc<AtomicBool>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    let over = Arc::clone(over);
    thread::spawn(move || {
        // Who asked may have gone.
        let _ = sender.send(whole(pipe, most, &over));
    });
    receiver
}

/// All of a pipe up to a bound; what is behind it is read and dropped, so that nobody waits on a full pipe. Once it is `over`
/// nothing more is read, or held.
fn whole(mut pipe: impl Read, most: u64, over: &AtomicBool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut part = vec![0; 1 << 16];
    while !over.load(Ordering::Relaxed) {
        match pipe.read(&mut part) {
            Ok(0) => break,
            Ok(n) => {
                let left = usize::try_from(most).unwrap_or(usize::MAX) - bytes.len();
                bytes.extend_from_slice(&part[..n.min(left)]);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    bytes
}
