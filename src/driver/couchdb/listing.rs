//! Which files are in a copy: the index of an archive, read while it is stored.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::manifest::{Artifact, Compression, Role};
use crate::pipe::codec::decompressor;
use crate::pipe::{ByteStream, SyncSource, transform};
use crate::snapshot::{ArtifactSink, NewArtifact, StoreError};
use crate::tree::{IndexEntry, IndexKind};

/// Paths of files, relative to the data directory.
#[derive(Clone, Debug, Default)]
pub struct Files(BTreeSet<Vec<u8>>);

impl Files {
    pub fn contains(&self, path: &str) -> bool {
        self.0.contains(path.as_bytes())
    }
}

impl FromIterator<Vec<u8>> for Files {
    fn from_iter<I: IntoIterator<Item = Vec<u8>>>(paths: I) -> Self {
        Self(paths.into_iter().collect())
    }
}

/// A sink that takes note of the files that the indexes name which go through it.
pub struct Listing<'a> {
    sink: &'a dyn ArtifactSink,
    files: Arc<Mutex<Files>>,
}

impl<'a> Listing<'a> {
    pub fn new(sink: &'a dyn ArtifactSink) -> Self {
        Self {
            sink,
            files: Arc::default(),
        }
    }

    pub fn files(self) -> Files {
        std::mem::take(&mut self.files.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl ArtifactSink for Listing<'_> {
    async fn store(&self, artifact: NewArtifact, body: ByteStream) -> Result<Artifact, StoreError> {
        if artifact.role != Role::Index {
            return self.sink.store(artifact, body).await;
        }
        let files = self.files.clone();
        let compression = artifact.compression;
        let body = transform(body, move |source, sink| {
            let named = named_in(source, sink, compression)?;
            *files.lock().unwrap_or_else(PoisonError::into_inner) = named;
            Ok(())
        });
        self.sink.store(artifact, body).await
    }

    fn compression(&self) -> Compression {
        self.sink.compression()
    }
}

/// The files that an index names. All of `source` goes on to `sink` as it is.
fn named_in(
    source: &mut SyncSource,
    mut sink: &mut (impl Write + Send),
    compression: Compression,
) -> io::Result<Files> {
    let passing = Passing {
        source,
        sink: &mut sink,
    };
    let index = BufReader::new(decompressor(BufReader::new(passing), compression)?);
    let mut files = Files::default();
    for line in index.lines() {
        let entry: IndexEntry = serde_json::from_str(&line?)?;
        if matches!(entry.kind, IndexKind::File | IndexKind::HardLink) {
            files.0.insert(entry.path.as_bytes().to_vec());
        }
    }
    Ok(files)
}

/// Passes on what is read.
struct Passing<'a, R, W> {
    source: &'a mut R,
    sink: &'a mut W,
}

impl<R: Read, W: Write> Read for Passing<'_, R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.sink.write_all(&buffer[..length])?;
        Ok(length)
    }
}
