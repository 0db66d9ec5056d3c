//! The CommCare example: PostgreSQL, CouchDB, Elasticsearch and a blob store, lost and put back. Tests are named after what
//! an administrator of such a system needs. CouchDB and Elasticsearch are stand-ins.

use crate::support::compose::{ComposeStack, Sidecar};
use crate::support::example::run_demo;
use crate::support::stack::eventually;
use crate::support::{TEST_LABEL, busybox_image, docker, docker_succeeds};
use serde_json::{Value, json};

const SERVICES: [&str; 5] = ["postgres", "couch", "elasticsearch", "redis", "web"];
const STORES: [&str; 5] = [
    "postgres-data",
    "couchdb-data",
    "elasticsearch-data",
    "elasticsearch-snapshots",
    "blobdb",
];

#[test]
#[ignore = "a demo beside the tests of its stack: make test-full"]
fn the_demo_saves_loses_and_restores() {
    run_demo(
        "commcare",
        &[
            "4 targets saved",
            "Restored 4 targets",
            "SUCCESS: couch",
            "<registration>",
        ],
    );
}

struct CommCare {
    stack: ComposeStack,
}

impl CommCare {
    fn up(env: &[(&str, &str)]) -> Self {
        let mut stack = ComposeStack::new("commcare", Sidecar::Beside);
        for (name, value) in env {
            stack.set(name, value);
        }
        stack.compose("up --detach");
        stack.wait_until_healthy(&SERVICES);
        Self { stack }
    }

    /// The form's id.
    fn receive(&self, xml: &str) -> String {
        let answer = self.stack.post("web", ":9010/a/clinic/receiver", xml);
        let answer = answer.expect(201).json();
        answer["id"].as_str().expect("an id").to_owned()
    }

    /// Each is put together from PostgreSQL, CouchDB and the blob store.
    fn forms(&self) -> Value {
        self.stack
            .get("web", ":9010/a/clinic/forms")
            .expect(200)
            .json()
    }

    fn found(&self) -> Value {
        self.stack.get("web", ":9010/search").expect(200).json()
    }

    fn sql(&self, sql: &str) -> String {
        let psql = ["psql", "-U", "commcarehq", "-Atc", sql];
        self.stack.exec("postgres", &psql)
    }

    fn elasticsearch(&self, method: &str, path: &str, body: &str) -> Value {
        let url = format!("http://127.0.0.1:9200{path}");
        let argv = ["curl", "-s", "-X", method, &url, "-d", body];
        serde_json::from_str(&self.stack.exec("elasticsearch", &argv)).expect("JSON")
    }

    /// As after the loss of the machine: containers and volumes are new, only the repository is there.
    fn lose_every_store(&mut self) {
        let services = SERVICES.join(" ");
        self.stack
            .compose(&format!("rm --stop --force -v {services} pillowtop"));
        for volume in STORES {
            docker(["volume", "rm", &format!("{}_{volume}", self.stack.project)]);
        }
        self.stack.set("COUCHDB_NODE", "10.0.0.9");
        self.stack.compose("up --detach");
        self.stack.wait_until_healthy(&SERVICES);
    }
}

