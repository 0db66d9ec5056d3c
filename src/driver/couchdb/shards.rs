//! Shard maps: documents of the database `_dbs`, one for each database, that tell which node has which range of it.
//!
//! ```json
//! {"_id": "patients", "_rev": "1-…", "shard_suffix": [46, 49],
//!  "changelog": [["add", "00000000-7fffffff", "couchdb@a"]],
//!  "by_node": {"couchdb@a": ["00000000-7fffffff"]},
//!  "by_range": {"00000000-7fffffff": ["couchdb@a"]}}
//! ```
//!
//! The range lies in the file `shards/00000000-7fffffff/patients.1.couch`. A server that does not find it makes it anew, empty,
//! without a word: so whether each is there has to be looked at before a server opens its database.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::listing::Files;
use crate::driver::DriverError;
use crate::driver::http::Http;

const MAPS: &str = "/_node/_local/_dbs";
/// How many documents are read, or written, at once.
const PAGE: usize = 200;
/// How many files are named when they are missing.
const NAMED: usize = 5;

/// All maps of a node, by database.
#[derive(Clone, Debug, Default)]
pub struct ShardMaps(BTreeMap<String, ShardMap>);

#[derive(Clone, Debug, PartialEq)]
pub struct ShardMap {
    pub database: String,
    document: Value,
    /// The files of the ranges, below the data directory, each with the nodes that hold it.
    files: BTreeMap<String, Vec<String>>,
}

impl ShardMaps {
    pub async fn read(http: &Http<'_>) -> Result<Self, DriverError> {
        #[derive(Deserialize)]
        struct Page {
            rows: Vec<Row>,
        }
        #[derive(Deserialize)]
        struct Row {
            id: String,
            doc: Value,
        }
        let mut maps = BTreeMap::new();
        let mut seen = 0;
        loop {
            let path = format!("{MAPS}/_all_docs?include_docs=true&limit={PAGE}&skip={seen}");
            let Page { rows } = http.get(&path).await?;
            if rows.is_empty() {
                return Ok(Self(maps));
            }
            seen += rows.len();
            for Row { id, doc } in rows {
                if !id.starts_with("_design/") {
                    maps.insert(id.clone(), ShardMap::parse(id, doc)?);
                }
            }
        }
    }

    pub fn of(&self, database: &str) -> Option<&ShardMap> {
        self.0.get(database)
    }

    pub fn iter(&self) -> impl Iterator<Item = &ShardMap> {
        self.0.values()
    }

    /// A range that another node holds is not in the data of this one.
    pub fn ensure_all_is_on(&self, node: &str) -> Result<(), DriverError> {
        let elsewhere = self.iter().find_map(|map| {
            let mut files = map.files.iter();
            let (file, holders) =
                files.find(|(_, holders)| !holders.iter().any(|it| it == node))?;
            Some((map, file, holders))
        });
        let Some((map, file, holders)) = elsewhere else {
            return Ok(());
        };
        Err(DriverError::failed_with_hint(
            format!(
                "by its shard map, database {} keeps {file} on {}, and this server is {node}",
                map.database,
                holders.join(", ")
            ),
            "correct the shard map, or delete the database, as described in CouchDB's manual under `Shard Management`",
        ))
    }

    /// Those that are in `later` too, with the same files; and the names of those that were made anew in between.
    pub fn still_in(self, later: &Self) -> (Self, Vec<String>) {
        let mut anew = Vec::new();
        let mut same = self.0;
        same.retain(|database, map| match later.of(database) {
            Some(now) if now.files.keys().eq(map.files.keys()) => true,
            Some(_) => {
                anew.push(database.clone());
                false
            }
            None => false,
        });
        (Self(same), anew)
    }

    /// Every range has its file in the data that was copied.
    pub fn ensure_files_are_in(&self, copied: &Files) -> Result<(), DriverError> {
        let mut missing = self.iter().flat_map(|map| map.missing_in(copied));
        let named: Vec<&str> = missing.by_ref().take(NAMED).collect();
        if named.is_empty() {
            return Ok(());
        }
        let more = missing.count();
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        Err(DriverError::failed_with_hint(
            format!(
                "the shard maps name files that are missing in the data directory: {}{more}",
                named.join(", ")
            ),
            "a server that starts on it creates them again, empty: bring the files back, or delete the database",
        ))
    }

