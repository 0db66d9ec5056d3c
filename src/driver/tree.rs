//! File trees: named volumes, and files and directories wherever a container sees them.
//!
//! ```text
//! on a mount      helper: pack ─▶ sink        source ─▶ helper: unpack beside ─▶ exchange, or discard
//! elsewhere       archive API ─▶ rewrite ─▶ sink        source ─▶ rewrite ─▶ archive API, after an agent's removals
//! ```
//!
//! A tree on a mount goes through a helper container, and is restored beside the present one. A tree in the container's
//! own layer, and every tree where helpers are refused, goes through the engine's archive API, which loses something
//! ([`archive::LOSSES`]) and writes over what is there: its way back is a safety snapshot. It removes nothing either; for
//! `replace` an agent in the container does, where one can run.
//!
//! - `site`: where a target really lies
//! - `dump`, `load`: through helpers
//! - `neighbours`: what containers have mounted in a tree
//! - `archive`, `places`: through the archive API, and where entries go there
//! - `data_directory`: a tree on which a server is tried out
//! - `exact`, `removal`: what `replace` takes away there, and the agent that does it

mod archive;
mod data_directory;
mod dump;
mod exact;
mod load;
mod neighbours;
mod places;
mod removal;
pub(super) mod site;

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tracing::warn;

use self::archive::Wanted;
pub(super) use self::archive::store_archive;
pub(super) use self::data_directory::DataDirectory;
pub(super) use self::load::tree_facts;
use self::site::{MountSite, Site};
use super::loaded::Loaded;
use super::{Captured, Driver, DriverError, FoundTarget, FoundTargets, WayBack};
use crate::agent::helper::{Access, HelperError, HelperView, Helpers};
use crate::agent::inside::OWN_PROGRAM;
use crate::agent::task::Task;
use crate::engine::{Container, Engine, EngineError};
use crate::labels::{TreeOptions, TreeRestore};
use crate::manifest::{Failure, TargetRecord, TreeFacts, TreeShape};
use crate::snapshot::{ArtifactSink, ArtifactSource};
use crate::target::{DriverKind, TargetId};
use crate::tree::TreePath;
use crate::tree::ahead::Opening;
use crate::tree::staging::{new_tree_path, staging_name};

/// One tree of a container.
#[derive(Clone, Debug)]
pub struct TreeTarget {
    pub id: TargetId,
    pub origin: TreeOrigin,
    pub options: TreeOptions,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeOrigin {
    Volume {
        /// The engine's name.
        volume: String,
        /// Where the container sees it.
        destination: String,
    },
    /// Absolute, as the container sees it.
    Path(String),
}

impl TreeOrigin {
    /// As the container sees it.
    pub fn path(&self) -> &str {
        match self {
            Self::Volume { destination, .. } => destination,
            Self::Path(path) => path,
        }
    }

    /// For people.
    fn describe(&self) -> String {
        match self {
            Self::Volume {
                volume,
                destination,
            } => format!("volume {volume} at {destination}"),
            Self::Path(path) => format!("files at {path}"),
        }
    }
}

/// Where a restore puts the new tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Beside the old one, which needs room for both, and can be undone at any moment.
    #[default]
    Beside,
    /// Over the old one, with a safety snapshot as the way back.
    InPlace,
}

/// What becomes of what patterns leave out, when the tree around it is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeftOut {
    /// No snapshot holds it.
    #[default]
    Stays,
    /// It is worth nothing without the rest.
    Goes,
}

/// What the labels do not say.
#[derive(Clone, Debug)]
pub struct TreeRun {
    pub placement: Placement,
    /// How a run that died has loaded what it restored, for whoever recovers it. It says more than `placement`, and than
    /// what can be done now.
    pub ways: BTreeMap<TargetId, WayBack>,
    /// Paths in the tree that are restored, each with all that is below it; empty for the whole tree.
    pub paths: Vec<TreePath>,
    pub moment: Moment,
    pub opening: Opening,
    pub left_out: LeftOut,
    /// Cofferdam's own binary, static, to be put into containers.
    pub program: PathBuf,
}

impl Default for TreeRun {
    fn default() -> Self {
        Self {
            placement: Placement::default(),
            ways: BTreeMap::new(),
            paths: Vec::new(),
            moment: Moment::default(),
            opening: Opening::default(),
            left_out: LeftOut::default(),
            program: PathBuf::from(OWN_PROGRAM),
        }
    }
}

