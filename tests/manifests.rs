//! `check`: what each form of manifest asks for, what is found in it and where, what is refused.

#![allow(clippy::float_cmp, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{command, finish, run, same};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::tempdir;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/manifests")
}

/// File, workload, kind, engine, model, replicas × GPUs of each, card, tensor/pipeline/data parallelism, context length.
/// Read by hand from the manifests; "-": not stated.
const TRUTH: &[&str] = &[
    "cronjob-train.yaml weekly-tune CronJob - - 1x8 H100-SXM5-80GB -/-/- -",
    "deployment-vllm.yaml chat Deployment vllm Qwen/Qwen2.5-7B-Instruct 2x1 L4 -/-/- 8192",
    "dynamo-trtllm.yaml r1-decode DynamoGraphDeployment trtllm deepseek-ai/DeepSeek-R1 1x16 B200-SXM-180GB 16/-/- 8192",
    "dynamo-trtllm.yaml r1-encode DynamoGraphDeployment trtllm Qwen/Qwen3-32B 1x2 B200-SXM-180GB 2/-/- 4096",
    "dynamo-trtllm.yaml r1-prefill DynamoGraphDeployment trtllm deepseek-ai/DeepSeek-R1 2x4 B200-SXM-180GB 4/1/4 4352",
    "dynamo-v1alpha1.yaml sgl-decode DynamoGraphDeployment sglang deepseek-ai/DeepSeek-R1 2x16 H200-SXM5-141GB 16/-/- -",
    "dynamo-v1beta1.yaml agg-VllmWorker DynamoGraphDeployment vllm Qwen/Qwen3-32B 3x2 A100-SXM4-80GB 2/-/- -",
    "groups.yaml by-annotation LLMInferenceService vllm Qwen/Qwen3-32B 1x2 A100-SXM4-80GB 2/-/- 8192",
    "groups.yaml by-claim LLMInferenceService vllm Qwen/Qwen3-32B 1x2 A100-SXM4-80GB 2/-/- 8192",
    "groups.yaml fleet RayClusterFleet vllm deepseek-ai/DeepSeek-R1 2x16 H200-SXM5-141GB 16/-/- -",
    "groups.yaml kthena-405b ModelServing vllm meta-llama/Llama-3.1-405B-Instruct 2x16 H200-SXM5-141GB 8/2/- -",
    "groups.yaml split-decode DisaggregatedSet vllm Qwen/Qwen3-32B 2x2 H100-SXM5-80GB 2/-/- 16384",
    "groups.yaml split-prefill DisaggregatedSet vllm Qwen/Qwen3-32B 6x1 H100-SXM5-80GB -/-/- 16384",
    "groups.yaml storm-groups-decode StormService sglang Qwen/Qwen3-8B 6x2 L40S 2/-/- -",
    "groups.yaml two-nodes StatefulSet sglang deepseek-ai/DeepSeek-V3-0324 2x16 H200-SXM5-141GB 16/-/- -",
    "inferenceservice-container.yaml own-container InferenceService vllm mistralai/Mistral-Small-24B-Instruct-2501 1x1 H100-SXM5-80GB -/-/- 16384",
    "inferenceservice-huggingface.yaml llama3 InferenceService vllm meta-llama/Meta-Llama-3-8B-Instruct 2x1 A10 -/-/- 4096",
    "inferenceservice-multinode.yaml multi InferenceService vllm meta-llama/Llama-3.1-70B-Instruct 1x8 - 4/2/- -",
    "inferenceservice-runtime.yaml granite InferenceService vllm ibm-granite/granite-3.3-8b-instruct 1x2 A10G 2/-/- 16384",
    "job-vllm.yaml nightly-labels Job vllm Qwen/Qwen3-8B 3x1 L40S -/-/- 16384",
    "kaito-inferenceset.yaml phi-set InferenceSet vllm microsoft/Phi-4-mini-instruct 2x1 A10 1/-/- -",
    "kaito-template.yaml own-image Workspace vllm google/gemma-3-12b-it 1x1 A100-PCIE-80GB -/-/- -",
    "kaito-workspace.yaml phi Workspace vllm microsoft/phi-4 1x2 A100-PCIE-80GB 2/-/- 8192",
    "knative.yaml kn Service vllm Qwen/Qwen3-8B-AWQ 2x1 L4 -/-/- -",
    "kubeai-model.yaml llama-3.1-8b Model vllm neuralmagic/Meta-Llama-3.1-8B-Instruct-FP8 2x1 L4 -/-/- 16384",
    "list.json listed Deployment vllm Qwen/Qwen3-4B 1x1 L4 -/-/- -",
    "llamacpp.yaml llamacpp Deployment llamacpp Qwen/Qwen3-8B 1x1 RTX-4090 -/-/- 8192",
    "llminferenceservice-baserefs.yaml based LLMInferenceService vllm meta-llama/Llama-3.1-8B-Instruct 3x1 H100-SXM5-80GB -/-/- -",
    "llminferenceservice.yaml qwen-pd LLMInferenceService vllm Qwen/Qwen2.5-7B-Instruct 2x1 L40S 1/-/- 8192",
    "llminferenceservice.yaml qwen-pd-prefill LLMInferenceService vllm Qwen/Qwen2.5-7B-Instruct 1x2 L40S 2/-/- -",
    "lws-sglang.yaml reasoner LeaderWorkerSet sglang deepseek-ai/DeepSeek-V3-0324 1x16 H200-SXM5-141GB 16/-/- -",
    "lws-vllm.yaml giant LeaderWorkerSet vllm meta-llama/Llama-3.1-405B-Instruct-FP8 2x16 H100-SXM5-80GB 8/2/- -",
    "lws-wide-ep.yaml wide-decode LeaderWorkerSet vllm deepseek-ai/DeepSeek-R1-0528 1x16 H200-SXM5-141GB 1/-/16 -",
    "mig.yaml crowded Deployment vllm Qwen/Qwen3-1.7B 1x1 H100-SXM5-80GB -/-/- 4096",
    "mig.yaml right Deployment vllm Qwen/Qwen3-1.7B 1x1 H100-SXM5-80GB -/-/- 4096",
    "mig.yaml roomy Deployment vllm Qwen/Qwen3-1.7B 2x1 H100-SXM5-80GB -/-/- 4096",
    "mig.yaml too-large Deployment vllm Qwen/Qwen2.5-7B-Instruct 1x1 H100-SXM5-80GB -/-/- 4096",
    "modelservice-llm-d.yaml ms-decode Deployment vllm meta-llama/Llama-3.3-70B-Instruct 1x4 H200-SXM5-141GB 4/-/- 32000",
    "nimpipeline.yaml rag-embed NIMPipeline nim nvidia/llama-3.2-nv-embedqa-1b-v2 1x1 - -/-/- -",
    "nimpipeline.yaml rag-llm NIMPipeline nim meta-llama/Llama-3.3-70B-Instruct 1x4 - 4/-/- -",
    "nimservice.yaml llama-nim NIMService nim meta-llama/Llama-3.1-8B-Instruct 2x1 A100-SXM4-80GB -/-/- -",
    "notebook.yaml research Notebook - - 1x1 V100-SXM2-32GB -/-/- -",
    "ollama-script.yaml ollama-script Pod ollama Qwen/Qwen2.5-14B-Instruct 1x1 RTX-4090 -/-/- -",
    "ollama.yaml ollama Deployment ollama meta-llama/Llama-3.1-8B-Instruct 1x1 L4 -/-/- 8192",
    "pods.yaml amd Pod vllm meta-llama/Llama-3.3-70B-Instruct 1x2 MI300X 2/-/- -",
    "pods.yaml slice Pod vllm Qwen/Qwen3-1.7B 1x1 H100-SXM5-80GB -/-/- -",
    "production-stack.yaml vllm-llama3-deployment-vllm Deployment vllm meta-llama/Llama-3.1-8B-Instruct 1x1 RTX-A6000 1/-/- 16384",
    "raycluster.yaml batch RayCluster - - 1x3 A10G -/-/- -",
    "rayjob.yaml embed-all RayJob - - 1x2 T4 -/-/- -",
    "rayservice-llm.yaml qwen-serve RayService vllm Qwen/Qwen2.5-32B-Instruct 1x4 A100-SXM4-80GB 2/-/- 16384",
    "rayservice-vllm-app.yaml llama-app RayService vllm meta-llama/Llama-3.1-8B-Instruct 1x2 L4 2/1/- -",
    "roles.yaml rbg-prefill RoleBasedGroup sglang Qwen/Qwen3-32B 2x2 - 2/-/- -",
    "roles.yaml storm StormService vllm Qwen/Qwen3-8B 6x1 - -/-/- -",
    "rollout.yaml canary Rollout tgi mistralai/Mistral-7B-Instruct-v0.3 2x1 L40S 1/-/- 8192",
    "statefulset-sglang.yaml coder StatefulSet sglang Qwen/Qwen2.5-72B-Instruct 1x4 H100-SXM5-80GB 4/-/- 32768",
    "tei.yaml embeddings Deployment tei BAAI/bge-m3 2x1 L4 -/-/- -",
    "trainjob-runtime.yaml as-the-runtime TrainJob - - 1x16 H100-SXM5-80GB -/-/- -",
    "trainjob-runtime.yaml its-own-size TrainJob - - 1x16 A100-SXM4-80GB -/-/- -",
    "trainjob-runtime.yaml three-nodes TrainJob - - 1x6 L40S -/-/- -",
    "training.yaml js JobSet - - 1x32 H100-SXM5-80GB -/-/- -",
    "training.yaml mpi MPIJob - - 1x16 - -/-/- -",
    "training.yaml pt PyTorchJob - - 1x4 - -/-/- -",
    "training.yaml tj TrainJob - - 1x8 - -/-/- -",
    "training.yaml vc Job - - 2x4 A100-SXM4-80GB -/-/- -",
    "triton.yaml triton Deployment triton - 1x4 A10G 4/-/- -",
    "trtllm-serve.yaml by-file Deployment trtllm Qwen/Qwen3-32B 1x2 H100-SXM5-80GB 2/-/- 16384",
    "trtllm-serve.yaml by-script Deployment trtllm meta-llama/Llama-3.3-70B-Instruct 1x4 H100-SXM5-80GB 4/-/- 8192",
    "trtllm-serve.yaml writes-its-options Pod trtllm openai/gpt-oss-120b 1x2 H100-SXM5-80GB 2/-/- 10240",
    "vllmruntime.yaml opt VLLMRuntime vllm Qwen/Qwen2.5-14B-Instruct 3x2 - 2/-/- 8192",
];

