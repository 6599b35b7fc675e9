//! What real exporters write and mean otherwise than it looks: one test a trap.

use super::{engine_page, exporter};
use crate::snapshot::gpu::{GpuReading, GpuScrape};
use crate::snapshot::server::EngineKind;
use crate::units::{Bytes, Ratio, Watts};
use jiff::Timestamp;

fn at() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn gpus(text: &str) -> Vec<GpuScrape> {
    exporter::page(text.as_bytes(), at(), "node-1")
}

fn reading(gpu: &GpuScrape) -> &GpuReading {
    &gpu.readings[0]
}

/// `(labels, value)` rows of one metric, on devices 0, 1, …
fn rows(name: &str, values: &[f64]) -> String {
    values
        .iter()
        .enumerate()
        .map(|(i, v)| format!("{name}{{gpu=\"{i}\",UUID=\"GPU-{i}\"}} {v}\n"))
        .collect()
}

fn utils(name: &str, values: &[f64]) -> Vec<Option<f64>> {
    gpus(&rows(name, values))
        .iter()
        .map(|g| reading(g).gpu_util.map(|r| (r.0 * 1000.0).round() / 1000.0))
        .collect()
}

#[test]
fn the_unit_of_gpu_util_is_read_off_the_page_not_off_its_name() {
    // DCGM 4.6 calls the percent field _RATIO; DCGM 4.7 really writes 0–1; a collector rescales the old name.
    for name in ["DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_GPU_UTIL_RATIO"] {
        assert_eq!(
            utils(name, &[97.0, 1.0, 0.0]),
            [Some(0.97), Some(0.01), Some(0.0)],
            "{name}"
        );
        assert_eq!(
            utils(name, &[0.5, 1.0, 0.0]),
            [Some(0.5), Some(1.0), Some(0.0)],
            "{name}"
        );
        // 1 % or all of it: not known, and never the smaller of the two.
        assert_eq!(utils(name, &[1.0, 0.0]), [None, None], "{name}");
        assert_eq!(utils(name, &[0.0, 0.0]), [Some(0.0), Some(0.0)], "{name}");
        assert_eq!(
            utils(name, &[250.0, 50.0]),
            [None, Some(0.5)],
            "{name}: absurd values are none"
        );
    }
}

#[test]
fn blanks_are_no_values_in_any_field() {
    let blank = "9223372036854775794";
    let names = [
        "DCGM_FI_DEV_GPU_UTIL",
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
        "DCGM_FI_PROF_SM_ACTIVE",
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        "DCGM_FI_PROF_DRAM_ACTIVE",
        "DCGM_FI_DEV_POWER_USAGE",
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "DCGM_FI_DEV_GPU_ENERGY_JOULES_TOTAL",
        "DCGM_FI_DEV_FB_USED",
        "DCGM_FI_DEV_FB_FREE",
    ];
    let text: String = names
        .iter()
        .map(|n| format!("{n}{{gpu=\"0\",UUID=\"GPU-a\"}} {blank}\n"))
        .collect();
    let found = gpus(&text);
    assert_eq!(found.len(), 1, "the device is there, it tells nothing");
    let r = reading(&found[0]);
    assert!(r.gpu_util.is_none() && r.gr_engine.is_none() && r.sm_active.is_none() && r.tensor.is_none());
    assert!(r.dram.is_none() && r.power.is_none() && r.energy_joules.is_none());
    assert!(r.memory_used.is_none() && r.memory_total.is_none());
}

#[test]
fn the_host_label_in_either_case_may_be_the_exporters_pod() {
    for label in [
        "Hostname=\"dcgm-exporter-wwwjh\"",
        "hostname=\"dcgm-exporter-wwwjh\"",
        "",
    ] {
        let text = format!("DCGM_FI_DEV_POWER_USAGE{{gpu=\"0\",UUID=\"GPU-a\",{label}}} 60\n");
        assert_eq!(gpus(&text)[0].node, "node-1", "{label}");
    }
}

#[test]
fn gpu_util_of_an_instance_says_nothing_even_at_0() {
    let text = "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"GPU-a\",GPU_I_PROFILE=\"1g.10gb\",GPU_I_ID=\"7\"} 0\n\
                DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu=\"0\",UUID=\"GPU-a\",GPU_I_PROFILE=\"1g.10gb\",GPU_I_ID=\"7\"} 0.9\n\
                DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu=\"0\",UUID=\"GPU-a\",GPU_I_PROFILE=\"1g.10gb\",GPU_I_ID=\"8\"} 0\n";
    let found = gpus(text);
    // One card, two instances: told apart by the instance's id alone.
    assert_eq!(found.len(), 2);
    assert_eq!(reading(&found[0]).gpu_util, None);
    assert_eq!(
        reading(&found[0]).gr_engine,
        Some(Ratio(0.9)),
        "of the instance, not of the card"
    );
    assert_eq!(reading(&found[1]).gr_engine, Some(Ratio(0.0)));
}

