//! A restore that is killed at every call that changes something in the engine, in every mode: another process recovers it, and
//! what is there is all old or all new, of all targets, with nothing left over.
//!
//! Every call with `KILL_STEP=1`, each twenty-first otherwise: a kill takes many seconds. One stack serves for all
//! kills of a test, and holds as many kinds of targets as can be restored together.

mod stores;

use std::collections::BTreeSet;
use std::process::ExitStatus;
use std::time::Duration;

use self::stores::{
    Clinical, Commands, DUMP, DataDirectory, Files, LOAD, NEW, OLD, OnePath, Shop, Sqlite, Store,
    Tree, sh,
};
use crate::support::mysql::{self, MysqlServer};
use crate::support::proxy::FaultProxy;
use crate::support::stack::{TestStack, compose_volume, is_running};
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
            .unwrap_or(21);
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

/// Files of every kind: on volumes, in a container's own layer, in SQLite, and behind commands.
fn files(what: &str) -> Scenario {
    let mut scenario = Scenario::new(what);
    let mounts = ["data", "extra", "kept", "lite"].map(|name| scenario.volume(name));
    let mut options = Vec::new();
    for mount in &mounts[..3] {
        options.extend(["--volume", mount.as_str()]);
    }
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
    let conf = [("cofferdam.files.conf", "/srv/conf")];
    let conf = scenario.stack.toolbox("conf", &conf, &[]);
    for (name, container, path, restore) in [
        ("volume", &app, "/data", Tree::Replace),
        ("overlay", &app, "/extra", Tree::Overlay),
        ("keep-existing", &app, "/kept", Tree::KeepExisting),
        ("layer", &conf, "/srv/conf", Tree::Replace),
    ] {
        let container = container.name.clone();
        let files = Files {
            container,
            path,
            restore,
        };
        scenario.add(name, files);
    }
    let toy = scenario.stack.toolbox("toy", &[DUMP, LOAD], &[]);
    scenario.add("command", Commands(toy.name.clone()));
    for (service, directory, options) in [
        ("lite", "/lite", &["--volume", &mounts[3]][..]),
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
    scenario.containers.extend([app, conf, toy]);
    scenario
}

#[test]
fn files_beside_the_old_ones() {
    files("killed-staged").survives(&[]);
}

#[test]
fn files_over_the_old_ones() {
    files("killed-in-place").survives(&["--in-place"]);
}

#[test]
fn one_path_of_a_volume() {
    let mut scenario = Scenario::new("killed-path");
    let mount = scenario.volume("data");
    let labels = [
        ("cofferdam.volumes", "data"),
        ("cofferdam.stop", "backup,restore"),
    ];
    let app = scenario
        .stack
        .toolbox("app", &labels, &["--volume", &mount]);
    let files = Files {
        container: app.name.clone(),
        path: "/data",
        restore: Tree::Replace,
    };
    scenario.add("volume", OnePath(files));
    scenario.containers.push(app);
    scenario.survives(&["--path", "word"]);
    scenario.survives(&["--path", "word", "--in-place"]);
}

/// Each server restores in another way; the last of them decides for all.
#[test]
#[ignore = "takes many minutes"]
fn databases_of_postgres() {
    let mut scenario = Scenario::new("killed-databases");
    for (service, more) in [
        ("swap", None),
        ("recreate", Some(("cofferdam.postgres.restore", "recreate"))),
        ("clean", Some(("cofferdam.postgres.restore", "clean"))),
        ("dumpall", Some(("cofferdam.postgres.mode", "dumpall"))),
    ] {
        let labels: Vec<_> = [("cofferdam.postgres", "*")]
            .into_iter()
            .chain(more)
            .collect();
        let server = scenario.stack.postgres(service, &labels);
        scenario.add(service, Clinical(server));
    }
    let mount = scenario.volume("data");
    let labels = [("cofferdam.volumes", "data"), ("cofferdam.stop", "restore")];
    let app = scenario
        .stack
        .toolbox("app", &labels, &["--volume", &mount]);
    let files = Files {
        container: app.name.clone(),
        path: "/data",
        restore: Tree::Replace,
    };
    scenario.add("volume", files);
    scenario.containers.push(app);
    scenario.survives(&[]);
}

#[test]
#[ignore = "takes many minutes"]
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
    let toy = scenario.stack.toolbox("toy", &[DUMP, LOAD], &[]);
    scenario.add("command", Commands(toy.name.clone()));
    scenario.containers.push(toy);
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
    let toy = scenario.stack.toolbox("toy", &[DUMP, LOAD], &[]);
    scenario.add("command", Commands(toy.name.clone()));
    scenario.containers.push(toy);
    scenario.survives(&[]);
}
