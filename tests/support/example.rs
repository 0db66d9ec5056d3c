//! What tests of an example see of it: its demo, what its services say over HTTP, what the engine does with its containers.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::stack::Run;
use super::{docker, docker_succeeds, unique};

/// Runs an example's demo, as `make demo` does. It compares the data before and after by itself, and removes what it made;
/// what it says of that was really said.
pub fn run_demo(example: &str, words: &[&str]) {
    let output = Command::new(directory_of(example).join("demo.sh"))
        .env("COMPOSE_PROJECT_NAME", unique(example))
        .env("COFFERDAM_IMAGE", cofferdam_image())
        .stdin(Stdio::null())
        .output()
        .expect("the demo");
    let run = Run::from(output).expect(0);
    for words in words.iter().chain(&["are those from before: restored."]) {
        let said = &run.stdout;
        assert!(said.contains(words), "it does not say `{words}`:\n{said}");
    }
}

pub fn directory_of(example: &str) -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("compose-examples");
    examples.join(example)
}

/// The image that `make image` has built, or the one that is to be tried instead.
pub fn cofferdam_image() -> String {
    let image = std::env::var("COFFERDAM_IMAGE").unwrap_or("cofferdam:latest".to_owned());
    assert!(
        docker_succeeds(["image", "inspect", &image]),
        "there is no image {image}: run `make image`"
    );
    image
}

/// Removes what `list` finds by a label.
pub fn remove_all(list: &[&str], remove: &[&str], label: &str) {
    let found = docker([list, &["--quiet", "--filter", label]].concat());
    let found: Vec<&str> = found.lines().collect();
    if !found.is_empty() {
        docker_succeeds([remove, &found].concat());
    }
}

/// What a container has printed since it was last started.
pub fn said_since_start(container: &str) -> String {
    let started = docker(["inspect", "--format", "{{.State.StartedAt}}", container]);
    let logs = Command::new("docker")
        .args(["logs", "--since", &started, container])
        .output();
    let logs = Run::from(logs.expect("docker logs")).expect(0);
    logs.stdout + &logs.stderr
}

/// Asks what listens in the container at `:PORT/PATH`.
#[track_caller]
pub fn get(container: &str, address: &str) -> Answer {
    curl(container, address, &[])
}

#[track_caller]
pub fn post(container: &str, address: &str, body: &str) -> Answer {
    curl(container, address, &["--data-binary", body])
}

#[track_caller]
fn curl(container: &str, address: &str, options: &[&str]) -> Answer {
    let url = format!("http://127.0.0.1{address}");
    let curl = [
        "exec",
        container,
        "curl",
        "--silent",
        "--write-out",
        "\n%{http_code}",
    ];
    let said = docker([&curl[..], options, &[&url]].concat());
    let (body, status) = said.rsplit_once('\n').expect("a status");
    Answer {
        status: status.parse().expect("a status"),
        body: body.to_owned(),
    }
}

/// What a service said over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in: {}", self.body))
    }
}

/// Something that happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub service: String,
    /// `start`, `die`, `health_status: healthy`, `exec_start: COMMAND`, …
    pub action: String,
    /// That of an `exec_die`, or of a `die`.
    pub exit_code: Option<String>,
    pub exec: Option<String>,
}

impl Event {
    fn parse(line: &str) -> Option<Self> {
        let event: Value = serde_json::from_str(line).ok()?;
        let attribute = |name: &str| {
            let value = event["Actor"]["Attributes"][name].as_str();
            value.map(str::to_owned)
        };
        Some(Self {
            service: attribute("com.docker.compose.service").or(attribute("cofferdam.service"))?,
            action: event["Action"].as_str()?.to_owned(),
            exit_code: attribute("exitCode"),
            exec: attribute("execID"),
        })
    }
}

/// Where the first such event stands.
#[track_caller]
pub fn position(events: &[Event], service: &str, action: &str) -> usize {
    events
        .iter()
        .position(|event| event.service == service && event.action.starts_with(action))
        .unwrap_or_else(|| panic!("{service} has no `{action}`: {events:#?}"))
}

/// Where the command that an event began has ended, with 0.
#[track_caller]
pub fn end_of(events: &[Event], begun: usize) -> usize {
    let exec = &events[begun].exec;
    let end = events
        .iter()
        .position(|event| event.action == "exec_die" && event.exec == *exec)
        .expect("the command ends");
    assert_eq!(events[end].exit_code.as_deref(), Some("0"));
    end
}

pub struct Listening {
    child: Child,
    events: Option<JoinHandle<Vec<Event>>>,
}

impl Listening {
    /// Listens to what the engine does with the containers that have this label, from now on.
    pub fn to(label: &str) -> Self {
        let label = format!("label={label}");
        let now = docker(["info", "--format", "{{.SystemTime}}"]);
        let mut child = Command::new("docker")
            .args(["events", "--since", &now, "--filter", &label])
            .args(["--filter", "type=container", "--format", "{{json .}}"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("docker events");
        let stdout = BufReader::new(child.stdout.take().expect("its output"));
        let events = std::thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            lines.filter_map(|line| Event::parse(&line)).collect()
        });
        Self {
            child,
            events: Some(events),
        }
    }

    /// All that has happened, in order.
    pub fn stop(mut self) -> Vec<Event> {
        // The last event may be on its way.
        std::thread::sleep(Duration::from_secs(1));
        self.end();
        let events = self.events.take().expect("still listening");
        events.join().expect("the events")
    }

    fn end(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.end();
    }
}
