//! "docker cp": tar archives out of and into containers, running or not.

use std::time::Duration;

use super::{Engine, EngineError};
use crate::pipe::ByteStream;

/// What the engine says of a path in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStat {
    /// The last component.
    pub name: String,
    pub size: u64,
    pub kind: PathKind,
    /// Where a symbolic link points to; empty otherwise.
    pub link_target: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    File,
    Directory,
    Symlink,
    Other,
}

impl Engine {
    /// `Ok(None)` when the path does not exist.
    pub async fn stat(
        &self,
        _container: &str,
        _path: &str,
    ) -> Result<Option<PathStat>, EngineError> {
        todo!()
    }

    /// The tar archive of `path`, its entries below the path's last component. The stream is the raw body: whether the
    /// archive is whole shows only in its end marker, which the caller must check.
    /// `idle_limit`: how long the engine may stay silent.
    pub async fn archive_get(
        &self,
        _container: &str,
        _path: &str,
        _idle_limit: Duration,
    ) -> Result<ByteStream, EngineError> {
        todo!()
    }

    /// Brings one regular file out: exactly `size` bytes as the archive's header states them, then the end marker; a cut
    /// before that is an error of the stream.
    pub async fn file_get(
        &self,
        _container: &str,
        _path: &str,
        _idle_limit: Duration,
    ) -> Result<(u64, ByteStream), EngineError> {
        todo!()
    }

    /// Unpacks a tar archive below the directory `path`.
    pub async fn archive_put(
        &self,
        _container: &str,
        _path: &str,
        _archive: ByteStream,
    ) -> Result<(), EngineError> {
        todo!()
    }

    /// Puts one file of a known length into the directory `directory`, owned by `uid`:`gid`.
    pub async fn file_put(
        &self,
        _container: &str,
        _directory: &str,
        _file: NewFile<'_>,
        _content: ByteStream,
    ) -> Result<(), EngineError> {
        todo!()
    }
}

#[derive(Clone, Debug)]
pub struct NewFile<'a> {
    pub name: &'a str,
    pub bytes: u64,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
}
