//! Workloads of generated fleets: pods, owners, what servers and devices say, and what of it is waste.

use super::host::{Host, Job, Place};
use super::{CORES_PER_GPU, DAY, Expected, GIB_PER_GPU, HOUR, Life, Maker, ago, now, ready};
use crate::snapshot::cluster::{
    Autoscaler, Container, ContainerRole, ContainerState, Controller, Exit, Ignore, OwnerRef, Pod, PodPhase, Resources,
};
use crate::snapshot::engine::{EngineReading, EngineScrape, ServerIdentity};
use crate::snapshot::gpu::{GpuReading, GpuScrape, MigInstance, PodName};
use crate::snapshot::server::{EngineKind, EngineSettings, ServerRole};
use crate::units::{Bytes, MilliCores, Ratio, Tokens, Watts};
use jiff::SignedDuration;

const NAMESPACES: &[&str] = &["search", "chat", "research", "vision"];
/// Share of a thrashing server's requests that are thrown back.
const THROWN_BACK: f64 = 0.3;

/// How the pods of a workload hang together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Pods of one Deployment.
    Replicas(u64),
    /// A leader that answers and a worker that does not.
    Group,
    /// Two Deployments, prefill and decode, of one model.
    Split,
}

impl Maker {
    /// A workload on the host, added to the snapshot and the truth.
    pub(super) fn workload(&mut self, host: &mut Host, life: Life, resource: &str, gpus: u64) {
        let left = host.left(resource);
        let shape = match self.dice.below(10) {
            0..3 if left >= 2 * gpus => Shape::Replicas(2),
            3 if left >= 2 * gpus && matches!(life, Life::Idle | Life::Busy) => Shape::Group,
            4 if left >= 2 * gpus && !host.shared() && matches!(life, Life::Idle | Life::Busy) => Shape::Split,
            _ => Shape::Replicas(1),
        };
        let pods = if shape == Shape::Replicas(1) { 1 } else { 2 };
        let name = self.name(stem(life));
        let namespace = (*self.dice.pick(NAMESPACES)).to_string();
        // One member at work makes the whole work.
        let partly = life == Life::Idle && pods == 2 && shape != Shape::Group && !host.shared() && self.dice.chance(40);
        let told = if partly { Life::Busy } else { life };
        for index in 0..pods {
            let own = if shape == Shape::Split {
                format!("{name}-{index}")
            } else {
                name.clone()
            };
            let lives = if partly && index == 0 { Life::Busy } else { life };
            if shape == Shape::Split || index == 0 {
                host.jobs.push(Job {
                    name: own.clone(),
                    life: told,
                    gpus,
                });
            }
            self.member(host, &namespace, &own, shape, index, lives, resource, gpus);
            if shape == Shape::Split || index == 0 {
                self.owner(&namespace, &own, shape, life);
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one call, all of it decided there")]
    fn member(
        &mut self,
        host: &mut Host,
        namespace: &str,
        owner: &str,
        shape: Shape,
        index: u64,
        life: Life,
        resource: &str,
        gpus: u64,
    ) {
        let mut pod = Self::pod(host, owner, Some(resource), gpus);
        pod.namespace = namespace.into();
        pod.name = format!("{owner}-5d9c-{index}");
        pod.uid.clone_from(&pod.name);
        if shape == Shape::Group {
            pod.owner = Some(OwnerRef {
                group: "apps".into(),
                kind: "StatefulSet".into(),
                name: owner.into(),
            });
            pod.labels = [
                ("leaderworkerset.sigs.k8s.io/name".to_string(), owner.to_string()),
                ("leaderworkerset.sigs.k8s.io/group-index".to_string(), "0".to_string()),
            ]
            .into();
        }
        let container = &mut pod.containers[0];
        let used = if life == Life::HalfUsed { gpus / 2 } else { gpus };
        container.server = (life != Life::Notebook).then(|| {
            Box::new(EngineSettings {
                engine: Some(EngineKind::Vllm),
                model: Some(format!("acme/{}", owner.trim_end_matches(|c: char| c.is_ascii_digit()))),
                tensor_parallel: Some(used as u32),
                nodes: (shape == Shape::Group).then_some(2),
                role: (shape == Shape::Split).then_some(if index == 0 {
                    ServerRole::Prefill
                } else {
                    ServerRole::Decode
                }),
                ..EngineSettings::default()
            })
        });
        if shape == Shape::Split {
            let base = owner.trim_end_matches(|c: char| c.is_ascii_digit());
            pod.labels.insert("llm-d.ai/model".into(), base.into());
        }
        match life {
            Life::Notebook => container.role = Some(ContainerRole::Notebook),
            Life::Placeholder => pod.priority = Some(-10),
            Life::CrashLoop | Life::Shaky => {
                container.restarts = if life == Life::Shaky { 3 } else { 40 };
                container.last_exit = Some(Exit {
                    code: 1,
                    reason: Some("Error".into()),
                    finished_at: ago(300),
                });
                wait(&mut pod, "CrashLoopBackOff", 5 * HOUR);
            }
            Life::ImagePull => wait(&mut pod, "ImagePullBackOff", 2 * HOUR),
            Life::Loading => {
                container.startup_seconds = Some(4 * 3600);
                pod.ready = ready(false, 2 * HOUR);
                pod.containers[0].ready = false;
            }
            // A server that restarts takes its container with it.
            Life::IdleSince3h => {
                container.state = Some(ContainerState::Running { since: ago(3 * HOUR) });
                container.restarts = 1;
            }
            Life::JustStarted => {
                container.state = Some(ContainerState::Running { since: ago(HOUR / 3) });
                pod.ready = ready(true, HOUR / 3);
            }
            _ => {}
        }
        let answers = !(matches!(
            life,
            Life::Silent | Life::CrashLoop | Life::ImagePull | Life::Shaky | Life::Loading | Life::Notebook
        ) || life == Life::Placeholder
            || (shape == Shape::Group && index == 1));
        if answers {
            let scrape = self.says(&pod, life);
            self.cluster.engines.push(scrape);
        }
        self.hold(host, &pod, life, resource, gpus);
        self.cluster.pods.push(pod);
    }

    fn hold(&mut self, host: &mut Host, pod: &Pod, life: Life, resource: &str, gpus: u64) {
        let works = match life {
            Life::Busy | Life::BrokenCounters | Life::HalfUsed | Life::Thrashing => true,
            Life::Silent => self.dice.chance(50),
            _ => false,
        };
        for index in 0..gpus {
            // What its parallelism leaves out does nothing.
            let works = works && (life != Life::HalfUsed || index < gpus / 2);
            let at = host.take(resource);
            let place = &mut host.places[at];
            place.pods.push(PodName {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                container: Some("server".into()),
            });
            place.hot |= works;
            place.holders.push(host.jobs.len() - 1);
        }
    }

    /// A Running, Ready pod of a Deployment on the host.
    pub(super) fn pod(host: &Host, owner: &str, resource: Option<&str>, gpus: u64) -> Pod {
        let share = |place: &Place| place.share / host.cut.sharers() as f64;
        let of_each = host.places.iter().find(|p| Some(p.resource.as_str()) == resource);
        let held = of_each.map_or(0.0, share) * gpus as f64;
        let devices = resource.map(|r| (r.to_string(), gpus));
        Pod {
            namespace: "default".into(),
            name: owner.into(),
            uid: owner.into(),
            node: Some(host.node.name.clone()),
            phase: PodPhase::Running,
            created_at: ago(20 * DAY),
            started_at: ago(20 * DAY),
            labels: [("pod-template-hash".to_string(), "5d9c".to_string())].into(),
            owner: Some(OwnerRef {
                group: "apps".into(),
                kind: "ReplicaSet".into(),
                name: format!("{owner}-5d9c"),
            }),
            ready: ready(true, 20 * DAY),
            containers: vec![Container {
                name: "server".into(),
                requests: Resources {
                    cpu: Some(MilliCores((held * CORES_PER_GPU as f64 * 1000.0) as u64)),
                    memory: Some(Bytes((held * GIB_PER_GPU as f64 * Bytes::GIB) as u64)),
                    devices: devices.into_iter().collect(),
                    ..Resources::default()
                },
                state: Some(ContainerState::Running { since: ago(20 * DAY) }),
                ready: true,
                ..Container::default()
            }],
            ..Pod::default()
        }
    }

    fn owner(&mut self, namespace: &str, name: &str, shape: Shape, life: Life) {
        let (group, kind) = match shape {
            Shape::Group => ("leaderworkerset.x-k8s.io", "LeaderWorkerSet"),
            _ => ("apps", "Deployment"),
        };
        self.cluster.controllers.push(Controller {
            group: group.into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
            replicas: Some(1),
            created_at: ago(20 * DAY),
            ignore: (life == Life::OptedOut).then(|| Ignore {
                checks: vec!["dark-capacity".into()],
                reason: "kept for the release".into(),
            }),
            ..Controller::default()
        });
        if life == Life::Standby {
            self.cluster.autoscalers.get_or_insert_default().push(Autoscaler {
                namespace: namespace.into(),
                name: name.into(),
                target: OwnerRef {
                    group: group.into(),
                    kind: kind.into(),
                    name: name.into(),
                },
                min_replicas: 1,
                max_replicas: 4,
            });
        }
    }

    fn says(&mut self, pod: &Pod, life: Life) -> EngineScrape {
        let (requests, running) = match life {
            Life::Busy | Life::HalfUsed | Life::Thrashing => (1000.0 + self.dice.below(1_000_000) as f64, 3.0),
            Life::Retired => (37.0, 0.0),
            _ => (0.0, 0.0),
        };
        let life_seconds = match life {
            Life::IdleSince3h => 3 * HOUR,
            Life::JustStarted => HOUR / 3,
            _ => 20 * DAY,
        };
        let reading = |seconds: i64| EngineReading {
            at: now() - SignedDuration::from_secs(seconds),
            running: Some(running),
            waiting: Some(0.0),
            kv_usage: Some(if running > 0.0 { 0.4 } else { 0.0 }),
            requests: Some(requests),
            prompt_tokens: Some(requests * 900.0),
            output_tokens: Some(requests * 150.0),
            preemptions: Some(if life == Life::Thrashing {
                requests * THROWN_BACK
            } else {
                0.0
            }),
            prefix_queries: None,
            prefix_hits: None,
            e2e_latency: None,
            time_to_first_token: None,
            inter_token_latency: None,
            prompt_length: None,
            output_length: None,
        };
        EngineScrape {
            namespace: pod.namespace.clone(),
            pod: pod.name.clone(),
            pod_uid: pod.uid.clone(),
            container: "server".into(),
            port: 8000,
            engine: Some(EngineKind::Vllm),
            identity: ServerIdentity {
                model_root: pod.containers[0].server.as_ref().and_then(|s| s.model.clone()),
                max_model_len: Some(8192),
                kv_capacity: Some(Tokens(200_000)),
                ..ServerIdentity::default()
            },
            process_started_at: ago(life_seconds),
            readings: vec![reading(10), reading(0)],
        }
    }

    /// What is true of the pods on the host, once all are there.
    pub(super) fn settle(&mut self, host: &Host) {
        // A shared GPU works if one of its pods does, and is idle or stuck only if all are.
        let state = |place: &Place| place.holders.iter().map(|j| State::of(host.jobs[*j].life)).min();
        let t = &mut self.truth;
        for place in &host.places {
            let sum = match state(place) {
                Some(State::Working) => &mut t.working,
                Some(State::Unknown) => &mut t.unknown,
                Some(State::Idle) => &mut t.idle,
                Some(State::Stuck) => &mut t.stuck,
                None => continue,
            };
            *sum += place.share;
            t.allocated += place.share;
        }
        for (index, job) in host.jobs.iter().enumerate() {
            let mine = |place: &Place| place.holders.iter().filter(|h| **h == index).count();
            // Of a GPU whose price several pods share, its own pods' part.
            let held: f64 = host
                .places
                .iter()
                .filter(|p| mine(p) > 0 && state(p) == Some(State::of(job.life)))
                .map(|p| p.share * mine(p) as f64 / p.holders.len() as f64)
                .sum();
            let idle_gpus = job.gpus - job.gpus / 2;
            let (what, share, measured) = match job.life {
                Life::Idle => ("dark-capacity/idle", 1.0, true),
                Life::IdleSince3h | Life::Standby => ("dark-capacity/idle", 1.0, false),
                Life::CrashLoop | Life::ImagePull => ("dark-capacity/stuck", 1.0, true),
                Life::HalfUsed => ("parallelism-mismatch", idle_gpus as f64 / job.gpus as f64, true),
                Life::Thrashing => ("kv-pressure", THROWN_BACK, true),
                _ => continue,
            };
            if held > 0.0 {
                t.expected.push(Expected {
                    what,
                    cluster: self.cluster.name.clone(),
                    name: job.name.clone(),
                    usd: host.gpu_usd.map(|usd| usd * held * share),
                    measured: measured && !host.estimated_price,
                    mode: host.cut.mode(),
                });
            }
        }
        let leaves = |life: Life| {
            matches!(
                life,
                Life::Idle | Life::IdleSince3h | Life::Standby | Life::CrashLoop | Life::ImagePull
            )
        };
        let vacated = |place: &Place| !place.lost && place.holders.iter().all(|j| leaves(host.jobs[*j].life));
        if host.returnable && !host.occupied && host.places.iter().all(vacated) {
            // A node goes as surely as the least sure of what has to be done for it: what is surer is only reusable.
            let sure = |life: Life| !host.estimated_price && !matches!(life, Life::IdleSince3h | Life::Standby);
            let all_sure = host
                .places
                .iter()
                .flat_map(|p| &p.holders)
                .all(|j| sure(host.jobs[*j].life));
            let counts = |place: &Place| {
                let lives = place.holders.iter().map(|j| host.jobs[*j].life);
                let unsure = lives.clone().filter(|life| !sure(*life)).count();
                match place.holders.len() {
                    0 => 1.0,
                    _ if all_sure => 1.0,
                    n => unsure as f64 / n as f64,
                }
            };
            // What is in no instance is free too.
            let gpus: f64 = host.rest + host.places.iter().map(|p| p.share * counts(p)).sum::<f64>();
            t.now += host.gpu_usd.unwrap_or(0.0) * gpus;
        }
    }

    /// The exporter's pod and what it shows of each device.
    pub(super) fn exporter(&mut self, host: &Host) {
        if !host.watched {
            return;
        }
        let name = format!("exporter-{}", host.node.name);
        let mut pod = Self::pod(host, &name, None, 0);
        pod.namespace = "gpu-operator".into();
        pod.labels.clear();
        pod.owner = Some(OwnerRef {
            group: "apps".into(),
            kind: "DaemonSet".into(),
            name: "dcgm-exporter".into(),
        });
        let image = if host.amd {
            "docker.io/rocm/device-metrics-exporter:v1.4.1"
        } else {
            "nvcr.io/nvidia/k8s/dcgm-exporter:4.5.3"
        };
        pod.containers[0].image = Some(image.into());
        pod.containers[0].role = Some(ContainerRole::GpuInfrastructure);
        pod.containers[0].requests.cpu = None;
        self.cluster.pods.push(pod);
        for (index, place) in host.places.iter().enumerate() {
            let works = place.hot;
            let reading = |seconds: i64| GpuReading {
                at: now() - SignedDuration::from_secs(seconds),
                gpu_util: Some(Ratio(if works { 0.97 } else { 0.0 })).filter(|_| place.profile.is_none()),
                gr_engine: Some(Ratio(if works { 0.9 } else { 0.0 })),
                sm_active: None,
                tensor: Some(Ratio(if works { 0.4 } else { 0.0 })).filter(|_| !host.amd),
                dram: Some(Ratio(if works { 0.5 } else { 0.0 })).filter(|_| !host.amd),
                // An instance shows its card's, whoever draws it.
                power: Some(Watts(
                    host.tdp * if works || place.profile.is_some() { 0.85 } else { 0.12 },
                )),
                memory_used: None,
                memory_total: None,
                energy_joules: None,
            };
            self.cluster.gpus.push(GpuScrape {
                node: host.node.name.clone(),
                uuid: Some(format!("GPU-{}-{}", host.node.name, place.device)),
                index: Some(place.device as u32),
                mig: place.profile.as_ref().map(|profile| MigInstance {
                    profile: profile.clone(),
                    id: index.to_string(),
                }),
                holders: place.pods.clone(),
                maps_pods: true,
                readings: vec![reading(10), reading(0)],
                ..GpuScrape::default()
            });
        }
    }
}

/// R3's states of what is held, in the order in which one of several sharers decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Working,
    Unknown,
    Idle,
    Stuck,
}

impl State {
    fn of(life: Life) -> Self {
        match life {
            Life::Idle | Life::IdleSince3h | Life::Standby | Life::OptedOut => Self::Idle,
            Life::CrashLoop | Life::ImagePull => Self::Stuck,
            Life::Busy | Life::HalfUsed | Life::Thrashing | Life::Retired | Life::Placeholder => Self::Working,
            Life::JustStarted | Life::BrokenCounters | Life::Silent | Life::Shaky | Life::Loading | Life::Notebook => {
                Self::Unknown
            }
        }
    }
}

fn stem(life: Life) -> &'static str {
    match life {
        Life::Notebook => "notebook",
        Life::Placeholder => "room",
        _ => "server",
    }
}

fn wait(pod: &mut Pod, reason: &str, seconds: i64) {
    pod.phase = PodPhase::Pending;
    pod.ready = ready(false, seconds);
    pod.containers[0].ready = false;
    pod.containers[0].state = Some(ContainerState::Waiting {
        reason: Some(reason.into()),
    });
}
