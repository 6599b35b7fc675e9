use super::*;

fn id(name: &str) -> Option<String> {
    find(name).map(|m| m.id)
}

fn both(name: &str) -> Option<(String, Option<String>)> {
    find(name).map(|m| (m.id, m.quantization))
}

#[test]
fn every_spelling_leads_to_its_row() {
    for name in [
        "meta-llama/Llama-3.1-8B-Instruct",
        "META-LLAMA/LLAMA-3.1-8B-INSTRUCT",
        "meta-llama/Meta-Llama-3.1-8B-Instruct",
        "llama-3.1-8b-instruct",
        "meta/llama-3.1-8b-instruct",
        "nvcr.io/nim/meta/llama-3.1-8b-instruct:1.8.3",
        "unsloth/Meta-Llama-3.1-8B-Instruct",
        "llama-3_1-8b-instruct",
        "/models/Meta-Llama-3.1-8B-Instruct/",
        "/mnt/models/Llama-3.1-8B-Instruct/1",
        "/cache/hub/models--meta-llama--Llama-3.1-8B-Instruct/snapshots/0e9e39f249a16976918f6564b8830bc894c89659",
        "s3://bucket/team/Llama-3.1-8B-Instruct",
        "s3://bucket/models/meta-llama--Llama-3.1-8B-Instruct",
        "/models/meta-llama--Llama-3.1-8B-Instruct/1/",
        "gs://bucket/Llama-3.1-8B-Instruct/v1/",
        "pvc://models/meta-llama/Llama-3.1-8B-Instruct",
        "hf://meta-llama/Llama-3.1-8B-Instruct@main",
    ] {
        assert_eq!(id(name).as_deref(), Some("meta-llama/Llama-3.1-8B-Instruct"), "{name}");
        assert_eq!(find(name).and_then(|m| m.quantization), None, "{name}");
    }
}

#[test]
fn quantized_copies_get_their_own_quantization_and_the_shape_of_the_base() {
    for (name, base, said) in [
        (
            "hugging-quants/Meta-Llama-3.1-405B-Instruct-AWQ-INT4",
            "hugging-quants/Meta-Llama-3.1-405B-Instruct-AWQ-INT4",
            "awq-int4 g128",
        ),
        (
            "unsloth/meta-llama-3.1-8b-instruct-unsloth-bnb-4bit",
            "meta-llama/Llama-3.1-8B-Instruct",
            "bnb-nf4 mixed",
        ),
        (
            "RedHatAI/Qwen2.5-7B-Instruct-quantized.w4a16",
            "Qwen/Qwen2.5-7B-Instruct",
            "int4 w4a16 g128",
        ),
        (
            "cognitivecomputations/DeepSeek-V3-0324-AWQ",
            "deepseek-ai/DeepSeek-V3-0324",
            "awq-int4 g128",
        ),
        (
            "gaunernst/gemma-3-12b-it-int4-awq",
            "google/gemma-3-12b-it",
            "awq-int4 g128",
        ),
        (
            "jakiAJK/DeepSeek-R1-Distill-Qwen-7B_GPTQ-int4",
            "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
            "gptq-int4 g128",
        ),
        ("Qwen/Qwen3-0.6B-FP8", "Qwen/Qwen3-0.6B", "fp8 block128"),
        (
            "bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M",
            "meta-llama/Llama-3.2-3B-Instruct",
            "Q4_K_M",
        ),
        (
            "/models/Qwen2.5-7B-Instruct-Q5_K_S.gguf",
            "Qwen/Qwen2.5-7B-Instruct",
            "Q5_K_S",
        ),
        ("llama3.1:8b", "meta-llama/Llama-3.1-8B-Instruct", "Q4_K_M"),
        ("llama3.1:8b-instruct-q8_0", "meta-llama/Llama-3.1-8B-Instruct", "Q8_0"),
        (
            "gpt-oss:20b",
            "openai/gpt-oss-20b",
            "mxfp4 (MoE weights only; attn/embed/lm_head bf16)",
        ),
        ("gemma3:27b-it-qat", "google/gemma-3-27b-it", "Q4_0"),
    ] {
        assert_eq!(both(name), Some((base.to_string(), Some(said.to_string()))), "{name}");
    }
    assert_eq!(
        both("unsloth/DeepSeek-R1-BF16"),
        Some(("deepseek-ai/DeepSeek-R1".into(), None))
    );
    // A row of its own wins over the base.
    assert_eq!(id("Qwen/Qwen3-8B-FP8").as_deref(), Some("Qwen/Qwen3-8B-FP8"));
}

