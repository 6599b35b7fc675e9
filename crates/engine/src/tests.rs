use super::*;
use crate::snapshot::server::ServerRole;
use proptest::prelude::*;

fn spec(image: &str, command: &[&str], args: &[&str], env: &[(&str, &str)]) -> ContainerSpec {
    ContainerSpec {
        image: image.into(),
        command: command.iter().map(ToString::to_string).collect(),
        args: args.iter().map(ToString::to_string).collect(),
        env: env.iter().map(|(k, v)| ((*k).into(), Some((*v).into()))).collect(),
        ..ContainerSpec::default()
    }
}

fn read(image: &str, command: &[&str], args: &[&str], env: &[(&str, &str)]) -> EngineSettings {
    recognise(&spec(image, command, args, env)).expect("a server")
}

#[test]
fn vllm_in_every_dress() {
    let expected = |s: &EngineSettings, how: &str| {
        assert_eq!(s.engine, Some(EngineKind::Vllm), "{how}");
        assert_eq!(s.model.as_deref(), Some("org/model"), "{how}");
        assert_eq!((s.tensor_parallel, s.max_model_len), (Some(4), Some(32_000)), "{how}");
    };
    expected(
        &read(
            "vllm/vllm-openai:v0.11.0",
            &[],
            &["--model", "org/model", "-tp", "4", "--max-model-len=32k"],
            &[],
        ),
        "entry point",
    );
    expected(
        &read(
            "vllm/vllm-openai:v0.11.0",
            &[],
            &["--model org/model", "--tensor_parallel_size 4", "--max-model-len 32000"],
            &[],
        ),
        "two words",
    );
    expected(
        &read(
            "any/image",
            &["vllm", "serve", "org/model"],
            &["--tensor-parallel-size=4", "--max-model-len", "32k"],
            &[],
        ),
        "vllm serve",
    );
    expected(
        &read(
            "any/image",
            &["python3", "-m", "vllm.entrypoints.openai.api_server"],
            &["--model=$(M)", "-tp", "4", "--max-model-len", "32000"],
            &[("M", "org/model")],
        ),
        "module and $(VAR)",
    );
    expected(
        &read(
            "any/image",
            &["/bin/sh", "-c"],
            &["export HF_HOME=/x; exec vllm serve ${M} \\\n  -tp ${TP:-4} --max-model-len 32k"],
            &[("M", "org/model")],
        ),
        "script",
    );
    expected(
        &read(
            "ghcr.io/llm-d/llm-d-cuda:v0.3.0",
            &["/bin/bash", "-c"],
            &["eval \"vllm serve org/model ${VLLM_ADDITIONAL_ARGS}\""],
            &[("VLLM_ADDITIONAL_ARGS", "-tp 4 --max-model-len 32k")],
        ),
        "eval with variables",
    );
}

#[test]
fn vllm_settings_are_read_by_name() {
    let s = read(
        "vllm/vllm-openai:v0.10.2",
        &[],
        &[
            "--model=m",
            "--enable-expert-parallel",
            "--kv-cache-dtype",
            "fp8",
            "--gpu-memory-utilization=0.85",
            "--max-num-seqs",
            "128",
            "--enforce-eager",
            "--no-enable-prefix-caching",
            "--enable-lora",
            "--max-loras",
            "4",
            "--port",
            "8080",
            "--served-model-name",
            "a",
            "b",
            "--kv-transfer-config",
            "{\"kv_connector\":\"NixlConnector\",\"kv_role\":\"kv_producer\"}",
            "--quantization",
            "awq",
            "--dtype",
            "auto",
        ],
        &[],
    );
    assert_eq!(s.engine_version.as_deref(), Some("0.10.2"));
    assert_eq!(
        (s.expert_parallel, s.enforce_eager, s.prefix_caching, s.lora),
        (Some(true), Some(true), Some(false), Some(true))
    );
    assert_eq!(
        (
            s.kv_cache_dtype.as_deref(),
            s.quantization.as_deref(),
            s.dtype.as_deref()
        ),
        (Some("fp8"), Some("awq"), None)
    );
    assert_eq!(
        (s.gpu_memory_utilization, s.max_num_seqs, s.port),
        (Some(0.85), Some(128), Some(8080))
    );
    assert_eq!(s.served_names, ["a", "b"]);
    assert_eq!(s.role, Some(ServerRole::Prefill));
}

