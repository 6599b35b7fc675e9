//! A distribution over time: of a device's or a server's figure, as a store, a few live samples or a report tell it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A distribution. Each `None`: not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Figure {
    pub mean: Option<f64>,
    pub p50: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
    /// In history: of raw samples for devices, of bins for loads.
    pub max: Option<f64>,
    /// Samples seen ÷ samples expected over the judged window, 0–1.
    pub coverage: Option<f64>,
    /// In history: bins that have a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bins: Option<f64>,
}

impl Figure {
    /// Its values times a factor; how much was seen stays.
    pub fn scaled(self, by: f64) -> Self {
        let times = |v: Option<f64>| v.map(|v| v * by);
        Self {
            mean: times(self.mean),
            p50: times(self.p50),
            p95: times(self.p95),
            p99: times(self.p99),
            max: times(self.max),
            ..self
        }
    }

    /// Nothing is told but how much was seen.
    pub fn is_empty(&self) -> bool {
        self.values().next().is_none()
    }

    /// The values that it tells.
    pub fn values(&self) -> impl Iterator<Item = f64> + use<> {
        [self.mean, self.p50, self.p95, self.p99, self.max]
            .into_iter()
            .flatten()
    }

    /// Of bins with values: quantiles by linear interpolation between the ranks, as PromQL's `quantile_over_time` takes them.
    /// `None`: no bin has one.
    pub fn of_bins(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            mean: Some(mean(&sorted)?),
            p50: quantile(&sorted, 0.5),
            p95: quantile(&sorted, 0.95),
            p99: quantile(&sorted, 0.99),
            max: sorted.last().copied(),
            coverage: None,
            bins: Some(sorted.len() as f64),
        })
    }
}

/// `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The `q` quantile of ascending values, by linear interpolation between the ranks around q × (n − 1), as PromQL takes it
/// (promql/quantile.go of Prometheus). `None` of nothing.
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let rank = q.clamp(0.0, 1.0) * last as f64;
    let lower = rank.floor() as usize;
    let upper = (lower + 1).min(last);
    let weight = rank - rank.floor();
    Some(sorted[lower] * (1.0 - weight) + sorted[upper] * weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_promqls() {
        let figure = Figure::of_bins([4.0, 1.0, f64::NAN, 3.0, 2.0]).unwrap();
        assert_eq!((figure.p50, figure.max, figure.bins), (Some(2.5), Some(4.0), Some(4.0)));
        assert_eq!(figure.mean, Some(2.5));
        assert!((figure.p95.unwrap() - 3.85).abs() < 1e-12);
        assert_eq!(Figure::of_bins([7.0]).and_then(|f| f.p99), Some(7.0));
        assert_eq!(Figure::of_bins([f64::NAN]), None);
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_figure_without_values_is_empty_whatever_was_seen() {
        let seen = Figure {
            coverage: Some(1.0),
            ..Figure::default()
        };
        assert!(seen.is_empty() && seen.scaled(2.0).is_empty());
        let json = serde_json::to_string(&Figure::default()).unwrap_or_default();
        assert!(json.contains("\"coverage\":null") && !json.contains("bins"), "{json}");
    }
}
