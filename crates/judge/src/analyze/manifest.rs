//! What a manifest tells before anything runs: it will not fit, it would fit a cheaper tier, its parallelism does not
//! match its GPUs, its KV cache is too small for what it admits, and what a deployment should not leave open.

use super::finding::{Claim, ClaimRank, Confidence, Evidence, Finding, FindingKind, Fix, FixPlacement, Location};
use super::sizing;
use super::support::{self, Judged, gpus};
use super::{Check, Context, Outcome, explain};
use crate::catalog::gpus::{self as cards, GpuFacts};
use crate::catalog::models::{ModelFacts, ModelSource};
use crate::catalog::{instances, mig};
use crate::fit::search::{Candidate, Need, Tier, search};
use crate::fit::{self, FitConfidence, FitVerdict, Parallelism, Placement};
use crate::fleet::{SlotId, Workload, WorkloadClass, WorkloadId};
use crate::snapshot::server::{EngineKind, EngineSettings};
use crate::units::{Bytes, UsdPerHour};
use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

/// GPUs of one node of a tier (HGX and DGX boards); a placement is not recommended over more.
const NODE_GPUS: u32 = 8;
/// Share and dollars below which a move is not worth its work (checks.md, oversized-tier; ours).
const WORTH: (f64, f64) = (0.20, 0.25);
/// KV headroom over what is admitted (checks.md; ours).
const HEADROOM: f64 = 1.3;

/// Tiers of each cloud; under the empty name those of the large clouds, where a manifest names none: cards nobody there
/// rents out are no advice. The catalogue is thousands of rows, and manifests come by the thousand too.
static OFFERED: LazyLock<HashMap<&str, Vec<Tier<'static>>>> = LazyLock::new(|| {
    let mut names: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    for row in instances::all()
        .iter()
        .filter(|r| r.list.is_some() && r.can_be_rented())
    {
        let Some(gpu) = cards::find(&row.gpu) else { continue };
        names.entry(&row.cloud).or_default().insert(&gpu.name);
        if matches!(row.cloud.as_str(), "aws" | "gcp" | "azure" | "oci") {
            names.entry("").or_default().insert(&gpu.name);
        }
    }
    let tier = |gpu| {
        Some(Tier {
            gpu,
            usd_per_gpu_hour: Some(instances::gpu_median(gpu)?),
            sizes: Vec::new(),
            max_gpus_per_node: NODE_GPUS,
        })
    };
    let priced: Vec<Tier<'static>> = cards::all().iter().filter_map(tier).collect();
    let of = |offered: BTreeSet<&str>| {
        let wanted = |t: &&Tier<'static>| offered.contains(t.gpu.name.as_str());
        priced.iter().filter(wanted).cloned().collect()
    };
    names.into_iter().map(|(cloud, offered)| (cloud, of(offered))).collect()
});

/// What the user expects of the servers, beside what the manifests say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// Tokens of one request, prompt and output.
    pub context_tokens: Option<u64>,
    /// Requests at once on one replica.
    pub concurrency: Option<u64>,
}

pub struct SpecHygiene;

impl Check for SpecHygiene {
    fn id(&self) -> &'static str {
        "spec-hygiene"
    }

    fn summary(&self) -> &'static str {
        "Manifests of GPU pods that leave open what they should say: an unpinned image, no CPU or memory request."
    }

    fn explain(&self) -> &'static str {
        explain::SPEC_HYGIENE
    }

    fn parts(&self) -> &'static [Option<&'static str>] {
        &[Some("image"), Some("cpu-request"), Some("memory-request")]
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        for (id, workload) in support::workloads(context.fleet) {
            let Some(origin) = &workload.origin else { continue };
            out.assessed.extend(support::slots_of(workload));
            for note in &origin.notes {
                let mut subject = support::of_workload(context.fleet, workload);
                subject.location = Some(Location {
                    file: origin.file.clone(),
                    line: note.line,
                    path: note.path.clone(),
                });
                let part = if note.path.ends_with("image") {
                    "image"
                } else if note.text.starts_with("no CPU") {
                    "cpu-request"
                } else {
                    "memory-request"
                };
                out.findings.push(Finding {
                    check: "spec-hygiene",
                    part: Some(part),
                    kind: FindingKind::AtRisk,
                    rank: ClaimRank::None,
                    title: format!("{}: {}", workload.name, note.text),
                    subject,
                    workload: Some(id),
                    confidence: Confidence::Estimated,
                    confidence_reasons: vec!["the manifest as written".into()],
                    evidence: Vec::new(),
                    claims: Vec::new(),
                    fix: Fix {
                        summary: match part {
                            "image" => "Name a version, or a digest.".into(),
                            _ => format!("Set it under {}.requests.", note.path),
                        },
                        ..Fix::default()
                    },
                    ignored: None,
                    trend_usd_per_hour: None,
                });
            }
        }
    }
}

