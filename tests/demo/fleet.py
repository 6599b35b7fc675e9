"""The demo fleet: what three clusters of a believable mid-size company hold, and what its servers would say of themselves.

Pure data and arithmetic: no clock, no network. `record.py` puts it into real API servers and lets `gpuwaste collect` read it.
"""

GIB = 2**30
DAY = 86400
HOUR = 3600


# --- nodes -----------------------------------------------------------------------------------------------------------

#  product label, MiB, TDP W, usable GiB as CUDA reports it
GPUS = {
    "h100": ("NVIDIA-H100-80GB-HBM3", 81559, 700, 79.2),
    "a100-80": ("NVIDIA-A100-80GB-PCIe", 81920, 300, 79.2),
    "a100-40": ("NVIDIA-A100-SXM4-40GB", 40960, 400, 39.4),
    "l40s": ("NVIDIA-L40S", 46068, 350, 44.5),
    "l4": ("NVIDIA-L4", 23034, 72, 22.1),
    "a10g": ("NVIDIA-A10G", 23028, 300, 22.1),
    "t4": ("Tesla-T4", 15360, 70, 14.6),
}

# instance type: gpu, GPUs, vCPU, memory GiB
TYPES = {
    "p5.48xlarge": ("h100", 8, 192, 2048),
    "g6e.12xlarge": ("l40s", 4, 48, 384),
    "g5.xlarge": ("a10g", 1, 4, 16),
    "g5.12xlarge": ("a10g", 4, 48, 192),
    "g6.xlarge": ("l4", 1, 4, 16),
    "a3-highgpu-8g": ("h100", 8, 208, 1872),
    "a2-highgpu-1g": ("a100-40", 1, 12, 85),
    "g2-standard-48": ("l4", 4, 48, 192),
    "Standard_ND96isr_H100_v5": ("h100", 8, 96, 1900),
    "Standard_NC24ads_A100_v4": ("a100-80", 1, 24, 220),
    "Standard_NC4as_T4_v3": ("t4", 1, 4, 28),
}

AWS, GKE, AKS = "prod-aws-us-east-1", "research-gke-us-central1", "apps-aks-eastus"
CLUSTERS = [AWS, GKE, AKS]


def node(cluster, name, kind, pool, spot=False, age_days=40, **extra):
    """extra: ready=False, ready_since=s, cordoned_days=d, lost=n (GPUs missing from allocatable), shares=n (time slices of each GPU),
    mig={profile: instances} of its one card."""
    return dict(cluster=cluster, name=name, type=kind, pool=pool, spot=spot, age=age_days * DAY, **extra)


def nodes():
    out = []
    for i in range(1, 6):
        out.append(node(AWS, f"ip-10-0-1-{10 + i}.ec2.internal", "p5.48xlarge", "h100", age_days=61))
    out[2].update(lost=1)
    # Bought for a launch that was put off.
    out.append(node(AWS, "ip-10-0-1-16.ec2.internal", "p5.48xlarge", "h100", age_days=6.6))
    for i in range(1, 5):
        out.append(node(AWS, f"ip-10-0-2-{20 + i}.ec2.internal", "g6e.12xlarge", "l40s", age_days=33))
    for i in range(1, 7):
        out.append(node(AWS, f"ip-10-0-3-{30 + i}.ec2.internal", "g5.xlarge", "a10g", spot=i > 3, age_days=12))
    out[-1].update(ready=False, ready_since=5 * HOUR)
    for i in range(1, 4):
        out.append(node(AWS, f"ip-10-0-4-{40 + i}.ec2.internal", "g6.xlarge", "l4", age_days=20))
    for i in range(1, 4):
        out.append(node(GKE, f"gke-research-a3-{i:02d}f7", "a3-highgpu-8g", "a3-h100", age_days=88))
    for i in range(1, 5):
        out.append(node(GKE, f"gke-research-a2-{i:02d}c1", "a2-highgpu-1g", "a2-notebooks", age_days=54))
    for i in range(1, 4):
        out.append(node(GKE, f"gke-research-g2-{i:02d}aa", "g2-standard-48", "g2-l4", spot=i == 3, age_days=29))
    out[-2].update(cordoned_days=3)
    for i in range(2):
        out.append(node(AKS, f"aks-h100-31577342-vmss00000{i}", "Standard_ND96isr_H100_v5", "h100", age_days=47))
    for i in range(8):
        out.append(node(AKS, f"aks-a100-18840251-vmss00000{i}", "Standard_NC24ads_A100_v4", "a100", age_days=75))
    for i in range(6):
        out.append(node(AKS, f"aks-t4-40193377-vmss00000{i}", "Standard_NC4as_T4_v3", "t4", age_days=110))
    for shared in out[-4:-1]:
        shared.update(pool="t4-shared", shares=4)
    out[-1].update(pool="t4-batch", shares=2)
    # One layout leaves two slices in no instance; the other has instances of one size only.
    out.append(node(AKS, "aks-a100mig-20711563-vmss000000", "Standard_NC24ads_A100_v4", "a100-mig", age_days=44, mig={"3g.40gb": 1, "2g.20gb": 1}))
    out.append(node(AKS, "aks-a100mig-20711563-vmss000001", "Standard_NC24ads_A100_v4", "a100-small", age_days=44, mig={"1g.10gb": 7}))
    return out


