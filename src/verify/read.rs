//! Reads one object through all of its layers.

use std::io::{self, BufRead, Read};

use serde::Deserialize;

use super::problem::Fault;
use crate::manifest::{Artifact, Role, StreamDigest};
use crate::pipe::{self, Counting, DigestHandle, Digesting, Progress, SyncSource};
use crate::repository::{Repository, RepositoryError};

/// A path has 4,096 bytes at most, each three characters when it is encoded, and there may be two of them.
const LONGEST_INDEX_LINE: u64 = 64 * 1024;

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

    let is_index = artifact.role == Role::Index;
    let read = pipe::consume(Box::pin(plain), move |source| {
        if is_index {
            read_index(source)
        } else {
            source.copy_to(&mut io::sink()).map(|()| None)
        }
    });
    let bad_line = match read.await.flatten() {
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

/// Reads an index to its end, and tells the first line that is bad.
fn read_index(source: &mut SyncSource) -> io::Result<Option<(u64, String)>> {
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        if source
            .take(LONGEST_INDEX_LINE)
            .read_until(b'\n', &mut text)?
            == 0
        {
            break;
        }
        if let Err(why) = ensure_index_line(&text) {
            source.copy_to(&mut io::sink())?;
            return Ok(Some((line, why)));
        }
    }
    Ok(None)
}

/// What every version's index has. What more there is, is for those who use it.
#[derive(Deserialize)]
struct IndexLine {
    #[serde(rename = "path")]
    _path: String,
    #[serde(rename = "type")]
    _kind: String,
}

fn ensure_index_line(text: &[u8]) -> Result<(), String> {
    if text.last() != Some(&b'\n') {
        return Err("it has no end".to_owned());
    }
    serde_json::from_slice::<IndexLine>(text)
        .map(drop)
        .map_err(|error| error.to_string())
}
