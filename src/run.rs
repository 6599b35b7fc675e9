//! One function a subcommand.
use std::process::ExitCode;

pub(crate) fn main() -> ExitCode {
    ExitCode::SUCCESS
}
