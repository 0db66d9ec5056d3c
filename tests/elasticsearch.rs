//! Indices of Elasticsearch and OpenSearch, saved and put back by the real program. The server is a stand-in: nothing here
//! is verified against a real one.

use std::io::{BufRead as _, BufReader};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::support::http::Server;
use crate::support::stack::{PASSWORD, TestStack, compose_volume, eventually, files_with};
use serde_json::{Value, json};

const IMAGE: &str = "cofferdam-test/elasticsearch-stand-in:8";
const TARGET: &str = "search/elasticsearch/indices";
const SNAPSHOTS: &str = "/usr/share/elasticsearch/snapshots";
const LABELS: [(&str, &str); 1] = [("cofferdam.elasticsearch", "*")];
/// While this file is there, the server loses the next shard that it restores.
const LOSS: &str = "/tmp/lose-a-shard";

fn server(stack: &TestStack, labels: &[(&str, &str)], options: &[&str]) -> Server {
    let places = format!("path.repo={SNAPSHOTS}");
    let options = [&["--env", &places][..], options].concat();
    let container = stack.service("search", labels, &options, &[IMAGE]);
    let server = Server {
        container,
        base: "http://127.0.0.1:9200".to_owned(),
        login: String::new(),
    };
    server.wait_until_it_answers();
    server
}

/// Data streams need one.
fn template(server: &Server) {
    let template = json!({ "index_patterns": ["lo*"], "data_stream": {} });
    server.put("/_index_template/logs", template);
}

fn fill(server: &Server) {
    template(server);
    server.put("/cases", json!({ "aliases": { "current": {} } }));
    server.put("/cases/_doc/1", json!({ "name": "saved" }));
    server.put("/forms/_doc/1", json!({ "name": "saved" }));
    server.put("/.kibana/_doc/1", json!({ "name": "the server's own" }));
    server.put("/_data_stream/logs", json!({}));
    server.put("/logs/_doc/1", json!({ "name": "a line" }));
}

fn name_of(server: &Server, path: &str) -> Value {
    server.get(path)["_source"]["name"].clone()
}

#[test]
fn c10_indices_are_saved_to_a_local_repository_and_come_back() {
    let stack = TestStack::new("commcare");
    let volume = compose_volume(&stack, "snapshots");
    let mount = format!("{}:{SNAPSHOTS}", volume.name);
    let old = server(&stack, &LABELS, &["--volume", &mount]);
    fill(&old);
    stack.cofferdam(&["plan"]).expect_says(0, TARGET);
    stack.cofferdam(&["backup"]).expect(0);
    let record = &stack.manifest()["targets"][0];
    assert_eq!(record["target"], TARGET);
    assert_eq!(record["facts"]["flavour"], "elasticsearch");
    assert_eq!(record["facts"]["indices"], json!(["cases", "forms"]));
    assert_eq!(record["facts"]["data_streams"], json!(["logs"]));
    assert_eq!(record["artifacts"].as_array().map(Vec::len), Some(2));
    stack
        .cofferdam(&["show", "latest"])
        .expect_says(0, "Elasticsearch 8.15.3");
    // Nothing stays with the server.
    assert_eq!(old.get("/_snapshot"), json!({}));
    let blobs = "find snapshots/*/indices -type f";
    assert_eq!(old.container.sh(blobs), "");

    // Ruined: an index is changed, one is gone, one is new.
    old.put("/cases/_doc/1", json!({ "name": "ruined" }));
    old.put("/cases/_doc/2", json!({ "name": "later" }));
    old.delete("/forms");
    old.put("/mine/_doc/1", json!({ "name": "not in the snapshot" }));
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert_eq!(name_of(&old, "/current/_doc/1"), "saved");
    assert_eq!(old.status("/cases/_doc/2"), 404);
    assert_eq!(name_of(&old, "/forms/_doc/1"), "saved");
    assert_eq!(name_of(&old, "/mine/_doc/1"), "not in the snapshot");
    assert_eq!(name_of(&old, "/.kibana/_doc/1"), "the server's own");
    assert_eq!(old.get("/_snapshot"), json!({}));

    // Another machine.
    drop(old);
    drop(volume);
    let volume = compose_volume(&stack, "snapshots");
    let mount = format!("{}:{SNAPSHOTS}", volume.name);
    let new = server(&stack, &LABELS, &["--volume", &mount]);
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(0, "no index template matches the data stream logs");
    assert_eq!(name_of(&new, "/current/_doc/1"), "saved");
    assert_eq!(new.get("/_data_stream")["data_streams"][0]["name"], "logs");
    assert_eq!(new.ask("POST", "/logs/_rollover", None).0, 400);
    template(&new);
    let run = stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert!(!run.stderr.contains("no index template"), "{}", run.stderr);
    assert_eq!(new.ask("POST", "/logs/_rollover", None).0, 200);
    assert_eq!(name_of(&new, "/.ds-logs-000001/_doc/1"), "a line");
    assert_eq!(
        new.status("/.kibana/_count"),
        404,
        "it is not ours to bring"
    );
    stack.ensure_nothing_is_left();
}

