//! Arguments as people write them: the same settings in any order, quoting and shape are the same server.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;

/// A flag: its names, and its value (empty: a switch).
type Flag = (&'static [&'static str], &'static str);

struct Program {
    image: &'static str,
    command: &'static [&'static str],
    flags: &'static [Flag],
}

const JSON: &str = r#"{"method":"ngram","num_speculative_tokens":3}"#;

const PROGRAMS: &[Program] = &[
    Program {
        image: "internal/llm:1",
        command: &["vllm", "serve", "org/model-7B"],
        flags: &[
            (
                &[
                    "--tensor-parallel-size",
                    "--tensor_parallel_size",
                    "-tp",
                    "--tensor-parallel",
                    "--tensor_par",
                ],
                "4",
            ),
            (&["--pipeline-parallel-size", "-pp"], "2"),
            (&["--data-parallel-size", "-dp"], "2"),
            (&["--max-model-len", "--max_model_len"], "32k"),
            (&["--quantization", "-q"], "fp8"),
            (&["--kv-cache-dtype", "--kv_cache_dtype"], "fp8"),
            (&["--gpu-memory-utilization", "--gpu_memory_utilization"], "0.85"),
            (&["--max-num-seqs"], "128"),
            (&["--served-model-name"], "name"),
            (&["--speculative-config"], JSON),
            (&["--enforce-eager", "--enforce_eager"], ""),
            (&["--no-enable-prefix-caching"], ""),
            (&["--enable-lora"], ""),
            (&["--port"], "9000"),
        ],
    },
    Program {
        image: "internal/llm:1",
        command: &["python3", "-m", "sglang.launch_server"],
        flags: &[
            (&["--model-path", "--model"], "org/model-7B"),
            (&["--tp", "--tp-size", "--tensor-parallel-size"], "8"),
            (&["--dp-size", "--dp"], "2"),
            (&["--context-length"], "8192"),
            (&["--mem-fraction-static", "--mem-fraction"], "0.8"),
            (&["--enable-metrics"], ""),
            (&["--disable-radix-cache"], ""),
            (&["--quantization"], "fp8"),
        ],
    },
    Program {
        image: "internal/llm:1",
        command: &["text-generation-launcher"],
        flags: &[
            (&["--model-id"], "org/model-7B"),
            (&["--num-shard", "--num_shard"], "2"),
            (&["--max-total-tokens"], "4096"),
            (&["--quantize"], "awq"),
            (&["--port"], "8080"),
        ],
    },
    Program {
        image: "internal/llm:1",
        command: &["llama-server"],
        flags: &[
            (&["-m", "--model"], "/models/x-Q4_K_M.gguf"),
            (&["-c", "--ctx-size"], "8192"),
            (&["-np", "--parallel"], "4"),
            (&["-ngl", "--n-gpu-layers"], "99"),
            (&["--metrics"], ""),
        ],
    },
    Program {
        image: "internal/llm:1",
        command: &["trtllm-serve", "org/model-7B"],
        flags: &[
            (&["--tp_size", "--tp-size"], "4"),
            (&["--max_batch_size", "--max-batch-size"], "64"),
            (&["--max_seq_len", "--max-seq-len"], "8192"),
            (&["--kv_cache_free_gpu_memory_fraction"], "0.9"),
        ],
    },
];

/// How one flag is written.
#[derive(Clone, Debug)]
struct Spelling {
    name: Index,
    joined: bool,
    quote: u8,
    /// 0: as it is; 1: a variable; 2: a variable's default.
    variable: u8,
}

fn spelling() -> impl Strategy<Value = Spelling> {
    (any::<Index>(), any::<bool>(), 0u8..3, 0u8..3).prop_map(|(name, joined, quote, variable)| Spelling {
        name,
        joined,
        quote,
        variable,
    })
}

fn quoted(word: &str, style: u8) -> String {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._=-".contains(c));
    match style {
        0 if plain => word.to_string(),
        1 => format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")),
        _ => format!("'{word}'"),
    }
}

fn spec(image: &str, command: Vec<String>, args: Vec<String>, env: Vec<(String, Option<String>)>) -> ContainerSpec {
    ContainerSpec {
        image: image.into(),
        command,
        args,
        env,
        ..ContainerSpec::default()
    }
}

fn reference(program: &Program, chosen: &[usize]) -> Option<EngineSettings> {
    let mut words: Vec<String> = program.command.iter().map(ToString::to_string).collect();
    for at in chosen {
        let (names, value) = program.flags[*at];
        words.push(names[0].into());
        words.extend(Some(value.to_string()).filter(|v| !v.is_empty()));
    }
    recognise(&spec(program.image, words, Vec::new(), Vec::new()))
}

