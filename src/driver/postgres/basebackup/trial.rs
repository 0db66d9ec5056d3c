//! A server that is started on a restored data directory before that takes the old one's place.
//!
//! It runs in a container of the server's own image that sees only the mount on which the new directory waits, has no
//! network, and is removed in every outcome. It is started without what could act on others (archiving, replication, workers
//! of extensions), replays the WAL, takes connections, and is shut down properly.

use std::time::Duration;

use tracing::{info, warn};

use crate::agent::helper::{Helpers, StandIn};
use crate::driver::DriverError;
use crate::driver::tree::Staged;
use crate::engine::{EngineError, ExecOutput, ExecSpec};
use crate::manifest::BasebackupFacts;

/// How long replaying the WAL, or a shutdown, may take.
const LIMIT: Duration = Duration::from_secs(24 * 60 * 60);
/// In the container's own memory: its file system can only be read.
const LOG: &str = "/dev/shm/server.log";
/// Over all that the saved configuration says. No shell sees anything from outside: this text is all there is.
const SETTINGS: &str = "-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c archive_mode=off -c restore_command= \
    -c ssl=off -c shared_preload_libraries= -c max_logical_replication_workers=0 -c autovacuum=off \
    -c logging_collector=off -c log_destination=stderr";

pub struct Trial {
    stand_in: StandIn,
    /// The new data directory, as the container sees it.
    directory: String,
    user: String,
}

impl Trial {
    pub async fn begin(
        helpers: &Helpers,
        image: &str,
        staged: Staged,
        facts: &BasebackupFacts,
    ) -> Result<Self, DriverError> {
        let stand_in = helpers.stand_in(image, staged.mount).await?;
        Ok(Self {
            directory: stand_in.path_of(&staged.path),
            stand_in,
            user: format!("{}:{}", facts.uid, facts.gid),
        })
    }

    /// A data directory serves servers of one major version only.
    pub async fn ensure_server_fits(&self, facts: &BasebackupFacts) -> Result<(), DriverError> {
        let told = self.run(&["postgres", "--version"]).await?;
        ensure_good("postgres", &told, String::new())?;
        let told = String::from_utf8_lossy(&told.stdout).trim().to_owned();
        // `postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)`
        let here = told.split_whitespace().nth(2).unwrap_or_default();
        let saved = major(&facts.server_version);
        if major(here) == saved {
            return Ok(());
        }
        Err(DriverError::failed_with_hint(
            format!(
                "the data directory is one of PostgreSQL {saved}, and the container has {told}"
            ),
            format!(
                "restore it into a container of PostgreSQL {saved}; to move to another version, save with cofferdam.postgres.mode: dump"
            ),
        ))
    }

    /// Every file is what the manifest of the backup says, and the WAL that is needed is there.
    pub async fn verify(&self) -> Result<(), DriverError> {
        match self
            .run(&["pg_verifybackup", "--quiet", &self.directory])
            .await
        {
            Err(EngineError::CannotRun { message, .. }) => {
                warn!("the restored data directory is not compared with its manifest: {message}");
                Ok(())
            }
            ended => ensure_good("pg_verifybackup", &ended?, String::new()),
        }
    }

    pub async fn start_and_stop(&self) -> Result<(), DriverError> {
        let seconds = LIMIT.as_secs().to_string();
        let common = ["--pgdata", &self.directory, "--wait", "--timeout", &seconds];
        let start = [
            &["pg_ctl", "start"],
            &common[..],
            &["--log", LOG, "--options", SETTINGS],
        ]
        .concat();
        let started = self.run(&start).await?;
        if started.exit_code != 0 {
            let log = self.run(&["tail", "-n", "5", LOG]).await?;
            let log = String::from_utf8_lossy(&log.stdout).trim().to_owned();
            return ensure_good("the server on the restored data directory", &started, log);
        }
        info!("a server takes connections on the restored data directory");
        let stop = [&["pg_ctl", "stop"], &common[..], &["--mode", "fast"]].concat();
        let stopped = self.run(&stop).await?;
        ensure_good(
            "the end of the server on the restored data directory",
            &stopped,
            String::new(),
        )
    }

    async fn run(&self, argv: &[&str]) -> Result<ExecOutput, EngineError> {
        let spec = ExecSpec {
            user: Some(self.user.clone()),
            env: vec![("LC_ALL".to_owned(), "C".to_owned())],
            limit: Some(LIMIT),
            ..ExecSpec::new(argv.iter().copied())
        };
        self.stand_in.exec(&spec).await
    }
}

fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or_default()
}

/// `log`: what a server had to say that the program has not.
fn ensure_good(what: &str, output: &ExecOutput, log: String) -> Result<(), DriverError> {
    if output.exit_code == 0 {
        return Ok(());
    }
    let words = if log.is_empty() {
        output.last_words()
    } else {
        log
    };
    Err(DriverError::failed(format!(
        "{what} failed with exit code {}: {words}",
        output.exit_code
    )))
}
