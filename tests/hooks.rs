//! Hooks that fail, hang, or are no programs: what they end, what they leave, and what runs all the same.

use std::time::{Duration, Instant};

use crate::support::stack::{PASSWORD, TestStack, eventually, is_running, terminate};
use crate::support::{TestContainer, docker};

const FILES: (&str, &str) = ("cofferdam.files.word", "/srv/word");
const HELD: (&str, &str) = ("cofferdam.stop", "backup,restore");

/// What goes wrong with a command, and the words that tell of it.
const BAD: [(&str, &str); 3] = [
    (
        "sh -c 'echo no such luck >&2; exit 7'",
        "ended with exit code 7: no such luck",
    ),
    ("sleep 600", "did not end within 2s"),
    ("/no/such/program", "/no/such/program"),
];

/// A hook that notes down that it ran, and how the run had gone so far.
fn note(name: &str) -> String {
    format!("sh -c 'echo {name} $COFFERDAM_OUTCOME >> /srv/log'")
}

fn lines_of(container: &TestContainer) -> String {
    container.sh("cat /srv/log 2>/dev/null; rm -f /srv/log")
}

/// A service with a bad hook at `point`, and notes at the two that follow.
fn app(stack: &TestStack, operation: &str, point: &str, command: &str) -> TestContainer {
    let hook = |point: &str| format!("cofferdam.hook.{point}");
    let (bad, limit) = (hook(point), hook(&format!("{point}.timeout")));
    let mut labels = vec![FILES, HELD, (&bad, command), (&limit, "2s")];
    let notes = ["failed", "after"].map(|name| (hook(&format!("{name}-{operation}")), note(name)));
    let free = notes.iter().filter(|(label, _)| *label != bad);
    labels.extend(free.map(|(label, note)| (label.as_str(), note.as_str())));
    let app = stack.toolbox("app", &labels, &[]);
    app.sh("echo saved > /srv/word");
    app
}

/// A service that depends on the first, whose turn comes after it.
fn later(stack: &TestStack, labels: &[(&str, &str)]) -> TestContainer {
    let uses = ("com.docker.compose.depends_on", "app:service_started:false");
    stack.toolbox("later", &[&[uses, HELD], labels].concat(), &[])
}

/// It may be what makes the data: without it, last week's would pass for today's.
#[test]
fn a_hook_whose_container_does_not_run_ends_a_run_unless_its_label_allows_that() {
    let stack = TestStack::new("hook-stopped");
    let before = ["backup", "restore"].map(|it| format!("cofferdam.hook.before-{it}"));
    let note = note("before");
    let hooks = vec![FILES, (&*before[0], &*note), (&*before[1], &*note)];
    let db = stack.toolbox("db", &[("cofferdam.files.other", "/srv")], &[]);
    let app = stack.toolbox("app", &hooks, &[]);
    app.sh("echo saved > /srv/word");
    stack.cofferdam(&["backup"]).expect(0);
    docker(["stop", &app.id]);
    for (arguments, label) in [
        (&["backup"][..], "before-backup"),
        (&["restore", "latest", "--yes"], "before-restore"),
    ] {
        let way_out = format!("cofferdam.hook.{label}.when-stopped: skip");
        stack.cofferdam(arguments).expect_says(1, &way_out);
    }
    docker(["start", &app.id]);
    docker(["pause", &app.id]);
    let words = format!("is paused; unpause it first: docker unpause {}", app.name);
    stack.cofferdam(&["backup"]).expect_says(1, &words);
    assert_eq!(stack.manifests().len(), 1);
    drop(app);

    let allowed = before.each_ref().map(|it| format!("{it}.when-stopped"));
    let allowed = [(&*allowed[0], "skip"), (&*allowed[1], "skip")];
    let app = stack.toolbox("app", &[hooks, allowed.to_vec()].concat(), &[]);
    app.sh("echo saved > /srv/word");
    docker(["stop", &app.id]);
    stack.cofferdam(&["backup"]).expect(0);
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert!(is_running(&db) && !is_running(&app));
}

