//! Recorded facts.
pub(crate) mod server;