fn row(file: &str, workload: &Value) -> String {
    let plain = |key: &str| match &workload[key] {
        Value::Null => "-".to_string(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    format!(
        "{file} {} {} {} {} {}x{} {} {}/{}/{} {}",
        plain("name"),
        plain("kind"),
        plain("engine"),
        plain("model"),
        plain("replicas"),
        plain("gpus_per_replica"),
        plain("gpu"),
        plain("tensor_parallel"),
        plain("pipeline_parallel"),
        plain("data_parallel"),
        plain("max_model_len")
    )
}

#[test]
fn every_form_of_manifest_is_read_as_it_is_meant() {
    let dir = tempdir().unwrap();
    let mut files: Vec<String> = fs::read_dir(fixtures())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let mut read = Vec::new();
    for file in &files {
        let path = fixtures().join(file);
        let report = run(dir.path(), &["check", path.to_str().unwrap(), "--format", "json"])
            .expect(0, &[])
            .json();
        read.extend(report["workloads"].as_array().unwrap().iter().map(|w| row(file, w)));
    }
    read.sort();
    let mut truth: Vec<String> = TRUTH.iter().map(ToString::to_string).collect();
    truth.sort();
    let missing: Vec<&String> = truth.iter().filter(|t| !read.contains(t)).collect();
    let more: Vec<&String> = read.iter().filter(|r| !truth.contains(r)).collect();
    assert!(
        missing.is_empty() && more.is_empty(),
        "expected {missing:#?}\nread {more:#?}"
    );
}

#[test]
fn what_is_not_judged_says_so() {
    let dir = tempdir().unwrap();
    let path = fixtures().join("others.yaml");
    let done =
        run(dir.path(), &["check", path.to_str().unwrap()]).expect(0, &["Gaudi", "Trainium", "TPU", "others.yaml:"]);
    assert!(!done.out.to_lowercase().contains("no waste"), "{}", done.out);
}

#[test]
fn what_an_object_builds_on_and_the_input_lacks_is_named() {
    let dir = tempdir().unwrap();
    let lacking = |file: &str, without: &str| {
        let text = fs::read_to_string(fixtures().join(file)).unwrap();
        let kept = text.split("\n---\n").filter(|d| !d.contains(without));
        fs::write(dir.path().join("part.yaml"), kept.collect::<Vec<_>>().join("\n---\n")).unwrap();
        run(dir.path(), &["check", "part.yaml", "--format", "json"])
            .expect(0, &[])
            .json()
    };
    let whats = |report: &Value| -> Vec<String> {
        let gaps = report["gaps"].as_array().unwrap().iter();
        let lacks = gaps.filter(|g| g["reason"] == "it is not in the input");
        lacks.map(|g| g["what"].as_str().unwrap().to_string()).collect()
    };
    let of = |report: &Value, name: &str| {
        let workloads = report["workloads"].as_array().unwrap();
        workloads.iter().find(|w| w["name"] == name).cloned()
    };
    // Without its runtime a job still says its own nodes and GPUs, and where they are to be.
    let report = lacking("trainjob-runtime.yaml", "kind: ClusterTrainingRuntime\nmetadata");
    assert_eq!(
        whats(&report),
        [
            "TrainJob as-the-runtime: ClusterTrainingRuntime torch-h100",
            "TrainJob its-own-size: ClusterTrainingRuntime torch-h100"
        ]
    );
    assert!(
        of(&report, "as-the-runtime").is_none(),
        "how many GPUs it has only the runtime says"
    );
    let own = of(&report, "its-own-size").unwrap();
    assert_eq!(
        (&own["gpus_per_replica"], &own["gpu"]),
        (&16.into(), &"A100-SXM4-80GB".into())
    );
    // Options that stand elsewhere: the parallelism is unknown, not 1.
    let report = lacking("trtllm-serve.yaml", "name: options}\ndata");
    assert_eq!(whats(&report), ["Deployment by-file: settings in ConfigMap options"]);
    assert_eq!(of(&report, "by-file").unwrap()["tensor_parallel"], Value::Null);
    let report = lacking("groups.yaml", "kind: ResourceClaimTemplate");
    assert_eq!(
        whats(&report),
        ["LLMInferenceService by-claim: ResourceClaimTemplate two-gpus"]
    );
    // All there: nothing lacks.
    for file in [
        "trainjob-runtime.yaml",
        "trtllm-serve.yaml",
        "groups.yaml",
        "dynamo-trtllm.yaml",
    ] {
        let path = fixtures().join(file);
        let report = run(dir.path(), &["check", path.to_str().unwrap(), "--format", "json"])
            .expect(0, &[])
            .json();
        assert_eq!(whats(&report), Vec::<String>::new(), "{file}");
    }
}

/// A Deployment of one server; the words are replaced by what a case says.
const SERVER: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector:
        nvidia.com/gpu.product: CARD
      containers:
        - name: server
          image: IMAGE
          args:
            - --model=MODEL
            - --tensor-parallel-size=TP
            - --max-model-len=LENGTH
            - --max-num-seqs=SEQS
          resources:
            requests:
              cpu: \"CPU\"
              memory: MEMORY
            limits:
              nvidia.com/gpu: GPUS
";

const PLAIN: &[(&str, &str)] = &[
    ("CARD", "NVIDIA-L4"),
    ("IMAGE", "vllm/vllm-openai:v0.11.0"),
    ("MODEL", "Qwen/Qwen2.5-7B-Instruct"),
    ("TP", "1"),
    ("LENGTH", "4096"),
    ("SEQS", "4"),
    ("CPU", "6"),
    ("MEMORY", "24Gi"),
    ("GPUS", "1"),
];

fn server(changes: &[(&str, &str)]) -> String {
    let mut text = SERVER.to_string();
    for (word, plain) in PLAIN {
        let value = changes.iter().find(|(w, _)| w == word).map_or(*plain, |(_, v)| v);
        text = text.replace(word, value);
    }
    text
}

fn findings(folder: &Path, text: &str, more: &[&str]) -> Vec<Value> {
    fs::write(folder.join("web.yaml"), text).unwrap();
    let mut args = vec!["check", "web.yaml", "--format", "json"];
    args.extend_from_slice(more);
    let report = run(folder, &args).expect(0, &[]).json();
    report["findings"].as_array().unwrap().clone()
}

fn named(all: &[Value], check: &str, part: Option<&str>) -> Option<Value> {
    let part = part.map_or(Value::Null, Value::from);
    all.iter().find(|f| f["check"] == check && f["part"] == part).cloned()
}

type Change = &'static [(&'static str, &'static str)];

#[test]
fn each_finding_fires_and_is_silent_by_one_figure_and_points_at_its_place() {
    let dir = tempdir().unwrap();
    assert_eq!(
        findings(dir.path(), &server(&[]), &[]),
        Vec::<Value>::new(),
        "the plain one is clean"
    );
    let cases: &[(&str, Option<&str>, Change, Change, u64)] = &[
        // 14.2 GiB of weights on 22 GiB, 27.5 GiB of them not.
        (
            "undersized-tier",
            None,
            &[("MODEL", "Qwen/Qwen2.5-14B-Instruct")],
            &[],
            14,
        ),
        // An H100 for what an L4 holds.
        ("oversized-tier", None, &[("CARD", "NVIDIA-H100-80GB-HBM3")], &[], 14),
        (
            "parallelism-mismatch",
            None,
            &[("GPUS", "2"), ("CPU", "8")],
            &[("GPUS", "2"), ("CPU", "8"), ("TP", "2")],
            14,
        ),
        ("parallelism-mismatch", Some("too-few"), &[("TP", "2")], &[], 14),
        ("cpu-gpu-imbalance", Some("spec"), &[("CPU", "5")], &[], 14),
        (
            "spec-hygiene",
            Some("memory"),
            &[("MEMORY", "7Gi")],
            &[("MEMORY", "8Gi")],
            14,
        ),
        ("kv-pressure", Some("config"), &[("SEQS", "64")], &[], 14),
        (
            "spec-hygiene",
            Some("image"),
            &[("IMAGE", "vllm/vllm-openai:latest")],
            &[],
            15,
        ),
    ];
    for (check, part, fires, silent, line) in cases {
        let all = findings(dir.path(), &server(fires), &[]);
        let finding = named(&all, check, *part).unwrap_or_else(|| panic!("{check} {part:?} is not in {all:#?}"));
        let place = &finding["subject"]["location"];
        assert_eq!(place["file"], "web.yaml", "{finding}");
        assert_eq!(place["line"], *line, "{finding}");
        assert!(
            place["path"]
                .as_str()
                .unwrap()
                .starts_with("spec.template.spec.containers[0]"),
            "{finding}"
        );
        let all = findings(dir.path(), &server(silent), &[]);
        assert_eq!(named(&all, check, *part), None, "{check} {part:?}");
    }
    for (part, line) in [("cpu-request", "cpu: \"CPU\""), ("memory-request", "memory: MEMORY")] {
        let text = SERVER.replace(line, "ephemeral-storage: 1Gi");
        let mut without = text;
        for (word, plain) in PLAIN {
            without = without.replace(word, plain);
        }
        let all = findings(dir.path(), &without, &[]);
        let finding = named(&all, "spec-hygiene", Some(part)).unwrap_or_else(|| panic!("{part} is not in {all:#?}"));
        assert_eq!(finding["subject"]["location"]["line"], 21, "{finding}");
    }
}

#[test]
fn a_misfit_names_its_numbers_and_a_home() {
    let dir = tempdir().unwrap();
    let all = findings(dir.path(), &server(&[("MODEL", "Qwen/Qwen2.5-14B-Instruct")]), &[]);
    let finding = named(&all, "undersized-tier", None).unwrap();
    let number = |name: &str| {
        let evidence = finding["evidence"].as_array().unwrap();
        evidence
            .iter()
            .find(|e| e["name"] == name)
            .and_then(|e| e["value"].as_f64())
            .unwrap()
    };
    // 14.77 G parameters of 2 bytes; an L4 has 22.5 GiB.
    assert!((29.0e9..30.5e9).contains(&number("weights_per_gpu")), "{finding}");
    assert!((23.0e9..24.5e9).contains(&number("gpu_memory")), "{finding}");
    assert_eq!(finding["kind"], "at-risk");
    assert!(
        finding["fix"]["placement"]["usd_per_hour"].as_f64().unwrap() > 0.0,
        "{finding}"
    );
}

/// What is said of each server of mig.yaml, read by hand: 14.2 GiB of weights against 9.75, 3.2 GiB and four requests of
/// 4,096 tokens (0.44 GiB each) against 39.5, sixty-four of them against 9.75.
#[test]
fn servers_on_mig_instances_are_judged_by_their_profile() {
    let dir = tempdir().unwrap();
    let path = fixtures().join("mig.yaml");
    let report = run(dir.path(), &["check", path.to_str().unwrap(), "--format", "json"])
        .expect(0, &[])
        .json();
    let all = report["findings"].as_array().unwrap();
    let mut told: Vec<(String, String)> = all
        .iter()
        .map(|f| {
            let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
            (text(&f["subject"]["name"]), text(&f["check"]))
        })
        .collect();
    told.sort();
    let expected = [
        ("crowded", "kv-pressure"),
        ("roomy", "oversized-tier"),
        ("too-large", "undersized-tier"),
    ];
    let expected: Vec<(String, String)> = expected.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
    assert_eq!(told, expected, "{all:#?}");
    let of = |check: &str| all.iter().find(|f| f["check"] == check).unwrap();
    let roomy = of("oversized-tier");
    assert_eq!(
        roomy["fix"]["placement"]["gpu"], "H100-SXM5-80GB-MIG-1g.10gb",
        "{roomy}"
    );
    let summary = |f: &Value| f["fix"]["summary"].as_str().unwrap().to_string();
    assert!(summary(roomy).contains("nvidia.com/mig-1g.10gb"), "{roomy}");
    // Three sevenths are held and one is needed: two thirds of the price go, and the card stays where it is.
    let held: f64 = report["workloads"]
        .as_array()
        .unwrap()
        .iter()
        .find(|w| w["name"] == "roomy")
        .and_then(|w| w["usd_per_hour"].as_f64())
        .unwrap();
    let saved = roomy["waste_usd_per_hour"].as_f64().unwrap();
    assert!((saved - held * 2.0 / 3.0).abs() < 1e-3, "{saved} of {held}");
    assert_eq!(
        (&roomy["grade"], &roomy["confidence"]),
        (&"reusable".into(), &"assumed".into())
    );
    let small = of("undersized-tier");
    assert!(summary(small).contains("nvidia.com/mig-"), "{small}");
    let memory = |f: &Value| {
        let evidence = f["evidence"].as_array().unwrap();
        let own = evidence.iter().find(|e| e["name"] == "gpu_memory").unwrap();
        own["value"].as_f64().unwrap()
    };
    // 9.75 GiB, as drivers say, within what they differ by.
    assert!((9.5..9.9).contains(&(memory(small) / f64::from(1 << 30))), "{small}");
    assert!(
        small["title"].as_str().unwrap().contains("H100-SXM5-80GB-MIG-1g.10gb"),
        "{small}"
    );
}

#[test]
fn a_length_beyond_the_model_is_a_misfit_unless_the_model_is_stretched() {
    let dir = tempdir().unwrap();
    let long = server(&[
        ("CARD", "NVIDIA-H100-80GB-HBM3"),
        ("MODEL", "Qwen/Qwen3-8B"),
        ("LENGTH", "131072"),
        ("SEQS", "1"),
    ]);
    let misfit = |text: &str| named(&findings(dir.path(), text, &[]), "undersized-tier", None);
    let finding = misfit(&long).unwrap();
    let advice = finding["fix"]["summary"].as_str().unwrap();
    assert!(advice.contains("beyond the model's 40960 positions. "), "{advice}");
    let with = |line: &str| {
        long.replace(
            "            - --max-num-seqs=1\n",
            &format!("            - --max-num-seqs=1\n{line}"),
        )
    };
    for line in [
        "            - --hf-overrides\n            - '{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4.0}}'\n",
        "            - --hf-overrides={\"max_position_embeddings\":131072}\n",
        "            - --rope-scaling={\"rope_type\":\"yarn\",\"factor\":4.0}\n",
        "          env: [{name: VLLM_ALLOW_LONG_MAX_MODEL_LEN, value: \"1\"}]\n",
    ] {
        assert_eq!(misfit(&with(line)), None, "{line}");
    }
    assert!(misfit(&with("            - --hf-overrides={\"architectures\":[\"X\"]}\n")).is_some());
}

#[test]
fn the_load_that_is_expected_decides_where_the_manifest_does_not() {
    let dir = tempdir().unwrap();
    let text = server(&[("CARD", "NVIDIA-H100-80GB-HBM3")]).replace("            - --max-num-seqs=4\n", "");
    assert_eq!(
        named(&findings(dir.path(), &text, &[]), "oversized-tier", None),
        None,
        "nobody said how much it must hold"
    );
    let few = ["--context-tokens", "4096", "--concurrency", "4"];
    let small = named(&findings(dir.path(), &text, &few), "oversized-tier", None).unwrap();
    assert_eq!(small["confidence"], "assumed", "no load is known before it runs");
    let many = ["--context-tokens", "4096", "--concurrency", "1000"];
    let all = findings(dir.path(), &text, &many);
    let large = named(&all, "oversized-tier", None);
    assert!(large.is_none_or(|f| f["fix"]["placement"]["gpu"] != small["fix"]["placement"]["gpu"]));
    assert!(named(&all, "kv-pressure", Some("config")).is_some());
}

#[test]
fn the_gpu_is_read_wherever_it_is_said() {
    let dir = tempdir().unwrap();
    let gpu = |placement: &str, more: &[&str]| {
        let text = server(&[]).replace(
            "      nodeSelector:\n        nvidia.com/gpu.product: NVIDIA-L4\n",
            &format!("{placement}\n"),
        );
        fs::write(dir.path().join("web.yaml"), text).unwrap();
        let mut args = vec!["check", "web.yaml", "--format", "json"];
        args.extend_from_slice(more);
        let report = run(dir.path(), &args).expect(0, &[]).json();
        report["workloads"][0]["gpu"].as_str().map(String::from)
    };
    let affinity = |expressions: &str| {
        format!(
            "      affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{expressions}]}}}}}}"
        )
    };
    let of =
        |key: &str, values: &str| format!("{{matchExpressions: [{{key: {key}, operator: In, values: [{values}]}}]}}");
    for (placement, card) in [
        (
            "      nodeSelector: {cloud.google.com/gke-accelerator: nvidia-h100-80gb}".to_string(),
            Some("H100-SXM5-80GB"),
        ),
        (
            "      nodeSelector: {node.kubernetes.io/instance-type: g6e.xlarge}".into(),
            Some("L40S"),
        ),
        (
            "      nodeSelector: {node.kubernetes.io/instance-type: gd-8xh200ib-i128}".into(),
            Some("H200-SXM5-141GB"),
        ),
        ("      nodeSelector: {gpu-type: rtx-4090}".into(), Some("RTX-4090")),
        (
            "      nodeSelector: {karpenter.k8s.aws/instance-gpu-name: l4, karpenter.sh/capacity-type: spot}".into(),
            Some("L4"),
        ),
        (
            affinity(&of("node.kubernetes.io/instance-type", "g6.xlarge, g6.2xlarge")),
            Some("L4"),
        ),
        (
            affinity(&of("node.kubernetes.io/instance-type", "g6.xlarge, g5.xlarge")),
            None,
        ),
        (
            affinity(&format!(
                "{}, {}",
                of("nvidia.com/gpu.product", "NVIDIA-A10"),
                of("nvidia.com/gpu.product", "NVIDIA-A10")
            )),
            Some("A10"),
        ),
        (
            affinity(&format!(
                "{}, {}",
                of("nvidia.com/gpu.product", "NVIDIA-A10"),
                of("zone", "b")
            )),
            None,
        ),
        (
            "      tolerations: [{key: gpu, value: NVIDIA-L40S, effect: NoSchedule}]".into(),
            Some("L40S"),
        ),
        (
            "      tolerations: [{key: nvidia.com/gpu, operator: Exists}]".into(),
            None,
        ),
        ("      nodeSelector: {accelerator: a100}".into(), None),
    ] {
        assert_eq!(gpu(&placement, &[]).as_deref(), card, "{placement}");
        let told = gpu(&placement, &["--gpu", "T4"]);
        // Machines that have others say so, even where they leave a choice.
        let choice = placement.contains("g6.xlarge, g5.xlarge");
        assert_eq!(
            told.as_deref(),
            card.or((!choice).then_some("T4")),
            "--gpu is for those that do not say: {placement}"
        );
    }
    // Of several that it lists it is one; what it excludes it is not.
    let listed = affinity(&of("nvidia.com/gpu.product", "NVIDIA-L4, NVIDIA-L40S"));
    assert_eq!(gpu(&listed, &["--gpu", "L40S"]).as_deref(), Some("L40S"));
    assert_eq!(gpu(&listed, &["--gpu", "H100"]), None);
    let not = listed.replace("operator: In", "operator: NotIn");
    assert!(not != listed);
    assert_eq!(gpu(&not, &["--gpu", "L4"]), None);
    assert_eq!(gpu(&not, &["--gpu", "H100"]).as_deref(), Some("H100-SXM5-80GB"));
}

/// A misspelt region is told: nothing in it has a price.
#[test]
fn a_region_without_prices_is_told() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("web.yaml"), server(&[])).unwrap();
    let check = |region: &str| run(dir.path(), &["check", "web.yaml", "--region", region]).expect(0, &[]);
    assert!(check("us-eest-1").err.contains("prices of the region 'us-eest-1'"));
    assert!(!check("us-east-1").err.contains("prices of the region"));
}

