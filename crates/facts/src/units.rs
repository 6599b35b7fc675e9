//! Unit types. Every number that leaves a module carries its unit; money is whole micro-dollars.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};

/// Money as a rate: micro-dollars per hour. Integers, so that totals do not depend on the order of addition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsdPerHour(i64);

impl UsdPerHour {
    pub const ZERO: Self = Self(0);

    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Rounds to the nearest micro-dollar; `None` for NaN, infinities and sums no fleet costs (over 10^12 $/h).
    pub fn from_usd(usd: f64) -> Option<Self> {
        let micros = (usd * 1e6).round();
        (micros.is_finite() && micros.abs() < 1e18).then_some(Self(micros as i64))
    }

    pub const fn micros(self) -> i64 {
        self.0
    }

    pub fn usd(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Splits into `parts` that add up to `self` exactly; the remainder goes to the first parts (R1).
    pub fn split(self, parts: usize) -> Vec<Self> {
        self.split_by(&vec![1; parts])
    }

    /// Splits in proportion to `weights`; the parts add up to `self` exactly, the remainder goes to the first parts.
    /// All-zero weights give an empty vector: nothing to split among.
    pub fn split_by(self, weights: &[u64]) -> Vec<Self> {
        let total: u128 = weights.iter().map(|w| u128::from(*w)).sum();
        if total == 0 {
            return Vec::new();
        }
        let mut parts: Vec<i64> = weights
            .iter()
            .map(|w| ((i128::from(self.0) * i128::from(*w)) / total as i128) as i64)
            .collect();
        let mut rest = self.0 - parts.iter().sum::<i64>();
        let step = rest.signum();
        // The rest is smaller than the number of non-zero weights: one pass gives it away.
        for (part, weight) in parts.iter_mut().zip(weights) {
            if rest == 0 {
                break;
            }
            if *weight > 0 {
                *part += step;
                rest -= step;
            }
        }
        parts.into_iter().map(Self).collect()
    }

    /// `self × factor`, rounded to the nearest micro-dollar.
    pub fn scale(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor).round() as i64)
    }

    pub fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(i64::try_from(count).unwrap_or(i64::MAX)))
    }

    /// USD per million tokens where this rate makes `tokens_per_second`: the one definition of unit cost. `None`: no tokens.
    pub fn per_million(self, tokens_per_second: f64) -> Option<f64> {
        let millions = tokens_per_second * 3600.0 / 1e6;
        (millions > 0.0 && millions.is_finite()).then(|| self.usd() / millions)
    }

    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }
}

impl Add for UsdPerHour {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for UsdPerHour {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for UsdPerHour {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for UsdPerHour {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for UsdPerHour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${:.2}/h", self.usd())
    }
}

impl Serialize for UsdPerHour {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_f64(self.usd())
    }
}

impl<'de> Deserialize<'de> for UsdPerHour {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let usd = f64::deserialize(d)?;
        Self::from_usd(usd).ok_or_else(|| serde::de::Error::custom(format!("{usd} is no amount of money")))
    }
}

impl schemars::JsonSchema for UsdPerHour {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "UsdPerHour".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        f64::json_schema(generator)
    }

    fn inline_schema() -> bool {
        true
    }
}

/// Money that may be unknown, added up: unknown parts are counted, never read as zero.
pub fn sum_known<I: IntoIterator<Item = Option<UsdPerHour>>>(items: I) -> UsdPerHour {
    items.into_iter().flatten().sum()
}

/// How sure a finding is (R6); ordered so that `max` is the better one and the worst input is `min`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    Assumed,
    Estimated,
    Measured,
}

impl Confidence {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Assumed => "assumed",
            Self::Estimated => "estimated",
            Self::Measured => "measured",
        }
    }
}

macro_rules! count_unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
                iter.fold(Self(0), Add::add)
            }
        }
    };
}

count_unit!(
    /// Bytes. Displayed in GiB (2^30).
    Bytes
);
count_unit!(
    /// Tokens of text.
    Tokens
);
count_unit!(
    /// CPU in thousandths of a core, as Kubernetes counts it.
    MilliCores
);

impl Bytes {
    pub const GIB: f64 = 1_073_741_824.0;
    pub const MIB: f64 = 1_048_576.0;

    pub fn from_gib(gib: f64) -> Self {
        Self((gib.max(0.0) * Self::GIB) as u64)
    }

    pub fn from_mib(mib: f64) -> Self {
        Self((mib.max(0.0) * Self::MIB) as u64)
    }

    pub fn gib(self) -> f64 {
        self.0 as f64 / Self::GIB
    }

    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} GiB", self.gib())
    }
}

impl MilliCores {
    pub fn cores(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

/// A share of a whole, 0 to 1 (some exporters report slightly more than 1 on MIG: kept as seen).
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Ratio(pub f64);

impl Ratio {
    /// `None` where the denominator is zero or either side is not finite.
    pub fn of(part: f64, whole: f64) -> Option<Self> {
        let ratio = part / whole;
        (whole != 0.0 && ratio.is_finite()).then_some(Self(ratio))
    }

    pub fn percent(self) -> f64 {
        self.0 * 100.0
    }
}

/// Electrical power.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Watts(pub f64);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_split_gives_the_remainder_to_the_first() {
        let parts = UsdPerHour::from_micros(10).split(3);
        assert_eq!(parts.iter().map(|p| p.micros()).collect::<Vec<_>>(), [4, 3, 3]);
        assert!(UsdPerHour::from_micros(10).split(0).is_empty());
    }

    #[test]
    fn money_is_a_plain_json_number() {
        let price = UsdPerHour::from_usd(98.32).unwrap_or_default();
        assert_eq!(serde_json::to_string(&price).ok().as_deref(), Some("98.32"));
        assert_eq!(UsdPerHour::from_usd(f64::NAN), None);
        assert_eq!(UsdPerHour::from_usd(f64::INFINITY), None);
    }

    #[test]
    fn a_zero_denominator_is_unknown() {
        assert_eq!(Ratio::of(1.0, 0.0), None);
        assert_eq!(Ratio::of(f64::NAN, 2.0), None);
        assert_eq!(Ratio::of(1.0, 2.0), Some(Ratio(0.5)));
    }

    proptest! {
        #[test]
        fn parts_add_up(micros in 0i64..1_000_000_000_000, weights in proptest::collection::vec(0u64..1000, 1..32)) {
            let whole = UsdPerHour::from_micros(micros);
            let parts = whole.split_by(&weights);
            if weights.iter().any(|w| *w > 0) {
                prop_assert_eq!(parts.iter().copied().sum::<UsdPerHour>(), whole);
            } else {
                prop_assert!(parts.is_empty());
            }
        }

        #[test]
        fn money_survives_json(micros in -1_000_000_000_000i64..1_000_000_000_000) {
            let price = UsdPerHour::from_micros(micros);
            let text = serde_json::to_string(&price).unwrap_or_default();
            prop_assert_eq!(serde_json::from_str::<UsdPerHour>(&text).ok(), Some(price));
        }
    }
}
