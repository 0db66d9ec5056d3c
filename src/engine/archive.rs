//! "docker cp": tar archives out of and into containers, running or not.
//!
//! - `file`: one regular file as an archive of one entry, read and written

pub(super) mod file;

use std::io;
use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::{
    ContainerArchiveInfoOptions, DownloadFromContainerOptions, UploadToContainerOptions,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};

pub use self::file::NewFile;
use super::body::{byte_stream, limit_silence, watch_upload};
use super::fault::About;
use super::turns::CALL;
use super::{Engine, EngineError, container_name};
use crate::pipe::ByteStream;

/// How long the engine may take no more of an upload. It may have to write everything to a slow disk before it answers.
const UPLOAD_SILENCE: Duration = Duration::from_secs(15 * 60);

/// The end marker of a tar archive, and nothing else.
const EMPTY_ARCHIVE: &[u8] = &[0; 1024];
/// How long the engine may take to say why it refuses.
const REASON: Duration = Duration::from_secs(60);

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

impl PathKind {
    /// From the bits of Go's `fs.FileMode`, which are not those of the system.
    fn of_go_mode(mode: u32) -> Self {
        const DIRECTORY: u32 = 1 << 31;
        const SYMLINK: u32 = 1 << 27;
        /// Device, pipe, socket, character device, irregular.
        const OTHER: u32 = (1 << 26) | (1 << 25) | (1 << 24) | (1 << 21) | (1 << 19);
        match mode {
            _ if mode & DIRECTORY != 0 => Self::Directory,
            _ if mode & SYMLINK != 0 => Self::Symlink,
            _ if mode & OTHER != 0 => Self::Other,
            _ => Self::File,
        }
    }
}

impl Engine {
    /// `Ok(None)` when the path does not exist. A symbolic link at its end is not followed.
    ///
    /// The engine does not see what is on a tmpfs: such a path does not exist for it, or is the one below the mount.
    pub async fn stat(&self, container: &str, path: &str) -> Result<Option<PathStat>, EngineError> {
        let options = ContainerArchiveInfoOptions {
            path: path.to_owned(),
        };
        let name = container_name(container)?;
        let answer = self.patient.get_container_archive_info(name, Some(options));
        match self.call(container, CALL, answer).await {
            Ok(stat) => Ok(Some(PathStat {
                name: stat.name,
                size: u64::try_from(stat.size).unwrap_or_default(),
                kind: PathKind::of_go_mode(stat.file_mode),
                link_target: stat.link_target,
            })),
            Err(error) => {
                let action = format!("look at {path} in container {container}");
                let mut error = self.path_fault(error, container, path, action).await;
                // To HEAD the engine gives no reasons; to GET it does.
                if let EngineError::Api {
                    status: Some(_), ..
                } = error
                    && let Err(reason) = self.download(container, path, REASON).await
                {
                    error = reason;
                }
                match error {
                    EngineError::NoSuchPath { .. } => Ok(None),
                    other => Err(other),
                }
            }
        }
    }

    /// The tar archive of `path`, its entries below the path's last component. The stream is the raw body: whether the
    /// archive is whole shows only in its end marker, which the caller must check.
    ///
    /// Until the stream has been read or dropped, every other call about this container waits.
    ///
    /// `idle_limit`: how long the engine may stay silent while the stream is read.
    pub async fn archive_get(
        &self,
        container: &str,
        path: &str,
        idle_limit: Duration,
    ) -> Result<ByteStream, EngineError> {
        Ok(byte_stream(
            self.download(container, path, idle_limit).await?,
        ))
    }

    /// Brings one regular file out: its size as the archive's header states it, and a stream that ends after exactly so
    /// many bytes and the archive's end marker; a cut before that is an error of the stream. Other calls wait for it, as
    /// for [`Engine::archive_get`].
    pub async fn file_get(
        &self,
        container: &str,
        path: &str,
        idle_limit: Duration,
    ) -> Result<(u64, ByteStream), EngineError> {
        let archive = self.archive_get(container, path, idle_limit).await?;
        file::extract(archive, container, path).await
    }

    /// Unpacks a tar archive below the directory `path`, with the owners that its entries state.
    ///
    /// When `archive` fails, this is [`EngineError::Source`]. After any error a part of it may have been unpacked.
    pub async fn archive_put(
        &self,
        container: &str,
        path: &str,
        archive: ByteStream,
    ) -> Result<(), EngineError> {
        // A refusal in the middle of an upload may be lost with the connection; of an empty archive it is not.
        self.unpack(container, path, Box::pin(EMPTY_ARCHIVE))
            .await?;
        self.unpack(container, path, archive).await
    }

