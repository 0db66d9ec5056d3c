//! Helper containers that the engine makes, and that do not start.

use serde_json::Value;

use crate::support::proxy::{Fault, FaultProxy};
use crate::support::stack::{Run, TestStack, compose_volume};
use crate::support::swarm::Node;
use crate::support::{busybox_image, unique};

/// As podman answers when the network that is to be shared belongs to another pod.
const REFUSAL: Fault = Fault::Answer(
    "500 Internal Server Error",
    r#"{"message":"cannot join the network of another pod"}"#,
);

#[test]
fn volumes_take_the_archive_api_and_databases_in_them_are_refused_in_time() {
    let stack = TestStack::new("unstartable");
    let volume = compose_volume(&stack, "data");
    let mount = format!("{}:/data", volume.name);
    let labels = [
        ("cofferdam.volumes", "data"),
        ("cofferdam.sqlite", "/db/app.db"),
        ("cofferdam.stop", "restore"),
    ];
    let database = compose_volume(&stack, "db");
    let database = format!("{}:/db", database.name);
    let options = ["--volume", &mount, "--volume", &database];
    let app = stack.toolbox("app", &labels, &options);
    let create = "import sqlite3; sqlite3.connect('/db/app.db').execute('create table t(x)')";
    app.sh(&format!("echo saved >/data/word; python3 -c \"{create}\""));
    let proxy = FaultProxy::start();
    let refusing = |arguments: &[&str]| -> Run {
        let mut command = stack.command(arguments);
        command.env("DOCKER_HOST", proxy.docker_host());
        command.output().expect("cofferdam").into()
    };
    let helpers = "/containers/*/start";

    stack.cofferdam(&["backup"]).expect(0);
    proxy.on("POST", helpers, REFUSAL);
    refusing(&["backup"]).expect(0);
    let shown = stack.cofferdam(&["show", "latest"]);
    let shown = shown.expect_says(0, "saved by the archive API, because no helper container");
    shown.expect_says(
        0,
        "saved by an agent in the container, because no helper container",
    );

    // It is known before anything is touched.
    app.sh("echo now >/data/word");
    let life = app.inspect("{{.State.StartedAt}}");
    let run = refusing(&["restore", "latest", "--yes"]);
    run.expect_says(2, "/db/app.db: no helper container can be used");
    assert_eq!(app.sh("cat /data/word"), "now");
    assert_eq!(app.inspect("{{.State.StartedAt}}"), life);
    let plan = refusing(&["restore", "latest", "app/volume/*", "--dry-run"]);
    plan.expect_says(
        0,
        "by the archive API, because no helper container can be used",
    );
    stack.ensure_nothing_is_left();
}

#[test]
fn an_engine_that_remaps_users_starts_them_all_the_same() {
    let images = [busybox_image()];
    let node = Node::alone("remapped", &["--userns-remap=default"], &images);
    let options = node.docker(["info", "--format", "{{.SecurityOptions}}"]);
    assert!(options.contains("name=userns"), "{options}");
    let project = unique("remapped");
    let label = format!("com.docker.compose.project={project}");
    let labels = [
        "--label",
        &label,
        "--label",
        "com.docker.compose.service=app",
        "--label",
        "cofferdam.volumes=*",
    ];
    let run = ["run", "--detach", "--name", "app", "--volume", "data:/data"];
    node.docker(run.iter().chain(&labels).chain(&images));
    let sh = |line: &str| node.docker(["exec", "app", "sh", "-c", line]);
    sh("echo saved >/data/word; chown 1000:1000 /data/word");
    let cofferdam = |arguments: &[&str]| {
        let options = ["--repository", "/srv/repository", "--project", &project];
        node.on_its_host(&[&["cofferdam"][..], arguments, &options].concat())
    };
    cofferdam(&["backup"]).expect(0);
    let manifest = node.on_its_host(&["sh", "-c", "cat /srv/repository/*/*/manifest.json"]);
    let manifest: Value = manifest.json();
    assert_eq!(manifest["targets"][0]["transfer"], "helper");

    sh("echo now >/data/word; chown 0:0 /data/word");
    cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert_eq!(
        sh("cat /data/word; stat -c %u:%g /data/word"),
        "saved\n1000:1000"
    );
}
