//! What a server is, what it holds, and where it allows repositories.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::busy;
use crate::agent::request::Method;
use crate::driver::DriverError;
use crate::driver::http::{Http, component};
use crate::labels::Selection;
use crate::manifest::{ElasticsearchFacts, SearchFlavour};
use crate::text::nearest_word;

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
    /// Indices that are there and not open, which no snapshot takes.
    pub closed: Vec<String>,
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
                Some("close") => holdings.closed.push(index),
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
                "remove the label cofferdam.elasticsearch, or say with cofferdam.skip why nothing is saved",
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
            closed: Vec::new(),
        })
    }

    /// What there is of what the labels ask for, if anything.
    pub async fn present(http: &Http<'_>, wanted: &Selection) -> Result<Self, DriverError> {
        let mut all = Self::all(http).await?;
        if let Selection::Names(names) = wanted {
            all.indices.retain(|name| names.contains(name));
            all.data_streams.retain(|name| names.contains(name));
        }
        Ok(all)
    }

    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let closed = self.closed.iter();
        closed.map(|index| format!("index {index} is closed and is not saved; open it"))
    }

    pub fn of(facts: &ElasticsearchFacts) -> Self {
        Self {
            indices: facts.indices.clone(),
            data_streams: facts.data_streams.clone(),
            closed: Vec::new(),
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
            busy::delete(http, &path).await?;
        }
        for index in &self.indices {
            busy::delete(http, &format!("/{}", component(index))).await?;
        }
        Ok(())
    }

    /// What a restore is about to delete must be what a safety snapshot holds: `wanted`, as far as it is open.
    pub async fn ensure_there_is_a_copy(
        &self,
        http: &Http<'_>,
        wanted: &Selection,
    ) -> Result<(), DriverError> {
        let present = Self::all(http).await?;
        let is_restored =
            |name: &&String| self.indices.contains(name) || self.data_streams.contains(name);
        if let Some(closed) = present.closed.iter().find(is_restored) {
            return Err(DriverError::failed_with_hint(
                format!(
                    "index {closed} exists but is closed, so no snapshot can be taken of it first"
                ),
                format!("open it (POST /{closed}/_open) or delete it, and restore again"),
            ));
        }
        let is_unwanted = |name: &&String| match wanted {
            Selection::All => false,
            Selection::Names(names) => !names.contains(name),
        };
        let mut present = present.indices.iter().chain(&present.data_streams);
        match present.find(|name| is_restored(name) && is_unwanted(name)) {
            None => Ok(()),
            Some(name) => Err(DriverError::failed_with_hint(
                format!(
                    "index {name} would be replaced, but no label saves it, so there is no copy"
                ),
                format!("add {name} to cofferdam.elasticsearch, or delete it, and restore again"),
            )),
        }
    }

    /// A data stream that is restored gets no further index unless a template fits its name: they are no part of a snapshot.
    pub async fn streams_without_template(
        &self,
        http: &Http<'_>,
    ) -> Result<Vec<&str>, DriverError> {
        #[derive(Deserialize)]
        struct Templates {
            index_templates: Vec<Named>,
        }
        #[derive(Deserialize)]
        struct Named {
            index_template: Template,
        }
        #[derive(Deserialize)]
        struct Template {
            #[serde(default)]
            index_patterns: Vec<String>,
            data_stream: Option<Value>,
        }
        if self.data_streams.is_empty() {
            return Ok(Vec::new());
        }
        let Templates { index_templates } = http.get("/_index_template").await?;
        let templates = index_templates
            .into_iter()
            .map(|named| named.index_template);
        let patterns: Vec<String> = templates
            .filter(|template| template.data_stream.is_some())
            .flat_map(|template| template.index_patterns)
            .collect();
        let has_none = |stream: &&str| !patterns.iter().any(|pattern| fits(pattern, stream));
        let streams = self.data_streams.iter().map(String::as_str);
        Ok(streams.filter(has_none).collect())
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

/// Whether a name fits a pattern of a template, in which only `*` has a meaning.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(name) = name.strip_prefix(head) else {
        return false;
    };
    let mut ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
    ends.any(|at| fits(rest, &name[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_with_stars() {
        for (pattern, name, expected) in [
            ("logs", "logs", true),
            ("logs", "logs-1", false),
            ("logs-*", "logs-app", true),
            ("*", "anything", true),
            ("*-app-*", "logs-app-1", true),
            ("*-app-*", "logs-app", false),
            ("logs*x", "logsx", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    fn holdings() -> Holdings {
        Holdings {
            indices: ["cases", "forms"].map(str::to_owned).to_vec(),
            data_streams: vec!["logs".to_owned()],
            closed: vec!["old".to_owned()],
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
