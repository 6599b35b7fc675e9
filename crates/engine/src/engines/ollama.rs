//! Ollama: what it serves is decided by requests; it has no Prometheus metrics.

use super::prelude::*;

pub(super) struct Ollama;

static FACTS: Facts = Facts {
    kind: EngineKind::Ollama,
    versions: Versions::Tag,
    started_by_name: false,
    set_by_arguments: false,
    routers: Routers::NONE,
    variables: &[
        reads("OLLAMA_MODEL", Setting::Model, Form::Model),
        reads("OLLAMA_CONTEXT_LENGTH", Setting::MaxModelLen, Form::Count),
        reads("OLLAMA_NUM_PARALLEL", Setting::MaxNumSeqs, Form::Count),
        reads("OLLAMA_KV_CACHE_TYPE", Setting::KvCacheDtype, Form::Word),
    ],
    // All where one does not hold the model (https://docs.ollama.com/faq, "How does Ollama load models on multiple GPUs?");
    // whether one would is a question of size.
    width: Width::All,
    memory: MemoryRules::LlamaCpp,
    keeps_float32: false,
    // Its own default, whatever the model's (4096 since 0.6).
    longest_request: Some(4096),
    cuts_its_context: false,
    card_share: None,
    apis_of_ranks: false,
    cpu_need_published: false,
    own_model_names: true,
    language_models: false,
    endpoints: Endpoints {
        port: Some(11434),
        metrics: None,
        other_metrics: &[],
        metrics_flag: None,
        identity: &[
            path("/api/ps", identity::ollama),
            path("/api/version", identity::version),
        ],
    },
    vocabulary: Vocabulary::SILENT,
};

impl Engine for Ollama {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let launched = candidate.after(|words| {
            behind_program(words, "ollama").filter(|at| words.get(*at).map(String::as_str) == Some("serve"))
        });
        let known = candidate.image.base() == "ollama" && candidate.entrypoint;
        // Models come by request; a script that pulls one names it.
        let pulled = candidate.commands.iter().find_map(|words| {
            let at = behind_program(words, "ollama")?;
            let loads = matches!(words.get(at).map(String::as_str), Some("pull" | "run"));
            words.get(at + 1).filter(|_| loads).cloned()
        });
        (launched.is_some() || known).then(|| EngineSettings {
            model: pulled.or_else(|| candidate.env("OLLAMA_MODEL").map(String::from)),
            max_model_len: candidate.env("OLLAMA_CONTEXT_LENGTH").and_then(human_count),
            slots: candidate.env("OLLAMA_NUM_PARALLEL").and_then(|v| v.parse().ok()),
            kv_cache_dtype: candidate.env("OLLAMA_KV_CACHE_TYPE").map(String::from),
            ..EngineSettings::default()
        })
    }
}
