//! A daemon that listens.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::stack::{TestStack, eventually};
use super::web::{Answer, ask, bearer};

pub const TOKEN: &str = "0123456789abcdef-token-of-a-test";

pub struct Serving {
    pub port: u16,
    child: Child,
    log: PathBuf,
}

impl Serving {
    /// With a token, and nothing due.
    pub fn start(stack: &TestStack) -> Self {
        let command = stack.command(&["daemon", "--schedule", "off"]);
        Self::of(stack, command, Some(TOKEN))
    }

    pub fn of(stack: &TestStack, mut command: Command, token: Option<&str>) -> Self {
        let log = stack.directory.path().join("log");
        let file = File::create(&log).expect("a log");
        command
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .stderr(file);
        if let Some(token) = token {
            command.env("COFFERDAM_TOKEN", token);
        }
        let mut serving = Self {
            port: 0,
            child: command.spawn().expect("cofferdam"),
            log,
        };
        eventually("it listens", || serving.told_port().is_some());
        serving.port = serving.told_port().expect("a port");
        serving
    }

    fn told_port(&self) -> Option<u16> {
        let log = self.log();
        let (_, rest) = log.split_once("listening on http://127.0.0.1:")?;
        rest.split('/').next()?.parse().ok()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }

    /// As somebody who has the token.
    #[track_caller]
    pub fn ask(&self, request: &str) -> Answer {
        ask(self.port, request, &[("Authorization", &bearer(TOKEN))])
    }

    /// The value of a metric, if it is there.
    pub fn metric(&self, metric: &str) -> Option<f64> {
        let metrics = self.ask("GET /metrics");
        let line = metrics
            .body
            .lines()
            .find_map(|line| line.strip_prefix(metric));
        line.map(|value| value.trim().parse().expect("a number"))
    }

    /// Resident memory, in KiB.
    pub fn memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).expect("its status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.expect("a size").parse().expect("a number")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
    }
}
