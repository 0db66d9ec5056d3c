//! A server that is started on a restored data directory before that takes the old one's place.
//!
//! It is a twin of the container that is restored: its program, configuration and host name, and so its node name, with the
//! new directory where the old one is. It has no network, renames the node in its own shard maps, opens every database, is
//! stopped properly, and is removed in every outcome.
//!
//! Which files there are is looked at before it starts: what it does not find, it makes anew, empty.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::listing::Files;
use super::node::{self, Found};
use super::shards::{ShardMap, ShardMaps};
use super::{access, in_the_layer};
use crate::agent::helper::{Helpers, Twin};
use crate::agent::request::{Answer, Method};
use crate::driver::http::{Http, MAINTENANCE, words};
use crate::driver::tree::Staged;
use crate::driver::{DriverError, Loss};
use crate::engine::{Container, Engine, HelperSource, Mount, Substitute};
use crate::labels::CouchdbLabels;
use crate::manifest::{CouchdbDatabase, CouchdbFacts};
use crate::tree::TreePath;

/// How long a server may take until it serves.
const READY: Duration = Duration::from_secs(10 * 60);
/// How long it may take until it has taken note of new shard maps.
const NOTED: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(500);

pub struct Trial<'a> {
    engine: &'a Engine,
    labels: &'a CouchdbLabels,
    twin: Twin,
    /// Those that were unpacked.
    files: Files,
    loss: Loss,
}

impl<'a> Trial<'a> {
    pub async fn begin(
        helpers: &'a Helpers,
        container: &Container,
        labels: &'a CouchdbLabels,
        staged: Staged,
        loss: Loss,
    ) -> Result<Self, DriverError> {
        ensure_no_link_leads_there(container, labels, &staged)?;
        let instead = Substitute {
            source: on_the_host(container, &staged)?,
            destination: labels.data_directory.clone(),
        };
        let place = TreePath::parse(staged.path.as_bytes())
            .map_err(|error| DriverError::failed(error.to_string()))?;
        let files = helpers.list(staged.mount, place).await?;
        let carried = in_the_layer(container, labels);
        let twin = helpers.twin(container, &instead, &carried).await?;
        Ok(Self {
            engine: &helpers.engine,
            labels,
            twin,
            files: files.into_iter().collect(),
            loss,
        })
    }

    /// Makes the data that of this node, looks at every database, and stops the server.
    pub async fn run(self, facts: &CouchdbFacts) -> Result<(), DriverError> {
        if let Err(error) = self.try_out(facts).await {
            return Err(self.with_last_words(error).await);
        }
        info!("a server serves the restored data directory");
        Ok(self.twin.stop().await?)
    }

    async fn try_out(&self, facts: &CouchdbFacts) -> Result<(), DriverError> {
        let access = access(self.engine, &self.twin.inspect().await?, self.labels).await?;
        let http = Http::new(&self.twin.neighbour, &access);
        self.wait_until_it_is_up(&http).await?;
        let maps = ShardMaps::read(&http).await?;
        self.ensure_files_are_there(&http, &maps, facts).await?;
        let name = node::name(&http).await?;
        if name != facts.node {
            info!(from = %facts.node, to = %name, "the shard maps are rewritten to the present node");
            maps.give(&http, &facts.node, &name).await?;
        }
        self.ensure_databases_open(&http, facts).await
    }

    /// Whatever else it was that failed, the reason is what a server says that ends.
    async fn with_last_words(&self, error: DriverError) -> DriverError {
        // The engine notices an end a moment after whoever was talking to the server.
        tokio::time::sleep(LOOK).await;
        let runs = self
            .twin
            .inspect()
            .await
            .is_ok_and(|twin| twin.is_running());
        if runs {
            return error;
        }
        let said = self.twin.last_words().await;
        let last = if said.is_empty() {
            error.to_string()
        } else {
            said
        };
        DriverError::failed(format!(
            "the server on the restored data directory ended: {last}"
        ))
    }

