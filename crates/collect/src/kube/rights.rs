//! What is read, with which verb: one table for the collector's documentation, `--dry-run` and `gpuwaste rbac`.

/// One thing a scan reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    pub group: &'static str,
    pub resource: &'static str,
    pub verbs: &'static [&'static str],
    /// Only this object.
    pub name: Option<&'static str>,
    /// Exists only cluster-wide.
    pub cluster_wide: bool,
    /// Where it is read.
    pub path: &'static str,
    pub why: &'static str,
}

const fn right(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    path: &'static str,
    why: &'static str,
) -> Right {
    Right {
        group,
        resource,
        verbs,
        name: None,
        cluster_wide: false,
        path,
        why,
    }
}

/// Everything a plain scan reads.
pub const READS: &[Right] = &[
    Right {
        cluster_wide: true,
        ..right("", "nodes", &["list"], "/api/v1/nodes", "GPUs, prices, health")
    },
    Right {
        name: Some("kube-system"),
        cluster_wide: true,
        ..right(
            "",
            "namespaces",
            &["get"],
            "/api/v1/namespaces/kube-system",
            "the cluster's identity, for baselines",
        )
    },
    right(
        "",
        "pods",
        &["list"],
        "/api/v1/pods",
        "who holds which GPU, and what runs there",
    ),
    Right {
        cluster_wide: true,
        ..right(
            "resource.k8s.io",
            "resourceslices",
            &["list"],
            "/apis/resource.k8s.io/v1/resourceslices",
            "GPUs that DRA drivers publish",
        )
    },
    Right {
        cluster_wide: true,
        ..right(
            "resource.k8s.io",
            "deviceclasses",
            &["list"],
            "/apis/resource.k8s.io/v1/deviceclasses",
            "what claims and extended resources stand for",
        )
    },
    right(
        "resource.k8s.io",
        "resourceclaims",
        &["list"],
        "/apis/resource.k8s.io/v1/resourceclaims",
        "who holds which DRA device",
    ),
    right(
        "apps",
        "replicasets",
        &["get", "list"],
        "/apis/apps/v1/replicasets",
        "owners",
    ),
    right(
        "apps",
        "deployments",
        &["get", "list"],
        "/apis/apps/v1/deployments",
        "owners, desired replicas",
    ),
    right(
        "apps",
        "statefulsets",
        &["get", "list"],
        "/apis/apps/v1/statefulsets",
        "owners, desired replicas",
    ),
    right("batch", "jobs", &["get", "list"], "/apis/batch/v1/jobs", "owners"),
    right(
        "batch",
        "cronjobs",
        &["get", "list"],
        "/apis/batch/v1/cronjobs",
        "owners",
    ),
    right(
        "leaderworkerset.x-k8s.io",
        "leaderworkersets",
        &["get", "list"],
        "/apis/leaderworkerset.x-k8s.io/v1/leaderworkersets",
        "multi-node groups",
    ),
    right(
        "argoproj.io",
        "rollouts",
        &["get", "list"],
        "/apis/argoproj.io/v1alpha1/rollouts",
        "owners, desired replicas",
    ),
    right(
        "jobset.x-k8s.io",
        "jobsets",
        &["get", "list"],
        "/apis/jobset.x-k8s.io/v1alpha2/jobsets",
        "owners",
    ),
    right(
        "ray.io",
        "rayservices",
        &["get", "list"],
        "/apis/ray.io/v1/rayservices",
        "the model of Ray Serve, which its pods do not name",
    ),
    right(
        "serving.kserve.io",
        "inferenceservices",
        &["get", "list"],
        "/apis/serving.kserve.io/v1beta1/inferenceservices",
        "the model behind a mount",
    ),
    right(
        "serving.kserve.io",
        "llminferenceservices",
        &["get", "list"],
        "/apis/serving.kserve.io/v1alpha1/llminferenceservices",
        "the model behind a mount",
    ),
    right(
        "kaito.sh",
        "workspaces",
        &["get", "list"],
        "/apis/kaito.sh/v1beta1/workspaces",
        "the preset's model",
    ),
    right(
        "autoscaling",
        "horizontalpodautoscalers",
        &["list"],
        "/apis/autoscaling/v2/horizontalpodautoscalers",
        "minimum replicas",
    ),
    right(
        "policy",
        "poddisruptionbudgets",
        &["list"],
        "/apis/policy/v1/poddisruptionbudgets",
        "replicas that must stay",
    ),
    right(
        "",
        "services",
        &["list"],
        "/api/v1/services",
        "finding Prometheus by its labels",
    ),
    right(
        "metrics.k8s.io",
        "pods",
        &["list"],
        "/apis/metrics.k8s.io/v1beta1/pods",
        "CPU use",
    ),
];

/// What scraping adds: reading metrics pages of exporter and engine pods.
pub const SCRAPE: Right = right(
    "",
    "pods/proxy",
    &["get"],
    "/api/v1/namespaces/NAMESPACE/pods/POD:PORT/proxy/metrics",
    "metrics of exporters and engines",
);

/// Every read of a scan, for `--dry-run`: "GET /api/v1/nodes?limit=500  (list nodes)".
pub fn dry_run(scrape: bool) -> Vec<String> {
    let line = |r: &Right| {
        format!(
            "GET {}{}  # {} {}: {}",
            r.path,
            if r.verbs.contains(&"list") { "?limit=500" } else { "" },
            r.verbs.join("/"),
            r.resource,
            r.why
        )
    };
    let mut lines = vec!["GET /version  # no right needed".to_string()];
    lines.extend(READS.iter().map(line));
    if scrape {
        lines.push(line(&SCRAPE));
    }
    lines
}

/// Kinds that the owner climb can ask for are all in the table.
#[cfg(test)]
fn owner_resources() -> Vec<&'static str> {
    super::owners::KINDS.iter().map(|k| k.plural).collect()
}

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
        let rights: Vec<&Right> = READS.iter().collect();
        role(&mut out, "ClusterRole", "gpuwaste", None, &rules(&rights));
        if request.scrape {
            role(&mut out, "ClusterRole", "gpuwaste-scrape", None, &rules(&[&SCRAPE]));
        }
    } else {
        for namespace in &request.namespaces {
            let mut rights: Vec<&Right> = READS.iter().filter(|r| !r.cluster_wide).collect();
            if request.scrape {
                rights.push(&SCRAPE);
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

fn rules(rights: &[&Right]) -> String {
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
                r.group,
                r.resource,
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
        for right in READS.iter().chain([&SCRAPE]) {
            assert!(
                right.verbs.iter().all(|v| matches!(*v, "get" | "list")),
                "{}",
                right.resource
            );
            assert!(!["secrets", "nodes/proxy", "pods/exec", "pods/log", "pods/portforward"].contains(&right.resource));
        }
    }

    #[test]
    fn every_owner_kind_is_granted() {
        for resource in owner_resources() {
            assert!(
                READS
                    .iter()
                    .any(|r| r.resource == resource && r.verbs == ["get", "list"]),
                "{resource}"
            );
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
