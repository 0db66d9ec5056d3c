//! A stack in a real swarm: saved by the sidecar of each node, its services held through a manager (row "Swarm nodes").

use std::sync::MutexGuard;
use std::time::Duration;

use crate::support::stack::{PASSWORD, eventually};
use crate::support::swarm::{Node, Swarm, swarm};
use serde_json::Value;

/// A dump that lasts as long as somebody wants, and a sidecar that is soon known to be well.
const OVER: &str = r#"
version: "3.8"
services:
  db:
    labels:
      cofferdam.command.slow.dump: sh -c 'while [ -e /tmp/slow ]; do sleep 0.2; done; echo done'
      cofferdam.command.slow.load: sh -c 'cat >/dev/null; touch /tmp/loading; while [ -e /tmp/slow-load ]; do sleep 0.2; done'
  cofferdam:
    healthcheck:
      interval: 2s
"#;

/// The documented stack, deployed once, with all in its place: `reports` has been scaled to zero by its owner.
fn shop() -> MutexGuard<'static, Swarm> {
    let swarm = swarm();
    if swarm
        .manager
        .docker(["stack", "ls", "--format", "{{.Name}}"])
        != "shop"
    {
        swarm.deploy("shop", OVER, &[("COFFERDAM_SCHEDULE", "off")]);
        swarm
            .manager
            .docker(["service", "scale", "--detach", "shop_reports=0"]);
        eventually("the database is there", || {
            swarm.worker.task("shop_db").is_some() && psql(&swarm, "SELECT 1").code == 0
        });
        sql(
            &swarm,
            "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1), (2)",
        );
    }
    in_order(&swarm);
    swarm
}

#[track_caller]
fn in_order(swarm: &Swarm) {
    for (service, replicas) in [
        ("shop_web", "2/2"),
        ("shop_collector", "2/2"),
        ("shop_cofferdam", "2/2"),
        ("shop_db", "1/1"),
        ("shop_reports", "0/0"),
    ] {
        eventually(service, || swarm.replicas(service) == replicas);
        let (labels, _) = swarm.service_labels(service);
        assert_eq!(labels.get("cofferdam.hold.run"), None, "{service}");
    }
    let configs = swarm.manager.docker(["config", "ls", "--quiet"]);
    assert_eq!(configs, "", "a claim is left");
}

fn psql(swarm: &Swarm, line: &str) -> crate::support::stack::Run {
    let db = swarm.worker.task("shop_db").expect("the database's task");
    let password = format!("PGPASSWORD={PASSWORD}");
    swarm.worker.run(&[
        "exec", "--env", &password, &db, "psql", "-X", "-q", "-t", "-A", "-U", "shop", "-d",
        "shop", "-c", line,
    ])
}

#[track_caller]
fn sql(swarm: &Swarm, line: &str) -> String {
    psql(swarm, line).expect(0).stdout.trim().to_owned()
}

fn targets(manifest: &Value) -> Vec<&str> {
    let targets = manifest["targets"].as_array().expect("targets").iter();
    targets
        .map(|target| target["target"].as_str().expect("an id"))
        .collect()
}

fn id(manifest: &Value) -> String {
    manifest["snapshot"].as_str().expect("an id").to_owned()
}

/// What the last update of a service but one has left: the hold of this run, if it was one.
fn last_hold(swarm: &Swarm, service: &str) -> Option<String> {
    let (_, before) = swarm.service_labels(service);
    before.get("cofferdam.hold.replicas")?;
    Some(before["cofferdam.hold.run"].as_str()?.to_owned())
}

/// Gives the sidecars another schedule, with which they start again.
fn schedule(swarm: &Swarm, schedule: &str) {
    let schedule = format!("COFFERDAM_SCHEDULE={schedule}");
    let update = ["service", "update", "--detach", "--env-add", &schedule];
    let manager = &swarm.manager;
    manager.docker(update.iter().chain(&["shop_cofferdam"]));
    eventually("the sidecars are new", || {
        let status = "{{.UpdateStatus.State}}";
        let inspect = ["service", "inspect", "--format", status, "shop_cofferdam"];
        manager.docker(inspect) == "completed"
    });
}