#[test]
fn c10_snapshots_go_straight_to_a_repository_of_the_servers() {
    let stack = TestStack::new("commcare");
    let labels = [LABELS[0], ("cofferdam.elasticsearch.repository", "offsite")];
    let search = server(&stack, &labels, &["--env", "STAND_IN_FOR=opensearch"]);
    fill(&search);
    stack
        .cofferdam(&["backup"])
        .expect_says(1, "[offsite] missing");
    let location = format!("{SNAPSHOTS}/offsite");
    let settings = json!({ "type": "fs", "settings": { "location": location } });
    search.put("/_snapshot/offsite", settings);
    stack.cofferdam(&["backup"]).expect(0);
    let record = &stack.manifest()["targets"][0];
    assert_eq!(record["facts"]["repository"], "offsite");
    assert_eq!(record["facts"]["flavour"], "opensearch");
    let snapshot = record["facts"]["snapshot"]
        .as_str()
        .expect("a name")
        .to_owned();
    search.get(&format!("/_snapshot/offsite/{snapshot}"));

    search.put("/cases/_doc/1", json!({ "name": "ruined" }));
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert_eq!(name_of(&search, "/cases/_doc/1"), "saved");

    search.delete(&format!("/_snapshot/offsite/{snapshot}"));
    search.put("/cases/_doc/1", json!({ "name": "later" }));
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(1, &format!("has no snapshot {snapshot}"));
    assert_eq!(name_of(&search, "/cases/_doc/1"), "later");
}

#[test]
fn a_password_and_tls_are_taken_from_the_container() {
    let stack = TestStack::new("search");
    let labels = [
        ("cofferdam.elasticsearch", "cases"),
        ("cofferdam.elasticsearch.tls", "true"),
        ("cofferdam.elasticsearch.location", SNAPSHOTS),
    ];
    let password = format!("ELASTIC_PASSWORD={PASSWORD}");
    let places = format!("path.repo={SNAPSHOTS}");
    let tls = "xpack.security.http.ssl.enabled=true";
    let options = ["--env", &password, "--env", tls, "--env", &places];
    let container = stack.service("search", &labels, &options, &[IMAGE]);
    let search = Server {
        container,
        base: "https://127.0.0.1:9200".to_owned(),
        login: format!("elastic:{PASSWORD}"),
    };
    search.wait_until_it_answers();
    fill(&search);
    stack.cofferdam(&["backup"]).expect(0);
    let record = &stack.manifest()["targets"][0];
    assert_eq!(record["facts"]["indices"], json!(["cases"]));
    assert_eq!(record["facts"]["data_streams"], json!([]));
    assert!(files_with(&stack.repository(), PASSWORD).is_empty());

    search.put("/cases/_doc/1", json!({ "name": "ruined" }));
    search.put("/forms/_doc/1", json!({ "name": "later" }));
    let run = stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert!(!run.stderr.contains(PASSWORD) && !run.stdout.contains(PASSWORD));
    assert_eq!(name_of(&search, "/cases/_doc/1"), "saved");
    assert_eq!(name_of(&search, "/forms/_doc/1"), "later");
}

