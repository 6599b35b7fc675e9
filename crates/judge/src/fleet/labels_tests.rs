//! Names of GPUs as labels of the clouds and operators carry them: look-alikes never meet, and what is unknown stays so.

use super::nodes::{Around, DraView, describe};
use crate::catalog::prices::PriceBook;
use crate::snapshot::cluster::{Node, Resources};
use std::collections::HashSet;

fn seen(labels: &[(&str, &str)], devices: &[(&str, u64)]) -> Node {
    let amounts = Resources {
        devices: devices.iter().map(|(k, v)| ((*k).into(), *v)).collect(),
        ..Resources::default()
    };
    Node {
        name: "n".into(),
        labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        capacity: amounts.clone(),
        allocatable: amounts,
        ..Node::default()
    }
}

fn described(node: &Node) -> super::nodes::Described {
    let around = Around {
        cluster: 0,
        cluster_name: "c",
        at: "2026-11-24T00:00:00Z".parse().unwrap(),
        prices: &PriceBook::default(),
        stale_days: 180,
        exporter: &[],
        sharing_layer: false,
        unseen: false,
        dra: DraView {
            devices: None,
            taken: &HashSet::new(),
            refused: false,
        },
    };
    describe(node, &around)
}

/// GPU name, or `None` and the name that the gap carries.
fn gpu(labels: &[(&str, &str)]) -> (Option<&'static str>, Option<String>) {
    let found = described(&seen(labels, &[("nvidia.com/gpu", 1)]));
    (found.node.gpu.map(|g| g.name.as_str()), found.unknown_gpu)
}

const GFD: &str = "nvidia.com/gpu.product";
const GKE: &str = "cloud.google.com/gke-accelerator";
const AKS: &str = "karpenter.azure.com/sku-gpu-name";
const COREWEAVE: &str = "gpu.nvidia.com/class";
const TYPE: &str = "node.kubernetes.io/instance-type";
const AMD: &str = "amd.com/gpu.product-name";

