//! How many of the GPUs that it sees an engine takes where no argument says.

use crate::snapshot::server::EngineKind;

/// GPUs of an engine without a word on parallelism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One, whatever else is there.
    One,
    /// All that are there.
    All,
    /// It is decided where no argument shows: in a model repository, a handler, an application.
    Untold,
}

/// What each engine does by its own documentation: vLLM's and SGLang's tensor parallelism is 1 unless set, and so are
/// trtllm-serve's `--tp_size` and LMDeploy's `--tp`; text-generation-launcher shards over all devices unless `--num-shard`
/// says less; NIM selects a profile for the GPUs it is given, and may not start on more; llama.cpp and Ollama split layers
/// over all devices.
pub fn width(kind: EngineKind) -> Width {
    match kind {
        EngineKind::Vllm | EngineKind::Sglang | EngineKind::Trtllm | EngineKind::Lmdeploy => Width::One,
        EngineKind::Tgi | EngineKind::Nim | EngineKind::Llamacpp | EngineKind::Ollama => Width::All,
        EngineKind::Triton
        | EngineKind::Tei
        | EngineKind::Infinity
        | EngineKind::RayServe
        | EngineKind::TorchServe
        | EngineKind::Whisper
        | EngineKind::Diffusion => Width::Untold,
    }
}
