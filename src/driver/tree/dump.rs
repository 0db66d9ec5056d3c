//! A tree out of a mount, through a helper.

use super::site::MountSite;
use super::{DumpError, TreeDriver, TreeTarget};
use crate::agent::helper::{Access, HelperError, Packing};
use crate::agent::task::{PackTask, Packed};
use crate::driver::{Captured, DriverError};
use crate::manifest::{Artifact, Facts, Role, Transfer, TreeFacts};
use crate::snapshot::{ArtifactSink, NewArtifact, StoreError};
use crate::target::DriverKind;
use crate::tree::TreePath;
use crate::tree::pack::PackReport;

impl TreeDriver {
    pub(super) async fn dump_mount(
        &self,
        target: &TreeTarget,
        mount: &MountSite,
        sink: &dyn ArtifactSink,
    ) -> Result<Captured, DumpError> {
        let task = PackTask {
            place: mount.place.clone(),
            name: name_of(&mount.path)?,
            exclude: target.options.exclude.clone(),
            compression: sink.compression(),
            opening: self.run.opening,
        };
        let packing = match self.helpers.pack(mount.view(Access::Read), &task).await {
            Err(HelperError::Unavailable(why)) => return Err(DumpError::NoHelpers(why)),
            other => other?,
        };
        let (packed, layer, index) = store(packing, sink).await?;
        let mut warnings = packed.tree.warnings.clone();
        warnings.extend(self.hidden_warnings(&mount.hidden));
        Ok(Captured {
            transfer: Transfer::Helper,
            facts: facts(target, &mount.path, mount.volume.clone(), &packed.tree),
            artifacts: vec![
                Artifact {
                    plain: packed.layer.plain,
                    ..layer
                },
                Artifact {
                    plain: packed.index.plain,
                    ..index
                },
            ],
            warnings,
        })
    }

    /// Not of what labels save too.
    pub(super) fn hidden_warnings(&self, hidden: &[String]) -> Vec<String> {
        let labelled = || self.trees.values().filter(|tree| tree.is_labelled);
        let is_saved = |path: &str| labelled().any(|tree| tree.target.origin.path() == path);
        let unsaved = hidden.iter().filter(|path| !is_saved(path));
        let told = unsaved.map(|path| {
            format!("{path}: something else is mounted there, which is not part of this target")
        });
        told.collect()
    }
}

/// Both streams are stored while the helper is listened to. Its own words come first when something fails.
async fn store(
    packing: Packing<impl Future<Output = Result<Packed, HelperError>>>,
    sink: &dyn ArtifactSink,
) -> Result<(Packed, Artifact, Artifact), DriverError> {
    let layer = sink.store(new_layer(sink), packing.layer);
    let index = sink.store(new_index(sink), packing.index);
    let stored = async { tokio::try_join!(layer, index) };
    let mut done = std::pin::pin!(packing.done);
    let mut stored = std::pin::pin!(stored);
    tokio::select! {
        packed = &mut done => {
            let packed = packed?;
            let (layer, index) = stored.await?;
            Ok((packed, layer, index))
        }
        stored = &mut stored => match stored {
            Ok((layer, index)) => Ok((done.await?, layer, index)),
            // The stream was cut because the helper failed.
            Err(StoreError::Body(error)) => Err(match done.await {
                Err(failure) => failure.into(),
                Ok(_) => StoreError::Body(error).into(),
            }),
            Err(error) => Err(error.into()),
        },
    }
}

pub(super) fn new_layer(sink: &dyn ArtifactSink) -> NewArtifact {
    NewArtifact {
        role: Role::Layer,
        extension: "tar",
        compression: sink.compression(),
    }
}

pub(super) fn new_index(sink: &dyn ArtifactSink) -> NewArtifact {
    NewArtifact {
        role: Role::Index,
        extension: "index.jsonl",
        compression: sink.compression(),
    }
}

/// The last component, under which a single file is archived.
pub(super) fn name_of(path: &str) -> Result<TreePath, DriverError> {
    let name = path.rsplit('/').next().unwrap_or_default();
    TreePath::parse(name.as_bytes()).map_err(|error| DriverError::failed(error.to_string()))
}

pub(super) fn facts(
    target: &TreeTarget,
    path: &str,
    volume: Option<String>,
    report: &PackReport,
) -> Facts {
    let facts = TreeFacts {
        path: path.to_owned(),
        volume,
        shape: report.shape,
        entries: report.entries,
        content_bytes: report.content_bytes,
        exclude: target.options.exclude.clone(),
    };
    match target.id.driver {
        DriverKind::Volume => Facts::Volume(facts),
        _ => Facts::Files(facts),
    }
}
