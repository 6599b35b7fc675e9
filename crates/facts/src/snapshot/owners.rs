//! Owners that labels name: operators write them on every pod, so that a chain is known where its objects cannot be read,
//! or where their definitions are not installed.

use super::cluster::{OwnerRef, Pod};
use super::server::ServerRole;
use std::collections::BTreeMap;

/// The label of who submitted a Slurm job: its owner, where no label of ownership is named.
pub const USER: &str = "slurm/user";

/// A label that holds the name of an owner: the kinds that it may be, the first where nothing else tells.
struct Named {
    label: &'static str,
    group: &'static str,
    kinds: &'static [&'static str],
}

/// From the lowest to the highest owner.
const NAMED: &[Named] = &[
    Named {
        label: "ray.io/cluster",
        group: "ray.io",
        kinds: &["RayCluster", "RayService", "RayJob"],
    },
    Named {
        label: "jobset.sigs.k8s.io/jobset-name",
        group: "jobset.x-k8s.io",
        kinds: &["JobSet", "TrainJob"],
    },
    Named {
        label: "training.kubeflow.org/job-name",
        group: "kubeflow.org",
        kinds: &["PyTorchJob", "MPIJob", "TFJob", "XGBoostJob", "PaddleJob", "JAXJob"],
    },
    Named {
        label: "serving.knative.dev/service",
        group: "serving.knative.dev",
        kinds: &["Service"],
    },
    Named {
        label: "serving.kserve.io/inferenceservice",
        group: "serving.kserve.io",
        kinds: &["InferenceService"],
    },
    Named {
        label: "nvidia.com/dynamo-graph-deployment-name",
        group: "nvidia.com",
        kinds: &["DynamoGraphDeployment"],
    },
    Named {
        label: "kaito.sh/workspace",
        group: "kaito.sh",
        kinds: &["Workspace", "InferenceSet"],
    },
    Named {
        label: "notebook-name",
        group: "kubeflow.org",
        kinds: &["Notebook"],
    },
];

/// Kinds of which one object is one workload, whatever it owns. Another custom resource may own several deployments that
/// have nothing to do with each other.
pub const WHOLE: &[&str] = &[
    "Deployment",
    "StatefulSet",
    "ReplicaSet",
    "DaemonSet",
    "Job",
    "CronJob",
    "LeaderWorkerSet",
    "Rollout",
    "RayCluster",
    "RayService",
    "RayJob",
    "JobSet",
    "TrainJob",
    "PyTorchJob",
    "MPIJob",
    "TFJob",
    "XGBoostJob",
    "PaddleJob",
    "JAXJob",
    "Service",
    "InferenceService",
    "LLMInferenceService",
    "NIMService",
    "DynamoGraphDeployment",
    "DynamoComponentDeployment",
    "PodCliqueSet",
    "PodCliqueScalingGroup",
    "Workspace",
    "InferenceSet",
    "Notebook",
    "SlurmJob",
];

fn owner(group: &str, kind: &str, name: &str) -> OwnerRef {
    OwnerRef {
        group: group.into(),
        kind: kind.into(),
        name: name.into(),
    }
}

