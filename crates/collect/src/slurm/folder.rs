//! Outputs that an administrator saved.

use super::{NO_CONFIG, Output, Outputs};
use crate::{held, input};
use anyhow::{Result, bail};
use gpuwaste_slurm::config::{self, Config};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// What the files of the folder are called, best first, and what each holds.
pub const NAMES: [(&str, &str); 11] = [
    (
        "nodes.json",
        "scontrol -d show nodes --json (before Slurm 23.02: sinfo --all --json)",
    ),
    ("sinfo.json", "sinfo --all --json"),
    ("nodes.txt", "scontrol -d -o show node"),
    ("jobs.json", "squeue --all --json"),
    ("squeue.json", "squeue --all --json"),
    ("jobs.txt", "scontrol -d -o show job"),
    ("steps.txt", "scontrol -o show step"),
    ("config.txt", "scontrol show config"),
    ("sacct.txt", "sacct -a -X -P -o FIELDS -S … -E …"),
    ("sacct-*.txt", "the same, one file a day"),
    ("taken.txt", "date +%s"),
];

pub(super) fn read(folder: &Path) -> Result<Outputs> {
    let shown = folder.display();
    match fs::metadata(folder) {
        Ok(it) if it.is_dir() => {}
        Ok(_) => bail!("{shown} is no folder: --slurm-dir wants one with nodes.json and jobs.json"),
        Err(error) => bail!("could not open the folder {shown}: {error}"),
    }
    let one = |names: &[&str]| -> Result<(Output, String), String> {
        for name in names {
            let path = folder.join(name);
            if path.exists() {
                let text = text_of(&path).map_err(|why| format!("{name}: {why}"))?;
                let json = path.extension().is_some_and(|e| e == "json");
                return Ok((
                    if json { Output::Json(text) } else { Output::Text(text) },
                    (*name).to_string(),
                ));
            }
        }
        Err(format!("none of {} is in {shown}", names.join(", ")))
    };
    let nodes = one(&["nodes.json", "sinfo.json", "nodes.txt"]);
    let jobs = one(&["jobs.json", "squeue.json", "jobs.txt"]);
    let (at, at_unsure) = taken(folder, nodes.as_ref().ok())?;
    Ok(Outputs {
        at,
        at_unsure,
        config: text_of(&folder.join("config.txt")).map_or_else(|_| Config::default(), |t| config::parse(&t)),
        hidden: NO_CONFIG,
        nodes: nodes.map(|(output, _)| output),
        jobs: jobs.map(|(output, _)| output),
        steps: text_of(&folder.join("steps.txt")).ok(),
        accounting: accounting(folder),
        zone: TimeZone::system(),
    })
}

/// When they were saved: as somebody wrote down, as the controller said, else as the file's own date says.
fn taken(folder: &Path, nodes: Option<&(Output, String)>) -> Result<(Timestamp, Option<String>)> {
    let file = folder.join("taken.txt");
    if file.exists() {
        let text = text_of(&file).unwrap_or_default();
        let seconds = text
            .trim()
            .parse::<i64>()
            .ok()
            .and_then(|s| Timestamp::from_second(s).ok());
        return match seconds {
            Some(at) => Ok((at, None)),
            None => bail!("taken.txt is no number of seconds since 1970 ('date +%s' writes it)"),
        };
    }
    let Some((_, name)) = nodes else {
        return Ok((Timestamp::now(), None));
    };
    let modified = fs::metadata(folder.join(name)).and_then(|m| m.modified()).ok();
    let seconds = modified.and_then(|m| m.duration_since(UNIX_EPOCH).ok());
    let at = seconds
        .and_then(|s| Timestamp::from_second(i64::try_from(s.as_secs()).ok()?).ok())
        .unwrap_or_else(Timestamp::now);
    Ok((at, Some(format!("nothing says it: it is the date of the file {name}"))))
}

fn accounting(folder: &Path) -> Vec<Result<Output, String>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    let of_a_day = |n: &str| {
        n.strip_prefix("sacct-")
            .is_some_and(|rest| rest.strip_suffix(".txt").is_some())
    };
    names.retain(|n| n == "sacct.txt" || of_a_day(n));
    names.sort();
    if names.is_empty() {
        return vec![Err(format!("no sacct.txt is in {}", folder.display()))];
    }
    let read = |name: &String| {
        let text = text_of(&folder.join(name));
        text.map(Output::Text).map_err(|why| format!("{name}: {why}"))
    };
    names.iter().map(read).collect()
}

fn text_of(path: &Path) -> Result<String, String> {
    let most = held::max_read();
    if path.metadata().is_ok_and(|m| m.is_file() && m.len() > most) {
        return Err(held::too_much(most));
    }
    let bytes = input::found(path, most).map_err(|e| e.to_string())?;
    Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}
