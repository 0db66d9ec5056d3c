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
use super::server::{Server, Transaction, utf8};
use super::sql::{Statement, connection_string, statements};
use crate::driver::{ArtifactSink, ArtifactSource, Captured, DriverError, NewArtifact};
use crate::manifest::{Artifact, Facts, PostgresFacts, Role, TargetRecord, Transfer};
use crate::pipe::ByteStream;
use crate::repository::snapshot::open_plain;

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
            "{} is no superuser: the passwords of roles are not saved",
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
            "the script is not whole: pg_dumpall's last line is missing",
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

/// Creates the roles and tablespaces of a script that the server lacks.
pub(super) async fn create_missing(server: &Server, script: &str) -> Result<(), DriverError> {
    let present = present(server).await?;
    let missing = missing(script, &present)?;
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
    let missing = missing(script, &present(server).await?)?;
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
    String::from_utf8(bytes).map_err(|_| DriverError::failed("the script of roles is not UTF-8"))
}

fn artifact(record: &TargetRecord) -> Result<&Artifact, DriverError> {
    record.artifact(Role::Globals).ok_or_else(|| {
        DriverError::failed(format!(
            "the snapshot holds no script of roles for {}",
            record.target
        ))
    })
}

/// Names of roles and tablespaces that exist.
#[derive(Debug, Default)]
struct Present {
    roles: BTreeSet<String>,
    tablespaces: BTreeSet<String>,
}

async fn present(server: &Server) -> Result<Present, DriverError> {
    #[derive(Deserialize)]
    struct Named {
        role: Option<String>,
        tablespace: Option<String>,
    }
    let rows: Vec<Named> = server
        .query(
            server.maintenance_db(),
            "SELECT rolname::text AS role, NULL::text AS tablespace FROM pg_catalog.pg_roles \
             UNION ALL SELECT NULL, spcname::text FROM pg_catalog.pg_tablespace",
        )
        .await?;
    let mut present = Present::default();
    for row in rows {
        present.roles.extend(row.role);
        present.tablespaces.extend(row.tablespace);
    }
    Ok(present)
}

/// What of a script concerns things that do not exist yet.
#[derive(Debug, Default, PartialEq, Eq)]
struct Missing {
    /// For people: `role app`, `tablespace fast`.
    created: Vec<String>,
    roles: Vec<String>,
    tablespaces: Vec<String>,
    /// Statements that are none of those that `pg_dumpall` is known to write, without what might be secret.
    unknown: Vec<String>,
}

fn missing(script: &str, present: &Present) -> Result<Missing, DriverError> {
    let statements =
        statements(script).map_err(|error| DriverError::failed(format!("roles: {error}")))?;
    let mut missing = Missing::default();
    for statement in &statements {
        let text = || statement.text.to_owned();
        match Subject::of(statement) {
            Subject::Session => {
                missing.roles.push(text());
                missing.tablespaces.push(text());
            }
            Subject::Roles(names) => {
                if names.iter().any(|name| !present.roles.contains(*name)) {
                    missing.roles.push(text());
                    if statement.begins_with(&["create"]) {
                        missing
                            .created
                            .extend(names.iter().map(|name| format!("role {name}")));
                    }
                }
            }
            Subject::Tablespace(name) => {
                if !present.tablespaces.contains(name) {
                    missing.tablespaces.push(text());
                    if statement.begins_with(&["create"]) {
                        missing.created.push(format!("tablespace {name}"));
                    }
                }
            }
            Subject::Dropped => {}
            Subject::Unknown => missing.unknown.push(first_words(statement)),
        }
    }
    // Settings of the session alone change nothing.
    let only_settings = |statements: &[String]| {
        statements.iter().all(|text| {
            text.get(..4)
                .is_some_and(|verb| verb.eq_ignore_ascii_case("SET "))
        })
    };
    if only_settings(&missing.roles) {
        missing.roles.clear();
    }
    if only_settings(&missing.tablespaces) {
        missing.tablespaces.clear();
    }
    Ok(missing)
}

