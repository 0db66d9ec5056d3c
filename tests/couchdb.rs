//! A node of CouchDB, saved and put back by the real program. The server is a stand-in that behaves as CouchDB 3.3.3 and 3.4.3
//! were seen to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::http::Server;
use crate::support::stack::{
    PASSWORD, TestStack, compose_volume, eventually, files_with, is_running,
};
use crate::support::{TestVolume, docker};
use serde_json::{Value, json};

const IMAGE: &str = "cofferdam-test/couchdb-stand-in:3";
const DATA: &str = "/opt/couchdb/data";
const TARGET: &str = "couch/couchdb/data";
const LABELS: [(&str, &str); 1] = [("cofferdam.couchdb", "*")];
/// With [`PASSWORD`].
const LOGIN: [&str; 4] = [
    "--env",
    "COUCHDB_USER=admin",
    "--env",
    "COUCHDB_PASSWORD=correct-horse-battery-staple",
];

/// A node of this name on this volume, as the official image is run.
fn node(
    stack: &TestStack,
    name: &str,
    volume: &TestVolume,
    labels: &[(&str, &str)],
    command: &[&str],
) -> Server {
    node_with(stack, name, volume, labels, &LOGIN, command)
}

fn node_with(
    stack: &TestStack,
    name: &str,
    volume: &TestVolume,
    labels: &[(&str, &str)],
    options: &[&str],
    command: &[&str],
) -> Server {
    let server = starting(stack, name, volume, labels, options, command);
    server.wait_until_it_answers();
    server
}

fn starting(
    stack: &TestStack,
    name: &str,
    volume: &TestVolume,
    labels: &[(&str, &str)],
    options: &[&str],
    command: &[&str],
) -> Server {
    let mount = format!("{}:{DATA}", volume.name);
    let node_name = format!("NODENAME={name}");
    let own = ["--volume", &mount, "--env", &node_name];
    let options = [&own[..], options].concat();
    let image_and_command = [&[IMAGE], command].concat();
    Server {
        container: stack.service("couch", labels, &options, &image_and_command),
        base: "http://127.0.0.1:5984".to_owned(),
        login: format!("admin:{PASSWORD}"),
    }
}

/// A command that has the configuration say this, and then runs the server.
fn configured(lines: &str) -> String {
    let lines = lines.replace('\n', "\\n");
    format!("printf '{lines}\\n' > etc/local.d/mine.ini; exec python3 /srv/main.py")
}

fn fill(server: &Server) {
    for database in ["commcarehq", "commcarehq__users", "org/odd+name"] {
        let path = database.replace('/', "%2F").replace('+', "%2B");
        server.put(&format!("/{path}"), json!({}));
        for number in 0..5 {
            let document = json!({ "number": number, "of": database });
            server.put(&format!("/{path}/doc-{number}"), document);
        }
    }
    let document = server.get("/commcarehq/doc-4");
    let revision = document["_rev"].as_str().expect("a revision");
    server.delete(&format!("/commcarehq/doc-4?rev={revision}"));
    server.get("/commcarehq/_design/all/_view/count");
}

fn value_of(server: &Server, path: &str) -> Value {
    server.get(path)["number"].clone()
}

