"""Turns fleet.py's description into Kubernetes objects and the pages that exporters and servers would show at `now`."""
import hashlib, json, math
import fleet, load as loads

DAY = 86400


def stamp(seconds):
    import time
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def made_up(seed, length):
    """As controllers name what they make: no vowels, no 0, 1, 3."""
    digest = hashlib.sha256(seed.encode()).digest()
    return "".join("bcdfghjklmnpqrstvwxz2456789"[c % 27] for c in digest[:length])


class World:
    def __init__(self, now):
        self.now, self.objects, self.pages = now, {c: [] for c in fleet.CLUSTERS}, {}
        self.addresses, self.pods = [], []
        self.nodes = {n["name"]: n for n in fleet.nodes()}
        self.held = {n: [] for n in self.nodes}
        for node in self.nodes.values():
            self.add_node(node)
        for cluster in fleet.CLUSTERS:
            names = {w["ns"] for w in fleet.workloads() if w["cluster"] == cluster} | {"gpu-operator", "monitoring"}
            self.objects[cluster] += [{"kind": "Namespace", "metadata": {"name": n}, "status": {"phase": "Active"}} for n in sorted(names)]
        for workload in fleet.workloads():
            self.add_workload(workload)
        for node in self.nodes.values():
            self.add_exporter(node)
        self.stores = {cluster: self.add_store(cluster, place) for cluster, place in fleet.STORES.items()}

    def address(self):
        n = len(self.addresses) + 10
        self.addresses.append(f"10.238.{n // 200}.{n % 200 + 20}")
        return self.addresses[-1]

    # --- nodes -----------------------------------------------------------------------------------------------------

    def add_node(self, n):
        gpu, count, vcpu, memory = fleet.TYPES[n["type"]]
        product, mib, _, _ = fleet.GPUS[gpu]
        labels = {"node.kubernetes.io/instance-type": n["type"], "nvidia.com/gpu.product": product, "nvidia.com/gpu.count": str(count),
                  "nvidia.com/gpu.memory": str(mib), "nvidia.com/gpu.present": "true", "nvidia.com/gpu.replicas": str(n.get("shares", 1))}
        if n.get("shares"):
            labels["nvidia.com/gpu.sharing-strategy"] = "time-slicing"
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
        if n.get("mig"):
            labels |= {"nvidia.com/mig.strategy": "mixed", "nvidia.com/mig.config": "custom", "nvidia.com/mig.config.state": "success", "nvidia.com/mig.capable": "true"}
        gpus = {f"nvidia.com/mig-{profile}": number for profile, number in n.get("mig", {}).items()} or {"nvidia.com/gpu": count * n.get("shares", 1)}
        capacity = {"cpu": str(vcpu), "memory": f"{memory}Gi", "pods": "110", **{r: str(v) for r, v in gpus.items()}}
        allocatable = capacity | {r: str(v - n.get("lost", 0)) for r, v in gpus.items()} | {"cpu": f"{int(vcpu * 980)}m", "memory": f"{int(memory * 0.96)}Gi"}
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
        hash_ = made_up(digest, 9)
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
                suffix = made_up(f"{digest}{index}", 5)
                name, owner = f"{w['name']}-{hash_}-{suffix}", {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{w['name']}-{hash_}"}
            elif kind == "StatefulSet":
                name, owner = f"{w['name']}-{index}", {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": w["name"]}
            else:
                name, owner = f"{w['name']}-{index}-x7k2p", {"apiVersion": "batch/v1", "kind": "Job", "name": w["name"]}
            out.append(self.pod(w, name, owner, hash_, self.find(prefix), up, index))

    def pod(self, w, name, owner, hash_, node, up, index):
        ip = self.address() if node else None
        resources = {"requests": {"cpu": w["cpu"], "memory": w["memory"]}, "limits": {"memory": w["memory"], **({"cpu": w["cpu_limit"]} if w.get("cpu_limit") else {})}}
        if w["gpus"]:
            resource = f"nvidia.com/mig-{w['mig']}" if w.get("mig") else "nvidia.com/gpu"
            resources["limits"][resource] = resources["requests"][resource] = str(w["gpus"])
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
            resource = next(r for r in resources["limits"] if r.startswith("nvidia.com/"))
            spec["nodeSelector"] = {"cloud.google.com/gke-nodepool" if w["cluster"] == fleet.GKE else "agentpool": w["pool"]}
            status = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": f"0/10 nodes are available: 3 Insufficient {resource}.", "lastTransitionTime": stamp(started)}]}
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
        if w.get("oom"):
            status["containerStatuses"][0] |= {"restartCount": 1, "state": {"running": {"startedAt": stamp(self.now - w["oom"])}},
                                               "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "startedAt": stamp(started), "finishedAt": stamp(self.now - w["oom"] - 20)}}}
        if node:
            starts = [started] + ([self.now - w["oom"]] if w.get("oom") else [])
            work = w.get("load")
            gpu = fleet.TYPES[self.nodes[node]["type"]][0]
            capacity = fleet.kv_tokens(w["model"], gpu, w["tp"], fleet.utilization(w), profile=w.get("mig")) if work and w["engine"] in ("vllm", "sglang") else None
            replica = loads.Replica(name, work, self.now, starts, capacity) if work else None
            if w.get("crash"):
                ended = replica.pressed(w["crash"])
                replica.starts.append(ended + 20)
                status["containerStatuses"][0] |= {"restartCount": 1, "state": {"running": {"startedAt": stamp(ended + 20)}},
                                                   "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": stamp(started), "finishedAt": stamp(ended)}}}
            pod = {"w": w, "name": name, "node": node, "start": started, "ip": ip, "replica": replica}
            self.pods.append(pod)
            self.held[node] += [pod] * w["gpus"]
            if replica:
                self.server_pages(pod)
        return {"kind": "Pod", "metadata": {"name": name, "namespace": w["ns"], "creationTimestamp": stamp(started - 120), "labels": labels,
                                            "ownerReferences": [{**owner, "uid": "0", "controller": True}]}, "spec": spec, "status": status}

    # --- what servers say ------------------------------------------------------------------------------------------

    def server_pages(self, pod):
        w, replica = pod["w"], pod["replica"]
        key = lambda path: f"{pod['ip']}:{w['port']}{path}"
        page = {"vllm": vllm_page, "sglang": sglang_page, "triton": triton_page, "tei": tei_page}[w["engine"]]
        self.pages[key("/metrics")] = [page(w, replica, self.now + ahead) for ahead in (0, 10)]
        if w["engine"] == "tei":
            self.pages[key("/info")] = json.dumps({"model_id": w["model"], "version": "1.7.0", "max_input_length": 8192})
        elif w["engine"] == "vllm":
            self.pages[key("/v1/models")] = json.dumps({"object": "list", "data": [{"id": w["model"], "object": "model", "owned_by": "vllm", "root": w["model"], "parent": None, "max_model_len": w["max_len"]}]})
            self.pages[key("/version")] = json.dumps({"version": w["image"].rsplit(":v", 1)[-1]})
        elif w["engine"] == "sglang":
            self.pages[key("/get_server_info")] = json.dumps({"model_path": w["model"], "version": "0.5.3", "context_length": w["max_len"], "max_total_num_tokens": replica.capacity})

    def add_exporter(self, n):
        gpu, count, _, _ = fleet.TYPES[n["type"]]
        product, mib, tdp, _ = fleet.GPUS[gpu]
        name, ip = f"nvidia-dcgm-exporter-{made_up(n['name'], 5)}", self.address()
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

    def add_store(self, cluster, place):
        """A Prometheus pod, on a node without GPUs."""
        ip = self.address()
        self.objects[cluster] += [
            {"kind": "Node", "metadata": {"name": f"{cluster}-system-1", "creationTimestamp": stamp(self.now - 90 * DAY)},
             "status": {"capacity": {"cpu": "8", "memory": "32Gi", "pods": "110"}, "allocatable": {"cpu": "7900m", "memory": "30Gi", "pods": "110"},
                        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp(self.now - 90 * DAY)}]}},
            {"kind": "Pod", "metadata": {"name": f"{place['service']}-0", "namespace": place["namespace"]},
             "spec": {"nodeName": f"{cluster}-system-1", "containers": [{"name": "prometheus", "image": "quay.io/prometheus/prometheus:v3.7.1"}]},
             "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}}]
        return ip

    def devices(self, n):
        """(index, UUID, model name, holder, MIG profile, instance) of each GPU that its exporter sees; a time-sliced card tells one of its
        holders. A card in MIG instances is one row an instance, all under the card's UUID."""
        gpu, count, _, _ = fleet.TYPES[n["type"]]
        product = fleet.GPUS[gpu][0]
        model = "NVIDIA A100 80GB PCIe" if product.startswith("NVIDIA-A100-80GB") else product.replace("-", " ")
        for i in range(count - n.get("lost", 0)):
            digest = hashlib.sha256(f"{n['name']}/{i}".encode()).hexdigest()
            uuid = f"GPU-{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"
            held = self.held[n["name"]]
            if not n.get("mig"):
                yield i, uuid, model, held[i] if i < len(held) else None, None, None
                continue
            holders = {profile: [h for h in held if h["w"]["mig"] == profile] for profile in n["mig"]}
            profiles = [profile for profile, number in n["mig"].items() for _ in range(number)]
            for instance, profile in enumerate(profiles):
                yield i, uuid, model, holders[profile].pop(0) if holders[profile] else None, profile, instance + 3

    def dcgm_page(self, n, count, product, mib, tdp, ahead):
        rows = []
        for i, uuid, model, pod, profile, instance in self.devices(n):
            labels = f'gpu="{i}",UUID="{uuid}",pci_bus_id="00000000:{i + 4:02X}:00.0",device="nvidia{i}",modelName="{model}",Hostname="{n["name"]}"'
            if profile:
                labels += f',GPU_I_PROFILE="{profile}",GPU_I_ID="{instance}"'
                mib = int(fleet.MIG_GIB[profile] * 1024)
            if pod:
                labels += f',container="server",namespace="{pod["w"]["ns"]}",pod="{pod["name"]}"'
            values = activity(pod, self.now, mib, tdp)
            if profile:
                # No utilization of an instance is known to the driver.
                del values["DCGM_FI_DEV_GPU_UTIL"]
            watts = values["DCGM_FI_DEV_POWER_USAGE"]
            values["DCGM_FI_DEV_POWER_USAGE"] = round(watts * (1.02 if ahead else 1), 1)
            values["DCGM_FI_DEV_FB_FREE"], values["DCGM_FI_DEV_FB_RESERVED"] = mib - values["DCGM_FI_DEV_FB_USED"] - 600, 600
            values["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] = int(1000 * (watts * n["age"] + values["DCGM_FI_DEV_POWER_USAGE"] * ahead))
            rows += [f"{name}{{{labels}}} {value}" for name, value in values.items()]
        return "\n".join(rows) + "\n"


def activity(pod, t, mib, tdp):
    """What DCGM measures of one GPU of the pod's at `t`."""
    w, replica = (pod["w"], pod["replica"]) if pod else (None, None)
    if replica:
        state = replica.at(t)
        busy, util = state.busy, state.util
    else:
        busy = w.get("busy", 0.0) if w and not w.get("stuck") else 0.0
        # Training goes in waves, people take breaks.
        busy *= 0.9 + 0.1 * math.sin(t / 1700) if busy > 0.5 else (1.0 if 13 <= t // 3600 % 24 < 22 else 0.02)
        util = min(1.0, busy * 1.3)
    loaded = w is not None and not w.get("stuck") and (replica or busy > 0)
    used = int(mib * (0.9 if loaded and w["engine"] in ("vllm", "sglang") else 0.35 if loaded else 0.001))
    return {"DCGM_FI_DEV_GPU_UTIL": round(100 * util), "DCGM_FI_PROF_GR_ENGINE_ACTIVE": round(min(1.0, max(busy * 1.4, util * 0.9 if util > 0.9 else 0)), 4),
            "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": round(busy * 0.5, 4), "DCGM_FI_PROF_DRAM_ACTIVE": round(busy, 4),
            "DCGM_FI_DEV_POWER_USAGE": round(tdp * (0.11 + 0.75 * busy), 1), "DCGM_FI_DEV_FB_USED": used}


def histogram(name, labels, mean, count, shares):
    rows = [f'{name}_bucket{{{labels},le="{"+Inf" if bound is None else float(bound)}"}} {math.floor(count * share)}' for bound, share in shares]
    return rows + [f"{name}_sum{{{labels}}} {mean * count}", f"{name}_count{{{labels}}} {math.floor(count)}"]


def is_v0(w):
    return w["image"].endswith("v0.8.5")


def vllm_page(w, replica, t):
    load, state = replica.load, replica.at(t)
    requests = replica.total("rps", t)
    prompt, output = int(requests * load["prompt"]), int(requests * load["output"])
    l = f'engine="0",model_name="{w["model"]}"'
    rows = [f"process_start_time_seconds {replica.starts[-1]}", f"vllm:num_requests_running{{{l}}} {float(state.running)}", f"vllm:num_requests_waiting{{{l}}} {float(state.waiting)}",
            f"vllm:{'gpu_cache_usage_perc' if is_v0(w) else 'kv_cache_usage_perc'}{{{l}}} {state.kv:.4f}",
            f"vllm:num_preemptions_total{{{l}}} {int(replica.total('preempted', t))}", f"vllm:prompt_tokens_total{{{l}}} {prompt}", f"vllm:generation_tokens_total{{{l}}} {output}",
            f"vllm:prefix_cache_queries_total{{{l}}} {prompt}", f"vllm:prefix_cache_hits_total{{{l}}} {int(prompt * load['hit'])}"]
    rows += [f'vllm:request_success_total{{{l},finished_reason="{reason}"}} {int(requests * share)}' for reason, share in (("stop", 0.97), ("length", 0.02), ("abort", 0.01), ("error", 0.0))]
    rows.append(f'vllm:cache_config_info{{block_size="16",cache_dtype="auto",enable_prefix_caching="True",engine="0",gpu_memory_utilization="{fleet.utilization(w)}",num_gpu_blocks="{replica.capacity // 16}"}} 1.0')
    for name, mean, each, shares in loads.histograms(load):
        name = "time_per_output_token_seconds" if is_v0(w) and name.startswith("inter_token") else name
        rows += histogram(f"vllm:{name}", l, mean, requests * each, shares)
    return "\n".join(rows) + "\n"


def sglang_page(w, replica, t):
    load, state = replica.load, replica.at(t)
    requests = replica.total("rps", t)
    l = f'engine_type="unified",model_name="{w["model"]}",tp_rank="0",pp_rank="0"'
    rows = [f"process_start_time_seconds {replica.starts[-1]}", f"sglang:num_running_reqs{{{l}}} {float(state.running)}", f"sglang:num_queue_reqs{{{l}}} {float(state.waiting)}", f"sglang:token_usage{{{l}}} {state.kv}",
            f"sglang:num_requests_total{{{l}}} {int(requests)}", f"sglang:prompt_tokens_total{{{l}}} {int(requests * load['prompt'])}", f"sglang:generation_tokens_total{{{l}}} {int(requests * load['output'])}",
            f"sglang:max_total_num_tokens{{{l}}} {replica.capacity}"]
    for name, mean, each, shares in loads.histograms(load):
        if not name.startswith("request_"):
            rows += histogram(f"sglang:{name}", l, mean, requests * each, shares)
    return "\n".join(rows) + "\n"


def triton_page(w, replica, t):
    count = int(replica.total("rps", t))
    return f"process_start_time_seconds {replica.starts[-1]}\n" + "".join(
        f'nv_inference_request_success{{model="{m}",version="1"}} {count // 2}\nnv_inference_count{{model="{m}",version="1"}} {count // 2}\nnv_inference_pending_request_count{{model="{m}",version="1"}} 0\n'
        for m in ("detector", "recogniser"))


def tei_page(w, replica, t):
    return f'process_start_time_seconds {replica.starts[-1]}\nte_request_count{{method="batch"}} {int(replica.total("rps", t))}\nte_queue_size 0\n'
