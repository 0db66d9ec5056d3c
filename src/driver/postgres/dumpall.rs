//! A whole server as one script: `pg_dumpall`, put back through `psql`.
//!
//! The script begins with roles and tablespaces, of which a load creates what is missing, as [`super::globals`] does. The rest
//! makes databases and fills them, stopping at the first error; so those of the same names are renamed away before (see
//! [`super::cluster`]). Databases that it does not know stay.

use std::collections::BTreeSet;
use std::io::Cursor;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tracing::warn;

use super::PostgresDriver;
use super::cluster::Cluster;
use super::dump::{IDLE, LOCK_WAIT};
use super::globals::{create_missing, ensure_names_are_utf8, ensure_trailer, pg_dumpall};
use super::load::ensure_not_older;
use super::names::is_of_a_restore;
use super::queries::Database;
use super::server::{Server, psql_argv, utf8};
use super::session::{SEARCH_PATH, Session, both, may_be_the_session};
use super::sql::text_of;
use crate::driver::clients::{Chatter, DumpOrder};
use crate::driver::{Captured, DriverError};
use crate::manifest::{Facts, PostgresFacts, Role, TargetRecord};
use crate::pipe::ByteStream;
use crate::snapshot::{ArtifactSink, ArtifactSource, open_plain};

/// The comment that `pg_dumpall` writes between roles and databases.
const DATABASES: &str = "-- Databases";
/// A bound for what is held in memory: hundreds of thousands of roles.
const MOST_GLOBALS: usize = 64 * 1024 * 1024;

pub(super) async fn dump_all(
    driver: &PostgresDriver,
    server: &Server,
    sink: &dyn ArtifactSink,
) -> Result<Captured, DriverError> {
    ensure_names_are_utf8(server).await?;
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
        relay: None,
    };
    let search_path = search_path(server, &databases).await?;
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
            search_path,
            ..PostgresFacts::default()
        }),
        artifacts: vec![taken.artifact],
        warnings,
    })
}

/// Of all databases together, as far as it can be written in any of their encodings.
async fn search_path(server: &Server, databases: &[Database]) -> Result<String, DriverError> {
    #[derive(Deserialize)]
    struct Answer {
        path: String,
    }
    let mut paths = BTreeSet::new();
    for database in databases {
        if database.allows_connections && !database.is_template {
            let query = format!("SELECT ({SEARCH_PATH}) AS path");
            let answers: Vec<Answer> = server.query(&database.name, &query).await?;
            paths.extend(answers.into_iter().map(|answer| answer.path));
        }
    }
    let paths: Vec<String> = paths.into_iter().filter(|path| path.is_ascii()).collect();
    Ok(paths.join(", "))
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
    let load = async |session: &Session| {
        let plain = open_plain(source, artifact).await?;
        let script = Script::split(server, plain).await?;
        load_script(driver, server, facts, script, session).await
    };
    let Err(error) = load(&Session::AsDumped).await else {
        return Ok(());
    };
    if !may_be_the_session(&error) {
        return Err(error);
    }
    let session = Session::own_of_each(&facts.search_path);
    warn!(
        container = server.container().name,
        "{}",
        session.instead_of(&error)
    );
    load(&session).await.map_err(|again| both(error, again))
}

async fn load_script(
    driver: &PostgresDriver,
    server: &Server,
    facts: &PostgresFacts,
    script: Script,
    session: &Session,
) -> Result<(), DriverError> {
    let cluster = Cluster::new(server, driver.run());
    // An attempt that failed may have closed the database that the next orders are given from.
    cluster.roll_back().await?;
    create_missing(server, &script.globals).await?;
    cluster
        .make_way(&facts.databases, driver.old_database())
        .await?;
    fill(driver, cluster.seated(), script.databases, session).await?;
    cluster.mark_loaded().await
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
                    "this is not a script of pg_dumpall: it does not mark where the databases begin",
                ));
            }
            if globals[start..].trim_ascii_end() == DATABASES.as_bytes() {
                break;
            }
        }
        let globals = text_of(&globals);
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

async fn fill(
    driver: &PostgresDriver,
    server: &Server,
    databases: ByteStream,
    session: &Session,
) -> Result<(), DriverError> {
    let mut argv = psql_argv(server.maintenance_db());
    argv.extend(["-f", "-"].map(str::to_owned));
    let watch = driver.watch(server);
    let clients = server.clients();
    let spec = clients.spec(argv, utf8(watch.mark(server.loading_environment(session))));
    // Some proxies do not carry the end of an input.
    let input = session.script(databases).chain(Cursor::new(b"\n\\quit\n"));
    server.feed(&spec, Box::pin(input)).await?;
    watch.dismiss();
    Ok(())
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
    for extra in present.iter().filter(|database| {
        let name = database.name.as_str();
        database.allows_connections && !known.contains(&name) && !is_of_a_restore(name)
    }) {
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