impl Pod {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// Owners that the labels name and `chain` does not have, the highest last.
    pub fn owners_by_label(&self, chain: &[OwnerRef]) -> Vec<OwnerRef> {
        let mut found: Vec<OwnerRef> = Vec::new();
        let mut add = |kinds: &[&str], group: &str, name: &str| {
            let known = |o: &OwnerRef| kinds.contains(&o.kind.as_str()) && (o.group == group || o.group.is_empty());
            if !chain.iter().any(known) {
                found.push(owner(group, kinds[0], name));
            }
        };
        if let Some(hash) = self.label("rollouts-pod-template-hash")
            && let Some(set) = self.owner.as_ref().filter(|o| o.kind == "ReplicaSet")
            && let Some(name) = set.name.strip_suffix(hash).and_then(|n| n.strip_suffix('-'))
        {
            add(&["Rollout"], "argoproj.io", name);
        }
        // Grove: a PodCliqueSet is named as what its cliques are a part of.
        if self.label("grove.io/podclique").is_some()
            && let Some(name) = self.label("app.kubernetes.io/part-of")
        {
            add(&["PodCliqueSet"], "grove.io", name);
        }
        for named in NAMED {
            if let Some(name) = self.label(named.label) {
                add(named.kinds, named.group, name);
            }
        }
        if let (Some(kind), Some(name)) = (
            self.label("ray.io/originated-from-crd").filter(|k| *k != "RayCluster"),
            self.label("ray.io/originated-from-cr-name"),
        ) {
            add(&[kind], "ray.io", name);
        }
        if self.label("app.kubernetes.io/part-of") == Some("llminferenceservice")
            && let Some(name) = self.label("app.kubernetes.io/name")
        {
            add(&["LLMInferenceService"], "serving.kserve.io", name);
        }
        if self.label("app.kubernetes.io/managed-by") == Some("k8s-nim-operator")
            && let Some(name) = self.label("app.kubernetes.io/name").or_else(|| self.label("app"))
        {
            add(&["NIMService", "NIMPipeline"], "apps.nvidia.com", name);
        }
        found
    }

    /// What of its owner it is, where one object makes several workloads: a service of a Dynamo graph, the prefill side.
    pub fn part(&self, kind: &str) -> Option<String> {
        match kind {
            "DynamoGraphDeployment" => self.label("nvidia.com/dynamo-component").map(String::from),
            "LLMInferenceService" => {
                let component = self.label("app.kubernetes.io/component").unwrap_or_default();
                (self.role_label() == Some(ServerRole::Prefill) || component.contains("prefill"))
                    .then(|| "prefill".into())
            }
            _ => None,
        }
    }

    /// The side of a prefill/decode split that the labels name. llm-d calls a server that does both "decode" too, where
    /// there is no prefill: that is for the caller to see.
    pub fn role_label(&self) -> Option<ServerRole> {
        role_of_labels(&self.labels)
    }

    /// The multi-node group that it is a member of; the whole group is one replica. `None`: it is a replica of its own.
    pub fn replica_group(&self) -> Option<String> {
        let set = |kind: &str, name: &str, index: &str| format!("{kind}-{name}-{index:0>6}");
        if let Some(index) = self.label("leaderworkerset.sigs.k8s.io/group-index") {
            let name = self.label("leaderworkerset.sigs.k8s.io/name").unwrap_or_default();
            return Some(set("lws", name, index));
        }
        if let Some(index) = self.label("grove.io/podcliquescalinggroup-replica-index") {
            let name = self.label("grove.io/podcliquescalinggroup").unwrap_or_default();
            return Some(set("grove", name, index));
        }
        [
            "slurm/job-id",
            "ray.io/cluster",
            "training.kubeflow.org/job-name",
            "jobset.sigs.k8s.io/jobset-name",
            "volcano.sh/job-name",
        ]
        .iter()
        .find_map(|l| Some(format!("{l}-{}", self.label(l)?)))
    }

    /// Another pod of its group answers for it: it holds GPUs and has no metrics of its own.
    pub fn is_follower(&self) -> bool {
        let worker = self.label("leaderworkerset.sigs.k8s.io/worker-index");
        worker.is_some_and(|i| i != "0") || self.label("grove.io/podclique").is_some_and(|c| c.ends_with("-wkr"))
    }

    /// The queue that admitted it: Kueue's, Volcano's or KAI's.
    pub fn queue(&self) -> Option<&str> {
        queue(&self.labels)
    }
}

/// The queue that labels name, of a pod or of what owns it.
pub fn queue(labels: &BTreeMap<String, String>) -> Option<&str> {
    [
        "kueue.x-k8s.io/queue-name",
        "volcano.sh/queue-name",
        "kai.scheduler/queue",
    ]
    .iter()
    .find_map(|l| labels.get(*l))
    .map(String::as_str)
    .filter(|q| !q.is_empty())
}

