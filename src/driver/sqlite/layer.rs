//! A database in a container's own file system, which no helper reaches.
//!
//! It is saved by an agent in the running container. It is put back while the container is stopped, so nothing of ours
//! runs there: what there is is the engine's archive API, which can only add. It does know hard links, though:
//!
//! ```text
//! load      <its directory>/.cofferdam-<run>-<target>/ gets `owner` and `new`
//! commit    one archive: empty `-wal`, `-shm`, `-journal` over those that are there; the database's name becomes a link
//!           to `new`; a directory takes the place of `new`
//! rollback  a directory takes the place of `new`
//! ```
//!
//! To SQLite an empty log or journal is none. They come before the link, so that the new file never meets those of the
//! old. A directory in the place of `new` says that there is nothing to do any more. It stays, empty, until the next backup,
//! whose agent removes it.

use std::io::Cursor;

use tar::{EntryType, Header};
use tokio::io::AsyncReadExt;

use super::{Dumped, SqliteDriver, dump_of, new_dump, sqlite_facts};
use crate::agent::inside::{Hands, Visit, VisitError, Visitor};
use crate::agent::sqlite::{SqliteDumped, SqliteJob};
use crate::driver::DriverError;
use crate::driver::tree::site::LayerSite;
use crate::engine::EngineError;
use crate::engine::archive::{NewFile, PathKind};
use crate::manifest::{Artifact, FileOwner, TargetRecord, Transfer};
use crate::pipe::ByteStream;
use crate::snapshot::{ArtifactSink, ArtifactSource, StoreError, open_plain};
use crate::sqlite::COMPANIONS;
use crate::target::TargetId;
use crate::tree::staging::staging_name;

const HINT: &str = "put the file on a volume, where it can be saved and restored whether its container runs or not";
const COPY: &str = "copy";
const DUMP: &str = "dump";
const NEW: &str = "new";
const OWNER: &str = "owner";
/// Two zero blocks end an archive.
const END: usize = 1024;
/// How long the engine may be silent while a small file comes out.
const IDLE: std::time::Duration = std::time::Duration::from_secs(60);
/// Longer than any [`FileOwner`].
const MOST_OWNER: u64 = 4096;

impl SqliteDriver {
    pub(super) async fn dump_layer(
        &self,
        target: &TargetId,
        layer: &LayerSite,
        sink: &dyn ArtifactSink,
    ) -> Result<Dumped, DriverError> {
        let refused = |why: String| {
            let what = format!(
                "{} is in the file system of container {} itself, and {why}",
                layer.path, self.container.name
            );
            DriverError::failed_with_hint(what, HINT)
        };
        self.dump_inside(target, layer, sink, refused).await
    }

    /// By an agent in the running container, wherever the database is. `refused` makes an error of why there is none.
    pub(super) async fn dump_inside(
        &self,
        target: &TargetId,
        layer: &LayerSite,
        sink: &dyn ArtifactSink,
        refused: impl Fn(String) -> DriverError,
    ) -> Result<Dumped, DriverError> {
        // It may have been stopped since it was discovered.
        let container = self.engine.inspect(&self.container.id).await?;
        if !container.is_running() {
            return Err(refused("that is not running".to_owned()));
        }
        let begun = Visit::begin(Visitor {
            engine: &self.engine,
            container: &container,
            user: None,
            scratch: None,
            run: &self.helpers.run,
            program: &self.options.program,
            removals: &self.helpers.removals,
        });
        let visit = match begun.await {
            Ok(visit) => visit,
            Err(error @ VisitError::NoPlace { .. }) => return Err(refused(error.to_string())),
            Err(error) => return Err(visit_error(layer, error)),
        };
        let dumped = match visit.hands() {
            Hands::Clients { why } => Err(refused(format!("the agent cannot run there ({why})"))),
            Hands::Agent(_) => self.dump_in(&visit, target, layer, sink).await,
        };
        let left = visit.end().await.err();
        let (dumped, artifact) = dumped?;
        let mut found = dumped.found;
        found.warnings.extend(left.map(|left| left.to_string()));
        Ok((Transfer::Copy, found, artifact))
    }

