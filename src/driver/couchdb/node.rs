//! What a server says of itself: its node, its configuration, its databases.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use crate::agent::request::Method;
use crate::driver::DriverError;
use crate::driver::http::{Http, component, words};
use crate::manifest::CouchdbDatabase;

/// As many as a server tells of at once, unless it is told to tell of fewer.
const AT_ONCE: usize = 100;

/// A server that answers.
#[derive(Clone, Debug)]
pub struct Node {
    /// `couchdb@127.0.0.1`
    pub name: String,
    pub version: String,
    /// Names of the nodes of its cluster.
    cluster: Vec<String>,
    database_directory: String,
    index_directory: String,
}

impl Node {
    pub async fn look(http: &Http<'_>) -> Result<Self, DriverError> {
        #[derive(Deserialize)]
        struct Welcome {
            couchdb: String,
            version: String,
        }
        #[derive(Deserialize)]
        struct Membership {
            cluster_nodes: Vec<String>,
        }
        #[derive(Deserialize)]
        struct Settings {
            database_dir: String,
            view_index_dir: String,
        }
        let welcome: Welcome = http.get("/").await?;
        let is_old = |version: &str| version.starts_with("1.") || version.starts_with("2.");
        if is_old(&welcome.version) {
            return Err(DriverError::failed_with_hint(
                format!(
                    "the server is CouchDB {} ({}), but 3 or newer is needed",
                    welcome.version, welcome.couchdb
                ),
                "save its data directory with cofferdam.files.<name> and cofferdam.stop: backup",
            ));
        }
        let membership: Membership = http.get("/_membership").await?;
        let settings: Settings = http.get("/_node/_local/_config/couchdb").await?;
        Ok(Self {
            name: name(http).await?,
            version: welcome.version,
            cluster: membership.cluster_nodes,
            database_directory: settings.database_dir,
            index_directory: settings.view_index_dir,
        })
    }

    /// Of several nodes each has a part of the data.
    pub fn ensure_it_is_alone(&self) -> Result<(), DriverError> {
        match self.cluster.as_slice() {
            [only] if *only == self.name => Ok(()),
            nodes => Err(DriverError::failed_with_hint(
                format!(
                    "the server is a node of a cluster ({}), but only a single node can be saved",
                    nodes.join(", ")
                ),
                "replicate the cluster into a single node, and save that",
            )),
        }
    }

    /// Where the labels, or the official image, have the data is where the server has it. A warning where its indexes are
    /// elsewhere.
    pub fn ensure_data_is_in(&self, directory: &str) -> Result<Option<String>, DriverError> {
        if !is_same(&self.database_directory, directory) {
            return Err(DriverError::failed_with_hint(
                format!(
                    "the server keeps its data in {}, not in {directory}",
                    self.database_directory
                ),
                "name its directory with cofferdam.couchdb.data-directory",
            ));
        }
        let indexes = &self.index_directory;
        Ok((!is_same(indexes, directory)).then(|| {
            format!("secondary indexes are kept in {indexes}, and are not saved: CouchDB rebuilds them when they are queried")
        }))
    }
}

/// A path that is not absolute counts from the directory that the server was installed in, which it does not tell.
fn is_same(told: &str, directory: &str) -> bool {
    let directory = directory.trim_end_matches('/');
    match told.trim_end_matches('/').strip_prefix("./") {
        Some(relative) => directory.ends_with(&format!("/{relative}")),
        None => told.trim_end_matches('/') == directory,
    }
}

/// The name of the node that answers.
pub async fn name(http: &Http<'_>) -> Result<String, DriverError> {
    #[derive(Deserialize)]
    struct Local {
        name: String,
    }
    let local: Local = http.get("/_node/_local").await?;
    Ok(local.name)
}

