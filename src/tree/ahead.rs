//! Reads ahead: opens the files of a walk in several threads, and reads small ones whole, while the archive is written
//! in order. So one slow look at a disk does not hold up the next.
//!
//! At most [`QUEUE`] files are open or in memory at a time, each in memory with at most [`SMALL_FILE_BYTES`] bytes.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use rustix::fs::{Advice, FileType, fadvise};
use rustix::io::{Errno, pread};
use serde::{Deserialize, Serialize};

use super::attributes::Place;
use super::entry::{Entry, Extent, Kind};
use super::error::TreeError;
use super::fs::{self, Status};
use super::sparse;
use super::walk::{Candidate, Step, Walk, vanished_warning};

const QUEUE: usize = 64;
const THREADS: usize = 4;
/// Files up to this size, in bytes, are read whole by the thread that opens them.
const SMALL_FILE_BYTES: u64 = 256 * 1024;

/// In which order files are opened: what is in a file that grows is what was there when it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opening {
    /// Nearly that of the walk, several at a time.
    #[default]
    Ahead,
    /// That of the walk.
    InOrder,
}

/// What the writer of the archive gets, in the order of the walk.
pub enum Found {
    Entry {
        entry: Entry,
        status: Status,
    },
    /// Opened ahead.
    File(Receiver<Result<Opened, TreeError>>),
    /// Another name of a file that was found before: worth opening only if that one was not written.
    Linked(Candidate),
    Warning(String),
}

pub enum Opened {
    File(Box<OpenFile>),
    Vanished(String),
}

pub struct OpenFile {
    pub entry: Entry,
    pub status: Status,
    pub file: OwnedFd,
    /// The whole content of a small file without holes.
    pub content: Option<Vec<u8>>,
    pub foreign: Vec<Vec<u8>>,
}

type Order = (Candidate, SyncSender<Result<Opened, TreeError>>);

/// Starts the threads; they end when the walk does, or when the receiver is dropped.
pub fn read_ahead<'scope>(
    scope: &'scope Scope<'scope, '_>,
    walk: Walk<'scope>,
    opening: Opening,
) -> Receiver<Result<Found, TreeError>> {
    let (found_sender, found) = sync_channel(QUEUE);
    let (order_sender, orders) = sync_channel::<Order>(QUEUE);
    let orders = Arc::new(Mutex::new(orders));
    let threads = match opening {
        Opening::Ahead => THREADS,
        Opening::InOrder => 1,
    };
    for _ in 0..threads {
        let orders = Arc::clone(&orders);
        scope.spawn(move || serve(&orders));
    }
    scope.spawn(move || lead(walk, &found_sender, &order_sender));
    found
}

fn lead(walk: Walk<'_>, found: &SyncSender<Result<Found, TreeError>>, orders: &SyncSender<Order>) {
    let mut linked = std::collections::HashSet::new();
    for step in walk {
        let next = step.map(|step| match step {
            Step::Entry { entry, status } => Found::Entry { entry, status },
            Step::Warning(warning) => Found::Warning(warning),
            Step::File(candidate) => {
                let status = &candidate.status;
                if status.links > 1 && !linked.insert(status.identity) {
                    return Found::Linked(candidate);
                }
                let (answer_sender, answer) = sync_channel(1);
                // Without servers there is no receiver of `found` either: the loop ends below.
                let _ = orders.send((candidate, answer_sender));
                Found::File(answer)
            }
        });
        let is_last = next.is_err();
        if found.send(next).is_err() || is_last {
            return;
        }
    }
}

fn serve(orders: &Mutex<Receiver<Order>>) {
    loop {
        let order = orders.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((candidate, answer)) = order else {
            return;
        };
        // Nobody waits any more when the archive failed.
        let _ = answer.send(open(&candidate));
    }
}

/// Opens a file and learns all about it; the metadata is that of the opened file, whatever was there before.
pub fn open(candidate: &Candidate) -> Result<Opened, TreeError> {
    let path = &candidate.path;
    let vanished = || Ok(Opened::Vanished(vanished_warning(path)));
    let file = match fs::open_file(&candidate.directory, &candidate.name) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return vanished(),
        Err(errno) => return Err(TreeError::file("open", path)(errno)),
    };
    let status = fs::status_of(&file).map_err(TreeError::file("inspect", path))?;
    if status.file_type != FileType::RegularFile {
        return vanished();
    }
    let mut foreign = Vec::new();
    let attributes = Place::Open(file.as_fd())
        .attributes(&mut |name| foreign.push(name.to_vec()))
        .map_err(TreeError::file("read the attributes of", path))?;
    let extents: Option<Vec<Extent>> = if status.allocated < status.size {
        sparse::extents(&file, status.size).map_err(TreeError::file("find the holes of", path))?
    } else {
        None
    };
    let content = if extents.is_none() && status.size <= SMALL_FILE_BYTES {
        Some(read_whole(&file, status.size).map_err(TreeError::file("read", path))?)
    } else {
        // Advice that is not taken does no harm.
        let _ = fadvise(&file, 0, None, Advice::Sequential);
        let first = std::num::NonZeroU64::new(4 * 1024 * 1024);
        let _ = fadvise(&file, 0, first, Advice::WillNeed);
        None
    };
    Ok(Opened::File(Box::new(OpenFile {
        entry: Entry {
            path: path.clone(),
            kind: Kind::File {
                size: status.size,
                extents,
            },
            metadata: status.metadata(attributes),
        },
        status,
        file,
        content,
        foreign,
    })))
}

/// At most `size` bytes, fewer when the file is shorter by now.
fn read_whole(file: impl AsFd, size: u64) -> Result<Vec<u8>, Errno> {
    let mut content = vec![0; size as usize];
    let mut filled = 0;
    while filled < content.len() {
        match pread(&file, &mut content[filled..], filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    content.truncate(filled);
    Ok(content)
}
