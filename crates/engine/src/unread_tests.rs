//! What could not be read is said, in every way it can be written, and nothing stands in for it.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;

fn container(image: &str, command: &[&str], args: &[&str]) -> ContainerSpec {
    ContainerSpec {
        image: image.into(),
        command: command.iter().map(ToString::to_string).collect(),
        args: args.iter().map(ToString::to_string).collect(),
        ..ContainerSpec::default()
    }
}

fn script(text: &str) -> ContainerSpec {
    container("vllm/vllm-openai:v0.11.0", &["bash", "-c", text], &[])
}

fn read(spec: &ContainerSpec) -> EngineSettings {
    recognise(spec).unwrap_or_else(|| panic!("a server: {spec:?}"))
}

/// The settings named as unread.
fn unread(spec: &ContainerSpec) -> Vec<Setting> {
    let settings = read(spec);
    let mut all: Vec<Setting> = settings.unread.iter().map(|u| u.setting).collect();
    all.dedup();
    all
}

/// What SGLang makes of 16-bit weights while it loads them.
#[test]
fn how_weights_are_quantized_while_loading_may_stand_elsewhere() {
    let with = |config: &str| {
        let command = ["python3", "-m", "sglang.launch_server", "--model-path", "org/m"];
        container("lmsysorg/sglang:v0.5.5", &command, &["--torchao-config", config])
    };
    assert_eq!(unread(&with("$(AO)")), [Setting::Quantization]);
    assert_eq!(unread(&with("int4wo-128")), []);
}

#[test]
fn values_that_stand_elsewhere_are_unread() {
    let args = |args: &[&str]| container("vllm/vllm-openai:v0.11.0", &["vllm", "serve"], args);
    let tp = |value: &str| args(&["org/m", "--tensor-parallel-size", value]);
    for value in [
        "$(TP)",
        "${TP}",
        "$TP",
        "{{ tp }}",
        "{{ .Values.tp }}",
        "<tp>",
        "__TP__",
        "@TP@",
        "%TP%",
        "CHANGEME",
        "TP_SIZE",
        "auto",
        "-1",
        "0",
        "x8",
    ] {
        let settings = read(&tp(value));
        assert_eq!(settings.tensor_parallel, None, "{value}");
        assert_eq!(unread(&tp(value)), [Setting::TensorParallel], "{value}");
        assert!(settings.unread_parallelism().is_some(), "{value}");
        assert_eq!(settings.model.as_deref(), Some("org/m"), "{value}");
    }
    for value in ["4", "1"] {
        assert_eq!(unread(&tp(value)), [], "{value}");
    }
    for (flag, setting) in [
        ("--pipeline-parallel-size=$(X)", Setting::PipelineParallel),
        ("-dp=$(X)", Setting::DataParallel),
        ("--nnodes=$(X)", Setting::FurtherParallel),
        ("--max-model-len=long", Setting::MaxModelLen),
        ("--max-model-len=-2", Setting::MaxModelLen),
        ("--max-num-seqs=${X}", Setting::MaxNumSeqs),
        ("--gpu-memory-utilization=$(X)", Setting::MemoryShare),
        ("--gpu-memory-utilization=90", Setting::MemoryShare),
        ("--kv-cache-memory-bytes=$(X)", Setting::MemoryShare),
        ("--quantization=$(X)", Setting::Quantization),
        ("--dtype=REPLACE_ME", Setting::Dtype),
        ("--kv-cache-dtype=<dtype>", Setting::KvCacheDtype),
        ("--kv-transfer-config=$(X)", Setting::Role),
        ("--speculative-config=$(X)", Setting::Sizing),
        ("--cpu-offload-gb=$(X)", Setting::Sizing),
        ("--prefill-context-parallel-size=2", Setting::FurtherParallel),
        ("--config=/unknown.yaml", Setting::Any),
        ("--config=$(X)", Setting::Any),
        ("$(EXTRA_ARGS)", Setting::Any),
        ("${EXTRA_ARGS}", Setting::Any),
        ("--${NAME}=2", Setting::Any),
        ("--tensor-parallel-size=4.0", Setting::TensorParallel),
        ("--data-parallel-size=two", Setting::DataParallel),
        ("--hf-overrides={\"num_hidden_layers\": 4}", Setting::Sizing),
    ] {
        assert_eq!(unread(&args(&["org/m", flag])), [setting], "{flag}");
    }
    // Overrides may change the length, and the shape.
    let both = [Setting::MaxModelLen, Setting::Sizing];
    assert_eq!(unread(&args(&["org/m", "--hf-overrides=$(X)"])), both);
    for fine in [
        // What its memory holds is stated, too.
        "--max-model-len=auto",
        "--max-model-len=-1",
        "--api-key=$(KEY)",
        "--host=$(POD_IP)",
        "--seed=$(S)",
        "--prefill-context-parallel-size=1",
        "--quantization=None",
        "--enforce-eager",
        "--hf-overrides={\"max_position_embeddings\": 4096}",
        "--hf-overrides={\"text_config\": {\"rope_theta\": 1e6}}",
    ] {
        assert_eq!(unread(&args(&["org/m", fine])), [], "{fine}");
    }
    assert_eq!(
        unread(&args(&["org/m", "--api-key", "$(KEY)", "--host", "$(POD_IP)"])),
        []
    );
    assert_eq!(unread(&args(&["org/m", "--port", "$(PORT)"])), [Setting::Other]);
}

