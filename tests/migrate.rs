//! A stack that another tool has backed up so far, and what `plan --from-labels` makes of it: on a real engine, with the printed
//! labels put on real containers.

use saphyr::{LoadableYamlNode, Yaml};
use serde_json::Value;

use crate::support::stack::{TestStack, compose_volume};
use crate::support::{TestContainer, busybox_image};

const SECRET: &str = "correct-horse-battery-staple";

/// A service that waits.
fn waiting(
    stack: &TestStack,
    name: &str,
    labels: &[(&str, &str)],
    options: &[&str],
) -> TestContainer {
    let command = [
        busybox_image(),
        "sh",
        "-c",
        "trap 'exit 0' TERM; while :; do sleep 1; done",
    ];
    stack.service(name, labels, options, &command)
}

/// What the file that was printed has for a service, as Compose would read it.
#[track_caller]
fn labels_of(file: &str, service: &str) -> Vec<(String, String)> {
    let documents = Yaml::load_from_str(file).unwrap_or_else(|error| panic!("{error} in:\n{file}"));
    let labels = documents[0]["services"][service]["labels"].as_mapping();
    let labels = labels.unwrap_or_else(|| panic!("no labels of {service} in:\n{file}"));
    let text = |value: &Yaml<'_>| value.as_str().expect("text").replace("$$", "$");
    labels
        .iter()
        .map(|(key, value)| (text(key), text(value)))
        .collect()
}

fn borrowed(labels: &[(String, String)]) -> Vec<(&str, &str)> {
    labels
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}

/// The targets of the plan, and the services that it holds.
fn planned(stack: &TestStack) -> (Vec<String>, Vec<String>) {
    let plans = stack.cofferdam(&["plan", "--json"]).expect(0).json();
    let texts = |list: &Value, name: &str| -> Vec<String> {
        let list = list.as_array().expect("a list").iter();
        list.map(|item| item[name].as_str().expect("text").to_owned())
            .collect()
    };
    (
        texts(&plans[0]["targets"], "id"),
        texts(&plans[0]["holds"], "service"),
    )
}

#[test]
fn a_stack_of_offens_is_saved_with_the_labels_that_are_printed() {
    let stack = TestStack::new("migrate-offen");
    let [uploads, archive] = ["uploads", "archive"].map(|name| compose_volume(&stack, name));
    let directory = stack.directory.path().join("files");
    std::fs::create_dir(&directory).expect("a directory");
    let directory = directory.to_str().expect("UTF-8");

    let mounts = [
        format!("{}:/srv/uploads", uploads.name),
        format!("{directory}:/srv/files"),
    ];
    let options = ["--volume", &mounts[0], "--volume", &mounts[1]];
    let theirs = [
        ("docker-volume-backup.stop-during-backup", "true"),
        (
            "docker-volume-backup.archive-pre",
            "/bin/sh -c 'echo \"$HOSTNAME\" > /srv/uploads/host'",
        ),
        ("docker-volume-backup.copy-pre", "true"),
    ];
    let app = waiting(&stack, "app", &theirs, &options);
    let sources = [
        format!("{}:/backup/uploads:ro", uploads.name),
        format!("{directory}:/backup/files:ro"),
        format!("{}:/archive", archive.name),
    ];
    let key = format!("AWS_SECRET_ACCESS_KEY={SECRET}");
    let backup = waiting(
        &stack,
        "backup",
        &[],
        &[
            "--volume",
            &sources[0],
            "--volume",
            &sources[1],
            "--volume",
            &sources[2],
            "--env",
            "BACKUP_CRON_EXPRESSION=0 2 * * *",
            "--env",
            "BACKUP_RETENTION_DAYS=7",
            "--env",
            "AWS_S3_BUCKET_NAME=bucket",
            "--env",
            &key,
        ],
    );
    assert_eq!(
        planned(&stack),
        (vec![], vec![]),
        "nothing is asked for so far"
    );

    let run = stack
        .cofferdam(&["plan", "--from-labels", "offen"])
        .expect(0);
    assert!(!run.stdout.contains(SECRET) && !run.stderr.contains(SECRET));
    for words in [
        "COFFERDAM_REPOSITORY: /backups/cofferdam",
        "COFFERDAM_KEEP: within=7d",
        "COFFERDAM_SCHEDULE: \"0 2 * * *\"",
        "# - app, docker-volume-backup.copy-pre: ",
        "source: archive",
    ] {
        assert!(
            run.stdout.contains(words),
            "{words} is not in:\n{}",
            run.stdout
        );
    }
    let json = stack
        .cofferdam(&["plan", "--from-labels", "offen", "--json"])
        .expect(0)
        .json();
    assert_eq!(json[0]["services"]["app"]["cofferdam.volumes"], "uploads");
    stack
        .cofferdam(&["plan", "--from-labels", "stack-back"])
        .expect_says(2, "`--from-labels offen` finds something");

    drop((app, backup));
    let labels = labels_of(&run.stdout, "app");
    let app = waiting(&stack, "app", &borrowed(&labels), &options);
    let (targets, holds) = planned(&stack);
    assert_eq!(targets, ["app/volume/uploads", "app/files/files"]);
    assert_eq!(holds, ["app"]);
    stack.cofferdam(&["backup"]).expect(0);
    assert!(
        !app.sh("cat /srv/uploads/host").is_empty(),
        "the hook has run"
    );
    stack.ensure_nothing_is_left();
}

#[test]
fn a_stack_of_stack_backs_is_saved_with_the_labels_that_are_printed() {
    let stack = TestStack::new("migrate-restic");
    let [media, cache, logs] = ["media", "cache", "logs"].map(|name| compose_volume(&stack, name));
    let mounts = [
        format!("{}:/srv/media", media.name),
        format!("{}:/srv/cache", cache.name),
    ];
    let options = ["--volume", &mounts[0], "--volume", &mounts[1]];
    let theirs = [
        ("stack-back.volumes", "true"),
        ("stack-back.volumes.exclude", "cache"),
        (
            "stack-back.hooks.post.1.cmd",
            "echo $COFFERDAM_OUTCOME > /srv/cache/outcome",
        ),
    ];
    let web = waiting(&stack, "web", &theirs, &options);
    let mount = format!("{}:/logs", logs.name);
    let plain = waiting(&stack, "plain", &[], &["--volume", &mount]);
    let password = format!("RESTIC_PASSWORD={SECRET}");
    let backup = waiting(
        &stack,
        "backup",
        &[],
        &[
            "--volume",
            "/var/run/docker.sock:/tmp/docker.sock:ro",
            "--env",
            "RESTIC_REPOSITORY=s3:https://s3.example.org/bucket",
            "--env",
            "AUTO_BACKUP_ALL=True",
            "--env",
            &password,
        ],
    );
    let file = stack
        .cofferdam(&["plan", "--from-labels", "stack-back"])
        .expect(0)
        .stdout;
    assert!(!file.contains(SECRET), "{file}");
    assert!(
        file.contains("\"s3://bucket/cofferdam?endpoint=https://s3.example.org\""),
        "{file}"
    );

    drop((web, plain, backup));
    let web = waiting(&stack, "web", &borrowed(&labels_of(&file, "web")), &options);
    let _plain = waiting(
        &stack,
        "plain",
        &borrowed(&labels_of(&file, "plain")),
        &["--volume", &mount],
    );
    let (targets, _) = planned(&stack);
    assert_eq!(targets, ["plain/volume/logs", "web/volume/media"]);
    stack.cofferdam(&["backup"]).expect(0);
    assert_eq!(web.sh("cat /srv/cache/outcome"), "done");
    stack.ensure_nothing_is_left();
}
