#!/usr/bin/env python3
"""Score `gpuwaste fit` against what real inference servers logged.

usage: score_fit.py --binary target/release/gpuwaste --truth tests/fit/groundtruth.csv [--verbose]

Per row it runs one `gpuwaste fit MODEL … --format json` with exactly the settings that the row states (blank = not passed)
and compares placements[0] with the log:
  weights   weights_bytes_per_gpu against weights_gib_per_gpu
  kv        kv_capacity_tokens against kv_tokens (or kv_blocks x block size)
  per-token kv_bytes_per_token_per_gpu against kv_gib_per_gpu / kv_tokens
  verdict   "fits" for a server that was refused or ran out of memory at start is UNSAFE; "does-not-fit" for one that ran is a FALSE ALARM;
            "tight" and "unknown" are neither, and are counted
  bands     the logged KV tokens must lie inside kv_capacity_band_tokens, and the band must not be wide
A figure that the row has logged and the answer lacks (null, 0, missing) counts as 100 % error, and the row as not answered.
Left out: what the column `skip` names (kv, weights, verdict), rows marked dubious, rows whose model or GPU the log does not name, rows with no stated parallelism on several GPUs.
The last line is the summary; exit 0 when every target holds, 1 otherwise.
"""
import argparse, csv, json, re, statistics as st, subprocess, sys

TARGETS = {  # name: (limit, higher_is_better)
    "answered %": (95.0, True),
    "weights median err %": (1.5, False), "weights p90 err %": (8.0, False),
    "per-token within 2 % of rows, %": (90.0, True),
    "kv median err %": (8.0, False), "kv p90 err %": (50.0, False),
    "kv inside band %": (80.0, True), "band median width %": (40.0, False),
    "unsafe %": (6.0, False), "false alarm %": (4.0, False),
    "undecided of running %": (20.0, False), "undecided of failing %": (45.0, False),
}

def number(text):
    try: return float(text)
    except (TypeError, ValueError): return None

def arguments(row):
    args = ["fit", row["model"], "--format", "json"]
    def add(flag, value):
        if value not in ("", None): args.extend([flag, str(value)])
    engine = {"vllm": "vllm", "sglang": "sglang", "tensorrt-llm": "trtllm"}.get(row["engine"])
    add("--engine", engine); add("--engine-version", row["engine_version"] or row["engine_gen"])
    add("--gpu", gpu_name(row["gpu"])); add("--gpu-memory-gib", row["gpu_total_gib"])
    add("--tp", row["tensor_parallel"] or "1")
    add("--pp", row["pipeline_parallel"])
    add("--quantization", row["quantization"].replace("(name)", "").strip()); add("--dtype", row["weight_dtype"])
    add("--kv-cache-dtype", row["kv_cache_dtype"]); add("--gpu-memory-utilization", row["gpu_memory_utilization"])
    add("--mem-fraction-static", row["mem_fraction_static"]); add("--max-model-len", row["max_model_len"])
    add("--max-num-seqs", row["max_num_seqs"]); add("--max-num-batched-tokens", row["max_num_batched_tokens"])
    add("--dp", (re.match(r"\d+", row["data_parallel"]) or [""])[0]); flags = (row["other_flags"] + " " + row["data_parallel"]).lower()
    if row["enforce_eager"].lower() == "true": args.append("--enforce-eager")
    if row["expert_parallel"].lower() in ("true", "yes") or "enable-expert-parallel" in flags: args.append("--expert-parallel")
    if re.search(r"dp[-_]attention", flags): args.append("--dp-attention")
    for flag, pattern in (("--chunked-prefill-size", r"chunked[-_]prefill[-_]size[ =]+(\d+)"), ("--block-size", r"block[-_]size[ =]+(\d+)")):
        found = re.search(pattern, flags)
        if found: add(flag, found.group(1))
    return args

def gpu_name(text):
    """The GPU's name as people write it, without the collector's remarks: 'NVIDIA B200 (8x)' -> 'NVIDIA B200'."""
    return re.sub(r"\s*\([^)]*\)|\?", "", text).split(" / ")[0].strip()

def usable(row):
    text = " ".join((row["gpu"], row["notes"], row["other_flags"]))
    if row["dubious"] or not row["model"] or re.search(r"not said|not in the log|\(", row["model"]): return False
    if not row["gpu_total_gib"] and (not row["gpu"] or "not said" in row["gpu"]): return False
    return bool(row["tensor_parallel"]) or not re.search(r"\b([2-9]|1[0-9])\s?x\b|\b[2-9] GPUs", text)

def percentile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))] if values else float("nan")