#[test]
fn c8_a_node_is_saved_while_it_serves_and_restored_as_a_fresh_one_of_another_name() {
    let stack = TestStack::new("commcare");
    let volume = compose_volume(&stack, "couch");
    let old = node(&stack, "10.0.0.5", &volume, &LABELS, &[]);
    fill(&old);
    stack.cofferdam(&["plan"]).expect_says(0, TARGET);

    // The app writes, and reads its index, for as long as the backup takes; databases come and go.
    let is_over = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0;
            while !is_over.load(Ordering::Relaxed) {
                old.put(&format!("/commcarehq/busy-{written}"), json!({}));
                old.get("/commcarehq/_design/all/_view/count");
                let brief = format!("/brief-{written}");
                old.put(&brief, json!({}));
                old.delete(&brief);
                written += 1;
            }
            written
        });
        stack.cofferdam(&["backup"]).expect(0);
        is_over.store(true, Ordering::Relaxed);
        writer.join().expect("the writer")
    });
    assert!(written > 0, "the node stood still");
    let record = &stack.manifest()["targets"][0];
    assert_eq!(record["target"], TARGET);
    assert_eq!(record["facts"]["node"], "couchdb@10.0.0.5");
    assert_eq!(record["warnings"], json!([]));
    let databases = record["facts"]["databases"].as_array().expect("databases");
    let is_brief = |name: &Value| name.as_str().expect("a name").starts_with("brief");
    let databases: Vec<&Value> = databases
        .iter()
        .filter(|database| !is_brief(&database["name"]))
        .collect();
    assert_eq!(databases.len(), 3, "{databases:?}");
    assert_eq!(databases[2]["name"], "org/odd+name");
    assert_eq!(databases[2]["documents"], 5);
    assert_eq!(databases[0]["deleted"], 1);
    stack
        .cofferdam(&["show", "latest"])
        .expect_says(0, "node couchdb@10.0.0.5 of CouchDB 3.4.2");
    assert_eq!(
        files_with(&stack.repository(), PASSWORD),
        Vec::<std::path::PathBuf>::new()
    );

    // Another machine: an empty node with another name, in which somebody has already made a database. A single one, as its
    // configuration has it, which does not wait for another for even a moment.
    drop(old);
    drop(volume);
    let volume = compose_volume(&stack, "couch");
    let impatient = ["--env", "STAND_IN_PATIENCE=0"];
    let single = configured("[couchdb]\nsingle_node = true");
    let new = node_with(
        &stack,
        "10.0.0.9",
        &volume,
        &LABELS,
        &[&LOGIN[..], &impatient].concat(),
        &["sh", "-c", &single],
    );
    new.put("/scratch", json!({}));
    // What the old server was compacting is nothing to the new data.
    new.container
        .sh("touch data/shards/00000000-7fffffff/commcarehq.1.couch.compact.data");
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);

    new.wait_until_it_answers();
    let names = new.get("/_all_dbs");
    let names = names.as_array().expect("names").iter();
    let (brief, lasting): (Vec<&str>, Vec<&str>) = names
        .filter_map(Value::as_str)
        .partition(|name| name.starts_with("brief"));
    assert_eq!(lasting, ["commcarehq", "commcarehq__users", "org/odd+name"]);
    for name in brief {
        new.get(&format!("/{name}"));
    }
    assert_eq!(new.container.sh("find data -name '*.compact*'"), "");
    assert_eq!(value_of(&new, "/commcarehq/doc-3"), 3);
    assert_eq!(value_of(&new, "/org%2Fodd%2Bname/doc-4"), 4);
    assert_eq!(new.status("/commcarehq/doc-4"), 404);
    assert_eq!(
        new.get("/_membership")["cluster_nodes"],
        json!(["couchdb@10.0.0.9"])
    );
    let shards = new.get("/commcarehq/_shards");
    assert_eq!(
        shards["shards"]["00000000-7fffffff"],
        json!(["couchdb@10.0.0.9"])
    );
    // No index ran ahead of its database.
    new.get("/commcarehq/_design/all/_view/count");
    assert_eq!(
        new.container.sh("stat -c %U data/_dbs.couch data/shards"),
        "couchdb\ncouchdb"
    );
    new.put("/commcarehq/after", json!({}));
    assert_eq!(
        new.container.sh("ls -A data | sort"),
        ".shards\n_dbs.couch\n_nodes.couch\nshards"
    );
    stack.ensure_nothing_is_left();
}

#[test]
fn a_node_keeps_its_name_and_gets_its_documents_back() {
    let stack = TestStack::new("couch");
    let volume = compose_volume(&stack, "couch");
    let couch = node(&stack, "here", &volume, &LABELS, &[]);
    fill(&couch);
    stack.cofferdam(&["backup"]).expect(0);
    couch.put("/later", json!({}));
    let revision = couch.get("/commcarehq/doc-1")["_rev"].clone();
    couch.put(
        "/commcarehq/doc-1",
        json!({ "_rev": revision, "number": "ruined" }),
    );

    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    couch.wait_until_it_answers();
    assert_eq!(value_of(&couch, "/commcarehq/doc-1"), 1);
    assert_eq!(couch.status("/later"), 404);
}

