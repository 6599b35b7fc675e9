//! Image generation servers, by image.

use super::prelude::*;

pub(super) struct Diffusion;

static FACTS: Facts = Facts {
    kind: EngineKind::Diffusion,
    versions: Versions::Tag,
    started_by_name: false,
    set_by_arguments: false,
    routers: Routers::NONE,
    variables: &[reads("MODEL_ID", Setting::Model, Form::Model)],
    width: Width::Chosen,
    memory: MemoryRules::Plain,
    keeps_float32: false,
    longest_request: None,
    cuts_its_context: false,
    card_share: None,
    apis_of_ranks: false,
    cpu_need_published: false,
    own_model_names: false,
    language_models: false,
    endpoints: Endpoints {
        port: None,
        metrics: None,
        other_metrics: &[],
        metrics_flag: None,
        identity: &[],
    },
    vocabulary: Vocabulary::SILENT,
};

const IMAGES: &[&str] = &["comfyui", "stable-diffusion-webui", "invokeai", "sdnext"];

impl Engine for Diffusion {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let known = IMAGES.iter().any(|n| candidate.image.contains(n));
        known.then(|| EngineSettings {
            model: candidate.env("MODEL_ID").map(String::from),
            ..EngineSettings::default()
        })
    }
}
