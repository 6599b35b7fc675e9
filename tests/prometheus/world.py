"""A GPU fleet with two weeks of history: Kubernetes objects, OpenMetrics text for `promtool`, and the truth about it.

The truth is computed here by the generator's own arithmetic over what it wrote, never by the product. Standard library only.
"""
import math, time

STEP, BIN, HOUR, DAY = 240, 300, 3600, 86400
WINDOW = 7 * DAY
GPU_PRICE = 55.04 / 8  # p5.48xlarge, us-east-1, on demand
H100 = "NVIDIA H100 80GB HBM3"


def stamp(t):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(t))


def day_shape(t):
    """0.25 at night, 1 at noon, less at weekends."""
    day = time.gmtime(t)
    hour = day.tm_hour + day.tm_min / 60
    return (0.25 + 0.75 * max(0.0, math.sin((hour - 6) / 12 * math.pi))) * (0.6 if day.tm_wday >= 5 else 1.0)


def office(t):
    """Requests from 08:00 to 18:00 UTC on workdays, none else."""
    day = time.gmtime(t)
    return 1.0 if day.tm_wday < 5 and 8 <= day.tm_hour < 18 else 0.0


class Load:
    """What one replica does at a time: requests/s, tokens, gauges, and its GPUs' activity."""

    def __init__(self, rps, prompt=400, output=200, kv=0.3, waiting=0, preempt=0.0, busy=0.5, power=450.0, util=None, gr=None, throttle=0.02, cpu=0.4):
        self.__dict__.update(locals())


IDLE = Load(0, kv=0.0, busy=0.0, power=72.0)


