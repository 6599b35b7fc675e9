//! Manifests, from bytes to every form of a report.
#![no_main]

use gpuwaste_catalog::instances;
use gpuwaste_collect::manifests::{self, Asked};
use gpuwaste_facts::snapshot::secrets;
use gpuwaste_fuzz::{judged, shown};
use gpuwaste_judge::settings::Settings;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("gpuwaste-fuzz-{}.yaml", std::process::id())));

fuzz_target!(|data: &[u8]| {
    std::fs::write(&*FILE, data).unwrap();
    let read = manifests::read(std::slice::from_ref(&*FILE), |kind| {
        instances::gpu_of_type(kind).map(|(_, n)| n)
    });
    let mut snapshot = manifests::snapshot(read, Asked::default(), Timestamp::UNIX_EPOCH);
    secrets::scrub(&mut snapshot);
    let pods: usize = snapshot.clusters.iter().map(|c| c.pods.len()).sum();
    assert!(pods <= 100_000, "{pods} pods of {} bytes", data.len());
    shown(&judged(&snapshot, &Settings::default()).0);
});
