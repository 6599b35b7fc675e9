"""Turns fleet.py's description into Kubernetes objects and the pages that exporters and servers would show at `now`."""
import hashlib, json, random
import fleet

DAY = 86400


def stamp(seconds):
    import time
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class World:
    def __init__(self, now):
        self.now, self.objects, self.pages = now, {c: [] for c in fleet.CLUSTERS}, {}
        self.addresses, self.used, self.random = [], {}, random.Random(20261124)
        self.nodes = {n["name"]: n for n in fleet.nodes()}
        self.held = {n: [] for n in self.nodes}
        for node in self.nodes.values():
            self.add_node(node)
        for cluster in fleet.CLUSTERS:
            names = {w["ns"] for w in fleet.workloads() if w["cluster"] == cluster} | {"gpu-operator"}
            self.objects[cluster] += [{"kind": "Namespace", "metadata": {"name": n}, "status": {"phase": "Active"}} for n in sorted(names)]
        for workload in fleet.workloads():
            self.add_workload(workload)
        for node in self.nodes.values():
            self.add_exporter(node)

    def address(self):
        n = len(self.addresses) + 10
        self.addresses.append(f"10.231.{n // 200}.{n % 200 + 20}")
        return self.addresses[-1]

    # --- nodes -----------------------------------------------------------------------------------------------------

    def add_node(self, n):
        gpu, count, vcpu, memory = fleet.TYPES[n["type"]]
        product, mib, _, _ = fleet.GPUS[gpu]
        labels = {"node.kubernetes.io/instance-type": n["type"], "nvidia.com/gpu.product": product, "nvidia.com/gpu.count": str(count),
                  "nvidia.com/gpu.memory": str(mib), "nvidia.com/gpu.present": "true", "nvidia.com/gpu.replicas": "1"}
        if n["cluster"] == fleet.AWS:
            provider, labels["topology.kubernetes.io/region"] = "aws:///us-east-1a/i-0", "us-east-1"
            labels |= {"karpenter.sh/nodepool": n["pool"], "karpenter.sh/capacity-type": "spot" if n["spot"] else "on-demand"}
        elif n["cluster"] == fleet.GKE:
            provider, labels["topology.kubernetes.io/region"] = "gce://research/us-central1-a/", "us-central1"
            labels["cloud.google.com/gke-nodepool"] = n["pool"]
            if n["spot"]:
                labels["cloud.google.com/gke-spot"] = "true"
        else:
            provider, labels["topology.kubernetes.io/region"] = "azure:///subscriptions/s/", "eastus"
            labels |= {"agentpool": n["pool"], "kubernetes.azure.com/agentpool": n["pool"]}
        taints = [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]
        if n.get("cordoned_days"):
            taints.append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule", "timeAdded": stamp(self.now - n["cordoned_days"] * DAY)})
        ready = n.get("ready", True)
        since = self.now - (n.get("ready_since", n["age"] - 300))
        capacity = {"cpu": str(vcpu), "memory": f"{memory}Gi", "pods": "110", "nvidia.com/gpu": str(count)}
        allocatable = capacity | {"cpu": f"{int(vcpu * 980)}m", "memory": f"{int(memory * 0.96)}Gi"}
        self.objects[n["cluster"]].append({
            "kind": "Node",
            "metadata": {"name": n["name"], "creationTimestamp": stamp(self.now - n["age"]), "labels": labels},
            "spec": {"providerID": provider + n["name"], "taints": taints, **({"unschedulable": True} if n.get("cordoned_days") else {})},
            "status": {"capacity": capacity, "allocatable": allocatable,
                       "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown", "reason": "KubeletReady" if ready else "NodeStatusUnknown", "lastTransitionTime": stamp(since)}]},
        })

    def find(self, prefix):
        return next(n for n in self.nodes if n.startswith(prefix)) if prefix else None

    # --- workloads -------------------------------------------------------------------------------------------------

    def add_workload(self, w):
        out, cluster, kind = self.objects[w["cluster"]], w["cluster"], w["kind"]
        load = w.get("load")
        up = load["up"] if load else w.get("up", 30 * DAY)
        if w.get("stuck"):
            up = w["stuck"][2]
        created = self.now - up - 3 * DAY if kind != "Job" else self.now - up - 30
        digest = hashlib.sha256(f"{cluster}/{w['ns']}/{w['name']}".encode()).hexdigest()
        hash_ = "".join("bcdfghjklmnpqrstvwxz2456789"[int(c, 16)] for c in digest[:9])
        annotations = {"gpuwaste.dev/ignore": w["ignore"]} if w.get("ignore") else {}
        owner_spec = {"replicas": len(w["on"]), "selector": {"matchLabels": {"app": w["name"]}}, "template": {"metadata": {"labels": {"app": w["name"]}}, "spec": {"containers": [{"name": "server", "image": w["image"]}]}}}
        meta = {"name": w["name"], "namespace": w["ns"], "creationTimestamp": stamp(created), "annotations": annotations}
        if kind == "Job":
            owner_spec.pop("replicas")
        out.append({"kind": kind, "metadata": meta, "spec": owner_spec})
        if w.get("hpa"):
            low, high = w["hpa"]
            out.append({"kind": "HorizontalPodAutoscaler", "metadata": {"name": w["name"], "namespace": w["ns"]},
                        "spec": {"minReplicas": low, "maxReplicas": high, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": w["name"]}}})
        for index, prefix in enumerate(w["on"]):
            if kind == "Deployment":
                suffix = hashlib.sha256(f"{digest}{index}".encode()).hexdigest()[:5]
                name, owner = f"{w['name']}-{hash_}-{suffix}", {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{w['name']}-{hash_}"}
            elif kind == "StatefulSet":
                name, owner = f"{w['name']}-{index}", {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": w["name"]}
            else:
                name, owner = f"{w['name']}-{index}-x7k2p", {"apiVersion": "batch/v1", "kind": "Job", "name": w["name"]}
            out.append(self.pod(w, name, owner, hash_, self.find(prefix), up, index))

    def pod(self, w, name, owner, hash_, node, up, index):
        ip = self.address() if node else None
        resources = {"requests": {"cpu": w["cpu"], "memory": w["memory"]}, "limits": {"memory": w["memory"]}}
        if w["gpus"]:
            resources["limits"]["nvidia.com/gpu"] = resources["requests"]["nvidia.com/gpu"] = str(w["gpus"])
        container = {"name": "server", "image": w["image"], "resources": resources, "args": w["args"] or [],
                     "env": [{"name": k, "value": v} if v is not None else {"name": k, "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}} for k, v in w["env"]]}
        if w["command"]:
            container["command"] = w["command"]
        if w.get("port"):
            container["ports"] = [{"containerPort": w["port"], "name": "metrics" if w["engine"] == "triton" else "http"}]
        labels = {"app": w["name"], **w["labels"]}
        if owner["kind"] == "ReplicaSet":
            labels["pod-template-hash"] = hash_
        spec = {"containers": [container], "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}
        started = self.now - up
        status = {"phase": "Running", "podIP": ip, "startTime": stamp(started - 90),
                  "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(started - 100)}, {"type": "Ready", "status": "True", "lastTransitionTime": stamp(started + 150)}],
                  "containerStatuses": [{"name": "server", "image": w["image"], "imageID": "", "ready": True, "restartCount": 0, "state": {"running": {"startedAt": stamp(started)}}}]}
        if not node:
            spec["nodeSelector"] = {"cloud.google.com/gke-nodepool": w["pool"]}
            status = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/10 nodes are available: 3 Insufficient nvidia.com/gpu.", "lastTransitionTime": stamp(started)}]}
        else:
            spec["nodeName"] = node
        if w.get("stuck"):
            reason, restarts, age = w["stuck"]
            crash = reason == "CrashLoopBackOff"
            status["phase"] = "Running" if crash else "Pending"
            status["conditions"][1] = {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": stamp(self.now - age)}
            status["containerStatuses"][0] |= {"ready": False, "restartCount": restarts, "state": {"waiting": {"reason": reason}}}
            if crash:
                status["containerStatuses"][0]["lastState"] = {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": stamp(self.now - 900), "finishedAt": stamp(self.now - 780)}}
        if node and w["gpus"]:
            self.held[node] += [(w, name)] * w["gpus"]
        if node and w.get("port") and not w.get("stuck"):
            self.server_pages(w, ip, index)
        return {"kind": "Pod", "metadata": {"name": name, "namespace": w["ns"], "creationTimestamp": stamp(started - 120), "labels": labels,
                                            "ownerReferences": [{**owner, "uid": "0", "controller": True}]}, "spec": spec, "status": status}

    # --- what servers say ------------------------------------------------------------------------------------------

    def server_pages(self, w, ip, index):
        load = w.get("load")
        key = lambda path: f"{ip}:{w['port']}{path}"
        if w["engine"] == "tei":
            self.pages[key("/metrics")] = f"process_start_time_seconds {self.now - w['up']}\nte_request_count{{method=\"batch\"}} {int(w['up'] * 14.2)}\nte_queue_size 0\n"
            self.pages[key("/info")] = json.dumps({"model_id": w["model"], "version": "1.7.0", "max_input_length": 8192})
        if load is None:
            return
        jitter = 0.9 + 0.2 * self.random.random()
        if w["engine"] == "vllm":
            self.pages[key("/metrics")] = [vllm_page(w, load, self.now, jitter, ahead) for ahead in (0, 10)]
            self.pages[key("/v1/models")] = json.dumps({"object": "list", "data": [{"id": w["model"], "object": "model", "owned_by": "vllm", "root": w["model"], "parent": None, "max_model_len": w["max_len"]}]})
            self.pages[key("/version")] = json.dumps({"version": w["image"].rsplit(":v", 1)[-1]})
        elif w["engine"] == "sglang":
            self.pages[key("/metrics")] = [sglang_page(w, load, self.now, jitter, ahead) for ahead in (0, 10)]
            self.pages[key("/get_server_info")] = json.dumps({"model_path": w["model"], "version": "0.5.3", "context_length": w["max_len"], "max_total_num_tokens": 201_000})
        elif w["engine"] == "triton":
            count = int(load["rps"] * load["up"] * jitter)
            self.pages[key("/metrics")] = (f"process_start_time_seconds {self.now - load['up']}\n" + "".join(
                f'nv_inference_request_success{{model="{m}",version="1"}} {count // 2}\nnv_inference_count{{model="{m}",version="1"}} {count // 2}\nnv_inference_pending_request_count{{model="{m}",version="1"}} 0\n'
                for m in ("detector", "recogniser")))

    def add_exporter(self, n):
        gpu, count, _, _ = fleet.TYPES[n["type"]]
        product, mib, tdp, _ = fleet.GPUS[gpu]
        name, ip = f"nvidia-dcgm-exporter-{hashlib.sha256(n['name'].encode()).hexdigest()[:5]}", self.address()
        ready = n.get("ready", True)
        self.objects[n["cluster"]].append({
            "kind": "Pod", "metadata": {"name": name, "namespace": "gpu-operator", "creationTimestamp": stamp(self.now - n["age"] + 200), "labels": {"app": "nvidia-dcgm-exporter"},
                                        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "nvidia-dcgm-exporter", "uid": "0", "controller": True}]},
            "spec": {"nodeName": n["name"], "containers": [{"name": "nvidia-dcgm-exporter", "image": "nvcr.io/nvidia/k8s/dcgm-exporter:4.5.3-4.8.2-distroless", "ports": [{"name": "metrics", "containerPort": 9400}], "resources": {}}]},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": stamp(self.now - n["age"] + 260)}],
                       "containerStatuses": [{"name": "nvidia-dcgm-exporter", "image": "", "imageID": "", "ready": ready, "restartCount": 0, "state": {"running": {"startedAt": stamp(self.now - n["age"] + 250)}}}]},
        })
        if ready:
            self.pages[f"{ip}:9400/metrics"] = [self.dcgm_page(n, count, product, mib, tdp, ahead) for ahead in (0, 10)]

    def dcgm_page(self, n, count, product, mib, tdp, ahead):
        rows = []
        held = self.held[n["name"]]
        for i in range(count):
            w, pod = held[i] if i < len(held) else (None, None)
            load = w.get("load") if w else None
            busy = 0.0 if w is None else (load["busy"] if load else w.get("busy", 0.0 if w.get("stuck") else 0.3))
            digest = hashlib.sha256(f"{n['name']}/{i}".encode()).hexdigest()
            uid = f"GPU-{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"
            labels = f'gpu="{i}",UUID="{uid}",pci_bus_id="00000000:{i + 4:02X}:00.0",device="nvidia{i}",modelName="{product.replace("-", " ") if not product.startswith("NVIDIA-A100-80GB") else "NVIDIA A100 80GB PCIe"}",Hostname="{n["name"]}"'
            if w:
                labels += f',container="server",namespace="{w["ns"]}",pod="{pod}"'
            wobble = 1 + (0.02 if ahead else 0.0)
            watts = tdp * (0.11 + 0.75 * busy) * wobble
            loaded = w is not None and not w.get("stuck") and (load or w.get("busy"))
            used = int(mib * (0.9 if w and w["engine"] in ("vllm", "sglang") and loaded else 0.35 if loaded else 0.001))
            values = {"DCGM_FI_DEV_GPU_UTIL": min(100, int(100 * min(1.0, busy * 1.5))), "DCGM_FI_PROF_GR_ENGINE_ACTIVE": round(min(1.0, busy * 1.4), 4),
                      "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": round(busy * 0.5, 4), "DCGM_FI_PROF_DRAM_ACTIVE": round(busy, 4), "DCGM_FI_DEV_POWER_USAGE": round(watts, 1),
                      "DCGM_FI_DEV_FB_USED": used, "DCGM_FI_DEV_FB_FREE": mib - used - 600, "DCGM_FI_DEV_FB_RESERVED": 600,
                      "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": int(watts * 1000 * (n["age"] + ahead))}
            rows += [f"{name}{{{labels}}} {value}" for name, value in values.items()]
        return "\n".join(rows) + "\n"


BOUNDS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000]
SECONDS = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560]


def histogram(name, labels, mean, count, bounds, spread=0.5):
    """A log-normal-like histogram around `mean`."""
    import math
    if count <= 0:
        mean = 1.0
    middle = math.log(max(mean, 1e-9)) - spread * spread / 2
    rows = []
    for bound in [*bounds, None]:
        share = 1.0 if bound is None else 0.5 * (1 + math.erf((math.log(bound) - middle) / (spread * math.sqrt(2))))
        rows.append(f'{name}_bucket{{{labels},le="{"+Inf" if bound is None else float(bound)}"}} {math.floor(count * share)}')
    return rows + [f"{name}_sum{{{labels}}} {mean * count if count > 0 else 0.0}", f"{name}_count{{{labels}}} {count}"]


def totals(load, jitter, ahead):
    seconds = load["up"] + ahead
    requests = int(load["rps"] * jitter * seconds)
    return requests, int(requests * load["prompt"]), int(requests * load["output"])


def vllm_page(w, load, now, jitter, ahead):
    requests, prompt, output = totals(load, jitter, ahead)
    l = f'engine="0",model_name="{w["model"]}"'
    old = w["image"].endswith("v0.8.5")
    tokens = fleet.kv_tokens(w["model"], gpu_of(w), w["tp"])
    rows = [f"process_start_time_seconds {now - load['up']}", f"vllm:num_requests_running{{{l}}} {float(round(load['running']))}", f"vllm:num_requests_waiting{{{l}}} {float(load['waiting'])}",
            f"vllm:{'gpu_cache_usage_perc' if old else 'kv_cache_usage_perc'}{{{l}}} {load['kv'] * (0.97 if ahead else 1.0):.4f}",
            f"vllm:num_preemptions_total{{{l}}} {load['preemptions']}", f"vllm:prompt_tokens_total{{{l}}} {prompt}", f"vllm:generation_tokens_total{{{l}}} {output}",
            f"vllm:prefix_cache_queries_total{{{l}}} {prompt}", f"vllm:prefix_cache_hits_total{{{l}}} {int(prompt * load['hit'])}"]
    rows += [f'vllm:request_success_total{{{l},finished_reason="{reason}"}} {int(requests * share)}' for reason, share in (("stop", 0.97), ("length", 0.02), ("abort", 0.01), ("error", 0.0))]
    rows.append(f'vllm:cache_config_info{{block_size="16",cache_dtype="auto",enable_prefix_caching="True",engine="0",gpu_memory_utilization="0.9",num_gpu_blocks="{tokens // 16}"}} 1.0')
    rows += histogram("vllm:request_prompt_tokens", l, load["prompt"], requests, BOUNDS)
    rows += histogram("vllm:request_generation_tokens", l, load["output"], requests, BOUNDS)
    rows += histogram("vllm:time_to_first_token_seconds", l, load["ttft"], requests, SECONDS)
    rows += histogram("vllm:time_per_output_token_seconds" if old else "vllm:inter_token_latency_seconds", l, load["itl"], output, SECONDS, 0.25)
    rows += histogram("vllm:e2e_request_latency_seconds", l, load["ttft"] + load["itl"] * load["output"], requests, SECONDS)
    return "\n".join(rows) + "\n"


def sglang_page(w, load, now, jitter, ahead):
    requests, prompt, output = totals(load, jitter, ahead)
    l = f'engine_type="unified",model_name="{w["model"]}",tp_rank="0",pp_rank="0"'
    rows = [f"process_start_time_seconds {now - load['up']}", f"sglang:num_running_reqs{{{l}}} {float(round(load['running']))}", f"sglang:num_queue_reqs{{{l}}} 0.0", f"sglang:token_usage{{{l}}} {load['kv']}",
            f"sglang:num_requests_total{{{l}}} {requests}", f"sglang:prompt_tokens_total{{{l}}} {prompt}", f"sglang:generation_tokens_total{{{l}}} {output}", f"sglang:max_total_num_tokens{{{l}}} 201000"]
    rows += histogram("sglang:e2e_request_latency_seconds", l, load["ttft"] + load["itl"] * load["output"], requests, SECONDS)
    rows += histogram("sglang:time_to_first_token_seconds", l, load["ttft"], requests, SECONDS)
    return "\n".join(rows) + "\n"


def gpu_of(w):
    names = [n for n in fleet.nodes() if n["name"].startswith(w["on"][0])]
    return fleet.TYPES[names[0]["type"]][0]
