#!/usr/bin/env python3
"""Print this model's step times beside aiconfigurator's, for the measured points that it has tables for. Not part of CI.

usage: beside_aiconfigurator.py [--inputs FILE] [--every N] [-o FILE.csv]

  --every   only each Nth point: one takes it seconds

Needs numpy and aiconfigurator 0.12 (Apache-2.0, PyPI), which interpolates kernels measured on each card. Ours are predictions
without the point's own (source, model); its tables hold kernels, not servers, so that no point is its own either. A point whose
model, card or precision it has no table for is left out for both.
"""
import argparse, csv, logging, os, sys
import numpy as np
import fit_speed as ours

SYSTEMS = {
    "H100-SXM5-80GB": "h100_sxm", "H200-SXM5-141GB": "h200_sxm", "B200-SXM-180GB": "b200_sxm", "B300-SXM-288GB": "b300_sxm", "GB200": "gb200",
    "A100-SXM4-80GB": "a100_sxm", "A100-SXM4-40GB": "a100_sxm", "L40S": "l40s", "H100-PCIE-80GB": "h100_pcie", "RTX-PRO-6000-BSE": "rtx_pro_6000_server",
}
# Ours → a model of the same shape whose configuration the package holds.
SHAPES = {
    "meta-llama/Llama-3.1-70B": "meta-llama/Meta-Llama-3.1-70B", "meta-llama/Llama-3.3-70B-Instruct": "meta-llama/Meta-Llama-3.1-70B",
    "meta-llama/Meta-Llama-3-70B-Instruct": "meta-llama/Meta-Llama-3.1-70B", "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": "meta-llama/Meta-Llama-3.1-70B",
    "nvidia/Llama-3.1-Nemotron-70B-Instruct-HF": "meta-llama/Meta-Llama-3.1-70B", "meta-llama/Llama-3.1-8B-Instruct": "meta-llama/Meta-Llama-3.1-8B",
    "meta-llama/Meta-Llama-3-8B-Instruct": "meta-llama/Meta-Llama-3.1-8B", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": "meta-llama/Meta-Llama-3.1-8B",
    "nvidia/Llama-3.1-8B-Instruct-FP8": "meta-llama/Meta-Llama-3.1-8B", "mistralai/Mixtral-8x7B-Instruct-v0.1": "mistralai/Mixtral-8x7B-v0.1",
    "zhipuai/GLM-5": "zai-org/GLM-5", "deepseek-ai/DeepSeek-R1-0528": "deepseek-ai/DeepSeek-R1", "Qwen/Qwen3-8B-FP8": "Qwen/Qwen3-8B",
    "openai/gpt-oss-120b": "openai/gpt-oss-120b", "MiniMaxAI/MiniMax-M2.5": "MiniMaxAI/MiniMax-M2.5", "deepseek-ai/DeepSeek-V3": "deepseek-ai/DeepSeek-V3",
    "deepseek-ai/DeepSeek-R1": "deepseek-ai/DeepSeek-R1", "Qwen/Qwen3-32B": "Qwen/Qwen3-32B", "Qwen/Qwen3-8B": "Qwen/Qwen3-8B",
    "Qwen/Qwen3-235B-A22B-FP8": "Qwen/Qwen3-235B-A22B-FP8", "Qwen/Qwen3.5-397B-A17B": "Qwen/Qwen3.5-397B-A17B", "Qwen/Qwen3.5-35B-A3B": "Qwen/Qwen3.5-35B-A3B",
    "moonshotai/Kimi-K2.5": "moonshotai/Kimi-K2.5", "nvidia/DeepSeek-V3.1-NVFP4": "nvidia/DeepSeek-V3.1-NVFP4",
}
# What the checkpoint is by itself, where that is not 16 bit.
OWN = {"deepseek-ai/DeepSeek-V3", "deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-R1-0528", "MiniMaxAI/MiniMax-M2.5", "openai/gpt-oss-120b", "Qwen/Qwen3-235B-A22B-FP8", "nvidia/DeepSeek-V3.1-NVFP4"}
FP8_COPY = {"zai-org/GLM-5": "zai-org/GLM-5-FP8", "Qwen/Qwen3-32B": "Qwen/Qwen3-32B-FP8"}
NVFP4_COPY = {
    "MiniMaxAI/MiniMax-M2.5": "nvidia/MiniMax-M2.5-NVFP4", "deepseek-ai/DeepSeek-V3": "nvidia/DeepSeek-V3.1-NVFP4", "deepseek-ai/DeepSeek-R1": "nvidia/DeepSeek-V3.1-NVFP4",
    "moonshotai/Kimi-K2.5": "nvidia/Kimi-K2.5-NVFP4", "zai-org/GLM-5": "nvidia/GLM-5-NVFP4", "Qwen/Qwen3.5-397B-A17B": "nvidia/Qwen3.5-397B-A17B-NVFP4",
}


