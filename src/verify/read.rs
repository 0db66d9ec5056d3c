//! Reads one object through all of its layers.

use std::io;

use tokio::io::{AsyncBufRead, AsyncRead, BufReader};

use super::problem::Fault;
use crate::manifest::{Artifact, Role, StreamDigest};
use crate::pipe::codec::CHUNK;
use crate::pipe::{self, Counting, DigestHandle, Digesting, Progress};
use crate::repository::{Repository, RepositoryError};
use crate::tree::IndexReader;
use crate::tree::index::IndexError;

pub(super) async fn judge(
    repository: &dyn Repository,
    artifact: &Artifact,
    progress: &Progress,
) -> Option<Fault> {
    look(repository, artifact, progress).await.err()
}

async fn look(
    repository: &dyn Repository,
    artifact: &Artifact,
    progress: &Progress,
) -> Result<(), Fault> {
    let stored = repository.open(&artifact.object).await.map_err(unopened)?;
    let (stored, stored_digest) = Digesting::new(Counting::new(stored, progress.clone()));
    let (plain, plain_digest) =
        Digesting::new(pipe::decompress(Box::pin(stored), artifact.compression));

    let bad_line = match read_to_end(artifact.role, plain).await {
        Ok(bad_line) => bad_line,
        Err(error) => return Err(blame(repository, artifact, &error).await),
    };
    let ended = |handle: DigestHandle| {
        handle.get().ok_or_else(|| Fault::Unreadable {
            why: "it was not read to its end".to_owned(),
        })
    };
    ensure_stored(artifact, &ended(stored_digest)?)?;
    let found = ended(plain_digest)?;
    if found != artifact.plain {
        return Err(Fault::PlainDigest {
            expected: told(&artifact.plain),
            found: told(&found),
        });
    }
    bad_line.map_or(Ok(()), |(line, why)| Err(Fault::Index { line, why }))
}

/// The number and the fault of an index's first bad line.
type BadLine = (u64, String);

async fn read_to_end(role: Role, plain: impl AsyncRead + Unpin) -> io::Result<Option<BadLine>> {
    let mut plain = BufReader::with_capacity(CHUNK, plain);
    let bad_line = match role {
        Role::Index => first_bad_line(&mut plain).await?,
        Role::Dump | Role::Globals | Role::Layer => None,
    };
    tokio::io::copy_buf(&mut plain, &mut tokio::io::sink()).await?;
    Ok(bad_line)
}

fn told(digest: &StreamDigest) -> String {
    format!("{} bytes with SHA-256 {}", digest.bytes, digest.sha256)
}

fn unopened(error: RepositoryError) -> Fault {
    match error {
        RepositoryError::Missing(_) => Fault::Missing,
        error => Fault::Unreadable {
            why: error.to_string(),
        },
    }
}

fn ensure_stored(artifact: &Artifact, found: &StreamDigest) -> Result<(), Fault> {
    let expected = &artifact.stored;
    if found.bytes != expected.bytes {
        Err(Fault::Length {
            expected: expected.bytes,
            found: found.bytes,
        })
    } else if found.sha256 != expected.sha256 {
        Err(Fault::StoredDigest {
            expected: expected.sha256.clone(),
            found: found.sha256.clone(),
        })
    } else {
        Ok(())
    }
}

/// The decoder gave up half-way. Reading it all once more, undecoded, tells whether the stored bytes have changed, or
/// were bad from the beginning, or cannot be read.
async fn blame(repository: &dyn Repository, artifact: &Artifact, error: &io::Error) -> Fault {
    let again = async {
        let stored = repository.open(&artifact.object).await.map_err(unopened)?;
        let (mut stored, digest) = Digesting::new(stored);
        tokio::io::copy(&mut stored, &mut tokio::io::sink())
            .await
            .map_err(|error| Fault::Unreadable {
                why: error.to_string(),
            })?;
        let found = digest.get().unwrap_or_else(|| artifact.stored.clone());
        ensure_stored(artifact, &found)
    };
    again.await.err().unwrap_or_else(|| Fault::Undecodable {
        why: error.to_string(),
    })
}

/// Reads an index to its end, or to the first line that is bad.
async fn first_bad_line(plain: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<BadLine>> {
    let mut index = IndexReader::new(plain);
    loop {
        match index.next_entry().await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(IndexError::Malformed { line, why }) => return Ok(Some((line, why))),
            Err(IndexError::Stream(error)) => return Err(error),
        }
    }
}
