//! Trees through the engine's archive API ("docker cp"): for what no helper can reach.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::time::Duration;

use futures_util::TryFutureExt;
use tracing::warn;

use super::dump::{facts, name_of, new_index, new_layer};
use super::load::{Known, open_plain, tree_facts, verify_all};
use super::{TreeDriver, TreeTarget};
use crate::driver::{ArtifactSink, ArtifactSource, Captured, DriverError, StoreError};
use crate::engine::EngineError;
use crate::labels::TreeRestore;
use crate::manifest::{TargetRecord, Transfer, TreeShape};
use crate::pipe::{Inlet, codec, compress, consume, inlet, transform};
use crate::tree::entry::Kind;
use crate::tree::pack::PackReport;
use crate::tree::rewrite::{list, rewrite};
use crate::tree::unpack::Selection;
use crate::tree::{Excludes, IndexEntry, TreeError, TreePath};

/// What the archive API does not carry.
pub const LOSSES: &str = "extended attributes, ACLs, set-uid bits, fractions of seconds and holes in files are not saved";

/// How long the engine may be silent.
const IDLE: Duration = Duration::from_secs(300);
/// How many names a warning holds.
const SHOWN: usize = 10;

impl TreeDriver {
    /// `refused`: why no helper does this, when one ought to.
    pub(super) async fn dump_by_archive(
        &self,
        target: &TreeTarget,
        path: &str,
        refused: Option<String>,
        sink: &dyn ArtifactSink,
    ) -> Result<Captured, DriverError> {
        let excludes = Excludes::new(&target.options.exclude).map_err(tree_error)?;
        let name = name_of(path)?;
        let archive = self
            .engine
            .archive_get(&self.container.id, path, IDLE)
            .await?;
        let (layer_inlet, layer) = inlet("the archive API");
        let (index_inlet, index) = inlet("the archive API");
        let rewriting = consume(archive, move |archive| {
            let rename = |path: &TreePath, kind: &Kind| {
                without_first(path, kind, &name)
                    .filter(|path| !excludes.covers(path, kind.is_directory()))
            };
            rewrite_into(archive, &rename, layer_inlet, index_inlet)
        })
        .map_err(StoreError::Body);
        let (layer, layer_plain) = compress(layer, sink.compression());
        let (index, index_plain) = compress(index, sink.compression());
        let (rewritten, layer, index) = tokio::join!(
            rewriting,
            sink.store(new_layer(sink), layer),
            sink.store(new_index(sink), index),
        );
        // What the repository refused comes first: the rewriting only saw that nobody reads any more.
        let (layer, index) = match (layer, index) {
            (Err(refused @ StoreError::Repository(_)), _)
            | (_, Err(refused @ StoreError::Repository(_))) => return Err(refused.into()),
            stored => stored,
        };
        // When the rewriting failed, the streams were cut for no other reason.
        let report = rewritten?.map_err(tree_error)?;
        let mut artifacts = vec![layer?, index?];
        for (artifact, plain) in artifacts.iter_mut().zip([layer_plain, index_plain]) {
            artifact.plain = plain
                .get()
                .ok_or_else(|| DriverError::failed("the archive was stored before it had ended"))?;
        }
        let mut warnings = report.warnings.clone();
        if let Some(why) = refused {
            warnings.push(format!(
                "saved by the archive API, since no helper container can be used ({why}): {LOSSES}"
            ));
        }
        Ok(Captured {
            transfer: Transfer::Archive,
            facts: facts(target, path, None, &report),
            artifacts,
            warnings,
        })
    }

    pub(super) async fn load_by_archive(
        &self,
        target: &TreeTarget,
        path: &str,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        let facts = tree_facts(record)?;
        ensure_single_layer(record)?;
        verify_all(record, source).await?;
        let (directory, _) = path.rsplit_once('/').unwrap_or_default();
        let directory = if directory.is_empty() { "/" } else { directory };
        let name = name_of(path)?;
        let mode = target.options.restore;
        let present = match mode {
            TreeRestore::Overlay => BTreeSet::new(),
            TreeRestore::Replace | TreeRestore::KeepExisting => self.present(path, &name).await?,
        };
        let known = Known::read(record, &self.run.paths, source).await?;
        let selection = Selection {
            paths: self.run.paths.clone(),
            aliases: known.aliases,
        };
        for (layer, _) in record.layers() {
            let plain = open_plain(source, layer).await?;
            let (keep, shape, name) = (present.clone(), facts.shape, name.clone());
            let selection = selection.clone();
            let renamed = transform(plain, move |input, output| {
                let rename = |path: &TreePath, _: &Kind| {
                    let path = selection.aliases.get(path).unwrap_or(path);
                    let is_kept = mode == TreeRestore::KeepExisting && keep.contains(path);
                    (selection.contains(path) && !is_kept).then(|| match shape {
                        TreeShape::Directory => name.join_path(path),
                        TreeShape::File => name.clone(),
                    })
                };
                rewrite(input, output, &rename, &mut |_| Ok(()))
                    .map(drop)
                    .map_err(io::Error::other)
            });
            self.engine
                .archive_put(&self.container.id, directory, renamed)
                .await?;
        }
        if mode == TreeRestore::Replace && self.run.paths.is_empty() {
            self.tell_extras(target, path, record, present, source)
                .await?;
        }
        Ok(())
    }

