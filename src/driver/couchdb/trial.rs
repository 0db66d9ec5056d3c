//! A server that is started on a restored data directory before that takes the old one's place.
//!
//! It is a twin of the container that is restored: its program, configuration and host name, and so its node name, with the
//! new directory where the old one is. It has no network, renames the node in its own shard maps, opens every database, is
//! stopped properly, and is removed in every outcome.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{access, node, shards};
use crate::agent::helper::{Helpers, Twin};
use crate::agent::request::Method;
use crate::driver::DriverError;
use crate::driver::http::{Access, Http, words};
use crate::driver::tree::Staged;
use crate::engine::{Container, HelperSource, Mount, Substitute};
use crate::labels::CouchdbLabels;
use crate::manifest::CouchdbFacts;

/// How long a server may take until it serves.
const READY: Duration = Duration::from_secs(10 * 60);
/// How long it may take until it has taken note of new shard maps.
const NOTED: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(500);

pub struct Trial {
    twin: Twin,
    access: Access,
}

impl Trial {
    pub async fn begin(
        helpers: &Helpers,
        container: &Container,
        labels: &CouchdbLabels,
        staged: Staged,
    ) -> Result<Self, DriverError> {
        ensure_no_link_leads_there(container, labels, &staged)?;
        let instead = Substitute {
            source: on_the_host(container, &staged)?,
            destination: labels.data_directory.clone(),
        };
        let twin = helpers.twin(container, &instead).await?;
        let access = access(&helpers.engine, &twin.inspect().await?, labels).await?;
        Ok(Self { twin, access })
    }

    /// Makes the data that of this node, looks at every database, and stops the server.
    pub async fn run(self, facts: &CouchdbFacts) -> Result<(), DriverError> {
        let http = Http::new(&self.twin.neighbour, &self.access);
        self.wait_until_it_is_up(&http).await?;
        let name = node::name(&http).await?;
        if name != facts.node {
            info!(from = %facts.node, to = %name, "the shard maps are rewritten to the present node");
            shards::give(&http, &facts.node, &name).await?;
        }
        ensure_databases_open(&http, facts).await?;
        info!("a server serves the restored data directory");
        Ok(self.twin.stop().await?)
    }

    async fn wait_until_it_is_up(&self, http: &Http<'_>) -> Result<(), DriverError> {
        let begun = Instant::now();
        loop {
            let last = match http.ask(Method::Get, "/_up", None).await {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) => words(&answer),
                Err(error) => error.to_string(),
            };
            let runs = self.twin.inspect().await?.is_running();
            if !runs || begun.elapsed() >= READY {
                let said = self.twin.last_words().await;
                return Err(DriverError::failed(format!(
                    "the server on the restored data directory {}: {}",
                    if runs { "does not serve" } else { "ended" },
                    if said.is_empty() { last } else { said }
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Behind a link, one of two mounts would hide the other, and the server might be tried on the old data.
fn ensure_no_link_leads_there(
    container: &Container,
    labels: &CouchdbLabels,
    staged: &Staged,
) -> Result<(), DriverError> {
    let directory = &labels.data_directory;
    let is_the_mount = |mount: &Mount| match &staged.mount.source {
        HelperSource::Volume(volume) => mount.volume.as_ref() == Some(volume),
        HelperSource::Path(path) => mount.source == *path,
    };
    let mount = container.mount_of(directory);
    if *directory == staged.replaces && mount.is_some_and(is_the_mount) {
        return Ok(());
    }
    Err(DriverError::failed_with_hint(
        format!(
            "a symbolic link leads from {directory} to the data in container {}, and no server can be tried out there",
            container.name
        ),
        format!(
            "mount the volume at {0}, and say cofferdam.couchdb.data-directory: {0}",
            staged.replaces
        ),
    ))
}

/// A part of a volume can only be mounted by its path on the engine's host.
fn on_the_host(container: &Container, staged: &Staged) -> Result<String, DriverError> {
    let root = match &staged.mount.source {
        HelperSource::Path(path) => Some(path.as_str()),
        HelperSource::Volume(volume) => container
            .mounts
            .iter()
            .find(|mount| mount.volume.as_ref() == Some(volume))
            .map(|mount| mount.source.as_str()),
    };
    match root.filter(|path| path.starts_with('/')) {
        Some(root) => Ok(format!("{}/{}", root.trim_end_matches('/'), staged.path)),
        None => Err(DriverError::failed_with_hint(
            format!(
                "the engine does not tell where the data of container {} lies on its host",
                container.name
            ),
            "keep the data of CouchDB on a volume of the driver `local`, or on a bind mount",
        )),
    }
}

/// Every database that was there during the whole of the backup, with no fewer documents than at its beginning.
async fn ensure_databases_open(http: &Http<'_>, facts: &CouchdbFacts) -> Result<(), DriverError> {
    let names: Vec<String> = facts
        .databases
        .iter()
        .map(|database| database.name.clone())
        .collect();
    let begun = Instant::now();
    let found = loop {
        let found = node::look_at(http, &names).await?;
        let closed = found.iter().find_map(|(name, found)| match found {
            Err(why) => Some(format!("{name}: {why}")),
            Ok(_) => None,
        });
        match closed {
            None => break found,
            // A server notices new shard maps after a moment.
            Some(_) if begun.elapsed() < NOTED => tokio::time::sleep(LOOK).await,
            Some(closed) => {
                return Err(DriverError::failed(format!(
                    "a server on the restored data directory cannot open database {closed}"
                )));
            }
        }
    };
    for (saved, (_, found)) in facts.databases.iter().zip(found) {
        let Ok(found) = found else { continue };
        // Purges take documents away for good.
        if found.documents + found.deleted < saved.documents + saved.deleted {
            warn!(
                database = %saved.name,
                "restored with {} documents, and there were {} when it was saved", found.documents, saved.documents
            );
        }
    }
    Ok(())
}
