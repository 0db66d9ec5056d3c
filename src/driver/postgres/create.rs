//! Making a database as a dump describes it: owner, locale, settings, comments and grants of the database itself.
//!
//! `pg_restore --create` always gives a database the name that it was saved under. So its script of the database alone is
//! taken, and run with another name in its place.

use super::sql::{Statement, bytes_of, quote_ident, statements, text_of};
use crate::driver::DriverError;

/// Arguments that make `pg_restore` print the script of the database itself and of nothing in it: what stands in no schema
/// of this name is left out, and the database's own entries are not selected by schema.
pub fn pg_restore_script(run_digits: &str) -> Vec<String> {
    let mut argv = ["pg_restore", "--create", "--schema-only", "--file=-"]
        .map(str::to_owned)
        .to_vec();
    argv.push(format!("--schema=cofferdam no such schema {run_digits}"));
    argv
}

/// The script with every mention of the database's name replaced by `name`, which has to be ASCII.
///
/// The script is in the database's encoding, which it states itself, so it is bytes.
pub fn renamed_script(script: &[u8], name: &str) -> Result<Vec<u8>, DriverError> {
    let text = text_of(script);
    let statements = statements(&text).map_err(|error| {
        DriverError::failed(format!("the dump's description of its database: {error}"))
    })?;
    let mut renamed = String::new();
    let mut creates = false;
    for statement in &statements {
        match kind(statement) {
            Kind::Kept => renamed.push_str(statement.text),
            Kind::Session => continue,
            Kind::Database { at } => {
                creates |= statement.begins_with(&["create"]);
                let token = &statement.tokens[at];
                renamed.push_str(&statement.text[..token.start]);
                renamed.push_str(&quote_ident(name));
                renamed.push_str(&statement.text[token.end..]);
            }
            Kind::Unknown => {
                return Err(DriverError::failed_with_hint(
                    "the dump describes its database by a statement that this version does not know",
                    "use a newer cofferdam, or export the snapshot and load it with pg_restore --create",
                ));
            }
        }
        renamed.push_str(";\n");
    }
    if !creates {
        return Err(DriverError::failed(
            "the dump does not say how its database is created",
        ));
    }
    // The new name is ASCII.
    Ok(bytes_of(&renamed))
}

enum Kind {
    /// The script's encoding, how its strings are read, and who grants what.
    Kept,
    /// Settings for the loading of data.
    Session,
    /// `at`: the token that is the database's name.
    Database {
        at: usize,
    },
    Unknown,
}

