//! The step-time model against measured points; `cargo test -- fit::throughput::score --nocapture` prints the figures.

use super::super::{Parallelism, Roofline, place};
use super::{Constants, FITTED, Mix, step_time};
use crate::catalog::{gpus, models};
use crate::snapshot::server::{EngineKind, EngineSettings};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const ROWS: &str = include_str!("../../../../tests/fit/throughput.csv");

struct Point {
    model: String,
    gpu: String,
    /// Engine, precision, tensor parallelism, concurrency and lengths: what a comparison of cards keeps.
    same: String,
    roofline: Roofline,
    batch: f64,
    mix: Mix,
    /// Seconds between tokens.
    measured: f64,
}

fn points() -> Vec<Point> {
    let mut reader = csv::Reader::from_reader(ROWS.as_bytes());
    let rows: Vec<BTreeMap<String, String>> = reader.deserialize().collect::<Result<_, _>>().expect("rows");
    rows.iter().filter_map(point).collect()
}

fn point(row: &BTreeMap<String, String>) -> Option<Point> {
    let number = |name: &str| row.get(name)?.parse::<f64>().ok();
    let mut model = models::find(row["model"].as_str())?;
    let dtype = row["dtype"].as_str();
    model.quantization = match dtype {
        "fp8" => Some("fp8".into()),
        // gpt-oss is MXFP4 by itself.
        "fp4" | "mxfp4" if model.quantization.as_deref().is_some_and(|q| q.contains("fp4")) => model.quantization,
        "fp4" | "mxfp4" => Some("nvfp4 g16".into()),
        _ => None,
    };
    let spelling = row["gpu"]
        .replace("H200-SXM-141GB", "H200")
        .replace("H100-SXM-80GB", "H100-SXM5-80GB");
    let gpu = gpus::find(&spelling.replace("A100-SXM-80GB", "A100-SXM4-80GB").replace("-SXM", ""))
        .or_else(|| gpus::find(&spelling))
        .or_else(|| gpus::find(&spelling.replace("A100-SXM-80GB", "A100-SXM4-80GB")))?;
    let tensor = number("tp")? as u32;
    let parallelism = Parallelism {
        tensor,
        ..Parallelism::ONE
    };
    let settings = EngineSettings {
        engine: Some(EngineKind::Vllm),
        tensor_parallel: Some(tensor),
        max_model_len: Some(16_384),
        ..EngineSettings::default()
    };
    let (input, output) = (number("input_len")?, number("output_len")?);
    Some(Point {
        model: row["model"].clone(),
        gpu: row["gpu"].clone(),
        same: [
            "model",
            "engine",
            "dtype",
            "tp",
            "concurrency",
            "input_len",
            "output_len",
        ]
        .map(|c| row[c].as_str())
        .join("/"),
        roofline: place(&model, &settings, gpu, parallelism, None).roofline?,
        batch: number("concurrency")?,
        mix: Mix {
            context: input + output / 2.0,
            prompt_per_output: input / output,
        },
        measured: number("tpot_ms")? / 1e3,
    })
}

fn error(p: &Point, c: &Constants) -> f64 {
    step_time(&p.roofline, p.batch, p.mix, c) / p.measured - 1.0
}

/// Mean absolute error and bias, percent.
fn sum(errors: &[f64]) -> (f64, f64) {
    let n = errors.len().max(1) as f64;
    let mean = |f: &dyn Fn(&f64) -> f64| errors.iter().map(f).sum::<f64>() / n * 100.0;
    (mean(&|e| e.abs()), mean(&|e| *e))
}

/// The constants that fit the points best, over a coarse grid around the published ones.
fn fit(points: &[&Point]) -> Constants {
    let mut best = (f64::INFINITY, FITTED);
    for bandwidth in [0.55, 0.66, 0.77, 0.88] {
        for compute in [0.25, 0.35, 0.45, 0.6] {
            for scale in [0.6, 0.8, 1.0, 1.25] {
                let c = Constants {
                    bandwidth,
                    compute,
                    layer: FITTED.layer.map(|s| s * scale),
                };
                let score: f64 = points.iter().map(|p| error(p, &c).abs()).sum();
                if score < best.0 {
                    best = (score, c);
                }
            }
        }
    }
    best.1
}

/// Each group predicted by constants fitted without it.
fn left_out(points: &[Point], key: &dyn Fn(&Point) -> String, out: &mut String) -> f64 {
    let groups: BTreeSet<String> = points.iter().map(key).collect();
    let mut all = Vec::new();
    for group in groups {
        let rest: Vec<&Point> = points.iter().filter(|p| key(p) != group).collect();
        let constants = fit(&rest);
        let errors: Vec<f64> = points
            .iter()
            .filter(|p| key(p) == group)
            .map(|p| error(p, &constants))
            .collect();
        let (mape, bias) = sum(&errors);
        writeln!(
            out,
            "  {group:<44} n {:>4}  MAPE {mape:>5.1} %  bias {bias:>+6.1} %",
            errors.len()
        )
        .expect("text");
        all.extend(errors);
    }
    sum(&all).0
}

/// The step time of one card from that of another, everything else the same.
fn ratios(points: &[Point], out: &mut String) -> BTreeMap<String, (usize, f64, f64)> {
    let mut pairs: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for from in points {
        for to in points.iter().filter(|p| p.same == from.same && p.gpu != from.gpu) {
            let ratio = step_time(&to.roofline, to.batch, to.mix, &FITTED)
                / step_time(&from.roofline, from.batch, from.mix, &FITTED);
            pairs
                .entry(format!("{} → {}", from.gpu, to.gpu))
                .or_default()
                .push(from.measured * ratio / to.measured - 1.0);
        }
    }
    pairs
        .into_iter()
        .map(|(pair, errors)| {
            let (mape, bias) = sum(&errors);
            writeln!(
                out,
                "  {pair:<36} n {:>4}  MAPE {mape:>5.1} %  bias {bias:>+6.1} %",
                errors.len()
            )
            .expect("text");
            (pair, (errors.len(), mape, bias))
        })
        .collect()
}

/// Bounds are coarse: this guards against a broken model, the printed figures tell how good it is.
#[test]
#[allow(clippy::print_stdout, reason = "the figures are the point")]
fn the_model_meets_measured_points() {
    let points = points();
    let mut out = format!("{} points\nleave one model out\n", points.len());
    let by_model = left_out(&points, &|p| p.model.clone(), &mut out);
    out.push_str("leave one GPU out\n");
    let by_gpu = left_out(&points, &|p| p.gpu.clone(), &mut out);
    let (mape, bias) = sum(&points.iter().map(|p| error(p, &FITTED)).collect::<Vec<_>>());
    writeln!(
        out,
        "constants in use: MAPE {mape:.1} %, bias {bias:+.1} %; left out: model {by_model:.1} %, GPU {by_gpu:.1} %"
    )
    .expect("text");
    out.push_str("ratio method\n");
    let pairs = ratios(&points, &mut out);
    println!("{out}");
    assert!(points.len() > 200, "{}", points.len());
    assert!(mape < 40.0 && by_model < 40.0 && by_gpu < 45.0, "{out}");
    // The direction that matters: to a smaller card.
    let down = pairs.get("H200-SXM-141GB → H100-SXM-80GB").copied().unwrap_or_default();
    assert!(down.0 >= 5 && down.1 < 25.0, "{out}");
}
