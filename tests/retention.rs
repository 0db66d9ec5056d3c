//! Retention with real files: real backups, copied to other days as if they had been taken then, and pruned by the real
//! program. Tests with a row's name show what an administrator of such a system needs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use crate::support::proxy::{Fault, FaultProxy};
use crate::support::stack::{Run, TestStack, compose_volume, eventually};
use crate::support::{TestContainer, docker_succeeds, program};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

/// There is no engine.
const NO_ENGINE: &str = "none";

/// A project whose one service keeps its files in `/data`.
struct Files {
    stack: TestStack,
    app: TestContainer,
}

impl Files {
    fn start(labels: &[(&str, &str)]) -> Self {
        let stack = TestStack::new("retention");
        let mut all = vec![
            ("cofferdam.files.data", "/data"),
            ("cofferdam.files.conf", "/etc/debian_version"),
        ];
        all.extend(labels);
        let app = stack.toolbox("app", &all, &[]);
        app.sh("mkdir /data && head -c 1000000 /dev/urandom > /data/file");
        Self { stack, app }
    }
}

fn day(days_ago: i64) -> Date {
    static TODAY: LazyLock<Date> = LazyLock::new(|| date_of(Timestamp::now()));
    *TODAY - days_ago.days()
}

fn date_of(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

/// The snapshot in `source`, once more, as if it had been taken at 02:00 of a day.
fn copy_to(source: &Path, day: Date) {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let old = name(source);
    let new = format!("{}T020000Z-{}", day.strftime("%Y%m%d"), &old[17..]);
    let place = source.parent().unwrap().join(&new);
    fs::create_dir(&place).unwrap();
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        if name(&path) != "manifest.json" {
            fs::copy(&path, place.join(name(&path))).unwrap();
        }
    }
    let text = fs::read_to_string(source.join("manifest.json")).unwrap();
    let mut manifest: Value = serde_json::from_str(&text.replace(&old, &new)).unwrap();
    manifest["started"] = json!(format!("{day}T02:00:00Z"));
    manifest["finished"] = json!(format!("{day}T02:01:00Z"));
    manifest.as_object_mut().unwrap().remove("by_hand");
    fs::write(place.join("manifest.json"), manifest.to_string()).unwrap();
}

fn copy_to_days_before(source: &Path, days_ago: impl Iterator<Item = i64>) {
    days_ago.for_each(|days_ago| copy_to(source, day(days_ago)));
}

/// The program where only the repository can be reached.
fn away(stack: &TestStack, arguments: &[&str]) -> Run {
    let mut command = stack.command(arguments);
    command.env("DOCKER_HOST", NO_ENGINE);
    command.output().expect("cofferdam").into()
}

fn manifests(stack: &TestStack) -> Vec<Value> {
    let listed = stack.cofferdam(&["list", "--json"]).expect(0).json();
    listed.as_array().unwrap().clone()
}

/// On which days the snapshots were taken that hold something of this service.
fn days_of(stack: &TestStack, service: &str) -> BTreeSet<Date> {
    let of_service = |manifest: &Value| {
        let mut targets = manifest["targets"].as_array().unwrap().iter();
        let prefix = format!("{service}/");
        targets.any(|record| record["target"].as_str().unwrap().starts_with(&prefix))
    };
    let manifests = manifests(stack);
    let manifests = manifests.iter().filter(|manifest| of_service(manifest));
    manifests
        .map(|manifest| {
            let started = manifest["started"].as_str().unwrap();
            date_of(started.parse().unwrap())
        })
        .collect()
}

/// What is to stay of a snapshot a day: the newest days, and the newest of the newest weeks, each from Monday on.
fn days_and_weeks(days_ago: i64, days: usize, weeks: usize) -> BTreeSet<Date> {
    let newest_first: Vec<Date> = (0..=days_ago).map(day).collect();
    let mut kept: BTreeSet<Date> = newest_first.iter().copied().take(days).collect();
    let mut mondays = Vec::new();
    for day in newest_first {
        let monday = day - i64::from(day.weekday().to_monday_zero_offset()).days();
        if mondays.len() < weeks && !mondays.contains(&monday) {
            mondays.push(monday);
            kept.insert(day);
        }
    }
    kept
}

