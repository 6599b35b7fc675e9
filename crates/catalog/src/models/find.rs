//! From any name to a row: never to a wrong one.

use super::parts;
use super::quantization::{self, Precision};
use super::rows::{CATALOG, Row};
use super::{ModelFacts, ModelSource, Task};

/// The row of a model, by Hugging Face id, NIM or Ollama name, path, or the name of a quantized copy.
///
/// A copy gets its own quantization and the base's shape. Draft heads and adapters are nobody's copy. A name that fits
/// rows of different shape ("llama3:latest", "deepseek-r1:8b-llama-distill-q4_K_M") is not found.
pub fn find(name: &str) -> Option<ModelFacts> {
    found(name).map(|facts| with_native_experts(facts, name))
}

/// Experts that were trained in MXFP4 stay so in every GGUF (llama.cpp's converter packs them as they are, and `llama-quantize`
/// leaves them): a "Q4_K_M" or an "F16" is the rest. 12.8 GiB an F16 of gpt-oss-20b.
fn with_native_experts(mut facts: ModelFacts, name: &str) -> ModelFacts {
    let own = key(&facts.id.to_ascii_lowercase()).and_then(|row| row.facts.quantization.as_deref());
    let native = own.is_some_and(|q| q.starts_with("mxfp4 (MoE"));
    let is_gguf =
        name.to_ascii_lowercase().contains("gguf") || facts.quantization.as_deref().is_some_and(quantization::is_gguf);
    let said = facts.quantization.as_deref().is_some_and(|q| q.contains("experts="));
    if native && is_gguf && !said && facts.quantization.as_deref() != own {
        let rest = match facts.quantization.as_deref() {
            None => "F16",
            // ggml-org's and others' that name no type keep the rest in 8 bit.
            Some("gguf" | "mxfp4") => "Q8_0",
            Some(said) => said,
        };
        facts.quantization = Some(format!("{rest} experts=mxfp4"));
    }
    facts
}

fn found(name: &str) -> Option<ModelFacts> {
    let name = clean(name)?;
    let (path, tag) = split_tag(&name);
    if let Some(tag) = tag
        && let Some(found) = tagged(path, tag)
    {
        return found;
    }
    let tail = path.rsplit('/').next().unwrap_or(path);
    // "Qwen3.8-27B NVFP4", "Inferact Qwen3.8-27B-NVFP4": remarks of people around a name, or its maker.
    if let Some((first, last)) = tail.rsplit_once(' ') {
        let made = || find(&format!("{}/{last}", first.replace(' ', "-")));
        return find(&tail.replace(' ', "-")).or_else(made).or_else(|| find(last));
    }
    if let Some(row) = key(path).or_else(|| key(tail)) {
        return Some(with_tag(of_row(row, path), tag));
    }
    if is_companion(tail) {
        return None;
    }
    let (base, precision) = match quantization::split(tail) {
        (_, Precision::Unsaid) => quantization::split(tail.strip_suffix("-mtp").unwrap_or(tail)),
        split => split,
    };
    let facts = copied(path, &base).or_else(|| {
        let (base, precision) = quantization::split_anywhere(tail);
        Some(quantized(copied(path, &base)?, by_maker(path, precision)))
    });
    let facts = facts?;
    let precision = by_maker(path, precision);
    let said = precision != Precision::Unsaid;
    let mut facts = if said { quantized(facts, precision) } else { facts };
    parts::add(&mut facts, path);
    Some(with_tag(facts, tag))
}

/// A row's facts for the name that led to it: another maker's quantized copy of that name leaves out other parts.
fn of_row(row: &Row, path: &str) -> ModelFacts {
    let mut facts = row.facts.clone();
    let maker = |id: &str| id.split_once('/').map(|(maker, _)| maker.to_ascii_lowercase());
    let other = maker(path).is_some_and(|m| Some(m) != maker(&facts.id));
    if let Some(said) = facts.quantization.as_mut().filter(|q| other && q.contains('=')) {
        let whole: Vec<&str> = said.split_whitespace().filter(|w| !w.contains('=')).collect();
        *said = whole.join(" ").replace(" kv fp8", "");
    }
    facts
}

