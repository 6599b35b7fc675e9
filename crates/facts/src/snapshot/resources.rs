//! What the names of extended resources stand for: whole accelerators, shares that a sharing layer hands out, amounts of
//! one accelerator's memory or cores, or something else of the same vendor (network functions).

/// Prefixes of resource names that stand for accelerators, from the device plugins' documentation.
const DEVICE_PREFIXES: &[&str] = &[
    "nvidia.com/",
    "amd.com/",
    "gpu.intel.com/",
    "habana.ai/",
    "google.com/tpu",
    "aws.amazon.com/neuron",
    "huawei.com/Ascend",
    "hygon.com/",
    "aliyun.com/gpu",
    "volcano.sh/vgpu",
    "tencent.com/vcuda",
    "elasticgpu.io/",
    "rebellions.ai/",
    "furiosa.ai/",
    "cambricon.com/",
    "metax-tech.com/",
    "mthreads.com/",
    "iluvatar.ai/",
    "kunlunxin.com/",
    "enflame.com/",
    "cloud-tpus.google.com/",
    // The API server's own name for "a device of this DeviceClass" (Kubernetes 1.34).
    "deviceclass.resource.kubernetes.io/",
    // Slurm's name for GPUs among its trackable resources, whosever they are.
    "gres/gpu",
];

/// Words in the part behind the slash that name network functions and other devices of GPU vendors (NVIDIA's and AMD's
/// network operators, KubeVirt's host devices).
const OTHER_DEVICES: &[&str] = &[
    "vnic",
    "nic",
    "rdma",
    "roce",
    "hostdev",
    "sriov",
    "infiniband",
    "ib",
    "vf",
    "pf",
    "bf2",
    "bf3",
    "cx5",
    "cx6",
    "cx7",
    "cx8",
    "mlnx",
    "net",
    "dpu",
];

/// Last words of names that count memory, cores or percent of devices, not devices: HAMi (`nvidia.com/gpumem-percentage`,
/// `iluvatar.ai/MR-V100.vCore`, `cambricon.com/mlu.smlu.vmemory`), Volcano (`volcano.sh/vgpu-memory`, `vgpu-cores`), Alibaba
/// (`aliyun.com/gpu-mem`, `gpu-core.percentage`), Tencent (`vcuda-core`, `vcuda-memory`), Intel (`i915_monitoring`).
const AMOUNT_WORDS: &[&str] = &[
    "gpumem",
    "gpucores",
    "dcumem",
    "dcucores",
    "mem",
    "memory",
    "core",
    "cores",
    "percentage",
    "priority",
    "vmem",
    "vmemory",
    "vcore",
    "vcores",
    "monitoring",
];

/// What one unit of an extended resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    /// An accelerator, an instance or partition of one, or one of the replicas of a device plugin's own sharing.
    Device,
    /// A share that a sharing layer hands out: how much of a card it is, other requests say.
    Share,
    /// A piece of a device's memory, cores or time: never a count of devices.
    Amount,
    /// No accelerator.
    Other,
}

/// AWS' plugin advertises the same chips three times: as chips, under the older name for them, and as their cores
/// (aws-neuron/aws-neuron-sdk, containers/kubernetes). Which chips the cores of a pod are on is not told.
pub const NEURON: &str = "aws.amazon.com/neuron";
pub const NEURON_OTHERWISE: [&str; 2] = ["aws.amazon.com/neurondevice", "aws.amazon.com/neuroncore"];

/// What one unit of `resource` is; [`ResourceKind::Other`] for names of no accelerator vendor.
pub fn kind(resource: &str) -> ResourceKind {
    if !DEVICE_PREFIXES.iter().any(|p| resource.starts_with(p)) || resource.starts_with("nvidia.com/gpu.deploy") {
        return ResourceKind::Other;
    }
    let name = resource.rsplit('/').next().unwrap_or(resource).to_ascii_lowercase();
    let mut words = name.split(['-', '_', '.']);
    if !name.contains("gpu") && words.clone().any(|w| OTHER_DEVICES.contains(&w)) {
        return ResourceKind::Other;
    }
    if words.next_back().is_some_and(|last| AMOUNT_WORDS.contains(&last)) {
        return ResourceKind::Amount;
    }
    let shares = [
        "nvidia.com/vgpu",
        "volcano.sh/vgpu-number",
        "hygon.com/dcunum",
        "hygon.com/vdcu",
        "elasticgpu.io/",
    ];
    if shares.iter().any(|s| resource.starts_with(s)) {
        return ResourceKind::Share;
    }
    ResourceKind::Device
}

/// A resource name that stands for GPUs or other accelerators, or for parts of them ("nvidia.com/gpu",
/// "nvidia.com/mig-1g.10gb", "nvidia.com/gpumem", "amd.com/gpu").
pub fn is_device(resource: &str) -> bool {
    kind(resource) != ResourceKind::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_counted() {
        for (resource, expected) in [
            ("nvidia.com/gpu", ResourceKind::Device),
            ("nvidia.com/gpu.shared", ResourceKind::Device),
            ("nvidia.com/mig-1g.10gb", ResourceKind::Device),
            ("nvidia.com/GRID_P40-1Q", ResourceKind::Device),
            ("nvidia.com/GA102GL_A10", ResourceKind::Device),
            ("amd.com/cpx_nps4", ResourceKind::Device),
            ("gpu.intel.com/i915", ResourceKind::Device),
            ("aws.amazon.com/neuroncore", ResourceKind::Device),
            ("huawei.com/Ascend910B", ResourceKind::Device),
            ("nvidia.com/gpumem", ResourceKind::Amount),
            ("nvidia.com/gpumem-percentage", ResourceKind::Amount),
            ("nvidia.com/gpucores", ResourceKind::Amount),
            ("volcano.sh/vgpu-memory", ResourceKind::Amount),
            ("volcano.sh/vgpu-cores", ResourceKind::Amount),
            ("volcano.sh/vgpu-number", ResourceKind::Share),
            ("nvidia.com/vgpu", ResourceKind::Share),
            ("aliyun.com/gpu-mem", ResourceKind::Amount),
            ("aliyun.com/gpu-core.percentage", ResourceKind::Amount),
            ("tencent.com/vcuda-core", ResourceKind::Amount),
            ("tencent.com/vcuda-memory", ResourceKind::Amount),
            ("hygon.com/dcumem", ResourceKind::Amount),
            ("hygon.com/dcunum", ResourceKind::Share),
            ("huawei.com/Ascend910B-memory", ResourceKind::Amount),
            ("cambricon.com/mlu.smlu.vmemory", ResourceKind::Amount),
            ("gpu.intel.com/i915_monitoring", ResourceKind::Amount),
            ("amd.com/vnic", ResourceKind::Other),
            ("nvidia.com/hostdev", ResourceKind::Other),
            ("nvidia.com/sriov_rdma", ResourceKind::Other),
            ("nvidia.com/gpu.deploy.driver", ResourceKind::Other),
            ("cpu", ResourceKind::Other),
            ("example.com/gpu", ResourceKind::Other),
        ] {
            assert_eq!(kind(resource), expected, "{resource}");
        }
    }
}
