//! The embedded rows, and the small language of their `layers` column.
//!
//! `12xfull 36xchunked@8192`: twelve layers of full attention, 36 that see the current chunk of 8192 tokens. Brackets
//! override the row's own columns: `10xfull(kv=4;d=512)`. Recurrent layers give the dimensions of their state:
//! `36xgdn(hk=16;dk=128;hv=32;dv=128;conv=4;bytes=4)`.

use super::{Attention, Experts, LayerGroup, LayerKind, ModelFacts, ModelSource, Task, state, towers};
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

const ROWS: &str = include_str!("../data/models.csv");

/// One row with what the facts do not carry.
pub struct Row {
    pub facts: ModelFacts,
    /// As written: "ollama:llama3.1:8b", "nim:meta/llama-3.1-8b-instruct", or another Hugging Face id.
    pub aliases: Vec<String>,
    pub source: String,
    /// How the row was checked: "verified-by-param-count", "config", "reported", "recalled", "approx".
    pub confidence: String,
}

pub(super) struct Catalog {
    pub(super) rows: Vec<Row>,
    /// Lower-case id, its last part, and every alias → row. Keys that two different rows share are absent.
    pub(super) keys: HashMap<String, usize>,
    /// As `keys`, with punctuation made equal and the words of instruction tuning cut off.
    pub(super) stems: HashMap<String, usize>,
    /// Ollama's names that need a tag to tell one model: "llama3.1", "deepseek-r1".
    pub(super) families: HashSet<String>,
}

pub(super) static CATALOG: LazyLock<Catalog> = LazyLock::new(load);

fn load() -> Catalog {
    let mut reader = csv::Reader::from_reader(ROWS.as_bytes());
    let headers = reader.headers().cloned().unwrap_or_default();
    let columns: HashMap<&str, usize> = headers.iter().enumerate().map(|(i, name)| (name, i)).collect();
    let records: Vec<csv::StringRecord> = reader.records().flatten().collect();
    let rows: Vec<Row> = records
        .iter()
        .map(|record| row(&|name| columns.get(name).and_then(|i| record.get(*i)).unwrap_or_default()))
        .collect();
    let mut catalog = Catalog {
        rows: Vec::new(),
        keys: HashMap::new(),
        stems: HashMap::new(),
        families: HashSet::new(),
    };
    let mut keys = Index::default();
    let mut stems = Index::default();
    for (index, row) in rows.iter().enumerate() {
        let id = row.facts.id.to_ascii_lowercase();
        let aliases = row.aliases.iter().map(|a| a.to_ascii_lowercase());
        for name in std::iter::once(id).chain(aliases) {
            let ollama = name.strip_prefix("ollama:");
            let name = ollama.or_else(|| name.strip_prefix("nim:")).unwrap_or(&name);
            if let Some((family, _)) = ollama.and_then(|name| name.split_once(':')) {
                catalog.families.insert(family.to_string());
            }
            let tail = name.rsplit('/').next().unwrap_or(name);
            keys.add(name.to_string(), index, 0);
            keys.add(tail.to_string(), index, 1);
            if ollama.is_none() {
                stems.add(super::find::stem(tail), index, 0);
            }
        }
    }
    catalog.keys = keys.settle(&rows);
    catalog.stems = stems.settle(&rows);
    catalog.rows = rows;
    catalog
}

/// Names on the way to an index: a name that leads to rows of different shape leads nowhere.
#[derive(Default)]
struct Index {
    /// Name → (rank, rows of that rank). Full names (rank 0) win over last parts (rank 1).
    names: HashMap<String, (u8, Vec<usize>)>,
}

impl Index {
    fn add(&mut self, name: String, row: usize, rank: u8) {
        let (best, rows) = self.names.entry(name).or_insert((rank, Vec::new()));
        if rank < *best {
            *best = rank;
            rows.clear();
        }
        if rank == *best && !rows.contains(&row) {
            rows.push(row);
        }
    }

