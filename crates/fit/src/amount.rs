//! Bytes of which only a band is known.

/// `low <= value <= high`; bytes unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Amount {
    pub(super) low: f64,
    pub(super) value: f64,
    pub(super) high: f64,
}

impl Amount {
    pub(super) const ZERO: Self = Self::exact(0.0);

    pub(super) const fn exact(value: f64) -> Self {
        Self {
            low: value,
            value,
            high: value,
        }
    }

    pub(super) fn new(low: f64, value: f64, high: f64) -> Self {
        Self {
            low: low.min(value),
            value,
            high: high.max(value),
        }
    }

    /// The ends as factors of the value.
    pub(super) fn around(value: f64, low: f64, high: f64) -> Self {
        Self::new(value * low, value, value * high)
    }

    /// The sum of two that know nothing of each other: what each may be off by adds like the sides of a right angle.
    pub(super) fn plus(self, other: Self) -> Self {
        let value = self.value + other.value;
        Self {
            low: value - (self.value - self.low).hypot(other.value - other.low),
            value,
            high: value + (self.high - self.value).hypot(other.high - other.value),
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        self.plus(Self {
            low: -other.high,
            value: -other.value,
            high: -other.low,
        })
    }

    /// What is larger at each end: of two things that are not held at the same time.
    pub(super) fn larger(self, other: Self) -> Self {
        Self {
            low: self.low.max(other.low),
            value: self.value.max(other.value),
            high: self.high.max(other.high),
        }
    }

    pub(super) fn times(self, factor: f64) -> Self {
        Self {
            low: self.low * factor,
            value: self.value * factor,
            high: self.high * factor,
        }
    }

    /// Times another amount, end by end; neither is negative.
    pub(super) fn by(self, other: Self) -> Self {
        Self {
            low: self.low * other.low,
            value: self.value * other.value,
            high: self.high * other.high,
        }
    }

    /// One of two paths is taken, and which is not known: the band covers both, the value lies between.
    pub(super) fn either(self, other: Self) -> Self {
        Self {
            low: self.low.min(other.low),
            value: f64::midpoint(self.value, other.value),
            high: self.high.max(other.high),
        }
    }
}

/// A figure that logs told, in the unit that its user says, with the number of independent threads behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Logged {
    ends: Amount,
    pub(super) threads: u32,
}

impl Logged {
    pub(super) const fn new(low: f64, value: f64, high: f64, threads: u32) -> Self {
        Self {
            ends: Amount { low, value, high },
            threads,
        }
    }

    /// Fewer than three threads have not shown how far the next one is off: the band is wider.
    pub(super) fn amount(self) -> Amount {
        let wider = match self.threads {
            0 | 1 => 1.6,
            2 => 1.3,
            _ => 1.0,
        };
        let Amount { low, value, high } = self.ends;
        let below = value - wider * (value - low);
        Amount {
            low: if low >= 0.0 { below.max(0.0) } else { below },
            value,
            high: value + wider * (high - value),
        }
    }
}
