//! How long a plan takes, and how near its bound it comes: `cargo bench -p gpuwaste-plan`. Prints; judges nothing.

#![allow(clippy::print_stdout, reason = "that is what it is for")]

// The fleets are the tests'.
#[path = "../src/tests/fleets.rs"]
mod fleets;

use gpuwaste_plan::model::{self, Problem};
use gpuwaste_plan::solve;
use std::time::Instant;

/// Seconds that this thread had a CPU, where the system tells: what is measured while others want it too.
fn cpu() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    Some(text.split(' ').next()?.parse::<f64>().ok()? / 1e9)
}

/// "0.123 s (0.101 of CPU)"
fn took(begun: Instant, before: Option<f64>) -> String {
    let wall = begun.elapsed().as_secs_f64();
    match cpu().zip(before) {
        Some((now, before)) => format!("{wall:.3} s ({:.3} of CPU)", now - before),
        None => format!("{wall:.3} s"),
    }
}

fn one(name: &str, problem: &Problem) {
    let (begun, before) = (Instant::now(), cpu());
    let (solution, bound) = solve(problem);
    let gpus: u64 = problem.nodes.iter().map(|n| n.allocatable[fleets::GPU]).sum();
    println!(
        "{name}: {} nodes, {gpus} GPUs, {} pods: {}, {} moves, saves {:.2} of at most {:.2} $/h ({:.2} % off)",
        problem.nodes.len(),
        problem.pods.len(),
        took(begun, before),
        solution.moves,
        solution.saved as f64 / 1e6,
        bound as f64 / 1e6,
        off(solution.saved, bound),
    );
}

/// Percent that the bound is above what is saved.
fn off(saved: i64, bound: i64) -> f64 {
    if bound == 0 {
        0.0
    } else {
        (bound - saved) as f64 * 100.0 / bound as f64
    }
}

fn many(name: &str, count: u64, of: impl Fn(u64) -> Problem) {
    let (begun, before) = (Instant::now(), cpu());
    let (mut saved, mut most, mut exact, mut far, mut worst) = (0, 0, 0, 0, (0.0f64, 0));
    for seed in 0..count {
        let (solution, bound) = solve(&of(seed));
        let gap = off(solution.saved, bound);
        (saved, most) = (saved + solution.saved, most + bound);
        exact += u32::from(solution.saved == bound);
        far += u32::from(gap > 5.0);
        if gap > worst.0 {
            worst = (gap, seed);
        }
    }
    println!(
        "{name}: {count} fleets in {}: {:.2} % off the bound in sum, {exact} at it, {far} more than 5 % off, {:.1} % at worst (seed {})",
        took(begun, before),
        off(saved, most),
        worst.0,
        worst.1,
    );
}

fn main() {
    many("plain, 4 to 60 nodes", 200, |seed| {
        fleets::fleet(seed, 4 + (seed * 7 % 57) as usize, false)
    });
    many("constrained, 4 to 60 nodes", 200, |seed| {
        fleets::fleet(seed, 4 + (seed * 7 % 57) as usize, true)
    });
    many("companies, 10 to 60 nodes", 200, |seed| {
        fleets::company(seed, 10 + (seed * 7 % 51) as usize)
    });
    for seed in 0..3 {
        for nodes in [100, 1000] {
            one("company", &fleets::company(seed, nodes));
        }
    }
    one("constrained", &fleets::fleet(7, 100, true));
    one("constrained", &fleets::fleet(7, 1000, true));
}
