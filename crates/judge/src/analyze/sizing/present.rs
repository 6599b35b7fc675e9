//! What one running server is asked to do and how fast it does it, for `gpuwaste fit --from`.

use super::held::held;
use super::{Demand, lack, replicas, whole};
use crate::analyze::rights;
use crate::catalog::gpus::GpuFacts;
use crate::catalog::models::ModelFacts;
use crate::catalog::prices::{CapacityType, PriceSource};
use crate::fit::load::Present;
use crate::fit::speed::{At, Measured};
use crate::fit::{self, Parallelism, Placement};
use crate::fleet::{Fleet, Node, SlotId, Workload, WorkloadClass};
use crate::settings::Thresholds;
use crate::snapshot::server::EngineSettings;
use crate::units::UsdPerHour;
use std::sync::Arc;

/// A server as it runs today.
#[derive(Clone, Debug)]
pub struct ServerLoad {
    /// "Deployment prod/chat".
    pub name: String,
    pub model: ModelFacts,
    pub settings: EngineSettings,
    pub gpu: &'static GpuFacts,
    pub parallelism: Parallelism,
    pub replicas: usize,
    /// `None`: one of its GPUs has no price.
    pub usd_per_hour: Option<UsdPerHour>,
    pub place: Place,
    /// At its busiest.
    pub requests_per_second: f64,
    /// Mean tokens of a request.
    pub input: f64,
    pub output: f64,
    /// p95, seconds.
    pub inter_token_latency: Option<f64>,
    pub time_to_first_token: Option<f64>,
    /// What scales to other cards. `None`: its time between tokens was not read, or it has no roofline.
    pub present: Option<Present>,
    pub measured: Vec<Measured>,
    /// Time between tokens that the policy allows it elsewhere, seconds.
    pub itl_limit: f64,
}

/// Where it stands, and how its GPUs are priced there (R1): what other cards have to be compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Of one of its GPUs, or of one instance of them. `None`: not known.
    pub usd_per_gpu_hour: Option<UsdPerHour>,
    /// The worst of its nodes'.
    pub source: PriceSource,
    /// `None`: not told, or its nodes differ.
    pub cloud: Option<String>,
    pub region: Option<String>,
    pub capacity_type: CapacityType,
}

impl Place {
    fn of(fleet: &Fleet, slots: &[SlotId], usd_per_hour: Option<UsdPerHour>) -> Self {
        let nodes = || slots.iter().map(|s| fleet.node(fleet.slot(*s).node));
        let same = |of: fn(&Node) -> Option<&str>| {
            let first = nodes().next().and_then(of)?;
            nodes().all(|n| of(n) == Some(first)).then(|| first.to_owned())
        };
        let paid = nodes().map(|n| n.capacity_type).max().unwrap_or_default();
        Self {
            usd_per_gpu_hour: usd_per_hour
                .filter(|_| !slots.is_empty())
                .map(|usd| usd.scale(1.0 / slots.len() as f64)),
            source: nodes().map(|n| n.price.source).max().unwrap_or_default(),
            cloud: same(|n| n.cloud.as_deref()),
            region: same(|n| n.region.as_deref()),
            capacity_type: if nodes().all(|n| n.capacity_type == paid) {
                paid
            } else {
                CapacityType::Unknown
            },
        }
    }
}

/// The server `namespace/name`; an error says what is missing.
pub fn server_load(fleet: &Fleet, wanted: &str, t: &Thresholds) -> Result<ServerLoad, String> {
    let workload = find(fleet, wanted)?;
    let name = format!("{} {}/{}", workload.kind, workload.namespace, workload.name);
    let told = |lack: super::Lack| format!("{name}: {}; {}", lack.reason, lack.remedy);
    let held = whole(fleet, workload).map_err(told)?;
    let current = fit::place(
        held.model,
        held.settings,
        held.gpu,
        held.parallelism(),
        held.calibration.as_ref(),
    );
    let ranks = held.parallelism().data;
    let capacity = replicas::capacity(workload, &current, ranks);
    let unknown = || lack("its load over time is not known", rights::PAGES_OR_STORE);
    let demand = Demand::of(workload, capacity, ranks, t).ok_or_else(|| told(unknown()))?;
    let (Some(input), Some(output)) = demand.lengths() else {
        return Err(told(lack(
            "the length of its requests is not known",
            "say it with --requests-per-second, --input and --output",
        )));
    };
    if demand.peak_output_tokens_per_second <= 0.0 || output < 1.0 {
        return Err(told(lack(
            "no request was served in the time that was read",
            "choose a longer --window",
        )));
    }
    let engines = demand.engines().max(1.0);
    let present = demand
        .inter_token_latency
        .filter(|s| *s > 0.0)
        .zip(current.roofline)
        .map(|(seconds, roofline)| Present {
            // Little's law, at the rate that belongs to the p95 of the latency.
            at: At::new(
                (demand.output_tokens_per_second / engines * seconds).max(1.0),
                input,
                output,
            ),
            roofline,
            seconds,
        });
    let measured = present
        .iter()
        .map(|p| Measured {
            roofline: p.roofline.clone(),
            at: p.at,
            seconds: p.seconds,
        })
        .collect();
    let slots = super::support::slots_of(workload);
    let usd_per_hour = slots.iter().map(|s| fleet.slot(*s).price).sum();
    Ok(ServerLoad {
        name,
        model: held.model.clone(),
        settings: held.settings.clone(),
        gpu: held.gpu,
        parallelism: held.parallelism(),
        replicas: workload.replicas.len(),
        usd_per_hour,
        place: Place::of(fleet, &slots, usd_per_hour),
        requests_per_second: demand.peak_output_tokens_per_second / output,
        input,
        output,
        inter_token_latency: demand.inter_token_latency,
        time_to_first_token: demand.time_to_first_token,
        present,
        measured,
        itl_limit: demand
            .inter_token_latency
            .map_or(t.slo_itl_seconds, |s| (s * t.latency_growth).max(t.slo_itl_seconds)),
    })
}

