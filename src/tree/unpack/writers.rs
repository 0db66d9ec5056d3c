//! Threads that fill files which were made already, and give them their metadata.
//!
//! At most [`QUEUE`] small files and a few pieces of large ones are in memory at a time.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::ftruncate;
use rustix::io::{Errno, pwrite};

use crate::pipe::Appender;
use crate::tree::attributes::{Place, Unsupported};
use crate::tree::entry::{Extent, Metadata};
use crate::tree::error::TreeError;
use crate::tree::path::TreePath;
use crate::tree::reader::ArchiveReader;

const THREADS: usize = 4;
const QUEUE: usize = 32;
/// Files up to this size, in bytes, are handed over whole.
const SMALL_FILE_BYTES: u64 = 512 * 1024;
const PIECE: u64 = 512 * 1024;
const PIECES: usize = 4;

pub struct FileJob {
    pub file: OwnedFd,
    pub path: TreePath,
    pub metadata: Metadata,
    pub size: u64,
    pub extents: Option<Vec<Extent>>,
    pub content: Content,
}

pub enum Content {
    Whole(Vec<u8>),
    /// Ends early when the reader of the archive failed.
    Pieces(Receiver<Vec<u8>>),
}

pub struct Writers<'a> {
    jobs: SyncSender<FileJob>,
    shared: &'a Shared,
}

#[derive(Default)]
struct Shared {
    failure: Mutex<Option<TreeError>>,
    unsupported: Mutex<Vec<(TreePath, Unsupported)>>,
    /// Buffers that were written and may be filled again.
    idle: Mutex<Vec<Vec<u8>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `produce` with writers at its side, and returns when all that it handed over is written. The attributes that the
/// file system does not support come back by path.
pub fn run(
    produce: impl FnOnce(&Writers) -> Result<(), TreeError>,
) -> Result<Vec<(TreePath, Unsupported)>, TreeError> {
    let shared = Shared::default();
    let produced = std::thread::scope(|scope| {
        let (jobs, receiver) = sync_channel(QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..THREADS {
            let receiver = Arc::clone(&receiver);
            let shared = &shared;
            scope.spawn(move || work(&receiver, shared));
        }
        drop(receiver);
        let writers = Writers {
            jobs,
            shared: &shared,
        };
        produce(&writers)
    });
    // A writer's failure comes first: the producer may have stopped only because of it.
    if let Some(failure) = locked(&shared.failure).take() {
        return Err(failure);
    }
    produced?;
    Ok(std::mem::take(&mut *locked(&shared.unsupported)))
}

impl Writers<'_> {
    /// Reads the content of the archive's present entry and hands it to a thread. A failure of any earlier file is an
    /// error here.
    pub fn write<R: Read>(
        &self,
        archive: &mut ArchiveReader<R>,
        job: impl FnOnce(Content) -> FileJob,
    ) -> Result<(), TreeError> {
        if archive.remaining() <= SMALL_FILE_BYTES {
            let mut content = self.buffer(archive.remaining() as usize);
            archive.read_content_exact(&mut content)?;
            return self.send(job(Content::Whole(content)));
        }
        let (pieces, receiver) = sync_channel(PIECES);
        self.send(job(Content::Pieces(receiver)))?;
        while archive.remaining() > 0 {
            let wanted = archive.remaining().min(PIECE);
            let mut piece = self.buffer(wanted as usize);
            archive.read_content_exact(&mut piece)?;
            if pieces.send(piece).is_err() {
                return Err(stopped());
            }
        }
        Ok(())
    }

    fn send(&self, job: FileJob) -> Result<(), TreeError> {
        if locked(&self.shared.failure).is_some() || self.jobs.send(job).is_err() {
            return Err(stopped());
        }
        Ok(())
    }

    fn buffer(&self, length: usize) -> Vec<u8> {
        let mut buffer = locked(&self.shared.idle).pop().unwrap_or_default();
        buffer.resize(length, 0);
        buffer
    }
}

/// Never seen: the failure that made a writer stop is told instead.
fn stopped() -> TreeError {
    TreeError::Stream(std::io::Error::other("a writing thread stopped"))
}

fn work(jobs: &Mutex<Receiver<FileJob>>, shared: &Shared) {
    loop {
        let job = locked(jobs).recv();
        let Ok(mut job) = job else {
            return;
        };
        if locked(&shared.failure).is_some() {
            continue;
        }
        match fill(&mut job, shared) {
            Ok(unsupported) if unsupported.0.is_empty() => {}
            Ok(unsupported) => locked(&shared.unsupported).push((job.path, unsupported)),
            Err(error) => {
                locked(&shared.failure).get_or_insert(error);
            }
        }
    }
}

fn fill(job: &mut FileJob, shared: &Shared) -> Result<Unsupported, TreeError> {
    let whole = [Extent {
        offset: 0,
        length: job.size,
    }];
    if let (None, Content::Pieces(pieces)) = (&job.extents, &job.content) {
        fill_in_order(job, pieces, shared)?;
        return apply(job);
    }
    let extents = job.extents.as_deref().unwrap_or(&whole);
    let mut target = Target {
        file: &job.file,
        path: &job.path,
        extents,
        written: 0,
    };
    match &mut job.content {
        Content::Whole(content) => {
            target.write(content)?;
            recycle(shared, std::mem::take(content));
        }
        Content::Pieces(pieces) => {
            for piece in pieces.iter() {
                target.write(&piece)?;
                recycle(shared, piece);
            }
        }
    }
    if !target.is_full() {
        return Err(stopped());
    }
    if job.extents.is_some() {
        ftruncate(&job.file, job.size).map_err(TreeError::file("set the size of", &job.path))?;
    }
    apply(job)
}

fn fill_in_order(
    job: &FileJob,
    pieces: &Receiver<Vec<u8>>,
    shared: &Shared,
) -> Result<(), TreeError> {
    let failed = |source| TreeError::File {
        action: "write",
        path: job.path.to_string(),
        source,
    };
    let file = job.file.try_clone().map_err(failed)?;
    let mut output = Appender::new(File::from(file));
    let mut written = 0;
    for piece in pieces.iter() {
        output.append(&piece).map_err(failed)?;
        written += piece.len() as u64;
        recycle(shared, piece);
    }
    output.finish().map_err(failed)?;
    if written == job.size {
        Ok(())
    } else {
        Err(stopped())
    }
}

fn apply(job: &FileJob) -> Result<Unsupported, TreeError> {
    Place::Open(job.file.as_fd())
        .apply(&job.metadata)
        .map_err(TreeError::file("restore the attributes of", &job.path))
}

fn recycle(shared: &Shared, buffer: Vec<u8>) {
    let mut idle = locked(&shared.idle);
    if idle.len() < QUEUE {
        idle.push(buffer);
    }
}

/// A file that takes a stream of content into its extents.
struct Target<'a> {
    file: &'a OwnedFd,
    path: &'a TreePath,
    extents: &'a [Extent],
    /// Into the first extent.
    written: u64,
}

impl Target<'_> {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), TreeError> {
        while !bytes.is_empty() {
            let Some(extent) = self.extents.first() else {
                return Err(stopped());
            };
            let left = extent.length - self.written;
            let part = &bytes[..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            if part.is_empty() {
                self.extents = &self.extents[1..];
                self.written = 0;
                continue;
            }
            match pwrite(self.file, part, extent.offset + self.written) {
                Ok(written) => {
                    self.written += written as u64;
                    bytes = &bytes[written..];
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(TreeError::file("write", self.path)(errno)),
            }
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        match self.extents {
            [] => true,
            [last] => last.length == self.written,
            _ => false,
        }
    }
}
