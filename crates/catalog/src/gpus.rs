//! GPU facts: one row a model in `data/gpus.csv`, found by any spelling that drivers, labels and clouds use.

use crate::units::{Bytes, Watts};
use std::collections::HashMap;
use std::sync::LazyLock;

const ROWS: &str = include_str!("data/gpus.csv");

/// Memory is only a tie-break: drivers of different age report up to 7 % apart (16160 or 16384 MiB for one V100).
const MEMORY_TOLERANCE: f64 = 0.07;
/// A name's own memory may be nominal or usable, binary or decimal.
const STATED_TOLERANCE: f64 = 0.15;

/// Architectures whose cards share the host's memory.
const UNIFIED: &[&str] = &["Blackwell GB10", "Jetson Thor", "Jetson Orin"];

/// One GPU model. Tensor peaks are dense; each `None`: the card has no such unit, or no source was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GpuFacts {
    /// Canonical name: "H100-SXM5-80GB".
    pub name: String,
    /// Other spellings, with their origin: "smi:NVIDIA H100 80GB HBM3".
    pub aliases: Vec<String>,
    /// "nvidia", "amd", "intel".
    pub vendor: String,
    pub architecture: String,
    /// CUDA compute capability; `None` for other vendors.
    pub compute_capability: Option<(u8, u8)>,
    /// Nominal, as on the label.
    pub memory: Bytes,
    /// What the driver reports as total.
    pub memory_usable: Option<Bytes>,
    /// What CUDA reports as total, where somebody told it; the catalogue's rows derive it.
    pub memory_cuda: Option<Bytes>,
    pub bandwidth_gb_s: Option<f64>,
    pub bf16_tflops: Option<f64>,
    pub fp16_tflops: Option<f64>,
    pub fp8_tflops: Option<f64>,
    pub int8_tops: Option<f64>,
    pub fp4_tflops: Option<f64>,
    pub tdp: Option<Watts>,
    /// Memory is the host's, too.
    pub unified: bool,
    /// Per GPU, both directions; `None`: PCIe only.
    pub nvlink_gb_s: Option<f64>,
    pub mig_profiles: Vec<MigProfile>,
    /// Set where these are the facts of a MIG instance, not of a whole card.
    pub instance: Option<super::mig::Instance>,
    pub source: String,
    pub as_of: String,
}

/// A way to cut a GPU: "1g.10gb" and how many of them fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigProfile {
    pub name: String,
    pub max_count: u32,
}

impl GpuFacts {
    /// The card shares its memory with the host (GB10): what is free is what the operating system leaves.
    pub fn is_unified(&self) -> bool {
        self.unified
    }

    /// Slices that MIG divides it into: A30 and RTX PRO 6000 4, RTX PRO 5000/4500 2, others 7 (NVIDIA MIG user guide).
    pub fn mig_slices(&self) -> u32 {
        match self.name.as_str() {
            "A30" => 4,
            name if name.starts_with("RTX-PRO-6000") => 4,
            name if name.starts_with("RTX-PRO-") => 2,
            _ => 7,
        }
    }
}

struct Catalog {
    gpus: Vec<GpuFacts>,
    /// Normalised spelling → rows; several where a name does not tell 40 from 80 GB, or PCIe from SXM.
    spellings: HashMap<String, Vec<usize>>,
}

static CATALOG: LazyLock<Catalog> = LazyLock::new(load);

