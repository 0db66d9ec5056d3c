//! `cofferdam completions`

use std::io::{ErrorKind, Write as _};

use clap::CommandFactory as _;

use super::error::CommandError;
use crate::cli::{Cli, CompletionsArgs};
use crate::exit::Outcome;

pub fn run(args: CompletionsArgs) -> Result<Outcome, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "cofferdam", &mut script);
    match std::io::stdout().write_all(&script) {
        // `cofferdam completions bash | head` has seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CommandError::failed(error)),
        _ => Ok(Outcome::Done),
    }
}