    /// The paths of the present tree. Reads all of it: the archive API has no list.
    async fn present(
        &self,
        path: &str,
        name: &TreePath,
    ) -> Result<BTreeSet<TreePath>, DriverError> {
        let archive = match self
            .engine
            .archive_get(&self.container.id, path, IDLE)
            .await
        {
            Err(EngineError::NoSuchPath { .. }) => return Ok(BTreeSet::new()),
            other => other?,
        };
        let name = name.clone();
        let listed = consume(archive, move |archive| {
            let mut paths = BTreeSet::new();
            list(archive, &mut |entry| {
                paths.extend(without_first(&entry.path, &entry.kind, &name));
            })
            .map(|()| paths)
        });
        listed.await.map_err(StoreError::Body)?.map_err(tree_error)
    }

    /// The archive API removes nothing: what is extra stays, and is told.
    async fn tell_extras(
        &self,
        target: &TreeTarget,
        path: &str,
        record: &TargetRecord,
        mut present: BTreeSet<TreePath>,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        for (layer, _) in record.layers() {
            let plain = open_plain(source, layer).await?;
            let saved = consume(plain, |archive| {
                let mut paths = BTreeSet::new();
                list(archive, &mut |entry| {
                    paths.insert(entry.path.clone());
                })
                .map(|()| paths)
            });
            let saved = saved.await.map_err(StoreError::Body)?.map_err(tree_error)?;
            present.retain(|path| !saved.contains(path));
        }
        if !present.is_empty() {
            let shown: Vec<String> = present.iter().take(SHOWN).map(TreePath::encode).collect();
            warn!(
                target = %target.id,
                "{path} lies in the container's own layer, where the archive API can remove nothing: {} entries that were not saved stay: {}{}",
                present.len(),
                shown.join(", "),
                if present.len() > SHOWN { ", …" } else { "" },
            );
        }
        Ok(())
    }
}

/// The archive API names entries below the last component of the path; a tree names them from its root. A single file
/// keeps its name.
fn without_first(path: &TreePath, kind: &Kind, name: &TreePath) -> Option<TreePath> {
    let first = path.components().next()?;
    let first = TreePath::root().join(first);
    let rest = path.below(&first)?;
    if rest.is_root() && !kind.is_directory() {
        return Some(name.clone());
    }
    Some(rest)
}

fn rewrite_into(
    archive: impl io::Read,
    rename: &dyn Fn(&TreePath, &Kind) -> Option<TreePath>,
    layer: Inlet,
    index: Inlet,
) -> Result<PackReport, TreeError> {
    let mut layer = BufWriter::with_capacity(codec::CHUNK, layer);
    let mut index = BufWriter::with_capacity(codec::CHUNK, index);
    let report = rewrite(archive, &mut layer, rename, &mut |entry: &IndexEntry| {
        index.write_all(&entry.to_line())
    })?;
    for output in [layer, index] {
        let inlet = output
            .into_inner()
            .map_err(|error| TreeError::Stream(error.into_error()))?;
        let bytes = inlet.bytes();
        inlet.end_blocking(bytes);
    }
    Ok(report)
}

fn ensure_single_layer(record: &TargetRecord) -> Result<(), DriverError> {
    if record.layers().count() == 1 {
        return Ok(());
    }
    Err(DriverError::failed_with_hint(
        format!(
            "{} was saved in several layers, which the archive API cannot put together",
            record.target
        ),
        "allow cofferdam to create helper containers",
    ))
}

fn tree_error(error: TreeError) -> DriverError {
    DriverError::failed(error.to_string())
}
