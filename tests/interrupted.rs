//! A run that dies, or is told to stop, at every point where it can: what was held comes back, and the data is either all
//! old or all new.

use std::process::Child;
use std::time::Duration;

use crate::support::stack::{
    Postgres, TestStack, block_dumps, compose_volume, eventually, is_running, unblock,
};
use crate::support::{TestContainer, TestVolume};

/// A database and a volume, both put back in one restore, with a client that is held for both.
struct Stack {
    stack: TestStack,
    postgres: Postgres,
    app: TestContainer,
    _volume: TestVolume,
}

const OLD: &str = "old";
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

    /// Database and volume, in one word when they agree.
    fn state(&self) -> String {
        let database = self.postgres.sql("clinical", "SELECT word FROM state");
        let tree = self.app.sh("ls -A /data; cat /data/word /data/*/word");
        for word in [OLD, NEW] {
            if database == word && tree == format!("{word}\nword\n{word}\n{word}") {
                return word.to_owned();
            }
        }
        format!("database {database}, tree {tree}")
    }

    fn databases(&self) -> Vec<String> {
        self.postgres.databases()
    }
}

fn kill(mut child: Child) {
    child.kill().expect("kill");
    child.wait().expect("wait");
}

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("SIGTERM");
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
fn the_next_backup_recovers_a_killed_one_by_itself() {
    let stack = Stack::start();
    let session = block_dumps(&stack.postgres);
    let child = stack.stack.start(&["backup"]);
    eventually("the app is stopped", || !is_running(&stack.app));
    kill(child);
    unblock(&stack.postgres, session);
    stack.stack.cofferdam(&["backup"]).expect(0);
    assert!(is_running(&stack.app));
    stack.stack.ensure_nothing_is_left();
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

/// Kills a restore after each of its calls that change something in turn, and looks at what the next command makes of it.
#[test]
fn a_restore_that_is_killed_after_any_change_ends_all_old_or_all_new() {
    let stack = Stack::start();
    stack.stack.cofferdam(&["backup"]).expect(0);
    // Every call, when asked for all: `COFFERDAM_TEST_STEP=1`.
    let step: u32 = std::env::var("COFFERDAM_TEST_STEP")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(7);
    let mut outcomes = std::collections::BTreeSet::new();
    let mut call = 0;
    loop {
        stack.write(OLD);
        let proxy = crate::support::proxy::FaultProxy::start();
        proxy.hang_after_changes(call);
        let mut command = stack.stack.command(&["restore", "latest", "--yes"]);
        command.env("DOCKER_HOST", proxy.docker_host());
        let mut child = command.spawn().expect("cofferdam");
        let ended = loop {
            if let Some(status) = child.try_wait().expect("wait") {
                break Some(status);
            }
            if proxy.is_hanging() {
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        if let Some(status) = ended {
            assert!(status.success(), "{status}");
            assert_eq!(stack.state(), NEW);
            break;
        }
        kill(child);
        drop(proxy);

        stack.stack.cofferdam(&["recover"]).expect(0);
        assert!(is_running(&stack.app), "after call {call}");
        let state = stack.state();
        assert!(
            [OLD, NEW].contains(&state.as_str()),
            "after call {call}: {state}"
        );
        assert_eq!(
            stack.databases(),
            ["clinical", "postgres", "template0", "template1"],
            "after call {call}"
        );
        assert_eq!(
            stack.app.sh("ls -A /data | grep -c cofferdam || true"),
            "0",
            "after call {call}"
        );
        stack.stack.ensure_nothing_is_left();
        outcomes.insert(state);
        call += step;
    }
    assert!(outcomes.contains(OLD), "no kill came before the decision");
}

/// It may be one of a newer cofferdam.
#[test]
fn a_journal_of_another_project_is_not_read() {
    let stack = Stack::start();
    let other = crate::support::unique("other");
    let hold = format!("cofferdam.hold={other}");
    let _journal = crate::support::TestContainer::create(
        &[
            "--label",
            &hold,
            "--label",
            "cofferdam.hold.journal=from the future",
        ],
        &[crate::support::busybox_image(), "true"],
    );
    stack.stack.cofferdam(&["recover"]).expect(0);
    let run = stack.stack.cofferdam(&["recover", "--project", &other]);
    run.expect_says(1, "cannot be read");
}
