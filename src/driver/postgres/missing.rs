//! What of a script of roles and tablespaces a server lacks.
//!
//! Scripts and names here are text of [`super::sql::text_of`].

use std::collections::BTreeSet;

use super::memberships::Grantors;
use super::sql::{Statement, bytes_of, shown, statements};
use crate::driver::DriverError;

/// Names of roles and tablespaces that exist, as [`text_of`] has those of a script.
#[derive(Debug, Default)]
pub(super) struct Present {
    pub roles: BTreeSet<String>,
    pub tablespaces: BTreeSet<String>,
}

/// What of a script concerns things that do not exist yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    /// For people: `role app`, `tablespace fast`.
    pub created: Vec<String>,
    pub roles: Vec<String>,
    pub tablespaces: Vec<String>,
    /// Likewise, what no server would take.
    pub unreadable: BTreeSet<String>,
    /// Statements that are none of those that `pg_dumpall` is known to write, without what might be secret.
    pub unknown: Vec<String>,
}

pub(super) fn missing(
    script: &str,
    present: &Present,
    mut grantors: Grantors,
) -> Result<Missing, DriverError> {
    let statements =
        statements(script).map_err(|error| DriverError::failed(format!("roles: {error}")))?;
    let mut missing = Missing::default();
    for statement in &statements {
        let text = || statement.text.to_owned();
        let subject = Subject::of(statement);
        if std::str::from_utf8(&bytes_of(statement.text)).is_err() {
            missing.unreadable.extend(subject.unreadable(present));
            continue;
        }
        match subject {
            Subject::Session => {
                missing.roles.push(text());
                missing.tablespaces.push(text());
            }
            Subject::Roles(names) => {
                if names.iter().any(|name| !present.roles.contains(*name)) {
                    missing.roles.push(grantors.attributed(statement));
                    if statement.begins_with(&["create"]) {
                        let created = names.iter().map(|name| format!("role {}", shown(name)));
                        missing.created.extend(created);
                    }
                }
            }
            Subject::Tablespace(name) => {
                if !present.tablespaces.contains(name) {
                    missing.tablespaces.push(text());
                    if statement.begins_with(&["create"]) {
                        let name = shown(name);
                        missing.created.push(format!("tablespace {name}"));
                    }
                }
            }
            Subject::Dropped => {}
            Subject::Unknown => missing.unknown.push(first_words(statement)),
        }
    }
    // Settings of the session alone change nothing.
    let only_settings = |statements: &[String]| {
        statements.iter().all(|text| {
            let verb = text.split_whitespace().next().unwrap_or_default();
            ["SET", "RESET"]
                .iter()
                .any(|it| verb.eq_ignore_ascii_case(it))
        })
    };
    if only_settings(&missing.roles) {
        missing.roles.clear();
    }
    if only_settings(&missing.tablespaces) {
        missing.tablespaces.clear();
    }
    Ok(missing)
}

