//! Bind mounts and anonymous volumes, and the repository that lies in one.

use std::fs;

use serde_json::{Value, json};

use crate::support::stack::{Run, TestStack};

fn strings(list: &Value) -> Vec<&str> {
    let list = list.as_array().expect("a list");
    list.iter().filter_map(Value::as_str).collect()
}

fn ids(plan: &Value) -> Vec<&str> {
    let targets = plan["targets"].as_array().expect("targets").iter();
    targets.filter_map(|target| target["id"].as_str()).collect()
}

fn plan(stack: &TestStack) -> Value {
    stack.cofferdam(&["plan", "--json"]).expect(0).json()[0].clone()
}

#[test]
fn what_is_mounted_without_a_name_is_asked_for_taken_and_put_back() {
    let stack = TestStack::new("binds");
    let host = tempfile::tempdir().expect("a directory");
    fs::write(host.path().join("app.conf"), "single").expect("a file");
    for name in ["data", "cache", "read"] {
        fs::create_dir(host.path().join(name)).expect("a directory");
    }
    let mount = |name: &str, path: &str| format!("{}:{path}", host.path().join(name).display());
    let mounts = [
        mount("data", "/var/lib/app"),
        mount("cache", "/var/cache/app"),
        mount("read", "/read:ro"),
        mount("app.conf", "/etc/app.conf"),
        "/var/run/docker.sock:/var/run/docker.sock".to_owned(),
        "/var/lib/anonymous".to_owned(),
    ];
    let options: Vec<&str> = mounts.iter().flat_map(|it| ["--volume", it]).collect();

    let app = stack.toolbox("app", &[], &options);
    let planned = plan(&stack);
    let findings = planned["findings"].as_array().expect("findings").iter();
    let labels: Vec<&str> = findings.filter_map(|it| it["label"].as_str()).collect();
    let (mut wanted, mut labels) = (
        vec![
            "cofferdam.binds: /var/cache/app, /var/lib/app",
            "cofferdam.files.anonymous: /var/lib/anonymous",
        ],
        labels,
    );
    wanted.sort_unstable();
    labels.sort_unstable();
    assert_eq!(labels, wanted);
    drop(app);

    let labels = [
        ("cofferdam.enable", "true"),
        ("cofferdam.binds.skip", "/var/cache/app"),
    ];
    let app = stack.toolbox("app", &labels, &options);
    // Somebody else sees a part of it.
    let part = mount("data", "/elsewhere");
    let _other = stack.toolbox("other", &[("cofferdam.binds", "*")], &["--volume", &part]);
    let fill = |word: &str| {
        app.sh(&format!(
            "for d in /var/lib/app /var/cache/app /var/lib/anonymous; do echo {word} >$d/note; done"
        ));
    };
    let read = || app.sh("cat /var/lib/app/note /var/cache/app/note /var/lib/anonymous/note");
    fill("saved");
    let planned = plan(&stack);
    let expected = [
        "app/files/%2Fvar%2Flib%2Fanonymous",
        "app/files/%2Fvar%2Flib%2Fapp",
    ];
    assert_eq!(ids(&planned), expected);
    assert_eq!(planned["findings"], json!([]));
    stack
        .cofferdam(&["backup"])
        .expect_says(0, "2 targets saved");

    fill("later");
    app.sh("echo extra >/var/lib/app/extra");
    stack
        .cofferdam(&["restore", "latest", "app/files//var/lib/anonymous", "--yes"])
        .expect(0);
    assert_eq!(read(), "later\nlater\nsaved");
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert_eq!(read(), "saved\nlater\nsaved");
    assert_eq!(app.sh("ls -A /var/lib/app"), "note");
    stack.ensure_nothing_is_left();
}

#[test]
fn a_label_that_finds_nothing_to_save_is_an_error() {
    let stack = TestStack::new("nothing");
    let _app = stack.toolbox(
        "app",
        &[("cofferdam.enable", "true")],
        &["--volume", "/var/run/docker.sock:/var/run/docker.sock"],
    );
    for command in ["plan", "backup"] {
        stack.cofferdam(&[command]).expect_says(
            2,
            "label `cofferdam.enable` is `true`, but there is nothing to save",
        );
    }
}

#[test]
fn a_repository_is_neither_saved_into_itself_nor_replaced() {
    let stack = TestStack::new("itself");
    let place = stack.directory.path();
    let [copies, data] = ["copies", "data"].map(|name| place.join(name));
    fs::create_dir(&copies).expect("a directory");
    fs::create_dir(&data).expect("a directory");
    let mounts = [
        format!("{}:/srv", place.display()),
        format!("{}:/copies", copies.display()),
        format!("{}:/data", data.display()),
    ];
    let options: Vec<&str> = mounts.iter().flat_map(|it| ["--volume", it]).collect();
    let with = |labels: &[(&str, &str)]| stack.toolbox("app", labels, &options);

    let app = with(&[("cofferdam.binds", "*")]);
    app.sh("echo saved >/data/note");
    let mut command = stack.command(&["plan", "--json"]);
    command.arg("--copy-to").arg(&copies);
    let planned = Run::from(command.output().expect("cofferdam")).expect(0);
    let planned = &planned.json()[0];
    assert_eq!(ids(planned), ["app/files/%2Fdata"]);
    assert_eq!(planned["findings"], json!([]));
    let own = "is not saved: it contains Cofferdam's own repository, or is inside it";
    let warnings = strings(&planned["warnings"]);
    for (warning, path) in warnings.iter().zip(["/copies", "/srv"]) {
        assert!(
            warning.starts_with(&format!("app: {path} {own}")),
            "{warning}"
        );
    }
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    // Without a second place, what lies there is data as any other.
    stack
        .cofferdam(&["backup"])
        .expect_says(0, "2 targets saved");
    drop(app);

    let named = ("cofferdam.files.all", "/srv");
    let refused = "contains Cofferdam's own repository";
    let app = with(&[named]);
    stack.cofferdam(&["backup"]).expect_says(2, refused);
    drop(app);
    let exclude = ("cofferdam.files.all.exclude", "/repository");
    // Patterns may leave out something of what is mounted elsewhere, so that is saved by itself, too.
    let app = with(&[named, exclude, ("cofferdam.binds", "/data")]);
    stack
        .cofferdam(&["backup"])
        .expect_says(0, "2 targets saved");
    app.sh("echo later >/data/note");
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(2, "app/files/%2Fdata is inside app/files/all");
    stack
        .cofferdam(&["restore", "latest", "app/files/all", "--yes"])
        .expect(0);
    assert_eq!(app.sh("cat /data/note"), "saved");
    assert_eq!(stack.manifests().len(), 2);
    drop(app);

    let app = with(&[named]);
    app.sh("echo later >/data/note");
    stack
        .cofferdam(&["restore", "latest", "app/files/all", "--yes"])
        .expect_says(2, refused);
    assert_eq!(app.sh("cat /data/note"), "later");
    assert_eq!(stack.manifests().len(), 2);
    stack.ensure_nothing_is_left();
}
