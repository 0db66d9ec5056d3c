//! Parses, runs, exits once.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use cofferdam::agent;
use cofferdam::agent::inside::Removals;
use cofferdam::cli::{Cli, Command};
use cofferdam::commands::{self, CommandError, Context};
use cofferdam::config::{Config, Environment};
use cofferdam::daemon;
use cofferdam::exit::Outcome;
use cofferdam::report::logging;
use cofferdam::report::runlog::Runlog;
use cofferdam::run::progress::Board;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// How long the removal of what a dropped run had put somewhere may take before the process ends without it; the next run
/// sweeps. Together with everything else it has to fit into the ten seconds that an engine gives a container to stop.
const REMOVALS_LIMIT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Agent(args) = &cli.command {
        return agent::run(&args.kind);
    }
    let config = match configuration(&cli) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("cofferdam: {error:#}");
            return Outcome::Usage.into();
        }
    };
    let board = Board::of_stderr();
    let runlog = Runlog::default();
    logging::start(&config.log, &board, config.listen.as_ref().map(|_| &runlog));
    for warning in &config.warnings {
        warn!("{warning}");
    }
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(cli.command, config, board, runlog));
            // A blocked read of standard input must not keep the process.
            runtime.shutdown_background();
            outcome.into()
        }
        Err(error) => {
            error!("cannot start: {error}");
            Outcome::Failed.into()
        }
    }
}

fn configuration(cli: &Cli) -> anyhow::Result<Config> {
    let directory = std::env::current_dir()?;
    let environment = Environment::new(std::env::vars_os());
    Ok(Config::resolve(&cli.settings, &environment, &directory)?)
}

async fn run(command: Command, config: Config, board: Board, runlog: Runlog) -> Outcome {
    let interrupt = CancellationToken::new();
    let removals = Removals::default();
    let context = Context {
        config,
        board,
        runlog,
        interrupt: interrupt.clone(),
        removals: removals.clone(),
    };
    let outcome = tokio::select! {
        ended = dispatch(&context, command) => ended.unwrap_or_else(|error| {
            context.tell(&error);
            error.outcome()
        }),
        () = told_to_stop_twice(interrupt) => {
            warn!("leaving at once; `cofferdam recover` finishes what is left");
            return Outcome::Interrupted;
        }
    };
    if tokio::time::timeout(REMOVALS_LIMIT, removals.done())
        .await
        .is_err()
    {
        warn!("files of Cofferdam stay in a container until the next run");
    }
    outcome
}

async fn dispatch(context: &Context, command: Command) -> Result<Outcome, CommandError> {
    match command {
        Command::Daemon(_) => daemon::run(context).await,
        Command::Health(_) => daemon::health(context).await,
        command => commands::run(context, command).await,
    }
}

/// The first signal asks the run to end in order; the second ends the process.
async fn told_to_stop_twice(interrupt: CancellationToken) {
    let signals =
        signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
    let Ok((mut int, mut term)) = signals else {
        error!("signals cannot be caught: an interrupt ends this process at once");
        return std::future::pending().await;
    };
    for asked in 1..=2 {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
        if asked == 1 {
            warn!("stopping, and releasing what is held; once more to leave at once");
            interrupt.cancel();
        }
    }
}
