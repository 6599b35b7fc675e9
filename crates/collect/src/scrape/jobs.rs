//! Who is asked: exporters and servers with GPUs, each at one port and path.

use crate::engine::{self, IdentityPath, exporters};
use crate::snapshot::cluster::{Cluster, Container, ContainerState, Pod, PodPhase};
use crate::snapshot::constraints::Constraints;
use crate::snapshot::server::{EngineKind, EngineSettings};
use std::collections::BTreeSet;

/// What is read, and how to reach it.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) uid: String,
    pub(super) ip: Option<String>,
    pub(super) node: String,
    pub(super) container: String,
    pub(super) port: u16,
    pub(super) path: &'static str,
    /// Where other versions have it.
    pub(super) other_paths: &'static [&'static str],
    /// Where else its metrics may be, if nothing is at the port: one that is named for them, or the engine's own.
    pub(super) other_ports: Vec<u16>,
    /// One of several pods of which any may answer for all: the Ray cluster.
    pub(super) any_of: Option<String>,
    /// `None`: a GPU exporter.
    pub(super) engine: Option<EngineKind>,
    pub(super) identity: &'static [IdentityPath],
    pub(super) devices: u64,
    /// An exporter that may speak for its node: see [`vouches`].
    pub(super) vouches: bool,
}

pub(super) type Key = (String, String, u16);

pub(super) fn key(job: &Job) -> Key {
    (job.namespace.clone(), job.pod.clone(), job.port)
}

/// Servers first, those with the most GPUs in front: if the budget ends, it ends with the cheap ones.
pub(super) fn jobs(cluster: &Cluster) -> Vec<Job> {
    let mut jobs: Vec<Job> = cluster
        .pods
        .iter()
        .filter(|p| p.phase == PodPhase::Running && p.node.is_some())
        .flat_map(of_pod)
        .collect();
    own_exporters(&mut jobs);
    jobs.sort_by(|a, b| {
        (a.engine.is_none(), std::cmp::Reverse(a.devices), &a.namespace, &a.pod).cmp(&(
            b.engine.is_none(),
            std::cmp::Reverse(b.devices),
            &b.namespace,
            &b.pod,
        ))
    });
    jobs
}

/// Where somebody with a say in the node runs an exporter, a tenant's pod with an exporter's name tells nothing of that node.
fn own_exporters(jobs: &mut Vec<Job>) {
    let own: BTreeSet<String> = jobs
        .iter()
        .filter(|j| j.engine.is_none() && j.vouches)
        .map(|j| j.node.clone())
        .collect();
    jobs.retain(|j| j.engine.is_some() || j.vouches || !own.contains(&j.node));
}

/// Whether what a pod says of its node is more than a tenant's word: it runs in a namespace of operators, or it reaches into the
/// node's files, which Pod Security's *baseline* keeps from tenants; whoever may do that rules the node already. A DaemonSet
/// proves nothing: tenants may make one.
fn vouches(pod: &Pod) -> bool {
    let reaches = |c: &Constraints| c.volumes.iter().any(|kind| kind == "hostPath");
    is_operators(&pod.namespace) || pod.constraints.as_deref().is_some_and(reaches)
}

/// Namespaces that GPU operators, clouds and monitoring are installed to: each part of their names is one of these words
/// ("gpu-operator", "kube-amd-gpu", "gke-managed-system", but not "gpu-research").
fn is_operators(namespace: &str) -> bool {
    const WORDS: &[&str] = &[
        "gpu",
        "nvidia",
        "amd",
        "rocm",
        "intel",
        "habana",
        "dcgm",
        "smi",
        "kube",
        "gmp",
        "gke",
        "aks",
        "eks",
        "openshift",
        "cattle",
        "managed",
        "operator",
        "operators",
        "system",
        "public",
        "device",
        "plugin",
        "exporter",
        "exporters",
        "metrics",
        "monitoring",
        "monitor",
        "prometheus",
        "victoria",
        "grafana",
        "observability",
        "telemetry",
        "stack",
        "user",
        "workload",
        "infra",
    ];
    namespace.split('-').all(|part| WORDS.contains(&part))
}

