//! Pages of `nvidia_gpu_exporter` and all-smi: units, identities, and what looks like a figure and is none.

use super::exporter;
use crate::snapshot::gpu::{Generation, GpuReading, GpuScrape};
use crate::units::{Bytes, Ratio, Watts};
use jiff::Timestamp;

macro_rules! raw {
    ($name:literal) => {
        include_str!(concat!("../../../../fixtures/raw/", $name))
    };
}

const SMI: &str = raw!("nvidia-gpu-exporter-1.prom");
const CUT: &str = raw!("nvidia-gpu-exporter-nvml-mig.prom");
const ALL: &str = raw!("all-smi-0.26.prom");

fn gpus(text: &str) -> Vec<GpuScrape> {
    let at: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
    exporter::page(text.as_bytes(), at, "node-1")
}

fn reading(gpu: &GpuScrape) -> &GpuReading {
    &gpu.readings[0]
}

/// Neither exporter sees inside a whole card.
fn inside(r: &GpuReading) -> [Option<Ratio>; 4] {
    [r.gr_engine, r.sm_active, r.tensor, r.dram]
}

#[test]
fn nvidia_smis_figures_are_ratios_bytes_and_watts() {
    let found = gpus(SMI);
    assert_eq!(found.len(), 2);
    let (busy, calm) = (reading(&found[0]), reading(&found[1]));
    assert_eq!((busy.gpu_util, calm.gpu_util), (Some(Ratio(1.0)), Some(Ratio(0.0))));
    assert_eq!(busy.memory_used, Some(Bytes(74_089_234_432)));
    assert_eq!(busy.memory_total, Some(Bytes(85_520_809_984)));
    assert_eq!(
        calm.memory_used,
        Some(Bytes(0)),
        "0 MiB is what it says of an empty card"
    );
    // power.draw of the second card is N/A: the driver's mean of the last second stands in for it.
    assert_eq!((busy.power, calm.power), (Some(Watts(611.25)), Some(Watts(68.4))));
    for r in [busy, calm] {
        assert_eq!(
            inside(r),
            [None; 4],
            "memory copies are no DRAM activity, kernels no SMs"
        );
    }
}

#[test]
fn nvidia_smis_uuid_is_the_drivers() {
    let found = gpus(SMI);
    let of = |g: &GpuScrape| (g.uuid.clone().unwrap_or_default(), g.index, g.model.clone());
    let model = Some("NVIDIA H100 80GB HBM3".to_string());
    assert_eq!(
        found.iter().map(of).collect::<Vec<_>>(),
        [
            (
                "GPU-6f1c2a0e-11d4-4b7e-9a53-0c8d1f5e7a01".into(),
                Some(0),
                model.clone()
            ),
            ("GPU-b2d94c77-5e0f-4c1a-8d26-93f7a4e6c002".into(), Some(1), model),
        ],
        "without its prefix no device plugin's or DCGM's device would be found"
    );
    for gpu in &found {
        assert!(!gpu.maps_pods && gpu.holders.is_empty(), "it knows no pods");
        assert_eq!(
            (gpu.generation, gpu.node.as_str()),
            (Some(Generation::NvidiaSmi), "node-1")
        );
    }
    // Its first releases had the name on every row, and no more than that.
    let first = "nvidia_smi_utilization_gpu_ratio{name=\"Tesla T4\",uuid=\"df6e7a7c\"} 0.42\n";
    let found = gpus(first);
    assert_eq!(
        (found[0].uuid.as_deref(), found[0].model.as_deref()),
        (Some("GPU-df6e7a7c"), Some("Tesla T4"))
    );
    assert_eq!(reading(&found[0]).gpu_util, Some(Ratio(0.42)));
}

#[test]
fn a_card_in_mig_mode_is_its_instances() {
    let found = gpus(CUT);
    let instances: Vec<&GpuScrape> = found.iter().filter(|g| g.mig.is_some()).collect();
    let whole: Vec<&GpuScrape> = found.iter().filter(|g| g.mig.is_none()).collect();
    assert_eq!((instances.len(), whole.len()), (2, 1), "never parent and children");
    assert!(
        instances
            .iter()
            .all(|g| g.mig.as_ref().is_some_and(|m| m.profile == "3g.40gb"))
    );
    let (one, two) = (reading(instances[0]), reading(instances[1]));
    assert_eq!(
        inside(one),
        [Some(Ratio(0.97)), Some(Ratio(0.88)), Some(Ratio(0.35)), None]
    );
    assert_eq!(one.memory_used, Some(Bytes(11_618_222_080)));
    // Its first look at the second instance: activity comes with the next one.
    assert_eq!(inside(two), [None; 4]);
    assert_eq!((one.power, one.gpu_util), (None, None), "those are the card's");
    assert_eq!(reading(whole[0]).gpu_util, Some(Ratio(0.01)));
    assert_eq!(reading(whole[0]).energy_joules, Some(2_200_000.125));
}