class World:
    def __init__(self, now=None, scale=1, step=STEP):
        self.now = (int(now or time.time()) // BIN) * BIN
        self.step, self.scale = step, scale
        self.begin = self.now - 2 * WINDOW
        # Scraping goes on while the tests run, so that what a slow machine asks late is not history that has ended.
        self.until = self.now + HOUR
        self.times = list(range(self.begin + step, self.until + 1, step))
        self.rename = self.now - WINDOW // 2
        self.nodes, self.pods, self.objects, self.free = [], [], [], []
        self.build()

    # --- the fleet ---------------------------------------------------------------------------------------------------

    def node(self, name):
        index = len(self.nodes)
        node = {"name": name, "index": index, "free": list(range(8)),
                # Three ways of scraping: labels moved to exported_*, kept (idle devices then look like the exporter's), and HA pairs.
                "honor": index % 2 == 1, "ha": index < 3, "renamed": index % 4 != 3}
        self.nodes.append(node)
        amounts = {"cpu": "192", "memory": "2000Gi", "pods": "110", "nvidia.com/gpu": "8"}
        self.objects.append({"kind": "Node", "metadata": {"name": name, "creationTimestamp": stamp(self.now - 60 * DAY), "labels": {
            "node.kubernetes.io/instance-type": "p5.48xlarge", "topology.kubernetes.io/region": "us-east-1", "karpenter.sh/capacity-type": "on-demand",
            "karpenter.sh/nodepool": "h100", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count": "8"}},
            "spec": {"providerID": f"aws:///x/{name}"},
            "status": {"capacity": amounts, "allocatable": amounts, "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp(self.now - 60 * DAY)}]}})

    def place(self, gpus):
        node = next(n for n in self.nodes if len(n["free"]) >= gpus)
        taken, node["free"] = node["free"][:gpus], node["free"][gpus:]
        return node, taken

    def workload(self, name, replicas, gpus, load, kind="Deployment", engine="vllm", image=None, age=40 * DAY, replaced=None, missing=None, crashes=None, ended="Error", limited=True):
        """`load(t)` gives what each replica does; `replaced`: when replica 0's pod was replaced; `missing(t)`: not scraped then; `crashes`: hours of the day at which each container restarts, having `ended` so."""
        w = {"name": name, "gpus": gpus, "replicas": replicas, "load": load, "engine": engine, "kind": kind, "pods": [], "missing": missing, "age": age, "crashes": crashes, "ended": ended, "limited": limited}
        hash_ = "".join("bcdfghjklmnpqrstvwxz2456789"[(ord(c) * 7 + i * 3) % 27] for i, c in enumerate((name * 10)[:10]))
        image = image or {"vllm": "vllm/vllm-openai:v0.11.0", "sglang": "lmsysorg/sglang:v0.5.3", "tgi": "ghcr.io/huggingface/text-generation-inference:3.3.0",
                          None: "pytorch/pytorch:2.5"}[engine]
        args = {"vllm": ["--model", f"acme/{name}", "--tensor-parallel-size", str(gpus)], "sglang": ["python3", "-m", "sglang.launch_server", "--model-path", f"acme/{name}", "--tp", str(gpus), "--enable-metrics"],
                "tgi": ["--model-id", f"acme/{name}"], None: ["torchrun", "train.py"]}[engine]
        created = self.now - age
        owner_kind = {"Deployment": "ReplicaSet", "StatefulSet": "StatefulSet", "Job": "Job"}[kind]
        owner = {"ReplicaSet": f"{name}-{hash_}", "StatefulSet": name, "Job": name}[owner_kind]
        spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "server", "image": image}]}}}
        if kind == "Job":
            spec.pop("replicas")
        self.objects.append({"kind": kind, "metadata": {"name": name, "namespace": "ml", "creationTimestamp": stamp(created)}, "spec": spec})
        for i in range(replicas):
            node, taken = self.place(gpus)
            letters = "bcdfghjklm"[i] + "x7k2"
            pod = {"Deployment": f"{name}-{hash_}-{letters}", "StatefulSet": f"{name}-{i}", "Job": f"{name}-{letters}"}[kind]
            lives = [(pod, max(self.begin, created), self.until)]
            if replaced and i == 0:
                dead = f"{name}-{hash_}-zzzzz"
                lives = [(dead, max(self.begin, created), replaced), (pod, replaced, self.until)]
            for life, start, end in lives:
                w["pods"].append({"name": life, "node": node, "devices": taken, "start": start, "end": end, "w": w, "ip": f"10.9.{len(self.pods)}.{i + 1}"})
                self.pods.append(w["pods"][-1])
            began = lives[-1][1] if replaced and i == 0 else created
            labels = {"app": name, **({"pod-template-hash": hash_} if kind == "Deployment" else {})}
            self.objects.append({"kind": "Pod", "metadata": {"name": pod, "namespace": "ml", "creationTimestamp": stamp(began), "labels": labels,
                                                             "ownerReferences": [{"apiVersion": "apps/v1" if kind != "Job" else "batch/v1", "kind": owner_kind, "name": owner, "uid": "0", "controller": True}]},
                                 "spec": {"nodeName": node["name"], "containers": [{"name": "server", "image": image, "args": args,
                                                                                    "resources": {"requests": {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": str(gpus)}, "limits": {"nvidia.com/gpu": str(gpus)}}}]},
                                 "status": {"phase": "Running", "startTime": stamp(began), "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp(began)}],
                                            "containerStatuses": [{"name": "server", "image": image, "imageID": "", "ready": True, "restartCount": 0, "state": {"running": {"startedAt": stamp(began)}}}]}})
        setattr(self, name.replace("-", "_"), w)
        return w

    def build(self):
        for i in range(14 * self.scale):
            self.node(f"gpu-{i:03}")
        now = self.now
        for copy in range(self.scale):
            tail = "" if copy == 0 else f"-{'bcdfghjklmnp'[copy]}aa"
            self.workload(f"chat{tail}", 4, 4, lambda t: Load(4 * day_shape(t), kv=0.5 * day_shape(t), busy=0.6 * day_shape(t), power=200 + 300 * day_shape(t)), replaced=now - 2 * DAY)
            self.workload(f"office{tail}", 2, 4, lambda t: Load(2, busy=0.5) if office(t) else IDLE)
            self.workload(f"ghost{tail}", 2, 4, lambda t: IDLE)
            # Kernels that spin: 100 % "utilization" at idle power, and no request.
            self.workload(f"spin{tail}", 1, 1, lambda t: Load(0, kv=0.0, busy=0.001, power=95.0, util=1.0, gr=1.0))
            # Profiling counters stuck at 0 while the device works.
            self.workload(f"stuckprof{tail}", 1, 4, lambda t: Load(0, busy=0.0, gr=0.0, util=0.9, power=600.0), kind="Job", engine=None)
            self.workload(f"train{tail}", 1, 8, lambda t: Load(0, busy=0.7, util=0.97, power=620.0), kind="Job", engine=None)
            self.workload(f"notebook{tail}", 1, 1, lambda t: IDLE, kind="StatefulSet", engine=None, image="jupyter/tensorflow-notebook:latest")
            self.workload(f"search{tail}", 2, 2, lambda t: Load(3 * day_shape(t), busy=0.4, kv=0.2), engine="sglang")
            self.workload(f"draft{tail}", 1, 1, lambda t: Load(1, busy=0.3), engine="tgi")
            pressed = lambda t: 10 <= time.gmtime(t).tm_hour < 16
            self.workload(f"pressed{tail}", 2, 4, lambda t: Load(2, kv=0.99, waiting=12, preempt=0.2, busy=0.8, power=600) if pressed(t) else Load(1, kv=0.4, busy=0.5))
            starved = lambda t: time.gmtime(t).tm_hour < 12
            self.workload(f"starved{tail}", 1, 4, lambda t: Load(2, waiting=4, busy=0.12, util=0.98, power=250, throttle=0.6, cpu=0.97) if starved(t) else Load(1, busy=0.6, throttle=0.01))
            # Containers without a CPU limit are never throttled: they wait where the whole machine is full. One says how full its
            # machine is: two on one would contradict each other.
            if self.scale == 1:
                self.workload(f"unlimited{tail}", 1, 4, lambda t: Load(2, waiting=4, busy=0.12, util=0.98, power=250, cpu=0.97) if starved(t) else Load(1, busy=0.6, cpu=0.3), limited=False)
            # No queue, but as many running as ever; and throttled where there is hardly any load, which starves nobody.
            self.workload(f"unqueued{tail}", 1, 1, lambda t: Load(2, busy=0.12, util=0.98, power=250, throttle=0.6, cpu=0.97) if starved(t) else Load(1.2, busy=0.6, throttle=0.01))
            self.workload(f"light{tail}", 1, 1, lambda t: Load(0.05, busy=0.05, power=150, throttle=0.6, cpu=0.97) if starved(t) else Load(2, busy=0.6, throttle=0.01))
            # Restarts in error under a queue; the same in calm hours; and for host memory, which says so itself.
            queue = lambda t: Load(2, waiting=6) if 10 <= time.gmtime(t).tm_hour < 12 else Load(1)
            self.workload(f"crashy{tail}", 1, 1, queue, crashes=[11])
            self.workload(f"clumsy{tail}", 1, 1, queue, crashes=[3])
            self.workload(f"hungry{tail}", 1, 1, queue, crashes=[11], ended="OOMKilled")
            # Its tokens fall to 40 % from one week to the next; its GPUs stay.
            self.workload(f"falling{tail}", 2, 4, lambda t: Load(2.0 if t <= now - WINDOW else 0.8, busy=0.4))
            self.workload(f"young{tail}", 1, 2, lambda t: IDLE, age=5 * HOUR)
            # Scraped a third of the time: nobody knows what it did in the rest.
            self.workload(f"sparse{tail}", 1, 2, lambda t: IDLE, missing=lambda t: (t // (2 * HOUR)) % 3 != 0)
        self.special()
        self.held = sum(8 - len(n["free"]) for n in self.nodes)
        self.gpus = 8 * (len(self.nodes) + 2)

    def special(self):
        """A node cut into MIG instances and one whose GPUs are time-sliced in two."""
        self.extra = []

        def node(name, pool, devices, labels):
            amounts = {"cpu": "192", "memory": "2000Gi", "pods": "110", **devices}
            self.objects.append({"kind": "Node", "metadata": {"name": name, "creationTimestamp": stamp(self.now - 60 * DAY), "labels": {
                "node.kubernetes.io/instance-type": "p5.48xlarge", "topology.kubernetes.io/region": "us-east-1", "karpenter.sh/capacity-type": "on-demand", "karpenter.sh/nodepool": pool,
                "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count": "8", **labels}}, "spec": {"providerID": f"aws:///x/{name}"},
                "status": {"capacity": amounts, "allocatable": amounts, "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp(self.now - 60 * DAY)}]}})

        def pod(name, on, resource, image="jupyter/tensorflow-notebook:latest"):
            self.objects.append({"kind": "StatefulSet", "metadata": {"name": name, "namespace": "ml", "creationTimestamp": stamp(self.now - 40 * DAY)},
                                 "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "server", "image": image}]}}}})
            began = stamp(self.now - 40 * DAY)
            self.objects.append({"kind": "Pod", "metadata": {"name": f"{name}-0", "namespace": "ml", "creationTimestamp": began, "labels": {"app": name}, "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "uid": "0", "controller": True}]},
                                 "spec": {"nodeName": on, "containers": [{"name": "server", "image": image, "resources": {"requests": {"cpu": "4", "memory": "16Gi", resource: "1"}, "limits": {resource: "1"}}}]},
                                 "status": {"phase": "Running", "startTime": began, "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": began}],
                                            "containerStatuses": [{"name": "server", "image": image, "imageID": "", "ready": True, "restartCount": 0, "state": {"running": {"startedAt": began}}}]}})
        node("mig-0", "mig", {"nvidia.com/mig-1g.10gb": "56"}, {"nvidia.com/mig.strategy": "mixed", "nvidia.com/mig-1g.10gb.count": "56"})
        node("shared-0", "shared", {"nvidia.com/gpu": "16"}, {"nvidia.com/gpu.replicas": "2", "nvidia.com/gpu.sharing-strategy": "time-slicing"})
        for name in ("slicebusy", "sliceidle"):
            pod(name, "mig-0", "nvidia.com/mig-1g.10gb")
        for name in ("shareone", "sharetwo"):
            pod(name, "shared-0", "nvidia.com/gpu")
        quiet, busy = (lambda t: 0.0), (lambda t: 0.5)
        own = ',namespace="gpu-operator",pod="nvidia-dcgm-exporter-vx7k2",container="nvidia-dcgm-exporter"'
        for card in range(8):
            base = f'gpu="{card}",UUID="GPU-f{card:07x}-0000-0000-0000-000000000000",modelName="{H100}",hostname="mig-0",job="dcgm",instance="10.8.200.1:9400"'
            # The parent's own rows beside its instances': they must not be added.
            self.extra.append((base + own, busy if card == 0 else quiet, True))
            for i in range(1, 8):
                held = {(0, 1): "slicebusy-0", (0, 2): "sliceidle-0"}.get((card, i))
                owner = own + f',exported_namespace="ml",exported_pod="{held}",exported_container="server"' if held else own
                self.extra.append((base + owner + f',GPU_I_ID="{i}",GPU_I_PROFILE="1g.10gb"', busy if held == "slicebusy-0" else quiet, False))
        for card in range(8):
            base = f'gpu="{card}",UUID="GPU-e{card:07x}-0000-0000-0000-000000000000",modelName="{H100}",hostname="shared-0",job="dcgm",instance="10.8.201.1:9400"'
            if card == 0:
                # Virtual GPUs: the device's value is repeated for every sharer.
                for k, name in enumerate(("shareone-0", "sharetwo-0")):
                    self.extra.append((base + own + f',exported_namespace="ml",exported_pod="{name}",exported_container="server",vgpu="{k}"', quiet, True))
            else:
                self.extra.append((base + own, quiet, True))

    # --- history -----------------------------------------------------------------------------------------------------

    def gap(self, node, t):
        """Node 1's exporter was down for half a day."""
        return node["index"] == 1 and self.now - 2.5 * DAY < t <= self.now - 2 * DAY

    def series(self):
        for pod in self.pods:
            yield from self.pod_series(pod)
        for node in self.nodes:
            yield from self.node_series(node)
        for labels, active, whole in self.extra:
            # GPU_UTIL is not there for instances.
            if whole:
                yield f"DCGM_FI_DEV_GPU_UTIL_RATIO{{{labels}}}", [(t, active(t)) for t in self.times]
            yield f"DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO{{{labels}}}", [(t, active(t)) for t in self.times]
            yield f"DCGM_FI_DEV_BOARD_POWER_WATTS{{{labels}}}", [(t, 80 + 400 * active(t)) for t in self.times]

    def loads(self, w):
        if "cache" not in w:
            w["cache"] = [(t, w["load"](t)) for t in self.times]
        return w["cache"]

    def copies(self, labels, ha):
        return [labels + f',prometheus_replica="{r}"' for r in ("a", "b")] if ha else [labels]

    def pod_series(self, pod):
        w, node = pod["w"], pod["node"]
        loads = [(t, l) for t, l in self.loads(w) if pod["start"] < t <= pod["end"] and not (w["missing"] and w["missing"](t))]
        every = [(t, l) for t, l in self.loads(w) if pod["start"] < t <= pod["end"]]
        ha = node["ha"]
        base = f'namespace="ml",pod="{pod["name"]}",container="server"'
        if w["engine"]:
            yield from self.engine_series(pod, loads, every, base, ha)
        machine = f'job="kubelet",node="{node["name"]}",instance="{node["name"]}:10250"'
        cpu = [("container_cpu_usage_seconds_total", f"{base},{machine}", lambda l: 16 * l.cpu)]
        if w["limited"]:
            cpu += [("container_cpu_cfs_periods_total", f"{base},{machine}", lambda l: 10.0), ("container_cpu_cfs_throttled_periods_total", f"{base},{machine}", lambda l: 10.0 * l.throttle)]
        else:
            # The whole machine, as cAdvisor's root shows it: as full as this workload says.
            cpu.append(("container_cpu_usage_seconds_total", f'id="/",{machine}', lambda l: 192 * l.cpu))
            for labels in self.copies(machine, ha):
                yield f"machine_cpu_cores{{{labels}}}", [(t, 192) for t, _ in every]
        for name, labelled, value in cpu:
            total, samples = 0.0, []
            for t, l in loads:
                total += value(l) * self.step
                samples.append((t, round(total, 3)))
            for labels in self.copies(labelled, ha):
                yield f"{name}{{{labels}}}", samples
        alive = [(t, 1) for t, _ in every]
        ksm = base + ',job="kube-state-metrics",uid="u"'
        if w["limited"]:
            yield f'kube_pod_container_resource_limits{{{ksm},node="{node["name"]}",resource="cpu",unit="core"}}', [(t, 16) for t, _ in every]
        yield f'kube_pod_container_resource_requests{{{ksm},node="{node["name"]}",resource="nvidia_com_gpu",unit="integer"}}', [(t, w["gpus"]) for t, _ in every]
        yield f'kube_pod_status_phase{{namespace="ml",pod="{pod["name"]}",phase="Running",job="kube-state-metrics",uid="u"}}', alive
        if w["crashes"]:
            yield f"kube_pod_container_status_restarts_total{{{ksm}}}", [(t, sum(1 for c in self.crash_times(w) if c <= t)) for t, _ in every]
            yield f'kube_pod_container_status_last_terminated_reason{{{ksm},reason="{w["ended"]}"}}', [(t, 1) for t, _ in every if any(c <= t for c in self.crash_times(w))]
        for index in pod["devices"]:
            yield from self.device_series(node, index, pod, loads)

    def engine_series(self, pod, loads, every, base, ha):
        w = pod["w"]
        common = base + f',instance="{pod["ip"]}:8000",job="ml/{w["name"]}"'
        seen = {t for t, _ in loads}

        def counter(rate):
            total, samples = 0.0, []
            for t, l in every:
                total += rate(l) * self.step
                if t in seen:
                    samples.append((t, round(total, 4)))
            return samples
        gauge = lambda of: [(t, of(l)) for t, l in loads]
        running = gauge(lambda l: 0 if l.rps == 0 else max(1, round(l.rps * 4)))
        requests, prompt, output = counter(lambda l: l.rps), counter(lambda l: l.rps * l.prompt), counter(lambda l: l.rps * l.output)
        if w["engine"] == "vllm":
            l = common + f',model_name="acme/{w["name"]}",engine="0"'
            kv = gauge(lambda x: round(x.kv, 4))
            rows = [("vllm:num_requests_running", l, running), ("vllm:num_requests_waiting", l, gauge(lambda x: x.waiting)),
                    # 0.12 dropped the old name; the servers were upgraded in mid-window.
                    ("vllm:gpu_cache_usage_perc", l, [(t, v) for t, v in kv if t <= self.rename]), ("vllm:kv_cache_usage_perc", l, [(t, v) for t, v in kv if t > self.rename]),
                    ("vllm:request_success_total", l + ',finished_reason="stop"', requests), ("vllm:prompt_tokens_total", l, prompt), ("vllm:generation_tokens_total", l, output),
                    ("vllm:num_preemptions_total", l, counter(lambda x: x.preempt))]
            if w["name"] == "chat":
                rows += [("vllm:e2e_request_latency_seconds_sum", l, counter(lambda x: x.rps * 4)), ("vllm:e2e_request_latency_seconds_bucket", l + ',le="10.0"', requests), ("vllm:e2e_request_latency_seconds_bucket", l + ',le="+Inf"', requests)]
                for le, share in (("0.1", 0.5), ("0.5", 0.9), ("2.0", 1.0), ("+Inf", 1.0)):
                    rows.append(("vllm:time_to_first_token_seconds_bucket", l + f',le="{le}"', [(t, round(v * share, 4)) for t, v in requests]))
        elif w["engine"] == "sglang":
            # One series a tensor-parallel rank: the ranks tell the same.
            rows = []
            for rank in range(w["gpus"]):
                l = common + f',model_name="acme/{w["name"]}",tp_rank="{rank}"'
                rows += [("sglang:num_running_reqs", l, running), ("sglang:num_queue_reqs", l, gauge(lambda x: x.waiting)), ("sglang:token_usage", l, gauge(lambda x: round(x.kv, 4)))]
            l = common + f',model_name="acme/{w["name"]}",tp_rank="0"'
            rows += [("sglang:num_requests_total", l, requests), ("sglang:prompt_tokens_total", l, prompt), ("sglang:generation_tokens_total", l, output)]
        else:
            rows = [("tgi_batch_current_size", common, running), ("tgi_queue_size", common, gauge(lambda x: x.waiting)), ("tgi_request_count", common, requests),
                    ("tgi_request_input_length_sum", common, prompt), ("tgi_request_generated_tokens_sum", common, output)]
        for name, labels, samples in rows:
            for copy in self.copies(labels, ha):
                if samples:
                    yield f"{name}{{{copy}}}", samples

    def device_series(self, node, index, pod, loads):
        uuid = f"GPU-{(node['index'] * 2654435761 + index * 40503) & 0xffffffff:08x}-0000-0000-0000-000000000000"
        exporter = f"nvidia-dcgm-exporter-{'bcdfghjklmnpqrst'[node['index'] % 16]}x7k2"
        own = f'namespace="gpu-operator",pod="{exporter}",container="nvidia-dcgm-exporter"'
        theirs = f'namespace="ml",pod="{pod["name"]}",container="server"' if pod else None
        if node["honor"]:
            owner = theirs or own
        else:
            owner = own + ("," + ",".join("exported_" + part for part in theirs.split(",")) if theirs else "")
        value = {"util": lambda l: round(100 * (l.util if l.util is not None else min(1.0, l.busy * 1.3))), "gr": lambda l: round(l.gr if l.gr is not None else min(1.0, l.busy * 1.2), 4),
                 "tensor": lambda l: round(l.busy * 0.6, 4), "dram": lambda l: round(l.busy, 4), "power": lambda l: l.power,
                 # A card without a program holds next to nothing; a server's KV cache stays.
                 "fb": lambda l: 60000 if pod else 4}
        names = {"util": ("DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_GPU_UTIL_RATIO", 0.01), "gr": ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO", 1),
                 "tensor": ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "DCGM_FI_PROF_TENSOR_UTIL_RATIO", 1), "dram": ("DCGM_FI_PROF_DRAM_ACTIVE", "DCGM_FI_PROF_DRAM_UTIL_RATIO", 1),
                 "power": ("DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_BOARD_POWER_WATTS", 1), "fb": ("DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_USED_BYTES", 1048576)}
        for key, (old, new, factor) in names.items():
            of, rename = value[key], self.rename if node["renamed"] else self.until
            samples = [(t, of(l)) for t, l in loads if not self.gap(node, t)]
            before = [(t, v) for t, v in samples if t <= rename]
            after = [(t, round(v * factor, 6)) for t, v in samples if t > rename]
            labels = f'gpu="{index}",UUID="{uuid}",modelName="{H100}",job="dcgm",instance="10.8.{node["index"]}.1:9400",{owner}'
            for copy in self.copies(labels, node["ha"]):
                if before:
                    yield f'{old}{{{copy},Hostname="{node["name"]}"}}', before
                if after:
                    yield f'{new}{{{copy},hostname="{node["name"]}"}}', after

    def node_series(self, node):
        quiet = [(t, IDLE) for t in self.times]
        for index in node["free"]:
            yield from self.device_series(node, index, None, quiet)

    # --- truth -------------------------------------------------------------------------------------------------------

    def bins(self, w, of, start=None, end=None):
        """Sum over replicas of `of(load)`, by bin of the window: the generator's own arithmetic."""
        start, end = start or self.now - WINDOW, end or self.now
        out = {}
        for t, l in self.loads(w):
            if start < t <= end:
                out.setdefault((t - 1) // BIN, []).append(of(l))
        return [w["replicas"] * sum(v) / len(v) for _, v in sorted(out.items())]

    def crash_times(self, w):
        if "times" not in w:
            w["times"] = [t for t in range(self.begin - self.begin % HOUR + HOUR, self.now, HOUR) if time.gmtime(t).tm_hour in w["crashes"]]
        return w["times"]

    def integral(self, w, of, start, end):
        return w["replicas"] * sum(of(l) * self.step for t, l in self.loads(w) if start < t <= end)

    def share(self, w, bad, traffic):
        inside = [l for t, l in self.loads(w) if self.now - WINDOW < t <= self.now]
        return sum(bad(l) for l in inside) / max(1, sum(traffic(l) for l in inside))

    def idle_hours(self, w):
        """Hours of the week without a request in every week seen."""
        busy = {(t - 1) // HOUR % 168 for t, l in self.loads(w) if l.rps > 0 and t > self.now - WINDOW}
        return 168 - len(busy)


class Others:
    """A node of AMD and one of Gaudi devices, each with an idle notebook, a job at work, a free device and one cut into partitions."""

    def __init__(self, now=None, step=600):
        self.now = (int(now or time.time()) // BIN) * BIN
        self.times = list(range(self.now - 2 * WINDOW + step, self.now + HOUR + 1, step))
        self.objects, self.rows = [], []
        born = stamp(self.now - 40 * DAY)
        for node, kind, region, provider, resource, labels in (
                ("amd-0", "Standard_ND96is_MI300X_v5", "australiasoutheast", "azure", "amd.com/gpu", {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}),
                ("hpu-0", "dl1.24xlarge", "us-east-1", "aws", "habana.ai/gaudi", {})):
            amounts = {"cpu": "96", "memory": "700Gi", "pods": "110", resource: "8"}
            self.objects.append({"kind": "Node", "metadata": {"name": node, "creationTimestamp": born, "labels": {
                "node.kubernetes.io/instance-type": kind, "topology.kubernetes.io/region": region, "karpenter.sh/capacity-type": "on-demand", "karpenter.sh/nodepool": node[:3], **labels}},
                "spec": {"providerID": f"{provider}:///x/{node}"}, "status": {"capacity": amounts, "allocatable": amounts, "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": born}]}})
            for name in ("quiet", "works"):
                full = f"{node[:3]}{name}"
                image = "jupyter/tensorflow-notebook:latest"
                self.objects.append({"kind": "StatefulSet", "metadata": {"name": full, "namespace": "ml", "creationTimestamp": born},
                                     "spec": {"replicas": 1, "selector": {"matchLabels": {"app": full}}, "template": {"metadata": {"labels": {"app": full}}, "spec": {"containers": [{"name": "server", "image": image}]}}}})
                self.objects.append({"kind": "Pod", "metadata": {"name": f"{full}-0", "namespace": "ml", "creationTimestamp": born, "labels": {"app": full}, "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": full, "uid": "0", "controller": True}]},
                                     "spec": {"nodeName": node, "containers": [{"name": "server", "image": image, "resources": {"requests": {"cpu": "4", "memory": "16Gi", resource: "1"}, "limits": {resource: "1"}}}]},
                                     "status": {"phase": "Running", "startTime": born, "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": born}],
                                                "containerStatuses": [{"name": "server", "image": image, "imageID": "", "ready": True, "restartCount": 0, "state": {"running": {"startedAt": born}}}]}})
        for card in range(8):
            busy = 60 if card == 1 else 0
            held = {0: "amdquiet-0", 1: "amdworks-0"}.get(card)
            owner = f',exported_namespace="ml",exported_pod="{held}",exported_container="server"' if held else ""
            labels = f'gpu_id="{card}",serial_number="",card_model="102-G30211-0C",card_series="AMD Instinct MI300X OAM",hostname="amd-0",gpu_partition_id="0",gpu_compute_partition_type="spx",job="amd",instance="10.8.7.1:5000",namespace="gpu-operator",pod="default-metrics-exporter-x7k2p",container="metrics-exporter-container"{owner}'
            self.rows += [(f"gpu_gfx_activity{{{labels}}}", busy), (f"gpu_umc_activity{{{labels}}}", busy / 2), (f"gpu_package_power{{{labels}}}", 140 + 6 * busy), (f"gpu_used_vram{{{labels}}}", 290)]
        # Another partition's row reads 0 whatever the card does.
        cut = 'gpu_id="9",hostname="amd-0",gpu_partition_id="1",gpu_compute_partition_type="cpx",job="amd",instance="10.8.7.1:5000",exported_namespace="ml",exported_pod="amdworks-0"'
        self.rows += [(f"gpu_gfx_activity{{{cut}}}", 0), (f"gpu_package_power{{{cut}}}", 0)]
        for card in range(8):
            busy = 70 if card == 1 else 0
            held = {0: "hpuquiet-0", 1: "hpuworks-0"}.get(card)
            owner = f',pod_namespace="ml",pod_name="{held}"' if held else ""
            labels = f'Serial="AN0{card}",UUID="01P0-HL2000A0-15-{card}",device="accel{card}",id="{card}",node="hpu-0",job="gaudi",instance="10.8.8.1:41611",namespace="habana-system",pod="habana-metric-exporter-ds-x7k2p",container="metric-exporter"{owner}'
            self.rows += [(f"habanalabs_utilization{{{labels}}}", busy), (f"habanalabs_power_mW{{{labels}}}", 100_000 + 2000 * busy), (f"habanalabs_memory_used_bytes{{{labels}}}", 768 << 20)]

    def series(self):
        for labels, value in self.rows:
            yield labels, [(t, value) for t in self.times]
