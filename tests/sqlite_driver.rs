//! SQLite databases of real containers: saved while a program writes to them, and put back.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::proxy::{Fault, FaultProxy};
use crate::support::stack::{TOOLBOX, eventually};
use crate::support::trees::Stage;
use crate::support::{TestContainer, TestImage, TestVolume, docker, docker_succeeds, program};
use cofferdam::driver::sqlite::{SqliteDriver, SqliteOptions, database_files};
use cofferdam::driver::tree::Moment;
use cofferdam::driver::{Captured, Driver, WayBack};
use cofferdam::manifest::{
    ContainerRecord, Facts, JournalMode, SqliteFacts, TargetRecord, Transfer,
};
use cofferdam::pipe::codec;
use cofferdam::target::{RunId, TargetId};
use jiff::Timestamp;
use rusqlite::Connection;

/// Changes two tables in the same way for ever, all over their pages, and folds its log in as often as it can.
const WRITER: &str = r#"
import sqlite3, sys
path, mode = sys.argv[1:]
db = sqlite3.connect(path, timeout=60, isolation_level=None)
db.execute("PRAGMA journal_mode = " + mode)
db.execute("PRAGMA wal_autocheckpoint = 20")
db.execute("BEGIN")
for table in "ab":
    db.execute(f"CREATE TABLE {table} (n INTEGER PRIMARY KEY, pad, turn DEFAULT 0)")
    db.execute(f"INSERT INTO {table} (pad) WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5000) SELECT randomblob(900) FROM c")
db.execute("COMMIT")
turn = 0
while True:
    turn += 1
    db.execute("BEGIN IMMEDIATE")
    for table in "ab":
        db.execute(f"INSERT INTO {table} (pad, turn) VALUES (randomblob(900), ?)", (turn,))
        db.execute(f"UPDATE {table} SET pad = randomblob(901), turn = ? WHERE n % 100 = ? % 100", (turn, turn))
    db.execute("COMMIT")
"#;

/// One database of one container.
struct Scene {
    stage: Stage,
    container: TestContainer,
    path: String,
    patience: Duration,
}

impl Scene {
    async fn on_volume(volume: &TestVolume) -> Self {
        let mount = format!("{}:/data", volume.name);
        Self::in_container(
            TestContainer::running(&["-v", &mount], &[TOOLBOX]),
            "/data/app.db",
        )
        .await
    }

    async fn in_container(container: TestContainer, path: &str) -> Self {
        Self {
            stage: Stage::new().await,
            container,
            path: path.to_owned(),
            patience: Duration::from_secs(30),
        }
    }

    fn target(&self) -> TargetId {
        database_files("app", std::slice::from_ref(&self.path))[0]
            .id
            .clone()
    }

    fn python(&self, script: &str, arguments: &[&str]) -> String {
        let exec = ["exec", &self.container.id, "python3", "-c", script];
        docker(exec.iter().chain(arguments))
    }

    /// Runs SQL as the user 1000, who owns everything, and prints the rows.
    fn sql(&self, sql: &str) -> String {
        let script = "import os, sqlite3, sys; os.setgid(1000); os.setuid(1000); os.umask(0o027)\n\
                      db = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                      for statement in sys.argv[2].split(';'):\n    print(*db.execute(statement).fetchall())";
        self.python(script, &[&self.path, sql])
    }

    /// A program that writes and is never asked to stop.
    fn start_writing(&self, mode: &str) {
        docker([
            "exec",
            "-d",
            "-u",
            "1000:1000",
            &self.container.id,
            "python3",
            "-c",
            WRITER,
            &self.path,
            mode,
        ]);
        eventually("the writer writes", || {
            let count = "import sqlite3, sys; print(*sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True).execute('SELECT count(*) > 5 FROM b').fetchone())";
            let exec = [
                "exec",
                &self.container.id,
                "python3",
                "-c",
                count,
                &self.path,
            ];
            docker_succeeds(exec) && self.python(count, &[&self.path]) == "1"
        });
    }

