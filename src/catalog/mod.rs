//! GPUs, instances, prices, models: embedded data rows and look-ups.

pub(crate) mod gpus;
pub(crate) mod models;
