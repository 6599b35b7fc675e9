//! Which settings are stated where they could not be read: flags, variables, files, the image.

use super::engine::{Facts, Form};
use super::flags::Flags;
use super::names;
use super::unread;
use super::{Candidate, human_count};
use crate::snapshot::server::{EngineSettings, Setting, UnreadSetting};
use serde_json::Value;

/// More of them say nothing new.
const MAX_UNREAD: usize = 24;

/// Notes what of the flags could not be read.
pub(super) fn of_flags(candidate: &Candidate<'_>, flags: &Flags) {
    for (name, values) in flags.all() {
        if let Some(place) = candidate.places.of(name) {
            candidate.is_unread(Setting::Any, place.text);
            continue;
        }
        let Some(value) = values.first() else { continue };
        match names::of_flag(name) {
            Some((setting, form)) => {
                let all = if setting == Setting::Other {
                    values
                } else {
                    &values[..1]
                };
                if means_what_fits(name, value) {
                    continue;
                }
                if let Some(place) = all.iter().find_map(|v| missing(candidate, form, v)) {
                    candidate.is_unread(setting, place.unwrap_or_else(|| format!("the value of --{name}")));
                }
            }
            // A variable for further arguments that stands behind a switch nobody knows.
            None => {
                if let Some(place) = candidate
                    .places
                    .of(value)
                    .filter(|p| p.arguments && !names::takes_value(name))
                {
                    candidate.is_unread(Setting::Any, place.text);
                }
            }
        }
    }
    for (i, word) in flags.positionals().iter().enumerate() {
        let Some(place) = candidate.places.of(word) else {
            continue;
        };
        // The first one may be the model: `settle` sees.
        if i == 0 && !place.arguments {
            *candidate.first.borrow_mut() = Some(place.text);
        } else {
            candidate.is_unread(Setting::Any, place.text);
        }
    }
}

/// Lengths that are no number and stated all the same: vLLM's "auto" and -1 (what the memory holds), llama.cpp's 0 (the model's own).
fn means_what_fits(name: &str, value: &str) -> bool {
    match name {
        "max-model-len" => matches!(value, "auto" | "-1"),
        "ctx-size" | "c" | "n-ctx" => value == "0",
        _ => false,
    }
}

/// `Some`: the value could not be read; with the place, where it has one of its own.
#[expect(clippy::option_option, reason = "read, unread somewhere, unread where it stands")]
fn missing(candidate: &Candidate<'_>, form: Form, value: &str) -> Option<Option<String>> {
    // A text of settings may have marks inside: what it says beside them is read.
    let settings = || {
        if value.starts_with('{') {
            return serde_json::from_str::<Value>(value).is_ok();
        }
        let parsed = candidate.file(value).map(|text| serde_saphyr::from_str::<Value>(&text));
        matches!(parsed, Some(Ok(Value::Object(_) | Value::Null)))
    };
    if form == Form::Settings {
        let place = || candidate.places.of(value).map(|p| p.text);
        return (!settings()).then(|| place().or_else(|| Some("a settings file".into())));
    }
    if let Some(place) = candidate.places.of(value) {
        return Some(Some(place.text));
    }
    let unsaid = matches!(value.to_ascii_lowercase().as_str(), "" | "none" | "null" | "default");
    let read = match form {
        Form::Count => unsaid || human_count(value).is_some_and(|n| value.parse::<u64>().is_err() || n > 0),
        Form::Plain => unsaid || value.parse().is_ok_and(|n: u32| n > 0),
        Form::Share => unsaid || value.parse().is_ok_and(|s: f64| (0.0..=1.0).contains(&s)),
        Form::Factor => unsaid || value == "1",
        Form::Model => !unread::has_stand_in(value),
        Form::Word => !unread::is_to_be_replaced(value),
        Form::Settings => true,
    };
    (!read).then_some(None)
}

/// Takes out of the settings what is no value, and says where it stands.
pub(super) fn settle(settings: &mut EngineSettings, candidate: &Candidate<'_>, engine: &Facts) {
    texts(settings, candidate);
    variables(candidate, engine);
    if let Some(place) = candidate.first.borrow_mut().take()
        && !candidate
            .unread
            .borrow()
            .iter()
            .any(|u| u.setting == Setting::Model && u.place == place)
    {
        candidate.is_unread(Setting::Any, place);
    }
    let image = &candidate.spec.image;
    if unread::has_placeholder(image) || unread::has_stand_in(image) {
        settings.engine_version = None;
        candidate.is_unread(Setting::EngineVersion, "the image, which is a placeholder");
    }
    entry_point(candidate, engine);
    let unread = std::mem::take(&mut *candidate.unread.borrow_mut());
    apply(settings, unread);
}