fn places(stack: &TestStack) -> usize {
    let project = stack.repository().join(&stack.project);
    fs::read_dir(project).unwrap().count()
}

#[test]
fn c4_c9_postgres_is_kept_for_days_and_weeks_and_the_blob_store_by_its_own_label() {
    let stack = TestStack::new("commcare");
    let postgres = stack.postgres("postgres", &[("cofferdam.postgres", "clinical")]);
    postgres.seed("clinical", 50);
    let blobs = compose_volume(&stack, "blobdb");
    let mount = format!("{}:/data", blobs.name);
    let labels = [
        ("cofferdam.volumes", "blobdb"),
        ("cofferdam.keep", "daily=2, weekly=3"),
    ];
    let web = stack.toolbox("web", &labels, &["--volume", &mount]);
    web.sh("echo form > /data/form.xml");
    for selection in ["postgres/*", "web/*"] {
        stack.cofferdam(&["backup", selection]).expect(0);
        assert_eq!(stack.manifest()["selection"], json!([selection]));
        copy_to_days_before(&stack.newest_snapshot(), 1..=40);
    }
    assert_eq!(
        stack.manifest()["targets"][0]["container"]["keep"],
        "daily=2,weekly=3"
    );

    // Kept one day, and one week besides: the week that is running counts.
    let keep = ["prune", "--keep", "daily=1,weekly=2"];
    away(&stack, &keep).expect_says(0, "prune: ");
    assert_eq!(days_of(&stack, "postgres"), days_and_weeks(40, 1, 2));
    assert_eq!(days_of(&stack, "web"), days_and_weeks(40, 2, 3));
    stack.cofferdam(&["verify", "--read"]).expect(0);
    away(&stack, &keep).expect_says(0, "nothing to remove");

    // What is left can be put back.
    let oldest = manifests(&stack)[0]["snapshot"]
        .as_str()
        .unwrap()
        .to_owned();
    let saved = postgres.fingerprint("clinical");
    postgres.sql("clinical", "DELETE FROM patients");
    web.sh("rm /data/form.xml");
    stack.cofferdam(&["restore", &oldest, "--yes"]).expect(0);
    assert_eq!(web.sh("cat /data/form.xml"), "form");
    web.sh("rm /data/form.xml");
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(0, "Restored 3 targets");
    assert_eq!(postgres.fingerprint("clinical"), saved);
    assert_eq!(web.sh("cat /data/form.xml"), "form");
}

#[test]
fn i11_a_run_from_outside_the_stack_keeps_its_repository_in_order() {
    let files = Files::start(&[]);
    let stack = &files.stack;
    stack.cofferdam(&["backup"]).expect(0);
    assert_eq!(stack.manifest().get("selection"), None);
    copy_to_days_before(&stack.newest_snapshot(), 1..=30);

    // As a scheduler of another stack does it.
    let mut scheduled = stack.command(&["backup"]);
    scheduled.env("COFFERDAM_KEEP", "daily=7,weekly=3");
    let run: Run = scheduled.output().expect("cofferdam").into();
    run.expect_says(0, "prune: ");
    assert_eq!(days_of(stack, "app"), days_and_weeks(30, 7, 3));
    assert!(
        places(stack) <= days_and_weeks(30, 7, 3).len() + 1,
        "the objects went as well"
    );
    stack.cofferdam(&["verify", "--read"]).expect(0);
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    stack.ensure_nothing_is_left();
}

#[test]
fn a_backup_that_failed_prunes_nothing() {
    let files = Files::start(&[]);
    let stack = &files.stack;
    stack.cofferdam(&["backup"]).expect(0);
    copy_to_days_before(&stack.newest_snapshot(), 1..=5);
    files.app.sh("rm -r /data");

    stack
        .cofferdam(&["backup", "--keep", "last=1"])
        .expect_says(3, "app/files/data failed in");
    assert_eq!(manifests(stack).len(), 7);
    away(stack, &["prune", "--keep", "last=1"]).expect_says(1, "--despite failed");
    assert_eq!(manifests(stack).len(), 7);

    // What is good of it stays even then: the newest, and the newest that has the data.
    let despite = ["prune", "--keep", "last=1", "--despite", "failed"];
    let report = away(stack, &[&despite[..], &["--json"]].concat())
        .expect(0)
        .json();
    assert_eq!(report[0]["removed"].as_array().map(Vec::len), Some(5));
    stack
        .cofferdam(&["restore", "latest", "app/files/data", "--yes"])
        .expect(0);
    assert_eq!(files.app.sh("stat -c %s /data/file"), "1000000");
}

