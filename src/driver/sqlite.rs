//! SQLite databases: saved while programs write to them, and put back beside the present file.
//!
//! ```text
//! on a mount      helper: lock, copy, unlock ─▶ check ─▶ sink      source ─▶ helper: stage, check ─▶ exchange, or discard
//! elsewhere       agent inside: the same ─▶ archive API ─▶ sink    source ─▶ archive API: stage ─▶ link, or empty
//! ```
//!
//! Nothing is frozen or stopped to save a database: SQLite's own locks do ([`crate::sqlite`]). To put one back, whatever
//! uses it must not run while new and old change places: it would go on writing into a file that has no name any more.
//! Plans see to that by [`Driver::closed_path`] and [`Driver::writers`]; [`Driver::check`] and [`Driver::commit`] look again.
//!
//! - `mount`: through helpers
//! - `layer`: in a container's own file system
//! - `writers`: who could write to one on a mount

mod layer;
mod mount;
mod writers;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tracing::info;

use self::mount::helper_error;
use self::writers::Before;
use super::loaded::Loaded;
use super::tree::site::{self, LayerSite, MountRoot, MountSite, Site};
use super::tree::{Moment, TreeOrigin};
use super::{Captured, Driver, DriverError, FoundTarget, FoundTargets, WayBack, Writers};
use crate::agent::helper::{HelperError, Helpers};
use crate::agent::sqlite::FoundDatabase;
use crate::engine::archive::PathKind;
use crate::engine::{Container, Engine};
use crate::manifest::{
    Artifact, Compression, Facts, Failure, Role, SqliteFacts, TargetRecord, Transfer,
};
use crate::snapshot::{ArtifactSink, ArtifactSource, NewArtifact};
use crate::target::{DriverKind, TargetId};

/// How long a copy waits for a lock that another program holds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// One database file of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseFile {
    pub id: TargetId,
    /// Absolute, as the container sees it.
    pub path: String,
}

/// What the labels do not say.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    pub moment: Moment,
    /// Cofferdam's own binary, static, to be put into containers.
    pub program: PathBuf,
    pub patience: Duration,
}

impl SqliteOptions {
    pub fn new(moment: Moment, program: PathBuf) -> Self {
        Self {
            moment,
            program,
            patience: LOCK_TIMEOUT,
        }
    }
}

/// The targets of the files that a label names: each has its file's name, or its whole path where two share a name.
pub fn database_files(service: &str, paths: &[String]) -> Vec<DatabaseFile> {
    let name_of = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    paths
        .iter()
        .map(|path| {
            let name = name_of(path);
            let is_only = paths.iter().filter(|other| name_of(other) == name).count() == 1;
            DatabaseFile {
                id: TargetId::new(
                    service,
                    DriverKind::Sqlite,
                    if is_only { &name } else { path },
                ),
                path: path.clone(),
            }
        })
        .collect()
}

/// The databases of one container, for the length of one run.
pub struct SqliteDriver {
    engine: Engine,
    container: Container,
    helpers: Helpers,
    options: SqliteOptions,
    databases: BTreeMap<TargetId, Database>,
    loaded: Loaded,
}

struct Database {
    file: DatabaseFile,
    is_labelled: bool,
    /// A file that cannot be used fails its own target and no other.
    place: Result<DatabasePlace, String>,
}

#[derive(Clone, Debug)]
enum DatabasePlace {
    Mount(MountSite),
    Layer(LayerSite),
}

impl DatabasePlace {
    fn path(&self) -> &str {
        match self {
            Self::Mount(mount) => &mount.path,
            Self::Layer(layer) => &layer.path,
        }
    }

    fn facts(&self, found: FoundDatabase) -> Facts {
        Facts::Sqlite(SqliteFacts {
            path: self.path().to_owned(),
            volume: match self {
                Self::Mount(mount) => mount.volume.clone(),
                Self::Layer(_) => None,
            },
            owner: found.owner,
            held_up_milliseconds: found.held_up_milliseconds,
            content: found.content,
        })
    }
}

