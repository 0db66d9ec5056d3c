//! A stream of unknown length on its way into an object: into a hidden file first, which gets its own name when all of it
//! has arrived.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::poll_fn;
use reqwest::StatusCode;
use tokio_util::io::ReaderStream;

use super::super::directories::{Kind, Publish, partial_key};
use super::super::fault::{Errand, Fault};
use super::claim::Claim;
use super::client::Client;
use crate::manifest::StreamDigest;
use crate::pipe::{ByteStream, Digesting};
use crate::repository::RepositoryError;

/// What is handed to the connection at a time; it takes the next when it has sent that.
const CHUNK: usize = 128 * 1024;

/// How long a server may take nothing more, or may think about what it has taken.
const STALLED: Duration = Duration::from_secs(300);

/// When a hidden file is looked for, to be taken away: a server may notice late that its upload has ended.
const TAKING_BACK: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_secs(20),
];

/// The collection that `key` lies in must be there.
pub(super) async fn store(
    client: &Arc<Client>,
    key: &str,
    body: ByteStream,
    publish: Publish,
) -> Result<StreamDigest, RepositoryError> {
    let upload = Upload {
        client,
        publish,
        errand: Errand {
            action: "store",
            key,
        },
        partial: Partial {
            client: Arc::clone(client),
            key: Some(partial_key(key)),
        },
    };
    upload.run(body).await
}

struct Upload<'a> {
    client: &'a Arc<Client>,
    publish: Publish,
    errand: Errand<'a>,
    partial: Partial,
}

impl Upload<'_> {
    async fn run(mut self, body: ByteStream) -> Result<StreamDigest, RepositoryError> {
        let outcome = match self.send(body).await {
            Ok(digest) => self.publish(digest.bytes).await.map(|()| digest),
            Err(error) => Err(error),
        };
        match &outcome {
            Ok(_) => self.partial.key = None,
            Err(_) => self.partial.take_back().await,
        }
        outcome
    }

    async fn send(&self, body: ByteStream) -> Result<StreamDigest, RepositoryError> {
        let (body, digest) = Digesting::new(body);
        let progress = Progress::default();
        let request = self.client.upload(self.partial.key());
        let request = request.body(reqwest::Body::wrap_stream(progress.watch(body)));
        let answer = tokio::select! {
            answer = request.send() => answer,
            () = progress.stalled() => {
                let why = format!("the server has accepted no data for {}", humantime::format_duration(STALLED));
                return Err(self.failed(why));
            }
        };
        if let Some(error) = progress.take_error() {
            return Err(RepositoryError::Body(error));
        }
        let response = answer.map_err(|error| self.client.unanswered(self.errand, &error))?;
        if !response.status().is_success() {
            return Err(self.client.refused(self.errand, response).await);
        }
        let digest = digest.get();
        let digest = digest
            .ok_or_else(|| self.failed("the server answered before it had read all of it"))?;
        match self.client.look_at(self.partial.key()).await? {
            Some(Kind::File { bytes }) if bytes == digest.bytes => Ok(digest),
            found => Err(self.dropped(found, digest.bytes)),
        }
    }

    async fn publish(&self, bytes: u64) -> Result<(), RepositoryError> {
        match self.publish {
            Publish::Over => self.rename(bytes).await,
            Publish::New => {
                let claim = Claim::on(self.client, self.errand).await?;
                let outcome = self.rename(bytes).await;
                claim.release().await;
                outcome
            }
        }
    }

    /// Gives the file its name.
    async fn rename(&self, bytes: u64) -> Result<(), RepositoryError> {
        let address = &self.client.address;
        let mut response = self.move_to(&address.of(self.errand.key)).await?;
        // A server behind a proxy that ends TLS takes its own URL for that of another server.
        if response.status() == StatusCode::BAD_GATEWAY {
            response = self.move_to(&address.path_of(self.errand.key)).await?;
        }
        match response.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(()),
            _ if self.is_published(bytes).await? => Ok(()),
            StatusCode::PRECONDITION_FAILED => {
                Err(RepositoryError::Exists(self.errand.key.to_owned()))
            }
            _ => Err(self.client.refused(self.errand, response).await),
        }
    }

    async fn move_to(&self, destination: &str) -> Result<reqwest::Response, RepositoryError> {
        let from = self.client.address.of(self.partial.key());
        let overwrite = match self.publish {
            Publish::New => "F",
            Publish::Over => "T",
        };
        let request = self
            .client
            .request("MOVE", &from)
            .header("destination", destination)
            .header("overwrite", overwrite);
        self.client.send(self.errand, request).await
    }

    /// An answer may have got lost, and the rename was asked for again: nobody else can have taken the hidden name.
    async fn is_published(&self, bytes: u64) -> Result<bool, RepositoryError> {
        if self.client.look_at(self.partial.key()).await?.is_some() {
            return Ok(false);
        }
        let there = self.client.look_at(self.errand.key).await?;
        Ok(there == Some(Kind::File { bytes }))
    }

    fn failed(&self, why: impl Into<String>) -> RepositoryError {
        self.client.failed(self.errand, Fault::new(why))
    }

    fn dropped(&self, found: Option<Kind>, sent: u64) -> RepositoryError {
        let why = match found {
            Some(Kind::File { bytes }) => {
                format!("the server has {bytes} bytes of it, but {sent} were sent")
            }
            _ => "the upload was acknowledged, but the object is missing".to_owned(),
        };
        let hint = "a proxy may have dropped a body of unknown length; docs/stores.md shows the settings that it needs";
        self.client.failed(self.errand, Fault::hinting(why, hint))
    }
}

