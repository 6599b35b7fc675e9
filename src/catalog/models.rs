//! Model facts.

/// One model.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ModelFacts {
    pub(crate) id: String,
}
