//! Hugging Face Text Embeddings Inference.

use super::prelude::*;

pub(super) struct Tei;

static FACTS: Facts = Facts {
    kind: EngineKind::Tei,
    versions: Versions::Tag,
    started_by_name: true,
    set_by_arguments: false,
    routers: Routers::NONE,
    variables: &[reads("MODEL_ID", Setting::Model, Form::Model)],
    // It knows one device (text-embeddings-inference, `Device::new_cuda(0)`).
    width: Width::One,
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
        port: Some(80),
        metrics: Some("/metrics"),
        other_metrics: &[],
        metrics_flag: None,
        identity: &[path("/info", identity::info)],
    },
    vocabulary: Vocabulary {
        prefixes: &["te_"],
        markers: &["request_count", "embed_count"],
        figures: &[
            told(Load::Waiting, &[named("queue_size")]),
            told(Load::Requests, &[named("request_count")]),
        ],
        ..Vocabulary::SILENT
    },
};

impl Engine for Tei {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let known = candidate.image.contains("text-embeddings-inference");
        let words = match candidate.after(|words| behind_program(words, "text-embeddings-router")) {
            Some(words) => words,
            None if known => candidate.entrypoint_args()?,
            None => return None,
        };
        let flags = candidate.flags(words, &["json-output", "auto-truncate"]);
        Some(EngineSettings {
            model: flags
                .owned(&["model-id"])
                .or_else(|| candidate.env("MODEL_ID").map(String::from)),
            dtype: flags.owned(&["dtype"]),
            max_num_batched_tokens: flags.count(&["max-batch-tokens"]),
            port: flags.small(&["port"]).and_then(|p| u16::try_from(p).ok()),
            ..EngineSettings::default()
        })
    }
}
