//! Several servers that one container's script starts: one after the other, one instead of the other, or side by side.

use super::command::Launch;
use super::shell::Ran;
use super::unread::Places;
use super::{Candidate, ContainerSpec, Registry, unsaid};
use crate::snapshot::server::{EngineSettings, Setting, UnreadSetting};

const BESIDE: &str = "the start script, which starts several servers";
const INSTEAD: &str = "the start script, which starts one server or another";

/// The servers together, where there are several; `None`: there is one at most.
pub(super) fn servers(
    all: &Registry<'_>,
    spec: &ContainerSpec,
    launch: &Launch,
    places: &Places,
) -> Option<EngineSettings> {
    let again = |ran: &Ran| ran.background && ran.repeated;
    if launch.ran.len() < 2 && !launch.ran.iter().any(again) {
        return None;
    }
    let mut found: Vec<(EngineSettings, &Ran)> = Vec::new();
    for ran in &launch.ran {
        let candidate = Candidate::new(spec, launch, places, std::slice::from_ref(ran));
        // In a script the image's entry point starts nothing.
        let candidate = Candidate {
            entrypoint: false,
            ..candidate
        };
        let started = all.settings(&candidate).filter(|(_, facts)| facts.started_by_name);
        found.extend(started.map(|(settings, _)| (settings, ran)));
    }
    let (first, rest) = found.split_first()?;
    let unknown_many = found.iter().any(|(_, ran)| again(ran));
    if rest.is_empty() && !unknown_many {
        return None;
    }
    let pairs = || (0..found.len()).flat_map(|a| (a + 1..found.len()).map(move |b| (a, b)));
    let beside = |(a, b): (usize, usize)| found[a].1.runs_beside(found[b].1);
    let mut all = first.0.clone();
    let mut unread = std::mem::take(&mut all.unread);
    unread.extend(rest.iter().flat_map(|(s, _)| s.unread.iter().cloned()));
    if !unknown_many && !pairs().any(beside) {
        differences(&mut all, rest.iter().map(|(s, _)| s), INSTEAD, &mut unread);
    } else if !unknown_many && pairs().all(beside) && rest.iter().all(|(s, _)| alike(s, &first.0)) && unread.is_empty()
    {
        // As many copies of one server: each has its share of the load, as data-parallel ranks have.
        let copies = u32::try_from(found.len()).unwrap_or(u32::MAX);
        all.data_parallel = Some(all.data_parallel.unwrap_or(1).saturating_mul(copies));
        all.api_per_node = true;
    } else {
        differences(&mut all, rest.iter().map(|(s, _)| s), BESIDE, &mut unread);
        (all.tensor_parallel, all.pipeline_parallel, all.data_parallel) = (None, None, None);
        for setting in [
            Setting::TensorParallel,
            Setting::PipelineParallel,
            Setting::DataParallel,
            Setting::FurtherParallel,
        ] {
            unread.push(at(setting, BESIDE));
        }
    }
    unsaid::apply(&mut all, unread);
    Some(all)
}

fn at(setting: Setting, place: &str) -> UnreadSetting {
    UnreadSetting {
        setting,
        place: place.into(),
    }
}

/// The same server twice, but for where it listens and what it is called.
fn alike(a: &EngineSettings, b: &EngineSettings) -> bool {
    let bare = |s: &EngineSettings| EngineSettings {
        port: None,
        served_names: Vec::new(),
        ..s.clone()
    };
    bare(a) == bare(b)
}

/// What the others state differently is not known of all.
fn differences<'s>(
    all: &mut EngineSettings,
    others: impl Iterator<Item = &'s EngineSettings>,
    place: &str,
    unread: &mut Vec<UnreadSetting>,
) {
    for other in others {
        macro_rules! same {
            ($field:ident, $setting:expr) => {
                if all.$field != other.$field {
                    all.$field = Default::default();
                    unread.push(at($setting, place));
                }
            };
        }
        same!(engine, Setting::Engine);
        same!(engine_version, Setting::EngineVersion);
        same!(model, Setting::Model);
        same!(tensor_parallel, Setting::TensorParallel);
        same!(pipeline_parallel, Setting::PipelineParallel);
        same!(data_parallel, Setting::DataParallel);
        same!(nodes, Setting::FurtherParallel);
        same!(max_model_len, Setting::MaxModelLen);
        same!(length_by_memory, Setting::MaxModelLen);
        same!(max_num_seqs, Setting::MaxNumSeqs);
        same!(slots, Setting::MaxNumSeqs);
        same!(max_num_batched_tokens, Setting::MaxNumBatchedTokens);
        same!(chunked_prefill_size, Setting::MaxNumBatchedTokens);
        same!(chunked_prefill, Setting::MaxNumBatchedTokens);
        same!(gpu_memory_utilization, Setting::MemoryShare);
        same!(mem_fraction_static, Setting::MemoryShare);
        same!(kv_cache_memory, Setting::MemoryShare);
        same!(gpu_blocks_override, Setting::MemoryShare);
        same!(quantization, Setting::Quantization);
        same!(dtype, Setting::Dtype);
        same!(kv_cache_dtype, Setting::KvCacheDtype);
        same!(role, Setting::Role);
        same!(expert_parallel, Setting::Sizing);
        same!(dp_attention, Setting::Sizing);
        same!(speculative, Setting::Sizing);
        same!(lora, Setting::Sizing);
        same!(max_loras, Setting::Sizing);
        same!(cpu_offload, Setting::Sizing);
        same!(block_size, Setting::Sizing);
        same!(gpu_layers, Setting::Sizing);
        same!(enforce_eager, Setting::Sizing);
        if all.model.is_none() {
            all.served_names.clear();
        }
        all.stretched |= other.stretched;
    }
}
