//! What a server must be able to do to hold a repository.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::super::RepositoryError;
use crate::manifest::StreamDigest;
use crate::pipe::ByteStream;

/// Objects under keys: `/` separates their segments, and none begins or ends with one. Keys are relative to the place
/// that the user named. All methods may be called at the same time from several tasks and processes.
///
/// Implementations retry what is worth retrying; an error that comes out is final for this run.
#[async_trait]
pub(crate) trait Storage: Send + Sync {
    /// Stores an object whole, or not at all, and fails with [`RepositoryError::Exists`] when the key is taken. Of two
    /// that race for one key, both may succeed where the server knows no conditional writes: the later one stays.
    ///
    /// Cancel-safe: when the returned future is dropped, nothing shows under the key, and what was sent is taken back
    /// within moments.
    async fn create(&self, key: &str, body: ByteStream) -> Result<StreamDigest, RepositoryError>;

    /// Stores a small object whole, or not at all, in place of what has its key. Where a server cannot do both at once, for
    /// a moment there is neither.
    async fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), RepositoryError>;

    /// The length of an object, and its bytes: a short read ends in an error. `None` when there is none.
    async fn open(&self, key: &str) -> Result<Option<(u64, ByteStream)>, RepositoryError>;

    /// Everything below `prefix`, which is empty or ends in `/`. In no order. Where a server has hidden names for what is being
    /// written, these are told too.
    async fn list(&self, prefix: &str) -> Result<Vec<Item>, RepositoryError>;

    /// What lies right below `prefix`, by name.
    async fn children(&self, prefix: &str) -> Result<Children, RepositoryError>;

    /// Missing ones are no error.
    async fn delete(&self, keys: &[String]) -> Result<(), RepositoryError>;

    /// Takes back what killed runs have sent below `prefix` more than `age` ago without finishing it, where the server can
    /// tell. Returns what was removed.
    async fn sweep_unfinished(
        &self,
        prefix: &str,
        age: Duration,
    ) -> Result<Vec<String>, RepositoryError>;

    /// For messages: the place as the user named it, without secrets.
    fn location(&self) -> String;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub key: String,
    pub bytes: u64,
    /// By the server's clock.
    pub modified: SystemTime,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Children {
    pub directories: Vec<String>,
    pub files: Vec<String>,
}