/// How the model stands on what it holds today, with the server's own KV capacity where it tells one. `None`: no server, or too
/// little of it is known to say.
pub fn placed(fleet: &Fleet, workload: &Workload) -> Option<Placement> {
    let held = held(fleet, workload).ok()?;
    Some(fit::place(
        held.model,
        held.settings,
        held.gpu,
        held.parallelism(),
        held.calibration.as_ref(),
    ))
}

/// A server's p95 time between tokens, with what it ran meanwhile. `None`: one of them is not known.
fn timed(demand: &Demand, current: &Placement) -> Option<Measured> {
    let (input, output) = demand.lengths();
    // A p95 made of a mean is no measurement that others could be scaled from.
    let told = demand.inter_token_latency.filter(|_| !demand.latency_by_mean);
    let seconds = told.filter(|s| *s > 0.0)?;
    let rate = demand.output_tokens_per_second / demand.engines().max(1.0);
    Some(Measured {
        roofline: current.roofline.clone()?,
        // Little's law, at the rate that belongs to the p95 of the latency.
        at: At::new((rate * seconds).max(1.0), input?, output.filter(|n| *n >= 1.0)?),
        seconds,
    })
}

/// What a server is asked to do. `None`: it is not known, or not the model's alone.
pub(super) fn demand(fleet: &Fleet, workload: &Workload, t: &Thresholds) -> Option<Demand> {
    let held = whole(fleet, workload).ok()?;
    let current = fit::place(held.model, held.settings, held.gpu, held.parallelism(), None);
    let ranks = held.parallelism().data;
    Demand::of(workload, replicas::capacity(workload, &current, ranks), ranks, t)
}

/// Every server of the fleet whose time between tokens is known.
pub(super) fn all_timed(fleet: &Fleet, t: &Thresholds) -> Arc<[Measured]> {
    let one = |workload: &Workload| {
        let held = whole(fleet, workload).ok()?;
        let current = fit::place(held.model, held.settings, held.gpu, held.parallelism(), None);
        let ranks = held.parallelism().data;
        let capacity = replicas::capacity(workload, &current, ranks);
        timed(&Demand::of(workload, capacity, ranks, t)?, &current)
    };
    let servers = fleet.workloads.iter().filter(|w| w.class == WorkloadClass::Server);
    servers.filter_map(one).collect()
}

fn find<'a>(fleet: &'a Fleet, wanted: &str) -> Result<&'a Workload, String> {
    let servers = || fleet.workloads.iter().filter(|w| w.class == WorkloadClass::Server);
    let full = |w: &Workload| format!("{}/{}", w.namespace, w.name);
    let found: Vec<&Workload> = servers().filter(|w| full(w) == wanted).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => {
            let mut names: Vec<String> = servers().map(full).collect();
            names.sort();
            names.dedup();
            let near: Vec<&str> = names.iter().map(String::as_str).take(12).collect();
            Err(if near.is_empty() {
                format!("'{wanted}': no model server was read")
            } else {
                format!(
                    "'{wanted}' is no model server that was read; such are {}",
                    near.join(", ")
                )
            })
        }
        several => {
            let where_: Vec<String> = several
                .iter()
                .map(|w| format!("{} in {}", w.kind, fleet.clusters[w.cluster].name))
                .collect();
            Err(format!(
                "'{wanted}' is {}: read one cluster with --context",
                where_.join(" and ")
            ))
        }
    }
}
