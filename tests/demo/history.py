"""What a cluster's Prometheus kept of the last two weeks: dcgm-exporter, the servers, cAdvisor and kube-state-metrics, as
OpenMetrics for `promtool`. The same replicas as those behind the pages (load.py)."""
import fleet, load as loads
from world import activity, is_v0

SCRAPE, COARSE = 120, 600


class History:
    """One cluster's; `series()` is what tests/prometheus/store.py backfills."""

    def __init__(self, made, cluster):
        self.made, self.cluster, self.now = made, cluster, made.now
        self.moved = fleet.STORES[cluster]["moved"]
        self.times = list(range(self.now - loads.SPAN + SCRAPE, self.now + 1, SCRAPE))

    def series(self):
        for node in self.made.nodes.values():
            if node["cluster"] == self.cluster:
                yield from self.devices(node)
        for pod in self.made.pods:
            if pod["w"]["cluster"] == self.cluster and pod["w"]["gpus"]:
                yield from self.pod(pod)

    def alive(self, since, step=SCRAPE):
        return [t for t in self.times if t > since and t % step == 0]

    def devices(self, node):
        if not node.get("ready", True):
            return
        gpu, _, _, _ = fleet.TYPES[node["type"]]
        _, mib, tdp, _ = fleet.GPUS[gpu]
        exporter = 'namespace="gpu-operator",pod="nvidia-dcgm-exporter-vx7k2",container="nvidia-dcgm-exporter"'
        for index, uuid, model, pod, _, _, used in self.made.devices(node):
            base = f'gpu="{index}",UUID="{uuid}",modelName="{model}",Hostname="{node["name"]}",job="nvidia-dcgm-exporter",instance="{node["name"]}:9400"'
            born = self.now - node["age"] + 300
            # Before its pod came nobody held it, or one of the same workload that an update replaced.
            since = max(born, pod["start"]) if pod else self.now
            lives = [(born, since, None), (since, self.now, pod)] if pod else [(born, self.now, None)]
            for start, end, holder in lives:
                times = [t for t in self.times if start < t <= end]
                if not times:
                    continue
                owner = exporter
                if holder:
                    theirs = [("namespace", holder["w"]["ns"]), ("pod", holder["name"]), ("container", "server")]
                    owner = exporter + "".join(f',exported_{k}="{v}"' for k, v in theirs) if self.moved else ",".join(f'{k}="{v}"' for k, v in theirs)
                rows = {}
                for t in times:
                    for name, value in activity(holder if used else None, t, mib, tdp).items():
                        rows.setdefault(name, []).append((t, value))
                for name, samples in rows.items():
                    yield f"{name}{{{base},{owner}}}", samples

    def pod(self, pod):
        w, replica = pod["w"], pod["replica"]
        base = f'namespace="{w["ns"]}",pod="{pod["name"]}",container="server"'
        alive = self.alive(pod["start"])
        if replica and not w.get("stuck"):
            engine = base + f',instance="{pod["ip"]}:{w["port"]}",job="{w["ns"]}/{w["name"]}"'
            yield from {"vllm": self.vllm, "sglang": self.sglang, "tei": self.tei}[w["engine"]](w, replica, engine, alive)
            cores = float(w.get("cpu_limit") or w["cpu"])
            kubelet = base + f',job="kubelet",node="{pod["node"]}"'
            yield f"container_cpu_usage_seconds_total{{{kubelet}}}", [(t, round(replica.total("cpu", t) * cores, 2)) for t in alive]
            if w.get("cpu_limit"):
                # The kernel counts ten periods a second; only containers with a limit have any.
                periods, throttled, rows = 0.0, 0.0, ([], [])
                for t in alive:
                    periods, throttled = periods + 10 * SCRAPE, throttled + 10 * SCRAPE * replica.at(t).throttled
                    rows[0].append((t, periods))
                    rows[1].append((t, round(throttled, 1)))
                yield f"container_cpu_cfs_periods_total{{{kubelet}}}", rows[0]
                yield f"container_cpu_cfs_throttled_periods_total{{{kubelet}}}", rows[1]
        ksm = base + ',job="kube-state-metrics",uid="u"'
        if w.get("cpu_limit"):
            yield f'kube_pod_container_resource_limits{{{ksm},node="{pod["node"]}",resource="cpu",unit="core"}}', [(t, float(w["cpu_limit"])) for t in alive]
        yield f'kube_pod_container_resource_requests{{{ksm},node="{pod["node"]}",resource="nvidia_com_gpu",unit="integer"}}', [(t, w["gpus"]) for t in alive]
        yield f'kube_pod_status_phase{{namespace="{w["ns"]}",pod="{pod["name"]}",phase="Running",job="kube-state-metrics",uid="u"}}', [(t, 1) for t in alive]
        ended = self.now - w["oom"] if w.get("oom") else replica.starts[-1] if w.get("crash") else None
        yield f"kube_pod_container_status_restarts_total{{{ksm}}}", [(t, 1 if ended and t > ended else 0) for t in alive]
        if w.get("crash"):
            yield f'kube_pod_container_status_last_terminated_reason{{{ksm},reason="Error"}}', [(t, 1) for t in alive if t > ended]
        if w.get("oom"):
            yield f'kube_pod_container_status_last_terminated_reason{{{ksm},reason="OOMKilled"}}', [(t, 1) for t in alive if t > self.now - w["oom"]]

    def histograms(self, prefix, labels, replica, names=lambda name: name):
        """Buckets that tell something, less often: only their growth over the window is asked."""
        times = self.alive(replica.starts[0], COARSE)
        for name, mean, each, shares in loads.histograms(replica.load):
            name = names(name)
            if name is None:
                continue
            counts = [(t, replica.total("rps", t) * each) for t in times]
            told = [(b, s) for b, s in shares if b is None or 0.0005 < s < 0.9995]
            for bound, share in told:
                yield f'{prefix}{name}_bucket{{{labels},le="{"+Inf" if bound is None else float(bound)}"}}', [(t, int(c * share)) for t, c in counts]
            yield f"{prefix}{name}_sum{{{labels}}}", [(t, round(c * mean, 3)) for t, c in counts]
            yield f"{prefix}{name}_count{{{labels}}}", [(t, int(c)) for t, c in counts]

    def engine(self, replica, alive, gauges, counters):
        for name, of in gauges:
            yield name, [(t, of(replica.at(t))) for t in alive]
        for name, of, factor in counters:
            yield name, [(t, int(replica.total(of, t) * factor)) for t in alive]

    def vllm(self, w, replica, base, alive):
        load, l = replica.load, base + f',engine="0",model_name="{w["model"]}"'
        yield from self.engine(replica, alive, [
            (f"vllm:num_requests_running{{{l}}}", lambda s: s.running), (f"vllm:num_requests_waiting{{{l}}}", lambda s: s.waiting),
            (f"vllm:{'gpu_cache_usage_perc' if is_v0(w) else 'kv_cache_usage_perc'}{{{l}}}", lambda s: s.kv)], [
            (f'vllm:request_success_total{{{l},finished_reason="stop"}}', "rps", 0.97), (f'vllm:request_success_total{{{l},finished_reason="length"}}', "rps", 0.02),
            (f'vllm:request_success_total{{{l},finished_reason="abort"}}', "rps", 0.01), (f"vllm:num_preemptions_total{{{l}}}", "preempted", 1),
            (f"vllm:prompt_tokens_total{{{l}}}", "rps", load["prompt"]), (f"vllm:generation_tokens_total{{{l}}}", "rps", load["output"])])
        yield from self.histograms("vllm:", l, replica, lambda n: "time_per_output_token_seconds" if is_v0(w) and n.startswith("inter_token") else n)

    def sglang(self, w, replica, base, alive):
        load, l = replica.load, base + f',model_name="{w["model"]}",engine_type="unified",tp_rank="0",pp_rank="0"'
        yield from self.engine(replica, alive, [
            (f"sglang:num_running_reqs{{{l}}}", lambda s: s.running), (f"sglang:num_queue_reqs{{{l}}}", lambda s: s.waiting), (f"sglang:token_usage{{{l}}}", lambda s: s.kv)], [
            (f"sglang:num_requests_total{{{l}}}", "rps", 1), (f"sglang:prompt_tokens_total{{{l}}}", "rps", load["prompt"]), (f"sglang:generation_tokens_total{{{l}}}", "rps", load["output"])])
        yield from self.histograms("sglang:", l, replica, lambda n: None if n.startswith("request_") else n)

    def tei(self, w, replica, base, alive):
        yield from self.engine(replica, alive, [(f"te_queue_size{{{base}}}", lambda s: 0)], [(f'te_request_count{{{base},method="batch"}}', "rps", 1)])
