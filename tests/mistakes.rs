//! What people type by mistake: each message names the input, the reason and the way out, and nothing passes by mistake.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Done, command, demo, finish, run, save, two_nodes};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use tempfile::tempdir;

/// Arguments, exit code, and what stderr (or stdout, where all is well) has to say.
type Mistake = (&'static str, i32, &'static [&'static str]);

const MISTAKES: &[Mistake] = &[
    // What no check that runs can find is not 0, and no check at all is no report.
    (
        "scan --demo --check dark-capacity --max-at-risk 0",
        3,
        &["max-at-risk", "no verdict"],
    ),
    (
        "scan --demo --check dark-capacity --skip dark-capacity --max-waste 0",
        2,
        &["no check is left", "--skip"],
    ),
    (
        "fit Qwen/Qwen3-32B --running 4 --input 1024 --output 256 --itl 50",
        2,
        &["--itl", "50ms or 50s"],
    ),
    // One file for another.
    (
        "scan --snapshot report.json",
        2,
        &["report.json", "it is a report", "gpuwaste show --report", "collect"],
    ),
    (
        "scan --snapshot base.json",
        2,
        &["base.json", "it is a baseline", "--baseline"],
    ),
    (
        "scan --snapshot login.html",
        2,
        &["login.html", "web page", "login page", "token"],
    ),
    ("scan --snapshot utf16.json", 2, &["utf16.json", "UTF-16", "UTF-8"]),
    ("scan --snapshot web.yaml", 2, &["web.yaml", "YAML", "gpuwaste check"]),
    ("scan --snapshot report.csv", 2, &["report.csv", "CSV", "json"]),
    ("scan --snapshot nowhere.json", 2, &["nowhere.json", "No such file"]),
    ("diff report.json login.html", 2, &["login.html", "web page"]),
    (
        "scan --demo --baseline snapshot.json",
        2,
        &["snapshot.json", "it is a snapshot", "--write-baseline"],
    ),
    ("scan --demo --baseline login.html", 2, &["login.html", "web page"]),
    ("show --report nowhere.json 1", 2, &["nowhere.json", "No such file"]),
    // Numbers and times.
    ("scan --demo --window 7", 2, &["'7'", "1h and 60d", "did you mean 7d?"]),
    ("scan --demo --window 7parsecs", 2, &["parsecs", "s, m, h, d or w"]),
    ("scan --demo --timeout 1ms", 2, &["'1ms'", "100ms", "1m or 1s"]),
    ("scan --demo --top -1", 2, &["'-1'", "--top", "0, or a whole number"]),
    ("scan --demo --top ten", 2, &["'ten'", "whole number"]),
    (
        "scan --demo --max-waste $50",
        2,
        &["'$50'", "US dollars per hour", ": 50"],
    ),
    ("scan --demo --max-waste 50/h", 2, &["'50/h'", ": 50"]),
    ("scan --demo --max-waste -1", 2, &["'-1'", "at least 0"]),
    ("scan --demo --max-waste much", 2, &["'much'", "such as 50"]),
    ("scan --demo --min-coverage 90%", 2, &["'90%'", ": 90"]),
    ("scan --demo --min-coverage 0.9", 2, &["'0.9'", "write 90"]),
    ("scan --demo --max-waste-percent 150", 2, &["'150'", "0 to 100"]),
    ("scan --demo --max-waste-percent nan", 2, &["at least 0"]),
    // Names.
    (
        "scan --demo --group-by namspace",
        2,
        &["namspace", "did you mean 'namespace'?"],
    ),
    (
        "scan --demo --check dark-capasity",
        2,
        &["dark-capasity", "did you mean 'dark-capacity'?"],
    ),
    ("scan --demo --format jsn", 2, &["jsn", "known are", "json"]),
    ("scan --demo --gate-confidence sure", 2, &["sure", "measured"]),
    ("fit llama", 2, &["'llama'", "nearest", "Llama"]),
    ("fit Qwen/Qwen3-32B --dtype foo", 2, &["--dtype foo", "bfloat16"]),
    (
        "fit Qwen/Qwen3-32B --kv-cache-dtype foo",
        2,
        &["--kv-cache-dtype foo", "fp8"],
    ),
    ("fit Qwen/Qwen3-32B --gpu H1000", 2, &["H1000", "H100"]),
    ("explain dark", 2, &["'dark'", "did you mean 'dark-capacity'"]),
    (
        "show nosuch --demo",
        2,
        &["'nosuch'", "an id", "rank from 1 to", "gpuwaste scan"],
    ),
    (
        "show dedupe-1b5 --demo",
        2,
        &["'dedupe-1b5'", "has 2 findings", "sharing-mismatch"],
    ),
    ("man nosuch", 2, &["'nosuch'", "scan"]),
    ("catalog gpus nosuch", 2, &["nosuch", "catalogue"]),
    // Prices.
    (
        "scan --demo --prices amount.toml",
        2,
        &["amount.toml", "line 1", "usd_per_hour"],
    ),
    ("scan --demo --prices both.toml", 2, &["both.toml", "not both"]),
    ("scan --demo --prices date.toml", 2, &["date.toml", "line 4", "as_of"]),
    (
        "scan --demo --prices empty.toml",
        2,
        &["empty.toml", "[[price]]", "--template"],
    ),
    ("scan --demo --prices euro.toml", 2, &["euro.toml", "EUR", "rate"]),
    (
        "scan --demo --prices typo.toml",
        2,
        &["typo.toml", "line 3", "usd_per_huor", "usd_per_hour"],
    ),
    (
        "scan --demo --prices discount.toml",
        2,
        &["discount.toml", "discount", "0.4"],
    ),
    (
        "scan --demo --prices quoted.toml",
        2,
        &[
            "quoted.toml",
            "line 3",
            "usd_per_hour = \"10\"",
            "without quotes: usd_per_hour = 10",
        ],
    ),
    (
        "scan --demo --prices number.toml",
        2,
        &["line 4", "node = 5", "node = \"5\""],
    ),
    (
        "scan --demo --prices word.toml",
        2,
        &["line 3", "usd_per_hour = ten", "a number is written bare"],
    ),
    (
        "scan --demo --prices nosuchday.toml",
        2,
        &["line 4", "as_of = 2026-13-01", "no such day"],
    ),
    (
        "scan --demo --prices yesterday.toml",
        2,
        &["yesterday.toml", "as_of 'yesterday'", "2026-11-01"],
    ),
    (
        "scan --demo --prices percent.toml",
        2,
        &["line 3", "discount = \"40%\"", "discount = 0.4"],
    ),
    (
        "scan --demo --prices colon.toml",
        2,
        &["line 3", "usd_per_hour: 10", "KEY = VALUE"],
    ),
    (
        "scan --demo --prices twice.toml",
        2,
        &["line 4", "'usd_per_hour' stands twice"],
    ),
    ("scan --demo --prices brackets.toml", 2, &["line 1", "[[price]]"]),
    (
        "scan --demo --prices bare.toml",
        2,
        &["line 1", "'node' belongs to an entry", "[[price]]"],
    ),
    // Entries that decide about nothing, each by its place and its keys.
    (
        "scan --demo --prices behind.toml",
        0,
        &[
            "price entry 2 of --prices behind.toml (region = \"us-east-1\", gpu = \"H100\")",
            "never reached: price entry 1 of --prices behind.toml stands before it",
            "price entry 3 of --prices behind.toml (node = \"nosuch-*\") (it matches no node",
        ],
    ),
    // Policies.
    (
        "scan --demo --policy until.toml",
        2,
        &["until.toml", "line 5", "'until'", "did you mean 'expires'?"],
    ),
    (
        "scan --demo --policy soon.toml",
        2,
        &["soon.toml", "expires = soon", "2027-03-31"],
    ),
    (
        "scan --demo --policy past.toml",
        0,
        &["past.toml", "has expired", "decide again, or remove it"],
    ),
    (
        "scan --demo --policy text.toml",
        2,
        &["text.toml", "line 2", "max_waste = \"5\"", "max_waste = 5"],
    ),
    // Bills.
    (
        "scan --demo --focus other.csv",
        2,
        &["other.csv", "lacks ResourceId", "FOCUS"],
    ),
    // Manifests.
    ("check blank.yaml", 2, &["blank.yaml", "it is empty"]),
    ("check minus.yaml", 0, &["nvidia.com/gpu", "the amount is -1, below 0"]),
    ("check minus.yaml --max-at-risk 0", 3, &["no verdict"]),
    // Tokens.
    (
        "fit Qwen/Qwen3-32B --gpu H100 --max-model-len 8kk",
        2,
        &["'8kk'", "8k (8,000) or 8K (8,192)"],
    ),
    (
        "fit Qwen/Qwen3-32B --gpu H100 --max-model-len 8,192",
        2,
        &["bare number of tokens: 8192"],
    ),
    ("fit Qwen/Qwen3-32B --gpu H100 --tp -1", 2, &["-1", "--tp"]),
    // Outputs.
    (
        "scan --demo --format json=",
        2,
        &["--format json=", "a file is expected", "json=FILE"],
    ),
    ("explain idel", 2, &["'idel'", "'idle'"]),
    ("explain overrsized", 2, &["'oversized-tier'"]),
    ("explain xyzzy", 2, &["'xyzzy'", "lists them all"]),
    // Kubeconfigs.
    ("scan --kubeconfig nowhere", 2, &["nowhere", "No such file"]),
    (
        "scan --kubeconfig broken.kubeconfig",
        2,
        &["broken.kubeconfig", "no kubeconfig", "kubectl config view"],
    ),
    (
        "scan --kubeconfig good.kubeconfig --context nosuch",
        2,
        &["nosuch", "good"],
    ),
    // Commands.
    ("scann --demo", 2, &["scann", "scan"]),
    (
        "scan --demo --snapshot snapshot.json",
        2,
        &["--demo", "--snapshot", "cannot be used with"],
    ),
];

fn world(folder: &Path) {
    run(
        folder,
        &[
            "scan",
            "--demo",
            "-q",
            "--format",
            "json=report.json",
            "--format",
            "csv=report.csv",
            "--write-baseline",
            "base.json",
        ],
    )
    .expect(0, &[]);
    save(folder, "snapshot.json", &two_nodes());
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("login.html", "<!DOCTYPE html><html><body>Sign in</body></html>");
    let utf16: Vec<u8> = [0xff, 0xfe]
        .into_iter()
        .chain("{\"schema\": 1}".encode_utf16().flat_map(u16::to_le_bytes))
        .collect();
    fs::write(folder.join("utf16.json"), utf16).unwrap();
    write("web.yaml", "apiVersion: apps/v1\nkind: Deployment\n");
    let price =
        |name: &str, lines: &str| write(name, &format!("[[price]]\ninstance_type = \"p5.48xlarge\"\n{lines}\n"));
    price("amount.toml", "");
    price("both.toml", "usd_per_hour = 10\nusd_per_gpu_hour = 2");
    price("date.toml", "usd_per_hour = 10\nas_of = 7");
    write("empty.toml", "");
    price("euro.toml", "usd_per_hour = 10\ncurrency = \"EUR\"");
    price("typo.toml", "usd_per_huor = 10");
    price("discount.toml", "discount = 40");
    price("quoted.toml", "usd_per_hour = \"10\" # a node");
    price("number.toml", "usd_per_hour = 10\nnode = 5");
    price("word.toml", "usd_per_hour = ten");
    price("nosuchday.toml", "usd_per_hour = 10\nas_of = 2026-13-01");
    price("yesterday.toml", "usd_per_hour = 10\nas_of = \"yesterday\"");
    price("percent.toml", "discount = \"40%\"");
    price("colon.toml", "usd_per_hour: 10");
    price("twice.toml", "usd_per_hour = 10\nusd_per_hour = 11");
    write("brackets.toml", "[price]\nnode = \"x\"\nusd_per_hour = 10\n");
    write("bare.toml", "node = \"x\"\nusd_per_hour = 10\n");
    write(
        "behind.toml",
        "[[price]]\nnode = \"*\"\nusd_per_gpu_hour = 3\n\n[[price]]\ngpu = \"H100\"\nregion = \"us-east-1\"\nusd_per_gpu_hour = 2\n\n\
         [[price]]\nnode = \"nosuch-*\"\nusd_per_hour = 4\n",
    );
    let suppress = |name: &str, line: &str| {
        let text = format!("[[suppress]]\ncheck = \"idle-schedule\"\nsubject = \"a/b\"\nreason = \"r\"\n{line}\n");
        write(name, &text);
    };
    suppress("until.toml", "until = 2027-01-01");
    suppress("soon.toml", "expires = \"soon\"");
    suppress("past.toml", "expires = 2020-01-01");
    write("text.toml", "[gates]\nmax_waste = \"5\"\n");
    write("other.csv", "Date;Amount\n2026-11-01;5\n");
    write("blank.yaml", "");
    write(
        "minus.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: c, image: x, resources: {limits: {nvidia.com/gpu: -1}}}\n",
    );
    write("broken.kubeconfig", "nope: [");
    write(
        "good.kubeconfig",
        r#"{"apiVersion": "v1", "kind": "Config", "current-context": "good", "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "good", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}]}"#,
    );
}

#[test]
fn each_mistake_is_told_with_its_way_out() {
    let dir = tempdir().unwrap();
    world(dir.path());
    let mut wrong = Vec::new();
    for (line, code, words) in MISTAKES {
        let args: Vec<&str> = line.split(' ').collect();
        let done = run(dir.path(), &args);
        let missing: Vec<&&str> = words.iter().filter(|w| !done.err.contains(**w)).collect();
        if done.code != *code || !missing.is_empty() || done.err.contains("panicked") {
            wrong.push(format!("{line}: {} without {missing:?}: {}", done.code, done.err));
        }
        // What could not be done says nothing on stdout, and says it once.
        if *code == 2 && !done.out.is_empty() {
            wrong.push(format!("{line}: on stdout {}", done.out));
        }
        let said: Vec<&str> = done.err.lines().filter(|l| l.len() > 40).collect();
        if (1..said.len()).any(|i| said[..i].contains(&said[i])) {
            wrong.push(format!("{line}: said twice: {}", done.err));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_empty_pipe_is_told_as_one() {
    let dir = tempdir().unwrap();
    let done = finish(command(dir.path(), &["scan", "--snapshot", "-"]), Some(b""));
    done.expect(2, &["stdin", "empty", "collect"]);
    for text in [&b""[..], b"\n\n", b"# nothing\n"] {
        let done = finish(command(dir.path(), &["check", "-"]), Some(text));
        done.expect(2, &["stdin: no Kubernetes object", "helm template"]);
    }
}

/// "8k" is what vLLM takes it for; a sheet of some countries has semicolons; a workload of nothing says so.
#[test]
fn what_people_write_is_read_as_they_mean_it() {
    let dir = tempdir().unwrap();
    let fit = |length: &str| {
        let args = [
            "fit",
            "Qwen/Qwen3-32B",
            "--gpu",
            "H100",
            "--tp",
            "2",
            "--max-model-len",
            length,
            "--format",
            "json",
        ];
        run(dir.path(), &args).expect(0, &[]).json()
    };
    assert_eq!(fit("8K"), fit("8192"));
    assert_eq!(fit("8k"), fit("8000"));
    assert_ne!(fit("8k"), fit("8K"));
    let asleep = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  replicas: 0\n  template:\n    spec:\n      \
        containers: [{name: c, image: x, resources: {limits: {nvidia.com/gpu: 1}}}]\n";
    fs::write(dir.path().join("asleep.yaml"), asleep).unwrap();
    let out = run(dir.path(), &["check", "asleep.yaml"]).expect(0, &[]).out;
    assert!(
        out.contains("0 replicas") && out.contains("1 object)") && !out.contains("below"),
        "{out}"
    );
}

/// With a gate, what matched nothing gives no verdict; without one it is a warning.
#[test]
fn nothing_passes_by_mistake() {
    let dir = tempdir().unwrap();
    for (args, word) in [
        (&["-n", "nosuch"][..], "-n nosuch: no pod with a GPU"),
        (&["-l", "a=b"], "--selector has no use with --demo"),
        (
            &["--prometheus", "http://prom:9090"],
            "--prometheus has no use with --demo",
        ),
        (&["--group-by", "no-such-label"], "no workload and no node has a label"),
    ] {
        let scan = |more: &[&str]| {
            let all: Vec<&str> = ["scan", "--demo"].iter().chain(args).chain(more).copied().collect();
            run(dir.path(), &all)
        };
        scan(&[]).expect(0, &["warning:", word]);
        scan(&["--max-waste", "100000"]).expect(3, &["warning:", word, "no verdict"]);
        // A breach stays one.
        scan(&["--max-waste", "1"]).expect(1, &["warning:", word, "over the limit"]);
    }
    run(dir.path(), &["scan", "--demo", "--max-waste", "100000"]).expect(0, &[]);
}

/// What was recorded is limited to a namespace as a live fleet is.
#[test]
fn a_namespace_limits_what_was_recorded() {
    let dir = tempdir().unwrap();
    demo(dir.path());
    let scan = |more: &[&str]| {
        let args = [&["scan", "--snapshot", "demo.json", "--format", "json"], more].concat();
        run(dir.path(), &args).expect(0, &[])
    };
    let namespaces = |done: &Done| {
        let report = done.json();
        let all = report["findings"].as_array().unwrap().iter();
        all.filter_map(|f| f["subject"]["namespace"].as_str().map(str::to_owned))
            .collect::<BTreeSet<_>>()
    };
    assert!(namespaces(&scan(&[])).len() > 3);
    let one = scan(&["-n", "support"]);
    assert_eq!(namespaces(&one), BTreeSet::from(["support".to_string()]));
    assert!(!one.err.contains("has no use"), "{}", one.err);
    // As it is told by a snapshot that was recorded so: of another namespace it knows nothing.
    run(
        dir.path(),
        &["collect", "--demo", "-n", "support", "-o", "support.json"],
    )
    .expect(0, &[]);
    let again = |n: &str| {
        run(
            dir.path(),
            &["scan", "--snapshot", "support.json", "-n", n, "--format", "json"],
        )
    };
    assert_eq!(
        namespaces(&again("support").expect(0, &[])),
        BTreeSet::from(["support".to_string()])
    );
    again("eval").expect(2, &["-n eval", "recorded with -n support alone"]);
}

/// Nothing that a table or a list says is wider than the screen; a command to be copied stays in one line.
#[test]
fn tables_fit_a_narrow_screen() {
    let dir = tempdir().unwrap();
    for line in [
        "ls --demo",
        "ls gpus --demo",
        "ls nodes --demo",
        "ls tree --demo",
        "scan --demo",
        "scan --demo -v",
        "catalog gpus",
        "catalog instances p5",
        "catalog models qwen",
        "fit Qwen/Qwen3-32B",
        "fit Qwen/Qwen3-32B --requests-per-second 5 --input 1024 --output 256",
        "fit --from chat-prod/chat-llama-70b --demo",
        "fit --compare Qwen/Qwen3-32B,Qwen/Qwen3-8B --gpu H100",
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        let mut command = command(dir.path(), &args);
        command.env("COLUMNS", "80");
        let out = finish(command, None).expect(0, &[]).out;
        let wide: Vec<&str> = out.lines().filter(|l| l.chars().count() > 80).collect();
        assert!(wide.is_empty(), "{line}: {wide:#?}");
    }
}

#[test]
fn help_is_short_and_whole() {
    let dir = tempdir().unwrap();
    let short = run(dir.path(), &["scan", "-h"]).expect(0, &[]).out;
    let long = run(dir.path(), &["scan", "--help"]).expect(0, &[]).out;
    // Half of what --help has: sources, time, output, the gates that most use.
    assert!(short.lines().count() < 72, "{}", short.lines().count());
    assert!(long.lines().count() > short.lines().count() * 3 / 2);
    assert!(
        short.contains("gpuwaste scan --demo") && short.contains("--max-waste"),
        "{short}"
    );
    assert!(long.contains("--prometheus-sigv4-region"));
    for args in [&["version"][..], &["--version"], &["scan", "--version"]] {
        let told = run(dir.path(), args).expect(0, &[]).out;
        assert!(told.contains(env!("CARGO_PKG_VERSION")), "{args:?}: {told}");
    }
}

#[test]
fn pages_and_completions_know_every_command() {
    let dir = tempdir().unwrap();
    run(dir.path(), &["man", "--dir", "pages"]).expect(0, &[]);
    let pages = fs::read_dir(dir.path().join("pages")).unwrap().count();
    assert!(pages >= 13, "{pages}");
    let scan = fs::read_to_string(dir.path().join("pages/gpuwaste-scan.1")).unwrap();
    assert!(scan.contains("max\\-waste") && scan.contains(".TH"));
    assert!(run(dir.path(), &["man", "fit"]).expect(0, &[]).out.contains("fit"));
    for shell in ["bash", "zsh", "fish"] {
        let script = run(dir.path(), &["completions", shell]).expect(0, &[]).out;
        // fish completes what options take, not what stands alone.
        let model = (shell != "fish").then_some("Qwen/Qwen3-32B");
        for word in ["dark-capacity", "sarif", "H100-SXM5-80GB", "namespace"]
            .into_iter()
            .chain(model)
        {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn doctor_and_catalogue_are_for_people_and_for_programs() {
    let dir = tempdir().unwrap();
    let doctor = run(dir.path(), &["doctor", "--demo"]).expect(0, &[]).out;
    assert!(!doctor.contains("142857"), "{doctor}");
    let told = run(dir.path(), &["doctor", "--demo", "--format", "json"])
        .expect(0, &[])
        .json();
    assert_eq!(told["clusters"].as_array().unwrap().len(), 3);
    assert!(told["checks"].as_array().unwrap().len() > 10 && !told["metrics"].as_array().unwrap().is_empty());
    for what in ["gpus", "instances", "models", "engines", "checks", "prices"] {
        let rows = run(dir.path(), &["catalog", what]).expect(0, &[]).out;
        let longest = rows.lines().map(|l| l.chars().count()).max().unwrap();
        assert!(longest <= 120, "{what}: {longest}");
        let all = run(dir.path(), &["catalog", what, "-v"]).expect(0, &[]).out;
        // Without the head.
        assert!(all.lines().count() + 1 >= rows.lines().count(), "{what}");
    }
    // By any name that people have for it.
    for (args, name) in [
        (["gpus", "NVIDIA H100 80GB HBM3"], "H100-SXM5-80GB"),
        (["gpus", "nvidia-l4"], "L4 "),
        (["prices", "nvidia-tesla-t4"], "T4 "),
        (
            ["models", "meta/llama-3.1-8b-instruct"],
            "meta-llama/Llama-3.1-8B-Instruct",
        ),
    ] {
        let found = run(dir.path(), &[&["catalog"][..], &args].concat()).expect(0, &[]).out;
        assert!(found.lines().skip(1).any(|l| l.starts_with(name)), "{args:?}: {found}");
    }
    let gpus = run(dir.path(), &["catalog", "gpus", "H100"]).expect(0, &[]).out;
    assert!(gpus.starts_with("GPU "), "a header: {gpus}");
}

#[test]
fn a_name_that_says_only_a_size_is_told_once() {
    let dir = tempdir().unwrap();
    let told = run(dir.path(), &["fit", "nosuch/Model-7B"]).expect(0, &[]).out;
    assert!(told.lines().count() < 12, "{told}");
    assert!(
        told.contains("Not in the catalogue") && told.contains("--models DIR"),
        "{told}"
    );
}
