//! A small stack of real containers, and the real `cofferdam` let loose on it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::{TEST_LABEL, TestContainer, TestVolume, docker, docker_succeeds, program, unique};

pub const POSTGRES: &str = "cofferdam-test/postgres:15";
pub const TOOLBOX: &str = "cofferdam-test/toolbox:1";

/// The password of every database server here: whoever sees it anywhere has found a leak.
pub const PASSWORD: &str = "correct-horse-battery-staple";

/// One project, with a repository of its own. Its containers carry the labels that compose would give them.
pub struct TestStack {
    pub project: String,
    pub directory: TempDir,
}

/// What a run of cofferdam came to.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Run {
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "stdout:\n{}\nstderr:\n{}",
            self.stdout, self.stderr
        );
        self
    }

    #[track_caller]
    pub fn expect_says(self, code: i32, words: &str) -> Self {
        let run = self.expect(code);
        assert!(
            run.stderr.contains(words) || run.stdout.contains(words),
            "nothing says `{words}`\nstdout:\n{}\nstderr:\n{}",
            run.stdout,
            run.stderr
        );
        run
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in:\n{}", self.stdout))
    }
}

impl TestStack {
    pub fn new(what: &str) -> Self {
        Self {
            project: unique(what),
            directory: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    /// A container of the project, running.
    pub fn service(
        &self,
        service: &str,
        labels: &[(&str, &str)],
        options: &[&str],
        image_and_command: &[&str],
    ) -> TestContainer {
        let mut all: Vec<String> = vec![
            "--label".to_owned(),
            format!("com.docker.compose.project={}", self.project),
            "--label".to_owned(),
            format!("com.docker.compose.service={service}"),
            "--label".to_owned(),
            "com.docker.compose.container-number=1".to_owned(),
        ];
        for (key, value) in labels {
            all.extend(["--label".to_owned(), format!("{key}={value}")]);
        }
        all.extend(options.iter().map(|option| (*option).to_owned()));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        TestContainer::running(&all, image_and_command)
    }

    /// A toolbox that waits, and ends at once when it is told to.
    pub fn toolbox(
        &self,
        service: &str,
        labels: &[(&str, &str)],
        options: &[&str],
    ) -> TestContainer {
        self.service(service, labels, options, &[TOOLBOX])
    }

    /// A database server with the role `admin` and the database `clinical`, ready for connections.
    pub fn postgres(&self, service: &str, labels: &[(&str, &str)]) -> Postgres {
        self.postgres_with(service, labels, &[])
    }

    pub fn postgres_with(
        &self,
        service: &str,
        labels: &[(&str, &str)],
        options: &[&str],
    ) -> Postgres {
        let password = format!("POSTGRES_PASSWORD={PASSWORD}");
        let mut all = vec![
            "--env",
            "POSTGRES_USER=admin",
            "--env",
            "POSTGRES_DB=clinical",
            "--env",
            &password,
        ];
        all.extend(options);
        let server = Postgres {
            // A test's data is not worth waiting for a disk.
            container: self.service(service, labels, &all, &[POSTGRES, "-c", "fsync=off"]),
        };
        server.wait_until_ready();
        server
    }

    pub fn repository(&self) -> PathBuf {
        self.directory.path().join("repository")
    }

    /// The directory of the newest snapshot.
    pub fn newest_snapshot(&self) -> PathBuf {
        let mut snapshots = snapshots_of(&self.repository(), &self.project);
        snapshots.pop().expect("a snapshot")
    }

    pub fn manifest(&self) -> Value {
        manifest_in(&self.newest_snapshot())
    }

    /// Of all its snapshots, oldest first.
    pub fn manifests(&self) -> Vec<Value> {
        manifests_of(&self.repository(), &self.project)
    }

    /// See [`as_by_schedule`].
    pub fn as_by_schedule(&self) {
        as_by_schedule(&self.repository(), &self.project);
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_at(self.repository(), arguments)
    }

    /// With another repository than the stack's own.
    pub fn command_at(&self, repository: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .args(["--project", &self.project, "--repository"])
            .arg(repository)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn cofferdam(&self, arguments: &[&str]) -> Run {
        self.command(arguments).output().expect("cofferdam").into()
    }

    /// Starts cofferdam and leaves it running.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("cofferdam")
    }

    /// Nothing of ours is left in the engine: no helper, no journal.
    #[track_caller]
    pub fn ensure_nothing_is_left(&self) {
        let journal = format!("label=cofferdam.hold={}", self.project);
        let held = docker(["ps", "--all", "--quiet", "--filter", &journal]);
        assert!(held.is_empty(), "a hold journal is left: {held}");
    }
}

/// Makes all snapshots of a project look as if its daemon had made them, and nobody by hand.
pub fn as_by_schedule(repository: &Path, project: &str) {
    for snapshot in snapshots_of(repository, project) {
        let mut manifest = manifest_in(&snapshot);
        manifest
            .as_object_mut()
            .expect("an object")
            .remove("by_hand");
        std::fs::write(snapshot.join("manifest.json"), manifest.to_string()).expect("a manifest");
    }
}

/// The manifests of a project's snapshots in a local repository, oldest first.
pub fn manifests_of(repository: &Path, project: &str) -> Vec<Value> {
    let snapshots = snapshots_of(repository, project);
    snapshots.iter().map(|it| manifest_in(it)).collect()
}

fn snapshots_of(repository: &Path, project: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(repository.join(project)) else {
        return Vec::new();
    };
    let mut snapshots: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.join("manifest.json").exists())
        .collect();
    snapshots.sort();
    snapshots
}

fn manifest_in(snapshot: &Path) -> Value {
    let bytes = std::fs::read(snapshot.join("manifest.json")).expect("a manifest");
    serde_json::from_slice(&bytes).expect("JSON")
}

impl Drop for TestStack {
    fn drop(&mut self) {
        let journal = format!("label=cofferdam.hold={}", self.project);
        for id in docker(["ps", "--all", "--quiet", "--filter", &journal]).lines() {
            docker_succeeds(["rm", "--force", "--volumes", id]);
        }
        let records = format!("label=cofferdam.repository.project={}", self.project);
        for volume in docker(["volume", "ls", "--quiet", "--filter", &records]).lines() {
            docker_succeeds(["volume", "rm", "--force", volume]);
        }
    }
}

/// A real PostgreSQL server.
pub struct Postgres {
    pub container: TestContainer,
}

impl Postgres {
    pub fn wait_until_ready(&self) {
        self.container
            .wait_until("pg_isready -q -h 127.0.0.1 -U admin -d clinical");
    }

