//! Why a dump could not be loaded as things are, found while there is time to mend it.
//!
//! Only catalogs are read.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::away::{ensure_nobody_refers, strangers_among};
use super::definitions::{WITH_DEFINERS, missing_definers};
use super::lacks::{Lacks, lacks};
use super::server::Server;
use super::sight::{hides_triggers, triggers_are_hidden};
use super::sql::{matches, quote_literal};
use super::swap::Swap;
use super::trouble::may_not_read;
use super::users::USERS;
use super::{MysqlDriver, SYSTEM};
use crate::driver::{DriverError, cannot_be_put_back, doubts_of};
use crate::labels::{MysqlLabels, MysqlRestore};
use crate::manifest::MysqlFlavour;

/// Of one database, or of the users.
pub(super) async fn doubts(
    driver: &MysqlDriver,
    server: &Server,
    database: &str,
) -> Result<Vec<String>, DriverError> {
    let swap = Swap::new(server, database, driver.run());
    let lacks = lacks(server, &swap.names).await?;
    if database == USERS {
        return Ok(lacks.doubt_of_users().into_iter().collect());
    }
    let mut doubts: Vec<String> = lacks.doubt(database).into_iter().collect();
    doubts.extend(doubts_of(
        found(server, driver.labels(), database, lacks).await,
    ));
    doubts.extend(doubts_of(tied(driver, &swap, lacks).await));
    Ok(doubts)
}

/// What keeps the present tables from being exchanged.
async fn tied(
    driver: &MysqlDriver,
    swap: &Swap<'_>,
    lacks: Lacks,
) -> Result<Vec<String>, DriverError> {
    let database = &swap.names.database;
    let mut tied = Vec::new();
    if driver.labels().restore == MysqlRestore::Swap {
        let strangers = strangers_among(driver.foreign_keys_across().await?, database);
        tied.extend(ensure_nobody_refers(&strangers).err());
    }
    if lacks.triggers && hides_triggers(swap.server, database).await? {
        tied.push(triggers_are_hidden(database));
    }
    Ok(tied.into_iter().map(cannot_be_put_back).collect())
}

/// What the server says of itself and of one database.
#[derive(Debug, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
enum Row {
    Server {
        /// Functions and triggers are taken only from those who may do everything.
        wary: u8,
        /// It takes changes from nobody.
        closed: u8,
        /// In bytes.
        packet: u64,
        user: String,
    },
    /// A function or a trigger.
    Program,
    /// A table that may hold rows longer than half of a packet.
    Long {
        name: String,
    },
    Definer {
        name: String,
    },
    View {
        name: String,
        text: String,
    },
}

async fn found(
    server: &Server,
    labels: &MysqlLabels,
    database: &str,
    lacks: Lacks,
) -> Result<Vec<String>, DriverError> {
    let rows: Vec<Row> = server
        .query(&query(database, server.facts.flavour()))
        .await?;
    let mut doubts = told(&rows, labels, database, lacks)?;
    let has_definers = rows.iter().any(|row| matches!(row, Row::Definer { .. }));
    if has_definers && !lacks.definers {
        let missing = missing_definers(server, database).await;
        doubts.extend(doubts_of_definers(missing, database));
    }
    Ok(doubts)
}

fn doubts_of_definers(missing: Result<Vec<String>, DriverError>, database: &str) -> Vec<String> {
    match missing {
        Ok(missing) if missing.is_empty() => Vec::new(),
        Ok(missing) => vec![format!(
            "views, triggers, routines or events of database {database} belong to users that this server does not have, so \
             nobody can use them, not even after a restore; create these users: {}",
            missing.join(", ")
        )],
        // Few users may see who else there is, and that they may not is no fault of the backup.
        Err(error) if may_not_read(&error) => Vec::new(),
        Err(error) => doubts_of(Err(error)),
    }
}

