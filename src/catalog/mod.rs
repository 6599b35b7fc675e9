//! GPUs, instances, prices, models: embedded data rows and look-ups.

pub(crate) mod gpus;
pub(crate) mod instances;
pub(crate) mod mig;
pub(crate) mod models;
pub(crate) mod prices;
