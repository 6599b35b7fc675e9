//! The queries of a scan, in PromQL: aggregated on the server, their number independent of pods, nodes and GPUs.
//!
//! Every result row carries its figure and statistic in the label `s` ("run.p95"), so that many of them share a query.

use super::words::{DEVICE_FIGURES, NamesOf, Owner, Words};
use crate::snapshot::history::STEM_PATTERN;

/// A query is kept under this, so that a GET through proxies passes (they refuse URLs over about 8 kB).
pub(super) const MAX_QUERY: usize = 3900;

/// The joint thresholds of checks.md: a bin is bad at this KV use; a replica's capacity is read at or under that one.
const KV_FULL: f64 = 0.95;
const KV_CALM: f64 = 0.8;
/// kubernetes-mixin's CPUThrottlingHigh, SageMaker Debugger's CPU bottleneck, and a GPU that waits.
const THROTTLED: f64 = 0.25;
const SATURATED: f64 = 0.9;
const STARVED: f64 = 0.35;

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

/// Parts into as few queries as fit.
pub(super) fn pack(parts: Vec<Part>) -> Vec<(Cut, String)> {
    let mut queries: Vec<(Cut, String)> = Vec::new();
    for part in parts {
        match queries
            .iter_mut()
            .find(|(cut, q)| *cut == part.cut && q.len() + part.text.len() + 4 <= MAX_QUERY)
        {
            Some((_, query)) => {
                query.push_str(" or ");
                query.push_str(&part.text);
            }
            None => queries.push((part.cut, part.text)),
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

    // --- devices -----------------------------------------------------------------------------------------------------

    /// One figure of both generations: `function(name[range])`, scaled, one after the other.
    fn device_union(&self, id: &str, function: &str, range: &str) -> Option<String> {
        self.union_of(id, function, range, "")
    }

    fn union_of(&self, id: &str, function: &str, range: &str, matcher: &str) -> Option<String> {
        let figure = DEVICE_FIGURES.iter().find(|f| f.id == id)?;
        let parts: Vec<String> = figure
            .names
            .iter()
            .filter(|(n, _)| self.words.has(n))
            .map(|(name, scale)| {
                let selector = self.words.selector(name, &format!("{}{matcher}", self.scope.devices));
                format!("{function}({selector}{range}){scale}")
            })
            .collect();
        (!parts.is_empty()).then(|| parts.join(" or "))
    }

    /// The labels that name a device's holder, and the union with the holder's name under them.
    fn owned(&self, union: &str) -> (String, &'static str) {
        match self.words.owner {
            Owner::Nobody => (union.to_string(), ""),
            Owner::Plain => (union.to_string(), ",namespace,pod"),
            Owner::Exported => (union.to_string(), ",exported_namespace,exported_pod"),
            Owner::Both => (coalesced(union), ",namespace,pod"),
        }
    }

    fn device(&self, union: &str, more: &str) -> String {
        let (union, owner) = self.owned(union);
        format!("max by({},GPU_I_ID{owner}{more})({union})", self.words.uuid())
    }

    /// Devices under `namespace`, `pod`, whatever the scrape made of these labels.
    fn device_by_pod(&self, union: &str, more: &str) -> String {
        let uuid = self.words.uuid();
        let union = match self.words.owner {
            Owner::Plain | Owner::Nobody => union.to_string(),
            Owner::Exported | Owner::Both => coalesced(union),
        };
        format!("max by({uuid},GPU_I_ID,namespace,pod{more})({union})")
    }

    /// max(SM, tensor, DRAM) of each bin: kept apart by a label until the maximum is taken.
    fn busy_union(&self) -> Option<String> {
        let parts: Vec<String> = ["sm", "tensor", "dram"]
            .iter()
            .filter_map(|id| {
                let union = self.device_union(id, "avg_over_time", &format!("[{}s]", self.scope.bin))?;
                Some(format!("label_replace({union},\"f\",\"{id}\",\"\",\"\")"))
            })
            .collect();
        (!parts.is_empty()).then(|| parts.join(" or "))
    }

    pub(super) fn device_parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut add = |text: String| {
            parts.push(Part {
                cut: Cut::Devices,
                text,
            });
        };
        let bin = format!("[{}s]", self.scope.bin);
        let (w, wb) = (self.w(), self.wb());
        for figure in DEVICE_FIGURES {
            let Some(union) = self.device_union(figure.id, "avg_over_time", &bin) else {
                continue;
            };
            let each = self.device(&union, "");
            for stat in distribution(&each, &wb, figure.id) {
                add(stat);
            }
            // Peaks are of raw samples: a bin's mean hides them.
            if let Some(raw) = self.device_union(figure.id, "max_over_time", &w) {
                add(tag(&self.device(&raw, ""), &format!("{}.max", figure.id)));
            }
        }
        if let Some(busy) = self.busy_union() {
            let each = self.device(&busy, "");
            for stat in distribution(&each, &wb, "busy") {
                add(stat);
            }
            add(tag(&format!("max_over_time(({each}){wb})"), "busy.max"));
        }
        if let Some(alive) = self.presence() {
            let more: String = ["GPU_I_PROFILE", "Hostname", "hostname", "node"]
                .iter()
                .filter(|l| self.words.gpu_labels.contains(**l))
                .map(|l| format!(",{l}"))
                .collect();
            let each = self.device(&alive, &more);
            add(tag(&format!("min_over_time(timestamp({each}){wb})"), "dev.first"));
            add(tag(&format!("max_over_time(timestamp({each}){wb})"), "dev.last"));
            add(tag(
                &format!("count_over_time(({each})[1d:{}s])", self.scope.bin),
                "dev.day",
            ));
        }
        parts
    }

    /// Any figure that every device has: it is there when the device is.
    fn presence(&self) -> Option<String> {
        self.presence_of("")
    }

    fn presence_of(&self, matcher: &str) -> Option<String> {
        ["power", "gr", "util", "fb"]
            .iter()
            .find_map(|id| self.union_of(id, "last_over_time", &format!("[{}s]", self.scope.bin), matcher))
    }

    /// Devices × bins under each workload, shared devices in equal parts; instances without their parents.
    pub(super) fn usage_parts(&self) -> Vec<Part> {
        let Some(alive) = self.presence() else {
            return Vec::new();
        };
        let uuid = self.words.uuid();
        let more: String = ["GPU_I_PROFILE", "modelName", "model_name"]
            .iter()
            .filter(|l| self.words.gpu_labels.contains(**l))
            .map(|l| format!(",{l}"))
            .collect();
        let all = if self.words.gpu_labels.contains("GPU_I_ID") {
            // A card cut into instances may have rows of its own too: never add parent and children.
            let of = |matcher: &str| self.presence_of(matcher).map(|u| self.device_by_pod(&u, &more));
            let (Some(children), Some(parents)) = (of("GPU_I_ID!=\"\","), of("GPU_I_ID=\"\",")) else {
                return Vec::new();
            };
            format!("({children} or ({parents} unless on({uuid}){children}))")
        } else {
            self.device_by_pod(&alive, &more)
        };
        let wb = self.wb();
        let keys = format!("namespace,w{more}");
        let shares = format!("({all})*0+1");
        let split = format!("({shares})/on({uuid},GPU_I_ID)group_left()count by({uuid},GPU_I_ID)({all})");
        let held = format!("sum by({keys})({})", stemmed(&split));
        let mut parts = vec![
            tag(&format!("sum_over_time(({held}){wb})"), "use.gpus"),
            tag(&format!("count_over_time((count({alive})){wb})"), "use.bins"),
        ];
        let bin = format!("[{}s]", self.scope.bin);
        if let Some(active) = ["gr", "util"]
            .iter()
            .find_map(|id| self.device_union(id, "avg_over_time", &bin))
        {
            let busy = format!("sum by({keys})({})", stemmed(&self.device_by_pod(&active, &more)));
            parts.push(tag(&format!("sum_over_time(({busy}){wb})"), "use.busy"));
        }
        parts
            .into_iter()
            .map(|text| Part {
                cut: Cut::Nothing,
                text,
            })
            .collect()
    }

    // --- engines -----------------------------------------------------------------------------------------------------

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

    fn gauge(&self, of: Gauge) -> Option<String> {
        let bin = format!("[{}s]", self.scope.bin);
        let (mut groups, with) = match of {
            Gauge::Running => (self.words.groups(|t| t.running), "sum"),
            Gauge::Waiting => (self.words.groups(|t| t.waiting), "sum"),
            Gauge::Kv => (self.words.groups(|t| t.kv_usage), "max"),
        };
        // TensorRT-LLM's backend in Triton tells by a label's value.
        let labelled = |name: &str, label: &str, value: &str| {
            self.words
                .has(name)
                .then(|| format!("{name}{{{label}=\"{value}\",{}}}", self.words.scope))
        };
        groups.extend(match of {
            Gauge::Running => labelled("nv_trt_llm_request_metrics", "request_type", "active"),
            Gauge::Waiting => labelled("nv_trt_llm_request_metrics", "request_type", "waiting"),
            Gauge::Kv => labelled("nv_trt_llm_kv_cache_block_metrics", "kv_cache_block_type", "fraction"),
        });
        self.pods(&groups, "max_over_time", &bin, with)
    }

    fn rate(&self, counter: Counter) -> Option<String> {
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
            Counter::Requests => self.words.groups(|t| t.requests),
            Counter::Prompt => self.words.groups(|t| t.prompt_tokens),
            Counter::Output => self.words.groups(|t| t.output_tokens),
            Counter::Preemptions => self.words.groups(|t| t.preemptions),
        }
    }

    pub(super) fn load_parts(&self) -> Vec<Part> {
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
    pub(super) fn work_parts(&self) -> Vec<Part> {
        cut_by_pods(self.total_parts())
    }

    /// Buckets of the window's observations: the quantiles are taken here, once.
    pub(super) fn histogram_parts(&self) -> Vec<Part> {
        let w = self.w();
        let (namespace, pod) = self.words.pod_labels();
        let kinds: [(NamesOf, &str); 5] = [
            (|t| t.ttft, "ttft"),
            (|t| t.itl, "itl"),
            (|t| t.e2e, "e2e"),
            (|t| t.prompt_length, "plen"),
            (|t| t.output_length, "olen"),
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
    pub(super) fn joint_parts(&self) -> Vec<Part> {
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
                let bad = format!("({kv}>={KV_FULL})and {on}({served})and {on}({})", queue.join("or"));
                out.push(tag(
                    &format!("sum_over_time(({}){wb})", by_stem("count", &bad)),
                    "w.kvbad",
                ));
            }
        }
        if let (Some(output), Some(waiting)) = (self.rate(Counter::Output), self.gauge(Gauge::Waiting)) {
            let calm = self
                .gauge(Gauge::Kv)
                .map(|kv| format!("unless {on}({kv}>{KV_CALM})"))
                .unwrap_or_default();
            let best = format!("max_over_time((({output}unless {on}({waiting}>0)){calm}){wb})");
            out.push(tag(&by_stem("max", &best), "w.cap"));
        }
        cut_by_pods(out)
    }

    // --- CPU ---------------------------------------------------------------------------------------------------------

    fn containers(&self) -> String {
        let list = |label: &str, values: &[String]| {
            (!values.is_empty()).then(|| format!("{label}=~\"{}\",", values.join("|")))
        };
        let containers =
            list("container", &self.words.containers).unwrap_or_else(|| "container!=\"\",container!=\"POD\",".into());
        format!(
            "{containers}{}",
            list("namespace", &self.words.namespaces).unwrap_or_default()
        )
    }

    fn throttled(&self) -> Option<String> {
        let (throttled, periods) = (
            "container_cpu_cfs_throttled_periods_total",
            "container_cpu_cfs_periods_total",
        );
        if !self.words.has(throttled) || !self.words.has(periods) {
            return None;
        }
        let more = self.containers();
        let each = |name: &str| {
            format!(
                "max by(namespace,pod,container)(increase({}[{}s]))",
                self.words.selector(name, &more),
                self.scope.rate
            )
        };
        Some(format!(
            "max by(namespace,pod)({}/({}>0))",
            each(throttled),
            each(periods)
        ))
    }

    fn cpu_share(&self) -> Option<String> {
        if !self.words.has("container_cpu_usage_seconds_total") {
            return None;
        }
        let more = self.containers();
        let used = format!(
            "max by(namespace,pod,container)(rate({}[{}s]))",
            self.words.selector("container_cpu_usage_seconds_total", &more),
            self.scope.rate
        );
        let limit = if self.words.has("kube_pod_container_resource_limits") {
            format!(
                "max by(namespace,pod,container)({})",
                self.words.selector(
                    "kube_pod_container_resource_limits",
                    &format!("resource=\"cpu\",{more}")
                )
            )
        } else if self.words.has("container_spec_cpu_quota") && self.words.has("container_spec_cpu_period") {
            format!(
                "(max by(namespace,pod,container)({}>0)/max by(namespace,pod,container)({}))",
                self.words.selector("container_spec_cpu_quota", &more),
                self.words.selector("container_spec_cpu_period", &more)
            )
        } else {
            return None;
        };
        Some(format!("max by(namespace,pod)({used}/{limit})"))
    }

    pub(super) fn cpu_parts(&self) -> Vec<Part> {
        let mut out = Vec::new();
        let wb = self.wb();
        let (share, throttled) = (self.cpu_share(), self.throttled());
        for (expression, id) in [(&share, "cpu"), (&throttled, "thr")] {
            if let Some(pods) = expression {
                out.extend(workload_stats(&by_stem("max", pods), &wb, id));
            }
        }
        let bin = format!("[{}s]", self.scope.bin);
        let busy = self
            .busy_union()
            .map(|u| format!("avg by(namespace,pod)({})", self.device_by_pod(&u, "")));
        if let Some(busy) = &busy {
            out.extend(workload_stats(&by_stem("avg", busy), &wb, "busy"));
        }
        if let Some(active) = ["gr", "util"]
            .iter()
            .find_map(|id| self.device_union(id, "max_over_time", &bin))
        {
            let stems = by_stem("max", &self.device_by_pod(&active, ""));
            out.push(tag(&format!("max_over_time(({stems}){wb})"), "w.eng.max"));
            out.push(tag(&format!("count_over_time(({stems}){wb})"), "w.eng.n"));
            out.push(tag(&format!("min_over_time(timestamp({stems}){wb})"), "w.engfirst"));
        }
        let short: Vec<String> = [
            throttled.map(|t| format!("({t}>={THROTTLED})")),
            share.map(|u| format!("({u}>={SATURATED})")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if let (Some(busy), Some(running), Some(waiting), false) = (
            busy,
            self.gauge(Gauge::Running),
            self.gauge(Gauge::Waiting),
            short.is_empty(),
        ) {
            let on = "on(namespace,pod)";
            let short = short.join("or");
            // A queue proves that the GPU is not idle for lack of requests.
            let starved = format!("({busy}<{STARVED})and {on}({waiting}>0)and {on}({short})");
            out.push(tag(
                &format!("sum_over_time(({}){wb})", by_stem("count", &starved)),
                "w.starved",
            ));
            out.push(tag(
                &format!("avg_over_time(({}){wb})", by_stem("avg", &starved)),
                "w.starvedbusy",
            ));
            let fed = format!("({busy}and {on}({running}>0))unless {on}({short})");
            out.push(tag(
                &format!("sum_over_time(({}){wb})", by_stem("count", &fed)),
                "w.fed",
            ));
            out.push(tag(
                &format!("quantile_over_time(0.5,({}){wb})", by_stem("avg", &fed)),
                "w.fedbusy",
            ));
        }
        out.into_iter()
            .map(|text| Part {
                cut: Cut::Nothing,
                text,
            })
            .collect()
    }

    /// Restarts and OOM kills of GPU containers; devices handed out by node.
    pub(super) fn state_parts(&self) -> Vec<Part> {
        let mut out = Vec::new();
        let more = self.containers();
        let by_pod = |inner: String| by_stem("sum", &format!("max by(namespace,pod,container)({inner})"));
        if self.words.has("kube_pod_container_status_restarts_total") {
            let restarts = self.words.selector("kube_pod_container_status_restarts_total", &more);
            out.push(tag(&by_pod(format!("increase({restarts}{})", self.w())), "w.restarts"));
        }
        if self.words.has("kube_pod_container_status_last_terminated_reason") {
            let reason = self.words.selector(
                "kube_pod_container_status_last_terminated_reason",
                &format!("reason=\"OOMKilled\",{more}"),
            );
            out.push(tag(&by_pod(format!("max_over_time({reason}{})", self.w())), "w.oom"));
        }
        if self.words.has("kube_pod_container_resource_requests") && self.words.has("kube_pod_status_phase") {
            let requests = self.words.selector(
                "kube_pod_container_resource_requests",
                "resource=~\"(nvidia|amd)_com_.+\",",
            );
            let running = self
                .words
                .selector("kube_pod_status_phase", "phase=~\"Pending|Running\",");
            let held = format!(
                "sum by(node)(max by(namespace,pod,container,resource,node)({requests})and on(namespace,pod)(max by(namespace,pod)({running})==1))"
            );
            let day = format!("[1d:{}s]", self.scope.bin);
            out.push(tag(&format!("quantile_over_time(0.8,({held}){day})"), "n.p80"));
            out.push(tag(&format!("count_over_time(({held}){day})"), "n.n"));
        }
        out.into_iter()
            .map(|text| Part {
                cut: Cut::Nothing,
                text,
            })
            .collect()
    }

    /// Work of each hour: the profile of a week, 168 values a workload.
    pub(super) fn hourly(&self) -> Option<String> {
        let counter = [Counter::Requests, Counter::Output, Counter::Prompt]
            .into_iter()
            .find(|c| !self.counter(*c).is_empty())?;
        // Fifteen minutes more, so that the first sample of a new pod has one before it.
        let pods = self.pods(&self.counter(counter), "increase", "[1h]", "sum")?;
        Some(by_stem("sum", &pods))
    }

    /// How many series there are and how often they are scraped: decides the length of bins and of rates.
    pub(super) fn size(&self) -> String {
        let mut parts = Vec::new();
        if let Some(alive) = self.presence() {
            parts.push(tag(&format!("count({alive})"), "size.devices"));
        }
        let engine = self
            .words
            .groups(|t| t.running)
            .into_iter()
            .chain(self.words.groups(|t| t.requests))
            .next();
        if let Some(engine) = &engine {
            parts.push(tag(&format!("count({engine})"), "size.engines"));
        }
        for (selector, id) in [(self.any_device(), "size.gpuscrapes"), (engine, "size.enginescrapes")] {
            if let Some(selector) = selector {
                parts.push(tag(&format!("max(count_over_time({selector}[1h]))"), id));
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
            .map(|(n, _)| *n)
            .find(|n| self.words.has(n))
    }

    fn any_device(&self) -> Option<String> {
        let names: Vec<&str> = DEVICE_FIGURES
            .iter()
            .find(|f| f.names.iter().any(|(n, _)| self.words.has(n)))?
            .names
            .iter()
            .map(|(n, _)| *n)
            .collect();
        Some(format!("{{__name__=~\"{}\",{}}}", names.join("|"), self.words.scope))
    }
}

#[derive(Clone, Copy)]
enum Gauge {
    Running,
    Waiting,
    Kv,
}

#[derive(Clone, Copy)]
enum Counter {
    Requests,
    Prompt,
    Output,
    Preemptions,
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
