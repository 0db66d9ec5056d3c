//! `cofferdam pin` and `cofferdam unpin`

use serde::Serialize;

use super::context::Context;
use super::error::CommandError;
use crate::cli::{PinArgs, UnpinArgs};
use crate::exit::Outcome;
use crate::history::selectors::SnapshotSelector;
use crate::repository::pin::{self, Pin};
use crate::repository::{Repository, SnapshotRef};
use crate::text::printable;

/// What is pinned now, for programs.
#[derive(Serialize)]
struct Pinned<'a> {
    #[serde(flatten)]
    snapshot: &'a SnapshotRef,
    pin: Option<&'a Pin>,
}

pub async fn pin(context: &Context, args: PinArgs) -> Result<Outcome, CommandError> {
    let repository = context.repository()?;
    let snapshot = named(context, &*repository, &args.snapshot).await?;
    let pin = Pin::new(&args.name);
    pin::pin(&*repository, &snapshot, &pin).await?;
    let pinned = Pinned {
        snapshot: &snapshot,
        pin: Some(&pin),
    };
    let id = &snapshot.id;
    context.print(&pinned, || {
        let name = printable(&pin.name);
        format!("{id} is pinned as {name}: it stays until `cofferdam unpin {id}`")
    })?;
    Ok(Outcome::Done)
}

pub async fn unpin(context: &Context, args: UnpinArgs) -> Result<Outcome, CommandError> {
    let repository = context.repository()?;
    let snapshot = named(context, &*repository, &args.snapshot).await?;
    repository.remove_pin(&snapshot).await?;
    let unpinned = Pinned {
        snapshot: &snapshot,
        pin: None,
    };
    let id = &snapshot.id;
    context.print(&unpinned, || format!("{id} is not pinned"))?;
    Ok(Outcome::Done)
}

async fn named(
    context: &Context,
    repository: &dyn Repository,
    wanted: &SnapshotSelector,
) -> Result<SnapshotRef, CommandError> {
    let manifest = context.manifest(repository, wanted).await?;
    Ok(SnapshotRef::new(manifest.project, manifest.snapshot))
}