    fn settle(self, rows: &[Row]) -> HashMap<String, usize> {
        self.names
            .into_iter()
            .filter_map(|(name, (_, found))| {
                let first = *found.first()?;
                let alike = |i: &usize| same_shape(&rows[first].facts, &rows[*i].facts);
                // Of the same shape: the unquantized row, since a name without a quantization means that one.
                let plain = found.iter().copied().find(|i| rows[*i].facts.quantization.is_none());
                found.iter().all(alike).then_some((name, plain.unwrap_or(first)))
            })
            .collect()
    }
}

/// Same memory need but for the quantization.
fn same_shape(a: &ModelFacts, b: &ModelFacts) -> bool {
    a.groups == b.groups
        && a.hidden == b.hidden
        && a.vocab == b.vocab
        && a.intermediate == b.intermediate
        && a.experts == b.experts
}

fn row<'a>(cell: &dyn Fn(&str) -> &'a str) -> Row {
    let number = |name: &str| cell(name).parse::<u64>().ok();
    let small = |name: &str| cell(name).parse::<u32>().ok();
    let text = |name: &str| Some(cell(name)).filter(|t| !t.is_empty()).map(String::from);
    let confidence = cell("confidence").to_string();
    let own = attention(&small);
    let state_bytes = if cell("dtype") == "float32" { 4.0 } else { 2.0 };
    let facts = ModelFacts {
        id: cell("id").into(),
        source: ModelSource::Catalog,
        verified: confidence.starts_with("verified") || confidence.starts_with("config"),
        task: task(cell("task")),
        model_type: cell("model_type").into(),
        parameters: number("parameters"),
        active_parameters: number("active_parameters"),
        tower_parameters: number("tower_parameters").unwrap_or(0),
        table_parameters: tables(cell("model_type")),
        tower: towers::of(cell("model_type"), cell("id")).filter(|_| number("tower_parameters").is_some_and(|p| p > 0)),
        mtp_parameters: number("mtp_parameters").unwrap_or(0),
        base: None,
        hidden: small("hidden"),
        intermediate: small("intermediate"),
        vocab: number("vocab"),
        tied_embeddings: cell("tied").parse().ok(),
        max_positions: number("max_positions"),
        groups: cell("layers")
            .split_whitespace()
            .map(|word| group(word, own, state_bytes))
            .collect::<Option<Vec<_>>>()
            .unwrap_or_default(),
        experts: experts(&small),
        dtype: text("dtype"),
        quantization: text("quantization"),
        file_bytes: None,
    };
    Row {
        facts,
        aliases: cell("aliases")
            .split('|')
            .filter(|a| !a.is_empty())
            .map(String::from)
            .collect(),
        source: cell("source").into(),
        confidence,
    }
}

/// Parameters of lookup tables by model type: two of 384,006,168 and 384,016,682 rows of 256 (config.json of
/// DeepSeek-V4.1-Flash).
fn tables(model_type: &str) -> u64 {
    match model_type {
        "deepseek_v41" => (384_006_168 + 384_016_682) * 256,
        _ => 0,
    }
}

fn task(text: &str) -> Task {
    match text {
        "embed" => Task::Embed,
        "rerank" => Task::Rerank,
        "asr" => Task::Asr,
        "diffusion" => Task::Diffusion,
        _ => Task::Generate,
    }
}

fn experts(small: &dyn Fn(&str) -> Option<u32>) -> Option<Experts> {
    Some(Experts {
        count: small("experts")?,
        per_token: small("experts_per_token")?,
        intermediate: small("expert_intermediate")?,
        shared: small("shared_experts").unwrap_or(0),
        layers: small("expert_layers")?,
    })
}

