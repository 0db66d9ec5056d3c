//! What there is to save of a server.

use serde::Deserialize;

use super::PostgresDriver;
use super::names::is_of_a_restore;
use super::queries::Database;
use super::server::Server;
use super::sql::quote_ident;
use crate::driver::{DriverError, FoundTarget, FoundTargets};
use crate::labels::{PostgresMode, Selection};
use crate::manifest::Failure;
use crate::target::{DriverKind, TargetId};

/// The target that stands for roles and tablespaces.
pub const GLOBALS: &str = "@globals";
/// The target that stands for the whole server.
pub const CLUSTER: &str = "@cluster";

/// What new databases are copied from.
const TEMPLATE: &str = "template1";
/// Where users connect to who name no database.
const POSTGRES: &str = "postgres";
/// Nobody can change it.
const EMPTY_TEMPLATE: &str = "template0";

/// What a target of this driver is, told by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject<'a> {
    Globals,
    Cluster,
    Database(&'a str),
}

impl<'a> Subject<'a> {
    pub fn of(target: &'a TargetId) -> Self {
        match target.name.as_str() {
            GLOBALS => Self::Globals,
            CLUSTER => Self::Cluster,
            name => Self::Database(name),
        }
    }
}

/// [`CLUSTER`]; or [`GLOBALS`], then databases by name, and what labels name that is not there.
///
/// `*` means every database that allows connections and is no template; `postgres` only when it holds something that
/// somebody made there. What it leaves out is told.
pub(super) async fn find(
    driver: &PostgresDriver,
    server: &Server,
) -> Result<FoundTargets, DriverError> {
    let service = driver.container.service();
    let id = |name: &str| TargetId::new(service, DriverKind::Postgres, name);
    if driver.labels.mode != PostgresMode::Dump {
        let all = FoundTarget {
            id: id(CLUSTER),
            what: "all databases, roles and tablespaces".to_owned(),
        };
        let databases = server.databases(server.maintenance_db()).await?;
        let closed = databases
            .iter()
            .filter(|database| !database.allows_connections);
        return Ok(FoundTargets {
            targets: vec![all],
            left_out: closed.filter_map(left_out).collect(),
            ..FoundTargets::default()
        });
    }
    let databases = server.databases(server.maintenance_db()).await?;
    let mut found = FoundTargets::default();
    let mut names = match &driver.labels.databases {
        Selection::All => {
            found.left_out = databases.iter().filter_map(left_out).collect();
            let mut open = databases.iter().filter(|found| found.may_connect);
            if open.any(|found| found.name == TEMPLATE) && !is_untouched(server, TEMPLATE).await? {
                found.left_out.push(template_is_left_out(TEMPLATE));
            }
            all_databases(server, &databases).await?
        }
        Selection::Names(names) => names.clone(),
    };
    names.sort();
    names.dedup();
    ensure_names_are_free(server, &names)?;

    found.targets.push(FoundTarget {
        id: id(GLOBALS),
        what: "roles and tablespaces".to_owned(),
    });
    for name in &names {
        if name.contains(char::REPLACEMENT_CHARACTER) {
            found.missing.push(Failure {
                target: id(name),
                reason: not_utf8(server, name).to_string(),
            });
        } else if databases.iter().any(|database| database.name == *name) {
            found.targets.push(FoundTarget {
                id: id(name),
                what: format!("database {name}"),
            });
        } else {
            found.missing.push(Failure {
                target: id(name),
                reason: no_such_database(server, name, &databases).to_string(),
            });
        }
    }
    Ok(found)
}

fn ensure_names_are_free(server: &Server, names: &[String]) -> Result<(), DriverError> {
    match names
        .iter()
        .find(|name| [GLOBALS, CLUSTER].contains(&name.as_str()))
    {
        None => Ok(()),
        Some(name) => Err(DriverError::failed_with_hint(
            format!(
                "a database of container {} has the name {name}, which is reserved here",
                server.container().name
            ),
            "name the databases to save in cofferdam.postgres, without this one",
        )),
    }
}

/// The server's answers are read with U+FFFD for what is not UTF-8.
fn not_utf8(server: &Server, name: &str) -> DriverError {
    DriverError::failed_with_hint(
        format!(
            "database {name} of container {} has a name that is not UTF-8, which cannot be passed to its clients",
            server.container().name
        ),
        "rename it, in a session of a database that has its encoding",
    )
}

fn no_such_database(server: &Server, name: &str, databases: &[Database]) -> DriverError {
    let there: Vec<&str> = databases
        .iter()
        .map(|database| database.name.as_str())
        .collect();
    DriverError::failed_with_hint(
        format!(
            "container {} has no database {name}",
            server.container().name
        ),
        format!(
            "correct its label cofferdam.postgres; the databases are: {}",
            there.join(", ")
        ),
    )
}

/// Why `*` does not mean a database that somebody may miss.
fn left_out(database: &Database) -> Option<String> {
    let name = &database.name;
    if is_of_a_restore(name) {
        return Some(format!(
            "database {name} has the name of one that a restore of Cofferdam left, and is not saved; when you no longer need it: \
             DROP DATABASE {}",
            quote_ident(name)
        ));
    }
    if [TEMPLATE, EMPTY_TEMPLATE].contains(&name.as_str()) {
        return None;
    }
    if database.is_invalid {
        return Some(format!(
            "database {name} is left over from an interrupted DROP DATABASE and is not saved; remove it: DROP DATABASE {}",
            quote_ident(name)
        ));
    }
    if !database.allows_connections {
        return Some(format!(
            "database {name} is closed to connections, and is not saved; to have it saved: ALTER DATABASE {} ALLOW_CONNECTIONS \
             true",
            quote_ident(name)
        ));
    }
    // Any other that is shut to this user is a failure: somebody may miss it.
    if name == POSTGRES && !database.may_connect {
        return Some(format!(
            "cofferdam.postgres.user may not connect to database {name}, which is not saved; to save it, run: GRANT CONNECT \
             ON DATABASE {name}"
        ));
    }
    database.is_template.then(|| template_is_left_out(name))
}

fn template_is_left_out(name: &str) -> String {
    format!(
        "database {name} is a template that was changed, and is not saved; to save it, name it in cofferdam.postgres beside \
         the others"
    )
}

async fn all_databases(
    server: &Server,
    databases: &[Database],
) -> Result<Vec<String>, DriverError> {
    let mut names: Vec<String> = databases
        .iter()
        .filter(|database| left_out(database).is_none() && !database.is_template)
        .map(|database| database.name.clone())
        .collect();
    if names.iter().any(|name| name == POSTGRES) && is_untouched(server, POSTGRES).await? {
        names.retain(|name| name != POSTGRES);
    }
    Ok(names)
}

/// Whether a database holds nothing but what every new one does. The server numbers what users make from 16384 on.
async fn is_untouched(server: &Server, database: &str) -> Result<bool, DriverError> {
    #[derive(Deserialize)]
    struct Answer {
        touched: bool,
    }
    let catalogs = [
        "pg_class",
        "pg_proc",
        "pg_namespace",
        "pg_type",
        "pg_extension",
        "pg_largeobject_metadata",
    ];
    let any: Vec<String> = catalogs
        .iter()
        .map(|catalog| {
            format!("EXISTS (SELECT FROM pg_catalog.{catalog} WHERE oid::bigint >= 16384)")
        })
        .collect();
    let query = format!("SELECT {} AS touched", any.join(" OR "));
    let answer: Vec<Answer> = server.query(database, &query).await?;
    Ok(answer.iter().all(|answer| !answer.touched))
}
