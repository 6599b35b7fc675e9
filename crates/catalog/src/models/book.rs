//! Models of the user's own, in front of the embedded rows.

use super::{ModelFacts, find, quantization};

/// What `--models DIR` gave; empty without it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelBook {
    /// Lower-case names, each with its last part, and the facts.
    entries: Vec<(String, ModelFacts)>,
}

impl ModelBook {
    pub fn add(&mut self, facts: ModelFacts) {
        self.entries.push((facts.id.to_ascii_lowercase(), facts));
    }

    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(_, facts)| facts.id.as_str())
    }

    /// The user's model of that name, else the catalogue's row.
    pub fn find(&self, name: &str) -> Option<ModelFacts> {
        self.own(name).or_else(|| find(name))
    }

    /// As [`Self::find`], with what the name itself tells as the last resort: see [`super::resolve`].
    pub fn resolve(&self, name: &str) -> Option<ModelFacts> {
        self.own(name).or_else(|| super::resolve(name))
    }

    /// By id, by its last part where that is unique, or as the base of a quantized copy.
    fn own(&self, name: &str) -> Option<ModelFacts> {
        if self.entries.is_empty() {
            return None;
        }
        let cleaned = find::clean(name)?;
        if let Some(facts) = self.entry(&cleaned) {
            return Some(facts.clone());
        }
        let (path, tag) = find::split_tag(&cleaned);
        if let Some(facts) = self.entry(path) {
            return Some(find::with_tag(facts.clone(), tag));
        }
        let tail = path.rsplit('/').next().unwrap_or(path);
        if find::is_companion(tail) {
            return None;
        }
        let (base, precision) = quantization::split(tail);
        let facts = (base != tail).then(|| self.entry(&base)).flatten()?;
        Some(find::quantized(facts.clone(), precision))
    }

    fn entry(&self, name: &str) -> Option<&ModelFacts> {
        let tail = |id: &str| id.rsplit('/').next().unwrap_or(id).to_string();
        let whole = self.entries.iter().find(|(id, _)| id == name);
        let mut tails = self.entries.iter().filter(|(id, _)| tail(id) == tail(name));
        let only = tails.next().filter(|_| tails.next().is_none());
        whole.or(only).map(|(_, facts)| facts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{ModelSource, parse_config};

    fn book() -> ModelBook {
        let config = r#"{"model_type":"llama","hidden_size":1024,"intermediate_size":4096,"num_hidden_layers":8,
            "num_attention_heads":8,"vocab_size":1000}"#;
        let mut book = ModelBook::default();
        for id in ["acme/Chat-Tuned", "Qwen/Qwen3-8B"] {
            book.add(parse_config(id, config).expect("a config"));
        }
        book
    }

    #[test]
    fn own_models_come_first() {
        let source = |name: &str| book().resolve(name).map(|m| m.source);
        for name in [
            "acme/chat-tuned",
            "/models/Chat-Tuned",
            "Qwen/Qwen3-8B",
            "s3://x/qwen3-8b/",
        ] {
            assert_eq!(source(name), Some(ModelSource::Config), "{name}");
        }
        assert_eq!(source("Qwen/Qwen3-32B"), Some(ModelSource::Catalog));
        let copy = book().find("acme/Chat-Tuned-AWQ").expect("a copy");
        assert_eq!(copy.quantization.as_deref(), Some("awq-int4 g128"));
        assert_eq!(copy.file_bytes, None);
        assert_eq!(book().find("acme/Chat-Tuned-lora"), None);
        assert_eq!(source("acme/other-7B"), Some(ModelSource::Name));
    }
}
