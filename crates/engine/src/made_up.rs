//! An engine that nobody runs, as a newcomer would write it: all of it is in this file. Tests of several crates register it,
//! each of them by `#[path]`, with this crate under the name `engine` beside it.

use super::engine::metrics::Page;
use super::engine::metrics::vocabulary::{Series, Told, Vocabulary, told};
use super::engine::{
    Candidate, Endpoints, Engine, Facts, Form, IdentityPath, LoadFigure, MemoryRules, Routers, Variable, Versions,
    Width, behind_program,
};
use gpuwaste_facts::snapshot::engine::{EngineReading, ServerIdentity};
use gpuwaste_facts::snapshot::server::{EngineKind, EngineSettings, Setting};
use gpuwaste_facts::units::{Ratio, Tokens};

/// The engine, with the facts below or, to see what misses them, with others.
pub(super) struct MadeUp(pub(super) &'static Facts);

/// No kind is left for what nobody runs: it takes the place of one that the tests' registries lack.
pub(super) const KIND: EngineKind = EngineKind::Diffusion;

const FIGURES: &[Told] = &[
    told(LoadFigure::Running, &[Series::named("busy")]),
    told(LoadFigure::Waiting, &[Series::named("jobs").only("state", &["queued"])]),
    told(LoadFigure::KvUsage, &[Series::named("cache_share").sometimes()]),
    told(
        LoadFigure::Requests,
        &[Series::named("done_total"), Series::named("done_old_total")],
    ),
    told(LoadFigure::PromptTokens, &[Series::named("in_total")]),
    told(LoadFigure::OutputTokens, &[Series::named("out_total")]),
    told(LoadFigure::Preemptions, &[Series::named("thrown_out_total")]),
    told(LoadFigure::PrefixQueries, &[Series::named("asked_total")]),
    told(LoadFigure::PrefixHits, &[Series::named("found_total")]),
    told(LoadFigure::RequestLatency, &[Series::named("whole_seconds")]),
    told(LoadFigure::TimeToFirstToken, &[Series::named("first_seconds")]),
    told(LoadFigure::InterTokenLatency, &[Series::named("next_seconds")]),
    told(LoadFigure::PromptLength, &[Series::named("prompt_size")]),
    told(LoadFigure::OutputLength, &[Series::named("answer_size")]),
];

pub(super) const VOCABULARY: Vocabulary = Vocabulary {
    prefixes: &["madeup:"],
    label: None,
    only_if_expected: false,
    markers: &["busy"],
    figures: FIGURES,
    instead: &[],
    beside: &[],
};

pub(super) const FACTS: Facts = Facts {
    kind: KIND,
    versions: Versions::Own {
        images: &["madeup"],
        newest: 3,
    },
    started_by_name: true,
    set_by_arguments: true,
    routers: Routers {
        images: &["madeup-gate"],
        programs: &["madeup-gate"],
        modules: &["madeup.gate"],
        serving_modules: &["madeup.gate_and_servers"],
        commands: &[("madeup", "relay")],
        scripts: &["madeup_relay.py"],
    },
    variables: &[
        Variable::new("MADEUP_MODEL", Setting::Model, Form::Model),
        Variable::new("MADEUP_OPT_*", Setting::Any, Form::Settings),
    ],
    width: Width::All,
    memory: MemoryRules::Plain,
    keeps_float32: true,
    longest_request: Some(512),
    cuts_its_context: false,
    card_share: Some(Ratio(0.7)),
    apis_of_ranks: true,
    cpu_need_published: true,
    own_model_names: true,
    language_models: true,
    endpoints: Endpoints {
        port: Some(4711),
        metrics: Some("/figures"),
        other_metrics: &["/old/figures"],
        metrics_flag: Some("--figures"),
        identity: &[IdentityPath {
            path: "/who",
            read: |answer, identity| identity.model_root = answer["model"].as_str().map(String::from),
        }],
    },
    vocabulary: VOCABULARY,
};

impl Engine for MadeUp {
    fn facts(&self) -> &'static Facts {
        self.0
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let words = match candidate.after(|words| behind_program(words, "madeup")) {
            Some(words) => words,
            None if candidate.image.contains("madeup") => candidate.entrypoint_args()?,
            None => return None,
        };
        let flags = candidate.flags(words, &["figures"]);
        Some(EngineSettings {
            model: flags
                .owned(&["model"])
                .or_else(|| candidate.env("MADEUP_MODEL").map(String::from)),
            tensor_parallel: flags.small(&["width"]),
            max_num_seqs: candidate
                .variables()
                .find_map(|(name, value)| value.parse().ok().filter(|_| name == "MADEUP_OPT_SLOTS")),
            port: flags.small(&["port"]).and_then(|p| u16::try_from(p).ok()),
            ..EngineSettings::default()
        })
    }

    fn complete(&self, page: &Page, reading: &mut EngineReading) {
        let free = page.max(&["madeup_cache_free_share"]);
        reading.kv_usage = reading.kv_usage.or_else(|| Some(1.0 - free?));
    }

    fn identify(&self, page: &Page, identity: &mut ServerIdentity) {
        identity.kv_capacity = page.max(&["madeup_cache_tokens"]).map(|t| Tokens(t as u64));
    }
}