#[test]
fn a_card_in_mig_mode_of_which_nothing_is_told_is_no_whole_card() {
    // The nvidia-smi backend: no utilization, and the card's own memory and power.
    let text = "nvidia_smi_last_collect_success 1\nnvidia_smi_mig_mode_current{uuid=\"a\"} 1\n\
                nvidia_smi_power_draw_watts{uuid=\"a\"} 433\nnvidia_smi_memory_used_bytes{uuid=\"a\"} 1e10\n";
    assert!(gpus(text).is_empty());
    assert!(exporter::nothing(text.as_bytes()).0.contains("MIG"));
    let text = "all_smi_gpu_mig_mode{gpu_index=\"0\", gpu_uuid=\"GPU-a\", gpu=\"NVIDIA A100\"} 1\n\
                all_smi_gpu_utilization{gpu=\"NVIDIA A100\", gpu_uuid=\"GPU-a\", gpu_index=\"0\"} 0\n\
                all_smi_gpu_power_consumption_watts{gpu=\"NVIDIA A100\", gpu_uuid=\"GPU-a\", gpu_index=\"0\"} 250\n";
    assert!(gpus(text).is_empty(), "its 0 % is no idleness");
    let instance = "all_smi_mig_instance_memory_used_bytes{gpu_index=\"0\", gpu_uuid=\"GPU-a\", mig_instance=\"3\", mig_uuid=\"MIG-x\", mig_profile=\"1g.5gb\", gpu_instance_id=\"7\"} 1073741824\n";
    let found = gpus(&format!("{text}{instance}"));
    let mig = found[0].mig.clone().unwrap_or_default();
    assert_eq!((found.len(), mig.id.as_str(), mig.profile.as_str()), (1, "7", "1g.5gb"));
    assert_eq!(reading(&found[0]).memory_used, Some(Bytes(1 << 30)));
}

#[test]
fn what_the_last_collection_left_is_no_reading() {
    let failed = SMI.replace("nvidia_smi_last_collect_success 1", "nvidia_smi_last_collect_success 0");
    assert_ne!(failed, SMI);
    assert!(gpus(&failed).is_empty());
    let (reason, remedy) = exporter::nothing(failed.as_bytes());
    assert!(
        reason.contains("nvidia-smi failed") && remedy.contains("runtimeClassName"),
        "{reason} {remedy}"
    );
    // A page of neither says what it always said.
    assert!(exporter::nothing(b"go_goroutines 7\n").0.contains("no GPU figures"));
}

#[test]
fn all_smis_utilization_is_percent() {
    let found = gpus(ALL);
    assert_eq!(found.len(), 2, "CPU, host memory and the chassis are no devices");
    let gpu = &found[0];
    assert_eq!(
        (gpu.uuid.as_deref(), gpu.index, gpu.model.as_deref(), gpu.generation),
        (
            Some("GPU-3d0f5c11-7a42-49be-b1c6-5e2a9d84f103"),
            Some(0),
            Some("NVIDIA L40S"),
            Some(Generation::AllSmi)
        )
    );
    let r = reading(gpu);
    assert_eq!(r.gpu_util, Some(Ratio(0.01)), "1 is one percent, not all of it");
    assert_eq!(
        (r.power, r.memory_used),
        (Some(Watts(88.214)), Some(Bytes(43_620_761_600)))
    );
    assert_eq!(r.memory_total, Some(Bytes(48_305_799_168)));
    assert_eq!((inside(r), r.energy_joules), ([None; 4], None));
    assert!(!gpu.maps_pods && gpu.holders.is_empty());
}

#[test]
fn all_smis_zeros_for_what_it_could_not_read_are_none() {
    let lost = gpus(ALL).remove(1);
    let r = reading(&lost);
    assert_eq!(lost.uuid.as_deref(), Some("GPU-9c71e8d2-0b65-4f3a-a8e0-17d4c6b2e504"));
    assert_eq!(
        (r.gpu_util, r.power, r.memory_used, r.memory_total),
        (None, None, None, None),
        "a lost card draws no 0 W and is not idle"
    );
    // A powered card at rest is.
    let row = |name: &str, v: f64| format!("all_smi_gpu_{name}{{gpu=\"A\", uuid=\"GPU-a\", index=\"3\"}} {v}\n");
    let text = [
        row("utilization", 0.0),
        row("power_consumption_watts", 61.5),
        row("memory_total_bytes", 1e10),
        row("memory_used_bytes", 0.0),
    ]
    .concat();
    let found = gpus(&text);
    assert_eq!(found[0].index, Some(3), "as its older releases call the labels");
    let r = reading(&found[0]);
    assert_eq!((r.gpu_util, r.memory_used), (Some(Ratio(0.0)), Some(Bytes(0))));
}

#[test]
fn absurd_values_are_none() {
    let text = "nvidia_smi_utilization_gpu_ratio{uuid=\"a\"} 42\nnvidia_smi_power_draw_watts{uuid=\"a\"} 9e18\n\
                nvidia_smi_memory_used_bytes{uuid=\"a\"} -1\nnvidia_smi_memory_total_bytes{uuid=\"a\"} NaN\n\
                nvidia_smi_utilization_gpu_ratio 0\n";
    let found = gpus(text);
    assert_eq!(found.len(), 1, "a row without a UUID is nobody's");
    let r = reading(&found[0]);
    assert_eq!(
        (r.gpu_util, r.power, r.memory_used, r.memory_total),
        (None, None, None, None)
    );
}
