//! A whole server as one script: `pg_dumpall`, put back through `psql`.
//!
//! The script begins with roles and tablespaces, of which a load creates what is missing, as [`super::globals`] does. The rest
//! makes databases and fills them, stopping at the first error; so those that it makes are dropped before, but for `postgres`
//! and `template1`: the script drops those itself, each from within the other. Databases that it does not know stay.
//!
//! All of this writes over what was there: its way back is a safety snapshot.

use std::io::Cursor;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tracing::warn;

use super::PostgresDriver;
use super::dump::{IDLE, LOCK_WAIT};
use super::globals::{create_missing, ensure_trailer, pg_dumpall};
use super::load::ensure_not_older;
use super::queries::end_sessions_in;
use super::server::{Server, psql_argv, utf8};
use super::sql::quote_ident;
use super::swap::Swap;
use crate::driver::clients::{Chatter, DumpOrder};
use crate::driver::{ArtifactSink, ArtifactSource, Captured, DriverError};
use crate::manifest::{Facts, PostgresFacts, Role, TargetRecord};
use crate::pipe::ByteStream;
use crate::repository::snapshot::open_plain;

/// The comment that `pg_dumpall` writes between roles and databases.
const DATABASES: &str = "-- Databases";
/// A bound for what is held in memory: hundreds of thousands of roles.
const MOST_GLOBALS: usize = 64 * 1024 * 1024;
const POSTGRES: &str = "postgres";
const TEMPLATE: &str = "template1";

pub(super) async fn dump_all(
    driver: &PostgresDriver,
    server: &Server,
    sink: &dyn ArtifactSink,
) -> Result<Captured, DriverError> {
    let databases = server.databases(server.maintenance_db()).await?;
    let mut warnings = Vec::new();
    let mut argv = pg_dumpall(server, &mut warnings);
    argv.extend(["--clean", "--if-exists"].map(str::to_owned));
    argv.push(format!("--lock-wait-timeout={}", LOCK_WAIT.as_millis()));
    let order = DumpOrder {
        argv,
        role: Role::Dump,
        extension: "sql",
        transfer: driver.labels().transfer,
        idle_limit: IDLE,
        chatter: Chatter::Warning,
    };
    let clients = server.clients();
    let taken = clients.dump(driver.visitor(server), &order, sink).await?;
    ensure_trailer(&taken.tail)?;
    warnings.extend(taken.warnings);
    Ok(Captured {
        transfer: taken.transfer,
        facts: Facts::Postgres(PostgresFacts {
            server_version: server.facts.version.clone(),
            databases: databases
                .into_iter()
                .filter(|database| database.allows_connections)
                .map(|database| database.name)
                .collect(),
            size: size(server).await?,
            ..PostgresFacts::default()
        }),
        artifacts: vec![taken.artifact],
        warnings,
    })
}

/// Of all databases, in bytes.
async fn size(server: &Server) -> Result<u64, DriverError> {
    #[derive(Deserialize)]
    struct Answer {
        size: u64,
    }
    let query = "SELECT sum(pg_catalog.pg_database_size(oid))::bigint AS size FROM pg_catalog.pg_database \
                 WHERE datallowconn";
    let answers: Vec<Answer> = server.query(server.maintenance_db(), query).await?;
    Ok(answers.first().map_or(0, |answer| answer.size))
}

pub(super) async fn load_all(
    driver: &PostgresDriver,
    server: &Server,
    record: &TargetRecord,
    facts: &PostgresFacts,
    source: &dyn ArtifactSource,
) -> Result<(), DriverError> {
    ensure_not_older(server, facts)?;
    let artifact = record.artifact(Role::Dump).ok_or_else(|| {
        DriverError::failed(format!(
            "the snapshot holds no script for {}",
            record.target
        ))
    })?;
    let plain = open_plain(source, artifact).await?;
    let script = Script::split(server, plain).await?;
    create_missing(server, &script.globals).await?;
    // The script needs these two also where the saved server had lost one of them.
    let everywhere = [POSTGRES, TEMPLATE];
    let others = facts.databases.iter().map(String::as_str);
    let others = others.filter(|name| !everywhere.contains(name));
    for database in everywhere.into_iter().chain(others) {
        make_way(driver, server, database).await?;
    }
    fill(driver, server, script.databases).await
}

/// A script in two parts.
struct Script {
    globals: String,
    databases: ByteStream,
}