# Where there is one: the store of a cluster's history, as its chart names it. The applications' cluster has none.
STORES = {
    AWS: dict(namespace="monitoring", service="kube-prometheus-stack-prometheus", labels={"app": "kube-prometheus-stack-prometheus"}, moved=True),
    GKE: dict(namespace="monitoring", service="prometheus-k8s", labels={"app.kubernetes.io/name": "prometheus"}, moved=False),
}


# --- models: bytes of weights, KV bytes per token (whole model, bf16), KV heads ---------------------------------------

MODELS = {
    "meta-llama/Llama-3.3-70B-Instruct": (141.1e9, 327680, 8),
    "Qwen/Qwen2.5-7B-Instruct": (15.23e9, 57344, 4),
    "mistralai/Mixtral-8x7B-Instruct-v0.1": (93.4e9, 131072, 8),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": (141.1e9, 327680, 8),
    "Qwen/Qwen3-32B-FP8": (33.9e9, 262144, 8),
    "mistralai/Mistral-7B-Instruct-v0.3": (14.5e9, 131072, 8),
    "meta-llama/Llama-3.1-8B-Instruct": (16.06e9, 131072, 8),
    "hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4": (5.73e9, 131072, 8),
    "google/gemma-3-27b-it": (54.9e9, 2 * 62 * 16 * 128 * 2, 16),
    "openai/gpt-oss-120b": (65.2e9, 73728, 8),
    "Qwen/Qwen3-30B-A3B": (61.1e9, 98304, 4),
    "microsoft/phi-4": (29.3e9, 204800, 10),
    "Qwen/Qwen2.5-Coder-14B-Instruct": (29.5e9, 196608, 8),
    "Qwen/Qwen2.5-1.5B-Instruct": (3.09e9, 28672, 2),
}


# GiB of an A100-80GB's instances, as CUDA reports them.
MIG_GIB = {"1g.10gb": 9.5, "2g.20gb": 19.5, "3g.40gb": 39.25}


def kv_tokens(model, gpu, tp, util=0.9, overhead_gib=3.6, profile=None):
    weights, kv, heads = MODELS[model]
    per_gpu = MIG_GIB.get(profile, GPUS[gpu][3]) * util * GIB - weights / tp - overhead_gib * GIB
    return int(per_gpu / (kv / min(tp, heads))) // 16 * 16


def utilization(w):
    """vLLM's share of the GPU's memory."""
    arguments = w["args"] or []
    return float(arguments[arguments.index("--gpu-memory-utilization") + 1]) if "--gpu-memory-utilization" in arguments else 0.9


# --- workloads -------------------------------------------------------------------------------------------------------

VLLM = "vllm/vllm-openai:v0.11.0"


def vllm(cluster, ns, name, model, on, tp=1, load=None, gpus=None, image=VLLM, cpu="16", memory="96Gi", args=(), kind="Deployment",
         shell=False, max_len=16384, labels=None, **more):
    """`on`: node name prefixes, one a replica. `load`: what it does; None = its metrics page does not answer.
    more: cpu_limit, hpa=(min, max), ignore=annotation, stuck=(reason, restarts, seconds), oom=seconds since the kernel killed it,
    crash=hours since when it last ended in error under load, mig=the profile it asks for."""
    command, arguments = None, ["--model", model, "--tensor-parallel-size", str(tp), "--max-model-len", str(max_len), *args]
    if shell:
        command = ["/bin/sh", "-c"]
        arguments = ["exec vllm serve $MODEL \\\n  --tensor-parallel-size=" + str(tp) + " \\\n  --max-model-len ${MAX_LEN:-" + str(max_len) + "} "
                     + " ".join(args)]
    # Where Prometheus is, people look at throttling: their pods have CPU limits.
    more.setdefault("cpu_limit", cpu if cluster in STORES else None)
    return dict(cluster=cluster, ns=ns, name=name, kind=kind, engine="vllm", model=model, on=on, tp=tp, gpus=gpus or tp, image=image,
                cpu=cpu, memory=memory, command=command, args=arguments, env=[("MODEL", model), ("HF_TOKEN", None)] if shell else [("HF_TOKEN", None)],
                load=load, port=8000, max_len=max_len, labels=labels or {}, **more)