impl SqliteDriver {
    /// Looks where the files lie: those that labels name, and those that are restored although none does.
    pub async fn prepare(
        helpers: Helpers,
        container: Container,
        labelled: Vec<DatabaseFile>,
        unlabelled: Vec<DatabaseFile>,
        options: SqliteOptions,
    ) -> Result<Self, DriverError> {
        let engine = helpers.engine.clone();
        let mut databases = BTreeMap::new();
        let mut no_helpers = None;
        let labelled = labelled.into_iter().map(|file| (file, true));
        let unlabelled = unlabelled.into_iter().map(|file| (file, false));
        for (file, is_labelled) in labelled.chain(unlabelled) {
            let found = find(&engine, &container, &file.path, options.moment).await;
            if matches!(&found, Ok(DatabasePlace::Mount(_))) && options.moment == Moment::Restore {
                no_helpers = helpers.probe().await?;
            }
            let place = match found {
                Ok(DatabasePlace::Mount(mount)) if no_helpers.is_some() => {
                    let why = no_helpers.clone().unwrap_or_default();
                    Err(helper_error(&mount, HelperError::Unavailable(why)).to_string())
                }
                Ok(place) => Ok(place),
                Err(error @ DriverError::Failed { .. }) => Err(error.to_string()),
                Err(error) => return Err(error),
            };
            let database = Database {
                file,
                is_labelled,
                place,
            };
            databases.insert(database.file.id.clone(), database);
        }
        Ok(Self {
            engine,
            container,
            helpers,
            options,
            databases,
            loaded: Loaded::default(),
        })
    }

    fn place(&self, target: &TargetId) -> Result<&DatabasePlace, DriverError> {
        let database = self.databases.get(target).ok_or_else(|| {
            DriverError::failed(format!("{target} is not a target of this container"))
        })?;
        database
            .place
            .as_ref()
            .map_err(|why| DriverError::failed(why.clone()))
    }

    /// A program that has the old file open would go on writing into it, also one that is frozen.
    async fn ensure_stopped(&self) -> Result<(), DriverError> {
        let container = self.engine.inspect(&self.container.id).await?;
        if !container.is_alive() {
            return Ok(());
        }
        Err(DriverError::failed_with_hint(
            format!(
                "container {} is running and would keep writing to the old file",
                container.name
            ),
            format!(
                "stop it (docker stop {}), then run cofferdam recover",
                container.name
            ),
        ))
    }
}

/// Follows the container's own links. For a backup the file must exist; for a restore it may have to be made.
async fn find(
    engine: &Engine,
    container: &Container,
    path: &str,
    moment: Moment,
) -> Result<DatabasePlace, DriverError> {
    let origin = TreeOrigin::Path(path.to_owned());
    let site = site::find(engine, container, &origin, Moment::Restore).await?;
    let seen = |what: &str| format!("{path} in container {} {what}", container.name);
    match engine.stat(&container.id, site.path()).await? {
        None if moment == Moment::Backup => {
            return Err(DriverError::failed_with_hint(
                format!("{path} does not exist in container {}", container.name),
                "correct the `cofferdam.sqlite` label, or start the program that creates it",
            ));
        }
        Some(stat) if stat.kind != PathKind::File => {
            return Err(DriverError::failed_with_hint(
                seen("is not a file"),
                "name the database file itself in `cofferdam.sqlite`",
            ));
        }
        _ => {}
    }
    match site {
        Site::Mount(mount) if mount.root == MountRoot::File => Err(DriverError::failed_with_hint(
            seen("is mounted as a single file, without the files that SQLite keeps beside it"),
            "mount the directory that it is in",
        )),
        Site::Mount(mount) => Ok(DatabasePlace::Mount(mount)),
        Site::Layer(layer) => Ok(DatabasePlace::Layer(layer)),
    }
}

