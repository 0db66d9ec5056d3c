//! The text of orders about whole databases and what they keep as text.

use super::holdings::{Holdings, RoutineKind};
use super::sql::{is_plain_word, quote_table};
use crate::driver::DriverError;

/// `CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`. The names may come from a manifest.
pub fn defaults(charset: &str, collation: &str) -> Result<String, DriverError> {
    if is_plain_word(charset) && is_plain_word(collation) {
        return Ok(format!("CHARACTER SET {charset} COLLATE {collation}"));
    }
    Err(DriverError::failed(format!(
        "`{charset}` and `{collation}` are not names of a character set and a collation"
    )))
}

pub fn drops_of_triggers(database: &str, holdings: &Holdings) -> Vec<String> {
    let names = holdings.triggers.iter().map(|trigger| &trigger.name);
    names
        .map(|name| format!("DROP TRIGGER IF EXISTS {}", quote_table(database, name)))
        .collect()
}

pub fn drops_of_events(database: &str, holdings: &Holdings) -> Vec<String> {
    let names = holdings.events.iter();
    names
        .map(|name| format!("DROP EVENT IF EXISTS {}", quote_table(database, name)))
        .collect()
}

pub fn drops_of_views(database: &str, holdings: &Holdings) -> Vec<String> {
    let names = holdings.views.iter();
    names
        .map(|name| format!("DROP VIEW IF EXISTS {}", quote_table(database, name)))
        .collect()
}

pub fn drops_of_routines(database: &str, holdings: &Holdings) -> Vec<String> {
    let routines = holdings.routines.iter();
    routines
        .map(|routine| {
            let drop = format!(
                "DROP {} IF EXISTS {}",
                routine.kind.sql(),
                quote_table(database, &routine.name)
            );
            match routine.kind {
                RoutineKind::Procedure | RoutineKind::Function => drop,
                // Other modes do not know the word.
                RoutineKind::Package | RoutineKind::PackageBody => {
                    format!("SET SESSION sql_mode = 'ORACLE'; {drop}; SET SESSION sql_mode = ''")
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_cannot_give_orders_by_a_collation() {
        assert_eq!(
            defaults("utf8mb4", "utf8mb4_bin").unwrap(),
            "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        );
        for (charset, collation) in [("utf8; DROP DATABASE x", "a"), ("utf8", ""), ("", "a")] {
            assert!(defaults(charset, collation).is_err());
        }
    }
}