    async fn wait_until_it_is_up(&self, http: &Http<'_>) -> Result<(), DriverError> {
        let begun = Instant::now();
        loop {
            let last = match http.ask_anyhow(Method::Get, "/_up", None).await {
                Ok(answer) => match Readiness::of(&answer) {
                    Readiness::Up => return Ok(()),
                    Readiness::Never(why) => {
                        return Err(DriverError::failed_with_hint(
                            format!("the server on the restored data directory {why}"),
                            http.access.remedy,
                        ));
                    }
                    Readiness::NotYet => words(&answer),
                },
                Err(error) => error.to_string(),
            };
            let runs = self.twin.inspect().await?.is_running();
            if !runs || begun.elapsed() >= READY {
                let said = self.twin.last_words().await;
                return Err(DriverError::failed(format!(
                    "the server on the restored data directory does not respond: {}",
                    if said.is_empty() { last } else { said }
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The files of a database that was deleted while it was saved may be there in part. It is none.
    async fn ensure_files_are_there(
        &self,
        http: &Http<'_>,
        maps: &ShardMaps,
        facts: &CouchdbFacts,
    ) -> Result<(), DriverError> {
        let is_whole = |map: &&ShardMap| map.missing_in(&self.files).next().is_none();
        let broken = maps.iter().filter(|map| !is_whole(map));
        let (lost, vanished): (Vec<_>, Vec<_>) = broken.partition(|map| facts.has(&map.database));
        for map in &lost {
            let missing: Vec<&str> = map.missing_in(&self.files).collect();
            self.lost(format!(
                "database {} lacks {}",
                map.database,
                missing.join(", ")
            ))?;
        }
        let saved = facts.databases.iter();
        for database in saved.filter(|database| maps.of(&database.name).is_none()) {
            self.lost(format!(
                "there is no shard map of database {}",
                database.name
            ))?;
        }
        let vanished: Vec<&str> = vanished.iter().map(|map| &*map.database).collect();
        if !vanished.is_empty() {
            warn!(
                "deleted while they were saved, and so not restored: {}",
                vanished.join(", ")
            );
            maps.drop(http, &vanished).await?;
        }
        Ok(())
    }

    /// Every database that was there during the whole of the backup, with no fewer documents than at its beginning.
    async fn ensure_databases_open(
        &self,
        http: &Http<'_>,
        facts: &CouchdbFacts,
    ) -> Result<(), DriverError> {
        let mut waiting: Vec<String> = facts.databases.iter().map(|it| it.name.clone()).collect();
        let mut found = BTreeMap::new();
        let begun = Instant::now();
        while !waiting.is_empty() {
            let Found { open, closed } = node::look_at(http, &waiting).await?;
            found.extend(
                open.into_iter()
                    .map(|database| (database.name.clone(), database)),
            );
            waiting = closed;
            match waiting.first() {
                None => {}
                // A server notices new shard maps after a moment.
                Some(_) if begun.elapsed() < NOTED => tokio::time::sleep(LOOK).await,
                Some(name) => {
                    self.lost(format!(
                        "a server on it cannot open database {name}: {}",
                        node::why_closed(http, name).await?
                    ))?;
                    break;
                }
            }
        }
        for saved in &facts.databases {
            if let Some(found) = found.get(&saved.name)
                && marks(found) < marks(saved)
            {
                self.lost(format!(
                    "database {} has {} documents and {} deletions, but had {} and {} when it was saved",
                    saved.name, found.documents, found.deleted, saved.documents, saved.deleted
                ))?;
            }
        }
        Ok(())
    }

    /// Something is less than what was saved.
    fn lost(&self, what: String) -> Result<(), DriverError> {
        match self.loss {
            Loss::Accepted => {
                warn!("the restored data directory is not complete: {what}");
                Ok(())
            }
            Loss::Refused => Err(DriverError::failed_with_hint(
                format!("the restored data directory is not complete: {what}"),
                "restore an older snapshot, or restore what there is with --accept-loss",
            )),
        }
    }
}

/// Documents that are or were there: of those that are deleted a mark stays, and only purges take it away.
fn marks(database: &CouchdbDatabase) -> u64 {
    database.documents + database.deleted
}

/// What a server's answer at `/_up` says of the time to come.
#[derive(Debug, PartialEq)]
enum Readiness {
    Up,
    NotYet,
    Never(String),
}

impl Readiness {
    fn of(answer: &Answer) -> Self {
        match (answer.status, answer.body["status"].as_str()) {
            (200, _) => Self::Up,
            // It serves; only load balancers are told to leave it alone.
            (404, Some("nolb")) => Self::Up,
            (404, Some("maintenance_mode")) => Self::Never(MAINTENANCE.to_owned()),
            (401 | 403, _) => Self::Never(format!("refuses the login: {}", words(answer))),
            _ => Self::NotYet,
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
        HelperSource::Volume(volume) | HelperSource::Subpath { volume, .. } => {
            mount.volume.as_ref() == Some(volume)
        }
        HelperSource::Path(path) => mount.source == *path,
    };
    let mount = container.mount_of(directory);
    if *directory == staged.replaces && mount.is_some_and(is_the_mount) {
        return Ok(());
    }
    Err(DriverError::failed_with_hint(
        format!(
            "a symbolic link leads from {directory} to the data in container {}, so no trial server can be started there",
            container.name
        ),
        format!(
            "mount the volume at {0}, and set cofferdam.couchdb.data-directory: {0}",
            staged.replaces
        ),
    ))
}

/// A part of a volume can only be mounted by its path on the engine's host.
fn on_the_host(container: &Container, staged: &Staged) -> Result<String, DriverError> {
    let root = match &staged.mount.source {
        HelperSource::Path(path) => Some(path.clone()),
        HelperSource::Volume(volume) | HelperSource::Subpath { volume, .. } => container
            .mount_of(&staged.replaces)
            .filter(|mount| mount.volume.as_ref() == Some(volume))
            .and_then(Mount::on_the_host),
    };
    match root.filter(|path| path.starts_with('/')) {
        Some(root) => Ok(format!("{}/{}", root.trim_end_matches('/'), staged.path)),
        None => Err(DriverError::failed_with_hint(
            format!(
                "the engine does not report where the data of container {} is on its host",
                container.name
            ),
            "keep the data of CouchDB on a volume of the driver `local`, or on a bind mount",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_that_never_changes_is_not_waited_for() {
        let of = |status, body| Readiness::of(&Answer { status, body });
        assert_eq!(of(200, json!({"status": "ok"})), Readiness::Up);
        assert_eq!(of(404, json!({"status": "nolb"})), Readiness::Up);
        assert_eq!(of(404, json!({"status": "seeding"})), Readiness::NotYet);
        assert_eq!(of(503, json!({})), Readiness::NotYet);
        let maintenance = of(404, json!({"status": "maintenance_mode"}));
        assert_eq!(maintenance, Readiness::Never(MAINTENANCE.to_owned()));
        let denied = json!({"error": "unauthorized", "reason": "Name or password is incorrect."});
        assert!(matches!(of(401, denied), Readiness::Never(why) if why.contains("incorrect")));
    }
}