/// What a statement of `pg_dumpall --globals-only` is about.
#[derive(Debug, PartialEq, Eq)]
enum Subject<'a> {
    Session,
    /// It is wanted when one of these roles is new.
    Roles(Vec<&'a str>),
    Tablespace(&'a str),
    /// Roles are never dropped, and databases by those who know whether anybody is in them.
    Dropped,
    Unknown,
}

impl<'a> Subject<'a> {
    /// What a statement in no encoding is about, where it is wanted.
    fn unreadable(&self, present: &Present) -> Option<String> {
        match self {
            Self::Roles(names) => {
                let name = names.iter().find(|name| !present.roles.contains(**name))?;
                Some(format!("role {}", shown(name)))
            }
            Self::Tablespace(name) => (!present.tablespaces.contains(*name))
                .then(|| format!("tablespace {}", shown(name))),
            Self::Session | Self::Dropped | Self::Unknown => None,
        }
    }

    fn of(statement: &'a Statement<'_>) -> Self {
        let name_after =
            |words: &[&str]| statement.after(words).and_then(|at| statement.name_at(at));
        let role = |words: &[&str]| name_after(words).map(|name| Self::Roles(vec![name]));
        let tablespace = |words: &[&str]| name_after(words).map(Self::Tablespace);
        let subject = if statement.begins_with(&["set"]) || statement.begins_with(&["reset"]) {
            Some(Self::Session)
        } else if statement.begins_with(&["drop"]) {
            Some(Self::Dropped)
        } else if statement.begins_with(&["create", "role"]) {
            role(&["create", "role"])
        } else if statement.begins_with(&["alter", "role"]) {
            role(&["alter", "role"])
        } else if statement.begins_with(&["comment", "on", "role"]) {
            role(&["on", "role"])
        } else if statement.begins_with(&["create", "tablespace"]) {
            tablespace(&["create", "tablespace"])
        } else if statement.begins_with(&["alter", "tablespace"]) {
            tablespace(&["alter", "tablespace"])
        } else if statement.begins_with(&["comment", "on", "tablespace"]) {
            tablespace(&["on", "tablespace"])
        } else if statement.begins_with(&["security", "label"]) {
            role(&["on", "role"]).or_else(|| tablespace(&["on", "tablespace"]))
        } else if statement.begins_with(&["grant"]) || statement.begins_with(&["revoke"]) {
            Self::of_grant(statement)
        } else {
            None
        };
        subject.unwrap_or(Self::Unknown)
    }

    /// `GRANT … ON TABLESPACE x TO y`, `GRANT … ON PARAMETER x TO y`, or a membership: `GRANT x TO y …`.
    fn of_grant(statement: &'a Statement<'_>) -> Option<Self> {
        if let Some(at) = statement.after(&["on", "tablespace"]) {
            return statement.name_at(at).map(Self::Tablespace);
        }
        let to = statement
            .after(&["to"])
            .or_else(|| statement.after(&["from"]))?;
        let receiver = statement.name_at(to)?;
        if statement.after(&["on", "parameter"]).is_some() {
            return Some(Self::Roles(vec![receiver]));
        }
        let is_membership = to == 3 && statement.after(&["on"]).is_none();
        is_membership.then(|| Some(Self::Roles(vec![statement.name_at(1)?, receiver])))?
    }
}

/// The keywords that a statement begins with: nothing in them is anyone's secret.
fn first_words(statement: &Statement<'_>) -> String {
    let end = statement.tokens.get(1).map_or(0, |token| token.end);
    format!("{} …", &statement.text[..end])
}

#[cfg(test)]
mod tests {
    use super::super::sql::text_of;
    use super::*;

    const SCRIPT: &str = r#"--
-- PostgreSQL database cluster dump
--

\restrict SREeyVNCly3qmVgwJ6XQMFaNzHkNhUMCi7MD5JSSHw8OhFMkpsJd7ARlT1dIbXw

SET default_transaction_read_only = off;

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;

CREATE ROLE "Dr ""No""";
ALTER ROLE "Dr ""No""" WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:TUPj;9frz==$t:y';
CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER INHERIT NOLOGIN;
COMMENT ON ROLE app IS 'a;b -- CREATE ROLE c;';
CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER LOGIN PASSWORD 'secret';

ALTER ROLE "Dr ""No""" SET search_path TO 'a;b', 'c';

GRANT app TO "Dr ""No""" WITH ADMIN OPTION GRANTED BY postgres;
GRANT pg_monitor TO postgres WITH INHERIT TRUE GRANTED BY postgres;
GRANT SET ON PARAMETER work_mem TO app;

CREATE TABLESPACE fast OWNER app LOCATION '/srv/fast';
ALTER TABLESPACE fast SET (seq_page_cost=1);
GRANT CREATE ON TABLESPACE fast TO app;
CREATE SUPERCOOL postgres PASSWORD 'secret';

\unrestrict SREeyVNCly3qmVgwJ6XQMFaNzHkNhUMCi7MD5JSSHw8OhFMkpsJd7ARlT1dIbXw

--
-- PostgreSQL database cluster dump complete
--
"#;

    fn present(roles: &[&str], tablespaces: &[&str]) -> Present {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Present {
            roles: set(roles),
            tablespaces: set(tablespaces),
        }
    }

    #[test]
    fn only_what_is_missing_is_created() {
        let present = present(&["postgres", "app", "pg_monitor"], &["pg_default", "fast"]);
        let missing = missing(SCRIPT, &present, Grantors::default()).unwrap();
        insta::assert_snapshot!(missing.roles.join(";\n"), @r#"
        SET default_transaction_read_only = off;
        SET client_encoding = 'UTF8';
        SET standard_conforming_strings = on;
        CREATE ROLE "Dr ""No""";
        ALTER ROLE "Dr ""No""" WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:TUPj;9frz==$t:y';
        ALTER ROLE "Dr ""No""" SET search_path TO 'a;b', 'c';
        GRANT app TO "Dr ""No""" WITH ADMIN OPTION GRANTED BY postgres
        "#);
        assert_eq!(missing.created, [r#"role Dr "No""#]);
        assert_eq!(missing.tablespaces, Vec::<String>::new());
        assert_eq!(missing.unknown, ["CREATE SUPERCOOL …"]);
    }

    #[test]
    fn on_an_empty_server_everything_but_its_own_superuser_comes_back() {
        let missing = missing(
            SCRIPT,
            &present(&["postgres", "pg_monitor"], &["pg_default"]),
            Grantors::default(),
        )
        .unwrap();
        insta::assert_snapshot!(missing.roles[3..].join(";\n"), @r#"
        CREATE ROLE "Dr ""No""";
        ALTER ROLE "Dr ""No""" WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:TUPj;9frz==$t:y';
        CREATE ROLE app;
        ALTER ROLE app WITH NOSUPERUSER INHERIT NOLOGIN;
        COMMENT ON ROLE app IS 'a;b -- CREATE ROLE c;';
        ALTER ROLE "Dr ""No""" SET search_path TO 'a;b', 'c';
        GRANT app TO "Dr ""No""" WITH ADMIN OPTION GRANTED BY postgres;
        GRANT SET ON PARAMETER work_mem TO app
        "#);
        insta::assert_snapshot!(missing.tablespaces[3..].join(";\n"), @r#"
        CREATE TABLESPACE fast OWNER app LOCATION '/srv/fast';
        ALTER TABLESPACE fast SET (seq_page_cost=1);
        GRANT CREATE ON TABLESPACE fast TO app
        "#);
    }

    #[test]
    fn where_nothing_is_missing_nothing_is_run() {
        let present = present(&["postgres", "app", "pg_monitor", "Dr \"No\""], &["fast"]);
        let missing = missing(SCRIPT, &present, Grantors::default()).unwrap();
        assert!(
            missing.roles.is_empty()
                && missing.tablespaces.is_empty()
                && missing.created.is_empty()
        );
    }

    #[test]
    fn what_is_not_utf8_is_left_out_and_named() {
        let script = text_of(
            b"CREATE ROLE \"gr\xfcn\"; ALTER ROLE \"gr\xfcn\" LOGIN; CREATE ROLE \"gr\xc3\xbcn\"; CREATE ROLE app;
              COMMENT ON ROLE app IS '\xe4';",
        );
        let here = Present {
            roles: BTreeSet::from([text_of("gr\u{fc}n".as_bytes())]),
            ..Present::default()
        };
        let missing = missing(&script, &here, Grantors::default()).unwrap();
        assert_eq!(missing.created, ["role app"]);
        let unreadable: Vec<&str> = missing.unreadable.iter().map(String::as_str).collect();
        assert_eq!(unreadable, ["role app", "role gr\u{fffd}n"]);
    }
}
