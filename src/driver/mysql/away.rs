//! A load under the database's own name: the old database out of the way, and back. See [`super::state`].

use serde::Deserialize;

use super::definitions::statements_to_store;
use super::grants::grants_on_routines;
use super::holdings::Holdings;
use super::mark::DEFINITIONS;
use super::orders::defaults;
use super::server::Server;
use super::sql::{quote_ident, quote_literal, quote_table};
use super::state::{Phase, State, next_of_leaving};
use super::swap::Swap;
use crate::driver::{DriverError, OldDatabase};

/// A foreign key in another database.
#[derive(Clone, Deserialize)]
pub struct Stranger {
    of: String,
    name: String,
    to: String,
    /// The table that it refers to.
    pub table: String,
}

impl Stranger {
    pub fn table_of_it(&self) -> String {
        format!("{}.{}", self.of, self.name)
    }
}

impl Swap<'_> {
    /// Moves the old database away, if there is one, in at most so many steps. After an error, [`Swap::roll_back`] brings it
    /// back. What is to become of it: what is not there is not kept.
    pub async fn move_away(
        &self,
        old: OldDatabase,
        most_steps: usize,
    ) -> Result<OldDatabase, DriverError> {
        let next = |state: &State| {
            next_of_leaving(state, old).map_err(|why| {
                DriverError::failed(format!(
                    "database {} cannot be moved away: {why}",
                    self.names.database
                ))
            })
        };
        let reached = self.go(most_steps, next).await?;
        Ok(reached.aside.map_or(old, |aside| aside.old))
    }

    /// The database itself, with nothing in it and this default.
    pub async fn make_new(&self, charset: &str, collation: &str) -> Result<(), DriverError> {
        let (name, defaults) = (
            quote_ident(&self.names.database),
            defaults(charset, collation)?,
        );
        let orders = format!(
            "CREATE DATABASE IF NOT EXISTS {name} {defaults}; ALTER DATABASE {name} {defaults}"
        );
        self.server.execute(&orders).await
    }

    /// Notes that the new database is whole. Nothing is decided by it.
    pub async fn mark_arrived(&self, new: &Holdings, old: OldDatabase) -> Result<(), DriverError> {
        let aside = self.names.aside(old);
        let orders = format!(
            "START TRANSACTION;\n{}{};\nCOMMIT;\n",
            self.insert_names(&aside, "new", new.table_names()),
            self.set_phase(&aside, Phase::Arrived)
        );
        self.server.execute(&orders).await
    }

    /// Notes all that the old database is: from here on, nothing of it is lost.
    pub(super) async fn mark_leaving(
        &self,
        old: OldDatabase,
        state: &State,
    ) -> Result<(), DriverError> {
        let database = &self.names.database;
        let aside = self.names.aside(old);
        let mut orders = format!(
            "{};\nSTART TRANSACTION;\nDELETE FROM {};\n{};\n",
            self.create_mark(&aside),
            self.mark_in(&aside),
            self.insert_phase(&aside, Phase::Leaving)
        );
        if let Some(holdings) = &state.database {
            let mut script = self.script_of_old(holdings).await?;
            script.extend(grants_on_routines(self.server, database, holdings).await);
            let create = self.text_of_database().await?;
            orders.push_str(&self.insert_names(&aside, "table", holdings.table_names()));
            orders.push_str(&self.insert_names(&aside, "create", [create.as_str()]));
            orders.push_str(&statements_to_store(
                &aside,
                &self.names.mark(),
                DEFINITIONS,
                &script,
            ));
        }
        orders.push_str("COMMIT;\n");
        self.server.execute(&orders).await
    }

    /// The order that makes the database, with all of its options.
    async fn text_of_database(&self) -> Result<String, DriverError> {
        let database = &self.names.database;
        let query = format!("SHOW CREATE DATABASE {}", quote_ident(database));
        let answer = self.server.answer(&query).await?;
        let answer = String::from_utf8_lossy(&answer);
        let order = answer.strip_prefix(database.as_str());
        let order = order.map(|order| order.trim_matches(['\t', '\n']).to_owned());
        order.ok_or_else(|| {
            DriverError::failed(format!(
                "the server did not return the definition of database {database}"
            ))
        })
    }

    pub(super) async fn make_old(&self, old: OldDatabase) -> Result<(), DriverError> {
        #[derive(Deserialize)]
        struct Noted {
            text: String,
        }
        let aside = self.names.aside(old);
        let noted: Vec<Noted> = self
            .server
            .query(&format!(
                "SELECT JSON_OBJECT('text', CONVERT(content USING utf8mb4)) FROM {} WHERE kind = 'create'",
                self.mark_in(&aside)
            ))
            .await?;
        let order = noted.first().ok_or_else(|| {
            DriverError::failed(format!(
                "it is not recorded how {} was created",
                self.names.database
            ))
        })?;
        self.server.execute(&order.text).await
    }

    /// A key follows a table that is renamed, and it takes to a new table of the name that it looks for: so a new table that
    /// passes through the old one's place takes it along.
    pub(super) async fn lead_back(
        &self,
        tables: &[String],
        old: OldDatabase,
    ) -> Result<(), DriverError> {
        let (database, aside) = (&self.names.database, self.names.aside(old));
        for table in tables {
            let (here, there) = (quote_table(database, table), quote_table(&aside, table));
            let orders = format!(
                "DROP TABLE IF EXISTS {there}; RENAME TABLE {here} TO {there}, {there} TO {here}"
            );
            self.alone(&[database], &orders).await?;
        }
        Ok(())
    }

    /// Foreign keys of other databases that refer to tables of `database`.
    pub async fn strangers_of(&self, database: &str) -> Result<Vec<Stranger>, DriverError> {
        let of_database = format!("UNIQUE_CONSTRAINT_SCHEMA = {}", quote_literal(database));
        let all = foreign_keys(self.server, &of_database).await?;
        Ok(strangers_among(&all, database))
    }
}