/// Which side of a split the labels of a pod say that it is.
pub fn role_of_labels(labels: &BTreeMap<String, String>) -> Option<ServerRole> {
    [
        "llm-d.ai/role",
        "nvidia.com/dynamo-sub-component-type",
        "nvidia.com/dynamo-component-type",
    ]
    .iter()
    .find_map(|l| match labels.get(*l)?.as_str() {
        "prefill" => Some(ServerRole::Prefill),
        "decode" => Some(ServerRole::Decode),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(owner_kind: &str, owner_name: &str, labels: &[(&str, &str)]) -> Pod {
        Pod {
            name: "p".into(),
            owner: Some(owner("apps", owner_kind, owner_name)),
            labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            ..Pod::default()
        }
    }

    fn top(pod: &Pod, chain: &[OwnerRef]) -> Option<(String, String)> {
        pod.owners_by_label(chain).pop().map(|o| (o.kind, o.name))
    }

    #[test]
    fn labels_name_what_cannot_be_read() {
        let of = |labels: &[(&str, &str)]| top(&pod("StatefulSet", "s", labels), &[]);
        let is = |kind: &str, name: &str| Some((kind.to_string(), name.to_string()));
        assert_eq!(of(&[("notebook-name", "n")]), is("Notebook", "n"));
        assert_eq!(of(&[("kaito.sh/workspace", "w")]), is("Workspace", "w"));
        assert_eq!(
            of(&[
                ("ray.io/cluster", "c-x1"),
                ("ray.io/originated-from-crd", "RayService"),
                ("ray.io/originated-from-cr-name", "c")
            ]),
            is("RayService", "c")
        );
        assert_eq!(
            of(&[
                ("serving.knative.dev/service", "m-predictor"),
                ("serving.kserve.io/inferenceservice", "m")
            ]),
            is("InferenceService", "m")
        );
        assert_eq!(
            of(&[
                ("grove.io/podclique", "g-0-w"),
                ("app.kubernetes.io/part-of", "g"),
                ("nvidia.com/dynamo-graph-deployment-name", "g")
            ]),
            is("DynamoGraphDeployment", "g")
        );
        assert_eq!(of(&[("app", "x")]), None);
    }

    #[test]
    fn a_label_never_stands_above_the_owner_it_names() {
        let chain = [owner("kubeflow.org", "MPIJob", "train")];
        let labelled = pod("MPIJob", "train", &[("training.kubeflow.org/job-name", "train")]);
        assert_eq!(top(&labelled, &chain), None);
        let chain = [
            owner("jobset.x-k8s.io", "JobSet", "t"),
            owner("trainer.kubeflow.org", "TrainJob", "t"),
        ];
        let labelled = pod("Job", "t-node-0", &[("jobset.sigs.k8s.io/jobset-name", "t")]);
        assert_eq!(top(&labelled, &chain), None);
    }

    #[test]
    fn a_rollout_is_known_by_its_replica_sets_name() {
        let labelled = pod("ReplicaSet", "web-7f9", &[("rollouts-pod-template-hash", "7f9")]);
        assert_eq!(top(&labelled, &[]), Some(("Rollout".into(), "web".into())));
    }

    #[test]
    fn groups_are_told_apart() {
        let of = |labels: &[(&str, &str)]| pod("x", "x", labels).replica_group();
        let lws = |name: &str, index: &str| {
            of(&[
                ("leaderworkerset.sigs.k8s.io/name", name),
                ("leaderworkerset.sigs.k8s.io/group-index", index),
            ])
        };
        assert_eq!(lws("a", "0"), lws("a", "0"));
        assert_ne!(lws("a", "0"), lws("a", "1"));
        assert_ne!(lws("a", "0"), lws("b", "0"));
        assert_eq!(of(&[("app", "x")]), None);
        assert!(of(&[("training.kubeflow.org/job-name", "t")]).is_some());
    }
}