/// Every database, and how much is in it.
pub async fn databases(http: &Http<'_>) -> Result<Vec<CouchdbDatabase>, DriverError> {
    let names: Vec<String> = http.get("/_all_dbs").await?;
    let Found { mut open, closed } = look_at(http, &names).await?;
    for name in closed {
        let answer = http.ask(Method::Get, &path_of(&name), None).await?;
        match (answer.status, Info::deserialize(&answer.body)) {
            // It was deleted since the names were asked for.
            (404, _) => {}
            (200, Ok(info)) => open.push(info.of(name)),
            _ => {
                return Err(DriverError::failed(format!(
                    "CouchDB cannot open its database {name}: {}",
                    words(&answer)
                )));
            }
        }
    }
    Ok(open)
}

fn path_of(database: &str) -> String {
    format!("/{}", component(database))
}

/// What was found out of databases.
#[derive(Default)]
pub struct Found {
    pub open: Vec<CouchdbDatabase>,
    /// Names of those that cannot be opened.
    pub closed: Vec<String>,
}

/// What is in each of these databases.
pub async fn look_at(http: &Http<'_>, names: &[String]) -> Result<Found, DriverError> {
    let mut found = Found::default();
    for keys in names.chunks(AT_ONCE) {
        let told: Vec<Told> = http.post("/_dbs_info", json!({ "keys": keys })).await?;
        for Told { key, info } in told {
            match info {
                Some(info) => found.open.push(info.of(key)),
                None => found.closed.push(key),
            }
        }
    }
    Ok(found)
}

/// Why a database cannot be opened, in the server's words. Of several, it says `not_found` whatever the reason.
pub async fn why_closed(http: &Http<'_>, name: &str) -> Result<String, DriverError> {
    let answer = http.ask(Method::Get, &path_of(name), None).await?;
    Ok(match answer.status {
        200 => "it does not say why".to_owned(),
        _ => words(&answer),
    })
}

/// Administrators that stand in the server's configuration, by name.
pub async fn administrators(http: &Http<'_>) -> Result<BTreeSet<String>, DriverError> {
    let admins: BTreeMap<String, IgnoredAny> = http.get("/_node/_local/_config/admins").await?;
    Ok(admins.into_keys().collect())
}

#[derive(Deserialize)]
struct Told {
    key: String,
    info: Option<Info>,
}

#[derive(Deserialize)]
struct Info {
    doc_count: u64,
    #[serde(default)]
    doc_del_count: u64,
}

impl Info {
    fn of(self, name: String) -> CouchdbDatabase {
        CouchdbDatabase {
            name,
            documents: self.doc_count,
            deleted: self.doc_del_count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        Node {
            name: "couchdb@a".to_owned(),
            version: "3.4.2".to_owned(),
            cluster: vec!["couchdb@a".to_owned()],
            database_directory: "./data".to_owned(),
            index_directory: "./data".to_owned(),
        }
    }

    #[test]
    fn only_a_node_on_its_own_is_saved() {
        assert!(node().ensure_it_is_alone().is_ok());
        let cluster = ["couchdb@a", "couchdb@b"].map(str::to_owned).to_vec();
        let member = Node { cluster, ..node() };
        let error = member.ensure_it_is_alone().unwrap_err().to_string();
        assert!(error.contains("couchdb@a, couchdb@b"), "{error}");
    }

    #[test]
    fn the_data_is_where_the_server_says() {
        let quiet = |node: &Node, directory| node.ensure_data_is_in(directory).unwrap().is_none();
        assert!(quiet(&node(), "/opt/couchdb/data"));
        assert!(quiet(&node(), "/opt/couchdb/data/"));
        let elsewhere = Node {
            database_directory: "/srv/couch".to_owned(),
            ..node()
        };
        let error = elsewhere
            .ensure_data_is_in("/opt/couchdb/data")
            .unwrap_err()
            .to_string();
        assert!(error.contains("/srv/couch"), "{error}");
        let warning = elsewhere.ensure_data_is_in("/srv/couch").unwrap().unwrap();
        assert!(warning.contains("secondary indexes"), "{warning}");
    }
}
