//! How workloads of a kind are stopped without being deleted: a server is scaled to 0, what runs once is suspended.

/// How a workload of a kind is stopped without being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// `spec.replicas: 0`.
    Scale,
    /// `spec.suspend: true`.
    Suspend,
    /// `spec.runPolicy.suspend: true` (Kubeflow's training operator).
    SuspendRun,
    /// `spec.predictor.minReplicas: 0` (KServe).
    MinReplicas,
    /// Kubeflow's notebook controller stops what has this annotation.
    Notebook,
    /// Nothing but deletion stops it.
    Delete,
    /// Nobody here knows how.
    Unknown,
}

impl Stop {
    pub fn of(kind: &str) -> Self {
        match kind {
            "Deployment" | "StatefulSet" | "ReplicaSet" | "LeaderWorkerSet" | "NIMService" | "PodCliqueSet" => {
                Self::Scale
            }
            "Job" | "CronJob" | "JobSet" | "TrainJob" | "RayJob" | "RayCluster" | "Workflow" => Self::Suspend,
            "PyTorchJob" | "MPIJob" | "TFJob" | "XGBoostJob" | "PaddleJob" | "JAXJob" => Self::SuspendRun,
            "InferenceService" => Self::MinReplicas,
            "Notebook" => Self::Notebook,
            "Pod" => Self::Delete,
            _ => Self::Unknown,
        }
    }

    /// "scale the Deployment to 0", "suspend the Job".
    pub fn words(self, kind: &str) -> String {
        match self {
            Self::Scale => format!("scale the {kind} to 0"),
            Self::Suspend | Self::SuspendRun => format!("suspend the {kind}"),
            Self::MinReplicas => format!("let the {kind} go to 0 (minReplicas)"),
            Self::Notebook => "stop the notebook".into(),
            Self::Delete => "delete the pod".into(),
            Self::Unknown => format!("stop the {kind}"),
        }
    }

    /// "scale Deployment ml/chat to 0", "suspend Job ml/train": of a workload by its name.
    pub fn of_named(self, name: &str) -> String {
        match self {
            Self::Scale => format!("scale {name} to 0"),
            Self::Suspend | Self::SuspendRun => format!("suspend {name}"),
            Self::MinReplicas => format!("let {name} go to 0 (minReplicas)"),
            Self::Notebook | Self::Unknown => format!("stop {name}"),
            Self::Delete => format!("delete {name}"),
        }
    }

    /// A merge patch that does it; `None`: no patch can.
    pub fn patch(self) -> Option<&'static str> {
        match self {
            Self::Scale => Some("spec:\n  replicas: 0\n"),
            Self::Suspend => Some("spec:\n  suspend: true\n"),
            Self::SuspendRun => Some("spec:\n  runPolicy:\n    suspend: true\n"),
            Self::MinReplicas => Some("spec:\n  predictor:\n    minReplicas: 0\n"),
            Self::Notebook => Some("metadata:\n  annotations:\n    kubeflow-resource-stopped: \"true\"\n"),
            Self::Delete | Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_once_is_suspended_and_what_serves_is_scaled() {
        assert_eq!(Stop::of("Job").words("Job"), "suspend the Job");
        assert_eq!(
            Stop::of("PyTorchJob").patch(),
            Some("spec:\n  runPolicy:\n    suspend: true\n")
        );
        assert_eq!(Stop::of("Deployment").words("Deployment"), "scale the Deployment to 0");
        assert_eq!(Stop::of("Pod").patch(), None);
    }
}
