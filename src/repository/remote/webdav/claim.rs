//! The right to give an object its name, which one upload has at a time. A server may look whether a name is free and give
//! it in two steps, as mod_dav does, and then two that come at once both get it; making a collection is one step.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::super::backoff::Backoff;
use super::super::directories::directory_of;
use super::super::fault::Errand;
use super::client::Client;
use crate::repository::RepositoryError;
use crate::repository::directory::numbered_partial_name;

/// A claim that stays this long is nobody's any more: a rename takes moments.
const ABANDONED: Duration = Duration::from_secs(60);

/// As many in a row are meant.
const REFUSALS: u32 = 4;

/// A hidden collection beside the object, which is deleted when this is dropped. A sweep takes what a killed run left.
pub(super) struct Claim {
    client: Arc<Client>,
    key: Option<String>,
}

impl Claim {
    /// Waits for others to be done with that name.
    pub(super) async fn on(
        client: &Arc<Client>,
        errand: Errand<'_>,
    ) -> Result<Self, RepositoryError> {
        let key = key_of(errand.key);
        let url = client.address.of(&key);
        let mut backoff = Backoff::new(ABANDONED);
        let mut refusals = 0;
        loop {
            match client.make_collection(errand, &url).await {
                Ok(true) => break,
                Ok(false) => refusals = 0,
                // It may have been there, and gone when it was looked at.
                Err(error) => {
                    refusals += 1;
                    if refusals == REFUSALS {
                        return Err(error);
                    }
                }
            }
            match backoff.pause(None) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => {
                    client.delete(&key).await?;
                    backoff = Backoff::new(ABANDONED);
                }
            }
        }
        Ok(Self {
            client: Arc::clone(client),
            key: Some(key),
        })
    }

    pub(super) async fn release(mut self) {
        if let Some(key) = self.key.take() {
            release(&self.client, &key).await;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let (Some(key), Ok(runtime)) = (self.key.take(), tokio::runtime::Handle::try_current()) {
            let client = Arc::clone(&self.client);
            runtime.spawn(async move { release(&client, &key).await });
        }
    }
}

async fn release(client: &Client, key: &str) {
    if let Err(error) = client.delete(key).await {
        tracing::warn!("an empty hidden collection stays until the next sweep: {error}");
    }
}

fn key_of(key: &str) -> String {
    let digest = Sha256::digest(key.as_bytes());
    let number = digest[..8]
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte));
    format!("{}{}/", directory_of(key), numbered_partial_name(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own() {
        assert_eq!(key_of("a/1/x"), "a/1/.cofferdam-5b78dbe46ea12978.partial/");
        assert_ne!(key_of("a/1/x"), key_of("a/1/y"));
        assert!(key_of("cofferdam.json").starts_with(".cofferdam-"));
    }
}
