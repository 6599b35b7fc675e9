//! Which metric says what, by engine and generation. Names are written with `_` for `:` (prometheus-parse knows no colon;
//! Ray replaces it too). Of several names for one thing the first that is there counts.

use crate::snapshot::server::EngineKind;

/// One engine's vocabulary. An empty list: the engine does not tell.
pub struct Names {
    pub engine: EngineKind,
    /// Bare names that other programs use too: believed only where the spec says so.
    pub only_if_expected: bool,
    /// Any of these on the page makes it this engine's.
    pub markers: &'static [&'static str],
    pub running: &'static [&'static str],
    pub waiting: &'static [&'static str],
    pub kv_usage: &'static [&'static str],
    pub requests: &'static [&'static str],
    /// (name, label, values) of finished requests that failed.
    pub aborted: Option<(&'static str, &'static str, &'static [&'static str])>,
    pub prompt_tokens: &'static [&'static str],
    pub output_tokens: &'static [&'static str],
    pub preemptions: &'static [&'static str],
    pub prefix_queries: &'static [&'static str],
    pub prefix_hits: &'static [&'static str],
    pub e2e: &'static [&'static str],
    pub ttft: &'static [&'static str],
    pub itl: &'static [&'static str],
    pub prompt_length: &'static [&'static str],
    pub output_length: &'static [&'static str],
}

const NOTHING: Names = Names {
    engine: EngineKind::Vllm,
    only_if_expected: false,
    markers: &[],
    running: &[],
    waiting: &[],
    kv_usage: &[],
    requests: &[],
    aborted: None,
    prompt_tokens: &[],
    output_tokens: &[],
    preemptions: &[],
    prefix_queries: &[],
    prefix_hits: &[],
    e2e: &[],
    ttft: &[],
    itl: &[],
    prompt_length: &[],
    output_length: &[],
};

