//! NVIDIA Dynamo: what it counts of a worker, whatever engine is in it. Endpoints other than `generate` are housekeeping.

use super::prelude::*;

const GENERATE: &[&str] = &["generate", ""];

pub(super) static VOCABULARY: Vocabulary = Vocabulary {
    prefixes: &["dynamo_component_"],
    markers: &["requests_total"],
    figures: &[
        told(
            Load::Running,
            &[named("inflight_requests").only("dynamo_endpoint", GENERATE)],
        ),
        told(
            Load::Requests,
            &[named("requests_total").only("dynamo_endpoint", GENERATE)],
        ),
        told(Load::KvUsage, &[named("kvstats_gpu_cache_usage_percent")]),
    ],
    ..Vocabulary::SILENT
};