fn load() -> Catalog {
    let mut gpus = Vec::new();
    let mut spellings: HashMap<String, Vec<usize>> = HashMap::new();
    let mut reader = csv::Reader::from_reader(ROWS.as_bytes());
    let headers = reader.headers().cloned().unwrap_or_default();
    for record in reader.records().flatten() {
        let cell = |name: &str| {
            headers
                .iter()
                .position(|h| h == name)
                .and_then(|i| record.get(i))
                .map(str::trim)
                .unwrap_or_default()
        };
        let number = |name: &str| cell(name).parse::<f64>().ok();
        let gpu = GpuFacts {
            name: cell("name").into(),
            aliases: cell("aliases")
                .split(';')
                .filter(|a| !a.is_empty())
                .map(String::from)
                .collect(),
            vendor: cell("vendor").into(),
            architecture: cell("architecture").into(),
            compute_capability: capability(cell("compute_capability")),
            memory: Bytes::from_gib(number("memory_gib").unwrap_or(0.0)),
            memory_usable: number("memory_usable_mib").map(Bytes::from_mib),
            memory_cuda: None,
            bandwidth_gb_s: number("memory_bandwidth_gb_s"),
            bf16_tflops: number("bf16_dense_tflops"),
            fp16_tflops: number("fp16_dense_tflops"),
            fp8_tflops: number("fp8_dense_tflops"),
            int8_tops: number("int8_dense_tops"),
            fp4_tflops: number("fp4_dense_tflops"),
            tdp: number("tdp_w").map(Watts),
            unified: UNIFIED.contains(&cell("architecture")),
            nvlink_gb_s: number("nvlink_gb_s"),
            mig_profiles: mig_profiles(cell("mig_profiles")),
            instance: None,
            source: cell("source").into(),
            as_of: cell("as_of").into(),
        };
        let index = gpus.len();
        let names = std::iter::once(gpu.name.as_str()).chain(
            gpu.aliases
                .iter()
                .map(|a| a.split_once(':').map_or(a.as_str(), |(_, name)| name)),
        );
        for name in names {
            let name = name.rsplit_once('=').map_or(name, |(_, value)| value);
            let rows = spellings.entry(normalise(name)).or_default();
            if !rows.contains(&index) {
                rows.push(index);
            }
        }
        gpus.push(gpu);
    }
    Catalog { gpus, spellings }
}

fn capability(text: &str) -> Option<(u8, u8)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// "1g.10gb:7 1g.10gb+me:1 2g.20gb:3": profiles with media extensions are the same memory, and left out.
fn mig_profiles(text: &str) -> Vec<MigProfile> {
    text.split_whitespace()
        .filter_map(|word| {
            let (name, count) = word.split_once(':')?;
            (name.contains("g.") && !name.contains('+')).then(|| {
                Some(MigProfile {
                    name: name.into(),
                    max_count: count.parse().ok()?,
                })
            })?
        })
        .collect()
}

/// Lower case, letters and digits only, without makers' words that some spellings carry and others do not.
fn normalise(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| {
        !matches!(
            *w,
            "" | "nvidia" | "tesla" | "geforce" | "amd" | "instinct" | "radeon" | "generation"
        )
    });
    words.collect()
}

/// Every row, in the file's order.
pub fn all() -> &'static [GpuFacts] {
    &CATALOG.gpus
}

/// The row of any spelling; `None` where the name is unknown, or does not tell two rows of different memory apart.
pub fn find(name: &str) -> Option<&'static GpuFacts> {
    find_with_memory(name, None)
}

/// As [`find`]; `mib` of one whole GPU, as a driver or label reports it, breaks ties.
///
/// Suffixes of the GPU operator ("-SHARED", "-MIG-1g.10gb") are cut off. "A100 80GB" is read as name and memory.
pub fn find_with_memory(name: &str, mib: Option<f64>) -> Option<&'static GpuFacts> {
    let upper = name.to_ascii_uppercase();
    let cut = ["-SHARED", "-MIG-", " MIG "]
        .iter()
        .filter_map(|s| upper.find(s))
        .min()
        .unwrap_or(name.len());
    let name = name.get(..cut)?;
    let catalog = &*CATALOG;
    if let Some(rows) = catalog.spellings.get(&normalise(name)) {
        return pick(rows, mib);
    }
    let (family, gib) = split_memory(name)?;
    let mib = mib.or(Some(gib * 1024.0));
    if let Some(gpu) = catalog
        .spellings
        .get(&normalise(&family))
        .and_then(|rows| pick(rows, mib))
    {
        // "H20 141GB" and "RTX 4090 48GB" are not the card of that name with less memory.
        let own = gpu.memory.gib();
        return ((own - gib).abs() <= STATED_TOLERANCE * own).then_some(gpu);
    }
    // "H100 96GB": the family's first word, and a row of about that memory.
    pick(&of_family(&family), mib)
}

/// Rows whose name's first word this is.
fn of_family(word: &str) -> Vec<usize> {
    let word = normalise(word);
    let is_first = |gpu: &GpuFacts| gpu.name.split('-').next().is_some_and(|first| normalise(first) == word);
    (0..CATALOG.gpus.len())
        .filter(|i| is_first(&CATALOG.gpus[*i]))
        .collect()
}

/// Cards that a name may stand for which [`find`] does not know, since they differ: "a100" is four of two sizes.
pub fn may_be(name: &str) -> Vec<&'static str> {
    let rows = of_family(name).into_iter().map(|i| CATALOG.gpus[i].name.as_str());
    rows.collect()
}

/// Memory that an unknown card's name states: "RTX 3060 12GB".
pub fn memory_in_name(name: &str) -> Option<f64> {
    split_memory(name)
        .map(|(_, gib)| gib)
        .filter(|gib| (1.0..=1024.0).contains(gib))
}

