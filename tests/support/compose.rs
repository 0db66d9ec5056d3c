//! A stack of `compose-examples/`, brought up under a name of its own by whichever flavour of compose there is.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use saphyr::{LoadableYamlNode, Yaml};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::example::{self, Answer, Listening, cofferdam_image, directory_of, remove_all};
use super::stack::{Run, eventually};
use super::{docker, docker_succeeds, unique};

const STACK_FILE: &str = "docker-compose.yml";
const SIDECAR_FILE: &str = "docker-compose.cofferdam.yml";

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
    file: &'static str,
    sidecar: Sidecar,
    /// What the example mounts from the host, and the files that add labels.
    directory: TempDir,
    env: Vec<(String, String)>,
}

impl ComposeStack {
    /// Nothing of it runs yet.
    pub fn new(example: &str, sidecar: Sidecar) -> Self {
        Self::of_file(example, STACK_FILE, sidecar)
    }

    /// The same, from another file of the example's.
    pub fn of_file(example: &str, file: &'static str, sidecar: Sidecar) -> Self {
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
            file,
            sidecar,
            directory,
            env,
        };
        let made = stack.command("./init.sh").output().expect("init.sh");
        Run::from(made).expect(0);
        stack.write_labels(file);
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
        let run = self.compose_of(&self.project, self.file, line);
        run.expect(0).stdout
    }

    /// `docker compose run --rm cofferdam` with the words of `line`, whether or not the daemon is up.
    pub fn cofferdam(&self, line: &str) -> Run {
        self.run_sidecar(&format!("cofferdam {line}"))
    }

    /// The same, with one more volume, as `NAME:PATH`.
    pub fn cofferdam_with_volume(&self, volume: &str, line: &str) -> Run {
        self.run_sidecar(&format!("--volume {volume} cofferdam {line}"))
    }

    /// Brings up the daemon alone.
    #[track_caller]
    pub fn start_daemon(&self) {
        let up = "up --detach cofferdam";
        match self.sidecar {
            Sidecar::Beside => self.compose_of(&self.project, self.file, up),
            Sidecar::Apart => self.compose_of(&self.sidecar_project(), SIDECAR_FILE, up),
        }
        .expect(0);
    }

    fn run_sidecar(&self, line: &str) -> Run {
        let line = format!("run --rm -T {line}");
        match self.sidecar {
            Sidecar::Beside => self.compose_of(&self.project, self.file, &line),
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
        let text = std::fs::read_to_string(self.example.join(file)).expect("an example");
        let documents = Yaml::load_from_str(&text).expect("YAML");
        let labelled = |what: &str| {
            let named = documents[0].as_mapping_get(what).and_then(Yaml::as_mapping);
            let names = named
                .into_iter()
                .flatten()
                .map(|(name, _)| name.as_str().expect("a name"));
            let entries =
                names.map(|name| (name.to_owned(), json!({"labels": {"cofferdam.test": "1"}})));
            Value::Object(entries.collect())
        };
        let labels = json!({
            "services": labelled("services"),
            "volumes": labelled("volumes"),
            "networks": {"default": {"labels": {"cofferdam.test": "1"}}},
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
        example::said_since_start(&self.container(service))
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
        example::get(&self.container(service), address)
    }

    #[track_caller]
    pub fn post(&self, service: &str, address: &str, body: &str) -> Answer {
        example::post(&self.container(service), address, body)
    }

    /// Listens to what the engine does with the stack's containers from now on.
    pub fn listen(&self) -> Listening {
        Listening::to(&format!("com.docker.compose.project={}", self.project))
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
