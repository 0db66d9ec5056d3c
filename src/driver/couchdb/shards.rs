//! Shard maps: documents of the database `_dbs`, one for each database, that tell which node has which range of it.
//!
//! ```json
//! {"_id": "patients", "_rev": "1-…", "shard_suffix": [46, 49],
//!  "changelog": [["add", "00000000-7fffffff", "couchdb@a"]],
//!  "by_node": {"couchdb@a": ["00000000-7fffffff"]},
//!  "by_range": {"00000000-7fffffff": ["couchdb@a"]}}
//! ```

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::driver::DriverError;
use crate::driver::http::{Http, component};

const MAPS: &str = "/_node/_local/_dbs";
const NODES: &str = "/_node/_local/_nodes";
/// How many documents are read at once.
const PAGE: usize = 200;

#[derive(Deserialize)]
struct Page {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    id: String,
    doc: Value,
}

/// Gives every range of every database that the node `from` had to the node `to`, and forgets `from`.
pub async fn give(http: &Http<'_>, from: &str, to: &str) -> Result<(), DriverError> {
    let mut seen = 0;
    loop {
        let path = format!("{MAPS}/_all_docs?include_docs=true&limit={PAGE}&skip={seen}");
        let page: Page = http.get(&path).await?;
        if page.rows.is_empty() {
            break;
        }
        seen += page.rows.len();
        for Row { id, doc } in page.rows {
            if let Some(map) = given(&doc, from, to) {
                http.put(&format!("{MAPS}/{}", component(&id)), map).await?;
            }
        }
    }
    forget(http, from).await
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

/// A node that a server waits for and that never comes is one that it cannot work without.
async fn forget(http: &Http<'_>, node: &str) -> Result<(), DriverError> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(rename = "_rev")]
        revision: String,
    }
    let path = format!("{NODES}/{}", component(node));
    let Some(document) = http.find::<Document>(&path).await? else {
        return Ok(());
    };
    let revision = component(&document.revision);
    http.delete(&format!("{path}?rev={revision}")).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_map_is_given_to_another_node() {
        let map = json!({
            "_id": "patients", "_rev": "1-a", "shard_suffix": [46, 49], "props": {},
            "changelog": [["add", "00000000-7fffffff", "couchdb@old"], ["add", "80000000-ffffffff", "couchdb@old"]],
            "by_node": {"couchdb@old": ["00000000-7fffffff", "80000000-ffffffff"]},
            "by_range": {"00000000-7fffffff": ["couchdb@old"], "80000000-ffffffff": ["couchdb@old"]}
        });
        let text = map.to_string();
        let given = given(&map, "couchdb@old", "couchdb@new").unwrap();
        assert_eq!(
            given.to_string(),
            text.replace("couchdb@old", "couchdb@new")
        );
    }

    #[test]
    fn a_map_of_others_stays() {
        let map = json!({"_id": "x", "by_node": {"couchdb@new": ["0"]}, "by_range": {"0": ["couchdb@new"]}});
        assert_eq!(given(&map, "couchdb@old", "couchdb@new"), None);
        let design = json!({"_id": "_design/x", "views": {"a": "couchdb@old"}});
        assert_eq!(given(&design, "couchdb@old", "couchdb@new"), None);
    }
}
