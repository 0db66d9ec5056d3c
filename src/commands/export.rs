//! `cofferdam export`

use super::context::Context;
use super::error::CommandError;
use crate::cli::ExportArgs;
use crate::exit::Outcome;
use crate::history::select;
use crate::report;
use crate::run::progress::Activity;
use crate::snapshot::export::export;

pub async fn run(context: &Context, args: ExportArgs) -> Result<Outcome, CommandError> {
    let repository = context.repository()?;
    let manifest = context.manifest(&*repository, &args.snapshot).await?;
    let available = manifest.targets.iter().map(|record| &record.target);
    let targets = select::targets(available, &args.targets)?;
    let board = &context.board;
    let track = board.begin(Activity::Exporting, &manifest.snapshot, None);
    let source = context.reader(repository, track.counter());
    let exported = tokio::select! {
        biased;
        () = context.interrupt.cancelled() => return Err(CommandError::Interrupted),
        exported = export(&source, &manifest, &targets, &args.directory) => exported,
    };
    let files = exported?;
    track.done();
    context.print(&files, || report::outcome::export(&files))?;
    Ok(Outcome::Done)
}
