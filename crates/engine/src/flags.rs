//! Flags of a command line: `--flag value`, `--flag=value`, underscores for dashes, short forms.

use crate::names;
use crate::unread;
use serde_json::Value;
use std::collections::BTreeMap;

/// Flags by name (dashes, no leading ones), the last value of each, and what stands alone.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    values: BTreeMap<String, Vec<String>>,
    positionals: Vec<String>,
}

impl Flags {
    /// `switches` take no value: the word behind them is not theirs.
    pub fn parse(words: &[String], switches: &[&str]) -> Self {
        let mut flags = Self::default();
        let mut rest = words.iter().peekable();
        while let Some(word) = rest.next() {
            let Some(body) = flag_body(word) else {
                flags.positionals.push(word.clone());
                continue;
            };
            let (name, mut value) = match body.split_once('=') {
                Some((name, value)) => (normalise(name), Some(value.to_string())),
                None => (normalise(body), None),
            };
            let mut values: Vec<String> = value.take().into_iter().collect();
            if values.is_empty() && !switches.contains(&name.as_str()) && !name.starts_with("no-") {
                while rest.peek().is_some_and(|next| flag_body(next).is_none()) {
                    // Words that were not read may be arguments of their own: only a flag that is known to take a value has
                    // one of them.
                    if rest.peek().is_some_and(|next| unread::is_many(next)) && !names::takes_value(&name) {
                        break;
                    }
                    values.extend(rest.next().cloned());
                    // Only lists of names go on: `--served-model-name a b`.
                    if !name.ends_with("served-model-name") {
                        break;
                    }
                }
            }
            flags.values.insert(name, values);
        }
        flags.gather();
        flags
    }

    /// `--hf-overrides.rope_scaling.factor 4`: vLLM's way to write a part of a flag whose value is JSON (`FlexibleArgumentParser`).
    /// The whole then has it, too.
    fn gather(&mut self) {
        let dotted = self.values.iter().filter(|(name, _)| name.contains('.'));
        let dotted: Vec<(String, Option<String>)> = dotted
            .map(|(name, values)| (name.clone(), values.first().cloned()))
            .collect();
        for (name, value) in dotted {
            let mut keys = name.split('.');
            let whole = keys.next().unwrap_or_default();
            let stated = self.values.get(whole).and_then(|v| v.first());
            let Ok(mut object @ Value::Object(_)) =
                stated.map_or(Ok(Value::Object(serde_json::Map::new())), |s| serde_json::from_str(s))
            else {
                continue;
            };
            let value = match value {
                None => Value::Bool(true),
                Some(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
            };
            let pointer: Vec<String> = keys.map(|k| k.replace('-', "_")).collect();
            put(&mut object, &pointer, value);
            self.values.insert(whole.to_string(), vec![object.to_string()]);
        }
    }

    pub fn has(&self, names: &[&str]) -> bool {
        names.iter().any(|n| self.values.contains_key(*n))
    }

    /// The value of the first of `names` that was given.
    pub fn text(&self, names: &[&str]) -> Option<&str> {
        names
            .iter()
            .find_map(|n| self.values.get(*n)?.first())
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    }

    pub fn list(&self, names: &[&str]) -> Vec<String> {
        names
            .iter()
            .find_map(|n| self.values.get(*n))
            .map(|v| {
                v.iter()
                    .flat_map(|s| s.split(','))
                    .map(|s| s.trim().to_string())
                    .collect()
            })
            .unwrap_or_default()
    }

    pub fn owned(&self, names: &[&str]) -> Option<String> {
        self.text(names).map(String::from)
    }

    /// A count; "32k" is 32,000.
    pub fn count(&self, names: &[&str]) -> Option<u64> {
        super::human_count(self.text(names)?)
    }

    /// A small count; 0 is none.
    pub fn small(&self, names: &[&str]) -> Option<u32> {
        self.text(names)?.parse().ok().filter(|n| *n > 0)
    }

    /// A share between 0 and 1.
    pub fn share(&self, names: &[&str]) -> Option<f64> {
        self.text(names)?
            .parse()
            .ok()
            .filter(|s: &f64| s.is_finite() && (0.0..=1.0).contains(s))
    }

    /// `--flag`, `--flag=true`, `--no-flag`; `None`: not given.
    pub fn switch(&self, name: &str) -> Option<bool> {
        if self.values.contains_key(&format!("no-{name}")) {
            return Some(false);
        }
        let value = self.values.get(name)?.first();
        if value.is_some_and(|v| unread::has(v)) {
            return None;
        }
        Some(!value.is_some_and(|v| matches!(v.to_ascii_lowercase().as_str(), "false" | "0" | "no")))
    }

    /// A text field of a flag whose value is JSON.
    pub fn json_field(&self, name: &str, field: &str) -> Option<String> {
        let value: Value = serde_json::from_str(self.text(&[name])?).ok()?;
        Some(value[field].as_str()?.to_string())
    }

    pub fn positional(&self, index: usize) -> Option<&str> {
        self.positionals.get(index).map(String::as_str)
    }

    /// Every flag with its values, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.values
            .iter()
            .map(|(name, values)| (name.as_str(), values.as_slice()))
    }

