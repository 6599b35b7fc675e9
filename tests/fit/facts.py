#!/usr/bin/env python3
"""Derive the catalogue's facts about models from configurations, and say where rows disagree.

usage: facts.py [--configs DIR …] [--models crates/catalog/src/data/models.csv] [--write]

A folder has files named ORGANISATION--NAME_config.json and …_hf_quant_config.json (aiconfigurator-core's model_configs, Apache-2.0, has
such), or ORGANISATION/NAME/config.json as a Hugging Face cache or `--models` folder. Derived are
  tower_parameters   from `vision_config` and `audio_config`, else what the row has beside its decoder (formula of count.rs)
  mtp_parameters     from `num_nextn_predict_layers`, `mtp_num_hidden_layers`, else the row's own note of a hub count
  quantization       parts that a quantized checkpoint leaves out (ignore lists, `exclude_modules`, `quantized_layers`)
Without --write differences are printed and the exit status is 1 if there are any.
"""
import argparse, csv, glob, json, os, re, sys

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "..", "..", "crates", "catalog", "src", "data", "models.csv")


def configs(folders):
    """id → (config, hf_quant_config), of every file that looks like one."""
    found = {}
    for folder in folders:
        for path in glob.glob(os.path.join(folder, "**", "*config.json"), recursive=True):
            name = os.path.basename(path)
            flat = re.fullmatch(r"(.+?)--(.+?)_(hf_quant_)?config\.json", name)
            if flat:
                model, quant = f"{flat[1]}/{flat[2]}", bool(flat[3])
            elif name in ("config.json", "hf_quant_config.json"):
                model, quant = "/".join(os.path.dirname(path).split(os.sep)[-2:]), name.startswith("hf_quant")
            else:
                continue
            try:
                data = json.load(open(path, encoding="utf-8"))
            except ValueError:
                continue
            pair = found.setdefault(model, [None, None])
            pair[1 if quant else 0] = data
    return found


def number(config, *names):
    for name in names:
        if isinstance(config.get(name), (int, float)):
            return config[name]
    return None


def tower(config):
    """Parameters of one tower: transformer blocks, the patch embedding and the projector into the decoder."""
    hidden = number(config, "hidden_size", "vt_hidden_size", "embed_dim", "d_model")
    if config.get("model_type", "").startswith(("qwen2_vl", "qwen2_5")) and number(config, "embed_dim"):
        hidden = config["embed_dim"]
    depth = number(config, "depth", "num_hidden_layers", "vt_num_hidden_layers", "encoder_layers")
    inner = number(config, "intermediate_size", "vt_intermediate_size", "encoder_ffn_dim") or 4 * (hidden or 0)
    if not hidden or not depth:
        return 0
    matrices = 3 if config.get("hidden_act") == "silu" else 2
    out = number(config, "out_hidden_size", "text_hidden_size", "projection_dim") or 0
    merge = (number(config, "spatial_merge_size") or 1) ** 2
    deep = 1 + len(config.get("deepstack_visual_indexes") or [])
    projector = deep * (merge * hidden) * (merge * hidden + out) if out else 0
    return int(depth * (4 * hidden**2 + matrices * hidden * inner) + projector)


def towers(config):
    whole = config.get("thinker_config") or config
    parts = (whole.get(name) for name in ("vision_config", "audio_config", "visual"))
    return sum(tower(part) for part in parts if isinstance(part, dict))


# Parts of the weights by the names of their modules.
PARTS = (
    ("head", r"(^|\.)(lm_head|head)$|lm_head"),
    ("embedding", r"embed_tokens|embeddings$"),
    ("shared", r"shared_expert"),
    ("experts", r"experts"),
    ("linear", r"linear_attn|mixer\.(in_proj|out_proj|conv1d)"),
    ("attention", r"self_attn|\.attn|mixer\.[qkvo]_proj"),
    ("dense", r"\.mlp(\*|$|\.(gate_proj|up_proj|down_proj))"),
)
FORMATS = {"NVFP4": "nvfp4", "W4A16_NVFP4": "nvfp4", "FP8": "fp8", "MXFP4": "mxfp4", "FP8_PB_WO": "fp8"}


def part_of(module):
    for part, pattern in PARTS:
        if re.search(pattern, module):
            return part
    return None


def quantized_parts(config, quant):
    """Words such as `attention=bf16`: parts of which every layer (or the whole) is left out or held otherwise."""
    own = config.get("quantization_config") or (config.get("text_config") or {}).get("quantization_config") or {}
    of = (quant or {}).get("quantization") or own
    method = (of.get("quant_algo") or own.get("quant_method") or "").upper()
    if "NVFP4" not in method and method != "MIXED_PRECISION":
        return None
    text = config.get("text_config") or config
    layers = number(text, "num_hidden_layers") or 0
    left = of.get("exclude_modules") or own.get("ignore") or own.get("modules_to_not_convert") or []
    counts, formats = {}, {}
    for module in left:
        part = part_of(module)
        # Gates, norms and indexers are not the part.
        if part and not re.search(r"\.gate$|_gate$|norm|indexer|conv1d", module):
            counts.setdefault(part, []).append(module)
    for module, value in (of.get("quantized_layers") or {}).items():
        part = part_of(module)
        if part:
            formats.setdefault(part, set()).add(FORMATS.get(value.get("quant_algo"), "?"))
    words = []
    for part, modules in counts.items():
        if part in ("head", "embedding"):
            continue  # At 16 bit anyway.
        whole = any("*" in m and not re.search(r"\d", m) for m in modules)
        many = len({re.sub(r"\D*(\d+).*", r"\1", m) for m in modules})
        kinds = {m.rsplit(".", 1)[-1] for m in modules}
        if part == "attention" and not whole and many >= layers * 0.9 and "o_proj" not in " ".join(kinds) and "self_attn*" not in kinds:
            words.append("attention=8.8")  # Multi-head latent attention but for its output.
        elif part == "linear" and many < layers * 0.3:
            words.append("linear=7.5")  # Some of the recurrent layers.
        else:
            words.append(f"{part}=bf16")
    for part, kinds in formats.items():
        kinds.discard("?")
        if len(kinds) == 1:
            kind = kinds.pop()
            if kind != "nvfp4" or part == "head":
                words.append(f"{part}={kind}")
    return " ".join(sorted(words))


