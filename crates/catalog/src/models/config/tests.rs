use super::super::{LayerKind, ModelFacts, ModelSource, find};
use super::*;
use proptest::prelude::*;

/// Configs with the fields that the hub's have, for architectures of the catalogue.
const CONFIGS: &str = include_str!("configs.json");

fn configs() -> Vec<(String, Value)> {
    let all: Vec<Value> = serde_json::from_str(CONFIGS).expect("fixtures are JSON");
    all.into_iter()
        .map(|mut v| (v["id"].as_str().unwrap_or_default().to_string(), v["config"].take()))
        .collect()
}

fn of(id: &str) -> ModelFacts {
    let (_, config) = configs().into_iter().find(|(known, _)| known == id).expect("a fixture");
    parse(id, &config.to_string()).unwrap_or_else(|e| unreachable!("{id}: {e}"))
}

/// Parameters of a row's decoder by the row's own shape; `None`: the row does not tell all of it.
fn recounted(m: &ModelFacts) -> Option<u64> {
    let h = u64::from(m.hidden?);
    let mut layers = 0;
    let mut mixers = 0;
    for group in &m.groups {
        let (LayerKind::Full(a) | LayerKind::Sliding { attention: a, .. } | LayerKind::Chunked { attention: a, .. }) =
            &group.kind
        else {
            return None;
        };
        layers += u64::from(group.layers);
        mixers += u64::from(group.layers) * count::attention(a, m.hidden?, false, false);
    }
    let with_experts = m.experts.map_or(0, |e| u64::from(e.layers));
    // Up and down alone, or a gate beside them.
    let matrices = if count::PLAIN_MLP.contains(&m.model_type.as_str()) {
        2
    } else {
        3
    };
    let dense = (layers - with_experts) * matrices * h * u64::from(m.intermediate.unwrap_or(0));
    let experts = m.experts.map_or(0, |e| {
        let one = matrices * h * u64::from(e.intermediate);
        with_experts * ((u64::from(e.count) + u64::from(e.shared)) * one + u64::from(e.count) * h)
    });
    let tables = if m.tied_embeddings? { 1 } else { 2 } * m.vocab? * h;
    // Positions that are learned have a table of their own.
    let learned = matches!(
        m.model_type.as_str(),
        "gpt2" | "opt" | "gpt_bigcode" | "bert" | "xlm-roberta"
    );
    let positions = if learned { m.max_positions.unwrap_or(0) * h } else { 0 };
    (layers > 0).then_some(mixers + dense + experts + tables + positions + 2 * layers * h)
}

