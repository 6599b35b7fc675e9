//! Containers that are no GPU server, whatever their image's name or metrics suggest.

use super::engine::Routers;
use super::exporters;
use super::image::Image;
use super::shell::Ran;
use crate::snapshot::cluster::ContainerRole;

/// Plugins and drivers: they see GPUs and hold none, as exporters do.
const INFRASTRUCTURE: &[&str] = &[
    "k8s-device-plugin",
    "gpu-feature-discovery",
    "node-feature-discovery",
    "k8s-mig-manager",
    "mps-control-daemon",
    "gpu-driver",
    "/driver",
    "container-toolkit",
    "dcgm",
    "gpu-operator-validator",
    "k8s-dra-driver",
    "nvidia-gpu-device-plugin",
    "rocm/k8s-device-plugin",
    "amd-gpu-operator",
    "gke-metadata-server",
    "k8s-driver-manager",
    "nvidia-fs",
];

/// Routers, pickers, simulators, proxies of no engine's own: they carry servers' names or metrics without a GPU behind them.
const ROUTING: &[&str] = &[
    "llm-d-inference-sim",
    "inference-sim",
    "llm-d-routing-sidecar",
    "routing-sidecar",
    "llm-d-inference-scheduler",
    "inference-scheduler",
    "/epp",
    "litellm",
    "envoyproxy",
    "istio/proxyv2",
    "proxyv2",
    "queue-proxy",
    "kserve/agent",
    "kserve/router",
    "storage-initializer",
    "lora-syncer",
    "lora-adapter-syncer",
    "body-based-routing",
    "/bbr",
    "kserve-router",
    "open-webui",
    "nginx",
    "semantic-router",
    "ai-gateway",
    "kube-rbac-proxy",
];

/// Parts of NVIDIA Dynamo that only route.
const DYNAMO_ROUTERS: &[&str] = &[
    "dynamo.frontend",
    "dynamo.planner",
    "dynamo.router",
    "dynamo.global_router",
];

const NOTEBOOK: &[&str] = &[
    "jupyter",
    "notebook-server",
    "code-server",
    "codeserver",
    "rstudio",
    "kubeflownotebookswg",
];

pub(super) fn of(image: &Image, ran: &[Ran], routers: &[&Routers]) -> Option<ContainerRole> {
    let has = |names: &[&str]| {
        names
            .iter()
            .any(|n| image.repository.contains(n) || (n.starts_with('/') && image.repository.ends_with(n)))
    };
    if exporters::is_image(&image.repository) || has(INFRASTRUCTURE) {
        return Some(ContainerRole::GpuInfrastructure);
    }
    if has(ROUTING) || routers.iter().any(|r| has(r.images)) {
        return Some(ContainerRole::Routing);
    }
    if image.base() == "pause" || image.base().starts_with("pause-") || image.contains("overprovision") {
        return Some(ContainerRole::Placeholder);
    }
    let commands: Vec<&[String]> = ran.iter().map(|r| r.words.as_slice()).collect();
    let program = |name: &str| {
        commands
            .iter()
            .any(|words| words.iter().take(6).any(|w| w.rsplit('/').next() == Some(name)))
    };
    // In an image of one's own, and nothing beside it.
    if let [words] = commands.as_slice()
        && let Some(name) = words.first().and_then(|w| w.rsplit('/').next())
        && exporters::is_program(name)
    {
        return Some(ContainerRole::GpuInfrastructure);
    }
    let serves_too = |module: &str| routers.iter().any(|r| r.serving_modules.contains(&module));
    let module = |name: &str| {
        commands.iter().any(|words| {
            words
                .windows(2)
                .any(|w| w[0] == "-m" && w[1].starts_with(name) && !serves_too(&w[1]))
        })
    };
    let only_routes = |routers: &Routers| {
        let follows = |(name, word): &(&str, &str)| {
            let after = |w: &[String]| w[0].rsplit('/').next() == Some(name) && w[1] == *word;
            commands.iter().any(|words| words.windows(2).any(after))
        };
        let script = |name: &&str| {
            commands
                .iter()
                .any(|words| words.iter().take(3).any(|w| w.ends_with(*name)))
        };
        routers.programs.iter().any(|p| program(p))
            || routers.modules.iter().any(|m| module(m))
            || routers.commands.iter().any(follows)
            || routers.scripts.iter().any(script)
    };
    if DYNAMO_ROUTERS.iter().any(|m| module(m)) || routers.iter().any(|r| only_routes(r)) {
        return Some(ContainerRole::Routing);
    }
    if has(NOTEBOOK)
        || program("jupyter")
        || program("jupyter-lab")
        || program("jupyterhub-singleuser")
        || program("start-notebook.sh")
    {
        return Some(ContainerRole::Notebook);
    }
    let trains = [
        "torchrun",
        "deepspeed",
        "accelerate",
        "horovodrun",
        "llamafactory-cli",
        "axolotl",
    ]
    .iter()
    .any(|n| program(n));
    if trains || module("torch.distributed") || module("accelerate") || module("deepspeed") {
        return Some(ContainerRole::Training);
    }
    None
}