/// Starts a backup on the worker that stays in the middle of its hold.
fn hanging_backup(swarm: &Swarm) {
    let db = swarm.worker.task("shop_db").expect("the database's task");
    swarm.worker.docker(["exec", &db, "touch", "/tmp/slow"]);
    let sidecar = swarm.worker.task("shop_cofferdam").expect("a sidecar");
    swarm
        .worker
        .docker(["exec", "--detach", &sidecar, "/cofferdam", "backup"]);
    eventually("web is held", || swarm.replicas("shop_web") == "0/0");
}

fn let_go(swarm: &Swarm) {
    let db = swarm.worker.task("shop_db").expect("the database's task");
    swarm
        .worker
        .docker(["exec", &db, "rm", "-f", "/tmp/slow", "/tmp/slow-load"]);
}

#[test]
fn each_node_saves_what_is_on_it_and_services_come_back() {
    let swarm = shop();
    let known = [&swarm.worker, &swarm.manager].map(|node| swarm.newest("shop", node));
    schedule(&swarm, "*/10 * * * * *");
    eventually("a snapshot of each node", || {
        swarm.newest("shop", &swarm.worker) != known[0]
            && swarm.newest("shop", &swarm.manager) != known[1]
    });
    // A daemon that starts again knows which of them was its own: nothing is due.
    schedule(&swarm, "every 12h");
    in_order(&swarm);
    let snapshots = swarm.manifests("shop").len();
    std::thread::sleep(Duration::from_secs(15));
    assert_eq!(swarm.manifests("shop").len(), snapshots);
    schedule(&swarm, "off");
    in_order(&swarm);

    let of_worker = swarm.newest("shop", &swarm.worker).expect("a snapshot");
    let of_manager = swarm.newest("shop", &swarm.manager).expect("a snapshot");
    let mut saved = targets(&of_worker);
    saved.sort_unstable();
    assert_eq!(
        saved,
        [
            "collector@worker-1/volume/logs",
            "db/command/slow",
            "db/postgres/@globals",
            "db/postgres/shop",
        ]
    );
    assert_eq!(targets(&of_manager), ["collector@manager-1/volume/logs"]);
    assert_eq!(of_worker["failed"], serde_json::json!([]));
    assert!(last_hold(&swarm, "shop_web").is_some());
}

#[test]
fn what_was_destroyed_is_put_back_on_the_node_where_it_was() {
    let swarm = shop();
    let (manager, worker) = (&swarm.manager, &swarm.worker);
    let log = |node: &Node, line: &str| {
        let collector = node.task("shop_collector").expect("a task");
        node.docker(["exec", &collector, "sh", "-c", line])
    };
    log(worker, "echo worker > /logs/word");
    log(manager, "echo manager > /logs/word");
    worker.cofferdam("shop", &["backup"]).expect(0);
    manager.cofferdam("shop", &["backup"]).expect(0);
    log(worker, "rm /logs/word");
    sql(&swarm, "DROP TABLE orders");

    // The newest of all is the manager's, and holds nothing of this.
    let newest = id(swarm.manifests("shop").last().expect("a snapshot"));
    let of_worker = id(&swarm.newest("shop", worker).expect("a snapshot"));
    assert_ne!(newest, of_worker);
    worker
        .cofferdam(
            "shop",
            &[
                "restore",
                "latest",
                "--yes",
                "db/postgres/shop",
                "*/volume/*",
            ],
        )
        .expect(0);
    assert_eq!(sql(&swarm, "SELECT count(*) FROM orders"), "2");
    in_order(&swarm);
    assert_eq!(log(worker, "cat /logs/word"), "worker");
    assert_eq!(log(manager, "cat /logs/word"), "manager");
    assert!(last_hold(&swarm, "shop_web").is_some());
    assert!(last_hold(&swarm, "shop_collector").is_some());
    // What was at zero was never touched.
    assert_eq!(last_hold(&swarm, "shop_reports"), None);

    let elsewhere = ["restore", &of_worker, "--yes", "db/postgres/shop"];
    manager
        .cofferdam("shop", &elsewhere)
        .expect_says(2, "run the same command in Cofferdam on node worker-1");
}

