//! A restore that was killed, recovered under other circumstances than its own: other labels, another repository, no way back.

use std::process::Child;

use crate::support::stack::{Run, TOOLBOX, TestStack, compose_volume, eventually, is_running};
use crate::support::{TestContainer, TestVolume, docker, docker_succeeds};

/// A restore in place, killed when the volume holds the new data and the store that is loaded last does not.
struct Killed {
    stack: TestStack,
    app: Option<TestContainer>,
    toy: TestContainer,
    volume: TestVolume,
}

/// It says that it has begun, and waits.
const LOAD: &str =
    "sh -c 'while [ -e /tmp/slow ]; do touch /tmp/begun; sleep 0.1; done; cat >/srv/toy'";

impl Killed {
    fn new(labels: &[(&str, &str)], arguments: &[&str]) -> Self {
        let (this, mut restore) = Self::while_loading(labels, arguments);
        restore.kill().expect("kill");
        restore.wait().expect("its end");
        this.toy.sh("rm /tmp/slow");
        this
    }

    /// The restore still runs, and waits.
    fn while_loading(labels: &[(&str, &str)], arguments: &[&str]) -> (Self, Child) {
        let stack = TestStack::new("recovered");
        let volume = compose_volume(&stack, "data");
        let toy = [
            ("cofferdam.command.toy.dump", "cat /srv/toy"),
            ("cofferdam.command.toy.load", LOAD),
        ];
        let toy = stack.toolbox("toy", &toy, &[]);
        let mut this = Self {
            stack,
            app: None,
            toy,
            volume,
        };
        this.app = Some(this.container(labels));
        this.write("new");
        this.stack.cofferdam(&["backup"]).expect(0);
        this.write("old");
        this.toy.sh("touch /tmp/slow");
        let restore = [&["restore", "latest", "--yes"], arguments].concat();
        let restore = this.stack.start(&restore);
        eventually("the last load has begun", || {
            docker_succeeds(["exec", &this.toy.id, "test", "-e", "/tmp/begun"])
        });
        (this, restore)
    }

    fn container(&self, labels: &[(&str, &str)]) -> TestContainer {
        let mount = format!("{}:/data", self.volume.name);
        self.stack.toolbox("app", labels, &["--volume", &mount])
    }

    fn app(&self) -> &TestContainer {
        self.app.as_ref().expect("a container")
    }

    /// As somebody does who has changed its labels in the compose file.
    fn recreate(&mut self, labels: &[(&str, &str)]) {
        self.app = None;
        self.app = Some(self.container(labels));
    }

    fn write(&self, word: &str) {
        self.app().sh(&format!(
            "rm -rf /data/*; mkdir /data/{word}; echo {word} >/data/word"
        ));
        self.toy.sh(&format!("echo {word} >/srv/toy"));
    }

    /// Also of a container that is stopped.
    fn state(&self) -> String {
        let mount = format!("{}:/data", self.volume.name);
        let list = "ls -A /data; cat /data/word";
        let tree = docker(["run", "--rm", "--volume", &mount, TOOLBOX, "sh", "-c", list]);
        format!(
            "{} | {}",
            tree.replace('\n', " "),
            self.toy.sh("cat /srv/toy")
        )
    }

    #[track_caller]
    fn ensure_all_is_old(&self) {
        assert_eq!(self.state(), "old word old | old");
        assert!(is_running(self.app()));
        self.stack.ensure_nothing_is_left();
        self.stack.cofferdam(&["backup"]).expect(0);
        assert_eq!(self.state(), "old word old | old");
    }
}

const STOP: (&str, &str) = ("cofferdam.stop", "restore");
const DATA: (&str, &str) = ("cofferdam.volumes", "data");
const KEEP: (&str, &str) = ("cofferdam.volumes.data.restore", "keep-existing");

#[test]
fn labels_that_were_changed_meanwhile_change_nothing() {
    for arguments in [&["--in-place"][..], &[]] {
        let mut killed = Killed::new(&[DATA, STOP], arguments);
        killed.recreate(&[("cofferdam.enable", "false")]);
        killed.stack.cofferdam(&["recover"]).expect(0);
        killed.ensure_all_is_old();

        let mut killed = Killed::new(&[DATA, STOP, KEEP], arguments);
        killed.recreate(&[DATA, ("cofferdam.volumes.data.restore", "no such mode")]);
        killed.stack.cofferdam(&["recover"]).expect(0);
        assert_eq!(killed.state(), "old word old | old");
    }
}

