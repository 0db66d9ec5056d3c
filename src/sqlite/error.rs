//! What can go wrong with a database file. Messages leave its path to the caller, who knows it as the container sees it.

use std::io;

use rusqlite::ErrorCode;

#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    #[error("it does not exist")]
    Missing,
    #[error("it is not a regular file")]
    NotAFile,
    #[error(
        "it is not an SQLite database, or it is encrypted; save it as a file instead, with `cofferdam.files.<name>`, and with \
         `cofferdam.stop: backup` on whatever writes to it"
    )]
    NotADatabase,
    #[error(
        "another program has kept it locked for {seconds} s; have that program stopped meanwhile, with `cofferdam.stop: backup`"
    )]
    Busy { seconds: u64 },
    #[error("it is damaged: {}; restore an earlier snapshot, or repair it with `sqlite3 .recover`", .0.join("; "))]
    Damaged(Vec<String>),
    #[error(
        "a transaction over several databases was interrupted in it; start the program that uses it, which rolls that back"
    )]
    CutOffTogether,
    #[error(
        "there is no room for a copy of it: {needed} bytes have to be free beside it, but {free} are"
    )]
    NoRoom { needed: u64, free: u64 },
    #[error("cannot {action}: {source}{}", hint(source))]
    File {
        action: &'static str,
        source: io::Error,
    },
    #[error("SQLite cannot {action}: {source}{}", permission_hint(source))]
    Sqlite {
        action: &'static str,
        source: rusqlite::Error,
    },
    #[error("the copy differs from what was saved: {0}")]
    Different(String),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; a copy needs room beside it"
        }
        _ => "",
    }
}

/// In write-ahead mode SQLite needs a `-shm` beside the database, also to read it.
fn permission_hint(error: &rusqlite::Error) -> &'static str {
    match code_of(error) {
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "; the user who reads it has to be able to read its `-wal`, and to write its `-shm` and to its directory"
        }
        _ => "",
    }
}

/// SQLite's own code, also of an error that a statement's text is told with.
pub(super) fn code_of(error: &rusqlite::Error) -> Option<ErrorCode> {
    match error {
        rusqlite::Error::SqlInputError { error, .. } => Some(error.code),
        other => other.sqlite_error_code(),
    }
}

impl SqliteError {
    pub(super) fn file(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, source }
    }

    /// Tells the failures that have a meaning from the others.
    pub(super) fn sqlite(
        action: &'static str,
        waited_seconds: u64,
    ) -> impl Fn(rusqlite::Error) -> Self {
        move |source| match code_of(&source) {
            Some(ErrorCode::NotADatabase) => Self::NotADatabase,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy {
                seconds: waited_seconds,
            },
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged(vec![source.to_string()]),
            _ => Self::Sqlite { action, source },
        }
    }
}
