//! What is read, with which verb: one table for `gpuwaste rbac` and for the plan of each run, which `--dry-run` prints.

use super::path::Resource;
use super::{AUTOSCALERS, BUDGETS, NAMESPACES, NODES, POD_METRICS};
use super::{dra, owners, pods};

/// One thing a scan reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    pub resource: Resource<'static>,
    pub verbs: &'static [&'static str],
    /// Only this object.
    pub name: Option<&'static str>,
    /// Exists only cluster-wide.
    pub cluster_wide: bool,
    pub why: &'static str,
}

const fn right(resource: Resource<'static>, verbs: &'static [&'static str], why: &'static str) -> Right {
    Right {
        resource,
        verbs,
        name: None,
        cluster_wide: false,
        why,
    }
}

const fn cluster_wide(resource: Resource<'static>, verbs: &'static [&'static str], why: &'static str) -> Right {
    Right {
        cluster_wide: true,
        ..right(resource, verbs, why)
    }
}

pub(crate) const SERVICES: Resource<'_> = Resource::new("", "v1", "services", "Service");

/// Everything a plain scan reads, beside the owners of pods.
const READS: &[Right] = &[
    cluster_wide(NODES, &["list"], "GPUs, prices, health"),
    Right {
        name: Some("kube-system"),
        ..cluster_wide(NAMESPACES, &["get"], "the cluster's identity, for baselines")
    },
    right(pods::PODS, &["list"], "who holds which GPU, and what runs there"),
    cluster_wide(dra::SLICES, &["list"], "GPUs that DRA drivers publish"),
    cluster_wide(dra::CLASSES, &["list"], "what claims and extended resources stand for"),
    right(dra::CLAIMS, &["list"], "who holds which DRA device"),
    right(AUTOSCALERS, &["list"], "minimum replicas"),
    right(BUDGETS, &["list"], "replicas that must stay"),
    right(SERVICES, &["list"], "finding Prometheus by its labels"),
    right(POD_METRICS, &["list"], "CPU use"),
];

/// Everything a plain scan reads.
pub fn reads() -> Vec<Right> {
    let owners = owners::KINDS.iter().map(|k| {
        let why = if k.custom {
            "owners, and what they say of their servers"
        } else {
            "owners, desired replicas"
        };
        right(k.resource, &["get", "list"], why)
    });
    READS.iter().copied().chain(owners).collect()
}

/// What scraping adds: reading metrics pages of exporter and engine pods.
pub const SCRAPE: Right = right(
    Resource::new("", "v1", "pods/proxy", "Pod"),
    &["get"],
    "metrics of exporters and engines",
);

/// What reaching a store through the API server needs.
pub(crate) const PROXIED_STORE: &str = "services/proxy";

/// The YAML of `gpuwaste rbac`.
#[derive(Clone, Debug, Default)]
pub struct RbacRequest {
    /// Roles in these namespaces; empty: a ClusterRole.
    pub namespaces: Vec<String>,
    pub scrape: bool,
    /// (namespace, service, port) of Prometheus, reached through the service proxy.
    pub prometheus: Vec<(String, String, String)>,
    /// (namespace, name) of ConfigMaps with server settings.
    pub configmaps: Vec<(String, String)>,
    pub cronjob: bool,
}

const ACCOUNT_NAMESPACE: &str = "gpuwaste";

/// Renders roles, bindings and the account they are bound to.
pub fn rbac(request: &RbacRequest) -> String {
    let mut out = String::from("# What gpuwaste reads, and nothing else: get and list only.\n");
    out.push_str(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {ACCOUNT_NAMESPACE}\n---\n"
    ));
    out.push_str(&format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: gpuwaste\n  namespace: {ACCOUNT_NAMESPACE}\n"
    ));
    if request.namespaces.is_empty() {
        role(&mut out, "ClusterRole", "gpuwaste", None, &rules(&reads()));
        if request.scrape {
            role(&mut out, "ClusterRole", "gpuwaste-scrape", None, &rules(&[SCRAPE]));
        }
    } else {
        for namespace in &request.namespaces {
            let mut rights: Vec<Right> = reads().into_iter().filter(|r| !r.cluster_wide).collect();
            if request.scrape {
                rights.push(SCRAPE);
            }
            role(&mut out, "Role", "gpuwaste", Some(namespace), &rules(&rights));
        }
    }
    for (namespace, service, port) in &request.prometheus {
        let rule = format!(
            "- apiGroups: [\"\"]\n  resources: [\"services/proxy\"]\n  resourceNames: [\"{service}:{port}\", \"https:{service}:{port}\", \"{service}\"]\n  verbs: [\"get\"]\n"
        );
        role(
            &mut out,
            "Role",
            &format!("gpuwaste-prometheus-{service}"),
            Some(namespace),
            &rule,
        );
    }
    for (namespace, name) in &request.configmaps {
        let rule = format!(
            "- apiGroups: [\"\"]\n  resources: [\"configmaps\"]\n  resourceNames: [\"{name}\"]\n  verbs: [\"get\"]\n"
        );
        role(
            &mut out,
            "Role",
            &format!("gpuwaste-configmap-{name}"),
            Some(namespace),
            &rule,
        );
    }
    if request.cronjob {
        out.push_str(CRONJOB);
    }
    out
}

