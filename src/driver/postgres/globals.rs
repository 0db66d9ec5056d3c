//! Roles and tablespaces of a whole server: `pg_dumpall --globals-only`.
//!
//! A load creates what is missing and leaves what exists alone, with its password: the script of the snapshot is split
//! into statements, and those that concern something that the server has already are left out. Nothing is dropped, so a
//! rollback has nothing to undo: a role too many does no harm.

use std::collections::BTreeSet;
use std::io::Cursor;

use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tracing::{info, warn};

use super::dump::IDLE;
use super::memberships::{Grantors, Policy};
use super::missing::{Present, missing};
use super::queries::{received, sent};
use super::server::{Server, Transaction, utf8};
use super::sql::{bytes_of, connection_string, text_of};
use crate::driver::{Captured, DriverError};
use crate::manifest::{Artifact, Facts, PostgresFacts, Role, TargetRecord, Transfer};
use crate::pipe::ByteStream;
use crate::snapshot::{ArtifactSink, ArtifactSource, NewArtifact, open_plain};

/// The last line that `pg_dumpall` writes, but for psql's `\unrestrict` of later versions.
const TRAILER: &str = "-- PostgreSQL database cluster dump complete";
/// How near the end the trailer has to be, in bytes.
const TRAILER_WITHIN: usize = 400;
/// A bound for what is held in memory: hundreds of thousands of roles.
const MOST_SCRIPT: u64 = 64 * 1024 * 1024;

pub(super) async fn dump_globals(
    server: &Server,
    sink: &dyn ArtifactSink,
) -> Result<Captured, DriverError> {
    ensure_names_are_utf8(server).await?;
    let mut warnings = Vec::new();
    let mut argv = pg_dumpall(server, &mut warnings);
    argv.push("--globals-only".to_owned());
    let clients = server.clients();
    let spec = clients.spec(argv, utf8(server.environment().clone()));
    let script = clients
        .engine
        .exec_stream(&clients.container.id, &spec, IDLE)
        .await
        .map_err(|error| clients.engine_error(error))?;
    let script = read_whole(server, script).await?;
    ensure_trailer(&script)?;
    warnings.extend(unreadable_warning(&script)?);

    let new = |compression| NewArtifact {
        role: Role::Globals,
        extension: "sql",
        compression,
    };
    let script = Box::pin(Cursor::new(script));
    let artifact = clients.store_compressed(new, script, sink).await?;
    Ok(Captured {
        transfer: Transfer::Stream,
        facts: Facts::Postgres(PostgresFacts {
            server_version: server.facts.version.clone(),
            ..PostgresFacts::default()
        }),
        artifacts: vec![artifact],
        warnings,
    })
}

/// Names belong to the whole server, and databases of different encodings may share them. `pg_dumpall` asks for each by name, in
/// one encoding.
pub(super) async fn ensure_names_are_utf8(server: &Server) -> Result<(), DriverError> {
    #[derive(Deserialize)]
    struct Named {
        what: String,
        name: String,
    }
    let query = format!(
        "SELECT 'role' AS what, {} AS name FROM pg_catalog.pg_roles \
         UNION ALL SELECT 'tablespace', {} FROM pg_catalog.pg_tablespace",
        sent("rolname"),
        sent("spcname")
    );
    let rows: Vec<Named> = server.query(server.maintenance_db(), &query).await?;
    let unreadable: Vec<String> = rows
        .into_iter()
        .filter_map(|Named { what, name }| {
            let name = String::from_utf8(received(&name)).err()?;
            let shown = String::from_utf8_lossy(name.as_bytes());
            Some(format!("{what} {shown}"))
        })
        .collect();
    if unreadable.is_empty() {
        return Ok(());
    }
    Err(DriverError::failed_with_hint(
        format!(
            "pg_dumpall cannot save names that are not UTF-8: {}",
            unreadable.join(", ")
        ),
        "rename them, in a session of a database that has their encoding",
    ))
}

/// Comments are kept in whatever encoding they came.
fn unreadable_warning(script: &[u8]) -> Result<Option<String>, DriverError> {
    let text = text_of(script);
    let found = missing(&text, &Present::default(), Grantors::default())?;
    Ok((!found.unreadable.is_empty()).then(|| {
        format!(
            "not UTF-8, so a restore leaves it out: {}",
            found.unreadable.into_iter().collect::<Vec<_>>().join(", ")
        )
    }))
}

/// Roles' passwords are read from a table that only superusers may look into.
pub(super) fn pg_dumpall(server: &Server, warnings: &mut Vec<String>) -> Vec<String> {
    let mut argv = ["pg_dumpall", "--no-password"].map(str::to_owned).to_vec();
    argv.push(format!(
        "--database={}",
        connection_string(server.maintenance_db())
    ));
    if !server.facts.superuser {
        argv.push("--no-role-passwords".to_owned());
        warnings.push(format!(
            "{} is not a superuser: the passwords of roles are not saved",
            server.facts.user
        ));
    }
    argv
}

async fn read_whole(server: &Server, script: ByteStream) -> Result<Vec<u8>, DriverError> {
    let mut bytes = Vec::new();
    let length = script
        .take(MOST_SCRIPT + 1)
        .read_to_end(&mut bytes)
        .await
        .map_err(|error| server.clients().body_error(error))?;
    if length as u64 > MOST_SCRIPT {
        return Err(DriverError::failed(format!(
            "the script of roles is longer than {MOST_SCRIPT} bytes"
        )));
    }
    Ok(bytes)
}

/// `script`: all of it, or its end.
pub(super) fn ensure_trailer(script: &[u8]) -> Result<(), DriverError> {
    let end = &script[script.len().saturating_sub(TRAILER_WITHIN)..];
    if String::from_utf8_lossy(end).contains(TRAILER) {
        Ok(())
    } else {
        Err(DriverError::failed(
            "the script is incomplete: pg_dumpall's last line is missing",
        ))
    }
}