fn query(database: &str, flavour: MysqlFlavour) -> String {
    let within = quote_literal(database);
    let closed = match flavour {
        MysqlFlavour::Mysql => "@@GLOBAL.super_read_only + 0",
        MysqlFlavour::Mariadb => "0",
    };
    let definers = WITH_DEFINERS.map(|(from, schema)| {
        format!(
            "SELECT JSON_OBJECT('is', 'definer', 'name', CONVERT(DEFINER USING utf8mb4)) FROM information_schema.{from} \
             WHERE {schema} = {within}"
        )
    });
    format!(
        "SELECT JSON_OBJECT('is', 'server', \
            'wary', 0 + (@@GLOBAL.log_bin = 1 AND @@GLOBAL.log_bin_trust_function_creators = 0), 'closed', {closed}, \
            'packet', @@GLOBAL.max_allowed_packet + 0, 'user', CONVERT(CURRENT_USER() USING utf8mb4)); \
         SELECT JSON_OBJECT('is', 'program') FROM information_schema.ROUTINES \
            WHERE ROUTINE_SCHEMA = {within} AND ROUTINE_TYPE = 'FUNCTION'; \
         SELECT JSON_OBJECT('is', 'program') FROM information_schema.TRIGGERS \
            WHERE TRIGGER_SCHEMA = {within}; \
         SELECT JSON_OBJECT('is', 'long', 'name', TABLE_NAME) FROM information_schema.TABLES t \
            WHERE TABLE_SCHEMA = {within} AND DATA_LENGTH > @@GLOBAL.max_allowed_packet / 2 \
            AND EXISTS (SELECT 1 FROM information_schema.COLUMNS c \
                WHERE c.TABLE_SCHEMA = {within} AND c.TABLE_NAME = t.TABLE_NAME \
                AND (c.CHARACTER_OCTET_LENGTH > @@GLOBAL.max_allowed_packet / 2 OR c.DATA_TYPE = 'json')); \
         SELECT JSON_OBJECT('is', 'view', 'name', TABLE_NAME, 'text', CONVERT(COALESCE(VIEW_DEFINITION, '') USING utf8mb4)) \
            FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {within}; {}",
        definers.join("; ")
    )
}

fn told(
    rows: &[Row],
    labels: &MysqlLabels,
    database: &str,
    lacks: Lacks,
) -> Result<Vec<String>, DriverError> {
    let Some(Row::Server {
        wary,
        closed,
        packet,
        user,
    }) = rows.first()
    else {
        return Err(DriverError::failed(
            "the server returned nothing about itself",
        ));
    };
    let mut doubts = Vec::new();
    if *closed == 1 {
        doubts.push(
            "the server is read-only (super_read_only), so nothing can be restored into it: restore into its primary"
                .to_owned(),
        );
    }
    let has_programs = rows.iter().any(|row| matches!(row, Row::Program));
    if *wary == 1 && lacks.settings && has_programs {
        doubts.push(format!(
            "the server has a binary log, and does not let cofferdam.mysql.user restore the functions and triggers of \
             database {database}: set it to root, or run the server with log_bin_trust_function_creators=1"
        ));
    }
    let is_saved = |name: &str| {
        let patterns = labels.exclude_tables.iter();
        let mut patterns = patterns.chain(&labels.exclude_table_data);
        !patterns.any(|pattern| matches(pattern, name))
    };
    let long = rows.iter().filter_map(|row| match row {
        Row::Long { name } if is_saved(name) => Some(name.as_str()),
        _ => None,
    });
    let long: Vec<&str> = long.collect();
    if lacks.settings && !long.is_empty() {
        doubts.push(format!(
            "cofferdam.mysql.user may not raise max_allowed_packet (now {} MiB) for a restore, and rows of more than half of \
             that, which these tables of database {database} may have, cannot be restored: set it to root, or raise the \
             limit: {}",
            packet >> 20,
            long.join(", ")
        ));
    }
    let others: BTreeSet<&str> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Definer { name } if name != user => Some(name.as_str()),
            _ => None,
        })
        .collect();
    if lacks.definers && !others.is_empty() {
        let others: Vec<&str> = others.into_iter().collect();
        doubts.push(format!(
            "views, triggers, routines or events of database {database} belong to users other than cofferdam.mysql.user, \
             which may not create them, so a restore fails: set it to root; they belong to {}",
            others.join(", ")
        ));
    }
    for row in rows {
        if let Row::View { name, text } = row {
            doubts.extend(doubts_of_view(name, text, labels, database));
        }
    }
    Ok(doubts)
}

fn doubts_of_view(name: &str, text: &str, labels: &MysqlLabels, database: &str) -> Vec<String> {
    let is_left_out = |name: &str| {
        let mut patterns = labels.exclude_tables.iter();
        patterns.any(|pattern| matches(pattern, name))
    };
    if is_left_out(name) {
        return Vec::new();
    }
    let mut doubts = BTreeSet::new();
    for (of, table) in tables_in(text) {
        if of != database && !SYSTEM.contains(&of.as_str()) {
            doubts.insert(format!(
                "view {name} of database {database} uses database {of}: a restore of {database} fails if {of} does not \
                 exist; in that case, restore {of} first, by itself"
            ));
        } else if of == database && is_left_out(&table) {
            doubts.insert(format!(
                "view {name} of database {database} uses {table}, which cofferdam.mysql.exclude-tables leaves out, so a restore \
                 fails: leave out the view too, or remove {table} from the label"
            ));
        }
    }
    doubts.into_iter().collect()
}

