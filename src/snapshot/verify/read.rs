//! Reads one object through all of its layers.

use std::io;

use tokio::io::{AsyncBufRead, AsyncRead, BufReader};

use super::problem::Fault;
use super::{Seen, Verifier};
use crate::manifest::{Artifact, Encryption, Role, StreamDigest};
use crate::pipe::codec::CHUNK;
use crate::pipe::keys::DecryptionError;
use crate::pipe::{self, ByteStream, Counting, DigestHandle, Digesting, Progress};
use crate::repository::{Repository, RepositoryError};
use crate::tree::IndexReader;
use crate::tree::index::IndexError;

impl Verifier<'_> {
    pub(super) async fn read(&self, artifact: &Artifact) -> (Seen, Result<(), Fault>) {
        let seen = match &artifact.encryption {
            Encryption::None => Seen::Plain,
            Encryption::Age(file) if self.identities.may_open(&file.to) => Seen::Decrypted,
            Encryption::Age(_) => Seen::Closed,
        };
        let outcome = match seen {
            Seen::Plain | Seen::Decrypted => self.read_content(artifact).await,
            Seen::Closed => read_stored(self.repository, artifact, self.progress.clone()).await,
        };
        (seen, outcome)
    }

    async fn read_content(&self, artifact: &Artifact) -> Result<(), Fault> {
        let stored = self.repository.open(&artifact.object).await;
        let counted = Counting::new(stored.map_err(unopened)?, self.progress.clone());
        let (stored, stored_digest) = Digesting::new(counted);
        let mut compressed: ByteStream = Box::pin(stored);
        if artifact.encryption != Encryption::None {
            let what = artifact.object.as_str();
            match pipe::decrypt(compressed, self.identities, what).await {
                Ok(opened) => compressed = opened,
                Err(error) => return Err(self.blame(artifact, of_opening(&error)).await),
            }
        }
        let (plain, plain_digest) =
            Digesting::new(pipe::decompress(compressed, artifact.compression));

        let bad_line = match read_to_end(artifact.role, plain).await {
            Ok(bad_line) => bad_line,
            Err(error) => {
                let why = error.to_string();
                return Err(self.blame(artifact, Fault::Undecodable { why }).await);
            }
        };
        ensure_stored(artifact, &ended(stored_digest)?)?;
        let found = ended(plain_digest)?;
        if found != artifact.plain {
            return Err(Fault::PlainDigest {
                expected: told(&artifact.plain),
                found: told(&found),
            });
        }
        match bad_line {
            None => Ok(()),
            Some((line, why)) => Err(Fault::Index { line, why }),
        }
    }

    /// A decoder gave up half-way. Reading it all once more, undecoded, tells whether the stored bytes have changed, or were
    /// bad from the beginning (then it is `otherwise`), or cannot be read.
    async fn blame(&self, artifact: &Artifact, otherwise: Fault) -> Fault {
        let again = read_stored(self.repository, artifact, Progress::silent());
        again.await.err().unwrap_or(otherwise)
    }
}

/// Reads an object as it is stored.
async fn read_stored(
    repository: &dyn Repository,
    artifact: &Artifact,
    progress: Progress,
) -> Result<(), Fault> {
    let stored = repository.open(&artifact.object).await.map_err(unopened)?;
    let (mut stored, digest) = Digesting::new(Counting::new(stored, progress));
    tokio::io::copy(&mut stored, &mut tokio::io::sink())
        .await
        .map_err(|error| Fault::Unreadable {
            why: error.to_string(),
        })?;
    ensure_stored(artifact, &ended(digest)?)
}

fn ended(digest: DigestHandle) -> Result<StreamDigest, Fault> {
    digest.get().ok_or_else(|| Fault::Unreadable {
        why: "it was not read to the end".to_owned(),
    })
}

fn of_opening(error: &DecryptionError) -> Fault {
    let why = error.to_string();
    if error.is_of_keys() {
        Fault::Closed { why }
    } else {
        Fault::Undecodable { why }
    }
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
