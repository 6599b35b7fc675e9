//! Speech recognition servers, by image.

use super::prelude::*;

pub(super) struct Whisper;

static FACTS: Facts = Facts {
    kind: EngineKind::Whisper,
    versions: Versions::Tag,
    started_by_name: false,
    set_by_arguments: false,
    routers: Routers::NONE,
    variables: &[
        reads("WHISPER__MODEL", Setting::Model, Form::Model),
        reads("ASR_MODEL", Setting::Model, Form::Model),
    ],
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
        port: Some(8000),
        metrics: None,
        other_metrics: &[],
        metrics_flag: None,
        identity: &[],
    },
    vocabulary: Vocabulary::SILENT,
};

const IMAGES: &[&str] = &[
    "faster-whisper-server",
    "whisper-asr-webservice",
    "speaches",
    "whisperx-server",
];

impl Engine for Whisper {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let known = IMAGES.iter().any(|n| candidate.image.contains(n));
        known.then(|| EngineSettings {
            model: ["WHISPER__MODEL", "ASR_MODEL"]
                .iter()
                .find_map(|k| candidate.env(k))
                .map(String::from),
            ..EngineSettings::default()
        })
    }
}
