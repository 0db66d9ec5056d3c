//! A stack of `compose-examples/`, brought up under a name of its own by whichever flavour of compose there is.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::stack::{Run, eventually};
use super::{docker, docker_succeeds, unique};

/// Where the example has its service `cofferdam`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sidecar {
    /// In the stack's own file.
    Beside,
    /// In `docker-compose.cofferdam.yml`, a project of its own.
    Apart,
}

/// Everything of it is removed on drop, and carries the label `cofferdam.test`.
pub struct ComposeStack {
    pub project: String,
    example: PathBuf,
    sidecar: Sidecar,
    /// What the example mounts from the host, and the files that add labels.
    directory: TempDir,
    env: Vec<(String, String)>,
}

impl ComposeStack {
    /// Nothing of it runs yet.
    pub fn new(example: &str, sidecar: Sidecar) -> Self {
        let image = cofferdam_image();
        let project = unique(example);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let prefix = example.to_uppercase();
        let env = vec![
            ("COFFERDAM_IMAGE".to_owned(), image),
            (format!("{prefix}_PROJECT"), project.clone()),
            (
                format!("{prefix}_TMP"),
                directory.path().display().to_string(),
            ),
        ];
        let stack = Self {
            project,
            example: directory_of(example),
            sidecar,
            directory,
            env,
        };
        let made = stack.command("./init.sh").output().expect("init.sh");
        Run::from(made).expect(0);
        stack.write_labels(STACK_FILE);
        if sidecar == Sidecar::Apart {
            stack.write_labels(SIDECAR_FILE);
        }
        stack
    }

    /// A variable of the example's, for what compose does from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// `docker compose` with the words of `line`, on the stack; no shell sees them. What it printed.
    #[track_caller]
    pub fn compose(&self, line: &str) -> String {
        let run = self.compose_of(&self.project, STACK_FILE, line);
        run.expect(0).stdout
    }

    /// `docker compose run --rm cofferdam` with the words of `line`, as the example's README has it.
    pub fn cofferdam(&self, line: &str) -> Run {
        self.run_sidecar(&format!("cofferdam {line}"))
    }

    /// The same, with one more volume, as `NAME:PATH`.
    pub fn cofferdam_with_volume(&self, volume: &str, line: &str) -> Run {
        self.run_sidecar(&format!("--volume {volume} cofferdam {line}"))
    }

    fn run_sidecar(&self, line: &str) -> Run {
        let line = format!("run --rm -T {line}");
        match self.sidecar {
            Sidecar::Beside => self.compose_of(&self.project, STACK_FILE, &line),
            Sidecar::Apart => self.compose_of(&self.sidecar_project(), SIDECAR_FILE, &line),
        }
    }

    fn sidecar_project(&self) -> String {
        format!("{}-backup", self.project)
    }

    /// A file that the example's `init.sh` has made.
    pub fn made_on_host(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn compose_of(&self, project: &str, file: &str, line: &str) -> Run {
        let mut command = self.flavour();
        command.args(["-p", project, "-f", file, "-f"]);
        command
            .arg(self.labels_of(file))
            .args(line.split_whitespace());
        command.output().expect("compose").into()
    }

    fn flavour(&self) -> Command {
        if docker_succeeds(["compose", "version"]) {
            let mut command = self.command("docker");
            command.arg("compose");
            command
        } else {
            self.command("docker-compose")
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.example)
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null());
        command
    }

    fn labels_of(&self, file: &str) -> PathBuf {
        self.directory.path().join(format!("labels-of-{file}"))
    }

    /// A file that compose lays over `file`: the label of tests, on everything that it makes.
    fn write_labels(&self, file: &str) {
        let names = |what| {
            let mut command = self.flavour();
            command.args(["--profile", "backup", "-f", file, "config", what]);
            Run::from(command.output().expect("compose"))
                .expect(0)
                .stdout
        };
        let labelled = |names: &str| {
            let entries = names
                .lines()
                .map(|name| (name.to_owned(), json!({"labels": {"cofferdam.test": "1"}})));
            Value::Object(entries.collect())
        };
        let labels = json!({
            "services": labelled(&names("--services")),
            "volumes": labelled(&names("--volumes")),
            "networks": labelled("default"),
        });
        std::fs::write(self.labels_of(file), labels.to_string()).expect("the file of labels");
    }

