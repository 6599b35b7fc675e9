//! Pages of metrics, and what servers say of themselves beside them.
#![no_main]

use gpuwaste_engine::metrics::{engine_page, exporter};
use gpuwaste_engine::{ENGINES, IdentityPath};
use gpuwaste_facts::snapshot::engine::ServerIdentity;
use gpuwaste_facts::snapshot::server::EngineKind;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let at = Timestamp::UNIX_EPOCH;
    for gpu in exporter::page(data, at, "node") {
        let ratios = gpu
            .readings
            .iter()
            .flat_map(|r| [r.gpu_util, r.tensor, r.sm_active, r.dram]);
        for value in ratios.flatten() {
            assert!((0.0..=1.05).contains(&value.0), "a ratio of {value:?}");
        }
    }
    exporter::nothing(data);
    for expected in [None, Some(EngineKind::Vllm), Some(EngineKind::Nim)] {
        if let Some(page) = engine_page(data, at, expected) {
            for value in [page.reading.running, page.reading.waiting].into_iter().flatten() {
                assert!(value.is_finite() && value >= 0.0, "{value} requests");
            }
        }
    }
    for engine in ENGINES.engines() {
        let facts = engine.facts();
        for IdentityPath { path, .. } in facts.endpoints.identity {
            ENGINES.identify(facts.kind, path, data, &mut ServerIdentity::default());
        }
    }
});
