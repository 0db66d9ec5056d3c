//! A restore that is killed at every call that changes something in the engine, in every mode: another process recovers it, and
//! what is there is all old or all new, of all targets, with nothing left over.
//!
//! Every call with `KILL_STEP=1`, each seventh otherwise: a kill takes many seconds. One stack serves for all kills of a
//! test. Each target makes the calls more and each kill longer, so a stack has two or three: enough for one decision about
//! all of them.

mod stores;

use std::collections::BTreeSet;
use std::process::ExitStatus;
use std::time::Duration;

use self::stores::{
    Clinical, Commands, DUMP, DataDirectory, Documents, Files, Indices, LOAD, NEW, OLD, OnePath,
    Shop, Sqlite, Store, Tree, sh,
};
use crate::support::http::Server;
use crate::support::mysql::{self, MysqlServer};
use crate::support::proxy::FaultProxy;
use crate::support::stack::{PASSWORD, TestStack, compose_volume, is_running};
use crate::support::{TestContainer, TestVolume, docker};

/// One stack with its stores, and the containers that have to run when everything is over.
struct Scenario {
    stack: TestStack,
    stores: Vec<(&'static str, Box<dyn Store>)>,
    containers: Vec<TestContainer>,
    _volumes: Vec<TestVolume>,
}

impl Scenario {
    fn new(what: &str) -> Self {
        Self {
            stack: TestStack::new(what),
            stores: Vec::new(),
            containers: Vec::new(),
            _volumes: Vec::new(),
        }
    }

    fn add(&mut self, name: &'static str, store: impl Store + 'static) {
        self.stores.push((name, Box::new(store)));
    }

    fn volume(&mut self, name: &str) -> String {
        let volume = compose_volume(&self.stack, name);
        let mount = format!("{}:/{name}", volume.name);
        self._volumes.push(volume);
        mount
    }

    /// A file that commands of the user's own dump and load.
    fn add_command(&mut self) {
        let toy = self.stack.toolbox("toy", &[DUMP, LOAD], &[]);
        self.add("command", Commands(toy.name.clone()));
        self.containers.push(toy);
    }

    /// A container whose volume is saved, and that is stopped for it.
    fn app(&mut self) -> TestContainer {
        let mount = self.volume("data");
        let labels = [
            ("cofferdam.volumes", "data"),
            ("cofferdam.stop", "backup,restore"),
        ];
        self.stack.toolbox("app", &labels, &["--volume", &mount])
    }

    fn write(&self, word: &str) {
        for (_, store) in &self.stores {
            store.write(word);
        }
    }

    fn read(&self) -> Vec<String> {
        let stores = self.stores.iter();
        stores
            .map(|(name, store)| format!("{name}: {}", store.read()))
            .collect()
    }

    /// Kills a restore with `arguments` before each call in turn.
    fn survives(&self, arguments: &[&str]) {
        let step: u32 = std::env::var("KILL_STEP")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(7);
        self.write(NEW);
        self.stack.cofferdam(&["backup"]).expect(0);
        let snapshot = self.stack.manifest()["snapshot"].clone();
        let snapshot = snapshot.as_str().expect("an id");
        let arguments = [&["restore", snapshot, "--yes"], arguments].concat();
        self.write(OLD);
        let old = self.read();
        let stores = self.stores.iter();
        let new: Vec<String> = stores
            .map(|(name, store)| format!("{name}: {}", store.restored()))
            .collect();

        let mut outcomes = BTreeSet::new();
        for (turn, call) in (0..).step_by(step.max(1) as usize).enumerate() {
            self.write(OLD);
            if let Some(status) = self.killed_at(call, &arguments) {
                assert!(status.success(), "{status}");
                assert_eq!(self.read(), new, "restored");
                break;
            }
            let run = self.stack.cofferdam(&["recover"]).expect(0);
            let state = self.read();
            let is_new = state == new;
            assert!(
                is_new || state == old,
                "after call {call}: {state:#?}\nold: {old:#?}\nnew: {new:#?}\n{run:?}"
            );
            self.ensure_all_is_well(call);
            // What a backup meets is the same after most calls.
            if step == 1 || turn % 4 == 0 {
                self.stack.cofferdam(&["backup"]).expect(0);
            }
            outcomes.insert(is_new);
        }
        assert!(
            outcomes.contains(&false),
            "no kill came before the decision"
        );
    }