#[test]
fn look_alikes_are_never_taken() {
    for (name, wrong) in [
        ("Qwen2.5-7B", "Qwen/Qwen2.5-72B-Instruct"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "deepseek-ai/DeepSeek-R1"),
        ("deepseek-r1:7b", "deepseek-ai/DeepSeek-R1"),
        ("Qwen/Qwen3-8B-Base", "Qwen/Qwen3-32B"),
        ("llama-2-13b", "meta-llama/Llama-2-7b-chat-hf"),
    ] {
        let found = id(name).unwrap_or_default();
        assert!(!found.is_empty() && found != wrong, "{name} → {found}");
    }
    for name in [
        "yuhuili/EAGLE3-LLaMA3.1-Instruct-8B",
        "nvidia/Llama-3.1-8B-Instruct-Eagle3",
        "acme/Llama-3.1-8B-Instruct-lora",
        "acme/Qwen3-8B-MTP",
        "acme/Llama-3.1-8B-Instruct-adapter/v1",
        "deepseek-r1:8b-llama-distill-q4_K_M",
        "llama3.1",
        "llama3.1:latest",
        "deepseek-v3.1:671b-cloud",
        "acme/Hermes-Llama-3.1-8B",
        "model",
        "/mnt/models",
        "default",
        "gpt-4o",
        "",
        "///",
        ":",
    ] {
        assert_eq!(id(name), None, "{name}");
    }
}

#[test]
fn base_models_of_qwen2_do_not_borrow_the_context_of_the_instruct_row() {
    let base = find("Qwen/Qwen2.5-7B").expect("a sibling");
    assert_eq!(base.max_positions, None);
    assert_eq!(
        find("Qwen/Qwen2.5-7B-Instruct").and_then(|m| m.max_positions),
        Some(32_768)
    );
}

#[test]
fn a_name_is_the_last_resort_and_says_so() {
    let parsed = resolve("acme/secret-finetune-13b-awq").expect("a size");
    assert_eq!(parsed.source, ModelSource::Name);
    assert_eq!(parsed.quantization.as_deref(), Some("awq-int4 g128"));
    assert_eq!(resolve("Qwen/Qwen3-32B").map(|m| m.source), Some(ModelSource::Catalog));
}

#[test]
fn suggestions_come_nearest_first() {
    assert_eq!(
        nearest("meta-llama/Llama-3.1-8B-Instrct")[0],
        "meta-llama/Llama-3.1-8B-Instruct"
    );
    assert!(nearest("zzz").is_empty());
}

#[test]
fn every_row_is_whole() {
    assert!(all().len() >= 515, "{}", all().len());
    let mut described = 0;
    for row in all() {
        let m = &row.facts;
        assert!(!row.source.is_empty() && !row.confidence.is_empty(), "{}", m.id);
        assert!(m.parameters.is_some_and(|p| p > 1_000_000), "{}", m.id);
        assert!(
            m.active_parameters.is_none_or(|a| Some(a) <= m.parameters && a > 0),
            "{}",
            m.id
        );
        assert!(m.parameters.is_some_and(|p| m.tower_parameters < p), "{}", m.id);
        assert_eq!(find(&m.id).map(|f| f.id), Some(m.id.clone()));
        if m.layers().is_some() {
            described += 1;
        }
        if m.verified && m.task == Task::Generate {
            assert!(m.hidden.is_some() && m.vocab.is_some(), "{}", m.id);
        }
        if let Some(e) = m.experts {
            assert!(e.layers > 0 && e.per_token <= e.count, "{}", m.id);
        }
    }
    assert!(described >= 475, "{described}");
}

