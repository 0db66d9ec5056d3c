//! A server's HTTP interface, reached from a helper in its container's network ([`Neighbour`]).

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::DriverError;
use super::logins::{Logins, PasswordLabels};
use crate::agent::helper::{HelperError, Neighbour};
use crate::agent::request::{Answer, Method, RequestJob, Scheme};
use crate::engine::{Container, Engine};
use crate::secret::Secret;

/// For what a server answers at once.
const SHORT: Duration = Duration::from_secs(120);

/// What keeps a node of CouchDB from serving its databases.
pub const MAINTENANCE: &str = "is in maintenance mode; end it with `maintenance_mode = false` under [couchdb] in its configuration";

/// Where a server listens in its own network, and who may ask it.
#[derive(Clone, Debug)]
pub struct Access {
    /// The server's name, for people.
    pub server: &'static str,
    pub port: u16,
    pub scheme: Scheme,
    pub login: Option<Login>,
    /// What to look at when it lets nobody in.
    pub remedy: &'static str,
}

#[derive(Clone, Debug)]
pub struct Login {
    pub user: String,
    pub password: Secret,
}

/// A user that the server's official image makes, with a password from a variable, or from a file that the same variable
/// with `_FILE` names.
#[derive(Clone, Debug)]
pub struct Account {
    pub user: String,
    pub variable: &'static str,
}

/// Where the labels say that a login is.
#[derive(Clone, Copy, Debug)]
pub struct LoginLabels<'a> {
    pub user: Option<&'a str>,
    pub password: PasswordLabels<'a>,
    /// What the driver's labels begin with.
    pub label: &'static str,
}

impl Login {
    /// What the labels say, else the first account that the container's environment has a password for. `None`: the server
    /// asks for none.
    pub async fn find(
        engine: &Engine,
        container: &Container,
        labels: LoginLabels<'_>,
        accounts: &[Account],
    ) -> Result<Option<Self>, DriverError> {
        let logins = Logins {
            engine,
            container,
            label: labels.label,
        };
        let mut user = labels.user.map(str::to_owned);
        let mut password = logins.labelled(labels.password).await?;
        for account in accounts {
            let is_meant = labels.user.is_none_or(|user| user == account.user);
            if !is_meant || !logins.has(account.variable) {
                continue;
            }
            user = Some(account.user.clone());
            if password.is_none() {
                password = logins.secret(account.variable).await?;
            }
            break;
        }
        Ok(user.map(|user| Self {
            user,
            password: password.unwrap_or_else(|| Secret::new("")),
        }))
    }
}

/// One server, for as long as its neighbour is there.
pub struct Http<'a> {
    pub neighbour: &'a Neighbour,
    pub access: &'a Access,
    /// How long an answer may take.
    pub limit: Duration,
}

impl<'a> Http<'a> {
    pub fn new(neighbour: &'a Neighbour, access: &'a Access) -> Self {
        Self {
            neighbour,
            access,
            limit: SHORT,
        }
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, DriverError> {
        self.read(Method::Get, path, None).await
    }

    /// Like [`Http::get`]; `None` where the server has nothing of that name.
    pub async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, DriverError> {
        let answer = self.ask(Method::Get, path, None).await?;
        match answer.status {
            404 => Ok(None),
            _ => self.parse(Method::Get, path, answer).map(Some),
        }
    }

    pub async fn put(&self, path: &str, body: Value) -> Result<Value, DriverError> {
        self.read(Method::Put, path, Some(body)).await
    }

    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Value,
    ) -> Result<T, DriverError> {
        self.read(Method::Post, path, Some(body)).await
    }

    /// Any status is an answer, but those that let nobody in.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, DriverError> {
        let answer = self.ask_anyhow(method, path, body).await?;
        match answer.status {
            401 | 403 => Err(DriverError::failed_with_hint(
                format!(
                    "{} does not allow {} {path}: {}",
                    self.access.server,
                    method.as_str(),
                    words(&answer)
                ),
                self.access.remedy,
            )),
            _ => Ok(answer),
        }
    }

    /// Any status is an answer.
    pub async fn ask_anyhow(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, DriverError> {
        let Access {
            server,
            port,
            scheme,
            login,
            remedy,
        } = self.access;
        let job = RequestJob {
            port: *port,
            scheme: *scheme,
            user: login.as_ref().map(|login| login.user.clone()),
            method,
            path: path.to_owned(),
            body,
            limit_seconds: self.limit.as_secs(),
        };
        let password = login.as_ref().map(|login| &login.password);
        let answer = self.neighbour.ask(&job, password).await;
        answer.map_err(|error| match error {
            HelperError::Failed(failure) => {
                DriverError::failed_with_hint(format!("{server}: {failure}"), *remedy)
            }
            other => other.into(),
        })
    }

    async fn read<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, DriverError> {
        let answer = self.ask(method, path, body).await?;
        self.parse(method, path, answer)
    }

    fn parse<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        answer: Answer,
    ) -> Result<T, DriverError> {
        let request = format!("{} {path}", method.as_str());
        let server = self.access.server;
        if !(200..300).contains(&answer.status) {
            return Err(DriverError::failed(format!(
                "{server} refused {request}: {}",
                words(&answer)
            )));
        }
        serde_json::from_value(answer.body).map_err(|error| {
            DriverError::failed(format!(
                "{server} gave an unexpected answer to {request}: {error}"
            ))
        })
    }
}

/// One component of a path.
pub fn component(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// What the server says of its refusal: CouchDB's `reason`, or Elasticsearch's, which stands deeper.
pub fn words(answer: &Answer) -> String {
    const MAX_WORDS_LENGTH: usize = 500;
    let body = &answer.body;
    // All that CouchDB says itself is `progress not possible`.
    if answer.status == 412 && body["error"] == "nodedown" {
        return format!("the node {MAINTENANCE} (status 412)");
    }
    let reason = [&body["error"]["reason"], &body["reason"], &body["error"]]
        .into_iter()
        .find_map(Value::as_str);
    let text = match (reason, body) {
        (Some(reason), _) => reason.to_owned(),
        (None, Value::String(text)) => text.trim().to_owned(),
        (None, other) => other.to_string(),
    };
    let text: String = text.chars().take(MAX_WORDS_LENGTH).collect();
    format!("{text} (status {})", answer.status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_servers_own_words_are_found() {
        let said = |status, body| words(&Answer { status, body });
        let couchdb = json!({"error": "not_found", "reason": "Database does not exist."});
        assert_eq!(said(404, couchdb), "Database does not exist. (status 404)");
        let maintenance = json!({"error": "nodedown", "reason": "progress not possible"});
        assert!(said(412, maintenance).contains("maintenance mode"));
        let there = json!({"error": "file_exists", "reason": "The database is there."});
        assert_eq!(said(412, there), "The database is there. (status 412)");
        let elasticsearch = json!({
            "error": {"type": "repository_exception", "reason": "[r] location doesn't match"},
            "status": 500
        });
        assert_eq!(
            said(500, elasticsearch),
            "[r] location doesn't match (status 500)"
        );
        assert_eq!(
            said(502, json!("<html>bad</html>\n")),
            "<html>bad</html> (status 502)"
        );
        assert_eq!(said(500, json!({})), "{} (status 500)");
    }

    #[test]
    fn a_name_stays_one_component() {
        assert_eq!(component("a/b?c"), "a%2Fb%3Fc");
    }
}