/// Foreign keys that refer to tables of another database than their own. One look at a whole server: older ones open every
/// table for it.
pub async fn foreign_keys_across(server: &Server) -> Result<Vec<Stranger>, DriverError> {
    let differ = "CAST(UNIQUE_CONSTRAINT_SCHEMA AS BINARY) <> CAST(CONSTRAINT_SCHEMA AS BINARY)";
    foreign_keys(server, differ).await
}

/// Those of other databases that refer to tables of `database`.
pub fn strangers_among(all: &[Stranger], database: &str) -> Vec<Stranger> {
    let strangers = all.iter();
    let strangers = strangers.filter(|one| one.to == database && one.of != database);
    strangers.cloned().collect()
}

async fn foreign_keys(server: &Server, which: &str) -> Result<Vec<Stranger>, DriverError> {
    let query = format!(
        "SELECT JSON_OBJECT('of', CONSTRAINT_SCHEMA, 'name', TABLE_NAME, 'to', UNIQUE_CONSTRAINT_SCHEMA, \
            'table', REFERENCED_TABLE_NAME) \
         FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE {which}"
    );
    server.query(&query).await
}

pub fn ensure_none(strangers: &[Stranger], why: &str) -> Result<(), DriverError> {
    if strangers.is_empty() {
        return Ok(());
    }
    let tables: Vec<String> = strangers.iter().map(Stranger::table_of_it).collect();
    Err(DriverError::failed(format!(
        "foreign keys of tables in other databases refer to this one, and {why}: {}",
        tables.join(", ")
    )))
}

/// A foreign key of another database would go with the old table, out of its place.
pub fn ensure_nobody_refers(strangers: &[Stranger]) -> Result<(), DriverError> {
    ensure_none(strangers, "they would go with its old tables").map_err(|error| {
        DriverError::failed_with_hint(error.to_string(), "set cofferdam.mysql.restore: recreate")
    })
}
