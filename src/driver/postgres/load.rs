//! Putting a database back.
//!
//! `swap` and `recreate` load into a new database of another name (see [`super::swap`]): `recreate` drops the old one first
//! and puts the new one into its place by itself, `swap` leaves that to the commit. `clean` loads into the database that is
//! there, in one transaction, so that a load that fails has changed nothing.

use serde::Deserialize;
use tracing::{info, warn};

use super::PostgresDriver;
use super::create::{pg_restore_script, renamed_script};
use super::failure::visit_error;
use super::inlet::{Inlet, Proof};
use super::server::{Server, Transaction};
use super::sql::connection_string;
use super::swap::Swap;
use crate::agent::inside::{Visit, VisitError};
use crate::driver::{ArtifactSource, DriverError};
use crate::labels::{PostgresRestore, TransferChoice};
use crate::manifest::{PostgresFacts, Role, TargetRecord};

/// Loads one database.
pub(super) async fn load_database(
    driver: &PostgresDriver,
    server: &Server,
    record: &TargetRecord,
    facts: &PostgresFacts,
    source: &dyn ArtifactSource,
) -> Result<(), DriverError> {
    let artifact = record.artifact(Role::Dump).ok_or_else(|| {
        DriverError::failed(format!("the snapshot holds no dump for {}", record.target))
    })?;
    ensure_not_older(server, facts)?;
    let load = Load {
        driver,
        server,
        facts,
        swap: Swap::new(server, &record.target.name, driver.run()),
    };
    let by_stream = || async {
        let inlet = Inlet::stream(server, source, artifact).await?;
        load.through(&inlet).await
    };
    if driver.labels().transfer == TransferChoice::Stream {
        return by_stream().await;
    }
    match Visit::begin(driver.visitor(server)).await {
        Ok(visit) => {
            let loaded = async {
                let inlet = Inlet::bring(server, &visit, source, artifact).await?;
                load.through(&inlet).await
            }
            .await;
            if let Err(left) = visit.end().await {
                warn!("{left}");
            }
            loaded
        }
        Err(error @ VisitError::NoPlace { .. }) => {
            warn!("{error}; the dump goes through the exec's standard input instead");
            by_stream().await
        }
        Err(error) => Err(visit_error(server, error)),
    }
}

/// `pg_restore` understands dumps of its own version and of older ones.
fn ensure_not_older(server: &Server, facts: &PostgresFacts) -> Result<(), DriverError> {
    let saved: Option<u32> = facts
        .server_version
        .split(|character: char| !character.is_ascii_digit())
        .next()
        .and_then(|major| major.parse().ok());
    let here = server.facts.major();
    match saved {
        Some(saved) if saved > here => Err(DriverError::failed_with_hint(
            format!(
                "the snapshot was taken from PostgreSQL {}, and container {} runs {}",
                facts.server_version,
                server.container().name,
                server.facts.version
            ),
            format!("restore it into PostgreSQL {saved} or later"),
        )),
        Some(saved) if saved < here => {
            info!("a dump of PostgreSQL {saved} goes into PostgreSQL {here}");
            Ok(())
        }
        _ => Ok(()),
    }
}

struct Load<'a> {
    driver: &'a PostgresDriver,
    server: &'a Server,
    facts: &'a PostgresFacts,
    swap: Swap<'a>,
}

impl Load<'_> {
    async fn through(&self, inlet: &Inlet<'_>) -> Result<(), DriverError> {
        self.swap.drop_loading().await?;
        match self.driver.labels().restore {
            PostgresRestore::Swap => {
                let script = self.script(inlet, Proof::Meanwhile).await?;
                self.create_and_fill(inlet, script).await
            }
            PostgresRestore::Recreate => {
                let script = self.script(inlet, Proof::First).await?;
                self.swap.drop_database().await?;
                self.create_and_fill(inlet, script).await?;
                self.swap.commit().await
            }
            PostgresRestore::Clean if self.swap.exists().await? => {
                let options = ["--clean", "--if-exists", "--single-transaction"];
                let argv = pg_restore(&options, &self.swap.names.database);
                self.fill(inlet, argv, Proof::First, 1).await
            }
            PostgresRestore::Clean => {
                let script = self.script(inlet, Proof::Meanwhile).await?;
                self.create_and_fill(inlet, script).await?;
                self.swap.commit().await
            }
        }
    }

    /// What makes the new database, before anything is in it.
    async fn script(&self, inlet: &Inlet<'_>, proof: Proof) -> Result<Vec<u8>, DriverError> {
        let argv = pg_restore_script(self.driver.run().short());
        let script = inlet.script(self.server, argv, proof).await?;
        renamed_script(&script, &self.swap.names.loading)
    }

    async fn create_and_fill(&self, inlet: &Inlet<'_>, script: Vec<u8>) -> Result<(), DriverError> {
        self.server
            .run_script(self.swap.seat(), script, Transaction::Each)
            .await?;
        let jobs = self.driver.jobs(inlet.cores(), self.facts);
        let argv = pg_restore(&[], &self.swap.names.loading);
        self.fill(inlet, argv, Proof::Meanwhile, jobs).await?;
        self.swap.mark_loaded(self.driver.old_database()).await
    }

    async fn fill(
        &self,
        inlet: &Inlet<'_>,
        argv: Vec<String>,
        proof: Proof,
        jobs: usize,
    ) -> Result<(), DriverError> {
        let watch = self.driver.watch(self.server);
        inlet
            .restore(self.server, &watch, argv, proof, jobs)
            .await?;
        watch.dismiss();
        Ok(())
    }
}

fn pg_restore(options: &[&str], database: &str) -> Vec<String> {
    let mut argv: Vec<String> = ["pg_restore", "--no-password", "--exit-on-error"]
        .iter()
        .chain(options)
        .map(|&option| option.to_owned())
        .collect();
    argv.push(format!("--dbname={}", connection_string(database)));
    argv
}

/// Every table that the dump held is there.
pub(super) async fn check_database(
    driver: &PostgresDriver,
    server: &Server,
    record: &TargetRecord,
    facts: &PostgresFacts,
) -> Result<(), DriverError> {
    #[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
    struct Named {
        schema: String,
        name: String,
    }
    let swap = Swap::new(server, &record.target.name, driver.run());
    let database = if swap.is_loading().await? {
        &swap.names.loading
    } else {
        &swap.names.database
    };
    let mut found: Vec<Named> = server
        .query(
            database,
            "SELECT n.nspname::text AS schema, c.relname::text AS name FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')",
        )
        .await?;
    found.sort();
    let missing: Vec<String> = facts
        .tables
        .iter()
        .filter(|table| {
            found
                .binary_search_by(|there| {
                    (&there.schema, &there.name).cmp(&(&table.schema, &table.name))
                })
                .is_err()
        })
        .map(|table| format!("{}.{}", table.schema, table.name))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(DriverError::failed(format!(
            "after the load of {} these tables are missing: {}",
            record.target,
            missing.join(", ")
        )))
    }
}