/// "verified-by-param-count" is no word to believe: whoever writes it has a shape that gives the hub's count.
#[test]
fn rows_that_were_verified_by_their_count_are_counted_again() {
    let (mut counted, mut all, mut wrong) = (0, 0, Vec::new());
    for row in super::super::all()
        .iter()
        .filter(|r| r.confidence.starts_with("verified-by-param-count"))
    {
        all += 1;
        let m = &row.facts;
        let Some(own) = recounted(m) else { continue };
        counted += 1;
        let told = m.parameters.unwrap_or_default() - m.tower_parameters;
        let error = (own as f64 / told as f64 - 1.0) * 100.0;
        if error.abs() > 0.5 {
            wrong.push(format!(
                "{} ({}): {own}, the row says {told}: {error:.2} %",
                m.id, m.model_type
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What is left out has a part that a row does not describe.
    assert!(counted * 10 >= all * 9, "{counted} of {all}");
}

/// Decoder parameters by the formula against the hub's count in the catalogue, and the same layers and experts.
#[test]
fn the_formula_gives_the_hubs_count() {
    let all = configs();
    assert!(all.len() >= 40);
    let mut wrong = Vec::new();
    for (id, config) in &all {
        let facts = match parse(id, &config.to_string()) {
            Ok(facts) => facts,
            Err(e) => {
                wrong.push(format!("{id}: {e}"));
                continue;
            }
        };
        let row = find(id).unwrap_or_else(|| unreachable!("{id} has a row"));
        // The towers' own count is an estimate (5 % of a tenth): the hub's whole is met within 1 % with one.
        let known = row.parameters.unwrap_or_default() as f64;
        let error = facts.parameters.map_or(100.0, |p| (p as f64 / known - 1.0) * 100.0);
        if error.abs() > 0.5 {
            wrong.push(format!("{id}: {:?}, hub {known}: {error:.2} %", facts.parameters));
        }
        let mut groups = facts.groups.clone();
        let mut known = row.groups.clone();
        groups.sort_by_key(|g| format!("{:?}", g.kind));
        known.sort_by_key(|g| format!("{:?}", g.kind));
        if groups != known {
            wrong.push(format!("{id}: {groups:?}, row {known:?}"));
        }
        if facts.experts != row.experts {
            wrong.push(format!("{id}: {:?}, row {:?}", facts.experts, row.experts));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// By hand, from the configs: the sums are in the comments.
#[test]
fn counts_by_hand() {
    // 32·(2·4096²+2·4096·1024+3·4096·14336+2·4096)+2·128256·4096
    assert_eq!(of("meta-llama/Llama-3.1-8B-Instruct").parameters, Some(8_030_257_152));
    // 80·(2·8192²+2·8192·1024+3·8192·28672+2·8192)+2·128256·8192
    assert_eq!(of("meta-llama/Llama-3.1-70B-Instruct").parameters, Some(70_553_698_304));
    // 32·(2·4096²+2·4096·1024+8·3·4096·14336+8·4096+2·4096)+2·32000·4096; active: less 32·6·3·4096·14336
    let mixtral = of("mistralai/Mixtral-8x7B-Instruct-v0.1");
    assert_eq!(mixtral.parameters, Some(46_702_788_608));
    assert_eq!(mixtral.active_parameters, Some(12_879_921_152));
    let qwen = of("Qwen/Qwen3-235B-A22B");
    assert_eq!(qwen.active_parameters.map(|a| a / 100_000_000), Some(221), "A22B");
    let deepseek = of("deepseek-ai/DeepSeek-V3");
    assert_eq!(deepseek.parameters.map(|p| p / 1_000_000_000), Some(671));
    assert_eq!(deepseek.active_parameters.map(|a| a / 100_000_000), Some(375));
    assert_eq!(deepseek.quantization.as_deref(), Some("fp8 block128"));
    assert_eq!(deepseek.max_positions, Some(163_840));
    assert_eq!(of("openai/gpt-oss-120b").max_positions, Some(131_072));
    assert_eq!(deepseek.source, ModelSource::Config);
}

/// DeepSeek-V4.1's layers between two sources keep no entries of their own, and its tables are no layers.
#[test]
fn layers_that_share_entries_keep_none() {
    let config = serde_json::json!({"model_type": "deepseek_v41", "text_config": {
        "model_type": "deepseek_v41_text", "hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 64,
        "num_key_value_heads": 1, "head_dim": 512, "q_lora_rank": 1280, "o_lora_rank": 1024, "o_groups": 8, "vocab_size": 129_280,
        "moe_intermediate_size": 2304, "n_routed_experts": 384, "n_shared_experts": 1, "num_experts_per_tok": 6,
        "sliding_window": 128, "index_head_dim": 128, "max_position_embeddings": 1_048_576, "tie_word_embeddings": false,
        "compress_ratios": ([vec![0; 2], vec![2; 18], vec![1; 20]].concat()), "kv_source_layer_ids": [2, 8, 14, 20],
        "engram_num_embeddings": [384_006_168_u64, 384_016_682_u64], "engram_head_dim": 256}});
    let facts = parse("deepseek-ai/DeepSeek-V4.1-Flash", &config.to_string()).expect("a config");
    let row = find("deepseek-ai/DeepSeek-V4.1-Flash").expect("a row");
    // (compression, layers); 0: a window alone.
    let kept = |facts: &ModelFacts| {
        let mut all: Vec<(u32, u32)> = facts
            .groups
            .iter()
            .map(|g| match g.kind {
                LayerKind::Compressed { ratio, .. } => (ratio, g.layers),
                _ => (0, g.layers),
            })
            .collect();
        all.sort_unstable();
        all
    };
    assert_eq!(kept(&facts), [(0, 36), (1, 1), (2, 3)]);
    assert_eq!(kept(&row), kept(&facts));
    assert_eq!(facts.table_parameters, 196_613_849_600);
    assert_eq!(row.table_parameters, facts.table_parameters);
    // 552 B of layers (its paper's figure) and 196.6 B of tables; the draft's three stages and the tower are the rest of 763.2.
    assert_eq!(facts.parameters.map(|p| p / 1_000_000_000), Some(748));
    // A broken file's table is no reason to overflow.
    let mut broken = config;
    broken["text_config"]["engram_num_embeddings"] = serde_json::json!([u64::MAX, u64::MAX]);
    assert!(parse("x", &broken.to_string()).is_ok_and(|f| f.parameters.is_some()));
}

#[test]
fn a_missing_field_is_named() {
    for field in ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"] {
        let (id, mut config) = configs().swap_remove(0);
        config.as_object_mut().expect("an object").remove(field);
        let error = parse(&id, &config.to_string()).expect_err(field);
        assert!(error.contains(field), "{field}: {error}");
    }
    assert!(parse("x", "{}").expect_err("empty").contains("model_type"));
    assert!(parse("x", "[]").is_err() && parse("x", "{").is_err());
    let odd = r#"{"model_type":"llama","hidden_size":4096,"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":5,"vocab_size":32000}"#;
    assert!(parse("x", odd).expect_err("5 of 32").contains("num_key_value_heads"));
}

#[test]
fn quantization_of_every_tool_is_read() {
    let said = |config: &str| {
        quantization::of(&serde_json::from_str(&format!("{{\"quantization_config\":{config}}}")).expect("JSON"))
    };
    for (config, expected) in [
        (
            r#"{"quant_method":"awq","bits":4,"group_size":128}"#,
            Some("awq-int4 g128"),
        ),
        (
            r#"{"quant_method":"gptq","bits":8,"group_size":32}"#,
            Some("gptq-int8 g32"),
        ),
        (
            r#"{"quant_method":"bitsandbytes","load_in_4bit":true}"#,
            Some("bnb-nf4"),
        ),
        (
            r#"{"quant_method":"bitsandbytes","load_in_8bit":true}"#,
            Some("bnb-int8"),
        ),
        (r#"{"quant_method":"mxfp4"}"#, Some("mxfp4 (experts)")),
        (r#"{"quant_method":"fbgemm_fp8"}"#, Some("fp8")),
        (
            r#"{"quant_method":"modelopt","quant_algo":"NVFP4","kv_cache_scheme":{"num_bits":8}}"#,
            Some("nvfp4 g16 kv fp8"),
        ),
        (
            r#"{"quant_method":"compressed-tensors","config_groups":{"group_0":{"weights":{"num_bits":4,"type":"int","group_size":32}}}}"#,
            Some("int4 w4a16 g32"),
        ),
        (
            r#"{"quant_method":"compressed-tensors","config_groups":{"group_0":{"weights":{"num_bits":8,"type":"int"},"input_activations":{"num_bits":8}}}}"#,
            Some("int8 w8a8"),
        ),
        (
            r#"{"quant_method":"compressed-tensors","config_groups":{"group_0":{"weights":{"num_bits":8,"type":"float"},"input_activations":{}}},"kv_cache_scheme":null}"#,
            Some("fp8"),
        ),
        (r#"{"quant_method":"novel"}"#, Some("novel")),
        ("{}", None),
        ("null", None),
    ] {
        assert_eq!(said(config).as_deref(), expected, "{config}");
    }
    assert_eq!(
        of_modelopt(r#"{"quantization":{"quant_algo":"FP8","kv_cache_quant_algo":"FP8"}}"#).as_deref(),
        Some("fp8 kv fp8")
    );
}

proptest! {
    /// Any one field of any config replaced by anything: an answer or an error, no panic.
    #[test]
    fn changed_configs_do_not_panic(which in 0..40usize, field in 0..40usize, value in prop_oneof![
        Just(Value::Null), Just(Value::from(0)), Just(Value::from(-1)), Just(Value::from(1)), Just(Value::from(u64::MAX)),
        Just(Value::from(1 << 20)), Just(Value::from(2.5)), Just(Value::from("x")), Just(serde_json::json!([])), Just(serde_json::json!({})),
        Just(serde_json::json!([1, "a", null])),
    ]) {
        let (id, mut config) = configs().swap_remove(which);
        let inner = if config.get("text_config").is_some() { &mut config["text_config"] } else { &mut config };
        let object = inner.as_object_mut().expect("an object");
        let key = object.keys().nth(field % object.len()).cloned().unwrap_or_default();
        object.insert(key, value);
        let _ = parse(&id, &config.to_string());
    }
}
