//! What a workload is, in the fit engine's words, and what is missing to say so.

use super::market;
use crate::analyze::spread::{self, Spread};
use crate::analyze::support::{self, Lack, lack};
use crate::catalog::gpus::GpuFacts;
use crate::catalog::mig;
use crate::catalog::models::{self, ModelFacts, ModelSource};
use crate::engine::{self, MemoryRules};
use crate::fit::book::Told;
use crate::fit::{self, Calibration, FitVerdict, Parallelism, Placement, search};
use crate::fleet::{Fleet, SlotId, WHOLE_GPU, Workload};
use crate::snapshot::server::{EngineSettings, Setting};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// A model with its settings on a card.
pub(in crate::analyze) struct Held<'a> {
    pub(in crate::analyze) model: &'a ModelFacts,
    pub(in crate::analyze) settings: &'a EngineSettings,
    /// A card, or the MIG instance of one.
    pub(in crate::analyze) gpu: &'static GpuFacts,
    pub(in crate::analyze) spread: Spread,
    /// One pod, with one container that holds GPUs, is a replica.
    pub(in crate::analyze) is_one_pod: bool,
    pub(in crate::analyze) calibration: Option<Calibration>,
}

impl Held<'_> {
    pub(in crate::analyze) fn parallelism(&self) -> Parallelism {
        self.spread.parallelism
    }

    /// GPUs of a replica that is spread otherwise.
    pub(in crate::analyze) fn gpus_of(&self, parallelism: Parallelism) -> u32 {
        search::gpus_of(self.settings, parallelism)
    }

    /// By the memory model alone, whatever the server says of itself. That a model does not fit is no refused start where the
    /// engine keeps the rest in the host's memory, or loads it in fewer bits, by itself.
    pub(in crate::analyze) fn placed(&self) -> Placement {
        let own = fit::place(self.model, self.settings, self.gpu, self.parallelism(), None);
        if let Some(asked) = self.unquantized() {
            return Placement {
                verdict: FitVerdict::DoesNotFit,
                reason: format!(
                    "the engine is told {asked}, and {} is not quantized: it refuses it",
                    self.model.id
                ),
                forbidden: true,
                ..own
            };
        }
        if own.verdict != FitVerdict::DoesNotFit || own.forbidden {
            return own;
        }
        let starts = match engine::memory_rules(self.settings.engine) {
            MemoryRules::LlamaCpp if self.settings.gpu_layers.is_none() => {
                Some("the layers that do not fit stay in the host's memory")
            }
            // NIM picks a profile by the cards that it finds: fp8 from Ada on, nvfp4 from Blackwell on.
            MemoryRules::Unknown if self.settings.engine.is_some() && self.in_fewer_bits() => {
                Some("the profile that it picks when it starts may hold the model in fewer bits")
            }
            _ => None,
        };
        match starts {
            Some(how) => Placement {
                verdict: FitVerdict::Tight,
                reason: format!("{}; {how}", own.reason),
                ..own
            },
            None => own,
        }
    }

    /// A way to quantize that engines read from a checkpoint and cannot make while loading, asked of a repository that is known
    /// to have plain weights ("Cannot find the config file for awq").
    fn unquantized(&self) -> Option<&str> {
        const OF_CHECKPOINTS: &[&str] = &[
            "awq",
            "awq_marlin",
            "gptq",
            "gptq_marlin",
            "marlin",
            "exl2",
            "compressed-tensors",
        ];
        let asked = self.settings.quantization.as_deref()?;
        let reads = matches!(
            engine::memory_rules(self.settings.engine),
            MemoryRules::Vllm | MemoryRules::Sglang | MemoryRules::Tgi
        );
        let named = self
            .settings
            .model
            .as_deref()
            .is_some_and(|m| m.eq_ignore_ascii_case(&self.model.id));
        let plain =
            self.model.quantization.is_none() && self.model.verified && self.model.source == ModelSource::Catalog;
        (reads && named && plain && OF_CHECKPOINTS.contains(&asked)).then_some(asked)
    }

    fn in_fewer_bits(&self) -> bool {
        let bits = match self.gpu.compute_capability {
            Some(c) if c >= (10, 0) => "nvfp4",
            Some(c) if c >= (8, 9) => "fp8",
            _ => return false,
        };
        if self.settings.quantization.is_some() || self.model.quantization.is_some() {
            return false;
        }
        let settings = EngineSettings {
            quantization: Some(bits.into()),
            ..self.settings.clone()
        };
        let other = fit::place(self.model, &settings, self.gpu, self.parallelism(), None);
        other.verdict != FitVerdict::DoesNotFit
    }

    /// The model's facts are a guess from its name: its weights are known about, its KV cache is not.
    pub(in crate::analyze) fn is_by_name(&self) -> bool {
        self.model.source == ModelSource::Name || self.model.groups.is_empty()
    }
}

