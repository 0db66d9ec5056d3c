//! Copies of databases as programs leave them. Programs that write meanwhile are another process: tests/sqlite_driver.rs.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::process::Command;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::manifest::JournalMode;

const PATIENCE: Duration = Duration::from_secs(1);

/// A directory with a database, and a place for its copy.
struct Scene {
    directory: TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("live")).unwrap();
        fs::create_dir(directory.path().join("copy")).unwrap();
        Self { directory }
    }

    fn with(sql: &str) -> Self {
        let scene = Self::new();
        let connection = scene.open();
        connection.execute_batch(sql).unwrap();
        connection.close().unwrap();
        scene
    }

    fn live(&self) -> PathBuf {
        self.directory.path().join("live/app.db")
    }

    fn copy_path(&self) -> PathBuf {
        self.directory.path().join("copy/copy")
    }

    fn open(&self) -> Connection {
        Connection::open(self.live()).unwrap()
    }

    fn copy(&self) -> Result<Copied, SqliteError> {
        copy(&self.live(), &self.copy_path(), PATIENCE)
    }

    fn copied(&self) -> (Copied, Look) {
        let copied = self.copy().unwrap();
        (copied, look(&self.copy_path()).unwrap())
    }

    #[track_caller]
    fn refused(&self) -> String {
        match self.copy() {
            Err(error) => error.to_string(),
            Ok(_) => look(&self.copy_path()).unwrap_err().to_string(),
        }
    }

    /// Everything that lies beside the live database, with its content.
    fn describe(&self) -> Vec<(String, Vec<u8>)> {
        let mut all: Vec<_> = fs::read_dir(self.live().parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                (
                    entry.file_name().into_string().unwrap(),
                    fs::read(entry.path()).unwrap(),
                )
            })
            .collect();
        all.sort();
        all
    }
}

fn rows(database: &Path, sql: &str) -> i64 {
    let connection = Connection::open(database).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Copies what a process has open to `to`: as it would be found were the process killed now.
fn kill(database: &Path, to: &Path) {
    for companion in ["", "-wal", "-shm", "-journal"] {
        let _ = fs::copy(beside(database, companion), beside(to, companion));
    }
}

const ROWS: &str = "CREATE TABLE t (n, blank); WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 2000)
     INSERT INTO t SELECT n, zeroblob(200) FROM c; PRAGMA user_version = 7;";

#[test]
fn a_database_at_rest_is_copied_with_what_is_known_of_it() {
    let scene = Scene::with(ROWS);
    fs::set_permissions(scene.live(), fs::Permissions::from_mode(0o640)).unwrap();
    let before = scene.describe();
    let (copied, look) = scene.copied();
    assert_eq!(copied.owner.mode, 0o640);
    assert_eq!(look.verdict, Verdict::Whole);
    let content = look.content;
    assert_eq!(content.user_version, 7);
    assert_eq!(content.page_size, 4096);
    assert_eq!(content.encoding, "UTF-8");
    assert_eq!(content.journal_mode, JournalMode::Rollback);
    assert_eq!(content.tables.len(), 1);
    assert_eq!(content.tables[0].rows, Some(2000));
    assert_eq!(fs::read(scene.copy_path()).unwrap(), before[0].1);
    assert_eq!(scene.describe(), before, "the live database was touched");
}

#[test]
fn what_is_only_in_the_log_is_in_the_copy() {
    let scene = Scene::new();
    let program = scene.open();
    program
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL; {ROWS} PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t VALUES (-1, '')"
        ))
        .unwrap();
    let killed = Scene::new();
    kill(&scene.live(), &killed.live());
    let before = killed.describe();
    let (copied, look) = killed.copied();
    assert_eq!(copied.held_up, Duration::ZERO);
    assert_eq!(look.content.journal_mode, JournalMode::Wal);
    assert_eq!(look.content.tables[0].rows, Some(2001));
    let names =
        |of: &[(String, Vec<u8>)]| of.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&killed.describe()), names(&before));
    for ((name, now), (_, then)) in killed.describe().iter().zip(&before) {
        assert!(name.ends_with("-shm") || now == then, "{name} was touched");
    }
    // One file, and nothing beside it.
    assert_eq!(
        fs::read_dir(killed.copy_path().parent().unwrap())
            .unwrap()
            .count(),
        1
    );
}

/// A database whose program was killed while it was changing it: pages are new, and only the journal has the old ones.
fn half_written() -> Scene {
    let scene = Scene::with(ROWS);
    let program = scene.open();
    program
        .execute_batch("PRAGMA cache_size = 5; BEGIN; UPDATE t SET n = -n, blank = zeroblob(199)")
        .unwrap();
    let killed = Scene::new();
    kill(&scene.live(), &killed.live());
    killed
}

#[test]
fn a_journal_that_a_crash_has_left_is_undone_in_the_copy_only() {
    let killed = half_written();
    let before = killed.describe();
    assert_eq!(before.len(), 2, "a journal is left");
    let (_, look) = killed.copied();
    assert_eq!(look.content.tables[0].rows, Some(2000));
    assert_eq!(
        rows(&killed.copy_path(), "SELECT count(*) FROM t WHERE n < 0"),
        0
    );
    assert_eq!(killed.describe(), before, "the live database was touched");

    // Without its journal the same file is neither old nor new.
    let bare = Scene::new();
    fs::copy(killed.live(), bare.live()).unwrap();
    let some = "SELECT count(*) FROM t NOT INDEXED WHERE n < 0";
    let torn = Connection::open(bare.live()).unwrap();
    let torn: rusqlite::Result<i64> = torn.query_row(some, [], |row| row.get(0));
    assert!(!matches!(torn, Ok(0)), "nothing was half written: {torn:?}");
}