#[test]
fn models_that_nobody_named_are_unread() {
    for words in [
        &["vllm", "serve", "$(MODEL)"][..],
        &["vllm", "serve", "--model=${MODEL}"],
        &["vllm", "serve", "meta-llama/MODEL_NAME"],
        &["vllm", "serve", "your-org/your-model"],
        &["vllm", "serve", "<model>", "-tp", "4"],
        &["python3", "-m", "sglang.launch_server", "--model-path", "{{ model }}"],
        &["trtllm-serve", "@MODEL@"],
        &["lmdeploy", "serve", "api_server", "__MODEL__"],
        &["text-generation-launcher", "--model-id", "REPLACE_ME"],
        &["llama-server", "-m", "$MODEL"],
    ] {
        let spec = container("x/y:1", words, &[]);
        assert_eq!(read(&spec).model, None, "{words:?}");
        assert_eq!(unread(&spec), [Setting::Model], "{words:?}");
    }
    // A place is no model: its name may be anybody's.
    for path in ["/models/Llama-3.1-8B-Instruct", "s3://bucket/Llama-3.1-8B-Instruct"] {
        let settings = read(&container("x/y:1", &["vllm", "serve", path], &[]));
        assert_eq!(settings.model.as_deref(), Some(path));
        assert!(settings.unread(Setting::Model).is_some());
    }
    assert!(
        read(&container("x/y:1", &["vllm", "serve", "org/m"], &[]))
            .unread
            .is_empty()
    );
}

