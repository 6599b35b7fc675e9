//! MIG instances as cards of their own: what of a GPU's memory, bandwidth and compute an instance has.
//!
//! Compute and memory are cut apart (NVIDIA MIG user guide): the first figure of "3g.40gb" counts compute slices, of which
//! there are seven on most GPUs; the second names memory, which is cut in eighths (quarters or halves on others). An
//! instance has no path to others: no NVLink, no peer-to-peer, so an engine spans one only.

use super::gpus::{self, GpuFacts};
use crate::units::Bytes;
use std::collections::HashMap;
use std::sync::LazyLock;

const ROWS: &str = include_str!("data/mig.csv");

/// Drivers differ by up to 2.6 % for one profile (9.50 and 9.75 GiB for A100 1g.10gb); what was logged may be that much
/// off either way of what another driver tells.
const DRIVERS: f64 = 0.015;
/// Where no driver's figure is known: share of the profile's part of the card. The least logged is 0.865 (GB200, 20.00
/// of 23.13 GiB), the most 0.995.
const UNLOGGED: (f64, f64) = (0.85, 1.0);

/// What makes facts those of an instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Instance {
    /// The GPU it is cut from.
    pub card: String,
    /// "1g.10gb".
    pub profile: String,
    /// Compute slices, by which it is priced (R1).
    pub slices: u32,
    /// Memory units: the smallest profile's memory is one.
    pub units: u32,
    /// What CUDA may report as total: drivers differ, and of some profiles only the name is known.
    pub memory: (Bytes, Bytes),
    /// A driver's figure is behind it.
    pub logged: bool,
}

/// A row of `data/mig.csv`.
#[derive(Clone, Copy)]
struct Logged {
    /// GiB.
    memory: (f64, f64),
    /// Share of the card's multiprocessors.
    compute: f64,
}

/// By GPU and profile.
static INSTANCES: LazyLock<HashMap<&'static str, HashMap<&'static str, GpuFacts>>> = LazyLock::new(|| {
    let logged = logged();
    let profiles = |gpu: &'static GpuFacts| {
        let of = |profile: &'static str| {
            let row = logged.get(&(gpu.name.as_str(), profile)).copied();
            Some((profile, facts(gpu, profile, row)?))
        };
        gpu.mig_profiles.iter().filter_map(|p| of(&p.name)).collect()
    };
    gpus::all()
        .iter()
        .map(|gpu| (gpu.name.as_str(), profiles(gpu)))
        .collect()
});

fn logged() -> HashMap<(&'static str, &'static str), Logged> {
    let mut rows = HashMap::new();
    // No field is quoted: sources have no commas, which a test of the data files holds.
    for line in ROWS.lines().skip(1) {
        let cells: Vec<&'static str> = line.split(',').collect();
        let [names, profile, low, high, processors, of, ..] = cells.as_slice() else {
            continue;
        };
        let number = |text: &str| text.parse::<f64>().ok();
        let (Some(low), Some(high), Some(processors), Some(of)) =
            (number(low), number(high), number(processors), number(of))
        else {
            continue;
        };
        let row = Logged {
            memory: (low, high),
            compute: processors / of,
        };
        rows.extend(names.split(' ').map(|name| ((name, *profile), row)));
    }
    rows
}

/// "3g.40gb" → 3; "1g.10gb.me" → 1; "1c.3g.40gb" (compute instance) → 3.
pub fn slices(profile: &str) -> Option<u32> {
    profile.split('.').find_map(|part| part.strip_suffix('g')?.parse().ok())
}

/// "1g.10gb" → 10; "1g.10gb.me" and "1g.10gb+me" too.
pub fn gigabytes(profile: &str) -> Option<f64> {
    profile
        .split(['.', '+'])
        .find_map(|part| part.strip_suffix("gb")?.parse().ok())
}

