//! Many small fleets whose truth this file knows by its own arithmetic: who acted, when the nodes left, who took the GPUs, what
//! came back.

use gpuwaste_decisions::entry::{Class, Entry, Event, Reason, Seen, Told};
use gpuwaste_decisions::settle::Settler;
use gpuwaste_decisions::standing::Book;
use gpuwaste_decisions::store::Append;
use gpuwaste_judge::report::document::{Report, ReportFinding};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) const STEP: i64 = 6;
pub(crate) const HOURS: i64 = 60 * 24;
pub(crate) const PRICE: f64 = 2.0;
pub(crate) const CHEAP: f64 = 1.0;
/// All prices rise by a tenth on this hour.
pub(crate) const JUMP: i64 = 30 * 24;
pub(crate) const H100: &str = "H100-SXM5-80GB";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Free nodes are removed.
    FreeGone,
    /// A new job takes them.
    FreeUsed,
    IdleGone,
    IdleStays,
    IdleUsed,
    Over,
    /// Deleted with its work.
    OverDeleted,
    OverReverted,
    OverHarmed,
    /// Moved to a cheaper card.
    Tier,
    /// Nobody does anything.
    Never,
    /// Its traffic comes back.
    Traffic,
}

pub(crate) const KINDS: [Kind; 12] = [
    Kind::FreeGone,
    Kind::FreeUsed,
    Kind::IdleGone,
    Kind::IdleStays,
    Kind::IdleUsed,
    Kind::Over,
    Kind::OverDeleted,
    Kind::OverReverted,
    Kind::OverHarmed,
    Kind::Tier,
    Kind::Never,
    Kind::Traffic,
];

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Hour of the action, and hours until the nodes leave or are taken.
    pub(crate) act: i64,
    pub(crate) delay: i64,
    pub(crate) half: bool,
    /// Hour at which other work comes with a node of its own.
    pub(crate) grows: Option<i64>,
    pub(crate) claimed: bool,
    /// Steps in which the cluster could not be read.
    pub(crate) unread: Option<i64>,
}

/// A small generator of numbers, the same on every machine.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, n: i64) -> i64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n as u64) as i64
    }
}

pub(crate) fn cases(count: usize) -> Vec<Case> {
    let mut dice = Dice(7);
    (0..count)
        .map(|i| {
            let act = 24 * 2 + dice.roll(24 * 40);
            Case {
                name: format!("c{i:03}"),
                kind: KINDS[i % KINDS.len()],
                act,
                delay: dice.roll(20),
                half: dice.roll(4) == 0,
                // Some in the middle of the waiting period, some at any time.
                grows: match dice.roll(3) {
                    0 => Some(act + dice.roll(30)),
                    1 => Some(24 + dice.roll(HOURS)),
                    _ => None,
                },
                claimed: dice.roll(10) < 7,
                unread: (dice.roll(3) == 0).then(|| dice.roll(HOURS / STEP)),
            }
        })
        .collect()
}

/// What is there at one hour: nodes with card and GPUs; workloads with card, replicas and GPUs of each; findings.
#[derive(Default)]
pub(crate) struct Now {
    nodes: Vec<(String, &'static str, f64)>,
    workloads: Vec<(&'static str, &'static str, u64, u64, f64)>,
    findings: Vec<Value>,
}

pub(crate) fn price(card: &str, hour: i64) -> f64 {
    let base = if card == H100 { PRICE } else { CHEAP };
    if hour >= JUMP { base * 1.1 } else { base }
}

impl Case {
    pub(crate) fn id(&self) -> String {
        format!("{}-main", self.name)
    }

    pub(crate) fn finding(
        &self,
        id: &str,
        check: &str,
        part: Option<&str>,
        subject: Option<&str>,
        gpus: &[String],
        placement: &Value,
        hour: i64,
    ) -> Value {
        let each = price(H100, hour);
        let usd = match placement["usd_per_hour"].as_f64() {
            // Replicas that go, or all that is held less what comes for it.
            Some(new) if check == "oversized-tier" => gpus.len() as f64 * each - new,
            _ => gpus.len() as f64 * each,
        };
        let share = if gpus.is_empty() { 0.0 } else { usd / gpus.len() as f64 };
        let claims: Vec<Value> = gpus
            .iter()
            .map(|g| {
                let (node, gpu) = g.split_once('/').unwrap();
                json!({"node": node, "gpu": gpu, "usd_per_hour": share, "vacates": true})
            })
            .collect();
        json!({
            "id": id, "check": check, "part": part, "title": format!("{check} of {}", self.name), "kind": "recoverable", "grade": "reusable",
            "subject": {"cluster": self.name, "kind": subject.map(|_| "Deployment"), "namespace": subject.map(|_| "ml"), "name": subject, "pool": "h100", "gpu": H100, "model": null, "engine": null},
            "usd_per_hour": usd, "waste_usd_per_hour": usd, "at_risk_usd_per_hour": null, "confidence": "measured", "confidence_reasons": [],
            "evidence": [], "claims": claims, "fix": {"summary": "do it", "placement": placement, "patch": null}, "status": "new"
        })
    }

