//! Numbers that come back bit for bit.
//!
//! As text, a server gives a FLOAT six digits, and the dump clients write a minus zero as an integer. Through the agent's
//! relay (see [`crate::agent::job::RelayJob`]) they get texts that are exact, in the one session and at the one moment in
//! which they read everything else, and write them as strings: any client can load those.

use std::collections::BTreeSet;

use serde::Deserialize;
use tracing::debug;

use super::holdings::Table;
use super::server::{Server, Way};
use super::sql::{quote_ident, quote_literal};
use crate::agent::job::{Relayed, SelectedColumn, Selects};
use crate::driver::DriverError;
use crate::driver::clients::RelayOrder;

/// The columns that MariaDB adds to a system-versioned table, which its dump client asks for by name.
const PERIOD: [&str; 2] = ["row_start", "row_end"];

/// The columns of a database whose text would lose something.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Inexact {
    pub selects: Selects,
    /// Those of the type FLOAT, by table and name: what is rounded without a relay.
    pub floats: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Column {
    table: String,
    name: String,
    /// As the catalog writes it: `float`.
    data: String,
    hidden: u8,
}

/// What `tables` of a database hold of such columns.
pub async fn inexact(
    server: &Server,
    database: &str,
    tables: &[&Table],
) -> Result<Inexact, DriverError> {
    let columns: Vec<Column> = server
        .query(&format!(
            "SELECT JSON_OBJECT('table', TABLE_NAME, 'name', COLUMN_NAME, 'data', LOWER(CONVERT(DATA_TYPE USING utf8mb4)), \
                'hidden', IF(EXTRA LIKE '%INVISIBLE%', 1, 0)) \
             FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} AND TABLE_NAME IN (\
                SELECT TABLE_NAME FROM information_schema.COLUMNS \
                WHERE TABLE_SCHEMA = {} AND DATA_TYPE IN ('float', 'double')) \
             ORDER BY TABLE_NAME, ORDINAL_POSITION",
            quote_literal(database),
            quote_literal(database)
        ))
        .await?;
    Ok(Inexact::of(columns, tables))
}

impl Inexact {
    fn of(columns: Vec<Column>, tables: &[&Table]) -> Self {
        let mut found = Self::default();
        for column in columns {
            if !tables.iter().any(|table| table.name == column.table) {
                continue;
            }
            if column.data == "float" {
                let name = (column.table.clone(), column.name.clone());
                found.floats.push(name);
            }
            let of_table = found.selects.entry(column.table).or_default();
            of_table.push(SelectedColumn {
                expression: exact_text(&column.data, &column.name),
                is_hidden: column.hidden == 1,
                name: column.name,
            });
        }
        for table in tables.iter().filter(|table| table.has_history) {
            if let Some(columns) = found.selects.get_mut(&table.name) {
                columns.extend(PERIOD.map(hidden));
            }
        }
        found
    }

    /// Tables whose columns have changed since, in any of which a FLOAT may have come through as another number.
    pub fn altered<'a>(&'a self, since: &'a Self) -> BTreeSet<&'a str> {
        let tables = self.selects.keys().chain(since.selects.keys());
        tables
            .filter(|table| self.selects.get(*table) != since.selects.get(*table))
            .map(String::as_str)
            .collect()
    }

    /// Whether numbers of a table may have come through as other numbers.
    pub fn is_rounded(&self, table: &str, relayed: &Relayed) -> bool {
        self.selects.contains_key(table) && relayed.is_rounded(table)
    }

    /// How the dump client goes through a relay; an error says why it cannot.
    pub async fn relay(
        &self,
        server: &Server,
        argv: impl FnOnce(Way) -> Result<Vec<String>, DriverError>,
    ) -> Result<RelayOrder, Relayed> {
        let not_at_all = |why: String| Relayed::NotAtAll { why };
        server.ensure_plain_login().await.map_err(|error| {
            debug!("no relay: {error}");
            not_at_all("the server requires TLS even from within its container".to_owned())
        })?;
        Ok(RelayOrder {
            argv: argv(Way::Relay).map_err(|error| not_at_all(error.to_string()))?,
            server: server.endpoint(),
            selects: self.selects.clone(),
        })
    }
}

