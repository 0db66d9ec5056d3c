//! What is restored, and how a test tells the old from the new.

use serde_json::json;

use crate::support::http::Server;
use crate::support::mysql::MysqlServer;
use crate::support::stack::Postgres;
use crate::support::{TestContainer, docker};

pub(super) const OLD: &str = "old";
pub(super) const NEW: &str = "new";

/// Something that is restored.
pub(super) trait Store {
    /// The same as `word`, whatever was there before.
    fn write(&self, word: &str);

    /// What is there, with all that Cofferdam may have left beside it.
    fn read(&self) -> String;

    /// What is there when the restore of [`NEW`] over [`OLD`] has come to its end.
    fn restored(&self) -> String;
}

/// How a tree is restored, as its label has it.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Tree {
    Replace,
    Overlay,
    KeepExisting,
}

/// A directory of a container.
pub(super) struct Files {
    container: String,
    path: &'static str,
    restore: Tree,
}

impl Files {
    pub(super) fn of(container: &TestContainer, path: &'static str, restore: Tree) -> Self {
        Self {
            container: container.name.clone(),
            path,
            restore,
        }
    }
}

impl Store for Files {
    fn write(&self, word: &str) {
        let path = self.path;
        sh(
            &self.container,
            &format!(
                "mkdir -p {path} && cd {path} && find . -mindepth 1 -delete; \
                 mkdir {word} && echo {word} >{word}/own && echo {word} >word"
            ),
        );
    }

    fn read(&self) -> String {
        let list = format!(
            "cd {} && find . -mindepth 1 | sort | tr '\\n' ' '; cat word",
            self.path
        );
        sh(&self.container, &list)
    }

    fn restored(&self) -> String {
        match self.restore {
            Tree::Replace => "./new ./new/own ./word new",
            Tree::Overlay => "./new ./new/own ./old ./old/own ./word new",
            Tree::KeepExisting => "./new ./new/own ./old ./old/own ./word old",
        }
        .to_owned()
    }
}

/// One path of a directory is restored.
pub(super) struct OnePath(pub Files);

impl Store for OnePath {
    fn write(&self, word: &str) {
        self.0.write(word);
    }

    fn read(&self) -> String {
        self.0.read()
    }

    fn restored(&self) -> String {
        "./old ./old/own ./word new".to_owned()
    }
}

/// A file that commands of the user's own dump and load.
pub(super) struct Commands(pub String);

pub(super) const DUMP: (&str, &str) = ("cofferdam.command.toy.dump", "cat /srv/toy");
pub(super) const LOAD: (&str, &str) = ("cofferdam.command.toy.load", "sh -c 'cat >/srv/toy'");

impl Store for Commands {
    fn write(&self, word: &str) {
        sh(&self.0, &format!("echo {word} >/srv/toy"));
    }

    fn read(&self) -> String {
        sh(&self.0, "cat /srv/toy")
    }

    fn restored(&self) -> String {
        NEW.to_owned()
    }
}

/// A database in a file.
pub(super) struct Sqlite {
    pub container: String,
    pub directory: &'static str,
}

pub(super) const SQLITE: &str = r#"
import os, sqlite3, sys
os.makedirs(sys.argv[1], exist_ok=True)
db = sqlite3.connect(sys.argv[1] + "/db", isolation_level=None)
if len(sys.argv) > 2:
    db.executescript("DROP TABLE IF EXISTS words; CREATE TABLE words (word); INSERT INTO words VALUES ('%s')" % sys.argv[2])
print(db.execute("SELECT word FROM words").fetchone()[0], *(sorted(name for name in os.listdir(sys.argv[1])
      # With nothing new in it, it goes with the next backup.
      if not (name.startswith(".cofferdam-") and not any(dirs or files for _, dirs, files in os.walk(f"{sys.argv[1]}/{name}/new"))))))
"#;