/// Judges sizes of manifests' workloads: undersized-tier, oversized-tier, kv-pressure, parallelism-mismatch.
pub fn sizes(context: &Context<'_>, expected: Expected) -> Vec<(&'static str, Outcome)> {
    let mut undersized = Outcome::default();
    let mut oversized = Outcome::default();
    let mut pressure = Outcome::default();
    let mut parallel = Outcome::default();
    let mut hygiene = Outcome::default();
    for (id, workload) in support::workloads(context.fleet) {
        if workload.class != WorkloadClass::Server || workload.origin.is_none() {
            continue;
        }
        hygiene.findings.extend(little_memory(context, id, workload));
        let case = match Case::new(context, id, workload) {
            Ok(case) => case,
            Err((reason, remedy)) => {
                for out in [&mut undersized, &mut oversized, &mut pressure] {
                    out.not_assessed(reason, remedy, support::slots_of(workload));
                }
                continue;
            }
        };
        for out in [&mut undersized, &mut oversized, &mut pressure] {
            out.assessed.extend(&case.slots);
        }
        if let Some(finding) = case.too_few() {
            parallel.findings.push(finding);
            continue;
        }
        let placement = fit::place(case.model, case.settings, case.gpu, case.parallelism, None);
        match placement.verdict {
            FitVerdict::DoesNotFit => undersized.findings.push(case.will_not_fit(&placement)),
            FitVerdict::Fits => {
                pressure.findings.extend(case.too_little_cache(&placement, expected));
                match case.demand(&placement, expected) {
                    _ if case.settings.role.is_some() => oversized.not_assessed(
                        "prefill and decode are separate: one role's load is not the model's",
                        "nothing to do",
                        case.slots.clone(),
                    ),
                    Some(tokens) => oversized.findings.extend(case.cheaper(tokens)),
                    None => oversized.not_assessed(
                        "how much a server must hold at once is not said",
                        "set --max-num-seqs and --max-model-len in the manifest, or give --context-tokens and --concurrency",
                        case.slots.clone(),
                    ),
                }
            }
            FitVerdict::Tight | FitVerdict::Unknown => {}
        }
    }
    vec![
        ("undersized-tier", undersized),
        ("oversized-tier", oversized),
        ("kv-pressure", pressure),
        ("parallelism-mismatch", parallel),
        ("spec-hygiene", hygiene),
    ]
}

/// Less host memory than an LLM server's processes take before the first weight is read.
fn little_memory(context: &Context<'_>, id: WorkloadId, workload: &Workload) -> Option<Finding> {
    let llm = matches!(
        workload.engine(),
        Some(EngineKind::Vllm | EngineKind::Sglang | EngineKind::Trtllm | EngineKind::Tgi | EngineKind::Nim)
    );
    let fleet = context.fleet;
    let pods = workload.replicas.iter().flat_map(|r| &r.pods);
    let asked = pods.map(|p| fleet.pod(*p).memory).filter(|m| m.0 > 0).min()?;
    let needed = Bytes::from_gib(context.settings.thresholds.host_memory_gib as f64);
    if !llm || asked >= needed {
        return None;
    }
    Some(Finding {
        check: "spec-hygiene",
        part: Some("memory"),
        kind: FindingKind::AtRisk,
        rank: ClaimRank::None,
        title: format!(
            "{}: {:.1} GiB of host memory, {:.0} GiB needed beside the weights",
            workload.name,
            asked.gib(),
            needed.gib()
        ),
        subject: support::of_workload(fleet, workload),
        workload: Some(id),
        confidence: Confidence::Assumed,
        confidence_reasons: vec!["a rule of thumb: what the runtime takes differs by engine and version".into()],
        evidence: vec![Evidence::number("memory", asked.0 as f64, "bytes", "manifest").expected(needed.0 as f64)],
        claims: Vec::new(),
        fix: Fix {
            summary: format!(
                "Give the container {:.0} GiB or more: one process a GPU, CUDA's context in each, and room to read the weights through.",
                needed.gib()
            ),
            ..Fix::default()
        },
        ignored: None,
        trend_usd_per_hour: None,
    })
}

struct Case<'a> {
    context: &'a Context<'a>,
    id: WorkloadId,
    workload: &'a Workload,
    settings: &'a EngineSettings,
    model: &'a ModelFacts,
    gpu: &'static GpuFacts,
    parallelism: Parallelism,
    slots: Vec<SlotId>,
    per_replica: u32,
}

