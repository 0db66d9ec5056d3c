//! A stream of unknown length on its way into an object: in one request when it is small, else in parts.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{
    Attributes, Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload,
};
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::PARTS_IN_FLIGHT;
use crate::manifest::StreamDigest;
use crate::pipe::{ByteStream, Digester};

/// An object has 10,000 parts at most, says S3.
const MOST_PARTS: usize = 10_000;
/// The second half of the parts are this much larger: some servers want all parts of one size, so only a very long stream
/// (40 GB with parts of 8 MiB) has two.
const GROWTH: usize = 8;

/// A buffer grows by this at least; a small object takes no more.
const READ: usize = 64 * 1024;

/// How long a server may take to forget what it was sent, before that is left to a sweep.
const ABORTING: Duration = Duration::from_secs(30);

pub(super) struct Upload<'a> {
    pub store: &'a Arc<dyn ObjectStore>,
    pub path: &'a Path,
    pub attributes: Attributes,
    pub part_size: usize,
    pub in_flight: &'a Arc<Semaphore>,
    /// Cleared once the server has shown that it knows none.
    pub conditional_writes: &'a AtomicBool,
}

pub(super) enum UploadError {
    /// The stream itself failed.
    Body(io::Error),
    Exists,
    /// More bytes than this do not fit.
    TooLong(u64),
    Store(Error),
}

impl From<Error> for UploadError {
    fn from(error: Error) -> Self {
        match error {
            Error::AlreadyExists { .. } | Error::Precondition { .. } => Self::Exists,
            other => Self::Store(other),
        }
    }
}

impl Upload<'_> {
    pub(super) async fn run(&self, body: ByteStream) -> Result<StreamDigest, UploadError> {
        let mut parts = Parts {
            body,
            digester: Digester::default(),
        };
        let first = parts.next(self.part_size).await?;
        if first.len() < self.part_size {
            self.put(first).await?;
        } else {
            self.put_parts(first, &mut parts).await?;
        }
        Ok(parts.digester.finish())
    }

    async fn put(&self, bytes: Bytes) -> Result<(), UploadError> {
        let payload = PutPayload::from(bytes.clone());
        // Without them it has to do that the key was free just before.
        if !self.conditional_writes.load(Ordering::Relaxed) {
            return Ok(self.put_as(PutMode::Overwrite, payload).await?);
        }
        match self.put_as(PutMode::Create, payload.clone()).await {
            Err(error) if is_unknown_to_the_server(&error) => {
                self.conditional_writes.store(false, Ordering::Relaxed);
                Ok(self.put_as(PutMode::Overwrite, payload).await?)
            }
            // When an answer gets lost the request is sent again, and meets what it wrote itself.
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. })
                if self.holds(&bytes).await =>
            {
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }

    async fn holds(&self, bytes: &Bytes) -> bool {
        let Ok(there) = self.store.get(self.path).await else {
            return false;
        };
        there.meta.size == bytes.len() as u64 && there.bytes().await.is_ok_and(|it| it == *bytes)
    }

    async fn put_as(&self, mode: PutMode, payload: PutPayload) -> Result<(), Error> {
        let options = PutOptions {
            mode,
            attributes: self.attributes.clone(),
            ..PutOptions::default()
        };
        self.store.put_opts(self.path, payload, options).await?;
        Ok(())
    }

    async fn put_parts(&self, first: Bytes, parts: &mut Parts) -> Result<(), UploadError> {
        let mut upload = Unfinished(Some(
            self.store
                .put_multipart_opts(self.path, self.attributes.clone().into())
                .await?,
        ));
        match self.send(&mut upload, first, parts).await {
            Ok(()) => {
                upload.0 = None;
                Ok(())
            }
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    async fn send(
        &self,
        upload: &mut Unfinished,
        first: Bytes,
        parts: &mut Parts,
    ) -> Result<(), UploadError> {
        let Some(upload) = upload.0.as_mut() else {
            return Ok(());
        };
        // Dropping it ends what is on its way.
        let mut sending = JoinSet::new();
        let mut part = first;
        let mut sent = 0;
        loop {
            if sent == MOST_PARTS {
                return Err(UploadError::TooLong(self.longest()));
            }
            let permits = self.permits_of(&part);
            let permit = Arc::clone(self.in_flight).acquire_many_owned(permits).await;
            let request = upload.put_part(part.into());
            sending.spawn(async move {
                let outcome = request.await;
                drop(permit);
                outcome
            });
            sent += 1;
            while let Some(outcome) = sending.try_join_next() {
                outcome.map_err(Error::from)??;
            }
            part = parts.next(self.size_of(sent)).await?;
            if part.is_empty() {
                break;
            }
        }
        while let Some(outcome) = sending.join_next().await {
            outcome.map_err(Error::from)??;
        }
        upload.complete().await?;
        Ok(())
    }

    /// A part of the larger size takes all there are.
    fn permits_of(&self, part: &Bytes) -> u32 {
        let parts = part.len().div_ceil(self.part_size).min(PARTS_IN_FLIGHT);
        u32::try_from(parts).unwrap_or(u32::MAX)
    }

    fn size_of(&self, part: usize) -> usize {
        match part < MOST_PARTS / 2 {
            true => self.part_size,
            false => self.part_size * GROWTH,
        }
    }

    fn longest(&self) -> u64 {
        (MOST_PARTS / 2 * (1 + GROWTH)) as u64 * self.part_size as u64
    }
}

/// HTTP's 501, or 400 with S3's `NotImplemented`.
fn is_unknown_to_the_server(error: &Error) -> bool {
    match error {
        Error::NotImplemented { .. } | Error::NotSupported { .. } => true,
        Error::Generic { source, .. } => {
            let text = source.to_string();
            text.contains("501 Not Implemented") || text.contains("<Code>NotImplemented</Code>")
        }
        _ => false,
    }
}

struct Parts {
    body: ByteStream,
    digester: Digester,
}

impl Parts {
    /// The next `size` bytes, fewer at the end, none after it.
    async fn next(&mut self, size: usize) -> Result<Bytes, UploadError> {
        let mut part = BytesMut::new();
        while part.len() < size {
            let wanted = size - part.len();
            let before = part.len();
            part.reserve(wanted.min(READ));
            let read = (&mut self.body)
                .take(wanted as u64)
                .read_buf(&mut part)
                .await;
            if read.map_err(UploadError::Body)? == 0 {
                break;
            }
            self.digester.update(&part[before..]);
        }
        Ok(part.freeze())
    }
}

/// An upload that the server is told to forget unless it was completed: what was sent stays, unseen and paid for.
struct Unfinished(Option<Box<dyn MultipartUpload>>);

impl Unfinished {
    async fn abort(&mut self) {
        if let Some(upload) = self.0.take() {
            abort(upload).await;
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let (Some(upload), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(abort(upload));
        }
    }
}

async fn abort(mut upload: Box<dyn MultipartUpload>) {
    let why = match tokio::time::timeout(ABORTING, upload.abort()).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the server does not answer".to_owned(),
    };
    tracing::warn!("an abandoned upload stays until the next sweep: {why}");
}
