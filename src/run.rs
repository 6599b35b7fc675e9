//! One function a subcommand, each the pipeline in a few lines. The only module that joins I/O with judgement.

pub(crate) mod snapshot_file;

use crate::cli::{Cli, Command};
use anyhow::Result;
use clap::{CommandFactory, Parser};
use std::io::{self, Write};
use std::process::ExitCode;

/// 2: could not scan (usage, configuration, connection, or nothing could be read).
const COULD_NOT: u8 = 2;

/// Parses, runs, prints the error once, and turns a broken pipe into success.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help and version to stdout, errors to stderr; a closed pipe is nobody's problem.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { COULD_NOT } else { 0 });
        }
    };
    match run(cli.command) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "gpuwaste: {error:#}");
            ExitCode::from(COULD_NOT)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|e| {
        e.downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Completions { shell } => completions(shell),
        Command::Man => man(),
        _ => anyhow::bail!("not wired yet"),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "gpuwaste", &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

fn man() -> Result<ExitCode> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    io::stdout().write_all(&page)?;
    Ok(ExitCode::SUCCESS)
}