#[test]
fn data_on_which_no_server_lives_never_takes_the_old_datas_place() {
    let stack = TestStack::new("couch");
    let volume = compose_volume(&stack, "couch");
    let couch = node(&stack, "here", &volume, &LABELS, &[]);
    fill(&couch);
    stack.cofferdam(&["backup"]).expect(0);
    drop(couch);
    drop(volume);

    let volume = compose_volume(&stack, "couch");
    let picky = "for f in data/shards/*/commcarehq.*; do [ ! -e $f ] || { echo no room for $f; exit 3; }; done; \
                 exec python3 /srv/main.py";
    let couch = node(&stack, "here", &volume, &LABELS, &["sh", "-c", picky]);
    couch.put("/precious", json!({}));
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(1, "no room for data/shards/00000000-7fffffff/commcarehq");
    assert!(is_running(&couch.container));
    couch.wait_until_it_answers();
    assert_eq!(couch.get("/_all_dbs"), json!(["precious"]));
    assert_eq!(
        couch.container.sh("ls -A data | sort"),
        "_dbs.couch\n_nodes.couch\nshards"
    );
    drop(couch);

    // Another one begins well, and ends when it is to make the data its own.
    let frail = [&LOGIN[..], &["--env", "STAND_IN_FRAIL=_bulk_docs"]].concat();
    let couch = node_with(&stack, "there", &volume, &LABELS, &frail, &[]);
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(1, "no room for all of it");
    couch.wait_until_it_answers();
    assert_eq!(couch.get("/_all_dbs"), json!(["precious"]));
    stack.ensure_nothing_is_left();
}

#[test]
fn a_restore_killed_while_the_new_data_is_on_trial_is_undone() {
    let stack = TestStack::new("couch");
    let volume = compose_volume(&stack, "couch");
    let slow = "for f in data/shards/*/later.*; do [ -e $f ] || { sleep 600; exit 3; }; done; \
                exec python3 /srv/main.py";
    let couch = node(&stack, "here", &volume, &LABELS, &[]);
    fill(&couch);
    stack.cofferdam(&["backup"]).expect(0);
    couch.put("/later", json!({}));
    drop(couch);
    let couch = node(&stack, "here", &volume, &LABELS, &["sh", "-c", slow]);

    let mut restore = stack.start(&["restore", "latest", "--yes"]);
    let trial = || {
        let helpers = format!("label=cofferdam.helper-of={}", stack.project);
        let ancestor = format!("ancestor={IMAGE}");
        docker(["ps", "--quiet", "--filter", &helpers, "--filter", &ancestor])
    };
    eventually("a server is on trial", || !trial().is_empty());
    restore.kill().expect("kill");
    restore.wait().expect("its end");

    stack.cofferdam(&["recover"]).expect(0);
    assert_eq!(trial(), "");
    couch.wait_until_it_answers();
    assert!(couch.get("/_all_dbs").to_string().contains("later"));
    assert_eq!(
        couch.container.sh("ls -A data | sort"),
        ".shards\n_dbs.couch\n_nodes.couch\nshards"
    );
    stack.ensure_nothing_is_left();
}

#[test]
fn data_behind_a_link_is_not_mistaken_for_the_new_data() {
    let stack = TestStack::new("couch");
    let volume = compose_volume(&stack, "couch");
    let labels = [LABELS[0], ("cofferdam.couchdb.data-directory", "/tmp/data")];
    let linked = "ln -sfn /opt/couchdb/data /tmp/data; exec python3 /srv/main.py";
    let couch = node(&stack, "here", &volume, &labels, &["sh", "-c", linked]);
    fill(&couch);
    stack.cofferdam(&["backup"]).expect(0);
    couch.put("/later", json!({}));
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(1, "data-directory: /opt/couchdb/data");
    couch.wait_until_it_answers();
    assert!(couch.get("/_all_dbs").to_string().contains("later"));
    stack.ensure_nothing_is_left();
}

