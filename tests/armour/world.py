"""One small fleet in which every read matters: without a fault it has waste of several kinds, at risk and opted out, all of it measured where it can be."""
import contextlib, json, os, pathlib, subprocess, sys, tempfile, time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import fake
from fake import stamp

BINARY = os.environ.get("GPUWASTE", "target/debug/gpuwaste")
NOW = time.time()
DAY = 86400
GPU = 55.04 / 8  # p5.48xlarge, us-east-1, on demand, as the catalogue has it


def node(name, gpus=8, kind="p5.48xlarge", pool="h100", labels=None):
    labels = {"node.kubernetes.io/instance-type": kind, "topology.kubernetes.io/region": "us-east-1", "karpenter.sh/capacity-type": "on-demand", "karpenter.sh/nodepool": pool, **(labels or {})}
    amounts = {"cpu": "192", "memory": "2000Gi", "pods": "110", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    return {"kind": "Node", "metadata": {"name": name, "uid": f"uid-{name}", "creationTimestamp": stamp(NOW - 30 * DAY), "labels": labels},
            "spec": {"providerID": f"aws:///us-east-1a/i-{name}"},
            "status": {"capacity": amounts, "allocatable": amounts, "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp(NOW - 30 * DAY)}]}}


def pod(name, on, gpus=1, ns="ml", image="vllm/vllm-openai:v0.11.0", args=("--model", "Qwen/Qwen2.5-7B-Instruct"), owner=None, labels=None, crash=False, port=8000, annotations=None, days=6, **spec):
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}, "requests": {"cpu": "8", "memory": "32Gi"}} if gpus else {"requests": {"cpu": "1"}}
    meta = {"name": name, "namespace": ns, "uid": f"uid-{ns}-{name}", "creationTimestamp": stamp(NOW - days * DAY), "labels": labels or {}, "annotations": annotations or {}}
    if owner:
        meta["ownerReferences"] = [{"apiVersion": owner[0], "kind": owner[1], "name": owner[2], "uid": "0", "controller": True}]
    container = {"name": "server", "image": image, "args": list(args), "resources": resources, "ports": [{"containerPort": port}]}
    state = {"waiting": {"reason": "CrashLoopBackOff"}} if crash else {"running": {"startedAt": stamp(NOW - days * DAY)}}
    last = {"lastState": {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": stamp(NOW - 600)}}} if crash else {}
    status = {"phase": "Running", "startTime": stamp(NOW - days * DAY), "podIP": "10.0.0.9",
              "conditions": [{"type": "Ready", "status": "False" if crash else "True", "lastTransitionTime": stamp(NOW - days * DAY)}],
              "containerStatuses": [{"name": "server", "ready": not crash, "restartCount": 60 if crash else 0, "state": state, **last}]}
    whole = {"containers": [container], **spec}
    if on:
        whole["nodeName"] = on
    else:
        status = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available: 2 Insufficient nvidia.com/gpu.", "lastTransitionTime": stamp(NOW - 3600)}]}
    return {"kind": "Pod", "metadata": meta, "spec": whole, "status": status}


def owned(name, on, replica=0, ns="ml", **more):
    """A pod of Deployment `name`, by its ReplicaSet."""
    return pod(f"{name}-5d9c-{'abcdefgh'[replica] * 5}", on, ns=ns, owner=("apps/v1", "ReplicaSet", f"{name}-5d9c"), labels={"pod-template-hash": "5d9c", "app": name}, **more)


def deployment(name, ns="ml", replicas=1, ignore=None):
    meta = {"name": name, "namespace": ns, "uid": f"uid-d-{name}", "creationTimestamp": stamp(NOW - 20 * DAY), "annotations": {"gpuwaste.dev/ignore": ignore} if ignore else {}}
    return [{"kind": "Deployment", "metadata": meta, "spec": {"replicas": replicas}},
            {"kind": "ReplicaSet", "metadata": {"name": f"{name}-5d9c", "namespace": ns, "uid": f"uid-r-{name}", "creationTimestamp": stamp(NOW - 20 * DAY), "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": "0", "controller": True}]}, "spec": {"replicas": replicas}}]


def page(requests, preemptions=0, running=0, days=6):
    l = 'engine="0",model_name="served"'
    return (f"process_start_time_seconds {NOW - days * DAY}\nvllm:num_requests_running{{{l}}} {running}\nvllm:num_requests_waiting{{{l}}} 0\nvllm:kv_cache_usage_perc{{{l}}} 0.1\n"
            f"vllm:prompt_tokens_total{{{l}}} {requests * 100}\nvllm:generation_tokens_total{{{l}}} {requests * 50}\nvllm:num_preemptions_total{{{l}}} {preemptions}\n"
            f'vllm:request_success_total{{{l},finished_reason="stop"}} {requests}\nvllm:cache_config_info{{block_size="16",num_gpu_blocks="20000",engine="0"}} 1\n')


def dcgm(held, gpus=8, first=0):
    """`held`: place → (namespace, pod, busy)."""
    rows = []
    for i in range(gpus):
        ns, name, busy = held.get(i, (None, None, 0))
        owner = f',pod="{name}",namespace="{ns}",container="server"' if name else ""
        labels = f'gpu="{i}",UUID="GPU-{first + i}",modelName="NVIDIA H100 80GB HBM3",Hostname="x"{owner}'
        rows += [f"DCGM_FI_DEV_GPU_UTIL{{{labels}}} {90 if busy else 0}", f"DCGM_FI_DEV_POWER_USAGE{{{labels}}} {500 if busy else 70}",
                 f"DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{{{labels}}} {0.5 if busy else 0}", f"DCGM_FI_PROF_DRAM_ACTIVE{{{labels}}} {0.5 if busy else 0}"]
    return "\n".join(rows) + "\n"


def gpuwaste(*args, config=None, env=None, timeout=120, cwd=None, stdin=subprocess.DEVNULL, text=True):
    binary = str(pathlib.Path(BINARY).resolve())
    command = [binary, *map(str, args)] + (["--kubeconfig", str(config)] if config else [])
    return subprocess.run(command, capture_output=True, text=text, stdin=stdin, timeout=timeout, cwd=cwd, env={**os.environ, **(env or {})})


def scan(config, *args, **more):
    done = gpuwaste("scan", "--format", "json", *args, config=config, **more)
    return done, (json.loads(done.stdout) if done.stdout else None)


@contextlib.contextmanager
def folder(files):
    """A folder with these files in it."""
    with tempfile.TemporaryDirectory() as name:
        for file, text in files.items():
            path = pathlib.Path(name) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        yield pathlib.Path(name)
