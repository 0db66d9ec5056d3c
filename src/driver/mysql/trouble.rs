//! What mends a failure that a client told in words.

use crate::driver::DriverError;

/// Troubles that clients tell in words, and that have a known remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Unreachable,
    Denied,
    /// Its account goes by the user of the system.
    Peer,
    Plugin,
    NotAllowed,
    TooManyConnections,
    NoDatabase,
    Privilege,
    Locked,
    PacketTooLarge,
    ServerDisk,
    ReadOnly,
    BrokenView,
    NoTable,
    NoCollation,
    WaryOfFunctions,
    TooOld,
    Gone,
    /// Rows that a unique index does not take together.
    Duplicates,
}

impl Trouble {
    /// Looks into messages by their numbers, which servers of all languages print, else into the clients' English.
    pub fn of(words: &str) -> Option<Self> {
        const SIGNS: &[(&str, Trouble)] = &[
            ("caching_sha2_password", Trouble::Plugin),
            ("Authentication plugin", Trouble::Plugin),
            ("could not be loaded", Trouble::Plugin),
            ("Authentication requires secure connection", Trouble::Plugin),
            ("JSON_OBJECT", Trouble::TooOld),
            ("No space left on device", Trouble::ServerDisk),
            ("errno: 28", Trouble::ServerDisk),
        ];
        const NUMBERS: &[(&[u32], Trouble)] = &[
            (&[2002, 2003, 2005], Trouble::Unreachable),
            (&[1045], Trouble::Denied),
            (&[1698], Trouble::Peer),
            (&[1251, 2059, 2061, 1524], Trouble::Plugin),
            (&[1129, 1130], Trouble::NotAllowed),
            (&[1040, 1203, 1226], Trouble::TooManyConnections),
            (&[1049], Trouble::NoDatabase),
            (
                &[1044, 1142, 1143, 1227, 1370, 1419, 1462],
                Trouble::Privilege,
            ),
            (&[1205, 1213], Trouble::Locked),
            (&[1153, 2020], Trouble::PacketTooLarge),
            (&[1021, 1114], Trouble::ServerDisk),
            (&[1290, 1836], Trouble::ReadOnly),
            (&[1356], Trouble::BrokenView),
            (&[1146], Trouble::NoTable),
            (&[1115, 1273, 1253], Trouble::NoCollation),
            (&[1418], Trouble::WaryOfFunctions),
            (&[2006, 2013, 1053], Trouble::Gone),
            (&[1062, 1586], Trouble::Duplicates),
        ];
        let sign = SIGNS
            .iter()
            .find(|(sign, _)| words.contains(sign))
            .map(|&(_, trouble)| trouble);
        sign.or_else(|| {
            let number = error_number(words)?;
            NUMBERS
                .iter()
                .find(|(numbers, _)| numbers.contains(&number))
                .map(|&(_, trouble)| trouble)
        })
    }

    pub fn may_pass(self) -> bool {
        matches!(self, Self::Unreachable)
    }

    pub fn hint(self, container: &str, user: &str) -> String {
        match self {
            Self::Unreachable => format!(
                "is the server in container {container} running, and on its usual socket, or on the port that cofferdam.mysql.port names?"
            ),
            Self::Denied => format!(
                "set cofferdam.mysql.user (now {user}) and cofferdam.mysql.password-file or .password-variable to what the server accepts"
            ),
            Self::Peer => format!(
                "set cofferdam.mysql.exec-user to the container's system user that may log in as {user}, often root"
            ),
            Self::Plugin => format!(
                "the clients in container {container} cannot log in as {user} the way the server wants; set cofferdam.mysql.user to a user that they can log in as"
            ),
            Self::NotAllowed => format!(
                "allow {user} to log in from localhost, or set cofferdam.mysql.user to a user that may"
            ),
            Self::TooManyConnections => {
                "try again when the server has a connection to spare, or raise max_connections".to_owned()
            }
            Self::NoDatabase => "correct the label cofferdam.mysql".to_owned(),
            Self::Privilege => format!(
                "set cofferdam.mysql.user (now {user}) to root, or grant it what is missing: a restore creates and drops databases"
            ),
            Self::Locked => {
                "another session holds a lock on a table; stop what uses the database with cofferdam.stop: restore, or end the session; \
                 XA RECOVER lists prepared transactions"
                    .to_owned()
            }
            Self::PacketTooLarge => {
                "raise max_allowed_packet of the server to more than twice the size of the largest row".to_owned()
            }
            Self::ServerDisk => "make room on the disk of the database".to_owned(),
            Self::ReadOnly => "the server is read-only now; restore into one that is not".to_owned(),
            Self::BrokenView => {
                "repair or drop the view, or leave it out with cofferdam.mysql.exclude-tables".to_owned()
            }
            Self::NoTable => {
                "a view uses a table that does not exist: one that cofferdam.mysql.exclude-tables leaves out (then leave the view out too), \
                 or one of another database (then restore that first)"
                    .to_owned()
            }
            Self::NoCollation => {
                "the snapshot was taken from another kind of server or a newer version: restore it into one of the same".to_owned()
            }
            Self::WaryOfFunctions => format!(
                "allow {user} to set global variables (SYSTEM_VARIABLES_ADMIN), or run the server with log_bin_trust_function_creators=1"
            ),
            Self::Duplicates => {
                "the saved rows contain duplicates that a unique index should have prevented; perhaps it was damaged, or had \
                 another collation. The snapshot has all rows: cofferdam export SNAPSHOT DIR writes the dump out, so that \
                 you can load it by hand without that index. If the old database still exists, remove the duplicates in it, \
                 and back up again"
                    .to_owned()
            }
            Self::TooOld => "the server has to be MySQL 5.7.8 or later, or MariaDB 10.2.3 or later".to_owned(),
            Self::Gone => format!("see the log of container {container} for why the server ended the connection"),
        }
    }
}