#[test]
fn sharers_rows_are_never_added_nor_taken_for_the_device() {
    // Since 4.5.3-4.8.2: the device's row without a pod, and each pod's own part of it.
    let row = |pod: &str, name: &str, value: f64| {
        let owner = if pod.is_empty() {
            String::new()
        } else {
            format!(",pod=\"{pod}\",namespace=\"n\",container=\"c\",vgpu=\"1\"")
        };
        format!("{name}{{gpu=\"0\",UUID=\"GPU-a\"{owner}}} {value}\n")
    };
    let mut lines = [
        row("", "DCGM_FI_DEV_GPU_UTIL", 70.0),
        row("a", "DCGM_FI_DEV_GPU_UTIL", 60.0),
        row("b", "DCGM_FI_DEV_GPU_UTIL", 10.0),
        row("", "DCGM_FI_DEV_FB_USED", 30_000.0),
        row("a", "DCGM_FI_DEV_FB_USED", 20_000.0),
        row("b", "DCGM_FI_DEV_FB_USED", 10_000.0),
        row("a", "DCGM_FI_DEV_POWER_USAGE", 300.0),
        row("b", "DCGM_FI_DEV_POWER_USAGE", 300.0),
    ];
    for _ in 0..lines.len() {
        lines.rotate_left(1);
        let found = gpus(&lines.concat());
        assert_eq!(found.len(), 1);
        let r = reading(&found[0]);
        assert_eq!(r.gpu_util, Some(Ratio(0.7)));
        assert_eq!(r.memory_used, Some(Bytes(30_000 << 20)));
        assert_eq!(r.power, Some(Watts(300.0)));
        let mut holders: Vec<&str> = found[0].holders.iter().map(|h| h.name.as_str()).collect();
        holders.sort_unstable();
        assert_eq!(holders, ["a", "b"]);
    }
}

#[test]
fn owners_of_either_honor_labels() {
    let holders = |labels: &str| -> Vec<String> {
        let text = format!("DCGM_FI_DEV_POWER_USAGE{{gpu=\"0\",UUID=\"GPU-a\",{labels}}} 60\n");
        gpus(&text)[0]
            .holders
            .iter()
            .map(|h| format!("{}/{}/{}", h.namespace, h.name, h.container.as_deref().unwrap_or("-")))
            .collect()
    };
    let target = "pod=\"nvidia-dcgm-exporter-x\",namespace=\"gpu-operator\",container=\"nvidia-dcgm-exporter\"";
    // false: the target's labels stay, the workload's were moved.
    let moved = format!("{target},exported_pod=\"p\",exported_namespace=\"n\",exported_container=\"exporter\"");
    assert_eq!(holders(&moved), ["n/p/exporter"], "whatever its container is called");
    let bare = format!("{target},exported_pod=\"p\",exported_namespace=\"n\"");
    assert_eq!(holders(&bare), ["n/p/-"], "not the exporter's container");
    // An idle device has none to move; with true it inherits the target's.
    assert!(holders(target).is_empty());
    for own in [
        "pod=\"dcgm-x\",namespace=\"gke-managed-system\",container=\"metrics\"",
        "pod=\"prom-gpu-7\",namespace=\"m\",container=\"exporter\"",
    ] {
        assert!(holders(own).is_empty(), "{own}");
    }
    assert_eq!(holders("pod=\"p\",namespace=\"n\",container=\"c\""), ["n/p/c"]);
    assert_eq!(
        holders("pod_name=\"p\",pod_namespace=\"n\",container_name=\"c\""),
        ["n/p/c"]
    );
    // Unallocated: empty (old) or absent (new).
    assert!(holders("pod=\"\",namespace=\"\",container=\"\"").is_empty());
    assert!(holders("device=\"nvidia0\"").is_empty());
}

#[test]
fn no_mapping_is_not_no_holder() {
    let maps = |labels: &str| {
        gpus(&format!(
            "DCGM_FI_DEV_POWER_USAGE{{gpu=\"0\",UUID=\"GPU-a\"{labels}}} 60\n"
        ))[0]
            .maps_pods
    };
    assert!(!maps(""), "without Kubernetes mapping there are no labels at all");
    assert!(maps(",pod=\"\""));
}