fn kind(statement: &Statement<'_>) -> Kind {
    let kept: [&[&str]; 4] = [
        &["set", "client_encoding"],
        &["set", "standard_conforming_strings"],
        // Around a grant by somebody who is not the owner.
        &["set", "session", "authorization"],
        &["reset", "session", "authorization"],
    ];
    if kept.iter().any(|words| statement.begins_with(words)) {
        return Kind::Kept;
    }
    if statement.begins_with(&["set"]) || statement.begins_with(&["select", "pg_catalog"]) {
        return Kind::Session;
    }
    let first = |words: &[&str]| statement.begins_with(words).then_some(words.len());
    let at = first(&["create", "database"])
        .or_else(|| first(&["alter", "database"]))
        .or_else(|| first(&["comment", "on", "database"]))
        .or_else(|| {
            let is_grant = ["grant", "revoke", "security"]
                .iter()
                .any(|verb| statement.begins_with(&[verb]));
            is_grant.then(|| statement.after(&["on", "database"]))?
        })
        .or_else(|| {
            let is_role = statement.begins_with(&["alter", "role"]);
            is_role.then(|| statement.after(&["in", "database"]))?
        });
    match at {
        Some(at) if statement.name_at(at).is_some() => Kind::Database { at },
        _ => Kind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = r#"--
-- PostgreSQL database dump
--

\restrict N9JTStMea7ueWLsuJfox0ntYsqqr4M5wdugW3axG2L50tSHrUlp04DkgABz4xaM

SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);

--
-- Name: we"ird 'n=x; Type: DATABASE; Schema: -; Owner: app
--

CREATE DATABASE "we""ird 'n=x" WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'en_US.utf8';


ALTER DATABASE "we""ird 'n=x" OWNER TO database;

\unrestrict N9JTStMea7ueWLsuJfox0ntYsqqr4M5wdugW3axG2L50tSHrUlp04DkgABz4xaM
\encoding SQL_ASCII
\connect -reuse-previous=on "dbname='we""ird \'n=x'"
\restrict N9JTStMea7ueWLsuJfox0ntYsqqr4M5wdugW3axG2L50tSHrUlp04DkgABz4xaM

SET row_security = off;

COMMENT ON DATABASE "we""ird 'n=x" IS 'DATABASE "we""ird ''n=x"; hello';

ALTER DATABASE "we""ird 'n=x" CONNECTION LIMIT = 7;
ALTER DATABASE "we""ird 'n=x" SET search_path TO 'a b', 'public';
ALTER ROLE "in database x" IN DATABASE "we""ird 'n=x" SET work_mem TO '6MB';
SECURITY LABEL FOR p ON DATABASE "we""ird 'n=x" IS 'on database x';

REVOKE CONNECT,TEMPORARY ON DATABASE "we""ird 'n=x" FROM PUBLIC;
GRANT CONNECT ON DATABASE "we""ird 'n=x" TO database WITH GRANT OPTION;
SET SESSION AUTHORIZATION database;
GRANT CONNECT ON DATABASE "we""ird 'n=x" TO bob;
RESET SESSION AUTHORIZATION;

\unrestrict N9JTStMea7ueWLsuJfox0ntYsqqr4M5wdugW3axG2L50tSHrUlp04DkgABz4xaM
"#;

    #[test]
    fn the_database_gets_another_name_and_nothing_else_changes() {
        let script = renamed_script(SCRIPT.as_bytes(), "new_one").unwrap();
        insta::assert_snapshot!(String::from_utf8(script).unwrap(), @r#"
        SET client_encoding = 'UTF8';
        SET standard_conforming_strings = on;
        CREATE DATABASE "new_one" WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'en_US.utf8';
        ALTER DATABASE "new_one" OWNER TO database;
        COMMENT ON DATABASE "new_one" IS 'DATABASE "we""ird ''n=x"; hello';
        ALTER DATABASE "new_one" CONNECTION LIMIT = 7;
        ALTER DATABASE "new_one" SET search_path TO 'a b', 'public';
        ALTER ROLE "in database x" IN DATABASE "new_one" SET work_mem TO '6MB';
        SECURITY LABEL FOR p ON DATABASE "new_one" IS 'on database x';
        REVOKE CONNECT,TEMPORARY ON DATABASE "new_one" FROM PUBLIC;
        GRANT CONNECT ON DATABASE "new_one" TO database WITH GRANT OPTION;
        SET SESSION AUTHORIZATION database;
        GRANT CONNECT ON DATABASE "new_one" TO bob;
        RESET SESSION AUTHORIZATION;
        "#);
    }

    #[test]
    fn bytes_that_are_not_utf8_come_through() {
        let script =
            b"CREATE DATABASE \"\xe4\xa0\"; COMMENT ON DATABASE \"\xe4\xa0\" IS '\xff\xa0';";
        let renamed = renamed_script(script, "x").unwrap();
        assert_eq!(
            renamed,
            b"CREATE DATABASE \"x\";\nCOMMENT ON DATABASE \"x\" IS '\xff\xa0';\n"
        );
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for script in [
            "",
            "ALTER DATABASE x OWNER TO y;",
            "CREATE DATABASE x; DROP TABLE y;",
            "CREATE DATABASE x; GRANT a TO b;",
            "CREATE DATABASE x; COMMENT ON DATABASE x IS 'cut",
        ] {
            assert!(renamed_script(script.as_bytes(), "z").is_err(), "{script}");
        }
    }
}