#[test]
fn gates_and_codes_are_those_of_scan() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("wide.yaml"), server(&[("GPUS", "2"), ("CPU", "8")])).unwrap();
    fs::write(
        dir.path().join("misfit.yaml"),
        server(&[("MODEL", "Qwen/Qwen2.5-14B-Instruct")]),
    )
    .unwrap();
    let check = |args: &[&str]| run(dir.path(), &[&["check"], args].concat());
    // Findings alone fail nothing; a gate does, at the confidence a manifest can have.
    check(&["wide.yaml"]).expect(0, &[]);
    check(&["wide.yaml", "--max-waste", "0.1"]).expect(1, &["max-waste", "holds 2 GPUs a replica and uses 1"]);
    check(&["wide.yaml", "--max-waste", "100"]).expect(0, &[]);
    check(&["misfit.yaml", "--max-at-risk", "0"]).expect(1, &["max-at-risk", "does not fit"]);
    check(&["wide.yaml", "--max-at-risk", "0"]).expect(0, &[]);
    // A manifest is judged on paper, and all of it counts unless the flag says otherwise.
    fs::write(
        dir.path().join("large.yaml"),
        server(&[("CARD", "NVIDIA-H100-80GB-HBM3")]),
    )
    .unwrap();
    check(&["large.yaml", "--max-waste", "0.1"]).expect(1, &["max-waste"]);
    check(&["large.yaml", "--max-waste", "0.1", "--gate-confidence", "estimated"])
        .expect(0, &["--gate-confidence assumed"]);
    check(&["large.yaml", "--max-waste", "0.1", "--gate-confidence", "measured"]).expect(0, &["--gate-confidence"]);
    // A file that cannot be read beside one that can: 3; a breach wins; alone: 2.
    fs::write(dir.path().join("broken.yaml"), "kind: Pod\nspec: [\n").unwrap();
    check(&["wide.yaml", "broken.yaml"]).expect(3, &["broken.yaml"]);
    check(&["wide.yaml", "broken.yaml", "--max-waste", "0.1"]).expect(1, &["max-waste"]);
    check(&["broken.yaml"]).expect(2, &["broken.yaml"]);
    check(&["nowhere.yaml"]).expect(2, &["nowhere.yaml"]);
    check(&["wide.yaml", "--gpu", "H1000"]).expect(2, &["H1000", "H100"]);
    // A baseline leaves only what is new.
    check(&["wide.yaml", "--write-baseline", "base.json"]).expect(0, &[]);
    check(&["wide.yaml", "--baseline", "base.json", "--max-new-waste", "0"]).expect(0, &[]);
    fs::write(
        dir.path().join("more.yaml"),
        server(&[("GPUS", "2"), ("CPU", "8")]).replace("name: web", "name: other"),
    )
    .unwrap();
    check(&[
        "wide.yaml",
        "more.yaml",
        "--baseline",
        "base.json",
        "--max-new-waste",
        "0",
    ])
    .expect(1, &["max-new-waste"]);
    check(&["more.yaml", "--baseline", "base.json"]).expect(0, &["gone since the baseline"]);
}