#[test]
fn a_restore_that_the_server_fails_is_undone() {
    let stack = TestStack::new("search");
    let search = server(&stack, &LABELS, &[]);
    fill(&search);
    stack.cofferdam(&["backup"]).expect(0);
    search.put("/cases/_doc/1", json!({ "name": "later" }));
    search.container.sh(&format!("touch {LOSS}"));
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(1, "failed to restore snapshot");
    assert_eq!(name_of(&search, "/cases/_doc/1"), "later");
    assert_eq!(name_of(&search, "/forms/_doc/1"), "saved");
    assert_eq!(search.get("/_snapshot"), json!({}));
    stack.ensure_nothing_is_left();
}

#[test]
fn c10_a_snapshot_that_is_not_whole_is_none() {
    let stack = TestStack::new("search");
    let search = server(&stack, &LABELS, &[]);
    stack
        .cofferdam(&["backup"])
        .expect_says(1, "there is no index to save");
    fill(&search);
    let location = format!("{SNAPSHOTS}/mine");
    let settings = json!({ "type": "fs", "settings": { "location": location } });
    search.put("/_snapshot/mine", settings);
    let what = json!({ "indices": "forms", "include_global_state": false });
    search.put("/_snapshot/mine/one", what.clone());
    eventually("the snapshot is made", || {
        search.get("/_snapshot/mine/one")["snapshots"][0]["state"] == "SUCCESS"
    });
    search.delete("/forms");
    search.container.sh(&format!("touch {LOSS}"));
    search.ask("POST", "/_snapshot/mine/one/_restore", Some(what));
    eventually("a shard is lost", || {
        search.status("/_cluster/allocation/explain") == 200
    });

    stack
        .cofferdam(&["backup"])
        .expect_says(1, "ended as PARTIAL: primary shard is not allocated");
    assert_eq!(search.status("/_snapshot/cofferdam-saving"), 404);

    let labels = [("cofferdam.elasticsearch", "case")];
    drop(search);
    let search = server(&stack, &labels, &[]);
    fill(&search);
    stack
        .cofferdam(&["backup"])
        .expect_says(1, "did you mean cases?");
}

#[test]
fn repositories_of_others_are_never_touched() {
    let stack = TestStack::new("search");
    let search = server(&stack, &LABELS, &[]);
    fill(&search);
    let what = json!({ "indices": "forms", "include_global_state": false });
    for (name, directory) in [
        ("mine", "cofferdam-saving"),
        ("cofferdam-saving", "mine"),
        ("mine", "cofferdam-restoring"),
        ("cofferdam-restoring", "mine"),
    ] {
        let location = format!("{SNAPSHOTS}/{directory}");
        let settings = json!({ "type": "fs", "settings": { "location": location } });
        search.put(&format!("/_snapshot/{name}"), settings);
        let snapshot = format!("/_snapshot/{name}/only");
        search.put(&snapshot, what.clone());
        let state = || search.get(&snapshot)["snapshots"][0]["state"].clone();
        eventually("the snapshot is made", || state() == "SUCCESS");

        let words = format!("a repository {name} that Cofferdam does not know");
        if name.ends_with("saving") || directory.ends_with("saving") {
            stack.cofferdam(&["backup"]).expect_says(1, &words);
        } else {
            stack.cofferdam(&["backup"]).expect(0);
            stack
                .cofferdam(&["restore", "latest", "--yes"])
                .expect_says(1, &words);
        }
        assert_eq!(state(), "SUCCESS", "{name} at {directory}");
        assert_eq!(name_of(&search, "/forms/_doc/1"), "saved");
        search.delete(&snapshot);
        search.delete(&format!("/_snapshot/{name}"));
    }
    stack.ensure_nothing_is_left();
}

#[test]
fn c10_a_server_without_a_place_for_snapshots_says_what_to_set() {
    let stack = TestStack::new("search");
    let container = stack.service("search", &LABELS, &[], &[IMAGE]);
    let search = Server {
        container,
        base: "http://127.0.0.1:9200".to_owned(),
        login: String::new(),
    };
    search.wait_until_it_answers();
    fill(&search);
    stack
        .cofferdam(&["backup"])
        .expect_says(1, "path.repo: /snapshots");
}

