//! A repository of ours, that snapshots pass through on their way out or in.
//!
//! Whatever lies in it may be deleted, so it must be nobody else's: it has a name and a directory that nobody else uses, and
//! it is looked at before anything is done to it. A repository of the user's may well hold the only copy of something.

use std::collections::BTreeMap;

use serde::Deserialize;
use tracing::warn;

use super::snapshots::Repository;
use crate::driver::DriverError;
use crate::driver::http::Http;

/// Names of repositories, and of their directories.
pub const SAVING: &str = "cofferdam-saving";
pub const RESTORING: &str = "cofferdam-restoring";

pub struct Passage<'a> {
    pub repository: Repository<'a>,
    /// In the container.
    pub location: String,
}

#[derive(Deserialize)]
struct Registered {
    #[serde(default)]
    settings: Settings,
}

#[derive(Default, Deserialize)]
struct Settings {
    location: Option<String>,
}

impl Registered {
    /// A location that is not absolute counts from a directory that the server allows.
    fn is_at(&self, location: &str) -> bool {
        let registered = self.settings.location.as_deref().unwrap_or_default();
        let registered = registered.trim_end_matches('/');
        registered == location
            || (!registered.is_empty() && location.ends_with(&format!("/{registered}")))
    }
}

impl<'a> Passage<'a> {
    pub fn below(base: &str, http: &'a Http<'a>, name: &'static str) -> Self {
        Self {
            repository: Repository { http, name },
            location: format!("{}/{name}", base.trim_end_matches('/')),
        }
    }

    /// No repository of somebody else's has its name or its directory.
    pub async fn ensure_it_is_nobodys(&self) -> Result<(), DriverError> {
        let name = self.repository.name;
        let known: BTreeMap<String, Registered> = self.repository.http.get("/_snapshot").await?;
        let in_the_way = known
            .iter()
            .find(|(other, repository)| (*other == name) != repository.is_at(&self.location));
        match in_the_way {
            None => Ok(()),
            Some((other, _)) => Err(DriverError::failed_with_hint(
                format!(
                    "the server has a repository {other} that Cofferdam does not know, in the place for Cofferdam's own: {} as {name}",
                    self.location
                ),
                "unregister it (its files stay), or choose another directory with cofferdam.elasticsearch.location",
            )),
        }
    }

    pub async fn open(&self) -> Result<(), DriverError> {
        self.ensure_it_is_nobodys().await?;
        self.repository.register(&self.location).await
    }

    /// Whether the server knows it, as ours.
    pub async fn is_open(&self) -> Result<bool, DriverError> {
        let path = self.repository.path();
        let known: Option<BTreeMap<String, Registered>> = self.repository.http.find(&path).await?;
        let mut known = known.iter().flatten();
        Ok(known.any(|(_, repository)| repository.is_at(&self.location)))
    }

    /// Its files stay.
    pub async fn close(&self) -> Result<(), DriverError> {
        if self.is_open().await? {
            self.repository.unregister().await?;
        }
        Ok(())
    }

    /// Deletes what is in it, and closes it. What stays is in nobody's way, and the next run begins with removing it.
    pub async fn clean_up(&self) {
        let cleaned = async {
            if self.is_open().await? {
                self.repository.delete_all().await?;
                self.repository.unregister().await?;
            }
            Ok::<(), DriverError>(())
        };
        if let Err(error) = cleaned.await {
            warn!(
                "the repository {} of the server is left until the next run: {error}",
                self.repository.name
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_may_be_told_from_an_allowed_directory() {
        for (registered, is_ours) in [
            (Some("/snapshots/cofferdam-saving"), true),
            (Some("/snapshots/cofferdam-saving/"), true),
            (Some("cofferdam-saving"), true),
            (Some("/snapshots"), false),
            (Some("saving"), false),
            (Some(""), false),
            (None, false),
        ] {
            let location = registered.map(str::to_owned);
            let repository = Registered {
                settings: Settings { location },
            };
            assert_eq!(
                repository.is_at("/snapshots/cofferdam-saving"),
                is_ours,
                "{registered:?}"
            );
        }
    }
}
