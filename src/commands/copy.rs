//! `cofferdam copy`

use anyhow::anyhow;

use super::context::Context;
use super::error::CommandError;
use crate::cli::CopyArgs;
use crate::copy::{CopyReport, Lacking, copy_all};
use crate::exit::Outcome;
use crate::report;

pub async fn run(context: &Context, args: CopyArgs) -> Result<Outcome, CommandError> {
    let places = context.copy_places()?;
    if places.is_empty() {
        return Err(CommandError::usage(anyhow!(
            "no second place is named; name it with --copy-to URL or COFFERDAM_COPY_TO"
        )));
    }
    let repository = context.repository()?;
    let snapshots = context.selected(&*repository, &args.snapshots).await?;
    let mut reports: Vec<CopyReport> = Vec::new();
    for place in &places {
        let copied = tokio::select! {
            biased;
            () = context.interrupt.cancelled() => return Err(CommandError::Interrupted),
            copied = copy_all(&*repository, &**place, &snapshots, Lacking::All, &context.board) => copied,
        };
        reports.push(copied);
    }
    context.print(&reports, || {
        report::outcome::copies(&reports, &context.view())
    })?;
    let complete = reports.iter().all(CopyReport::is_complete);
    Ok(if complete {
        Outcome::Done
    } else {
        Outcome::Partial
    })
}
