//! Encryption with age, of streams that are compressed already.
//!
//! An age file is a header with a key for each recipient, and the content in pieces of 64 KiB, each authenticated and the
//! last one marked: what was changed, or cut, does not come out as if it were whole.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use age::Decryptor;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, ReadBuf};
use tokio::task::spawn_blocking;
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

use super::codec::CHUNK;
use super::{ByteStream, ahead, transform};
use crate::pipe::keys::{DecryptionError, Identities, Recipients};

/// A header has about 150 bytes for each recipient.
const LONGEST_HEADER: usize = 64 * 1024;

/// Encrypts `plain`, on a thread of its own.
pub fn encrypt(plain: ByteStream, recipients: &Recipients) -> ByteStream {
    let recipients = recipients.clone();
    transform(plain, move |source, sink| {
        let mut writer = recipients.encryptor()?.wrap_output(sink)?;
        source.copy_to(&mut writer)?;
        writer.finish().map(drop)
    })
}

/// Undoes [`encrypt`]. Reads the header before it returns, so that keys that do not fit are found out at once.
///
/// The stream ends in an error where something was changed or cut, and where `stored` does. Errors begin with `what`.
pub async fn decrypt(
    stored: ByteStream,
    identities: &Identities,
    what: &str,
) -> Result<ByteStream, DecryptionError> {
    let mut stored = BufReader::with_capacity(CHUNK, stored);
    let header = read_header(&mut stored).await?;
    let whole = io::Cursor::new(header).chain(stored);
    let file = Decryptor::new_async_buffered(whole.compat())
        .await
        .map_err(|error| match error {
            age::DecryptError::Io(error) => of_reading(error),
            other => DecryptionError::Damaged(other.to_string()),
        })?;
    let identities = identities.clone();
    let plain = spawn_blocking(move || identities.open(file))
        .await
        .map_err(|error| DecryptionError::Read(io::Error::other(error)))??;
    Ok(ahead(Box::pin(Named {
        inner: plain.compat(),
        what: what.to_owned(),
    })))
}

/// Decrypts a stored stream, and encrypts it to others: what is inside stays as it is, compression included.
pub async fn reencrypt(
    stored: ByteStream,
    identities: &Identities,
    recipients: &Recipients,
    what: &str,
) -> Result<ByteStream, DecryptionError> {
    let plain = decrypt(stored, identities, what).await?;
    Ok(encrypt(plain, recipients))
}

/// The library reads lines of any length.
async fn read_header(stored: &mut (impl AsyncBufRead + Unpin)) -> Result<Vec<u8>, DecryptionError> {
    let mut header = Vec::new();
    loop {
        let line = header.len();
        let room = (LONGEST_HEADER - line) as u64;
        let mut rest = (&mut *stored).take(room);
        let read = rest.read_until(b'\n', &mut header).await;
        read.map_err(of_reading)?;
        if header.len() == line || !header.ends_with(b"\n") {
            return Err(DecryptionError::Damaged(match header.len() {
                LONGEST_HEADER => format!("it is longer than {LONGEST_HEADER} bytes"),
                bytes => format!("the object ends after {bytes} bytes"),
            }));
        }
        if line == 0 && !header.starts_with(b"age-encryption.org/") {
            return Err(DecryptionError::Damaged(
                "it is not that of an age file".to_owned(),
            ));
        }
        if header[line..].starts_with(b"---") {
            return Ok(header);
        }
    }
}

fn of_reading(error: io::Error) -> DecryptionError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            DecryptionError::Damaged("the object ends within it".to_owned())
        }
        _ => DecryptionError::Read(error),
    }
}

/// Lets every error say what it is about.
struct Named<T> {
    inner: T,
    what: String,
}

impl<T: AsyncRead + Unpin> AsyncRead for Named<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.inner).poll_read(context, buffer));
        Poll::Ready(read.map_err(|error| {
            let words = error.to_string();
            if words.starts_with(&self.what) {
                return error;
            }
            io::Error::new(
                error.kind(),
                format!("{} cannot be decrypted: {words}", self.what),
            )
        }))
    }
}

#[cfg(test)]
mod tests;