/// (label, its value as seen in the wild, the catalogue's name)
const NAMES: &[(&str, &str, &str)] = &[
    (GFD, "NVIDIA-A100-SXM4-40GB", "A100-SXM4-40GB"),
    (GFD, "NVIDIA-A100-SXM4-80GB", "A100-SXM4-80GB"),
    (GFD, "NVIDIA-A100-PCIE-40GB", "A100-PCIE-40GB"),
    (GFD, "NVIDIA-A100-80GB-PCIe", "A100-PCIE-80GB"),
    (GFD, "NVIDIA-A100-SXM4-80GB-SHARED", "A100-SXM4-80GB"),
    (GFD, "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "A100-SXM4-80GB"),
    (GFD, "NVIDIA-A100-SXM4-40GB-MIG-3g.20gb-SHARED", "A100-SXM4-40GB"),
    (GFD, "NVIDIA-A10", "A10"),
    (GFD, "NVIDIA-A10-SHARED", "A10"),
    (GFD, "NVIDIA-A10G", "A10G"),
    (GFD, "NVIDIA-A2", "A2"),
    (GFD, "NVIDIA-A16", "A16"),
    (GFD, "NVIDIA-A30", "A30"),
    (GFD, "NVIDIA-A40", "A40"),
    (GFD, "NVIDIA-RTX-A6000", "RTX-A6000"),
    (GFD, "Tesla-T4", "T4"),
    (GFD, "Tesla-V100-SXM2-16GB", "V100-SXM2-16GB"),
    (GFD, "Tesla-V100-SXM2-32GB", "V100-SXM2-32GB"),
    (GFD, "NVIDIA-L4", "L4"),
    (GFD, "NVIDIA-L40", "L40"),
    (GFD, "NVIDIA-L40S", "L40S"),
    (GFD, "NVIDIA-L20", "L20"),
    (GFD, "NVIDIA-H100-80GB-HBM3", "H100-SXM5-80GB"),
    (GFD, "NVIDIA-H100-PCIe", "H100-PCIE-80GB"),
    (GFD, "NVIDIA-H100-NVL", "H100-NVL-94GB"),
    (GFD, "NVIDIA-H200", "H200-SXM5-141GB"),
    (GFD, "NVIDIA-H200-NVL", "H200-NVL-141GB"),
    (GFD, "NVIDIA-H20", "H20-96GB"),
    (GFD, "NVIDIA-B200", "B200-SXM-180GB"),
    (GFD, "NVIDIA-B300-SXM6-AC", "B300-SXM-288GB"),
    (GFD, "NVIDIA-GB200", "GB200"),
    (GFD, "NVIDIA-GB300", "GB300"),
    (GFD, "NVIDIA-GH200-480GB", "GH200-96GB"),
    (GFD, "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", "RTX-PRO-6000-BSE"),
    (
        GFD,
        "NVIDIA-RTX-PRO-6000-Blackwell-Workstation-Edition",
        "RTX-PRO-6000-WS",
    ),
    (GFD, "NVIDIA-RTX-6000-Ada-Generation", "RTX-6000-Ada"),
    (GFD, "Quadro-RTX-6000", "Quadro-RTX-6000"),
    (GKE, "nvidia-tesla-t4", "T4"),
    (GKE, "nvidia-tesla-a100", "A100-SXM4-40GB"),
    (GKE, "nvidia-a100-80gb", "A100-SXM4-80GB"),
    (GKE, "nvidia-tesla-v100", "V100-SXM2-16GB"),
    (GKE, "nvidia-l4", "L4"),
    (GKE, "nvidia-h100-80gb", "H100-SXM5-80GB"),
    (GKE, "nvidia-h100-mega-80gb", "H100-SXM5-80GB"),
    (GKE, "nvidia-h200-141gb", "H200-SXM5-141GB"),
    (GKE, "nvidia-b200", "B200-SXM-180GB"),
    (GKE, "nvidia-gb200", "GB200"),
    (GKE, "nvidia-rtx-pro-6000", "RTX-PRO-6000-BSE"),
    (AKS, "H100", "H100-SXM5-80GB"),
    (AKS, "A10", "A10"),
    (AKS, "T4", "T4"),
    (AKS, "MI300X", "MI300X"),
    (COREWEAVE, "A100_NVLINK_80GB", "A100-SXM4-80GB"),
    (COREWEAVE, "A100_PCIE_40GB", "A100-PCIE-40GB"),
    (COREWEAVE, "H100_NVLINK_80GB", "H100-SXM5-80GB"),
    (COREWEAVE, "H200", "H200-SXM5-141GB"),
    (COREWEAVE, "L40S", "L40S"),
    (COREWEAVE, "L40", "L40"),
    (COREWEAVE, "GH200_480GB", "GH200-96GB"),
    (TYPE, "p4d.24xlarge", "A100-SXM4-40GB"),
    (TYPE, "p4de.24xlarge", "A100-SXM4-80GB"),
    (TYPE, "g5.xlarge", "A10G"),
    (TYPE, "g6.xlarge", "L4"),
    (TYPE, "g6e.xlarge", "L40S"),
    (TYPE, "a2-highgpu-1g", "A100-SXM4-40GB"),
    (TYPE, "a2-ultragpu-8g", "A100-SXM4-80GB"),
    (TYPE, "Standard_NC24ads_A100_v4", "A100-PCIE-80GB"),
    (TYPE, "Standard_ND96asr_v4", "A100-SXM4-40GB"),
    (TYPE, "Standard_NC40ads_H100_v5", "H100-NVL-94GB"),
    (TYPE, "Standard_NV36ads_A10_v5", "A10"),
    (TYPE, "BM.GPU.H100.8", "H100-SXM5-80GB"),
    (TYPE, "BM.GPU4.8", "A100-SXM4-40GB"),
    (TYPE, "BM.GPU.A100-v2.8", "A100-SXM4-80GB"),
    (TYPE, "BM.GPU.L40S.4", "L40S"),
    (TYPE, "VM.GPU.A10.1", "A10"),
    (AMD, "AMD_Instinct_MI210", "MI210"),
    (AMD, "AMD_Instinct_MI250X", "MI250X"),
    (AMD, "AMD_Instinct_MI250", "MI250"),
    (AMD, "AMD_Instinct_MI300A", "MI300A"),
    (AMD, "AMD_Instinct_MI300X_OAM", "MI300X"),
    (AMD, "AMD_Instinct_MI300X_VF", "MI300X"),
    (AMD, "AMD_Instinct_MI308X", "MI308X"),
    (AMD, "AMD_Instinct_MI325X_OAM", "MI325X"),
    (AMD, "AMD_Instinct_MI350X", "MI350X"),
    (AMD, "AMD_Instinct_MI355X_OAM", "MI355X"),
    ("amd.com/gpu.device-id", "74a1", "MI300X"),
    ("beta.amd.com/gpu.device-id", "740f", "MI210"),
    ("beta.amd.com/gpu.device-id.74a5", "8", "MI325X"),
    ("beta.amd.com/gpu.product-name.AMD_Instinct_MI355X", "8", "MI355X"),
];

#[test]
fn every_clouds_name_is_the_same_gpu() {
    for (label, value, name) in NAMES {
        assert_eq!(gpu(&[(label, value)]).0, Some(*name), "{label}={value}");
    }
}

#[test]
fn karpenters_short_names_are_told_apart_by_memory() {
    for (name, mib, wanted) in [
        ("a100", "40960", Some("A100-SXM4-40GB")),
        ("a100", "81920", Some("A100-SXM4-80GB")),
        ("v100", "16384", Some("V100-SXM2-16GB")),
        ("v100", "32768", Some("V100-SXM2-32GB")),
        ("l40s", "49152", Some("L40S")),
        ("l4", "24576", Some("L4")),
        ("a10g", "24576", Some("A10G")),
        ("h200", "144384", Some("H200-SXM5-141GB")),
        ("a100", "", None),
    ] {
        for vendor in ["karpenter.k8s.aws", "eks.amazonaws.com"] {
            let (key, memory) = (
                format!("{vendor}/instance-gpu-name"),
                format!("{vendor}/instance-gpu-memory"),
            );
            assert_eq!(
                gpu(&[(key.as_str(), name), (memory.as_str(), mib)]).0,
                wanted,
                "{name} {mib}"
            );
        }
    }
}

#[test]
fn what_no_row_knows_is_named_and_never_guessed() {
    for (label, value) in [
        (GFD, "NVIDIA-X9000"),
        (GFD, "NVIDIA-H20-3e"),
        (GFD, "GRID-A100D-80C"),
        (GFD, "NVIDIA-X10-24Q"),
        (GFD, "NVIDIA-GB10"),
        (AKS, "A100"),
        (COREWEAVE, "A100_NVLINK"),
        (AMD, "AMD_Radeon_PRO_W7900"),
    ] {
        assert_eq!(
            gpu(&[(label, value)]),
            (None, Some(value.to_string())),
            "{label}={value}"
        );
    }
}

#[test]
fn amd_partitions_are_parts_of_their_cards() {
    let mi300x = (AMD, "AMD_Instinct_MI300X_OAM");
    for (what, labels, devices, gpus, slots) in [
        ("whole", vec![mi300x], vec![("amd.com/gpu", 8)], 8, 8),
        (
            "single strategy, labelled",
            vec![mi300x, ("amd.com/compute-memory-partition", "cpx_nps4")],
            vec![("amd.com/gpu", 64)],
            8,
            64,
        ),
        (
            "not partitioned, labelled",
            vec![mi300x, ("amd.com/compute-memory-partition", "spx_nps1")],
            vec![("amd.com/gpu", 8)],
            8,
            8,
        ),
        (
            "mixed strategy",
            vec![mi300x],
            vec![("amd.com/cpx_nps4", 16), ("amd.com/spx_nps1", 6)],
            8,
            22,
        ),
        ("dpx", vec![mi300x], vec![("amd.com/dpx_nps2", 16)], 8, 16),
        (
            "MI300A",
            vec![(AMD, "AMD_Instinct_MI300A")],
            vec![("amd.com/cpx_nps1", 24)],
            4,
            24,
        ),
    ] {
        let found = described(&seen(&labels, &devices));
        assert_eq!((found.node.gpus, found.slots.len()), (gpus, slots), "{what}");
    }
}

#[test]
fn other_accelerators_are_counted_and_named() {
    let gaudi = described(&seen(&[(TYPE, "dl1.24xlarge")], &[("habana.ai/gaudi", 8)]));
    assert_eq!((gaudi.node.gpu_name.as_str(), gaudi.node.gpus), ("Gaudi", 8));
    let tpu = described(&seen(
        &[("cloud.google.com/gke-tpu-accelerator", "tpu-v6e-slice")],
        &[("google.com/tpu", 4)],
    ));
    assert_eq!((tpu.node.gpu_name.as_str(), tpu.node.gpus), ("tpu-v6e-slice", 4));
    assert_eq!(
        tpu.unknown_gpu.as_deref(),
        Some("tpu-v6e-slice"),
        "the gaps name what has no price"
    );
}
