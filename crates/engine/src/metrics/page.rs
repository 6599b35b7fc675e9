//! A metrics page, cut down and parsed; sums that do not count a rank or a duplicate twice.

use prometheus_parse::{Sample, Scrape, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Labels of ranks that show the same work several times: the largest of them counts, not their sum.
const RANKS: &[&str] = &["tp_rank", "pp_rank", "moe_ep_rank", "pid"];

/// One series: its labels and value.
pub(crate) type Series = (BTreeMap<String, String>, f64);

/// A row's label by its name.
pub type Labels<'a> = dyn Fn(&str) -> Option<&'a str> + 'a;

/// Names replaced, comments and unwanted lines dropped.
pub struct Page {
    samples: BTreeMap<String, Vec<Series>>,
}

impl Page {
    /// Parses what `wanted` (given the name with `_` for `:`) keeps. Lines that are no samples are skipped; NaN and
    /// infinite values are no values.
    pub fn parse(text: &[u8], wanted: impl Fn(&str) -> bool) -> Self {
        let kept = filter(text, wanted);
        let lines = kept.lines().map(|l| Ok(l.to_string()));
        let scrape = Scrape::parse_at(lines, chrono::DateTime::UNIX_EPOCH).ok();
        let mut samples: BTreeMap<String, Vec<Series>> = BTreeMap::new();
        for Sample {
            metric, value, labels, ..
        } in scrape.map(|s| s.samples).unwrap_or_default()
        {
            // Without `# TYPE` lines everything is untyped: a plain number.
            let (Value::Untyped(value) | Value::Gauge(value) | Value::Counter(value)) = value else {
                continue;
            };
            if value.is_finite() {
                // all-smi writes a space behind each comma, as the format allows.
                let labels = labels.iter().map(|(k, v)| (k.trim().to_string(), v.clone()));
                let labels: BTreeMap<String, String> = labels.collect();
                samples.entry(metric).or_default().push((labels, value));
            }
        }
        Self { samples }
    }

    pub fn has(&self, name: &str) -> bool {
        self.samples.contains_key(name)
    }

    pub fn series(&self, name: &str) -> &[Series] {
        self.samples.get(name).map_or(&[], Vec::as_slice)
    }

    fn first<'a>(&'a self, names: &[&str]) -> &'a [Series] {
        names
            .iter()
            .map(|n| self.series(n))
            .find(|s| !s.is_empty())
            .unwrap_or(&[])
    }

    /// Sum over what is different work: data-parallel engines and reasons, but not tensor-parallel ranks or duplicates.
    /// A router repeats its servers' figures under the label `server`: not its own work.
    pub fn sum(&self, names: &[&str]) -> Option<f64> {
        sum(self
            .first(names)
            .iter()
            .filter(|(labels, _)| !labels.contains_key("server")))
    }

    /// The same over the rows that `keep` accepts by their labels.
    pub fn sum_where(&self, name: &str, keep: impl Fn(&Labels<'_>) -> bool) -> Option<f64> {
        let own = self
            .series(name)
            .iter()
            .filter(|(labels, _)| !labels.contains_key("server"));
        sum(own.filter(|(labels, _)| keep(&|key| labels.get(key).map(String::as_str))))
    }

    pub fn max(&self, names: &[&str]) -> Option<f64> {
        self.first(names).iter().map(|(_, v)| *v).reduce(f64::max)
    }

    pub fn max_where(&self, name: &str, keep: impl Fn(&Labels<'_>) -> bool) -> Option<f64> {
        self.series(name)
            .iter()
            .filter(|(labels, _)| keep(&|key| labels.get(key).map(String::as_str)))
            .map(|(_, v)| *v)
            .reduce(f64::max)
    }

    /// Sums by the value of one label, as [`Page::sum`] does.
    pub fn by_label(&self, name: &str, key: &str) -> Vec<(String, f64)> {
        let values: BTreeSet<&String> = self.series(name).iter().filter_map(|(l, _)| l.get(key)).collect();
        values
            .into_iter()
            .filter_map(|value| {
                Some((
                    value.clone(),
                    sum(self.series(name).iter().filter(|(l, _)| l.get(key) == Some(value)))?,
                ))
            })
            .collect()
    }

    pub fn label(&self, name: &str, key: &str) -> Option<String> {
        self.series(name).iter().find_map(|(l, _)| l.get(key).cloned())
    }

    pub fn label_where_positive(&self, name: &str, key: &str) -> Option<String> {
        self.series(name)
            .iter()
            .find(|(_, v)| *v > 0.0)
            .and_then(|(l, _)| l.get(key).cloned())
    }

    pub fn distinct(&self, name: &str, key: &str) -> Option<u32> {
        let values: BTreeSet<&String> = self.series(name).iter().filter_map(|(l, _)| l.get(key)).collect();
        u32::try_from(values.len()).ok().filter(|n| *n > 0)
    }
}

fn sum<'a>(series: impl Iterator<Item = &'a Series>) -> Option<f64> {
    let mut groups: BTreeMap<Vec<(&String, &String)>, f64> = BTreeMap::new();
    for (labels, value) in series {
        let key: Vec<(&String, &String)> = labels.iter().filter(|(k, _)| !RANKS.contains(&k.as_str())).collect();
        let own = groups.entry(key).or_insert(*value);
        *own = own.max(*value);
    }
    (!groups.is_empty()).then(|| groups.values().sum())
}

/// Keeps the sample lines whose name is wanted, with `_` for `:` in names. Invalid UTF-8 is replaced line by line.
pub fn filter(text: &[u8], wanted: impl Fn(&str) -> bool) -> String {
    let mut kept = String::new();
    let mut start = 0;
    let mut name = String::new();
    // One name stands on many lines in a row (buckets, labels): its verdict is remembered.
    let mut last: (&[u8], bool) = (b"", false);
    while start < text.len() {
        let end = memchr::memchr(b'\n', &text[start..]).map_or(text.len(), |n| start + n);
        let line = &text[start..end];
        start = end + 1;
        if !line.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_') {
            continue;
        }
        let Some(cut) = memchr::memchr2(b'{', b' ', line) else {
            continue;
        };
        let raw = &line[..cut];
        if raw != last.0 {
            name.clear();
            name.extend(raw.iter().map(|b| if *b == b':' { '_' } else { char::from(*b) }));
            last = (raw, wanted(&name));
        }
        if last.1 {
            kept.push_str(&name);
            kept.push_str(&String::from_utf8_lossy(&line[cut..]));
            kept.push('\n');
        }
    }
    kept
}
