//! When a project was saved, as its snapshots tell.

use std::collections::BTreeSet;
use std::pin::pin;

use futures_util::StreamExt as _;

use super::timetable::{Services, Timetable};
use crate::manifest::{Manifest, Purpose};
use crate::repository::{self, Repository, RepositoryError};

/// How many snapshots are read for it.
const MAX_SNAPSHOTS: usize = 100;

/// Where each node of a swarm has snapshots of its own, more are read until enough of them were this node's.
const MOST_OF_ALL: usize = 1000;

/// Tells `timetable` of the newest runs, until it has heard of each of its services. What other nodes than `node` have saved
/// was theirs. The services come back of which the newest run has not saved everything.
pub(super) async fn read(
    repository: &dyn Repository,
    project: &str,
    node: Option<&str>,
    timetable: &mut Timetable,
) -> Result<BTreeSet<String>, RepositoryError> {
    let snapshots = repository.list(Some(project)).await?;
    let newest = snapshots.into_iter().rev().take(match node {
        Some(_) => MOST_OF_ALL,
        None => MAX_SNAPSHOTS,
    });
    let mut manifests = pin!(repository::manifests(repository, newest));
    let mut oldest = None;
    let mut own = 0;
    let mut troubled = BTreeSet::new();
    let mut judged: Vec<Services> = Vec::new();
    while let Some((_, manifest)) = manifests.next().await {
        match manifest {
            Ok(manifest) if node.is_some() && manifest.node.as_deref() != node => {}
            Ok(manifest) if manifest.purpose == Purpose::Backup => {
                own += 1;
                let services = services_of(&manifest);
                timetable.ran(&services, manifest.started);
                let failed = manifest.failed.into_iter();
                let failed = failed.map(|failure| failure.target.service);
                let is_news = |service: &String| !judged.iter().any(|it| it.contains(service));
                troubled.extend(failed.filter(is_news));
                judged.push(services);
                oldest = Some(manifest.started);
            }
            // One that cannot be read is no run that anybody could count on, and one that is gone is none.
            Ok(_) | Err(RepositoryError::Manifest { .. } | RepositoryError::Missing(_)) => {}
            Err(error) => return Err(error),
        }
        if timetable.knows_all() {
            return Ok(troubled);
        }
        if own >= MAX_SNAPSHOTS {
            break;
        }
    }
    if let Some(oldest) = oldest {
        timetable.know_nothing_before(oldest);
    }
    Ok(troubled)
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