    /// The container of a service, running or not.
    #[track_caller]
    pub fn container(&self, service: &str) -> String {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service_label = format!("label=com.docker.compose.service={service}");
        let id = docker([
            "ps",
            "--all",
            "--quiet",
            "--filter",
            &project,
            "--filter",
            &service_label,
            "--filter",
            "label=com.docker.compose.oneoff=False",
        ]);
        assert!(!id.is_empty(), "there is no container of {service}");
        id
    }

    /// What the program printed, without the last newline.
    #[track_caller]
    pub fn exec(&self, service: &str, argv: &[&str]) -> String {
        docker([&["exec", &self.container(service)], argv].concat())
    }

    /// One value of `docker inspect`, by a Go template.
    pub fn inspect(&self, service: &str, template: &str) -> String {
        docker(["inspect", "--format", template, &self.container(service)])
    }

    /// What a service has printed since its container was last started.
    pub fn said_since_start(&self, service: &str) -> String {
        let started = self.inspect(service, "{{.State.StartedAt}}");
        let container = self.container(service);
        let logs = Command::new("docker")
            .args(["logs", "--since", &started, &container])
            .output();
        let logs = Run::from(logs.expect("docker logs")).expect(0);
        logs.stdout + &logs.stderr
    }

    pub fn wait_until_healthy(&self, services: &[&str]) {
        for service in services {
            eventually(&format!("{service} is healthy"), || {
                self.inspect(service, "{{.State.Health.Status}}") == "healthy"
            });
        }
    }

    /// Asks the service for `:PORT/PATH`, in its own container.
    #[track_caller]
    pub fn get(&self, service: &str, address: &str) -> Answer {
        self.curl(service, address, &[])
    }

    #[track_caller]
    pub fn post(&self, service: &str, address: &str, body: &str) -> Answer {
        self.curl(service, address, &["--data-binary", body])
    }

    fn curl(&self, service: &str, address: &str, options: &[&str]) -> Answer {
        let url = format!("http://127.0.0.1{address}");
        let argv = [
            &["curl", "--silent", "--write-out", "\n%{http_code}"][..],
            options,
            &[&url],
        ]
        .concat();
        let said = self.exec(service, &argv);
        let (body, status) = said.rsplit_once('\n').expect("a status");
        Answer {
            status: status.parse().expect("a status"),
            body: body.to_owned(),
        }
    }

    /// Listens to what the engine does with the stack's containers from now on.
    pub fn listen(&self) -> Listening {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let now = docker(["info", "--format", "{{.SystemTime}}"]);
        let mut child = Command::new("docker")
            .args(["events", "--since", &now, "--filter", &project])
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
        Listening {
            child,
            events: Some(events),
        }
    }
}

impl Drop for ComposeStack {
    fn drop(&mut self) {
        let journal = format!("label=cofferdam.hold={}", self.project);
        remove_all(&["ps", "--all"], &["rm", "--force", "--volumes"], &journal);
        for project in [self.project.clone(), self.sidecar_project()] {
            let label = format!("label=com.docker.compose.project={project}");
            remove_all(&["ps", "--all"], &["rm", "--force", "--volumes"], &label);
            remove_all(&["volume", "ls"], &["volume", "rm", "--force"], &label);
            remove_all(&["network", "ls"], &["network", "rm"], &label);
        }
    }
}

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

fn directory_of(example: &str) -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("compose-examples");
    examples.join(example)
}

/// The image that `make image` has built, or the one that is to be tried instead.
fn cofferdam_image() -> String {
    let image = std::env::var("COFFERDAM_IMAGE").unwrap_or("cofferdam:latest".to_owned());
    assert!(
        docker_succeeds(["image", "inspect", &image]),
        "there is no image {image}: run `make image`"
    );
    image
}

const STACK_FILE: &str = "docker-compose.yml";
const SIDECAR_FILE: &str = "docker-compose.cofferdam.yml";

fn remove_all(list: &[&str], remove: &[&str], label: &str) {
    let found = docker([list, &["--quiet", "--filter", label]].concat());
    let found: Vec<&str> = found.lines().collect();
    if !found.is_empty() {
        docker_succeeds([remove, &found].concat());
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
            service: attribute("com.docker.compose.service")?,
            action: event["Action"].as_str()?.to_owned(),
            exit_code: attribute("exitCode"),
            exec: attribute("execID"),
        })
    }
}

pub struct Listening {
    child: Child,
    events: Option<JoinHandle<Vec<Event>>>,
}

impl Listening {
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