/// The row that a copy was made of: by its own name, without a date, or by another spelling.
fn copied(path: &str, base: &str) -> Option<ModelFacts> {
    let organisation = path.rsplit_once('/').map(|(org, _)| format!("{org}/{base}"));
    let row = |name: &str| key(name).map(|row| row.facts.clone());
    organisation
        .as_deref()
        .and_then(row)
        .or_else(|| row(base))
        .or_else(|| sibling(base))
        .or_else(|| {
            let undated = without_date(base)?;
            organisation
                .as_deref()
                .and_then(without_date)
                .and_then(row)
                .or_else(|| row(undated))
        })
}

/// The architecture of a base that the name holds: assumed, since only its configuration would say so.
pub(super) fn suggested(name: &str) -> Option<ModelFacts> {
    let cleaned = clean(name)?;
    let (path, tag) = split_tag(&cleaned);
    let tail = path.rsplit('/').next().unwrap_or(path);
    if is_companion(tail) || tag.is_some_and(|t| t.ends_with("cloud")) {
        return None;
    }
    // Ollama: the tag is a part of the name, and says Q4_K_M where it says nothing.
    let (words, of_tag) = tag.map_or((String::new(), Precision::Unsaid), quantization::of_tag);
    let library = tag.is_some() && !path.contains('/');
    let whole = if library {
        format!("{tail}-{words}")
    } else {
        tail.to_string()
    };
    let (bare, precision) = quantization::split_anywhere(&whole);
    let row = super::base::of(&bare).or_else(|| super::base::released_later(&bare))?;
    let copy = quantization::split(&row.facts.id.to_ascii_lowercase()).1;
    let facts = ModelFacts {
        id: name.trim().to_string(),
        source: ModelSource::Name,
        verified: false,
        base: Some(row.facts.id.clone()),
        file_bytes: None,
        // A row that is itself a quantized copy: the name asks for the model.
        quantization: row.facts.quantization.clone().filter(|_| copy == Precision::Unsaid),
        ..row.facts.clone()
    };
    let facts = quantized(facts, by_maker(path, precision));
    if library {
        return Some(ollama(facts, of_tag, tag.unwrap_or_default()));
    }
    let mut facts = facts;
    parts::add(&mut facts, path);
    Some(with_tag(facts, tag))
}

/// NVIDIA's own quantized copies declare an fp8 KV cache (`kv_cache_quant_algo` of 25 of 28 `hf_quant_config.json`).
fn by_maker(path: &str, precision: Precision) -> Precision {
    match precision {
        Precision::Quantized(said)
            if path.starts_with("nvidia/") && (said.starts_with("fp8") || said.starts_with("nvfp4")) =>
        {
            Precision::Quantized(format!("{said} kv fp8"))
        }
        // Qwen's own fp8 copies are in blocks of 128 x 128 (`weight_block_size` of their config.json).
        Precision::Quantized(said) if path.starts_with("qwen/") && said == "fp8" => {
            Precision::Quantized("fp8 block128".into())
        }
        other => other,
    }
}

/// "deepseek-v4-flash-0731" → "deepseek-v4-flash": a later release of the same shape, named by month and day. Years and
/// months ("-2407") tell models of different size apart.
fn without_date(name: &str) -> Option<&str> {
    let (rest, date) = name.rsplit_once('-')?;
    let digits = date.len() == 4 && date.bytes().all(|b| b.is_ascii_digit());
    let (month, day) = (date.get(..2)?.parse::<u8>().ok()?, date.get(2..)?.parse::<u8>().ok()?);
    (digits && (1..=12).contains(&month) && (1..=31).contains(&day)).then_some(rest)
}

fn key(name: &str) -> Option<&'static Row> {
    CATALOG.keys.get(name).map(|i| &CATALOG.rows[*i])
}

