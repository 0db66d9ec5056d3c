//! Trees through the engine's archive API ("docker cp"): for what no helper can reach.
//!
//! The engine shows a container with everything that is mounted in it, and writes through mounts as well. What is mounted
//! below a tree is no part of it: it is neither saved nor written over. Putting a file where a directory is makes the
//! engine remove all that the directory holds, so it is never asked to where that holds something of others.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryFutureExt;
use tracing::warn;

use super::dump::{facts, name_of, new_index, new_layer};
use super::exact::{Entries, Foreign, Unwanted};
use super::load::{Known, open_plain, tree_facts};
use super::places::{Places, Present, Saved, entries_of, foreign, is_behind, mounts_in, saved};
use super::site::Site;
use super::{Placement, TreeDriver, TreeTarget};
use crate::agent::helper::HelperError;
use crate::driver::{Captured, DriverError};
use crate::engine::EngineError;
use crate::engine::archive::PathKind;
use crate::labels::TreeRestore;
use crate::manifest::{Artifact, TargetRecord, Transfer};
use crate::pipe::{ByteStream, Inlet, codec, compress, consume, inlet, transform};
use crate::snapshot::{ArtifactSink, ArtifactSource, StoreError};
use crate::tree::entry::Kind;
use crate::tree::pack::PackReport;
use crate::tree::rewrite::{Rules, rewrite, rewrite_filled};
use crate::tree::unpack::Selection;
use crate::tree::{Excludes, IndexEntry, TreeError, TreePath, room};

/// What the archive API does not carry.
pub const LOSSES: &str = "extended attributes, ACLs, set-uid bits, fractions of seconds and holes in files are not saved";

/// How long the engine may be silent.
const IDLE: Duration = Duration::from_secs(300);
/// How many names a warning holds.
const SHOWN: usize = 10;

/// What a load puts back, and how.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Empty for the whole tree.
    pub paths: &'a [TreePath],
    pub mode: TreeRestore,
    /// Through helpers only.
    pub placement: Placement,
}

impl TreeDriver {
    /// `refused`: why no helper does this, when one ought to.
    pub(super) async fn dump_by_archive(
        &self,
        target: &TreeTarget,
        site: &Site,
        refused: Option<String>,
        sink: &dyn ArtifactSink,
    ) -> Result<Captured, DriverError> {
        let path = site.path();
        let excludes = Excludes::new(&target.options.exclude).map_err(tree_error)?;
        let name = name_of(path)?;
        let mounts = mounts_in(site, &name)?;
        let archive = self
            .engine
            .archive_get(&self.container.id, path, IDLE)
            .await?;
        let rules = Rules::renaming(move |path: &TreePath, kind: &Kind| {
            if is_behind(&mounts, path, kind) {
                return None;
            }
            without_first(path, kind, &name)
                .filter(|path| !excludes.covers(path, kind.is_directory()))
        });
        let (report, artifacts) = store_archive(archive, sink, rules).await?;
        let mut warnings = report.warnings.clone();
        warnings.extend(self.hidden_warnings(site.hidden()));
        let why = match refused {
            Some(why) => format!("no helper container can be used ({why})"),
            None => format!("{path} is in the container's own layer"),
        };
        warnings.push(format!("saved by the archive API, because {why}: {LOSSES}"));
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
        site: &Site,
        wanted: Wanted<'_>,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        let facts = tree_facts(record)?;
        ensure_single_layer(record)?;
        let (directory, _) = site.path().rsplit_once('/').unwrap_or_default();
        let directory = if directory.is_empty() { "/" } else { directory };
        let known = Known::read(record, wanted.paths, source).await?;
        let selection = Selection {
            paths: wanted.paths.to_vec(),
            aliases: known.aliases,
        };
        let foreign = foreign(site, target, facts)?;
        let saved = saved(record, facts, &selection, &foreign.name, source).await?;
        self.ensure_reached(site, wanted.paths).await?;
        let present = self.present(site, wanted, &foreign).await?;
        self.ensure_room(target, record, &saved, present.bytes)
            .await?;
        let mut places = Places {
            mode: wanted.mode,
            shape: facts.shape,
            selection,
            foreign,
            present: present.entries,
            unwanted: Unwanted::default(),
        };
        if wanted.mode == TreeRestore::Replace {
            places.unwanted =
                Unwanted::of(&places.present, &saved.entries, &places.foreign, |path| {
                    places.is_chosen(path)
                });
            places.ensure_nothing_in_the_way()?;
        }
        let places = Arc::new(places);
        // All that could fail on the way is tried out before anything is touched.
        let mut layers = Vec::new();
        for (layer, _) in record.layers() {
            let mut trial = rewritten(open_plain(source, layer).await?, &places);
            tokio::io::copy(&mut trial, &mut tokio::io::sink())
                .await
                .map_err(StoreError::Body)?;
            layers.push(layer);
        }
        if wanted.mode == TreeRestore::Replace {
            self.take_away(target, site, directory, &places.unwanted, &saved.entries)
                .await?;
        }
        tell_left_out(target, directory, &places, &saved.entries);
        for layer in layers {
            let renamed = rewritten(open_plain(source, layer).await?, &places);
            self.engine
                .archive_put(&self.container.id, directory, renamed)
                .await?;
        }
        Ok(())
    }

    /// The engine would follow a link on the way to a path that was chosen.
    async fn ensure_reached(&self, site: &Site, paths: &[TreePath]) -> Result<(), DriverError> {
        for path in paths {
            let mut above = path.split_last().map(|(parent, _)| parent);
            while let Some(directory) = above {
                let full = format!(
                    "{}/{}",
                    site.path(),
                    String::from_utf8_lossy(directory.as_bytes())
                );
                let found = self.engine.stat(&self.container.id, &full).await?;
                if found.is_some_and(|found| found.kind != PathKind::Directory) {
                    return Err(tree_error(TreeError::InTheWay(format!(
                        "{full} is not a directory now: move it elsewhere, and restore again"
                    ))));
                }
                above = directory.split_last().map(|(parent, _)| parent);
            }
        }
        Ok(())
    }

