//! The daemon, on a real engine: what is due is saved, and what it is told by events (rows I11, D7, D8).

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::stack::{Run, TestStack, compose_volume, eventually, is_running};
use crate::support::{
    TEST_LABEL, TestContainer, TestImage, TestVolume, busybox_image, docker, docker_succeeds,
    program,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// Long enough for anything that would happen to have happened.
const A_WHILE: Duration = Duration::from_secs(6);

/// A service with a volume of its own, in which one file lies.
struct Store {
    container: TestContainer,
    _volume: TestVolume,
}

fn store(stack: &TestStack, service: &str, labels: &[(&str, &str)]) -> Store {
    let volume = compose_volume(stack, service);
    let mount = format!("{}:/data", volume.name);
    let all = [&[("cofferdam.volumes", service)], labels].concat();
    let container = stack.toolbox(service, &all, &["--volume", &mount]);
    container.sh("echo saved > /data/word");
    Store {
        container,
        _volume: volume,
    }
}

/// The services that a snapshot holds.
fn services(manifest: &Value) -> Vec<String> {
    let targets = manifest["targets"].as_array().expect("targets").iter();
    let service = |target: &Value| {
        let id = target["target"].as_str().expect("an id");
        id.split('/').next().unwrap_or_default().to_owned()
    };
    let mut services: Vec<String> = targets.map(service).collect();
    services.sort();
    services
}

/// A pattern for one moment of today, and that moment.
fn once_in(seconds: i64) -> (String, Timestamp) {
    let then = Timestamp::now() + SignedDuration::from_secs(seconds);
    let clock = then.to_zoned(jiff::tz::TimeZone::UTC);
    let pattern = format!(
        "{} {} {} * * *",
        clock.second(),
        clock.minute(),
        clock.hour()
    );
    (pattern, then)
}

fn wait_until(moment: Timestamp) {
    let left = moment.duration_since(Timestamp::now());
    std::thread::sleep(Duration::try_from(left).unwrap_or_default());
}

#[test]
fn what_is_due_is_saved_with_the_labels_that_are_there_by_then() {
    let stack = TestStack::new("daemon");
    let _db = store(&stack, "db", &[]);
    let daemon = Daemon::start(&stack, &["--schedule", "*/2 * * * * *"]);
    eventually("a snapshot", || !stack.manifests().is_empty());
    assert_eq!(services(&stack.manifests()[0]), ["db"]);

    let _web = store(&stack, "web", &[]);
    eventually("a snapshot of both", || {
        let manifests = stack.manifests();
        services(manifests.last().expect("a manifest")) == ["db", "web"]
    });
    assert!(daemon.stop_anywhere().stderr.contains("backed up"));
    stack.ensure_nothing_is_left();
}

/// Row D7: logs have a schedule of their own.
#[test]
fn each_service_goes_by_its_own_schedule() {
    let stack = TestStack::new("schedules");
    let _db = store(&stack, "db", &[("cofferdam.schedule", "off")]);
    let _logs = store(&stack, "logs", &[("cofferdam.schedule", "*/2 * * * * *")]);
    let _web = store(&stack, "web", &[]);
    let daemon = Daemon::start(&stack, &["--schedule", "@yearly"]);
    eventually("two snapshots", || stack.manifests().len() >= 2);
    for manifest in stack.manifests() {
        assert_eq!(services(&manifest), ["logs"]);
        assert_eq!(manifest["selection"], serde_json::json!(["logs/*"]));
    }
    daemon.stop_anywhere();
}

#[test]
fn what_was_missed_is_made_up_for_once() {
    let stack = TestStack::new("missed");
    let _db = store(&stack, "db", &[]);
    let (pattern, due) = once_in(3);
    stack.cofferdam(&["backup"]).expect(0);
    wait_until(due + SignedDuration::from_secs(1));

    let arguments = ["--schedule", &pattern];
    let daemon = Daemon::start(&stack, &arguments);
    eventually("it is made up for", || stack.manifests().len() == 2);
    std::thread::sleep(A_WHILE);
    daemon.stop().expect(0);

    let daemon = Daemon::start(&stack, &arguments);
    std::thread::sleep(A_WHILE);
    daemon.stop().expect(0);
    assert_eq!(stack.manifests().len(), 2);
}

#[test]
fn the_first_backup_waits_for_its_time_but_an_interval_begins_at_once() {
    let stack = TestStack::new("first");
    let _db = store(&stack, "db", &[]);
    let daemon = Daemon::start(&stack, &["--schedule", "@yearly"]);
    std::thread::sleep(A_WHILE);
    daemon.stop().expect_says(0, "the next backup is due at");
    assert!(stack.manifests().is_empty());

    let daemon = Daemon::start(&stack, &["--schedule", "every 1h"]);
    eventually("a snapshot", || stack.manifests().len() == 1);
    std::thread::sleep(A_WHILE);
    daemon.stop().expect(0);
    assert_eq!(stack.manifests().len(), 1);
}

/// Row D8: a backup after each ingest, and only after one that went well.
#[test]
fn a_container_that_has_done_its_work_triggers_a_backup() {
    let stack = TestStack::new("trigger");
    let _db = store(&stack, "db", &[]);
    let ingest = |code: &str| {
        let labels = [("cofferdam.trigger", "exit")];
        let exit = format!("sleep 2; exit {code}");
        let command = [busybox_image(), "sh", "-c", &exit];
        stack.service("ingest", &labels, &[], &command)
    };
    let off = ["--schedule", "off"];
    let daemon = Daemon::start(&stack, &off);
    std::thread::sleep(A_WHILE);
    assert!(stack.manifests().is_empty());
    {
        let failed = ingest("1");
        eventually("it has failed", || !is_running(&failed));
        std::thread::sleep(A_WHILE);
        assert!(stack.manifests().is_empty());
    }
    {
        let _done = ingest("0");
        eventually("a snapshot", || stack.manifests().len() == 1);
        std::thread::sleep(A_WHILE);
        assert_eq!(stack.manifests().len(), 1);
        daemon.stop().expect_says(0, "exited with 0");
    }

    // While nobody was there to hear of it.
    let done = ingest("0");
    eventually("it has ended", || !is_running(&done));
    for _ in 0..2 {
        let daemon = Daemon::start(&stack, &off);
        eventually("a second snapshot", || stack.manifests().len() == 2);
        std::thread::sleep(A_WHILE);
        daemon.stop().expect(0);
    }
    assert_eq!(stack.manifests().len(), 2);
}

#[test]
fn a_backup_that_another_run_keeps_waiting_is_made_after_it() {
    let stack = TestStack::new("busy");
    let hook = ("cofferdam.hook.before-backup", "sleep 5");
    let _db = store(&stack, "db", &[hook, ("cofferdam.schedule", "off")]);
    let daemon = Daemon::start(&stack, &[]);
    let first = stack.start(&["backup"]);
    let held = format!("label=cofferdam.hold={}", stack.project);
    eventually("the first run holds the project", || {
        !docker(["ps", "--all", "--quiet", "--filter", &held]).is_empty()
    });
    let _ingest = stack.service(
        "ingest",
        &[("cofferdam.trigger", "exit")],
        &[],
        &[busybox_image(), "true"],
    );
    Run::from(first.wait_with_output().expect("its output")).expect(0);
    eventually("a second snapshot", || stack.manifests().len() == 2);
    daemon
        .stop()
        .expect_says(0, "waiting for another run to end");
}

#[test]
fn two_daemons_of_one_project_make_one_backup() {
    let stack = TestStack::new("two");
    let hook = ("cofferdam.hook.before-backup", "sleep 5");
    let _db = store(&stack, "db", &[hook]);
    let daemons = [(); 2].map(|()| Daemon::start(&stack, &["--schedule", "every 1h"]));
    eventually("a snapshot", || !stack.manifests().is_empty());
    // The other one tries again after ten seconds.
    std::thread::sleep(Duration::from_secs(15));
    let said = daemons.map(|daemon| daemon.stop().expect(0).stderr);
    assert_eq!(stack.manifests().len(), 1, "{said:?}");
    stack.ensure_nothing_is_left();
}

/// Row C3.
#[test]
fn what_is_no_good_backup_any_more_is_told_and_so_is_that_it_is_mended() {
    let stack = TestStack::new("checks");
    let _db = store(&stack, "db", &[]);
    stack.cofferdam(&["backup"]).expect(0);
    let object = stack.newest_snapshot().join("db.volume.db.tar.zst");
    std::fs::remove_file(object).expect("an object");
    let status = || {
        let directory = stack.repository().join("status").join(&stack.project);
        let file = std::fs::read(directory.join("db.volume.db.json")).ok()?;
        let status: Value = serde_json::from_slice(&file).expect("JSON");
        Some(status["state"].as_str()?.to_owned())
    };
    let daemon = Daemon::start(&stack, &["--schedule", "off"]);
    eventually("the check says so", || {
        status().as_deref() == Some("damaged")
    });
    let _ingest = stack.service(
        "ingest",
        &[("cofferdam.trigger", "exit")],
        &[],
        &[busybox_image(), "true"],
    );
    eventually("the next one is good", || status().as_deref() == Some("ok"));
    // What is in the status files is told after they are written.
    std::thread::sleep(Duration::from_secs(2));
    let run = daemon.stop().expect_says(0, "1 backup damaged");
    run.expect_says(0, "backups are in order again");
}

/// What it holds cannot start, since somebody has taken its directory away: the next run is not put off for ever.
#[test]
fn what_could_not_start_again_is_recovered_by_the_next_run() {
    let stack = TestStack::new("stuck");
    let place = stack.directory.path().join("place");
    std::fs::create_dir(&place).expect("a directory");
    let mount = format!("type=bind,source={},target=/place", place.display());
    let app = stack.toolbox("app", &[("cofferdam.stop", "backup")], &["--mount", &mount]);
    let dump = [(
        "cofferdam.command.slow.dump",
        "sh -c 'until test -e /tmp/quick; do sleep 0.2; done; echo saved'",
    )];
    let slow = stack.toolbox("slow", &dump, &[]);
    let daemon = Daemon::start(&stack, &["--schedule", "*/2 * * * * *"]);
    eventually("the app is stopped", || !is_running(&app));
    std::fs::remove_dir(&place).expect("it was empty");
    slow.sh("touch /tmp/quick");
    eventually("a snapshot", || stack.manifests().len() == 1);
    std::thread::sleep(A_WHILE);
    assert_eq!(stack.manifests().len(), 1, "the app is down");
    std::fs::create_dir(&place).expect("a directory");
    eventually("the app is back", || is_running(&app));
    eventually("the next snapshot", || stack.manifests().len() > 1);
    let said = daemon.stop_anywhere().stderr;
    assert!(said.contains("recovering a backup"), "{said}");
    stack.ensure_nothing_is_left();
}

#[test]
fn stopped_in_the_middle_it_releases_what_it_holds_and_makes_it_up_later() {
    let stack = TestStack::new("stopped");
    let app = stack.toolbox("app", &[("cofferdam.stop", "backup")], &[]);
    let dump = [(
        "cofferdam.command.slow.dump",
        "sh -c 'test -e /tmp/quick || sleep 60; echo saved'",
    )];
    let slow = stack.toolbox("slow", &dump, &[]);
    let (pattern, _) = once_in(4);
    let arguments = ["--schedule", &pattern];
    let daemon = Daemon::start(&stack, &arguments);
    eventually("the app is stopped", || !is_running(&app));
    let asked = Instant::now();
    daemon.ask_to_stop();
    daemon.wait().expect(130);
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "an engine waits no longer"
    );
    assert!(is_running(&app));
    stack.ensure_nothing_is_left();
    assert!(stack.manifests().is_empty());

    slow.sh("touch /tmp/quick");
    // There is no snapshot that would tell of a run, so the time of the pattern has to come again.
    let (pattern, _) = once_in(4);
    let daemon = Daemon::start(&stack, &["--schedule", &pattern]);
    eventually("a snapshot", || stack.manifests().len() == 1);
    daemon.stop().expect(0);
}