/// The tables that a view's text, as the server keeps it, reads from, each with its database.
fn tables_in(text: &str) -> Vec<(String, String)> {
    let text = text.replace('(', "");
    let mut found = Vec::new();
    for before in ["from `", "join `"] {
        for (at, _) in text.match_indices(before) {
            let (of, rest) = name_at(&text[at + before.len()..]);
            if let Some(rest) = rest.strip_prefix(".`") {
                found.push((of, name_at(rest).0));
            }
        }
    }
    found
}

/// A quoted name, after its first quote, and what follows it.
fn name_at(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut rest = text;
    while let Some((part, after)) = rest.split_once('`') {
        name.push_str(part);
        match after.strip_prefix('`') {
            Some(more) => {
                name.push('`');
                rest = more;
            }
            None => return (name, after),
        }
    }
    (name, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_tell_what_they_read_from() {
        for (text, expected) in [
            ("select 1 AS `one`", &[][..]),
            (
                "select `crm`.`id` AS `id` from `shop`.`t` `crm`",
                &[("shop", "t")],
            ),
            (
                "select `a`.`x` from ((`shop`.`a` join `crm`.`it``s` on((`a`.`x` = `b`.`x`))) left join (`log`.`c d`))",
                &[("shop", "a"), ("crm", "it`s"), ("log", "c d")],
            ),
            ("select 1 from `cut", &[]),
        ] {
            let expected: Vec<_> = expected
                .iter()
                .map(|&(of, table)| (of.to_owned(), table.to_owned()))
                .collect();
            assert_eq!(tables_in(text), expected, "{text}");
        }
    }

    #[test]
    fn who_may_not_see_the_users_is_told_nothing_of_them() {
        let failed = |message: &str| {
            Err(DriverError::Client {
                program: "mysql".to_owned(),
                code: 1,
                message: message.to_owned(),
            })
        };
        for (missing, number) in [
            (Ok(Vec::new()), 0),
            (Ok(vec!["gone@%".to_owned()]), 1),
            (
                failed(
                    "ERROR 1142 (42000) at line 1: SELECT command denied to user 'a'@'%' for table 'user'",
                ),
                0,
            ),
            (
                failed("ERROR 2013 (HY000) at line 1: Lost connection to server"),
                1,
            ),
        ] {
            let told = doubts_of_definers(missing, "shop");
            assert_eq!(told.len(), number, "{told:?}");
        }
    }

    #[test]
    fn each_doubt_says_what_to_do() {
        let name = |name: &str| name.to_owned();
        let rows = [
            Row::Server {
                wary: 1,
                closed: 1,
                packet: 16 << 20,
                user: name("app@%"),
            },
            Row::Program,
            Row::Long {
                name: name("scans"),
            },
            Row::Long {
                name: name("tmp_scans"),
            },
            Row::Definer {
                name: name("app@%"),
            },
            Row::Definer {
                name: name("ada@localhost"),
            },
            Row::View {
                name: name("v"),
                text: name("select 1 from `crm`.`t` join `shop`.`tmp_a` join `sys`.`x`"),
            },
            Row::View {
                name: name("tmp_v"),
                text: name("select 1 from `crm`.`t`"),
            },
        ];
        let labels = MysqlLabels {
            exclude_tables: vec![name("tmp_*")],
            ..MysqlLabels::default()
        };
        let lacks = Lacks {
            databases: true,
            settings: true,
            definers: true,
            users: true,
            triggers: true,
        };
        let doubts = told(&rows, &labels, "shop", lacks).unwrap();
        insta::assert_snapshot!(doubts.join("\n"), @r"
        the server is read-only (super_read_only), so nothing can be restored into it: restore into its primary
        the server has a binary log, and does not let cofferdam.mysql.user restore the functions and triggers of database shop: set it to root, or run the server with log_bin_trust_function_creators=1
        cofferdam.mysql.user may not raise max_allowed_packet (now 16 MiB) for a restore, and rows of more than half of that, which these tables of database shop may have, cannot be restored: set it to root, or raise the limit: scans
        views, triggers, routines or events of database shop belong to users other than cofferdam.mysql.user, which may not create them, so a restore fails: set it to root; they belong to ada@localhost
        view v of database shop uses database crm: a restore of shop fails if crm does not exist; in that case, restore crm first, by itself
        view v of database shop uses tmp_a, which cofferdam.mysql.exclude-tables leaves out, so a restore fails: leave out the view too, or remove tmp_a from the label
        ");
        let root = told(&rows[..6], &labels, "shop", Lacks::default()).unwrap();
        assert_eq!(root.len(), 1, "{root:?}");
        told(&rows[1..], &labels, "shop", lacks).unwrap_err();
    }
}
