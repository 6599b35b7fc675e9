//! Workloads of generated fleets: pods, owners, what servers and devices say, and what of it is waste.

use super::{CORES_PER_GPU, DAY, Expected, GIB_PER_GPU, HOUR, Host, Life, Maker, ago, now, ready};
use crate::snapshot::cluster::{
    Autoscaler, Container, ContainerRole, ContainerState, Controller, Exit, Ignore, OwnerRef, Pod, PodPhase, Resources,
};
use crate::snapshot::engine::{EngineReading, EngineScrape, ServerIdentity};
use crate::snapshot::gpu::{GpuReading, GpuScrape, PodName};
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
    pub(super) fn workload(&mut self, host: &mut Host, life: Life, gpus: u64) {
        let left = host.left();
        let shape = match self.dice.below(10) {
            0..3 if left >= 2 * gpus => Shape::Replicas(2),
            3 if left >= 2 * gpus && matches!(life, Life::Idle | Life::Busy) => Shape::Group,
            4 if left >= 2 * gpus && host.parts != 4 && matches!(life, Life::Idle | Life::Busy) => Shape::Split,
            _ => Shape::Replicas(1),
        };
        let pods = if shape == Shape::Replicas(1) { 1 } else { 2 };
        let name = self.name(stem(life));
        let namespace = (*self.dice.pick(NAMESPACES)).to_string();
        // One member at work makes the whole work.
        let partly = life == Life::Idle && pods == 2 && shape != Shape::Group && self.dice.chance(40);
        for index in 0..pods {
            let own = if shape == Shape::Split {
                format!("{name}-{index}")
            } else {
                name.clone()
            };
            let lives = if partly && index == 0 { Life::Busy } else { life };
            self.member(host, &namespace, &own, shape, index, lives, gpus);
            if shape == Shape::Split || index == 0 {
                self.owner(&namespace, &own, shape, life);
            }
        }
        let told = if partly { Life::Busy } else { life };
        match shape {
            Shape::Split => {
                for index in 0..pods {
                    self.truth_of(host, &format!("{name}-{index}"), told, gpus, 1);
                }
            }
            _ => self.truth_of(host, &name, told, gpus, pods),
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
        gpus: u64,
    ) {
        let mut pod = Self::pod(host, owner, gpus);
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
        self.hold(host, &pod, life, gpus);
        self.cluster.pods.push(pod);
    }

    fn hold(&mut self, host: &mut Host, pod: &Pod, life: Life, gpus: u64) {
        let works = match life {
            Life::Busy | Life::BrokenCounters | Life::HalfUsed | Life::Thrashing => true,
            Life::Silent => self.dice.chance(50),
            _ => false,
        };
        for at in host.used..host.used + gpus {
            let device = &mut host.devices[(at / host.parts) as usize];
            device.0.push(PodName {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                container: Some("server".into()),
            });
            device.1 |= works;
        }
        host.used += gpus;
    }

    /// A Running, Ready pod of a Deployment on the host.
    pub(super) fn pod(host: &Host, owner: &str, gpus: u64) -> Pod {
        let devices = [(host.resource.to_string(), gpus)];
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
                    cpu: Some(MilliCores(gpus * CORES_PER_GPU * 1000)),
                    memory: Some(Bytes((gpus * GIB_PER_GPU) << 30)),
                    devices: devices.into_iter().filter(|(_, n)| *n > 0).collect(),
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
            aborted: Some(0.0),
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

    fn truth_of(&mut self, host: &mut Host, name: &str, life: Life, gpus: u64, pods: u64) {
        let held = (gpus * pods) as f64 / host.parts as f64;
        let t = &mut self.truth;
        // A shared GPU is held by whoever came first; the others add nothing to what is held.
        let held_now = if host.parts == 4 {
            if host.used <= gpus * pods { 1.0 } else { 0.0 }
        } else {
            held
        };
        match life {
            Life::Idle | Life::IdleSince3h | Life::Standby | Life::OptedOut => t.idle += held_now,
            Life::CrashLoop | Life::ImagePull => t.stuck += held_now,
            Life::Busy | Life::HalfUsed | Life::Thrashing | Life::Retired | Life::Placeholder => t.working += held_now,
            _ => t.unknown += held_now,
        }
        let (what, share, measured) = match life {
            Life::Idle => ("dark-capacity/idle", 1.0, true),
            Life::IdleSince3h | Life::Standby => ("dark-capacity/idle", 1.0, false),
            Life::CrashLoop | Life::ImagePull => ("dark-capacity/stuck", 1.0, true),
            Life::HalfUsed => ("parallelism-mismatch", (gpus - gpus / 2) as f64 / gpus as f64, true),
            Life::Thrashing => ("kv-pressure", THROWN_BACK, true),
            _ => return,
        };
        if share >= 1.0 {
            host.vacated += gpus * pods;
        }
        t.expected.push(Expected {
            what,
            cluster: self.cluster.name.clone(),
            name: name.into(),
            usd: host.gpu_usd.map(|usd| usd * held * share),
            measured: measured && !host.estimated_price,
        });
    }

    /// The exporter's pod and what it shows of each device.
    pub(super) fn exporter(&mut self, host: &Host) {
        if !host.watched {
            return;
        }
        let name = format!("exporter-{}", host.node.name);
        let mut pod = Self::pod(host, &name, 0);
        pod.namespace = "gpu-operator".into();
        pod.labels.clear();
        pod.owner = Some(OwnerRef {
            group: "apps".into(),
            kind: "DaemonSet".into(),
            name: "dcgm-exporter".into(),
        });
        pod.containers[0].image = Some("nvcr.io/nvidia/k8s/dcgm-exporter:4.5.3".into());
        pod.containers[0].role = Some(ContainerRole::GpuInfrastructure);
        pod.containers[0].requests.cpu = None;
        self.cluster.pods.push(pod);
        for (index, (holders, hot)) in host.devices.iter().enumerate() {
            let reading = |seconds: i64| GpuReading {
                at: now() - SignedDuration::from_secs(seconds),
                gpu_util: Some(Ratio(if *hot { 0.97 } else { 0.0 })),
                gr_engine: Some(Ratio(if *hot { 0.9 } else { 0.0 })),
                sm_active: None,
                tensor: Some(Ratio(if *hot { 0.4 } else { 0.0 })),
                dram: Some(Ratio(if *hot { 0.5 } else { 0.0 })),
                power: Some(Watts(host.tdp * if *hot { 0.85 } else { 0.12 })),
                memory_used: None,
                memory_total: None,
                energy_joules: None,
            };
            self.cluster.gpus.push(GpuScrape {
                node: host.node.name.clone(),
                uuid: Some(format!("GPU-{}-{index}", host.node.name)),
                index: Some(index as u32),
                holders: holders.clone(),
                maps_pods: true,
                readings: vec![reading(10), reading(0)],
                ..GpuScrape::default()
            });
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
