//! The placement search: the cheapest way to hold a workload on the tiers at hand, and why the others do not.

use super::book::Book;
use super::{Calibration, FitVerdict, Load, Parallelism, Placement, Service, Slo, place, serves};
use crate::catalog::gpus::GpuFacts;
use crate::catalog::models::ModelFacts;
use crate::snapshot::server::EngineSettings;
use crate::units::UsdPerHour;

/// A kind of GPU that can be had.
#[derive(Clone, Debug)]
pub struct Tier<'a> {
    pub gpu: &'a GpuFacts,
    /// `None`: no price is known; such a tier never ranks before a priced one.
    pub usd_per_gpu_hour: Option<UsdPerHour>,
    /// Whole instances that can be had: (GPUs, price). Empty: GPUs are had one by one.
    pub sizes: Vec<(u32, UsdPerHour)>,
    pub max_gpus_per_node: u32,
}

impl Tier<'_> {
    /// What `gpus` of this tier cost: the cheapest whole instances that have them, else by the GPU.
    pub fn cost(&self, gpus: u32) -> Option<UsdPerHour> {
        let whole =
            |(size, price): &(u32, UsdPerHour)| (*size > 0).then(|| price.times(u64::from(gpus.div_ceil(*size))));
        self.sizes
            .iter()
            .filter_map(whole)
            .min()
            .or_else(|| self.usd_per_gpu_hour.map(|p| p.times(u64::from(gpus))))
    }
}

/// What a placement must do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Need<'a> {
    /// With `slo`: it must carry this load.
    pub load: Option<&'a Load>,
    pub slo: Option<&'a Slo>,
    pub calibration: Option<&'a Calibration>,
    /// What servers told, for placements like theirs.
    pub book: Option<&'a Book>,
    /// KV tokens that one engine must hold.
    pub tokens: Option<u64>,
    /// Only this parallelism.
    pub only: Option<Parallelism>,
}

/// One tier's best placement.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Catalogue name.
    pub gpu: String,
    pub parallelism: Parallelism,
    pub gpus: u32,
    pub usd_per_hour: Option<UsdPerHour>,
    pub placement: Placement,
    pub service: Option<Service>,
    /// Passes everything asked, surely.
    pub accepted: bool,
    /// Why it is accepted or not, in one sentence.
    pub reason: String,
}

/// GPUs of one replica: SGLang's data-parallel attention runs inside the tensor-parallel ranks.
pub fn gpus_of(settings: &EngineSettings, parallelism: Parallelism) -> u32 {
    if settings.dp_attention == Some(true) {
        parallelism.tensor.saturating_mul(parallelism.pipeline)
    } else {
        parallelism.gpus()
    }
}

/// One candidate a tier: accepted ones first, each block cheapest first. Quantization is kept as it is.
pub fn search(model: &ModelFacts, settings: &EngineSettings, tiers: &[Tier<'_>], need: &Need<'_>) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = tiers
        .iter()
        .filter_map(|tier| best(model, settings, tier, need))
        .collect();
    found.sort_by(|a, b| key(a).cmp(&key(b)));
    found
}

fn key(c: &Candidate) -> (bool, u8, UsdPerHour, u32, &str) {
    let dear = UsdPerHour::from_micros(i64::MAX);
    (
        !c.accepted,
        rank(c.placement.verdict),
        c.usd_per_hour.unwrap_or(dear),
        c.gpus,
        c.gpu.as_str(),
    )
}

fn rank(verdict: FitVerdict) -> u8 {
    match verdict {
        FitVerdict::Fits => 0,
        FitVerdict::Tight => 1,
        FitVerdict::Unknown => 2,
        FitVerdict::DoesNotFit => 3,
    }
}

/// The smallest parallelism that passes; else the one that comes nearest.
fn best(model: &ModelFacts, settings: &EngineSettings, tier: &Tier<'_>, need: &Need<'_>) -> Option<Candidate> {
    let mut nearest: Option<Candidate> = None;
    for parallelism in ways(settings, tier, need) {
        let candidate = evaluate(model, settings, tier, need, parallelism);
        if candidate.accepted {
            return Some(candidate);
        }
        // Of several that lack memory the widest is told: it still does not fit.
        let nearer = nearest.as_ref().is_none_or(|n| {
            let (new, old) = (rank(candidate.placement.verdict), rank(n.placement.verdict));
            let lacks_memory = |p: &Placement| p.verdict == FitVerdict::DoesNotFit && !p.forbidden;
            new < old || lacks_memory(&candidate.placement) && lacks_memory(&n.placement)
        });
        if nearer {
            nearest = Some(candidate);
        }
    }
    nearest
}

/// Tensor parallelism in powers of two inside a node, then two nodes in a pipeline.
fn ways(settings: &EngineSettings, tier: &Tier<'_>, need: &Need<'_>) -> Vec<Parallelism> {
    if let Some(only) = need.only {
        return vec![only];
    }
    let data = settings.data_parallel.unwrap_or(1).max(1);
    let limit = tier.max_gpus_per_node.clamp(1, 64);
    let inside = settings.dp_attention == Some(true);
    let mut ways: Vec<Parallelism> = std::iter::successors(Some(1_u32), |t| t.checked_mul(2))
        .take_while(|t| *t <= limit)
        .filter(|t| !inside || t % data == 0)
        .map(|tensor| Parallelism {
            tensor,
            pipeline: 1,
            data,
        })
        .collect();
    if let Some(last) = ways.last().copied().filter(|w| w.tensor >= 8) {
        ways.push(Parallelism { pipeline: 2, ..last });
    }
    ways
}

fn evaluate(
    model: &ModelFacts,
    settings: &EngineSettings,
    tier: &Tier<'_>,
    need: &Need<'_>,
    parallelism: Parallelism,
) -> Candidate {
    let told = || need.book?.calibration(model, settings, tier.gpu, parallelism);
    let told = if need.calibration.is_none() { told() } else { None };
    let placement = place(
        model,
        settings,
        tier.gpu,
        parallelism,
        need.calibration.or(told.as_ref()),
    );
    let gpus = gpus_of(settings, parallelism);
    let service = need
        .load
        .zip(need.slo)
        .filter(|_| placement.verdict != FitVerdict::DoesNotFit)
        .map(|(load, slo)| serves(&placement, load, slo));
    let (accepted, reason) = verdict(&placement, service.as_ref(), need);
    Candidate {
        gpu: tier.gpu.name.clone(),
        parallelism,
        gpus,
        usd_per_hour: tier.cost(gpus),
        placement,
        service,
        accepted,
        reason,
    }
}

fn verdict(placement: &Placement, service: Option<&Service>, need: &Need<'_>) -> (bool, String) {
    if placement.verdict != FitVerdict::Fits {
        return (false, placement.reason.clone());
    }
    if let Some(wanted) = need.tokens {
        match placement.kv_capacity {
            Some(capacity) if capacity.low.0 >= wanted => {}
            Some(capacity) => {
                let reason = format!(
                    "holds {} to {} tokens, {wanted} are asked for",
                    capacity.low.0, capacity.high.0
                );
                return (false, reason);
            }
            None => return (false, "its KV capacity is not known".into()),
        }
    }
    match service {
        None => (true, placement.reason.clone()),
        Some(s) => (s.serves == Some(true), s.reason.clone()),
    }
}