#[test]
fn counters_of_the_1x_names_are_the_same_figures() {
    let old = "dcgm_gpu_utilization{gpu=\"0\",uuid=\"GPU-a\",device=\"nvidia0\",pod_name=\"p\",pod_namespace=\"n\",container_name=\"c\"} 97\n\
               dcgm_fi_prof_gr_engine_active{gpu=\"0\",uuid=\"GPU-a\"} 0.9\ndcgm_fi_prof_pipe_tensor_active{gpu=\"0\",uuid=\"GPU-a\"} 0.3\n\
               dcgm_power_usage{gpu=\"0\",uuid=\"GPU-a\"} 70.5\ndcgm_total_energy_consumption{gpu=\"0\",uuid=\"GPU-a\"} 5000\n\
               dcgm_fb_used{gpu=\"0\",uuid=\"GPU-a\"} 20000\ndcgm_fb_free{gpu=\"0\",uuid=\"GPU-a\"} 2500\n";
    let found = gpus(old);
    let r = reading(&found[0]);
    assert_eq!(
        (r.gpu_util, r.gr_engine, r.tensor, r.power, r.energy_joules),
        (
            Some(Ratio(0.97)),
            Some(Ratio(0.9)),
            Some(Ratio(0.3)),
            Some(Watts(70.5)),
            Some(5.0)
        )
    );
    assert_eq!(r.memory_total, Some(Bytes(22_500 << 20)));
    assert_eq!((found[0].uuid.as_deref(), found[0].holders.len()), (Some("GPU-a"), 1));
}

#[test]
fn identity_has_several_names_and_not_every_row_has_all() {
    for (id, model) in [
        ("UUID", "modelName"),
        ("uuid", "model_name"),
        ("gpu_uuid", "model_name"),
    ] {
        let text = format!(
            "DCGM_FI_DEV_GPU_UTIL{{gpu=\"3\",{id}=\"GPU-a\"}} 40\nDCGM_FI_DEV_POWER_USAGE{{gpu=\"3\",{id}=\"GPU-a\",{model}=\"NVIDIA-H100-80GB-HBM3\"}} 60\n"
        );
        let found = gpus(&text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].uuid.as_deref(), Some("GPU-a"));
        assert_eq!(found[0].index, Some(3));
        let model = found[0].model.as_deref().expect("a model");
        assert!(
            gpuwaste_catalog::gpus::find(model).is_some(),
            "{model}: dashes for blanks"
        );
    }
}

#[test]
fn reserved_memory_is_part_of_the_card_and_copying_is_no_fill() {
    let text = "DCGM_FI_DEV_FB_USED{UUID=\"GPU-a\"} 100\nDCGM_FI_DEV_FB_FREE{UUID=\"GPU-a\"} 800\nDCGM_FI_DEV_FB_RESERVED{UUID=\"GPU-a\"} 100\n\
                DCGM_FI_DEV_MEM_COPY_UTIL{UUID=\"GPU-a\"} 99\n";
    let r = reading(&gpus(text)[0]).clone();
    assert_eq!(r.memory_total, Some(Bytes(1000 << 20)));
    assert_eq!(r.memory_used, Some(Bytes(100 << 20)));
    assert_eq!(r.dram, None, "the share of time with a copy is not bandwidth");
    let total =
        "DCGM_FI_DEV_FB_USED_BYTES{UUID=\"GPU-a\"} 1048576\nDCGM_FI_DEV_FB_CAPACITY_BYTES{UUID=\"GPU-a\"} 4194304\n";
    assert_eq!(reading(&gpus(total)[0]).memory_total, Some(Bytes(4 << 20)));
    let lacking = "DCGM_FI_DEV_FB_USED{UUID=\"GPU-a\"} 100\n";
    assert_eq!(reading(&gpus(lacking)[0]).memory_total, None, "no total is made up");
}

#[test]
fn series_that_are_no_activity_are_not_read_as_one() {
    let rows = [
        // The last code sticks; a rate typed as a counter; NVLink, CPU and per-process rows of other things.
        "DCGM_FI_DEV_XID_ERRORS{gpu=\"0\",UUID=\"GPU-a\",err_code=\"79\"} 79",
        "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL{gpu=\"0\",UUID=\"GPU-a\"} 9e9",
        "DCGM_FI_PROF_PCIE_TX_BYTES{gpu=\"0\",UUID=\"GPU-a\"} 1e9",
        "DCGM_FI_DEV_NVLINK_COUNT_TX_BYTES{nvlink=\"2\",gpu_uuid=\"GPU-a\"} 7",
        "DCGM_FI_DEV_CPU_UTIL_TOTAL{cpu=\"0\"} 55",
    ];
    assert!(gpus(&rows.join("\n")).is_empty());
}