#[test]
fn a_bad_before_hook_ends_a_backup_before_anything_is_stopped() {
    for (command, words) in BAD {
        let stack = TestStack::new("hook-before");
        let app = app(&stack, "backup", "before-backup", command);
        let (before, after) = (note("before"), note("after"));
        let hooks = [
            ("cofferdam.hook.before-backup", before.as_str()),
            ("cofferdam.hook.after-backup", after.as_str()),
        ];
        let later = later(&stack, &hooks);
        let lives = [&app, &later].map(|it| it.inspect("{{.State.StartedAt}}"));

        let started = Instant::now();
        stack.cofferdam(&["backup"]).expect_says(1, words);
        assert!(started.elapsed() < Duration::from_secs(30), "{command}");

        assert_eq!(
            lives,
            [&app, &later].map(|it| it.inspect("{{.State.StartedAt}}"))
        );
        assert_eq!(lines_of(&app), "failed failed\nafter failed", "{command}");
        assert_eq!(lines_of(&later), "", "its turn never came");
        let listed = stack.cofferdam(&["list", "--json"]).expect(0).json();
        assert_eq!(listed, serde_json::json!([]), "{command}");
        stack.ensure_nothing_is_left();
    }
}

#[test]
fn a_bad_before_hook_ends_a_restore_before_anything_is_touched() {
    for (command, words) in BAD {
        let stack = TestStack::new("hook-before");
        let app = app(&stack, "restore", "before-restore", command);
        stack.cofferdam(&["backup"]).expect(0);
        app.sh("echo present > /srv/word");
        let life = app.inspect("{{.State.StartedAt}}");

        stack
            .cofferdam(&["restore", "latest", "--yes"])
            .expect_says(1, words);
        assert_eq!(app.sh("cat /srv/word"), "present", "{command}");
        assert_eq!(app.inspect("{{.State.StartedAt}}"), life);
        assert_eq!(lines_of(&app), "failed failed\nafter failed", "{command}");
        stack.ensure_nothing_is_left();
    }
}

#[test]
fn a_bad_after_hook_leaves_what_is_done_and_is_told() {
    for (command, words) in BAD {
        let stack = TestStack::new("hook-after");
        let app = app(&stack, "backup", "after-backup", command);
        stack.cofferdam(&["backup"]).expect_says(3, words);
        assert_eq!(
            stack.manifest()["targets"].as_array().map(Vec::len),
            Some(1)
        );
        assert!(is_running(&app));
        assert_eq!(lines_of(&app), "", "the backup itself has not failed");
        drop(app);

        let app = self::app(&stack, "restore", "after-restore", command);
        let later = later(&stack, &[]);
        app.sh("echo present > /srv/word");
        stack
            .cofferdam(&["restore", "latest", "--yes"])
            .expect_says(3, words)
            .expect_says(3, &format!("docker start {}", later.name));
        assert_eq!(app.sh("cat /srv/word"), "saved", "{command}");
        assert!(is_running(&app), "{command}");
        assert!(!is_running(&later), "it depends on what has failed");
        stack.ensure_nothing_is_left();
    }
}

#[test]
fn a_failed_hook_that_goes_wrong_itself_hides_nothing() {
    for (command, words) in BAD {
        let stack = TestStack::new("hook-failed");
        let app = app(&stack, "backup", "failed-backup", command);
        app.sh("rm /srv/word");
        stack
            .cofferdam(&["backup"])
            .expect_says(1, "/srv/word does not exist")
            .expect_says(1, words);
        assert_eq!(lines_of(&app), "after failed", "{command}");
        assert!(is_running(&app));
        stack.ensure_nothing_is_left();
    }
}

/// A user that the container does not have.
#[test]
fn a_hook_of_a_user_who_is_not_there_fails_like_any_other() {
    let stack = TestStack::new("hook-user");
    let labels = [
        FILES,
        ("cofferdam.hook.before-backup", "true"),
        ("cofferdam.hook.before-backup.user", "nobody-here"),
    ];
    let app = stack.toolbox("app", &labels, &[]);
    app.sh("echo saved > /srv/word");
    stack.cofferdam(&["backup"]).expect_says(1, "nobody-here");
    stack.ensure_nothing_is_left();
}