    async fn unpack(
        &self,
        container: &str,
        path: &str,
        archive: ByteStream,
    ) -> Result<(), EngineError> {
        let options = UploadToContainerOptions {
            path: path.to_owned(),
            ..UploadToContainerOptions::default()
        };
        let name = container_name(container)?;
        let receiver = format!("{path} in container {container}");
        let turn = self.turns.copy(container).await;
        let (body, watch) = watch_upload(archive);
        let body = bollard::body_try_stream(body);
        let upload = self.patient.upload_to_container(name, Some(options), body);
        let uploaded = tokio::select! {
            uploaded = upload => uploaded,
            () = watch.stalled(UPLOAD_SILENCE) => {
                return Err(EngineError::Silent { what: format!("the upload to {receiver}"), limit: UPLOAD_SILENCE });
            }
        };
        drop(turn);
        match (uploaded, watch.failure()) {
            (_, Some(source)) => Err(EngineError::Source { receiver, source }),
            (Ok(()), None) => Ok(()),
            (Err(error), None) => {
                let action = format!("unpack an archive into {receiver}");
                Err(self.path_fault(error, container, path, action).await)
            }
        }
    }

    /// Puts one file of a known length into the directory `directory`. Content that is shorter or longer than stated fails
    /// with [`EngineError::Source`]. After any error a part of the file may be there.
    pub async fn file_put(
        &self,
        container: &str,
        directory: &str,
        file: NewFile<'_>,
        content: ByteStream,
    ) -> Result<(), EngineError> {
        let archive = file::archive_of(&file, content)?;
        self.archive_put(container, directory, archive).await
    }

    /// The body of an archive, once the engine has begun to send it.
    async fn download(
        &self,
        container: &str,
        path: &str,
        idle_limit: Duration,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static, EngineError> {
        let options = DownloadFromContainerOptions {
            path: path.to_owned(),
        };
        let name = container_name(container)?;
        let turn = self.turns.copy(container).await;
        let mut body = Box::pin(self.patient.download_from_container(name, Some(options)));
        let what = format!("the copy of {path} from container {container}");
        let silent = move || EngineError::Silent {
            what: what.clone(),
            limit: idle_limit,
        };
        // The answer's status comes with the first piece.
        let first = match tokio::time::timeout(idle_limit, body.try_next()).await {
            Ok(Ok(first)) => first,
            Ok(Err(error)) => {
                drop(turn);
                let action = format!("copy {path} out of container {container}");
                return Err(self.path_fault(error, container, path, action).await);
            }
            Err(_) => return Err(silent()),
        };
        let (container, path) = (container.to_owned(), path.to_owned());
        let chunks = stream::iter(first.map(Ok)).chain(body).map(move |chunk| {
            // The container is free again when the engine has no more to send, or when nobody reads any more.
            let _turn = &turn;
            chunk.map_err(|error| {
                io::Error::from(EngineError::DamagedArchive {
                    container: container.clone(),
                    path: path.clone(),
                    message: error.to_string(),
                })
            })
        });
        Ok(limit_silence(chunks, idle_limit, move || silent().into()))
    }

    /// Tells a missing path from a missing container, which the engine's answers do not: to HEAD it gives no reason.
    async fn path_fault(
        &self,
        error: Error,
        container: &str,
        path: &str,
        action: String,
    ) -> EngineError {
        let (container, path) = (container.to_owned(), path.to_owned());
        match self.fault(error, About::Container(&container), action) {
            EngineError::NoSuchContainer(_) => match self.inspect_raw(&container).await {
                Err(error @ EngineError::NoSuchContainer(_)) => error,
                _ => EngineError::NoSuchPath { container, path },
            },
            EngineError::Api { message, .. } if message.ends_with(": not a directory") => {
                EngineError::NoSuchPath { container, path }
            }
            EngineError::Api { message, .. } if message.contains("is not a directory") => {
                EngineError::WrongKind {
                    container,
                    path,
                    found: "something else",
                    wanted: "a directory",
                }
            }
            EngineError::Api { message, .. } if is_full(&message) => EngineError::NoSpace {
                container,
                path,
                message,
            },
            EngineError::Api { message, .. } if message.contains("read-only") => {
                EngineError::ReadOnly {
                    container,
                    path,
                    message,
                }
            }
            other => other,
        }
    }
}

fn is_full(message: &str) -> bool {
    ["no space left on device", "disk quota exceeded"]
        .iter()
        .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_from_gos_bits() {
        let table = [
            (0o644, PathKind::File),
            (0o4755 | (1 << 23), PathKind::File),
            ((1 << 31) | 0o755, PathKind::Directory),
            ((1 << 31) | (1 << 20) | 0o777, PathKind::Directory),
            (134_218_239, PathKind::Symlink),
            ((1 << 25) | 0o600, PathKind::Other),
            ((1 << 26) | (1 << 21) | 0o666, PathKind::Other),
        ];
        for (mode, kind) in table {
            assert_eq!(PathKind::of_go_mode(mode), kind, "{mode:o}");
        }
    }
}
