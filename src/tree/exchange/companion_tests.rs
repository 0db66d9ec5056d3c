//! Databases that are exchanged, stopped before every single change, and what SQLite makes of what lies there then.

use std::fs::{self as std_fs, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::sqlite::COMPANIONS;
use crate::target::{DriverKind, TargetId};
use crate::tree::change::fault::{stopped_after, without_exchange};
use crate::tree::staging::{StagingPlan, discard, staging_name};
use crate::tree::unpack::Directories;

const DATABASE: &str = "data/app.db";

/// A mount with a database in write-ahead mode, a part of which is only in its log, and another one staged.
struct Scene {
    mount: TempDir,
    plan: StagingPlan,
}

impl Scene {
    fn new() -> Self {
        let mount = tempfile::tempdir().unwrap();
        let live = mount.path().join(DATABASE);
        std_fs::create_dir(live.parent().unwrap()).unwrap();
        leave_as_a_kill_does(&live);
        let path =
            |companion| TreePath::parse(format!("{DATABASE}{companion}").as_bytes()).unwrap();
        let plan = StagingPlan {
            project: "igny8".to_owned(),
            run: "20261121T020000Z-9f2c61aa".parse().unwrap(),
            target: TargetId::new("app", DriverKind::Sqlite, "app.db"),
            place: path(""),
            shape: TreeShape::File,
            mode: TreeRestore::Replace,
            selection: Vec::new(),
            companions: COMPANIONS.map(path).to_vec(),
            stays: crate::tree::stays::Stays::default(),
        };
        Self { mount, plan }
    }

    fn load(&self) -> Result<()> {
        let mut staging = Staging::begin(self.mount(), self.plan.clone())?;
        let new = self.mount.path().join(self.name()).join("new/app.db");
        let saved = Connection::open(new).unwrap();
        saved
            .execute_batch("CREATE TABLE t (word); INSERT INTO t VALUES ('saved')")
            .unwrap();
        saved.close().unwrap();
        staging.loaded(&Directories::new())
    }

    fn live(&self) -> PathBuf {
        self.mount.path().join(DATABASE)
    }

    fn mount(&self) -> OwnedFd {
        File::open(self.mount.path()).unwrap().into()
    }

    fn name(&self) -> String {
        staging_name(&self.plan.run, &self.plan.target)
    }

    fn exchange(&self) -> Result<Outcome> {
        exchange(&self.mount(), self.name().as_bytes()).map(|(outcome, _)| outcome)
    }

    fn companions(&self) -> Vec<&'static str> {
        let of_live = |companion: &&str| {
            let path = format!("{}{companion}", self.live().display());
            Path::new(&path).exists()
        };
        COMPANIONS.into_iter().filter(of_live).collect()
    }

    /// Looks at the file alone, in a directory of its own: what is beside it is not to help.
    fn is_new_in_place(&self) -> bool {
        let Ok(content) = std_fs::read(self.live()) else {
            return false;
        };
        let alone = tempfile::tempdir().unwrap();
        let copy = alone.path().join("db");
        std_fs::write(&copy, content).unwrap();
        words(&copy) == ["saved"]
    }
}

/// A database whose last row is only in the log, as a process leaves it that is killed.
fn leave_as_a_kill_does(database: &Path) {
    let elsewhere = tempfile::tempdir().unwrap();
    let original = elsewhere.path().join("app.db");
    let connection = Connection::open(&original).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE t (word); INSERT INTO t VALUES ('old');
             PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t VALUES ('in the log')",
        )
        .unwrap();
    for companion in ["", "-wal", "-shm"] {
        let path = |of: &Path| format!("{}{companion}", of.display());
        std_fs::copy(path(&original), path(database)).unwrap();
    }
}

fn words(database: &Path) -> Vec<String> {
    let connection = Connection::open(database).unwrap();
    let mut statement = connection.prepare("SELECT word FROM t").unwrap();
    let words = statement.query_map([], |row| row.get(0)).unwrap();
    words.map(std::result::Result::unwrap).collect()
}