/// A tree that was loaded and waits.
pub struct Staged {
    pub mount: HelperView,
    /// Relative to the mount's root.
    pub path: String,
    /// What it is going to replace, as the container sees it, links resolved.
    pub replaces: String,
}

/// What a driver is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moment {
    #[default]
    Backup,
    Restore,
}

/// The trees of one container, for the length of one run.
pub struct TreeDriver {
    engine: Engine,
    container: Container,
    helpers: Helpers,
    /// Why helpers cannot be used, when they cannot.
    no_helpers: Option<String>,
    run: TreeRun,
    trees: BTreeMap<TargetId, Tree>,
    loaded: Loaded,
}

struct Tree {
    target: TreeTarget,
    is_labelled: bool,
    /// A site that cannot be used fails its own target and no other.
    site: Result<Site, String>,
}

impl TreeDriver {
    /// Looks where the targets lie: those that labels take, and those that are restored although none does. For a restore
    /// it is also tried out whether helpers can work, since the way back depends on it.
    pub async fn prepare(
        helpers: Helpers,
        container: Container,
        labelled: Vec<TreeTarget>,
        unlabelled: Vec<TreeTarget>,
        run: TreeRun,
    ) -> Result<Self, DriverError> {
        let engine = helpers.engine.clone();
        let mut trees = BTreeMap::new();
        let labelled = labelled.into_iter().map(|target| (target, true));
        let unlabelled = unlabelled.into_iter().map(|target| (target, false));
        for (target, is_labelled) in labelled.chain(unlabelled) {
            let site = match site::find(&engine, &container, &target.origin, run.moment).await {
                Ok(site) => Ok(site),
                Err(DriverError::Failed { what, hint }) => Err(match hint {
                    Some(hint) => format!("{what}; {hint}"),
                    None => what,
                }),
                Err(error) => return Err(error),
            };
            let tree = Tree {
                target,
                is_labelled,
                site,
            };
            trees.insert(tree.target.id.clone(), tree);
        }
        let any_mount = trees
            .values()
            .any(|tree| matches!(tree.site, Ok(Site::Mount(_))));
        let no_helpers = match run.moment {
            Moment::Restore if any_mount => helpers.probe().await?,
            Moment::Restore | Moment::Backup => None,
        };
        Ok(Self {
            engine,
            container,
            helpers,
            no_helpers,
            run,
            trees,
            loaded: Loaded::default(),
        })
    }

    fn tree(&self, target: &TargetId) -> Result<&Tree, DriverError> {
        self.trees.get(target).ok_or_else(|| {
            DriverError::failed(format!("{target} is not a target of this container"))
        })
    }

    /// Whether a restore of this target lies beside the present tree until it is committed.
    fn is_staged(&self, target: &TargetId, site: &Site) -> bool {
        match self.run.ways.get(target) {
            Some(way_back) => *way_back == WayBack::Staged,
            None => {
                self.run.placement == Placement::Beside
                    && self.no_helpers.is_none()
                    && site.can_be_staged()
            }
        }
    }

    /// Where the new tree waits until it is committed; an error where it does not wait beside the old one.
    pub(super) fn staged(&self, target: &TargetId) -> Result<Staged, DriverError> {
        match self.staging_mount(target)? {
            Some(mount) => Ok(Staged {
                mount: mount.view(Access::Write),
                path: new_tree_path(&self.helpers.run, target),
                replaces: mount.path.clone(),
            }),
            None => Err(DriverError::failed(format!(
                "{target} is not loaded beside the old data"
            ))),
        }
    }

    /// For people: what a replacement goes around.
    fn what_stays(&self, tree: &Tree, record: &TargetRecord) -> String {
        let mut stays = tree_facts(record)
            .map(|facts| self.left_out(&tree.target, facts))
            .unwrap_or_default();
        if let Ok(site) = &tree.site {
            stays.extend_from_slice(site.hidden());
        }
        match stays.as_slice() {
            [] => String::new(),
            stays => format!(", but for {}, which stays as it is", stays.join(", ")),
        }
    }

