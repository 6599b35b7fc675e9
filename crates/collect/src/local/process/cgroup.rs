//! Who started a process, as its cgroup tells.

/// What a cgroup path says about who started a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Keeper {
    /// The pod's uid.
    Kubernetes(String),
    /// The job's id.
    Slurm(String),
    /// Docker, Podman or containerd.
    Container,
    /// The unit's name, without ".service".
    Systemd(String),
    #[default]
    Nobody,
}

/// Reads /proc/PID/cgroup, v1 and v2: `12:devices:/kubepods/…` or `0::/system.slice/…`.
pub(super) fn keeper(text: &str) -> Keeper {
    let paths: Vec<&str> = text.lines().filter_map(|l| l.splitn(3, ':').nth(2)).collect();
    let parts = || paths.iter().flat_map(|p| p.split('/'));
    if paths.iter().any(|p| p.contains("kubepods")) {
        let uid = parts().find_map(pod_uid);
        return uid.map_or(Keeper::Container, Keeper::Kubernetes);
    }
    if paths.iter().any(|p| p.contains("slurm"))
        && let Some(job) = parts().find_map(|p| p.strip_prefix("job_"))
    {
        return Keeper::Slurm(job.into());
    }
    if parts().any(is_container) {
        return Keeper::Container;
    }
    let unit = parts().filter_map(|p| p.strip_suffix(".service")).rfind(|u| {
        !u.starts_with("user@") && !matches!(*u, "ssh" | "sshd" | "docker" | "containerd" | "cron" | "slurmd")
    });
    unit.map_or(Keeper::Nobody, |u| Keeper::Systemd(u.into()))
}

/// "kubepods-burstable-pod1234_abcd.slice", "pod1234-abcd".
fn pod_uid(part: &str) -> Option<String> {
    let part = part.trim_end_matches(".slice");
    let uid = part
        .rsplit_once("pod")
        .filter(|(before, _)| before.is_empty() || before.ends_with('-'))?
        .1;
    let plain = uid.replace('_', "-");
    (plain.len() >= 32 && plain.chars().all(|c| c.is_ascii_hexdigit() || c == '-')).then_some(plain)
}

/// "docker-<64 hex>.scope", "libpod-<64 hex>.scope", "cri-containerd-<64 hex>.scope", or the bare id below "docker".
fn is_container(part: &str) -> bool {
    let id = part.trim_end_matches(".scope").rsplit('-').next().unwrap_or_default();
    id.len() == 64 && id.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_of_both_versions_tell_the_keeper() {
        let hex = "0123456789abcdef".repeat(4);
        for (text, expected) in [
            ("0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12345678_1234_1234_1234_123456789abc.slice/cri-containerd-x.scope".to_string(), Keeper::Kubernetes("12345678-1234-1234-1234-123456789abc".into())),
            ("11:memory:/kubepods/besteffort/pod12345678-1234-1234-1234-123456789abc/abc\n0::/".into(), Keeper::Kubernetes("12345678-1234-1234-1234-123456789abc".into())),
            ("0::/system.slice/slurmstepd.scope/job_4711/step_0/user/task_0".into(), Keeper::Slurm("4711".into())),
            ("9:devices:/slurm/uid_1000/job_12/step_batch".into(), Keeper::Slurm("12".into())),
            (format!("0::/system.slice/docker-{hex}.scope"), Keeper::Container),
            (format!("4:cpu:/docker/{hex}"), Keeper::Container),
            (format!("0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{hex}.scope/container"), Keeper::Container),
            ("0::/system.slice/vllm.service".into(), Keeper::Systemd("vllm".into())),
            ("0::/user.slice/user-0.slice/session-3.scope".into(), Keeper::Nobody),
            ("0::/system.slice/ssh.service".into(), Keeper::Nobody),
            (String::new(), Keeper::Nobody),
        ] {
            assert_eq!(keeper(&text), expected, "{text}");
        }
    }
}
