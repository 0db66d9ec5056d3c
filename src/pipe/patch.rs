//! Another piece in place of one near the beginning of a stream.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use super::ByteStream;

/// How much of a stream is held in memory, and looked through, in bytes.
const BEGINNING: u64 = 64 * 1024;

/// A piece, and what takes its place: as many bytes, so that whatever counts them stays right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    piece: Vec<u8>,
    replacement: Vec<u8>,
}

/// The piece is not where it was expected: nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the piece to be replaced is not at the beginning of the stream")]
pub struct NothingToPatch;

impl From<NothingToPatch> for io::Error {
    fn from(error: NothingToPatch) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

impl Patch {
    /// Panics unless both are of one length: callers make them of constants.
    pub fn new(piece: Vec<u8>, replacement: Vec<u8>) -> Self {
        assert_eq!(piece.len(), replacement.len(), "a patch keeps lengths");
        Self { piece, replacement }
    }

    /// Where the first piece lies.
    fn find(&self, beginning: &[u8]) -> Result<usize, NothingToPatch> {
        beginning
            .windows(self.piece.len())
            .position(|window| window == self.piece)
            .ok_or(NothingToPatch)
    }

    fn apply(&self, beginning: &mut [u8]) -> Result<(), NothingToPatch> {
        let at = self.find(beginning)?;
        beginning[at..at + self.piece.len()].copy_from_slice(&self.replacement);
        Ok(())
    }

    /// Reads the beginning of `plain`; what is returned reads all of it, patched.
    pub fn reader<R: Read>(&self, mut plain: R) -> io::Result<impl Read + use<R>> {
        let mut beginning = Vec::new();
        (&mut plain).take(BEGINNING).read_to_end(&mut beginning)?;
        self.apply(&mut beginning)?;
        Ok(Read::chain(Cursor::new(beginning), plain))
    }

    /// Like [`Patch::reader`].
    pub async fn stream(&self, mut plain: ByteStream) -> io::Result<ByteStream> {
        let mut beginning = Vec::new();
        (&mut plain)
            .take(BEGINNING)
            .read_to_end(&mut beginning)
            .await?;
        self.apply(&mut beginning)?;
        Ok(Box::pin(AsyncReadExt::chain(Cursor::new(beginning), plain)))
    }

    /// Patches a file where it lies.
    pub fn file(&self, mut file: impl Read + Write + Seek) -> io::Result<()> {
        let mut beginning = Vec::new();
        (&mut file).take(BEGINNING).read_to_end(&mut beginning)?;
        let at = self.find(&beginning)?;
        file.seek(SeekFrom::Start(at as u64))?;
        file.write_all(&self.replacement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch() -> Patch {
        Patch::new(b"old".to_vec(), b"new".to_vec())
    }

    /// By each of the three ways.
    async fn patched(content: &[u8]) -> [io::Result<Vec<u8>>; 3] {
        let read = patch().reader(content).and_then(|mut reader| {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        let stream = patch()
            .stream(Box::pin(Cursor::new(content.to_vec())))
            .await;
        let streamed = match stream {
            Ok(mut stream) => {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.map(|_| all)
            }
            Err(error) => Err(error),
        };
        let mut file = Cursor::new(content.to_vec());
        let file = patch().file(&mut file).map(|()| file.into_inner());
        [read, streamed, file]
    }

    #[tokio::test]
    async fn the_first_piece_is_replaced_and_nothing_else() {
        let rest = "old ".repeat(100_000);
        for (content, expected) in [
            ("old".to_owned(), "new".to_owned()),
            (
                "an old and an old one".to_owned(),
                "an new and an old one".to_owned(),
            ),
            (format!("x old {rest}"), format!("x new {rest}")),
        ] {
            for found in patched(content.as_bytes()).await {
                assert!(found.unwrap() == expected.as_bytes(), "{content:.20}");
            }
        }
    }

    #[tokio::test]
    async fn what_does_not_begin_with_it_is_refused() {
        let late = format!("{}old", " ".repeat(BEGINNING as usize - 1));
        for content in ["", "ol", &late] {
            for found in patched(content.as_bytes()).await {
                assert_eq!(found.unwrap_err().kind(), io::ErrorKind::InvalidData);
            }
        }
    }
}
