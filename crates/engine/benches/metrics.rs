//! A metrics page of which few lines are needed, beside counting its lines, in MB/s. Prints; asserts no times.
//! `cargo bench -p gpuwaste-engine`, or `python3 tests/bench/bench.py metrics`.

use gpuwaste_engine::ENGINES;
use gpuwaste_engine::metrics::{Page, exporter, filter};
use std::hint::black_box;
use std::time::Instant;

const REAL: &str = include_str!("../../../fixtures/raw/real/vllm-0.32/metrics-idle.txt");

/// Megabytes a second, the median of seven runs over `text`.
fn speed(text: &str, work: impl Fn() -> usize) -> f64 {
    let mut runs: Vec<f64> = (0..7)
        .map(|_| {
            let started = Instant::now();
            black_box(work());
            text.len() as f64 / 1e6 / started.elapsed().as_secs_f64()
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}

#[allow(clippy::print_stdout, reason = "a bench prints its figures")]
fn main() {
    let mut page = String::new();
    for gpu in 0..8 {
        for field in 0..120 {
            page.push_str(&format!("DCGM_FI_DEV_OTHER_{field}{{gpu=\"{gpu}\",UUID=\"GPU-07f416a5-bfa0-d315-34ad-1a642b530c2{gpu}\",device=\"nvidia{gpu}\",modelName=\"NVIDIA H100 80GB HBM3\",Hostname=\"node-1\",container=\"server\",namespace=\"ml\",pod=\"llm-5d9c7bf6d8-x7k2p\"}} {field}.5\n"));
        }
        page.push_str(&format!(
            "DCGM_FI_DEV_GPU_UTIL{{gpu=\"{gpu}\",UUID=\"GPU-{gpu}\"}} 97\n"
        ));
    }
    let wanted = |name: &str| exporter::is_wanted(name) || ENGINES.is_wanted(name);
    for (name, page) in [
        ("exporter page, 1 line in 120 needed", page.as_str()),
        ("a vLLM page, most lines needed", REAL),
    ] {
        let text = page.repeat((64 << 20) / page.len());
        let filtered = speed(&text, || filter(text.as_bytes(), wanted).len());
        let lines = speed(&text, || memchr::memchr_iter(b'\n', text.as_bytes()).count());
        let parsed = speed(&text, || {
            usize::from(Page::parse(&text.as_bytes()[..text.len() / 16], wanted).has("DCGM_FI_DEV_GPU_UTIL"))
        }) / 16.0;
        println!(
            "{name:<38} filter {filtered:>8.0} MB/s, with parsing {parsed:.0} MB/s, counting lines {lines:.0} MB/s   target 200 MB/s"
        );
    }
}