    async fn driver_of(&self, run: &RunId, moment: Moment) -> SqliteDriver {
        let container = self.stage.engine.inspect(&self.container.id).await.unwrap();
        let program = PathBuf::from(program());
        let options = SqliteOptions {
            patience: self.patience,
            ..SqliteOptions::new(moment, program)
        };
        let files = database_files("app", std::slice::from_ref(&self.path));
        SqliteDriver::prepare(
            self.stage.helpers(run),
            container,
            files,
            Vec::new(),
            options,
        )
        .await
        .unwrap()
    }

    async fn try_dump(&self) -> Result<Captured, String> {
        let driver = self.driver_of(&new_run(), Moment::Backup).await;
        if let Some(why) = driver.refusal(&self.target()) {
            let missing = driver.targets().await.unwrap().missing;
            assert_eq!(missing[0].reason, why);
            return Err(why.to_owned());
        }
        let dumped = driver.dump(&self.target(), &self.stage.artifacts).await;
        dumped.map_err(|error| error.to_string())
    }

    async fn dump(&self) -> Captured {
        let captured = self.try_dump().await.unwrap();
        assert_eq!(captured.warnings, Vec::<String>::new());
        captured
    }

    #[track_caller]
    fn refused(&self, dumped: Result<Captured, String>, words: &str) {
        let error = dumped.unwrap_err();
        assert!(error.contains(words), "{error}");
        assert_eq!(self.staged(), "");
    }

    fn record(&self, captured: &Captured) -> TargetRecord {
        TargetRecord {
            target: self.target(),
            container: ContainerRecord::default(),
            transfer: captured.transfer,
            facts: captured.facts.clone(),
            artifacts: captured.artifacts.clone(),
            warnings: Vec::new(),
        }
    }

    async fn load(&self, run: &RunId, captured: &Captured) {
        let driver = self.driver_of(run, Moment::Restore).await;
        assert_eq!(driver.way_back(&self.target()), WayBack::Staged);
        let real = facts(captured).path.as_str();
        assert_eq!(driver.closed_path(&self.target()), Some(real));
        let record = self.record(captured);
        driver.load(&record, &self.stage.artifacts).await.unwrap();
        driver.check(&record).await.unwrap();
    }

    async fn commit(&self, run: &RunId) -> Result<(), String> {
        let driver = self.driver_of(run, Moment::Restore).await;
        let committed = driver.commit(&self.target()).await;
        committed.map_err(|error| error.to_string())
    }

    async fn roll_back(&self, run: &RunId) {
        let driver = self.driver_of(run, Moment::Restore).await;
        driver.rollback(&self.target()).await.unwrap();
    }

    /// Stops the container, puts the database back, and starts it again.
    async fn restore(&self, captured: &Captured) {
        self.stop();
        let run = new_run();
        self.load(&run, captured).await;
        self.commit(&run).await.unwrap();
        self.commit(&run).await.unwrap();
        self.start();
        self.commit(&run).await.unwrap();
    }

    fn stop(&self) {
        docker(["stop", "-t", "0", &self.container.id]);
    }

    fn start(&self) {
        docker(["start", &self.container.id]);
    }

    /// What of ours is left beside the database.
    fn staged(&self) -> String {
        self.container
            .sh("find / -xdev -name '.cofferdam-*' 2>/dev/null; find /data -name '.cofferdam-*' 2>/dev/null || true")
    }

    /// Names, owners and modes of what is in the database's directory.
    fn listing(&self) -> String {
        let directory = self.path.rsplit_once('/').unwrap().0;
        self.container
            .sh(&format!("cd {directory} && stat -c '%n %u:%g %a' *"))
    }

