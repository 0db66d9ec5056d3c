//! Names that nobody else in a swarm has.

use std::collections::BTreeMap;

use base64::Engine as _;
use hyper::Method;
use serde_json::json;

use super::shapes::ConfigShape;
use super::{Manager, filtered};
use crate::engine::{EngineError, is_engine_name};

/// An object whose name is unique in the swarm; it holds nothing but labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub id: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

impl Manager {
    /// Takes a name that nobody else in the swarm has: [`EngineError::NameTaken`].
    pub async fn claim(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<String, EngineError> {
        let data = base64::engine::general_purpose::STANDARD.encode("held by cofferdam\n");
        let document = json!({"Name": name, "Labels": labels, "Data": data});
        let action = format!("create the config {name}");
        let created =
            self.engine
                .exchange(Method::POST, "/configs/create", Some(&document), &action);
        match created.await {
            Ok(answer) => Ok(answer["ID"].as_str().unwrap_or(name).to_owned()),
            Err(EngineError::Api {
                status: Some(409), ..
            }) => Err(EngineError::NameTaken(name.to_owned())),
            Err(error) => Err(error),
        }
    }

    /// The claims that carry a label.
    pub async fn claims(&self, label: &str) -> Result<Vec<Claim>, EngineError> {
        let path = filtered("/configs", "label", label);
        let found: Option<Vec<ConfigShape>> = self
            .engine
            .ask(&path, "list the configs of the swarm")
            .await?;
        let claim = |config: ConfigShape| Claim {
            id: config.id,
            name: config.spec.name,
            labels: config.spec.labels.unwrap_or_default(),
        };
        Ok(found.unwrap_or_default().into_iter().map(claim).collect())
    }

    /// One that is gone is no error.
    pub async fn give_up(&self, claim: &str) -> Result<(), EngineError> {
        let action = format!("remove the config {claim}");
        if !is_engine_name(claim) {
            return Ok(());
        }
        let path = format!("/configs/{claim}");
        match self
            .engine
            .exchange(Method::DELETE, &path, None, &action)
            .await
        {
            Err(EngineError::Api {
                status: Some(404), ..
            }) => Ok(()),
            other => other.map(drop),
        }
    }
}
