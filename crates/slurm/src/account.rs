//! `sacct -P`, or slurmdbd's jobs by slurmrestd: jobs of the past, summed up by who answers for them. No job of it is kept by itself.

use crate::gres;
use crate::jobstats;
use crate::lenient::{Num, Texts, told};
use crate::text;
use gpuwaste_facts::snapshot::cluster::PastUse;
use gpuwaste_facts::snapshot::owners::USER;
use gpuwaste_facts::text::harmless;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};

/// Fields that are asked for, in this order; a header names them in any.
pub const FIELDS: &str =
    "jobid,user,account,partition,qos,elapsedraw,timelimitraw,alloctres,start,end,state,admincomment,jobname";
const HOUR: f64 = 3600.0;
/// What is judged of the past, seconds.
pub const WINDOW: i64 = 7 * 86_400;

/// One job, as far as it is summed up.
#[derive(Clone, Debug, Default, PartialEq)]
struct Record {
    user: String,
    account: String,
    partition: String,
    gpus: u64,
    start: Option<i64>,
    end: Option<i64>,
    elapsed: i64,
    summary: Option<jobstats::Summary>,
}

/// Jobs by id: one that ran for several days stands in the outputs of each of them.
#[derive(Clone, Debug, Default)]
pub struct Accounting {
    jobs: HashMap<String, Record>,
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
        gpus: gres::tres(get("alloctres")).gpus.unwrap_or(0),
        start: text::time(get("start"), zone),
        end: text::time(get("end"), zone),
        elapsed: elapsed.max(0),
        summary: jobstats::summary(get("admincomment")),
    };
    Some((id.to_string(), record))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    job_id: Num,
    user: Texts,
    account: Texts,
    partition: Texts,
    time: Times,
    tres: Tres,
    comment: Comment,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Times {
    elapsed: Num,
    start: Num,
    end: Num,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Tres {
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
            gpus: gres::tres(&written.join(",")).gpus.unwrap_or(0),
            start: self.time.start.time(),
            end: self.time.end.time(),
            elapsed: i64::try_from(elapsed).unwrap_or(i64::MAX),
            summary: jobstats::summary(self.comment.administrator.text()),
        }
    }
}

impl Accounting {
    /// Sums by user, account and partition, over the days before `until` (seconds since 1970).
    pub fn by_owner(&self, until: i64) -> Vec<PastUse> {
        let from = until - WINDOW;
        let mut sums: BTreeMap<(String, String, String), PastUse> = BTreeMap::new();
        for job in self.jobs.values().filter(|j| j.gpus > 0) {
            let Some(start) = job.start else { continue };
            let end = job.end.unwrap_or(start + job.elapsed).min(until);
            // A job that was suspended ran for less than its life.
            let seconds = (end - start.max(from)).clamp(0, job.elapsed.max(0));
            if seconds == 0 {
                continue;
            }
            let key = [&job.user, &job.account, &job.partition].map(|w| short(w));
            let [user, account, partition] = key;
            let sum = sums
                .entry((user.clone(), account.clone(), partition.clone()))
                .or_insert_with(|| PastUse {
                    labels: labels(&user, &account, &partition),
                    window_seconds: WINDOW.unsigned_abs(),
                    ..PastUse::default()
                });
            let hours = seconds as f64 / HOUR * job.gpus as f64;
            sum.jobs += 1;
            sum.gpu_hours += hours;
            if let Some(summary) = job.summary {
                sum.watched_gpu_hours += hours;
                sum.unused_gpu_hours += hours * (1.0 - summary.utilization);
                sum.idle_gpu_hours += hours * summary.idle_gpus as f64 / summary.gpus as f64;
            }
        }
        sums.into_values().collect()
    }
}

fn labels(user: &str, account: &str, partition: &str) -> BTreeMap<String, String> {
    [(USER, user), ("slurm/account", account), ("slurm/partition", partition)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

fn short(text: &str) -> String {
    harmless(text).chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
1|ann|ml|train|normal|7200|UNLIMITED|billing=4,cpu=4,gres/gpu:h100=2,gres/gpu=2,node=1|1796000000|1796007200|COMPLETED||one | two
2_1|bob|bio|train,long|normal|3600|60|cpu=4,gres/gpu=1|1796000000|1796003600|CANCELLED by 0||x
3|ann|ml|train|normal|0|60||Unknown|Unknown|PENDING||x
4|ann|ml|train|normal|1007200|60|gres/gpu=1|1795000000|Unknown|RUNNING||x
garbage
|ann|ml|train|normal|3600|60|gres/gpu=1|1796000000|1796003600|COMPLETED||x
";

    #[test]
    fn gpu_hours_by_owner() {
        let mut all = Accounting::default();
        add(TEXT, &TimeZone::UTC, &mut all);
        // The next day's output has the long job again.
        add(TEXT, &TimeZone::UTC, &mut all);
        assert_eq!(all.odd, 4, "two lines, twice");
        let sums = all.by_owner(1_796_007_200);
        let of = |user: &str| sums.iter().find(|p| p.labels[USER] == user).expect(user);
        assert_eq!((of("bob").jobs, of("bob").gpu_hours), (1, 1.0));
        // 2 GPUs for 2 h, and the part of the long job that lies in the window.
        assert_eq!((of("ann").jobs, of("ann").gpu_hours), (2, 4.0 + 168.0));
        assert_eq!(of("ann").watched_gpu_hours, 0.0, "nobody said what they did");
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
            let sums = all.by_owner(1_796_007_200);
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
        assert_eq!((all.odd, all.by_owner(1_796_003_600)[0].gpu_hours), (0, 3.0));
    }
}