def decoder(row):
    """The decoder's parameters by the formula of count.rs, from the row's own columns; None where it does not hold."""
    get = lambda name: int(row[name]) if row[name] else 0
    h, vocab, layers = get("hidden"), get("vocab"), row["layers"].split()
    if not h or not vocab or not layers or row["model_type"] in ("gemma3n",) or row["kv_lora_rank"]:
        return None
    total, count = 0, 0
    gated = row["model_type"].startswith(("qwen3_5", "qwen3_next"))
    for word in layers:
        match = re.fullmatch(r"(\d+)x([a-z0-9-]+)(?:@(\d+))?(?:\((.*)\))?", word)
        if not match:
            return None
        n, kind, options = int(match[1]), match[2], dict(o.split("=") for o in (match[4] or "").split(";") if "=" in o)
        opt = lambda name, default=0: int(options.get(name, default))
        heads, kv = get("heads"), opt("kv", get("kv_heads"))
        d = opt("d", get("head_dim"))
        grouped = h * heads * d + h * kv * 2 * d + heads * d * h + (h * heads * d if gated else 0)
        if kind in ("full", "sliding", "chunked"):
            mixer = grouped
        elif kind == "shared":
            mixer = 2 * h * heads * d
        elif kind == "gdn":
            keys, values = opt("hk") * opt("dk"), opt("hv") * opt("dv")
            mixer = h * (2 * keys + 2 * values) + h * 2 * opt("hv") + (2 * keys + values) * opt("conv") + values * h
        else:
            return None
        total += n * mixer
        count += n
    experts = get("experts")
    with_experts = get("expert_layers")
    dense = count if row["model_type"].startswith("gemma4") else count - with_experts
    total += dense * 3 * h * get("intermediate")
    if experts:
        one = 3 * h * get("expert_intermediate")
        total += with_experts * (experts * one + get("shared_experts") * one + experts * h)
    return total + (1 if row["tied"] == "true" else 2) * vocab * h + 2 * count * h


TOWERS = os.path.join(HERE, "..", "..", "src", "catalog", "data", "towers.csv")


def family_tower(row):
    """Parameters of the family's tower (towers.csv), None for a family without one."""
    with open(TOWERS, newline="", encoding="utf-8") as file:
        for of in csv.DictReader(file):
            if of["model_type"] == row["model_type"] and of["name"].lower() in row["id"].lower():
                hidden, inner = int(of["hidden"]), int(of["inner"])
                return int(of["depth"]) * (4 * hidden**2 + int(of["matrices"]) * hidden * inner)
    return None


SEES = re.compile(r"qwen3_5|qwen4_exp|glm5_next|mimo_v2$|step3p7|kimi_k3|gemma4|gemma3n|llama4|mllama|omni|internvl|interns1|cohere2_vision|glm4v|glm_ocr|llava|minicpm[vo]|mistral3"
                  r"|molmo|phi4mm|phi3_v|_vl|kimi_k25|kimi_vl|pixtral|aya_vision|qwen2_audio|qwen3_asr|voxtral|deepseek_vl")


def derived(row, pair):
    """Columns of a row as its configuration (or its own other columns) give them."""
    out = {}
    config, quant = pair or (None, None)
    blank = row["tower_parameters"] == ""
    if config and towers(config):
        out["tower_parameters"] = str(towers(config))
    elif blank and SEES.search(row["model_type"]) and row["model_type"] != "qwen3_5_moe_text":
        own, family = decoder(row), family_tower(row)
        rest = int(row["parameters"]) - own if own and row["parameters"] else 0
        # What is left beside the decoder, where that is a tower's size; else the family's.
        if rest > 0 and (family is None or 0.6 * family < rest < 2.2 * family):
            out["tower_parameters"] = str(rest)
        elif family:
            out["tower_parameters"] = str(family)
    note = re.search(r"hub count less ([\d.]+)B of the MTP layer", row["notes"])
    if note and "mtp_parameters" in row:
        out["mtp_parameters"] = str(int(float(note[1]) * 1e9))
    if config:
        words = quantized_parts(config, quant)
        if words is not None and row["quantization"].startswith("nvfp4"):
            kv = " kv fp8" if "kv fp8" in row["quantization"] else ""
            out["quantization"] = f"nvfp4 g16{kv}" + (f" {words}" if words else "")
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--configs", nargs="*", default=[])
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--write", action="store_true")
    o = parser.parse_args()
    found = configs(o.configs)
    with open(o.models, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = list(rows[0])
    apart = 0
    for row in rows:
        for column, value in derived(row, found.get(row["id"])).items():
            old = row.get(column, "")
            near = column != "quantization" and old and value and abs(int(old) - int(value)) <= 0.15 * max(int(old), int(value))
            if old == value or near:
                continue
            apart += 1
            print(f"{row['id']}: {column} {old or '(blank)'} → {value}")
            row[column] = value
    if o.write:
        with open(o.models, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        return 0
    return 1 if apart else 0


if __name__ == "__main__":
    sys.exit(main())