def main():
    p = argparse.ArgumentParser(); p.add_argument("--binary", required=True); p.add_argument("--truth", required=True); p.add_argument("--verbose", action="store_true")
    o = p.parse_args()
    rows = [r for r in csv.DictReader(open(o.truth, newline="")) if usable(r)]
    weights, kv, per_token, inside, width, answered = [], [], [], [], [], 0
    unsafe, alarm, wait_running, wait_failing, running, failing = [], [], [], [], 0, 0
    for r in rows:
        run = subprocess.run([o.binary, *arguments(r)], capture_output=True, text=True, timeout=60)
        try: place = json.loads(run.stdout)["placements"][0]
        except (ValueError, KeyError, IndexError):
            place = {}
            if o.verbose: print(f"{r['id']} {r['model']}: no answer (exit {run.returncode}): {run.stderr.strip()[:160]}")
        note, complete, verdict = [], True, place.get("verdict")
        w, t, gib, blocks = (number(r[k]) for k in ("weights_gib_per_gpu", "tensor_parallel", "kv_gib_per_gpu", "kv_blocks"))
        tokens = number(r["kv_tokens"]) or (blocks * (number(r["kv_block_size"]) or 16) if blocks else None)
        if "kv" in r["skip"]: tokens = gib = None
        if "weights" in r["skip"]: w = None
        if w and t:
            got = place.get("weights_bytes_per_gpu"); complete &= bool(got)
            weights.append(abs(got / 2**30 - w) / w * 100 if got else 100.0); note.append(f"weights {weights[-1]:.1f}%")
        if tokens:
            got = place.get("kv_capacity_tokens"); complete &= bool(got)
            floor = .05 * (number(r["gpu_total_gib"]) or 0) / gib * tokens if gib else 0  # a pool under 5 % of the card is judged against 5 % of it
            kv.append(abs(got - tokens) / max(tokens, floor) * 100 if got else 100.0); note.append(f"kv {kv[-1]:.1f}% ({got} vs {tokens:.0f})")
            lo, hi = (place.get("kv_capacity_band_tokens") or [None, None])[:2]
            inside.append(lo is not None and hi is not None and lo <= tokens <= hi)
            if lo is not None and hi is not None and hi > 0: width.append((hi - lo) / ((hi + lo) / 2) * 100)
        if gib and tokens and t:
            got = place.get("kv_bytes_per_token_per_gpu"); complete &= bool(got)
            per_token.append(abs(got / (gib * 2**30 / tokens) - 1) * 100 if got else 100.0)
        if verdict in (None, "unknown"): complete = False
        answered += complete
        if "verdict" in r["skip"]: continue
        undecided = verdict in (None, "tight", "unknown")
        if r["outcome"] == "fits":
            running += 1
            if undecided: wait_running.append(r["id"])
            elif verdict == "does-not-fit": alarm.append(r["id"]); note.append("FALSE ALARM")
        elif r["outcome"] in ("refused", "oom"):
            failing += 1
            if undecided: wait_failing.append(r["id"])
            elif verdict == "fits": unsafe.append(r["id"]); note.append("UNSAFE")
        if o.verbose: print(f"{r['id']} {r['model']} on {r['gpu'] or r['gpu_total_gib']} tp{r['tensor_parallel'] or '?'} {r['outcome']} -> {verdict}; {', '.join(note)}")
    share = lambda n, d: 100.0 * n / d if d else float("nan")
    median = lambda v: st.median(v) if v else float("nan")
    figures = {
        "answered %": share(answered, len(rows)),
        "weights median err %": median(weights), "weights p90 err %": percentile(weights, .9),
        "per-token within 2 % of rows, %": share(sum(e <= 2 for e in per_token), len(per_token)),
        "kv median err %": median(kv), "kv p90 err %": percentile(kv, .9),
        "kv inside band %": share(sum(inside), len(inside)), "band median width %": median(width),
        "unsafe %": share(len(unsafe), failing), "false alarm %": share(len(alarm), running),
        "undecided of running %": share(len(wait_running), running), "undecided of failing %": share(len(wait_failing), failing),
    }
    counts = {"answered %": len(rows), "weights median err %": len(weights), "kv median err %": len(kv), "per-token within 2 % of rows, %": len(per_token),
              "unsafe %": failing, "false alarm %": running}
    failed = []
    for name, value in figures.items():
        limit, higher = TARGETS[name]
        good = value >= limit if higher else value <= limit
        if not good: failed.append(name)
        print(f"{'ok  ' if good else 'MISS'} {name:34} {value:8.2f}   target {'>=' if higher else '<='} {limit}" + (f"   n={counts[name]}" if name in counts else ""))
    print("unsafe:", *unsafe, "| false alarms:", *alarm, "| undecided of failing:", *wait_failing)
    print("summary:", "; ".join(f"{k} {v:.1f}" for k, v in figures.items()), "| MISS: " + ", ".join(failed) if failed else "| all targets hold")
    return 1 if failed else 0

sys.exit(main())
