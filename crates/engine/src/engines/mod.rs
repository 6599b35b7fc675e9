//! One file an engine, one line in [`ENGINES`].

mod diffusion;
mod dynamo;
mod infinity;
mod llamacpp;
mod lmdeploy;
mod nim;
mod ollama;
mod ray_serve;
mod sglang;
mod tei;
mod tgi;
mod torchserve;
mod triton;
mod trtllm;
mod vllm;
mod whisper;

use crate::registry::Registry;

/// All engines, most specific first: the first that recognises a container has it.
pub static ENGINES: Registry<'static> = Registry::new(
    &[
        &nim::Nim,
        &trtllm::Trtllm,
        &triton::Triton,
        &sglang::Sglang,
        &vllm::Vllm,
        &tgi::Tgi,
        &tei::Tei,
        &infinity::Infinity,
        &lmdeploy::Lmdeploy,
        &llamacpp::Llamacpp,
        &ollama::Ollama,
        &whisper::Whisper,
        &diffusion::Diffusion,
        &torchserve::TorchServe,
        &ray_serve::RayServe,
    ],
    &[&dynamo::VOCABULARY],
);

/// What an engine's file needs of the others.
mod prelude {
    pub(super) use crate::engine::{
        Endpoints, Engine, Facts, Form, IdentityPath, MemoryRules, Routers, Variable, Versions, Width,
    };
    pub(super) use crate::metrics::figures::LoadFigure as Load;
    pub(super) use crate::metrics::identity;
    pub(super) use crate::metrics::page::Page;
    pub(super) use crate::metrics::vocabulary::{Series, Vocabulary, told};
    pub(super) use crate::snapshot::engine::{EngineReading, ServerIdentity};
    pub(super) use crate::snapshot::server::{EngineKind, EngineSettings, ServerRole, Setting};
    pub(super) use crate::units::{Ratio, Tokens};
    pub(super) use crate::{Candidate, Flags, behind_module, behind_program, human_count};

    pub(super) const fn path(path: &'static str, read: fn(&serde_json::Value, &mut ServerIdentity)) -> IdentityPath {
        IdentityPath { path, read }
    }

    pub(super) const fn named(name: &'static str) -> Series {
        Series::named(name)
    }

    pub(super) const fn reads(name: &'static str, sets: Setting, form: Form) -> Variable {
        Variable::new(name, sets, form)
    }
}

/// NVIDIA's two engines tell their cache in blocks.
fn blocks(identity: &mut prelude::ServerIdentity, blocks: Option<u64>, tokens_each: Option<u64>) {
    identity.kv_blocks = blocks;
    identity.block_size = tokens_each;
    let tokens = blocks
        .zip(tokens_each)
        .and_then(|(b, s)| b.checked_mul(s))
        .map(prelude::Tokens);
    identity.kv_capacity = tokens.filter(|t| t.0 > 0);
}
