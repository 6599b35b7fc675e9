//! What a card is to the step-time model: its generation, its power, and the way its ranks talk.

use crate::catalog::gpus::{self, GpuFacts};

/// A generation of cards with kernels of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Architecture {
    Volta,
    Turing,
    /// GA100: A100, A30.
    Ampere,
    /// GA102 and smaller: A10, A40, RTX A6000, 3090.
    AmpereGraphics,
    Ada,
    Hopper,
    Blackwell,
    /// SM 12.0: RTX 5090, RTX PRO.
    BlackwellGraphics,
    Cdna,
    #[default]
    Other,
}

impl Architecture {
    /// As the constants' file writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Volta => "volta",
            Self::Turing => "turing",
            Self::Ampere => "ampere",
            Self::AmpereGraphics => "ampere-graphics",
            Self::Ada => "ada",
            Self::Hopper => "hopper",
            Self::Blackwell => "blackwell",
            Self::BlackwellGraphics => "blackwell-graphics",
            Self::Cdna => "cdna",
            Self::Other => "other",
        }
    }
}

/// What joins the ranks of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// NVSwitch, or NVLink between all.
    Switch,
    /// xGMI: a link to each neighbour; the rate is their sum.
    Mesh,
    /// PCIe with peer-to-peer.
    Pcie,
    /// PCIe through the host's memory: GeForce drivers refuse peer-to-peer.
    Host,
    /// No path: a MIG instance.
    #[default]
    None,
}

impl Path {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Mesh => "mesh",
            Self::Pcie => "pcie",
            Self::Host => "host",
            Self::None => "none",
        }
    }

    /// Fast enough that wide tensor parallelism pays.
    pub const fn is_fast(self) -> bool {
        matches!(self, Self::Switch | Self::Mesh)
    }
}

/// A path and its nominal rate in one direction, bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Link {
    pub path: Path,
    pub rate: f64,
}

/// One card, or the MIG instance of one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Card {
    /// Catalogue name; a MIG instance's is that of its card.
    pub name: String,
    pub nvidia: bool,
    /// A MIG instance: nobody has measured step times of one.
    pub instance: bool,
    pub architecture: Architecture,
    /// Between more than two ranks.
    pub link: Link,
    /// Between two: a bridge, where the card always comes with one.
    pub pair: Link,
    /// TFLOPS at 16 bit per watt of board power: nominal peaks of cards that have many are not held under load.
    pub tflops_per_watt: Option<f64>,
}

impl Card {
    pub fn of(gpu: &GpuFacts) -> Self {
        let whole = match &gpu.instance {
            Some(own) => gpus::all().iter().find(|g| g.name == own.card).unwrap_or(gpu),
            None => gpu,
        };
        let peak = whole.bf16_tflops.or(whole.fp16_tflops);
        let (link, pair) = if gpu.instance.is_some() {
            Default::default()
        } else {
            links(gpu)
        };
        Self {
            name: whole.name.clone(),
            nvidia: gpu.vendor == "nvidia",
            instance: gpu.instance.is_some(),
            architecture: architecture(gpu),
            link,
            pair,
            tflops_per_watt: peak.zip(whole.tdp).filter(|(_, w)| w.0 > 0.0).map(|(t, w)| t / w.0),
        }
    }

    /// The path of this many ranks.
    pub fn path(&self, ranks: u32) -> Link {
        match ranks {
            0 | 1 => Link::default(),
            2 => self.pair,
            _ => self.link,
        }
    }
}

fn architecture(gpu: &GpuFacts) -> Architecture {
    match (gpu.architecture.as_str(), gpu.compute_capability) {
        ("Volta", _) => Architecture::Volta,
        ("Turing", _) => Architecture::Turing,
        ("Ampere", Some((8, 0))) => Architecture::Ampere,
        ("Ampere", _) => Architecture::AmpereGraphics,
        ("Ada", _) => Architecture::Ada,
        ("Hopper", _) => Architecture::Hopper,
        (a, Some((12, _))) if a.starts_with("Blackwell") => Architecture::BlackwellGraphics,
        (a, _) if a.starts_with("Blackwell") => Architecture::Blackwell,
        (a, _) if a.starts_with("CDNA") => Architecture::Cdna,
        _ => Architecture::Other,
    }
}