impl<'a> Case<'a> {
    fn new(
        context: &'a Context<'a>,
        id: WorkloadId,
        workload: &'a Workload,
    ) -> Result<Self, (&'static str, &'static str)> {
        let settings = workload
            .settings
            .as_ref()
            .ok_or(("no serving engine was recognised", "see 'gpuwaste catalog engines'"))?;
        let model = workload.model.as_ref().ok_or((
            "the model is not in the catalogue, or not named",
            "see 'gpuwaste catalog models'",
        ))?;
        if workload.gpu.is_none() {
            return Err((
                "the manifest does not say which GPU",
                "give --gpu NAME, or select nodes by GPU or instance type",
            ));
        }
        let per_replica = workload
            .gpus_per_replica
            .filter(|n| *n > 0)
            .ok_or(("the manifest does not say how many GPUs", "set resources.limits"))?;
        let gpu = sizing::card(context.fleet, workload).map_err(|lack| (lack.reason, lack.remedy))?;
        // NIM, TGI and llama.cpp take every GPU they see; the others one unless told.
        let takes_all = matches!(
            settings.engine,
            Some(EngineKind::Nim | EngineKind::Tgi | EngineKind::Llamacpp | EngineKind::Ollama | EngineKind::Triton)
        );
        let default = if takes_all { per_replica } else { 1 };
        Ok(Self {
            context,
            id,
            workload,
            settings,
            model,
            gpu,
            parallelism: Parallelism {
                tensor: settings.tensor_parallel.unwrap_or(default).max(1),
                pipeline: settings.pipeline_parallel.unwrap_or(1).max(1),
                data: settings.data_parallel.unwrap_or(1).max(1),
            },
            slots: support::slots_of(workload),
            per_replica,
        })
    }

    fn finding(&self, check: &'static str, kind: FindingKind, rank: ClaimRank, title: String) -> Finding {
        Finding {
            check,
            part: None,
            kind,
            rank,
            title,
            subject: support::of_workload(self.context.fleet, self.workload),
            workload: Some(self.id),
            confidence: Confidence::Estimated,
            confidence_reasons: Vec::new(),
            evidence: Vec::new(),
            claims: Vec::new(),
            fix: Fix::default(),
            ignored: None,
            trend_usd_per_hour: None,
        }
    }

    fn judged(&self, confidence: FitConfidence, finding: &mut Finding) {
        let mut judged = Judged::at(Confidence::Estimated, "the memory model, not a running server");
        if confidence == FitConfidence::Assumed || self.model.source == ModelSource::Name {
            judged.cap(
                Confidence::Assumed,
                "the model's facts, or the engine's defaults, are assumed",
            );
        }
        judged.cap_by_price(self.context.fleet, &self.slots);
        finding.confidence = judged.level;
        finding.confidence_reasons = judged.reasons;
    }

    /// More ranks than GPUs: the engine refuses to start.
    fn too_few(&self) -> Option<Finding> {
        let needed = fit::search::gpus_of(self.settings, self.parallelism);
        // Ray Serve places its replicas over the cluster by itself.
        if needed <= self.per_replica || self.workload.kind.starts_with("Ray") {
            return None;
        }
        let name = &self.workload.name;
        let held = self.per_replica as usize;
        let p = self.parallelism;
        let mut finding = self.finding(
            "parallelism-mismatch",
            FindingKind::AtRisk,
            ClaimRank::AtRisk,
            format!("{name}: needs {needed} GPUs a replica and asks for {held}"),
        );
        finding.part = Some("too-few");
        self.judged(FitConfidence::Estimated, &mut finding);
        finding.claims = support::claims(self.context.fleet, &self.slots, false);
        finding.evidence = vec![
            Evidence::number("gpus_asked_per_replica", held as f64, "gpus", "manifest").expected(f64::from(needed)),
        ];
        finding.fix.summary = format!(
            "Ask for {needed} GPUs: tensor {} x pipeline {} x data parallelism {} needs one each.",
            p.tensor, p.pipeline, p.data
        );
        Some(finding)
    }

    /// Where it would run, as far as its node labels tell.
    fn cloud(&self) -> Option<&str> {
        let fleet = self.context.fleet;
        let node = fleet.node(fleet.slot(*self.slots.first()?).node);
        let by_label = [
            ("cloud.google.com/", "gcp"),
            ("karpenter.k8s.aws/", "aws"),
            ("eks.amazonaws.com/", "aws"),
            ("karpenter.azure.com/", "azure"),
            ("kubernetes.azure.com/", "azure"),
        ];
        let told = |(prefix, cloud)| node.labels.keys().any(|k| k.starts_with(prefix)).then_some(cloud);
        node.cloud.as_deref().or_else(|| by_label.into_iter().find_map(told))
    }