#[test]
fn a_log_left_beside_another_database_would_ruin_it() {
    // What all of this is for: without the exchange of companions, SQLite reads the old log into the new file.
    let scene = Scene::new();
    let saved = scene.mount.path().join("saved.db");
    let connection = Connection::open(&saved).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE t (word); INSERT INTO t VALUES ('saved'); PRAGMA journal_mode = WAL",
        )
        .unwrap();
    connection.close().unwrap();
    std_fs::rename(&saved, scene.live()).unwrap();
    assert_eq!(words(&scene.live()), ["old", "in the log"]);
}

fn every_stop_is_survived(exchange_once: fn(&Scene) -> Result<Outcome>) -> u32 {
    for after in 0.. {
        let scene = Scene::new();
        scene.load().unwrap();
        match stopped_after(after, || exchange_once(&scene)) {
            Ok(Outcome::Done) => {
                assert_eq!(words(&scene.live()), ["saved"]);
                return after;
            }
            Ok(Outcome::Nothing) => panic!("something was staged"),
            Err(error) => assert!(matches!(error, TreeError::Stopped), "{error}"),
        }
        let is_placed = scene.is_new_in_place();
        if is_placed {
            assert_eq!(scene.companions(), Vec::<&str>::new(), "after {after}");
        }
        // What is not decided is undone; what is, finished.
        let is_undone = discard(&scene.mount(), scene.name().as_bytes()).is_ok() && !is_placed;
        if is_undone {
            assert_eq!(words(&scene.live()), ["old", "in the log"], "after {after}");
        } else {
            scene.exchange().unwrap();
            assert_eq!(scene.companions(), Vec::<&str>::new(), "after {after}");
            assert_eq!(words(&scene.live()), ["saved"], "after {after}");
        }
        assert_eq!(scene.exchange().unwrap(), Outcome::Nothing);
        assert_eq!(std_fs::read_dir(scene.mount.path()).unwrap().count(), 1);
    }
    unreachable!("the exchange ends")
}

#[test]
fn a_database_that_is_exchanged_never_meets_the_log_of_the_old_one() {
    assert!(every_stop_is_survived(Scene::exchange) > 10);
}

#[test]
fn also_where_the_file_system_exchanges_nothing() {
    let exchange = |scene: &Scene| without_exchange(|| scene.exchange());
    assert!(every_stop_is_survived(exchange) > 10);
}

#[test]
fn what_a_started_program_left_beside_the_old_database_goes_too() {
    for after in 0.. {
        let scene = Scene::new();
        scene.load().unwrap();
        let stopped = stopped_after(after, || scene.exchange());
        if stopped.is_ok() {
            break;
        }
        // The machine comes up, and with it a program that writes.
        let program = Connection::open(scene.live()).unwrap();
        program
            .execute_batch("CREATE TABLE IF NOT EXISTS t (word); INSERT INTO t VALUES ('since')")
            .unwrap();
        let was_placed = words(&scene.live())[0] == "saved";
        // Killed: it closes nothing.
        std::mem::forget(program);
        if matches!(scene.exchange(), Ok(Outcome::Done)) {
            let expected: &[&str] = if was_placed {
                &["saved", "since"]
            } else {
                &["saved"]
            };
            assert_eq!(words(&scene.live()), expected, "after {after}");
        }
    }
}

#[test]
fn what_a_program_keeps_beside_the_new_database_stays() {
    let scene = Scene::new();
    scene.load().unwrap();
    let placed = (0..).find(|after| {
        let _ = stopped_after(*after, || scene.exchange());
        scene.is_new_in_place()
    });
    assert!(placed.is_some());
    let log = format!("{}-wal", scene.live().display());
    std_fs::write(&log, "the new one's").unwrap();
    scene.exchange().unwrap();
    assert_eq!(std_fs::read_to_string(&log).unwrap(), "the new one's");
}