pub const TABLES: &[Names] = &[
    Names {
        engine: EngineKind::Vllm,
        markers: &[
            "vllm_num_requests_running",
            "vllm_prompt_tokens_total",
            "ray_vllm_num_requests_running",
            "ray_vllm_prompt_tokens_total",
        ],
        running: &["vllm_num_requests_running", "ray_vllm_num_requests_running"],
        waiting: &["vllm_num_requests_waiting", "ray_vllm_num_requests_waiting"],
        // V1 renamed it; between 0.9.2 and 0.10 both are there.
        kv_usage: &[
            "vllm_kv_cache_usage_perc",
            "vllm_gpu_cache_usage_perc",
            "ray_vllm_kv_cache_usage_perc",
            "ray_vllm_gpu_cache_usage_perc",
        ],
        requests: &["vllm_request_success_total", "ray_vllm_request_success_total"],
        aborted: Some(("vllm_request_success_total", "finished_reason", &["abort", "error"])),
        prompt_tokens: &["vllm_prompt_tokens_total", "ray_vllm_prompt_tokens_total"],
        output_tokens: &["vllm_generation_tokens_total", "ray_vllm_generation_tokens_total"],
        preemptions: &["vllm_num_preemptions_total", "ray_vllm_num_preemptions_total"],
        // 0.8–0.9.1 count in blocks under the gpu_ names: a ratio all the same.
        prefix_queries: &[
            "vllm_prefix_cache_queries_total",
            "vllm_gpu_prefix_cache_queries_total",
            "ray_vllm_prefix_cache_queries_total",
        ],
        prefix_hits: &[
            "vllm_prefix_cache_hits_total",
            "vllm_gpu_prefix_cache_hits_total",
            "ray_vllm_prefix_cache_hits_total",
        ],
        e2e: &[
            "vllm_e2e_request_latency_seconds",
            "ray_vllm_e2e_request_latency_seconds",
        ],
        ttft: &[
            "vllm_time_to_first_token_seconds",
            "ray_vllm_time_to_first_token_seconds",
        ],
        itl: &[
            "vllm_inter_token_latency_seconds",
            "vllm_time_per_output_token_seconds",
            "ray_vllm_inter_token_latency_seconds",
            "ray_vllm_time_per_output_token_seconds",
        ],
        prompt_length: &["vllm_request_prompt_tokens", "ray_vllm_request_prompt_tokens"],
        output_length: &["vllm_request_generation_tokens", "ray_vllm_request_generation_tokens"],
        ..NOTHING
    },
    Names {
        engine: EngineKind::Sglang,
        markers: &[
            "sglang_num_running_reqs",
            "sglang_num_requests_total",
            "sglang_token_usage",
            "sglang_prompt_tokens_total",
        ],
        running: &["sglang_num_running_reqs"],
        waiting: &["sglang_num_queue_reqs"],
        kv_usage: &["sglang_token_usage"],
        // Before there was a counter, a finished request was one observation.
        requests: &["sglang_num_requests_total", "sglang_e2e_request_latency_seconds_count"],
        prompt_tokens: &["sglang_prompt_tokens_total"],
        output_tokens: &["sglang_generation_tokens_total"],
        e2e: &["sglang_e2e_request_latency_seconds"],
        ttft: &["sglang_time_to_first_token_seconds"],
        itl: &[
            "sglang_inter_token_latency_seconds",
            "sglang_time_per_output_token_seconds",
        ],
        ..NOTHING
    },
    Names {
        engine: EngineKind::Tgi,
        markers: &["tgi_request_count", "tgi_queue_size", "tgi_batch_current_size"],
        running: &["tgi_batch_current_size"],
        waiting: &["tgi_queue_size"],
        requests: &["tgi_request_count", "tgi_request_count_total"],
        prompt_tokens: &["tgi_request_input_length_sum"],
        output_tokens: &["tgi_request_generated_tokens_sum"],
        e2e: &["tgi_request_duration"],
        itl: &["tgi_request_mean_time_per_token_duration"],
        prompt_length: &["tgi_request_input_length"],
        output_length: &["tgi_request_generated_tokens"],
        ..NOTHING
    },
    Names {
        engine: EngineKind::Triton,
        markers: &[
            "nv_inference_request_success",
            "nv_inference_count",
            "nv_trt_llm_request_metrics",
        ],
        // Triton has no running gauge; TensorRT-LLM's is a label value, read apart.
        waiting: &["nv_inference_pending_request_count"],
        requests: &["nv_inference_request_success"],
        ..NOTHING
    },
    Names {
        engine: EngineKind::Trtllm,
        markers: &["trtllm_num_requests_running", "trtllm_request_success_total"],
        running: &["trtllm_num_requests_running"],
        waiting: &["trtllm_num_requests_waiting"],
        kv_usage: &["trtllm_kv_cache_utilization"],
        requests: &["trtllm_request_success_total"],
        e2e: &["trtllm_e2e_request_latency_seconds"],
        ttft: &["trtllm_time_to_first_token_seconds"],
        itl: &["trtllm_time_per_output_token_seconds"],
        ..NOTHING
    },
    Names {
        engine: EngineKind::Llamacpp,
        markers: &["llamacpp_requests_processing", "llamacpp_prompt_tokens_total"],
        running: &["llamacpp_requests_processing"],
        waiting: &["llamacpp_requests_deferred"],
        kv_usage: &["llamacpp_kv_cache_usage_ratio"],
        // Requests are not counted; decode calls are work all the same.
        requests: &["llamacpp_n_decode_total"],
        prompt_tokens: &["llamacpp_prompt_tokens_total"],
        output_tokens: &["llamacpp_tokens_predicted_total"],
        ..NOTHING
    },
    Names {
        engine: EngineKind::Lmdeploy,
        markers: &["lmdeploy_num_requests_running"],
        running: &["lmdeploy_num_requests_running"],
        waiting: &["lmdeploy_num_requests_waiting"],
        kv_usage: &["lmdeploy_gpu_cache_usage_perc"],
        // `num_api_requests_routed` is a gauge of those under way: a finished request is one observation of its latency.
        requests: &["lmdeploy_e2e_request_latency_seconds_count"],
        prompt_tokens: &["lmdeploy_prompt_tokens_total"],
        output_tokens: &["lmdeploy_generation_tokens_total"],
        e2e: &["lmdeploy_e2e_request_latency_seconds"],
        ttft: &["lmdeploy_time_to_first_token_seconds"],
        itl: &["lmdeploy_iter_token_latency", "lmdeploy_time_per_output_token_seconds"],
        ..NOTHING
    },
    Names {
        engine: EngineKind::Tei,
        markers: &["te_request_count", "te_embed_count"],
        waiting: &["te_queue_size"],
        requests: &["te_request_count"],
        ..NOTHING
    },
    Names {
        engine: EngineKind::TorchServe,
        markers: &["ts_inference_requests_total"],
        requests: &["ts_inference_requests_total"],
        ..NOTHING
    },
    // Ray Serve's own, where no engine speaks: what its replicas on this pod handled.
    Names {
        engine: EngineKind::RayServe,
        markers: &[
            "ray_serve_deployment_request_counter_total",
            "ray_serve_deployment_request_counter",
            "ray_serve_replica_processing_queries",
        ],
        running: &[
            "ray_serve_replica_processing_queries",
            "ray_serve_num_ongoing_requests_at_replicas",
        ],
        requests: &[
            "ray_serve_deployment_request_counter_total",
            "ray_serve_deployment_request_counter",
        ],
        ..NOTHING
    },
    // infinity counts at the HTTP layer, as many programs do: believed only where the spec says so, see `http_requests`.
    Names {
        engine: EngineKind::Infinity,
        only_if_expected: true,
        markers: &["http_requests_total"],
        requests: &["http_requests_total"],
        ..NOTHING
    },
    Names {
        engine: EngineKind::Nim,
        only_if_expected: true,
        markers: &["num_requests_running", "prompt_tokens_total"],
        running: &["num_requests_running"],
        waiting: &["num_requests_waiting"],
        kv_usage: &["gpu_cache_usage_perc"],
        requests: &["request_finish_total", "request_success_total"],
        prompt_tokens: &["prompt_tokens_total"],
        output_tokens: &["generation_tokens_total"],
        e2e: &["e2e_request_latency_seconds"],
        ttft: &["time_to_first_token_seconds"],
        itl: &["time_per_output_token_seconds"],
        prompt_length: &["request_prompt_tokens"],
        output_length: &["request_generation_tokens"],
        ..NOTHING
    },
];

