//! `cofferdam verify`

use jiff::Timestamp;

use super::context::Context;
use super::error::CommandError;
use crate::cli::VerifyArgs;
use crate::exit::Outcome;
use crate::report;
use crate::run::progress::Activity;
use crate::snapshot::verify::{Depth, Verifier, VerifyReport};

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
        // To look at sizes takes no time.
        let track = (depth != Depth::Sizes)
            .then(|| context.board.begin(Activity::Reading, &snapshot.id, None));
        if let Some(track) = &track {
            verifier.show(track.counter());
        }
        let verified = tokio::select! {
            biased;
            () = context.interrupt.cancelled() => return Err(CommandError::Interrupted),
            verified = verifier.snapshot(snapshot) => verified,
        };
        reports.push(verified.map_err(CommandError::failed)?);
        if let Some(track) = track {
            track.done();
        }
    }
    context.print(&reports, || report::outcome::verify(&reports))?;
    let whole = reports.iter().all(VerifyReport::is_whole);
    Ok(if whole { Outcome::Done } else { Outcome::Found })
}
