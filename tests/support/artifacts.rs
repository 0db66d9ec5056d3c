//! A sink that keeps artifacts in a temporary directory, and the source that reads them back.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use cofferdam::manifest::{Artifact, Compression, Encryption, ObjectPath};
use cofferdam::pipe::{ByteStream, Digesting, verified};
use cofferdam::repository::RepositoryError;
use cofferdam::snapshot::{ArtifactSink, ArtifactSource, NewArtifact, StoreError};
use cofferdam::target::RunId;
use tempfile::TempDir;

pub struct Artifacts {
    directory: TempDir,
    count: AtomicU32,
    pub compression: Compression,
}

impl Artifacts {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            count: AtomicU32::new(0),
            compression: Compression::DEFAULT,
        }
    }

    pub fn path_of(&self, artifact: &Artifact) -> PathBuf {
        self.directory.path().join(artifact.object.file_name())
    }
}

#[async_trait]
impl ArtifactSink for Artifacts {
    async fn store(&self, artifact: NewArtifact, body: ByteStream) -> Result<Artifact, StoreError> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let run: RunId = "20261121T020000Z-9f2c61aa".parse().unwrap();
        let name = format!("{number}.{}", artifact.extension);
        let object = ObjectPath::new("test", &run, &name).unwrap();
        let mut file = tokio::fs::File::create(self.directory.path().join(&name))
            .await
            .unwrap();
        let (mut body, digest) = Digesting::new(body);
        tokio::io::copy(&mut body, &mut file)
            .await
            .map_err(StoreError::Body)?;
        let stored = digest.get().unwrap();
        Ok(Artifact {
            role: artifact.role,
            object,
            plain: stored.clone(),
            stored,
            compression: artifact.compression,
            encryption: Encryption::None,
        })
    }

    fn compression(&self) -> Compression {
        self.compression
    }
}

#[async_trait]
impl ArtifactSource for Artifacts {
    async fn open(&self, artifact: &Artifact) -> Result<ByteStream, RepositoryError> {
        let file = tokio::fs::File::open(self.path_of(artifact)).await.unwrap();
        Ok(verified(
            Box::pin(file),
            artifact.stored.clone(),
            artifact.object.as_str(),
        ))
    }
}