/// The attention that the row's columns describe; `None` for models without any.
fn attention(small: &dyn Fn(&str) -> Option<u32>) -> Option<Attention> {
    let heads = small("heads")?;
    if let Some(kv_lora_rank) = small("kv_lora_rank") {
        return Some(Attention::Latent {
            heads,
            kv_lora_rank,
            rope_dim: small("rope_dim")?,
            nope_dim: small("nope_dim")?,
            v_head_dim: small("v_head_dim")?,
            q_lora_rank: small("q_lora_rank"),
            index_head_dim: small("index_head_dim"),
        });
    }
    let head_dim = small("head_dim")?;
    Some(Attention::Grouped {
        heads,
        kv_heads: small("kv_heads")?,
        head_dim,
        v_head_dim: small("v_head_dim").unwrap_or(head_dim),
    })
}

/// `12xfull(kv=4;d=512)`; `None`: the row's architecture is not described, so its KV cache is not known.
fn group(word: &str, own: Option<Attention>, state_bytes: f64) -> Option<LayerGroup> {
    let (count, rest) = word.split_once('x')?;
    let (head, options) = rest.split_once('(').unwrap_or((rest, ""));
    let (kind, window) = head.split_once('@').unwrap_or((head, ""));
    let options: HashMap<&str, u64> = options
        .trim_end_matches(')')
        .split(';')
        .filter_map(|o| o.split_once('='))
        .filter_map(|(k, v)| Some((k, v.parse().ok()?)))
        .collect();
    let option = |name: &str| options.get(name).copied();
    let attention = own.map(|a| with_options(a, &option));
    let window = || window.parse::<u64>().ok();
    let kind = match kind {
        "full" => LayerKind::Full(attention?),
        "sliding" => LayerKind::Sliding {
            attention: attention?,
            window: window()?,
        },
        "chunked" => LayerKind::Chunked {
            attention: attention?,
            window: window()?,
        },
        "compressed" => LayerKind::Compressed {
            attention: attention?,
            ratio: u32::try_from(option("ratio")?).ok()?,
            window: window()?,
            index_head_dim: option("index").and_then(|d| u32::try_from(d).ok()),
        },
        "bidirectional" => match attention? {
            Attention::Grouped { heads, head_dim, .. } => LayerKind::Full(Attention::Bidirectional { heads, head_dim }),
            other => LayerKind::Full(other),
        },
        "shared" => LayerKind::SharedKv,
        "none" => LayerKind::None,
        other => {
            let (parallel, name) = match other.strip_prefix("parallel-") {
                Some(name) => (true, name),
                None => (false, other),
            };
            let state = state::of(name, &option, state_bytes)?;
            if parallel {
                LayerKind::Parallel {
                    attention: attention?,
                    state,
                }
            } else {
                LayerKind::Recurrent(state)
            }
        }
    };
    Some(LayerGroup {
        layers: count.parse().ok()?,
        kind,
    })
}

fn with_options(attention: Attention, option: &dyn Fn(&str) -> Option<u64>) -> Attention {
    let small = |name: &str| option(name).and_then(|v| u32::try_from(v).ok());
    match attention {
        Attention::Grouped {
            heads,
            kv_heads,
            head_dim,
            v_head_dim,
        } => Attention::Grouped {
            heads,
            kv_heads: small("kv").unwrap_or(kv_heads),
            head_dim: small("d").unwrap_or(head_dim),
            v_head_dim: small("d").unwrap_or(v_head_dim),
        },
        Attention::Latent {
            heads,
            kv_lora_rank,
            rope_dim,
            nope_dim,
            v_head_dim,
            q_lora_rank,
            index_head_dim,
        } => Attention::Latent {
            heads,
            kv_lora_rank,
            rope_dim,
            nope_dim,
            v_head_dim,
            q_lora_rank,
            index_head_dim: match small("index") {
                Some(0) => None,
                Some(dim) => Some(dim),
                None => index_head_dim,
            },
        },
        bidirectional @ Attention::Bidirectional { .. } => bidirectional,
    }
}