/// Puts roles and tablespaces back.
pub(super) async fn load_globals(
    server: &Server,
    record: &TargetRecord,
    source: &dyn ArtifactSource,
) -> Result<(), DriverError> {
    let script = fetch(server, record, source).await?;
    create_missing(server, &script).await
}

/// Creates the roles and tablespaces of a script that the server lacks. The script is text of [`text_of`].
pub(super) async fn create_missing(server: &Server, script: &str) -> Result<(), DriverError> {
    let present = present(server).await?;
    let missing = missing(script, &present, grantors(server).await?)?;
    for name in &missing.created {
        info!(
            container = server.container().name,
            name, "creating what is missing"
        );
    }
    for statement in &missing.unknown {
        warn!(
            container = server.container().name,
            "left out of the script of roles: {statement}"
        );
    }
    for name in &missing.unreadable {
        warn!(
            container = server.container().name,
            "left out, because it is not UTF-8: {name}"
        );
    }
    if !missing.roles.is_empty() {
        let roles = script_of(&missing.roles);
        server
            .run_script(server.maintenance_db(), roles, Transaction::One)
            .await?;
    }
    if !missing.tablespaces.is_empty() {
        // CREATE TABLESPACE allows no transaction around it.
        let tablespaces = script_of(&missing.tablespaces);
        server
            .run_script(server.maintenance_db(), tablespaces, Transaction::Each)
            .await?;
    }
    ensure_complete(server, script).await
}

/// Every role and tablespace of the script is there.
async fn ensure_complete(server: &Server, script: &str) -> Result<(), DriverError> {
    let missing = missing(script, &present(server).await?, Grantors::default())?;
    if missing.created.is_empty() {
        Ok(())
    } else {
        Err(DriverError::failed(format!(
            "after the load there is still no {}",
            missing.created.join(", no ")
        )))
    }
}

async fn fetch(
    server: &Server,
    record: &TargetRecord,
    source: &dyn ArtifactSource,
) -> Result<String, DriverError> {
    let artifact = artifact(record)?;
    let plain = open_plain(source, artifact).await?;
    let bytes = read_whole(server, plain).await?;
    ensure_trailer(&bytes)?;
    Ok(text_of(&bytes))
}

fn artifact(record: &TargetRecord) -> Result<&Artifact, DriverError> {
    record.artifact(Role::Globals).ok_or_else(|| {
        DriverError::failed(format!(
            "the snapshot holds no script of roles for {}",
            record.target
        ))
    })
}

fn text_received(hex: &str) -> String {
    text_of(&received(hex))
}

async fn present(server: &Server) -> Result<Present, DriverError> {
    #[derive(Deserialize)]
    struct Named {
        role: Option<String>,
        tablespace: Option<String>,
    }
    let query = format!(
        "SELECT {} AS role, NULL AS tablespace FROM pg_catalog.pg_roles \
         UNION ALL SELECT NULL, {} FROM pg_catalog.pg_tablespace",
        sent("rolname"),
        sent("spcname")
    );
    let rows: Vec<Named> = server.query(server.maintenance_db(), &query).await?;
    let mut present = Present::default();
    for row in rows {
        present.roles.extend(row.role.as_deref().map(text_received));
        present
            .tablespaces
            .extend(row.tablespace.as_deref().map(text_received));
    }
    Ok(present)
}

/// Who may grant memberships on this server.
async fn grantors(server: &Server) -> Result<Grantors, DriverError> {
    const FIRST_TO_ASK: u32 = 16;

    #[derive(Deserialize)]
    struct Row {
        role: Option<String>,
        name: String,
    }
    if !server.facts.superuser {
        return Ok(Grantors::new(Policy::Nobody, BTreeSet::new()));
    }
    if server.facts.major() < FIRST_TO_ASK {
        return Ok(Grantors::default());
    }
    // The superuser that the server was made with has number 10.
    let query = format!(
        "SELECT {role} AS role, {member} AS name FROM pg_catalog.pg_auth_members a \
         JOIN pg_catalog.pg_roles r ON r.oid = a.roleid JOIN pg_catalog.pg_roles m ON m.oid = a.member WHERE admin_option \
         UNION ALL SELECT NULL, {first} FROM pg_catalog.pg_roles WHERE oid = 10",
        role = sent("r.rolname"),
        member = sent("m.rolname"),
        first = sent("rolname"),
    );
    let rows: Vec<Row> = server.query(server.maintenance_db(), &query).await?;
    let mut policy = Policy::Nobody;
    let mut admins = BTreeSet::new();
    for Row { role, name } in rows {
        match role {
            Some(role) => {
                admins.insert((text_received(&role), text_received(&name)));
            }
            None => policy = Policy::AdminsAnd(text_received(&name)),
        }
    }
    Ok(Grantors::new(policy, admins))
}

fn script_of(statements: &[String]) -> Vec<u8> {
    let mut script = String::new();
    for statement in statements {
        script.push_str(statement);
        script.push_str(";\n");
    }
    bytes_of(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_without_its_last_line_is_not_whole() {
        let script = format!("CREATE ROLE app;\n\n--\n{TRAILER}\n--\n\n");
        assert!(ensure_trailer(script.as_bytes()).is_ok());
        assert!(ensure_trailer(&script.as_bytes()[..script.len() - 20]).is_err());
        assert!(ensure_trailer(b"").is_err());
        let early = format!("{TRAILER}\n{}", "CREATE ROLE x;\n".repeat(100));
        assert!(ensure_trailer(early.as_bytes()).is_err());
    }
}