    fn tiers(&self) -> Vec<Tier<'static>> {
        let offered = OFFERED.get(self.cloud().unwrap_or_default());
        offered
            .into_iter()
            .flatten()
            .filter(|t| t.gpu.vendor == self.gpu.vendor)
            .cloned()
            .collect()
    }

    /// Other MIG profiles of the card whose instance is asked for, at the price of their compute slices (R1).
    fn profiles(&self) -> Vec<Tier<'static>> {
        let slot = self.slots.first().map(|s| self.context.fleet.slot(*s));
        let (Some(slot), Some(card), Some(own)) = (slot, self.workload.gpu, &self.gpu.instance) else {
            return Vec::new();
        };
        let price = |slices: u32| slot.price.map(|p| p.scale(f64::from(slices) / f64::from(own.slices)));
        mig::of(card)
            .filter(|gpu| gpu.name != self.gpu.name)
            .filter_map(|gpu| {
                Some(Tier {
                    gpu,
                    usd_per_gpu_hour: price(gpu.instance.as_ref()?.slices),
                    sizes: Vec::new(),
                    max_gpus_per_node: 1,
                })
            })
            .collect()
    }

    /// The cheapest that holds the model and `tokens` beside it.
    fn best(&self, tokens: Option<u64>) -> Option<Candidate> {
        let need = Need {
            tokens,
            ..Need::default()
        };
        let find = |tiers: &[Tier<'static>]| {
            search(self.model, self.settings, tiers, &need)
                .into_iter()
                .find(|c| c.accepted && c.usd_per_hour.is_some())
        };
        let mut profiles = self.profiles();
        if tokens.is_some() {
            // A smaller profile with as much memory leaves slices that no other instance finds memory for.
            let own = self.gpu.instance.as_ref().map(|i| i.units);
            profiles.retain(|t| t.gpu.instance.as_ref().map(|i| i.units) < own);
        }
        // Another part of the same card before another card.
        find(&profiles).or_else(|| find(&self.tiers()))
    }

    /// What the manifest would have to ask for, where it is not the same resource.
    fn resource(candidate: &Candidate) -> String {
        let instance = mig::named(&candidate.gpu).and_then(|g| g.instance.as_ref());
        instance.map_or_else(String::new, |i| format!(" (nvidia.com/mig-{})", i.profile))
    }

    fn fix_placement(&self, best: &Candidate) -> FixPlacement {
        let replicas = self.workload.replicas.len() as u32;
        FixPlacement {
            gpu: best.gpu.clone(),
            gpus: best.gpus,
            tensor_parallel: best.parallelism.tensor,
            replicas,
            usd_per_hour: best.usd_per_hour.map(|u| u.times(u64::from(replicas))),
        }
    }

    fn will_not_fit(&self, placement: &Placement) -> Finding {
        let name = &self.workload.name;
        let held = if self.gpu.instance.is_some() {
            "one MIG instance,".into()
        } else {
            gpus(self.per_replica as usize)
        };
        let title = format!("{name}: {} does not fit {held} {}", self.model.id, self.gpu.name);
        let mut finding = self.finding("undersized-tier", FindingKind::AtRisk, ClaimRank::AtRisk, title);
        self.judged(placement.confidence, &mut finding);
        finding.claims = support::claims(self.context.fleet, &self.slots, false);
        finding.evidence = self.memory(placement);
        let best = self.best(None);
        let reason = placement.reason.trim_end_matches('.');
        finding.fix = Fix {
            summary: match &best {
                Some(b) => format!(
                    "{reason}. {} x {}{} holds it (tensor parallelism {}).",
                    b.gpus,
                    b.gpu,
                    Self::resource(b),
                    b.parallelism.tensor
                ),
                None => format!("{reason}. Shorten --max-model-len, quantize, or raise the parallelism."),
            },
            placement: best.as_ref().map(|b| self.fix_placement(b)),
            patch: None,
        };
        finding
    }

    fn memory(&self, placement: &Placement) -> Vec<Evidence> {
        let usable = self.gpu.memory_usable.unwrap_or(self.gpu.memory);
        let mut evidence = vec![Evidence::number("gpu_memory", usable.0 as f64, "bytes", "catalog")];
        if let Some(weights) = placement.weights_per_gpu {
            evidence.push(Evidence::number("weights_per_gpu", weights.0 as f64, "bytes", "fit"));
        }
        if let Some(overhead) = &placement.overhead_per_gpu {
            evidence.push(Evidence::number(
                "overhead_per_gpu",
                overhead.value.0 as f64,
                "bytes",
                "fit",
            ));
        }
        if let Some(capacity) = &placement.kv_capacity {
            evidence.push(Evidence::number(
                "kv_capacity",
                capacity.value.0 as f64,
                "tokens",
                "fit",
            ));
        }
        evidence
    }

    /// Tokens that one engine admits at once: as the user expects, else as the manifest limits both ways.
    fn admitted(&self, expected: Expected) -> Option<(u64, &'static str)> {
        if let (Some(context), Some(concurrency)) = (expected.context_tokens, expected.concurrency) {
            let data = u64::from(self.parallelism.data);
            return Some((
                context.saturating_mul(concurrency).div_ceil(data),
                "--context-tokens x --concurrency",
            ));
        }
        let (length, sequences) = (self.settings.max_model_len?, self.settings.max_num_seqs?);
        Some((length.saturating_mul(sequences), "max_model_len x max_num_seqs"))
    }

    fn too_little_cache(&self, placement: &Placement, expected: Expected) -> Option<Finding> {
        let capacity = placement.kv_capacity.as_ref()?.value.0;
        let (admitted, what) = self.admitted(expected)?;
        if capacity >= admitted {
            return None;
        }
        let name = &self.workload.name;
        let mut finding = self.finding(
            "kv-pressure",
            FindingKind::AtRisk,
            ClaimRank::None,
            format!("{name}: KV cache of {capacity} tokens, {admitted} admitted: requests will queue"),
        );
        finding.part = Some("config");
        self.judged(placement.confidence, &mut finding);
        finding.evidence =
            vec![Evidence::number("kv_capacity", capacity as f64, "tokens", "fit").expected(admitted as f64)];
        finding.fix.summary = format!(
            "{what} asks for more than the cache holds: engines queue, they do not fail. Lower one of them, use an fp8 KV cache, or give it more GPU memory."
        );
        Some(finding)
    }

    /// What a smaller home must hold: never more than the present one does.
    fn demand(&self, placement: &Placement, expected: Expected) -> Option<u64> {
        let (admitted, _) = self.admitted(expected)?;
        let capacity = placement.kv_capacity.as_ref()?.value.0;
        Some(((admitted as f64 * HEADROOM).ceil() as u64).min(capacity))
    }

    fn cheaper(&self, tokens: u64) -> Option<Finding> {
        if self.model.source == ModelSource::Name || self.workload.kind.starts_with("Ray") {
            return None;
        }
        let best = self.best(Some(tokens))?;
        let replicas = self.workload.replicas.len() as u64;
        let cost = best.usd_per_hour?.times(replicas);
        let prices: Vec<UsdPerHour> = self
            .slots
            .iter()
            .map(|s| self.context.fleet.slot(*s).price)
            .collect::<Option<_>>()?;
        let held: UsdPerHour = prices.iter().copied().sum();
        let saved = held.usd() - cost.usd();
        if saved < WORTH.1 || saved < held.usd() * WORTH.0 {
            return None;
        }
        let name = &self.workload.name;
        let title = format!(
            "{name}: {} {} where {} x {} holds what it admits",
            self.per_replica, self.gpu.name, best.gpus, best.gpu
        );
        let mut finding = self.finding("oversized-tier", FindingKind::Recoverable, ClaimRank::Unused, title);
        self.judged(best.placement.confidence, &mut finding);
        finding.confidence = Confidence::Assumed;
        finding.confidence_reasons.insert(
            0,
            "no load is known before it runs: memory was judged, speed was not".into(),
        );
        let share = saved / held.usd();
        // Another profile of the card leaves the card where it is.
        let vacates = mig::named(&best.gpu).is_none();
        finding.claims = self
            .slots
            .iter()
            .zip(&prices)
            .map(|(slot, price)| Claim {
                slot: *slot,
                usd_per_hour: UsdPerHour::from_usd(price.usd() * share),
                vacates,
            })
            .collect();
        finding.evidence = vec![
            Evidence::number("kv_tokens_needed", tokens as f64, "tokens", "manifest"),
            Evidence::number("tier_ratio", held.usd() / cost.usd(), "ratio", "catalog"),
        ];
        finding.fix = Fix {
            summary: format!(
                "{} x {}{} with tensor parallelism {} holds the model and {tokens} tokens; measure its speed before moving.",
                best.gpus,
                best.gpu,
                Self::resource(&best),
                best.parallelism.tensor
            ),
            placement: Some(self.fix_placement(&best)),
            patch: None,
        };
        Some(finding)
    }
}
