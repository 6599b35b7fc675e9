//! The queries of a scan, in PromQL: aggregated on the server, their number independent of pods, nodes and GPUs.
//!
//! Every result row carries its figure and statistic in the label `s` (`Tag`), so that many of them share a query.

mod devices;
mod engines;
mod host;

use super::tag::{Load, Size, Stat, Tag};
use super::words::{DEVICE_FIGURES, Words};
use crate::engine::metrics::figures::LoadFigure;
use crate::snapshot::history::{BinLimits, STEM_PATTERN};
use std::collections::BTreeSet;

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
    pub(super) tag: Tag,
    pub(super) text: String,
}

/// What several parts ask for together.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    pub(super) query: String,
    pub(super) tags: BTreeSet<Tag>,
}

/// An expression and what its rows tell.
type Tagged = (Tag, String);

fn parts(cut: Cut, all: impl IntoIterator<Item = Tagged>) -> Vec<Part> {
    let part = |(tag, expression): Tagged| Part {
        cut,
        tag,
        text: tag.of(&expression),
    };
    all.into_iter().map(part).collect()
}

/// Parts into as few queries as fit, the long ones first.
pub(super) fn pack(mut parts: Vec<Part>) -> Vec<Packed> {
    parts.sort_by_key(|p| std::cmp::Reverse(p.text.len()));
    let mut queries: Vec<Packed> = Vec::new();
    for part in parts {
        let room = |q: &&mut Packed| q.query.len() + part.text.len() + 4 <= MAX_QUERY;
        match queries.iter_mut().find(room) {
            Some(packed) => {
                packed.query.push_str(" or ");
                packed.query.push_str(&part.text);
                packed.tags.insert(part.tag);
            }
            None => queries.push(Packed {
                query: part.text,
                tags: BTreeSet::from([part.tag]),
            }),
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
            parts.push(Tag::Size(Size::Devices).of(&format!("count({alive})")));
        }
        let engine = self
            .words
            .groups(LoadFigure::Running)
            .into_iter()
            .chain(self.words.groups(LoadFigure::Requests))
            .next();
        if let Some(engine) = &engine {
            parts.push(Tag::Size(Size::Engines).of(&format!("count({engine})")));
        }
        // Pinned to the time of the question: a store that does not know `@` refuses here, in the cheapest question.
        let pin = if self.words.pins { " @ end()" } else { "" };
        for (selector, id) in [(self.any_device(), Size::GpuScrapes), (engine, Size::EngineScrapes)] {
            if let Some(selector) = selector {
                parts.push(Tag::Size(id).of(&format!("max(count_over_time({selector}[1h]{pin}))")));
            }
        }
        // Where both are found, a device that carries a foreign pod in `pod` itself.
        if self.words.gpu_labels.contains("exported_pod")
            && let Some(device) = self.any_device_name()
        {
            let plain = "exported_pod=\"\",pod!=\"\",pod!~\".*dcgm.*|.*exporter.*\",";
            parts.push(Tag::Size(Size::Plain).of(&format!(
                "count(count by(pod)(last_over_time({}{})))",
                self.words.selector(device, plain),
                self.w()
            )));
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

fn stemmed(pods: &str) -> String {
    format!("label_replace({pods},\"w\",\"$1\",\"pod\",\"{STEM_PATTERN}\")")
}

fn by_stem(with: &str, pods: &str) -> String {
    format!("{with} by(namespace,w)({})", stemmed(pods))
}

/// A figure's statistics over the window's bins, but its peak.
fn distribution(each: &str, wb: &str, of: impl Fn(Stat) -> Tag) -> Vec<Tagged> {
    let over = |function: &str| format!("{function}(({each}){wb})");
    let quantile = |q: &str| format!("quantile_over_time({q},({each}){wb})");
    vec![
        (of(Stat::P50), quantile("0.5")),
        (of(Stat::P95), quantile("0.95")),
        (of(Stat::P99), quantile("0.99")),
        (of(Stat::Mean), over("avg_over_time")),
        (of(Stat::Bins), over("count_over_time")),
    ]
}

fn workload_stats(stems: &str, wb: &str, load: Load) -> Vec<Tagged> {
    let mut out = distribution(stems, wb, |stat| Tag::Workload(load, stat));
    out.push((Tag::Workload(load, Stat::Max), format!("max_over_time(({stems}){wb})")));
    out
}
