//! The queries of a scan, in PromQL: aggregated on the server, their number independent of pods, nodes and GPUs.
//!
//! Every result row carries its figure and statistic in the label `s` ("run.p95"), so that many of them share a query.

mod devices;
mod engines;
mod host;

use super::words::{DEVICE_FIGURES, Words};
use crate::engine::metrics::figures::LoadFigure;
use crate::snapshot::history::{BinLimits, STEM_PATTERN};

/// A query is kept under this, so that a GET through proxies passes (they refuse URLs over about 8 kB).
pub(super) const MAX_QUERY: usize = 4000;

/// What a query is cut by where the server finds it too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Devices,
    Pods,
    /// Joins devices with pods: only coarser bins help.
    Nothing,
}

/// Time and part of one round of questions.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// Seconds.
    pub(super) window: u64,
    pub(super) bin: u64,
    /// Range of rates: at least four scrapes.
    pub(super) rate: u64,
    pub(super) limits: BinLimits,
    /// Further matchers of one shard, ends with a comma.
    pub(super) devices: String,
    pub(super) pods: String,
}

/// One tagged expression.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) cut: Cut,
    pub(super) text: String,
}

fn tag(text: &str, s: &str) -> String {
    format!("label_replace({text},\"s\",\"{s}\",\"\",\"\")")
}

/// Parts into as few queries as fit, the long ones first.
pub(super) fn pack(mut parts: Vec<Part>) -> Vec<String> {
    parts.sort_by_key(|p| std::cmp::Reverse(p.text.len()));
    let mut queries: Vec<String> = Vec::new();
    for part in parts {
        match queries.iter_mut().find(|q| q.len() + part.text.len() + 4 <= MAX_QUERY) {
            Some(query) => {
                query.push_str(" or ");
                query.push_str(&part.text);
            }
            None => queries.push(part.text),
        }
    }
    queries
}

/// Builds expressions for one store and scope.
pub(super) struct Asker<'a> {
    pub(super) words: &'a Words,
    pub(super) scope: &'a Scope,
}

impl Asker<'_> {
    fn w(&self) -> String {
        format!("[{}s]", self.scope.window)
    }

    fn wb(&self) -> String {
        format!("[{}s:{}s]", self.scope.window, self.scope.bin)
    }

    /// How many series there are and how often they are scraped: decides the length of bins and of rates.
    pub(super) fn size(&self) -> String {
        let mut parts = Vec::new();
        if let Some(alive) = self.presence() {
            parts.push(tag(&format!("count({alive})"), "size.devices"));
        }
        let engine = self
            .words
            .groups(LoadFigure::Running)
            .into_iter()
            .chain(self.words.groups(LoadFigure::Requests))
            .next();
        if let Some(engine) = &engine {
            parts.push(tag(&format!("count({engine})"), "size.engines"));
        }
        // Pinned to the time of the question: a store that does not know `@` refuses here, in the cheapest question.
        let pin = if self.words.pins { " @ end()" } else { "" };
        for (selector, id) in [(self.any_device(), "size.gpuscrapes"), (engine, "size.enginescrapes")] {
            if let Some(selector) = selector {
                parts.push(tag(&format!("max(count_over_time({selector}[1h]{pin}))"), id));
            }
        }
        // Where both are found, a device that carries a foreign pod in `pod` itself.
        if self.words.gpu_labels.contains("exported_pod")
            && let Some(device) = self.any_device_name()
        {
            let plain = "exported_pod=\"\",pod!=\"\",pod!~\".*dcgm.*|.*exporter.*\",";
            parts.push(tag(
                &format!(
                    "count(count by(pod)(last_over_time({}{})))",
                    self.words.selector(device, plain),
                    self.w()
                ),
                "size.plain",
            ));
        }
        parts.join(" or ")
    }

    fn any_device_name(&self) -> Option<&'static str> {
        DEVICE_FIGURES
            .iter()
            .flat_map(|f| f.names)
            .map(|n| n.name)
            .find(|n| self.words.has(n))
    }

    fn any_device(&self) -> Option<String> {
        let known = |f: &&super::words::DeviceFigure| f.names.iter().any(|n| self.words.has(n.name));
        let names: Vec<&str> = DEVICE_FIGURES
            .iter()
            .find(known)?
            .names
            .iter()
            .map(|n| n.name)
            .filter(|n| self.words.has(n))
            .collect();
        Some(format!("{{__name__=~\"{}\",{}}}", names.join("|"), self.words.scope))
    }
}

/// The workload's holder under `pod` and `namespace`, whether or not the scrape moved it.
fn coalesced(union: &str) -> String {
    format!(
        "label_replace(label_replace({union},\"pod\",\"$1\",\"exported_pod\",\"(.+)\"),\"namespace\",\"$1\",\"exported_namespace\",\"(.+)\")"
    )
}

fn cut_by_pods(texts: Vec<String>) -> Vec<Part> {
    texts.into_iter().map(|text| Part { cut: Cut::Pods, text }).collect()
}

fn stemmed(pods: &str) -> String {
    format!("label_replace({pods},\"w\",\"$1\",\"pod\",\"{STEM_PATTERN}\")")
}

fn by_stem(with: &str, pods: &str) -> String {
    format!("{with} by(namespace,w)({})", stemmed(pods))
}

fn distribution(each: &str, wb: &str, id: &str) -> Vec<String> {
    let mut out: Vec<String> = [("0.5", "p50"), ("0.95", "p95"), ("0.99", "p99")]
        .iter()
        .map(|(q, name)| {
            tag(
                &format!("quantile_over_time({q},({each}){wb})"),
                &format!("{id}.{name}"),
            )
        })
        .collect();
    out.push(tag(&format!("avg_over_time(({each}){wb})"), &format!("{id}.mean")));
    out.push(tag(&format!("count_over_time(({each}){wb})"), &format!("{id}.n")));
    out
}

fn workload_stats(stems: &str, wb: &str, id: &str) -> Vec<String> {
    let mut out = distribution(stems, wb, &format!("w.{id}"));
    out.push(tag(&format!("max_over_time(({stems}){wb})"), &format!("w.{id}.max")));
    out
}
