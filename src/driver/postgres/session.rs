//! The sessions that a dump is loaded in, and a second try in others.
//!
//! `pg_dump` writes names with their schemas, and lets its scripts empty the search path. What functions hold is text, which
//! nobody qualifies: a CHECK, a generated column, an index or a materialized view whose function calls another one by its
//! bare name cannot be loaded so, though the database worked with it for years. Then the load is tried again in the
//! database's own search path. The second try also does without parallel workers, whose shared memory a container may lack.
//!
//! The search path is emptied by one command near the beginning of a dump. [`Session::patch`] puts `RESET` in its place, as
//! long as the command is, so that nothing else in the archive moves; what it resets to is the database's or the role's
//! setting, or what [`Session::options`] say.

use super::script::with_search_path;
use super::sqlstate;
use super::trouble::Trouble;
use crate::driver::DriverError;
use crate::pipe::{ByteStream, Patch};

/// What an archive's entry says, as `pg_dump` 10.3 and later write it, and a script on a line of its own.
pub const EMPTIED: &str = "SELECT pg_catalog.set_config('search_path', '', false);";
const OWN: &str = "RESET search_path;";
/// What the server has where nobody says anything else.
const DEFAULT_PATH: &str = "\"$user\", public";
/// Parallel workers need shared memory.
const NO_WORKERS: &str =
    " -c max_parallel_maintenance_workers=0 -c max_parallel_workers_per_gather=0";
/// A server takes no more than 10,000 bytes from a client that logs in.
const LONGEST_PATH: usize = 8000;

/// The settings of those who own something here come first, then the database's, and what everybody else has. A client can
/// send a server of another encoding than UTF-8 only names in ASCII.
pub const SEARCH_PATH: &str = "SELECT coalesce(pg_catalog.string_agg(path, ', ' ORDER BY rank, path), '') FROM ( \
    SELECT path, pg_catalog.min(rank) AS rank FROM ( \
        SELECT pg_catalog.substr(setting, 13) AS path, \
            CASE WHEN setrole = datdba THEN 1 WHEN setrole = 0 THEN 2 ELSE 4 END AS rank \
        FROM pg_catalog.pg_db_role_setting s CROSS JOIN pg_catalog.unnest(setconfig) AS setting, pg_catalog.pg_database d \
        WHERE datname = pg_catalog.current_database() AND setting LIKE 'search\\_path=%' AND setdatabase IN (0, d.oid) \
            AND setrole IN (SELECT 0 UNION SELECT datdba UNION SELECT relowner FROM pg_catalog.pg_class) \
        UNION ALL SELECT pg_catalog.current_setting('search_path'), 3 \
        UNION ALL SELECT pg_catalog.quote_ident(nspname), 5 FROM pg_catalog.pg_namespace \
            WHERE nspname = (SELECT pg_catalog.pg_get_userbyid(datdba) FROM pg_catalog.pg_database \
                WHERE datname = pg_catalog.current_database()) \
        UNION ALL SELECT pg_catalog.quote_ident(nspname), 6 FROM pg_catalog.pg_extension e \
            JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE nspname <> 'pg_catalog') AS every \
    WHERE pg_catalog.getdatabaseencoding() = 'UTF8' OR path !~ '[^ -~]' GROUP BY path) AS paths";

/// How the sessions of a load are set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Session {
    AsDumped,
    /// With this search path, and without parallel workers.
    Own(String),
    /// The same for a script of several databases: each has its own search path first.
    OwnOfEach(String),
}

impl Session {
    /// `path`: what the database had when it was saved, as the server writes it; empty where that is not known.
    pub fn own(path: &str) -> Self {
        Self::Own(match path {
            "" => DEFAULT_PATH.to_owned(),
            path => bounded(path).to_owned(),
        })
    }

    /// Likewise for a script of several databases.
    pub fn own_of_each(path: &str) -> Self {
        Self::OwnOfEach(path.to_owned())
    }

    /// Settings for `PGOPTIONS`, more than every load has.
    pub fn options(&self) -> String {
        match self {
            Self::AsDumped => String::new(),
            Self::Own(path) => format!("{NO_WORKERS} -c search_path={}", option_value(path)),
            Self::OwnOfEach(_) => NO_WORKERS.to_owned(),
        }
    }

    /// For who watches a load that failed and is tried again.
    pub fn instead_of(&self, error: &DriverError) -> String {
        match self {
            Self::AsDumped => format!("trying again: {error}"),
            Self::Own(path) | Self::OwnOfEach(path) => format!(
                "the dump sets an empty search_path, and the load failed: {error}. Trying again with search_path = {path} \
                 and without parallel workers"
            ),
        }
    }

    /// A script, as this session needs it.
    pub fn script(&self, script: ByteStream) -> ByteStream {
        match self {
            Self::OwnOfEach(path) => with_search_path(script, path),
            Self::AsDumped | Self::Own(_) => script,
        }
    }

    /// For an archive in the custom format.
    pub fn patch(&self) -> Option<Patch> {
        match self {
            Self::AsDumped | Self::OwnOfEach(_) => None,
            Self::Own(_) => Some(Patch::new(entry(EMPTIED), entry(&in_its_place()))),
        }
    }
}

/// [`OWN`], as long as [`EMPTIED`].
pub fn in_its_place() -> String {
    format!("{OWN:<width$}", width = EMPTIED.len())
}

