#!/usr/bin/env python3
"""What a plan costs from a snapshot file to its last line; prints, asserts no time. The fleet is made here, the same in every run: three
kinds of cards, DaemonSets, pods without GPUs, Deployments of all sizes, every sixth of them spread over three zones.

usage: cargo build --release && python3 tests/bench/plan.py [nodes ...]

GPUWASTE names another binary; RUNS another number of runs; ARGS what else plan is told ("--headroom node").
"""
import json, os, pathlib, random, subprocess, sys, tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "testbed")]
from bench import BINARY, line, several

RUNS = int(os.environ.get("RUNS", "3"))
SINCE, TAKEN = "2026-10-20T00:00:00Z", "2026-11-20T12:00:00Z"
ZONE = "topology.kubernetes.io/zone"
KINDS = [("p5.48xlarge", "NVIDIA-H100-80GB-HBM3", 192_000, 2000, 60), ("g6e.48xlarge", "NVIDIA-L40S", 192_000, 1500, 25), ("p4de.24xlarge", "NVIDIA-A100-SXM4-80GB", 96_000, 1100, 15)]


def fleet(count, seed=1):
    dice = random.Random(seed)
    nodes, pods, owners, members, left = [], [], [], {}, {}
    for i in range(count):
        kind, product, cpu, memory, _ = dice.choices(KINDS, [k[4] for k in KINDS])[0]
        amounts = {"cpu": cpu, "memory": memory << 30, "pods": 110, "devices": {"nvidia.com/gpu": 8}}
        name = f"node-{i:04}"
        labels = {"node.kubernetes.io/instance-type": kind, "topology.kubernetes.io/region": "us-east-1", ZONE: f"us-east-1{'abc'[i % 3]}", "nvidia.com/gpu.product": product,
                  "karpenter.sh/capacity-type": "on-demand" if dice.random() < 0.9 else "reserved", "karpenter.sh/nodepool": kind.split(".")[0], "kubernetes.io/hostname": name}
        nodes.append({"name": name, "created_at": SINCE, "provider": "aws", "unschedulable": False, "labels": labels, "ready": {"status": True, "since": SINCE}, "capacity": amounts, "allocatable": amounts})
        left[name] = [8, cpu, memory]

    def pod(name, node, owner, gpus, cpu, memory, more=None):
        amounts = {"cpu": cpu, "memory": memory << 30, **({"devices": {"nvidia.com/gpu": gpus}} if gpus else {})}
        server = {"name": "server", "kind": "main", "image": "vllm/vllm-openai:v0.11.0" if gpus else "agent:1", "ready": True, "restarts": 0, "requests": amounts, "limits": amounts, "state": {"running": {"since": SINCE}}}
        pods.append({"namespace": "ml", "name": name, "uid": name, "node": node, "phase": "Running", "created_at": SINCE, "started_at": SINCE, "labels": {"pod-template-hash": "h"}, "owner": owner, "containers": [server],
                     "ready": {"status": True, "since": SINCE}, "scheduled": {"status": True, "since": SINCE}, "constraints": more or {}})
        for at, amount in enumerate((gpus, cpu, memory)):
            left[node][at] -= amount

    for node in left:
        for agent in ("exporter", "plugin", "logs", "mesh"):
            pod(f"{agent}-{node}", node, {"group": "apps", "kind": "DaemonSet", "name": agent}, 0, 250, 1)
    fill = {node: dice.randint(0, 8) for node in left}
    number = misses = 0
    # Until a few sizes in a row find no room.
    while misses < 200:
        gpus, cores = dice.choice([1, 1, 1, 2, 2, 4, 8]), dice.choice([4, 8, 12, 16, 24])
        kind = dice.choice(KINDS)[0]
        cpu, memory = gpus * cores * 1000, gpus * dice.choice([40, 60, 100, 160])
        fits = lambda n: fill[n] > 0 and left[n][0] >= gpus and left[n][1] >= cpu and left[n][2] >= memory
        free = [n["name"] for n in nodes if n["labels"]["node.kubernetes.io/instance-type"] == kind and fits(n["name"])]
        if not free:
            misses += 1
            continue
        misses = 0
        on = dice.sample(free, min(len(free), dice.randint(1, 6)))
        name, spread = f"server-{number}", {}
        if number % 6 == 0:
            members[number] = [f"ml/{name}-h-{i}" for i in range(len(on))]
            spread = {"spread": [{"topology_key": ZONE, "max_skew": 1, "selection": len(members) - 1, "whole": True}]}
        for i, node in enumerate(on):
            pod(f"{name}-h-{i}", node, {"group": "apps", "kind": "ReplicaSet", "name": f"{name}-h"}, gpus, cpu, memory, spread)
            fill[node] -= gpus
        owners.append({"group": "apps", "kind": "Deployment", "namespace": "ml", "name": name, "replicas": len(on), "rollout": {"max_unavailable": "25%"}})
        number += 1
    cluster = {"name": "big", "uid": "50d3348b-23f9-4b92-a101-18063d835f88", "version": "v1.36.3", "nodes": nodes, "pods": pods, "pods_read": {"complete": True}, "controllers": owners, "autoscalers": [],
               "disruption_budgets": [], "selections": [{"pods": m, "elsewhere": False} for m in members.values()], "other_domains": {}}
    return {"schema": 1, "tool_version": "0.1.0", "taken_at": TAKEN, "observe_seconds": 10, "clusters": [cluster], "sources": [{"kind": "kubernetes", "name": "big", "status": "ok", "detail": "v1.36.3"}]}


def main():
    for count in [int(n) for n in sys.argv[1:]] or [100, 1000]:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "fleet.json"
            made = fleet(count)
            path.write_text(json.dumps(made))
            command = [BINARY, "plan", "--snapshot", path, "-q", "--format", "json", *os.environ.get("ARGS", "").split()]
            t = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["totals"]
            told = f"; saves {t['saved_usd_per_hour']:.2f} of at most {t['at_most_usd_per_hour']:.2f} $/h, {t['moves']} moves, {t['nodes_returned']} nodes go"
            line(f"plan, {count} nodes, {len(made['clusters'][0]['pods'])} pods", several(command, "10 s, 400 MiB" if count >= 1000 else "0.5 s", RUNS), told)


if __name__ == "__main__":
    main()
