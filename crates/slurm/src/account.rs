//! `sacct -P`, or slurmdbd's jobs by slurmrestd: jobs of the past, one by one, until they are summed up ([`crate::past`]). No job of it is
//! kept by itself.

use crate::gres::{self, Tres};
use crate::jobstats::{self, Summary};
use crate::lenient::{Num, Texts, told};
use crate::text;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// Fields that are asked for, in this order; a header names them in any.
pub const FIELDS: &str =
    "jobid,user,account,partition,qos,elapsedraw,timelimitraw,alloctres,start,end,state,nodelist,admincomment,jobname";

/// One job, as far as it is summed up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    pub(crate) user: String,
    pub(crate) account: String,
    pub(crate) partition: String,
    /// What it was given.
    pub(crate) tres: Tres,
    /// A host list; empty: not told.
    pub(crate) nodes: String,
    pub(crate) start: Option<i64>,
    pub(crate) end: Option<i64>,
    pub(crate) elapsed: i64,
    pub(crate) limit: Option<u64>,
    /// It ended by itself: what it took is what it needed.
    pub(crate) completed: bool,
    pub(crate) summary: Option<Summary>,
}

impl Record {
    pub(crate) fn gpus(&self) -> u64 {
        self.tres.gpus.unwrap_or(0)
    }

    /// What a summary says is kept where it is of this run: a job that was requeued may still have that of the run before, and one that
    /// runs has none.
    fn with(mut self, summary: Option<Summary>) -> Self {
        let elapsed = self.elapsed as f64;
        let same = |s: &Summary| {
            let near = |t: f64| (t - elapsed).abs() <= SLACK.max(0.1 * elapsed);
            s.seconds.is_none_or(near) && s.gpus <= self.gpus() && s.held.is_none_or(|g| g == self.gpus())
        };
        self.summary = summary.filter(|s| self.end.is_some() && same(s));
        self
    }
}

/// Seconds by which the epilogue's own count of a job's life may be another than the accounts'.
const SLACK: f64 = 180.0;

/// Jobs by id: one that ran for several days stands in the outputs of each of them.
#[derive(Clone, Debug, Default)]
pub struct Accounting {
    pub(crate) jobs: HashMap<String, Record>,
    /// Lines or entries that are not what Slurm prints.
    pub odd: usize,
}

/// Adds one output.
pub fn add(text: &str, zone: &TimeZone, all: &mut Accounting) {
    let mut lines = text.lines().peekable();
    let header = lines.next_if(|l| l.starts_with("JobID|") || l.contains("|JobID|"));
    let names: Vec<String> = match header {
        Some(line) => line.split('|').map(str::to_ascii_lowercase).collect(),
        None => FIELDS.split(',').map(str::to_string).collect(),
    };
    let place: HashMap<&str, usize> = names.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
    for line in lines.filter(|l| !l.trim().is_empty()) {
        // A job's name stands last, and may hold the separator.
        let fields: Vec<&str> = line.splitn(names.len(), '|').collect();
        match record(&fields, &place, zone).filter(|_| fields.len() == names.len()) {
            Some((id, record)) => {
                all.jobs.insert(id, record);
            }
            None => all.odd += 1,
        }
    }
}

