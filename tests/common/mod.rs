//! Runs the binary from outside, and makes snapshots to feed it.

// Each test binary uses its own part of this.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The exit code is this one, nothing panicked, and stderr names every word.
    #[track_caller]
    pub(crate) fn expect(self, code: i32, words: &[&str]) -> Self {
        assert!(!self.err.contains("panicked"), "{}", self.err);
        assert_eq!(self.code, code, "{}\n{}", self.err, self.out);
        for word in words {
            assert!(self.err.contains(word), "'{word}' is not in: {}", self.err);
        }
        self
    }
}

/// The binary in a folder of its own, so that no policy file or kubeconfig of this machine is read.
pub(crate) fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpuwaste"));
    command
        .args(args)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("KUBECONFIG", folder.join("no-kubeconfig"))
        .stdin(Stdio::null());
    command
}

pub(crate) fn finish(mut command: Command, stdin: Option<&[u8]>) -> Done {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if stdin.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().expect("the binary starts");
    if let Some(text) = stdin {
        // A program that refuses early closes its end; that is its right.
        let _ = child.stdin.take().expect("a pipe").write_all(text);
    }
    let output = child.wait_with_output().expect("the binary ends");
    Done {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

pub(crate) fn run(folder: &Path, args: &[&str]) -> Done {
    finish(command(folder, args), None)
}

/// The demo as `collect` writes it: a real snapshot that tests change in one place.
pub(crate) fn demo(folder: &Path) -> Value {
    let path = folder.join("demo.json");
    run(folder, &["collect", "--demo", "-o", "demo.json"]).expect(0, &[]);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

pub(crate) fn save(folder: &Path, name: &str, snapshot: &Value) {
    std::fs::write(folder.join(name), snapshot.to_string()).unwrap();
}

/// Scans a snapshot that holds this.
pub(crate) fn scan(folder: &Path, snapshot: &Value, more: &[&str]) -> Done {
    save(folder, "case.json", snapshot);
    let mut args = vec!["scan", "--snapshot", "case.json", "--format", "json"];
    args.extend_from_slice(more);
    run(folder, &args)
}

pub(crate) const TAKEN: &str = "2026-11-24T12:00:00Z";

/// One cluster of two H100 nodes: one all free, one held by a server that has worked for ten days.
pub(crate) fn two_nodes() -> Value {
    let node = |name: &str| {
        let resources =
            json!({"cpu": 192_000, "memory": 2_000_000_000_000_u64, "pods": 110, "devices": {"nvidia.com/gpu": 8}});
        json!({
            "name": name, "created_at": "2026-10-01T00:00:00Z", "provider": "aws", "unschedulable": false,
            "labels": {"node.kubernetes.io/instance-type": "p5.48xlarge", "topology.kubernetes.io/region": "us-east-1",
                       "karpenter.sh/capacity-type": "on-demand", "karpenter.sh/nodepool": "h100"},
            "ready": {"status": true, "since": "2026-10-01T00:05:00Z"}, "capacity": resources, "allocatable": resources,
        })
    };
    let since = "2026-11-14T12:00:00Z";
    let server = json!({
        "name": "server", "kind": "main", "image": "vllm/vllm-openai:v0.11.0", "ready": true, "restarts": 0,
        "requests": {"cpu": 64_000, "devices": {"nvidia.com/gpu": 8}}, "limits": {"devices": {"nvidia.com/gpu": 8}},
        "ports": [{"name": "http", "number": 8000}], "state": {"running": {"since": since}},
        "server": {"engine": "vllm", "engine_version": "0.11.0", "model": "meta-llama/Llama-3.3-70B-Instruct", "tensor_parallel": 8},
    });
    let pod = json!({
        "namespace": "ml", "name": "web-0", "uid": "u1", "node": "held-1", "phase": "Running", "created_at": since, "started_at": since,
        "owner": {"group": "apps", "kind": "StatefulSet", "name": "web"}, "containers": [server],
        "ready": {"status": true, "since": since}, "scheduled": {"status": true, "since": since},
    });
    let cluster = json!({
        "name": "one", "uid": "50d3348b-23f9-4b92-a101-18063d835f88", "version": "v1.36.3",
        "nodes": [node("free-1"), node("held-1")], "pods": [pod],
        "pods_read": {"complete": true}, "autoscalers": [], "disruption_budgets": [],
    });
    json!({
        "schema": 1, "tool_version": "0.1.0", "taken_at": TAKEN, "observe_seconds": 10, "clusters": [cluster],
        "sources": [{"kind": "kubernetes", "name": "one", "status": "ok", "detail": "v1.36.3"}],
    })
}

pub(crate) fn total(report: &Value, name: &str) -> f64 {
    report["totals"][name]
        .as_f64()
        .unwrap_or_else(|| panic!("{name} in {}", report["totals"]))
}

pub(crate) fn same(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}