def load(rps, prompt, output, itl, ttft, up_days, busy=0.45, hit=0.1, shape="day"):
    """Of one replica, on average: requests/s, tokens of a request, seconds a token, seconds to the first one, how busy its GPUs
    are. `shape`: how that goes up and down (load.py). What follows from these is computed, not said."""
    return dict(rps=rps, prompt=prompt, output=output, itl=itl, ttft=ttft, up=up_days * DAY, busy=busy, hit=hit, shape=shape)


def idle(up_days):
    return load(0.0, 0, 0, 0.0, 0.0, up_days, busy=0.0, hit=0.0, shape="never")


def workloads():
    h, l, a, l4 = (lambda i: f"ip-10-0-1-{10 + i}"), (lambda i: f"ip-10-0-2-{20 + i}"), (lambda i: f"ip-10-0-3-{30 + i}"), (lambda i: f"ip-10-0-4-{40 + i}")
    a3, a2, g2 = (lambda i: f"gke-research-a3-{i:02d}"), (lambda i: f"gke-research-a2-{i:02d}"), (lambda i: f"gke-research-g2-{i:02d}")
    nd, nc, t4 = (lambda i: f"aks-h100-31577342-vmss00000{i}"), (lambda i: f"aks-a100-18840251-vmss00000{i}"), (lambda i: f"aks-t4-40193377-vmss00000{i}")
    w = []
    # --- AWS: chat in production -----------------------------------------------------------------------------------
    w.append(vllm(AWS, "chat-prod", "chat-llama-70b", "meta-llama/Llama-3.3-70B-Instruct", [h(1), h(1), h(2), h(2)], tp=4, cpu="32", memory="256Gi",
                  max_len=32768, load=load(1.5, 1900, 420, 0.021, 0.35, 23, busy=0.55, hit=0.28), hpa=(3, 8), args=["--max-num-seqs", "128"]))
    w.append(vllm(AWS, "chat-prod", "intent-router-7b", "Qwen/Qwen2.5-7B-Instruct", [h(3), h(3), h(3)], cpu="16", memory="64Gi", max_len=8192,
                  load=load(0.5, 600, 60, 0.007, 0.04, 41, busy=0.06), args=["--max-num-seqs", "64"]))
    w.append(vllm(AWS, "summaries", "mixtral-legacy", "mistralai/Mixtral-8x7B-Instruct-v0.1", [h(3)], tp=2, memory="160Gi", max_len=32768,
                  load=idle(16.5), shell=True, image="vllm/vllm-openai:v0.8.5"))
    w.append(vllm(AWS, "people", "hr-assistant-27b", "google/gemma-3-27b-it", [h(3)], tp=2, cpu="16", memory="160Gi", max_len=32768,
                  load=load(0.55, 2600, 350, 0.017, 0.3, 27, busy=0.3, shape="office")))
    w.append(vllm(AWS, "reasoning", "r1-distill-70b", "deepseek-ai/DeepSeek-R1-Distill-Llama-70B", [h(4)], tp=4, cpu="32", memory="256Gi", max_len=65536,
                  load=load(0.3, 2600, 5200, 0.032, 1.9, 19, busy=0.6), args=["--max-num-seqs", "256"], crash=20))
    w.append(vllm(AWS, "reasoning", "llama-405b-trial", "meta-llama/Llama-3.1-405B-Instruct-FP8", [h(4)], tp=4, cpu="64", memory="640Gi",
                  load=None, stuck=("CrashLoopBackOff", 7, 41 * 60)))
    w.append(vllm(AWS, "agents", "coder-14b", "Qwen/Qwen2.5-Coder-14B-Instruct", [h(5), h(5)], cpu="4", memory="48Gi", max_len=32768,
                  load=load(1.1, 3100, 260, 0.012, 0.2, 15, busy=0.42, shape="starved")))
    w.append(vllm(AWS, "agents", "gpt-oss-120b", "openai/gpt-oss-120b", [h(5)], tp=2, gpus=4, cpu="32", memory="200Gi", max_len=65536,
                  load=load(1.4, 2400, 700, 0.009, 0.22, 19, busy=0.5)))
    w.append(vllm(AWS, "agents", "tools-qwen3-30b", "Qwen/Qwen3-30B-A3B", [h(5), h(5)], cpu="16", memory="96Gi", max_len=32768,
                  load=load(3.4, 1500, 330, 0.011, 0.15, 17, busy=0.55)))
    # --- AWS: L40S -------------------------------------------------------------------------------------------------
    w.append(vllm(AWS, "docs", "qwen3-32b", "Qwen/Qwen3-32B-FP8", [l(1), l(1), l(2)], tp=2, cpu="12", memory="80Gi", max_len=16384,
                  load=load(0.7, 1400, 380, 0.034, 0.5, 26, busy=0.5, shape="falling")))
    w.append(vllm(AWS, "docs", "phi4-extract", "microsoft/phi-4", [l(3), l(3)], cpu="10", memory="64Gi", max_len=16384,
                  load=load(0.9, 1500, 220, 0.03, 0.3, 31, busy=0.5)))
    w.append(vllm(AWS, "docs", "phi4-tables", "microsoft/phi-4", [l(2), l(3), l(3)], cpu="10", memory="64Gi", max_len=16384,
                  load=load(0.85, 1600, 240, 0.031, 0.3, 21, busy=0.5)))
    w.append(dict(cluster=AWS, ns="etl", name="feature-builder", kind="Deployment", engine=None, on=[l(4)], gpus=0, image="internal/spark-executor:3.5.1",
                  cpu="43", memory="340Gi", args=["spark-executor"], command=None, env=[], load=None, labels={}, up=8 * DAY))
    w.append(vllm(AWS, "docs", "llama-8b-awq", "hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4", [a(1), a(2)], cpu="3", memory="12Gi", max_len=8192,
                  args=["--quantization", "awq_marlin"], load=load(1.4, 500, 160, 0.016, 0.09, 22, busy=0.5)))
    w.append(dict(cluster=AWS, ns="search", name="bge-m3", kind="Deployment", engine="tei", model="BAAI/bge-m3", on=[a(3), a(4)], gpus=1,
                  image="ghcr.io/huggingface/text-embeddings-inference:86-1.7", cpu="3", cpu_limit="3", memory="8Gi", command=None, args=["--model-id", "BAAI/bge-m3"],
                  env=[], load=load(14.2, 0, 0, 0.0, 0.0, 25, busy=0.3), port=80, labels={}))
    w.append(vllm(AWS, "experiments", "mistral-7b-canary", "mistralai/Mistral-7B-Instruct-v0.3", [a(5)], cpu="3", memory="12Gi", max_len=8192,
                  load=idle(4.2), ignore="dark-capacity canary for the Friday release, owner search-platform"))
    w.append(vllm(AWS, "search", "rerank-llama-8b", "meta-llama/Llama-3.1-8B-Instruct", [l4(1)], cpu="3", memory="12Gi", max_len=4096,
                  load=load(0.6, 1100, 12, 0.045, 0.7, 18, busy=0.44), oom=5.2 * HOUR))
    w.append(vllm(AWS, "search", "query-rewrite", "Qwen/Qwen2.5-7B-Instruct", [l4(2)], cpu="3", memory="12Gi", max_len=4096,
                  load=load(0.9, 300, 40, 0.05, 0.3, 18, busy=0.47)))
    # --- GKE: research ---------------------------------------------------------------------------------------------
    w.append(vllm(GKE, "eval", "llama-405b-eval", "meta-llama/Llama-3.1-405B-Instruct", [a3(1)], tp=8, cpu="96", memory="1200Gi", max_len=16384,
                  load=None, stuck=("CrashLoopBackOff", 61, 2.3 * DAY), kind="StatefulSet"))
    w.append(dict(cluster=GKE, ns="pretrain", name="moe-ablation-17", kind="Job", engine=None, on=[a3(2)], gpus=6, image="internal/megatron:25.09",
                  cpu="150", memory="1200Gi", command=["torchrun"], args=["--nproc-per-node=6", "pretrain_gpt.py"], env=[], load=None, labels={}, up=3.4 * DAY, busy=0.86))
    w.append(dict(cluster=GKE, ns="eval", name="judge-nightly", kind="Deployment", engine="vllm", model="google/gemma-3-27b-it", on=[a3(3)], gpus=2,
                  image="vllm/vllm-openai:v0.11.9-typo", cpu="16", memory="96Gi", command=None, args=["--model", "google/gemma-3-27b-it", "-tp", "2"], env=[],
                  load=None, port=8000, labels={}, stuck=("ImagePullBackOff", 0, 3.1 * DAY), up=3.1 * DAY, tp=2))
    w.append(dict(cluster=GKE, ns="pretrain", name="reward-model-sweep", kind="Job", engine=None, on=[None], gpus=6, image="internal/megatron:25.09",
                  cpu="96", memory="800Gi", command=["torchrun"], args=["--nproc-per-node=6", "train_rm.py"], env=[], load=None, labels={}, up=2.2 * HOUR,
                  pool="a3-h100"))
    w.append(dict(cluster=GKE, ns="eval", name="sglang-qwen3-moe", kind="Deployment", engine="sglang", model="Qwen/Qwen3-30B-A3B", on=[a3(3), a3(3)], gpus=1, tp=1, cpu_limit="16",
                  image="lmsysorg/sglang:v0.5.3-cu126", cpu="16", memory="120Gi", command=["python3", "-m", "sglang.launch_server"],
                  args=["--model-path", "Qwen/Qwen3-30B-A3B", "--tp", "1", "--context-length", "32768", "--enable-metrics", "--port", "8000"], env=[],
                  port=8000, labels={}, load=load(3.1, 900, 300, 0.012, 0.12, 16, busy=0.5), max_len=32768))
    for i in range(1, 4):
        w.append(dict(cluster=GKE, ns=f"user-{['amara', 'jonas', 'li'][i - 1]}", name="workbench", kind="StatefulSet", engine=None, on=[a2(i)], gpus=1,
                      image="kubeflownotebookswg/jupyter-pytorch-cuda-full:v1.9.2", cpu="8", memory="48Gi", command=None, args=["jupyter", "lab"], env=[], load=None,
                      labels={"notebook-name": "workbench"}, up=[19, 2, 33][i - 1] * DAY, busy=[0.0, 0.4, 0.0][i - 1]))
    w.append(vllm(GKE, "translate", "gemma-27b", "google/gemma-3-27b-it", [g2(1)], tp=4, cpu="32", memory="160Gi", max_len=8192,
                  load=load(0.35, 700, 350, 0.061, 0.9, 17, busy=0.5)))
    w.append(vllm(GKE, "translate", "subtitles-8b", "meta-llama/Llama-3.1-8B-Instruct", [g2(3)] * 3, cpu="8", memory="32Gi", max_len=8192,
                  load=load(0.5, 700, 120, 0.04, 0.4, 9, busy=0.4)))
    # --- AKS: applications -----------------------------------------------------------------------------------------
    w.append(vllm(AKS, "support", "ticket-mistral-7b", "mistralai/Mistral-7B-Instruct-v0.3", [nc(i) for i in range(6)], cpu="12", memory="96Gi", max_len=8192,
                  load=load(0.3, 900, 110, 0.011, 0.06, 52, busy=0.07), hpa=(2, 8)))
    w.append(vllm(AKS, "support", "voice-llama-8b", "meta-llama/Llama-3.1-8B-Instruct", [nc(6), nc(7)], cpu="12", memory="96Gi", max_len=16384,
                  load=load(5.2, 800, 190, 0.014, 0.12, 30, busy=0.55)))
    w.append(vllm(AKS, "copilot", "copilot-llama-70b", "meta-llama/Llama-3.3-70B-Instruct", [nd(0), nd(0), nd(1)], tp=4, cpu="40", memory="400Gi", max_len=32768,
                  load=load(1.6, 2100, 380, 0.022, 0.4, 36, busy=0.6), hpa=(2, 4)))
    w.append(vllm(AKS, "copilot", "copilot-llama-70b-dr", "meta-llama/Llama-3.3-70B-Instruct", [nd(1)], tp=4, cpu="40", memory="400Gi", max_len=32768,
                  load=idle(36), hpa=(1, 2)))
    w.append(dict(cluster=AKS, ns="vision", name="triton-ocr", kind="Deployment", engine="triton", model=None, on=[t4(0)], gpus=1, tp=None,
                  image="nvcr.io/nvidia/tritonserver:25.03-py3", cpu="3", memory="16Gi", command=["tritonserver"], args=["--model-repository=/models"], env=[],
                  port=8002, labels={}, load=load(11, 0, 0, 0.0, 0.0, 64, busy=0.35)))
    w.append(dict(cluster=AKS, ns="vision", name="triton-ocr-v1", kind="Deployment", engine="triton", model=None, on=[t4(1)], gpus=1, tp=None,
                  image="nvcr.io/nvidia/tritonserver:23.10-py3", cpu="3", memory="16Gi", command=["tritonserver"], args=["--model-repository=/models"], env=[],
                  port=8002, labels={}, load=idle(64)))
    # One T4 in four time slices: two servers that each want most of its memory, one of them for two slices.
    w.append(vllm(AKS, "tagging", "tagger-1b5", "Qwen/Qwen2.5-1.5B-Instruct", [t4(2)], gpus=2, cpu="1", memory="8Gi", max_len=4096,
                  load=load(0.6, 220, 12, 0.02, 0.1, 21, busy=0.12), args=["--gpu-memory-utilization", "0.6"]))
    w.append(vllm(AKS, "tagging", "spam-1b5", "Qwen/Qwen2.5-1.5B-Instruct", [t4(2)], cpu="1", memory="8Gi", max_len=4096,
                  load=load(0.9, 180, 6, 0.02, 0.1, 21, busy=0.1), args=["--gpu-memory-utilization", "0.6"]))
    # Two more such cards with one calm server each; and a card in two slices whose holders fill it day and night.
    w.append(vllm(AKS, "tagging", "language-1b5", "Qwen/Qwen2.5-1.5B-Instruct", [t4(3), t4(4)], cpu="1", memory="8Gi", max_len=4096,
                  load=load(0.4, 150, 5, 0.02, 0.1, 21, busy=0.08), args=["--gpu-memory-utilization", "0.6"]))
    w.append(vllm(AKS, "tagging", "nightly-labels-1b5", "Qwen/Qwen2.5-1.5B-Instruct", [t4(5)], cpu="1", memory="8Gi", max_len=4096,
                  load=load(2.1, 900, 160, 0.03, 0.4, 13, busy=0.9, shape="flat"), args=["--gpu-memory-utilization", "0.45"]))
    w.append(vllm(AKS, "tagging", "dedupe-1b5", "Qwen/Qwen2.5-1.5B-Instruct", [t4(5)], cpu="1", memory="8Gi", max_len=4096,
                  load=load(0.8, 700, 20, 0.05, 0.5, 13, busy=0.5, shape="flat"), args=["--gpu-memory-utilization", "0.45"]))
    # A100s in MIG instances.
    mig = lambda i: f"aks-a100mig-20711563-vmss00000{i}"
    w.append(vllm(AKS, "guardrails", "moderation-1b5", "Qwen/Qwen2.5-1.5B-Instruct", [mig(0)], cpu="6", memory="32Gi", max_len=8192, mig="3g.40gb",
                  load=load(1.1, 420, 8, 0.009, 0.05, 24, busy=0.2), args=["--max-num-seqs", "32"]))
    w.append(vllm(AKS, "guardrails", "pii-8b-awq", "hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4", [mig(0)], cpu="6", memory="32Gi", max_len=4096, mig="2g.20gb",
                  load=load(0.3, 800, 40, 0.03, 0.2, 24, busy=0.35), args=["--quantization", "awq_marlin", "--max-num-seqs", "32"]))
    w.append(dict(cluster=AKS, ns="support", name="ticket-embeddings", kind="Deployment", engine="tei", model="BAAI/bge-m3", on=[mig(1), mig(1)], gpus=1, mig="1g.10gb",
                  image="ghcr.io/huggingface/text-embeddings-inference:1.7", cpu="3", memory="8Gi", command=None, args=["--model-id", "BAAI/bge-m3"],
                  env=[], load=load(6.5, 0, 0, 0.0, 0.0, 24, busy=0.25), port=80, labels={}))
    w.append(dict(cluster=AKS, ns="vision", name="captions", kind="Deployment", engine="vllm", model="Qwen/Qwen2.5-VL-3B-Instruct", on=[None], gpus=1, tp=1, mig="2g.20gb",
                  image=VLLM, cpu="6", memory="32Gi", command=None, args=["--model", "Qwen/Qwen2.5-VL-3B-Instruct", "--max-model-len", "8192"], env=[], load=None,
                  port=8000, labels={}, up=3.6 * HOUR, pool="a100-small"))
    return w
