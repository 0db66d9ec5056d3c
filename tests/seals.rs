//! Somebody starts what a run holds: an administrator, a watchdog, `docker compose up`.

use crate::support::proxy::{Fault, FaultProxy};
use crate::support::stack::{Run, TestStack, eventually, is_running};
use crate::support::{TestContainer, docker, docker_succeeds};

/// Data that takes as long to dump and to load as somebody wants, one who is stopped meanwhile, and one who is paused.
struct Stack {
    stack: TestStack,
    db: TestContainer,
    web: TestContainer,
    cache: TestContainer,
}

const DUMP: &str =
    "sh -c 'while [ -e /tmp/slow ]; do touch /tmp/dumping; sleep 0.1; done; cat /srv/word'";
const LOAD: &str =
    "sh -c 'cat >/srv/word; while [ -e /tmp/slow-load ]; do touch /tmp/loading; sleep 0.1; done'";

impl Stack {
    fn start() -> Self {
        let stack = TestStack::new("seals");
        let command = [
            ("cofferdam.command.word.dump", DUMP),
            ("cofferdam.command.word.load", LOAD),
        ];
        let this = Self {
            db: stack.toolbox("db", &command, &[]),
            web: stack.toolbox("web", &[("cofferdam.stop", "backup,restore")], &[]),
            cache: stack.toolbox("cache", &[("cofferdam.pause", "backup")], &[]),
            stack,
        };
        this.db.sh("echo old >/srv/word");
        this
    }

    /// Runs cofferdam, and does something while data is on its way.
    fn meanwhile(&self, arguments: &[&str], what: [&str; 2], act: impl FnOnce()) -> Run {
        let [slow, sign] = what;
        self.db.sh(&format!("rm -f {sign}; touch {slow}"));
        let child = self.stack.start(arguments);
        let has_begun = ["exec", &self.db.id, "test", "-e", sign];
        eventually(sign, || docker_succeeds(has_begun));
        assert!(!is_running(&self.web));
        act();
        self.db.sh(&format!("rm {slow}"));
        let run = Run::from(child.wait_with_output().expect("its output"));
        assert!(is_running(&self.web));
        assert_eq!(self.cache.inspect("{{.State.Status}}"), "running");
        self.stack.ensure_nothing_is_left();
        run
    }
}

const DUMPING: [&str; 2] = ["/tmp/slow", "/tmp/dumping"];
const LOADING: [&str; 2] = ["/tmp/slow-load", "/tmp/loading"];

type Act<'a> = &'a dyn Fn();

#[test]
fn a_backup_says_so_and_prunes_nothing() {
    let this = Stack::start();
    let (stack, web, cache) = (&this.stack, &*this.web.id, &*this.cache.id);
    let quiet = this.meanwhile(&["backup", "--keep", "last=1"], DUMPING, || {});
    quiet.expect(0);
    assert_eq!(
        stack.manifest()["warnings"].as_array().map(Vec::len),
        Some(0)
    );

    let start: Act = &|| drop(docker(["start", web]));
    let start_and_stop: Act = &|| {
        docker(["start", web]);
        docker(["stop", web]);
    };
    let unpause: Act = &|| drop(docker(["unpause", cache]));
    let acts = [("web", start), ("web", start_and_stop), ("cache", unpause)];
    for (number, (service, act)) in acts.into_iter().enumerate() {
        let words = format!("{service} was started from outside while it was held");
        let run = this.meanwhile(&["backup", "--keep", "last=1"], DUMPING, act);
        run.expect_says(3, &words);
        // What was saved is there, and says for good what it is.
        stack.cofferdam(&["show", "latest"]).expect_says(0, &words);
        let listed = stack.cofferdam(&["list", "--json"]).expect(0).json();
        assert_eq!(listed.as_array().map(Vec::len), Some(number + 2));
    }

    stack.as_by_schedule();
    stack.cofferdam(&["backup", "--keep", "last=1"]).expect(0);
    let listed = stack.cofferdam(&["list", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
}

#[test]
fn a_backup_that_cannot_tell_prunes_nothing() {
    let this = Stack::start();
    let (stack, proxy) = (&this.stack, FaultProxy::start());
    stack.cofferdam(&["backup"]).expect(0);
    this.db.sh("touch /tmp/slow");
    let child = stack
        .command(&["backup", "--keep", "last=1"])
        .env("DOCKER_HOST", proxy.docker_host())
        .spawn()
        .expect("cofferdam");
    let has_begun = ["exec", &this.db.id, "test", "-e", "/tmp/dumping"];
    eventually("the dump has begun", || docker_succeeds(has_begun));
    let look = format!("/containers/{}/json", this.web.id);
    proxy.once("GET", &look, Fault::Refuse);
    this.db.sh("rm /tmp/slow");
    let run = Run::from(child.wait_with_output().expect("its output"));
    run.expect_says(3, "stayed held, so nothing is pruned");
    assert!(is_running(&this.web));
    assert_eq!(stack.manifests().len(), 2);
    stack.ensure_nothing_is_left();
}

#[test]
fn a_container_that_was_made_anew_counts() {
    let this = Stack::start();
    this.db.sh("touch /tmp/slow");
    let child = this.stack.start(&["backup"]);
    eventually("web is held", || !is_running(&this.web));
    docker(["rm", "--force", &this.web.id]);
    let _anew = this.stack.toolbox("web", &[], &[]);
    this.db.sh("rm /tmp/slow");
    let run = Run::from(child.wait_with_output().expect("its output"));
    run.expect_says(3, "web was started from outside while it was held");
}

#[test]
fn a_restore_leaves_the_old_data() {
    let this = Stack::start();
    let (stack, web) = (&this.stack, &this.web.id);
    stack.cofferdam(&["backup"]).expect(0);
    this.db.sh("echo new >/srv/word");
    let restore = ["restore", "latest", "--yes"];
    let run = this.meanwhile(&restore, LOADING, || drop(docker(["start", web])));
    run.expect_says(1, "web was started from outside while it was held");
    assert_eq!(this.db.sh("cat /srv/word"), "new");

    this.meanwhile(&restore, LOADING, || {}).expect(0);
    assert_eq!(this.db.sh("cat /srv/word"), "old");
}
