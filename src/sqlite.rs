//! SQLite database files: a consistent copy of one that programs write to, and a look at whether a copy is whole. Pure
//! Linux, synchronous, no Docker.
//!
//! The live database is opened for reading only and never written. What keeps it still is SQLite's own locks, which are
//! locks of the kernel on the file: they count between all containers of one kernel, and they end with the process.
//!
//! - `copy`: the copy, and how long anybody had to wait for it
//! - `look`: what a copy holds, and SQLite's verdict on it
//! - `error`: what can go wrong, for people

mod copy;
mod error;
mod look;

use std::path::{Path, PathBuf};

pub use copy::{Copied, copy};
pub use error::SqliteError;
pub use look::{Look, Verdict, ensure_same_tables, look};

/// What SQLite appends to a database's name for the files beside it.
pub const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The name of a file beside a database.
fn beside(database: &Path, companion: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(companion);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