#[test]
fn a_backup_that_has_shrunk_prunes_nothing_until_somebody_says_that_it_was_meant() {
    let files = Files::start(&[]);
    let stack = &files.stack;
    stack.cofferdam(&["backup"]).expect(0);
    copy_to_days_before(&stack.newest_snapshot(), 1..=5);
    files.app.sh("truncate -s 1000 /data/file");

    for night in 1..=2 {
        stack
            .cofferdam(&["backup", "--keep", "last=1"])
            .expect_says(3, "app/files/data is");
        assert_eq!(manifests(stack).len(), 6 + night);
    }
    away(stack, &["prune", "--keep", "last=1"]).expect_says(1, "--may-shrink app/files/data");
    stack.as_by_schedule();
    let once = [
        "prune",
        "--keep",
        "last=1",
        "--despite",
        "shrunken",
        "--dry-run",
    ];
    away(stack, &once).expect_says(0, "7 snapshots would be removed");
    assert_eq!(manifests(stack).len(), 8);

    stack
        .cofferdam(&["backup", "--may-shrink", "app/files/nothing"])
        .expect_says(2, "app/files/nothing");
    stack
        .cofferdam(&["backup", "--keep", "last=1", "--may-shrink", "*/data"])
        .expect_says(0, "8 snapshots removed");
    assert_eq!(stack.manifest().get("shrunken"), None);
    // It is the measure from now on.
    stack.as_by_schedule();
    stack
        .cofferdam(&["backup", "--keep", "last=1"])
        .expect_says(0, "1 snapshot removed");
}

#[test]
fn what_is_pinned_stays_and_what_was_made_by_hand_stays_for_a_day() {
    let files = Files::start(&[]);
    let stack = &files.stack;
    let pinned = stack.cofferdam(&["backup", "--pin", "before-upgrade", "--json"]);
    let report = pinned.expect(0).json();
    let pinned = report[0]["manifest"]["snapshot"].as_str().unwrap();
    stack.cofferdam(&["backup"]).expect(0);
    let young = stack.manifest()["snapshot"].as_str().unwrap().to_owned();
    assert_eq!(stack.manifest()["by_hand"], json!(true));
    let run = stack.cofferdam(&["backup", "--keep", "last=1"]);
    run.expect_says(0, "nothing to remove, 3 kept");
    let prune = ["prune", "--keep", "last=1"];
    let dry: Vec<&str> = prune.iter().copied().chain(["--dry-run"]).collect();
    let table = away(stack, &dry).expect_says(0, "pinned as before-upgrade");
    let line = table.stdout.lines().find(|line| line.contains(&young));
    assert!(
        line.unwrap()
            .contains("made by hand less than 24 hours ago"),
        "{table:?}"
    );

    // As if a day had gone.
    stack.as_by_schedule();
    away(stack, &prune).expect_says(0, "1 snapshot removed");
    let listed = manifests(stack);
    assert_eq!(listed[0]["snapshot"], json!(pinned));
    assert_eq!(listed[0]["pin"]["name"], "before-upgrade");
    assert!(listed[1].get("pin").is_none());
    for command in [&["list"][..], &["show", pinned]] {
        away(stack, command).expect_says(0, "before-upgrade");
    }
    away(stack, &["pin", pinned, "for-the-audit"]).expect_says(0, "for-the-audit");
    let shown = away(stack, &["show", pinned, "--json"]).expect(0).json();
    assert_eq!(shown["pin"]["name"], "for-the-audit");
    stack.cofferdam(&["verify", "--read"]).expect(0);
    away(stack, &prune).expect_says(0, "2 kept");

    away(stack, &["unpin", pinned]).expect(0);
    away(stack, &prune).expect_says(0, "1 snapshot removed");
    assert_eq!(manifests(stack).len(), 1);
    away(stack, &["pin", pinned, "late"]).expect(2);
}

