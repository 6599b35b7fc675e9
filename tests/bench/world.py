"""Large fleets for the benchmarks: objects as a cluster of that size really holds them (arguments, init containers, annotations)."""
import hashlib, json, pathlib, sys, time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "testbed"))
from testbed import stamp

NOW = time.time()
DAY = 86400
MODELS = ["Qwen/Qwen2.5-7B-Instruct", "meta-llama/Llama-3.1-8B-Instruct", "mistralai/Mistral-7B-Instruct-v0.3", "google/gemma-3-27b-it", "meta-llama/Llama-3.3-70B-Instruct"]


def filler(seed, size):
    """Text that compresses like a configuration does, not like zeros."""
    words, at = [], 0
    while at < size:
        word = hashlib.sha256(f"{seed}/{len(words)}".encode()).hexdigest()[:12]
        words.append(f'"field-{word[:6]}":{{"value":"{word}"}}')
        at += len(words[-1]) + 1
    return "{" + ",".join(words) + "}"


# A few hundred different ones: drawing 50,000 would take longer than the benchmark.
APPLIED = [filler(i, 4200) for i in range(300)]


def node(name, gpus, kind, pool):
    amounts = {"cpu": "192", "memory": "2097152Mi", "pods": "250", "ephemeral-storage": "900Gi", "hugepages-1Gi": "0", "hugepages-2Mi": "0"}
    labels = {"node.kubernetes.io/instance-type": kind, "topology.kubernetes.io/region": "us-east-1", "topology.kubernetes.io/zone": "us-east-1a", "kubernetes.io/hostname": name,
              "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "karpenter.sh/capacity-type": "on-demand", "karpenter.sh/nodepool": pool}
    if gpus:
        amounts["nvidia.com/gpu"] = str(gpus)
        labels |= {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count": str(gpus), "nvidia.com/gpu.memory": "81559"}
        labels |= {f"feature.node.kubernetes.io/cpu-cpuid.F{i}": "true" for i in range(60)}
    conditions = [{"type": t, "status": "True" if t == "Ready" else "False", "reason": "Kubelet", "message": "kubelet says so", "lastHeartbeatTime": stamp(NOW), "lastTransitionTime": stamp(NOW - 30 * DAY)}
                  for t in ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")]
    images = [{"names": [f"registry.example.com/team/image-{i}@sha256:{hashlib.sha256(str(i).encode()).hexdigest()}"], "sizeBytes": 12345678 + i} for i in range(40)]
    return {"kind": "Node", "metadata": {"name": name, "creationTimestamp": stamp(NOW - 30 * DAY), "labels": labels}, "spec": {"providerID": f"aws:///us-east-1a/{name}"},
            "status": {"capacity": amounts, "allocatable": amounts, "conditions": conditions, "images": images}}


def pod(name, on, ns, owner, number, gpus=0):
    model = MODELS[number % len(MODELS)]
    env = [{"name": f"SETTING_{i}", "value": f"value-{i}-{number}"} for i in range(8)] + [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "token", "key": "value"}}}]
    mounts = [{"name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True}, {"name": "cache", "mountPath": "/models/cache"}]
    if gpus:
        image, command = "vllm/vllm-openai:v0.11.0", ["sh", "-c", f"exec vllm serve {model} --tensor-parallel-size {gpus} --max-model-len 16384 --gpu-memory-utilization 0.9 --port 8000 --served-model-name model-{number}"]
        resources = {"limits": {"nvidia.com/gpu": str(gpus), "memory": "96Gi"}, "requests": {"cpu": "12", "memory": "96Gi", "nvidia.com/gpu": str(gpus)}}
    else:
        image, command = "registry.example.com/team/service:1.42.0", ["/bin/service", "--listen=:8080", f"--shard={number}", "--config=/etc/service/config.yaml", "--log-level=info"]
        resources = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "250m", "memory": "512Mi"}}
    probe = {"httpGet": {"path": "/health", "port": 8000, "scheme": "HTTP"}, "periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3, "successThreshold": 1}
    container = {"name": "main", "image": image, "command": command, "env": env, "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}], "resources": resources, "volumeMounts": mounts,
                 "livenessProbe": probe, "readinessProbe": probe, "startupProbe": {**probe, "failureThreshold": 60}, "terminationMessagePath": "/dev/termination-log", "imagePullPolicy": "IfNotPresent"}
    init = {"name": "fetch", "image": "registry.example.com/team/fetch:1.2", "command": ["/bin/fetch", f"--to=/cache/{number}"], "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}, "volumeMounts": mounts}
    status = lambda n, state: {"name": n, "image": image, "imageID": f"sha256:{hashlib.sha256(image.encode()).hexdigest()}", "containerID": f"containerd://{hashlib.sha256(name.encode()).hexdigest()}", "ready": True, "restartCount": 0, "started": True, "state": state}
    since = stamp(NOW - 9 * DAY)
    return {"kind": "Pod", "metadata": {"name": name, "namespace": ns, "creationTimestamp": since, "labels": {"app": owner, "pod-template-hash": "5d9c7bf6d8", "team": ns},
                                        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": APPLIED[number % len(APPLIED)], "prometheus.io/scrape": "true"},
                                        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{owner}-5d9c7bf6d8", "uid": "0", "controller": True, "blockOwnerDeletion": True}]},
            "spec": {"nodeName": on, "containers": [container], "initContainers": [init], "restartPolicy": "Always", "serviceAccountName": "default", "schedulerName": "default-scheduler", "priority": 0,
                     "tolerations": [{"key": k, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300} for k in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")],
                     "volumes": [{"name": "cache", "emptyDir": {}}, {"name": "kube-api-access", "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}]}}]},
            "status": {"phase": "Running", "startTime": since, "podIP": "10.0.0.1", "qosClass": "Burstable",
                       "conditions": [{"type": t, "status": "True", "lastTransitionTime": since} for t in ("PodScheduled", "Initialized", "ContainersReady", "Ready")],
                       "initContainerStatuses": [status("fetch", {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": since, "finishedAt": since}})],
                       "containerStatuses": [status("main", {"running": {"startedAt": since}})]}}


def deployment(name, ns, replicas):
    labels = {"app": name}
    return {"kind": "Deployment", "metadata": {"name": name, "namespace": ns, "creationTimestamp": stamp(NOW - 20 * DAY), "labels": labels},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}}


def fleet(nodes, gpu_nodes, pods, workloads):
    """`gpu_nodes` of `nodes` have 8 GPUs; `workloads` Deployments of 2-GPU servers, two replicas where there is room; the rest are services."""
    yield from ({"kind": "Namespace", "metadata": {"name": f"team-{i}"}, "status": {"phase": "Active"}} for i in range(20))
    for i in range(nodes):
        has = i * gpu_nodes // nodes != (i + 1) * gpu_nodes // nodes
        yield node(f"node-{i}", 8 if has else 0, "p5.48xlarge" if has else "m5.8xlarge", "h100" if has else "general")
    with_gpus = [i for i in range(nodes) if i * gpu_nodes // nodes != (i + 1) * gpu_nodes // nodes]
    room, made = [on for on in with_gpus for _ in range(4)][: gpu_nodes * 4 - gpu_nodes // 2], 0
    servers = min(len(room), 2 * workloads)
    for i in range(servers):
        owner = i % workloads
        yield pod(f"llm-{owner}-5d9c7bf6d8-{i:05d}", f"node-{room[i]}", f"team-{owner % 20}", f"llm-{owner}", i, gpus=2)
        made += 1
    for owner in range(min(workloads, servers)):
        yield deployment(f"llm-{owner}", f"team-{owner % 20}", 2 if owner + workloads < servers else 1)
    for i in range(pods - made):
        yield pod(f"svc-{i // 5}-5d9c7bf6d8-{i:06d}", f"node-{i % nodes}", f"team-{i % 20}", f"svc-{i // 5}", i)
