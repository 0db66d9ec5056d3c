//! What servers are asked, whatever database it is about: text, and what the answers mean.

use serde::Deserialize;

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
    pub name: String,
    pub allows_connections: bool,
    pub is_template: bool,
}

/// Answers with [`ServerFacts`].
pub const FACTS: &str = "SELECT pg_catalog.row_to_json(answer) FROM (SELECT \
    pg_catalog.current_setting('server_version_num')::int AS number, \
    pg_catalog.current_setting('server_version') AS version, \
    (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS superuser, \
    current_user::text AS user, \
    (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory') AS data_directory) AS answer";

/// Rows of [`Database`].
pub const DATABASES: &str = "SELECT datname::text AS name, datallowconn AS allows_connections, \
    datistemplate AS is_template \
    FROM pg_catalog.pg_database ORDER BY datname";

/// A query that answers with one JSON array.
pub fn rows(query: &str) -> String {
    format!(
        "SELECT coalesce(pg_catalog.json_agg(pg_catalog.row_to_json(answer)), '[]') FROM ({query}) AS answer"
    )
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
    let body = format!(
        "BEGIN PERFORM pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
         WHERE {condition} AND pid <> pg_catalog.pg_backend_pid(); END"
    );
    format!("DO {}", quote_literal(&body))
}