fn of_pod(pod: &Pod) -> Vec<Job> {
    let devices: u64 = pod.requests().devices.values().sum();
    let job = |container: &Container,
               port: u16,
               path: &'static str,
               engine: Option<EngineKind>,
               other_paths: &'static [&'static str],
               identity: &'static [IdentityPath]| Job {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        ip: pod.ip.clone(),
        node: pod.node.clone().unwrap_or_default(),
        container: container.name.clone(),
        port,
        path,
        other_paths,
        other_ports: Vec::new(),
        any_of: None,
        engine,
        identity,
        devices,
        vouches: engine.is_none() && vouches(pod),
    };
    let claims = !pod.resource_claims.is_empty();
    let mut jobs = Vec::new();
    // A container that does not run answers nobody.
    let runs = |c: &&Container| matches!(c.state, None | Some(ContainerState::Running { .. }));
    for container in pod.containers.iter().filter(runs) {
        if let Some(settings) = container.server.as_ref().filter(|_| devices > 0 || claims) {
            let Some(engine) = engine::facts(settings.engine) else {
                continue;
            };
            let endpoints = &engine.endpoints;
            // The leader of a multi-node group answers for it.
            if settings.headless || (pod.is_follower() && !settings.api_per_node) {
                continue;
            }
            if settings.dynamo || settings.ray {
                // Dynamo's operator names the port "system"; without it the documented one.
                let port = settings
                    .port
                    .or_else(|| named_port(container, "system"))
                    .unwrap_or(8081);
                jobs.push(Job {
                    any_of: pod.labels.get("ray.io/cluster").filter(|_| settings.ray).cloned(),
                    ..job(container, port, "/metrics", Some(engine.kind), &[], &[])
                });
                continue;
            }
            let Some(path) = endpoints.metrics.or(endpoints.identity_paths().next()) else {
                continue;
            };
            if let Some(port) = settings.port.or_else(|| port_of(container, endpoints.port)) {
                let (others, identity) = (endpoints.other_metrics, endpoints.identity);
                let ranks = ports_of_ranks(container, settings, port);
                let other_ports = match ranks.as_slice() {
                    [one] => other_ports(container, endpoints.port, *one),
                    _ => Vec::new(),
                };
                for port in ranks {
                    jobs.push(Job {
                        other_ports: other_ports.clone(),
                        ..job(container, port, path, Some(engine.kind), others, identity)
                    });
                }
            }
        } else if !container.has_devices()
            && let Some(exporter) = exporters::of_container(container)
            && let Some(port) = port_of(container, Some(exporter.port))
        {
            jobs.push(job(container, port, "/metrics", None, &[], &[]));
        }
    }
    jobs
}

/// The most ranks of one container that are asked, each at its port.
const MOST_RANKS: u16 = 64;

/// Where the servers of one container answer: several, where it says so or declares a port for each data-parallel rank.
fn ports_of_ranks(container: &Container, settings: &EngineSettings, first: u16) -> Vec<u16> {
    let declared = |port: u16| container.ports.iter().any(|p| p.number == port);
    let ranks = settings.data_parallel.unwrap_or(1);
    let told = settings.apis.and_then(|n| u16::try_from(n).ok());
    let of_declared = || {
        (0..MOST_RANKS)
            .take_while(|n| *n == 0 || first.checked_add(*n).is_some_and(declared))
            .count() as u16
    };
    let count = told.unwrap_or_else(|| {
        if ranks > 1 {
            of_declared().min(ranks.min(64) as u16)
        } else {
            1
        }
    });
    (0..count.clamp(1, MOST_RANKS))
        .filter_map(|n| first.checked_add(n))
        .collect()
}

/// The declared ports that are named for metrics, and the engine's own, which need not be declared.
fn other_ports(container: &Container, own: Option<u16>, chosen: u16) -> Vec<u16> {
    let named = container
        .ports
        .iter()
        .filter(|p| p.name.as_deref().is_some_and(|n| n.contains("metrics")))
        .map(|p| p.number);
    let mut all: Vec<u16> = Vec::new();
    for port in named.chain(own) {
        if port != chosen && !all.contains(&port) {
            all.push(port);
        }
    }
    all.truncate(MOST_OTHERS);
    all
}

/// Other ports that are asked, at most.
const MOST_OTHERS: usize = 2;