#[async_trait]
impl Driver for SqliteDriver {
    fn kinds(&self) -> &'static [DriverKind] {
        &[DriverKind::Sqlite]
    }

    async fn targets(&self) -> Result<FoundTargets, DriverError> {
        let mut found = FoundTargets::default();
        for (id, database) in self.databases.iter().filter(|(_, known)| known.is_labelled) {
            match &database.place {
                Ok(_) => found.targets.push(FoundTarget {
                    id: id.clone(),
                    what: format!("SQLite database {}", database.file.path),
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
        let database = self.databases.get(target)?;
        database.place.as_ref().err().map(String::as_str)
    }

    fn closed_path(&self, target: &TargetId) -> Option<&str> {
        self.place(target).ok().map(DatabasePlace::path)
    }

    async fn writers(&self, target: &TargetId) -> Result<Writers, DriverError> {
        self.writers_of(target).await
    }

    async fn dump(
        &self,
        target: &TargetId,
        sink: &dyn ArtifactSink,
    ) -> Result<Captured, DriverError> {
        let place = self.place(target)?;
        let (transfer, found, artifact) = match place {
            DatabasePlace::Mount(mount) => self.dump_mount(target, mount, sink).await?,
            DatabasePlace::Layer(layer) => self.dump_layer(target, layer, sink).await?,
        };
        info!(
            target_id = %target,
            held_up_milliseconds = found.held_up_milliseconds,
            "the database was copied"
        );
        let warnings = found.warnings.clone();
        Ok(Captured {
            transfer,
            facts: place.facts(found),
            artifacts: vec![artifact],
            warnings,
        })
    }

    /// What it was copied to is where a restore would put the new one.
    async fn forget_dump(&self, target: &TargetId) -> Result<(), DriverError> {
        self.rollback(target).await
    }

    async fn exists(&self, target: &TargetId) -> Result<bool, DriverError> {
        let path = self.place(target)?.path();
        Ok(self.engine.stat(&self.container.id, path).await?.is_some())
    }

    fn describe_restore(&self, record: &TargetRecord) -> String {
        match self.databases.get(&record.target) {
            Some(database) => format!("replace database {}", database.file.path),
            None => format!("unknown database {}", record.target.name),
        }
    }

    fn way_back(&self, _target: &TargetId) -> WayBack {
        WayBack::Staged
    }

    async fn load(
        &self,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        match self.place(&record.target)? {
            DatabasePlace::Mount(mount) => self.load_mount(mount, record, source).await?,
            DatabasePlace::Layer(layer) => self.load_layer(layer, record, source).await?,
        }
        self.loaded.note(&record.target);
        Ok(())
    }

    /// On a mount, SQLite has looked at the new file while it was staged; what is left is whether it is still there without its
    /// helper, and whether anybody still writes to the old one. In a container's own layer nothing of ours can run meanwhile: there the digest says that it is the copy that
    /// SQLite looked at when it was saved.
    async fn check(&self, record: &TargetRecord) -> Result<(), DriverError> {
        let place = self.place(&record.target)?;
        let is_staged = match place {
            DatabasePlace::Mount(mount) => self.is_staged(&record.target, mount).await?,
            DatabasePlace::Layer(layer) => self.is_staged_in(&record.target, layer).await?,
        };
        match place {
            _ if !is_staged => Err(DriverError::LoadedIsGone),
            DatabasePlace::Mount(mount) => self.ensure_nobody_writes(mount, Before::Decision).await,
            DatabasePlace::Layer(_) => Ok(()),
        }
    }

    async fn commit(&self, target: &TargetId) -> Result<(), DriverError> {
        let was_staged = match self.place(target)? {
            DatabasePlace::Mount(mount) => self.commit_mount(target, mount).await?,
            DatabasePlace::Layer(layer) => self.commit_layer(target, layer).await?,
        };
        self.loaded.ensure_was_found(target, was_staged)
    }

    async fn rollback(&self, target: &TargetId) -> Result<(), DriverError> {
        match self.place(target)? {
            DatabasePlace::Mount(mount) => self.roll_back_mount(target, mount).await,
            DatabasePlace::Layer(layer) => self.roll_back_layer(target, layer).await,
        }
    }
}

/// What a dump comes to.
type Dumped = (Transfer, FoundDatabase, Artifact);

fn new_dump(compression: Compression) -> NewArtifact {
    NewArtifact {
        role: Role::Dump,
        extension: "sqlite3",
        compression,
    }
}

fn sqlite_facts(record: &TargetRecord) -> Result<&SqliteFacts, DriverError> {
    match &record.facts {
        Facts::Sqlite(facts) => Ok(facts),
        _ => Err(DriverError::failed(format!(
            "{} is not recorded as an SQLite database",
            record.target
        ))),
    }
}

fn dump_of(record: &TargetRecord) -> Result<&Artifact, DriverError> {
    match record.artifacts.as_slice() {
        [dump] if dump.role == Role::Dump => Ok(dump),
        _ => Err(DriverError::failed(format!(
            "{} is not recorded with exactly one dump",
            record.target
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_named_as_their_files_unless_two_share_a_name() {
        let names = |paths: &[&str]| -> Vec<String> {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            let files = database_files("app", &paths);
            files.into_iter().map(|file| file.id.to_string()).collect()
        };
        assert_eq!(
            names(&["/a/app.db", "/b/jobs.db"]),
            ["app/sqlite/app.db", "app/sqlite/jobs.db"]
        );
        assert_eq!(
            names(&["/a/db", "/b/db", "/c/other"]),
            [
                "app/sqlite/%2Fa%2Fdb",
                "app/sqlite/%2Fb%2Fdb",
                "app/sqlite/other"
            ]
        );
    }
}
