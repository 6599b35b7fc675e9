//! How long a plan takes, and how near its bound it comes: `cargo bench -p gpuwaste-plan`. Prints; judges nothing.

#![allow(clippy::print_stdout, reason = "that is what it is for")]

use gpuwaste_plan::model::{Group, How, Node, Pod, Problem};
use gpuwaste_plan::solve;
use std::time::Instant;

fn fleet(nodes: usize) -> Problem {
    let mut state = 42u64;
    let mut roll = |n: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let mut problem = Problem {
        resources: 3,
        places: vec![vec![true; nodes]],
        groups: vec![Group {
            name: "h100".into(),
            gpus: vec![0],
        }],
        ..Problem::default()
    };
    for node in 0..nodes {
        problem.nodes.push(Node {
            allocatable: vec![8, 192_000, 110],
            price: Some(55_040_000),
            returnable: true,
            open: true,
            ..Node::default()
        });
        let mut left = 2 + roll(6);
        while left > 0 {
            let gpus = [1, 1, 2, 4, 8][roll(5) as usize].min(left);
            left -= gpus;
            problem.pods.push(Pod {
                node: Some(node),
                request: vec![gpus, gpus * (8_000 + roll(12_000)), 1],
                milli_gpus: gpus * 1000,
                how: if roll(20) == 0 { How::Stays } else { How::Raise },
                ..Pod::default()
            });
        }
    }
    problem
}

fn main() {
    for nodes in [10, 100, 1000] {
        let problem = fleet(nodes);
        let begun = Instant::now();
        let (solution, bound) = solve(&problem);
        println!(
            "{nodes} nodes, {} pods: {:.3} s, {} moves, saves {:.2} of at most {:.2} $/h",
            problem.pods.len(),
            begun.elapsed().as_secs_f64(),
            solution.moves,
            solution.saved as f64 / 1e6,
            bound as f64 / 1e6
        );
    }
}
