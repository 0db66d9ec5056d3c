//! The snapshot interface: repositories, snapshots in them, and what a restore makes of one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::busy;
use super::server::Holdings;
use crate::agent::request::Method;
use crate::driver::DriverError;
use crate::driver::http::{Http, component};

const LOOK: Duration = Duration::from_secs(1);
/// How long a restore may do nothing at all before it counts as failed.
const STUCK: Duration = Duration::from_secs(30);

/// A repository of snapshots that the server knows, or is about to know.
pub struct Repository<'a> {
    pub http: &'a Http<'a>,
    pub name: &'a str,
}

/// What the server says of a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotInfo {
    pub snapshot: String,
    pub state: String,
    /// Also those behind data streams.
    #[serde(default)]
    pub indices: Vec<String>,
    #[serde(default)]
    pub data_streams: Vec<String>,
    #[serde(default)]
    failures: Vec<Value>,
    /// Whatever else it says, for the record of a snapshot that stays with the server.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Snapshots {
    snapshots: Vec<SnapshotInfo>,
}

impl Repository<'_> {
    pub fn path(&self) -> String {
        format!("/_snapshot/{}", component(self.name))
    }

    fn path_of(&self, snapshot: &str) -> String {
        format!("{}/{}", self.path(), component(snapshot))
    }

    /// The server tries it out, on all of its nodes.
    pub async fn register(&self, location: &str) -> Result<(), DriverError> {
        let body = json!({
            "type": "fs",
            // We compress ourselves.
            "settings": { "location": location, "compress": false }
        });
        let registered = self.http.put(&self.path(), body).await;
        registered.map(drop).map_err(|error| {
            DriverError::failed_with_hint(
                error.to_string(),
                format!("{location} has to be inside path.repo of the server's configuration, and the server has to be allowed to write there"),
            )
        })
    }

    /// Its files stay.
    pub async fn unregister(&self) -> Result<(), DriverError> {
        busy::delete(self.http, &self.path()).await
    }

    /// Makes a snapshot, and waits until it is whole.
    pub async fn create(
        &self,
        snapshot: &str,
        holdings: &Holdings,
    ) -> Result<SnapshotInfo, DriverError> {
        let body = json!({
            "indices": holdings.expression(),
            "ignore_unavailable": false,
            "include_global_state": false,
            "partial": false
        });
        self.http.put(&self.path_of(snapshot), body).await?;
        loop {
            let info = self.find(snapshot).await?;
            if info.state != "IN_PROGRESS" {
                info.ensure_it_is_whole()?;
                return Ok(info);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn find(&self, snapshot: &str) -> Result<SnapshotInfo, DriverError> {
        let missing = || {
            DriverError::failed(format!(
                "repository {} of the server has no snapshot {snapshot} (any more)",
                self.name
            ))
        };
        let found: Option<Snapshots> = self.http.find(&self.path_of(snapshot)).await?;
        let found = found.and_then(|found| found.snapshots.into_iter().next());
        found.ok_or_else(missing)
    }

    /// A snapshot that can be restored.
    pub async fn whole(&self, snapshot: &str) -> Result<SnapshotInfo, DriverError> {
        let info = self.find(snapshot).await?;
        info.ensure_it_is_whole()?;
        Ok(info)
    }

    async fn all(&self) -> Result<Vec<SnapshotInfo>, DriverError> {
        let found: Option<Snapshots> = self.http.find(&format!("{}/_all", self.path())).await?;
        Ok(found.map(|found| found.snapshots).unwrap_or_default())
    }

    pub async fn delete_all(&self) -> Result<(), DriverError> {
        for info in self.all().await? {
            busy::delete(self.http, &self.path_of(&info.snapshot)).await?;
        }
        Ok(())
    }

    /// What its snapshots hold.
    pub async fn holdings(&self) -> Result<Holdings, DriverError> {
        let mut holdings = Holdings::default();
        for info in self.all().await? {
            let own = info
                .indices
                .into_iter()
                .filter(|name| !name.starts_with('.'));
            holdings.indices.extend(own);
            holdings.data_streams.extend(info.data_streams);
        }
        Ok(holdings)
    }

    /// Lets the server restore a snapshot, and waits until every index serves.
    pub async fn restore(
        &self,
        info: &SnapshotInfo,
        holdings: &Holdings,
    ) -> Result<(), DriverError> {
        let body = json!({
            "indices": holdings.expression(),
            "ignore_unavailable": false,
            "include_global_state": false,
            "include_aliases": true
        });
        let path = format!("{}/_restore", self.path_of(&info.snapshot));
        let _: Value = self.http.post(&path, body).await?;
        let is_restored =
            |name: &&String| !name.starts_with('.') || !holdings.data_streams.is_empty();
        let expected: Vec<&String> = info.indices.iter().filter(is_restored).collect();
        self.wait_until_they_serve(&expected).await
    }

    async fn wait_until_they_serve(&self, indices: &[&String]) -> Result<(), DriverError> {
        let mut last_work = Instant::now();
        loop {
            let health: Health = self.http.get("/_cluster/health?level=indices").await?;
            let waiting: Vec<&str> = indices
                .iter()
                .filter(|index| !health.serves(index))
                .map(|index| index.as_str())
                .collect();
            let Some(first) = waiting.first() else {
                return Ok(());
            };
            if health.initializing_shards > 0 {
                last_work = Instant::now();
            }
            if last_work.elapsed() >= STUCK {
                return Err(DriverError::failed(format!(
                    "the server makes no progress in restoring index {first}{}",
                    self.explanation().await
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Why a shard is nowhere, in the server's words.
    async fn explanation(&self) -> String {
        let path = "/_cluster/allocation/explain";
        let answer = self.http.ask(Method::Get, path, None).await;
        let details = answer.ok().and_then(|answer| {
            let details = &answer.body["unassigned_info"]["details"];
            details.as_str().map(|details| format!(": {details}"))
        });
        details.unwrap_or_default()
    }
}

impl SnapshotInfo {
    /// A snapshot that misses a shard is none.
    fn ensure_it_is_whole(&self) -> Result<(), DriverError> {
        if self.state == "SUCCESS" && self.failures.is_empty() {
            return Ok(());
        }
        let reason = self.failures.first().map(|failure| {
            let reason = failure["reason"].as_str().map(str::to_owned);
            format!(": {}", reason.unwrap_or_else(|| failure.to_string()))
        });
        Err(DriverError::failed(format!(
            "the server's snapshot {} ended as {}{}",
            self.snapshot,
            self.state,
            reason.unwrap_or_default()
        )))
    }

    /// Before anything is deleted for it.
    pub fn ensure_it_holds(&self, holdings: &Holdings) -> Result<(), DriverError> {
        let lacks = |name: &&String, of: &[String]| !of.contains(name);
        let indices = holdings
            .indices
            .iter()
            .find(|name| lacks(name, &self.indices));
        let streams = holdings
            .data_streams
            .iter()
            .find(|name| lacks(name, &self.data_streams));
        match indices.or(streams) {
            None => Ok(()),
            Some(missing) => Err(DriverError::failed(format!(
                "the server's snapshot {} does not hold {missing}",
                self.snapshot
            ))),
        }
    }
}

#[derive(Deserialize)]
struct Health {
    #[serde(default)]
    initializing_shards: u64,
    #[serde(default)]
    indices: BTreeMap<String, IndexHealth>,
}

#[derive(Deserialize)]
struct IndexHealth {
    status: String,
}

impl Health {
    /// Yellow: there is no place for copies of it, as ever on a single node.
    fn serves(&self, index: &str) -> bool {
        self.indices
            .get(index)
            .is_some_and(|index| matches!(index.status.as_str(), "green" | "yellow"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(value: Value) -> SnapshotInfo {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_a_whole_snapshot_counts() {
        let whole =
            info(json!({"snapshot": "s", "state": "SUCCESS", "indices": ["a"], "uuid": "u"}));
        assert!(whole.ensure_it_is_whole().is_ok());
        let partial = info(json!({
            "snapshot": "s", "state": "PARTIAL", "indices": ["a"],
            "failures": [{"index": "a", "shard_id": 0, "reason": "primary shard is not allocated"}]
        }));
        let error = partial.ensure_it_is_whole().unwrap_err().to_string();
        assert_eq!(
            error,
            "the server's snapshot s ended as PARTIAL: primary shard is not allocated"
        );
        for state in ["FAILED", "INCOMPATIBLE", "IN_PROGRESS", ""] {
            let other = info(json!({"snapshot": "s", "state": state}));
            assert!(other.ensure_it_is_whole().is_err(), "{state}");
        }
    }

    #[test]
    fn a_snapshot_must_hold_what_is_about_to_be_deleted() {
        let snapshot = info(json!({
            "snapshot": "s", "state": "SUCCESS", "indices": ["a", ".ds-logs-1"], "data_streams": ["logs"]
        }));
        let holdings = |indices: &[&str], streams: &[&str]| Holdings {
            indices: indices.iter().map(|name| (*name).to_owned()).collect(),
            data_streams: streams.iter().map(|name| (*name).to_owned()).collect(),
            closed: Vec::new(),
        };
        assert!(
            snapshot
                .ensure_it_holds(&holdings(&["a"], &["logs"]))
                .is_ok()
        );
        assert!(snapshot.ensure_it_holds(&holdings(&["b"], &[])).is_err());
        assert!(snapshot.ensure_it_holds(&holdings(&[], &["b"])).is_err());
    }
}
