//! What a serving engine was told to do: parsed settings by name, never the raw command line.

use crate::units::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Serving engines that gpuwaste knows. The kebab-case name is stable: users script against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    Vllm,
    Sglang,
    Tgi,
    Trtllm,
    Triton,
    Nim,
    Llamacpp,
    Ollama,
    Lmdeploy,
    /// Text Embeddings Inference.
    Tei,
    Infinity,
    /// Ray Serve without a recognised engine inside.
    RayServe,
    TorchServe,
    Whisper,
    Diffusion,
}

impl EngineKind {
    /// The stable name used in JSON, flags and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Tgi => "tgi",
            Self::Trtllm => "trtllm",
            Self::Triton => "triton",
            Self::Nim => "nim",
            Self::Llamacpp => "llamacpp",
            Self::Ollama => "ollama",
            Self::Lmdeploy => "lmdeploy",
            Self::Tei => "tei",
            Self::Infinity => "infinity",
            Self::RayServe => "ray-serve",
            Self::TorchServe => "torch-serve",
            Self::Whisper => "whisper",
            Self::Diffusion => "diffusion",
        }
    }
}

/// A server's part in a split of prefill and decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServerRole {
    Prefill,
    Decode,
}

impl ServerRole {
    /// As JSON and tables write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}

/// A setting as far as conclusions hang on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// Whatever is not stated elsewhere: a whole file, an array, a template.
    Any,
    Engine,
    EngineVersion,
    Model,
    TensorParallel,
    PipelineParallel,
    DataParallel,
    /// What multiplies TP × PP × DP, or stands beside it: nodes of a group, context parallelism, stages, several servers.
    FurtherParallel,
    MaxModelLen,
    MaxNumSeqs,
    MaxNumBatchedTokens,
    /// `gpu_memory_utilization`, `mem_fraction_static`, `kv_cache_memory`.
    MemoryShare,
    Quantization,
    Dtype,
    KvCacheDtype,
    /// The side of a prefill/decode split.
    Role,
    /// Another one that memory or speed hang on: offloading, a draft model, adapters, block sizes, eager mode, expert
    /// parallelism.
    Sizing,
    /// One that no conclusion about GPUs, memory or speed hangs on.
    Other,
}

/// A setting that is stated where it could not be read. It stays unknown for ever: the engine's default is not its value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnreadSetting {
    pub setting: Setting,
    /// Where it stands, for people: "key TP of ConfigMap ml/serving", "the file of --config", "the placeholder ${TP}".
    pub place: String,
}

/// The settings of one serving engine. Each `None` means: not stated, so that the engine's own default applies, unless
/// [`EngineSettings::unread`] says that it is stated where nobody could read it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// `None`: no engine was recognised (fit then assumes vLLM's rules and says so).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineKind>,
    /// As told: "0.11.0", "v0.8.5.post1", "25.03"; from the server's own word, else the image's tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// What is loaded, as written: Hugging Face id, path, NIM or Ollama name. `None` where the spec does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub served_names: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensor_parallel: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline_parallel: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_parallel: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expert_parallel: Option<bool>,
    /// Attention is data-parallel inside the tensor-parallel ranks: SGLang's `--enable-dp-attention`, TensorRT-LLM's
    /// `enable_attention_dp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dp_attention: Option<bool>,
    /// Tokens (prompt + output) one request may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_model_len: Option<u64>,
    /// The model's own length is overridden: vLLM's `--hf-overrides` and `--rope-scaling`, `VLLM_ALLOW_LONG_MAX_MODEL_LEN`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stretched: bool,
    /// The engine takes the longest that its memory holds: vLLM's `--max-model-len auto` (or -1).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub length_by_memory: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_num_seqs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_num_batched_tokens: Option<u64>,
    /// Its ranks are actors of a Ray cluster, which may be in other pods: vLLM's executor `ray`, a script with `ray start`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ranks_by_ray: bool,
    /// vLLM: share of the card's memory for weights, KV cache and activations, 0–1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_memory_utilization: Option<f64>,
    /// SGLang: share for weights and KV pool. TensorRT-LLM: share of what is free after loading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_fraction_static: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunked_prefill_size: Option<u64>,
    /// vLLM's `--enable-chunked-prefill`; false: a step holds whole prompts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunked_prefill: Option<bool>,
    /// "awq", "fp8", "bitsandbytes", "Q4_K_M" …, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_cache_dtype: Option<String>,
    /// Tokens per KV block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u64>,
    /// vLLM's `--kv-cache-memory-bytes`: overrides the utilization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_cache_memory: Option<Bytes>,
    /// vLLM's `--num-gpu-blocks-override`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_blocks_override: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforce_eager: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_caching: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<ServerRole>,
    /// KV cache goes to, or comes from, other servers over a connector (vLLM's `--kv-transfer-config`): unless its role is
    /// told, it may be one half of a split server.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub kv_transfer: bool,
    /// LoRA adapters are enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_loras: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lora_rank: Option<u64>,
    /// A draft model or speculative head is loaded beside the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speculative: Option<bool>,
    /// How it drafts, as written: "mtp", "eagle3", "ngram", "EAGLE" …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speculative_method: Option<String>,
    /// Tokens drafted ahead (vLLM's `num_speculative_tokens`, SGLang's `--speculative-num-draft-tokens`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speculative_tokens: Option<u32>,
    /// Towers are not loaded: `--language-model-only`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language_model_only: Option<bool>,
    /// Images (or videos) a request may hold (`--limit-mm-per-prompt`); 0: towers are not profiled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_per_prompt: Option<u64>,
    /// Windows cost the full context: `--disable-hybrid-kv-cache-manager`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hybrid_kv_off: Option<bool>,
    /// Element of recurrent state: `--mamba-cache-dtype`, `--mamba-ssm-cache-dtype`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mamba_cache_dtype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mamba_ssm_dtype: Option<String>,
    /// SGLang: window tokens a full token (`--swa-full-tokens-ratio`); state memory against that of tokens
    /// (`--mamba-full-memory-ratio`); tokens of the pool at most (`--max-total-tokens`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swa_full_tokens_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mamba_full_memory_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_total_tokens: Option<u64>,
    /// Free on each card when the engine began, where somebody told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_memory: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleep_mode: Option<bool>,
    /// Weights moved to host memory, per GPU (`--cpu-offload-gb`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_offload: Option<Bytes>,
    /// API server processes (`--api-server-count`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_servers: Option<u32>,
    /// Nodes of a multi-node group, where the command says (`--nnodes`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u32>,
    /// llama.cpp: parallel slots (`-np`); layers on the GPU (`-ngl`, 0 = GPU unused).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_layers: Option<u64>,
    /// Run by NVIDIA Dynamo: requests come over its own transport, metrics are at its system port.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dynamo: bool,
    /// Run by Ray Serve: metrics are at the port of the pod's Ray process, on the pod where the engine runs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ray: bool,
    /// `--headless`: a member of a group without an API of its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub headless: bool,
    /// Every member of a multi-node group has its own API (vLLM's hybrid and external load balancing).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub api_per_node: bool,
    /// Servers in this container, each on a port of its own counted up from `port`, each with the metrics of its own
    /// data-parallel rank alone (vLLM's `--data-parallel-multi-port-external-lb`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apis: Option<u32>,
    /// Port the server listens on, where the command says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What is stated and could not be read. No default stands in for any of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<UnreadSetting>,
}

