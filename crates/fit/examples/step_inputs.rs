//! What the step-time model knows of each measured point, as CSV: `step_inputs POINTS.csv` (tests/fit/fit_speed.py).

use gpuwaste_catalog::{gpus, models};
use gpuwaste_facts::snapshot::server::{EngineKind, EngineSettings};
use gpuwaste_fit::speed::{At, Predictor, step_seconds};
use gpuwaste_fit::{Parallelism, Placement, copy, place};
use std::collections::BTreeMap;

type Row = BTreeMap<String, String>;

fn cell<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    row.get(name).map(String::as_str).filter(|c| !c.is_empty())
}

fn whole(row: &Row, name: &str) -> Option<u32> {
    cell(row, name)?.parse().ok()
}

/// `None`: the catalogue has no such model or card.
fn placed(row: &Row) -> Option<Placement> {
    let mut model = models::find(cell(row, "model")?)?;
    let gpu = gpus::find(cell(row, "gpu")?)?;
    let mut quantization = cell(row, "quantization").map(String::from);
    if let Some(q) = &quantization
        && copy::take(&mut model, q)
    {
        quantization = None;
    }
    let tensor = whole(row, "tensor")?;
    let data = whole(row, "data").unwrap_or(1);
    let settings = EngineSettings {
        engine: Some(match cell(row, "engine")? {
            "vllm" => EngineKind::Vllm,
            "sglang" => EngineKind::Sglang,
            "trtllm" => EngineKind::Trtllm,
            _ => return None,
        }),
        engine_version: cell(row, "engine_version").map(String::from),
        tensor_parallel: Some(tensor),
        data_parallel: (data > 1).then_some(data),
        dp_attention: (data > 1).then_some(true),
        expert_parallel: cell(row, "expert_parallel").map(|_| true),
        quantization,
        dtype: cell(row, "dtype").map(String::from),
        kv_cache_dtype: cell(row, "kv_cache_dtype").map(String::from),
        ..EngineSettings::default()
    };
    let parallelism = Parallelism {
        tensor,
        pipeline: 1,
        data,
    };
    Some(place(&model, &settings, gpu, parallelism, None))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: step_inputs POINTS.csv")?;
    let mut reader = csv::Reader::from_path(path)?;
    let mut writer = csv::Writer::from_writer(std::io::stdout());
    let mut first = true;
    for row in reader.deserialize::<Row>() {
        let row = row?;
        let placement = placed(&row);
        let r = placement.as_ref().and_then(|p| p.roofline.clone()).unwrap_or_default();
        let path = r.card.path(r.tensor);
        let capacity = placement.as_ref().and_then(|p| p.kv_capacity);
        let memory = cell(&row, "gpu").and_then(gpus::find).map(|g| g.memory);
        let loads = placement
            .as_ref()
            .is_some_and(|p| p.weights_per_gpu.zip(memory).is_some_and(|(w, m)| w < m));
        let flag = |b: bool| if b { 1.0 } else { 0.0 };
        // What the binary says there, for the script to compare with its own arithmetic.
        let number = |name: &str| cell(&row, name).and_then(|c| c.parse::<f64>().ok()).unwrap_or(1.0);
        let at = At::new(number("running"), number("input"), number("output"));
        let said = if r.layers > 0 { step_seconds(&r, at) } else { 0.0 };
        let class = Predictor::new(&r, &[]).evidence.class;
        let numbers = [
            ("said", said),
            ("known", flag(r.layers > 0)),
            ("loads", flag(loads)),
            ("kv_capacity", capacity.map_or(0.0, |k| k.value.0 as f64)),
            ("ranks", f64::from(r.tensor)),
            ("attention_ranks", r.attention_ranks),
            ("data_ranks", r.data_ranks),
            ("layers", f64::from(r.layers)),
            ("hidden", r.hidden),
            ("kernels", r.kernels),
            ("dense_bytes", r.dense_bytes),
            ("expert_bytes", r.expert_bytes),
            ("experts", r.experts),
            ("experts_per_token", r.experts_per_token),
            ("dense_parameters", r.dense_parameters),
            ("expert_parameters", r.expert_parameters),
            ("attention_width", r.attention_width),
            ("windowed_width", r.windowed_width),
            ("latent", flag(r.structure.latent)),
            ("sparse", flag(r.structure.sparse)),
            ("recurrent", flag(r.structure.recurrent)),
            ("windowed_layers", flag(r.structure.windowed)),
            ("kv", r.kv_bytes_per_token_per_gpu),
            ("windowed", r.windowed_bytes_per_token_per_gpu),
            ("window", r.window),
            ("state", r.state_bytes),
            ("weight_bits", r.weight_bits),
            ("compute_bits", f64::from(r.compute_bits)),
            ("bandwidth", r.bandwidth),
            ("flops", r.flops),
            ("flops_16", r.flops_16),
            ("link_rate", path.rate),
            ("tflops_per_watt", r.card.tflops_per_watt.unwrap_or(1.0)),
        ];
        let words = [
            ("card", r.card.name.as_str()),
            ("architecture", r.card.architecture.name()),
            ("vendor", if r.card.nvidia { "nvidia" } else { "other" }),
            ("path", path.path.name()),
            ("generation", r.engine.name()),
            ("class", class.name()),
        ];
        if first {
            let names = numbers.iter().map(|(n, _)| *n).chain(words.iter().map(|(n, _)| *n));
            writer.write_record(std::iter::once("id").chain(names))?;
            first = false;
        }
        let cells = numbers
            .iter()
            .map(|(_, v)| v.to_string())
            .chain(words.iter().map(|(_, v)| (*v).to_string()));
        writer.write_record(std::iter::once(cell(&row, "id").unwrap_or_default().to_string()).chain(cells))?;
    }
    writer.flush()?;
    Ok(())
}