/// Before an index is deleted for the one of the snapshot, there is a copy of it, or it stays.
#[test]
fn what_no_safety_snapshot_holds_is_not_written_over() {
    let stack = TestStack::new("search");
    let search = server(&stack, &LABELS, &[]);
    fill(&search);
    stack.cofferdam(&["backup"]).expect(0);
    search.put("/forms/_doc/1", json!({ "name": "later" }));
    search.ask("POST", "/forms/_close", None);
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(1, "open it (POST /forms/_open) or delete it");
    search.ask("POST", "/forms/_open", None);
    assert_eq!(name_of(&search, "/forms/_doc/1"), "later");

    // Nor is one that is all there is: what is closed counts as nothing, and a rollback takes away what was not there.
    for path in ["/cases", "/_data_stream/logs"] {
        search.delete(path);
    }
    search.ask("POST", "/forms/_close", None);
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(1, "index forms exists but is closed");
    search.ask("POST", "/forms/_open", None);
    assert_eq!(name_of(&search, "/forms/_doc/1"), "later");
    drop(search);

    // Labels that have changed since.
    let search = server(&stack, &[("cofferdam.elasticsearch", "cases")], &[]);
    search.put("/forms/_doc/1", json!({ "name": "later" }));
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(1, "add forms to cofferdam.elasticsearch");
    assert_eq!(name_of(&search, "/forms/_doc/1"), "later");
    search.delete("/forms");
    search.put("/mine/_doc/1", json!({}));
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert_eq!(name_of(&search, "/forms/_doc/1"), "saved");
    stack.ensure_nothing_is_left();
}

/// The server deletes nothing that is being saved into a snapshot of its own.
#[test]
fn a_delete_that_is_refused_while_a_snapshot_runs_is_tried_again() {
    let stack = TestStack::new("search");
    let search = server(&stack, &LABELS, &["--env", "STAND_IN_SECONDS=2"]);
    fill(&search);
    let settings = json!({ "type": "fs", "settings": { "location": format!("{SNAPSHOTS}/mine") } });
    search.put("/_snapshot/mine", settings);
    stack.cofferdam(&["backup"]).expect(0);
    search.put("/forms/_doc/1", json!({ "name": "later" }));

    let mut restore = stack.start(&["restore", "latest", "--yes"]);
    let mut stderr = restore.stderr.take().expect("its stderr");
    let waits = AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut said = String::new();
            for line in BufReader::new(&mut stderr).lines() {
                said += &(line.expect("text") + "\n");
                waits.fetch_or(said.contains("waiting for another snapshot"), Relaxed);
            }
            said
        });
        // One snapshot after the other, until a delete has met one of them.
        let what = json!({ "indices": "forms", "include_global_state": false });
        let mut number = 0;
        while !waits.load(Relaxed) && !reader.is_finished() {
            let snapshot = format!("/_snapshot/mine/{number}");
            search.ask("PUT", &snapshot, Some(what.clone()));
            number += 1;
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        reader.join().expect("it reads")
    });
    let status = restore.wait().expect("its end");
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("waiting for another snapshot"), "{said}");
    assert_eq!(name_of(&search, "/forms/_doc/1"), "saved");
}

#[test]
fn a_server_is_detected_by_what_runs() {
    let stack = TestStack::new("search");
    let data = compose_volume(&stack, "search-data");
    let uploads = compose_volume(&stack, "uploads");
    let data_at = format!("{}:/usr/share/elasticsearch/data", data.name);
    let uploads_at = format!("{}:/srv/uploads", uploads.name);
    let volumes = ["--volume", &data_at, "--volume", &uploads_at];
    for flavour in ["elasticsearch", "opensearch"] {
        let flavour = format!("STAND_IN_FOR={flavour}");
        let options = [&volumes[..], &["--env", &flavour]].concat();
        let search = server(&stack, &[("cofferdam.enable", "true")], &options);
        search.put("/cases/_doc/1", json!({ "name": "saved" }));
        let planned = stack.cofferdam(&["plan", "--json"]).expect(0).json();
        let targets = planned[0]["targets"].as_array().expect("targets").iter();
        let targets: Vec<&str> = targets.filter_map(|target| target["id"].as_str()).collect();
        assert_eq!(targets, [TARGET, "search/volume/uploads"]);
        assert_eq!(planned[0]["findings"], json!([]));
        stack.cofferdam(&["backup"]).expect(0);
        search.delete("/cases");
    }
}
