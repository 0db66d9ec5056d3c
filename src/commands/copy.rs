//! `cofferdam copy`

use std::collections::BTreeSet;

use anyhow::anyhow;

use super::context::Context;
use super::error::CommandError;
use crate::cli::CopyArgs;
use crate::exit::Outcome;
use crate::report;
use crate::run::copy::{CopyReport, Sealing, copy_all};
use crate::run::places::{self, Users};

pub async fn run(context: &Context, args: CopyArgs) -> Result<Outcome, CommandError> {
    let places = context.copy_places()?;
    if places.is_empty() {
        return Err(CommandError::usage(anyhow!(
            "no second place is configured; set --copy-to URL or COFFERDAM_COPY_TO"
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
                "there are no recipients to encrypt the copies to; set --recipient KEY or COFFERDAM_RECIPIENTS"
            )));
        }
    };
    let repository = context.repository()?;
    let snapshots = context.selected(&*repository, &args.snapshots).await?;
    let mut terms = context.config.place_terms.of_second_place();
    if args.new_repository {
        terms.allow_making().map_err(CommandError::usage)?;
    }
    // Only what it keeps in mind is asked for.
    let engine = context.engine_if_any().await?;
    let projects: BTreeSet<String> = snapshots.iter().map(|it| it.project.clone()).collect();
    let projects: Vec<String> = projects.into_iter().collect();
    let users = Users {
        projects: &projects,
        command: "copy",
    };
    let mut reports: Vec<CopyReport> = Vec::new();
    for (url, place) in &places {
        let (from, to) = (&*repository, &**place);
        let copying = async {
            match places::prepare(engine.as_ref(), to, url, users, &terms).await {
                Ok(prepared) => CopyReport {
                    is_remarkable: prepared.is_remarkable(),
                    news: prepared.news(),
                    ..copy_all(from, to, &snapshots, sealing, &context.board).await
                },
                Err(error) => CopyReport::failed(url, error.to_string()),
            }
        };
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