#[test]
fn what_cannot_be_saved_is_told_with_what_mends_it() {
    let stack = TestStack::new("couch");
    let volume = compose_volume(&stack, "couch");
    let member = node(&stack, "a", &volume, &LABELS, &[]);
    member.put("/_node/_local/_nodes/couchdb@b", json!({}));
    stack
        .cofferdam(&["backup"])
        .expect_says(1, "a node of a cluster (couchdb@a, couchdb@b)");
    drop(member);

    let labels = [LABELS[0], ("cofferdam.couchdb.user", "nobody")];
    let stranger = node(&stack, "a", &volume, &labels, &[]);
    stack
        .cofferdam(&["backup"])
        .expect_says(1, "cofferdam.couchdb.user");
    drop(stranger);

    let labels = [LABELS[0], ("cofferdam.couchdb.port", "1")];
    let silent = node(&stack, "a", &volume, &labels, &[]);
    stack
        .cofferdam(&["backup"])
        .expect_says(1, "nothing answers at port 1");
    docker(["stop", "--time", "5", &silent.container.id]);
    stack
        .cofferdam(&["backup"])
        .expect_says(1, "is not running");
    drop(silent);

    let labels = [
        LABELS[0],
        ("cofferdam.couchdb.data-directory", "/opt/couchdb/etc"),
    ];
    let volume = compose_volume(&TestStack::new("couch"), "couch");
    let _elsewhere = node(&stack, "a", &volume, &labels, &[]);
    stack.cofferdam(&["backup"]).expect_says(
        1,
        "the server keeps its data in ./data, not in /opt/couchdb/etc",
    );
}

/// A real CouchDB makes a file that it misses anew, empty, and says nothing.
#[test]
fn a_range_whose_file_is_missing_is_never_good() {
    let stack = TestStack::new("couch");
    let volume = compose_volume(&stack, "couch");
    let couch = node(&stack, "here", &volume, &LABELS, &[]);
    fill(&couch);
    stack.cofferdam(&["backup"]).expect(0);
    // The server has it open, and sees nothing.
    let lose = "rm -f data/shards/00000000-7fffffff/commcarehq.*";
    couch.container.sh(lose);
    couch.get("/commcarehq");
    stack.cofferdam(&["backup"]).expect_says(
        1,
        "missing in the data directory: shards/00000000-7fffffff/commcarehq.",
    );
    assert_eq!(stack.manifests().len(), 1);
    drop(couch);

    let losing = format!("{lose}; exec python3 /srv/main.py");
    let couch = node(&stack, "here", &volume, &LABELS, &["sh", "-c", &losing]);
    couch.put("/later", json!({}));
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(1, "and 1 deletions, but had 4 and 1 when it was saved");
    couch.wait_until_it_answers();
    assert!(couch.get("/_all_dbs").to_string().contains("later"));
    stack
        .cofferdam(&["restore", "latest", "--yes", "--accept-loss"])
        .expect_says(0, "is not complete: database commcarehq has");
    couch.wait_until_it_answers();
    assert!(!couch.get("/_all_dbs").to_string().contains("later"));
    stack.ensure_nothing_is_left();
}

#[test]
fn a_login_that_only_the_container_knows_is_good_in_the_trial_and_a_wrong_one_ends_it() {
    let stack = TestStack::new("couch");
    let volume = compose_volume(&stack, "couch");
    let labels = [
        LABELS[0],
        ("cofferdam.couchdb.user", "keeper"),
        (
            "cofferdam.couchdb.password-file",
            "/opt/couchdb/etc/local.d/password",
        ),
    ];
    let patient =
        "until [ -e etc/local.d/keeper.ini ]; do sleep 0.1; done; exec python3 /srv/main.py";
    let command = ["sh", "-c", patient];
    let mut couch = starting(&stack, "here", &volume, &labels, &[], &command);
    couch.login = format!("keeper:{PASSWORD}");
    couch.container.sh(&format!(
        "printf {PASSWORD} > etc/local.d/password; printf '[admins]\nkeeper = {PASSWORD}\n' > etc/local.d/keeper.ini"
    ));
    couch.wait_until_it_answers();
    fill(&couch);
    couch.put("/_replicator", json!({}));
    couch.put("/_replicator/always", json!({}));
    stack
        .cofferdam(&["backup"])
        .expect_says(0, "are not saved (keeper)");
    stack
        .cofferdam(&["restore", "latest", "--dry-run"])
        .expect_says(
            0,
            "the replications in _replicator start as soon as the server does",
        );
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    couch.wait_until_it_answers();

    couch
        .container
        .sh("sed -i s/staple/stable/ etc/local.d/keeper.ini");
    let begun = Instant::now();
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(1, "refuses the login: Name or password is incorrect.");
    assert!(begun.elapsed() < Duration::from_secs(60));
    drop(couch);

    let resting = configured("[couchdb]\nmaintenance_mode = true");
    let _resting = node(&stack, "here", &volume, &LABELS, &["sh", "-c", &resting]);
    for command in [&["backup"][..], &["restore", "latest", "--yes"]] {
        stack
            .cofferdam(command)
            .expect_says(1, "is in maintenance mode; end it with");
    }
    stack.ensure_nothing_is_left();
}

