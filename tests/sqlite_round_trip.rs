//! Stacks that keep their data in SQLite, saved and put back by the real program.

use crate::support::stack::{TOOLBOX, TestStack, compose_volume, eventually, is_running};
use crate::support::trees::mountpoint;
use crate::support::{TestContainer, TestVolume, docker};
use rusqlite::Connection;
use std::os::unix::fs::symlink;

const DATABASE: &str = "/app/data/db.sqlite3";
const TARGET: &str = "backend/sqlite/db.sqlite3";

/// A program that writes one row into each of two tables for as long as it runs.
const BACKEND: &str = r#"
import os, sqlite3
os.umask(0o027)
db = sqlite3.connect("/app/data/db.sqlite3", timeout=60, isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
for table in "ab":
    db.execute(f"CREATE TABLE IF NOT EXISTS {table} (n INTEGER PRIMARY KEY, pad)")
db.execute("CREATE TABLE IF NOT EXISTS words (word)")
while True:
    db.execute("BEGIN IMMEDIATE")
    for table in "ab":
        db.execute(f"INSERT INTO {table} (pad) VALUES (randomblob(300))")
    db.execute("COMMIT")
"#;

/// SQL in a container whose own program may not run python.
fn sql(container: &TestContainer, sql: &str) -> String {
    let script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)\n\
                  for statement in sys.argv[2].split(';'):\n    print(*(row[0] for row in db.execute(statement)))";
    docker([
        "exec",
        &container.id,
        "python3",
        "-c",
        script,
        DATABASE,
        sql,
    ])
}

/// Two counts in one statement: one transaction.
const PAIRS: &str = "SELECT (SELECT count(*) FROM a) || ' ' || (SELECT count(*) FROM b)";

fn pairs(container: &TestContainer) -> u64 {
    let counts = sql(container, PAIRS);
    let (a, b) = counts.split_once(' ').expect("two counts");
    assert_eq!(a, b, "half of a transaction came back");
    a.parse().expect("a number")
}

#[test]
fn i2_the_sqlite_fallback_is_saved_while_the_app_writes_and_comes_back() {
    let stack = TestStack::new("igny8");
    let volume = compose_volume(&stack, "data");
    let mount = format!("{}:/app/data", volume.name);
    let backend = stack.service(
        "backend",
        &[
            ("cofferdam.sqlite", DATABASE),
            ("cofferdam.stop", "restore"),
        ],
        &["--volume", &mount, "--stop-signal", "KILL"],
        &[TOOLBOX, "python3", "-c", BACKEND],
    );
    eventually("the app writes", || {
        docker(["exec", &backend.id, "ls", "/app/data"]).contains("db.sqlite3-wal")
            && !sql(&backend, "SELECT 1 FROM sqlite_schema WHERE name = 'words'").is_empty()
    });
    sql(&backend, "INSERT INTO words VALUES ('saved')");
    backend.sh("chmod 640 /app/data/db.sqlite3");

    stack.cofferdam(&["plan"]).expect_says(0, TARGET);
    let run = stack.cofferdam(&["backup"]).expect(0);
    assert!(run.stderr.contains("held_up_milliseconds"), "{run:?}");
    let manifest = stack.manifest();
    let record = &manifest["targets"][0];
    assert_eq!(record["target"], TARGET);
    assert_eq!(record["facts"]["driver"], "sqlite");
    assert_eq!(record["facts"]["journal_mode"], "wal");
    assert_eq!(record["facts"]["held_up_milliseconds"], 0);
    let saved = record["facts"]["tables"][0]["rows"].as_u64().expect("rows");
    assert_eq!(record["facts"]["tables"][1]["rows"], saved);
    assert!(pairs(&backend) > saved, "the app stood still");

    // The app goes on and ruins it; what its last process left beside the database is there when it is put back.
    sql(
        &backend,
        "UPDATE words SET word = 'ruined'; DELETE FROM a WHERE n < 10; DELETE FROM b WHERE n < 10",
    );
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert!(is_running(&backend));
    assert_eq!(sql(&backend, "SELECT word FROM words"), "saved");
    assert_eq!(sql(&backend, "SELECT min(n) FROM a"), "1");
    assert_eq!(sql(&backend, "PRAGMA integrity_check"), "ok");
    assert_eq!(backend.sh("stat -c '%a %u' /app/data/db.sqlite3"), "640 0");
    let now = pairs(&backend);
    assert!(now >= saved);
    eventually("the app writes into the restored file", || {
        pairs(&backend) > now
    });

    // Everything is gone, and the app is down.
    docker(["stop", &backend.id]);
    let root = docker([
        "volume",
        "inspect",
        "--format",
        "{{.Mountpoint}}",
        &volume.name,
    ]);
    for entry in std::fs::read_dir(root).expect("the volume") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("a file");
    }
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert!(!is_running(&backend), "it was not running before");
    docker(["start", &backend.id]);
    assert_eq!(sql(&backend, "SELECT word FROM words"), "saved");
    assert!(pairs(&backend) >= saved);
    assert_eq!(backend.sh("ls -A /app/data | grep cofferdam || true"), "");
    stack.ensure_nothing_is_left();
}

