//! `cofferdam show`

use serde::Serialize;

use super::context::Context;
use super::error::CommandError;
use crate::cli::ShowArgs;
use crate::exit::Outcome;
use crate::manifest::Manifest;
use crate::report::render_snapshot;
use crate::repository::SnapshotRef;
use crate::repository::pin::Pin;

/// For programs.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    manifest: &'a Manifest,
    #[serde(skip_serializing_if = "Option::is_none")]
    pin: Option<&'a Pin>,
}

pub async fn run(context: &Context, args: ShowArgs) -> Result<Outcome, CommandError> {
    let repository = context.repository()?;
    let manifest = context.manifest(&*repository, &args.snapshot).await?;
    let pins = repository.pins(Some(&manifest.project)).await?;
    let pin = pins.get(&SnapshotRef::new(
        &manifest.project,
        manifest.snapshot.clone(),
    ));
    let shown = Shown {
        manifest: &manifest,
        pin,
    };
    context.print(&shown, || render_snapshot(&manifest, pin, &context.view()))?;
    Ok(Outcome::Done)
}
