//! `gpuwaste fit`: which tiers hold a model or carry a load, what each costs.

mod chart;
mod check;
mod compare;
mod holds;
mod html;
mod json;
mod load;
mod memory;
mod offers;
mod subject;
mod table;

use super::print;
use crate::cli::{FitArgs, FitFormat};
use anyhow::{Result, bail};
use std::process::ExitCode;
use subject::Subject;

/// GPUs of one node where no instance tells (HGX and DGX boards).
const NODE_GPUS: u32 = 8;

pub(super) fn fit(args: &FitArgs) -> Result<ExitCode> {
    check::arguments(args)?;
    if let Some(path) = &args.memory.bands {
        memory::bands(path)?;
    }
    if args.source.dry_run {
        super::dry_run::dry_run(&args.source)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !args.compare.is_empty() {
        return compare::compare(args);
    }
    let server = args
        .from
        .as_deref()
        .map(|name| subject::server(args, name))
        .transpose()?;
    let subject = match (&args.model, &server) {
        (Some(name), _) => Subject::named(args, name)?,
        (None, Some(server)) => Subject {
            model: server.model.clone(),
            settings: server.settings.clone(),
        },
        (None, None) => bail!("name a model, or a running server with --from NAMESPACE/NAME"),
    };
    let book = &super::facts::book(&args.learned)?;
    let Some(question) = load::Question::of(args, server)? else {
        let answer = holds::Answer::of(args, &subject, book)?;
        return match args.format {
            FitFormat::Json => print(serde_json::to_string_pretty(&json::memory(&subject, &answer))? + "\n"),
            FitFormat::Table => print(table::memory(&subject, &answer)),
            FitFormat::Html => print(html::memory(&subject, &answer)),
        };
    };
    let answer = question.answer(args, &subject, book)?;
    match args.format {
        FitFormat::Json => print(serde_json::to_string_pretty(&json::load(&subject, &question, &answer))? + "\n"),
        FitFormat::Table => {
            let mut text = table::load(args, &subject, &question, &answer);
            if args.plot {
                text.push_str(&chart::terminal(&chart::curves(&question, &answer), table::width()));
            }
            print(text)
        }
        FitFormat::Html => print(html::load(&subject, &question, &answer)),
    }
}