    /// The patterns of the snapshot, and those of today: what they leave out, no snapshot holds.
    fn left_out(&self, target: &TreeTarget, facts: &TreeFacts) -> Vec<String> {
        if self.run.left_out == LeftOut::Goes || facts.shape == TreeShape::File {
            return Vec::new();
        }
        let mut patterns = facts.exclude.clone();
        for pattern in &target.options.exclude {
            if !patterns.contains(pattern) {
                patterns.push(pattern.clone());
            }
        }
        patterns
    }

    /// Where a new tree waits until it is committed, when it is on a mount.
    fn staging_mount(&self, target: &TargetId) -> Result<Option<&MountSite>, DriverError> {
        Ok(match self.tree(target)?.site()? {
            site @ Site::Mount(mount) if self.is_staged(target, site) => Some(mount),
            _ => None,
        })
    }

    /// Whether there was anything to settle.
    async fn settle(&self, task: Task, target: &TargetId) -> Result<bool, DriverError> {
        let Some(mount) = self.staging_mount(target)? else {
            return Ok(false);
        };
        let staging = staging_name(&self.helpers.run, target);
        let view = mount.view(Access::Write);
        let settled = self.helpers.settle(task, view, staging).await?;
        for warning in settled.warnings {
            warn!(target = %target, "{warning}");
        }
        Ok(settled.was_staged)
    }
}

impl Tree {
    fn site(&self) -> Result<&Site, DriverError> {
        self.site
            .as_ref()
            .map_err(|why| DriverError::failed(why.clone()))
    }
}

