//! What the user of this driver may not see. The server leaves that out of its catalog and of dumps, without a word; views
//! and events that are out of sight make the dump client fail instead.

use serde::Deserialize;

use super::holdings::{Detail, look};
use super::server::{Server, ServerFacts};
use super::sql::{quote_ident, quote_literal};
use crate::driver::DriverError;
use crate::manifest::MysqlFlavour;

/// The account of the session, as the catalog writes it: `'app'@'%'`.
const OWN_ACCOUNT: &str = "CONCAT('\\'', \
    LEFT(CURRENT_USER(), CHAR_LENGTH(CURRENT_USER()) - CHAR_LENGTH(SUBSTRING_INDEX(CURRENT_USER(), '@', -1)) - 1), \
    '\\'@\\'', SUBSTRING_INDEX(CURRENT_USER(), '@', -1), '\\'')";

/// Shows triggers.
const TRIGGER: &str = "TRIGGER";
/// Any of these shows that there are routines; if it does not show their text, the dump client fails.
const SHOW_ROUTINES: [&str; 4] = [
    "EXECUTE",
    "CREATE ROUTINE",
    "ALTER ROUTINE",
    "SHOW CREATE ROUTINE",
];
/// And these, when they are granted on everything.
const SHOW_ALL_ROUTINES: [&str; 2] = ["SELECT", "SHOW_ROUTINE"];

/// What of a database the user may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    pub triggers: bool,
    pub routines: bool,
}

