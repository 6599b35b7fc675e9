//! Commands for a POSIX shell. Whatever a tenant can name is one quoted word.

pub(super) use crate::text::plural;
use crate::text::shell_word;

/// Of two Ready replicas the one with the lower cost goes first (ReplicaSet's own rule, since Kubernetes 1.22).
pub(super) const COST_ON: &str = "controller.kubernetes.io/pod-deletion-cost=-1000";
pub(super) const COST_OFF: &str = "controller.kubernetes.io/pod-deletion-cost-";

/// `kubectl` for the context of this name.
#[derive(Clone, Copy)]
pub(super) struct Kubectl<'a>(pub(super) &'a str);

/// Flags are ours and names are not: a name never becomes a flag.
fn word(text: &str) -> String {
    let flag = text.starts_with("--") || text == "-n" || text == "-f";
    if flag { text.to_string() } else { shell_word(text) }
}

/// Slurm's own tool: one node, and what it becomes.
pub(super) fn scontrol(node: &str, what: &[&str]) -> String {
    format!(
        "scontrol update {} {}",
        shell_word(&format!("NodeName={node}")),
        what.join(" ")
    )
}

/// It fails where a job is on the node, or where that cannot be asked.
pub(super) fn no_job_on(node: &str) -> String {
    format!(
        "jobs=$(squeue --noheader --nodelist {}) && test -z \"$jobs\"",
        shell_word(node)
    )
}

pub(super) fn gpus(gpus: f64) -> String {
    let shown = format!("{gpus:.2}");
    let shown = shown.trim_end_matches('0').trim_end_matches('.');
    match shown {
        "0" => "no GPU".into(),
        "1" => "1 GPU".into(),
        n => format!("{n} GPUs"),
    }
}

impl Kubectl<'_> {
    pub(super) fn of(self, words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|w| word(w)).collect();
        format!("kubectl --context={} {}", shell_word(self.0), words.join(" "))
    }

    /// It does nothing where somebody has changed the number meanwhile.
    pub(super) fn scale(self, namespace: &str, kind: &str, name: &str, from: u64, to: u64) -> String {
        let (current, replicas) = (format!("--current-replicas={from}"), format!("--replicas={to}"));
        self.of(&["-n", namespace, "scale", kind, name, &current, &replicas])
    }

    fn ready(self, namespace: &str, kind: &str, name: &str, replicas: u64) -> String {
        let ready = format!("--for=jsonpath={{.status.readyReplicas}}={replicas}");
        // Single quotes: the shell must not read the braces.
        let head = self.of(&["-n", namespace, "wait", kind, name]);
        format!("{head} '{ready}' --timeout=60m")
    }

    /// A second one, then the old one goes: no eviction, and never fewer replicas than before.
    pub(super) fn raise(self, namespace: &str, deployment: &str, pod: &str, replicas: u64) -> Vec<String> {
        vec![
            self.of(&["-n", namespace, "annotate", "pod", pod, COST_ON, "--overwrite"]),
            self.scale(namespace, "deployment", deployment, replicas, replicas + 1),
            self.ready(namespace, "deployment", deployment, replicas + 1),
            self.scale(namespace, "deployment", deployment, replicas + 1, replicas),
            self.of(&["-n", namespace, "wait", "pod", pod, "--for=delete", "--timeout=10m"]),
        ]
    }

    /// The new ones are raised by its own rollout, then the old ones go. Where somebody has changed its replicas meanwhile, nothing
    /// happens: the first command fails.
    pub(super) fn tier(
        self,
        namespace: &str,
        deployment: &str,
        replicas: u64,
        patch: &str,
        pods: &[&str],
    ) -> Vec<String> {
        let change = self.of(&["-n", namespace, "patch", "deployment", deployment, "--type=strategic"]);
        let mut commands = vec![
            self.scale(namespace, "deployment", deployment, replicas, replicas),
            format!("{change} -p {}", shell_word(patch)),
        ];
        // An old one goes once a new one is Ready: a model may take long to load.
        let gone = |pod: &&str| self.of(&["-n", namespace, "wait", "pod", pod, "--for=delete", "--timeout=60m"]);
        commands.extend(pods.iter().map(gone));
        commands.push(self.ready(namespace, "deployment", deployment, replicas));
        commands
    }

    /// The eviction API asks the disruption budget.
    pub(super) fn evict(self, namespace: &str, pod: &str, kind: &str, owner: &str, ready: u64) -> Vec<String> {
        let body = serde_json::json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace},
        });
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction");
        let create = self.of(&["create", "--raw", &path, "-f"]);
        let kind = kind.to_lowercase();
        vec![
            format!("printf '%s' {} | {create} -", shell_word(&body.to_string())),
            // One that is made anew under its old name counts as gone.
            self.of(&["-n", namespace, "wait", "pod", pod, "--for=delete", "--timeout=10m"]),
            self.ready(namespace, &kind, owner, ready),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_does_anything_but_name() {
        let odd = "x'; rm -rf / #$(reboot)`id`";
        let kubectl = Kubectl(odd);
        let all = [
            kubectl.raise(odd, odd, odd, 2),
            kubectl.evict(odd, odd, odd, odd, 2),
            kubectl.tier(odd, odd, 2, odd, &[odd]),
            vec![kubectl.of(&["cordon", odd]), kubectl.of(&["cordon", "-oyaml"])],
            vec![scontrol(odd, &["State=DRAIN"]), no_job_on(odd)],
        ];
        for command in all.iter().flatten() {
            let words = shlex::split(command).unwrap_or_default();
            let loose = words
                .iter()
                .any(|w| matches!(w.as_str(), "rm" | "reboot" | "/" | "-oyaml"));
            assert!(!words.is_empty() && !loose, "{command}");
            assert!(command.lines().nth(1).is_none_or(str::is_empty), "{command}");
        }
        assert_eq!(
            Kubectl("prod").scale("ml", "deployment", "chat", 2, 3),
            "kubectl --context=prod -n ml scale deployment chat --current-replicas=2 --replicas=3"
        );
    }
}