/// Base and instruction-tuned models share their shape, and so do spellings.
fn sibling(name: &str) -> Option<ModelFacts> {
    let row = CATALOG.stems.get(&stem(name)).map(|i| &CATALOG.rows[*i])?;
    let mut facts = row.facts.clone();
    // Qwen2 and 2.5: base models allow 131,072 tokens, their instruct models 32,768 (config.json of both).
    if facts.model_type == "qwen2" {
        facts.max_positions = None;
    }
    Some(facts)
}

/// Facts with the quantization that a name says. Bytes of files are the base's: they do not hold for a copy.
pub(super) fn quantized(mut facts: ModelFacts, precision: Precision) -> ModelFacts {
    if precision != Precision::Unsaid {
        facts.file_bytes = None;
    }
    match precision {
        Precision::Quantized(said) => facts.quantization = Some(said),
        Precision::Plain => facts.quantization = None,
        Precision::Unsaid => {}
    }
    facts
}

/// A tag behind a Hugging Face id names the GGUF type ("…-GGUF:Q4_K_M"); versions of images say nothing.
pub(super) fn with_tag(facts: ModelFacts, tag: Option<&str>) -> ModelFacts {
    match tag {
        Some(tag) => quantized(facts, quantization::of_tag(tag).1),
        None => facts,
    }
}

/// Ollama: `family:size[-variant][-quantization]`. `Some(None)`: an Ollama name that cannot be told.
#[allow(
    clippy::option_option,
    reason = "not an Ollama name, and one that cannot be told, are two answers"
)]
fn tagged(path: &str, tag: &str) -> Option<Option<ModelFacts>> {
    let family = path.strip_prefix("library/").unwrap_or(path);
    if family.contains('/') {
        return None;
    }
    let (size, precision) = quantization::of_tag(tag);
    let named = |size: &str| key(&format!("{family}:{size}"));
    let mut words = size.split('-');
    let shape = words.next().unwrap_or_default();
    // Other words name other models: "8b-llama-distill" is not the "8b" of the family.
    let same = words.all(|w| matches!(w, "instruct" | "chat" | "it" | "text" | "base" | "qat"));
    let row = named(&size).or_else(|| named(shape).filter(|_| same));
    let row = row.or_else(|| key(family).filter(|_| tag == "latest" && !CATALOG.families.contains(family)));
    match row {
        Some(row) => Some(Some(ollama(row.facts.clone(), precision, tag))),
        None => (CATALOG.families.contains(family) || tag == "latest" || tag.ends_with("cloud")).then_some(None),
    }
}

/// Ollama's library serves Q4_K_M where the tag does not say otherwise, of models released in fp8 too (deepseek-r1:671b has
/// 404 GB); gpt-oss keeps its own MXFP4, embedders 16 bit.
fn ollama(facts: ModelFacts, precision: Precision, tag: &str) -> ModelFacts {
    let precision = match precision {
        Precision::Unsaid if tag.contains("-qat") => Precision::Quantized("Q4_0".into()),
        Precision::Unsaid
            if facts.task == Task::Generate && facts.quantization.as_deref().is_none_or(|q| q.starts_with("fp8")) =>
        {
            Precision::Quantized("Q4_K_M".into())
        }
        other => other,
    };
    quantized(facts, precision)
}

/// The part of a name that tells the model: no scheme, registry, revision, directories of stores.
pub(super) fn clean(name: &str) -> Option<String> {
    let lower = name.trim().to_ascii_lowercase();
    let rest = lower.split_once("://").map_or(lower.as_str(), |(_, rest)| rest);
    let rest = rest.split(['?', '#', '@']).next().unwrap_or(rest).trim_end_matches('/');
    // A Hugging Face cache: …/models--org--name/snapshots/<commit>.
    if let Some(cached) = rest.split('/').find_map(|part| part.strip_prefix("models--")) {
        return Some(cached.replacen("--", "/", 1));
    }
    let mut parts: Vec<&str> = rest.split(['/', '\\']).filter(|p| !p.is_empty()).collect();
    while parts.len() > 1 && parts.last().is_some_and(|p| says_nothing(p)) {
        parts.pop();
    }
    // "meta-llama--Llama-3.1-8B-Instruct": an id in one word, as caches and buckets have it; no id has two dashes of its own.
    if let Some((org, name)) = parts.last().and_then(|last| last.split_once("--"))
        && !org.is_empty()
        && !name.is_empty()
    {
        return Some(format!("{org}/{name}"));
    }
    let from = parts.len().saturating_sub(2);
    let name = parts.get(from..)?.join("/");
    (!name.is_empty()).then_some(name)
}