#[test]
fn a_reader_that_closes_first_changes_neither_verdict_nor_other_outputs() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("wide.yaml"), server(&[("GPUS", "2"), ("CPU", "8")])).unwrap();
    for (limit, code) in [("0.1", 1), ("100", 0)] {
        for format in ["table", "json", "sarif"] {
            let baseline = format!("base-{code}-{format}.json");
            let mut child = command(dir.path(), &["check", "wide.yaml", "--format", format])
                .args(["--max-waste", limit, "--write-baseline", &baseline])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            drop(child.stdout.take());
            let done = child.wait_with_output().unwrap();
            let said = String::from_utf8(done.stderr).unwrap();
            assert_eq!(done.status.code(), Some(code), "{format}: {said}");
            assert!(!said.contains("Broken pipe"), "{said}");
            assert!(dir.path().join(&baseline).exists(), "{baseline}");
        }
    }
}

#[test]
fn an_owners_opt_out_holds_for_manifests_in_the_form_that_findings_advise() {
    let dir = tempdir().unwrap();
    let with = |value: &str| {
        let text = server(&[("GPUS", "2"), ("CPU", "5"), ("IMAGE", "vllm/vllm-openai:latest")]);
        let noted = format!("metadata:\n  annotations: {{gpuwaste.dev/ignore: \"{value}\"}}\n");
        fs::write(dir.path().join("web.yaml"), text.replacen("metadata:\n", &noted, 1)).unwrap();
        let report = run(dir.path(), &["check", "web.yaml", "--format", "json"])
            .expect(0, &[])
            .json();
        let checks = |status: &str| -> Vec<String> {
            let all = report["findings"].as_array().unwrap().iter();
            all.filter(|f| f["status"] == status)
                .map(|f| f["check"].as_str().unwrap_or_default().to_owned())
                .collect()
        };
        (checks("new"), checks("suppressed"), report["gaps"].to_string())
    };
    // A reason alone: an opt-out of all.
    let (found, kept, gaps) = with("failover spare, reviewed 2026-10");
    assert_eq!(found, Vec::<String>::new());
    assert!(
        kept.len() >= 3 && kept.contains(&"parallelism-mismatch".into()),
        "{kept:?}"
    );
    assert!(!gaps.contains("gpuwaste.dev/ignore"), "{gaps}");
    // A check in front: of that one.
    let (found, kept, _) = with("parallelism-mismatch the second GPU is for a batch job");
    assert_eq!(kept, ["parallelism-mismatch"]);
    assert!(found.contains(&"spec-hygiene".into()), "{found:?}");
    // A check that is misspelt suppresses nothing, and that is told.
    let (found, kept, gaps) = with("parallelism-mismach the second GPU is for a batch job");
    assert!(kept.is_empty() && found.contains(&"parallelism-mismatch".into()));
    assert!(gaps.contains("parallelism-mismach"), "{gaps}");
}

