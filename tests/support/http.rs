//! JSON over HTTP, spoken by `curl` inside the server's container.

use serde_json::Value;

use super::{TestContainer, docker};

/// The last line that it prints is the status.
const CURL: [&str; 6] = [
    "--silent",
    "--insecure",
    "--max-time",
    "60",
    "--write-out",
    r"\n%{http_code}",
];

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
        let body = body.map(|body| body.to_string());
        let url = format!("{}{path}", self.base);
        let mut client = vec!["exec", &self.container.id, "curl"];
        client.extend(CURL);
        client.extend(["--request", method, &url]);
        if !self.login.is_empty() {
            client.extend(["--user", &self.login]);
        }
        if let Some(body) = &body {
            client.extend(["--header", "Content-Type: application/json"]);
            client.extend(["--data-binary", body]);
        }
        let told = docker(client);
        let (body, status) = told.rsplit_once('\n').expect("body and status");
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
        // Whatever the answer is.
        let client = format!("curl --silent --insecure {}/ >/dev/null", self.base);
        self.container.wait_until(&client);
    }
}
