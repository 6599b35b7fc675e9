//! Exporters that show no more than `nvidia-smi` does: what their figures witness, and what they do not.

use super::tests::{DAY, node, now, report, scrape, server, snapshot};
use crate::catalog::prices::PriceBook;
use crate::engine::metrics::exporter;
use crate::fleet;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::{Container, ContainerRole, Pod};
use crate::snapshot::gpu::GpuScrape;

/// A page of `nvidia_gpu_exporter` on eight cards, all alike.
fn smi(utilization: f64, watts: f64) -> Vec<GpuScrape> {
    let rows = (0..8).map(|i| {
        format!(
            "nvidia_smi_utilization_gpu_ratio{{uuid=\"{i}\"}} {utilization}\nnvidia_smi_power_draw_watts{{uuid=\"{i}\"}} {watts}\n\
             nvidia_smi_gpu_info{{uuid=\"{i}\",index=\"{i}\",name=\"NVIDIA H100 80GB HBM3\"}} 1\n"
        )
    });
    exporter::page(rows.collect::<String>().as_bytes(), now(), "n")
}

fn dcgm(watts: f64) -> Vec<GpuScrape> {
    let rows = (0..8).map(|i| {
        format!(
            "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{{gpu=\"{i}\",UUID=\"GPU-{i}\",pod=\"s-0\",namespace=\"ml\"}} 0.4\n\
             DCGM_FI_DEV_POWER_USAGE{{gpu=\"{i}\",UUID=\"GPU-{i}\"}} {watts}\n"
        )
    });
    exporter::page(rows.collect::<String>().as_bytes(), now(), "n")
}

fn job() -> Pod {
    let mut pod = server("train", "n", 8, 9 * DAY);
    pod.containers[0].server = None;
    pod.containers[0].role = Some(ContainerRole::Training);
    pod
}

fn seen(pod: Pod, gpus: Vec<GpuScrape>) -> Snapshot {
    let mut snap = snapshot(vec![node("n", 30 * DAY, true)], vec![pod], Vec::new());
    snap.clusters[0].gpus = gpus;
    snap
}

#[test]
fn utilization_shows_work_and_never_idleness() {
    let state = |utilization: f64, watts: f64| {
        let t = report(&seen(job(), smi(utilization, watts))).totals;
        (t.gpus_working, t.gpus_idle, t.gpus_unknown)
    };
    assert_eq!(state(0.6, 400.0), (8.0, 0.0, 0.0));
    // An instant without a kernel is an instant, cool or hot.
    assert_eq!(state(0.0, 70.0), (0.0, 0.0, 8.0));
    assert_eq!(state(0.0, 400.0), (0.0, 0.0, 8.0));
}

#[test]
fn power_contradicts_a_servers_idle_counters() {
    let idle = |gpus: Vec<GpuScrape>| {
        let pod = server("s-0", "n", 8, 9 * DAY);
        let engine = scrape(&pod, 9 * DAY, super::tests::reading(0.0));
        let mut snap = seen(pod, gpus);
        snap.clusters[0].engines = vec![engine];
        report(&snap).totals.gpus_idle
    };
    assert_eq!(
        idle(Vec::new()),
        8.0,
        "counters stand alone where nobody watches the cards"
    );
    assert_eq!(idle(smi(0.0, 70.0)), 8.0);
    assert_eq!(idle(smi(0.0, 400.0)), 0.0);
    // Full utilization at rest's power may be a kernel that waits, and may be none: contradicted is never waste.
    assert_eq!(idle(smi(1.0, 70.0)), 0.0);
}

#[test]
fn nothing_is_said_of_sms() {
    let snap = seen(job(), smi(1.0, 600.0));
    let fleet = fleet::join(&snap, &PriceBook::default(), &Settings::default());
    for slot in &fleet.slots {
        let activity = slot.activity.as_ref().unwrap();
        assert_eq!(activity.engine_active.and_then(|s| s.max), Some(1.0));
        assert!(activity.busy.is_none() && activity.tensor.is_none() && activity.dram.is_none());
        assert!(slot.name.starts_with("GPU-"), "named by the driver's UUID");
    }
    assert!(fleet.workloads[0].observed.gpu_busy.is_none());
}

#[test]
fn two_exporters_on_a_node_show_each_card_once() {
    for gpus in [
        [dcgm(500.0), smi(0.9, 500.0)].concat(),
        [smi(0.9, 500.0), dcgm(500.0)].concat(),
    ] {
        let snap = seen(server("s-0", "n", 8, 9 * DAY), gpus);
        let fleet = fleet::join(&snap, &PriceBook::default(), &Settings::default());
        assert_eq!(fleet.nodes[0].devices.len(), 8);
        for slot in &fleet.slots {
            let activity = slot.activity.as_ref().unwrap();
            assert!(activity.tensor.is_some(), "by the one that tells more");
            assert!(activity.attributed);
        }
    }
}

#[test]
fn an_exporter_beside_a_trainer_leaves_it_its_gpus() {
    let mut pod = job();
    pod.containers.push(Container {
        name: "all-smi".into(),
        role: Some(ContainerRole::GpuInfrastructure),
        ..Container::default()
    });
    let held = |pod: Pod| report(&seen(pod, Vec::new())).totals.gpus_allocated;
    assert_eq!(held(pod.clone()), 8.0);
    // What asks for GPUs holds them, whatever its image is called.
    pod.containers[0].role = Some(ContainerRole::GpuInfrastructure);
    assert_eq!(held(pod), 8.0);
}
