//! What servers are asked, whatever database it is about: text, and what the answers mean.

use serde::{Deserialize, Deserializer};

use super::sql::quote_literal;

#[derive(Clone, Debug, Deserialize)]
pub struct ServerFacts {
    /// `150008` for 15.8.
    pub number: u32,
    /// As the server prints it.
    pub version: String,
    pub superuser: bool,
    pub user: String,
    /// Told to some users only.
    pub data_directory: Option<String>,
}

impl ServerFacts {
    pub fn major(&self) -> u32 {
        self.number / 10_000
    }
}

/// A database as the server lists it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Database {
    /// With U+FFFD for what is not UTF-8.
    #[serde(deserialize_with = "name_received")]
    pub name: String,
    pub allows_connections: bool,
    /// It does, and this user has the privilege.
    pub may_connect: bool,
    pub is_template: bool,
    /// Its `DROP DATABASE` was interrupted: the server lets nobody do anything with it but drop it.
    pub is_invalid: bool,
    /// The setting `local_preload_libraries` of the database itself, as the server writes it.
    pub preload: Option<String>,
}

/// Answers with [`ServerFacts`].
pub const FACTS: &str = "SELECT pg_catalog.row_to_json(answer) FROM (SELECT \
    pg_catalog.current_setting('server_version_num')::int AS number, \
    pg_catalog.current_setting('server_version') AS version, \
    (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS superuser, \
    current_user::text AS user, \
    (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory') AS data_directory) AS answer";

/// Rows of [`Database`].
pub const DATABASES: &str = "SELECT pg_catalog.encode(pg_catalog.textsend(datname::text), 'hex') AS name, \
    datallowconn AND datconnlimit <> -2 AS allows_connections, \
    datallowconn AND datconnlimit <> -2 AND coalesce(pg_catalog.has_database_privilege(d.oid, 'CONNECT'), false) AS may_connect, \
    datistemplate AS is_template, datconnlimit = -2 AS is_invalid, \
    (SELECT pg_catalog.substr(setting, 25) FROM pg_catalog.pg_db_role_setting, pg_catalog.unnest(setconfig) AS setting \
        WHERE setdatabase = d.oid AND setrole = 0 AND setting LIKE 'local\\_preload\\_libraries=%') AS preload \
    FROM pg_catalog.pg_database d ORDER BY datname";

/// A name that belongs to the whole server, as its bytes: it may be in an encoding that this session's database does not have,
/// and JSON would lose some of them. [`received`] reads it.
pub fn sent(name: &str) -> String {
    format!("pg_catalog.encode(pg_catalog.textsend({name}::text), 'hex')")
}

/// Undoes [`sent`].
pub fn received(hex: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(hex.get(at..at + 2).unwrap_or_default(), 16);
    (0..hex.len())
        .step_by(2)
        .map(|at| digits(at).unwrap_or(b'?'))
        .collect()
}

fn name_received<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let hex = String::deserialize(deserializer)?;
    Ok(String::from_utf8_lossy(&received(&hex)).into_owned())
}

/// A query that answers with one JSON array.
pub fn rows(query: &str) -> String {
    format!(
        "SELECT coalesce(pg_catalog.json_agg(pg_catalog.row_to_json(answer)), '[]') FROM ({query}) AS answer"
    )
}

/// The rows of a query as one value: a JSON array.
pub fn array(rows: &str) -> String {
    format!("(SELECT coalesce(pg_catalog.json_agg(found), '[]') FROM ({rows}) AS found)")
}

/// An order, which prints nothing, that ends the other sessions whose application's name begins like this.
pub fn end_sessions(application: &str) -> String {
    end_sessions_where(&format!(
        "pg_catalog.strpos(application_name, {}) = 1",
        quote_literal(application)
    ))
}

/// An order, which prints nothing, that ends the other sessions in these databases.
pub fn end_sessions_in(databases: &[&str]) -> String {
    let names: Vec<String> = databases.iter().map(|name| quote_literal(name)).collect();
    end_sessions_where(&format!("datname IN ({})", names.join(", ")))
}

fn end_sessions_where(condition: &str) -> String {
    // Those of a superuser are not everybody's to end; they may go by themselves.
    let body = format!(
        "DECLARE it int; BEGIN FOR it IN SELECT pid FROM pg_catalog.pg_stat_activity \
         WHERE {condition} AND pid <> pg_catalog.pg_backend_pid() \
         LOOP BEGIN PERFORM pg_catalog.pg_terminate_backend(it); EXCEPTION WHEN insufficient_privilege THEN NULL; END; END LOOP; END"
    );
    format!("DO {}", quote_literal(&body))
}
