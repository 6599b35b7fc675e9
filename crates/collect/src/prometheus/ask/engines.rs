//! Questions about serving engines: gauges, counters, histograms, and what several of them tell together.

use super::{Asker, Cut, Part, Tagged, by_stem, parts, workload_stats};
use crate::engine::metrics::figures::LoadFigure;
use crate::prometheus::tag::{Done, Load, Observed, Series, Stat, Tag, Value};
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
        for (gauge, id) in [
            (Gauge::Running, Load::Running),
            (Gauge::Waiting, Load::Waiting),
            (Gauge::Kv, Load::Kv),
        ] {
            let Some(pods) = self.gauge(gauge) else { continue };
            out.push((Tag::Pod(id, Stat::Max), format!("max_over_time(({pods}){wb})")));
            let with = if matches!(gauge, Gauge::Kv) { "max" } else { "sum" };
            let stems = by_stem(with, &pods);
            out.extend(workload_stats(&stems, &wb, id));
            if matches!(gauge, Gauge::Kv) {
                let sum = by_stem("sum", &pods);
                let of = |stat| Tag::Workload(Load::KvSum, stat);
                out.push((of(Stat::Max), format!("max_over_time(({sum}){wb})")));
                out.push((of(Stat::P95), format!("quantile_over_time(0.95,({sum}){wb})")));
            }
        }
        let counters = [
            (Counter::Requests, Load::Requests),
            (Counter::Prompt, Load::Prompt),
            (Counter::Output, Load::Output),
            (Counter::Preemptions, Load::Preemptions),
        ];
        let mut first = true;
        for (counter, id) in counters {
            let Some(pods) = self.rate(counter) else { continue };
            let stems = by_stem("sum", &pods);
            out.extend(workload_stats(&stems, &wb, id));
            for (function, stat) in [
                ("max_over_time", Stat::Max),
                ("avg_over_time", Stat::Mean),
                ("count_over_time", Stat::Bins),
            ] {
                out.push((Tag::Pod(id, stat), format!("{function}(({pods}){wb})")));
            }
            if std::mem::take(&mut first) {
                out.push((Tag::PodFirst, format!("min_over_time(timestamp({pods}){wb})")));
                out.push((
                    Tag::WorkloadValue(Value::First),
                    format!("min_over_time(timestamp({stems}){wb})"),
                ));
            }
        }
        out.extend(self.totals());
        if first && let Some(pods) = self.gauge(Gauge::Running) {
            out.push((Tag::PodFirst, format!("min_over_time(timestamp({pods}){wb})")));
            let stems = by_stem("sum", &pods);
            out.push((
                Tag::WorkloadValue(Value::First),
                format!("min_over_time(timestamp({stems}){wb})"),
            ));
        }
        parts(Cut::Pods, out)
    }

    fn totals(&self) -> Vec<Tagged> {
        [
            (Counter::Requests, Done::Requests),
            (Counter::Prompt, Done::Prompt),
            (Counter::Output, Done::Output),
            (Counter::Preemptions, Done::Preemptions),
        ]
        .into_iter()
        .filter_map(|(counter, done)| Some((Tag::WorkloadTotal(done), by_stem("sum", &self.total(counter)?))))
        .collect()
    }

    /// Work of the window before.
    pub(in crate::prometheus) fn work_parts(&self) -> Vec<Part> {
        parts(Cut::Pods, self.totals())
    }

    /// Buckets of the window's observations: the quantiles are taken here, once.
    pub(in crate::prometheus) fn histogram_parts(&self) -> Vec<Part> {
        let w = self.w();
        let (namespace, pod) = self.words.pod_labels();
        let kinds: [(LoadFigure, Observed); 5] = [
            (LoadFigure::TimeToFirstToken, Observed::FirstToken),
            (LoadFigure::InterTokenLatency, Observed::InterToken),
            (LoadFigure::RequestLatency, Observed::Request),
            (LoadFigure::PromptLength, Observed::PromptLength),
            (LoadFigure::OutputLength, Observed::OutputLength),
        ];
        let mut out = Vec::new();
        for (of, id) in kinds {
            let is_time = matches!(id, Observed::FirstToken | Observed::InterToken);
            let bucketed = !self.words.groups_with(of, Series::Bucket.text()).is_empty();
            for (series, le) in [(Series::Bucket, ",le"), (Series::Sum, ""), (Series::Count, "")] {
                let asked = match series {
                    Series::Bucket => true,
                    Series::Sum => id == Observed::Request || id == Observed::InterToken || is_time && !bucketed,
                    // Some stores keep no buckets: the mean is left.
                    Series::Count => is_time && !bucketed,
                };
                if !asked {
                    continue;
                }
                let parts: Vec<String> = self
                    .words
                    .groups_with(of, series.text())
                    .iter()
                    .map(|s| {
                        let inner = format!("max without({})(increase({}{w}))", self.words.copies(), self.sharded(s));
                        let stem = format!("label_replace({inner},\"w\",\"$1\",\"{pod}\",\"{STEM_PATTERN}\")");
                        format!("sum by({namespace},w{le})({stem})")
                    })
                    .collect();
                if !parts.is_empty() {
                    out.push((Tag::Histogram(id, series), format!("({})", parts.join(" or "))));
                }
            }
        }
        parts(Cut::Pods, out)
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
            (Stat::P50, format!("quantile_over_time(0.5,({replicas}){wb})")),
            (Stat::Max, format!("max_over_time(({replicas}){wb})")),
            (Stat::Bins, format!("count_over_time(({replicas}){wb})")),
        ] {
            out.push((Tag::Workload(Load::Replicas, stat), text));
        }
        out.push((Tag::WorkloadLeast, format!("quantile_over_time(0.05,({replicas}){wb})")));
        let served = format!("{running}>0");
        out.push((
            Tag::WorkloadValue(Value::Traffic),
            format!("sum_over_time(({}){wb})", by_stem("count", &served)),
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
                out.push((
                    Tag::WorkloadValue(Value::KvBad),
                    format!("sum_over_time(({}){wb})", by_stem("count", &bad)),
                ));
            }
        }
        if let (Some(output), Some(waiting)) = (self.rate(Counter::Output), self.gauge(Gauge::Waiting)) {
            let calm = self
                .gauge(Gauge::Kv)
                .map(|kv| format!("unless {on}({kv}>{})", self.scope.limits.kv_calm))
                .unwrap_or_default();
            let best = format!("max_over_time((({output}unless {on}({waiting}>0)){calm}){wb})");
            out.push((Tag::WorkloadValue(Value::Capacity), by_stem("max", &best)));
        }
        parts(Cut::Pods, out)
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
