//! Inside a container: copies a database of its own layer, and keeps the copy as one compressed file.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use super::{FoundDatabase, SqliteDumped, SqliteJob};
use crate::agent::client::Attendant;
use crate::agent::dump::{NewFile, io_failure};
use crate::agent::job::Failure;
use crate::pipe::codec;
use crate::sqlite;
use crate::tree::staging::is_staging_name;

#[expect(
    clippy::disallowed_methods,
    reason = "writes in directories of its own in other containers"
)]
pub fn run(job: &SqliteJob) -> Result<SqliteDumped, Failure> {
    let attendant = Attendant::begin(None);
    sweep(job);
    let dumped = dump(job, &attendant);
    // What is left is met again, and told, when the whole directory goes.
    let _ = fs::remove_file(&job.copy);
    if dumped.is_err() {
        let _ = fs::remove_file(&job.output);
    }
    dumped
}

/// Removes what other runs have left beside the database: the project's lock is ours, so they are over. What this user
/// may not remove stays.
#[expect(
    clippy::disallowed_methods,
    reason = "writes in directories of its own in other containers"
)]
fn sweep(job: &SqliteJob) {
    let directory = Path::new(&job.database).parent();
    let Some(entries) = directory.and_then(|directory| fs::read_dir(directory).ok()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_left = is_staging_name(name.as_bytes()) && name != job.own_staging.as_str();
        if is_left && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn dump(job: &SqliteJob, attendant: &Attendant) -> Result<SqliteDumped, Failure> {
    let copy = Path::new(&job.copy);
    let patience = Duration::from_secs(job.patience_seconds);
    let copied = sqlite::copy(Path::new(&job.database), copy, patience)?;
    attendant.ensure_wanted()?;
    let look = sqlite::look(copy)?;
    attendant.ensure_wanted()?;
    let output = NewFile::create(Path::new(&job.output))?;
    let place = output.place().to_owned();
    let compressed = codec::compress(File::open(copy)?, output, job.compression)
        .map_err(|error| io_failure(&place, "write", error))?;
    Ok(SqliteDumped {
        found: FoundDatabase::new(copied, look),
        plain: compressed.plain,
        stored: compressed.stored,
    })
}