#[test]
fn a_region_of_no_price_is_refused_and_named() {
    let dir = tempdir().unwrap();
    let fit = |region: &str| {
        run(
            dir.path(),
            &[
                "fit",
                "Qwen/Qwen2.5-7B-Instruct",
                "--format",
                "json",
                "--region",
                region,
            ],
        )
    };
    let known = fit("us-east-1").expect(0, &[]).json().to_string();
    assert!(known.contains("\"usd_per_hour\":1."), "{known}");
    fit("no-such-region").expect(2, &["no-such-region", "catalog instances"]);
}

#[test]
fn two_runs_print_the_same_bytes_and_the_day_can_be_set() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("web.yaml"), server(&[("GPUS", "2")])).unwrap();
    let at = |epoch: Option<&str>, format: &str| {
        let mut command = command(dir.path(), &["check", "web.yaml", "--format", format]);
        command.envs(epoch.map(|e| ("SOURCE_DATE_EPOCH", e)));
        finish(command, None)
    };
    for format in [
        "table",
        "json",
        "csv",
        "markdown",
        "html",
        "sarif",
        "junit",
        "prometheus",
    ] {
        let once = at(Some("1764000000"), format).expect(0, &[]).out;
        assert_eq!(once, at(Some("1764000000"), format).out, "{format}");
        assert!(!once.is_empty(), "{format}");
    }
    let set = at(Some("1764000000"), "json").json();
    assert_eq!(set["taken_at"], "2025-11-24T16:00:00Z");
    let own = at(None, "json").json();
    assert!(
        own["taken_at"].as_str().unwrap().ends_with("T00:00:00Z"),
        "{}",
        own["taken_at"]
    );
    at(Some("soon"), "json").expect(2, &["SOURCE_DATE_EPOCH", "soon"]);
}