    async fn dump_in(
        &self,
        visit: &Visit,
        target: &TargetId,
        layer: &LayerSite,
        sink: &dyn ArtifactSink,
    ) -> Result<(SqliteDumped, Artifact), DriverError> {
        let job = SqliteJob {
            database: layer.path.clone(),
            copy: visit.path(COPY),
            output: visit.path(DUMP),
            compression: sink.compression(),
            patience_seconds: self.options.patience.as_secs(),
            own_staging: staging_name(&self.helpers.run, target),
        };
        let dumped = visit
            .sqlite(&job)
            .await
            .map_err(|error| visit_error(layer, error))?;
        let (_, body) = visit
            .get(DUMP)
            .await
            .map_err(|error| visit_error(layer, error))?;
        let artifact = sink.store(new_dump(sink.compression()), body).await?;
        if artifact.plain != dumped.stored {
            return Err(DriverError::Damaged {
                what: "the copy".to_owned(),
                expected: dumped.stored,
                found: artifact.plain,
            });
        }
        let artifact = Artifact {
            plain: dumped.plain.clone(),
            ..artifact
        };
        Ok((dumped, artifact))
    }

    pub(super) async fn load_layer(
        &self,
        layer: &LayerSite,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        self.ensure_stopped().await?;
        let dump = dump_of(record)?;
        let owner = sqlite_facts(record)?.owner;
        let staged = self.staged(&record.target, layer);
        let mut archive = Archive::default();
        archive.directory(&staged.name, 0o700, owner)?;
        self.put(&staged.directory, archive).await?;
        let looks = serde_json::to_vec(&owner).expect("an owner has only string keys");
        self.engine
            .file_put(
                &self.container.id,
                &staged.path(),
                new_file(OWNER, looks.len() as u64, owner),
                Box::pin(Cursor::new(looks)),
            )
            .await?;
        // What remains of an earlier attempt of the same run is written over.
        let plain = open_plain(source, dump).await?;
        let new = new_file(NEW, dump.plain.bytes, owner);
        let put = self
            .engine
            .file_put(&self.container.id, &staged.path(), new, plain)
            .await;
        put.map_err(|error| match error {
            EngineError::Source { source, .. } => StoreError::Body(source).into(),
            other => other.into(),
        })
    }

    pub(super) async fn is_staged_in(
        &self,
        target: &TargetId,
        layer: &LayerSite,
    ) -> Result<bool, DriverError> {
        self.is_waiting(&self.staged(target, layer)).await
    }

    /// Whether there was anything to do.
    pub(super) async fn commit_layer(
        &self,
        target: &TargetId,
        layer: &LayerSite,
    ) -> Result<bool, DriverError> {
        let staged = self.staged(target, layer);
        if !self.is_waiting(&staged).await? {
            return Ok(false);
        }
        self.ensure_stopped().await?;
        let owner = self.owner_of(&staged).await?;
        let mut archive = Archive::default();
        for companion in COMPANIONS {
            let name = format!("{}{companion}", staged.file);
            let path = format!("{}/{name}", staged.directory);
            if self.engine.stat(&self.container.id, &path).await?.is_some() {
                archive.empty_file(&name, owner)?;
            }
        }
        archive.link(&staged.file, &format!("{}/{NEW}", staged.name), owner)?;
        archive.directory(&format!("{}/{NEW}", staged.name), 0o700, owner)?;
        self.put(&staged.directory, archive).await?;
        Ok(true)
    }

    pub(super) async fn roll_back_layer(
        &self,
        target: &TargetId,
        layer: &LayerSite,
    ) -> Result<(), DriverError> {
        let staged = self.staged(target, layer);
        if !self.is_waiting(&staged).await? {
            return Ok(());
        }
        let mut archive = Archive::default();
        archive.directory(
            &format!("{}/{NEW}", staged.name),
            0o700,
            FileOwner::default(),
        )?;
        self.put(&staged.directory, archive).await
    }

