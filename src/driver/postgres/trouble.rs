//! What mends a failure that a client told in words.

use super::sqlstate;

/// Troubles that clients tell in words, and that have a known remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Unreachable,
    Starting,
    Password,
    Peer,
    NoRole,
    NoDatabase,
    Permission,
    Locked,
    TooNew,
    ServerDisk,
    SharedMemory,
    NoOwner,
    TooManyLocks,
    Gone,
    NoLocale,
    NoExtension,
    NoTablespace,
    Tablespaces,
    Replication,
    /// Rows that a unique index, or an exclusion constraint, does not take together.
    Duplicates,
    /// A row that a foreign key refers to is not there.
    RowsMissing,
}

impl Trouble {
    /// By the SQLSTATE, where there is one. Else by the words of clients, which speak English (`LC_ALL=C`), and of servers that
    /// do: others give no hint.
    pub fn of(words: &str) -> Option<Self> {
        sqlstate::of(words)
            .and_then(|state| Self::of_state(state, words))
            .or_else(|| Self::of_words(&sqlstate::without_states(words)))
    }

    /// A state that stands for several troubles is left to the words.
    fn of_state(state: &str, words: &str) -> Option<Self> {
        // Its name is in no language.
        let is_segment = words.contains("\"/PostgreSQL.") || words.contains("»/PostgreSQL.");
        Some(match state {
            "23503" => Self::RowsMissing,
            "23505" | "23P01" => Self::Duplicates,
            "28P01" => Self::Password,
            "3D000" => Self::NoDatabase,
            "42501" => Self::Permission,
            "53100" | "53200" if is_segment => Self::SharedMemory,
            "53100" => Self::ServerDisk,
            "55P03" | "57014" => Self::Locked,
            "57P01" | "57P02" => Self::Gone,
            "57P03" => Self::Starting,
            _ => return None,
        })
    }

    fn of_words(words: &str) -> Option<Self> {
        const SIGNS: &[(&str, Trouble)] = &[
            ("the database system is starting up", Trouble::Starting),
            ("the database system is shutting down", Trouble::Starting),
            (
                "the database system is not yet accepting connections",
                Trouble::Starting,
            ),
            ("the database system is in recovery mode", Trouble::Starting),
            ("Connection refused", Trouble::Unreachable),
            ("failed: No such file or directory", Trouble::Unreachable),
            (
                "could not connect to server: No such file or directory",
                Trouble::Unreachable,
            ),
            ("server closed the connection unexpectedly", Trouble::Gone),
            ("terminating connection due to", Trouble::Gone),
            ("no password supplied", Trouble::Password),
            ("password authentication failed", Trouble::Password),
            ("Peer authentication failed", Trouble::Peer),
            ("Ident authentication failed", Trouble::Peer),
            ("unsupported version (", Trouble::TooNew),
            (
                "aborting because of server version mismatch",
                Trouble::TooNew,
            ),
            // It ends in "No space left on device", too.
            (
                "could not resize shared memory segment",
                Trouble::SharedMemory,
            ),
            ("No space left on device", Trouble::ServerDisk),
            ("canceling statement due to lock timeout", Trouble::Locked),
            (
                "canceling statement due to statement timeout",
                Trouble::Locked,
            ),
            ("out of shared memory", Trouble::TooManyLocks),
            ("invalid locale name", Trouble::NoLocale),
            (
                "could not open extension control file",
                Trouble::NoExtension,
            ),
            (
                "is not available\nDETAIL:  Could not open extension",
                Trouble::NoExtension,
            ),
            (
                "can only write single tablespace to stdout",
                Trouble::Tablespaces,
            ),
            (
                "no pg_hba.conf entry for replication connection",
                Trouble::Replication,
            ),
            (
                "permission denied to start WAL sender",
                Trouble::Replication,
            ),
            (
                "must be superuser or replication role to start walsender",
                Trouble::Replication,
            ),
            ("could not create unique index", Trouble::Duplicates),
            (
                "duplicate key value violates unique constraint",
                Trouble::Duplicates,
            ),
            ("could not create exclusion constraint", Trouble::Duplicates),
            ("violates exclusion constraint", Trouble::Duplicates),
            ("violates foreign key constraint", Trouble::RowsMissing),
            ("permission denied", Trouble::Permission),
            ("must be owner of", Trouble::Permission),
        ];
        let named = |what: &str| {
            words
                .lines()
                .any(|line| line.contains(what) && line.contains("does not exist"))
        };
        let sign = SIGNS
            .iter()
            .find(|(sign, _)| words.contains(sign))
            .map(|&(_, trouble)| trouble);
        sign.or_else(|| {
            if named("FATAL:  role \"") {
                Some(Self::NoRole)
            } else if named("FATAL:  database \"") {
                Some(Self::NoDatabase)
            } else if named("ERROR:  role \"") {
                Some(Self::NoOwner)
            } else if named("ERROR:  tablespace \"") {
                Some(Self::NoTablespace)
            } else {
                None
            }
        })
    }

