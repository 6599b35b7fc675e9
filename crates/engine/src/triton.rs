//! Triton Inference Server, with any backend. What it serves is in the model repository, which the pod spec does not show.

use super::flags::Flags;
use super::{Candidate, Engine, behind_program};
use crate::snapshot::server::{EngineKind, EngineSettings};

pub(crate) struct Triton;

impl Engine for Triton {
    fn kind(&self) -> EngineKind {
        EngineKind::Triton
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let launcher = candidate.after(|words| {
            words
                .iter()
                .position(|w| w.ends_with("launch_triton_server.py"))
                .map(|at| at + 1)
        });
        let words = launcher.or_else(|| {
            candidate.after(|words| {
                words
                    .iter()
                    .position(|w| w.rsplit('/').next() == Some("tritonserver"))
                    .map(|at| at + 1)
            })
        });
        let words = match words {
            Some(words) => words,
            None if candidate.image.base() == "tritonserver" => candidate.entrypoint_args()?,
            None => return None,
        };
        let flags = Flags::parse(words, &["allow-metrics", "log-verbose", "force"]);
        // `mpirun -n 4 tritonserver …`: one rank a GPU.
        let ranks = candidate
            .after(|words| behind_program(words, "mpirun"))
            .and_then(|words| Flags::parse(words, &["allow-run-as-root"]).small(&["n", "np"]));
        Some(EngineSettings {
            tensor_parallel: flags
                .small(&["tp", "tensor-parallel-size"])
                .or_else(|| flags.small(&["world-size"]))
                .or(ranks),
            pipeline_parallel: flags.small(&["pp", "pipeline-parallel-size"]),
            port: flags.small(&["metrics-port"]).and_then(|p| u16::try_from(p).ok()),
            ..EngineSettings::default()
        })
    }

    fn default_port(&self) -> Option<u16> {
        Some(8002)
    }

    fn metrics_path(&self) -> Option<&'static str> {
        Some("/metrics")
    }
}
