//! spec-hygiene: what a manifest should not leave open.

use super::finding::{Confidence, Evidence, Finding, Fix, Location};
use super::support::{self, Judged};
use super::{Check, Context, Outcome, documented};
use crate::engine;
use crate::fleet::{Fleet, Workload, WorkloadClass, WorkloadId};
use crate::settings::Thresholds;
use crate::snapshot::cluster::{Note, NoteAbout, Origin};
use crate::units::Bytes;

documented! {
    since "0.1.0";
    /// What it finds. With 'gpuwaste check': GPU pods whose manifest pins no image version, asks for no CPU or memory, or for less host memory
    /// than an LLM server's processes take beside the weights (host_memory_gib of the policy). Of running pods, too:
    ///   vendor       an image that is built for another vendor's cards than the container asks for (a CUDA image on amd.com/gpu)
    ///
    /// Why it costs. Another engine version needs another amount of GPU memory: a restart at night may no longer fit. Without requests the
    /// scheduler puts other work beside it, and the GPU waits for CPU.
    ///
    /// How the dollars are computed. None: it is listed without money.
    ///
    /// When it is wrong. Clusters whose admission pins images or sets requests by itself.
    ///
    /// What to do. Name a version or digest; set resources.requests.
    pub(crate) struct SpecHygiene;
}

const ID: &str = "spec-hygiene";

impl Check for SpecHygiene {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "Manifests of GPU pods that leave open what they should say: an unpinned image, no CPU or memory request."
    }

    fn parts(&self) -> &'static [Option<&'static str>] {
        &[
            Some("image"),
            Some("cpu-request"),
            Some("memory-request"),
            Some("memory"),
            Some("vendor"),
        ]
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let fleet = context.fleet;
        for (id, workload) in support::workloads(fleet) {
            out.findings.extend(of_another_vendor(fleet, id, workload));
            let Some(origin) = &workload.origin else { continue };
            out.assessed.extend(support::slots_of(workload));
            let notes = origin.notes.iter();
            out.findings
                .extend(notes.map(|note| left_open(fleet, id, workload, origin, note)));
            out.findings
                .extend(little_memory(fleet, &context.settings.thresholds, id, workload));
        }
    }
}

fn left_open(fleet: &Fleet, id: WorkloadId, workload: &Workload, origin: &Origin, note: &Note) -> Finding {
    let (part, summary) = match note.about {
        NoteAbout::Image => ("image", "Name a version, or a digest.".to_string()),
        NoteAbout::CpuRequest => ("cpu-request", format!("Set it under {}.requests.", note.path)),
        NoteAbout::MemoryRequest => ("memory-request", format!("Set it under {}.requests.", note.path)),
    };
    let judged = Judged::at(Confidence::Estimated, "the manifest as written");
    let mut finding = Finding {
        title: format!("{}: {}", workload.name, note.text),
        fix: Fix::told(summary),
        ..support::of_one(fleet, ID, Some(part), (id, workload), judged)
    };
    finding.subject.location = Some(Location {
        file: origin.file.clone(),
        line: note.line,
        path: note.path.clone(),
    });
    finding
}

/// The image has no kernels for the cards that the container asks for.
fn of_another_vendor(fleet: &Fleet, id: WorkloadId, workload: &Workload) -> Option<Finding> {
    let mut pods = workload.pods.iter().map(|p| fleet.pod(*p));
    let (image, built) = pods.find_map(|p| p.foreign_image.clone())?;
    let whose = if built == "amd" {
        "AMD's (ROCm)"
    } else {
        "NVIDIA's (CUDA)"
    };
    let judged = Judged::at(
        Confidence::Estimated,
        "the image's name and tag, and the resource that is asked for",
    );
    Some(Finding {
        title: format!(
            "{}: its image is built for {whose} cards, and it asks for others",
            workload.name
        ),
        evidence: vec![Evidence::text("image", &image, "kubernetes")],
        fix: Fix::told(format!(
            "Use an image that is built for the cards it asks for, or ask for {whose}: with {image} its server finds no GPU there."
        )),
        ..support::of_one(fleet, ID, Some("vendor"), (id, workload), judged)
    })
}

/// Less host memory than an LLM server's processes take before the first weight is read.
fn little_memory(fleet: &Fleet, t: &Thresholds, id: WorkloadId, workload: &Workload) -> Option<Finding> {
    let llm = engine::facts(workload.engine()).is_some_and(|f| f.language_models);
    let pods = workload.replicas.iter().flat_map(|r| &r.pods);
    let asked = pods.map(|p| fleet.pod(*p).memory).filter(|m| m.0 > 0).min()?;
    let needed = Bytes::from_gib(t.host_memory_gib as f64);
    if workload.class != WorkloadClass::Server || !llm || asked >= needed {
        return None;
    }
    let judged = Judged::at(
        Confidence::Assumed,
        "a rule of thumb: what the runtime takes differs by engine and version",
    );
    Some(Finding {
        title: format!(
            "{}: {:.1} GiB of host memory, {:.0} GiB needed beside the weights",
            workload.name,
            asked.gib(),
            needed.gib()
        ),
        evidence: vec![Evidence::number("memory", asked.0 as f64, "bytes", "manifest").expected(needed.0 as f64)],
        fix: Fix::told(format!(
            "Give the container {:.0} GiB or more: one process a GPU, CUDA's context in each, and room to read the weights through.",
            needed.gib()
        )),
        ..support::of_one(fleet, ID, Some("memory"), (id, workload), judged)
    })
}
