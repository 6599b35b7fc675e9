//! infinity: embeddings and rerankers.

use super::prelude::*;

pub(super) struct Infinity;

static FACTS: Facts = Facts {
    kind: EngineKind::Infinity,
    versions: Versions::Tag,
    started_by_name: true,
    set_by_arguments: false,
    routers: Routers::NONE,
    variables: &[reads("INFINITY_MODEL_ID", Setting::Model, Form::Model)],
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
        port: Some(7997),
        metrics: Some("/metrics"),
        other_metrics: &[],
        metrics_flag: None,
        identity: &[path("/models", identity::models)],
    },
    vocabulary: Vocabulary {
        prefixes: &[""],
        // It counts at the HTTP layer, as many programs do.
        only_if_expected: true,
        markers: &["http_requests_total"],
        figures: &[told(
            Load::Requests,
            // Requests that are work: not those of probes and scrapers.
            &[named("http_requests_total").except("handler", &["/metrics", "/health", "/ready", "/", "none"])],
        )],
        ..Vocabulary::SILENT
    },
};

impl Engine for Infinity {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let words = match candidate.after(|words| behind_program(words, "infinity_emb")) {
            Some(words) => words,
            None if candidate.image.base() == "infinity" || candidate.image.base() == "infinity-emb" => {
                candidate.entrypoint_args()?
            }
            None => return None,
        };
        let flags = candidate.flags(words, &[]);
        Some(EngineSettings {
            model: flags.owned(&["model-id", "model-name-or-path"]).or_else(|| {
                let named = candidate.env("INFINITY_MODEL_ID")?;
                named.split(';').next().map(String::from)
            }),
            dtype: flags.owned(&["dtype"]).filter(|d| d != "auto"),
            port: flags.small(&["port"]).and_then(|p| u16::try_from(p).ok()),
            ..EngineSettings::default()
        })
    }
}
