//! TorchServe.

use super::prelude::*;

pub(super) struct TorchServe;

static FACTS: Facts = Facts {
    kind: EngineKind::TorchServe,
    versions: Versions::Tag,
    started_by_name: false,
    set_by_arguments: false,
    routers: Routers::NONE,
    variables: &[],
    // `number_of_gpu` workers, one a GPU (pytorch.org/serve/configuration.html); whether a model spans them its handler says.
    width: Width::Chosen,
    memory: MemoryRules::Plain,
    keeps_float32: true,
    longest_request: None,
    cuts_its_context: false,
    card_share: None,
    apis_of_ranks: false,
    cpu_need_published: false,
    own_model_names: false,
    language_models: false,
    endpoints: Endpoints {
        port: Some(8082),
        metrics: Some("/metrics"),
        other_metrics: &[],
        metrics_flag: None,
        identity: &[],
    },
    vocabulary: Vocabulary {
        prefixes: &["ts_inference_"],
        markers: &["requests_total"],
        figures: &[told(Load::Requests, &[named("requests_total")])],
        ..Vocabulary::SILENT
    },
};

impl Engine for TorchServe {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let known = candidate.image.contains("pytorch/torchserve")
            || candidate.after(|w| behind_program(w, "torchserve")).is_some();
        known.then(EngineSettings::default)
    }
}