#[test]
fn layers_of_every_kind_are_read() {
    let groups = |name: &str| find(name).map(|m| m.groups).unwrap_or_default();
    let scout = groups("meta-llama/Llama-4-Scout-17B-16E-Instruct");
    assert!(matches!(scout[1].kind, LayerKind::Chunked { window: 8192, .. }) && scout[1].layers == 36);
    let gemma = groups("google/gemma-4-31B-it");
    assert!(matches!(
        gemma[0].kind,
        LayerKind::Full(Attention::Grouped {
            kv_heads: 4,
            head_dim: 512,
            v_head_dim: 512,
            ..
        })
    ));
    assert!(matches!(gemma[1].kind, LayerKind::Sliding { window: 1024, .. }));
    let shared = groups("google/gemma-3n-E4B-it");
    assert!(shared.iter().any(|g| g.kind == LayerKind::SharedKv && g.layers == 15));
    // vLLM's state of one layer, summed over layers as the memory model counts it: 64 389 120 B.
    let hybrid = groups("Qwen/Qwen3.5-35B-A3B");
    let LayerKind::Recurrent(state) = &hybrid[1].kind else {
        unreachable!("{hybrid:?}")
    };
    let bytes = state.conv_elements as f64 * 2.0 + state.recurrent_elements as f64 * state.recurrent_element_bytes;
    assert_eq!(bytes * f64::from(hybrid[1].layers), 64_389_120.0);
    assert!(matches!(
        groups("tiiuae/Falcon-H1-7B-Instruct")[0].kind,
        LayerKind::Parallel { .. }
    ));
    assert!(matches!(
        groups("deepseek-ai/DeepSeek-R1")[0].kind,
        LayerKind::Full(Attention::Latent {
            kv_lora_rank: 512,
            rope_dim: 64,
            index_head_dim: None,
            ..
        })
    ));
    let sparse = groups("zai-org/GLM-5.2");
    assert!(sparse[0].layers == 21 && sparse[1].layers == 57 && sparse[0] != sparse[1]);
    assert!(
        groups("nvidia/Llama-3_1-Nemotron-Ultra-253B-v1").is_empty(),
        "not known, not guessed"
    );
}

#[test]
fn copies_of_nvidia_and_with_draft_layers_are_read() {
    let quantized = |name: &str| both(name).and_then(|(_, said)| said).unwrap_or_default();
    assert_eq!(quantized("nvidia/Qwen3-32B-NVFP4"), "nvfp4 g16 kv fp8 dense=nvfp4");
    // Its ignore list leaves attention at 16 bit; another maker's is not known.
    assert_eq!(
        quantized("nvidia/Gemma-4-31B-IT-NVFP4"),
        "nvfp4 g16 kv fp8 attention=bf16"
    );
    assert_eq!(quantized("acme/gemma-4-31B-it-NVFP4"), "nvfp4 g16");
    assert_eq!(quantized("nvidia/phi-4-FP8"), "fp8 kv fp8");
    assert_eq!(quantized("RedHatAI/Qwen3-32B-NVFP4"), "nvfp4 g16 dense=nvfp4");
    // A whole model that keeps its draft layer, and a draft.
    assert_eq!(id("acme/Qwen3.6-27B-NVFP4-MTP").as_deref(), Some("Qwen/Qwen3.6-27B"));
    assert_eq!(id("acme/Qwen3.6-27B-MTP"), None);
}

#[test]
fn fine_tunes_lead_to_their_shape() {
    for (name, positions) in [
        ("teknium/OpenHermes-2.5-Mistral-7B", 32_768),
        ("berkeley-nest/Starling-LM-7B-alpha", 8192),
        ("Qwen/Qwen2.5-Math-1.5B-Instruct", 4096),
        ("NousResearch/Nous-Hermes-2-Mixtral-8x7B-DPO", 32_768),
        ("lmsys/vicuna-13b-v1.3", 2048),
    ] {
        assert_eq!(find(name).and_then(|m| m.max_positions), Some(positions), "{name}");
    }
}