    /// The engine itself asks nobody before it fills the disk of its host.
    async fn ensure_room(
        &self,
        target: &TreeTarget,
        record: &TargetRecord,
        saved: &Saved,
        present: u64,
    ) -> Result<(), DriverError> {
        let free = match self.helpers.layer_room().await {
            Ok(free) => free,
            Err(HelperError::Unavailable(why)) => {
                let stored: u64 = record.layers().map(|(layer, _)| layer.plain.bytes).sum();
                if saved.bytes > stored {
                    return Err(DriverError::failed_with_hint(
                        format!(
                            "the engine would fill the holes of sparse files, {} bytes in all, and Cofferdam cannot tell whether there is room for that: {why}",
                            saved.bytes
                        ),
                        "allow cofferdam to create helper containers",
                    ));
                }
                warn!(target = %target.id, "cannot tell how much room there is: {why}");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let freed = free.saturating_add(present);
        room::ensure_enough(saved.bytes, freed, "make room on the engine's host")
            .map_err(tree_error)
    }

    /// Before the saved entries come, so that they find room and their directories keep the saved times.
    async fn take_away(
        &self,
        target: &TreeTarget,
        site: &Site,
        directory: &str,
        unwanted: &Unwanted,
        saved: &Entries,
    ) -> Result<(), DriverError> {
        if unwanted.paths.is_empty() {
            return Ok(());
        }
        let removed = self
            .remove(&target.id, site, directory, &unwanted.paths)
            .await?;
        let extras = unwanted.extras(saved).count();
        if let Err(why) = removed
            && extras > 0
        {
            warn!(
                target = %target.id,
                "extras that were not saved stay below {directory} ({extras} in all): {}; the archive API cannot remove \
                 anything, and {why}",
                some_of(unwanted.extras(saved).map(TreePath::encode))
            );
        }
        Ok(())
    }

    /// What is there now. Reads all of it: the archive API has no list. To lay over it, nobody needs to know, unless
    /// something of it is left out.
    async fn present(
        &self,
        site: &Site,
        wanted: Wanted<'_>,
        foreign: &Foreign,
    ) -> Result<Present, DriverError> {
        if wanted.mode == TreeRestore::Overlay && foreign.leaves_nothing_out() {
            return Ok(Present::default());
        }
        let archive = self
            .engine
            .archive_get(&self.container.id, site.path(), IDLE);
        match archive.await {
            Err(EngineError::NoSuchPath { .. }) => Ok(Present::default()),
            archive => entries_of(archive?).await,
        }
    }
}

/// A layer as the engine is to unpack it. It gets no holes to fill: it would go on when nobody waits for it any more.
fn rewritten(plain: ByteStream, places: &Arc<Places>) -> ByteStream {
    let places = Arc::clone(places);
    transform(plain, move |input, output| {
        let rules = Rules::renaming(|path: &TreePath, kind: &Kind| places.place(path, kind));
        rewrite_filled(input, output, &rules)
            .map(drop)
            .map_err(io::Error::other)
    })
}

fn tell_left_out(target: &TreeTarget, directory: &str, places: &Places, saved: &Entries) {
    let left_out = || places.left_out(saved);
    if left_out().next().is_some() {
        warn!(
            target = %target.id,
            "not restored below {directory} ({} in all), because something else is mounted there, a pattern leaves it out, \
             or something would have to be removed first: {}",
            left_out().count(),
            some_of(left_out().map(TreePath::encode))
        );
    }
}

/// Stores somebody else's archive of a tree as a layer of ours with its index.
pub(in crate::driver) async fn store_archive(
    archive: ByteStream,
    sink: &dyn ArtifactSink,
    rules: Rules<impl Fn(&TreePath, &Kind) -> Option<TreePath> + Send + 'static>,
) -> Result<(PackReport, Vec<Artifact>), DriverError> {
    let (layer_inlet, layer) = inlet("the archive");
    let (index_inlet, index) = inlet("the archive");
    let rewriting = consume(archive, move |archive| {
        rewrite_into(archive, &rules, layer_inlet, index_inlet)
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
    let report = rewritten?.map_err(|error| match error {
        TreeError::Stream(error) => StoreError::Body(error).into(),
        other => tree_error(other),
    })?;
    let mut artifacts = vec![layer?, index?];
    for (artifact, plain) in artifacts.iter_mut().zip([layer_plain, index_plain]) {
        artifact.plain = plain
            .get()
            .ok_or_else(|| DriverError::failed("the archive was stored before it had ended"))?;
    }
    Ok((report, artifacts))
}

fn some_of(all: impl Iterator<Item = String>) -> String {
    let mut all = all.peekable();
    let mut shown: Vec<String> = all.by_ref().take(SHOWN).collect();
    if all.peek().is_some() {
        shown.push("…".to_owned());
    }
    shown.join(", ")
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

fn rewrite_into<R: Fn(&TreePath, &Kind) -> Option<TreePath>>(
    archive: impl io::Read,
    rules: &Rules<R>,
    layer: Inlet,
    index: Inlet,
) -> Result<PackReport, TreeError> {
    let mut layer = BufWriter::with_capacity(codec::CHUNK, layer);
    let mut index = BufWriter::with_capacity(codec::CHUNK, index);
    let report = rewrite(archive, &mut layer, rules, &mut |entry: &IndexEntry| {
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

pub(super) fn tree_error(error: TreeError) -> DriverError {
    DriverError::failed(error.to_string())
}