impl EngineSettings {
    /// Where `setting` is stated, if that could not be read. A value that was read (by another way) settles it; of a model
    /// that is a path or a URI the files are unread as long as nothing else names it: its name is what somebody called them.
    pub fn unread(&self, setting: Setting) -> Option<&UnreadSetting> {
        let read = match setting {
            Setting::Engine => self.engine.is_some(),
            Setting::EngineVersion => self.engine_version.is_some(),
            Setting::Model => self
                .model
                .as_deref()
                .is_some_and(|m| !m.starts_with('/') && !m.contains("://")),
            Setting::TensorParallel => self.tensor_parallel.is_some(),
            Setting::PipelineParallel => self.pipeline_parallel.is_some(),
            Setting::DataParallel => self.data_parallel.is_some(),
            Setting::MaxModelLen => self.max_model_len.is_some() || self.length_by_memory,
            Setting::MaxNumSeqs => self.max_num_seqs.is_some(),
            Setting::MaxNumBatchedTokens => self.max_num_batched_tokens.is_some(),
            Setting::MemoryShare => {
                self.gpu_memory_utilization.is_some()
                    || self.mem_fraction_static.is_some()
                    || self.kv_cache_memory.is_some()
            }
            Setting::Quantization => self.quantization.is_some(),
            Setting::Dtype => self.dtype.is_some(),
            Setting::KvCacheDtype => self.kv_cache_dtype.is_some(),
            Setting::Role => self.role.is_some(),
            Setting::Any | Setting::FurtherParallel | Setting::Sizing | Setting::Other => false,
        };
        self.unread
            .iter()
            .find(|u| !read && (u.setting == setting || u.setting == Setting::Any))
    }

    /// Where a part of the parallelism is stated, if that could not be read: how many GPUs the server uses is then not known.
    pub fn unread_parallelism(&self) -> Option<&UnreadSetting> {
        [
            Setting::TensorParallel,
            Setting::PipelineParallel,
            Setting::DataParallel,
            Setting::FurtherParallel,
        ]
        .into_iter()
        .find_map(|s| self.unread(s))
    }

    /// GPUs that the stated parallelism uses: TP × PP × DP; an unstated one counts as 1. Data-parallel attention runs inside
    /// the tensor-parallel ranks.
    pub fn gpus_used(&self) -> u32 {
        let data = self.data_parallel.filter(|_| self.dp_attention != Some(true));
        [self.tensor_parallel, self.pipeline_parallel, data]
            .into_iter()
            .map(|n| n.unwrap_or(1).max(1))
            .fold(1, u32::saturating_mul)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unread_file_leaves_unknown_what_is_not_stated_elsewhere() {
        let mut settings = EngineSettings {
            tensor_parallel: Some(8),
            unread: vec![UnreadSetting {
                setting: Setting::Any,
                place: "the file of --config".into(),
            }],
            ..EngineSettings::default()
        };
        assert!(settings.unread(Setting::TensorParallel).is_none());
        assert!(settings.unread(Setting::MaxModelLen).is_some());
        assert!(
            settings.unread_parallelism().is_some(),
            "pipeline and data may stand there"
        );
        settings.unread[0].setting = Setting::MaxModelLen;
        assert!(settings.unread_parallelism().is_none());
    }
}