#[test]
fn what_is_wrong_from_the_start_ends_it() {
    let stack = TestStack::new("wrong");
    let _db = store(&stack, "db", &[("cofferdam.schedule", "@weekley")]);
    let run = |arguments: &[&str]| stack.cofferdam(&[&["daemon"], arguments].concat());
    run(&["--schedule", "0 25 * * *"]).expect_says(2, "--schedule is `0 25 * * *`");
    run(&["--time-zone", "Mars/Olympus"]).expect_says(2, "not a time zone");
    run(&[]).expect_says(2, "did you mean `@weekly`?");
}

/// As a service of the stack: not root, nothing to write to, process 1, and in a project that it finds by itself.
#[test]
fn it_runs_as_a_container_without_rights_and_tells_how_it_is() {
    let stack = TestStack::new("sidecar");
    let db = store(&stack, "db", &[]);
    let image = sidecar_image();
    let backups = compose_volume(&stack, "backups");
    let mount = format!("{}:/backups", backups.name);
    docker([
        "run",
        "--rm",
        "--volume",
        &mount,
        busybox_image(),
        "chown",
        "1000:1000",
        "/backups",
    ]);
    let socket_group = socket_group();
    let options = [
        "--user",
        "1000:1000",
        "--group-add",
        &socket_group,
        "--read-only",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        "--volume",
        "/var/run/docker.sock:/var/run/docker.sock",
        "--volume",
        &mount,
    ];
    let command = ["/cofferdam", "daemon", "--schedule", "every 1h"];
    let sidecar = stack.service(
        "cofferdam",
        &[],
        &options,
        &[&[&*image.name], &command[..]].concat(),
    );
    let health = ["exec", &sidecar.id, "/cofferdam", "health"];
    eventually("it is well", || docker_succeeds(health));
    let list = ["exec", &sidecar.id, "/cofferdam", "list", "--json"];
    eventually("it has saved the stack", || {
        let listed: Value = serde_json::from_str(&docker(list)).expect("JSON");
        !listed.as_array().expect("snapshots").is_empty()
    });
    assert!(is_running(&db.container));

    // In a container of no project, all projects are looked at.
    let alone = ["run", "--rm", "--label", TEST_LABEL]
        .iter()
        .chain(&options);
    let list = [&*image.name, "/cofferdam", "list", "--json"];
    let alone = alone.chain(&list);
    let listed: Value = serde_json::from_str(&docker(alone)).expect("JSON");
    assert_eq!(listed[0]["project"], *stack.project);

    // What an exec leaves behind is not left as a zombie.
    docker(["exec", &sidecar.id, "sh", "-c", "sleep 1 & exec true"]);
    std::thread::sleep(Duration::from_secs(3));
    let processes = docker(["exec", &sidecar.id, "ps", "-o", "stat,comm"]);
    assert!(!processes.contains('Z'), "{processes}");

    docker(["stop", &sidecar.id]);
    assert_eq!(sidecar.inspect("{{.State.ExitCode}}"), "0");
    assert!(!docker_succeeds(health));
}

