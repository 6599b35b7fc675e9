//! Completion scripts, made of the command line's own definition and of what the catalogue knows.

use super::print;
use crate::analyze::CHECKS;
use crate::catalog::{gpus, models};
use crate::cli::Cli;
use crate::report::Format;
use anyhow::Result;
use clap::builder::PossibleValuesParser;
use clap::{CommandFactory, ValueHint};
use std::process::ExitCode;

/// A script that knows checks, formats, GPUs and models, too: the command line takes other spellings of them as well.
pub(super) fn script(shell: clap_complete::Shell) -> Result<ExitCode> {
    let mut cli = Cli::command();
    let checks: Vec<&'static str> = CHECKS.iter().map(|c| c.id()).collect();
    let formats: Vec<&'static str> = Format::ALL.iter().map(|(_, n)| *n).collect();
    let cards: Vec<&'static str> = gpus::all().iter().map(|g| g.name.as_str()).collect();
    let known: Vec<&'static str> = models::all().iter().map(|m| m.facts.id.as_str()).collect();
    let groups = vec![
        "namespace",
        "workload",
        "model",
        "gpu",
        "node",
        "cluster",
        "owner",
        "user",
        "account",
        "partition",
    ];
    let values = |values: &[&'static str]| PossibleValuesParser::new(values.to_vec());
    for (command, arg, list) in [
        ("scan", "check", &checks),
        ("scan", "skip", &checks),
        ("scan", "format", &formats),
        ("scan", "group_by", &groups),
        ("check", "check", &checks),
        ("check", "skip", &checks),
        ("check", "format", &formats),
        ("check", "group_by", &groups),
        ("check", "gpu", &cards),
        ("fit", "gpu", &cards),
        ("fit", "model", &known),
        ("explain", "check", &checks),
    ] {
        cli = cli.mut_subcommand(command, |c| c.mut_arg(arg, |a| a.value_parser(values(list))));
    }
    for command in ["scan", "collect", "doctor", "ls", "show"] {
        cli = cli.mut_subcommand(command, |c| {
            c.mut_arg("snapshot", |a| a.value_hint(ValueHint::FilePath))
        });
    }
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli, "gpuwaste", &mut script);
    print(script)
}