/// A hidden file, which is taken away when this is dropped.
struct Partial {
    client: Arc<Client>,
    /// `None` when there is nothing to take away any more.
    key: Option<String>,
}

impl Partial {
    fn key(&self) -> &str {
        self.key.as_deref().unwrap_or_default()
    }

    async fn take_back(&mut self) {
        let deleting = self.client.delete(self.key());
        if let Ok(Ok(true)) = tokio::time::timeout(Duration::from_secs(30), deleting).await {
            self.key = None;
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let (Some(key), Ok(runtime)) = (self.key.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let client = Arc::clone(&self.client);
        runtime.spawn(async move {
            for pause in TAKING_BACK {
                tokio::time::sleep(pause).await;
                match client.delete(&key).await {
                    Ok(true) => return,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!("the partial upload stays until the next sweep: {error}");
                        return;
                    }
                }
            }
        });
    }
}

/// Whether a body moves on, and how it failed.
#[derive(Clone)]
struct Progress(Arc<Mutex<State>>);

struct State {
    error: Option<io::Error>,
    /// Since when the server has had what it wanted; `None` while the body itself is waited for.
    waiting_since: Option<Instant>,
}

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            error: None,
            waiting_since: Some(Instant::now()),
        })))
    }
}

impl Progress {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(
        &self,
        body: Digesting<ByteStream>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let progress = self.clone();
        let mut chunks = ReaderStream::with_capacity(body, CHUNK);
        poll_fn(move |context| {
            let polled = std::pin::Pin::new(&mut chunks).poll_next(context);
            let mut state = progress.state();
            state.waiting_since = polled.is_ready().then(Instant::now);
            polled.map_err(|error| {
                let told = io::Error::new(error.kind(), error.to_string());
                state.error = Some(error);
                told
            })
        })
    }

    fn take_error(&self) -> Option<io::Error> {
        self.state().error.take()
    }

    async fn stalled(&self) {
        loop {
            tokio::time::sleep(STALLED / 20).await;
            let since = self.state().waiting_since;
            if since.is_some_and(|since| since.elapsed() > STALLED) {
                return;
            }
        }
    }
}