/// Nominal rate of sixteen lanes in one direction: PCIe 3.0 for Volta and Turing, 4.0 for Ampere and Ada, 5.0 from Hopper
/// on (vendors' data sheets).
fn pcie(gpu: &GpuFacts) -> f64 {
    match architecture(gpu) {
        Architecture::Volta | Architecture::Turing | Architecture::Other => 16e9,
        Architecture::Ampere | Architecture::AmpereGraphics | Architecture::Ada => 32e9,
        Architecture::Hopper | Architecture::Blackwell | Architecture::BlackwellGraphics | Architecture::Cdna => 64e9,
    }
}

/// Among many, and between two. A bridge joins two cards and is counted only where clouds and vendors sell the card in
/// pairs that have it (H100 NVL, H200 NVL); of others (A100 PCIe, A6000, 3090) nobody can tell whether it is there.
fn links(gpu: &GpuFacts) -> (Link, Link) {
    let geforce = ["RTX-30", "RTX-40", "RTX-50"].iter().any(|p| gpu.name.starts_with(p)) && !gpu.name.contains("Ada");
    let bus = Link {
        path: if geforce { Path::Host } else { Path::Pcie },
        rate: pcie(gpu),
    };
    let Some(rate) = gpu.nvlink_gb_s.map(|both| both * 1e9 / 2.0) else {
        return (bus, bus);
    };
    let of = |path| Link { path, rate };
    match () {
        () if gpu.vendor == "amd" => (of(Path::Mesh), of(Path::Mesh)),
        () if is_board(gpu) => (of(Path::Switch), of(Path::Switch)),
        () if gpu.name.contains("-NVL-") => (bus, of(Path::Switch)),
        () => (bus, bus),
    }
}

/// Cards that come on boards with NVLink among all; the others' NVLink is a bridge between two.
fn is_board(gpu: &GpuFacts) -> bool {
    let words = ["SXM", "GB200", "GB300", "GH200", "B100", "H20-"];
    words.iter().any(|w| gpu.name.contains(w)) || gpu.vendor == "intel"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str) -> Card {
        Card::of(gpus::find(name).expect(name))
    }

    #[test]
    fn ranks_talk_as_the_boards_are_built() {
        let paths = |name| (card(name).path(2).path, card(name).path(8).path);
        assert_eq!(paths("H100-SXM5-80GB"), (Path::Switch, Path::Switch));
        assert_eq!(paths("MI300X"), (Path::Mesh, Path::Mesh));
        assert_eq!(paths("L4"), (Path::Pcie, Path::Pcie));
        assert_eq!(paths("RTX-4090"), (Path::Host, Path::Host));
        assert_eq!(paths("RTX-4000-Ada"), (Path::Pcie, Path::Pcie), "a workstation card");
        assert_eq!(
            paths("RTX-A6000"),
            (Path::Pcie, Path::Pcie),
            "a bridge that may not be there"
        );
        assert_eq!(paths("H100-NVL-94GB"), (Path::Switch, Path::Pcie));
        assert_eq!(card("H100").path(1), Link::default());
    }

    #[test]
    fn a_mig_instance_is_its_card_without_a_path() {
        let own = gpuwaste_catalog::mig::named("H100-MIG-1g.10gb")
            .map(Card::of)
            .unwrap_or_default();
        assert_eq!((own.name.as_str(), own.instance), ("H100-SXM5-80GB", true));
        assert_eq!(own.path(2).path, Path::None);
        assert_eq!(own.tflops_per_watt, card("H100").tflops_per_watt);
    }
}
