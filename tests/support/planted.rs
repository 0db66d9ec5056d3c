//! Snapshots that a real backup wrote, once for all tests of a file, and planted anew for each test: in a directory or in a
//! real bucket, with whatever damage the test has done to them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

use jiff::{Timestamp, ToSpan as _};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{ObjectStoreExt as _, PutPayload, path::Path as Key};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_rustls::rustls::crypto::ring;

use super::s3::{Garage, KEYS, with_keys};
use super::stack::{Postgres, Run, TestStack};
use super::{TestContainer, remove_at_exit, unique};

/// There is no engine.
const NO_ENGINE: &str = "none";

/// What lies in a repository, by its path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A project with a database and files, and three snapshots of it.
pub struct Saved {
    pub stack: TestStack,
    pub app: TestContainer,
    pub postgres: Postgres,
    /// Oldest first: 40 days old, 20 days old, and of now.
    pub ids: [String; 3],
    pub files: Files,
    state: String,
}

pub static SAVED: LazyLock<Saved> = LazyLock::new(Saved::make);

/// One restore of the project at a time.
static RESTORES: Mutex<()> = Mutex::new(());

static GARAGE: LazyLock<Garage> = LazyLock::new(|| {
    let garage = Garage::start();
    remove_at_exit(&garage.container);
    garage
});

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

impl Saved {
    fn make() -> Self {
        let stack = TestStack::new("damage");
        let app = stack.toolbox("app", &[("cofferdam.files.data", "/data")], &[]);
        remove_at_exit(&app);
        app.sh("mkdir /data && head -c 200000 /dev/urandom > /data/file");
        let postgres = stack.postgres("db", &[("cofferdam.postgres", "clinical")]);
        remove_at_exit(&postgres.container);
        postgres.seed("clinical", 500);
        stack.cofferdam(&["backup"]).expect(0);
        let newest = stack.newest_snapshot();
        let newest = newest.file_name().expect("a name").to_str().expect("an id");
        let mut files = files_below(&stack.repository());
        let aged = [40, 20].map(|days| age(&mut files, newest, days));
        fs::remove_dir_all(stack.directory.path()).expect("it was read");
        let [oldest, middle] = aged;
        let mut saved = Self {
            ids: [oldest, middle, newest.to_owned()],
            state: String::new(),
            stack,
            app,
            postgres,
            files,
        };
        saved.state = saved.state();
        saved
    }

    /// Of the database, that it is the same one, with the same rows; of the files, all.
    fn state(&self) -> String {
        let databases = "SELECT string_agg(oid || datname, ' ' ORDER BY datname) FROM pg_database";
        format!(
            "{} {} {}",
            self.postgres.sql("template1", databases),
            self.postgres.fingerprint("clinical"),
            self.app.sh("cd /data && sha256sum $(find . -type f)")
        )
    }

    pub fn newest(&self) -> &str {
        &self.ids[2]
    }

    /// The path of a file in the place of a snapshot.
    pub fn path(&self, id: &str, file: &str) -> String {
        format!("{}/{id}/{file}", self.stack.project)
    }

    /// The path of the newest snapshot's artifact of the database, or of the files.
    pub fn artifact(&self, service: &str) -> String {
        let manifest = self.files[&self.path(self.newest(), "manifest.json")].as_slice();
        let manifest: Value = serde_json::from_slice(manifest).expect("JSON");
        let records = manifest["targets"].as_array().expect("targets").iter();
        let prefix = self.path(self.newest(), service);
        let mut artifacts =
            records.flat_map(|record| record["artifacts"].as_array().expect("some"));
        let artifact = artifacts.find(|artifact| {
            let holds_data = artifact["role"] == "dump" || artifact["role"] == "layer";
            holds_data
                && artifact["object"]
                    .as_str()
                    .expect("a path")
                    .starts_with(&prefix)
        });
        let object = &artifact.expect("an artifact")["object"];
        object.as_str().expect("a path").to_owned()
    }
}

/// The snapshot once more, as if it had been taken some days before.
fn age(files: &mut Files, id: &str, days: i64) -> String {
    let time = Timestamp::now() - (days * 24).hours();
    let older = format!("{}-{}", time.strftime("%Y%m%dT%H%M%SZ"), &id[17..]);
    let place = format!("/{id}/");
    let own: Vec<String> = files
        .keys()
        .filter(|path| path.contains(&place))
        .cloned()
        .collect();
    for path in own {
        let mut bytes = files[&path].clone();
        if path.ends_with("/manifest.json") {
            let text = String::from_utf8(bytes).expect("text").replace(id, &older);
            let mut manifest: Value = serde_json::from_str(&text).expect("JSON");
            manifest["started"] = json!(time);
            manifest["finished"] = json!(time);
            bytes = manifest.to_string().into_bytes();
        }
        files.insert(path.replace(id, &older), bytes);
    }
    older
}

/// Regular files alone, and no link is followed.
pub fn files_below(root: &Path) -> Files {
    let mut files = Files::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let entry = entry.expect("an entry");
            let kind = entry.file_type().expect("a kind");
            let path = entry.path();
            if kind.is_dir() {
                waiting.push(path);
            } else if kind.is_file() {
                let name = path.strip_prefix(root).expect("below").to_string_lossy();
                files.insert(name.into_owned(), fs::read(&path).expect("a file"));
            }
        }
    }
    files
}

enum Place {
    Directory(TempDir),
    Bucket { prefix: String, store: AmazonS3 },
}

/// A repository, and what was put into it.
pub struct Planted {
    place: Place,
    files: Files,
    second: TempDir,
}