    /// GPUs that nobody holds.
    pub(crate) fn unallocated(&self, free: &[String], hour: i64) -> Value {
        self.finding(
            &self.id(),
            "dark-capacity",
            Some("unallocated"),
            None,
            free,
            &Value::Null,
            hour,
        )
    }

    /// The world at an hour.
    pub(crate) fn at(&self, hour: i64) -> Now {
        let mut now = Now::default();
        let gpus = |node: &str| (0..8).map(|g| format!("{node}/GPU-{node}-{g}")).collect::<Vec<_>>();
        let node = |now: &mut Now, name: &str, card: &'static str| now.nodes.push((name.into(), card, 8.0));
        node(&mut now, "base-0", H100);
        now.workloads.push(("others", H100, 8, 1, 1000.0));
        if self.grows.is_some_and(|g| hour >= g) {
            node(&mut now, "grown-0", H100);
            now.workloads.push(("launch", H100, 8, 1, 500.0));
        }
        let (acted, later) = (hour >= self.act, hour >= self.act + self.delay);
        let none = Value::Null;
        let mut free: Vec<String> = Vec::new();
        match self.kind {
            Kind::FreeGone => {
                let kept = if !acted {
                    3
                } else if self.half {
                    2
                } else {
                    0
                };
                for i in 0..kept {
                    node(&mut now, &format!("free-{i}"), H100);
                    free.extend(gpus(&format!("free-{i}")));
                }
                if !free.is_empty() {
                    now.findings.push(self.unallocated(&free, hour));
                }
                return now;
            }
            Kind::FreeUsed => {
                for i in 0..2 {
                    node(&mut now, &format!("free-{i}"), H100);
                    free.extend(gpus(&format!("free-{i}")));
                }
                if acted {
                    now.workloads.push(("newjob", H100, 16, 1, 300.0));
                } else {
                    now.findings.push(self.unallocated(&free, hour));
                }
                return now;
            }
            Kind::IdleGone | Kind::IdleStays | Kind::IdleUsed | Kind::Never | Kind::Traffic => {
                let stays = !(self.kind == Kind::IdleGone && later);
                let held = if acted && !matches!(self.kind, Kind::Never | Kind::Traffic) {
                    u64::from(self.half)
                } else {
                    2
                };
                for i in 0..2u64 {
                    let name = format!("app-{i}");
                    if i < held || stays {
                        node(&mut now, &name, H100);
                    }
                    if i >= held && stays && !(self.kind == Kind::IdleUsed && later) {
                        free.extend(gpus(&name));
                    }
                }
                let work = if self.kind == Kind::Traffic && acted {
                    800.0
                } else {
                    0.0
                };
                now.workloads.push(("app", H100, held, 8, work));
                if self.kind == Kind::IdleUsed && later {
                    now.workloads.push(("newjob", H100, (2 - held) * 8, 1, 300.0));
                }
                if held > 0 && work == 0.0 {
                    let all: Vec<String> = (0..held).flat_map(|i| gpus(&format!("app-{i}"))).collect();
                    now.findings.push(self.finding(
                        &self.id(),
                        "dark-capacity",
                        Some("idle"),
                        Some("app"),
                        &all,
                        &none,
                        hour,
                    ));
                }
            }
            Kind::Over | Kind::OverDeleted | Kind::OverReverted | Kind::OverHarmed => {
                let back = self.kind == Kind::OverReverted && hour >= self.act + 20;
                let gone = acted && self.kind == Kind::OverDeleted;
                let half = self.half && self.kind == Kind::Over;
                let replicas = match (acted && !back, half) {
                    _ if gone => 0,
                    (true, true) => 12,
                    (true, false) => 8,
                    (false, _) => 16,
                };
                // Which node empties is the scheduler's choice, not the claims': every other case the other one.
                let leaves = if self.delay % 2 == 0 { "app-1" } else { "app-0" };
                let left = later && acted && !back && !half && self.kind != Kind::OverReverted;
                for name in ["app-0", "app-1"] {
                    if !(left && (name == leaves || gone)) {
                        node(&mut now, name, H100);
                        if acted && !back && (name == leaves || gone) {
                            let idle = if half { 4 } else { 8 };
                            free.extend(gpus(name).into_iter().take(idle));
                        }
                    }
                }
                if !gone {
                    now.workloads.push(("app", H100, replicas, 1, 900.0));
                }
                if replicas > 8 {
                    let over: Vec<String> = gpus("app-1").into_iter().take(replicas as usize - 8).collect();
                    let placement =
                        json!({"gpu": H100, "gpus": 1, "tensor_parallel": 1, "replicas": 8, "usd_per_hour": 16.0});
                    now.findings.push(self.finding(
                        &self.id(),
                        "over-replicated",
                        None,
                        Some("app"),
                        &over,
                        &placement,
                        hour,
                    ));
                }
                if self.kind == Kind::OverHarmed && hour >= self.act + 13 {
                    let mut f = self.finding(
                        &format!("{}-kv", self.name),
                        "kv-pressure",
                        None,
                        Some("app"),
                        &[],
                        &none,
                        hour,
                    );
                    (f["kind"], f["waste_usd_per_hour"]) = (json!("at-risk"), Value::Null);
                    now.findings.push(f);
                }
            }
            Kind::Tier => {
                if !later {
                    node(&mut now, "app-0", H100);
                }
                if acted {
                    node(&mut now, "l40s-0", "L40S");
                    now.workloads.push(("app", "L40S", 8, 1, 900.0));
                    if !later {
                        free.extend(gpus("app-0"));
                    }
                } else {
                    now.workloads.push(("app", H100, 8, 1, 900.0));
                    let placement = json!({"gpu": "L40S", "gpus": 1, "tensor_parallel": 1, "replicas": 8, "usd_per_hour": 8.0 * price("L40S", hour)});
                    now.findings.push(self.finding(
                        &self.id(),
                        "oversized-tier",
                        None,
                        Some("app"),
                        &gpus("app-0"),
                        &placement,
                        hour,
                    ));
                }
            }
        }
        if !free.is_empty() {
            now.findings.push(self.finding(
                &format!("{}-free", self.name),
                "dark-capacity",
                Some("unallocated"),
                None,
                &free,
                &none,
                hour,
            ));
        }
        now
    }