#[test]
fn one_that_may_not_use_the_socket_says_what_to_do() {
    let image = sidecar_image();
    let mut command = Command::new("docker");
    command
        .args(["run", "--rm", "--user", "1000:1000", "--label", TEST_LABEL])
        .args(["--volume", "/var/run/docker.sock:/var/run/docker.sock"])
        .args([&*image.name, "/cofferdam", "daemon"]);
    let run = Run::from(command.output().expect("docker"));
    run.expect_says(1, &format!("--group-add {}", socket_group()));
}

/// The program, and a shell to look round with.
fn sidecar_image() -> TestImage {
    let container = TestContainer::create(&[], &[busybox_image(), "true"]);
    let target = format!("{}:/cofferdam", container.id);
    docker(["cp", program(), &target]);
    TestImage::of(&container)
}

fn socket_group() -> String {
    use std::os::unix::fs::MetadataExt as _;
    let socket = std::fs::metadata("/var/run/docker.sock").expect("the engine's socket");
    socket.gid().to_string()
}

#[test]
fn nobody_to_ask_is_an_error_that_says_whom() {
    let asked = Command::new("unshare")
        .args(["--net", program(), "health"])
        .stdin(Stdio::null())
        .output();
    Run::from(asked.expect("unshare")).expect_says(1, "no daemon answers here");
}