    /// Runs SQL and returns what it printed, unaligned, without headers.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        docker([
            "exec",
            &self.container.id,
            "psql",
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "admin",
            "-d",
            database,
            "-c",
            sql,
        ])
    }

    /// `patients`, with rows that tell whether they are the saved ones.
    pub fn seed(&self, database: &str, rows: u32) {
        self.sql(
            database,
            &format!(
                "CREATE TABLE patients (id int PRIMARY KEY, note text NOT NULL);
                 INSERT INTO patients SELECT g, 'note ' || md5(g::text) FROM generate_series(1, {rows}) g"
            ),
        );
    }

    /// Rows and content of `patients` in one word.
    #[track_caller]
    pub fn fingerprint(&self, database: &str) -> String {
        self.sql(
            database,
            "SELECT count(*) || ':' || coalesce(md5(string_agg(id || note, ',' ORDER BY id)), '') FROM patients",
        )
    }

    pub fn databases(&self) -> Vec<String> {
        self.sql("template1", "SELECT datname FROM pg_database ORDER BY 1")
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

/// A volume of the project, named and labelled as compose would.
pub fn compose_volume(stack: &TestStack, name: &str) -> TestVolume {
    let project = format!("com.docker.compose.project={}", stack.project);
    let volume = format!("com.docker.compose.volume={name}");
    let full = format!("{}_{name}", stack.project);
    docker([
        "volume", "create", "--label", TEST_LABEL, "--label", &project, "--label", &volume, &full,
    ]);
    TestVolume { name: full }
}

/// Waits until `condition` holds; panics after three minutes. Asking takes a third of the time at most: it often costs more
/// than what is waited for.
#[track_caller]
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    loop {
        let asked = Instant::now();
        if condition() {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(180), "never: {what}");
        std::thread::sleep(Duration::from_millis(300).max(2 * asked.elapsed()));
    }
}

/// As somebody does who presses Ctrl-C, or stops the container that it runs in.
pub fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("SIGTERM");
}

pub fn is_running(container: &TestContainer) -> bool {
    container.inspect("{{.State.Running}}") == "true"
}

/// Every file below `directory` that contains `needle`.
pub fn files_with(directory: &Path, needle: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(&next).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else if let Ok(bytes) = std::fs::read(&path)
                && bytes
                    .windows(needle.len())
                    .any(|window| window == needle.as_bytes())
            {
                found.push(path);
            }
        }
    }
    found
}

/// Locks the table `state`, which keeps `pg_dump` waiting for as long as the returned session lives.
pub fn block_dumps(postgres: &Postgres) -> Child {
    let child = Command::new("docker")
        .args([
            "exec",
            &postgres.container.id,
            "psql",
            "-U",
            "admin",
            "-d",
            "clinical",
            "-c",
            "BEGIN; LOCK TABLE state IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("docker");
    eventually("the table is locked", || {
        postgres.sql(
            "template1",
            "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation IS NOT NULL AND granted",
        ) != "0"
    });
    child
}

pub fn unblock(postgres: &Postgres, mut session: Child) {
    postgres.sql(
        "template1",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()",
    );
    session.wait().expect("wait");
}