/// What a statement of `pg_dumpall --globals-only` is about.
#[derive(Debug, PartialEq, Eq)]
enum Subject<'a> {
    Session,
    /// It is wanted when one of these roles is new.
    Roles(Vec<&'a str>),
    Tablespace(&'a str),
    /// Roles are never dropped, and databases by those who know whether anybody is in them.
    Dropped,
    Unknown,
}

impl<'a> Subject<'a> {
    fn of(statement: &'a Statement<'_>) -> Self {
        let name_after =
            |words: &[&str]| statement.after(words).and_then(|at| statement.name_at(at));
        let role = |words: &[&str]| name_after(words).map(|name| Self::Roles(vec![name]));
        let tablespace = |words: &[&str]| name_after(words).map(Self::Tablespace);
        let subject = if statement.begins_with(&["set"]) {
            Some(Self::Session)
        } else if statement.begins_with(&["drop"]) {
            Some(Self::Dropped)
        } else if statement.begins_with(&["create", "role"]) {
            role(&["create", "role"])
        } else if statement.begins_with(&["alter", "role"]) {
            role(&["alter", "role"])
        } else if statement.begins_with(&["comment", "on", "role"]) {
            role(&["on", "role"])
        } else if statement.begins_with(&["create", "tablespace"]) {
            tablespace(&["create", "tablespace"])
        } else if statement.begins_with(&["alter", "tablespace"]) {
            tablespace(&["alter", "tablespace"])
        } else if statement.begins_with(&["comment", "on", "tablespace"]) {
            tablespace(&["on", "tablespace"])
        } else if statement.begins_with(&["security", "label"]) {
            role(&["on", "role"]).or_else(|| tablespace(&["on", "tablespace"]))
        } else if statement.begins_with(&["grant"]) || statement.begins_with(&["revoke"]) {
            Self::of_grant(statement)
        } else {
            None
        };
        subject.unwrap_or(Self::Unknown)
    }

    /// `GRANT … ON TABLESPACE x TO y`, `GRANT … ON PARAMETER x TO y`, or a membership: `GRANT x TO y …`.
    fn of_grant(statement: &'a Statement<'_>) -> Option<Self> {
        if let Some(at) = statement.after(&["on", "tablespace"]) {
            return statement.name_at(at).map(Self::Tablespace);
        }
        let to = statement
            .after(&["to"])
            .or_else(|| statement.after(&["from"]))?;
        let receiver = statement.name_at(to)?;
        if statement.after(&["on", "parameter"]).is_some() {
            return Some(Self::Roles(vec![receiver]));
        }
        let is_membership = to == 3 && statement.after(&["on"]).is_none();
        is_membership.then(|| Some(Self::Roles(vec![statement.name_at(1)?, receiver])))?
    }
}

/// The keywords that a statement begins with: nothing in them is anyone's secret.
fn first_words(statement: &Statement<'_>) -> String {
    let end = statement.tokens.get(1).map_or(0, |token| token.end);
    format!("{} …", &statement.text[..end])
}

fn script_of(statements: &[String]) -> Vec<u8> {
    let mut script = String::new();
    for statement in statements {
        script.push_str(statement);
        script.push_str(";\n");
    }
    script.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = r#"--
-- PostgreSQL database cluster dump
--

\restrict SREeyVNCly3qmVgwJ6XQMFaNzHkNhUMCi7MD5JSSHw8OhFMkpsJd7ARlT1dIbXw

SET default_transaction_read_only = off;

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;

CREATE ROLE "Dr ""No""";
ALTER ROLE "Dr ""No""" WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:TUPj;9frz==$t:y';
CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER INHERIT NOLOGIN;
COMMENT ON ROLE app IS 'a;b -- CREATE ROLE c;';
CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER LOGIN PASSWORD 'secret';

ALTER ROLE "Dr ""No""" SET search_path TO 'a;b', 'c';

GRANT app TO "Dr ""No""" WITH ADMIN OPTION GRANTED BY postgres;
GRANT pg_monitor TO postgres WITH INHERIT TRUE GRANTED BY postgres;
GRANT SET ON PARAMETER work_mem TO app;

CREATE TABLESPACE fast OWNER app LOCATION '/srv/fast';
ALTER TABLESPACE fast SET (seq_page_cost=1);
GRANT CREATE ON TABLESPACE fast TO app;
CREATE SUPERCOOL postgres PASSWORD 'secret';

\unrestrict SREeyVNCly3qmVgwJ6XQMFaNzHkNhUMCi7MD5JSSHw8OhFMkpsJd7ARlT1dIbXw

--
-- PostgreSQL database cluster dump complete
--
"#;

    fn present(roles: &[&str], tablespaces: &[&str]) -> Present {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Present {
            roles: set(roles),
            tablespaces: set(tablespaces),
        }
    }

    #[test]
    fn only_what_is_missing_is_created() {
        let present = present(&["postgres", "app", "pg_monitor"], &["pg_default", "fast"]);
        let missing = missing(SCRIPT, &present).unwrap();
        insta::assert_snapshot!(missing.roles.join(";\n"), @r#"
        SET default_transaction_read_only = off;
        SET client_encoding = 'UTF8';
        SET standard_conforming_strings = on;
        CREATE ROLE "Dr ""No""";
        ALTER ROLE "Dr ""No""" WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:TUPj;9frz==$t:y';
        ALTER ROLE "Dr ""No""" SET search_path TO 'a;b', 'c';
        GRANT app TO "Dr ""No""" WITH ADMIN OPTION GRANTED BY postgres
        "#);
        assert_eq!(missing.created, [r#"role Dr "No""#]);
        assert_eq!(missing.tablespaces, Vec::<String>::new());
        assert_eq!(missing.unknown, ["CREATE SUPERCOOL …"]);
    }

    #[test]
    fn on_an_empty_server_everything_but_its_own_superuser_comes_back() {
        let missing = missing(
            SCRIPT,
            &present(&["postgres", "pg_monitor"], &["pg_default"]),
        )
        .unwrap();
        insta::assert_snapshot!(missing.roles[3..].join(";\n"), @r#"
        CREATE ROLE "Dr ""No""";
        ALTER ROLE "Dr ""No""" WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:TUPj;9frz==$t:y';
        CREATE ROLE app;
        ALTER ROLE app WITH NOSUPERUSER INHERIT NOLOGIN;
        COMMENT ON ROLE app IS 'a;b -- CREATE ROLE c;';
        ALTER ROLE "Dr ""No""" SET search_path TO 'a;b', 'c';
        GRANT app TO "Dr ""No""" WITH ADMIN OPTION GRANTED BY postgres;
        GRANT SET ON PARAMETER work_mem TO app
        "#);
        insta::assert_snapshot!(missing.tablespaces[3..].join(";\n"), @r#"
        CREATE TABLESPACE fast OWNER app LOCATION '/srv/fast';
        ALTER TABLESPACE fast SET (seq_page_cost=1);
        GRANT CREATE ON TABLESPACE fast TO app
        "#);
    }

    #[test]
    fn where_nothing_is_missing_nothing_is_run() {
        let present = present(&["postgres", "app", "pg_monitor", "Dr \"No\""], &["fast"]);
        let missing = missing(SCRIPT, &present).unwrap();
        assert!(
            missing.roles.is_empty()
                && missing.tablespaces.is_empty()
                && missing.created.is_empty()
        );
    }

    #[test]
    fn a_script_without_its_last_line_is_not_whole() {
        assert!(ensure_trailer(SCRIPT.as_bytes()).is_ok());
        assert!(ensure_trailer(&SCRIPT.as_bytes()[..SCRIPT.len() - 60]).is_err());
        assert!(ensure_trailer(b"").is_err());
        let early = format!("{TRAILER}\n{}", "CREATE ROLE x;\n".repeat(100));
        assert!(ensure_trailer(early.as_bytes()).is_err());
    }
}
