//! `cofferdam verify`

use jiff::Timestamp;

use super::context::Context;
use super::error::CommandError;
use crate::cli::VerifyArgs;
use crate::exit::Outcome;
use crate::report;
use crate::verify::{Depth, Verifier, VerifyReport};

pub async fn run(context: &Context, args: VerifyArgs) -> Result<Outcome, CommandError> {
    let repository = context.repository()?;
    let snapshots = context.selected(&*repository, &args.snapshots).await?;
    let today = Timestamp::now()
        .to_zoned(context.config.time_zone.clone())
        .date();
    let depth = match (args.read, args.read_part) {
        (_, Some(choice)) => Depth::ReadPart(choice.on(today)),
        (true, None) => Depth::Read,
        (false, None) => Depth::Sizes,
    };
    let mut verifier = Verifier::new(&*repository, &context.config.keys.identities, depth);
    let mut reports: Vec<VerifyReport> = Vec::new();
    for snapshot in &snapshots {
        let verified = tokio::select! {
            biased;
            () = context.interrupt.cancelled() => return Err(CommandError::Interrupted),
            verified = verifier.snapshot(snapshot) => verified,
        };
        reports.push(verified.map_err(CommandError::failed)?);
    }
    context.print(&reports, || report::outcome::verify(&reports))?;
    let whole = reports.iter().all(VerifyReport::is_whole);
    Ok(if whole { Outcome::Done } else { Outcome::Found })
}