#[test]
fn a_card_that_only_transcodes_works() {
    let page = |encoder: u32, decoder: u32, more: &str| {
        let row = |name: &str, value: u32| format!("DCGM_FI_DEV_{name}{{gpu=\"0\",UUID=\"GPU-a\"}} {value}\n");
        [row("ENC_UTIL", encoder), row("DEC_UTIL", decoder), more.to_string()].concat()
    };
    let calm =
        "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"GPU-a\"} 0\nDCGM_FI_DEV_POWER_USAGE{gpu=\"0\",UUID=\"GPU-a\"} 70\n";
    let util = |text: String| reading(&gpus(&text)[0]).gpu_util;
    assert_eq!(util(page(46, 80, calm)), Some(Ratio(0.8)));
    assert_eq!(util(page(0, 0, calm)), Some(Ratio(0.0)));
    // Where kernels are not told, no video is no idleness.
    assert_eq!(util(page(0, 0, "")), None);
    let smi = "nvidia_smi_utilization_gpu_ratio{uuid=\"a\"} 0\nnvidia_smi_utilization_decoder_ratio{uuid=\"a\"} 0.7\nnvidia_smi_power_draw_watts{uuid=\"a\"} 40\n";
    assert_eq!(util(smi.into()), Some(Ratio(0.7)));
}

#[test]
fn dra_repeats_a_cards_rows_for_each_pod_of_a_claim() {
    let row = |pod: &str| {
        format!(
            "DCGM_FI_DEV_GPU_UTIL{{gpu=\"0\",UUID=\"GPU-a\",pod=\"{pod}\",namespace=\"n\",container=\"c\",dra_claim_name=\"c-{pod}\",dra_mig_profile=\"1g.10gb\",dra_mig_device_uuid=\"MIG-{pod}\"}} 40\n"
        )
    };
    let found = gpus(&[row("a"), row("b")].concat());
    assert_eq!((found.len(), found[0].holders.len()), (1, 2));
    assert!(
        found[0].mig.is_none(),
        "keyed by the parent: nothing tells which instance is meant"
    );
}

#[test]
fn a_page_without_profiling_fields_still_names_its_devices() {
    // The defaults before 4.0.1, consumer cards, no SYS_ADMIN.
    let found =
        gpus("DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"GPU-a\"} 0\nDCGM_FI_DEV_FB_USED{gpu=\"0\",UUID=\"GPU-a\"} 79000\n");
    let r = reading(&found[0]);
    assert_eq!((r.gpu_util, r.gr_engine, r.dram), (Some(Ratio(0.0)), None, None));
}

fn engine(text: &str) -> super::EnginePage {
    engine_page(text.as_bytes(), at(), None).expect("an engine's page")
}

#[test]
fn perc_is_a_fraction() {
    for (value, expected) in [("0.97", 0.97), ("1.0", 1.0), ("0.004", 0.004)] {
        let page = engine(&format!(
            "vllm:num_requests_running 1\nvllm:kv_cache_usage_perc {value}\n"
        ));
        assert_eq!(page.reading.kv_usage, Some(expected), "{value}");
    }
}

#[test]
fn v1_has_no_swapped_requests_and_no_hit_rate_and_none_is_made_up() {
    let v0 = "vllm:num_requests_running 1\nvllm:gpu_prefix_cache_hit_rate -1\nvllm:cpu_cache_usage_perc 0.5\nvllm:num_requests_swapped 2\n";
    let page = engine(v0);
    assert_eq!((page.reading.kv_usage, page.reading.prefix_hits), (None, None));
    let histogram = "vllm:num_requests_running 1\nvllm:iteration_tokens_total_sum 500\nvllm:iteration_tokens_total_count 5\nvllm:prompt_tokens_created 1.7e9\n";
    let page = engine(histogram);
    assert_eq!((page.reading.prompt_tokens, page.reading.output_tokens), (None, None));
}

#[test]
fn what_an_engine_does_not_tell_stays_unknown() {
    // TGI: no model, no KV use; tokens are sums of histograms.
    let tgi = engine(
        "tgi_request_count 3\ntgi_request_input_length_sum 40\ntgi_request_input_length_count 3\ntgi_batch_current_size 0\n",
    );
    assert_eq!((tgi.reading.kv_usage, tgi.reading.prompt_tokens), (None, Some(40.0)));
    assert!(tgi.identity.served_names.is_empty() && tgi.identity.kv_capacity.is_none());
    // SGLang 0.3.5 calls the model label `name`.
    let sglang = engine("sglang:num_running_reqs{name=\"org/m\"} 1\nsglang:token_usage{name=\"org/m\"} 0.2\n");
    assert_eq!(sglang.identity.served_names, ["org/m"]);
    // Ollama has no metrics page at all.
    let ollama = crate::of(EngineKind::Ollama).expect("known");
    assert_eq!(ollama.facts().endpoints.metrics, None);
    assert!(ollama.facts().endpoints.identity_paths().any(|p| p == "/api/ps"));
}