#[test]
fn a_killed_sidecar_leaves_no_service_at_zero() {
    let swarm = shop();
    hanging_backup(&swarm);
    let (labels, _) = swarm.service_labels("shop_web");
    assert_eq!(labels["cofferdam.hold.replicas"], "2");

    // The other node waits for its turn, and is told for whom.
    swarm
        .manager
        .cofferdam("shop", &["backup"])
        .expect_says(5, "on node worker-1; wait for it to end");
    assert_eq!(swarm.replicas("shop_web"), "0/0");

    let sidecar = swarm.worker.task("shop_cofferdam").expect("a sidecar");
    swarm.worker.docker(["kill", "--signal", "KILL", &sidecar]);
    let_go(&swarm);
    in_order(&swarm);
    assert_ne!(swarm.worker.task("shop_cofferdam"), Some(sidecar));
}

/// The volume of a service that is itself at zero, and a load that never comes to its end.
#[test]
fn a_killed_restore_is_undone_by_the_sidecar_that_comes_next() {
    let swarm = shop();
    let worker = &swarm.worker;
    let log = |line: &str| {
        let collector = worker.task("shop_collector").expect("a task");
        worker.docker(["exec", &collector, "sh", "-c", line])
    };
    log("echo saved > /logs/word");
    worker.cofferdam("shop", &["backup"]).expect(0);
    log("echo newer > /logs/word");

    let sidecar = worker.task("shop_cofferdam").expect("a sidecar");
    let restore = [
        "exec",
        "--detach",
        &sidecar,
        "/cofferdam",
        "restore",
        "latest",
        "--yes",
    ];
    let targets = ["db/command/slow", "*/volume/*"];
    let db = worker.task("shop_db").expect("the database's task");
    let in_db = |line: &str| worker.run(&["exec", &db, "sh", "-c", line]);
    in_db("touch /tmp/slow-load").expect(0);
    worker.docker(restore.iter().chain(&targets));
    eventually("the load hangs", || in_db("rm /tmp/loading").code == 0);
    assert_eq!(swarm.replicas("shop_web"), "0/0");
    assert_eq!(worker.task("shop_collector"), None);
    worker.docker(["kill", "--signal", "KILL", &sidecar]);
    let_go(&swarm);
    in_order(&swarm);
    eventually("nothing is left to be done", || {
        worker.journals("shop").is_empty()
    });
    assert_eq!(log("cat /logs/word"), "newer");
    assert_eq!(log("ls -A /logs"), "word");
}

#[test]
fn another_node_releases_what_a_dead_backup_has_left() {
    let swarm = shop();
    hanging_backup(&swarm);
    // No sidecar comes back on the worker.
    let sidecar = swarm.worker.task("shop_cofferdam").expect("a sidecar");
    let away = [
        "service",
        "update",
        "--detach",
        "--constraint-add",
        "node.role==manager",
        "shop_cofferdam",
    ];
    swarm.worker.docker(["kill", "--signal", "KILL", &sidecar]);
    swarm.manager.docker(away);
    let_go(&swarm);
    eventually("the sidecar of the worker is gone", || {
        swarm.worker.task("shop_cofferdam").is_none()
            && swarm.manager.task("shop_cofferdam").is_some()
    });
    eventually("a backup of the manager", || {
        swarm.manager.cofferdam("shop", &["backup"]).code == 0
    });
    eventually("web is back", || swarm.replicas("shop_web") == "2/2");
    let back = [
        "service",
        "update",
        "--detach",
        "--constraint-rm",
        "node.role==manager",
        "shop_cofferdam",
    ];
    swarm.manager.docker(back);
    in_order(&swarm);
}