/// `ERROR 1045 (28000): Access denied`, `mysqldump: Got error: 1045: "Access denied"`, `… View 'x' references … (1356)`.
pub fn error_number(words: &str) -> Option<u32> {
    const BEFORE: [&str; 3] = ["ERROR ", "Got error: ", "Error: "];
    let number = |text: &str| {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        (digits == 4).then(|| text[..digits].parse().ok())?
    };
    let told = BEFORE
        .iter()
        .flat_map(|sign| words.match_indices(sign).map(|(at, sign)| at + sign.len()))
        .find_map(|at| number(&words[at..]));
    told.or_else(|| {
        let at = words.rfind('(')?;
        let inner = words[at + 1..].split(')').next()?;
        number(inner).filter(|_| inner.len() == 4)
    })
}

/// Whether the server keeps a table, or a column of it, from this user.
pub fn may_not_read(error: &DriverError) -> bool {
    matches!(error_number(&error.to_string()), Some(1142 | 1143))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_are_recognised() {
        for (words, expected) in [
            (
                "ERROR 2002 (HY000): Can't connect to local server through socket '/tmp/x' (2)",
                Some(Trouble::Unreachable),
            ),
            (
                "ERROR 2003 (HY000): Can't connect to MySQL server on '127.0.0.1:3307' (111)",
                Some(Trouble::Unreachable),
            ),
            (
                "ERROR 1045 (28000): Access denied for user 'x'@'localhost' (using password: YES)",
                Some(Trouble::Denied),
            ),
            (
                "ERROR 1698 (28000): Access denied for user 'root'@'localhost'",
                Some(Trouble::Peer),
            ),
            (
                "mysqldump: Got error: 1045: \"Access denied for user 'x'@'localhost'\" when trying to connect",
                Some(Trouble::Denied),
            ),
            (
                "ERROR 1044 (42000) at line 1: Access denied for user 'app'@'%' to database 'y'",
                Some(Trouble::Privilege),
            ),
            (
                "mysqldump: Couldn't execute 'SHOW FIELDS FROM `v`': View 'x.v' references invalid table(s) (1356)",
                Some(Trouble::BrokenView),
            ),
            (
                "ERROR 1273 (HY000) at line 38: Unknown collation: 'utf8mb4_0900_ai_ci'",
                Some(Trouble::NoCollation),
            ),
            (
                "ERROR 2061 (HY000): Authentication plugin 'caching_sha2_password' reported error",
                Some(Trouble::Plugin),
            ),
            (
                "ERROR 1045 (28000): Plugin client_ed25519 could not be loaded: /usr/lib/x.so: cannot open",
                Some(Trouble::Plugin),
            ),
            (
                "ERROR 1153 (08S01) at line 9: Got a packet bigger than 'max_allowed_packet' bytes",
                Some(Trouble::PacketTooLarge),
            ),
            (
                "ERROR 1305 (42000): FUNCTION JSON_OBJECT does not exist",
                Some(Trouble::TooOld),
            ),
            (
                "ERROR 1062 (23000) at line 40: Duplicate entry 'ada' for key 'accounts.by_name'",
                Some(Trouble::Duplicates),
            ),
            ("ERROR 1064 (42000) at line 3: syntax", None),
            ("ERROR at line 1: Unknown command '\\-'.", None),
            ("", None),
        ] {
            assert_eq!(Trouble::of(words), expected, "{words}");
        }
    }

    #[test]
    fn only_what_may_pass_is_waited_for() {
        assert!(Trouble::Unreachable.may_pass());
        assert!(!Trouble::Denied.may_pass() && !Trouble::NoDatabase.may_pass());
    }
}
