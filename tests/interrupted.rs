//! A run that dies, or is told to stop: what was held comes back. For restores that die at every point where they can, see
//! `killed`.

use std::process::Child;
use std::time::Duration;

use crate::support::proxy::{Fault, FaultProxy};
use crate::support::stack::{
    Postgres, Run, TestStack, block_dumps, compose_volume, eventually, is_running, terminate,
    unblock,
};
use crate::support::{TestContainer, TestVolume, docker};

/// A database and a volume, both put back in one restore, with a client that is held for both.
struct Stack {
    stack: TestStack,
    postgres: Postgres,
    app: TestContainer,
    _volume: TestVolume,
}

const NEW: &str = "new";

impl Stack {
    fn start() -> Self {
        let stack = TestStack::new("killed");
        let volume = compose_volume(&stack, "data");
        let mount = format!("{}:/data", volume.name);
        let postgres = stack.postgres("db", &[("cofferdam.postgres", "clinical")]);
        let app = stack.toolbox(
            "app",
            &[
                ("cofferdam.volumes", "data"),
                ("cofferdam.stop", "backup,restore"),
            ],
            &["--volume", &mount],
        );
        let this = Self {
            stack,
            postgres,
            app,
            _volume: volume,
        };
        this.postgres
            .sql("clinical", "CREATE TABLE state (word text)");
        this.write(NEW);
        this
    }

    fn write(&self, word: &str) {
        self.postgres.sql(
            "clinical",
            &format!("TRUNCATE state; INSERT INTO state VALUES ('{word}')"),
        );
        self.app.sh(&format!(
            "rm -rf /data/* && mkdir /data/{word} && echo {word} > /data/{word}/word && echo {word} > /data/word"
        ));
    }
}

fn kill(mut child: Child) {
    child.kill().expect("kill");
    child.wait().expect("wait");
}

#[test]
fn a_backup_that_is_killed_leaves_a_journal_and_the_next_command_releases_what_it_held() {
    let stack = Stack::start();
    let session = block_dumps(&stack.postgres);
    let child = stack.stack.start(&["backup"]);
    eventually("the app is stopped", || !is_running(&stack.app));
    std::thread::sleep(Duration::from_secs(1));
    kill(child);
    assert!(
        !is_running(&stack.app),
        "the kill came too late to show anything"
    );
    unblock(&stack.postgres, session);

    stack.stack.cofferdam(&["recover"]).expect(0);
    assert!(is_running(&stack.app));
    stack.stack.ensure_nothing_is_left();
    assert_eq!(
        stack
            .stack
            .cofferdam(&["list", "--json"])
            .expect(0)
            .json()
            .as_array()
            .map(Vec::len),
        Some(0),
        "a snapshot without a manifest is listed"
    );
    // The lock is free, and what the dead run left in the container is swept.
    stack.stack.cofferdam(&["backup"]).expect(0);
    assert_eq!(stack.postgres.container.sh("ls -A /tmp"), "");
}

#[test]
fn the_next_run_recovers_a_killed_one_by_itself_and_holds_what_that_one_held() {
    let stack = Stack::start();
    for next in [&["backup"][..], &["restore", "latest", "--yes"]] {
        let session = block_dumps(&stack.postgres);
        let child = stack.stack.start(&["backup"]);
        eventually("the app is stopped", || !is_running(&stack.app));
        kill(child);
        unblock(&stack.postgres, session);
        let stopped = || stack.app.inspect("{{.State.FinishedAt}}");
        let by_the_dead = stopped();
        stack.stack.cofferdam(next).expect(0);
        assert_ne!(stopped(), by_the_dead, "{next:?} went on while the app ran");
        assert!(is_running(&stack.app));
        stack.stack.ensure_nothing_is_left();
    }
}

/// Another run that held it may have ended since, or somebody has started it.
#[test]
fn what_was_started_after_the_plan_is_not_saved_as_it_runs() {
    let stack = TestStack::new("since");
    let labels = [
        ("cofferdam.files.version", "/etc/debian_version"),
        ("cofferdam.stop", "backup,restore"),
    ];
    let app = stack.toolbox("app", &labels, &[]);
    stack.cofferdam(&["backup"]).expect(0);
    for arguments in [&["backup"][..], &["restore", "latest", "--yes"]] {
        docker(["stop", "--time", "1", &app.name]);
        let proxy = FaultProxy::start();
        // The lock is the first container that is created.
        let lock = "/containers/create";
        proxy.once("POST", lock, Fault::Delay(Duration::from_secs(4)));
        let mut command = stack.command(arguments);
        command.env("DOCKER_HOST", proxy.docker_host());
        let child = command.spawn().expect("cofferdam");
        let asked = format!("POST {lock}");
        eventually("the lock is asked for", || proxy.seen().contains(&asked));
        docker(["start", &app.name]);
        let ended = Run::from(child.wait_with_output().expect("its output"));
        ended.expect_says(5, "app was started, stopped or replaced");
        assert!(is_running(&app));
        stack.ensure_nothing_is_left();
    }
    assert_eq!(stack.manifests().len(), 1);
}

#[test]
fn sigterm_during_a_backup_releases_everything_within_the_grace_time() {
    let stack = Stack::start();
    let session = block_dumps(&stack.postgres);
    let mut child = stack.stack.start(&["backup"]);
    eventually("the app is stopped", || !is_running(&stack.app));
    std::thread::sleep(Duration::from_secs(1));
    let asked = std::time::Instant::now();
    terminate(&child);
    assert_eq!(child.wait().expect("wait").code(), Some(130));
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "{:?}",
        asked.elapsed()
    );
    assert!(is_running(&stack.app));
    stack.stack.ensure_nothing_is_left();
    unblock(&stack.postgres, session);
    eventually("the agent is gone from the container", || {
        stack.postgres.container.sh("ls -A /tmp").is_empty()
    });
}

/// It may be one of a newer cofferdam.
#[test]
fn a_journal_of_another_project_is_not_read() {
    let stack = Stack::start();
    let other = crate::support::unique("other");
    let hold = format!("cofferdam.hold={other}");
    let _journal = crate::support::TestContainer::named(
        &format!("cofferdam-hold-{other}"),
        &[
            "--label",
            &hold,
            "--label",
            "cofferdam.hold.journal=from the future",
        ],
        &[&crate::support::agent_image()],
    );
    stack.stack.cofferdam(&["recover"]).expect(0);
    let run = stack.stack.cofferdam(&["recover", "--project", &other]);
    run.expect_says(1, "cannot be read");
}