fn named_port(container: &Container, name: &str) -> Option<u16> {
    let port = container.ports.iter().find(|p| p.name.as_deref() == Some(name))?;
    Some(port.number)
}

/// The engine's own port where it is declared; else a declared port that is named for it; else the only one; else the default.
fn port_of(container: &Container, default: Option<u16>) -> Option<u16> {
    let declared = &container.ports;
    let by_name = |names: &[&str]| {
        declared
            .iter()
            .find(|p| p.name.as_deref().is_some_and(|n| names.iter().any(|w| n.contains(w))))
            .map(|p| p.number)
    };
    default
        .filter(|d| declared.iter().any(|p| p.number == *d))
        .or_else(|| by_name(&["metrics"]))
        .or_else(|| by_name(&["http", "api", "serve"]))
        .or_else(|| declared.first().map(|p| p.number))
        .or(default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::cluster::{ContainerRole, Port, Resources};

    fn container(ports: &[(Option<&str>, u16)]) -> Container {
        Container {
            ports: ports
                .iter()
                .map(|(n, p)| Port {
                    name: n.map(String::from),
                    number: *p,
                })
                .collect(),
            ..Container::default()
        }
    }

    #[test]
    fn the_port_is_the_engines_own_where_it_is_declared() {
        assert_eq!(
            port_of(&container(&[(Some("grpc"), 9000), (Some("http"), 8000)]), Some(8000)),
            Some(8000)
        );
        assert_eq!(
            port_of(&container(&[(Some("grpc"), 9000), (Some("metrics"), 8081)]), Some(8000)),
            Some(8081)
        );
        assert_eq!(port_of(&container(&[]), Some(8000)), Some(8000));
        assert_eq!(port_of(&container(&[]), None), None);
    }

    #[test]
    fn a_port_that_is_named_for_metrics_is_asked_where_the_first_has_none() {
        let declared = [
            (Some("http"), 8000),
            (Some("http-metrics"), 9095),
            (None, 9000),
            (Some("metrics-2"), 9096),
        ];
        assert_eq!(other_ports(&container(&declared), Some(8000), 8000), [9095, 9096]);
        // Triton's: 8002, whatever is declared.
        assert_eq!(
            other_ports(&container(&[(Some("http"), 8000)]), Some(8002), 8000),
            [8002]
        );
        assert!(other_ports(&container(&[]), Some(8000), 8000).is_empty());
    }

    #[test]
    fn each_rank_with_a_port_of_its_own_is_asked() {
        let asked = |settings: EngineSettings, ports: &[(Option<&str>, u16)]| {
            ports_of_ranks(&container(ports), &settings, 8200)
        };
        let ranks = |n| EngineSettings {
            data_parallel: Some(n),
            ..EngineSettings::default()
        };
        let declared = [(Some("a"), 8200), (Some("b"), 8201), (Some("c"), 8202)];
        assert_eq!(asked(ranks(3), &declared), [8200, 8201, 8202]);
        assert_eq!(asked(ranks(2), &declared), [8200, 8201]);
        assert_eq!(
            asked(ranks(8), &declared[..1]),
            [8200],
            "one server balances between its ranks"
        );
        assert_eq!(asked(EngineSettings::default(), &declared), [8200]);
        let told = EngineSettings {
            apis: Some(4),
            ..ranks(4)
        };
        assert_eq!(asked(told, &[]).len(), 4);
        let absurd = EngineSettings {
            apis: Some(u32::MAX),
            ..EngineSettings::default()
        };
        assert_eq!(ports_of_ranks(&container(&[]), &absurd, 65_535), [65_535]);
    }

    #[test]
    fn gpu_exporters_are_known_by_their_image_or_container() {
        let asked = |image: &str, name: &str, role: Option<ContainerRole>, ports: &[(Option<&str>, u16)]| {
            let pod = Pod {
                phase: PodPhase::Running,
                node: Some("n".into()),
                containers: vec![Container {
                    name: name.into(),
                    image: Some(image.into()),
                    role,
                    ..container(ports)
                }],
                ..Pod::default()
            };
            of_pod(&pod).first().map(|j| (j.port, j.path, j.engine))
        };
        let infrastructure = Some(ContainerRole::GpuInfrastructure);
        let at = |port| Some((port, "/metrics", None));
        let smi = "docker.io/utkuozdemir/nvidia_gpu_exporter:1.4.1";
        assert_eq!(asked(smi, "x", infrastructure, &[(Some("http"), 9835)]), at(9835));
        assert_eq!(asked(smi, "x", infrastructure, &[]), at(9835));
        assert_eq!(
            asked(smi, "x", infrastructure, &[(Some("http"), 8080)]),
            at(8080),
            "where the chart's values moved it"
        );
        assert_eq!(
            asked("acme/node-tools:7", "nvidia-gpu-exporter", infrastructure, &[]),
            at(9835),
            "the chart's container in an image of one's own"
        );
        assert_eq!(asked("ghcr.io/acme/all-smi:0.26", "x", infrastructure, &[]), at(9090));
        assert_eq!(
            asked("nvcr.io/nvidia/k8s/dcgm-exporter:4", "x", infrastructure, &[]),
            at(9400)
        );
        assert_eq!(
            asked("nvcr.io/nvidia/k8s-device-plugin:v0.17", "x", infrastructure, &[]),
            None
        );
        assert_eq!(asked(smi, "x", None, &[(None, 9835)]), None, "not by its name alone");
    }

    #[test]
    fn a_tenants_exporter_does_not_stand_beside_the_operators() {
        let exporter = |namespace: &str, node: &str, devices: u64| Pod {
            namespace: namespace.into(),
            name: format!("{namespace}-{node}"),
            phase: PodPhase::Running,
            node: Some(node.into()),
            containers: vec![Container {
                image: Some("acme/dcgm-exporter:4".into()),
                role: Some(ContainerRole::GpuInfrastructure),
                requests: Resources {
                    devices: (devices > 0)
                        .then(|| ("nvidia.com/gpu".to_string(), devices))
                        .into_iter()
                        .collect(),
                    ..Resources::default()
                },
                ..Container::default()
            }],
            ..Pod::default()
        };
        let cluster = Cluster {
            pods: vec![
                exporter("gpu-operator", "n1", 0),
                exporter("team-a", "n1", 0),
                exporter("team-a", "n2", 0),
                exporter("team-b", "n3", 4),
                // By what it reaches, whatever its namespace is called.
                Pod {
                    constraints: Some(Box::new(Constraints {
                        volumes: vec!["hostPath".into()],
                        ..Constraints::default()
                    })),
                    ..exporter("platform", "n4", 0)
                },
                exporter("gpu-research", "n4", 0),
            ],
            ..Cluster::default()
        };
        let asked: Vec<String> = jobs(&cluster).into_iter().map(|j| j.pod).collect();
        assert_eq!(
            asked,
            ["gpu-operator-n1", "platform-n4", "team-a-n2"],
            "and none that asks for GPUs itself"
        );
    }

    #[test]
    fn a_server_without_a_gpu_is_not_asked() {
        let server = |devices: u64| Pod {
            phase: PodPhase::Running,
            node: Some("n".into()),
            containers: vec![Container {
                server: Some(Box::new(EngineSettings {
                    engine: Some(EngineKind::Vllm),
                    ..EngineSettings::default()
                })),
                requests: Resources {
                    devices: [("nvidia.com/gpu".to_string(), devices)]
                        .into_iter()
                        .filter(|(_, n)| *n > 0)
                        .collect(),
                    ..Resources::default()
                },
                ..Container::default()
            }],
            ..Pod::default()
        };
        assert_eq!(of_pod(&server(0)).len(), 0);
        assert_eq!(of_pod(&server(2)).len(), 1);
    }

    #[test]
    fn only_paths_without_side_effects_are_ever_asked() {
        for engine in engine::ENGINES.engines() {
            let endpoints = &engine.facts().endpoints;
            for path in endpoints.metrics.into_iter().chain(endpoints.identity_paths()) {
                assert!(
                    ![
                        "/sleep",
                        "/wake_up",
                        "/health_generate",
                        "/shutdown",
                        "/reset_prefix_cache"
                    ]
                    .contains(&path),
                    "{path}"
                );
            }
        }
        let trtllm = engine::facts(Some(EngineKind::Trtllm)).and_then(|f| f.endpoints.metrics);
        assert_eq!(trtllm, Some("/prometheus/metrics"), "its /metrics drains a queue");
    }
}