#[test]
fn i2_a_database_is_not_exchanged_under_programs_that_run() {
    let stack = TestStack::new("igny8");
    let volume = compose_volume(&stack, "data");
    let mount = format!("{}:/app/data", volume.name);
    let read_only = format!("{}:/srv:ro", volume.name);
    let backend = stack.toolbox(
        "backend",
        &[("cofferdam.sqlite", DATABASE)],
        &["--volume", &mount],
    );
    let worker = stack.toolbox("worker", &[], &["--volume", &mount]);
    let reader = stack.toolbox("sites", &[], &["--volume", &read_only]);
    sql(
        &backend,
        "CREATE TABLE words (word); INSERT INTO words VALUES ('saved')",
    );
    stack.cofferdam(&["plan"]).expect_says(
        0,
        "it uses backend/sqlite/db.sqlite3 and is not stopped during a restore",
    );
    stack.cofferdam(&["backup"]).expect(0);
    sql(&backend, "UPDATE words SET word = 'now'");

    for container in [&backend, &worker] {
        let hint = format!(
            "cofferdam.stop: restore, or stop it first: docker stop {}",
            container.name
        );
        stack
            .cofferdam(&["restore", "latest", "--yes"])
            .expect_says(2, &hint);
        docker(["stop", "-t", "0", &container.id]);
    }
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert!(!is_running(&backend) && !is_running(&worker) && is_running(&reader));
    docker(["start", &backend.id]);
    assert_eq!(sql(&backend, "SELECT word FROM words"), "saved");
    stack.ensure_nothing_is_left();
}

#[test]
fn whoever_can_write_to_a_database_must_not_run_while_it_is_exchanged() {
    let stack = TestStack::new("writers");
    let volume = compose_volume(&stack, "data");
    let mount = format!("{}:/app/data", volume.name);
    let stop = ("cofferdam.stop", "restore");
    let labels = [("cofferdam.sqlite", DATABASE), stop];
    let backend = stack.toolbox("backend", &labels, &["--volume", &mount]);
    sql(
        &backend,
        "CREATE TABLE words (word); INSERT INTO words VALUES ('saved')",
    );
    stack.cofferdam(&["backup"]).expect(0);
    sql(&backend, "UPDATE words SET word = 'now'");
    let on_the_host = docker([
        "volume",
        "inspect",
        "--format",
        "{{.Mountpoint}}",
        &volume.name,
    ]);
    let other_path = format!("{on_the_host}:/elsewhere");

    let refused = |words: &str| {
        stack
            .cofferdam(&["restore", "latest", "--yes"])
            .expect_says(2, words);
    };
    let one_off = [
        "--volume",
        &mount,
        "--label",
        "com.docker.compose.oneoff=True",
    ];
    for (labels, options) in [
        (
            &[("cofferdam.enable", "false")][..],
            &["--volume", &*mount][..],
        ),
        (&[], &one_off),
        (
            &[stop, ("cofferdam.project", "another")],
            &["--volume", &mount],
        ),
        (
            &[("cofferdam.project", "another")],
            &["--volume", &other_path],
        ),
    ] {
        let writer = stack.toolbox("writer", labels, options);
        refused(&format!("container {} runs while", writer.name));
    }
    docker(["pause", &backend.id]);
    refused(&format!(
        "docker unpause {0} && docker stop {0}",
        backend.name
    ));
    docker(["unpause", &backend.id]);
    assert_eq!(sql(&backend, "SELECT word FROM words"), "now");
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert_eq!(sql(&backend, "SELECT word FROM words"), "saved");
    stack.ensure_nothing_is_left();
}