/// GB of one memory unit, and units of the card; `None`: the GPU has no MIG.
pub fn units(gpu: &GpuFacts) -> Option<(f64, u32)> {
    let sizes = || gpu.mig_profiles.iter().filter_map(|p| gigabytes(&p.name));
    let unit = sizes().reduce(f64::min)?;
    let whole = sizes().reduce(f64::max)?;
    Some((unit, (whole / unit).round() as u32))
}

/// What an instance of this profile is to an engine; media extensions ("1g.10gb.me") change nothing of it. `None`: the
/// GPU has no such profile, or it is a part of an instance's compute ("1c.3g.40gb").
pub fn find(gpu: &GpuFacts, profile: &str) -> Option<&'static GpuFacts> {
    let plain = profile.trim_end_matches(".me").trim_end_matches("+me");
    INSTANCES.get(gpu.name.as_str())?.get(plain)
}

/// The instance of this name: "H100-SXM5-80GB-MIG-1g.10gb", or a driver's "NVIDIA H100 80GB HBM3 MIG 1g.10gb".
pub fn named(name: &str) -> Option<&'static GpuFacts> {
    let (card, profile) = name.split_once("-MIG-").or_else(|| name.split_once(" MIG "))?;
    find(gpus::find(card)?, profile)
}

/// Every profile of a GPU, in the catalogue's order.
pub fn of(gpu: &GpuFacts) -> impl Iterator<Item = &'static GpuFacts> {
    gpu.mig_profiles.iter().filter_map(|p| find(gpu, &p.name))
}

