//! `cofferdam completions`

use clap::CommandFactory as _;

use crate::cli::{Cli, CompletionsArgs};
use crate::exit::Outcome;

pub fn run(args: CompletionsArgs) -> Outcome {
    clap_complete::generate(
        args.shell,
        &mut Cli::command(),
        "cofferdam",
        &mut std::io::stdout(),
    );
    Outcome::Done
}
