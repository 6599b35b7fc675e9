//! Every cell of every data file is what its column says: a bad row is named by file and line instead of vanishing.

use super::{gpus, instances, models};
use std::collections::BTreeSet;
use std::path::Path;

/// What a column holds. `?` of people: it may be empty.
#[derive(Clone, Copy)]
enum Is {
    Text,
    Any,
    Number,
    MaybeNumber,
    Count,
    MaybeCount,
    MaybeBool,
    /// "2026-07-20", "2026-07", "2026" or "unknown".
    Date,
    OneOf(&'static [&'static str]),
    /// "attention=bf16 dense=8.8": parts of the weights, each with its format or bits.
    Parts,
    /// One that no other row has.
    Key,
}
use Is::{Any, Count, Date, Key, MaybeBool, MaybeCount, MaybeNumber, Number, OneOf, Parts, Text};

type Columns = &'static [(&'static str, Is)];

const FILES: &[(&str, Columns)] = &[
    (
        "instances.csv",
        &[
            ("cloud", Text),
            ("instance_type", Text),
            (
                "offer",
                OneOf(&["on-demand", "capacity-block", "block-only", "flex-start", "add-on"]),
            ),
            ("region", Text),
            ("gpu_name", Text),
            ("gpu_count", MaybeNumber),
            ("gpu_memory_gib", MaybeNumber),
            ("vcpus", MaybeNumber),
            ("memory_gib", MaybeNumber),
            ("price_per_hour_usd", MaybeNumber),
            ("spot_price_per_hour_usd", MaybeNumber),
            ("source", Text),
            ("as_of", Date),
        ],
    ),
    ("instance-sources.csv", &[("id", Key), ("source", Text)]),
    (
        "gpus.csv",
        &[
            ("name", Key),
            ("aliases", Any),
            ("vendor", OneOf(&["nvidia", "amd", "intel"])),
            ("architecture", Text),
            // AMD writes gfx names.
            ("compute_capability", Any),
            ("memory_gib", Number),
            ("memory_usable_mib", MaybeNumber),
            ("memory_bandwidth_gb_s", MaybeNumber),
            ("bf16_dense_tflops", MaybeNumber),
            ("fp16_dense_tflops", MaybeNumber),
            ("fp8_dense_tflops", MaybeNumber),
            ("int8_dense_tops", MaybeNumber),
            ("fp4_dense_tflops", MaybeNumber),
            ("tdp_w", MaybeNumber),
            ("nvlink_gb_s", MaybeNumber),
            ("mig_profiles", Any),
            ("source", Text),
            ("doubt", Any),
            ("as_of", Date),
        ],
    ),
    (
        "mig.csv",
        &[
            ("gpus", Text),
            ("profile", Text),
            ("memory_low_gib", Number),
            ("memory_high_gib", Number),
            ("multiprocessors", Number),
            ("of", Number),
            ("source", Text),
            ("as_of", Date),
        ],
    ),
    (
        "exclusions.csv",
        &[
            ("maker", Any),
            ("scheme", Text),
            ("model_type", Text),
            ("name", Any),
            ("parts", Parts),
            ("source", Text),
        ],
    ),
    (
        "towers.csv",
        &[
            ("model_type", Text),
            ("name", Any),
            ("depth", Count),
            ("hidden", Count),
            ("inner", Count),
            ("matrices", Count),
            ("patches_per_token", Count),
            ("tokens_per_item", Count),
            ("source", Text),
        ],
    ),
    (
        "models.csv",
        &[
            ("id", Key),
            ("aliases", Any),
            ("model_type", Any),
            ("task", Text),
            ("parameters", MaybeCount),
            ("active_parameters", MaybeCount),
            ("tower_parameters", MaybeCount),
            ("mtp_parameters", MaybeCount),
            ("hidden", MaybeCount),
            ("intermediate", MaybeCount),
            ("heads", MaybeCount),
            ("kv_heads", MaybeCount),
            ("head_dim", MaybeCount),
            ("v_head_dim", MaybeCount),
            ("kv_lora_rank", MaybeCount),
            ("rope_dim", MaybeCount),
            ("nope_dim", MaybeCount),
            ("q_lora_rank", MaybeCount),
            ("index_head_dim", MaybeCount),
            ("layers", Any),
            ("vocab", MaybeCount),
            ("tied", MaybeBool),
            ("max_positions", MaybeCount),
            ("experts", MaybeCount),
            ("experts_per_token", MaybeCount),
            ("expert_intermediate", MaybeCount),
            ("shared_experts", MaybeCount),
            ("expert_layers", MaybeCount),
            ("dtype", Any),
            ("quantization", Any),
            ("source", Text),
            ("confidence", Text),
            ("notes", Any),
        ],
    ),
];

fn wrong(is: Is, cell: &str, seen: &mut BTreeSet<String>) -> Option<&'static str> {
    let number = || cell.parse::<f64>().is_ok_and(|n| n.is_finite() && n >= 0.0);
    let count = || cell.parse::<u64>().is_ok();
    let holds = match is {
        Any => true,
        Text => !cell.trim().is_empty(),
        Number => number(),
        MaybeNumber => cell.is_empty() || number(),
        Count => count(),
        MaybeCount => cell.is_empty() || count(),
        MaybeBool => matches!(cell, "" | "true" | "false"),
        Date => cell == "unknown" || is_date(cell),
        OneOf(words) => words.contains(&cell),
        Parts => !cell.is_empty() && cell.split(' ').all(is_part),
        Key => !cell.is_empty() && seen.insert(cell.to_string()),
    };
    (!holds).then_some(match is {
        Any | Text => "a text",
        Number | MaybeNumber => "a number from 0 on",
        Count | MaybeCount => "a count",
        MaybeBool => "true or false",
        Date => "a date (2026-07-20, 2026-07 or 2026)",
        OneOf(_) => "one of the words of its column",
        Parts => "parts of weights with their formats (attention=bf16 head=nvfp4)",
        Key => "a name that no other row has",
    })
}

