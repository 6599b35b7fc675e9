//! One page for each shape of metrics that an engine has; the figures are the pages' own, added up by hand.

use super::*;
use crate::units::Tokens;

macro_rules! page {
    ($name:literal, $expected:expr) => {
        engine_page(
            include_bytes!(concat!("../../../../fixtures/raw/", $name)),
            Timestamp::UNIX_EPOCH,
            $expected,
        )
    };
}

/// Running, waiting, KV use, requests, prompt tokens, output tokens.
type Figures = [Option<f64>; 6];

fn figures(page: &EnginePage) -> Figures {
    let r = &page.reading;
    [
        r.running,
        r.waiting,
        r.kv_usage,
        r.requests,
        r.prompt_tokens,
        r.output_tokens,
    ]
}

fn is(page: Option<EnginePage>, engine: EngineKind, expected: Figures) -> EnginePage {
    let page = page.expect("an engine's page");
    assert_eq!((page.engine, figures(&page)), (engine, expected));
    page
}

const NONE: Option<f64> = None;

#[test]
fn sglang_of_two_generations() {
    let old = is(
        page!("sglang-0.3.prom", None),
        EngineKind::Sglang,
        [NONE, NONE, NONE, NONE, Some(1200.0), Some(340.0)],
    );
    assert_eq!(
        (
            old.identity.kv_capacity,
            old.identity.max_model_len,
            &old.identity.served_names[..]
        ),
        (Some(Tokens(65_536)), Some(8192), &["/models/tiny".to_string()][..])
    );
    let new = is(
        page!("sglang-0.5-tp2-dp2.prom", None),
        EngineKind::Sglang,
        [Some(8.0), Some(1.0), Some(0.61), Some(42.0), Some(4100.0), Some(920.0)],
    );
    assert_eq!(new.identity.engines, Some(2));
}

#[test]
fn triton_with_either_backend() {
    let page = is(
        page!("triton-trtllm.prom", Some(EngineKind::Triton)),
        EngineKind::Triton,
        [Some(6.0), Some(2.0), Some(0.25), Some(24.0), NONE, NONE],
    );
    assert_eq!(page.identity.kv_capacity, Some(Tokens(600 * 64)));
    is(
        page!("triton-vllm.prom", Some(EngineKind::Triton)),
        EngineKind::Triton,
        [Some(2.0), NONE, NONE, Some(8.0), Some(300.0), Some(120.0)],
    );
}

#[test]
fn trtllm_serve_and_lmdeploy() {
    let page = is(
        page!("trtllm-serve.prom", Some(EngineKind::Trtllm)),
        EngineKind::Trtllm,
        [Some(4.0), Some(1.0), Some(0.35), Some(20.0), NONE, NONE],
    );
    assert_eq!(page.identity.kv_capacity, Some(Tokens(64_000)));
    assert_eq!(page.reading.e2e_latency.map(|h| (h.count, h.sum)), Some((20.0, 25.5)));
    is(
        page!("lmdeploy.prom", None),
        EngineKind::Lmdeploy,
        [Some(2.0), Some(0.0), Some(0.07), Some(64.0), Some(5100.0), Some(2300.0)],
    );
}

#[test]
fn nim_only_where_it_is_expected() {
    assert_eq!(page!("nim-1.x.prom", None), None, "bare names are anybody's");
    is(
        page!("nim-1.x.prom", Some(EngineKind::Nim)),
        EngineKind::Nim,
        [Some(3.0), Some(1.0), Some(0.2), Some(10.0), Some(800.0), Some(410.0)],
    );
    let bare = b"num_requests_running 3\nprompt_tokens_total 5\n";
    assert_eq!(
        engine_page(bare, Timestamp::UNIX_EPOCH, Some(EngineKind::Nim)),
        None,
        "without a model it is another program"
    );
}

#[test]
fn ray_with_an_engine_and_without() {
    let page = is(
        page!("ray-serve-llm.prom", Some(EngineKind::RayServe)),
        EngineKind::RayServe,
        [Some(2.0), Some(0.0), Some(0.31), Some(11.0), Some(700.0), Some(260.0)],
    );
    assert_eq!(page.identity.kv_capacity, Some(Tokens(64_000)));
    assert_eq!(page.identity.served_names, ["qwen"]);
    is(
        page!("ray-serve-llm.prom", Some(EngineKind::Vllm)),
        EngineKind::Vllm,
        [Some(2.0), Some(0.0), Some(0.31), Some(11.0), Some(700.0), Some(260.0)],
    );
    is(
        page!("ray-serve-other.prom", Some(EngineKind::RayServe)),
        EngineKind::RayServe,
        [Some(1.0), NONE, NONE, Some(11.0), NONE, NONE],
    );
}

#[test]
fn a_dynamo_worker_whose_engine_is_silent() {
    is(
        page!("dynamo-trtllm-worker.prom", Some(EngineKind::Trtllm)),
        EngineKind::Trtllm,
        [Some(3.0), NONE, Some(0.42), Some(21.0), NONE, NONE],
    );
}

#[test]
fn embeddings_and_others_count_requests() {
    is(
        page!("infinity.prom", Some(EngineKind::Infinity)),
        EngineKind::Infinity,
        [NONE, NONE, NONE, Some(33.0), NONE, NONE],
    );
    assert_eq!(page!("infinity.prom", None), None, "anybody counts HTTP requests");
    is(
        page!("torchserve.prom", None),
        EngineKind::TorchServe,
        [NONE, NONE, NONE, Some(15.0), NONE, NONE],
    );
    is(
        page!("tei.prom", None),
        EngineKind::Tei,
        [NONE, Some(2.0), NONE, Some(75.0), NONE, NONE],
    );
    is(
        page!("tgi-3.prom", None),
        EngineKind::Tgi,
        [Some(4.0), Some(1.0), NONE, Some(22.0), Some(1500.0), Some(3100.0)],
    );
}