#[test]
fn a_connector_carries_cache_to_others_unless_it_only_moves_it_to_the_host() {
    let transfers = |config: &str| {
        let s = read(
            "vllm/vllm-openai:v0.12.0",
            &[],
            &["--model=m", "--kv-transfer-config", config],
            &[],
        );
        (s.kv_transfer, s.role)
    };
    for (config, expected) in [
        (r#"{"kv_connector":"NixlConnector","kv_role":"kv_both"}"#, true),
        (r#"{"kv_connector":"LMCacheConnectorV1","kv_role":"kv_both"}"#, true),
        (r#"{"kv_connector":"OffloadingConnector","kv_role":"kv_both"}"#, false),
        (
            r#"{"kv_connector":"MultiConnector","kv_connector_extra_config":{"connectors":[{"kv_connector":"OffloadingConnector"}]}}"#,
            false,
        ),
        (
            r#"{"kv_connector":"MultiConnector","kv_connector_extra_config":{"connectors":[{"kv_connector":"OffloadingConnector"},{"kv_connector":"NixlConnector"}]}}"#,
            true,
        ),
    ] {
        assert_eq!(transfers(config), (expected, None), "{config}");
    }
    assert!(!read("vllm/vllm-openai:v0.12.0", &[], &["--model=m"], &[]).kv_transfer);
}

#[test]
fn the_other_engines_of_the_seed() {
    let s = read(
        "lmsysorg/sglang:v0.5.3",
        &["python3", "-m", "sglang.launch_server"],
        &[
            "--model-path",
            "o/m",
            "--tp",
            "2",
            "--context-length",
            "8192",
            "--mem-fraction-static=0.8",
        ],
        &[],
    );
    assert_eq!(
        (s.engine, s.model.as_deref(), s.tensor_parallel, s.mem_fraction_static),
        (Some(EngineKind::Sglang), Some("o/m"), Some(2), Some(0.8))
    );
    let s = read(
        "ghcr.io/huggingface/text-generation-inference:3.0.1",
        &[],
        &[],
        &[("MODEL_ID", "o/m"), ("NUM_SHARD", "2"), ("QUANTIZE", "awq")],
    );
    assert_eq!(
        (
            s.engine,
            s.model.as_deref(),
            s.tensor_parallel,
            s.quantization.as_deref()
        ),
        (Some(EngineKind::Tgi), Some("o/m"), Some(2), Some("awq"))
    );
    let s = read(
        "nvcr.io/nvidia/tritonserver:25.03-trtllm-python-py3",
        &["mpirun", "-n", "4", "tritonserver"],
        &["--model-repository=/m"],
        &[],
    );
    assert_eq!(
        (s.engine, s.model, s.tensor_parallel, s.engine_version.as_deref()),
        (Some(EngineKind::Triton), None, Some(4), Some("25.03"))
    );
    let s = read(
        "nvcr.io/nim/meta/llama-3.1-8b-instruct:1.8.3",
        &[],
        &[],
        &[("NIM_MODEL_PROFILE", "vllm-bf16-tp2")],
    );
    assert_eq!(
        (s.engine, s.model.as_deref(), s.tensor_parallel),
        (Some(EngineKind::Nim), Some("meta/llama-3.1-8b-instruct"), Some(2))
    );
    let s = read(
        "ghcr.io/ggml-org/llama.cpp:server-cuda",
        &[],
        &[
            "-hf",
            "unsloth/Qwen3-8B-GGUF:Q4_K_M",
            "-c",
            "8192",
            "-np",
            "4",
            "-ngl",
            "99",
        ],
        &[],
    );
    assert_eq!(
        (s.engine, s.quantization.as_deref(), s.slots, s.gpu_layers),
        (Some(EngineKind::Llamacpp), Some("Q4_K_M"), Some(4), Some(99))
    );
    let s = read(
        "x/y",
        &["trtllm-serve", "o/m"],
        &["--tp_size", "8", "--max_batch_size=64"],
        &[],
    );
    assert_eq!(
        (s.engine, s.model.as_deref(), s.tensor_parallel, s.max_num_seqs),
        (Some(EngineKind::Trtllm), Some("o/m"), Some(8), Some(64))
    );
    assert_eq!(
        read("ollama/ollama:0.12.3", &[], &[], &[]).engine,
        Some(EngineKind::Ollama)
    );
    assert_eq!(
        read(
            "ghcr.io/huggingface/text-embeddings-inference:86-1.7",
            &[],
            &["--model-id", "BAAI/bge-m3"],
            &[]
        )
        .engine,
        Some(EngineKind::Tei)
    );
}

#[test]
fn what_is_no_server_is_not_named_one() {
    let role_of = |image: &str, command: &[&str], args: &[&str]| {
        let spec = spec(image, command, args, &[]);
        assert_eq!(recognise(&spec), None, "{image}");
        role(&spec)
    };
    assert_eq!(
        role_of("ghcr.io/llm-d/llm-d-inference-sim:v0.5.0", &[], &["--model", "o/m"]),
        Some(ContainerRole::Routing)
    );
    assert_eq!(
        role_of("registry.k8s.io/gateway-api-inference-extension/epp:v1.0.0", &[], &[]),
        Some(ContainerRole::Routing)
    );
    assert_eq!(
        role_of("lmcache/lmstack-router:latest", &[], &[]),
        Some(ContainerRole::Routing)
    );
    assert_eq!(
        role_of("any", &["python3", "-m", "sglang_router.launch_router"], &[]),
        Some(ContainerRole::Routing)
    );
    assert_eq!(
        role_of("nvcr.io/nvidia/k8s/dcgm-exporter:4.5.3-4.8.2-ubi9", &[], &[]),
        Some(ContainerRole::GpuInfrastructure)
    );
    for (image, command) in [
        ("docker.io/utkuozdemir/nvidia_gpu_exporter:1.4.1", &[][..]),
        ("registry.example/mirror/nvidia-gpu-exporter:1", &[]),
        ("ghcr.io/acme/all-smi:0.26", &["api", "--port", "9090"]),
        ("acme/node-tools:7", &["/usr/local/bin/all-smi", "api"]),
        ("acme/node-tools:7", &["/usr/bin/nvidia_gpu_exporter"]),
    ] {
        assert_eq!(
            role_of(image, command, &[]),
            Some(ContainerRole::GpuInfrastructure),
            "{image} {command:?}"
        );
    }
    assert_eq!(
        role_of("acme/train:1", &["sh", "-c", "all-smi api & torchrun train.py"], &[]),
        Some(ContainerRole::Training),
        "what watches beside the work is not the work"
    );
    assert_eq!(
        role_of("registry.k8s.io/pause:3.10", &[], &[]),
        Some(ContainerRole::Placeholder)
    );
    assert_eq!(
        role_of("kubeflownotebookswg/jupyter-pytorch-cuda-full:v1.9.2", &[], &[]),
        Some(ContainerRole::Notebook)
    );
    assert_eq!(
        role_of(
            "internal/megatron:1",
            &["torchrun"],
            &["--nproc-per-node=8", "train.py"]
        ),
        Some(ContainerRole::Training)
    );
    assert_eq!(role_of("nvidia/cuda:12.8.0-base", &["nvidia-smi"], &[]), None);
    assert_eq!(role_of("busybox", &["sh", "-c"], &["echo vllm serve"]), None);
    assert_eq!(role_of("vllm/vllm-openai:v0.11.0", &["sleep", "infinity"], &[]), None);
}

#[test]
fn an_unread_secret_is_no_value() {
    let mut s = spec("vllm/vllm-openai:v0.11.0", &[], &["--model", "$(M)"], &[]);
    s.env.push(("M".into(), None));
    let settings = recognise(&s).expect("a server");
    assert_eq!(settings.model.as_deref(), None, "an unresolved variable is no model");
}

#[test]
fn a_program_that_was_not_read_may_be_a_server() {
    let hidden = |command: &[&str], args: &[&str]| {
        let mut s = spec("registry.example/own:1", command, args, &[]);
        s.env.push(("START".into(), None));
        s.env.push(("LR".into(), None));
        unread_program(&s).is_some()
    };
    assert!(hidden(&["$(START)"], &[]));
    assert!(hidden(&["sh", "-c"], &["$START"]));
    assert!(hidden(&["bash", "-c", "exec $START --port 80"], &[]));
    assert!(hidden(&["python3", "-u", "$(START)"], &[]));
    // What it is is told, whatever it is told to do.
    assert!(!hidden(&["./train", "--lr", "$(LR)"], &[]));
    assert!(!hidden(&["python", "train.py", "--lr", "$(LR)"], &[]));
    assert!(!hidden(&["vllm", "serve", "$(START)"], &[]));
    assert!(!hidden(&["torchrun", "$(START)"], &[]));
    assert!(!hidden(&[], &[]));
}

proptest! {
    #[test]
    fn the_order_of_flags_does_not_matter(order in Just(vec!["--model=o/m", "--tensor-parallel-size=2", "--max-model-len=4096", "--enforce-eager", "--kv-cache-dtype=fp8"]).prop_shuffle()) {
        let settings = read("vllm/vllm-openai:v0.11.0", &[], &order, &[]);
        let reference = read("vllm/vllm-openai:v0.11.0", &[], &["--model", "o/m", "-tp", "2", "--max_model_len", "4096", "--enforce-eager", "--kv-cache-dtype", "fp8"], &[]);
        prop_assert_eq!(settings, reference);
    }

    #[test]
    fn no_container_makes_it_panic(image in "\\PC{0,60}", words in proptest::collection::vec("\\PC{0,20}", 0..8)) {
        let spec = ContainerSpec { image, args: words.clone(), command: words, ..ContainerSpec::default() };
        let _ = (recognise(&spec), role(&spec));
    }
}
