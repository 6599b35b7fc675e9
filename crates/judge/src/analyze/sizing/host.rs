//! What one replica needs of its host, beside GPUs.

use super::Held;
use crate::analyze::support;
use crate::fit::{Parallelism, Placement};
use crate::fleet::{Fleet, Node, Workload};
use crate::settings::Thresholds;
use crate::units::Bytes;

/// What a node must be and have.
#[derive(Clone, Copy, Debug)]
pub(in crate::analyze) struct HostNeed {
    pub(in crate::analyze) cores: f64,
    pub(in crate::analyze) memory: f64,
    /// What the image is built for, as far as what runs it tells.
    pub(in crate::analyze) arch: &'static str,
}

/// The present pod's requests, and what its engine's processes need at least.
pub(in crate::analyze) struct Host {
    cores: Option<f64>,
    memory: Option<f64>,
    weights: Option<f64>,
    api_servers: Option<u32>,
    arch: &'static str,
}

impl Host {
    pub(in crate::analyze) fn of(fleet: &Fleet, workload: &Workload, current: &Placement, held: &Held<'_>) -> Self {
        let pod = workload
            .replicas
            .iter()
            .flat_map(|r| &r.pods)
            .map(|p| fleet.pod(*p))
            .next();
        let node = pod.and_then(|p| p.node).map(|n| fleet.node(n));
        Self {
            cores: pod.map(|p| p.cpu.cores()).filter(|c| *c > 0.0),
            memory: pod.map(|p| p.memory.0 as f64).filter(|m| *m > 0.0),
            weights: current
                .weights_per_gpu
                .map(|w| w.0 as f64 * f64::from(held.spread.gpus)),
            api_servers: held.settings.api_servers,
            arch: node.map_or(AMD64, arch_of),
        }
    }

    /// What the scheduler asks for: the pod's own requests, and where it has none the processes' need.
    pub(in crate::analyze) fn asked(&self, held: &Held<'_>, parallelism: Parallelism, t: &Thresholds) -> HostNeed {
        HostNeed {
            cores: self.cores.unwrap_or_else(|| self.rule(held, parallelism)),
            memory: self.memory.or_else(|| self.loading(t)).unwrap_or(0.0),
            arch: self.arch,
        }
    }

    /// The least it could ask for: no more than its processes need, where it asks for more than that.
    pub(in crate::analyze) fn least(&self, held: &Held<'_>, parallelism: Parallelism, t: &Thresholds) -> HostNeed {
        let asked = self.asked(held, parallelism, t);
        HostNeed {
            cores: asked.cores.min(self.rule(held, parallelism)),
            memory: self.loading(t).map_or(asked.memory, |m| asked.memory.min(m)),
            ..asked
        }
    }

    fn rule(&self, held: &Held<'_>, parallelism: Parallelism) -> f64 {
        support::vllm_vcpu(self.api_servers, parallelism.data, held.gpus_of(parallelism))
    }

    /// Room to read the weights through, beside what the runtime takes.
    fn loading(&self, t: &Thresholds) -> Option<f64> {
        self.weights.map(|w| w + t.host_memory_gib as f64 * Bytes::GIB)
    }
}

pub(super) const AMD64: &str = "amd64";
const ARM64: &str = "arm64";

/// As its label says, else as the GPU tells.
pub(in crate::analyze) fn arch_of(node: &Node) -> &'static str {
    let label = ["kubernetes.io/arch", "beta.kubernetes.io/arch"]
        .iter()
        .find_map(|k| node.labels.get(*k));
    match label.map(String::as_str) {
        Some("arm64" | "aarch64") => ARM64,
        Some(_) => AMD64,
        None => arch_beside(&node.gpu_name),
    }
}

/// The CPUs that a GPU is sold with: Grace with GH200, GB200, GB300 and GB10, AWS's Graviton with T4G; all others with x86.
pub(in crate::analyze) fn arch_beside(gpu: &str) -> &'static str {
    let arm = ["GH200", "GB200", "GB300", "GB10", "T4G"];
    if arm.iter().any(|name| gpu.starts_with(name)) {
        ARM64
    } else {
        AMD64
    }
}

/// What pods get of an instance's CPU and memory, in cores and bytes. What kubelet and system keep is GKE's published rule
/// (cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes), which is the largest of the clouds': 6 % of the first
/// core, 1 % of the second, 0.5 % of two more and 0.25 % of the rest; 25 % of the first 4 GiB, 20 % of the next 4, 10 % of
/// the next 8, 6 % of the next 112 and 2 % of the rest, and 100 MiB for eviction.
pub(super) fn allocatable(cores: f64, memory: f64) -> (f64, f64) {
    let kept = |amount: f64, steps: &[(f64, f64)], rest: f64| {
        let mut left = amount;
        let mut sum = 0.0;
        for (width, share) in steps {
            let here = left.min(*width);
            sum += here * share;
            left -= here;
        }
        sum + left * rest
    };
    let gib = memory / Bytes::GIB;
    let of_cores = kept(cores, &[(1.0, 0.06), (1.0, 0.01), (2.0, 0.005)], 0.0025);
    let of_memory = kept(gib, &[(4.0, 0.25), (4.0, 0.20), (8.0, 0.10), (112.0, 0.06)], 0.02) + 100.0 / 1024.0;
    (cores - of_cores, (gib - of_memory).max(0.0) * Bytes::GIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GKE's own example figures: 3.92 of 4 vCPU, 13.3 of 16 GiB without the eviction threshold.
    #[test]
    fn a_part_of_an_instance_is_the_systems() {
        let (cores, memory) = allocatable(4.0, 16.0 * Bytes::GIB);
        assert!((cores - 3.92).abs() < 1e-9, "{cores}");
        assert!(
            (memory / Bytes::GIB - (16.0 - 2.6 - 100.0 / 1024.0)).abs() < 1e-9,
            "{memory}"
        );
        let (cores, memory) = allocatable(192.0, 2048.0 * Bytes::GIB);
        assert!((cores - 191.45).abs() < 1e-9, "{cores}");
        assert!(
            (memory / Bytes::GIB - (2048.0 - 9.32 - 38.4 - 100.0 / 1024.0)).abs() < 1e-9,
            "{memory}"
        );
    }

    #[test]
    fn graviton_and_grace_are_no_x86() {
        assert_eq!(
            ["T4G", "GB200", "T4", "H100-SXM5-80GB"].map(arch_beside),
            [ARM64, ARM64, AMD64, AMD64]
        );
        let mut node = Node {
            gpu_name: "L4".into(),
            ..Node::default()
        };
        assert_eq!(arch_of(&node), AMD64);
        node.labels.insert("kubernetes.io/arch".into(), "arm64".into());
        assert_eq!(arch_of(&node), ARM64);
    }
}