impl Planted {
    pub fn in_directory(damage: impl Fn(&mut Files)) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self::new(Place::Directory(directory), damage)
    }

    pub fn in_bucket(damage: impl Fn(&mut Files)) -> Self {
        let prefix = unique("planted");
        // The store's client wants one, although no TLS is spoken here. Another test may have been first.
        ring::default_provider().install_default().ok();
        let store = AmazonS3Builder::new()
            .with_endpoint(format!("http://{}", GARAGE.address()))
            .with_allow_http(true)
            .with_region("garage")
            .with_bucket_name("backups")
            .with_access_key_id(KEYS[0].1)
            .with_secret_access_key(KEYS[1].1)
            .build()
            .expect("a bucket");
        Self::new(Place::Bucket { prefix, store }, damage)
    }

    fn new(place: Place, damage: impl Fn(&mut Files)) -> Self {
        let mut files = SAVED.files.clone();
        damage(&mut files);
        let planted = Self {
            place,
            files,
            second: tempfile::tempdir().expect("a temporary directory"),
        };
        for (path, bytes) in &planted.files {
            match &planted.place {
                Place::Directory(root) => {
                    let path = root.path().join(path);
                    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
                    fs::write(path, bytes).expect("a file");
                }
                Place::Bucket { prefix, store } => {
                    let key = Key::parse(format!("{prefix}/{path}")).expect("a key");
                    let put = store.put(&key, PutPayload::from(bytes.clone()));
                    RUNTIME.block_on(put).expect("put");
                }
            }
        }
        planted
    }

    pub fn root(&self) -> &Path {
        match &self.place {
            Place::Directory(root) => root.path(),
            Place::Bucket { prefix, .. } => panic!("{prefix} lies in a bucket"),
        }
    }

    pub fn url(&self) -> String {
        match &self.place {
            Place::Directory(root) => root.path().display().to_string(),
            Place::Bucket { prefix, .. } => GARAGE.url(prefix),
        }
    }

    /// Where `copy` sends snapshots.
    pub fn second(&self) -> String {
        self.second.path().join("copies").display().to_string()
    }

    /// Cofferdam where only the repository can be reached.
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.run_at(&self.url(), arguments)
    }

    pub fn run_at(&self, repository: &str, arguments: &[&str]) -> Run {
        let mut command = SAVED.stack.command_at(repository, arguments);
        with_keys(&mut command).env("DOCKER_HOST", NO_ENGINE);
        command.output().expect("cofferdam").into()
    }

    /// Runs each of the commands, which must end with this code and say these words.
    #[track_caller]
    pub fn meets(&self, expected: &[(&[&str], i32, &str)]) {
        for (arguments, code, words) in expected {
            let run = self.run(arguments);
            assert!(
                run.code == *code && (run.stdout.contains(words) || run.stderr.contains(words)),
                "{arguments:?} in {} ended with {} (not {code}), or does not say `{words}`\n{}\n{}",
                self.url(),
                run.code,
                run.stdout,
                run.stderr
            );
        }
    }

    /// A restore says these words, and leaves everything as it is.
    #[track_caller]
    pub fn refuses_to_restore(&self, snapshot: &str, code: i32, words: &str) {
        let _turn = RESTORES.lock().unwrap_or_else(PoisonError::into_inner);
        let restore = self.restore(&[snapshot]);
        restore.expect_says(code, words);
        assert_eq!(SAVED.state(), SAVED.state, "something was changed");
        SAVED.stack.ensure_nothing_is_left();
    }

    /// A restore brings back what was saved, and leaves a safety snapshot.
    #[track_caller]
    pub fn restores_files(&self, snapshot: &str) {
        let _turn = RESTORES.lock().unwrap_or_else(PoisonError::into_inner);
        SAVED
            .app
            .sh("echo later > /data/file; echo new > /data/new");
        self.restore(&[snapshot, "app/*"]).expect(0);
        assert_eq!(SAVED.state(), SAVED.state);
        SAVED.stack.ensure_nothing_is_left();
    }

    fn restore(&self, arguments: &[&str]) -> Run {
        let arguments = [&["restore", "--yes"], arguments].concat();
        let mut command = SAVED.stack.command_at(self.url(), &arguments);
        with_keys(&mut command).output().expect("cofferdam").into()
    }

    /// All that lies in the repository now.
    pub fn content(&self) -> Files {
        match &self.place {
            Place::Directory(root) => files_below(root.path()),
            Place::Bucket { prefix, store } => RUNTIME.block_on(objects_below(store, prefix)),
        }
    }

    #[track_caller]
    pub fn is_as_planted(&self) {
        self.lacks_only(|_| false);
    }

    /// Everything is there as it was planted, except what is said to be gone.
    #[track_caller]
    pub fn lacks_only(&self, gone: impl Fn(&str) -> bool) {
        let mut expected = self.files.clone();
        expected.retain(|path, _| !gone(path));
        let content = self.content();
        let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&content), names(&expected));
        assert!(content == expected, "something was written over");
    }
}

async fn objects_below(store: &AmazonS3, prefix: &str) -> Files {
    use futures_util::TryStreamExt as _;
    use object_store::ObjectStore as _;
    let root = Key::parse(prefix).expect("a key");
    let listed: Vec<_> = store.list(Some(&root)).try_collect().await.expect("a list");
    let mut files = Files::new();
    for object in listed {
        let bytes = store
            .get(&object.location)
            .await
            .expect("an object")
            .bytes()
            .await;
        let path = object.location.as_ref()[prefix.len() + 1..].to_owned();
        files.insert(path, bytes.expect("bytes").to_vec());
    }
    files
}
