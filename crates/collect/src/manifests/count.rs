//! How many: a number, or a place in which one is to be filled in.

use crate::engine;
use serde_json::Value;

/// Replicas, group sizes, GPUs, as a manifest states them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Count {
    Known(u64),
    /// It is stated, and is no number: what stands there, for people.
    Unknown(String),
}

impl Default for Count {
    fn default() -> Self {
        Self::Known(0)
    }
}

impl From<u64> for Count {
    fn from(number: u64) -> Self {
        Self::Known(number)
    }
}

impl Count {
    /// `default` where nothing is stated.
    pub(super) fn of(value: &Value, default: u64) -> Self {
        match (value, super::kinds::number(value)) {
            (_, Some(number)) => Self::Known(number),
            (Value::Null, None) => Self::Known(default),
            (value, None) => Self::Unknown(shown(value)),
        }
    }

    pub(super) fn known(&self) -> Option<u64> {
        match self {
            Self::Known(number) => Some(*number),
            Self::Unknown(_) => None,
        }
    }

    pub(super) fn map(self, change: impl FnOnce(u64) -> u64) -> Self {
        match self {
            Self::Known(number) => Self::Known(change(number)),
            unknown @ Self::Unknown(_) => unknown,
        }
    }

    /// Nothing times anything is nothing.
    pub(super) fn times(self, other: Self) -> Self {
        match (self, other) {
            (Self::Known(0), _) | (_, Self::Known(0)) => Self::Known(0),
            (Self::Known(a), Self::Known(b)) => Self::Known(a.saturating_mul(b)),
            (unknown @ Self::Unknown(_), _) | (_, unknown) => unknown,
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => Self::Known(a.saturating_add(b)),
            (unknown @ Self::Unknown(_), _) | (_, unknown) => unknown,
        }
    }

    /// As an environment variable would hold it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Known(number) => number.to_string(),
            // No engine takes it for a number, and all of them say so.
            Self::Unknown(_) => "${NOT_STATED}".into(),
        }
    }
}

/// A placeholder by its name, anything else as what it is: it may be any text.
pub(super) fn shown(value: &Value) -> String {
    match value.as_str() {
        Some(text) => engine::placeholder_in(text).unwrap_or_else(|| "text that is no number".into()),
        None => "no number".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_stated_and_no_number_is_unknown() {
        assert_eq!(Count::of(&json!(3), 1), Count::Known(3));
        assert_eq!(Count::of(&json!("3"), 1), Count::Known(3));
        assert_eq!(Count::of(&Value::Null, 1), Count::Known(1));
        for (value, shown) in [
            (json!("${N}"), "the placeholder ${N}"),
            (json!("<n>"), "the placeholder <n>"),
            (json!("CHANGEME"), "the placeholder CHANGEME"),
            (json!("some secret"), "text that is no number"),
            (json!({"n": null}), "no number"),
            (json!(-1), "no number"),
        ] {
            assert_eq!(Count::of(&value, 1), Count::Unknown(shown.into()), "{value}");
        }
        let unknown = || Count::Unknown("x".into());
        assert_eq!(unknown().times(Count::Known(0)), Count::Known(0));
        assert_eq!(unknown().times(Count::Known(2)), unknown());
        assert_eq!(Count::Known(2).times(Count::Known(3)), Count::Known(6));
        assert_eq!(Count::Known(2).plus(unknown()), unknown());
        assert_eq!(unknown().map(|n| n + 1), unknown());
    }
}