#[test]
fn whoever_has_a_database_open_is_found_by_the_file() {
    let stack = TestStack::new("openers");
    let volume = compose_volume(&stack, "data");
    let mount = format!("{}:/app/data", volume.name);
    let labels = [
        ("cofferdam.sqlite", DATABASE),
        ("cofferdam.stop", "restore"),
    ];
    let backend = stack.toolbox("backend", &labels, &["--volume", &mount]);
    sql(
        &backend,
        "CREATE TABLE words (word); INSERT INTO words VALUES ('saved')",
    );
    stack.cofferdam(&["backup"]).expect(0);
    sql(&backend, "UPDATE words SET word = 'now'");

    // Another volume on the same directory, by way of a link: no list of mounts tells that.
    let root = mountpoint(&volume);
    let aside = tempfile::tempdir().expect("a directory");
    let link = aside.path().join("link");
    symlink(&root, &link).expect("a link");
    let device = format!("device={}", link.display());
    let alias = TestVolume::create(&["--opt", "type=none", "--opt", "o=bind", "--opt", &device]);
    let mount = format!("{}:/other", alias.name);
    let keep_open = "exec 9<>/other/db.sqlite3; sleep 300 >/dev/null 2>&1 </dev/null &";
    let hook = format!("sh -c '{keep_open}'");
    let labels = [("cofferdam.hook.before-restore", &*hook)];
    let jobs = stack.toolbox("jobs", &labels, &["--volume", &mount]);
    let restore = ["restore", "latest", "--yes"];
    jobs.sh(keep_open);
    let who = format!(
        "(sleep) of container {} uses {TARGET} and would keep writing to the old file; give it the label",
        jobs.name
    );
    stack.cofferdam(&restore).expect_says(2, &who);
    docker(["restart", "-t", "0", &jobs.id]);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(root.join("db.sqlite3"));
    let who = format!("process {} (", std::process::id());
    stack.cofferdam(&restore).expect_says(2, &who);
    drop(file);

    // One that comes after the plan was made.
    let run = stack.cofferdam(&restore).expect(1);
    let who = format!("(sleep) of container {} uses {DATABASE}", jobs.name);
    let text = format!("{}{}", run.stdout, run.stderr);
    assert!(
        text.contains(&who) && text.contains("then restore again"),
        "{text}"
    );
    assert!(is_running(&backend));
    assert_eq!(sql(&backend, "SELECT word FROM words"), "now");
    stack.ensure_nothing_is_left();
}

#[test]
fn i4_a_volume_and_the_database_on_it_come_back_together() {
    let stack = TestStack::new("igny8");
    let volume = compose_volume(&stack, "data");
    let mount = format!("{}:/app/data", volume.name);
    let backend = stack.toolbox(
        "backend",
        &[
            ("cofferdam.sqlite", DATABASE),
            ("cofferdam.volumes", "data"),
            ("cofferdam.volumes.data.exclude", "/db.sqlite3*"),
            ("cofferdam.stop", "restore"),
        ],
        &["--volume", &mount],
    );
    sql(
        &backend,
        "CREATE TABLE words (word); INSERT INTO words VALUES ('saved')",
    );
    backend.sh("mkdir /app/data/uploads && echo saved > /app/data/uploads/file");
    stack.cofferdam(&["backup"]).expect(0);
    sql(&backend, "UPDATE words SET word = 'now'");
    backend.sh("echo now > /app/data/uploads/file && echo extra > /app/data/extra");

    stack
        .cofferdam(&["restore", "latest", "*/volume/*", "--dry-run"])
        .expect_says(
            0,
            "backend/sqlite/db.sqlite3 may be inside backend/volume/data",
        );
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert_eq!(sql(&backend, "SELECT word FROM words"), "saved");
    assert_eq!(
        backend.sh("cat /app/data/uploads/file; ls -A /app/data"),
        "saved\ndb.sqlite3\nuploads"
    );
    stack.ensure_nothing_is_left();
}

#[test]
fn what_is_exported_or_unpacked_by_hand_is_a_database_file() {
    let stack = TestStack::new("igny8");
    let volume = compose_volume(&stack, "data");
    let mount = format!("{}:/app/data", volume.name);
    let backend = stack.toolbox(
        "backend",
        &[("cofferdam.sqlite", DATABASE)],
        &["--volume", &mount],
    );
    sql(
        &backend,
        "PRAGMA journal_mode = WAL; CREATE TABLE words (word); INSERT INTO words VALUES ('saved')",
    );
    stack.cofferdam(&["backup"]).expect(0);
    stack
        .cofferdam(&["show", "latest"])
        .expect_says(0, "SQLite database /app/data/db.sqlite3 on volume");
    stack
        .cofferdam(&["ls", "latest", TARGET])
        .expect_says(2, &format!("cofferdam export latest DIR {TARGET}"));

    let out = stack.directory.path().join("out");
    let directory = out.to_str().expect("UTF-8");
    stack
        .cofferdam(&["export", "latest", directory, TARGET])
        .expect(0);
    let by_hand = stack.directory.path().join("by-hand.db");
    let object = stack
        .newest_snapshot()
        .join("backend.sqlite.db.sqlite3.sqlite3.zst");
    let script = format!("zstd -dc '{}' > '{}'", object.display(), by_hand.display());
    let done = std::process::Command::new("sh")
        .args(["-c", &script])
        .status();
    assert!(done.expect("sh").success());
    for file in [out.join("backend.sqlite.db.sqlite3.sqlite3"), by_hand] {
        let database = Connection::open(&file).expect("a database");
        let word: String = database
            .query_row("SELECT word FROM words", [], |row| row.get(0))
            .expect("a word");
        assert_eq!(word, "saved");
    }
}
