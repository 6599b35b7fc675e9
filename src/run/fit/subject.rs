//! What is judged: a model with an engine's settings, by name or as a server runs it; and the cards.

use super::memory;
use crate::analyze::{ServerLoad, server_load};
use crate::catalog::gpus::{self, GpuFacts};
use crate::catalog::models::{self, ModelFacts};
use crate::catalog::{instances, mig};
use crate::cli::{FitArgs, FitEngine};
use crate::fit::copy;
use crate::run::{policy, source};
use crate::settings::Settings;
use crate::snapshot::server::{EngineKind, EngineSettings};
use crate::units::Bytes;
use anyhow::{Result, anyhow, bail};

pub(super) struct Subject {
    pub(super) model: ModelFacts,
    pub(super) settings: EngineSettings,
}

impl Subject {
    pub(super) fn named(args: &FitArgs, name: &str) -> Result<Self> {
        Self::quantized(args, name, args.quantization.as_deref())
    }

    /// A quantization that a published model has a copy in is the copy's, not the engine's to make.
    pub(super) fn quantized(args: &FitArgs, name: &str, quantization: Option<&str>) -> Result<Self> {
        let mut model = model(args, name)?;
        let asked = quantization.filter(|q| !copy::take(&mut model, q));
        Ok(Self {
            settings: settings(args, name, asked),
            model,
        })
    }

    /// "405.9B parameters".
    pub(super) fn size(&self) -> String {
        self.model.parameters.map_or_else(
            || "size unknown".into(),
            |p| format!("{:.1}B parameters", p as f64 / 1e9),
        )
    }

    pub(super) fn quantization(&self) -> &str {
        let asked = self.settings.quantization.as_deref();
        self.model.quantization.as_deref().or(asked).unwrap_or("unquantized")
    }
}

fn model(args: &FitArgs, name: &str) -> Result<ModelFacts> {
    let (book, gaps) = match &args.models {
        Some(folder) => crate::collect::models::read(folder)?,
        None => Default::default(),
    };
    let bare = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let own_gap = gaps.iter().find(|g| g.what.to_ascii_lowercase().contains(&bare));
    if let Some(facts) = book.resolve(name) {
        // A file of this model that could not be read must not be passed over for a row or a guess in silence.
        if let Some(gap) = own_gap {
            bail!("{}: {}; {}", gap.what, gap.reason, gap.remedy);
        }
        return Ok(facts);
    }
    if let Some(gap) = own_gap.or(gaps.first()) {
        bail!(
            "no model is known by the name '{name}', and {}: {}",
            gap.what,
            gap.reason
        );
    }
    if args.models.is_some() {
        let own: Vec<&str> = book.ids().collect();
        bail!(
            "no model is known by the name '{name}'; the folder has {}",
            own.join(", ")
        );
    }
    let near = models::nearest(name);
    let own = "--models DIR reads its config.json";
    if near.is_empty() {
        bail!("no model is known by the name '{name}'; {own}, 'gpuwaste catalog models' lists what is known");
    }
    bail!(
        "no model is known by the name '{name}'; {own}; nearest: {}",
        near.join(", ")
    )
}

fn settings(args: &FitArgs, name: &str, quantization: Option<&str>) -> EngineSettings {
    let mut settings = EngineSettings {
        engine: Some(match args.engine {
            FitEngine::Vllm => EngineKind::Vllm,
            FitEngine::Sglang => EngineKind::Sglang,
            FitEngine::Tgi => EngineKind::Tgi,
            FitEngine::Trtllm => EngineKind::Trtllm,
            FitEngine::Nim => EngineKind::Nim,
            FitEngine::Llamacpp => EngineKind::Llamacpp,
            FitEngine::Ollama => EngineKind::Ollama,
        }),
        engine_version: args.engine_version.clone(),
        model: Some(name.into()),
        data_parallel: args.dp,
        expert_parallel: args.expert_parallel.then_some(true),
        dp_attention: args.dp_attention.then_some(true),
        max_model_len: args.max_model_len,
        max_num_seqs: args.max_num_seqs,
        max_num_batched_tokens: args.max_num_batched_tokens,
        gpu_memory_utilization: args.gpu_memory_utilization,
        mem_fraction_static: args.mem_fraction_static,
        chunked_prefill_size: args.chunked_prefill_size,
        quantization: quantization.map(String::from),
        dtype: args.dtype.clone(),
        kv_cache_dtype: args.kv_cache_dtype.clone(),
        block_size: args.block_size,
        enforce_eager: args.enforce_eager.then_some(true),
        ..EngineSettings::default()
    };
    memory::apply(&args.memory, &mut settings);
    settings
}

