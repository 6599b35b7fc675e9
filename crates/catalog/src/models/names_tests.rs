//! Names as people write them, each checked by hand: the row (with `~` the base that is assumed, `-` a size alone, empty:
//! nothing), and the quantization.

use super::{ModelSource, resolve};

const NAMES: &[(&str, &str, &str)] = &[
    (
        "meta-llama/Llama-3.1-70B-Instruct",
        "meta-llama/Llama-3.1-70B-Instruct",
        "",
    ),
    (
        "meta-llama/Meta-Llama-3.1-8B-Instruct",
        "meta-llama/Llama-3.1-8B-Instruct",
        "",
    ),
    (
        "unsloth/Llama-3.3-70B-Instruct-bnb-4bit",
        "meta-llama/Llama-3.3-70B-Instruct",
        "bnb-nf4",
    ),
    (
        "unsloth/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M",
        "meta-llama/Llama-3.1-8B-Instruct",
        "Q4_K_M",
    ),
    (
        "bartowski/Llama-3.3-70B-Instruct-GGUF",
        "meta-llama/Llama-3.3-70B-Instruct",
        "gguf",
    ),
    (
        "TheBloke/Llama-2-13B-chat-AWQ",
        "meta-llama/Llama-2-13b-chat-hf",
        "awq-int4 g128",
    ),
    (
        "TheBloke/Mistral-7B-Instruct-v0.2-GPTQ",
        "mistralai/Mistral-7B-Instruct-v0.2",
        "gptq-int4 g128",
    ),
    (
        "neuralmagic/Meta-Llama-3.1-70B-Instruct-FP8",
        "meta-llama/Llama-3.1-70B-Instruct",
        "fp8",
    ),
    (
        "RedHatAI/Llama-3.3-70B-Instruct-quantized.w8a8",
        "meta-llama/Llama-3.3-70B-Instruct",
        "int8 w8a8",
    ),
    (
        "RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16",
        "meta-llama/Llama-3.1-8B-Instruct",
        "int4 w4a16 g128",
    ),
    (
        "nvidia/Llama-3.3-70B-Instruct-FP4",
        "nvidia/Llama-3.3-70B-Instruct-FP4",
        "nvfp4 g16 kv fp8 attention=nvfp4",
    ),
    (
        "nvidia/Llama-3.1-405B-Instruct-FP8",
        "nvidia/Llama-3.1-405B-Instruct-FP8",
        "fp8 kv fp8",
    ),
    (
        "nvidia/DeepSeek-R1-FP4",
        "deepseek-ai/DeepSeek-R1",
        "nvfp4 g16 kv fp8 attention=8.8",
    ),
    (
        "nvidia/DeepSeek-R1-0528-NVFP4-v2",
        "nvidia/DeepSeek-R1-0528-NVFP4-v2",
        "nvfp4 g16 kv fp8 attention=8.8",
    ),
    (
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
        "",
    ),
    (
        "deepseek-ai/DeepSeek-R1-Distill-Llama-70B",
        "deepseek-ai/DeepSeek-R1-Distill-Llama-70B",
        "",
    ),
    ("deepseek-ai/DeepSeek-V3.1", "deepseek-ai/DeepSeek-V3.1", "fp8 block128"),
    (
        "deepseek-ai/DeepSeek-V3-0324",
        "deepseek-ai/DeepSeek-V3-0324",
        "fp8 block128",
    ),
    ("unsloth/DeepSeek-R1-GGUF", "deepseek-ai/DeepSeek-R1", "gguf"),
    (
        "unsloth/DeepSeek-V3-0324-GGUF:UD-Q2_K_XL",
        "deepseek-ai/DeepSeek-V3-0324",
        "Q2_K_XL",
    ),
    ("llama3.1:70b", "meta-llama/Llama-3.1-70B-Instruct", "Q4_K_M"),
    ("llama3.2", "", ""),
    (
        "llama3.3:70b-instruct-q4_K_M",
        "meta-llama/Llama-3.3-70B-Instruct",
        "Q4_K_M",
    ),
    ("qwen2.5:7b", "Qwen/Qwen2.5-7B-Instruct", "Q4_K_M"),
    ("qwen2.5-coder:32b", "Qwen/Qwen2.5-Coder-32B-Instruct", "Q4_K_M"),
    ("qwen3:30b-a3b", "~Qwen/Qwen3-30B-A3B", "Q4_K_M"),
    ("gemma3:27b", "google/gemma-3-27b-it", "Q4_K_M"),
    ("mistral:7b-instruct-q8_0", "mistralai/Mistral-7B-Instruct-v0.3", "Q8_0"),
    ("mixtral:8x7b", "mistralai/Mixtral-8x7B-Instruct-v0.1", "Q4_K_M"),
    ("deepseek-r1:671b", "deepseek-ai/DeepSeek-R1", "Q4_K_M"),
    ("deepseek-r1:14b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", "Q4_K_M"),
    (
        "gpt-oss:20b",
        "openai/gpt-oss-20b",
        "mxfp4 (MoE weights only; attn/embed/lm_head bf16)",
    ),
    (
        "openai/gpt-oss-120b",
        "openai/gpt-oss-120b",
        "mxfp4 (MoE weights only; attn/embed/lm_head bf16)",
    ),
    (
        "unsloth/gpt-oss-20b",
        "openai/gpt-oss-20b",
        "mxfp4 (MoE weights only; attn/embed/lm_head bf16)",
    ),
    (
        "Qwen/Qwen2.5-72B-Instruct-AWQ",
        "Qwen/Qwen2.5-72B-Instruct-AWQ",
        "awq-int4 g128",
    ),
    (
        "Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4",
        "Qwen/Qwen2.5-7B-Instruct",
        "gptq-int4 g128",
    ),
    ("Qwen/Qwen2.5-VL-72B-Instruct", "Qwen/Qwen2.5-VL-72B-Instruct", ""),
    (
        "Qwen/Qwen2.5-VL-7B-Instruct-AWQ",
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "awq-int4 g128",
    ),
    ("Qwen/Qwen3-32B-FP8", "Qwen/Qwen3-32B-FP8", "fp8 block128"),
    (
        "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8",
        "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8",
        "fp8 block128",
    ),
    (
        "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8",
        "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8",
        "fp8 block128",
    ),
    (
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
        "",
    ),
    (
        "Qwen/Qwen3-VL-235B-A22B-Instruct",
        "Qwen/Qwen3-VL-235B-A22B-Instruct",
        "",
    ),
    ("Qwen/Qwen3-8B-AWQ", "Qwen/Qwen3-8B-AWQ", "awq-int4 g128"),
    ("Qwen/QwQ-32B-AWQ", "Qwen/QwQ-32B", "awq-int4 g128"),
    ("Qwen/Qwen3.5-397B-A17B", "Qwen/Qwen3.5-397B-A17B", ""),
    (
        "cyankiwi/Qwen3-Next-80B-A3B-Instruct-AWQ-4bit",
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
        "awq-int4 g128",
    ),
    (
        "cpatonn/Qwen3-VL-30B-A3B-Instruct-AWQ-8bit",
        "Qwen/Qwen3-VL-30B-A3B-Instruct",
        "int8 w8a16",
    ),
    (
        "QuantTrio/Qwen3-235B-A22B-Thinking-2507-AWQ",
        "Qwen/Qwen3-235B-A22B-Thinking-2507",
        "awq-int4 g128",
    ),
    ("google/gemma-3-27b-it", "google/gemma-3-27b-it", ""),
    ("google/gemma-3-12b-it-qat-q4_0-gguf", "google/gemma-3-12b-it", "Q4_0"),
    (
        "gaunernst/gemma-3-27b-it-int4-awq",
        "google/gemma-3-27b-it",
        "awq-int4 g128",
    ),
    ("google/gemma-2-9b-it", "google/gemma-2-9b-it", ""),
    ("google/medgemma-27b-it", "-", ""),
    (
        "mistralai/Mistral-Small-3.2-24B-Instruct-2506",
        "mistralai/Mistral-Small-3.2-24B-Instruct-2506",
        "",
    ),
    (
        "mistralai/Mistral-Large-Instruct-2411",
        "mistralai/Mistral-Large-Instruct-2411",
        "",
    ),
    ("mistralai/Devstral-Small-2507", "~mistralai/Devstral-Small-2505", ""),
    (
        "mistralai/Mixtral-8x22B-Instruct-v0.1",
        "mistralai/Mixtral-8x22B-Instruct-v0.1",
        "",
    ),
    ("mistralai/Magistral-Small-2509", "~mistralai/Magistral-Small-2506", ""),
    ("mistralai/Codestral-22B-v0.1", "mistralai/Codestral-22B-v0.1", ""),
    ("mistralai/Pixtral-12B-2409", "mistralai/Pixtral-12B-2409", ""),
    ("microsoft/phi-4", "microsoft/phi-4", ""),
    ("microsoft/Phi-3.5-mini-instruct", "microsoft/Phi-3.5-mini-instruct", ""),
    ("zai-org/GLM-4.5-Air-FP8", "zai-org/GLM-4.5-Air", "fp8"),
    ("zai-org/GLM-4.6", "zai-org/GLM-4.6", ""),
    ("cpatonn/GLM-4.5-Air-AWQ-4bit", "zai-org/GLM-4.5-Air", "awq-int4 g128"),
    (
        "moonshotai/Kimi-K2-Instruct",
        "moonshotai/Kimi-K2-Instruct",
        "fp8 block128",
    ),
    (
        "moonshotai/Kimi-K2-Thinking",
        "moonshotai/Kimi-K2-Thinking",
        "int4 g32 (QAT, routed experts; compressed-tensors)",
    ),
    ("MiniMaxAI/MiniMax-M2", "MiniMaxAI/MiniMax-M2", "fp8 block128"),
    (
        "NousResearch/Hermes-3-Llama-3.1-70B",
        "~meta-llama/Llama-3.1-70B-Instruct",
        "",
    ),
    ("NousResearch/Hermes-4-405B", "-", ""),
    ("Sao10K/L3.3-70B-Euryale-v2.3", "~meta-llama/Llama-3.3-70B-Instruct", ""),
    ("TheDrummer/Anubis-70B-v1", "-", ""),
    (
        "casperhansen/llama-3.3-70b-instruct-awq",
        "meta-llama/Llama-3.3-70B-Instruct",
        "awq-int4 g128",
    ),
    (
        "hugging-quants/Meta-Llama-3.1-405B-Instruct-AWQ-INT4",
        "hugging-quants/Meta-Llama-3.1-405B-Instruct-AWQ-INT4",
        "awq-int4 g128",
    ),
    (
        "cognitivecomputations/dolphin-2.9.2-qwen2-72b",
        "~Qwen/Qwen2-72B-Instruct",
        "",
    ),
    ("HuggingFaceH4/zephyr-7b-beta", "HuggingFaceH4/zephyr-7b-beta", ""),
    ("CohereForAI/c4ai-command-r-plus", "CohereLabs/c4ai-command-r-plus", ""),
    (
        "ibm-granite/granite-3.3-8b-instruct",
        "ibm-granite/granite-3.3-8b-instruct",
        "",
    ),
    (
        "nvidia/NVIDIA-Nemotron-Nano-9B-v2",
        "nvidia/NVIDIA-Nemotron-Nano-9B-v2",
        "",
    ),
    (
        "nvidia/Llama-3_3-Nemotron-Super-49B-v1",
        "nvidia/Llama-3_3-Nemotron-Super-49B-v1",
        "",
    ),
    ("tiiuae/falcon-40b-instruct", "tiiuae/falcon-40b-instruct", ""),
    ("BAAI/bge-m3", "BAAI/bge-m3", ""),
    ("intfloat/e5-mistral-7b-instruct", "intfloat/e5-mistral-7b-instruct", ""),
    (
        "Alibaba-NLP/gte-Qwen2-7B-instruct",
        "Alibaba-NLP/gte-Qwen2-7B-instruct",
        "",
    ),
    ("llava-hf/llava-1.5-7b-hf", "llava-hf/llava-1.5-7b-hf", ""),
    ("OpenGVLab/InternVL3-78B", "OpenGVLab/InternVL3-78B", ""),
    ("LLM360/K2-Think", "", ""),
    ("lmsys/vicuna-13b-v1.5", "lmsys/vicuna-13b-v1.5", ""),
    (
        "codellama/CodeLlama-34b-Instruct-hf",
        "codellama/CodeLlama-34b-Instruct-hf",
        "",
    ),
    (
        "acme/our-llama-3.1-70b-finance-v3",
        "~meta-llama/Llama-3.1-70B-Instruct",
        "",
    ),
    ("acme/qwen2.5-72b-sft-dpo", "~Qwen/Qwen2.5-72B-Instruct", ""),
    ("my-lora-merged-mistral-7b", "", ""),
    ("/models/Qwen2.5-32B-Instruct", "Qwen/Qwen2.5-32B-Instruct", ""),
    ("/mnt/pvc/llama-3-70b", "meta-llama/Meta-Llama-3-70B-Instruct", ""),
    (
        "s3://bucket/models/Llama-3.1-8B-Instruct",
        "meta-llama/Llama-3.1-8B-Instruct",
        "",
    ),
    (
        "hf.co/bartowski/Qwen2.5-14B-Instruct-GGUF:Q5_K_M",
        "Qwen/Qwen2.5-14B-Instruct",
        "Q5_K_M",
    ),
    ("Muse-Glimmer-30B", "meta-models/Muse-Glimmer-30B", ""),
    ("Qwen/Qwen3-32B-unquantized", "Qwen/Qwen3-32B", ""),
    ("RedHatAI/Qwen3-30B-A3B-NVFP4", "Qwen/Qwen3-30B-A3B", "nvfp4 g16"),
    (
        "qwen3:30b-a3b-instruct-2507-q4_K_M",
        "~Qwen/Qwen3-30B-A3B-Instruct-2507",
        "Q4_K_M",
    ),
    (
        "unsloth/Nemotron-3-Super-120B-A12B-FP8",
        "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16",
        "fp8",
    ),
    (
        "nvidia/Nemotron-3.5-Lightning-30B-A3B",
        "~nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4",
        "",
    ),
    ("CohereLabs/command-a-03-2025", "CohereLabs/c4ai-command-a-03-2025", ""),
    (
        "RedHatAI/Muse-Glimmer-30B-FP8-block",
        "meta-models/Muse-Glimmer-30B",
        "fp8 block128",
    ),
    (
        "Inferact/Muse-Glimmer-30B-NVFP4-W4A4",
        "~meta-models/Muse-Glimmer-30B",
        "nvfp4 g16",
    ),
    (
        "deepseek-ai/DeepSeek-V4.1-Flash",
        "deepseek-ai/DeepSeek-V4.1-Flash",
        "experts fp4 (mxfp4), rest fp8 block128",
    ),
    ("mistralai/Mistral-Small-4", "", ""),
    ("kaitchup/Qwen3-32B-autoround-8bit-gptq", "Qwen/Qwen3-32B", "int8 w8a16"),
];

/// What the table writes of a name's facts.
fn told(name: &str) -> (String, String) {
    let Some(facts) = resolve(name) else {
        return (String::new(), String::new());
    };
    let row = match (facts.source, &facts.base) {
        (ModelSource::Catalog, _) => facts.id.clone(),
        (_, Some(base)) => format!("~{base}"),
        _ => "-".into(),
    };
    (row, facts.quantization.unwrap_or_default())
}

#[test]
fn names_of_people_lead_to_their_model_or_say_that_they_do_not() {
    let wrong: Vec<String> = NAMES
        .iter()
        .filter_map(|(name, row, quantization)| {
            let (found, said) = told(name);
            (found != *row || said != *quantization)
                .then(|| format!("{name}: {found:?} {said:?}, not {row:?} {quantization:?}"))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        NAMES.len(),
        wrong.join("\n")
    );
}