    pub fn may_pass(self) -> bool {
        matches!(self, Self::Starting | Self::Unreachable)
    }

    /// Whether a load that met it may get past it in another session (see [`super::session`]).
    pub fn may_be_the_session(self) -> bool {
        self == Self::SharedMemory
    }

    pub fn hint(self, container: &str, user: &str) -> String {
        match self {
            Self::Unreachable => format!(
                "is the server in container {container} running, and on the port that cofferdam.postgres.port names (default 5432)?"
            ),
            Self::Starting => format!("wait until the server in container {container} is up, then run this again"),
            Self::Password => format!(
                "set cofferdam.postgres.user (now {user}) and cofferdam.postgres.password-file or .password-variable to what the server accepts"
            ),
            Self::Peer => format!(
                "set cofferdam.postgres.exec-user to the container's system user that may log in as {user}, often postgres"
            ),
            Self::NoRole => "set cofferdam.postgres.user to a role that exists".to_owned(),
            Self::NoDatabase => "set cofferdam.postgres.maintenance-db to a database that exists".to_owned(),
            Self::Permission => format!("make cofferdam.postgres.user (now {user}) a superuser, or grant it what is missing"),
            Self::Locked => "another session holds a lock on a table; end it, or save at a quieter time".to_owned(),
            Self::TooNew => "the snapshot was taken from a newer PostgreSQL: restore it into that major version or a later one".to_owned(),
            Self::SharedMemory => format!("give container {container} more shared memory: shm_size in compose, --shm-size of docker run"),
            Self::ServerDisk => "make room on the disk of the database".to_owned(),
            Self::NoLocale => "the server's image lacks a locale of the database: use the image that the snapshot was taken from, or add the locale".to_owned(),
            Self::NoExtension => "the server's image lacks an extension of the database: use the image that the snapshot was taken from".to_owned(),
            Self::NoTablespace => "create the tablespace's directory in the container, then restore the target @globals too".to_owned(),
            Self::NoOwner => "restore the target @globals too: it brings missing roles back".to_owned(),
            Self::Tablespaces => "set cofferdam.postgres.mode to dump or dumpall: a data directory is saved without other tablespaces".to_owned(),
            Self::Replication => format!("allow {user} to make replication connections from within container {container}: the attribute REPLICATION, and a line `local replication all trust` or the like in pg_hba.conf"),
            Self::Duplicates => {
                "the saved rows contain duplicates that this index or constraint should have prevented; perhaps it was \
                 damaged (often by a new collation of the system's libraries). The snapshot has all rows: cofferdam export \
                 SNAPSHOT DIR writes the dump out, so that you can load it by hand without it (pg_restore --list, then \
                 --use-list). If the old database still exists, remove the duplicates in it, REINDEX, and back up again"
                    .to_owned()
            }
            Self::RowsMissing => {
                "the saved rows refer to rows that the dump does not contain, perhaps because \
                 cofferdam.postgres.exclude-table-data leaves out a table that others refer to. To restore them: cofferdam \
                 export SNAPSHOT DIR writes the dump out, so that you can load it by hand without this constraint \
                 (pg_restore --list, then --use-list). For the next backups, add the referring table to the label too, or \
                 remove the other one from it"
                    .to_owned()
            }
            Self::TooManyLocks => "raise max_locks_per_transaction of the server, or use cofferdam.postgres.restore: swap".to_owned(),
            Self::Gone => format!("see the log of container {container} for why the server ended the connection"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_are_recognised() {
        for (words, expected) in [
            (
                "psql: error: FATAL:  the database system is starting up",
                Some(Trouble::Starting),
            ),
            (
                "psql: error: connection to server on socket \"/var/run/postgresql/.s.PGSQL.5432\" failed: No such file or directory\n\tIs the server running locally?",
                Some(Trouble::Unreachable),
            ),
            (
                "psql: error: could not connect to server: Connection refused",
                Some(Trouble::Unreachable),
            ),
            (
                "FATAL:  password authentication failed for user \"x\"",
                Some(Trouble::Password),
            ),
            ("fe_sendauth: no password supplied", Some(Trouble::Password)),
            ("FATAL:  role \"x\" does not exist", Some(Trouble::NoRole)),
            (
                "FATAL:  database \"x\" does not exist",
                Some(Trouble::NoDatabase),
            ),
            (
                "pg_restore: error: could not execute query: ERROR:  role \"app\" does not exist",
                Some(Trouble::NoOwner),
            ),
            (
                "pg_dump: error: query failed: ERROR:  permission denied for table t",
                Some(Trouble::Permission),
            ),
            (
                "pg_restore: error: unsupported version (1.16) in file header",
                Some(Trouble::TooNew),
            ),
            (
                "ERROR:  could not resize shared memory segment \"/PostgreSQL.1\" to 4194304 bytes: No space left on device",
                Some(Trouble::SharedMemory),
            ),
            (
                "ERROR:  invalid locale name: \"de_DE.utf8\"",
                Some(Trouble::NoLocale),
            ),
            (
                "ERROR:  extension \"postgis\" is not available\nDETAIL:  Could not open extension control file \"/usr/share\"",
                Some(Trouble::NoExtension),
            ),
            (
                "ERROR:  tablespace \"fast\" does not exist",
                Some(Trouble::NoTablespace),
            ),
            (
                "pg_basebackup: error: can only write single tablespace to stdout, database has 2",
                Some(Trouble::Tablespaces),
            ),
            (
                "FATAL:  permission denied to start WAL sender\nDETAIL:  Only roles with the REPLICATION attribute may start a WAL sender process.",
                Some(Trouble::Replication),
            ),
            (
                "psql:<stdin>:3: ERROR:  42704: role \"app\" does not exist",
                Some(Trouble::NoOwner),
            ),
            (
                "psql:<stdin>:1: FEHLER:  42501: keine Berechtigung für Tabelle t",
                Some(Trouble::Permission),
            ),
            (
                "FEHLER:  53100: konnte Größe des Shared-Memory-Segments »/PostgreSQL.1« nicht auf 8 Bytes ändern",
                Some(Trouble::SharedMemory),
            ),
            (
                "FEHLER:  53100: konnte Datei »base/1« nicht erweitern",
                Some(Trouble::ServerDisk),
            ),
            (
                "pg_restore: error: could not execute query: ERROR:  could not create unique index \"by_name\"\nDETAIL:  Key (username)=(ada) is duplicated.",
                Some(Trouble::Duplicates),
            ),
            (
                "psql:<stdin>:9: FEHLER:  23505: konnte Unique-Index »by_name« nicht erstellen",
                Some(Trouble::Duplicates),
            ),
            (
                "pg_restore: error: could not execute query: ERROR:  insert or update on table \"users\" violates foreign key constraint \"users_last_session_fkey\"",
                Some(Trouble::RowsMissing),
            ),
            ("ERROR:  relation \"x\" already exists", None),
            ("", None),
        ] {
            assert_eq!(Trouble::of(words), expected, "{words}");
        }
    }

    #[test]
    fn only_what_may_pass_is_waited_for() {
        assert!(Trouble::Starting.may_pass() && Trouble::Unreachable.may_pass());
        assert!(!Trouble::Password.may_pass() && !Trouble::NoRole.may_pass());
    }
}
