//! What a serving engine was told to do: parsed settings by name, never the raw command line.

use crate::units::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Serving engines that gpuwaste knows. The kebab-case name is stable: users script against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EngineKind {
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
    pub(crate) const fn name(self) -> &'static str {
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
pub(crate) enum ServerRole {
    Prefill,
    Decode,
}

impl ServerRole {
    /// As JSON and tables write it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}

/// The settings of one serving engine. Each `None` means: not stated; the engine's own default applies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EngineSettings {
    /// `None`: no engine was recognised (fit then assumes vLLM's rules and says so).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) engine: Option<EngineKind>,
    /// As told: "0.11.0", "v0.8.5.post1", "25.03"; from the server's own word, else the image's tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) engine_version: Option<String>,
    /// What is loaded, as written: Hugging Face id, path, NIM or Ollama name. `None` where the spec does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) served_names: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tensor_parallel: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pipeline_parallel: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data_parallel: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expert_parallel: Option<bool>,
    /// Attention is data-parallel inside the tensor-parallel ranks: SGLang's `--enable-dp-attention`, TensorRT-LLM's
    /// `enable_attention_dp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dp_attention: Option<bool>,
    /// Tokens (prompt + output) one request may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_model_len: Option<u64>,
    /// The model's own length is overridden: vLLM's `--hf-overrides` and `--rope-scaling`, `VLLM_ALLOW_LONG_MAX_MODEL_LEN`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) stretched: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_num_seqs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_num_batched_tokens: Option<u64>,
    /// vLLM: share of the card's memory for weights, KV cache and activations, 0–1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gpu_memory_utilization: Option<f64>,
    /// SGLang: share for weights and KV pool. TensorRT-LLM: share of what is free after loading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mem_fraction_static: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chunked_prefill_size: Option<u64>,
    /// "awq", "fp8", "bitsandbytes", "Q4_K_M" …, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quantization: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dtype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kv_cache_dtype: Option<String>,
    /// Tokens per KV block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) block_size: Option<u64>,
    /// vLLM's `--kv-cache-memory-bytes`: overrides the utilization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kv_cache_memory: Option<Bytes>,
    /// vLLM's `--num-gpu-blocks-override`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gpu_blocks_override: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enforce_eager: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefix_caching: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<ServerRole>,
    /// LoRA adapters are enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lora: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_loras: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_lora_rank: Option<u64>,
    /// A draft model or speculative head is loaded beside the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) speculative: Option<bool>,
    /// How it drafts, as written: "mtp", "eagle3", "ngram", "EAGLE" …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) speculative_method: Option<String>,
    /// Tokens drafted ahead (vLLM's `num_speculative_tokens`, SGLang's `--speculative-num-draft-tokens`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) speculative_tokens: Option<u32>,
    /// Towers are not loaded: `--language-model-only`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) language_model_only: Option<bool>,
    /// Images (or videos) a request may hold (`--limit-mm-per-prompt`); 0: towers are not profiled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) images_per_prompt: Option<u64>,
    /// Windows cost the full context: `--disable-hybrid-kv-cache-manager`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hybrid_kv_off: Option<bool>,
    /// Element of recurrent state: `--mamba-cache-dtype`, `--mamba-ssm-cache-dtype`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mamba_cache_dtype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mamba_ssm_dtype: Option<String>,
    /// SGLang: window tokens a full token (`--swa-full-tokens-ratio`); state memory against that of tokens
    /// (`--mamba-full-memory-ratio`); tokens of the pool at most (`--max-total-tokens`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) swa_full_tokens_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mamba_full_memory_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_total_tokens: Option<u64>,
    /// Free on each card when the engine began, where somebody told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) free_memory: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sleep_mode: Option<bool>,
    /// Weights moved to host memory, per GPU (`--cpu-offload-gb`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_offload: Option<Bytes>,
    /// API server processes (`--api-server-count`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) api_servers: Option<u32>,
    /// Nodes of a multi-node group, where the command says (`--nnodes`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nodes: Option<u32>,
    /// llama.cpp: parallel slots (`-np`); layers on the GPU (`-ngl`, 0 = GPU unused).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) slots: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gpu_layers: Option<u64>,
    /// Run by NVIDIA Dynamo: requests come over its own transport, metrics are at its system port.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) dynamo: bool,
    /// Run by Ray Serve: metrics are at the port of the pod's Ray process, on the pod where the engine runs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) ray: bool,
    /// `--headless`: a member of a group without an API of its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) headless: bool,
    /// Every member of a multi-node group has its own API (vLLM's hybrid and external load balancing).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) api_per_node: bool,
    /// Port the server listens on, where the command says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<u16>,
}

impl EngineSettings {
    /// GPUs that the stated parallelism uses: TP × PP × DP; an unstated one counts as 1. Data-parallel attention runs inside
    /// the tensor-parallel ranks.
    pub(crate) fn gpus_used(&self) -> u32 {
        let data = self.data_parallel.filter(|_| self.dp_attention != Some(true));
        [self.tensor_parallel, self.pipeline_parallel, data]
            .into_iter()
            .map(|n| n.unwrap_or(1).max(1))
            .fold(1, u32::saturating_mul)
    }
}
