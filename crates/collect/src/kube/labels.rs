//! Which labels go into a snapshot: an allow-list, since labels may hold anything.

use std::collections::BTreeMap;

const NODE: &[&str] = &[
    "nvidia.com/gpu",
    "nvidia.com/mig",
    "amd.com/gpu",
    "beta.amd.com/gpu",
    "amd.com/compute-memory-partition",
    "gpu.nvidia.com/",
    "cloud.google.com/",
    "karpenter.sh/",
    "karpenter.k8s.aws/",
    "karpenter.azure.com/",
    "eks.amazonaws.com/",
    "alpha.eksctl.io/nodegroup-name",
    "kubernetes.azure.com/",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "topology.kubernetes.io/",
    "failure-domain.beta.kubernetes.io/",
    "agentpool",
    "accelerator",
    "k8s.amazonaws.com/accelerator",
    "oke.oraclecloud.com/",
    "oci.oraclecloud.com/",
    "skypilot.co/",
    "kops.k8s.io/instancegroup",
    "machine-family",
    "node.cluster.x-k8s.io/",
    "node-pool",
    "nodepool",
    "doks.digitalocean.com/node-pool",
    "habana.ai/",
    "gpu.intel.com/",
    "run.ai/",
    "hami.io/",
    "volcano.sh/",
    "node-role.kubernetes.io/",
    "lifecycle",
    "node-lifecycle",
    "node.kubernetes.io/lifecycle",
    "spotinst.io/node-lifecycle",
    "scheduling.cast.ai/spot",
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/role",
    "liqo.io/type",
    "virtual-node.interlink/type",
    "virtual-kubelet.io/provider",
];

/// Of a label that anybody may write, only what says that the node is no machine (KWOK, virtual-kubelet).
const NO_MACHINE: (&str, &[&str]) = ("type", &["kwok", "virtual-kubelet"]);

const POD: &[&str] = &[
    "pod-template-hash",
    "rollouts-pod-template-hash",
    "job-name",
    "batch.kubernetes.io/job-name",
    "leaderworkerset.sigs.k8s.io/",
    "ray.io/",
    "serving.kserve.io/",
    "serving.knative.dev/",
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/managed-by",
    "app",
    "kserve.io/",
    "llm-d.ai/",
    "inference.networking.k8s.io/",
    "nvidia.com/dynamo",
    "kaito.sh/",
    "notebook-name",
    "training.kubeflow.org/",
    "jobset.sigs.k8s.io/",
    "kueue.x-k8s.io/queue-name",
    "kai.scheduler/queue",
    "grove.io/podclique",
    "grove.io/podcliquescalinggroup",
    "grove.io/podcliquescalinggroup-replica-index",
    "volcano.sh/",
    "trainer.kubeflow.org/",
    "k8s-app",
    "component",
];

fn keep(all: BTreeMap<String, String>, prefixes: &[&str], extra: &[String]) -> BTreeMap<String, String> {
    all.into_iter()
        .filter(|(key, _)| {
            extra.contains(key)
                || prefixes.iter().any(|p| {
                    key == p || (key.starts_with(p) && (p.ends_with('/') || p.contains(".com/") || p.contains(".sh/")))
                })
        })
        .filter(|(key, _)| !key.starts_with("nvidia.com/gpu.deploy."))
        .collect()
}

pub(super) fn of_node(all: BTreeMap<String, String>, extra: &[String]) -> BTreeMap<String, String> {
    let (key, values) = NO_MACHINE;
    let told = all.get(key).filter(|v| values.contains(&v.as_str())).cloned();
    let mut kept = keep(all, NODE, extra);
    kept.extend(told.map(|v| (key.to_string(), v)));
    kept
}

pub(super) fn of_pod(all: BTreeMap<String, String>, extra: &[String]) -> BTreeMap<String, String> {
    keep(all, POD, extra)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_labels_stay() {
        let all = |keys: &[&str]| {
            keys.iter()
                .map(|k| ((*k).to_string(), "v".to_string()))
                .collect::<BTreeMap<_, _>>()
        };
        let kept = of_pod(
            all(&[
                "app",
                "pod-template-hash",
                "api-key",
                "application-secret",
                "team",
                "ray.io/cluster",
            ]),
            &["team".into()],
        );
        assert_eq!(
            kept.keys().map(String::as_str).collect::<Vec<_>>(),
            ["app", "pod-template-hash", "ray.io/cluster", "team"]
        );
        let kept = of_node(
            all(&[
                "nvidia.com/gpu.product",
                "nvidia.com/gpu.deploy.driver",
                "node.kubernetes.io/instance-type",
                "node.kubernetes.io/lifecycle",
                "lifecycle-secret",
                "secret",
            ]),
            &[],
        );
        assert_eq!(kept.len(), 3);
        let typed = |value: &str| of_node(BTreeMap::from([("type".to_string(), value.to_string())]), &[]);
        assert_eq!((typed("kwok").len(), typed("anything").len()), (1, 0));
    }
}
