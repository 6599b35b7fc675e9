//! Parts of the weights that a quantized repository holds otherwise, in words such as `attention=bf16 linear=fp8 head=nvfp4`
//! behind its quantization.
//!
//! The parts are `experts`, `shared` (experts that every token meets), `dense` (feed-forward layers), `attention`, `linear`
//! (projections of recurrent layers), `head` and `embedding`; a value is a format (`bf16`, `fp8`, `nvfp4` …) or bits where
//! several are mixed. A configuration's own ignore list tells them; of copies known by their name alone, what their maker does
//! with this architecture (`data/exclusions.csv`).

use super::ModelFacts;
use std::sync::LazyLock;

const ROWS: &str = include_str!("../data/exclusions.csv");

struct Rule {
    /// Organisation; empty: any other.
    maker: String,
    scheme: String,
    model_type: String,
    /// What the name must contain.
    name: String,
    parts: String,
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let mut reader = csv::Reader::from_reader(ROWS.as_bytes());
    reader
        .records()
        .flatten()
        .filter_map(|r| {
            let text = |i: usize| Some(r.get(i)?.to_ascii_lowercase());
            Some(Rule {
                maker: text(0)?,
                scheme: text(1)?,
                model_type: text(2)?,
                name: text(3)?,
                parts: text(4)?,
            })
        })
        .collect()
});

/// Adds what the maker of `path` leaves out of this architecture, where the quantization names no parts itself.
pub(super) fn add(facts: &mut ModelFacts, path: &str) {
    let Some(said) = facts.quantization.as_mut().filter(|q| !q.contains('=')) else {
        return;
    };
    let path = path.to_ascii_lowercase();
    let maker = path.split_once('/').map_or("", |(maker, _)| maker);
    let found = RULES.iter().find(|r| {
        said.starts_with(&r.scheme)
            && r.model_type == facts.model_type
            && (r.maker.is_empty() && !RULES.iter().any(|o| o.maker == maker && !maker.is_empty()) || r.maker == maker)
            && path.contains(&r.name)
    });
    if let Some(rule) = found {
        said.push(' ');
        said.push_str(&rule.parts);
    }
}