#[test]
fn scripts_say_what_they_leave_open() {
    for (text, expected) in [
        ("exec vllm serve org/m -tp $TP", &[Setting::TensorParallel][..]),
        ("exec vllm serve org/m -tp ${TP:-4}", &[]),
        ("exec vllm serve org/m $EXTRA", &[Setting::Any]),
        ("exec vllm serve org/m ${EXTRA:-}", &[]),
        ("exec vllm serve org/m --enforce-eager $X", &[Setting::Any]),
        ("exec vllm serve org/m --some-new-flag $X", &[Setting::Any]),
        ("exec vllm serve org/m --api-key $KEY", &[]),
        (
            "exec vllm serve org/m --tensor-parallel-size $(nvidia-smi -L | wc -l)",
            &[Setting::TensorParallel],
        ),
        ("exec vllm serve org/m \"${ARGS[@]}\"", &[]),
        ("ARGS=(-tp 4); exec vllm serve org/m \"${ARGS[@]}\"", &[]),
        (
            "mapfile -t ARGS < /f; exec vllm serve org/m \"${ARGS[@]}\"",
            &[Setting::Any],
        ),
        (
            "TP=2; [ -f /big ] && TP=8; exec vllm serve org/m -tp $TP",
            &[Setting::TensorParallel],
        ),
        (
            "source /env.sh; exec vllm serve org/m -tp ${TP:-4}",
            &[Setting::TensorParallel],
        ),
        (
            "envsubst < /t.yaml > /c.yaml; exec vllm serve org/m --config /c.yaml",
            &[Setting::Any],
        ),
        (
            "printf 'tensor-parallel-size: 2' > /c.yaml; exec vllm serve org/m --config /c.yaml",
            &[Setting::Any],
        ),
        (
            "echo 'tensor-parallel-size: 2' > /c.yaml; exec vllm serve org/m --config /c.yaml",
            &[],
        ),
        (
            "echo \"tensor-parallel-size: $TP\" > /c.yaml; exec vllm serve org/m --config /c.yaml",
            &[Setting::TensorParallel],
        ),
        ("exec vllm serve org/m -tp {{ tp }}", &[Setting::TensorParallel]),
        ("exec vllm serve org/m {{ extra }}", &[Setting::Any]),
        (
            "if [ -f /x ]; then vllm serve org/m -tp 2; else vllm serve org/m -tp 4; fi",
            &[Setting::TensorParallel],
        ),
        (
            "if [ -f /x ]; then vllm serve org/m -tp 2 --port 1; else vllm serve org/m -tp 2; fi",
            &[],
        ),
        ("eval \"$SETUP\"; vllm serve org/m", &[Setting::Any]),
        ("eval \"$KUBERAY_GEN_RAY_START_CMD\" & vllm serve org/m", &[]),
        ("vllm serve org/m 'unclosed", &[Setting::Any]),
    ] {
        assert_eq!(unread(&script(text)), expected, "{text}");
    }
    let settings = read(&script(
        "TP=8; exec vllm serve org/m -tp $TP --max-model-len $((4 * 1024))",
    ));
    assert_eq!(
        (settings.tensor_parallel, settings.max_model_len),
        (Some(8), Some(4096))
    );
}

#[test]
fn several_servers_are_added_up_or_left_open() {
    let parallel = |text: &str| {
        let s = read(&script(text));
        (s.tensor_parallel, s.data_parallel, s.unread_parallelism().is_some())
    };
    for (text, expected) in [
        (
            "vllm serve org/m --port 1 & vllm serve org/m --port 2 & wait",
            (None, Some(2), false),
        ),
        (
            "vllm serve org/m -tp 2 --port 1 & vllm serve org/m -tp 2 --port 2",
            (Some(2), Some(2), false),
        ),
        (
            "for i in 0 1 2 3; do CUDA_VISIBLE_DEVICES=$i vllm serve org/m --port 800$i & done; wait",
            (None, Some(4), false),
        ),
        (
            "for i in $(seq 0 $((N - 1))); do vllm serve org/m --port 800$i & done; wait",
            (None, None, true),
        ),
        ("vllm serve org/a & vllm serve org/b", (None, None, true)),
        ("vllm serve org/a -tp 2 & vllm serve org/a -tp 4", (None, None, true)),
        (
            "vllm serve org/a -tp 2 & python -m sglang.launch_server --model-path org/b --tp 2",
            (None, None, true),
        ),
        ("vllm serve org/a -tp 2; vllm serve org/b -tp 2", (Some(2), None, false)),
        (
            "vllm serve org/a -tp 2 || vllm serve org/a -tp 2 --enforce-eager",
            (Some(2), None, false),
        ),
        (
            "vllm serve org/a -tp $TP & vllm serve org/a -tp $TP",
            (None, None, true),
        ),
    ] {
        assert_eq!(parallel(text), expected, "{text}");
    }
    let two = read(&script("vllm serve org/a & vllm serve org/b"));
    assert_eq!((two.model.as_deref(), two.engine), (None, Some(EngineKind::Vllm)));
    assert!(two.unread(Setting::Model).is_some());
}