/// Last directories that do not name a model: versions, commits, "weights".
fn says_nothing(part: &str) -> bool {
    let digits = part.strip_prefix('v').unwrap_or(part);
    let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let commit = part.len() == 40 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let word = matches!(
        part,
        "model"
            | "models"
            | "weights"
            | "checkpoint"
            | "checkpoints"
            | "hf"
            | "safetensors"
            | "main"
            | "latest"
            | "snapshots"
            | "original"
    );
    number || commit || word
}

/// "name:tag" → name and tag, where the colon stands behind the last slash.
pub(super) fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') && !path.is_empty() && !tag.is_empty() => (path, Some(tag)),
        _ => (name, None),
    }
}

/// Draft heads, speculators and adapters carry their target's name and size, and are far smaller.
pub(super) fn is_companion(name: &str) -> bool {
    const WORDS: &[&str] = &[
        "eagle",
        "eagle2",
        "eagle3",
        "eagle3.1",
        "mtp",
        "dflash",
        "dspark",
        "medusa",
        "speculator",
        "speculators",
        "hass",
        "draft",
        "drafter",
        "assistant",
        "lora",
        "qlora",
        "adapter",
        "adapters",
        "dora",
        "peft",
        "mmproj",
        "nextn",
    ];
    // "…-NVFP4-MTP": a whole quantized model that keeps its own draft layer.
    let keeps_draft = |word: &str| {
        word == "mtp" && quantization::split(name.strip_suffix("-mtp").unwrap_or(name)).1 != Precision::Unsaid
    };
    name.split(['-', '_', '.', ' ', '/'])
        .any(|word| WORDS.contains(&word) && !keeps_draft(word))
}

/// Punctuation made equal; words that say how a model was tuned, not what it is, cut off the end.
pub(super) fn stem(name: &str) -> String {
    let name = name.to_ascii_lowercase().replace(['_', '.', ' '], "-");
    let mut rest = name.as_str();
    if let Some(llama) = rest.strip_prefix("meta-")
        && llama.starts_with("llama")
    {
        rest = llama;
    }
    // "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "c4ai-command-r-plus": people leave these out.
    for prefix in ["nvidia-", "c4ai-"] {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    rest = rest.strip_suffix("-bf16").unwrap_or(rest);
    while let Some(before) = ["-instruct", "-chat", "-it", "-hf", "-base"]
        .iter()
        .find_map(|w| rest.strip_suffix(w))
    {
        rest = before;
    }
    // "mistral-7b-instruct-v0.1" and "mistral-7b-v0.1".
    rest.replace("-instruct-v", "-v").replace("-chat-v", "-v")
}

/// Ids of rows most like `name`, nearest first, for error messages.
pub fn nearest(name: &str) -> Vec<&'static str> {
    let wanted = clean(name).unwrap_or_default();
    let wanted = wanted.rsplit('/').next().unwrap_or(&wanted);
    let mut scored: Vec<(f64, &str)> = CATALOG
        .rows
        .iter()
        .map(|row| {
            let id = row.facts.id.as_str();
            let own = id.rsplit('/').next().unwrap_or(id).to_ascii_lowercase();
            let whole = strsim::normalized_damerau_levenshtein(wanted, &own);
            let bare = strsim::normalized_damerau_levenshtein(&stem(wanted), &stem(&own));
            // "llama" means any of them: those with the fewest other letters first.
            let part = if wanted.len() > 2 && own.contains(wanted) {
                1.0 + wanted.len() as f64 / own.len() as f64
            } else {
                0.0
            };
            (whole.max(bare).max(part), id)
        })
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored
        .into_iter()
        .filter(|(score, _)| *score > 0.6)
        .take(4)
        .map(|(_, id)| id)
        .collect()
}