/// The archive's entry that holds the command: tag and description, its section, the command. The database's name is all that
/// comes before it from outside, and is shorter.
///
/// Source: `WriteToc` of `src/bin/pg_dump/pg_backup_archiver.c`
fn entry(command: &str) -> Vec<u8> {
    const PRE_DATA: u32 = 2;
    let int = |number: u32| [&[0][..], &number.to_le_bytes()].concat();
    let string = |text: &str| [int(text.len() as u32), text.as_bytes().to_vec()].concat();
    [
        string("SEARCHPATH"),
        string("SEARCHPATH"),
        int(PRE_DATA),
        string(&format!("{command}\n")),
    ]
    .concat()
}

/// What of a list fits, without the schemas at its end.
fn bounded(path: &str) -> &str {
    if path.len() <= LONGEST_PATH {
        return path;
    }
    let end = path.floor_char_boundary(LONGEST_PATH);
    path[..end]
        .rsplit_once(", ")
        .map_or(DEFAULT_PATH, |(kept, _)| kept)
}

/// The server splits `PGOPTIONS` at blanks that no backslash precedes.
fn option_value(text: &str) -> String {
    let mut value = String::new();
    for character in text.chars() {
        if character == '\\' || character.is_ascii_whitespace() {
            value.push('\\');
        }
        value.push(character);
    }
    value
}

/// Whether a load might do better in another session: the server refused something that the dump holds, and not for a reason
/// that every session has. `psql` tells the SQLSTATE; `pg_restore` does not, and a server's words may be in any language, but
/// its own, which say what it was doing, are in English (`LC_ALL=C`).
pub fn may_be_the_session(error: &DriverError) -> bool {
    const REFUSED: [&str; 4] = [
        "could not execute query",
        "COPY failed for table",
        "error returned by PQputCopyData",
        "error returned by PQputCopyEnd",
    ];
    /// Of tables, columns, functions, schemas, and other objects.
    const UNDEFINED: [&str; 5] = ["42P01", "42703", "42883", "3F000", "42704"];
    let words = error.to_string();
    let trouble = Trouble::of(&words);
    match sqlstate::of(&words) {
        Some(state) if UNDEFINED.contains(&state) => trouble.is_none(),
        Some(_) => trouble.is_some_and(Trouble::may_be_the_session),
        None => {
            REFUSED.iter().any(|refused| words.contains(refused))
                && trouble.is_none_or(Trouble::may_be_the_session)
        }
    }
}

/// Why a load failed that was tried twice.
pub fn both(first: DriverError, second: DriverError) -> DriverError {
    let (first, second) = (first.to_string(), second.to_string());
    if first == second {
        DriverError::failed(format!(
            "{second}; the database's own search_path did not help"
        ))
    } else {
        DriverError::failed(format!(
            "{second}; that was the second try, with the database's own search_path; the first had ended with: {first}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_replaced_by_one_of_its_length() {
        assert_eq!(in_its_place().len(), EMPTIED.len());
        assert!(Session::AsDumped.patch().is_none());
        assert!(Session::own("").patch().is_some());
    }

    #[test]
    fn the_search_path_is_one_option() {
        for (path, option) in [
            ("", r#"search_path="$user",\ public"#),
            ("a", "search_path=a"),
            ("\"a b\\c\"\n, d", "search_path=\"a\\ b\\\\c\"\\\n,\\ d"),
        ] {
            let options = Session::own(path).options();
            assert!(options.ends_with(option), "{options}");
        }
        assert_eq!(Session::AsDumped.options(), "");
    }

    #[test]
    fn a_search_path_that_no_session_can_begin_with_is_cut() {
        let path = vec!["\u{e4}schema"; 2000].join(", ");
        let Session::Own(cut) = Session::own(&path) else {
            panic!("it has a path");
        };
        assert!(cut.len() <= LONGEST_PATH && cut.ends_with("schema") && path.starts_with(&cut));
    }

    #[test]
    fn only_a_refusal_that_another_session_may_not_meet_is_tried_again() {
        for (words, expected) in [
            (
                "pg_restore: error: could not execute query: ERROR:  function norm(text) does not exist",
                true,
            ),
            (
                "pg_restore: error: could not execute query: FEHLER:  Funktion norm(text) existiert nicht",
                true,
            ),
            (
                "pg_restore: error: COPY failed for table \"pages\": ERROR:  function norm(text) does not exist",
                true,
            ),
            (
                "pg_restore: error: could not execute query: ERROR:  could not resize shared memory segment \"/PostgreSQL.1\" to 1 bytes: No space left on device",
                true,
            ),
            (
                "pg_restore: error: COPY failed for table \"a\": ERROR:  could not extend file \"base/1\": No space left on device",
                false,
            ),
            (
                "pg_restore: error: could not execute query: ERROR:  role \"app\" does not exist",
                false,
            ),
            (
                "pg_restore: error: could not execute query: ERROR:  could not create unique index \"by_name\"",
                false,
            ),
            (
                "pg_restore: error: could not execute query: ERROR:  insert or update on table \"users\" violates foreign key constraint \"users_fkey\"",
                false,
            ),
            (
                "pg_restore: error: could not read from input file: end of file",
                false,
            ),
            ("there is no room left", false),
            (
                "psql:<stdin>:7: FEHLER:  42883: Funktion norm(text) existiert nicht",
                true,
            ),
            (
                "psql:<stdin>:7: ERROR:  42704: role \"app\" does not exist",
                false,
            ),
            (
                "psql:<stdin>:7: FEHLER:  53100: konnte »/PostgreSQL.1« nicht vergrößern",
                true,
            ),
            (
                "psql:<stdin>:7: ERROR:  23514: check constraint \"c\" is violated by some row",
                false,
            ),
        ] {
            assert_eq!(
                may_be_the_session(&DriverError::failed(words)),
                expected,
                "{words}"
            );
        }
    }
}