impl Store for Sqlite {
    fn write(&self, word: &str) {
        let script = ["python3", "-c", SQLITE, self.directory, word];
        docker_exec(&self.container, &script);
    }

    fn read(&self) -> String {
        docker_exec(&self.container, &["python3", "-c", SQLITE, self.directory])
    }

    fn restored(&self) -> String {
        "new db".to_owned()
    }
}

/// A database of PostgreSQL.
pub(super) struct Clinical(pub Postgres);

impl Store for Clinical {
    fn write(&self, word: &str) {
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS state (word text); TRUNCATE state; INSERT INTO state VALUES ('{word}')"
        );
        self.0.sql("clinical", &sql);
    }

    fn read(&self) -> String {
        let word = self.0.sql("clinical", "SELECT word FROM state");
        format!("{word} in {}", self.0.databases().join(" "))
    }

    fn restored(&self) -> String {
        "new in clinical postgres template0 template1".to_owned()
    }
}

/// A database of MariaDB.
pub(super) struct Shop(pub MysqlServer);

impl Store for Shop {
    fn write(&self, word: &str) {
        self.0.sql("", "CREATE DATABASE IF NOT EXISTS shop");
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS state (word text); DELETE FROM state; INSERT INTO state VALUES ('{word}')"
        );
        self.0.sql("shop", &sql);
    }

    fn read(&self) -> String {
        let word = self.0.sql("shop", "SELECT word FROM state");
        format!("{word} in {}", self.0.databases().join(" "))
    }

    fn restored(&self) -> String {
        "new in shop".to_owned()
    }
}

/// A server that is put back as its data directory, and stopped for it.
pub(super) struct DataDirectory(pub Postgres);

impl Store for DataDirectory {
    fn write(&self, word: &str) {
        self.0.wait_until_ready();
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS state (word text); TRUNCATE state; INSERT INTO state VALUES ('{word}')"
        );
        self.0.sql("clinical", &sql);
    }

    fn read(&self) -> String {
        self.0.wait_until_ready();
        let word = self.0.sql("clinical", "SELECT word FROM state");
        let left = sh(
            &self.0.container.id,
            "ls -d $PGDATA/../.cofferdam* 2>/dev/null || true",
        );
        format!("{word}{left}")
    }

    fn restored(&self) -> String {
        NEW.to_owned()
    }
}

/// A node of CouchDB, which is stopped while its data is replaced.
pub(super) struct Documents(pub Server);

impl Store for Documents {
    fn write(&self, word: &str) {
        self.0.wait_until_it_answers();
        if self.0.status("/state") == 404 {
            self.0.put("/state", json!({}));
        }
        let revision = self.0.ask("GET", "/state/word", None).1["_rev"].take();
        let mut document = json!({ "word": word });
        if revision.is_string() {
            document["_rev"] = revision;
        }
        self.0.put("/state/word", document);
    }

    fn read(&self) -> String {
        self.0.wait_until_it_answers();
        let document = self.0.get("/state/word");
        let files = self.0.container.sh("echo $(ls -A data)");
        format!("{} in {files}", document["word"])
    }

    fn restored(&self) -> String {
        "\"new\" in _dbs.couch _nodes.couch shards".to_owned()
    }
}

/// Indices of Elasticsearch.
pub(super) struct Indices(pub Server);

impl Store for Indices {
    fn write(&self, word: &str) {
        self.0.wait_until_it_answers();
        self.0.put("/state/_doc/1", json!({ "word": word }));
    }

    fn read(&self) -> String {
        let document = self.0.get("/state/_doc/1");
        let repositories = self.0.get("/_snapshot");
        format!("{} in {repositories}", document["_source"]["word"])
    }

    fn restored(&self) -> String {
        "\"new\" in {}".to_owned()
    }
}

pub(super) fn sh(container: &str, script: &str) -> String {
    docker_exec(container, &["sh", "-c", script])
}

pub(super) fn docker_exec(container: &str, command: &[&str]) -> String {
    docker([&["exec", container], command].concat())
}