/// Of the gigabytes that a name states, the share that CUDA reports at least: 15.5 of "16GB", 31.4 of "32GB", 79.2 of "80GB",
/// 139.7 of "141GB" (logged totals; twelve cards, 0.965 to 0.99).
const REPORTED: f64 = 0.965;

/// What CUDA would report of the memory that an unknown card's name states.
pub fn reported_of_name(gib: f64) -> Bytes {
    Bytes::from_gib(gib * REPORTED)
}

/// NVIDIA vGPU profiles, "A40-48Q", "NVIDIA H100-40C": a part of a card by its frame buffer, of which the guest sees a little
/// less (vGPU user guide: frame buffer of the profile). `None`: no such profile of a known card.
pub fn vgpu(name: &str) -> Option<GpuFacts> {
    let (card, profile) = name.trim().trim_start_matches("GRID ").rsplit_once('-')?;
    let digits = profile.strip_suffix(['Q', 'C', 'A', 'B', 'q', 'c', 'a', 'b'])?;
    let gib: f64 = digits.parse().ok().filter(|g| (1.0..=512.0).contains(g))?;
    let gpu = find_with_memory(card, None).or_else(|| find_with_memory(card, Some(gib * 1024.0)))?;
    let whole = gpu.memory.gib();
    (gib <= whole * 1.01).then(|| GpuFacts {
        name: name.trim().to_string(),
        memory: Bytes::from_gib(gib),
        memory_usable: None,
        memory_cuda: Some(reported_of_name(gib)),
        bandwidth_gb_s: gpu.bandwidth_gb_s.map(|b| b * gib / whole),
        nvlink_gb_s: None,
        ..gpu.clone()
    })
}

/// "NVIDIA L4 24GB" → ("NVIDIA L4", 24).
fn split_memory(name: &str) -> Option<(String, f64)> {
    let mut words: Vec<&str> = name.split([' ', '-', '_']).filter(|w| !w.is_empty()).collect();
    let at = words.iter().position(|w| memory_word(w).is_some())?;
    let gib = memory_word(words[at])?;
    words.remove(at);
    Some((words.join(" "), gib))
}

fn memory_word(word: &str) -> Option<f64> {
    let lower = word.to_ascii_lowercase();
    let digits = lower.strip_suffix("gib").or_else(|| lower.strip_suffix("gb"))?;
    digits.parse().ok()
}

/// Memory in the driver's words decides between rows; among rows of equal memory the SXM form is what clouds rent.
fn pick(rows: &[usize], mib: Option<f64>) -> Option<&'static GpuFacts> {
    let gpus = &CATALOG.gpus;
    let close = |gpu: &GpuFacts| {
        mib.is_none_or(|mib| {
            [Some(gpu.memory), gpu.memory_usable].into_iter().flatten().any(|m| {
                let own = m.0 as f64 / Bytes::MIB;
                (own - mib).abs() <= MEMORY_TOLERANCE * own
            })
        })
    };
    if let [only] = rows {
        return Some(&gpus[*only]);
    }
    let fitting: Vec<&GpuFacts> = rows.iter().map(|i| &gpus[*i]).filter(|g| close(g)).collect();
    let first = *fitting.first()?;
    if fitting.iter().any(|g| g.memory != first.memory) {
        return None;
    }
    Some(
        fitting
            .iter()
            .find(|g| g.name.contains("SXM"))
            .copied()
            .unwrap_or(first),
    )
}

