//! Look-ups in a config that may nest its decoder ("text_config", "llm_config", …).

use serde_json::Value;

/// Where multimodal configs keep their language model, innermost first.
const NESTED: &[&[&str]] = &[
    &["thinker_config", "text_config"],
    &["text_config"],
    &["llm_config"],
    &["language_config"],
    &["language_model_config"],
];

pub(super) struct Fields<'a> {
    root: &'a Value,
    inner: Option<&'a Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(root: &'a Value) -> Self {
        let inner = NESTED.iter().find_map(|path| {
            path.iter()
                .try_fold(root, |value, key| value.get(key))
                .filter(|v| v.is_object())
        });
        Self { root, inner }
    }

    /// The decoder's own field, else the whole model's; "a.b" goes into an object.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        let of = |value: &'a Value| {
            name.split('.')
                .try_fold(value, |v, key| v.get(key))
                .filter(|v| !v.is_null())
        };
        self.inner.and_then(of).or_else(|| of(self.root))
    }

    fn first(&self, names: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        names.iter().find_map(|name| Some((*name, self.get(name)?)))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A whole number from 1 to `most`; lists of equal meaning (ERNIE's experts by modality) give their first.
    pub(super) fn small(&self, names: &[&'static str], most: u32) -> Result<Option<u32>, String> {
        let Some((name, value)) = self.first(names) else {
            return Ok(None);
        };
        let value = value.as_array().and_then(|a| a.first()).unwrap_or(value);
        if matches!(value.as_i64(), Some(0 | -1)) {
            return Ok(None);
        }
        let number = value.as_u64().or_else(|| {
            value
                .as_f64()
                .filter(|f| f.fract() == 0.0 && *f > 0.0)
                .map(|f| f as u64)
        });
        number
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n <= most)
            .map(Some)
            .ok_or_else(|| format!("field '{name}': {value} is not a whole number from 1 to {most}"))
    }

    pub(super) fn need(&self, names: &[&'static str], most: u32) -> Result<u32, String> {
        let missing = || format!("field '{}' is missing", names.first().copied().unwrap_or_default());
        self.small(names, most)?.ok_or_else(missing)
    }

    pub(super) fn need_or_zero(&self, name: &'static str, most: u32) -> Result<u32, String> {
        if !self.has(name) {
            return Err(format!("field '{name}' is missing"));
        }
        Ok(self.small(&[name], most)?.unwrap_or(0))
    }

    pub(super) fn count(&self, names: &[&'static str]) -> Option<u64> {
        self.first(names).and_then(|(_, v)| v.as_u64()).filter(|n| *n < 1 << 40)
    }

    pub(super) fn number(&self, names: &[&'static str]) -> Option<f64> {
        self.first(names).and_then(|(_, v)| v.as_f64())
    }

    pub(super) fn truth(&self, names: &[&'static str]) -> Option<bool> {
        self.first(names).and_then(|(_, v)| v.as_bool())
    }

    /// Text, or the first text of a list.
    pub(super) fn text(&self, names: &[&'static str]) -> Option<String> {
        // The whole model's name and class, not its decoder's.
        let (_, value) = names
            .iter()
            .find_map(|n| Some((*n, self.root.get(*n).filter(|v| !v.is_null())?)))
            .or_else(|| self.first(names))?;
        let value = value.as_array().and_then(|a| a.first()).unwrap_or(value);
        value.as_str().map(String::from)
    }

    pub(super) fn decoder_type(&self) -> Option<String> {
        self.inner?.get("model_type")?.as_str().map(String::from)
    }

    pub(super) fn list(&self, name: &str) -> Option<&'a Vec<Value>> {
        self.get(name)?.as_array()
    }
}
