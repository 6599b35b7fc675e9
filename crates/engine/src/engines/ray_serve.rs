//! A Ray pod. Which model a Ray Serve application loads is in the RayService, not in its pods.

use super::prelude::*;

pub(super) struct RayServe;

static FACTS: Facts = Facts {
    kind: EngineKind::RayServe,
    versions: Versions::Tag,
    started_by_name: false,
    set_by_arguments: false,
    routers: Routers::NONE,
    variables: &[],
    // It places its replicas over the cluster's GPUs by itself.
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
        port: Some(8080),
        metrics: Some("/metrics"),
        other_metrics: &[],
        metrics_flag: None,
        identity: &[],
    },
    // What its replicas on this pod handled, where no engine speaks.
    vocabulary: Vocabulary {
        prefixes: &["ray_serve_"],
        markers: &[
            "deployment_request_counter_total",
            "deployment_request_counter",
            "replica_processing_queries",
        ],
        figures: &[
            told(
                Load::Running,
                &[
                    named("replica_processing_queries"),
                    named("num_ongoing_requests_at_replicas"),
                ],
            ),
            told(
                Load::Requests,
                &[
                    named("deployment_request_counter_total"),
                    named("deployment_request_counter"),
                ],
            ),
        ],
        instead: &[EngineKind::Vllm],
        ..Vocabulary::SILENT
    },
};

impl Engine for RayServe {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let serve = candidate.after(|words| {
            behind_program(words, "serve")
                .filter(|at| matches!(words.get(*at).map(String::as_str), Some("run" | "deploy")))
        });
        let llm = candidate.image.contains("ray-llm")
            || candidate.after(|w| behind_module(w, |m| m == "ray.serve")).is_some();
        (serve.is_some() || llm).then(EngineSettings::default)
    }
}
