//! Medians of the fit engine's two figures: one model over all tiers (at most 20 ms wanted), 10,000 placements (1 s).
//! Prints; asserts no times. `cargo bench --features internals --bench fit`.

use std::hint::black_box;
use std::time::{Duration, Instant};

fn median(runs: usize, mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[runs / 2]
}

#[allow(clippy::print_stdout, reason = "a bench prints its figures")]
fn main() {
    // The catalogues are parsed once.
    black_box(gpuwaste::internals::placements(1));
    let fit = median(51, || {
        black_box(gpuwaste::internals::all_tiers("meta-llama/Llama-3.3-70B-Instruct"));
    });
    let many = median(11, || {
        black_box(gpuwaste::internals::placements(10_000));
    });
    println!("fit over all tiers   median {:>9.3} ms", fit.as_secs_f64() * 1e3);
    println!("10,000 placements    median {:>9.3} ms", many.as_secs_f64() * 1e3);
}
