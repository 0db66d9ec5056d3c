//! A database on a mount, through helpers.

use std::future::Future;

use futures_util::FutureExt;
use tracing::warn;

use super::writers::Before;
use super::{Dumped, SqliteDriver, dump_of, new_dump, sqlite_facts};
use crate::agent::helper::sqlite::SqlitePacking;
use crate::agent::helper::{Access, HelperError, LayerInput};
use crate::agent::sqlite::{SqlitePackTask, SqlitePacked, SqliteUnpackTask};
use crate::agent::task::{ExpectedLayer, Task};
use crate::driver::DriverError;
use crate::driver::tree::site::{LayerSite, MountSite};
use crate::labels::TreeRestore;
use crate::manifest::{Artifact, TargetRecord, Transfer, TreeShape};
use crate::snapshot::{ArtifactSink, ArtifactSource, StoreError};
use crate::sqlite::COMPANIONS;
use crate::target::TargetId;
use crate::tree::TreePath;
use crate::tree::staging::{StagingPlan, staging_name};
use crate::tree::stays::Stays;

impl SqliteDriver {
    /// Where no helper can be used, an agent in the container takes the copy; it cannot put one back.
    pub(super) async fn dump_mount(
        &self,
        target: &TargetId,
        mount: &MountSite,
        sink: &dyn ArtifactSink,
    ) -> Result<Dumped, DriverError> {
        let task = SqlitePackTask {
            plan: self.staging_plan(target, mount)?,
            compression: sink.compression(),
            patience_seconds: self.options.patience.as_secs(),
        };
        let view = mount.view(Access::Write);
        let packing = match self.helpers.sqlite_pack(view, &task).await {
            Ok(packing) => packing,
            Err(HelperError::Unavailable(why)) => {
                return self.dump_beside(target, mount, why, sink).await;
            }
            Err(error) => return Err(helper_error(mount, error)),
        };
        let (packed, artifact) = store(mount, packing, sink).await?;
        let artifact = Artifact {
            plain: packed.dump.plain,
            ..artifact
        };
        Ok((Transfer::Helper, packed.found, artifact))
    }

    async fn dump_beside(
        &self,
        target: &TargetId,
        mount: &MountSite,
        why: String,
        sink: &dyn ArtifactSink,
    ) -> Result<Dumped, DriverError> {
        let inside = LayerSite {
            path: mount.path.clone(),
            hidden: mount.hidden.clone(),
        };
        let refused = |more: String| {
            let container = &self.container.name;
            let why = format!("{why}; it could be copied in container {container}, and {more}");
            helper_error(mount, HelperError::Unavailable(why))
        };
        let dumped = self.dump_inside(target, &inside, sink, refused).await?;
        let (transfer, mut found, artifact) = dumped;
        found.warnings.push(format!(
            "saved by an agent in the container, because no helper container can be used ({why}): a restore here needs one"
        ));
        Ok((transfer, found, artifact))
    }

    pub(super) async fn load_mount(
        &self,
        mount: &MountSite,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        let facts = sqlite_facts(record)?;
        let dump = dump_of(record)?;
        let layer = ExpectedLayer {
            compression: dump.compression,
            plain: dump.plain.clone(),
            deletions: 0,
        };
        let task = SqliteUnpackTask {
            plan: self.staging_plan(&record.target, mount)?,
            name: TreePath::root().join(mount.place.name()),
            layer: layer.clone(),
            saved_owner: facts.owner,
            saved: facts.content.clone(),
        };
        let input = LayerInput {
            expected: layer,
            deletions: Vec::new(),
            stored: async move { source.open(dump).await.map_err(std::io::Error::other) }.boxed(),
        };
        let unpacked = self
            .helpers
            .sqlite_unpack(mount.view(Access::Write), &task, input)
            .await
            .map_err(|error| helper_error(mount, error))?;
        for warning in unpacked.warnings {
            warn!(target = %record.target, "{warning}");
        }
        Ok(())
    }

