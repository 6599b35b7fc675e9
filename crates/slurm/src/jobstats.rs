//! jobstats' summary of a job, which its epilogue leaves in AdminComment: `JS1:` and base64(gzip(JSON)). It is read, bounded, and
//! dropped: only a few figures of it are kept.

use base64::Engine;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;

/// Text of one comment, and what it may unpack to: a job on a thousand nodes has 200 kB.
const MOST_TEXT: usize = 4 << 20;
const MOST_BYTES: u64 = 32 << 20;

/// What the GPUs of one job did over its life.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    pub gpus: u64,
    /// GPUs of which no sample was above 0.
    pub idle_gpus: u64,
    /// Mean of their means, 0–1.
    pub utilization: f64,
    /// The most that one of them had in use, bytes; `None`: not told of each.
    pub memory: Option<f64>,
    /// GPUs that did something, and had memory to spare.
    pub open_gpus: u64,
    /// Mean activity of these, summed up.
    pub open_activity: f64,
    /// Host memory that was in use on all its nodes, bytes; `None`: not told of each.
    pub host_memory: Option<f64>,
    /// Seconds that the job had run, and GPUs that it had, when the summary was made; `None`: not told.
    pub seconds: Option<f64>,
    pub held: Option<u64>,
}

/// A card with this share of its memory taken could be no smaller one (as low-utilization judges running jobs).
const FULL: f64 = 0.8;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Document {
    nodes: BTreeMap<String, OfNode>,
    total_time: Option<f64>,
    gpus: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OfNode {
    /// Percent, by index.
    gpu_utilization: BTreeMap<String, f64>,
    gpu_used_memory: BTreeMap<String, f64>,
    gpu_total_memory: BTreeMap<String, f64>,
    used_memory: Option<f64>,
}

/// The summary in a comment; `None`: there is none ("JS1:None", "JS1:Short"), or it is not what jobstats writes.
pub fn summary(comment: &str) -> Option<Summary> {
    let packed = comment.trim().strip_prefix("JS1:")?;
    if packed.len() > MOST_TEXT {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(packed.trim()).ok()?;
    let mut text = String::new();
    let mut unpacked = flate2::read::GzDecoder::new(bytes.as_slice()).take(MOST_BYTES);
    unpacked.read_to_string(&mut text).ok()?;
    let document: Document = serde_json::from_str(&text).ok()?;
    let mut found = Summary {
        memory: Some(0.0),
        host_memory: Some(0.0),
        seconds: document.total_time.filter(|t| t.is_finite() && *t > 0.0),
        held: document.gpus,
        ..Summary::default()
    };
    let mut sum = 0.0;
    for node in document.nodes.values() {
        found.host_memory = amount(node.used_memory).and_then(|m| Some(found.host_memory? + m));
        for (index, percent) in &node.gpu_utilization {
            if !(0.0..=100.5).contains(percent) {
                return None;
            }
            let activity = (percent / 100.0).min(1.0);
            let used = amount(node.gpu_used_memory.get(index).copied());
            let total = amount(node.gpu_total_memory.get(index).copied()).filter(|m| *m > 0.0);
            found.gpus += 1;
            found.idle_gpus += u64::from(*percent <= 0.0);
            found.memory = used.and_then(|m| Some(found.memory?.max(m)));
            if *percent > 0.0 && used.zip(total).is_some_and(|(used, total)| used < FULL * total) {
                found.open_gpus += 1;
                found.open_activity += activity;
            }
            sum += activity;
        }
    }
    if found.gpus == 0 {
        return None;
    }
    found.utilization = sum / found.gpus as f64;
    Some(found)
}

fn amount(bytes: Option<f64>) -> Option<f64> {
    bytes.filter(|b| b.is_finite() && *b >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn packed(json: &str) -> String {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(json.as_bytes()).expect("in memory");
        let bytes = gzip.finish().expect("in memory");
        format!("JS1:{}", base64::engine::general_purpose::STANDARD.encode(bytes))
    }

    #[test]
    fn a_summary_is_a_few_figures() {
        let json = r#"{"nodes":{"a":{"total_memory":1,"gpu_utilization":{"0":90.0,"1":0},"gpu_used_memory":{"0":5e9,"1":0}},
            "b":{"gpu_utilization":{"0":30.0},"gpu_used_memory":{"0":9e9},"gpu_total_memory":{"0":80e9},"cpus":4}},"total_time":99,"gpus":3}"#;
        let summary = summary(&packed(json)).expect("jobstats' form");
        assert_eq!((summary.gpus, summary.idle_gpus), (3, 1));
        assert!((summary.utilization - 0.4).abs() < 1e-9 && summary.memory == Some(9e9));
        // Of one card alone it is told that it was not full.
        assert!(summary.open_gpus == 1 && (summary.open_activity - 0.3).abs() < 1e-9);
        assert_eq!(
            (summary.host_memory, summary.seconds, summary.held),
            (None, Some(99.0), Some(3))
        );
    }

    #[test]
    fn what_is_no_summary_is_none() {
        for comment in [
            "",
            "JS1:None",
            "JS1:Short",
            "JS1:AAAA",
            "user's own words",
            "JS1:H4sIAAAAAAAA",
        ] {
            assert_eq!(summary(comment), None, "{comment}");
        }
        assert_eq!(
            summary(&packed(r#"{"nodes":{"a":{"gpu_utilization":{"0":9000}}}}"#)),
            None
        );
        assert_eq!(summary(&packed(r#"{"nodes":{}}"#)), None, "a job without GPUs");
        // A bomb stops at the bound, and is then no JSON.
        let bomb = packed(&" ".repeat(40 << 20));
        assert_eq!(summary(&bomb), None);
    }
}
