//! Triton Inference Server, with any backend. What it serves is in the model repository, which the pod spec does not show.

use super::prelude::*;

pub(super) struct Triton;

static FACTS: Facts = Facts {
    kind: EngineKind::Triton,
    versions: Versions::Tag,
    started_by_name: true,
    set_by_arguments: false,
    routers: Routers::NONE,
    variables: &[],
    // Instances and ranks stand in each model's config.pbtxt.
    width: Width::Chosen,
    memory: MemoryRules::Unknown,
    keeps_float32: false,
    longest_request: None,
    cuts_its_context: false,
    card_share: None,
    apis_of_ranks: false,
    cpu_need_published: false,
    own_model_names: false,
    language_models: false,
    endpoints: Endpoints {
        port: Some(8002),
        metrics: Some("/metrics"),
        other_metrics: &[],
        metrics_flag: None,
        identity: &[],
    },
    vocabulary: Vocabulary {
        prefixes: &["nv_"],
        markers: &[
            "inference_request_success",
            "inference_count",
            "trt_llm_request_metrics",
        ],
        // Triton has no gauge of running requests; TensorRT-LLM's backend tells more by the value of a label.
        figures: &[
            told(
                Load::Running,
                &[named("trt_llm_request_metrics")
                    .only("request_type", &["active"])
                    .sometimes()],
            ),
            told(
                Load::Waiting,
                &[
                    named("trt_llm_request_metrics")
                        .only("request_type", &["waiting"])
                        .sometimes(),
                    named("inference_pending_request_count"),
                ],
            ),
            told(
                Load::KvUsage,
                &[named("trt_llm_kv_cache_block_metrics")
                    .only(BLOCKS, &["fraction"])
                    .sometimes()],
            ),
            told(Load::Requests, &[named("inference_request_success")]),
        ],
        // Its vLLM backend has vLLM's own names.
        beside: &[EngineKind::Vllm],
        ..Vocabulary::SILENT
    },
};

const BLOCKS: &str = "kv_cache_block_type";

fn block_metric(page: &Page, kind: &str) -> Option<f64> {
    page.max_where("nv_trt_llm_kv_cache_block_metrics", |label| label(BLOCKS) == Some(kind))
}

impl Engine for Triton {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let launcher = candidate.after(|words| {
            words
                .iter()
                .position(|w| w.ends_with("launch_triton_server.py"))
                .map(|at| at + 1)
        });
        let words = launcher.or_else(|| {
            candidate.after(|words| {
                words
                    .iter()
                    .position(|w| w.rsplit('/').next() == Some("tritonserver"))
                    .map(|at| at + 1)
            })
        });
        let words = match words {
            Some(words) => words,
            None if candidate.image.base() == "tritonserver" => candidate.entrypoint_args()?,
            None => return None,
        };
        let flags = candidate.flags(words, &["allow-metrics", "log-verbose", "force"]);
        // `mpirun -n 4 tritonserver …`: one rank a GPU.
        let ranks = candidate
            .after(|words| behind_program(words, "mpirun"))
            .and_then(|words| Flags::parse(words, &["allow-run-as-root"]).small(&["n", "np"]));
        Some(EngineSettings {
            tensor_parallel: flags
                .small(&["tp", "tensor-parallel-size"])
                .or_else(|| flags.small(&["world-size"]))
                .or(ranks),
            pipeline_parallel: flags.small(&["pp", "pipeline-parallel-size"]),
            port: flags.small(&["metrics-port"]).and_then(|p| u16::try_from(p).ok()),
            ..EngineSettings::default()
        })
    }

    fn complete(&self, page: &Page, reading: &mut EngineReading) {
        // Some releases of TensorRT-LLM's backend tell the blocks, not the share of them.
        let of = |kind: &str| block_metric(page, kind);
        let share = || {
            let (used, all) = (of("used")?, of("max")?);
            (all > 0.0).then(|| used / all)
        };
        reading.kv_usage = reading.kv_usage.or_else(share);
    }

    fn identify(&self, page: &Page, identity: &mut ServerIdentity) {
        let of = |kind: &str| block_metric(page, kind);
        let number = |kind: &str| of(kind).map(|v| v as u64);
        super::blocks(identity, number("max"), number("tokens_per"));
    }
}