    pub(crate) fn waiting(&self) -> i64 {
        match self.kind {
            Kind::Over | Kind::OverDeleted | Kind::OverReverted | Kind::OverHarmed => 48,
            Kind::Tier => 7 * 24,
            _ => 24,
        }
    }

    /// GPUs let go by the action, and what became of them at an hour; `None`: nobody acted.
    pub(crate) fn truth_at(&self, hour: i64) -> Option<(f64, Class)> {
        let later = hour >= self.act + self.delay;
        let half = |all: f64, part: f64| if self.half { part } else { all };
        Some(match self.kind {
            Kind::Never | Kind::Traffic => return None,
            Kind::FreeGone => (half(24.0, 8.0), Class::Saved),
            Kind::FreeUsed => (16.0, Class::Freed),
            Kind::IdleStays => (half(16.0, 8.0), Class::Moved),
            Kind::IdleGone => (half(16.0, 8.0), if later { Class::Saved } else { Class::Moved }),
            Kind::IdleUsed => (half(16.0, 8.0), if later { Class::Freed } else { Class::Moved }),
            Kind::Over if self.half => (4.0, Class::Moved),
            Kind::Over | Kind::OverHarmed => (8.0, if later { Class::Saved } else { Class::Moved }),
            Kind::OverDeleted => (8.0, Class::Vanished),
            Kind::OverReverted => (if hour >= self.act + 20 { 0.0 } else { 8.0 }, Class::Moved),
            Kind::Tier => (8.0, if later { Class::Saved } else { Class::Moved }),
        })
    }

