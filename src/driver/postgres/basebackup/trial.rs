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
const REPLAY_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);
/// In the container's own memory: its file system can only be read.
const LOG: &str = "/dev/shm/server.log";
/// Nobody logs in. The server's own rules may lie outside of its data directory.
const RULES: &str = "/dev/shm/hba.conf";
/// A configuration for a data directory that has none.
const CONFIG: &str = "/dev/shm/server.conf";
/// Over all that the saved configuration says. No shell sees anything from outside: this text is all there is.
const SETTINGS: &str = "-c hba_file=/dev/shm/hba.conf \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c archive_mode=off -c restore_command= \
    -c ssl=off -c shared_preload_libraries= -c max_logical_replication_workers=0 -c autovacuum=off \
    -c logging_collector=off -c log_destination=stderr";
/// What the control file says of the server, by `pg_controldata`, and the settings that must not be less.
const CONTROLLED: [(&str, &str); 6] = [
    ("max_connections setting", "max_connections"),
    ("max_worker_processes setting", "max_worker_processes"),
    ("max_wal_senders setting", "max_wal_senders"),
    ("max_prepared_xacts setting", "max_prepared_transactions"),
    ("max_locks_per_xact setting", "max_locks_per_transaction"),
    ("track_commit_timestamp setting", "track_commit_timestamp"),
];

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
            format!("the data directory is from PostgreSQL {saved}, but the container has {told}"),
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
                warn!("could not compare the restored data directory with its manifest: {message}");
                Ok(())
            }
            ended => ensure_good("pg_verifybackup", &ended?, String::new()),
        }
    }

    pub async fn start_and_stop(&self) -> Result<(), DriverError> {
        self.write(RULES, &["local all all reject"]).await?;
        let options = match self.own_configuration().await? {
            None => SETTINGS.to_owned(),
            Some(settings) => {
                let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
                self.write(CONFIG, &settings).await?;
                format!("{SETTINGS} -c config_file={CONFIG}")
            }
        };
        let seconds = REPLAY_LIMIT.as_secs().to_string();
        let common = ["--pgdata", &self.directory, "--wait", "--timeout", &seconds];
        let start = [
            &["pg_ctl", "start"],
            &common[..],
            &["--log", LOG, "--options", &options],
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

    /// Settings for a server whose configuration lies elsewhere, so that it neither refuses nor forgets what is there.
    async fn own_configuration(&self) -> Result<Option<Vec<String>>, DriverError> {
        let saved = format!("{}/postgresql.conf", self.directory);
        let is_there = ["sh", "-c", r#"test -e "$1""#, "sh", &saved];
        if self.run(&is_there).await?.exit_code == 0 {
            return Ok(None);
        }
        let told = self.run(&["pg_controldata", &self.directory]).await?;
        ensure_good("pg_controldata", &told, String::new())?;
        Ok(Some(controlled(&String::from_utf8_lossy(&told.stdout))))
    }

    async fn write(&self, file: &str, lines: &[&str]) -> Result<(), DriverError> {
        let script = r#"file=$1; shift; printf '%s\n' "$@" >"$file""#;
        let argv = [&["sh", "-c", script, "sh", file], lines].concat();
        ensure_good(
            "the set-up of a trial server",
            &self.run(&argv).await?,
            String::new(),
        )
    }

    async fn run(&self, argv: &[&str]) -> Result<ExecOutput, EngineError> {
        let spec = ExecSpec {
            user: Some(self.user.clone()),
            env: vec![("LC_ALL".to_owned(), "C".to_owned())],
            limit: Some(REPLAY_LIMIT),
            ..ExecSpec::new(argv.iter().copied())
        };
        self.stand_in.exec(&spec).await
    }
}

/// Settings that fit a data directory, from what `pg_controldata` prints of it.
fn controlled(told: &str) -> Vec<String> {
    let told = told.lines().filter_map(|line| line.split_once(':'));
    let values = told.filter_map(|(name, value)| {
        let (_, setting) = CONTROLLED.iter().find(|(known, _)| *known == name)?;
        let value = value.trim();
        let is_plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_plain.then(|| format!("{setting} = {value}"))
    });
    // Of replication origins, which the control file does not count.
    let origins = "max_replication_slots = 1000".to_owned();
    values.chain([origins]).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_file_tells_what_the_server_needs() {
        let told = "pg_control version number:            1300\n\
            wal_level setting:                    replica\n\
            max_connections setting:              300\n\
            max_prepared_xacts setting:           7\n\
            track_commit_timestamp setting:       on\n\
            Data page checksum version:           0\n";
        assert_eq!(
            controlled(told),
            [
                "max_connections = 300",
                "max_prepared_transactions = 7",
                "track_commit_timestamp = on",
                "max_replication_slots = 1000",
            ]
        );
    }
}