#[test]
fn nothing_is_started_on_data_that_has_lost_its_way_back() {
    let killed = Killed::new(&[DATA, STOP], &["--in-place"]);
    let stack = &killed.stack;
    let mixed = "new word new | old";
    assert_eq!(killed.state(), mixed);

    // Another repository is none, and says where the safety snapshot is.
    let elsewhere = stack.directory.path().join("elsewhere");
    let run: Run = stack
        .command_at(&elsewhere, &["recover"])
        .output()
        .expect("cofferdam")
        .into();
    let hint = format!("--repository {}", stack.repository().display());
    run.expect_says(1, &hint);
    assert!(!is_running(killed.app()), "started on mixed data");

    let safety = stack.newest_snapshot();
    let aside = stack.directory.path().join("aside");
    std::fs::rename(&safety, &aside).expect("rename");
    stack
        .cofferdam(&["recover"])
        .expect_says(1, "recover --project");
    stack.cofferdam(&["backup"]).expect_says(1, "is missing in");
    assert!(!is_running(killed.app()), "started on mixed data");
    assert_eq!(killed.state(), mixed);

    std::fs::rename(&aside, &safety).expect("rename");
    stack
        .cofferdam(&["recover"])
        .expect_says(0, "the old data is in place");
    killed.ensure_all_is_old();
}

#[test]
fn what_is_lost_for_good_is_given_up_and_restored_anew() {
    let killed = Killed::new(&[DATA, STOP], &["--in-place"]);
    let stack = &killed.stack;
    std::fs::remove_dir_all(stack.newest_snapshot()).expect("remove");
    stack
        .cofferdam(&["recover"])
        .expect_says(1, "recover --project");
    stack
        .cofferdam(&["recover", "--give-up"])
        .expect_says(3, "GAVE UP");
    assert!(is_running(killed.app()));
    stack.ensure_nothing_is_left();
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert_eq!(killed.state(), "new word new | new");
}

#[test]
fn what_was_loaded_and_is_gone_is_never_taken_for_done() {
    let (killed, restore) = Killed::while_loading(&[DATA, STOP], &[]);
    let stack = &killed.stack;
    let mount = format!("{}:/data", killed.volume.name);
    let remove = "rm -r /data/.cofferdam*";
    docker([
        "run", "--rm", "--volume", &mount, TOOLBOX, "sh", "-c", remove,
    ]);
    killed.toy.sh("rm /tmp/slow");
    let restored = Run::from(restore.wait_with_output().expect("its output"));
    restored.expect_says(1, "loaded beside the old, but is gone now");

    for _ in 0..2 {
        stack.cofferdam(&["recover"]).expect_says(1, "is gone");
        assert!(!is_running(killed.app()), "started on mixed data");
        assert_eq!(killed.state(), "old word old | new");
    }
    stack
        .cofferdam(&["recover", "--give-up"])
        .expect_says(3, "GAVE UP");
    assert!(is_running(killed.app()));
    stack.ensure_nothing_is_left();
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert_eq!(killed.state(), "new word new | new");
}

/// Parts of dumps in every place that there may be: of a running container, of a stopped one, behind a label.
#[test]
fn what_a_dead_run_has_left_in_containers_goes_with_it() {
    let killed = Killed::new(&[DATA, STOP], &["--in-place"]);
    let stack = &killed.stack;
    let journal = format!("label=cofferdam.hold={}", stack.project);
    let holds = docker([
        "ps",
        "--all",
        "--filter",
        &journal,
        "--format",
        "{{.Label \"cofferdam.hold.run\"}}",
    ]);
    let run = holds.lines().find(|line| !line.is_empty()).expect("a run");
    let idle = stack.toolbox("idle", &[], &[]);
    let stopped = stack.toolbox("stopped", &[], &[]);
    for container in [&idle, &stopped] {
        container.sh(&format!(
            "mkdir -p /tmp/.X11-unix /tmp/zzz /srv/mine; echo mine >/srv/mine/file; cd /tmp; \
             for n in 1 2; do mkdir .cofferdam-{run}-0000000$n; echo plain text >.cofferdam-{run}-0000000$n/dump; done; \
             mkdir .cofferdam-20200101T000000Z-00000000-00000001; ln -s /srv/mine .cofferdam-{run}-00000003"
        ));
    }
    docker(["stop", "--time", "1", &stopped.id]);
    stack.cofferdam(&["recover"]).expect(0);
    killed.ensure_all_is_old();

    docker(["start", &stopped.id]);
    let kept = format!(
        ".X11-unix\n.cofferdam-20200101T000000Z-00000000-00000001\n.cofferdam-{run}-00000003\nzzz"
    );
    assert_eq!(idle.sh("ls -A /tmp | sort"), kept);
    for container in [&idle, &stopped] {
        assert_eq!(container.sh("cat /srv/mine/file"), "mine");
        assert_eq!(container.sh("find /tmp -type f"), "");
        assert!(container.sh("ls -A /tmp").contains("00000003"));
    }
}
