//! A client that speaks HTTP byte by byte: it can name any host, and send anything.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// As it came, in lower case.
    pub headers: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// What is wrong, as programs are told.
    #[track_caller]
    pub fn error(&self) -> String {
        self.json()["error"].as_str().expect("an error").to_owned()
    }
}

/// `GET /path`, with headers as they are to be sent.
#[track_caller]
pub fn ask(port: u16, request: &str, headers: &[(&str, &str)]) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    let patience = Duration::from_secs(30);
    stream.set_read_timeout(Some(patience)).expect("a time-out");
    let mut text = format!("{request} HTTP/1.1\r\n");
    let is_host = |(name, _): &(&str, &str)| name.eq_ignore_ascii_case("host");
    if !headers.iter().any(is_host) {
        text.push_str(&format!("Host: 127.0.0.1:{port}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).expect("a status");
    Answer {
        status: status.parse().expect("a number"),
        headers: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// As a browser sends what its user has typed.
pub fn basic(login: &str) -> String {
    let login = base64::engine::general_purpose::STANDARD.encode(login);
    format!("Basic {login}")
}
