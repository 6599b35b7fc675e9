//! The physics of one decode step.
//!
//! `t = memory + arithmetic + prompts + link + launches + host`: *memory* reads the weights, of a mixture those experts that
//! the batch's tokens choose, and the sequences' cache; *arithmetic* multiplies the batch's tokens; *prompts* are those of
//! other requests, computed meanwhile; *link* is what all-reduces send, and their latency; *launches* are the kernels' own
//! time beside what they read; *host* is what the scheduler takes. What overlaps is in the fitted constants: with power
//! means in place of the sum, measured points are predicted no better.
//!
//! tests/fit/fit_speed.py fits the constants with the same formula; a test holds the two together.

use super::constants::{Resolved, resolve};
use crate::Roofline;

/// What an engine is doing: sequences running at once, and tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct At {
    pub running: f64,
    pub input: f64,
    pub output: f64,
    /// Prompt tokens that come in for every output token.
    pub mix: f64,
}

impl At {
    /// Requests of these lengths and no others.
    pub fn new(running: f64, input: f64, output: f64) -> Self {
        Self {
            running,
            input,
            output,
            mix: input / output.max(1.0),
        }
    }
}

/// Seconds of a step by their cause.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Terms {
    pub(super) memory: f64,
    /// Of the batch's tokens and of the prompts that come in.
    pub(super) arithmetic: f64,
    pub(super) link: f64,
    pub(super) launches: f64,
    pub(super) host: f64,
}

impl Terms {
    pub(super) fn total(&self) -> f64 {
        self.memory + self.arithmetic + self.link + self.launches + self.host
    }
}

/// Seconds between two tokens of a sequence by the physics alone.
pub fn step_seconds(r: &Roofline, at: At) -> f64 {
    terms(r, at, &resolve(r)).total()
}

/// Seconds in which a prompt of this length is computed when nothing else runs.
pub(super) fn prompt_seconds(r: &Roofline, length: f64, c: &Resolved) -> f64 {
    length * prompt_token_seconds(r, length, c)
}

/// Arithmetic of one token's weights, spread over the ranks.
fn token_seconds(r: &Roofline, c: &Resolved) -> f64 {
    let parameters = r.dense_parameters / c.compute + r.expert_parameters / c.expert_compute;
    2.0 * parameters / (r.flops * f64::from(r.tensor.max(1)))
}

/// The same of a prompt's token, with its attention to the prompt before it: half of it on average.
fn prompt_token_seconds(r: &Roofline, length: f64, c: &Resolved) -> f64 {
    let before = length / 2.0;
    let width = r.attention_width * before + r.windowed_width * before.min(r.window);
    token_seconds(r, c) + 2.0 * width / (r.flops_16 * f64::from(r.tensor.max(1)) * c.attention_compute)
}

pub(super) fn terms(r: &Roofline, at: At, c: &Resolved) -> Terms {
    let ranks = f64::from(r.tensor.max(1));
    // Pipeline stages work on a part of the batch each; a token passes all of them.
    let running = (at.running / f64::from(r.pipeline.max(1))).max(1.0);
    let own = running / r.data_ranks;
    let context = at.input + at.output / 2.0;
    let chosen = if r.experts > 0.0 {
        1.0 - (1.0 - r.experts_per_token / r.experts)
            .max(0.0)
            .powf(running * r.expert_engines)
    } else {
        0.0
    };
    let sequence = context * r.kv_bytes_per_token_per_gpu
        + context.min(r.window) * r.windowed_bytes_per_token_per_gpu
        // Read and written.
        + 2.0 * r.state_bytes;
    let read = r.dense_bytes / r.attention_ranks
        + r.expert_bytes * chosen / (ranks * r.expert_engines) / c.expert_bandwidth
        + own * sequence;
    // A request's own prompt is over when its tokens come.
    let incoming = (running - 1.0) * at.mix;
    let layers = f64::from(r.layers);
    let link = if r.tensor > 1 {
        // Two all-reduces a layer of 16-bit activations, each sending (T − 1)/T of them twice.
        let tokens = own + incoming / r.data_ranks;
        let sent = 2.0 * layers * tokens * r.hidden * 2.0 * 2.0 * (ranks - 1.0) / ranks;
        sent / (r.card.path(r.tensor).rate * c.link).max(1.0) + 2.0 * layers * ranks.log2() * c.hop
    } else {
        0.0
    };
    Terms {
        memory: read / (r.bandwidth * c.bandwidth),
        arithmetic: running * token_seconds(r, c) + incoming * prompt_token_seconds(r, at.input, c),
        link,
        launches: r.kernels * c.kernel,
        host: c.step + c.sequence * running,
    }
}
