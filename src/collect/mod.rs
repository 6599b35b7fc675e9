//! Everything that is I/O: Kubernetes, exporters, engines. Fetch in a few lines, then pure parsing into the snapshot.
//!
//! The clock is read once, here; what cannot be read becomes a gap.

pub(crate) mod kube;
pub(crate) mod local;