fn rules(rights: &[Right]) -> String {
    rights
        .iter()
        .map(|r| {
            let names = r
                .name
                .map(|n| format!("  resourceNames: [\"{n}\"]\n"))
                .unwrap_or_default();
            let verbs: Vec<String> = r.verbs.iter().map(|v| format!("\"{v}\"")).collect();
            format!(
                "- apiGroups: [\"{}\"]\n  resources: [\"{}\"]\n{names}  verbs: [{}]\n",
                r.resource.group,
                r.resource.plural,
                verbs.join(", ")
            )
        })
        .collect()
}

fn role(out: &mut String, kind: &str, name: &str, namespace: Option<&str>, rules: &str) {
    let place = namespace.map(|n| format!("  namespace: {n}\n")).unwrap_or_default();
    let indented: String = rules.lines().map(|l| format!("{l}\n")).collect();
    out.push_str(&format!("---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: {name}\n{place}rules:\n{indented}"));
    out.push_str(&format!(
        "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}Binding\nmetadata:\n  name: {name}\n{place}roleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: {kind}\n  name: {name}\nsubjects:\n- kind: ServiceAccount\n  name: gpuwaste\n  namespace: {ACCOUNT_NAMESPACE}\n"
    ));
}

/// Hourly, small, without any right to write. The image is the user's own: none is published with this command.
const CRONJOB: &str = r#"---
apiVersion: batch/v1
kind: CronJob
metadata:
  name: gpuwaste
  namespace: gpuwaste
spec:
  schedule: "17 * * * *"
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          serviceAccountName: gpuwaste
          restartPolicy: Never
          containers:
          - name: gpuwaste
            image: REGISTRY/gpuwaste:VERSION  # an image of yours with the binary in it
            args: ["scan", "--format", "json"]
            resources:
              requests: {cpu: 100m, memory: 128Mi}
              limits: {memory: 256Mi}
            securityContext:
              allowPrivilegeEscalation: false
              readOnlyRootFilesystem: true
              runAsNonRoot: true
              runAsUser: 65532
              capabilities: {drop: ["ALL"]}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_get_and_list_and_never_the_forbidden_resources() {
        for right in reads().iter().chain([&SCRAPE]) {
            let plural = right.resource.plural;
            assert!(right.verbs.iter().all(|v| matches!(*v, "get" | "list")), "{plural}");
            assert!(!["secrets", "nodes/proxy", "pods/exec", "pods/log", "pods/portforward"].contains(&plural));
        }
    }

    #[test]
    fn namespaced_roles_ask_for_nothing_cluster_wide() {
        let yaml = rbac(&RbacRequest {
            namespaces: vec!["ml".into()],
            scrape: true,
            ..RbacRequest::default()
        });
        assert!(!yaml.contains("ClusterRole") && !yaml.contains("nodes") && yaml.contains("pods/proxy"));
        assert!(
            !rbac(&RbacRequest::default()).contains("pods/proxy"),
            "scraping is granted only where asked for"
        );
    }
}
