//! Recorded fleets with odd values in them, judged and shown; and bytes that are no snapshot.
#![no_main]

use arbitrary::Unstructured;
use gpuwaste_facts::snapshot::{Snapshot, bounds, secrets};
use gpuwaste_fuzz::{judged, shown, spoil};
use gpuwaste_judge::settings::Settings;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::sync::LazyLock;

/// A small fleet with history, servers, and something wrong of most kinds.
static BASES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    [
        include_str!("../seeds/fleet.json"),
        include_str!("../../fixtures/decisions/2026-11-25.json"),
    ]
    .iter()
    .map(|text| serde_json::from_str(text).unwrap())
    .collect()
});

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let read = if input.ratio(1, 8).unwrap_or(false) {
        serde_json::from_slice::<Snapshot>(input.take_rest())
    } else {
        let mut document = BASES[input.choose_index(BASES.len()).unwrap_or(0)].clone();
        for _ in 0..6 {
            let (Ok(at), Ok(value)) = (input.arbitrary::<u16>(), input.arbitrary::<u8>()) else {
                break;
            };
            spoil(&mut document, usize::from(at), usize::from(value));
        }
        serde_json::from_value(document)
    };
    let Ok(mut snapshot) = read else { return };
    let odd = bounds::check(&mut snapshot);
    snapshot.gaps.extend(odd);
    secrets::scrub(&mut snapshot);
    shown(&judged(&snapshot, &Settings::default()).0);
});
