//! One function a subcommand, each the pipeline in a few lines. The only module that joins I/O with judgement.

mod catalog;
mod check;
#[cfg(test)]
mod check_pages;
mod clock;
mod completions;
mod decide;
mod diff;
mod doctor;
mod dry_run;
mod facts;
mod file;
mod fit;
mod fleet;
mod group;
mod ignored;
mod learned;
mod memory;
mod output;
mod page;
mod plan;
mod policy;
mod recorded;
mod scan;
mod settle;
mod slips;
mod snapshot_file;
mod source;
mod view;

use crate::cli::{Cli, Command, RbacArgs, SchemaDocument};
use crate::collect::kube::path::{Name, is_name};
use crate::collect::kube::rights::{RbacRequest, rbac};
use crate::text::message;
use anyhow::{Context, Result, bail};
use clap::{CommandFactory, FromArgMatches};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// 2: could not scan (usage, configuration, connection, or nothing could be read).
const COULD_NOT: u8 = 2;
/// As a shell reports a process that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// Parses, runs, prints the error once, and turns a broken pipe into success.
pub(crate) fn main() -> ExitCode {
    let cli = match parsed() {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help and version to stdout, errors to stderr; a closed pipe is nobody's problem.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { COULD_NOT } else { 0 });
        }
    };
    match memory::watch().and_then(|()| run(cli.command)) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<source::Interrupted>() => ExitCode::from(INTERRUPTED),
        Err(error) => {
            let shown = message(&format!("{error:#}"));
            let _ = writeln!(io::stderr(), "gpuwaste: {shown}");
            ExitCode::from(COULD_NOT)
        }
    }
}

/// The command line, with the names of the options that stood on it.
fn parsed() -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches()?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    if let (Some((_, own)), Some(source)) = (matches.subcommand(), cli.command.source_mut()) {
        let stood = |id: &&clap::Id| own.value_source(id.as_str()) == Some(clap::parser::ValueSource::CommandLine);
        source.given = own
            .ids()
            .filter(stood)
            .map(|id| id.as_str().replace('_', "-"))
            .collect();
    }
    Ok(cli)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|e| {
        e.downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Scan(args) => scan::scan(&args),
        Command::Decide(args) => decide::decide(&args),
        Command::Settle(args) => settle::settle(&args),
        Command::Learned(args) => learned::learned(&args),
        Command::Show(args) => view::show(&args),
        Command::Ls(args) => view::ls(&args),
        Command::Check(args) => check::check(&args),
        Command::Collect(args) => scan::collect(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Fit(args) => fit::fit(&args),
        Command::Plan(args) => plan::plan(&args),
        Command::Diff(args) => diff::diff(&args),
        Command::Explain { check } => catalog::explain(check.as_deref()),
        Command::Rbac(args) => roles(&args),
        Command::Catalog(args) => catalog::catalog(&args),
        Command::Schema { document } => schema(document),
        Command::Completions { shell } => completions::script(shell),
        Command::Version => print(format!("gpuwaste {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Man { command, dir } => man(command.as_deref(), dir.as_deref()),
    }
}

fn print(text: impl AsRef<[u8]>) -> Result<ExitCode> {
    io::stdout().write_all(text.as_ref())?;
    Ok(ExitCode::SUCCESS)
}

fn schema(document: SchemaDocument) -> Result<ExitCode> {
    let schema = match document {
        SchemaDocument::Facts => schemars::schema_for!(crate::fit::book::facts::Facts),
        SchemaDocument::Plan => schemars::schema_for!(crate::plan::document::Plan),
        SchemaDocument::Report => schemars::schema_for!(crate::report::document::Report),
        SchemaDocument::Diff => schemars::schema_for!(crate::report::difference::Difference),
        SchemaDocument::Snapshot => schemars::schema_for!(crate::snapshot::Snapshot),
        SchemaDocument::Policy => schemars::schema_for!(crate::settings::RawPolicy),
    };
    print(serde_json::to_string_pretty(&schema)? + "\n")
}

fn man(command: Option<&str>, dir: Option<&Path>) -> Result<ExitCode> {
    let mut all = Cli::command().disable_help_subcommand(true);
    all.build();
    if let Some(dir) = dir {
        std::fs::create_dir_all(dir).with_context(|| format!("{}: cannot be made", dir.display()))?;
        clap_mangen::generate_to(all, dir)
            .with_context(|| format!("{}: the pages cannot be written", dir.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let page = match command {
        None => all,
        Some(name) => {
            let known = || {
                all.get_subcommands()
                    .map(clap::Command::get_name)
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let found = all.find_subcommand(name);
            found
                .cloned()
                .with_context(|| format!("'{name}' is no command; there are {}", known()))?
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    print(text)
}

fn roles(args: &RbacArgs) -> Result<ExitCode> {
    let mut request = RbacRequest {
        namespaces: args.namespace.clone(),
        cronjob: args.cronjob,
        ..RbacRequest::default()
    };
    for with in &args.with {
        match with.split_once('=') {
            None if with == "scrape" => request.scrape = true,
            Some(("prometheus", place)) => match place
                .split_once('/')
                .and_then(|(ns, rest)| Some((ns, rest.rsplit_once(':')?)))
            {
                Some((namespace, (service, port))) => {
                    request.prometheus.push((namespace.into(), service.into(), port.into()));
                }
                None => bail!("--with {with}: write prometheus=NAMESPACE/SERVICE:PORT"),
            },
            Some(("configmaps", place)) => match place.split_once('/') {
                Some((namespace, name)) => request.configmaps.push((namespace.into(), name.into())),
                None => bail!("--with {with}: write configmaps=NAMESPACE/NAME"),
            },
            _ => bail!("--with {with}: known are scrape, prometheus=NS/SVC:PORT and configmaps=NS/NAME"),
        }
    }
    let names = request
        .namespaces
        .iter()
        .chain(request.prometheus.iter().flat_map(|(a, b, _)| [a, b]))
        .chain(request.configmaps.iter().flat_map(|(a, b)| [a, b]));
    for name in names {
        Name::parse(name)?;
    }
    // A port has a number, or a name of up to 15 letters.
    let word = |p: &str| is_name(p) && p.len() <= 15 && !p.contains('.');
    if let Some((.., port)) = request
        .prometheus
        .iter()
        .find(|(.., p)| p.parse::<u16>().is_err() && (!word(p) || p.bytes().all(|b| b.is_ascii_digit())))
    {
        bail!("'{}' is no port of a service", port.escape_debug());
    }
    print(rbac(&request))
}
