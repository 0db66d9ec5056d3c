//! An engine on another machine, reached over TCP with TLS: a real one that demands certificates.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::stack::{PASSWORD, POSTGRES, Run, eventually, manifests_of};
use crate::support::swarm::{Swarm, swarm};
use crate::support::{busybox_image, program, unique};
use serde_json::Value;

/// A stack on the worker's engine, and cofferdam here.
struct Remote<'a> {
    swarm: &'a Swarm,
    project: String,
    repository: tempfile::TempDir,
}

impl Remote<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        let address = format!("tcp://{}:2376", self.swarm.worker.address);
        command
            .args(arguments)
            .args(["--project", &self.project, "--repository"])
            .arg(self.repository.path().join("repository"))
            .env("DOCKER_HOST", address)
            .env("DOCKER_TLS_VERIFY", "1")
            .env("DOCKER_CERT_PATH", self.swarm.certificates.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn cofferdam(&self, arguments: &[&str]) -> Run {
        self.command(arguments).output().expect("cofferdam").into()
    }

    fn service(&self, name: &str, options: &[&str], image_and_command: &[&str]) {
        let project = format!("com.docker.compose.project={}", self.project);
        let service = format!("com.docker.compose.service={name}");
        let container = format!("{}-{name}", self.project);
        let run = [
            "run", "--detach", "--name", &container, "--label", &project, "--label", &service,
        ];
        let all = run.iter().chain(options).chain(image_and_command);
        self.swarm.worker.docker(all);
    }

    fn exec(&self, name: &str, command: &[&str]) -> Run {
        let container = format!("{}-{name}", self.project);
        let password = format!("PGPASSWORD={PASSWORD}");
        let exec = ["exec", "--env", &password, &container];
        self.swarm.worker.run(&[&exec, command].concat())
    }

    fn sql(&self, line: &str) -> Run {
        let psql = [
            "psql", "-X", "-q", "-t", "-A", "-U", "admin", "-d", "clinical", "-c",
        ];
        self.exec("db", &[&psql[..], &[line]].concat())
    }

    fn manifests(&self) -> Vec<Value> {
        let repository = self.repository.path().join("repository");
        manifests_of(&repository, &self.project)
    }
}

#[test]
fn a_daemon_outlives_a_restart_of_its_engine() {
    let swarm = swarm();
    let remote = Remote {
        swarm: &swarm,
        project: unique("restart"),
        repository: tempfile::tempdir().expect("a temporary directory"),
    };
    let mount = format!("{}:/data", remote.project);
    let app = ["--volume", &mount, "--label", "cofferdam.volumes=*"];
    remote.service("app", &app, &[busybox_image()]);
    let command = remote.command(&["daemon", "--schedule", "off"]).spawn();
    let mut daemon = command.expect("a daemon");
    std::thread::sleep(Duration::from_secs(5));

    swarm.worker.restart_engine();
    let trigger = ["--label", "cofferdam.trigger=exit"];
    remote.service("ingest", &trigger, &[busybox_image(), "true"]);
    eventually("what the engine does is heard again", || {
        remote.manifests().len() == 1
    });
    eventually("the run has ended", || {
        swarm.worker.journals(&remote.project).is_empty()
    });
    assert!(daemon.try_wait().expect("its state").is_none());
    daemon.kill().expect("its end");
    daemon.wait().expect("its end");
}

impl Drop for Remote<'_> {
    fn drop(&mut self) {
        for name in ["db", "app", "ingest"] {
            let container = format!("{}-{name}", self.project);
            self.swarm
                .worker
                .run(&["rm", "--force", "--volumes", &container]);
        }
        self.swarm
            .worker
            .run(&["volume", "rm", "--force", &self.project]);
    }
}

#[test]
fn a_stack_of_another_machine_is_saved_and_put_back() {
    let swarm = swarm();
    let remote = Remote {
        swarm: &swarm,
        project: unique("remote"),
        repository: tempfile::tempdir().expect("a temporary directory"),
    };
    let password = format!("POSTGRES_PASSWORD={PASSWORD}");
    let database = [
        "--env",
        "POSTGRES_USER=admin",
        "--env",
        "POSTGRES_DB=clinical",
        "--env",
        &password,
        "--label",
        "cofferdam.postgres=clinical",
    ];
    remote.service("db", &database, &[POSTGRES]);
    let mount = format!("{}:/data", remote.project);
    let app = [
        "--volume",
        &mount,
        "--label",
        "cofferdam.volumes=*",
        "--label",
        "cofferdam.stop=restore",
    ];
    remote.service("app", &app, &[busybox_image()]);
    eventually("the database is there", || remote.sql("SELECT 1").code == 0);
    let create =
        "CREATE TABLE patients (id int); INSERT INTO patients SELECT generate_series(1, 1000)";
    remote.sql(create).expect(0);
    remote
        .exec("app", &["sh", "-c", "echo saved > /data/word"])
        .expect(0);

    remote.cofferdam(&["plan"]).expect_says(0, "volume/");
    remote.cofferdam(&["backup"]).expect(0);
    let manifests = remote.manifests();
    let targets = manifests[0]["targets"].as_array().expect("targets");
    let transfer = |id: &str| {
        let of = |target: &&Value| {
            let found = target["target"].as_str().expect("an id");
            found.starts_with(id)
        };
        let target = targets.iter().find(of).expect("a target");
        target["transfer"].clone()
    };
    // The engine's host cannot call us back: trees take the archive API.
    assert_eq!(transfer("app/volume/"), "archive");
    assert_eq!(transfer("db/postgres/clinical"), "copy");
    // A node of a swarm, but no stack of it.
    assert_eq!(manifests[0].get("node"), None);

    remote.sql("DROP TABLE patients").expect(0);
    remote
        .exec(
            "app",
            &["sh", "-c", "rm /data/word; echo new > /data/other"],
        )
        .expect(0);
    remote.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert_eq!(
        remote.sql("SELECT count(*) FROM patients").stdout.trim(),
        "1000"
    );
    assert_eq!(
        remote.exec("app", &["cat", "/data/word"]).stdout.trim(),
        "saved"
    );

    // A sidecar of no machine in particular.
    let known = remote.manifests().len();
    let mut daemon = remote
        .command(&["daemon", "--schedule", "*/2 * * * * *"])
        .spawn()
        .expect("a daemon");
    eventually("the daemon's snapshot", || remote.manifests().len() > known);
    let told = Command::new("kill")
        .args(["-TERM", &daemon.id().to_string()])
        .status();
    assert!(told.expect("kill").success());
    daemon.wait().expect("its end");
    assert_eq!(swarm.worker.journals(&remote.project), "");
}
