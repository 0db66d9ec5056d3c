//! When a project was saved, as its snapshots tell.

use std::pin::pin;

use futures_util::StreamExt as _;

use super::timetable::{Services, Timetable};
use crate::manifest::{Manifest, Purpose};
use crate::repository::{self, Repository, RepositoryError};

/// How many snapshots are read for it.
const MOST: usize = 100;

/// Tells `timetable` of the newest runs, until it has heard of each of its services.
pub(super) async fn read(
    repository: &dyn Repository,
    project: &str,
    timetable: &mut Timetable,
) -> Result<(), RepositoryError> {
    let snapshots = repository.list(Some(project)).await?;
    let newest = snapshots.into_iter().rev().take(MOST);
    let mut manifests = pin!(repository::manifests(repository, newest));
    let mut oldest = None;
    while let Some((_, manifest)) = manifests.next().await {
        match manifest {
            Ok(manifest) if manifest.purpose == Purpose::Backup => {
                timetable.ran(&services_of(&manifest), manifest.started);
                oldest = Some(manifest.started);
            }
            // One that cannot be read is no run that anybody could count on, and one that is gone is none.
            Ok(_) | Err(RepositoryError::Manifest { .. } | RepositoryError::Missing(_)) => {}
            Err(error) => return Err(error),
        }
        if timetable.knows_all() {
            return Ok(());
        }
    }
    if let Some(oldest) = oldest {
        timetable.know_nothing_before(oldest);
    }
    Ok(())
}

fn services_of(manifest: &Manifest) -> Services {
    if manifest.selection.is_empty() {
        return Services::All;
    }
    let saved = manifest.targets.iter().map(|record| &record.target);
    let failed = manifest.failed.iter().map(|failure| &failure.target);
    let names = saved.chain(failed).map(|target| target.service.clone());
    Services::Named(names.collect())
}