    /// Whether there was anything to do.
    pub(super) async fn commit_mount(
        &self,
        target: &TargetId,
        mount: &MountSite,
    ) -> Result<bool, DriverError> {
        // When all is done already, the container may run again.
        if self.is_staged(target, mount).await? {
            self.ensure_stopped().await?;
            self.ensure_nobody_writes(mount, Before::Exchange).await?;
        }
        self.settle(Task::Exchange, target, mount).await
    }

    pub(super) async fn roll_back_mount(
        &self,
        target: &TargetId,
        mount: &MountSite,
    ) -> Result<(), DriverError> {
        self.settle(Task::Discard, target, mount).await.map(drop)
    }

    /// What is staged lies at the root of the mount, and the container sees it there.
    pub(super) async fn is_staged(
        &self,
        target: &TargetId,
        mount: &MountSite,
    ) -> Result<bool, DriverError> {
        let staging = staging_name(&self.helpers.run, target);
        Ok(mount
            .has_at_root(&self.engine, &self.container, &staging)
            .await?)
    }

    async fn settle(
        &self,
        task: Task,
        target: &TargetId,
        mount: &MountSite,
    ) -> Result<bool, DriverError> {
        let staging = staging_name(&self.helpers.run, target);
        let view = mount.view(Access::Write);
        let settled = self
            .helpers
            .settle(task, view, staging)
            .await
            .map_err(|error| helper_error(mount, error))?;
        for warning in settled.warnings {
            warn!(target = %target, "{warning}");
        }
        Ok(settled.was_staged)
    }

    fn staging_plan(
        &self,
        target: &TargetId,
        mount: &MountSite,
    ) -> Result<StagingPlan, DriverError> {
        let companion = |end: &str| {
            let path = [mount.place.as_bytes(), end.as_bytes()].concat();
            TreePath::parse(&path).map_err(|error| DriverError::failed(error.to_string()))
        };
        Ok(StagingPlan {
            project: self.helpers.project.clone(),
            run: self.helpers.run.clone(),
            target: target.clone(),
            place: mount.place.clone(),
            shape: TreeShape::File,
            mode: TreeRestore::Replace,
            selection: Vec::new(),
            companions: COMPANIONS
                .into_iter()
                .map(companion)
                .collect::<Result<_, _>>()?,
            stays: Stays::default(),
        })
    }
}

/// The stream is stored while the helper is listened to. Its own words come first when something fails.
async fn store(
    mount: &MountSite,
    packing: SqlitePacking<impl Future<Output = Result<SqlitePacked, HelperError>>>,
    sink: &dyn ArtifactSink,
) -> Result<(SqlitePacked, Artifact), DriverError> {
    let stored = sink.store(new_dump(sink.compression()), packing.dump);
    let mut done = std::pin::pin!(packing.done);
    let mut stored = std::pin::pin!(stored);
    tokio::select! {
        packed = &mut done => {
            let packed = packed.map_err(|error| helper_error(mount, error))?;
            Ok((packed, stored.await?))
        }
        stored = &mut stored => match stored {
            Ok(artifact) => {
                let packed = done.await.map_err(|error| helper_error(mount, error))?;
                Ok((packed, artifact))
            }
            // The stream was cut because the helper failed.
            Err(StoreError::Body(error)) => Err(match done.await {
                Err(failure) => helper_error(mount, failure),
                Ok(_) => StoreError::Body(error).into(),
            }),
            Err(error) => Err(error.into()),
        },
    }
}

/// A helper does not know what the container calls the file, and there is no way around it.
pub(super) fn helper_error(mount: &MountSite, error: HelperError) -> DriverError {
    match error {
        HelperError::Engine(error) => error.into(),
        HelperError::Source(error) => StoreError::Body(error).into(),
        HelperError::Failed(failure) => DriverError::failed(format!("{}: {failure}", mount.path)),
        HelperError::Unavailable(why) => DriverError::failed_with_hint(
            format!("{}: no helper container can be used: {why}", mount.path),
            "allow cofferdam to create and start containers",
        ),
        HelperError::NoReport(_) | HelperError::TwinEnded(_) => {
            DriverError::failed(format!("{}: {error}", mount.path))
        }
    }
}
