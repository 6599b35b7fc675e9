//! Slurm's JSON as it comes: a number may be a number, a text, or `{set, infinite, number}`; a state may be a word or a list.
//! Nothing here fails on a form that it does not know: the value is unread.

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// Slurm's own words for "no value" and "without limit", in 32 and 64 bits (slurm.h: `NO_VAL`, `INFINITE`).
const NO_VALUE: [u64; 4] = [0xffff_fffe, 0xffff_ffff, 0xffff_ffff_ffff_fffe, 0xffff_ffff_ffff_ffff];

/// A number in any form; `None`: unset, without limit, negative, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Num(pub(crate) Option<u64>);

impl Num {
    fn of(value: u64) -> Self {
        Self((!NO_VALUE.contains(&value)).then_some(value))
    }

    /// Not 0: Slurm writes 0 for times and ids that are not.
    pub(crate) fn positive(self) -> Option<u64> {
        self.0.filter(|n| *n > 0)
    }

    /// Seconds since 1970.
    pub(crate) fn time(self) -> Option<i64> {
        self.positive().and_then(|n| i64::try_from(n).ok())
    }
}

struct OfNum;

impl<'de> Visitor<'de> for OfNum {
    type Value = Num;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_u64<E>(self, v: u64) -> Result<Num, E> {
        Ok(Num::of(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Num, E> {
        Ok(u64::try_from(v).map_or(Num(None), Num::of))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Num, E> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range is checked"
        )]
        Ok(if (0.0..1e18).contains(&v) {
            Num::of(v as u64)
        } else {
            Num(None)
        })
    }

    fn visit_str<E>(self, v: &str) -> Result<Num, E> {
        Ok(v.trim().parse().map_or(Num(None), Num::of))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Num, E> {
        Ok(Num(None))
    }

    fn visit_unit<E>(self) -> Result<Num, E> {
        Ok(Num(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Num, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Num(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Num, A::Error> {
        let (mut number, mut told) = (Num(None), true);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "number" => number = map.next_value()?,
                "set" => told &= map.next_value::<Flag>()?.0 != Some(false),
                "infinite" => told &= map.next_value::<Flag>()?.0 != Some(true),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(if told { number } else { Num(None) })
    }
}

impl<'de> Deserialize<'de> for Num {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OfNum)
    }
}

/// Texts in any form: one, a list of them, or none. Numbers are written out; objects are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Texts(pub(crate) Vec<String>);

impl Texts {
    /// The first, or the empty text.
    pub(crate) fn text(&self) -> &str {
        self.0.first().map_or("", |t| told(t))
    }

    /// Each word of each text: `"DOWN+NOT_RESPONDING"`, `["IDLE", "DRAIN"]`, `"idle*"`; in capitals, without signs behind.
    pub(crate) fn words(&self) -> Vec<String> {
        let words = self.0.iter().flat_map(|t| t.split('+'));
        words
            .map(|w| {
                w.trim_matches(|c: char| !c.is_ascii_alphanumeric())
                    .to_ascii_uppercase()
            })
            .filter(|w| !w.is_empty())
            .collect()
    }

    /// A list, or one text with commas.
    pub(crate) fn list(&self) -> Vec<String> {
        let parts = self.0.iter().flat_map(|t| told(t).split(','));
        parts.map(|p| p.trim().to_string()).filter(|p| !p.is_empty()).collect()
    }
}

/// Without Slurm's words for nothing.
pub(crate) fn told(text: &str) -> &str {
    let text = text.trim();
    match text {
        "(null)" | "N/A" | "n/a" | "None" | "none" | "Unknown" | "UNKNOWN" => "",
        other => other,
    }
}

struct OfTexts;

impl<'de> Visitor<'de> for OfTexts {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E>(self, v: &str) -> Result<Texts, E> {
        Ok(Texts(vec![v.to_string()]))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Texts, E> {
        Ok(Texts(vec![v.to_string()]))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Texts, E> {
        Ok(Texts(vec![v.to_string()]))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Texts, E> {
        Ok(Texts(vec![v.to_string()]))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Texts, E> {
        Ok(Texts::default())
    }

    fn visit_unit<E>(self) -> Result<Texts, E> {
        Ok(Texts::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = seq.next_element::<Texts>()? {
            all.extend(one.0);
        }
        Ok(Texts(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Texts::default())
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OfTexts)
    }
}

/// Yes or no; `None`: neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flag(pub(crate) Option<bool>);

struct OfFlag;

impl<'de> Visitor<'de> for OfFlag {
    type Value = Flag;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("yes or no")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Flag, E> {
        Ok(Flag(Some(v)))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Flag, E> {
        Ok(Flag(Some(v != 0)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Flag, E> {
        Ok(Flag(Some(v != 0)))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Flag, E> {
        Ok(Flag(None))
    }

    fn visit_str<E>(self, v: &str) -> Result<Flag, E> {
        Ok(Flag(match v {
            "1" | "true" => Some(true),
            "0" | "false" => Some(false),
            _ => None,
        }))
    }

    fn visit_unit<E>(self) -> Result<Flag, E> {
        Ok(Flag(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Flag, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Flag(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Flag, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Flag(None))
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OfFlag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn num(text: &str) -> Option<u64> {
        serde_json::from_str::<Num>(text).expect("never fails").0
    }

    #[test]
    fn numbers_come_in_every_form() {
        for (text, expected) in [
            ("8", Some(8)),
            ("\"8\"", Some(8)),
            ("{\"set\":true,\"infinite\":false,\"number\":8}", Some(8)),
            ("{\"set\":false,\"infinite\":false,\"number\":0}", None),
            ("{\"set\":true,\"infinite\":true,\"number\":0}", None),
            ("{}", None),
            ("null", None),
            ("-2", None),
            ("4294967294", None),
            ("18446744073709551614", None),
            ("1e30", None),
            ("[1,{\"a\":2}]", None),
            ("{\"number\":{\"number\":3}}", Some(3)),
        ] {
            assert_eq!(num(text), expected, "{text}");
        }
    }

    #[test]
    fn states_are_words_or_lists_of_them() {
        let words = |text: &str| serde_json::from_str::<Texts>(text).expect("never fails").words();
        assert_eq!(words("\"down*\""), ["DOWN"]);
        assert_eq!(words("[\"IDLE\",\"DRAIN\"]"), ["IDLE", "DRAIN"]);
        assert_eq!(words("\"DOWN+NOT_RESPONDING\""), ["DOWN", "NOT_RESPONDING"]);
        assert!(words("{\"a\":[1,2]}").is_empty());
    }
}
