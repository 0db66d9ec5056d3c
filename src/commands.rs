//! One file a command, each thin: it reads the configuration, asks the layers below, and prints.

pub(crate) mod backup;
pub(crate) mod check;
mod completions;
mod context;
mod copy;
mod error;
mod export;
mod list;
mod ls;
mod pin;
mod plan;
pub(crate) mod prepare;
mod prune;
pub(crate) mod recover;
mod restore;
mod show;
pub(crate) mod tell;
mod verify;

pub use context::Context;
pub use error::CommandError;

use crate::cli::Command;
use crate::exit::Outcome;

/// Runs a command that ends by itself. The daemon runs commands, so it is not one of them, and agents need no configuration.
pub async fn run(context: &Context, command: Command) -> Result<Outcome, CommandError> {
    match command {
        Command::Plan(args) => plan::run(context, args).await,
        Command::Backup(args) => backup::run(context, args).await,
        Command::List(_) => list::run(context).await,
        Command::Show(args) => show::run(context, args).await,
        Command::Ls(args) => ls::run(context, args).await,
        Command::Restore(args) => restore::run(context, args).await,
        Command::Export(args) => export::run(context, args).await,
        Command::Verify(args) => verify::run(context, args).await,
        Command::Copy(args) => copy::run(context, args).await,
        Command::Check(args) => check::run(context, args).await,
        Command::Prune(args) => prune::run(context, args).await,
        Command::Pin(args) => pin::pin(context, args).await,
        Command::Unpin(args) => pin::unpin(context, args).await,
        Command::Recover(args) => recover::run(context, args).await,
        Command::Completions(args) => completions::run(args),
        Command::Daemon(_) | Command::Health(_) | Command::Agent(_) => Err(CommandError::usage(
            anyhow::anyhow!("another command cannot run this one"),
        )),
    }
}
