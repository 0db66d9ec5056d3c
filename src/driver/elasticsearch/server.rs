//! What a server is, what it holds, and where it allows repositories.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::agent::request::Method;
use crate::driver::DriverError;
use crate::driver::http::{Http, component};
use crate::labels::{Selection, nearest_word};
use crate::manifest::{ElasticsearchFacts, SearchFlavour};

/// Names of the server's own indices, and of those behind data streams, begin with it.
const OWN: char = '.';
/// How many names go into one path.
const AT_ONCE: usize = 20;

pub struct Server {
    pub version: String,
    pub flavour: SearchFlavour,
}

impl Server {
    pub async fn look(http: &Http<'_>) -> Result<Self, DriverError> {
        #[derive(Deserialize)]
        struct Welcome {
            version: Version,
        }
        #[derive(Deserialize)]
        struct Version {
            number: String,
            distribution: Option<String>,
        }
        let Welcome { version } = http.get("/").await?;
        Ok(Self {
            version: version.number,
            flavour: match version.distribution.as_deref() {
                Some("opensearch") => SearchFlavour::Opensearch,
                _ => SearchFlavour::Elasticsearch,
            },
        })
    }
}

/// The first directory that the server's configuration allows for repositories, if there is one.
pub async fn allowed_place(http: &Http<'_>) -> Result<Option<String>, DriverError> {
    #[derive(Deserialize)]
    struct Nodes {
        nodes: BTreeMap<String, Node>,
    }
    #[derive(Deserialize)]
    struct Node {
        settings: Value,
    }
    let nodes: Nodes = http.get("/_nodes/_local/settings").await?;
    let allowed = nodes.nodes.values().find_map(|node| {
        let places = &node.settings["path"]["repo"];
        places.as_str().or_else(|| places[0].as_str())
    });
    Ok(allowed.map(str::to_owned))
}

/// Indices and data streams, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    pub indices: Vec<String>,
    pub data_streams: Vec<String>,
    pub warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Row {
    index: String,
    status: Option<String>,
}

#[derive(Deserialize)]
struct Streams {
    data_streams: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    name: String,
}

impl Holdings {
    /// All that is not the server's own.
    pub async fn all(http: &Http<'_>) -> Result<Self, DriverError> {
        let rows: Vec<Row> = http
            .get("/_cat/indices?format=json&h=index,status&s=index")
            .await?;
        // Servers without data streams take this for a malformed name of an index.
        let answer = http.ask(Method::Get, "/_data_stream", None).await?;
        let streams = match answer.status {
            200 => serde_json::from_value::<Streams>(answer.body)
                .map(|streams| streams.data_streams)
                .unwrap_or_default(),
            _ => Vec::new(),
        };
        let mut holdings = Self::default();
        for Row { index, status } in rows {
            match status.as_deref() {
                _ if index.starts_with(OWN) => {}
                Some("close") => holdings
                    .warnings
                    .push(format!("index {index} is closed, and not saved; open it")),
                _ => holdings.indices.push(index),
            }
        }
        let names = streams.into_iter().map(|stream| stream.name);
        holdings.data_streams = names.filter(|name| !name.starts_with(OWN)).collect();
        Ok(holdings)
    }

    /// What the labels ask for.
    pub async fn find(http: &Http<'_>, wanted: &Selection) -> Result<Self, DriverError> {
        let all = Self::all(http).await?;
        let found = match wanted {
            Selection::All => all,
            Selection::Names(names) => all.chosen(names)?,
        };
        if found.is_empty() {
            return Err(DriverError::failed_with_hint(
                "there is no index to save",
                "take the label cofferdam.elasticsearch away, or say with cofferdam.skip why nothing is saved",
            ));
        }
        Ok(found)
    }

    fn chosen(self, names: &[String]) -> Result<Self, DriverError> {
        let known: BTreeSet<&String> = self.indices.iter().chain(&self.data_streams).collect();
        if let Some(missing) = names.iter().find(|name| !known.contains(name)) {
            let what = format!("there is no open index or data stream {missing}");
            let near = nearest_word(missing, known.iter().map(|name| name.as_str()));
            return Err(match near {
                Some(near) => DriverError::failed_with_hint(
                    what,
                    format!("did you mean {near}? correct cofferdam.elasticsearch"),
                ),
                None => DriverError::failed_with_hint(
                    what,
                    "correct cofferdam.elasticsearch, or write `*` for all",
                ),
            });
        }
        let is_chosen = |name: &String| names.contains(name);
        Ok(Self {
            indices: self.indices.into_iter().filter(is_chosen).collect(),
            data_streams: self.data_streams.into_iter().filter(is_chosen).collect(),
            warnings: Vec::new(),
        })
    }

    pub fn of(facts: &ElasticsearchFacts) -> Self {
        Self {
            indices: facts.indices.clone(),
            data_streams: facts.data_streams.clone(),
            warnings: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.indices.is_empty() && self.data_streams.is_empty()
    }

    /// As the server's interfaces want them.
    pub fn expression(&self) -> String {
        let names = self.indices.iter().chain(&self.data_streams);
        names.cloned().collect::<Vec<_>>().join(",")
    }

    /// One by one: a server may refuse to delete several at once.
    pub async fn delete(&self, http: &Http<'_>) -> Result<(), DriverError> {
        for stream in &self.data_streams {
            let path = format!("/_data_stream/{}", component(stream));
            http.delete(&path).await?;
        }
        for index in &self.indices {
            http.delete(&format!("/{}", component(index))).await?;
        }
        Ok(())
    }

    pub async fn ensure_they_are_there(&self, http: &Http<'_>) -> Result<(), DriverError> {
        let there = Self::all(http).await?;
        let there: BTreeSet<&String> = there.indices.iter().chain(&there.data_streams).collect();
        let names = self.indices.iter().chain(&self.data_streams);
        let missing: Vec<&str> = names
            .filter(|name| !there.contains(name))
            .map(String::as_str)
            .take(AT_ONCE)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(DriverError::failed(format!(
            "the server has restored all but {}",
            missing.join(", ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holdings() -> Holdings {
        Holdings {
            indices: ["cases", "forms"].map(str::to_owned).to_vec(),
            data_streams: vec!["logs".to_owned()],
            warnings: vec!["index old is closed".to_owned()],
        }
    }

    #[test]
    fn names_choose_indices_and_data_streams() {
        let names = ["forms", "logs"].map(str::to_owned);
        let chosen = holdings().chosen(&names).unwrap();
        assert_eq!(chosen.indices, ["forms"]);
        assert_eq!(chosen.data_streams, ["logs"]);
        assert_eq!(chosen.expression(), "forms,logs");
        let error = holdings().chosen(&["case".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("did you mean cases?"), "{error}");
    }
}
