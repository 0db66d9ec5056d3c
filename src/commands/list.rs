//! `cofferdam list`

use futures_util::StreamExt as _;
use serde::Serialize;

use super::context::Context;
use super::error::CommandError;
use crate::exit::Outcome;
use crate::manifest::Manifest;
use crate::report::{Listed, render_snapshots};
use crate::repository::pin::Pin;
use crate::repository::{self, SnapshotRef};

/// A line of the list, for programs.
#[derive(Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
enum Entry<'a> {
    Readable {
        #[serde(flatten)]
        manifest: &'a Manifest,
        #[serde(skip_serializing_if = "Option::is_none")]
        pin: Option<&'a Pin>,
    },
    Unreadable {
        #[serde(flatten)]
        snapshot: &'a SnapshotRef,
        why: &'a str,
    },
}

pub async fn run(context: &Context) -> Result<Outcome, CommandError> {
    let repository = context.repository()?;
    let snapshots = context.snapshots(&*repository).await?;
    let mut found: Vec<(SnapshotRef, Result<Manifest, String>)> =
        repository::manifests(&*repository, snapshots)
            .map(|(snapshot, manifest)| (snapshot, manifest.map_err(|error| error.to_string())))
            .collect()
            .await;
    // Over several projects, the order is that of time.
    found.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));

    let pins = repository.pins(None).await?;
    let entries: Vec<Entry<'_>> = found
        .iter()
        .map(|(snapshot, manifest)| match manifest {
            Ok(manifest) => Entry::Readable {
                manifest,
                pin: pins.get(snapshot),
            },
            Err(why) => Entry::Unreadable { snapshot, why },
        })
        .collect();
    context.print(&entries, || {
        let listed: Vec<Listed<'_>> = found
            .iter()
            .map(|(snapshot, manifest)| match manifest {
                Ok(manifest) => Listed::Readable(manifest, pins.get(snapshot)),
                Err(why) => Listed::Unreadable { snapshot, why },
            })
            .collect();
        render_snapshots(&listed, &context.view())
    })?;
    Ok(Outcome::Done)
}