/// The running server of --from, read as `scan` reads a fleet.
pub(super) fn server(args: &FitArgs, name: &str) -> Result<ServerLoad> {
    let mut settings: Settings = policy::file(None)?;
    let snapshot = source::snapshot(&args.source, Vec::new(), settings.thresholds.bin_limits())?;
    if let Some(folder) = &args.models {
        settings.models = crate::collect::models::read(folder)?.0;
    }
    let fleet = crate::judge::join(&snapshot, &settings);
    server_load(&fleet, name, &settings.thresholds).map_err(|why| anyhow!("--from {why}"))
}

/// The cards to judge: those named, else every one that runs these engines.
pub(super) fn cards(args: &FitArgs) -> Result<Vec<GpuFacts>> {
    let told = args.gpu_memory_gib.map(Bytes::from_gib);
    let with_memory = |gpu: &GpuFacts| GpuFacts {
        memory_cuda: told.or(gpu.memory_cuda),
        instance: gpu.instance.clone().map(|own| mig::Instance {
            memory: told.map_or(own.memory, |t| (t, t)),
            ..own
        }),
        ..gpu.clone()
    };
    if args.gpu.is_empty() {
        // A memory without a card is a card of that memory, not every tier with it.
        if let Some(told) = told {
            return Ok(vec![unnamed(told)]);
        }
        return Ok(gpus::all()
            .iter()
            .filter(|g| g.vendor != "intel" && instances::gpu_median(g).is_some())
            .map(with_memory)
            .collect());
    }
    args.gpu
        .iter()
        .map(|name| card(name, args.gpu_memory_gib).map(|g| with_memory(&g)))
        .collect()
}

/// A card of which only the memory is told.
fn unnamed(memory: Bytes) -> GpuFacts {
    GpuFacts {
        name: format!("{memory} GPU"),
        memory,
        memory_cuda: Some(memory),
        ..GpuFacts::default()
    }
}

/// As people write it: "NVIDIA H100 80GB", "A10 24GB", "RTX 4090".
fn card(name: &str, gib: Option<f64>) -> Result<GpuFacts> {
    if let Some((card, profile)) = name.split_once("-MIG-").or_else(|| name.split_once(" MIG ")) {
        if let Some(gpu) = mig::named(name) {
            return Ok(gpu.clone());
        }
        let known: Vec<&str> = gpus::find(card)
            .iter()
            .flat_map(|g| &g.mig_profiles)
            .map(|p| p.name.as_str())
            .collect();
        match known.as_slice() {
            [] => {
                bail!("--gpu {name}: no GPU with MIG is known by the name '{card}'; 'gpuwaste catalog gpus' lists them")
            }
            known => bail!(
                "--gpu {name}: {card} has no MIG profile {profile}; it has {}",
                known.join(", ")
            ),
        }
    }
    if let Some(gpu) = gpus::find_with_memory(name, gib.map(|g| g * 1024.0)).or_else(|| gpus::find(name)) {
        return Ok(gpu.clone());
    }
    if let Some(gpu) = gpus::vgpu(name) {
        return Ok(gpu);
    }
    let near = gpus::nearest(name);
    let told = gib.map(Bytes::from_gib);
    if let Some(memory) = told.or_else(|| gpus::memory_in_name(name).map(gpus::reported_of_name)) {
        // An unknown card whose memory is told, by the flag or by its name, can still be judged for memory.
        return Ok(GpuFacts {
            name: name.to_string(),
            ..unnamed(memory)
        });
    }
    if near.is_empty() {
        bail!("no GPU is known by the name '{name}'; 'gpuwaste catalog gpus' lists them, --gpu-memory-gib judges any");
    }
    bail!(
        "no GPU is known by the name '{name}', or it does not tell two memory sizes apart; nearest: {}",
        near.join(", ")
    )
}