fn is_part(word: &str) -> bool {
    const PARTS: [&str; 7] = ["experts", "shared", "dense", "attention", "linear", "head", "embedding"];
    let bits = |format: &str| format.parse::<f64>().is_ok_and(|b| (1.0..=32.0).contains(&b));
    word.split_once('=').is_some_and(|(part, format)| {
        PARTS.contains(&part) && (matches!(format, "bf16" | "fp16" | "fp8" | "mxfp4" | "nvfp4") || bits(format))
    })
}

fn is_date(cell: &str) -> bool {
    let parts: Vec<&str> = cell.split('-').collect();
    let digits = parts.iter().all(|p| p.bytes().all(|b| b.is_ascii_digit()));
    let lengths: Vec<usize> = parts.iter().map(|p| p.len()).collect();
    digits && matches!(lengths.as_slice(), [4] | [4, 2] | [4, 2, 2])
}

/// Every bad cell as "FILE line N: …", and how many rows there are.
fn check(file: &str, text: &str, columns: Columns) -> (usize, Vec<String>) {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let mut errors = Vec::new();
    let headers = reader.headers().cloned().unwrap_or_default();
    let expected: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    if headers.iter().collect::<Vec<_>>() != expected {
        errors.push(format!("{file} line 1: the columns are not {}", expected.join(",")));
    }
    let mut seen: Vec<BTreeSet<String>> = vec![BTreeSet::new(); columns.len()];
    let mut rows = 0;
    for record in reader.records() {
        rows += 1;
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                errors.push(format!("{file} line {line}: {error}"));
                continue;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        for (place, (name, is)) in columns.iter().enumerate() {
            let cell = record.get(place).unwrap_or_default();
            if let Some(expected) = wrong(*is, cell, &mut seen[place]) {
                errors.push(format!("{file} line {line}: {name} '{cell}' is not {expected}"));
            }
        }
    }
    (rows, errors)
}

fn read(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/data");
    std::fs::read_to_string(folder.join(file)).unwrap()
}

#[test]
fn every_row_of_every_file_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/data");
    let mut found: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    for file in &found {
        assert!(
            FILES.iter().any(|(name, _)| name == file),
            "{file}: no column of it is checked"
        );
    }
    assert!(!read("mig.csv").contains('"'), "mig.csv is split at commas alone");
    let mut errors = Vec::new();
    for (file, columns) in FILES {
        let (rows, wrong) = check(file, &read(file), columns);
        errors.extend(wrong);
        let loaded = match *file {
            "instances.csv" => instances::all().len(),
            "gpus.csv" => gpus::all().len(),
            "models.csv" => models::all().len(),
            _ => rows,
        };
        assert_eq!(loaded, rows, "{file}: rows in the file, and rows that are used");
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
fn what_rows_point_at_is_there() {
    let mut errors = Vec::new();
    // Line 1 is the header; no cell of this file has a line break.
    for (line, row) in (2..).zip(instances::all()) {
        if gpus::find(&row.gpu).is_none_or(|g| g.name != row.gpu) {
            errors.push(format!("instances.csv line {line}: no GPU is called '{}'", row.gpu));
        }
        if instances::source(&row.source_id).is_none() {
            errors.push(format!(
                "instances.csv line {line}: no source is called '{}'",
                row.source_id
            ));
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
fn parts_of_weights_are_known_ones() {
    let parts = |cell: &str| wrong(Parts, cell, &mut BTreeSet::new()).is_none();
    assert!(parts("attention=bf16 dense=8.8"));
    for bad in ["attn=bf16", "head=b16", "attention", ""] {
        assert!(!parts(bad), "{bad}");
    }
}

#[test]
fn a_bad_row_is_named_by_file_and_line() {
    const COLUMNS: Columns = &[("name", Key), ("watts", MaybeNumber), ("as_of", Date)];
    let of = |text: &str| check("cards.csv", text, COLUMNS).1.join("; ");
    assert_eq!(of("name,watts,as_of\na,7,2026-07-20\nb,,2026\n"), "");
    for (text, told) in [
        (
            "name,watts,as_of\na,7,2026\nb,70W,2026\n",
            "cards.csv line 3: watts '70W' is not a number",
        ),
        (
            "name,watts,as_of\na,7,2026\na,7,2026\n",
            "line 3: name 'a' is not a name that no other row has",
        ),
        ("name,watts,as_of\na,7,soon\n", "line 2: as_of 'soon' is not a date"),
        ("name,watts,as_of\na,7\n", "line 2"),
        ("name,power,as_of\na,7,2026\n", "line 1: the columns are not"),
        ("name,watts,as_of\na,-7,2026\n", "watts '-7'"),
    ] {
        assert!(of(text).contains(told), "{text}: {}", of(text));
    }
}

/// Limits of what a figure can be hold for every card of the catalogue.
#[test]
fn no_card_is_beyond_the_limits_of_all_cards() {
    use gpuwaste_facts::limits::{LARGEST_MEMORY, LARGEST_TDP};
    for gpu in gpus::all() {
        assert!(gpu.tdp.is_none_or(|t| t <= LARGEST_TDP), "{}", gpu.name);
        assert!(gpu.memory <= LARGEST_MEMORY, "{}", gpu.name);
    }
}