/// Canonical names most like `name`, nearest first, for error messages.
pub fn nearest(name: &str) -> Vec<&'static str> {
    let wanted = normalise(name);
    let mut scored: Vec<(f64, &str)> = all()
        .iter()
        .map(|g| {
            let own = normalise(&g.name);
            let contained = own.contains(&wanted) || wanted.contains(&own);
            (
                strsim::jaro_winkler(&wanted, &own) + if contained { 1.0 } else { 0.0 },
                g.name.as_str(),
            )
        })
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored
        .into_iter()
        .filter(|(score, _)| *score > 0.7)
        .take(4)
        .map(|(_, name)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Option<&'static str> {
        find(text).map(|g| g.name.as_str())
    }

    #[test]
    fn a_name_of_several_cards_is_none_of_them() {
        assert!(find("a100").is_none());
        let all = may_be("a100");
        assert!(all.len() > 1 && all.iter().all(|n| n.starts_with("A100")), "{all:?}");
        assert!(may_be("nosuch").is_empty());
    }

    #[test]
    fn every_spelling_leads_to_its_row() {
        for text in [
            "NVIDIA H100 80GB HBM3",
            "NVIDIA-H100-80GB-HBM3",
            "NVIDIA-H100-80GB-HBM3-SHARED",
            "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb",
            "nvidia-h100-80gb",
            "h100",
            "H100_NVLINK_80GB",
            "H100 80GB",
            "H100-SXM5-80GB",
        ] {
            assert_eq!(name(text), Some("H100-SXM5-80GB"), "{text}");
        }
        assert_eq!(name("AMD_Instinct_MI300X_OAM"), Some("MI300X"));
        assert_eq!(name("NVIDIA A100 80GB PCIe"), Some("A100-PCIE-80GB"));
        assert_eq!(name("A100 80GB"), Some("A100-SXM4-80GB"));
        assert_eq!(name("H100 96GB"), Some("H100-NVL-94GB"));
        assert_eq!(name("NVIDIA L4 24GB"), Some("L4"));
    }

    #[test]
    fn look_alikes_stay_apart() {
        assert_eq!(name("NVIDIA-A10"), Some("A10"));
        assert_eq!(name("NVIDIA-A10G"), Some("A10G"));
        assert_eq!(name("nvidia-l4"), Some("L4"));
        assert_eq!(name("NVIDIA-L40"), Some("L40"));
        assert_eq!(name("NVIDIA-L40S"), Some("L40S"));
        assert_eq!(name("NVIDIA-GH200-480GB"), Some("GH200-96GB"));
    }

    #[test]
    fn memory_breaks_ties_and_only_ties() {
        assert_eq!(name("a100"), None, "40 or 80 GB: not told");
        assert_eq!(
            find_with_memory("a100", Some(40960.0)).map(|g| g.name.as_str()),
            Some("A100-SXM4-40GB")
        );
        assert_eq!(
            find_with_memory("a100", Some(81251.0)).map(|g| g.name.as_str()),
            Some("A100-SXM4-80GB")
        );
        assert_eq!(
            find_with_memory("v100", Some(16160.0)).map(|g| g.name.as_str()),
            Some("V100-SXM2-16GB")
        );
        // A MIG instance's memory on a label does not change what the card is.
        assert_eq!(
            find_with_memory("NVIDIA-L40S", Some(9000.0)).map(|g| g.name.as_str()),
            Some("L40S")
        );
    }

    #[test]
    fn newer_and_smaller_cards_are_known() {
        for (text, row) in [
            ("NVIDIA GB10", "GB10"),
            ("DGX Spark", "GB10"),
            ("NVIDIA GeForce RTX 5060 Ti 16GB", "RTX-5060-Ti-16GB"),
            ("RTX 5080", "RTX-5080"),
            ("NVIDIA RTX PRO 4000 Blackwell", "RTX-PRO-4000-WS"),
            ("NVIDIA RTX PRO 6000", "RTX-PRO-6000-BSE"),
            ("NVIDIA H20-3e", "H20-3e-141GB"),
            ("H20 141GB", "H20-3e-141GB"),
            ("Intel Arc Pro B70", "Arc-Pro-B70"),
        ] {
            assert_eq!(name(text), Some(row), "{text}");
        }
        assert!(find("GB10").is_some_and(GpuFacts::is_unified));
        assert!(find("B200").is_some_and(|g| !g.is_unified()));
    }

    #[test]
    fn vgpu_profiles_are_parts_of_their_card() {
        let part = vgpu("NVIDIA A40-24Q").expect("a profile");
        assert!(part.memory_cuda.is_some_and(|m| m.gib() < 24.0 && m.gib() > 22.5));
        assert_eq!(part.compute_capability, Some((8, 6)));
        for none in ["A40-96Q", "A40", "Voodoo-4Q", "RTX-4090-D", ""] {
            assert!(vgpu(none).is_none(), "{none}");
        }
    }

    #[test]
    fn unknown_names_are_unknown_and_get_suggestions() {
        assert_eq!(name("Voodoo 5"), None);
        assert_eq!(name(""), None);
        assert_eq!(nearest("H100 SMX")[0], "H100-SXM5-80GB");
    }

    #[test]
    fn every_row_is_whole() {
        assert!(all().len() >= 70);
        for gpu in all() {
            assert!(
                gpu.memory.0 > 0 && !gpu.source.is_empty() && !gpu.as_of.is_empty(),
                "{}",
                gpu.name
            );
            assert!(!gpu.name.is_empty() && !gpu.vendor.is_empty());
        }
    }
}
