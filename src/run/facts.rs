//! The book of measured facts: made of snapshots, joined, and told.

use super::learned::Others;
use super::recorded::{self, Recorded};
use super::{file, output, policy, print};
use crate::analyze::{self, LeftOut};
use crate::cli::{LearnedArgs, LearnedFormat};
use crate::fit::book::facts::{Combination, Fact, Facts};
use crate::fit::book::{Book, Refusal};
use crate::report::text::plain;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Servers that are left out, told one by one.
const TOLD: usize = 5;

pub(super) fn learned(args: &LearnedArgs, others: Others) -> Result<ExitCode> {
    if others.record.is_some() {
        bail!("--learned: a record of decisions and measured facts do not join: write each to a file of its own");
    }
    let settings = policy::file(args.policy.as_deref())?;
    let mut all: Vec<Fact> = others.facts.into_iter().map(|l| l.fact).collect();
    let mut left_out: Vec<LeftOut> = Vec::new();
    // One at a time: a thousand clusters fit where one does.
    let lost = recorded::named(&args.from)?.each(Recorded::snapshot, |_, snapshot| {
        let fleet = crate::judge::join(&snapshot, &settings);
        let (told, left) = analyze::facts(&fleet, &settings);
        all.extend(told.facts);
        left_out.extend(left);
        Ok(())
    })?;
    let facts = Facts::of(all);
    output::unless_closed(tell(&left_out).map_err(Into::into))?;
    let text = serde_json::to_string_pretty(&facts)? + "\n";
    if let Some(path) = &args.output {
        file::replace(path, |out| out.write_all(text.as_bytes()))
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    match args.format {
        LearnedFormat::Json => print(text)?,
        LearnedFormat::Table => print(table(&facts))?,
        LearnedFormat::Html => bail!("--format html is of decisions: facts are told as a table or as JSON"),
    };
    output::lost(&lost)
}

/// The book of what files tell, for a command that reads no fleet; what is refused is said on stderr.
pub(super) fn book(files: &[PathBuf]) -> Result<Book> {
    let mut book = Book::default();
    let mut err = io::stderr().lock();
    for told in super::learned::facts_of(files)? {
        if let Err(Refusal::Impossible(why)) = book.learn_fact(&told.fact, &told.file) {
            let line = format!(
                "{}: what server {} told cannot be: {why}; it measures nothing",
                told.file, told.fact.server
            );
            output::unless_closed(writeln!(err, "gpuwaste: {}", plain(&line)).map_err(Into::into))?;
        }
    }
    Ok(book)
}

fn tell(left_out: &[LeftOut]) -> io::Result<()> {
    let mut err = io::stderr().lock();
    for LeftOut { whose, why } in left_out.iter().take(TOLD) {
        writeln!(err, "gpuwaste: {} is left out: {}", plain(whose), plain(why))?;
    }
    if left_out.len() > TOLD {
        writeln!(err, "gpuwaste: … and {} more servers", left_out.len() - TOLD)?;
    }
    Ok(())
}

/// A line a combination.
fn table(facts: &Facts) -> String {
    let mut kinds: BTreeMap<String, (&Combination, Vec<&Fact>)> = BTreeMap::new();
    for fact in &facts.facts {
        let (kind, _) = fact.key();
        kinds
            .entry(kind)
            .or_insert((&fact.combination, Vec::new()))
            .1
            .push(fact);
    }
    let mut out = format!(
        "{:<44} {:<16} {:<26} {:>7} {:>19} {:>13} {:>9}\n",
        "model", "engine", "on", "servers", "KV tokens", "ms a token", "restarts"
    );
    for (c, told) in kinds.values() {
        let s = &c.settings;
        let engine = format!(
            "{} {}",
            s.engine.map_or("", |e| e.name()),
            s.engine_version.as_deref().unwrap_or_default()
        );
        let ranks = c.tensor_parallel * c.pipeline_parallel * c.data_parallel;
        let kv = range(told.iter().filter_map(|f| f.kv_capacity_tokens).map(|n| n as f64), 0);
        let times = told
            .iter()
            .filter_map(|f| f.speed.as_ref())
            .map(|s| s.inter_token_latency * 1e3);
        let model = match &c.quantization {
            Some(q) => format!("{} ({q})", c.model),
            None => c.model.clone(),
        };
        out.push_str(&format!(
            "{:<44} {:<16} {:<26} {:>7} {:>19} {:>13} {:>9}\n",
            plain(&model),
            plain(&engine),
            plain(&format!("{ranks} × {}", c.gpu)),
            told.len(),
            kv,
            range(times, 1),
            told.iter()
                .filter_map(|f| f.restarts)
                .reduce(u64::saturating_add)
                .map_or_else(|| "–".into(), |n| n.to_string()),
        ));
    }
    if kinds.is_empty() {
        out = "no server told its KV capacity, or its speed over a day\n".into();
    }
    out
}

/// "100–120", or one value; "–" of nothing.
fn range(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for v in values {
        (low, high) = (low.min(v), high.max(v));
    }
    let (low, high) = (format!("{low:.digits$}"), format!("{high:.digits$}"));
    match low.as_str() {
        "inf" => "–".into(),
        _ if low == high => low,
        _ => format!("{low}–{high}"),
    }
}
