//! A tree back onto a mount, through a helper.

use std::collections::BTreeMap;

use futures_util::FutureExt;
use tokio::io::BufReader;

use super::archive::Wanted;
use super::dump::name_of;
use super::site::{MountRoot, MountSite, Site};
use super::{Placement, TreeDriver, TreeTarget, neighbours};
use crate::agent::helper::{Access, HelperError, LayerInput};
use crate::agent::task::{Destination, ExpectedLayer, InPlaceMode};
use crate::driver::DriverError;
use crate::labels::TreeRestore;
use crate::manifest::{Artifact, ElasticsearchFacts, Facts, TargetRecord, TreeFacts, TreeShape};
use crate::pipe::{ByteStream, decompress, verified};
use crate::snapshot::{ArtifactSource, StoreError};
use crate::tree::staging::StagingPlan;
use crate::tree::stays::Stays;
use crate::tree::unpack::{Selection, UnpackReport};
use crate::tree::{IndexKind, IndexReader, TreePath};

impl TreeDriver {
    pub(super) async fn load_mount(
        &self,
        target: &TreeTarget,
        mount: &MountSite,
        wanted: Wanted<'_>,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        let facts = tree_facts(record)?;
        ensure_same_shape(mount, facts)?;
        let stays = self.stays(target, mount, facts).await?;
        let destination = self.destination(target, mount, wanted, facts, stays)?;
        if !matches!(destination, Destination::Staged(_)) {
            verify_all(record, source).await?;
        }
        let known = Known::read(record, wanted.paths, source).await?;
        let layers = inputs(record, &known, source);
        let selection = Selection {
            paths: wanted.paths.to_vec(),
            aliases: known.aliases,
        };
        let view = mount.view(Access::Write);
        let unpacked = self
            .helpers
            .unpack(view, destination, selection, layers)
            .await
            .map_err(source_words)?;
        for warning in &unpacked.tree.warnings {
            tracing::warn!(target = %target.id, "{warning}");
        }
        ensure_complete(record, facts, &unpacked.tree)
    }

    async fn stays(
        &self,
        target: &TreeTarget,
        mount: &MountSite,
        facts: &TreeFacts,
    ) -> Result<Stays, DriverError> {
        if facts.shape == TreeShape::File {
            return Ok(Stays::default());
        }
        let seen = neighbours::seen(&self.engine, &self.container, mount).await?;
        Ok(Stays {
            patterns: self.left_out(target, facts),
            mounts: seen.mounts,
            anchors: seen.anchors,
        })
    }

    fn destination(
        &self,
        target: &TreeTarget,
        mount: &MountSite,
        wanted: Wanted<'_>,
        facts: &TreeFacts,
        stays: Stays,
    ) -> Result<Destination, DriverError> {
        let mode = wanted.mode;
        if mount.root == MountRoot::File {
            return Ok(Destination::Overwrite);
        }
        if wanted.placement == Placement::Beside
            && self.is_staged(&target.id, &Site::Mount(mount.clone()))
        {
            return Ok(Destination::Staged(StagingPlan {
                project: self.helpers.project.clone(),
                run: self.helpers.run.clone(),
                target: target.id.clone(),
                place: mount.place.clone(),
                shape: facts.shape,
                mode,
                selection: wanted.paths.to_vec(),
                companions: Vec::new(),
                stays,
            }));
        }
        if facts.shape == TreeShape::Directory {
            return Ok(Destination::InPlace {
                place: mount.place.clone(),
                mode: mode.into(),
                stays,
                touched: wanted.paths.to_vec(),
            });
        }
        // A single file goes into the directory around it, of which nothing else may be touched.
        let (parent, _) = mount.place.split_last().unwrap_or_default();
        let name = name_of(&mount.path)?;
        if name != name_of(&facts.path)? {
            return Err(DriverError::failed_with_hint(
                format!("{} was saved as {}", mount.path, facts.path),
                "a file can get another name only when it is restored beside the present one",
            ));
        }
        Ok(Destination::InPlace {
            place: parent,
            mode: match mode {
                TreeRestore::Replace | TreeRestore::Overlay => InPlaceMode::Overlay,
                TreeRestore::KeepExisting => InPlaceMode::KeepExisting,
            },
            stays,
            touched: vec![name],
        })
    }
}

pub(in crate::driver) fn tree_facts(record: &TargetRecord) -> Result<&TreeFacts, DriverError> {
    match &record.facts {
        Facts::Volume(facts) | Facts::Files(facts) => Ok(facts),
        Facts::Basebackup(facts) => Ok(&facts.tree),
        Facts::Couchdb(facts) => Ok(&facts.tree),
        Facts::Elasticsearch(ElasticsearchFacts {
            tree: Some(tree), ..
        }) => Ok(tree),
        _ => Err(DriverError::failed(format!(
            "{} is recorded as something else than files",
            record.target
        ))),
    }
}

