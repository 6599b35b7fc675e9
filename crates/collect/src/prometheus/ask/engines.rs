//! Questions about serving engines: gauges, counters, histograms, and what several of them tell together.

use super::{Asker, Part, by_stem, cut_by_pods, tag, workload_stats};
use crate::engine::metrics::figures::LoadFigure;
use crate::snapshot::history::STEM_PATTERN;

#[derive(Clone, Copy)]
pub(super) enum Gauge {
    Running,
    Waiting,
    Kv,
}

#[derive(Clone, Copy)]
pub(super) enum Counter {
    Requests,
    Prompt,
    Output,
    Preemptions,
}

impl Asker<'_> {
    /// One figure by pod: copies once, then engines and ranks summed (the fullest, for KV use).
    fn pods(&self, groups: &[String], function: &str, range: &str, with: &str) -> Option<String> {
        let (namespace, pod) = self.words.pod_labels();
        let copies = self.words.copies();
        let parts: Vec<String> = groups
            .iter()
            .map(|selector| {
                let selector = self.sharded(selector);
                format!("{with} by({namespace},{pod})(max without({copies})({function}({selector}{range})))")
            })
            .collect();
        let joined = match parts.as_slice() {
            [] => return None,
            [one] => one.clone(),
            several => format!("({})", several.join(" or ")),
        };
        Some(if (namespace, pod) == ("namespace", "pod") {
            joined
        } else {
            format!(
                "label_replace(label_replace({joined},\"pod\",\"$1\",\"{pod}\",\"(.+)\"),\"namespace\",\"$1\",\"{namespace}\",\"(.+)\")"
            )
        })
    }

    fn sharded(&self, selector: &str) -> String {
        if self.scope.pods.is_empty() {
            return selector.to_string();
        }
        match selector.strip_suffix('}') {
            Some(open) => format!("{open}{}}}", self.scope.pods),
            None => format!("{selector}{{{}}}", self.scope.pods),
        }
    }

    pub(super) fn gauge(&self, of: Gauge) -> Option<String> {
        self.gauge_over(of, self.scope.bin)
    }

    /// The most of the last `seconds`.
    pub(super) fn gauge_over(&self, of: Gauge, seconds: u64) -> Option<String> {
        let range = format!("[{seconds}s]");
        let (figure, with) = match of {
            Gauge::Running => (LoadFigure::Running, "sum"),
            Gauge::Waiting => (LoadFigure::Waiting, "sum"),
            Gauge::Kv => (LoadFigure::KvUsage, "max"),
        };
        let groups = self.words.groups(figure);
        self.pods(&groups, "max_over_time", &range, with)
    }

    pub(super) fn rate(&self, counter: Counter) -> Option<String> {
        self.pods(
            &self.counter(counter),
            "rate",
            &format!("[{}s]", self.scope.rate),
            "sum",
        )
    }

    fn total(&self, counter: Counter) -> Option<String> {
        self.pods(&self.counter(counter), "increase", &self.w(), "sum")
    }

    fn counter(&self, counter: Counter) -> Vec<String> {
        match counter {
            Counter::Requests => self.words.groups(LoadFigure::Requests),
            Counter::Prompt => self.words.groups(LoadFigure::PromptTokens),
            Counter::Output => self.words.groups(LoadFigure::OutputTokens),
            Counter::Preemptions => self.words.groups(LoadFigure::Preemptions),
        }
    }

    pub(in crate::prometheus) fn load_parts(&self) -> Vec<Part> {
        let mut out = Vec::new();
        let wb = self.wb();
        for (gauge, id) in [(Gauge::Running, "run"), (Gauge::Waiting, "wait"), (Gauge::Kv, "kv")] {
            let Some(pods) = self.gauge(gauge) else { continue };
            out.push(tag(&format!("max_over_time(({pods}){wb})"), &format!("p.{id}.max")));
            let with = if matches!(gauge, Gauge::Kv) { "max" } else { "sum" };
            let stems = by_stem(with, &pods);
            out.extend(workload_stats(&stems, &wb, id));
            if matches!(gauge, Gauge::Kv) {
                let sum = by_stem("sum", &pods);
                out.push(tag(&format!("max_over_time(({sum}){wb})"), "w.kvsum.max"));
                out.push(tag(&format!("quantile_over_time(0.95,({sum}){wb})"), "w.kvsum.p95"));
            }
        }
        let counters = [
            (Counter::Requests, "req"),
            (Counter::Prompt, "in"),
            (Counter::Output, "out"),
            (Counter::Preemptions, "pre"),
        ];
        let mut first = true;
        for (counter, id) in counters {
            let Some(pods) = self.rate(counter) else { continue };
            let stems = by_stem("sum", &pods);
            out.extend(workload_stats(&stems, &wb, id));
            for (function, stat) in [
                ("max_over_time", "max"),
                ("avg_over_time", "mean"),
                ("count_over_time", "n"),
            ] {
                out.push(tag(&format!("{function}(({pods}){wb})"), &format!("p.{id}.{stat}")));
            }
            if std::mem::take(&mut first) {
                out.push(tag(&format!("min_over_time(timestamp({pods}){wb})"), "p.first"));
                out.push(tag(&format!("min_over_time(timestamp({stems}){wb})"), "w.first"));
            }
        }
        out.extend(self.total_parts());
        if first && let Some(pods) = self.gauge(Gauge::Running) {
            out.push(tag(&format!("min_over_time(timestamp({pods}){wb})"), "p.first"));
            out.push(tag(
                &format!("min_over_time(timestamp({}){wb})", by_stem("sum", &pods)),
                "w.first",
            ));
        }
        cut_by_pods(out)
    }

    fn total_parts(&self) -> Vec<String> {
        [
            (Counter::Requests, "req"),
            (Counter::Prompt, "in"),
            (Counter::Output, "out"),
            (Counter::Preemptions, "pre"),
        ]
        .into_iter()
        .filter_map(|(counter, id)| Some(tag(&by_stem("sum", &self.total(counter)?), &format!("w.{id}.total"))))
        .collect()
    }

    /// Work of the window before.
    pub(in crate::prometheus) fn work_parts(&self) -> Vec<Part> {
        cut_by_pods(self.total_parts())
    }

    /// Buckets of the window's observations: the quantiles are taken here, once.
    pub(in crate::prometheus) fn histogram_parts(&self) -> Vec<Part> {
        let w = self.w();
        let (namespace, pod) = self.words.pod_labels();
        let kinds: [(LoadFigure, &str); 5] = [
            (LoadFigure::TimeToFirstToken, "ttft"),
            (LoadFigure::InterTokenLatency, "itl"),
            (LoadFigure::RequestLatency, "e2e"),
            (LoadFigure::PromptLength, "plen"),
            (LoadFigure::OutputLength, "olen"),
        ];
        let mut out = Vec::new();
        for (of, id) in kinds {
            for (suffix, le) in [("_bucket", ",le"), ("_sum", "")] {
                if suffix == "_sum" && id != "e2e" {
                    continue;
                }
                let parts: Vec<String> = self
                    .words
                    .groups_with(of, suffix)
                    .iter()
                    .map(|s| {
                        let inner = format!("max without({})(increase({}{w}))", self.words.copies(), self.sharded(s));
                        let stem = format!("label_replace({inner},\"w\",\"$1\",\"{pod}\",\"{STEM_PATTERN}\")");
                        format!("sum by({namespace},w{le})({stem})")
                    })
                    .collect();
                if !parts.is_empty() {
                    out.push(tag(&format!("({})", parts.join(" or ")), &format!("h.{id}{suffix}")));
                }
            }
        }
        cut_by_pods(out)
    }

    /// What several figures tell together, bin by bin.
    pub(in crate::prometheus) fn joint_parts(&self) -> Vec<Part> {
        let mut out = Vec::new();
        let wb = self.wb();
        let Some(running) = self.gauge(Gauge::Running) else {
            return Vec::new();
        };
        let replicas = by_stem("count", &running);
        for (stat, text) in [
            ("low", format!("quantile_over_time(0.05,({replicas}){wb})")),
            ("p50", format!("quantile_over_time(0.5,({replicas}){wb})")),
            ("max", format!("max_over_time(({replicas}){wb})")),
            ("n", format!("count_over_time(({replicas}){wb})")),
        ] {
            out.push(tag(&text, &format!("w.rep.{stat}")));
        }
        let served = format!("{running}>0");
        out.push(tag(
            &format!("sum_over_time(({}){wb})", by_stem("count", &served)),
            "w.traffic",
        ));
        let on = "on(namespace,pod)";
        if let Some(kv) = self.gauge(Gauge::Kv) {
            let queue: Vec<String> = [self.gauge(Gauge::Waiting), self.rate(Counter::Preemptions)]
                .into_iter()
                .flatten()
                .map(|e| format!("({e}>0)"))
                .collect();
            if !queue.is_empty() {
                let full = self.scope.limits.kv_full;
                let bad = format!("({kv}>={full})and {on}({served})and {on}({})", queue.join("or"));
                out.push(tag(
                    &format!("sum_over_time(({}){wb})", by_stem("count", &bad)),
                    "w.kvbad",
                ));
            }
        }
        if let (Some(output), Some(waiting)) = (self.rate(Counter::Output), self.gauge(Gauge::Waiting)) {
            let calm = self
                .gauge(Gauge::Kv)
                .map(|kv| format!("unless {on}({kv}>{})", self.scope.limits.kv_calm))
                .unwrap_or_default();
            let best = format!("max_over_time((({output}unless {on}({waiting}>0)){calm}){wb})");
            out.push(tag(&by_stem("max", &best), "w.cap"));
        }
        cut_by_pods(out)
    }

    /// Work of each hour: the profile of a week, 168 values a workload.
    pub(in crate::prometheus) fn hourly(&self) -> Option<String> {
        let counter = [Counter::Requests, Counter::Output, Counter::Prompt]
            .into_iter()
            .find(|c| !self.counter(*c).is_empty())?;
        // Fifteen minutes more, so that the first sample of a new pod has one before it.
        let pods = self.pods(&self.counter(counter), "increase", "[1h]", "sum")?;
        Some(by_stem("sum", &pods))
    }
}