/// The ids of what a backup saves.
fn planned(stack: &TestStack) -> (Vec<String>, Value) {
    let plan = stack.cofferdam(&["plan", "--json"]).expect(0).json()[0].clone();
    let targets = plan["targets"].as_array().expect("targets").iter();
    let ids = targets.filter_map(|target| target["id"].as_str().map(str::to_owned));
    (ids.collect(), plan)
}

#[test]
fn a_node_is_detected_by_what_runs_and_its_files_never_change_under_it() {
    let stack = TestStack::new("couch");
    let volume = compose_volume(&stack, "couch");
    let couch = node(
        &stack,
        "here",
        &volume,
        &[("cofferdam.enable", "true")],
        &[],
    );
    fill(&couch);
    assert_eq!(planned(&stack).0, [TARGET]);
    stack.cofferdam(&["backup"]).expect(0);
    couch.put("/later", json!({}));
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    couch.wait_until_it_answers();
    assert_eq!(couch.status("/later"), 404);
    drop(couch);

    let couch = node(&stack, "here", &volume, &[("cofferdam.volumes", "*")], &[]);
    let (targets, plan) = planned(&stack);
    assert!(targets.is_empty(), "{targets:?}");
    let warning = plan["warnings"][0].as_str().expect("a warning");
    assert!(
        warning.contains(r#"add the label `cofferdam.couchdb: "*"`"#),
        "{warning}"
    );
    drop(couch);

    // Whoever names the volume gets it, and cannot put it back while the server runs.
    let couch = node(
        &stack,
        "here",
        &volume,
        &[("cofferdam.volumes", "couch")],
        &[],
    );
    stack.cofferdam(&["backup"]).expect(0);
    couch.put("/later", json!({}));
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(2, "holds data of the CouchDB server in container");
    assert_eq!(couch.status("/later"), 200);
    drop(couch);
    let labels = [
        ("cofferdam.volumes", "couch"),
        ("cofferdam.stop", "restore"),
    ];
    let couch = node(&stack, "here", &volume, &labels, &[]);
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    couch.wait_until_it_answers();
    assert_eq!(couch.status("/later"), 404);
    stack.ensure_nothing_is_left();
}

/// Whoever saves the volume of a server that another container runs, and of whatever kind.
#[test]
fn no_files_change_under_a_server_of_another_container() {
    let stack = TestStack::new("store");
    let volume = compose_volume(&stack, "data");
    let data = format!("{}:/data", volume.name);
    let redis = ["cofferdam-test/redis:7"];
    let _store = stack.service("store", &[], &["--volume", &data], &redis);
    let beside = format!("{}:/srv/backup", volume.name);
    let labels = [("cofferdam.files.copy", "/srv/backup")];
    let app = stack.toolbox("app", &labels, &["--volume", &beside]);
    app.sh("echo saved > /srv/backup/note");
    stack.cofferdam(&["backup"]).expect(0);
    app.sh("echo later > /srv/backup/note");
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(
            2,
            "app/files/copy holds data of the Redis server in container",
        );
    assert_eq!(app.sh("cat /srv/backup/note"), "later");
}