/// The model, settings and card, or what is missing to say so.
pub(in crate::analyze) fn held<'a>(fleet: &Fleet, workload: &'a Workload) -> Result<Held<'a>, Lack> {
    let Some(settings) = workload.settings.as_ref() else {
        return Err(lack(
            "no serving engine was recognised",
            "see 'gpuwaste catalog engines'",
        ));
    };
    let slots = support::slots_of(workload);
    if support::on_unseen_nodes(fleet, &slots) {
        return Err(lack(support::UNSEEN.0, support::UNSEEN.1));
    }
    if let Some(lack) = memory_unread(settings) {
        return Err(lack);
    }
    let Some(model) = workload.model.as_ref() else {
        return Err(Lack {
            // Where nothing names it the server's own word would.
            unread: workload.identity_unread && workload.model_name.is_none(),
            ..unknown(workload)
        });
    };
    let spread = spread::of(workload)?;
    let gpu = card(fleet, workload)?;
    let own = |s: &SlotId| {
        let slot = fleet.slot(*s);
        (slot.weight == WHOLE_GPU || gpu.instance.is_some()) && slot.holders.len() == 1
    };
    if !slots.iter().all(own) {
        return Err(lack("it shares GPUs", "nothing to do"));
    }
    if workload.gpus_per_replica.is_none_or(|held| spread.gpus > held) && !spread.floating {
        return Err(lack(
            "its parallelism does not match the GPUs it holds",
            "look at parallelism-mismatch, or write the parallelism in the arguments",
        ));
    }
    let told = |kv_capacity| Told {
        model,
        settings,
        gpu,
        parallelism: spread.parallelism,
        kv_capacity,
        whose: "",
    };
    let calibration = workload
        .kv_capacity
        .filter(|c| told(*c).possible().is_ok())
        .map(|kv_capacity| Calibration {
            gpu: gpu.name.clone(),
            parallelism: spread.parallelism,
            kv_capacity,
            ..Calibration::default()
        });
    let is_one = |r: &crate::fleet::Replica| r.pods.len() == 1 && fleet.pod(r.pods[0]).device_containers == 1;
    Ok(Held {
        model,
        settings,
        gpu,
        spread,
        is_one_pod: workload.replicas.iter().all(is_one),
        calibration,
    })
}

/// Of a plan, which nothing but its model can judge: a misspelt name, or a model that is nobody else's, is no model that fits.
pub(in crate::analyze) fn hides_its_model(workload: &Workload) -> bool {
    let guessed = |m: &ModelFacts| m.source == ModelSource::Name || m.groups.is_empty();
    workload.planned && workload.settings.is_some() && workload.model.as_ref().is_none_or(guessed)
}

const WITH_ITS_CONFIG: &str = "give its config.json with --models DIR";

/// A model that the catalogue has not, with the names that it may be a slip of.
fn unknown(workload: &Workload) -> Lack {
    let Some(name) = workload.model_label() else {
        return lack("its model is not named", WITH_ITS_CONFIG);
    };
    Lack {
        reason: format!("the model {name} is not in the catalogue{}", near(workload, name)).into(),
        ..lack("", WITH_ITS_CONFIG)
    }
}