    /// How the restore ended, where it came to its end before that call.
    fn killed_at(&self, call: u32, arguments: &[&str]) -> Option<ExitStatus> {
        let proxy = FaultProxy::start();
        proxy.hang_after_changes(call);
        let mut command = self.stack.command(arguments);
        command.env("DOCKER_HOST", proxy.docker_host());
        let mut child = command.spawn().expect("cofferdam");
        loop {
            if let Some(status) = child.try_wait().expect("wait") {
                return Some(status);
            }
            if proxy.is_hanging() {
                child.kill().expect("kill");
                child.wait().expect("wait");
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn ensure_all_is_well(&self, call: u32) {
        for container in &self.containers {
            assert!(is_running(container), "after call {call}");
        }
        let project = format!("label=com.docker.compose.project={}", self.stack.project);
        for container in docker(["ps", "--quiet", "--filter", &project]).lines() {
            let left = sh(
                container,
                "find /tmp /var/tmp -maxdepth 1 -name '.cofferdam*'",
            );
            assert_eq!(left, "", "after call {call}");
        }
        self.stack.ensure_nothing_is_left();
    }
}

/// Volumes, restored in each way that a label can ask for.
fn volumes(what: &str) -> Scenario {
    let mut scenario = Scenario::new(what);
    let mounts = ["data", "extra", "kept"].map(|name| scenario.volume(name));
    let options: Vec<_> = mounts
        .iter()
        .flat_map(|mount| ["--volume", mount])
        .collect();
    let app = scenario.stack.toolbox(
        "app",
        &[
            ("cofferdam.volumes", "data,extra,kept"),
            ("cofferdam.volumes.extra.restore", "overlay"),
            ("cofferdam.volumes.kept.restore", "keep-existing"),
            ("cofferdam.stop", "backup,restore"),
        ],
        &options,
    );
    for (path, restore) in [
        ("/data", Tree::Replace),
        ("/extra", Tree::Overlay),
        ("/kept", Tree::KeepExisting),
    ] {
        scenario.add(path, Files::of(&app, path, restore));
    }
    scenario.containers.push(app);
    scenario
}

/// A directory in a container's own layer, and a file behind commands.
fn layer(what: &str) -> Scenario {
    let mut scenario = Scenario::new(what);
    let path = "/srv/conf";
    let conf = scenario
        .stack
        .toolbox("conf", &[("cofferdam.files.conf", path)], &[]);
    scenario.add("layer", Files::of(&conf, path, Tree::Replace));
    scenario.containers.push(conf);
    scenario.add_command();
    scenario
}

/// SQLite, on a volume and in a container's own layer.
fn sqlite(what: &str) -> Scenario {
    let mut scenario = Scenario::new(what);
    let mount = scenario.volume("lite");
    for (service, directory, options) in [
        ("lite", "/lite", &["--volume", &*mount][..]),
        ("lite-layer", "/srv/lite", &[]),
    ] {
        let path = format!("{directory}/db");
        let labels = [("cofferdam.sqlite", &*path), ("cofferdam.stop", "restore")];
        let container = scenario.stack.toolbox(service, &labels, options);
        let database = Sqlite {
            container: container.name.clone(),
            directory,
        };
        scenario.add(service, database);
        scenario.containers.push(container);
    }
    scenario
}

#[test]
fn volumes_beside_the_old_ones() {
    volumes("killed-volumes").survives(&[]);
}

#[test]
fn volumes_over_the_old_ones() {
    volumes("killed-in-place").survives(&["--in-place"]);
}

#[test]
fn a_layer_beside_the_old_one() {
    layer("killed-layer").survives(&[]);
}

#[test]
fn a_layer_over_the_old_one() {
    layer("killed-layer-in-place").survives(&["--in-place"]);
}

#[test]
fn sqlite_beside_the_old_one() {
    sqlite("killed-sqlite").survives(&[]);
}

#[test]
fn sqlite_over_the_old_one() {
    sqlite("killed-sqlite-in-place").survives(&["--in-place"]);
}

#[test]
fn one_path_of_a_volume() {
    let mut scenario = Scenario::new("killed-path");
    let app = scenario.app();
    scenario.add("volume", OnePath(Files::of(&app, "/data", Tree::Replace)));
    scenario.containers.push(app);
    scenario.survives(&["--path", "word"]);
    scenario.survives(&["--path", "word", "--in-place"]);
}

/// A server of PostgreSQL with one more label.
fn postgres(scenario: &mut Scenario, service: &'static str, label: Option<(&str, &str)>) {
    let labels: Vec<_> = [("cofferdam.postgres", "*")]
        .into_iter()
        .chain(label)
        .collect();
    let server = scenario.stack.postgres(service, &labels);
    scenario.add(service, Clinical(server));
}

#[test]
fn databases_of_postgres_that_change_places() {
    let mut scenario = Scenario::new("killed-places");
    postgres(&mut scenario, "swap", None);
    let recreate = ("cofferdam.postgres.restore", "recreate");
    postgres(&mut scenario, "recreate", Some(recreate));
    scenario.survives(&[]);
}

#[test]
fn a_database_of_postgres_that_is_written_over() {
    let mut scenario = Scenario::new("killed-clean");
    let clean = ("cofferdam.postgres.restore", "clean");
    postgres(&mut scenario, "clean", Some(clean));
    let app = scenario.app();
    scenario.add("volume", Files::of(&app, "/data", Tree::Replace));
    scenario.containers.push(app);
    scenario.survives(&[]);
}

#[test]
fn a_server_of_postgres() {
    let mut scenario = Scenario::new("killed-dumpall");
    let dumpall = ("cofferdam.postgres.mode", "dumpall");
    postgres(&mut scenario, "dumpall", Some(dumpall));
    scenario.add_command();
    scenario.survives(&[]);
}

#[test]
fn databases_of_mariadb() {
    let mut scenario = Scenario::new("killed-mariadb");
    let password = format!("MYSQL_ROOT_PASSWORD={}", mysql::PASSWORD);
    for (service, restore) in [("swapped", "swap"), ("recreated", "recreate")] {
        let labels = [
            ("cofferdam.mysql", "shop"),
            ("cofferdam.mysql.restore", restore),
        ];
        let image = format!("cofferdam-test/{}", mysql::MARIADB);
        let options = ["--env", &*password];
        let container = scenario
            .stack
            .service(service, &labels, &options, &[&image]);
        scenario.add(service, Shop(MysqlServer::of(container, mysql::MARIADB)));
    }
    scenario.survives(&[]);
}

#[test]
fn a_data_directory() {
    let mut scenario = Scenario::new("killed-directory");
    let data = compose_volume(&scenario.stack, "pgdata");
    let mount = format!("{}:/var/lib/postgresql/data", data.name);
    scenario._volumes.push(data);
    let labels = [
        ("cofferdam.postgres", "*"),
        ("cofferdam.postgres.mode", "basebackup"),
    ];
    let server = scenario
        .stack
        .postgres_with("db", &labels, &["--volume", &mount]);
    scenario.add("basebackup", DataDirectory(server));
    scenario.add_command();
    scenario.survives(&[]);
}

#[test]
fn a_node_of_couchdb() {
    let mut scenario = Scenario::new("killed-couchdb");
    let data = compose_volume(&scenario.stack, "couch");
    let mount = format!("{}:/opt/couchdb/data", data.name);
    scenario._volumes.push(data);
    let password = format!("COUCHDB_PASSWORD={PASSWORD}");
    let options = [
        ["--volume", &mount],
        ["--env", "NODENAME=here"],
        ["--env", "COUCHDB_USER=admin"],
        ["--env", &password],
    ];
    let container = scenario.stack.service(
        "couch",
        &[("cofferdam.couchdb", "*")],
        &options.concat(),
        &["cofferdam-test/couchdb-stand-in:3"],
    );
    let server = Server {
        container,
        base: "http://127.0.0.1:5984".to_owned(),
        login: format!("admin:{PASSWORD}"),
    };
    scenario.add("couchdb", Documents(server));
    scenario.add_command();
    scenario.survives(&[]);
}

#[test]
fn indices_of_elasticsearch() {
    let mut scenario = Scenario::new("killed-search");
    let container = scenario.stack.service(
        "search",
        &[("cofferdam.elasticsearch", "*")],
        &["--env", "path.repo=/usr/share/elasticsearch/snapshots"],
        &["cofferdam-test/elasticsearch-stand-in:8"],
    );
    let server = Server {
        container,
        base: "http://127.0.0.1:9200".to_owned(),
        login: String::new(),
    };
    scenario.add("elasticsearch", Indices(server));
    scenario.add_command();
    scenario.survives(&[]);
}