#[test]
fn variables_of_engines_that_read_them_are_unread() {
    let tgi = |name: &str, value: Option<&str>| ContainerSpec {
        env: vec![
            ("MODEL_ID".into(), Some("org/m".into())),
            (name.into(), value.map(String::from)),
        ],
        places: vec![(name.into(), "key k of ConfigMap c".into())],
        ..container("ghcr.io/huggingface/text-generation-inference:3.0.1", &[], &[])
    };
    assert_eq!(unread(&tgi("NUM_SHARD", None)), [Setting::TensorParallel]);
    assert_eq!(
        read(&tgi("NUM_SHARD", None)).unread[0].place,
        "the variable NUM_SHARD, from key k of ConfigMap c"
    );
    assert_eq!(unread(&tgi("NUM_SHARD", Some("${SHARDS}"))), [Setting::TensorParallel]);
    assert_eq!(unread(&tgi("NUM_SHARD", Some("2"))), []);
    assert_eq!(unread(&tgi("HF_TOKEN", None)), []);
    assert_eq!(unread(&tgi("MODEL_ID", None)), [Setting::Model]);
    let nim = ContainerSpec {
        env: vec![("NIM_MODEL_PROFILE".into(), None)],
        ..container("nvcr.io/nim/meta/llama-3.1-8b-instruct:1.8.3", &[], &[])
    };
    assert_eq!(
        unread(&nim),
        [
            Setting::TensorParallel,
            Setting::PipelineParallel,
            Setting::Quantization
        ]
    );
    // A whole set of variables that was not read.
    let open = |image: &str, args: &[&str]| ContainerSpec {
        open: vec!["ConfigMap serving".into()],
        ..container(image, &[], args)
    };
    let tgi = read(&open(
        "ghcr.io/huggingface/text-generation-inference:3.0.1",
        &["--model-id", "org/m"],
    ));
    assert!(tgi.unread(Setting::TensorParallel).is_some() && tgi.unread(Setting::Model).is_none());
    let vllm = open("vllm/vllm-openai:v0.11.0", &["--model=org/m"]);
    assert_eq!(unread(&vllm), [], "vLLM takes its parallelism from its command alone");
    let named = open("vllm/vllm-openai:v0.11.0", &["--model=org/m", "-tp=$(TP)"]);
    assert_eq!(unread(&named), [Setting::TensorParallel]);
    let defaulted = ContainerSpec {
        open: vec!["ConfigMap serving".into()],
        ..script("vllm serve org/m -tp ${TP:-1}")
    };
    assert_eq!(unread(&defaulted), [Setting::TensorParallel]);
}

#[test]
fn stages_and_other_backends_are_not_vllms_defaults() {
    for spec in [
        container(
            "vllm/vllm-omni:v0.20.0",
            &["vllm", "serve", "Qwen/Qwen2.5-Omni-7B", "--omni"],
            &[],
        ),
        container(
            "vllm/vllm-omni:v0.20.0",
            &[],
            &["Qwen/Qwen2.5-Omni-7B", "--tensor-parallel-size", "1"],
        ),
        container("x/y:1", &["vllm-omni", "serve", "Qwen/Qwen3-Omni", "--omni"], &[]),
        container(
            "x/y:1",
            &["vllm", "serve", "m/m", "--omni", "--stage-configs-path", "/s.yaml"],
            &[],
        ),
    ] {
        let settings = read(&spec);
        assert!(
            settings.unread_parallelism().is_some() && settings.tensor_parallel.is_none(),
            "{spec:?}"
        );
        assert!(
            settings.model.is_some() && settings.engine == Some(EngineKind::Vllm),
            "{spec:?}"
        );
    }
    let kserve = |args: &[&str]| read(&container("kserve/huggingfaceserver:v0.15.0-gpu", &[], args)).engine;
    assert_eq!(kserve(&["--model_name=m", "--model_id=org/m"]), Some(EngineKind::Vllm));
    assert_eq!(
        kserve(&["--model_name=m", "--model_id=org/m", "--backend=vllm"]),
        Some(EngineKind::Vllm)
    );
    assert_eq!(
        kserve(&["--model_name=m", "--model_id=org/m", "--backend=huggingface"]),
        None
    );
    assert_eq!(
        kserve(&["--model_name=m", "--model_id=org/m", "--task=fill_mask"]),
        None
    );
}