/// What little a name tells is no shape of a KV cache.
pub(in crate::analyze) fn known_by_name(workload: &Workload) -> Lack {
    let name = workload.model_label().unwrap_or("its model");
    Lack {
        reason: format!(
            "the model {name} is known by its name only: its KV cache is not{}",
            near(workload, name)
        )
        .into(),
        ..lack("", WITH_ITS_CONFIG)
    }
}

/// " (near: NAME)" of a name in a manifest, which may be a slip; what runs is called as it is.
fn near(workload: &Workload, name: &str) -> String {
    // Every check asks, and looking through the catalogue takes long.
    static KNOWN: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    if !workload.planned {
        return String::new();
    }
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(near) = known.get(name) {
        return near.clone();
    }
    let near = models::nearest(name)
        .first()
        .map_or_else(String::new, |near| format!(" (near: {near})"));
    known.insert(name.to_owned(), near.clone());
    near
}

/// Settings that memory hangs on: what is stated where nobody could read it has no default.
pub(in crate::analyze) fn memory_unread(settings: &EngineSettings) -> Option<Lack> {
    const MEMORY: &[(Setting, &str)] = &[
        (Setting::Engine, "the engine"),
        (Setting::Model, "the model"),
        (Setting::Quantization, "the quantization"),
        (Setting::Dtype, "the dtype"),
        (Setting::KvCacheDtype, "the KV cache's dtype"),
        (Setting::MaxModelLen, "the context length"),
        (Setting::MaxNumSeqs, "the number of sequences"),
        (Setting::MaxNumBatchedTokens, "the number of batched tokens"),
        (Setting::MemoryShare, "the share of memory"),
        // Offloaded weights, drafts, adapters, overrides of the model's shape.
        (Setting::Sizing, "what else takes or spares memory"),
    ];
    MEMORY.iter().find_map(|(setting, what)| {
        let unread = settings.unread(*setting)?;
        Some(support::unread(what, unread, support::LET_IT_BE_READ))
    })
}

/// The card that all its replicas hold, or the MIG instance of one.
pub(in crate::analyze) fn card(fleet: &Fleet, workload: &Workload) -> Result<&'static GpuFacts, Lack> {
    let Some(gpu) = workload.gpu else {
        return Err(match (workload.planned, workload.gpus_per_replica) {
            (false, _) => lack("its GPUs are mixed or unknown", "label the nodes with their GPU"),
            (true, None) => lack("the manifest does not say how many GPUs", "set resources.limits"),
            (true, Some(_)) => lack(
                "the manifest does not say which GPU",
                "give --gpu NAME, or select nodes by GPU or instance type",
            ),
        });
    };
    let slots = support::slots_of(workload);
    let profile = |s: &SlotId| fleet.slot(*s).mig_profile.as_deref();
    let first = slots.first().and_then(profile);
    if slots.iter().any(|s| profile(s) != first) {
        return Err(lack(
            "its replicas hold parts of GPUs of different sizes",
            "ask for one profile",
        ));
    }
    let Some(profile) = first else {
        return Ok(gpu);
    };
    if gpu.vendor != "nvidia" {
        return Err(lack(
            "it holds partitions of a GPU, whose memory depends on the memory mode",
            "compare the partition's memory with 'gpuwaste fit MODEL --gpu-memory-gib'",
        ));
    }
    let Some(instance) = mig::find(gpu, profile) else {
        return Err(lack(
            "its MIG profile is not one that the catalogue knows of this GPU",
            "compare its memory with 'gpuwaste fit MODEL --gpu-memory-gib'",
        ));
    };
    let known = |s: &SlotId| {
        let node = fleet.node(fleet.slot(*s).node);
        instance
            .instance
            .as_ref()
            .is_some_and(|i| market::parts::agrees(node, i))
    };
    if !slots.iter().all(known) {
        return Err(lack(
            "its node labels another memory for its MIG profile than drivers were seen to report",
            "compare it with 'gpuwaste fit MODEL --gpu-memory-gib'",
        ));
    }
    if workload.gpus_per_replica.is_some_and(|n| n > 1) {
        return Err(lack(
            "it holds several MIG instances, and an engine spans one only",
            "ask for one instance, or for a profile that is as large",
        ));
    }
    Ok(instance)
}