#[async_trait]
impl Driver for TreeDriver {
    fn kinds(&self) -> &'static [DriverKind] {
        &[DriverKind::Volume, DriverKind::Files]
    }

    async fn targets(&self) -> Result<FoundTargets, DriverError> {
        let mut found = FoundTargets::default();
        for (id, tree) in self.trees.iter().filter(|(_, tree)| tree.is_labelled) {
            match &tree.site {
                Ok(_) => found.targets.push(FoundTarget {
                    id: id.clone(),
                    what: tree.target.origin.describe(),
                }),
                Err(reason) => found.missing.push(Failure {
                    target: id.clone(),
                    reason: reason.clone(),
                }),
            }
        }
        Ok(found)
    }

    fn refusal(&self, target: &TargetId) -> Option<&str> {
        let tree = self.trees.get(target)?;
        tree.site.as_ref().err().map(String::as_str)
    }

    fn changed_path(&self, target: &TargetId) -> Option<&str> {
        let tree = self.trees.get(target)?;
        tree.site.as_ref().ok().map(Site::path)
    }

    async fn dump(
        &self,
        target: &TargetId,
        sink: &dyn ArtifactSink,
    ) -> Result<Captured, DriverError> {
        let tree = self.tree(target)?;
        let site = tree.site()?;
        match site {
            Site::Mount(mount) => match self.dump_mount(&tree.target, mount, sink).await {
                Err(DumpError::NoHelpers(why)) => {
                    self.dump_by_archive(&tree.target, site, Some(why), sink)
                        .await
                }
                Err(DumpError::Driver(error)) => Err(error),
                Ok(captured) => Ok(captured),
            },
            Site::Layer(_) => self.dump_by_archive(&tree.target, site, None, sink).await,
        }
    }

    async fn exists(&self, target: &TargetId) -> Result<bool, DriverError> {
        let tree = self.tree(target)?;
        let site = tree.site()?;
        match tree.target.origin {
            TreeOrigin::Volume { .. } => Ok(true),
            TreeOrigin::Path(_) => {
                let found = self.engine.stat(&self.container.id, site.path()).await?;
                Ok(found.is_some())
            }
        }
    }

    fn describe_restore(&self, record: &TargetRecord) -> String {
        let Ok(tree) = self.tree(&record.target) else {
            return format!("unknown tree {}", record.target.name);
        };
        let place = match &tree.target.origin {
            TreeOrigin::Volume { volume, .. } => format!("volume {volume}"),
            TreeOrigin::Path(path) => path.clone(),
        };
        let way = match (&tree.site, &self.no_helpers) {
            (Ok(Site::Mount(_)), Some(why)) => {
                format!(", by the archive API, because no helper container can be used ({why})")
            }
            _ => String::new(),
        };
        if !self.run.paths.is_empty() {
            let paths: Vec<String> = self.run.paths.iter().map(TreePath::encode).collect();
            return format!("restore {} into {place}{way}", paths.join(", "));
        }
        match tree.target.options.restore {
            TreeRestore::Replace => {
                format!("replace {place}{}{way}", self.what_stays(tree, record))
            }
            TreeRestore::Overlay => format!("overlay {place}{way}"),
            TreeRestore::KeepExisting => format!("restore what is missing in {place}{way}"),
        }
    }

    fn way_back(&self, target: &TargetId) -> WayBack {
        match self.tree(target).map(|tree| &tree.site) {
            Ok(Ok(site)) if !self.is_staged(target, site) => WayBack::SafetySnapshot,
            // What cannot be found cannot be loaded either.
            _ => WayBack::Staged,
        }
    }

    async fn load(
        &self,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        let tree = self.tree(&record.target)?;
        let wanted = Wanted {
            paths: &self.run.paths,
            mode: tree.target.options.restore,
            placement: self.run.placement,
        };
        match tree.site()? {
            Site::Mount(mount) if self.no_helpers.is_none() => {
                self.load_mount(&tree.target, mount, wanted, record, source)
                    .await?;
            }
            site => {
                self.load_by_archive(&tree.target, site, wanted, record, source)
                    .await?;
            }
        }
        if self.staging_mount(&record.target)?.is_some() {
            self.loaded.note(&record.target);
        }
        Ok(())
    }

    /// What a load added goes again, whatever was chosen to be restored and however.
    async fn put_back(
        &self,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        let tree = self.tree(&record.target)?;
        // A helper or an agent of a load that was interrupted must not change what is put back now.
        self.helpers.removals.done().await;
        let wanted = Wanted {
            paths: &[],
            mode: TreeRestore::Replace,
            placement: Placement::InPlace,
        };
        match tree.site()? {
            Site::Mount(mount) if self.no_helpers.is_none() => {
                self.load_mount(&tree.target, mount, wanted, record, source)
                    .await
            }
            site => {
                self.load_by_archive(&tree.target, site, wanted, record, source)
                    .await
            }
        }
    }

    /// Loading has compared everything already: digests, the number of entries, and their sizes. What was loaded must still be
    /// there without its helper.
    async fn check(&self, record: &TargetRecord) -> Result<(), DriverError> {
        let Some(mount) = self.staging_mount(&record.target)? else {
            return Ok(());
        };
        let staging = staging_name(&self.helpers.run, &record.target);
        match mount
            .has_at_root(&self.engine, &self.container, &staging)
            .await
        {
            // A swarm may have removed the task's container while it is held: only the exchange sees the mount then.
            Ok(true) | Err(EngineError::NoSuchContainer(_)) => Ok(()),
            Ok(false) => Err(DriverError::LoadedIsGone),
            Err(error) => Err(error.into()),
        }
    }

    async fn commit(&self, target: &TargetId) -> Result<(), DriverError> {
        let was_staged = self.settle(Task::Exchange, target).await?;
        self.loaded.ensure_was_found(target, was_staged)
    }

    async fn rollback(&self, target: &TargetId) -> Result<(), DriverError> {
        let is_over = self.way_back(target) == WayBack::SafetySnapshot;
        if is_over && self.exists(target).await.unwrap_or(true) {
            // Nobody has kept count of what is the restore's in it, and what its container has made since.
            warn!(
                target = %target,
                "{} did not exist before this restore, and what was restored is still there; remove it if you do not need it",
                self.tree(target)?.site()?.path()
            );
        }
        self.settle(Task::Discard, target).await.map(drop)
    }
}

enum DumpError {
    NoHelpers(String),
    Driver(DriverError),
}

impl<E: Into<DriverError>> From<E> for DumpError {
    fn from(error: E) -> Self {
        Self::Driver(error.into())
    }
}

impl From<HelperError> for DriverError {
    fn from(error: HelperError) -> Self {
        match error {
            HelperError::Engine(error) => Self::Engine(error),
            HelperError::Unavailable(why) => Self::failed_with_hint(
                format!("no helper container can be used: {why}"),
                "allow cofferdam to create and start containers, or restore in place (`--in-place`)",
            ),
            other => Self::failed(other.to_string()),
        }
    }
}
