//! A consistent copy of a database that other programs have open.
//!
//! With a rollback journal, whoever reads holds a lock under which nobody changes the file: it is copied as a file, by
//! sharing its blocks where the file system can, and writers wait for as long as that takes. In write-ahead mode readers
//! and writers do not meet, so SQLite copies page by page what one read transaction sees, and nobody waits.
//!
//! A journal that a crash has left is copied with its database and undone in the copy. A reader cannot do that, and to
//! do it in the live file is for the program whose it is.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, ffi};
use rustix::fs::{FlockOperation, OFlags, fcntl_lock, fstatvfs, ioctl_ficlone};

use super::beside;
use super::error::SqliteError;
use crate::manifest::FileOwner;

type Result<T> = std::result::Result<T, SqliteError>;

const AGAIN: Duration = Duration::from_millis(20);
/// What ends a journal that belongs to a transaction over several databases, after the name of what they share.
/// (`aJournalMagic` of SQLite's pager.c)
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
const MOST_RESERVED: u64 = 1024 * 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    pub owner: FileOwner,
    /// For how long nobody could write.
    pub held_up: Duration,
}

/// Copies `database` to `copy`, which must not exist, with what it needs beside it to be opened. `patience`: how long to
/// wait for a lock. After an error a part of the copy may be there.
pub fn copy(database: &Path, copy: &Path, patience: Duration) -> Result<Copied> {
    let deadline = Instant::now() + patience;
    loop {
        // Opened before any lock is taken, and closed after it is given up: a process that closes a file loses all locks
        // that it has on it.
        let file = open(database)?;
        let metadata = file.metadata().map_err(SqliteError::file("look at it"))?;
        if !metadata.is_file() {
            return Err(SqliteError::NotAFile);
        }
        let live = Live {
            database,
            file: &file,
            bytes: metadata.len(),
            patience,
        };
        let held_up = match live.copy_under_a_read_lock(copy)? {
            Attempt::Done(held_up) => held_up,
            Attempt::JournalLeft => match live.copy_with_journal(copy, deadline)? {
                Some(held_up) => held_up,
                // Somebody has undone the transaction meanwhile.
                None => continue,
            },
        };
        return Ok(Copied {
            owner: FileOwner {
                uid: metadata.uid(),
                gid: metadata.gid(),
                mode: metadata.mode() & 0o7777,
            },
            held_up,
        });
    }
}

/// A FIFO that took a database's name does not block, and no link is followed.
#[expect(
    clippy::disallowed_methods,
    reason = "writes copies in directories of its own"
)]
fn open(path: &Path) -> Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path);
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SqliteError::Missing,
        _ => SqliteError::file("open it")(error),
    })
}

enum Attempt {
    /// With the time for which nobody could write.
    Done(Duration),
    /// A crash has left a journal, which a reader cannot undo.
    JournalLeft,
}

struct Live<'a> {
    database: &'a Path,
    file: &'a File,
    bytes: u64,
    patience: Duration,
}