    /// The database as it was saved, as a file of its own.
    fn saved(&self, captured: &Captured) -> (tempfile::TempDir, Connection) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let [artifact] = captured.artifacts.as_slice() else {
            panic!("{captured:?}");
        };
        let stored = std::fs::File::open(self.stage.artifacts.path_of(artifact)).unwrap();
        let stored = std::io::BufReader::new(stored);
        let mut plain = codec::decompressor(stored, artifact.compression).unwrap();
        let bytes = std::io::copy(&mut plain, &mut std::fs::File::create(&path).unwrap()).unwrap();
        assert_eq!(bytes, artifact.plain.bytes);
        (directory, Connection::open(&path).unwrap())
    }
}

fn new_run() -> RunId {
    RunId::generate(Timestamp::now())
}

fn facts(captured: &Captured) -> &SqliteFacts {
    match &captured.facts {
        Facts::Sqlite(facts) => facts,
        other => panic!("{other:?}"),
    }
}

fn number(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// A volume whose root belongs to the user 1000.
fn volume_of_1000() -> TestVolume {
    let volume = TestVolume::create(&[]);
    let root = crate::support::trees::mountpoint(&volume);
    std::os::unix::fs::chown(&root, Some(1000), Some(1000)).unwrap();
    volume
}

async fn is_consistent_while_it_is_written(scene: &Scene, mode: &str, backups: u32) {
    scene.start_writing(mode);
    let mut last = 0;
    for _ in 0..backups {
        let captured = scene.dump().await;
        let (_directory, saved) = scene.saved(&captured);
        let check: String = saved
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(check, "ok");
        let rows = number(&saved, "SELECT count(*) FROM a");
        assert_eq!(rows, number(&saved, "SELECT count(*) FROM b"));
        for other in ["max(n)", "max(turn)", "sum(turn)"] {
            let of = |table| number(&saved, &format!("SELECT {other} FROM {table}"));
            assert_eq!(of("a"), of("b"), "half of a transaction was saved");
        }
        assert!(rows > last, "the writer stands still at {rows}");
        last = rows;
        let facts = facts(&captured);
        assert_eq!(facts.content.tables[0].rows, Some(rows.unsigned_abs()));
        if mode == "wal" {
            assert_eq!(facts.held_up_milliseconds, 0);
        }
    }
    assert_eq!(scene.staged(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_twenty_backups_of_a_database_in_wal_mode_that_is_being_written_are_consistent() {
    let volume = volume_of_1000();
    let scene = Scene::on_volume(&volume).await;
    is_consistent_while_it_is_written(&scene, "wal", 20).await;
    for line in scene.listing().lines() {
        assert!(line.contains(" 1000:1000 "), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_twenty_backups_of_a_database_with_a_journal_that_is_being_written_are_consistent() {
    let volume = volume_of_1000();
    let scene = Scene::on_volume(&volume).await;
    is_consistent_while_it_is_written(&scene, "delete", 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sqlite_makes_beside_a_database_belongs_to_the_databases_owner() {
    let volume = volume_of_1000();
    let scene = Scene::on_volume(&volume).await;
    scene.sql("PRAGMA journal_mode = WAL; CREATE TABLE t (word); INSERT INTO t VALUES ('old')");
    scene.container.sh("chmod 640 /data/app.db");
    assert_eq!(scene.listing(), "app.db 1000:1000 640");
    let captured = scene.dump().await;
    let owner = facts(&captured).owner;
    assert_eq!((owner.uid, owner.gid, owner.mode), (1000, 1000, 0o640));
    assert_eq!(facts(&captured).content.journal_mode, JournalMode::Wal);
    for line in scene.listing().lines() {
        assert!(line.ends_with(" 1000:1000 640"), "{line}");
    }
    // Its owner goes on.
    scene.sql("INSERT INTO t VALUES ('since')");
    assert_eq!(scene.sql("SELECT count(*) FROM t"), "(2,)");
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_restore_brings_rows_owner_and_mode_back_and_no_log_of_the_old_database() {
    for mode in ["wal", "delete"] {
        let volume = volume_of_1000();
        let scene = Scene::on_volume(&volume).await;
        scene.sql(&format!(
            "PRAGMA journal_mode = {mode}; CREATE TABLE t (word); INSERT INTO t VALUES ('saved'); PRAGMA user_version = 7"
        ));
        scene.container.sh("chmod 640 /data/app.db");
        let captured = scene.dump().await;
        assert_eq!(captured.transfer, Transfer::Helper);
        assert_eq!(
            facts(&captured).volume.as_deref(),
            Some(volume.name.as_str())
        );
        assert_eq!(facts(&captured).content.user_version, 7);

        // A program that is killed in the middle of its work leaves its log or journal.
        scene.sql("DELETE FROM t; INSERT INTO t VALUES ('later')");
        let killed = "import sqlite3, sys, os; db = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                      db.executescript('PRAGMA cache_size = 5; INSERT INTO t VALUES (\"later\")')\n\
                      db.execute('BEGIN'); db.execute('INSERT INTO t SELECT randomblob(5000) FROM (VALUES (1), (2), (3), (4)) a, (VALUES (1), (2), (3), (4)) b')\n\
                      os._exit(9)";
        docker_succeeds([
            "exec",
            "-u",
            "1000:1000",
            &scene.container.id,
            "python3",
            "-c",
            killed,
            &scene.path,
        ]);
        let left = scene.listing();
        assert!(left.lines().count() > 1, "nothing was left behind: {left}");

        // That can be saved as well: what was committed, and nothing of the rest.
        let crashed = scene.dump().await;
        let (_directory, saved) = scene.saved(&crashed);
        assert_eq!(
            number(&saved, "SELECT count(*) FROM t WHERE word = 'later'"),
            2
        );
        assert_eq!(number(&saved, "SELECT count(*) FROM t"), 2);
        assert_eq!(scene.listing(), left, "{mode}");

        scene.restore(&captured).await;
        assert_eq!(scene.listing(), "app.db 1000:1000 640", "{mode}");
        assert_eq!(scene.sql("SELECT word FROM t"), "('saved',)", "{mode}");
        assert_eq!(scene.sql("PRAGMA user_version"), "(7,)");
        assert_eq!(scene.sql("PRAGMA journal_mode"), format!("('{mode}',)"));
        assert_eq!(scene.sql("PRAGMA integrity_check"), "('ok',)");
        assert_eq!(scene.staged(), "");

        // One that is gone comes back with the owner that it was saved with.
        scene.container.sh("rm /data/*");
        scene.restore(&captured).await;
        assert_eq!(scene.listing(), "app.db 1000:1000 640", "{mode}");
        assert_eq!(scene.sql("SELECT word FROM t"), "('saved',)", "{mode}");
        assert_eq!(scene.stage.helpers_left(), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_changes_its_place_under_a_program_that_runs() {
    let volume = volume_of_1000();
    let scene = Scene::on_volume(&volume).await;
    scene.sql("CREATE TABLE t (word); INSERT INTO t VALUES ('saved')");
    let captured = scene.dump().await;
    scene.sql("UPDATE t SET word = 'now'");
    let run = new_run();
    scene.load(&run, &captured).await;
    let refused = scene.commit(&run).await.unwrap_err();
    assert!(
        refused.contains("would keep writing to the old file") && refused.contains("docker stop"),
        "{refused}"
    );
    assert_eq!(scene.sql("SELECT word FROM t"), "('now',)");

    scene.roll_back(&run).await;
    scene.roll_back(&run).await;
    assert_eq!(scene.sql("SELECT word FROM t"), "('now',)");
    assert_eq!(scene.staged(), "");

    // Rolled back is rolled back: there is nothing to commit any more, and to say so needs nothing stopped.
    scene.commit(&run).await.unwrap();
    assert_eq!(scene.sql("SELECT word FROM t"), "('now',)");

    // What a dead run has staged is swept by the next one.
    scene.load(&new_run(), &captured).await;
    assert_ne!(scene.staged(), "");
    scene.dump().await;
    assert_eq!(scene.staged(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_artifact_leaves_the_old_database() {
    let volume = volume_of_1000();
    let scene = Scene::on_volume(&volume).await;
    scene.sql("CREATE TABLE t (word); INSERT INTO t VALUES ('saved')");
    let captured = scene.dump().await;
    scene.sql("UPDATE t SET word = 'now'");
    scene.stop();
    let path = scene.stage.artifacts.path_of(&captured.artifacts[0]);
    let good = std::fs::read(&path).unwrap();
    let mut other_rows = captured.clone();
    if let Facts::Sqlite(facts) = &mut other_rows.facts {
        facts.content.tables[0].rows = Some(2);
    }
    for (content, captured, words) in [
        (&good[..good.len() / 2], &captured, "is damaged"),
        (
            &good[..],
            &other_rows,
            "1 tables with 2 rows were saved, but 1 with 1 are there",
        ),
    ] {
        std::fs::write(&path, content).unwrap();
        let run = new_run();
        let driver = scene.driver_of(&run, Moment::Restore).await;
        let loaded = driver
            .load(&scene.record(captured), &scene.stage.artifacts)
            .await;
        let error = loaded.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        driver.rollback(&scene.target()).await.unwrap();
        driver.commit(&scene.target()).await.unwrap();
    }
    scene.start();
    assert_eq!(scene.sql("SELECT word FROM t"), "('now',)");
    assert_eq!(scene.staged(), "");
}

/// That the present database is of no use any more is what restores are for.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_takes_the_place_of_whatever_is_there() {
    let volume = volume_of_1000();
    let scene = Scene::on_volume(&volume).await;
    scene.sql("PRAGMA journal_mode=wal; CREATE TABLE t (word); INSERT INTO t VALUES ('saved')");
    let captured = scene.dump().await;
    for ruin in [
        "dd if=/dev/urandom of=$DB bs=512 count=2 conv=notrunc 2>/dev/null",
        "seq 9999 >$DB; seq 99 >$DB-wal; seq 99 >$DB-journal",
        ": >$DB",
        "rm $DB",
    ] {
        scene.container.sh(&ruin.replace("$DB", &scene.path));
        scene.restore(&captured).await;
        assert_eq!(scene.sql("SELECT word FROM t"), "('saved',)", "{ruin}");
        assert_eq!(scene.staged(), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_to_a_database_are_followed_and_stay() {
    let linked = TestContainer::running(&[], &[TOOLBOX]);
    linked.sh("mkdir -p /srv/data /srv/own && chown 1000 /srv/* && ln -s /srv/data /data && ln -s /srv/own /own");
    let image = TestImage::of(&linked);
    let volume = volume_of_1000();
    let mount = format!("{}:/data", volume.name);
    for (path, real, transfer) in [
        ("/data/link.db", "/srv/data/app.db", Transfer::Helper),
        ("/srv/data/link.db", "/srv/data/app.db", Transfer::Helper),
        ("/own/link.db", "/srv/own/app.db", Transfer::Copy),
    ] {
        let container = TestContainer::running(&["-v", &mount], &[&image.name]);
        container.sh("rm -f /data/* && ln -s app.db /data/link.db && ln -s app.db /own/link.db");
        let scene = Scene::in_container(container, path).await;
        scene.sql("CREATE TABLE t (word); INSERT INTO t VALUES ('saved')");
        let captured = scene.dump().await;
        assert_eq!(
            (facts(&captured).path.as_str(), captured.transfer),
            (real, transfer)
        );
        scene.sql("UPDATE t SET word = 'now'");
        scene.restore(&captured).await;
        assert_eq!(scene.sql("SELECT word FROM t"), "('saved',)", "{path}");
        assert_eq!(scene.container.sh(&format!("readlink {path}")), "app.db");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_saved_says_why_and_what_to_do() {
    let volume = volume_of_1000();
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("single.db"), "").unwrap();
    let single = format!("{}:/single.db", host.path().join("single.db").display());
    let mount = format!("{}:/data", volume.name);
    let options = ["-v", &mount, "-v", &single, "--tmpfs", "/run/memory"];
    let container = TestContainer::running(&options, &[TOOLBOX]);
    let mut scene = Scene::in_container(container, "/data/app.db").await;

    let dumped = scene.try_dump().await;
    scene.refused(dumped, "does not exist in container");
    scene
        .container
        .sh("mkdir /data/directory && seq 9999 >/data/words");
    for (path, words) in [
        ("/data/directory", "name the database file itself"),
        (
            "/data/words",
            "/data/words: it is not an SQLite database, or it is encrypted",
        ),
        ("/single.db", "mount the directory that it is in"),
        ("/run/memory/app.db", "is on a tmpfs"),
    ] {
        path.clone_into(&mut scene.path);
        let dumped = scene.try_dump().await;
        scene.refused(dumped, words);
    }

    "/data/app.db".clone_into(&mut scene.path);
    scene.sql("CREATE TABLE t (word); INSERT INTO t SELECT randomblob(9000) FROM (VALUES (1), (2), (3), (4))");
    scene.container.sh("cp /data/app.db /data/bad.db && dd if=/dev/zero of=/data/bad.db bs=4096 seek=2 count=3 conv=notrunc 2>/dev/null");
    "/data/bad.db".clone_into(&mut scene.path);
    let dumped = scene.try_dump().await;
    scene.refused(dumped, "/data/bad.db: it is damaged: ");

    // A link is followed as the container sees it.
    scene.container.sh("ln -s app.db /data/link.db");
    "/data/link.db".clone_into(&mut scene.path);
    let captured = scene.dump().await;
    assert_eq!(facts(&captured).path, "/data/app.db");

    scene
        .container
        .sh("touch /data/empty.db && chown 1000:1000 /data/empty.db");
    "/data/empty.db".clone_into(&mut scene.path);
    let captured = scene.dump().await;
    assert_eq!(captured.artifacts[0].plain.bytes, 0);
    scene.sql("CREATE TABLE t (word)");
    scene.restore(&captured).await;
    assert_eq!(scene.container.sh("stat -c %s /data/empty.db"), "0");

    "/data/app.db".clone_into(&mut scene.path);
    scene.patience = Duration::from_secs(2);
    let lock = "import sqlite3, sys, time; db = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                db.execute('BEGIN EXCLUSIVE'); open('/data/locked', 'w'); time.sleep(600)";
    docker([
        "exec",
        "-d",
        &scene.container.id,
        "python3",
        "-c",
        lock,
        &scene.path,
    ]);
    eventually("the database is locked", || {
        docker_succeeds(["exec", &scene.container.id, "test", "-e", "/data/locked"])
    });
    let dumped = scene.try_dump().await;
    scene.refused(dumped, "kept it locked for 2 s; have that program stopped meanwhile, with `cofferdam.stop: backup`");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_never_takes_the_room_that_the_program_needs() {
    for mode in ["delete", "wal"] {
        let volume = TestVolume::of_size("4m");
        let scene = Scene::on_volume(&volume).await;
        scene.container.sh("chown 1000:1000 /data");
        let more = "; INSERT INTO t VALUES (randomblob(500000)); PRAGMA wal_checkpoint(TRUNCATE)";
        scene.sql(&format!(
            "PRAGMA journal_mode = {mode}; CREATE TABLE t (word){}",
            more.repeat(5)
        ));
        let dumped = scene.try_dump().await;
        scene.refused(dumped, "/data/app.db: there is no room for a copy of it");
        scene.sql("INSERT INTO t VALUES ('more')");

        scene
            .container
            .sh("dd if=/dev/zero of=/data/filler 2>/dev/null || true");
        let dumped = scene.try_dump().await;
        scene.refused(dumped, "/data/app.db: there is no room for a copy of it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_database_in_a_containers_own_layer_is_saved_while_it_is_written_and_comes_back() {
    let container = TestContainer::running(&[], &[TOOLBOX]);
    container.sh("mkdir -p /app/data && chown 1000:1000 /app/data");
    let scene = Scene::in_container(container, "/app/data/app.db").await;
    is_consistent_while_it_is_written(&scene, "wal", 5).await;
    scene.container.sh("chmod 640 /app/data/app.db");
    let captured = scene.dump().await;
    assert_eq!(captured.transfer, Transfer::Copy);
    let (_directory, saved) = scene.saved(&captured);
    let rows = number(&saved, "SELECT count(*) FROM a");
    scene.stop();

    let refused = scene.try_dump().await.unwrap_err();
    assert!(
        refused.contains("is not running; put the file on a volume"),
        "{refused}"
    );

    // Taken back, the old database is what it was, with its log.
    let run = new_run();
    scene.load(&run, &captured).await;
    scene.roll_back(&run).await;
    scene.roll_back(&run).await;
    scene.commit(&run).await.unwrap();
    scene.start();
    let before: i64 = scene.sql("SELECT count(*) FROM a")[1..]
        .trim_end_matches(",)")
        .parse()
        .unwrap();
    assert!(before > rows, "{before} {rows}");
    scene.sql("INSERT INTO a (pad) VALUES ('later')");

    scene.restore(&captured).await;
    assert_eq!(scene.sql("SELECT count(*) FROM a"), format!("({rows},)"));
    assert_eq!(scene.sql("PRAGMA integrity_check"), "('ok',)");
    let listing = scene.listing();
    assert!(
        listing.lines().any(|line| line == "app.db 1000:1000 640"),
        "{listing}"
    );
    // The next backup removes what the archive API could not.
    scene.dump().await;
    assert_eq!(scene.staged(), "");
}

/// A program on the host, which is no container of any engine.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_another_program_has_open_is_not_exchanged() {
    let volume = volume_of_1000();
    let mut scene = Scene::on_volume(&volume).await;
    scene.sql("CREATE TABLE t (word); INSERT INTO t VALUES ('saved')");
    let captured = scene.dump().await;
    scene.sql("UPDATE t SET word = 'now'");
    scene.stop();
    let run = new_run();
    scene.load(&run, &captured).await;
    let record = scene.record(&captured);
    let check = async |scene: &Scene| {
        let driver = scene.driver_of(&run, Moment::Restore).await;
        let checked = driver.check(&record).await;
        checked.map_err(|error| error.to_string())
    };

    let path = crate::support::trees::mountpoint(&volume).join("app.db");
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch("BEGIN; SELECT count(*) FROM t")
        .unwrap();
    let own = format!("process {} (", std::process::id());
    for (refused, mend) in [
        (check(&scene).await, "stop it, then restore again"),
        (
            scene.commit(&run).await,
            "stop it, then run cofferdam recover",
        ),
    ] {
        let words = refused.unwrap_err();
        assert!(words.contains(&own) && words.ends_with(mend), "{words}");
    }

    // Where no helper may look at the host's processes, the locks tell.
    let proxy = FaultProxy::start();
    let engine = std::mem::replace(&mut scene.stage.engine, proxy.engine().await);
    let refusal =
        r#"{"message":"cannot share the host PID namespace when user namespaces are enabled"}"#;
    let refuse = || {
        // The first helper of a driver tries out whether helpers can work at all.
        proxy.once("POST", "/containers/create", Fault::Delay(Duration::ZERO));
        let answer = Fault::Answer("400 Bad Request", refusal);
        proxy.once("POST", "/containers/create", answer);
    };
    refuse();
    let words = check(&scene).await.unwrap_err();
    assert!(
        words.contains("cannot see (") && words.contains("user namespaces"),
        "{words}"
    );
    drop(other);
    refuse();
    check(&scene).await.unwrap();
    refuse();
    let driver = scene.driver_of(&run, Moment::Restore).await;
    let writers = driver.writers(&scene.target()).await.unwrap();
    let unseen = writers.unseen.unwrap();
    assert!(unseen.contains("user namespaces"), "{unseen}");

    scene.stage.engine = engine;
    scene.commit(&run).await.unwrap();
    scene.start();
    assert_eq!(scene.sql("SELECT word FROM t"), "('saved',)");
    assert_eq!(scene.staged(), "");
}