impl Script {
    async fn split(server: &Server, plain: ByteStream) -> Result<Self, DriverError> {
        let failed = |error| server.clients().body_error(error);
        let mut plain = BufReader::new(plain);
        let mut globals = Vec::new();
        loop {
            let start = globals.len();
            let length = plain
                .read_until(b'\n', &mut globals)
                .await
                .map_err(failed)?;
            if length == 0 || globals.len() > MOST_GLOBALS {
                return Err(DriverError::failed(
                    "this is no script of pg_dumpall: it says nowhere that databases begin",
                ));
            }
            if globals[start..].trim_ascii_end() == DATABASES.as_bytes() {
                break;
            }
        }
        let globals = String::from_utf8(globals)
            .map_err(|_| DriverError::failed("the script's roles are not UTF-8"))?;
        let databases = Cursor::new(restriction(&globals)).chain(plain);
        Ok(Self {
            databases: Box::pin(databases),
            globals,
        })
    }
}

/// Scripts of later minor versions keep psql's own commands out of the data by `\restrict`, which has to be in force where
/// they end it again. What is in force at the end of `globals`.
fn restriction(globals: &str) -> Vec<u8> {
    let mut lines = globals.lines().rev();
    lines
        .find(|line| line.starts_with("\\restrict ") || line.starts_with("\\unrestrict "))
        .filter(|line| line.starts_with("\\restrict "))
        .map(|line| format!("{line}\n").into_bytes())
        .unwrap_or_default()
}

/// Lets the script find what it expects: nobody in `postgres` and `template1`, which are there, and no other of its databases.
async fn make_way(
    driver: &PostgresDriver,
    server: &Server,
    database: &str,
) -> Result<(), DriverError> {
    let seat = server.seat_beside(database);
    let present = server.databases(&seat).await?;
    let is_present = present.iter().any(|found| found.name == database);
    let order = match (database, is_present) {
        (POSTGRES | TEMPLATE, true) => end_sessions_in(&[database]),
        (POSTGRES | TEMPLATE, false) => {
            format!(
                "CREATE DATABASE {} TEMPLATE template0",
                quote_ident(database)
            )
        }
        (_, true) => {
            return Swap::new(server, database, driver.run())
                .drop_database()
                .await;
        }
        (_, false) => return Ok(()),
    };
    server.execute(&seat, &[&order]).await
}

async fn fill(
    driver: &PostgresDriver,
    server: &Server,
    databases: ByteStream,
) -> Result<(), DriverError> {
    // The script's first act is to drop `template1`, from where it expects to begin.
    let mut argv = psql_argv(POSTGRES);
    argv.extend(["-f", "-"].map(str::to_owned));
    let watch = driver.watch(server);
    let clients = server.clients();
    let spec = clients.spec(argv, utf8(watch.mark(server.loading_environment())));
    // Some proxies do not carry the end of an input.
    let input = databases.chain(Cursor::new(b"\n\\quit\n"));
    let output = clients.exec_with_input(&spec, Box::pin(input)).await?;
    watch.dismiss();
    clients.ensure_success("psql", &output)
}

/// Every database of the script is there.
pub(super) async fn check_all(server: &Server, facts: &PostgresFacts) -> Result<(), DriverError> {
    let present = server.databases(server.maintenance_db()).await?;
    let is_there = |name: &str| present.iter().any(|database| database.name == name);
    let (known, missing): (Vec<&str>, Vec<&str>) = facts
        .databases
        .iter()
        .map(String::as_str)
        .partition(|name| is_there(name));
    if !missing.is_empty() {
        return Err(DriverError::failed(format!(
            "after the load these databases are missing: {}",
            missing.join(", ")
        )));
    }
    for extra in present
        .iter()
        .filter(|database| database.allows_connections && !known.contains(&database.name.as_str()))
    {
        warn!(
            container = server.container().name,
            "database {} is not in the snapshot and stays as it is", extra.name
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restriction_that_is_in_force_is_kept_up() {
        for (globals, expected) in [
            ("SET a = b;\n-- Databases\n", ""),
            (
                "\\restrict abc\nSET a = b;\n-- Databases\n",
                "\\restrict abc\n",
            ),
            (
                "\\restrict abc\nSET a;\n\\unrestrict abc\n-- Databases\n",
                "",
            ),
            (
                "\\restrict a\n\\unrestrict a\n\\restrict b\n",
                "\\restrict b\n",
            ),
        ] {
            assert_eq!(restriction(globals), expected.as_bytes(), "{globals}");
        }
    }
}