fn record(fields: &[&str], place: &HashMap<&str, usize>, zone: &TimeZone) -> Option<(String, Record)> {
    let get = |name: &str| place.get(name).and_then(|at| fields.get(*at)).map_or("", |f| told(f));
    let id = get("jobid");
    if !id.starts_with(|c: char| c.is_ascii_digit()) || id.len() > 64 {
        return None;
    }
    let elapsed: i64 = get("elapsedraw").parse().ok()?;
    let record = Record {
        user: get("user").into(),
        account: get("account").into(),
        partition: get("partition").into(),
        tres: gres::tres(get("alloctres")),
        nodes: get("nodelist").into(),
        start: text::time(get("start"), zone),
        end: text::time(get("end"), zone),
        elapsed: elapsed.max(0),
        // Minutes, or a word.
        limit: get("timelimitraw").parse::<u64>().ok().and_then(|m| m.checked_mul(60)),
        completed: get("state") == "COMPLETED",
        summary: None,
    };
    Some((id.to_string(), record.with(jobstats::summary(get("admincomment")))))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    job_id: Num,
    user: Texts,
    account: Texts,
    partition: Texts,
    nodes: Texts,
    state: State,
    time: Times,
    tres: Given,
    comment: Comment,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Times {
    elapsed: Num,
    start: Num,
    end: Num,
    /// Minutes.
    limit: Num,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct State {
    current: Texts,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Given {
    allocated: Vec<Resource>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Resource {
    r#type: Texts,
    name: Texts,
    count: Num,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Comment {
    administrator: Texts,
}

/// Adds one answer of `/slurmdb/VERSION/jobs`.
///
/// # Errors
/// What is no JSON, or no list of jobs, in words for people.
pub fn add_json(text: &str, all: &mut Accounting) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        jobs: Vec<&'a RawValue>,
    }
    let answer: Answer<'_> =
        serde_json::from_str(text).map_err(|e| format!("it is no list of slurmdbd's jobs: {e}"))?;
    for raw in answer.jobs {
        let entry = serde_json::from_str::<Entry>(raw.get()).ok();
        match entry.and_then(|e| Some((e.job_id.positive()?, e.time.elapsed.0?, e))) {
            Some((id, elapsed, entry)) => {
                all.jobs.insert(id.to_string(), entry.record(elapsed));
            }
            None => all.odd += 1,
        }
    }
    Ok(())
}

impl Entry {
    fn record(&self, elapsed: u64) -> Record {
        // As AllocTRES writes it: what counts as a GPU is decided in one place.
        let written = self.tres.allocated.iter().filter_map(|r| {
            let count = r.count.0?;
            let name = r.name.text();
            let slash = if name.is_empty() { "" } else { "/" };
            Some(format!("{}{slash}{name}={count}", r.r#type.text()))
        });
        let written: Vec<String> = written.collect();
        Record {
            user: self.user.text().into(),
            account: self.account.text().into(),
            partition: self.partition.text().into(),
            tres: gres::tres(&written.join(",")),
            nodes: self.nodes.text().into(),
            start: self.time.start.time(),
            end: self.time.end.time(),
            elapsed: i64::try_from(elapsed).unwrap_or(i64::MAX),
            limit: self.time.limit.positive().and_then(|m| m.checked_mul(60)),
            completed: self.state.current.words() == ["COMPLETED"],
            summary: None,
        }
        .with(jobstats::summary(self.comment.administrator.text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuwaste_facts::snapshot::owners::USER;

    const TEXT: &str = "\
1|ann|ml|train|normal|7200|UNLIMITED|billing=4,cpu=4,gres/gpu:h100=2,gres/gpu=2,node=1|1796000000|1796007200|COMPLETED|gpu1||one | two
2_1|bob|bio|train,long|normal|3600|60|cpu=4,gres/gpu=1|1796000000|1796003600|CANCELLED by 0|gpu1||x
3|ann|ml|train|normal|0|60||Unknown|Unknown|PENDING|||x
4|ann|ml|train|normal|1007200|60|gres/gpu=1|1795000000|Unknown|RUNNING|gpu2||x
garbage
|ann|ml|train|normal|3600|60|gres/gpu=1|1796000000|1796003600|COMPLETED|gpu1||x
";

    #[test]
    fn gpu_hours_by_owner() {
        let mut all = Accounting::default();
        add(TEXT, &TimeZone::UTC, &mut all);
        // The next day's output has the long job again.
        add(TEXT, &TimeZone::UTC, &mut all);
        assert_eq!(all.odd, 4, "two lines, twice");
        let sums = all.by_owner(1_796_007_200, &[]);
        let of = |user: &str| {
            let own = || sums.iter().filter(|p| p.labels[USER] == user);
            let jobs: u64 = own().map(|p| p.jobs).sum();
            (
                jobs,
                own().map(|p| p.gpu_hours).sum::<f64>(),
                own().map(|p| p.watched_gpu_hours).sum::<f64>(),
            )
        };
        assert_eq!(of("bob"), (1, 1.0, 0.0));
        // 2 GPUs for 2 h, and the part of the long job that lies in the window; nobody said what they did.
        assert_eq!(of("ann"), (2, 4.0 + 168.0, 0.0));
    }

    /// As a slurmrestd 22.05.8 answered, and the same in the form of 23.02 and later.
    #[test]
    fn answers_of_the_api_are_summed_like_lines() {
        const OLD: &str = r#"{"errors":[],"jobs":[
            {"job_id":1,"user":"ann","account":"ml","partition":"train","time":{"elapsed":7200,"start":1796000000,"end":1796007200},
             "comment":{"administrator":null},"tres":{"allocated":[{"type":"cpu","name":null,"count":1},{"type":"gres","name":"gpu","count":2},
             {"type":"gres","name":"gpu:h100","count":2},{"type":"energy","name":null,"count":null}]}},
            {"job_id":3,"user":"ann","time":{"elapsed":0,"start":0,"end":0},"tres":{"allocated":[]}},
            {"job_id":"x"}]}"#;
        const NEW: &str = r#"{"jobs":[{"job_id":1,"user":"ann","account":"ml","partition":"train",
            "time":{"elapsed":7200,"start":{"set":true,"infinite":false,"number":1796000000},"end":1796007200},
            "comment":{"administrator":""},"tres":{"allocated":[{"type":"gres","name":"gpu:h100","count":{"set":true,"number":2}}]}}]}"#;
        for (text, odd) in [(OLD, 1), (NEW, 0)] {
            let mut all = Accounting::default();
            add_json(text, &mut all).unwrap();
            add_json(text, &mut all).unwrap();
            let sums = all.by_owner(1_796_007_200, &[]);
            assert_eq!((all.odd, sums.len()), (2 * odd, 1), "{text}");
            assert_eq!((sums[0].jobs, sums[0].gpu_hours), (1, 4.0), "{text}");
        }
        let error = add_json("<html>", &mut Accounting::default()).unwrap_err();
        assert!(error.contains("slurmdbd"), "{error}");
    }

    #[test]
    fn a_header_names_the_fields() {
        let mut all = Accounting::default();
        add(
            "JobID|User|Start|End|ElapsedRaw|AllocTRES|JobName\n7|eve|1796000000|1796003600|3600|gres/gpu=3|n\n",
            &TimeZone::UTC,
            &mut all,
        );
        assert_eq!((all.odd, all.by_owner(1_796_003_600, &[])[0].gpu_hours), (0, 3.0));
    }
}
