//! What was loaded, put in place or taken back.

use crate::driver::DriverError;
use crate::pipe;
use crate::repository::SnapshotRef;
use crate::run::drivers::Drivers;
use crate::run::session::Session;
use crate::snapshot::{SnapshotReader, ensure_opens};
use crate::target::{RunId, TargetId};

pub(crate) fn reader(session: &Session, progress: pipe::Progress) -> SnapshotReader {
    let repository = session.repository.clone();
    SnapshotReader::new(repository, session.keys.identities.clone(), progress)
}

pub(crate) async fn commit(drivers: &Drivers, target: &TargetId) -> Result<(), DriverError> {
    drivers.of(target)?.commit(target).await
}

pub(crate) async fn roll_back(drivers: &Drivers, target: &TargetId) -> Result<(), DriverError> {
    drivers.of(target)?.rollback(target).await
}

/// Puts back what a load in place has written over; what was not there before is removed again.
pub(crate) async fn undo_in_place(
    session: &Session,
    drivers: &Drivers,
    project: &str,
    safety: Option<&RunId>,
    target: &TargetId,
) -> Result<(), DriverError> {
    let manifest = match safety {
        Some(safety) => {
            let snapshot = SnapshotRef::new(project, safety.clone());
            Some(session.repository.manifest(&snapshot).await?)
        }
        None => None,
    };
    match manifest
        .as_ref()
        .and_then(|manifest| manifest.target(target))
    {
        Some(record) => {
            let source = reader(session, pipe::Progress::silent());
            // Before the driver removes anything for it.
            ensure_opens(&source, [record]).await?;
            drivers.of(target)?.put_back(record, &source).await
        }
        None => roll_back(drivers, target).await,
    }
}