/// Texts with a mark in them are no values.
fn texts(settings: &mut EngineSettings, candidate: &Candidate<'_>) {
    let fields: [(&mut Option<String>, Setting); 5] = [
        (&mut settings.model, Setting::Model),
        (&mut settings.quantization, Setting::Quantization),
        (&mut settings.dtype, Setting::Dtype),
        (&mut settings.kv_cache_dtype, Setting::KvCacheDtype),
        (&mut settings.engine_version, Setting::EngineVersion),
    ];
    for (field, setting) in fields {
        let Some(text) = field.as_deref() else { continue };
        if let Some(place) = candidate.places.of(text) {
            candidate.is_unread(setting, place.text);
            *field = None;
        } else if setting == Setting::Model && unread::has_stand_in(text) || unread::is_to_be_replaced(text) {
            candidate.is_unread(setting, "a placeholder");
            *field = None;
        }
    }
    settings.model = settings.model.take().filter(|m| !m.is_empty());
    settings
        .served_names
        .retain(|n| !n.is_empty() && !unread::has(n) && !unread::has_stand_in(n));
    if settings
        .model
        .as_deref()
        .is_some_and(|m| m.starts_with('/') || m.contains("://"))
    {
        candidate.is_unread(Setting::Model, super::uri::PATH);
    }
}

/// Variables that the engine reads by itself.
fn variables(candidate: &Candidate<'_>, engine: &Facts) {
    let spec = candidate.spec;
    for (at, variable) in engine.variables.iter().enumerate() {
        // What has a row of its own is no case of `PREFIX_*`.
        let is = |name: &str| {
            let earlier = &engine.variables[..at];
            variable.is(name) && (variable.name == name || !earlier.iter().any(|v| v.is(name)))
        };
        match spec.env.iter().rev().find(|(name, _)| is(name)) {
            Some((name, None)) => candidate.is_unread(variable.sets, spec.place_of(name)),
            Some((name, Some(value))) => {
                if let Some(place) = missing(candidate, variable.form, value) {
                    candidate.is_unread(variable.sets, place.unwrap_or_else(|| format!("the variable {name}")));
                }
            }
            None if engine.set_by_arguments => {}
            None => {
                if let Some(place) = spec.open.first() {
                    candidate.is_unread(variable.sets, place.clone());
                }
            }
        }
    }
}

/// An image of somebody's own that is given no arguments: its entry point may start the engine with any.
fn entry_point(candidate: &Candidate<'_>, engine: &Facts) {
    let silent = candidate.entrypoint && candidate.commands.iter().all(Vec::is_empty);
    if engine.set_by_arguments && silent && !candidate.image.is_own(&engine.versions) {
        candidate.is_unread(Setting::Any, "the entry point of its image");
    }
}

/// Puts what could not be read beside the settings. What overrides others takes them out too.
pub(super) fn apply(settings: &mut EngineSettings, mut unread: Vec<UnreadSetting>) {
    let of = |setting: Setting| unread.iter().any(|u| u.setting == setting);
    if of(Setting::MemoryShare) {
        settings.gpu_memory_utilization = None;
        settings.mem_fraction_static = None;
        settings.kv_cache_memory = None;
        settings.gpu_blocks_override = None;
    }
    // What stretches a model's length may be among it.
    if settings.max_model_len.is_some() && (of(Setting::Any) || of(Setting::MaxModelLen)) {
        settings.stretched = true;
    }
    // It is another one that nobody knows here.
    if of(Setting::Engine) {
        settings.engine = None;
        settings.engine_version = None;
    }
    unread.sort();
    unread.dedup();
    settings.unread = unread;
    let effective: Vec<UnreadSetting> = settings
        .unread
        .iter()
        .filter(|u| {
            let by_itself = matches!(u.setting, Setting::Any | Setting::Other);
            by_itself || settings.unread(u.setting).is_some()
        })
        .take(MAX_UNREAD)
        .cloned()
        .collect();
    settings.unread = effective;
}
