//! Takes artifacts out of the repository, into files that the usual tools read.
//!
//! All or nothing: every file is written under a hidden name, decrypted, decompressed and verified, and only when all of
//! them are whole do they get their names. Nothing is ever written over.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::manifest::{Artifact, Manifest};
use crate::pipe::{self, SyncSource};
use crate::repository::RepositoryError;
use crate::repository::directory::{Directory, FileError, Published, Sealed};
use crate::snapshot::{ArtifactSource, ensure_opens, open_plain};
use crate::target::TargetId;

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExportedFile {
    pub target: TargetId,
    pub path: PathBuf,
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("{} already exists, and nothing is overwritten; name another directory", .0.display())]
    Exists(PathBuf),
    #[error(transparent)]
    Write(FileError),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error("{target} cannot be read; nothing was exported: {source}")]
    Read { target: TargetId, source: io::Error },
    #[error("the export was interrupted; nothing was exported: {0}")]
    Interrupted(String),
}

/// Writes the artifacts of `targets` into `directory`, which is made when it is not there. What an earlier snapshot wrote
/// has that snapshot's id before its name, so that the layers of a tree sort oldest first.
pub async fn export(
    source: &dyn ArtifactSource,
    manifest: &Manifest,
    targets: &[&TargetId],
    directory: &Path,
) -> Result<Vec<ExportedFile>, ExportError> {
    let records = manifest.targets.iter();
    let records = records.filter(|record| targets.contains(&&record.target));
    ensure_opens(source, records.clone()).await?;
    let mut wanted = Vec::new();
    for record in records {
        let artifacts = record.artifacts.iter();
        wanted.extend(artifacts.map(|artifact| (&record.target, artifact)));
    }
    let names = wanted
        .iter()
        .map(|(_, artifact)| file_name(manifest, artifact));
    let place = open_with_free_names(directory.to_owned(), names.collect()).await?;

    let mut files = Vec::new();
    let mut exported = Vec::new();
    for (target, artifact) in wanted {
        let name = file_name(manifest, artifact);
        let path = directory.join(&name);
        let plain = open_plain(source, artifact).await?;
        let place = place.clone();
        let written = pipe::consume(plain, move |source| write(&place, &name, source)).await;
        files.push(
            written
                .map_err(Failure::Read)
                .flatten()
                .map_err(|failure| match failure {
                    Failure::Read(source) => ExportError::Read {
                        target: target.clone(),
                        source,
                    },
                    Failure::Write(error) => ExportError::Write(error),
                })?,
        );
        exported.push(ExportedFile {
            target: target.clone(),
            path,
            bytes: artifact.plain.bytes,
        });
    }
    for published in blocking(move || {
        files
            .into_iter()
            .map(publish)
            .collect::<Result<Vec<_>, _>>()
    })
    .await?
    {
        published.keep();
    }
    Ok(exported)
}

/// The object's name without the endings of its encryption and its compression, which are undone.
fn file_name(manifest: &Manifest, artifact: &Artifact) -> String {
    let object = &artifact.object;
    let file = object.file_name();
    let opened = file.strip_suffix(artifact.encryption.extension());
    let opened = opened.unwrap_or(file);
    let plain = opened
        .strip_suffix(artifact.compression.extension())
        .unwrap_or(opened);
    if object.snapshot() == manifest.snapshot.as_str() {
        plain.to_owned()
    } else {
        format!("{}.{plain}", object.snapshot())
    }
}

async fn open_with_free_names(
    directory: PathBuf,
    names: Vec<String>,
) -> Result<Directory, ExportError> {
    blocking(move || {
        let place = Directory::open_or_create(&directory).map_err(ExportError::Write)?;
        for name in names {
            if place.entry(&name).map_err(ExportError::Write)?.is_some() {
                return Err(ExportError::Exists(directory.join(name)));
            }
        }
        Ok(place)
    })
    .await
}

/// Which side of a copy failed.
enum Failure {
    Read(io::Error),
    Write(FileError),
}

fn write(place: &Directory, name: &str, source: &mut SyncSource) -> Result<Sealed, Failure> {
    let mut partial = place.begin(name).map_err(Failure::Write)?;
    loop {
        let chunk = source.fill_buf().map_err(Failure::Read)?;
        let length = chunk.len();
        if length == 0 {
            return partial.seal().map_err(Failure::Write);
        }
        partial.append(chunk).map_err(Failure::Write)?;
        source.consume(length);
    }
}

fn publish(sealed: Sealed) -> Result<Published, ExportError> {
    sealed.publish().map_err(|error| match error.source.kind() {
        io::ErrorKind::AlreadyExists => ExportError::Exists(error.path),
        _ => ExportError::Write(error),
    })
}

async fn blocking<T, F>(work: F) -> Result<T, ExportError>
where
    F: FnOnce() -> Result<T, ExportError> + Send + 'static,
    T: Send + 'static,
{
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ExportError::Interrupted(error.to_string()))
        .flatten()
}

#[cfg(test)]
mod tests;