def asked(point):
    """(model, quantization modes) to ask for, or None where it has nothing like it."""
    model, quantization = SHAPES.get(point["model"]), point["quantization"]
    if model is None:
        return None
    if quantization == "" or quantization == "fp8" and point["model"] in OWN:
        return model, ({"gemm_quant_mode": "fp8"} if point["model"].endswith("FP8") and model == "Qwen/Qwen3-8B" or point["model"] == "nvidia/Llama-3.1-8B-Instruct-FP8" else {})
    if quantization == "fp8":
        return (FP8_COPY[model], {}) if model in FP8_COPY else (model, {"gemm_quant_mode": "fp8", "moe_quant_mode": "fp8"} if point["model"].startswith(("Qwen/Qwen3.5-3",)) else {"gemm_quant_mode": "fp8"})
    if quantization == "nvfp4":
        return (NVFP4_COPY[model], {}) if model in NVFP4_COPY else (model, {"gemm_quant_mode": "nvfp4"})
    return None


def theirs(point, estimate):
    """Seconds a token that it estimates, or the reason why it does not."""
    question = asked(point)
    if question is None or point["gpu"] not in SYSTEMS:
        return "no table of this model, card or precision"
    model, modes = question
    tensor, data = int(point["tensor"] or 1), int(point["data"] or 1)
    batch = max(1, round(float(point["running"]) / data))
    layout = {"tp_size": tensor if data == 1 else 1, "attention_dp_size": data}
    ranks = layout["tp_size"] * data
    layout |= {"moe_ep_size": ranks, "moe_tp_size": 1} if point["expert_parallel"] not in ("", "1") or data > 1 else {"moe_tp_size": ranks, "moe_ep_size": 1}
    if point["kv_cache_dtype"] == "fp8":
        modes = modes | {"kvcache_quant_mode": "fp8"}
    lengths = {"isl": round(float(point["input"])), "osl": max(2, round(float(point["output"])))}
    last = ""
    for drop in ((), ("moe_tp_size", "moe_ep_size")):
        try:
            r = estimate(model, SYSTEMS[point["gpu"]], backend_name=point["engine"], batch_size=batch, **lengths, **modes, **{k: v for k, v in layout.items() if k not in drop})
            return float(r.tpot) / 1e3 if r.tpot and r.tpot > 0 else "no time"
        except Exception as e:  # its errors have no type of their own
            last = f"{type(e).__name__}: {e}".splitlines()[0][:160]
    return last


def table(name, rows, key):
    for k in sorted({r[key] for r in rows}):
        part = [r for r in rows if r[key] == k]
        line = f"{name} {k:<20} {len(part):4}"
        for who in ("ours", "theirs"):
            error = np.array([r[who] / r["real"] - 1 for r in part])
            line += f"   {who} {100 * np.median(abs(error)):5.1f} % (bias {100 * error.mean():+5.1f}, unsafe {100 * (1 / (1 + error) > 1.35).mean():4.1f} %)"
        print(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs"); parser.add_argument("--every", type=int, default=1); parser.add_argument("-o", "--output")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.disable(logging.CRITICAL)
    from aiconfigurator.cli.api import cli_estimate
    a = ours.load(ours.inputs(options.inputs))
    by_group, _, both, groups, share, sizes = ours.residuals(a, ours.fit(a))
    calibration = ours.calibrated(a, both, groups, share, sizes)
    spread = ours.spread_of(sizes, by_group.share) * np.sqrt(1 - by_group.explained)
    value = a["seconds"] / np.exp(by_group.log - by_group.shift) * np.exp(calibration.LEAN * spread)
    points, rows, refused = {p["id"]: p for p in csv.DictReader(ours.POINTS.open())}, [], {}
    for i in np.where(a["scored"] & (a["kind"] == "tpot"))[0][:: options.every]:
        p = points[a["id"][i]]
        said = theirs(p, cli_estimate)
        if isinstance(said, str):
            refused[said] = refused.get(said, 0) + 1
            continue
        print(f"{p['id']} {p['gpu']} {p['model']}: {1e3 * a['seconds'][i]:.1f} ms, ours {1e3 * value[i]:.1f}, theirs {1e3 * said:.1f}", file=sys.stderr, flush=True)
        rows.append({"id": p["id"], "all": "points", "model": p["model"], "card": p["gpu"], "engine": p["engine"], "kind": "mixture" if a["mixture"][i] else "dense", "real": a["seconds"][i], "ours": value[i], "theirs": said})
    for name in ("all", "card", "engine", "kind", "model"):
        table(f"{name:<6}", rows, name)
    for why, n in sorted(refused.items(), key=lambda x: -x[1]):
        print(f"left out {n:4}: {why}")
    if options.output:
        with open(options.output, "w", newline="") as f:
            writer = csv.DictWriter(f, rows[0].keys()); writer.writeheader(); writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