#[test]
fn a_journal_of_several_databases_is_refused() {
    let killed = half_written();
    let journal = beside(&killed.live(), "-journal");
    let mut content = fs::read(&journal).unwrap();
    content.extend([0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
    fs::write(&journal, content).unwrap();
    // SQLite itself takes the journal for one of this database alone as long as the name before the magic is not sound.
    assert!(killed.refused().contains("over several databases"));
}

#[test]
fn an_empty_file_is_an_empty_database() {
    let scene = Scene::new();
    fs::write(scene.live(), "").unwrap();
    let (_, look) = scene.copied();
    assert_eq!(look.content.tables, []);
    assert_eq!(fs::metadata(scene.copy_path()).unwrap().len(), 0);
}

#[test]
fn what_is_no_database_is_refused_with_what_to_do() {
    let scene = Scene::new();
    assert!(scene.refused().contains("does not exist"));
    fs::write(
        scene.live(),
        "just some words, and more than a hundred bytes of them".repeat(100),
    )
    .unwrap();
    assert!(scene.refused().contains("or it is encrypted"));
    fs::remove_file(scene.live()).unwrap();
    symlink("/etc/passwd", scene.live()).unwrap();
    assert!(scene.refused().contains("cannot open it"));
    fs::remove_file(scene.live()).unwrap();
    fs::create_dir(scene.live()).unwrap();
    assert!(scene.refused().contains("not a regular file"));
    fs::remove_dir(scene.live()).unwrap();
    let made = Command::new("mkfifo").arg(scene.live()).status().unwrap();
    assert!(made.success() && scene.live().metadata().unwrap().file_type().is_fifo());
    assert!(scene.refused().contains("not a regular file"));
    assert!(!scene.copy_path().exists());
}

#[test]
fn a_damaged_database_is_refused_with_what_sqlite_found() {
    let scene = Scene::with(ROWS);
    let mut content = fs::read(scene.live()).unwrap();
    content[20 * 4096..21 * 4096].fill(0xa5);
    fs::write(scene.live(), &content).unwrap();
    let refused = scene.refused();
    assert!(
        refused.contains("it is damaged: ") && refused.contains("page 21"),
        "{refused}"
    );

    content.truncate(10 * 4096);
    fs::write(scene.live(), &content).unwrap();
    fs::remove_file(scene.copy_path()).unwrap();
    assert!(scene.refused().contains("it is damaged: "));
}

#[test]
fn a_schema_that_needs_its_own_program_is_saved_with_a_warning() {
    for (table, known, own, expected) in [
        (
            "CREATE TABLE t (word COLLATE NOCASE)",
            "NOCASE",
            "own",
            "no such collation sequence: own",
        ),
        (
            "CREATE TABLE t (word CHECK (upper(word) > 0))",
            "upper",
            "own",
            "own",
        ),
    ] {
        let scene = Scene::with(&format!(
            "{table}; CREATE INDEX i ON t (word); INSERT INTO t VALUES ('a'), ('b'); PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = replace(sql, '{known}', '{own}')"
        ));
        let (_, look) = scene.copied();
        let Verdict::OnlyStructure(words) = look.verdict else {
            panic!("{look:?}");
        };
        assert!(words.contains(expected), "{words}");
        assert_eq!(look.content.tables.len(), 1);

        // What is really damaged shows also then.
        let mut content = fs::read(scene.live()).unwrap();
        content[2 * 4096..].fill(0xa5);
        fs::write(scene.live(), content).unwrap();
        fs::remove_file(scene.copy_path()).unwrap();
        let refused = scene.refused();
        assert!(refused.contains("it is damaged: "), "{refused}");
    }
}

#[test]
fn rows_that_a_later_rule_forbids_are_no_damage() {
    let scene = Scene::with(
        "CREATE TABLE t (word, n); INSERT INTO t VALUES (NULL, -1); PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = 'CREATE TABLE t (word NOT NULL, n CHECK (n > 0))'",
    );
    let (_, look) = scene.copied();
    assert_eq!(
        look.verdict,
        Verdict::AgainstRules("NULL value in t.word".to_owned())
    );

    // What is damaged beside them is told all the same.
    let program = scene.open();
    program
        .execute_batch("CREATE TABLE other (a); INSERT INTO other VALUES (1)")
        .unwrap();
    program.close().unwrap();
    let mut content = fs::read(scene.live()).unwrap();
    content[2 * 4096..].fill(0xa5);
    fs::write(scene.live(), content).unwrap();
    fs::remove_file(scene.copy_path()).unwrap();
    let refused = scene.refused();
    assert!(
        refused.contains("it is damaged: ") && !refused.contains("NULL value"),
        "{refused}"
    );
}

#[test]
fn tables_and_rows_are_compared() {
    let scene = Scene::with(ROWS);
    let (_, look) = scene.copied();
    ensure_same_tables(&look.content, &look.content).unwrap();
    let mut other = look.content.clone();
    other.tables[0].rows = Some(1999);
    let error = ensure_same_tables(&look.content, &other).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("1 tables with 2000 rows were saved, but 1 with 1999"),
        "{error}"
    );
}
