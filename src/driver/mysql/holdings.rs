//! What databases hold, as the server lists it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::server::Server;
use super::sql::literals;
use crate::driver::DriverError;

/// How the server names what it cannot read as a database or a table: a `lost+found` among them.
const UNREADABLE: &str = "#mysql50#";

/// What is in one database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    pub charset: String,
    pub collation: String,
    /// Everything with rows: also sequences.
    pub tables: Vec<Table>,
    pub views: Vec<String>,
    pub triggers: Vec<Trigger>,
    pub routines: Vec<Routine>,
    pub events: Vec<String>,
    /// How many of these the server drops by itself, and never makes anew, once their time is over.
    pub passing_events: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    /// Told with [`Detail::Sizes`] only, as the next three are.
    pub engine: Option<String>,
    pub has_history: bool,
    pub estimated_rows: Option<u64>,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    pub name: String,
    pub table: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routine {
    pub name: String,
    pub kind: RoutineKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum RoutineKind {
    #[serde(rename = "PROCEDURE")]
    Procedure,
    #[serde(rename = "FUNCTION")]
    Function,
    #[serde(rename = "PACKAGE")]
    Package,
    #[serde(rename = "PACKAGE BODY")]
    PackageBody,
}

impl RoutineKind {
    pub fn sql(self) -> &'static str {
        match self {
            Self::Procedure => "PROCEDURE",
            Self::Function => "FUNCTION",
            Self::Package => "PACKAGE",
            Self::PackageBody => "PACKAGE BODY",
        }
    }
}

impl Holdings {
    pub fn table_names(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().map(|table| table.name.as_str())
    }

    pub fn has_table(&self, name: &str) -> bool {
        self.table_names().any(|there| there == name)
    }

    /// How many events are there for good.
    pub fn lasting_events(&self) -> u64 {
        self.events.len() as u64 - self.passing_events
    }

    /// Whether there is anything that is kept as text.
    pub fn has_definitions(&self) -> bool {
        !(self.views.is_empty()
            && self.triggers.is_empty()
            && self.routines.is_empty()
            && self.events.is_empty())
    }
}

/// How much is asked of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    Names,
    /// For this the server has to open each.
    Sizes,
}

#[derive(Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
enum Row {
    Database {
        of: String,
        charset: String,
        collation: String,
    },
    Table {
        of: String,
        name: String,
        engine: Option<String>,
        history: Option<u8>,
        rows: Option<u64>,
        bytes: Option<u64>,
    },
    View {
        of: String,
        name: String,
    },
    Trigger {
        of: String,
        name: String,
        table: String,
    },
    Routine {
        of: String,
        name: String,
        kind: RoutineKind,
    },
    Event {
        of: String,
        name: String,
        passes: u8,
    },
}

/// The names of all databases that the user sees.
pub async fn databases(server: &Server) -> Result<Vec<String>, DriverError> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let query =
        "SELECT JSON_OBJECT('name', SCHEMA_NAME) FROM information_schema.SCHEMATA ORDER BY 1";
    let mut names: Vec<String> = server
        .query::<Named>(query)
        .await?
        .into_iter()
        .map(|named| named.name)
        .filter(|name| !name.starts_with(UNREADABLE))
        .collect();
    names.sort();
    Ok(names)
}

/// What each of these databases holds that is there.
pub async fn look(
    server: &Server,
    databases: &[&str],
    detail: Detail,
) -> Result<BTreeMap<String, Holdings>, DriverError> {
    let mut found: BTreeMap<String, Holdings> = BTreeMap::new();
    let rows: Vec<Row> = server.query(&query(databases, detail)).await?;
    for row in rows {
        // The server may take names for the same that differ in case; a row of another database is none of these.
        let is_asked = |of: &str| databases.contains(&of);
        match row {
            Row::Database {
                of,
                charset,
                collation,
            } if is_asked(&of) => {
                let holdings = Holdings {
                    charset,
                    collation,
                    ..Holdings::default()
                };
                found.insert(of, holdings);
            }
            Row::Table {
                of,
                name,
                engine,
                history,
                rows,
                bytes,
            } if !name.starts_with(UNREADABLE) => {
                if let Some(holdings) = found.get_mut(&of) {
                    holdings.tables.push(Table {
                        name,
                        engine,
                        has_history: history == Some(1),
                        estimated_rows: rows,
                        bytes: bytes.unwrap_or(0),
                    });
                }
            }
            Row::View { of, name } => {
                if let Some(holdings) = found.get_mut(&of) {
                    holdings.views.push(name);
                }
            }
            Row::Trigger { of, name, table } => {
                if let Some(holdings) = found.get_mut(&of) {
                    holdings.triggers.push(Trigger { name, table });
                }
            }
            Row::Routine { of, name, kind } => {
                if let Some(holdings) = found.get_mut(&of) {
                    holdings.routines.push(Routine { name, kind });
                }
            }
            Row::Event { of, name, passes } => {
                if let Some(holdings) = found.get_mut(&of) {
                    holdings.events.push(name);
                    holdings.passing_events += u64::from(passes);
                }
            }
            Row::Database { .. } | Row::Table { .. } => {}
        }
    }
    for holdings in found.values_mut() {
        holdings
            .tables
            .sort_by(|one, other| one.name.cmp(&other.name));
        holdings.views.sort();
    }
    Ok(found)
}

/// Databases come first.
fn query(databases: &[&str], detail: Detail) -> String {
    let within = literals(databases);
    let sizes = match detail {
        Detail::Names => "",
        Detail::Sizes => {
            ", 'engine', ENGINE, 'history', IF(TABLE_TYPE = 'SYSTEM VERSIONED', 1, 0), 'rows', TABLE_ROWS, \
             'bytes', DATA_LENGTH + INDEX_LENGTH"
        }
    };
    format!(
        "SELECT JSON_OBJECT('is', 'database', 'of', SCHEMA_NAME, 'charset', DEFAULT_CHARACTER_SET_NAME, \
            'collation', DEFAULT_COLLATION_NAME) \
            FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN ({within}); \
        SELECT JSON_OBJECT('is', 'table', 'of', TABLE_SCHEMA, 'name', TABLE_NAME{sizes}) \
            FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({within}) AND TABLE_TYPE <> 'VIEW'; \
        SELECT JSON_OBJECT('is', 'view', 'of', TABLE_SCHEMA, 'name', TABLE_NAME) \
            FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({within}) AND TABLE_TYPE = 'VIEW'; \
        SELECT JSON_OBJECT('is', 'trigger', 'of', TRIGGER_SCHEMA, 'name', TRIGGER_NAME, 'table', EVENT_OBJECT_TABLE) \
            FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA IN ({within}); \
        SELECT JSON_OBJECT('is', 'routine', 'of', ROUTINE_SCHEMA, 'name', ROUTINE_NAME, 'kind', ROUTINE_TYPE) \
            FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA IN ({within}); \
        SELECT JSON_OBJECT('is', 'event', 'of', EVENT_SCHEMA, 'name', EVENT_NAME, \
            'passes', IF(ON_COMPLETION = 'NOT PRESERVE' AND COALESCE(EXECUTE_AT, ENDS) IS NOT NULL, 1, 0)) \
            FROM information_schema.EVENTS WHERE EVENT_SCHEMA IN ({within})"
    )
}