    /// Whether a new file is staged that has neither been put in place nor given up.
    async fn is_waiting(&self, staged: &Staged) -> Result<bool, DriverError> {
        let path = format!("{}/{NEW}", staged.path());
        let found = self.engine.stat(&self.container.id, &path).await?;
        Ok(found.is_some_and(|found| found.kind == PathKind::File))
    }

    async fn owner_of(&self, staged: &Staged) -> Result<FileOwner, DriverError> {
        let path = format!("{}/{OWNER}", staged.path());
        let (_, content) = self
            .engine
            .file_get(&self.container.id, &path, IDLE)
            .await?;
        let mut looks = Vec::new();
        let read = content.take(MOST_OWNER).read_to_end(&mut looks).await;
        read.map_err(|error| DriverError::failed(format!("cannot read {path}: {error}")))?;
        serde_json::from_slice(&looks)
            .map_err(|error| DriverError::failed(format!("{path} is damaged: {error}")))
    }

    fn staged(&self, target: &TargetId, layer: &LayerSite) -> Staged {
        let (directory, file) = layer.path.rsplit_once('/').unwrap_or_default();
        Staged {
            directory: if directory.is_empty() { "/" } else { directory }.to_owned(),
            file: file.to_owned(),
            name: staging_name(&self.helpers.run, target),
        }
    }

    async fn put(&self, directory: &str, archive: Archive) -> Result<(), DriverError> {
        let content = archive.finish();
        let put = self
            .engine
            .archive_put(&self.container.id, directory, content);
        Ok(put.await?)
    }
}

/// Where a new file waits.
struct Staged {
    /// The database's own.
    directory: String,
    /// The database's name in it.
    file: String,
    /// The staging directory's.
    name: String,
}

impl Staged {
    fn path(&self) -> String {
        format!("{}/{}", self.directory.trim_end_matches('/'), self.name)
    }
}

fn new_file(name: &str, bytes: u64, owner: FileOwner) -> NewFile<'_> {
    NewFile {
        name,
        bytes,
        mode: owner.mode,
        uid: owner.uid.into(),
        gid: owner.gid.into(),
    }
}

fn visit_error(layer: &LayerSite, error: VisitError) -> DriverError {
    match error {
        VisitError::Engine(error) => error.into(),
        VisitError::Failed(failure) => DriverError::failed(format!("{}: {failure}", layer.path)),
        other => DriverError::failed(format!("{}: {other}", layer.path)),
    }
}

/// A small archive of entries without content.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn directory(&mut self, name: &str, mode: u32, owner: FileOwner) -> Result<(), DriverError> {
        self.entry(
            EntryType::Directory,
            name,
            None,
            FileOwner { mode, ..owner },
        )
    }

    fn empty_file(&mut self, name: &str, owner: FileOwner) -> Result<(), DriverError> {
        self.entry(EntryType::Regular, name, None, owner)
    }

    fn link(&mut self, name: &str, to: &str, owner: FileOwner) -> Result<(), DriverError> {
        self.entry(EntryType::Link, name, Some(to), owner)
    }

    fn entry(
        &mut self,
        kind: EntryType,
        name: &str,
        to: Option<&str>,
        owner: FileOwner,
    ) -> Result<(), DriverError> {
        let named =
            |error| DriverError::failed(format!("{name} cannot be named in an archive: {error}"));
        let now = jiff::Timestamp::now().as_second();
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path(name).map_err(named)?;
        if let Some(to) = to {
            header.set_link_name(to).map_err(named)?;
        }
        header.set_mode(owner.mode);
        header.set_uid(owner.uid.into());
        header.set_gid(owner.gid.into());
        header.set_size(0);
        header.set_mtime(now.try_into().unwrap_or(0));
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        Ok(())
    }

    fn finish(mut self) -> ByteStream {
        self.0.resize(self.0.len() + END, 0);
        Box::pin(Cursor::new(self.0))
    }
}