#[test]
fn charts_and_kustomizations_say_how_they_are_rendered() {
    let dir = tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("chart/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n");
    write("chart/values.yaml", "replicas: 2\n");
    write(
        "chart/templates/d.yaml",
        "kind: Deployment\nmetadata:\n  name: {{ .Values.name }}\n",
    );
    write(
        "overlay/kustomization.yaml",
        "resources: [../base]\npatches: [{path: p.yaml}]\n",
    );
    write("overlay/p.yaml", &server(&[("GPUS", "8")]));
    write("plain/web.yaml", &server(&[]));
    let check = |path: &str| run(dir.path(), &["check", path, "--format", "json"]);
    check("chart").expect(
        2,
        &["chart/Chart.yaml", "helm template RELEASE chart | gpuwaste check -"],
    );
    check("chart/templates/d.yaml").expect(2, &["d.yaml", "line 3", "helm template"]);
    check("chart/values.yaml").expect(2, &["values.yaml", "helm template"]);
    check("overlay").expect(2, &["kubectl kustomize overlay | gpuwaste check -"]);
    check("overlay/kustomization.yaml").expect(2, &["kubectl kustomize overlay"]);
    // A patch by itself is no workload; what can be read is. The folder was named, and it was read.
    let all = check(".").expect(0, &["helm template", "kubectl kustomize"]).json();
    assert_eq!(all["totals"]["gpus"], 1.0);
    let piped = finish(
        command(dir.path(), &["check", "-", "--format", "json"]),
        Some(server(&[]).as_bytes()),
    );
    assert_eq!(piped.expect(0, &[]).json()["totals"]["gpus"], 1.0);
}