impl Sight {
    const FULL: Self = Self {
        triggers: true,
        routines: true,
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Extent {
    Everything,
    Database,
    /// A table of the database.
    Table,
    /// The server's own table of routines.
    Routines,
}

#[derive(Deserialize)]
struct Privilege {
    name: String,
    on: Extent,
}

/// Looks at the user's own privileges. Where they do not tell all, since there is a role or the server knows the user by
/// another account, everything counts as seen.
pub async fn sight(server: &Server, database: &str) -> Result<Sight, DriverError> {
    let of_user = of_user();
    let database = quote_literal(database);
    let privileges: Vec<Privilege> = server
        .query(&format!(
            "SELECT JSON_OBJECT('name', PRIVILEGE_TYPE, 'on', 'everything') FROM information_schema.USER_PRIVILEGES \
                WHERE {of_user}; \
             SELECT JSON_OBJECT('name', PRIVILEGE_TYPE, 'on', 'database') FROM information_schema.SCHEMA_PRIVILEGES \
                WHERE {of_user} AND {database} LIKE TABLE_SCHEMA; \
             SELECT JSON_OBJECT('name', PRIVILEGE_TYPE, 'on', 'table') FROM information_schema.TABLE_PRIVILEGES \
                WHERE {of_user} AND TABLE_SCHEMA = {database}; \
             SELECT JSON_OBJECT('name', PRIVILEGE_TYPE, 'on', 'routines') FROM information_schema.TABLE_PRIVILEGES \
                WHERE {of_user} AND TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'proc'"
        ))
        .await?;
    let sight = Sight::with(&privileges);
    if sight != Sight::FULL && has_role(server).await {
        return Ok(Sight::FULL);
    }
    Ok(sight)
}

/// A table whose triggers are out of sight does not move, and would be noticed only after the decision.
pub async fn hides_triggers(server: &Server, database: &str) -> Result<bool, DriverError> {
    let present = look(server, &[database], Detail::Names).await?;
    let has_tables = present
        .get(database)
        .is_some_and(|old| !old.tables.is_empty());
    Ok(has_tables && !sight(server, database).await?.triggers)
}

pub fn triggers_are_hidden(database: &str) -> DriverError {
    DriverError::failed_with_hint(
        format!("the user may not see the triggers of database {database}"),
        "set cofferdam.mysql.user to root, or grant it ALL on the database: a restore moves whole tables",
    )
}

/// For a list of privileges: those of the session's account, and everybody's.
pub fn of_user() -> String {
    format!("GRANTEE IN ({OWN_ACCOUNT}, '\\'PUBLIC\\'@\\'\\'')")
}

pub async fn has_role(server: &Server) -> bool {
    #[derive(Deserialize)]
    struct Asked {
        role: String,
    }
    let query =
        "SELECT JSON_OBJECT('role', CONVERT(COALESCE(CURRENT_ROLE(), 'NONE') USING utf8mb4))";
    // Servers without roles do not know the function.
    let asked = server.query::<Asked>(query).await.unwrap_or_default();
    asked.iter().any(|asked| asked.role != "NONE")
}

impl Sight {
    fn with(privileges: &[Privilege]) -> Self {
        // Every account that the server knows has at least USAGE.
        if !privileges.iter().any(|one| one.on == Extent::Everything) {
            return Self::FULL;
        }
        let shows_routines = |one: &Privilege| match one.on {
            Extent::Everything => {
                SHOW_ROUTINES.contains(&&*one.name) || SHOW_ALL_ROUTINES.contains(&&*one.name)
            }
            Extent::Database => SHOW_ROUTINES.contains(&&*one.name),
            Extent::Table => false,
            Extent::Routines => one.name == "SELECT",
        };
        Self {
            triggers: privileges.iter().any(|one| one.name == TRIGGER),
            routines: privileges.iter().any(shows_routines),
        }
    }

    /// What a backup may lack, as a warning.
    pub fn warning(self, server: &Server, database: &str) -> Option<String> {
        let of_database = format!("TRIGGER ON {}.*", quote_ident(database));
        let routines = grant_for_routines(&server.facts);
        let (unseen, needed) = match (self.triggers, self.routines) {
            (true, true) => return None,
            (false, true) => ("triggers", of_database),
            (true, false) => ("procedures and functions", routines.to_owned()),
            (false, false) => (
                "triggers, procedures and functions",
                format!("{of_database} and {routines}"),
            ),
        };
        Some(format!(
            "cofferdam.mysql.user may not see {unseen} of database {database}; if there are any, they are not saved: grant it \
             {needed}"
        ))
    }
}

/// What shows the text of all routines.
fn grant_for_routines(server: &ServerFacts) -> &'static str {
    match server.flavour() {
        MysqlFlavour::Mysql if !server.version.starts_with("5.") => "SHOW_ROUTINE ON *.*",
        MysqlFlavour::Mysql | MysqlFlavour::Mariadb => "SELECT ON mysql.proc",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileges_tell_what_is_seen() {
        use Extent::{Database, Everything, Routines, Table};
        for (privileges, triggers, routines) in [
            (&[("USAGE", Everything)][..], false, false),
            (
                &[
                    ("USAGE", Everything),
                    ("SELECT", Database),
                    ("SELECT", Table),
                ],
                false,
                false,
            ),
            (&[("SELECT", Everything)], false, true),
            (&[("USAGE", Everything), ("SELECT", Routines)], false, true),
            (
                &[
                    ("USAGE", Everything),
                    ("TRIGGER", Database),
                    ("EXECUTE", Database),
                ],
                true,
                true,
            ),
            (
                &[("TRIGGER", Everything), ("SHOW_ROUTINE", Everything)],
                true,
                true,
            ),
            (&[("USAGE", Everything), ("TRIGGER", Table)], true, false),
            // An account that the catalog has under another name.
            (&[("SELECT", Database)], true, true),
        ] {
            let found: Vec<Privilege> = privileges
                .iter()
                .map(|&(name, on)| Privilege {
                    name: name.to_owned(),
                    on,
                })
                .collect();
            let expected = Sight { triggers, routines };
            assert_eq!(Sight::with(&found), expected, "{privileges:?}");
        }
    }

    #[test]
    fn the_grant_for_routines_is_one_that_the_server_knows() {
        for (version, grant) in [
            ("5.7.44-log", "SELECT ON mysql.proc"),
            ("8.4.6", "SHOW_ROUTINE ON *.*"),
            ("10.11.14-MariaDB-0+deb12u2", "SELECT ON mysql.proc"),
        ] {
            let facts = ServerFacts {
                version: version.to_owned(),
                ..ServerFacts::default()
            };
            assert_eq!(grant_for_routines(&facts), grant, "{version}");
        }
    }
}
