//! What real runs tell, and whom they do not wait for.

use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::listener::Answer::{Hang, Say};
use crate::support::listener::{Heard, Listener};
use crate::support::stack::{Run, TestStack, eventually};

/// What people were told of backups and checks.
fn told(listener: &Listener) -> Vec<String> {
    let heard = listener.heard().into_iter();
    let people = heard.filter(|one| one.line == "POST /people");
    let document = |one: &str| serde_json::from_str::<serde_json::Value>(one).unwrap();
    let kinds = people.map(|one| document(&one.body)["kind"].as_str().unwrap().to_owned());
    kinds.filter(|kind| kind != "news").collect()
}

fn pings(listener: &Listener) -> Vec<String> {
    let lines = listener.lines().into_iter();
    let pings = lines.filter(|line| line.starts_with("POST /check"));
    pings
        .map(|line| line.trim_start_matches("POST ").to_owned())
        .collect()
}

/// A store whose dump fails until it is mended.
const FRAGILE: (&str, &str) = (
    "cofferdam.command.fragile.dump",
    "sh -c 'test -e /tmp/mended && echo saved'",
);

const OFTEN: [&str; 2] = ["--schedule", "*/2 * * * * *"];

fn urls(listener: &Listener) -> (&'static str, String) {
    let port = listener.port;
    let urls = format!("generic+http://127.0.0.1:{port}/people,hc+http://127.0.0.1:{port}/check");
    ("COFFERDAM_NOTIFY", urls)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_tells_of_a_failure_and_once_that_it_is_over() {
    let listener = Listener::answering(&[Say(200, "OK")]).await;
    let stack = TestStack::new("recovery");
    let store = stack.toolbox("store", &[FRAGILE], &[]);
    let daemon = Daemon::start_with(&stack, &OFTEN, &[urls(&listener)]);
    eventually("two failures", || told(&listener).len() >= 2);
    store.sh("touch /tmp/mended");
    let whole = |listener: &Listener| {
        let pings = pings(listener);
        pings.iter().filter(|ping| *ping == "/check").count()
    };
    eventually("two successes", || whole(&listener) >= 2);
    daemon.stop_anywhere();

    let told = told(&listener);
    let (last, before) = told.split_last().unwrap();
    assert_eq!(last, "recovery");
    assert!(before.iter().all(|kind| kind == "failure"), "{told:?}");
    let pings = pings(&listener);
    let (runs, _) = pings.as_chunks::<2>();
    for [start, end] in runs {
        assert_eq!(start, "/check/start", "{pings:?}");
        assert!(
            ["/check", "/check/fail"].contains(&end.as_str()),
            "{pings:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_failure_is_over_is_told_by_a_daemon_that_has_begun_since() {
    let listener = Listener::answering(&[Say(200, "OK")]).await;
    let stack = TestStack::new("later");
    let conf = ("cofferdam.files.conf", "/etc/debian_version");
    let store = stack.toolbox("store", &[FRAGILE, conf], &[]);
    let daemon = Daemon::start_with(&stack, &OFTEN, &[urls(&listener)]);
    let has = |kind: &str| told(&listener).iter().any(|told| told == kind);
    eventually("a failure", || has("failure"));
    daemon.stop_anywhere();
    store.sh("touch /tmp/mended");

    let daemon = Daemon::start_with(&stack, &OFTEN, &[urls(&listener)]);
    let recovered = |one: &Heard| one.line == "POST /people" && one.body.contains("(recovered)");
    let count = || listener.heard().iter().filter(|one| recovered(one)).count();
    eventually("a recovery", || count() > 0);
    std::thread::sleep(Duration::from_secs(5));
    daemon.stop_anywhere();
    assert_eq!(count(), 1, "{:?}", listener.heard());
}

/// One sign of life is for everything that a daemon saves.
#[tokio::test(flavor = "multi_thread")]
async fn the_success_of_one_service_hides_no_failure_of_another() {
    let listener = Listener::answering(&[Say(200, "OK")]).await;
    let stack = TestStack::new("shadow");
    let store = stack.toolbox("store", &[FRAGILE], &[]);
    let conf = ("cofferdam.files.conf", "/etc/debian_version");
    let own_time = ("cofferdam.schedule", "1-59/2 * * * * *");
    let _app = stack.toolbox("app", &[conf, own_time], &[]);
    let variables = [
        urls(&listener),
        ("COFFERDAM_NOTIFY_ON", "failure,success".to_owned()),
    ];
    let daemon = Daemon::start_with(&stack, &OFTEN, &variables);
    let since_failure = |listener: &Listener| -> Vec<Heard> {
        let heard = listener.heard().into_iter();
        heard
            .skip_while(|one| one.line != "POST /check/fail")
            .collect()
    };
    let is_success = |one: &Heard| one.body.contains(r#""kind":"success""#);
    eventually("a success after a failure", || {
        since_failure(&listener).iter().any(is_success)
    });
    let heard = since_failure(&listener);
    let success = heard.iter().find(|one| is_success(one)).unwrap();
    assert!(
        success.body.contains("not saved, or only in part: store"),
        "{success:?}"
    );
    let lines: Vec<&str> = heard.iter().map(|one| one.line.as_str()).collect();
    assert!(!lines.contains(&"POST /check"), "{lines:?}");

    store.sh("touch /tmp/mended");
    eventually("all is well", || {
        since_failure(&listener)
            .iter()
            .any(|one| one.line == "POST /check")
    });
    daemon.stop_anywhere();
}

/// The first check finds what a run before the daemon's time has left out, and the one after the next run finds it mended.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_check_finds_is_told_and_once_that_it_is_over() {
    let listener = Listener::answering(&[Say(200, "OK")]).await;
    let stack = TestStack::new("stale");
    let store = stack.toolbox(
        "store",
        &[FRAGILE, ("cofferdam.files.conf", "/etc/debian_version")],
        &[],
    );
    stack.cofferdam(&["backup"]).expect(3);
    let arguments = ["--schedule", "*/10 * * * * *"];
    let daemon = Daemon::start_with(&stack, &arguments, &[urls(&listener)]);
    let has = |kind: &str| told(&listener).iter().any(|told| told == kind);
    eventually("the check has found it", || has("stale"));
    store.sh("touch /tmp/mended");
    eventually("it is over", || has("recovery"));
    std::thread::sleep(Duration::from_secs(8));
    daemon.stop_anywhere();
    let told = told(&listener);
    assert_eq!(
        told.last().map(String::as_str),
        Some("recovery"),
        "{told:?}"
    );
    let mended = |one: &&Heard| one.body.contains("backups are in order again");
    let heard = listener.heard();
    let people = heard.iter().filter(|one| one.line == "POST /people");
    assert_eq!(people.filter(mended).count(), 1, "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_answer_keeps_no_backup_of_the_daemon_waiting() {
    let listener = Listener::answering(&[Hang]).await;
    let stack = TestStack::new("silent");
    let _app = stack.toolbox(
        "app",
        &[("cofferdam.files.conf", "/etc/debian_version")],
        &[],
    );
    let mail = [
        ("COFFERDAM_MAIL_TO", "ops@example.org".to_owned()),
        ("COFFERDAM_MAIL_FROM", "cofferdam@example.org".to_owned()),
        (
            "COFFERDAM_SMTP_URL",
            format!("smtp://127.0.0.1:{}", listener.port),
        ),
        ("COFFERDAM_NOTIFY_ON", "success".to_owned()),
    ];
    let variables = [&[urls(&listener)], &mail[..]].concat();
    let daemon = Daemon::start_with(&stack, &OFTEN, &variables);
    let start = Instant::now();
    eventually("three snapshots", || {
        let snapshots = std::fs::read_dir(stack.repository().join(&stack.project));
        snapshots.is_ok_and(|snapshots| snapshots.count() >= 3)
    });
    // One beginning that nobody hears takes ten seconds, one end half a minute.
    let limit = Duration::from_secs(30);
    assert!(start.elapsed() < limit, "{:?}", start.elapsed());
    let start = Instant::now();
    let run = daemon.stop_anywhere();
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    let unsaid = format!(
        "this notification is not sent: {}: backup complete",
        stack.project
    );
    assert!(run.stderr.contains(&unsaid), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_ends_well_and_in_time_when_nobody_answers() {
    let silent = Listener::answering(&[Hang]).await;
    let stack = TestStack::new("deaf");
    let _app = stack.toolbox(
        "app",
        &[("cofferdam.files.conf", "/etc/debian_version")],
        &[],
    );
    let start = Instant::now();
    let mut command = stack.command(&["backup", "--json", "--notify-on", "success"]);
    command.envs([urls(&silent)]);
    let run = Run::from(command.output().expect("cofferdam")).expect(0);
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
    let given_up = format!(
        "generic+http://127.0.0.1:{} did not accept the notification in 3 attempts: it did not answer in time",
        silent.port
    );
    assert!(run.stderr.contains(&given_up), "{run:?}");
    assert_eq!(run.json().as_array().map(Vec::len), Some(1));
    assert_eq!(
        stack
            .cofferdam(&["list", "--json"])
            .json()
            .as_array()
            .map(Vec::len),
        Some(1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_pass_does_not_keep_a_backup_from_being_told() {
    let listener = Listener::answering(&[Say(500, ""), Say(200, "")]).await;
    let stack = TestStack::new("retry");
    let _app = stack.toolbox(
        "app",
        &[("cofferdam.files.conf", "/etc/debian_version")],
        &[],
    );
    let url = format!("generic+http://127.0.0.1:{}/people", listener.port);
    let run = stack.cofferdam(&["backup", "--notify", &url, "--notify-on", "success"]);
    let run = run.expect(0);
    assert!(!run.stderr.contains("did not accept"), "{run:?}");
    assert_eq!(told(&listener), ["success", "success"]);
}

#[tokio::test]
async fn a_backup_is_watched_from_its_beginning_to_its_end() {
    let listener = Listener::answering(&[Say(200, "OK")]).await;
    let stack = TestStack::new("notify");
    let project = stack.project.clone();
    let _app = stack.toolbox(
        "app",
        &[
            ("cofferdam.postgres", "shop"),
            ("cofferdam.files.conf", "/etc/debian_version"),
        ],
        &[],
    );
    let urls = format!(
        "generic+http://127.0.0.1:{0}/people\nhc+http://127.0.0.1:{0}/check",
        listener.port
    );
    let runs = tokio::task::spawn_blocking(move || {
        let backup = |arguments: &[&str]| -> Run {
            let mut command = stack.command(arguments);
            command.env("COFFERDAM_NOTIFY", &urls);
            command.output().expect("cofferdam").into()
        };
        backup(&["backup", "app/files/*"]).expect(0);
        backup(&["backup"]).expect(3);
        backup(&["backup", "app/files/*", "--notify-on", "success"]).expect(0);
    });
    runs.await.unwrap();
    let heard = listener.heard();
    let pings: Vec<&str> = heard
        .iter()
        .map(|one| one.line.as_str())
        .filter(|line| line.contains("/check"))
        .collect();
    assert_eq!(
        pings,
        [
            "POST /check/start",
            "POST /check",
            "POST /check/start",
            "POST /check/fail",
            "POST /check/start",
            "POST /check"
        ]
    );
    let told: Vec<serde_json::Value> = heard
        .iter()
        .filter(|one| one.line == "POST /people")
        .map(|one| serde_json::from_str(&one.body).unwrap())
        .collect();
    let (first, told) = told.split_first().unwrap();
    let targets = "1 target saved in a new repository";
    assert_eq!(
        first["title"],
        format!("{project}: backup complete, {targets}")
    );
    assert_eq!(told.len(), 2, "{heard:?}");
    assert_eq!(told[0]["kind"], "failure");
    assert_eq!(
        told[0]["title"],
        format!("{project}: backup incomplete, 1 target failed")
    );
    assert_eq!(told[0]["projects"], serde_json::json!([project]));
    assert_eq!(told[0]["failed"].as_array().unwrap().len(), 1);
    assert_eq!(told[0]["snapshots"].as_array().unwrap().len(), 1);
    assert_eq!(told[1]["kind"], "success");
    assert!(told[1]["stored_bytes"].as_u64().unwrap() > 0, "{}", told[1]);
}