/// Counts what still runs of the program that hooks hang in.
const COUNT: &str = "grep -lsx hangs /proc/[0-9]*/comm | wc -l";

/// A service whose `before-backup` hook is `command`, and whose `after-backup` hook notes how many of [`COUNT`] there are.
fn hanging(stack: &TestStack, command: &str, more: &[(&str, &str)]) -> TestContainer {
    let after = format!("sh -c '{COUNT} >> /srv/log'");
    let labels = [
        FILES,
        ("cofferdam.hook.before-backup", command),
        ("cofferdam.hook.after-backup", &after),
    ];
    let app = stack.toolbox("app", &[&labels[..], more].concat(), &[]);
    app.sh("echo saved >/srv/word; cp /bin/sleep /usr/local/bin/hangs");
    app
}

#[test]
fn a_hook_whose_time_is_over_is_ended_with_what_it_started_before_the_next_one_runs() {
    let limit = ("cofferdam.hook.before-backup.timeout", "2s");
    let user = ("cofferdam.hook.before-backup.user", "65534:65534");
    let deaf = "sh -c 'trap \"\" TERM; setsid hangs 1000 & env -i /usr/local/bin/hangs 1001 & hangs 1002; true'";
    for (command, more) in [
        (deaf, &[limit][..]),
        ("sh -c 'hangs 1000 & hangs 1001'", &[limit, user]),
    ] {
        let stack = TestStack::new("hook-hangs");
        let app = hanging(&stack, command, more);
        let run = stack.cofferdam(&["backup"]);
        let run = run.expect_says(1, "did not end within 2s");
        assert!(!run.stderr.contains("may still be running"), "{run:?}");
        assert_eq!(lines_of(&app), "0", "{command}");
        stack.ensure_nothing_is_left();
    }
}

/// It has thrown away the mark by which it would be found.
#[test]
fn a_hook_that_cannot_be_ended_is_said_to_run_on() {
    let stack = TestStack::new("hook-unmarked");
    let limit = ("cofferdam.hook.before-backup.timeout", "2s");
    let app = hanging(&stack, "env -i /usr/local/bin/hangs 1000", &[limit]);
    let words = "may still be running: the process is still running";
    stack.cofferdam(&["backup"]).expect_says(1, words);
    assert_eq!(lines_of(&app), "1");
    stack.ensure_nothing_is_left();
}

#[test]
fn a_hook_that_is_interrupted_is_ended_too() {
    let stack = TestStack::new("hook-interrupted");
    let app = hanging(&stack, "sh -c 'hangs 1000 & hangs 1001'", &[]);
    let mut child = stack.start(&["backup"]);
    eventually("the hook hangs", || app.sh(COUNT) == "2");
    terminate(&child);
    assert_eq!(child.wait().expect("wait").code(), Some(130));
    assert_eq!(lines_of(&app), "0");
    stack.ensure_nothing_is_left();
}

/// It lives on, and what it may still print is no matter of the hook.
#[test]
fn a_hook_may_leave_something_that_goes_on() {
    let stack = TestStack::new("hook-leaves");
    let app = hanging(&stack, "sh -c 'hangs 1000 & echo started'", &[]);
    stack.cofferdam(&["backup"]).expect(0);
    assert_eq!(lines_of(&app), "1");
}

#[test]
fn what_a_failed_hook_printed_holds_no_secret_of_its_container() {
    for stream in ["1", "2"] {
        let stack = TestStack::new("hook-secret");
        let command = format!("sh -c 'echo as $APP_PASSWORD >&{stream}; exit 7; : {PASSWORD}'");
        let labels = [FILES, ("cofferdam.hook.before-backup", &*command)];
        let password = format!("APP_PASSWORD={PASSWORD}");
        let app = stack.toolbox("app", &labels, &["--env", &password]);
        app.sh("echo saved >/srv/word");
        let run = stack.cofferdam(&["backup"]).expect_says(1, "as [redacted]");
        assert!(!run.stderr.contains(PASSWORD), "{run:?}");
    }
}
