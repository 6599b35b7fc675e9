//! Every setting of every fixture, replaced by a reference that cannot be read: it is said to be unread, and no other setting
//! changes.

use super::yaml::{self, Document};
use super::{Manifests, pods};
use crate::snapshot::cluster::ContainerKind;
use crate::snapshot::server::{EngineSettings, Setting};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Flags whose values are settings of their own, and what they state.
const FLAGS: &[(&str, Setting)] = &[
    ("--tensor-parallel-size", Setting::TensorParallel),
    ("--tp-size", Setting::TensorParallel),
    ("--tp_size", Setting::TensorParallel),
    ("--tp", Setting::TensorParallel),
    ("-tp", Setting::TensorParallel),
    ("--num-shard", Setting::TensorParallel),
    ("--pipeline-parallel-size", Setting::PipelineParallel),
    ("--data-parallel-size", Setting::DataParallel),
    ("--max-model-len", Setting::MaxModelLen),
    ("--context-length", Setting::MaxModelLen),
    ("--max-total-tokens", Setting::MaxModelLen),
    ("--max-num-seqs", Setting::MaxNumSeqs),
    ("--gpu-memory-utilization", Setting::MemoryShare),
    ("--mem-fraction-static", Setting::MemoryShare),
    ("--quantization", Setting::Quantization),
    ("--dtype", Setting::Dtype),
    ("--kv-cache-dtype", Setting::KvCacheDtype),
    ("--config", Setting::Any),
    ("--extra_llm_api_options", Setting::Any),
];

fn servers(documents: &[Document]) -> BTreeMap<String, EngineSettings> {
    let mut all = Manifests::new(|_| Some(8));
    pods::build(documents, &mut all);
    let pods = all.environments.iter().flat_map(|e| &e.pods);
    pods.flat_map(|p| {
        let main = p.containers.iter().filter(|c| c.kind == ContainerKind::Main);
        main.filter_map(|c| Some((format!("{}/{}/{}", p.namespace, p.name, c.name), (**c.server.as_ref()?).clone())))
    })
    .collect()
}

/// The lists of words in a value, by their JSON pointers.
fn lists(value: &Value, at: &str, out: &mut Vec<String>) {
    let below = |key: &str| format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if matches!(key.as_str(), "args" | "command") && value.is_array() {
                    out.push(below(key));
                }
                lists(value, &below(key), out);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                lists(item, &below(&i.to_string()), out);
            }
        }
        _ => {}
    }
}

/// The list with the value of one of its flags replaced, for each such value.
fn replaced(words: &[Value], reference: &str) -> Vec<(Setting, Vec<Value>)> {
    let mut all = Vec::new();
    for (i, word) in words.iter().enumerate() {
        let Some(text) = word.as_str() else { continue };
        for (flag, setting) in FLAGS {
            let mut changed = words.to_vec();
            if text == *flag && words.get(i + 1).is_some_and(|w| !w.is_null()) {
                changed[i + 1] = json!(reference);
            } else if text.strip_prefix(flag).is_some_and(|r| r.starts_with('=')) {
                changed[i] = json!(format!("{flag}={reference}"));
            } else {
                continue;
            }
            all.push((*setting, changed));
        }
    }
    all
}

/// All but one setting, and what hangs on it.
fn but(settings: &EngineSettings, setting: Setting) -> EngineSettings {
    let mut rest = settings.clone();
    rest.unread.clear();
    rest.stretched = false;
    match setting {
        Setting::TensorParallel => rest.tensor_parallel = None,
        Setting::PipelineParallel => rest.pipeline_parallel = None,
        Setting::DataParallel => rest.data_parallel = None,
        Setting::MaxModelLen => rest.max_model_len = None,
        Setting::MaxNumSeqs => rest.max_num_seqs = None,
        Setting::MemoryShare => {
            rest.gpu_memory_utilization = None;
            rest.mem_fraction_static = None;
        }
        Setting::Quantization => rest.quantization = None,
        Setting::Dtype => rest.dtype = None,
        Setting::KvCacheDtype => rest.kv_cache_dtype = None,
        // A whole file: all that it may state.
        _ => rest = EngineSettings::default(),
    }
    rest
}

fn fixtures() -> Vec<(String, Vec<Document>)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/manifests");
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| {
            let path = e.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let documents = yaml::parse(&name, &std::fs::read(&path).unwrap()).unwrap().documents;
            (name, documents)
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn any_one_argument_that_is_not_there_is_unread_and_nothing_else_changes() {
    let mut tried = 0;
    for (name, documents) in fixtures() {
        let before = servers(&documents);
        for (index, document) in documents.iter().enumerate() {
            let mut places = Vec::new();
            lists(&document.value, "", &mut places);
            for place in places {
                let words = document.value.pointer(&place).and_then(Value::as_array).cloned().unwrap_or_default();
                for reference in ["$(NOT_THERE)", "${NOT_THERE}", "{{ notThere }}", "<not there>", "CHANGEME"] {
                    for (setting, changed) in replaced(&words, reference) {
                        let mut other = documents.clone();
                        *other[index].value.pointer_mut(&place).unwrap() = Value::Array(changed);
                        let after = servers(&other);
                        let differ: Vec<&String> = after.keys().filter(|k| before.get(*k) != after.get(*k)).collect();
                        // A flag that another one overrides changes nothing.
                        for key in &differ {
                            let (was, is) = (&before[*key], &after[*key]);
                            assert!(is.unread(setting).is_some(), "{name} {place} {reference}: {setting:?} of {is:?}");
                            assert_eq!(but(was, setting), but(is, setting), "{name} {place} {reference}");
                            tried += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(tried > 300, "{tried}");
}

/// A `ConfigMap` that is taken out of the input leaves unread what it stated, and adds no value.
#[test]
fn a_config_map_that_is_not_there_leaves_its_settings_unread() {
    let mut tried = 0;
    for (name, documents) in fixtures() {
        let before = servers(&documents);
        for (index, _) in documents.iter().enumerate().filter(|(_, d)| d.value["kind"] == "ConfigMap") {
            let mut other = documents.clone();
            other.remove(index);
            let after = servers(&other);
            for (key, was) in &before {
                // What a script of the map starts is no longer known to be a server.
                let Some(is) = after.get(key).filter(|is| *is != was) else { continue };
                assert!(!is.unread.is_empty(), "{name} {key}: {is:?}");
                let stated = |s: &EngineSettings| [s.tensor_parallel, s.pipeline_parallel, s.data_parallel];
                for (was, is) in stated(was).into_iter().zip(stated(is)) {
                    assert!(is.is_none() || is == was, "{name} {key}: {was:?} became {is:?}");
                }
                assert!(was.tensor_parallel.is_none() || is.tensor_parallel.is_some() || is.unread_parallelism().is_some());
                tried += 1;
            }
        }
    }
    assert!(tried > 0, "{tried}");
}