fn facts(gpu: &'static GpuFacts, profile: &str, logged: Option<Logged>) -> Option<GpuFacts> {
    let slices = slices(profile)?;
    let (unit, all) = units(gpu)?;
    let units = ((gigabytes(profile)? / unit).round() as u32).clamp(1, all);
    let part = f64::from(units) / f64::from(all);
    let whole = gpu.memory_usable.unwrap_or(gpu.memory).gib();
    let (low, high) = match logged {
        Some(row) => (row.memory.0 * (1.0 - DRIVERS), row.memory.1 * (1.0 + DRIVERS)),
        None => (whole * part * UNLOGGED.0, whole * part * UNLOGGED.1),
    };
    let high = high.min(whole * part);
    let middle = Bytes::from_gib(f64::midpoint(low, high));
    // Hopper's 1g has 16 of 132 multiprocessors, Ampere's 14 of 108: of seven slices each is nearer to an eighth.
    let pieces = gpu.mig_slices();
    let of = if pieces == 7 { 8 } else { pieces };
    let compute = logged.map_or(f64::from(slices) / f64::from(of), |row| row.compute);
    let cut = |peak: Option<f64>| peak.map(|p| p * compute.min(1.0));
    Some(GpuFacts {
        // As GPU feature discovery writes it.
        name: format!("{}-MIG-{profile}", gpu.name),
        aliases: Vec::new(),
        memory: Bytes::from_gib(whole * part),
        memory_usable: Some(middle),
        memory_cuda: Some(middle),
        bandwidth_gb_s: gpu.bandwidth_gb_s.map(|b| b * part),
        bf16_tflops: cut(gpu.bf16_tflops),
        fp16_tflops: cut(gpu.fp16_tflops),
        fp8_tflops: cut(gpu.fp8_tflops),
        int8_tops: cut(gpu.int8_tops),
        fp4_tflops: cut(gpu.fp4_tflops),
        tdp: None,
        nvlink_gb_s: None,
        mig_profiles: Vec::new(),
        instance: Some(Instance {
            card: gpu.name.clone(),
            profile: profile.into(),
            slices,
            units,
            memory: (Bytes::from_gib(low), Bytes::from_gib(high)),
            logged: logged.is_some(),
        }),
        ..gpu.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(gpu: &str, profile: &str) -> &'static GpuFacts {
        find(gpus::find(gpu).unwrap(), profile).unwrap_or_else(|| panic!("{gpu} {profile}"))
    }

    #[test]
    fn an_instance_has_its_part_of_memory_bandwidth_and_compute() {
        let seventh = instance("H100", "1g.10gb");
        assert_eq!(seventh.name, "H100-SXM5-80GB-MIG-1g.10gb");
        for name in [&seventh.name, "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "h100-MIG-1g.10gb"] {
            assert_eq!(named(name).map(|g| &g.name), Some(&seventh.name), "{name}");
        }
        assert_eq!(named("H100-SXM5-80GB"), None);
        // 3352 GB/s ÷ 8; 16 of 132 multiprocessors.
        assert_eq!(seventh.bandwidth_gb_s, Some(419.0));
        let share = seventh.bf16_tflops.unwrap() / gpus::find("H100").unwrap().bf16_tflops.unwrap();
        assert!((share - 16.0 / 132.0).abs() < 1e-9, "{share}");
        assert_eq!((seventh.nvlink_gb_s, seventh.tdp), (None, None));
        let own = seventh.instance.as_ref().unwrap();
        assert_eq!((own.slices, own.units, own.logged), (1, 1, true));
        // Labels of such nodes say 9856 or 9984 MiB.
        for mib in [9856.0, 9984.0] {
            let told = Bytes::from_mib(mib);
            assert!(own.memory.0 <= told && told <= own.memory.1, "{mib}: {own:?}");
        }
        // Half of the memory with three of seven slices.
        let half = instance("A100 80GB", "3g.40gb");
        assert_eq!(half.bandwidth_gb_s, Some(1019.5));
        assert_eq!(half.instance.as_ref().unwrap().units, 4);
        assert_eq!(instance("A100 80GB", "3g.40gb.me").name, half.name);
    }

    #[test]
    fn what_no_driver_told_is_a_wide_band_and_never_more_than_the_part() {
        let own = instance("B300", "1g.34gb").instance.as_ref().unwrap();
        assert!(!own.logged);
        assert!(own.memory.0.0 as f64 <= 0.86 * own.memory.1.0 as f64, "{own:?}");
        let mut seen = 0;
        for gpu in gpus::all() {
            let all = gpu.memory_usable.unwrap_or(gpu.memory);
            for facts in of(gpu) {
                let own = facts.instance.as_ref().unwrap();
                let (_, units) = units(gpu).unwrap();
                let part = all.0 as f64 * f64::from(own.units) / f64::from(units);
                assert!(
                    own.memory.0 <= own.memory.1 && own.memory.1.0 as f64 <= part + 1.0,
                    "{}",
                    facts.name
                );
                assert!(own.memory.0.0 as f64 > 0.8 * part, "{}: {own:?}", facts.name);
                assert!(own.slices <= gpu.mig_slices(), "{}", facts.name);
                seen += 1;
            }
        }
        assert!(seen > 100, "{seen}");
    }

    #[test]
    fn every_row_is_of_a_profile_that_its_gpu_has() {
        let rows = logged();
        assert!(rows.len() > 60, "{}", rows.len());
        let mut known: Vec<_> = rows.into_keys().collect();
        known.sort_unstable();
        for (gpu, profile) in known {
            let facts = gpus::all().iter().find(|g| g.name == gpu).unwrap();
            assert!(
                find(facts, profile).is_some_and(|f| f.instance.as_ref().unwrap().logged),
                "{gpu} {profile}"
            );
        }
        for line in ROWS.lines().skip(1) {
            assert_eq!(line.matches(',').count(), 7, "{line}");
        }
    }

    #[test]
    fn what_is_no_profile_of_the_card_is_not_found() {
        let h100 = gpus::find("H100").unwrap();
        for profile in [
            "1g.5gb",
            "cpx_nps4",
            "unpartitioned",
            "rest",
            "partition",
            "1c.3g.40gb",
            "",
        ] {
            assert!(find(h100, profile).is_none(), "{profile}");
        }
        assert_eq!(of(gpus::find("L4").unwrap()).count(), 0);
        assert_eq!(
            of(gpus::find("MI300X").unwrap()).count(),
            0,
            "AMD's partitions are no MIG profiles"
        );
    }
}
