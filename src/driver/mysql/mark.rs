//! Our own table in the databases of a restore, which tells how far it has come: see [`super::state`].

use serde::Deserialize;

use super::orders::defaults;
use super::sql::{quote_ident, quote_literal, quote_table};
use super::state::{Mark, Phase};
use super::swap::Swap;
use crate::driver::{DriverError, OldDatabase};

/// What rows of a script are called.
pub const DEFINITIONS: &str = "definitions";
/// The row that holds the phase.
const PHASE_ROW: u32 = 1;

impl Swap<'_> {
    /// What a mark says; `None`: nothing yet.
    pub(super) async fn mark_of(&self, database: &str) -> Result<Option<Mark>, DriverError> {
        #[derive(Deserialize)]
        struct Row {
            kind: String,
            text: String,
        }
        let rows: Vec<Row> = self
            .server
            .query(&format!(
                "SELECT JSON_OBJECT('kind', CONVERT(kind USING utf8mb4), 'text', CONVERT(content USING utf8mb4)) FROM {} \
                 WHERE kind <> '{DEFINITIONS}'",
                self.mark_in(database)
            ))
            .await?;
        let of = |kind: &'static str| rows.iter().filter(move |row| row.kind == kind);
        let phase = of("phase").find_map(|row| {
            Phase::ALL
                .into_iter()
                .find(|phase| phase.word() == row.text)
        });
        let keeps = of("old").any(|row| row.text == "keep");
        Ok(phase.map(|phase| Mark {
            phase,
            old: if keeps {
                OldDatabase::Keep
            } else {
                OldDatabase::Drop
            },
            tables: of("table").map(|row| row.text.clone()).collect(),
            new: of("new").map(|row| row.text.clone()).collect(),
            had_old: of("create").next().is_some(),
        }))
    }

    pub(super) fn mark_in(&self, database: &str) -> String {
        quote_table(database, &self.names.mark())
    }

    /// Makes a database with this default, and a mark in it.
    pub async fn make_marked(
        &self,
        name: &str,
        charset: &str,
        collation: &str,
    ) -> Result<(), DriverError> {
        let orders = format!(
            "CREATE DATABASE {} {}; {}; {}",
            quote_ident(name),
            defaults(charset, collation)?,
            self.create_mark(name),
            self.insert_phase(name, Phase::Loading)
        );
        self.server.execute(&orders).await
    }

    pub(super) fn create_mark(&self, database: &str) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, \
             kind VARCHAR(16) NOT NULL, content LONGBLOB NOT NULL) ENGINE=InnoDB",
            self.mark_in(database)
        )
    }

    pub(super) fn insert_phase(&self, database: &str, phase: Phase) -> String {
        format!(
            "INSERT INTO {} (id, kind, content) VALUES ({PHASE_ROW}, 'phase', '{}')",
            self.mark_in(database),
            phase.word()
        )
    }

    pub(super) fn set_phase(&self, database: &str, phase: Phase) -> String {
        format!(
            "UPDATE {} SET content = '{}' WHERE id = {PHASE_ROW}",
            self.mark_in(database),
            phase.word()
        )
    }

    /// Rows of a kind that hold one name each.
    pub(super) fn insert_names<'n>(
        &self,
        database: &str,
        kind: &str,
        names: impl IntoIterator<Item = &'n str>,
    ) -> String {
        let mark = self.mark_in(database);
        names
            .into_iter()
            .map(|name| {
                let name = quote_literal(name);
                format!("INSERT INTO {mark} (kind, content) VALUES ('{kind}', {name});\n")
            })
            .collect()
    }
}
