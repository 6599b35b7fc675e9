//! Which moves, in which order, empty whole GPU nodes, and what the bill is after each step.
//!
//! The flow: [`model`] (a fleet as amounts and sets) → [`solve`] (which nodes go) → [`steps`] (commands in an order that is
//! valid at every point) → [`document`] and the formats. [`adapter`] is the only part that knows reports and snapshots.

mod bound;
pub mod model;
pub mod solve;
mod state;

pub use solve::solve;

#[cfg(test)]
mod tests;