#[test]
fn a_snapshot_that_a_restore_is_reading_stays_and_so_it_does_when_that_was_killed() {
    let hook = "sh -c 'touch /tmp/begun; sleep 600'";
    let files = Files::start(&[("cofferdam.hook.before-restore", hook)]);
    let stack = &files.stack;
    stack.cofferdam(&["backup"]).expect(0);
    copy_to_days_before(&stack.newest_snapshot(), 1..=5);
    let wanted = manifests(stack)[2]["snapshot"].as_str().unwrap().to_owned();
    let mut restore = stack.start(&["restore", &wanted, "--yes"]);
    eventually("the restore has begun", || {
        docker_succeeds(["exec", &files.app.id, "test", "-e", "/tmp/begun"])
    });

    let prune = ["prune", "--keep", "last=1"];
    let dry: Vec<&str> = prune.iter().copied().chain(["--dry-run"]).collect();
    stack.cofferdam(&dry).expect_says(0, "in use by a restore");
    stack
        .cofferdam(&prune)
        .expect_says(0, "4 snapshots removed");
    restore.kill().expect("it runs");
    restore.wait().expect("it ends");
    stack.cofferdam(&prune).expect_says(0, "2 kept");
    assert_eq!(manifests(stack)[0]["snapshot"], json!(wanted));
    stack.cofferdam(&["recover"]).expect(0);
    stack.cofferdam(&prune).expect_says(0, "1 snapshot removed");
}

#[test]
fn a_restore_whose_snapshot_goes_at_the_last_moment_touches_nothing() {
    let files = Files::start(&[]);
    let stack = &files.stack;
    stack.cofferdam(&["backup"]).expect(0);
    copy_to_days_before(&stack.newest_snapshot(), 2..=4);
    files.app.sh("echo changed > /data/file");
    let oldest = manifests(stack)[0]["snapshot"].as_str().unwrap().to_owned();

    let proxy = FaultProxy::start();
    let lock = ("POST", "/containers/create");
    proxy.once(lock.0, lock.1, Fault::Delay(Duration::from_secs(20)));
    let mut restore = stack.command(&["restore", &oldest, "--yes"]);
    let restore = restore.env("DOCKER_HOST", proxy.docker_host()).spawn();
    eventually("the restore is about to write its journal", || {
        proxy.seen().contains(&format!("{} {}", lock.0, lock.1))
    });
    stack
        .cofferdam(&["prune", "--keep", "last=1"])
        .expect_says(0, "3 snapshots removed");
    let run: Run = restore.unwrap().wait_with_output().unwrap().into();
    run.expect_says(1, "is not in the repository");
    assert_eq!(files.app.sh("cat /data/file"), "changed");
    stack.ensure_nothing_is_left();
}

#[test]
fn a_dry_run_tells_each_snapshot_s_fate_and_changes_nothing() {
    let files = Files::start(&[]);
    let stack = &files.stack;
    stack.cofferdam(&["backup"]).expect(0);
    copy_to_days_before(&stack.newest_snapshot(), 1..=3);
    let dry = ["prune", "--keep", "last=1,daily=2", "--dry-run"];
    let table = away(stack, &dry).expect_says(0, "not kept by last=1,daily=2");
    assert!(
        table.stdout.contains("2 snapshots would be removed"),
        "{table:?}"
    );
    let document = away(stack, &[&dry[..], &["--json"]].concat())
        .expect(0)
        .json();
    let verdicts = document[0]["verdicts"].as_array().unwrap();
    let fates: Vec<&Value> = verdicts.iter().map(|verdict| &verdict["fate"]).collect();
    assert_eq!(fates, ["goes", "goes", "stays", "stays"]);
    assert_eq!(verdicts[3]["reasons"][0]["rule"], "daily");
    assert!(document[0]["freed_bytes"].as_u64() > Some(0));
    assert_eq!(manifests(stack).len(), 4);
}