/// Columns that came through rounded, as a warning.
pub fn warning_of_rounded(floats: &[(String, String)], relayed: &Relayed) -> Option<String> {
    let why = match relayed {
        Relayed::NotAtAll { why } => why,
        Relayed::Through { .. } => "their tables were changed during the dump",
    };
    let rounded: Vec<String> = floats
        .iter()
        .filter(|(table, _)| relayed.is_rounded(table))
        .map(|(table, column)| format!("{table}.{column}"))
        .collect();
    (!rounded.is_empty()).then(|| {
        format!(
            "these FLOAT columns were saved with six digits only, because {why}: {}",
            rounded.join(", ")
        )
    })
}

/// As a DOUBLE, a FLOAT has all of its digits. The product of a DOUBLE would be cut to 22 characters by MySQL, and keeps
/// its sign also when it is zero.
fn exact_text(data: &str, name: &str) -> Option<String> {
    let name = quote_ident(name);
    match data {
        "float" => Some(format!("CONCAT({name} * 1e0)")),
        "double" => Some(format!("CONCAT({name})")),
        _ => None,
    }
}

fn hidden(name: &str) -> SelectedColumn {
    SelectedColumn {
        name: name.to_owned(),
        expression: None,
        is_hidden: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(table: &str, name: &str, data: &str, hidden: u8) -> Column {
        Column {
            table: table.to_owned(),
            name: name.to_owned(),
            data: data.to_owned(),
            hidden,
        }
    }

    #[test]
    fn columns_are_replaced_that_would_lose_something() {
        let table = |name: &str, has_history| Table {
            name: name.to_owned(),
            engine: None,
            has_history,
            estimated_rows: None,
            bytes: 0,
        };
        let tables = [table("m", false), table("old", true)];
        let found = Inexact::of(
            vec![
                column("m", "id", "int", 0),
                column("m", "a`b", "float", 0),
                column("m", "secret", "double", 1),
                column("left out", "v", "float", 0),
                column("old", "d", "double", 0),
            ],
            &tables.each_ref(),
        );
        let asked = |table: &str| -> Vec<(String, Option<String>, bool)> {
            let columns = found.selects[table].iter().cloned();
            columns
                .map(|column| (column.name, column.expression, column.is_hidden))
                .collect()
        };
        let of = |name: &str, expression: Option<&str>, is_hidden| {
            (name.to_owned(), expression.map(str::to_owned), is_hidden)
        };
        assert_eq!(
            asked("m"),
            [
                of("id", None, false),
                of("a`b", Some("CONCAT(`a``b` * 1e0)"), false),
                of("secret", Some("CONCAT(`secret`)"), true),
            ]
        );
        assert_eq!(
            asked("old"),
            [
                of("d", Some("CONCAT(`d`)"), false),
                of("row_start", None, true),
                of("row_end", None, true),
            ]
        );
        assert_eq!(found.selects.len(), 2);

        let columns = vec![
            column("m", "a`b", "float", 0),
            column("old", "d", "double", 0),
        ];
        let since = Inexact::of(columns, &tables.each_ref());
        assert_eq!(found.altered(&found), BTreeSet::new());
        assert_eq!(found.altered(&since), BTreeSet::from(["m"]));
        assert_eq!(
            Inexact::default().altered(&since),
            BTreeSet::from(["m", "old"])
        );
        assert_eq!(found.floats, [("m".to_owned(), "a`b".to_owned())]);
    }

    #[test]
    fn only_what_was_rounded_is_told() {
        let floats =
            [("a", "x"), ("b", "y")].map(|(table, name)| (table.to_owned(), name.to_owned()));
        let through = |left_alone: &[&str]| Relayed::Through {
            left_alone: left_alone.iter().map(|&name| name.to_owned()).collect(),
        };
        assert_eq!(warning_of_rounded(&floats, &through(&["no floats"])), None);
        assert_eq!(
            warning_of_rounded(&floats, &through(&["b"])).unwrap(),
            "these FLOAT columns were saved with six digits only, because their tables were changed during the dump: b.y"
        );
        let why = "the dump was streamed".to_owned();
        assert_eq!(
            warning_of_rounded(&floats, &Relayed::NotAtAll { why }).unwrap(),
            "these FLOAT columns were saved with six digits only, because the dump was streamed: a.x, b.y"
        );
    }
}