    /// How it ends, from the first report after the action to the end of the waiting period: GPU-hours by class, dollars an hour.
    pub(crate) fn truth(&self) -> Option<(Told, BTreeMap<Class, f64>, f64)> {
        self.truth_at(self.act)?;
        let seen = |hour: i64| self.unread != Some(hour / STEP);
        let mut first = (self.act + STEP - 1) / STEP * STEP;
        while !seen(first) {
            first += STEP;
        }
        let mut hours: BTreeMap<Class, f64> = BTreeMap::new();
        let mut end = (Told::Verified, first);
        for hour in first..HOURS {
            if self.kind == Kind::OverReverted && hour % STEP == 0 && hour >= self.act + 20 && seen(hour) {
                end = (Told::Reverted, hour);
                break;
            }
            if self.kind == Kind::OverHarmed && hour % STEP == 0 && hour >= self.act + 13 && seen(hour) {
                end = (Told::Regressed, hour);
                break;
            }
            if hour % STEP == 0 && hour - first >= self.waiting() && seen(hour) {
                end = (Told::Verified, hour);
                break;
            }
            let (gpus, class) = self.truth_at(hour)?;
            if gpus > 0.0 {
                *hours.entry(class).or_default() += gpus;
            }
        }
        let (gpus, class) = self.truth_at(end.1)?;
        let then = price(H100, self.act - 1);
        let mut usd = if class == Class::Saved { gpus * then } else { 0.0 };
        if self.kind == Kind::Tier {
            usd -= 8.0 * price("L40S", self.act - 1);
        }
        Some((end.0, hours, if end.0 == Told::Reverted { 0.0 } else { usd }))
    }
}

pub(crate) fn report(cases: &[Case], hour: i64) -> Report {
    let (mut nodes, mut workloads, mut findings, mut sources) = (vec![], vec![], vec![], vec![]);
    for case in cases {
        let failed = case.unread == Some(hour / STEP);
        sources.push(json!({"kind": "kubernetes", "name": case.name, "status": if failed { "failed" } else { "ok" }, "detail": ""}));
        if failed {
            continue;
        }
        let now = case.at(hour);
        for (name, card, gpus) in &now.nodes {
            nodes.push(json!({"cluster": case.name, "name": name, "pool": "h100", "instance_type": null, "region": null, "capacity_type": null, "gpu": card,
                "gpus": *gpus as u64, "price": {"usd_per_hour": gpus * price(card, hour), "source": "user", "as_of": null}, "states": {}}));
        }
        for (name, card, replicas, each, work) in &now.workloads {
            let held = (replicas * each) as f64;
            workloads.push(json!({"cluster": case.name, "kind": "Deployment", "namespace": "ml", "name": name, "engine": null, "engine_version": null, "model": null,
                "replicas": replicas, "gpus_per_replica": each, "gpu": card, "tensor_parallel": null, "pipeline_parallel": null, "data_parallel": null,
                "max_model_len": null, "max_num_seqs": null, "quantization": null, "dtype": null, "kv_cache_dtype": null, "gpu_memory_utilization": null,
                "usd_per_hour": held * price(card, hour), "output_tokens_per_hour": work * 3600.0, "state": "working", "class": "server", "observed": {}}));
        }
        findings.extend(now.findings);
    }
    let at = jiff::Timestamp::from_second(1_790_000_000 - 1_790_000_000 % 86_400 + hour * 3600).unwrap();
    let totals = json!({"spend_usd_per_hour": null, "waste_usd_per_hour": null, "waste_now_usd_per_hour": null, "waste_reusable_usd_per_hour": null,
        "at_risk_usd_per_hour": null, "waste_percent": null, "coverage_percent": 100.0, "nodes": nodes.len(), "workloads": workloads.len(), "gpus": nodes.len() * 8,
        "gpus_allocated": 0.0, "gpus_dark": 0.0, "gpus_free": 0.0, "gpus_unhealthy": 0.0, "gpus_stuck": 0.0, "gpus_idle": 0.0, "gpus_working": 0.0,
        "gpus_unknown": 0.0, "gpus_unpriced": 0.0, "allocated_without_traffic_percent": null, "price_sources": {}, "prices_as_of": null});
    let checks: Vec<Value> = ["dark-capacity", "over-replicated", "oversized-tier"]
        .iter()
        .map(|id| json!({"id": id, "assessed_gpus": 1.0, "assessed_usd_per_hour": null, "not_assessed": []}))
        .collect();
    serde_json::from_value(json!({"schema": 1, "tool": {"name": "gpuwaste", "version": "0"}, "taken_at": at.to_string(), "window_seconds": null,
        "sources": sources, "totals": totals, "findings": findings, "checks": checks, "gates": [], "workloads": workloads, "nodes": nodes, "gaps": []}))
    .unwrap()
}

/// What somebody decides about a finding of this report, on its day.
pub(crate) fn decided(report: &Report, finding: &ReportFinding, state: Told, reason: Option<Reason>) -> Event {
    Event {
        at: report.taken_at,
        state,
        reason,
        note: None,
        until: None,
        reference: None,
        by: None,
        inferred: false,
        seen: Some(Seen::of(report, finding)),
    }
}

pub(crate) fn claims(cases: &[Case]) -> Book {
    let first = report(cases, 24);
    let mut book = Book::default();
    for case in cases.iter().filter(|c| c.claimed) {
        let Some(f) = first.findings.iter().find(|f| f.id == case.id()) else {
            continue;
        };
        let mut entry = Entry::new(&first, f);
        entry.events.push(decided(&first, f, Told::Claimed, None));
        book.entries.insert(case.id(), entry);
    }
    book
}

pub(crate) fn settle(book: Book, cases: &[Case], hours: impl Iterator<Item = i64>) -> Vec<Append> {
    let mut settler = Settler::new(book);
    for hour in hours {
        settler.step(&report(cases, hour)).unwrap();
    }
    settler.finish()
}

pub(crate) fn add(book: &mut Book, appends: Vec<Append>) {
    for a in appends {
        let entry = book.entries.entry(a.entry.finding.id.clone()).or_insert(a.entry);
        entry.events.extend(a.events);
        entry.outcomes.extend(a.outcomes);
    }
}