#[test]
fn what_cannot_be_read_keeps_everything() {
    let files = Files::start(&[]);
    let stack = &files.stack;
    stack.cofferdam(&["backup"]).expect(0);
    copy_to_days_before(&stack.newest_snapshot(), 1..=5);
    let mut places: Vec<PathBuf> = fs::read_dir(stack.repository().join(&stack.project))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    places.sort();
    let file = places[2].join("manifest.json");
    let whole = fs::read_to_string(&file).unwrap();
    for (damage, said) in [
        (
            whole[..whole.len() / 2].to_owned(),
            "is incomplete or malformed",
        ),
        (
            whole.replacen("\"format\":1", "\"format\":2", 1),
            "use a newer cofferdam",
        ),
    ] {
        assert_ne!(damage, whole);
        fs::write(&file, damage).unwrap();
        away(stack, &["prune", "--keep", "last=1"]).expect_says(1, said);
        stack
            .cofferdam(&["backup", "--keep", "last=1"])
            .expect_says(3, said);
        assert!(
            places
                .iter()
                .all(|place| place.join("manifest.json").exists())
        );
    }
    // By hand, as the manual says.
    fs::remove_file(&file).unwrap();
    away(stack, &["prune", "--keep", "last=1"]).expect_says(0, "snapshots removed");
}

#[test]
fn a_snapshot_of_the_future_keeps_everything() {
    let files = Files::start(&[]);
    let stack = &files.stack;
    stack.cofferdam(&["backup"]).expect(0);
    copy_to_days_before(&stack.newest_snapshot(), (1..=5).chain([-2]));
    away(stack, &["prune", "--keep", "last=1"]).expect_says(1, "a clock is wrong");
    stack
        .cofferdam(&["backup", "--keep", "last=1"])
        .expect_says(3, "a clock is wrong");
    assert_eq!(manifests(stack).len(), 8);
}

#[test]
fn nothing_is_pruned_that_nobody_named() {
    let files = Files::start(&[]);
    let stack = &files.stack;
    stack.cofferdam(&["backup"]).expect(0);
    copy_to_days_before(&stack.newest_snapshot(), 1..=3);
    let prune_by = |engine: &str, arguments: &[&str]| -> Run {
        let mut command = Command::new(program());
        command.args(["prune", "--repository"]);
        command.arg(stack.repository()).args(arguments);
        command.env("DOCKER_HOST", engine);
        command.output().expect("cofferdam").into()
    };
    let prune = |arguments: &[&str]| prune_by(NO_ENGINE, arguments);
    prune(&["--keep", "last=1"]).expect_says(2, "--project NAME");
    prune(&["--project", &stack.project]).expect_says(2, "COFFERDAM_KEEP");
    prune(&["--project", &stack.project, "--keep", "daily=0"]).expect_says(2, "keeps nothing");
    prune(&["--project", "other", "--keep", "last=1"]).expect_says(1, "has no snapshots here");
    // An engine that does not answer may know of a restore that needs them.
    let all = ["--project", &stack.project, "--keep", "last=1"];
    prune_by("tcp://127.0.0.1:1", &all).expect_says(1, "set DOCKER_HOST=none");
    prune_by("ssh://prod", &all).expect_says(2, "ssh is not supported");
    assert_eq!(manifests(stack).len(), 4);
    prune(&["--all-projects", "--keep", "last=1"]).expect_says(0, "3 snapshots removed");
}

#[test]
fn backups_and_prunes_at_once_do_not_mind_each_other() {
    let files = Files::start(&[]);
    let stack = &files.stack;
    stack.cofferdam(&["backup"]).expect(0);
    copy_to_days_before(&stack.newest_snapshot(), 1..=40);
    let backup = stack.start(&["backup", "--keep", "last=5"]);
    let prunes: Vec<_> = (0..3)
        .map(|_| stack.start(&["prune", "--keep", "last=5"]))
        .collect();
    for child in prunes.into_iter().chain([backup]) {
        let run: Run = child.wait_with_output().expect("it ends").into();
        run.expect(0);
    }
    stack.cofferdam(&["prune", "--keep", "last=5"]).expect(0);
    assert_eq!(manifests(stack).len(), 5);
    stack.cofferdam(&["verify", "--read"]).expect(0);
}
