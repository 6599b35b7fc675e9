//! `gpuwaste`: finds waste in GPU fleets. Everything is in the library; this is the process.

use std::process::ExitCode;

fn main() -> ExitCode {
    gpuwaste::main()
}
