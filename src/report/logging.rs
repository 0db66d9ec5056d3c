//! The log: lines on standard error, above the progress bars where there are some.

use std::io::{self, IsTerminal, Write};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use super::runlog::Runlog;
use crate::config::{LogFormat, LogSettings};
use crate::run::progress::Board;

/// Sends every event from now on to standard error, and to `runlog` where there is one. Called once; a second call changes
/// nothing.
pub fn start(settings: &LogSettings, board: &Board, runlog: Option<&Runlog>) {
    let writer = LogWriter {
        board: board.clone(),
    };
    let lines = fmt::layer().with_writer(writer);
    let lines = match settings.format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines
            .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .with_target(false)
            .boxed(),
    };
    let runlog = runlog.map(|runlog| {
        let kept = runlog.clone().with_filter(LevelFilter::INFO);
        kept.with_filter(settings.filter.clone())
    });
    let subscriber = tracing_subscriber::registry()
        .with(lines.with_filter(settings.filter.clone()))
        .with(runlog);
    // Only fails when there is a log already.
    let _ = subscriber.try_init();
}

/// Writes each event in one piece, while the bars are out of the way.
#[derive(Clone)]
struct LogWriter {
    board: Board,
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.board
            .suspend(|| io::stderr().lock().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