fn ensure_same_shape(mount: &MountSite, facts: &TreeFacts) -> Result<(), DriverError> {
    let fits = match mount.root {
        MountRoot::File => facts.shape == TreeShape::File,
        MountRoot::Directory => facts.shape == TreeShape::Directory || !mount.place.is_root(),
    };
    if fits {
        return Ok(());
    }
    Err(DriverError::failed_with_hint(
        format!("{} is not mounted as it was when it was saved", mount.path),
        "one is a file and the other a directory: mount it as it was when it was saved",
    ))
}

/// Reads every layer to its end, for modes that have no way back but a safety snapshot.
async fn verify_all(record: &TargetRecord, source: &dyn ArtifactSource) -> Result<(), DriverError> {
    for (layer, _) in record.layers() {
        let mut plain = open_plain(source, layer).await?;
        tokio::io::copy(&mut plain, &mut tokio::io::sink())
            .await
            .map_err(StoreError::Body)?;
    }
    Ok(())
}

pub(super) async fn open_plain(
    source: &dyn ArtifactSource,
    artifact: &Artifact,
) -> Result<ByteStream, DriverError> {
    let stored = source.open(artifact).await?;
    let what = format!("the content of {}", artifact.object);
    Ok(verified(
        decompress(stored, artifact.compression),
        artifact.plain.clone(),
        what,
    ))
}

/// What the indexes of a snapshot say that the layers themselves do not, or not in time.
#[derive(Default)]
pub(super) struct Known {
    /// What each layer takes away from those before it.
    deletions: Vec<Vec<TreePath>>,
    /// For wanted names of files whose content stands under a name that is not wanted.
    pub aliases: BTreeMap<TreePath, TreePath>,
}

impl Known {
    pub async fn read(
        record: &TargetRecord,
        wanted: &[TreePath],
        source: &dyn ArtifactSource,
    ) -> Result<Self, DriverError> {
        let selection = Selection {
            paths: wanted.to_vec(),
            ..Selection::default()
        };
        let mut known = Self::default();
        for (number, (_, index)) in record.layers().enumerate() {
            let mut deleted = Vec::new();
            let is_needed = number > 0 || !selection.is_everything();
            if let Some(index) = index.filter(|_| is_needed) {
                let mut reader = IndexReader::new(BufReader::new(open_plain(source, index).await?));
                while let Some(entry) = reader.next_entry().await.map_err(damaged_index)? {
                    match entry.kind {
                        IndexKind::Deleted => deleted.push(entry.path),
                        IndexKind::HardLink if selection.contains(&entry.path) => {
                            let to = entry.target.as_deref().map(TreePath::decode);
                            if let Some(Ok(to)) = to
                                && !selection.contains(&to)
                            {
                                known.aliases.entry(to).or_insert(entry.path);
                            }
                        }
                        _ => {}
                    }
                }
            }
            known.deletions.push(deleted);
        }
        Ok(known)
    }
}

fn damaged_index(error: crate::tree::index::IndexError) -> DriverError {
    DriverError::failed(error.to_string())
}

fn inputs<'a>(
    record: &'a TargetRecord,
    known: &Known,
    source: &'a dyn ArtifactSource,
) -> Vec<LayerInput<'a>> {
    record
        .layers()
        .zip(&known.deletions)
        .map(|((layer, _), deletions)| LayerInput {
            expected: ExpectedLayer {
                compression: layer.compression,
                plain: layer.plain.clone(),
                deletions: deletions.len() as u64,
            },
            deletions: deletions.clone(),
            stored: async move { source.open(layer).await.map_err(std::io::Error::other) }.boxed(),
        })
        .collect()
}

/// A repository that fails is not the helper's fault.
fn source_words(error: HelperError) -> DriverError {
    match error {
        HelperError::Source(error) => StoreError::Body(error).into(),
        other => other.into(),
    }
}

/// The whole of a single layer is what was counted when it was saved; of several, nobody has counted the sum.
pub(super) fn ensure_complete(
    record: &TargetRecord,
    facts: &TreeFacts,
    report: &UnpackReport,
) -> Result<(), DriverError> {
    let is_single = record.layers().count() == 1;
    if is_single && (report.entries, report.content_bytes) != (facts.entries, facts.content_bytes) {
        return Err(DriverError::failed(format!(
            "{} entries with {} bytes were restored, but {} with {} were saved",
            report.entries, report.content_bytes, facts.entries, facts.content_bytes
        )));
    }
    Ok(())
}
