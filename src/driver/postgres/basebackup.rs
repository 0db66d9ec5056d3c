//! A server as its data directory: `pg_basebackup`, put back as files.
//!
//! ```text
//! dump     pg_basebackup ─▶ exec's stdout ─▶ rewrite ─▶ layer and index, as of any tree
//! load     source ─▶ helper: unpack beside the data directory
//! check    in a container of the server's own image: pg_verifybackup, start, ready for connections, stop
//! commit   both change places by a rename, as of any tree
//! ```
//!
//! The container of the server is stopped meanwhile ([`DriverKind::state_needed`]). The old data directory stays as it is
//! until the new one has proven that a server starts on it (see [`trial`]).

mod trial;

use std::io::{self, Cursor};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use serde::Deserialize;
use tokio::io::AsyncReadExt;

use self::trial::Trial;
use super::PostgresDriver;
use super::dump::IDLE;
use super::server::Server;
use crate::agent::helper::Helpers;
use crate::driver::tree::{DataDirectory, Moment, TreeRun, store_archive, tree_facts};
use crate::driver::{Captured, Driver, DriverError, FoundTarget, FoundTargets, WayBack};
use crate::engine::container::is_within;
use crate::manifest::{BasebackupFacts, Facts, TargetRecord, Transfer, TreeFacts};
use crate::pipe::ByteStream;
use crate::snapshot::{ArtifactSink, ArtifactSource};
use crate::target::{DriverKind, TargetId};
use crate::tree::TreePath;
use crate::tree::entry::Kind;
use crate::tree::rewrite::Rules;

/// The only target of a server.
pub const NAME: &str = "cluster";

/// The data directory of one server, for the length of one run.
pub struct BasebackupDriver {
    postgres: PostgresDriver,
    helpers: Helpers,
    data: DataDirectory,
}

impl BasebackupDriver {
    /// `directory`: where the server keeps its data, as its container sees it.
    pub async fn prepare(
        postgres: PostgresDriver,
        helpers: Helpers,
        service: &str,
        directory: &str,
        moment: Moment,
    ) -> Result<Self, DriverError> {
        let data = DataDirectory::prepare(
            helpers.clone(),
            postgres.container.clone(),
            TargetId::new(service, DriverKind::Basebackup, NAME),
            directory,
            &[],
            TreeRun {
                moment,
                program: postgres.options.program.clone(),
                ..TreeRun::default()
            },
        )
        .await?;
        Ok(Self {
            postgres,
            helpers,
            data,
        })
    }
}