/// Prefixes of all engines' names, and the bare ones NIM uses.
const PREFIXES: &[&str] = &[
    "vllm_",
    "ray_vllm_",
    "sglang_",
    "tgi_",
    "nv_inference_",
    "nv_trt_llm_",
    "trtllm_",
    "llamacpp_",
    "lmdeploy_",
    "te_",
    "ts_inference_",
    "ray_serve_",
    "dynamo_component_",
];
const BARE: &[&str] = &[
    "process_start_time_seconds",
    "http_requests_total",
    "num_requests_running",
    "num_requests_waiting",
    "gpu_cache_usage_perc",
    "prompt_tokens_total",
    "generation_tokens_total",
    "request_finish_total",
    "request_success_total",
    "e2e_request_latency_seconds",
    "time_to_first_token_seconds",
    "time_per_output_token_seconds",
    "request_prompt_tokens",
    "request_generation_tokens",
];

/// Whether a sample's name (colons already replaced) is one that any table reads.
pub fn is_wanted(name: &str) -> bool {
    if name.ends_with("_created") {
        return false;
    }
    PREFIXES.iter().any(|p| name.starts_with(p))
        || BARE.iter().any(|b| {
            name.strip_prefix(b)
                .is_some_and(|rest| matches!(rest, "" | "_sum" | "_count" | "_bucket"))
        })
}
