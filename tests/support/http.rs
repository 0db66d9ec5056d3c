//! JSON over HTTP, spoken from inside a container that has Python.

use serde_json::Value;

use super::TestContainer;
use super::{docker, docker_succeeds};

/// Prints the status and, on the next line, the body.
const CLIENT: &str = r#"
import base64, ssl, sys, urllib.error, urllib.request
method, url, login, body = sys.argv[1:]
headers = {"Content-Type": "application/json"}
if login:
    headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
request = urllib.request.Request(url, data=body.encode() or None, headers=headers, method=method)
try:
    answer = urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=60)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status)
print(answer.read().decode())
"#;

/// A server in a container.
pub struct Server {
    pub container: TestContainer,
    /// `http://127.0.0.1:5984`
    pub base: String,
    /// `user:password`, or nothing.
    pub login: String,
}

impl Server {
    /// Status and body.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let url = format!("{}{path}", self.base);
        let id = &self.container.id;
        let told = docker([
            "exec",
            id,
            "python3",
            "-c",
            CLIENT,
            method,
            &url,
            &self.login,
            &body,
        ]);
        let (status, body) = told.split_once('\n').expect("two lines");
        let body = serde_json::from_str(body).unwrap_or(Value::Null);
        (status.parse().expect("a status"), body)
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.good("GET", path, None)
    }

    #[track_caller]
    pub fn put(&self, path: &str, body: Value) -> Value {
        self.good("PUT", path, Some(body))
    }

    #[track_caller]
    pub fn delete(&self, path: &str) {
        self.good("DELETE", path, None);
    }

    #[track_caller]
    pub fn status(&self, path: &str) -> u16 {
        self.ask("GET", path, None).0
    }

    #[track_caller]
    fn good(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, body) = self.ask(method, path, body);
        assert!(status < 300, "{method} {path}: {status} {body}");
        body
    }

    pub fn wait_until_it_answers(&self) {
        let url = format!("{}/", self.base);
        let client = ["exec", &self.container.id, "python3", "-c", CLIENT];
        super::stack::eventually("the server answers", || {
            docker_succeeds(client.iter().chain(&["GET", &url, &self.login, ""]))
        });
    }
}
