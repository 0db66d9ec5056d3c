//! A node of CouchDB, saved and put back by the real program. The server is a stand-in: nothing here is verified against a
//! real CouchDB.

use std::sync::atomic::{AtomicBool, Ordering};

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

/// A node of this name on this volume, as the official image is run.
fn node(
    stack: &TestStack,
    name: &str,
    volume: &TestVolume,
    labels: &[(&str, &str)],
    command: &[&str],
) -> Server {
    let mount = format!("{}:{DATA}", volume.name);
    let node_name = format!("NODENAME={name}");
    let password = format!("COUCHDB_PASSWORD={PASSWORD}");
    let options = [
        "--volume",
        &mount,
        "--env",
        &node_name,
        "--env",
        "COUCHDB_USER=admin",
        "--env",
        &password,
    ];
    let image_and_command = [&[IMAGE], command].concat();
    let server = Server {
        container: stack.service("couch", labels, &options, &image_and_command),
        base: "http://127.0.0.1:5984".to_owned(),
        login: format!("admin:{PASSWORD}"),
    };
    server.wait_until_it_answers();
    server
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

    // The app writes, and reads its index, for as long as the backup takes.
    let is_over = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0;
            while !is_over.load(Ordering::Relaxed) {
                old.put(&format!("/commcarehq/busy-{written}"), json!({}));
                old.get("/commcarehq/_design/all/_view/count");
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
    assert_eq!(databases.len(), 3);
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

    // Another machine: an empty node with another name, in which somebody has already made a database.
    drop(old);
    drop(volume);
    let volume = compose_volume(&stack, "couch");
    let new = node(&stack, "10.0.0.9", &volume, &LABELS, &[]);
    new.put("/scratch", json!({}));
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);

    new.wait_until_it_answers();
    assert_eq!(
        new.get("/_all_dbs"),
        json!(["commcarehq", "commcarehq__users", "org/odd+name"])
    );
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
fn data_on_which_no_server_starts_never_takes_the_old_datas_place() {
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
    stack.cofferdam(&["backup"]).expect_says(1, "does not run");
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