#[async_trait]
impl Driver for BasebackupDriver {
    fn kinds(&self) -> &'static [DriverKind] {
        &[DriverKind::Basebackup]
    }

    async fn targets(&self) -> Result<FoundTargets, DriverError> {
        let server = self.postgres.server().await?;
        let directory = data_directory(server)?;
        let service = self.postgres.container.service();
        Ok(FoundTargets {
            targets: vec![FoundTarget {
                id: TargetId::new(service, DriverKind::Basebackup, NAME),
                what: format!("data directory {directory} of PostgreSQL"),
            }],
            ..FoundTargets::default()
        })
    }

    fn refusal(&self, _target: &TargetId) -> Option<&str> {
        self.data.refusal.as_deref()
    }

    fn changed_path(&self, target: &TargetId) -> Option<&str> {
        self.data.tree.changed_path(target)
    }

    async fn dump(
        &self,
        _target: &TargetId,
        sink: &dyn ArtifactSink,
    ) -> Result<Captured, DriverError> {
        let server = self.postgres.server().await?;
        let clients = server.clients();
        let watch = self.postgres.watch(server);
        let spec = clients.spec(pg_basebackup(), watch.mark(server.environment().clone()));
        let archive = clients
            .engine
            .exec_stream(&clients.container.id, &spec, IDLE)
            .await
            .map_err(|error| clients.engine_error(error))?;
        let root = Root::of(server, archive).await?;
        let (uid, gid) = (root.uid, root.gid);
        let has_manifest = Arc::new(AtomicBool::new(false));
        let seen = has_manifest.clone();
        let rules = Rules {
            rename: move |path: &TreePath, _: &Kind| {
                if path.as_bytes() == b"backup_manifest" {
                    seen.store(true, Ordering::Relaxed);
                }
                Some(path.clone())
            },
            // `pg_basebackup` makes up an owner for what it adds itself.
            owner: Some((uid, gid)),
        };
        let stored = store_archive(root.archive, sink, rules).await;
        let (report, artifacts) = stored.map_err(|error| match error {
            DriverError::Store(error) => clients.store_error(error),
            other => other,
        })?;
        watch.dismiss();
        if !has_manifest.load(Ordering::Relaxed) {
            return Err(DriverError::failed(
                "the backup is incomplete: it has no backup_manifest at its end",
            ));
        }
        Ok(Captured {
            transfer: Transfer::Stream,
            facts: Facts::Basebackup(BasebackupFacts {
                server_version: server.facts.version.clone(),
                uid,
                gid,
                tree: TreeFacts {
                    path: data_directory(server)?.to_owned(),
                    volume: None,
                    shape: report.shape,
                    entries: report.entries,
                    content_bytes: report.content_bytes,
                    exclude: Vec::new(),
                },
            }),
            artifacts,
            warnings: report
                .warnings
                .into_iter()
                .chain(warning_of_configuration(server).await?)
                .collect(),
        })
    }

    /// Nothing that a safety snapshot could save: the server is stopped while its data directory is replaced.
    async fn exists(&self, _target: &TargetId) -> Result<bool, DriverError> {
        Ok(false)
    }

    fn describe_restore(&self, record: &TargetRecord) -> String {
        let directory = tree_facts(record).map_or("", |facts| facts.path.as_str());
        format!("replace the data directory {directory}")
    }

    /// See [`BasebackupDriver::refusal`] for where it cannot be.
    fn way_back(&self, _target: &TargetId) -> WayBack {
        WayBack::Staged
    }

    async fn load(
        &self,
        record: &TargetRecord,
        source: &dyn ArtifactSource,
    ) -> Result<(), DriverError> {
        self.data.tree.load(record, source).await
    }

    async fn check(&self, record: &TargetRecord) -> Result<(), DriverError> {
        let Facts::Basebackup(facts) = &record.facts else {
            return Err(DriverError::failed(format!(
                "{} is not recorded as a data directory",
                record.target
            )));
        };
        let staged = self.data.tree.staged(&record.target)?;
        let image = &self.postgres.container.image_id;
        let trial = Trial::begin(&self.helpers, image, staged, facts).await?;
        trial.ensure_server_fits(facts).await?;
        trial.verify().await?;
        trial.start_and_stop().await
    }

    async fn commit(&self, target: &TargetId) -> Result<(), DriverError> {
        self.data.tree.commit(target).await
    }

    async fn rollback(&self, target: &TargetId) -> Result<(), DriverError> {
        self.data.tree.rollback(target).await
    }
}

