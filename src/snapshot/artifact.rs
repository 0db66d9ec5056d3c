//! What drivers hand over and get back.

use async_trait::async_trait;

use crate::manifest::{Artifact, Compression, Role};
use crate::pipe::ByteStream;
use crate::repository::RepositoryError;

/// A new artifact that a driver is about to hand over.
#[derive(Clone, Debug)]
pub struct NewArtifact {
    pub role: Role,
    /// The ending of the plain content, without a dot: `dump`, `sql`, `tar`, `index.jsonl`.
    pub extension: &'static str,
    /// How the handed-over stream is compressed already.
    pub compression: Compression,
}

/// Takes artifacts into the snapshot that is being written.
#[async_trait]
pub trait ArtifactSink: Send + Sync {
    /// Reads `body` to its end and stores it. May be called for several artifacts at the same time.
    ///
    /// An error of `body` is an error of this call, and nothing of the artifact is left visible.
    /// The returned artifact's `plain` digest is that of the handed-over stream: a driver that hands over a compressed
    /// stream replaces it with the digest of the plain one.
    async fn store(&self, artifact: NewArtifact, body: ByteStream) -> Result<Artifact, StoreError>;

    /// How what is handed over ought to be compressed.
    fn compression(&self) -> Compression;
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The stream that was being stored failed: the producer's own words.
    #[error(transparent)]
    Body(std::io::Error),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

/// Gives back what a snapshot holds.
#[async_trait]
pub trait ArtifactSource: Send + Sync {
    /// The stored stream, decrypted, still compressed. Its end is an error unless length and digest of what was read
    /// from the repository are those of the manifest.
    async fn open(&self, artifact: &Artifact) -> Result<ByteStream, RepositoryError>;
}