impl Live<'_> {
    fn copy_under_a_read_lock(&self, copy: &Path) -> Result<Attempt> {
        let failed = SqliteError::sqlite("read it", self.patience.as_secs());
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(self.database, flags).map_err(&failed)?;
        reader.busy_timeout(self.patience).map_err(&failed)?;
        reader.execute_batch("BEGIN").map_err(&failed)?;
        // Takes the lock, and looks at nothing but the header: a schema may need what only its program has.
        let locked = reader.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0));
        let since = Instant::now();
        match locked {
            Err(error) if is_left_journal(&error) => return Ok(Attempt::JournalLeft),
            other => other.map_err(&failed)?,
        };
        let mode: String = reader
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .map_err(&failed)?;
        if mode == "wal" {
            self.copy_by_pages(&reader, copy)?;
            return Ok(Attempt::Done(Duration::ZERO));
        }
        copy_file(self.file, copy)?;
        reader.execute_batch("COMMIT").map_err(&failed)?;
        Ok(Attempt::Done(since.elapsed()))
    }

    /// What the transaction of `reader` sees.
    fn copy_by_pages(&self, reader: &Connection, copy: &Path) -> Result<()> {
        let failed = SqliteError::sqlite("copy it", self.patience.as_secs());
        let log = beside(self.database, "-wal")
            .metadata()
            .map_or(0, |log| log.len());
        let target = new_file(copy)?;
        ensure_room(&target, self.bytes + log)?;
        drop(target);
        let mut target = Connection::open(copy).map_err(&failed)?;
        // Nobody needs it after a crash.
        target
            .execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
            .map_err(&failed)?;
        let backup = Backup::new(reader, &mut target).map_err(&failed)?;
        match backup.step(-1).map_err(&failed)? {
            StepResult::Done => Ok(()),
            _ => Err(SqliteError::Busy {
                seconds: self.patience.as_secs(),
            }),
        }
    }

    /// Under a lock on the whole file, which keeps out whoever would undo the journal. `None` when there is none any more.
    fn copy_with_journal(&self, copy: &Path, deadline: Instant) -> Result<Option<Duration>> {
        while let Err(errno) = fcntl_lock(self.file, FlockOperation::NonBlockingLockShared) {
            let is_locked = matches!(errno, rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS);
            if !is_locked {
                return Err(SqliteError::file("lock it")(errno.into()));
            }
            if Instant::now() >= deadline {
                return Err(SqliteError::Busy {
                    seconds: self.patience.as_secs(),
                });
            }
            thread::sleep(AGAIN);
        }
        let since = Instant::now();
        let mut journal = match open(&beside(self.database, "-journal")) {
            Ok(journal) => journal,
            Err(SqliteError::Missing) => return Ok(None),
            Err(error) => return Err(error),
        };
        let ending = ending_of(&mut journal).map_err(SqliteError::file("read its journal"))?;
        if ending == JOURNAL_MAGIC {
            return Err(SqliteError::CutOffTogether);
        }
        copy_file(self.file, copy)?;
        copy_file(&journal, &beside(copy, "-journal"))?;
        Ok(Some(since.elapsed()))
    }
}

fn is_left_journal(error: &rusqlite::Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|error| error.extended_code == ffi::SQLITE_READONLY_ROLLBACK)
}

fn ending_of(journal: &mut File) -> io::Result<[u8; 8]> {
    let mut ending = [0; 8];
    if journal.metadata()?.len() >= ending.len() as u64 {
        journal.seek(SeekFrom::End(-(ending.len() as i64)))?;
        journal.read_exact(&mut ending)?;
    }
    Ok(ending)
}

#[expect(
    clippy::disallowed_methods,
    reason = "writes copies in directories of its own"
)]
fn new_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(SqliteError::file("make a copy of it"))
}

fn copy_file(from: &File, to: &Path) -> Result<()> {
    let target = new_file(to)?;
    if ioctl_ficlone(&target, from).is_ok() {
        return Ok(());
    }
    let failed = || SqliteError::file("copy it");
    let bytes = from.metadata().map_err(failed())?.len();
    ensure_room(&target, bytes)?;
    let (mut from, mut target) = (from, target);
    from.seek(SeekFrom::Start(0)).map_err(failed())?;
    let copied = io::copy(&mut from, &mut target).map_err(failed())?;
    if copied != bytes {
        return Err(failed()(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(())
}

/// A copy leaves some room beside it: the program that writes to the database must not be stopped by its backup.
fn ensure_room(target: &File, needed: u64) -> Result<()> {
    let space = fstatvfs(target)
        .map_err(|errno| SqliteError::file("check the free space")(errno.into()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let total = space.f_blocks.saturating_mul(space.f_frsize);
    let reserved = (total / 20).min(MOST_RESERVED);
    let needed = needed.saturating_add(reserved);
    if free < needed {
        return Err(SqliteError::NoRoom { needed, free });
    }
    Ok(())
}
