//! Bodies of requests and answers: streams with a limit on silence, and an end that can be trusted.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::pipe::ByteStream;

/// Big enough to keep the engine busy, small enough to hold many at a time.
const CHUNK: usize = 256 * 1024;

/// `chunks` as bytes to read. After an error it yields errors for good: a reader that goes on must not find an end.
pub(super) fn byte_stream<S>(chunks: S) -> ByteStream
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    Box::pin(Unforgiving {
        inner: Box::pin(StreamReader::new(chunks.fuse())),
        failed: false,
    })
}

struct Unforgiving {
    inner: ByteStream,
    failed: bool,
}

impl AsyncRead for Unforgiving {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.failed {
            return Poll::Ready(Err(io::Error::other("the stream has failed before")));
        }
        let result = self.inner.as_mut().poll_read(context, buffer);
        self.failed = matches!(result, Poll::Ready(Err(_)));
        result
    }
}

/// Yields `silence()` when nothing comes for `limit` although it is asked for.
pub(super) fn limit_silence<S>(
    chunks: S,
    limit: Duration,
    silence: impl Fn() -> io::Error + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    futures_util::stream::try_unfold(
        (Box::pin(chunks), silence),
        move |(mut chunks, silence)| async move {
            match tokio::time::timeout(limit, chunks.try_next()).await {
                Ok(next) => Ok(next?.map(|chunk| (chunk, (chunks, silence)))),
                Err(_) => Err(silence()),
            }
        },
    )
}

/// Watches a body on its way up.
///
/// When a body fails, hyper and bollard tell only that it did; the reason is kept here. It also tells an engine that
/// takes nothing more from a source that has nothing to give.
#[derive(Clone)]
pub(super) struct UploadWatch(Arc<Mutex<Upload>>);

struct Upload {
    failure: Option<io::Error>,
    /// Since when the engine has not asked for more; `None` while it waits for the source.
    engine_busy_since: Option<Instant>,
}

/// `content` in pieces of a good size for sending.
pub(super) fn chunks_of(content: ByteStream) -> ReaderStream<ByteStream> {
    ReaderStream::with_capacity(content, CHUNK)
}

/// `content` as the body of a request, and who watches it.
pub(super) fn watch_upload(
    content: ByteStream,
) -> (
    impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    UploadWatch,
) {
    let watch = UploadWatch(Arc::new(Mutex::new(Upload {
        failure: None,
        engine_busy_since: Some(Instant::now()),
    })));
    let body = WatchedBody {
        content: chunks_of(content),
        watch: watch.clone(),
    };
    (body, watch)
}

impl UploadWatch {
    fn with<T>(&self, act: impl FnOnce(&mut Upload) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why the content could not be read, when that is what ended the upload.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.with(|upload| upload.failure.take())
    }

    /// Returns when the engine has asked for nothing during `limit`.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            let since = self.with(|upload| upload.engine_busy_since);
            let until = since.unwrap_or_else(Instant::now) + limit;
            tokio::time::sleep_until(until).await;
            if since.is_some() && since == self.with(|upload| upload.engine_busy_since) {
                return;
            }
        }
    }
}

struct WatchedBody {
    content: ReaderStream<ByteStream>,
    watch: UploadWatch,
}

impl Stream for WatchedBody {
    type Item = io::Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        let next = self.content.poll_next_unpin(context);
        self.watch.with(|upload| {
            upload.engine_busy_since = next.is_ready().then(Instant::now);
        });
        next.map_err(|error| {
            let kind = error.kind();
            self.watch.with(|upload| upload.failure = Some(error));
            io::Error::from(kind)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn after_an_error_no_end_is_seen() {
        let chunks = vec![
            Ok(Bytes::from_static(b"half")),
            Err(io::Error::other("cut")),
        ];
        let mut bytes = byte_stream(stream::iter(chunks));
        let mut read = Vec::new();
        assert!(bytes.read_to_end(&mut read).await.is_err());
        assert!(bytes.read_to_end(&mut read).await.is_err());
        assert_eq!(read, b"half");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_an_error_and_slow_readers_are_not() {
        let chunks = stream::iter([Ok(Bytes::from_static(b"a")), Ok(Bytes::from_static(b"b"))])
            .chain(stream::pending());
        let limited = limit_silence(chunks, Duration::from_secs(5), || {
            io::Error::other("silent")
        });
        let mut limited = Box::pin(limited);
        assert!(limited.next().await.unwrap().is_ok());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(limited.next().await.unwrap().is_ok());
        assert_eq!(
            limited.next().await.unwrap().unwrap_err().to_string(),
            "silent"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_takes_nothing_is_told_from_a_source_that_gives_nothing() {
        let (source, _giver) = tokio::io::simplex(64);
        let (mut body, watch) = watch_upload(Box::pin(source));
        let limit = Duration::from_secs(10);

        let waiting = tokio::time::timeout(Duration::from_secs(100), body.next());
        tokio::select! {
            _ = waiting => {}
            () = watch.stalled(limit) => panic!("the engine was waiting for the source"),
        }

        let (mut body, watch) = watch_upload(Box::pin(&b"content"[..]));
        assert!(body.next().await.unwrap().is_ok());
        tokio::time::timeout(limit * 2, watch.stalled(limit))
            .await
            .unwrap();
    }
}
