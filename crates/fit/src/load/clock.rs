//! How long a step takes in one layout.

use super::Ask;
use crate::Roofline;
use crate::speed::{At, Class, Measured, Predictor, Seconds, ratio_margin, step_seconds};

/// Seconds between tokens in one layout: by the model, or scaled from the present server.
pub(super) enum Clock<'a> {
    Model(Predictor<'a>),
    Scaled {
        model: Predictor<'a>,
        roofline: &'a Roofline,
        factor: f64,
        margin: f64,
    },
}

impl<'a> Clock<'a> {
    pub(super) fn of(roofline: &'a Roofline, ask: &Ask<'_>, own: &[Measured]) -> Self {
        let model = Predictor::new(roofline, own);
        let scaled = ask.present.filter(|p| p.seconds > 0.0).and_then(|present| {
            let margin = ratio_margin(&present.roofline, roofline, own).ok()?;
            Some((present.seconds / step_seconds(&present.roofline, present.at), margin))
        });
        match scaled {
            Some((factor, margin)) => Self::Scaled {
                model,
                roofline,
                factor,
                margin,
            },
            None => Self::Model(model),
        }
    }

    pub(super) fn model(&self) -> &Predictor<'a> {
        match self {
            Self::Model(model) | Self::Scaled { model, .. } => model,
        }
    }

    pub(super) fn at(&self, at: At) -> Seconds {
        match self {
            Self::Model(model) => model.at(at),
            Self::Scaled {
                roofline,
                factor,
                margin,
                ..
            } => {
                let value = step_seconds(roofline, at) * factor;
                Seconds {
                    value,
                    ends: self
                        .is_known()
                        .then(|| (value / (1.0 + margin), value * (1.0 + margin))),
                }
            }
        }
    }

    /// Whether a promise may be made: of what was measured nowhere none is, even where another card's time can be scaled.
    pub(super) fn is_known(&self) -> bool {
        self.model().evidence.class != Class::NotSeen || matches!(self, Self::Scaled { margin, .. } if *margin == 0.0)
    }
}