#[test]
fn an_entry_point_of_somebodys_own_may_do_anything() {
    let silent = |image: &str| container(image, &[], &[]);
    assert_eq!(unread(&silent("acme/vllm-wrapper:1")), [Setting::Any]);
    assert_eq!(unread(&silent("vllm/vllm-openai:v0.11.0")), []);
    assert_eq!(unread(&silent("registry.local/vllm/vllm-openai:v0.11.0")), []);
    assert_eq!(unread(&container("acme/vllm-wrapper:1", &[], &["--model=org/m"])), []);
    assert_eq!(
        unread(&container("${IMAGE}", &["vllm", "serve", "org/m"], &[])),
        [Setting::EngineVersion]
    );
    assert_eq!(
        unread(&container("vllm/vllm-openai:<tag>", &[], &["--model=org/m"])),
        [Setting::EngineVersion]
    );
}

/// No text of a command line is in what is stored of it.
#[test]
fn places_hold_no_values() {
    let canary = "hunter2";
    for spec in [
        container("x/y:1", &["vllm", "serve", "org/m", "-tp", canary], &[]),
        container("x/y:1", &["vllm", "serve", "org/m", "-tp", "${TP:-hunter2}"], &[]),
        container(
            "x/y:1",
            &["vllm", "serve", "org/m", "{{ .x | default \"hunter2\" }}"],
            &[],
        ),
        script("K=hunter2; vllm serve org/m -tp $(cat /hunter2) --config /hunter2.yaml $K"),
    ] {
        let text = serde_json::to_string(&read(&spec)).unwrap();
        assert!(!text.contains(canary), "{text}");
    }
}

/// Flags with a setting of their own, and what each states.
type Stated = (&'static str, &'static str, Setting);

const STATED: &[(&[&str], &[Stated])] = &[
    (
        &["vllm", "serve", "org/m"],
        &[
            ("tensor-parallel-size", "4", Setting::TensorParallel),
            ("pipeline-parallel-size", "2", Setting::PipelineParallel),
            ("data-parallel-size", "2", Setting::DataParallel),
            ("max-model-len", "32k", Setting::MaxModelLen),
            ("max-num-seqs", "128", Setting::MaxNumSeqs),
            ("max-num-batched-tokens", "8192", Setting::MaxNumBatchedTokens),
            ("gpu-memory-utilization", "0.85", Setting::MemoryShare),
            ("quantization", "fp8", Setting::Quantization),
            ("dtype", "bfloat16", Setting::Dtype),
            ("kv-cache-dtype", "fp8", Setting::KvCacheDtype),
        ],
    ),
    (
        &["python3", "-m", "sglang.launch_server", "--model-path", "org/m"],
        &[
            ("tp", "8", Setting::TensorParallel),
            ("pp-size", "2", Setting::PipelineParallel),
            ("dp-size", "2", Setting::DataParallel),
            ("context-length", "8192", Setting::MaxModelLen),
            ("max-running-requests", "64", Setting::MaxNumSeqs),
            ("mem-fraction-static", "0.8", Setting::MemoryShare),
            ("quantization", "fp8", Setting::Quantization),
            ("kv-cache-dtype", "fp8_e5m2", Setting::KvCacheDtype),
        ],
    ),
    (
        &["trtllm-serve", "org/m"],
        &[
            ("tp_size", "4", Setting::TensorParallel),
            ("pp_size", "2", Setting::PipelineParallel),
            ("max_batch_size", "64", Setting::MaxNumSeqs),
            ("max_seq_len", "8192", Setting::MaxModelLen),
            ("max_num_tokens", "8192", Setting::MaxNumBatchedTokens),
            ("kv_cache_free_gpu_memory_fraction", "0.9", Setting::MemoryShare),
        ],
    ),
    (
        &["text-generation-launcher", "--model-id", "org/m"],
        &[
            ("num-shard", "2", Setting::TensorParallel),
            ("max-total-tokens", "4096", Setting::MaxModelLen),
            ("quantize", "awq", Setting::Quantization),
            ("dtype", "float16", Setting::Dtype),
        ],
    ),
    (
        &["lmdeploy", "serve", "api_server", "org/m"],
        &[
            ("tp", "2", Setting::TensorParallel),
            ("dp", "2", Setting::DataParallel),
            ("session-len", "4096", Setting::MaxModelLen),
            ("cache-max-entry-count", "0.8", Setting::MemoryShare),
        ],
    ),
    (
        &["llama-server", "-hf", "org/m"],
        &[
            ("ctx-size", "8192", Setting::MaxModelLen),
            ("cache-type-k", "q8_0", Setting::KvCacheDtype),
        ],
    ),
];