/// Everything in one stream, with the WAL that is needed to start on it, and its manifest last.
fn pg_basebackup() -> Vec<String> {
    [
        "pg_basebackup",
        "--pgdata=-",
        "--format=tar",
        "--wal-method=fetch",
        "--checkpoint=fast",
        "--label=cofferdam",
        "--no-password",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn data_directory(server: &Server) -> Result<&str, DriverError> {
    server.facts.data_directory.as_deref().ok_or_else(|| {
        DriverError::failed_with_hint(
            format!(
                "{} may not see where the server of container {} keeps its data",
                server.facts.user,
                server.container().name
            ),
            "connect as a superuser: cofferdam.postgres.user",
        )
    })
}

/// Files of the server's configuration that lie elsewhere. A user who may not see where gets no warning.
async fn warning_of_configuration(server: &Server) -> Result<Option<String>, DriverError> {
    #[derive(Deserialize)]
    struct Answer {
        path: String,
    }
    let query = "SELECT setting AS path FROM pg_catalog.pg_settings \
        WHERE name IN ('config_file', 'hba_file', 'ident_file') ORDER BY setting";
    let mut files: Vec<Answer> = server.query(server.maintenance_db(), query).await?;
    let directory = data_directory(server)?;
    files.retain(|file| !is_within(&file.path, directory));
    if files.is_empty() {
        return Ok(None);
    }
    let files: Vec<String> = files.into_iter().map(|file| file.path).collect();
    Ok(Some(format!(
        "the configuration files are outside the data directory and are not saved: {}; \
         save them with cofferdam.files.<name> unless the image or a script creates them",
        files.join(", ")
    )))
}

/// The archive with an entry for the data directory itself, which `pg_basebackup` leaves to whoever unpacks it: a server
/// refuses to start in one of another owner or mode.
struct Root {
    archive: ByteStream,
    uid: u32,
    gid: u32,
}

impl Root {
    async fn of(server: &Server, mut archive: ByteStream) -> Result<Self, DriverError> {
        const TAR_BLOCK: usize = 512;
        let mode = mode(server).await?;
        let failed = |error| server.clients().body_error(error);
        let mut first = [0; TAR_BLOCK];
        archive.read_exact(&mut first).await.map_err(failed)?;
        let (uid, gid) = owner(&first).map_err(failed)?;
        let root = entry(mode, uid, gid);
        let archive = Cursor::new(root).chain(Cursor::new(first)).chain(archive);
        // Up to PostgreSQL 13 the manifest, which comes last, is not padded and takes up a part of the end marker.
        let archive = archive.chain(Cursor::new([0; TAR_BLOCK]));
        Ok(Self {
            archive: Box::pin(archive),
            uid,
            gid,
        })
    }
}

async fn mode(server: &Server) -> Result<u32, DriverError> {
    #[derive(Deserialize)]
    struct Answer {
        mode: String,
    }
    // Before PostgreSQL 11 there was one mode only, and no setting.
    let query =
        "SELECT coalesce(pg_catalog.current_setting('data_directory_mode', true), '0700') AS mode";
    let answers: Vec<Answer> = server.query(server.maintenance_db(), query).await?;
    answers
        .first()
        .and_then(|answer| u32::from_str_radix(&answer.mode, 8).ok())
        .ok_or_else(|| {
            DriverError::failed("the server does not report the mode of its data directory")
        })
}

/// All files belong to the user that the server runs as.
fn owner(first: &[u8; 512]) -> io::Result<(u32, u32)> {
    let header = tar::Header::from_byte_slice(first);
    let number = |number: u64| u32::try_from(number).map_err(io::Error::other);
    Ok((number(header.uid()?)?, number(header.gid()?)?))
}

fn entry(mode: u32, uid: u32, gid: u32) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.as_old_mut().name[..2].copy_from_slice(b"./");
    header.set_mode(mode);
    header.set_uid(uid.into());
    header.set_gid(gid.into());
    header.set_size(0);
    header.set_mtime(jiff::Timestamp::now().as_second().unsigned_abs());
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::rewrite::rewrite;

    #[test]
    fn the_root_gets_an_entry_of_the_servers_own() {
        let archive = [entry(0o750, 999, 998), vec![0; 1024]].concat();
        let mut found = Vec::new();
        let kept = Rules::renaming(|path: &TreePath, _: &Kind| Some(path.clone()));
        let mut output = Vec::new();
        let report = rewrite(&archive[..], &mut output, &kept, &mut |entry| {
            found.push((entry.path.clone(), entry.mode.clone()));
            Ok(())
        });
        assert_eq!(report.unwrap().entries, 1);
        assert_eq!(found, [(TreePath::root(), "0750".to_owned())]);
        let first: [u8; 512] = archive[..512].try_into().unwrap();
        assert_eq!(owner(&first).unwrap(), (999, 998));
    }
}
