//! `cofferdam copy`

use anyhow::anyhow;

use super::context::Context;
use super::error::CommandError;
use crate::cli::CopyArgs;
use crate::copy::{CopyReport, Sealing, copy_all};
use crate::exit::Outcome;
use crate::report;

pub async fn run(context: &Context, args: CopyArgs) -> Result<Outcome, CommandError> {
    let places = context.copy_places()?;
    if places.is_empty() {
        return Err(CommandError::usage(anyhow!(
            "no second place is named; name it with --copy-to URL or COFFERDAM_COPY_TO"
        )));
    }
    let keys = &context.config.keys;
    let sealing = match (args.reencrypt, &keys.recipients) {
        (false, _) => Sealing::AsStored,
        (true, Some(recipients)) => Sealing::Anew {
            identities: &keys.identities,
            recipients,
        },
        (true, None) => {
            return Err(CommandError::usage(anyhow!(
                "nothing says to whom the copies are to be encrypted; name them with --recipient KEY or COFFERDAM_RECIPIENTS"
            )));
        }
    };
    let repository = context.repository()?;
    let snapshots = context.selected(&*repository, &args.snapshots).await?;
    let mut reports: Vec<CopyReport> = Vec::new();
    for place in &places {
        let (from, to) = (&*repository, &**place);
        let copying = copy_all(from, to, &snapshots, sealing, &context.board);
        let copied = tokio::select! {
            biased;
            () = context.interrupt.cancelled() => return Err(CommandError::Interrupted),
            copied = copying => copied,
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
