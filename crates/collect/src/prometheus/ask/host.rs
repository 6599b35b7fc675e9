//! Questions about what is around the GPU: CPU, throttling, restarts, devices handed out.

use super::engines::Gauge;
use super::{Asker, Cut, MAX_QUERY, Part, Tagged, by_stem, parts, workload_stats};
use crate::prometheus::tag::{Handed, Load, Stat, Tag, Value};
use crate::prometheus::words::CpuLimit;

impl Asker<'_> {
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

    /// CPU used ÷ the container's limit; of one without a limit, how full its whole node is: then nothing but the node holds it.
    fn cpu_share(&self) -> Option<String> {
        match (self.of_limit(), self.of_node()) {
            (Some(limit), Some(node)) => Some(format!("({limit}or({node}))")),
            (limit, node) => limit.or(node),
        }
    }

    fn of_node(&self) -> Option<String> {
        let (used, cores) = ("container_cpu_usage_seconds_total", "machine_cpu_cores");
        if !self.words.has(used) || !self.words.has(cores) {
            return None;
        }
        // cAdvisor's own row of the whole machine.
        let whole = format!(
            "max by(instance)(rate({}[{}s]))/max by(instance)({})",
            self.words.selector(used, "id=\"/\","),
            self.scope.rate,
            self.words.selector(cores, "")
        );
        let pods = self.words.selector(used, &self.containers());
        Some(format!(
            "max by(namespace,pod)(max by(namespace,pod,instance)({pods})*0+on(instance)group_left()({whole}))"
        ))
    }

    fn of_limit(&self) -> Option<String> {
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
            return self.of_stated_limit();
        };
        Some(format!("max by(namespace,pod)({used}/{limit})"))
    }

    /// No metric tells the limits: as the pods' specifications have them.
    fn of_stated_limit(&self) -> Option<String> {
        let of_one = |limit: &CpuLimit| {
            let more = format!("container=\"{}\",namespace=\"{}\",", limit.container, limit.namespace);
            let used = self.words.selector("container_cpu_usage_seconds_total", &more);
            format!(
                "max by(namespace,pod)(rate({used}[{}s]))/{}",
                self.scope.rate, limit.cores
            )
        };
        let all: Vec<String> = self.words.cpu_limits.iter().map(of_one).collect();
        (!all.is_empty()).then(|| format!("max by(namespace,pod)({})", all.join(" or ")))
    }

    pub(in crate::prometheus) fn cpu_parts(&self) -> Vec<Part> {
        let mut out = Vec::new();
        let wb = self.wb();
        let (share, throttled) = (self.cpu_share(), self.throttled());
        for (expression, id) in [(&share, Load::Cpu), (&throttled, Load::Throttled)] {
            if let Some(pods) = expression {
                out.extend(workload_stats(&by_stem("max", pods), &wb, id));
            }
        }
        let bin = format!("[{}s]", self.scope.bin);
        let busy = self
            .busy_union()
            .map(|u| format!("avg by(namespace,pod)({})", self.device_by_pod(&u, "")));
        if let Some(busy) = &busy {
            out.extend(workload_stats(&by_stem("avg", busy), &wb, Load::Busy));
        }
        if let Some(active) = self.active_union("max_over_time", &bin) {
            let stems = by_stem("max", &self.device_by_pod(&active, ""));
            let of = |stat| Tag::Workload(Load::Engine, stat);
            out.push((of(Stat::Max), format!("max_over_time(({stems}){wb})")));
            out.push((of(Stat::Bins), format!("count_over_time(({stems}){wb})")));
            out.push((
                Tag::WorkloadValue(Value::EngineFirst),
                format!("min_over_time(timestamp({stems}){wb})"),
            ));
        }
        out.extend(self.starved_parts(busy.as_deref(), throttled.as_deref(), share.as_deref()));
        parts(Cut::Nothing, out)
    }

    /// Bins in which CPU was short and the GPU not busy although there was work, and other bins with requests.
    fn starved_parts(&self, busy: Option<&str>, throttled: Option<&str>, share: Option<&str>) -> Vec<Tagged> {
        let (limits, wb, on) = (self.scope.limits, self.wb(), "on(namespace,pod)");
        let short: Vec<String> = [
            throttled.map(|t| format!("({t}>={})", limits.throttled)),
            share.map(|u| format!("({u}>={})", limits.saturated)),
        ]
        .into_iter()
        .flatten()
        .collect();
        let (Some(busy), Some(running), false) = (busy, self.gauge(Gauge::Running), short.is_empty()) else {
            return Vec::new();
        };
        let short = short.join("or");
        // A queue, or as many running as in its busy times: the GPU is not idle for lack of requests.
        let queued = self.gauge(Gauge::Waiting).map(|w| format!("({w}>0)"));
        let loaded = self.words.pins.then(|| {
            let usual = format!("quantile_over_time(0.95,({running}){wb} @ end())");
            format!("(({running}>0)>={on}({}*{usual}))", limits.loaded)
        });
        let starved = |work: &str| format!("({busy}<{})and {on}({work})and {on}({short})", limits.starved);
        let both = [queued.clone(), loaded.clone()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>();
        // Where so many engines share a store that both do not fit, the queue alone.
        let fits = |text: &String| text.len() + 300 <= MAX_QUERY;
        let Some(starved) = Some(starved(&both.join(&format!("or {on}"))))
            .filter(|t| !both.is_empty() && fits(t))
            .or_else(|| Some(starved(&queued?)).filter(fits))
        else {
            return Vec::new();
        };
        let fed = format!("({busy}and {on}({running}>0))unless {on}({short})");
        let told = |value, text: String| (Tag::WorkloadValue(value), text);
        vec![
            told(
                Value::Starved,
                format!("sum_over_time(({}){wb})", by_stem("count", &starved)),
            ),
            told(
                Value::StarvedBusy,
                format!("avg_over_time(({}){wb})", by_stem("avg", &starved)),
            ),
            told(Value::Fed, format!("sum_over_time(({}){wb})", by_stem("count", &fed))),
            told(
                Value::FedBusy,
                format!("quantile_over_time(0.5,({}){wb})", by_stem("avg", &fed)),
            ),
        ]
    }

    /// Restarts that ended in an error, not for host memory, soon after a full cache or a queue.
    fn crash_part(&self) -> Option<Tagged> {
        let (restarts, reason, code) = (
            "kube_pod_container_status_restarts_total",
            "kube_pod_container_status_last_terminated_reason",
            "kube_pod_container_status_last_terminated_exitcode",
        );
        let (limits, more, on) = (self.scope.limits, self.containers(), "on(namespace,pod)");
        let by_container = |inner: String| format!("max by(namespace,pod,container)({inner})");
        // Of two looks a bin apart: every restart is counted in one bin.
        let count = self.words.has(restarts).then(|| {
            let now = by_container(self.words.selector(restarts, &more));
            let then = by_container(format!(
                "{} offset {}s",
                self.words.selector(restarts, &more),
                self.scope.bin
            ));
            format!("sum by(namespace,pod)({now}-{then})>0")
        })?;
        let failed = if self.words.has(reason) {
            let ended = format!("reason!~\"Completed|OOMKilled\",{more}");
            format!("{}==1", self.words.selector(reason, &ended))
        } else if self.words.has(code) {
            format!("{}>0", self.words.selector(code, &more))
        } else {
            return None;
        };
        let before = self.scope.bin + limits.crash_seconds;
        let pressed: Vec<String> = [
            self.gauge_over(Gauge::Kv, before)
                .map(|kv| format!("({kv}>={})", limits.kv_full)),
            self.gauge_over(Gauge::Waiting, before).map(|w| format!("({w}>0)")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if pressed.is_empty() {
            return None;
        }
        let crashed = format!(
            "({count})and {on}({})and {on}({failed})",
            pressed.join(&format!("or {on}"))
        );
        let counted = format!("sum_over_time(({}){})", by_stem("sum", &crashed), self.wb());
        Some((Tag::WorkloadValue(Value::Crashes), counted))
    }

    /// Restarts and OOM kills of GPU containers; devices handed out by node.
    pub(in crate::prometheus) fn state_parts(&self) -> Vec<Part> {
        let mut out = Vec::new();
        let more = self.containers();
        let by_pod = |inner: String| by_stem("sum", &format!("max by(namespace,pod,container)({inner})"));
        if self.words.has("kube_pod_container_status_restarts_total") {
            let restarts = self.words.selector("kube_pod_container_status_restarts_total", &more);
            let restarts = by_pod(format!("increase({restarts}{})", self.w()));
            out.push((Tag::WorkloadValue(Value::Restarts), restarts));
        }
        if self.words.has("kube_pod_container_status_last_terminated_reason") {
            let reason = self.words.selector(
                "kube_pod_container_status_last_terminated_reason",
                &format!("reason=\"OOMKilled\",{more}"),
            );
            let kills = by_pod(format!("max_over_time({reason}{})", self.w()));
            out.push((Tag::WorkloadValue(Value::OomKills), kills));
        }
        out.extend(self.crash_part().filter(|(tag, text)| tag.of(text).len() <= MAX_QUERY));
        if self.words.has("kube_pod_container_resource_requests") && self.words.has("kube_pod_status_phase") {
            let requests = self.words.selector(
                "kube_pod_container_resource_requests",
                "resource=~\"(nvidia_com|amd_com|habana_ai)_.+\",",
            );
            let running = self
                .words
                .selector("kube_pod_status_phase", "phase=~\"Pending|Running\",");
            let held = format!(
                "sum by(node)(max by(namespace,pod,container,resource,node)({requests})and on(namespace,pod)(max by(namespace,pod)({running})==1))"
            );
            let day = format!("[1d:{}s]", self.scope.bin);
            out.push((
                Tag::Handed(Handed::P80),
                format!("quantile_over_time(0.8,({held}){day})"),
            ));
            out.push((Tag::Handed(Handed::Bins), format!("count_over_time(({held}){day})")));
        }
        parts(Cut::Nothing, out)
    }
}
