//! GPU facts.

/// One GPU model.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GpuFacts {
    pub(crate) name: String,
}