#[test]
fn hostile_text_ends_in_an_error_with_its_line_and_none_of_its_secrets() {
    let dir = tempdir().unwrap();
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_string();
    for i in 1..30 {
        let last = format!("*a{}", i - 1);
        bomb += &format!("a{i}: &a{i} [{}]\n", [last.as_str(); 9].join(","));
    }
    let secret = "hunter2-canary";
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("bomb", bomb.into_bytes(), "line"),
        ("deep", "[".repeat(100_000).into_bytes(), "line"),
        (
            "tabs",
            format!("kind: Pod\ntoken:\n\t- {secret}\n").into_bytes(),
            "line 3",
        ),
        (
            "latin",
            [b"kind: Pod\nname: ".as_slice(), &[0xe9], secret.as_bytes()].concat(),
            "line 2",
        ),
        ("utf16", vec![0xff, 0xfe, b'k', 0, b'i', 0], "UTF-16"),
        (
            "open",
            format!("kind: Pod\npassword: \"{secret}\nx: 1\n").into_bytes(),
            "line",
        ),
        (
            "colon",
            format!("kind: Pod\npassword: {secret}: {secret}: x\n").into_bytes(),
            "line 2",
        ),
        (
            "alias",
            format!("kind: Pod\npassword: *{secret}\n").into_bytes(),
            "line 2",
        ),
        (
            "flow",
            format!("kind: Pod\npassword: {{{secret}: [}}\n").into_bytes(),
            "line 2",
        ),
        (
            "tag",
            format!("kind: Pod\npassword: !!binary {secret}\n").into_bytes(),
            "line",
        ),
    ];
    for (name, bytes, word) in cases {
        fs::write(dir.path().join("bad.yaml"), &bytes).unwrap();
        let begun = std::time::Instant::now();
        let done = run(dir.path(), &["check", "bad.yaml"]);
        assert!(begun.elapsed().as_secs() < 60, "{name}: bounded time");
        assert!(
            !done.err.contains("panicked") && !done.err.contains(secret) && !done.out.contains(secret),
            "{name}: {done:?}"
        );
        assert_eq!(done.code, 2, "{name}: {done:?}");
        assert!(
            done.err.contains("bad.yaml") && (done.err.contains(word) || name == "tag"),
            "{name}: {}",
            done.err
        );
        assert!(done.err.len() < 1000, "{name}: {}", done.err);
    }
    // Large is not hostile: a ConfigMap of 4 MB beside a server, Windows line ends, a byte order mark.
    let large = format!(
        "\u{feff}apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: big}}\ndata:\n  x: {}\n---\n{}",
        "y".repeat(4 << 20),
        server(&[])
    );
    fs::write(dir.path().join("good.yaml"), large.replace('\n', "\r\n")).unwrap();
    let report = run(dir.path(), &["check", "good.yaml", "--format", "json"])
        .expect(0, &[])
        .json();
    assert_eq!(report["totals"]["gpus"], 1.0);
    // 100 MB: refused without being parsed.
    fs::write(dir.path().join("huge.yaml"), "a: b\n".repeat(20 << 20)).unwrap();
    run(dir.path(), &["check", "huge.yaml"]).expect(2, &["huge.yaml", "32 MiB"]);
}

#[test]
fn no_secret_of_a_manifest_is_in_any_output() {
    let dir = tempdir().unwrap();
    let canary = "canary-7f3a";
    let text = server(&[("IMAGE", "vllm/vllm-openai:latest")])
        .replace(
            "            - --model",
            &format!("            - --api-key={canary}\n            - --model"),
        )
        .replace(
            "          resources:",
            &format!("          env: [{{name: HF_TOKEN, value: {canary}}}]\n          resources:"),
        )
        .replace(
            "  name: web\n",
            &format!("  name: web\n  annotations: {{note: {canary}}}\n"),
        )
        + &format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{token: {canary}}}\n");
    fs::write(dir.path().join("web.yaml"), text).unwrap();
    for format in [
        "table",
        "json",
        "csv",
        "markdown",
        "html",
        "sarif",
        "junit",
        "prometheus",
    ] {
        let done = run(dir.path(), &["check", "web.yaml", "-v", "--format", format]).expect(0, &[]);
        assert!(!done.out.contains(canary) && !done.err.contains(canary), "{format}");
        assert!(done.out.contains("web") || format == "prometheus", "{format}");
    }
}

#[test]
fn money_of_manifests_adds_up() {
    let dir = tempdir().unwrap();
    let path = fixtures();
    let report = run(dir.path(), &["check", path.to_str().unwrap(), "--format", "json"])
        .expect(0, &[])
        .json();
    let findings = report["findings"].as_array().unwrap();
    let waste: f64 = findings.iter().filter_map(|f| f["waste_usd_per_hour"].as_f64()).sum();
    assert!(findings.len() > 5);
    assert!(same(waste, report["totals"]["waste_usd_per_hour"].as_f64().unwrap()));
    assert!(waste <= report["totals"]["spend_usd_per_hour"].as_f64().unwrap());
}

