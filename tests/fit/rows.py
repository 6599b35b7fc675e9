"""Logged start-ups of real servers, and the command that asks `gpuwaste fit` about one."""
import csv, json, re, subprocess

GIB = 2**30


def read(paths):
    rows = []
    for path in paths:
        with open(path, newline="") as file:
            rows += list(csv.DictReader(file))
    return [r for r in rows if usable(r)]


def number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def usable(row):
    """Rows that name their model and their card, and whose parallelism is told or one."""
    text = " ".join((row["gpu"], row["notes"], row["other_flags"]))
    if row["dubious"] or not row["model"] or re.search(r"not said|not in the log|\(", row["model"]):
        return False
    if not row["gpu_total_gib"] and (not row["gpu"] or "not said" in row["gpu"]):
        return False
    return bool(row["tensor_parallel"]) or not re.search(r"\b([2-9]|1[0-9])\s?x\b|\b[2-9] GPUs", text)


def thread(row):
    """What one person posted: rows of one source are not independent."""
    return re.sub(r"[#?].*", "", row["source"]).strip().lower()


def engine(row):
    if row["engine"] == "vllm":
        old = re.match(r"0\.[0-7]\b", row["engine_version"] or "")
        return "vllm-v0" if old or row["engine_gen"] == "V0" else "vllm"
    return {"tensorrt-llm": "trtllm", "llama.cpp": "llamacpp"}.get(row["engine"], row["engine"])


def gpu_name(text):
    """The GPU's name as people write it, without the collector's remarks: 'NVIDIA B200 (8x)' -> 'NVIDIA B200'."""
    return re.sub(r"\s*\([^)]*\)|\?", "", text).split(" / ")[0].strip()


def arguments(row):
    """Exactly the settings that the row states; blank: not passed."""
    args = ["fit", row["model"], "--format", "json"]

    def add(flag, value):
        if value not in ("", None):
            args.extend([flag, str(value)])

    names = {"vllm": "vllm", "sglang": "sglang", "tensorrt-llm": "trtllm", "llama.cpp": "llamacpp"}
    add("--engine", names.get(row["engine"]))
    add("--engine-version", row["engine_version"] or row["engine_gen"])
    add("--gpu", gpu_name(row["gpu"]))
    add("--gpu-memory-gib", row["gpu_total_gib"])
    add("--tp", row["tensor_parallel"] or "1")
    add("--pp", row["pipeline_parallel"])
    add("--quantization", row["quantization"].replace("(name)", "").strip())
    add("--dtype", row["weight_dtype"])
    add("--kv-cache-dtype", row["kv_cache_dtype"])
    add("--gpu-memory-utilization", row["gpu_memory_utilization"])
    add("--mem-fraction-static", row["mem_fraction_static"])
    add("--max-model-len", row["max_model_len"])
    add("--max-num-seqs", row["max_num_seqs"])
    add("--max-num-batched-tokens", row["max_num_batched_tokens"])
    add("--dp", (re.match(r"\d+", row["data_parallel"]) or [""])[0])
    flags = (row["other_flags"] + " " + row["data_parallel"]).lower()
    if row["enforce_eager"].lower() == "true":
        args.append("--enforce-eager")
    if row["expert_parallel"].lower() in ("true", "yes") or "enable-expert-parallel" in flags:
        args.append("--expert-parallel")
    if re.search(r"dp[-_]attention", flags):
        args.append("--dp-attention")
    for flag, pattern in (
        ("--chunked-prefill-size", r"chunked[-_]prefill[-_]size[ =]+(\d+)"),
        ("--block-size", r"block[-_]size[ =]+(\d+)"),
    ):
        found = re.search(pattern, flags)
        if found:
            add(flag, found.group(1))
    return args


def more_arguments(row):
    """Settings that the row states in words; the table's own scorer does not pass them."""
    flags, args = row["other_flags"].lower(), []
    if re.search(r"(?<!no )\bmtp\b", flags):
        found = re.search(r"(\d+) tokens?|tokens=(\d+)", flags)
        args += ["--speculative-method", "mtp"]
        args += ["--speculative-tokens", next(g for g in found.groups() if g)] if found else []
    elif "ngram" in flags:
        args += ["--speculative-method", "ngram"]
    elif re.search(r"speculative:? (?!decoding off)", flags) and "no speculative" not in flags:
        args += ["--speculative-method", "draft"]
    if "language_model_only" in flags:
        args.append("--language-model-only")
    limit = re.search(r"limit[-_]mm\S* (?:image=)?(\d+)", flags)
    args += ["--images-per-prompt", limit.group(1)] if limit else []
    if "lora" in flags and "no lora" not in flags:
        args.append("--enable-lora")
    if "prefix caching off" in flags:
        args += ["--prefix-caching", "false"]
    elif "prefix-caching" in flags or "prefix caching" in flags:
        args += ["--prefix-caching", "true"]
    dtype = re.search(r"mamba_ssm_cache_dtype (\S+?)(?:;|$)", flags)
    args += ["--mamba-ssm-cache-dtype", dtype.group(1)] if dtype else []
    both = re.search(r"mamba dtypes (\S+?)(?:;|$)", flags)
    args += ["--mamba-cache-dtype", both.group(1)] if both else []
    most = re.search(r"max_total_tokens=(\d+)", flags)
    args += ["--max-total-tokens", most.group(1)] if most else []
    return args


def ask(binary, row, extra=(), told=False):
    """The first placement, or {} and why there is none."""
    words = [binary, *arguments(row), *(more_arguments(row) if told else []), *extra]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    try:
        return json.loads(done.stdout)["placements"][0], ""
    except (ValueError, KeyError, IndexError):
        return {}, f"exit {done.returncode}: {done.stderr.strip()[:160]}"


def logged(row):
    """Weights and pool in GiB a GPU, and tokens, as far as the log tells and the row does not take them back."""
    weights, gib, blocks = (number(row[k]) for k in ("weights_gib_per_gpu", "kv_gib_per_gpu", "kv_blocks"))
    tokens = number(row["kv_tokens"]) or (blocks * (number(row["kv_block_size"]) or 16) if blocks else None)
    if "kv" in row["skip"]:
        tokens = gib = None
    if "weights" in row["skip"]:
        weights = None
    return weights, gib, tokens