    /// Gives every range that the node `from` had to the node `to`.
    pub async fn give(&self, http: &Http<'_>, from: &str, to: &str) -> Result<(), DriverError> {
        let given = self
            .iter()
            .filter_map(|map| given(&map.document, from, to))
            .collect();
        write(http, given).await
    }

    /// Takes the maps of these databases away: there are none any more.
    pub async fn drop(&self, http: &Http<'_>, databases: &[&str]) -> Result<(), DriverError> {
        let dropped = self
            .iter()
            .filter(|map| databases.contains(&&*map.database));
        let dropped = dropped
            .map(|map| {
                json!({ "_id": map.database, "_rev": map.document["_rev"], "_deleted": true })
            })
            .collect();
        write(http, dropped).await
    }
}

impl ShardMap {
    fn parse(database: String, document: Value) -> Result<Self, DriverError> {
        #[derive(Deserialize)]
        struct Layout {
            shard_suffix: Vec<u8>,
            by_range: BTreeMap<String, Vec<String>>,
        }
        let malformed = |why: String| {
            DriverError::failed(format!(
                "the shard map of database {database} is not understood: {why}"
            ))
        };
        let layout =
            Layout::deserialize(&document).map_err(|error| malformed(error.to_string()))?;
        let suffix =
            String::from_utf8(layout.shard_suffix).map_err(|error| malformed(error.to_string()))?;
        if layout.by_range.is_empty() {
            return Err(malformed("it has no ranges".to_owned()));
        }
        let file = |range: &str| format!("shards/{range}/{database}{suffix}.couch");
        let files = layout
            .by_range
            .into_iter()
            .map(|(range, holders)| (file(&range), holders))
            .collect();
        Ok(Self {
            files,
            document,
            database,
        })
    }

    /// The files that are not there.
    pub fn missing_in<'a>(&'a self, there: &'a Files) -> impl Iterator<Item = &'a str> {
        let files = self.files.keys().map(String::as_str);
        files.filter(|file| !there.contains(file))
    }
}

/// Many at once: each request takes its time, and the node is down meanwhile.
async fn write(http: &Http<'_>, documents: Vec<Value>) -> Result<(), DriverError> {
    #[derive(Deserialize)]
    struct Written {
        id: String,
        error: Option<String>,
        reason: Option<String>,
    }
    for documents in documents.chunks(PAGE) {
        let path = format!("{MAPS}/_bulk_docs");
        let written: Vec<Written> = http.post(&path, json!({ "docs": documents })).await?;
        let mut written = written.into_iter();
        let ids: BTreeSet<&str> = documents
            .iter()
            .filter_map(|it| it["_id"].as_str())
            .collect();
        if let Some(refused) = written.find(|it| it.error.is_some() || !ids.contains(&*it.id)) {
            return Err(DriverError::failed(format!(
                "CouchDB did not accept the shard map of database {}: {}",
                refused.id,
                refused.reason.or(refused.error).unwrap_or_default()
            )));
        }
    }
    Ok(())
}

/// The map with the node's name changed; `None` where it does not name it.
fn given(map: &Value, from: &str, to: &str) -> Option<Value> {
    let mut given = map.as_object()?.clone();
    if let Some(Value::Object(by_node)) = given.get_mut("by_node") {
        let renamed: Map<String, Value> = std::mem::take(by_node)
            .into_iter()
            .map(|(node, ranges)| (if node == from { to.to_owned() } else { node }, ranges))
            .collect();
        *by_node = renamed;
    }
    for field in ["by_range", "changelog"] {
        if let Some(value) = given.get_mut(field) {
            rename_in(value, from, to);
        }
    }
    let given = Value::Object(given);
    (given != *map).then_some(given)
}

fn rename_in(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) if text == from => to.clone_into(text),
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| rename_in(value, from, to)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|value| rename_in(value, from, to)),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