    pub(crate) fn positionals(&self) -> &[String] {
        &self.positionals
    }
}

/// Puts a value under nested keys.
fn put(object: &mut Value, keys: &[String], value: Value) {
    let (Some((key, rest)), Some(map)) = (keys.split_first(), object.as_object_mut()) else {
        return;
    };
    if rest.is_empty() {
        map.insert(key.clone(), value);
        return;
    }
    let below = map
        .entry(key.clone())
        .or_insert_with(|| Value::Object(serde_json::Map::new()));
    if !below.is_object() {
        *below = Value::Object(serde_json::Map::new());
    }
    put(below, rest, value);
}

/// The flag without its dashes; `None` for a value. A negative number is a value.
fn flag_body(word: &str) -> Option<&str> {
    let body = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    body.starts_with(|c: char| c.is_ascii_alphabetic()).then_some(body)
}

/// A mapping of a configuration file as the flags it stands for. Of nested mappings only the KV cache's gives its own keys
/// too, since its share is a flag elsewhere: a draft model's name or a CUDA graph's batch size is not the server's.
pub(super) fn of_yaml(value: &Value) -> Vec<String> {
    let mut words = Vec::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        let name = format!("--{}", normalise(key));
        match value {
            Value::Null => {}
            Value::Bool(true) => words.push(name),
            Value::Bool(false) => words.push(format!("--no-{}", normalise(key))),
            Value::String(text) => words.push(format!("{name}={text}")),
            Value::Array(items) => {
                let texts: Vec<String> = items.iter().filter_map(|i| i.as_str().map(String::from)).collect();
                words.push(format!("{name}={}", texts.join(",")));
            }
            Value::Object(_) => {
                words.push(format!("{name}={value}"));
                if name == "--kv-cache-config" {
                    words.extend(of_yaml(value));
                }
            }
            Value::Number(number) => words.push(format!("{name}={number}")),
        }
    }
    words
}

fn normalise(name: &str) -> String {
    name.replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Flags {
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        Flags::parse(&words, &["enforce-eager"])
    }

    #[test]
    fn every_way_to_write_a_flag() {
        for line in [
            "-tp 4",
            "--tensor-parallel-size 4",
            "--tensor_parallel_size=4",
            "--tensor-parallel-size=4",
        ] {
            assert_eq!(parse(line).small(&["tensor-parallel-size", "tp"]), Some(4), "{line}");
        }
        let flags = parse(
            "--enforce-eager model --max-model-len 32k --served-model-name a b --no-enable-prefix-caching --seed -1",
        );
        assert_eq!(flags.positional(0), Some("model"));
        assert_eq!(flags.count(&["max-model-len"]), Some(32_000));
        assert_eq!(flags.list(&["served-model-name"]), ["a", "b"]);
        assert_eq!(flags.switch("enable-prefix-caching"), Some(false));
        assert_eq!(flags.switch("enforce-eager"), Some(true));
        assert_eq!(flags.text(&["seed"]), Some("-1"));
        assert_eq!(flags.switch("other"), None);
    }

    #[test]
    fn a_configuration_file_is_flags() {
        let value = serde_json::json!({"model": "o/m", "tensor_parallel_size": 2, "enforce-eager": true, "enable_prefix_caching": false,
            "served-model-name": ["a", "b"], "kv_cache_config": {"free_gpu_memory_fraction": 0.8}, "seed": null,
            "speculative_config": {"model": "o/draft"}, "cuda_graph_config": {"max_batch_size": 8}});
        let flags = Flags::parse(&of_yaml(&value), &["enforce-eager"]);
        assert_eq!(
            (flags.text(&["model"]), flags.small(&["tensor-parallel-size"])),
            (Some("o/m"), Some(2))
        );
        assert_eq!(
            (flags.switch("enforce-eager"), flags.switch("enable-prefix-caching")),
            (Some(true), Some(false))
        );
        assert_eq!(flags.list(&["served-model-name"]), ["a", "b"]);
        assert_eq!(flags.share(&["free-gpu-memory-fraction"]), Some(0.8));
        assert!(!flags.has(&["seed", "max-batch-size"]) && of_yaml(&Value::Null).is_empty());
    }

    #[test]
    fn shares_outside_their_range_are_not_believed() {
        assert_eq!(
            parse("--gpu-memory-utilization 9").share(&["gpu-memory-utilization"]),
            None
        );
        assert_eq!(
            parse("--gpu-memory-utilization nan").share(&["gpu-memory-utilization"]),
            None
        );
        assert_eq!(
            parse("--gpu-memory-utilization .85").share(&["gpu-memory-utilization"]),
            Some(0.85)
        );
    }
}