/// Ways in which a value is not there. The first are words of a list, the others of a script.
const REFERENCES: &[&str] = &[
    "$(V)",
    "${V}",
    "{{ v }}",
    "<v>",
    "CHANGEME",
    "@V@",
    "__V__",
    "$V",
    "\"$V\"",
    "$(cat /v)",
    "${V:?}",
];
const OF_SCRIPTS: usize = 7;

fn started(program: usize, flags: &[(&str, String)], as_script: bool, open: bool) -> ContainerSpec {
    let (command, _) = STATED[program];
    let mut words: Vec<String> = command.iter().map(ToString::to_string).collect();
    for (name, value) in flags {
        words.extend([format!("--{name}"), value.clone()]);
    }
    let mut spec = if as_script {
        script(&format!("set -e; exec {}", words.join(" ")))
    } else {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        container("x/y:1", &words, &[])
    };
    if open {
        spec.env.push(("V".into(), None));
    }
    spec.image = "x/y:1".into();
    spec
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Any one setting replaced by a reference that cannot be read: it is unknown and said so, and nothing else changes.
    #[test]
    fn one_value_that_is_not_there_is_unread_and_no_other_is(
        program in 0..STATED.len(),
        which in any::<Index>(),
        reference in 0..REFERENCES.len(),
        open in any::<bool>(),
    ) {
        let (_, stated) = STATED[program];
        let which = which.index(stated.len());
        let flags = |replaced: Option<&str>| -> Vec<(&str, String)> {
            let of = |(i, (name, value, _)): (usize, &(&'static str, &'static str, Setting))| {
                (*name, replaced.filter(|_| i == which).unwrap_or(value).to_string())
            };
            stated.iter().enumerate().map(of).collect()
        };
        let as_script = reference >= OF_SCRIPTS;
        let reference = REFERENCES[reference];
        let whole = read(&started(program, &flags(None), as_script, open));
        let without = read(&started(program, &flags(Some(reference)), as_script, open));
        let setting = stated[which].2;
        prop_assert!(whole.unread.is_empty() && whole.unread(setting).is_none(), "{:?}", whole.unread);
        prop_assert!(without.unread(setting).is_some(), "{} {reference}: {:?}", stated[which].0, without);
        prop_assert!(without.unread.iter().all(|u| u.setting == setting), "{:?}", without.unread);
        // All the rest is as it was.
        let mut rest = without.clone();
        rest.unread.clear();
        rest.stretched = whole.stretched;
        match setting {
            Setting::TensorParallel => rest.tensor_parallel = whole.tensor_parallel,
            Setting::PipelineParallel => rest.pipeline_parallel = whole.pipeline_parallel,
            Setting::DataParallel => rest.data_parallel = whole.data_parallel,
            Setting::MaxModelLen => rest.max_model_len = whole.max_model_len,
            Setting::MaxNumSeqs => rest.max_num_seqs = whole.max_num_seqs,
            Setting::MaxNumBatchedTokens => rest.max_num_batched_tokens = whole.max_num_batched_tokens,
            Setting::MemoryShare => {
                rest.gpu_memory_utilization = whole.gpu_memory_utilization;
                rest.mem_fraction_static = whole.mem_fraction_static;
            }
            Setting::Quantization => rest.quantization.clone_from(&whole.quantization),
            Setting::Dtype => rest.dtype.clone_from(&whole.dtype),
            Setting::KvCacheDtype => rest.kv_cache_dtype.clone_from(&whole.kv_cache_dtype),
            _ => {}
        }
        prop_assert_ne!(&without, &whole);
        prop_assert_eq!(rest, whole);
    }
}