#[test]
fn c5_c6_c8_c9_c10_every_store_is_put_back_on_a_new_machine() {
    let mut hq = CommCare::up(&[]);
    let forms = ["<registration/>", "<visit/>"].map(|xml| hq.receive(xml));
    eventually("both are indexed", || {
        hq.found() != json!([]) && hq.found()[1] != Value::Null
    });
    hq.elasticsearch("PUT", "/forms/_doc/by-hand", r#"{"domain": "clinic"}"#);
    let saved = hq.forms();
    assert_eq!(saved.as_array().map(Vec::len), Some(2));

    let plan = hq.stack.cofferdam("plan --json").expect(0).json();
    assert_eq!(
        plan[0]["findings"],
        json!([]),
        "nothing is left out by accident"
    );
    hq.stack
        .cofferdam("backup")
        .expect_says(0, "4 targets saved");

    // One form too many, and one too few.
    let later = hq.receive("<later/>");
    hq.stack
        .exec("web", &["rm", &format!("/opt/data/blobdb/{}", forms[0])]);
    hq.stack
        .cofferdam("restore latest --yes")
        .expect_says(0, "Restored 4 targets");
    hq.stack.wait_until_healthy(&SERVICES);
    assert_eq!(hq.forms(), saved);
    let there = hq.stack.exec("web", &["ls", "/opt/data/blobdb"]);
    assert!(
        !there.contains(&later),
        "a blob that the snapshot does not hold is gone"
    );

    hq.lose_every_store();
    assert_eq!(hq.forms(), json!([]));
    hq.stack
        .cofferdam("restore latest --yes")
        .expect_says(0, "Restored 4 targets");
    hq.stack.wait_until_healthy(&SERVICES);
    assert_eq!(hq.forms(), saved);
    // What nobody could have rebuilt.
    let by_hand = hq.elasticsearch("GET", "/forms/_doc/by-hand", "");
    assert_eq!(by_hand["found"], true);
    let blob = format!("/opt/data/blobdb/{}", forms[0]);
    let owner = hq.stack.exec("web", &["stat", "-c", "%U:%G", &blob]);
    assert_eq!(owner, "cchq:cchq");
    hq.stack
        .exec("web", &["python3", "manage.py", "check_services"]);
    assert_eq!(hq.sql("SELECT count(*) FROM form"), "2");
}

/// By the sidecar as it stands in the example: nobody asks for anything.
#[test]
fn c3_c4_stores_are_saved_by_schedule_and_have_status_files() {
    let mut stack = ComposeStack::new("commcare", Sidecar::Beside);
    stack.set("COMMCARE_SCHEDULE", "every 6h");
    stack.compose("up --detach postgres");
    stack.wait_until_healthy(&["postgres"]);
    stack.start_daemon();
    stack.wait_until_healthy(&["cofferdam"]);
    let backups = format!("{}_backups:/backups:ro", stack.project);
    let status = format!("cat /backups/status/{}/postgres.*.json", stack.project);
    let in_backups = ["run", "--rm", "--label", TEST_LABEL, "--volume", &backups];
    let cat = [busybox_image(), "sh", "-c", &status];
    eventually("there is a status file", || {
        docker_succeeds([&in_backups[..], &cat].concat())
    });
    let status = docker([&in_backups[..], &cat].concat());
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["state"], "ok");
    assert_eq!(status["max_age_seconds"], 6 * 60 * 60 + 30 * 60);
    assert!(status["checked"].is_string(), "{status}");
    let listed = stack.cofferdam("list --json").expect(0).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
}

#[test]
fn c5_c7_a_pg_dumpall_comes_back_with_its_roles() {
    let mut hq = CommCare::up(&[("BACKUP_POSTGRES", "dumpall")]);
    hq.receive("<registration/>");
    let saved = hq.forms();
    hq.sql("CREATE ROLE reporting LOGIN PASSWORD 'only-reads'; GRANT SELECT ON form TO reporting");
    hq.sql("CREATE DATABASE synclogs OWNER reporting");
    hq.stack
        .cofferdam("backup")
        .expect_says(0, "postgres/postgres/@cluster");

    hq.lose_every_store();
    assert_eq!(
        hq.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'reporting'"),
        "0"
    );
    hq.stack.cofferdam("restore latest --yes").expect(0);
    hq.stack.wait_until_healthy(&SERVICES);
    assert_eq!(hq.forms(), saved);
    let may = "SELECT has_table_privilege('reporting', 'form', 'SELECT')";
    assert_eq!(hq.sql(may), "t");
    let owner = "SELECT rolname FROM pg_database JOIN pg_roles ON pg_roles.oid = datdba WHERE datname = 'synclogs'";
    assert_eq!(hq.sql(owner), "reporting");
}