#[test]
fn a_node_that_is_down_keeps_the_others_from_nothing() {
    let swarm = shop();
    let known = swarm.newest("shop", &swarm.worker);
    // A backup dies with its node, and so do tasks of services that the others' runs hold.
    hanging_backup(&swarm);
    let cut_off = swarm.cut_off_worker();
    let manager = |arguments: &[&str]| swarm.manager.cofferdam("shop", arguments);
    manager(&["backup"]).expect_says(0, "on node worker-1 left unfinished");
    eventually("web is back", || swarm.replicas("shop_web") == "2/2");
    let restore = ["restore", "latest", "--yes"];
    manager(&restore).expect_says(0, "the node is down: its task may still be running");

    // The dead was only cut off, and its hold was taken from it.
    drop(cut_off);
    let_go(&swarm);
    eventually("the worker is back", || swarm.state_of_worker() == "ready");
    in_order(&swarm);
    eventually("the database is there", || {
        swarm.worker.task("shop_db").is_some() && psql(&swarm, "SELECT 1").code == 0
    });
    let newest = swarm.newest("shop", &swarm.worker);
    assert!(
        newest == known
            || newest
                .as_ref()
                .is_some_and(|it| it["disturbed"][0] == "web"),
        "{newest:?} passes for a copy of one moment"
    );
    // Until there is a better one, nothing of the project is pruned. The swarm is still replacing tasks meanwhile.
    eventually("a backup of the worker", || {
        swarm.worker.task("shop_cofferdam").is_some()
            && swarm.worker.cofferdam("shop", &["backup"]).code == 0
    });
    in_order(&swarm);
    let newest = swarm.newest("shop", &swarm.worker).expect("a snapshot");
    assert_eq!(
        targets(&newest),
        [
            "db/postgres/@globals",
            "db/postgres/shop",
            "db/command/slow",
            "collector@worker-1/volume/logs",
        ]
    );
}

#[test]
fn without_a_manager_nothing_is_touched() {
    let swarm = shop();
    swarm.worker.cofferdam("shop", &["backup"]).expect(0);
    in_order(&swarm);
    let tasks = || {
        swarm.manager.docker([
            "service",
            "ps",
            "--quiet",
            "--filter",
            "desired-state=running",
            "shop_web",
        ])
    };
    let (before, snapshots) = (tasks(), swarm.manifests("shop").len());
    for (manager, words) in [
        ("", "set COFFERDAM_SWARM_MANAGER to the address of one"),
        ("https://127.0.0.1:1", "the manager does not answer"),
    ] {
        let variable = format!("COFFERDAM_SWARM_MANAGER={manager}");
        let cofferdam =
            |arguments: &[&str]| swarm.worker.cofferdam_with("shop", &[&variable], arguments);
        cofferdam(&["backup"]).expect_says(2, words);
        cofferdam(&["restore", "latest", "--yes"]).expect_says(2, words);
    }
    assert_eq!(tasks(), before);
    assert_eq!(swarm.manifests("shop").len(), snapshots);
    // Of several, one is enough.
    let variable = format!(
        "COFFERDAM_SWARM_MANAGER=https://127.0.0.1:1,{}",
        swarm.manager_url()
    );
    let backup = swarm
        .worker
        .cofferdam_with("shop", &[&variable], &["backup"]);
    backup.expect(0);
    in_order(&swarm);
}

#[test]
fn labels_of_services_are_refused() {
    let swarm = shop();
    let label = ["service", "update", "--detach"];
    let on = ["--label-add", "cofferdam.stop=backup", "shop_reports"];
    swarm.manager.docker(label.iter().chain(&on));
    let plan = swarm.worker.cofferdam("shop", &["plan"]);
    let off = ["--label-rm", "cofferdam.stop", "shop_reports"];
    swarm.manager.docker(label.iter().chain(&off));
    plan.expect_says(2, "move it to `labels:` of the service itself");
}
