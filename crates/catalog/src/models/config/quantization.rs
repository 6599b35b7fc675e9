//! `quantization_config` of every tool, in the words of [`super::ModelFacts::quantization`].

use serde_json::Value;

/// `None`: the checkpoint is not quantized. A method that is not known is named as it is, and the fit says unknown.
pub(super) fn of(root: &Value) -> Option<String> {
    let config = [
        "quantization_config",
        "compression_config",
        "text_config.quantization_config",
    ]
    .iter()
    .find_map(|path| path.split('.').try_fold(root, |v, key| v.get(key)))
    .filter(|v| v.is_object())?;
    let text = |key: &str| {
        config
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    let number = |keys: &[&str]| keys.iter().find_map(|k| config.get(k).and_then(Value::as_u64));
    let truth = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(false);
    let bits = number(&["bits", "w_bit", "num_bits", "nbits"]).unwrap_or(4);
    let group = number(&["group_size", "q_group_size"]).map_or_else(String::new, |g| format!(" g{g}"));
    let method = text("quant_method");
    Some(match method.as_str() {
        "awq" => format!("awq-int{bits}{group}"),
        "gptq" | "gptq_marlin" => format!("gptq-int{bits}{group}"),
        "auto-round" | "autoround" | "intel/auto-round" => format!("int{bits} w{bits}a16{group}"),
        "fp8" | "fbgemm_fp8" | "fbgemm-fp8" if config.get("weight_block_size").is_some_and(Value::is_array) => {
            "fp8 block128".into()
        }
        "fp8" | "fbgemm_fp8" | "fbgemm-fp8" => "fp8".into(),
        // transformers' `Mxfp4Config` converts experts alone.
        "mxfp4" => "mxfp4 (experts)".into(),
        "bitsandbytes" if truth("load_in_8bit") => "bnb-int8".into(),
        "bitsandbytes" => "bnb-nf4".into(),
        "hqq" => format!("hqq-int4{group}"),
        "aqlm" => "aqlm".into(),
        "compressed-tensors" | "compressed_tensors" => compressed(config),
        "modelopt" | "modelopt_fp4" => modelopt(config),
        "" => return None,
        _ => method,
    })
}

/// `hf_quant_config.json` of NVIDIA's ModelOpt, beside the config.
pub fn of_modelopt(text: &str) -> Option<String> {
    let root: Value = serde_json::from_str(text).ok()?;
    Some(modelopt(root.get("quantization")?))
}

fn modelopt(config: &Value) -> String {
    let text = |key: &str| {
        config
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_ascii_uppercase()
    };
    let algorithm = text("quant_algo");
    let base = if algorithm.contains("NVFP4") || algorithm == "FP4" {
        "nvfp4 g16"
    } else if algorithm.contains("FP8") {
        "fp8"
    } else if algorithm.contains("W4A16") || algorithm.contains("AWQ") {
        "awq-int4 g128"
    } else {
        return algorithm.to_ascii_lowercase();
    };
    let kv = text("kv_cache_quant_algo") == "FP8" || config.get("kv_cache_scheme").is_some_and(Value::is_object);
    format!("{base}{}", if kv { " kv fp8" } else { "" })
}

fn compressed(config: &Value) -> String {
    let group = config
        .get("config_groups")
        .and_then(Value::as_object)
        .and_then(|groups| groups.values().find(|g| g.get("weights").is_some_and(Value::is_object)));
    let weights = group.and_then(|g| g.get("weights"));
    let field = |key: &str| weights.and_then(|w| w.get(key));
    let bits = field("num_bits").and_then(Value::as_u64).unwrap_or(8);
    let size = field("group_size")
        .and_then(Value::as_u64)
        .map_or_else(String::new, |g| format!(" g{g}"));
    let float = field("type").and_then(Value::as_str) == Some("float");
    let activations = group.is_some_and(|g| g.get("input_activations").is_some_and(Value::is_object));
    let format = config.get("format").and_then(Value::as_str).unwrap_or_default();
    let base = match (float, bits) {
        (true, 4) if format.contains("mxfp4") => "mxfp4".to_string(),
        (true, 4) => "nvfp4 g16".to_string(),
        (true, _) => "fp8".to_string(),
        (false, 8) if activations => "int8 w8a8".to_string(),
        (false, bits) => format!("int{bits} w{bits}a16{size}"),
    };
    let kv = config.get("kv_cache_scheme").is_some_and(Value::is_object);
    format!("{base}{}", if kv { " kv fp8" } else { "" })
}
