//! One connection for all that is done to a server at a time, made anew when it breaks.

use std::sync::Arc;
use std::time::Duration;

use russh_sftp::client::error::Error;
use russh_sftp::client::rawsession::SftpResult;
use russh_sftp::protocol::FileAttributes;
use tokio::sync::Mutex;

use super::super::backoff::Backoff;
use super::super::fault::{Errand, Fault};
use super::fault::{is_about_the_line, none_if_missing};
use super::login::{Account, Session, log_in};
use crate::repository::RepositoryError;

pub(super) struct Connection {
    account: Account,
    /// The directory that the user named, without a slash at its end.
    root: String,
    location: String,
    session: Mutex<Option<Arc<Session>>>,
    /// How long it is tried to reach the server.
    patience: Duration,
}

impl Connection {
    pub(super) fn new(
        account: Account,
        root: String,
        location: String,
        patience: Duration,
    ) -> Self {
        Self {
            account,
            root,
            location,
            session: Mutex::default(),
            patience,
        }
    }

    pub(super) fn location(&self) -> &str {
        &self.location
    }

    /// The server's path of an object, or of a directory where `key` is empty or ends in `/`.
    pub(super) fn path(&self, key: &str) -> String {
        match (self.root.as_str(), key.trim_end_matches('/')) {
            ("", "") => "/".to_owned(),
            (root, "") => root.to_owned(),
            (root, key) => format!("{root}/{key}"),
        }
    }

    /// A session, shared with whatever else is going on.
    pub(super) async fn session(
        &self,
        errand: Errand<'_>,
    ) -> Result<Arc<Session>, RepositoryError> {
        let mut slot = self.session.lock().await;
        if let Some(session) = slot.as_ref().filter(|session| !session.is_closed()) {
            return Ok(Arc::clone(session));
        }
        let mut backoff = Backoff::new(self.patience);
        loop {
            let error = match log_in(&self.account).await {
                Ok(session) => {
                    let session = Arc::new(session);
                    *slot = Some(Arc::clone(&session));
                    return Ok(session);
                }
                Err(error) => error,
            };
            let pause = backoff.pause(None).filter(|_| error.is_passing);
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(self.failed(errand, error.fault)),
            }
        }
    }

    /// The next one who asks for a session gets a new one.
    pub(super) async fn forget(&self, session: &Arc<Session>) {
        let mut slot = self.session.lock().await;
        if slot.as_ref().is_some_and(|it| Arc::ptr_eq(it, session)) {
            *slot = None;
        }
    }

    /// Does what may be done twice, on a new connection when the one at hand breaks.
    pub(super) async fn run<T, F>(
        &self,
        errand: Errand<'_>,
        operation: impl Fn(Arc<Session>) -> F + Send + Sync,
    ) -> Result<T, RepositoryError>
    where
        T: Send,
        F: Future<Output = SftpResult<T>> + Send,
    {
        self.attempt(errand, operation)
            .await?
            .map_err(|error| self.failed(errand, Fault::from(&error)))
    }

    /// As [`Connection::run`], with the server's own refusal for the caller to judge.
    pub(super) async fn attempt<T, F>(
        &self,
        errand: Errand<'_>,
        operation: impl Fn(Arc<Session>) -> F + Send + Sync,
    ) -> Result<Result<T, Error>, RepositoryError>
    where
        T: Send,
        F: Future<Output = SftpResult<T>> + Send,
    {
        let mut backoff = Backoff::new(self.patience);
        loop {
            let session = self.session(errand).await?;
            let error = match operation(Arc::clone(&session)).await {
                Err(error) if is_about_the_line(&error) => error,
                outcome => return Ok(outcome),
            };
            self.forget(&session).await;
            match backoff.pause(None) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Ok(Err(error)),
            }
        }
    }

    /// The attributes of what lies under a key.
    pub(super) async fn look_at(
        &self,
        key: &str,
    ) -> Result<Option<FileAttributes>, RepositoryError> {
        let errand = Errand {
            action: "check for",
            key,
        };
        let path = self.path(key);
        self.run(errand, |session| {
            let path = path.clone();
            async move { none_if_missing(session.sftp.metadata(path).await) }
        })
        .await
    }

    /// Deletes a file. Tells whether there was one.
    pub(super) async fn delete(&self, key: &str) -> Result<bool, RepositoryError> {
        let errand = Errand {
            action: "delete",
            key,
        };
        let path = self.path(key);
        let deleted = self
            .run(errand, |session| {
                let path = path.clone();
                async move { none_if_missing(session.sftp.remove_file(path).await) }
            })
            .await?;
        Ok(deleted.is_some())
    }

    pub(super) fn failed(&self, errand: Errand<'_>, fault: Fault) -> RepositoryError {
        fault.of(errand, &self.location)
    }
}