/// The same as list items: two words, `name=value`, both in one item, `$(VARIABLE)`.
fn as_items(program: &Program, chosen: &[usize], spellings: &[Spelling]) -> ContainerSpec {
    let (mut args, mut env) = (Vec::new(), Vec::new());
    for (at, how) in chosen.iter().zip(spellings) {
        let (names, value) = program.flags[*at];
        let name = names[how.name.index(names.len())];
        if value.is_empty() {
            args.push(name.to_string());
            continue;
        }
        let mut text = value.to_string();
        if how.variable == 1 {
            env.push((format!("V{at}"), Some(text)));
            text = format!("$(V{at})");
        }
        match how.quote {
            _ if how.joined => args.push(format!("{name}={text}")),
            // JSON is one word, and nobody writes it behind its flag in one item.
            1 if value != JSON => args.push(format!("{name} {text}")),
            _ => args.extend([name.to_string(), text]),
        }
    }
    let command = program.command.iter().map(ToString::to_string).collect();
    spec(program.image, command, args, env)
}

/// The same as a script: quoting, variables, defaults, continued lines, what stands before it.
fn as_script(program: &Program, chosen: &[usize], spellings: &[Spelling], before: u8, separator: u8) -> ContainerSpec {
    let mut env = Vec::new();
    let mut words: Vec<String> = program.command.iter().map(ToString::to_string).collect();
    for (at, how) in chosen.iter().zip(spellings) {
        let (names, value) = program.flags[*at];
        let name = names[how.name.index(names.len())];
        if value.is_empty() {
            words.push(quoted(name, how.quote));
            continue;
        }
        let mut text = quoted(value, how.quote);
        if value != JSON {
            if how.variable == 1 {
                env.push((format!("V{at}"), Some(value.to_string())));
                text = format!("\"${{V{at}}}\"");
            } else if how.variable == 2 {
                text = format!("${{V{at}:-{value}}}");
            }
        }
        if how.joined {
            words.push(format!("{name}={text}"));
        } else {
            words.extend([name.to_string(), text]);
        }
    }
    let line = words.join([" ", " \\\n  ", "   "][usize::from(separator)]);
    let script = match before {
        0 => line,
        1 => format!("exec {line}"),
        2 => format!("set -e  # strict\ncd /models && exec {line} 2>&1 | tee /var/log/server.log"),
        3 => format!("echo 'vllm serve other'; export A=1; sleep 5 && {line} &\nwait"),
        _ => format!("if [ -n \"$A\" ]; then pip list; fi\n{line}"),
    };
    let shell = ["/bin/bash", "-lc"].map(String::from).to_vec();
    spec(program.image, shell, vec![script], env)
}

/// A program, some of its flags in some order, and how each is written.
fn cases() -> impl Strategy<Value = (usize, Vec<usize>, Vec<Spelling>, u8, u8)> {
    (0..PROGRAMS.len()).prop_flat_map(|program| {
        let all: Vec<usize> = (0..PROGRAMS[program].flags.len()).collect();
        let count = all.len();
        (
            Just(program),
            proptest::sample::subsequence(all, 1..=count).prop_shuffle(),
            proptest::collection::vec(spelling(), count),
            0u8..5,
            0u8..3,
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn reordered_and_requoted_arguments_are_the_same_server((program, chosen, spellings, before, separator) in cases()) {
        let program = &PROGRAMS[program];
        let mut sorted = chosen.clone();
        sorted.sort_unstable();
        let expected = reference(program, &sorted);
        prop_assert!(expected.is_some());
        let items = as_items(program, &chosen, &spellings);
        prop_assert_eq!(recognise(&items), expected.clone(), "{:?} {:?}", items.command, items.args);
        let script = as_script(program, &chosen, &spellings, before, separator);
        prop_assert_eq!(recognise(&script), expected, "{:?}", script.args);
    }
}

/// The reference itself, so that the property does not compare nothing with nothing.
#[test]
fn every_flag_of_the_programs_is_read() {
    for program in PROGRAMS {
        let none = reference(program, &[]);
        for at in 0..program.flags.len() {
            let (names, _) = program.flags[at];
            let read = reference(program, &[at]);
            // They have no setting of their own.
            if ["--enable-metrics", "--metrics"].contains(&names[0]) {
                continue;
            }
            assert_ne!(read, none, "{names:?}");
        }
    }
}

#[test]
fn eval_keeps_the_words_that_it_is_given() {
    for script in [
        "eval \"vllm serve org/m -tp 4 --max-model-len 32k\"",
        "eval vllm serve org/m \\\n  --tensor_parallel_size=4 --max-model-len=${LEN:-32000}",
        "CMD=\"vllm serve org/m -tp ${TP:-4} --max-model-len 32k\"; eval \"$CMD\"",
        "TP=4\nif true; then exec vllm serve org/m -tp $TP --max-model-len 32k; fi",
        "sh -c 'vllm serve org/m -tp 4 --max-model-len 32k'",
    ] {
        let spec = spec("x/y", vec!["bash".into(), "-c".into()], vec![script.into()], Vec::new());
        let s = recognise(&spec).unwrap_or_else(|| panic!("a server: {script}"));
        assert_eq!(
            (s.model.as_deref(), s.tensor_parallel, s.max_model_len),
            (Some("org/m"), Some(4), Some(32_000)),
            "{script}"
        );
    }
}