/// Instances of a card cost their slices of it, whoever has the rest; partitions likewise.
#[test]
fn a_slice_costs_its_share_of_a_card() {
    let dir = tempdir().unwrap();
    let spend = |resource: &str, count: &str, placement: &str| {
        let text = server(&[])
            .replace("nvidia.com/gpu: 1", &format!("{resource}: {count}"))
            .replace("nvidia.com/gpu.product: NVIDIA-L4", placement);
        fs::write(dir.path().join("web.yaml"), text).unwrap();
        let report = run(dir.path(), &["check", "web.yaml", "--format", "json"])
            .expect(0, &[])
            .json();
        let totals = &report["totals"];
        let of = |key: &str| totals[key].as_f64().unwrap();
        assert_eq!((of("gpus_free"), of("gpus_unhealthy")), (0.0, 0.0), "{totals}");
        assert!((of("gpus") - of("gpus_allocated")).abs() < 1e-9, "{totals}");
        (of("spend_usd_per_hour"), of("gpus"))
    };
    let near = |found: (f64, f64), spend: f64, gpus: f64| {
        assert!(
            (found.0 - spend).abs() < 2e-4 && (found.1 - gpus).abs() < 1e-4,
            "{found:?}, not ({spend}, {gpus})"
        );
    };
    for placement in [
        "nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3",
        "node.kubernetes.io/instance-type: p5.48xlarge",
    ] {
        let (whole, gpus) = spend("nvidia.com/gpu", "1", placement);
        assert!(whole > 1.0 && gpus == 1.0, "{whole} for {gpus}");
        near(spend("nvidia.com/mig-1g.10gb", "1", placement), whole / 7.0, 1.0 / 7.0);
        near(
            spend("nvidia.com/mig-3g.40gb", "1", placement),
            whole * 3.0 / 7.0,
            3.0 / 7.0,
        );
        near(
            spend("nvidia.com/mig-1g.10gb", "3", placement),
            whole * 3.0 / 7.0,
            3.0 / 7.0,
        );
    }
    let mi = "amd.com/gpu.product-name: MI300X";
    let (whole, _) = spend("amd.com/gpu", "1", mi);
    near(spend("amd.com/cpx_nps4", "1", mi), whole / 8.0, 0.125);
}

/// One role's load is not the model's: what the other role leaves it to hold is not told.
#[test]
fn a_role_of_a_split_server_gets_no_cheaper_tier() {
    let dir = tempdir().unwrap();
    let text = server(&[("CARD", "NVIDIA-H100-80GB-HBM3")]);
    let cheaper = |text: &str| named(&findings(dir.path(), text, &[]), "oversized-tier", None);
    assert!(cheaper(&text).is_some());
    let producer =
        "            - '--kv-transfer-config={\"kv_connector\": \"NixlConnector\", \"kv_role\": \"kv_producer\"}'\n";
    let split = text.replace("            - --tensor", &format!("{producer}            - --tensor"));
    assert_ne!(split, text);
    assert!(cheaper(&split).is_none());
}

/// A misspelt model, and one that nobody else has, are no models that fit: a gate that they could breach says nothing.
#[test]
fn no_gate_passes_on_a_model_that_nobody_knows() {
    let dir = tempdir().unwrap();
    let check = |args: &[&str]| run(dir.path(), &[&["check", "web.yaml"], args].concat());
    for (model, words) in [
        (
            "Qwen/Qwen2.5-7B-Instrukt",
            &["Qwen/Qwen2.5-7B-Instrukt", "near: Qwen/Qwen2.5-7B-Instruct"][..],
        ),
        ("acme/secret", &["acme/secret"]),
    ] {
        fs::write(dir.path().join("web.yaml"), server(&[("MODEL", model)])).unwrap();
        let seen = check(&[]).expect(0, &[]).out;
        let flat = seen.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(flat.contains(word), "{word}: {seen}");
        }
        assert!(
            flat.contains("Fit unknown 1 GPU: the model") && flat.contains("--models DIR"),
            "{seen}"
        );
        check(&["--max-at-risk", "0"]).expect(3, &["max-at-risk gives no verdict", "/web", model]);
        check(&["--max-waste", "0"]).expect(3, &["max-waste gives no verdict", "/web", model]);
        // A limit that it cannot breach decides.
        check(&["--max-at-risk", "1000"]).expect(0, &[]);
    }
    // Who says that it is not to be judged, has it judged by no gate.
    let ignored = server(&[("MODEL", "acme/secret")]).replace(
        "metadata:\n  name: web",
        "metadata:\n  name: web\n  annotations: {gpuwaste.dev/ignore: \"all ours alone\"}",
    );
    assert!(ignored.contains("gpuwaste.dev/ignore"));
    fs::write(dir.path().join("web.yaml"), ignored).unwrap();
    check(&["--max-at-risk", "0"]).expect(0, &[]);
}

/// Labels and annotations, of the pod or of what makes it, tell whose it is.
#[test]
fn a_manifest_says_whose_it_is() {
    let dir = tempdir().unwrap();
    let one = |name: &str, of_object: &str, of_pod: &str| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "ml", of_object: {"team": format!("{name}-team"), "acme.io/cost": "c7"}},
            "spec": {"replicas": 1, "template": {
                "metadata": {"labels": {"app": name}, "annotations": {"who": of_pod}},
                "spec": {"containers": [{"name": "s", "image": "acme/x:1", "resources": {"limits": {"nvidia.com/gpu": 1}}}]},
            }},
        })
        .to_string()
    };
    let text = format!(
        "{}\n---\n{}\n",
        one("labelled", "labels", "ada"),
        one("noted", "annotations", "bo")
    );
    fs::write(dir.path().join("two.yaml"), text).unwrap();
    let check = |more: &[&str]| {
        let args = [&["check", "two.yaml", "--gpu", "L4", "--format", "json"], more].concat();
        run(dir.path(), &args).expect(0, &[]).json()
    };
    let groups = |by: &str| {
        let report = check(&["--group-by", by]);
        let rows = report["groups"]["rows"].as_array().unwrap().clone();
        rows.iter()
            .map(|r| r["name"].as_str().unwrap().to_string())
            .collect::<BTreeSet<_>>()
    };
    let set = |names: &[&str]| names.iter().map(|n| (*n).to_string()).collect::<BTreeSet<_>>();
    assert_eq!(groups("team"), set(&["labelled-team", "noted-team"]));
    assert_eq!(groups("who"), set(&["ada", "bo"]));
    assert_eq!(groups("acme.io/cost"), set(&["c7"]));
    // The policy's ownership, without being asked to group.
    fs::write(dir.path().join("gpuwaste.toml"), "[ownership]\nlabels = [\"who\"]\n").unwrap();
    let owners: Vec<_> = check(&[])["workloads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["owner"].clone())
        .collect();
    assert_eq!(owners, ["ada", "bo"]);
    assert_eq!(groups("owner"), set(&["ada", "bo"]));
    let sheet = run(
        dir.path(),
        &["check", "two.yaml", "--gpu", "L4", "--format", "chargeback"],
    )
    .expect(0, &[])
    .out;
    assert!(sheet.contains("\nada,") && sheet.contains("\nbo,"), "{sheet}");
}
