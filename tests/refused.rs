//! Bad input and bad times: a clear error, the right exit code, and nothing lost.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::stack::{
    Run, TOOLBOX, TestStack, block_dumps, compose_volume, eventually, is_running, unblock,
};
use crate::support::{TestContainer, TestVolume, docker};

#[test]
fn an_unknown_label_names_the_container_and_the_nearest_label() {
    let stack = TestStack::new("typo");
    let app = stack.toolbox("app", &[("cofferdam.postgress", "*")], &[]);
    stack
        .cofferdam(&["backup"])
        .expect_says(2, "cofferdam.postgres")
        .expect_says(2, &app.name);
}

#[test]
fn a_project_that_is_refused_keeps_no_other_from_being_saved() {
    let stack = TestStack::new("good");
    let _app = stack.toolbox(
        "app",
        &[("cofferdam.files.conf", "/etc/debian_version")],
        &[],
    );
    let others = [("cofferdam.postgress", "*"), ("cofferdam.enable", "true")].map(|label| {
        let refused = TestStack::new("refused");
        let app = refused.toolbox("app", &[label], &[]);
        (refused, app)
    });
    let others = others.each_ref().map(|(refused, _)| &*refused.project);
    for arguments in [&["backup", "--dry-run"][..], &["backup"]] {
        let scope = others.iter().flat_map(|other| ["--project", *other]);
        let arguments: Vec<&str> = arguments.iter().copied().chain(scope).collect();
        let mut run = stack.cofferdam(&arguments);
        for other in others {
            run = run.expect_says(3, &format!("no snapshot of project {other}: "));
        }
    }
    assert_eq!(stack.manifests().len(), 1);
}

#[test]
fn a_container_without_the_client_fails_alone() {
    let stack = TestStack::new("client");
    let _app = stack.toolbox(
        "app",
        &[
            ("cofferdam.postgres", "shop"),
            ("cofferdam.files.conf", "/etc/debian_version"),
        ],
        &[],
    );
    stack.cofferdam(&["backup"]).expect_says(3, "psql");
    let manifest = stack.manifest();
    assert_eq!(manifest["targets"][0]["target"], "app/files/conf");
    assert!(
        manifest["failed"][0]["target"]
            .as_str()
            .unwrap()
            .starts_with("app/postgres/")
    );
}

#[test]
fn a_wrong_user_a_wrong_database_and_a_missing_path_each_say_what_is_wrong() {
    let stack = TestStack::new("wrong");
    let _user = stack.postgres(
        "user",
        &[
            ("cofferdam.postgres", "clinical"),
            ("cofferdam.postgres.user", "nobody"),
        ],
    );
    let _database = stack.postgres("database", &[("cofferdam.postgres", "clinical,clinicall")]);
    let _path = stack.toolbox("path", &[("cofferdam.files.conf", "/no/such/path")], &[]);
    let run = stack.cofferdam(&["backup"]).expect(3);
    let text = format!("{}{}", run.stdout, run.stderr);
    for words in ["nobody", "clinicall", "/no/such/path"] {
        assert!(text.contains(words), "{words} is not named in:\n{text}");
    }
    let failed: Vec<String> = stack.manifest()["failed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failure| failure["target"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(failed.len(), 3, "{failed:?}");
}

#[test]
fn files_that_the_engine_makes_are_refused_in_the_plan_already() {
    let stack = TestStack::new("made");
    let app = stack.toolbox(
        "app",
        &[
            ("cofferdam.files.hosts", "/etc/hosts"),
            ("cofferdam.files.app", "/opt/app"),
        ],
        &[],
    );
    app.sh("mkdir /opt/app");
    let words = "`extra_hosts` of the compose file sets it";
    stack.cofferdam(&["plan"]).expect_says(3, words);
    stack.cofferdam(&["backup"]).expect_says(3, words);
    assert_eq!(stack.manifest()["failed"][0]["target"], "app/files/hosts");
    // A snapshot may hold such a file all the same: it was saved where the container had its own.
    let manifest = stack.newest_snapshot().join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let text = text
        .replace("/opt/app", "/etc/hosts")
        .replace("files/app", "files/old");
    std::fs::write(&manifest, text).unwrap();
    for arguments in [
        ["restore", "latest", "--dry-run"],
        ["restore", "latest", "--yes"],
    ] {
        let run = stack.cofferdam(&arguments).expect_says(2, words);
        assert!(
            run.stderr.contains("app/files/old cannot be restored"),
            "{run:?}"
        );
    }
    stack.ensure_nothing_is_left();
}

#[test]
fn a_project_that_the_repository_does_not_have_is_told_with_those_that_it_has() {
    let stack = TestStack::new("misspelt");
    let app = stack.toolbox("app", &[("cofferdam.files.word", "/srv/word")], &[]);
    app.sh("echo saved >/srv/word");
    let other = TestStack::new("other");
    let ask = |arguments: &[&str]| -> Run {
        let mut command = other.command_at(stack.repository(), arguments);
        command.output().expect("cofferdam").into()
    };
    stack.cofferdam(&["backup"]).expect(0);
    for arguments in [&["list"][..], &["verify"], &["show", "latest"]] {
        ask(arguments).expect_says(2, &stack.project);
    }
}

#[test]
fn a_path_that_the_snapshot_does_not_hold_stops_nothing() {
    let stack = TestStack::new("no-path");
    let labels = [
        ("cofferdam.files.app", "/opt/app"),
        ("cofferdam.stop", "restore"),
    ];
    let app = stack.toolbox("app", &labels, &[]);
    app.sh("mkdir -p /opt/app/a; echo saved >/opt/app/a/word");
    stack.cofferdam(&["backup"]).expect(0);
    app.sh("echo now >/opt/app/a/word");
    let life = app.inspect("{{.State.StartedAt}}");
    for way in ["--dry-run", "--yes"] {
        let restore = [
            "restore", "latest", way, "--path", "a/word", "--path", "a/wrod",
        ];
        let run = stack.cofferdam(&restore);
        run.expect_says(2, "does not contain `a/wrod`");
    }
    assert_eq!(app.inspect("{{.State.StartedAt}}"), life);
    assert_eq!(app.sh("cat /opt/app/a/word"), "now");
    let restore = ["restore", "latest", "--yes", "--path", "a/word"];
    stack.cofferdam(&restore).expect(0);
    assert_eq!(app.sh("cat /opt/app/a/word"), "saved");
    stack.ensure_nothing_is_left();
}

#[test]
fn a_wrong_password_is_an_error_without_the_password() {
    let stack = TestStack::new("password");
    let postgres = stack.postgres_with(
        "db",
        &[
            ("cofferdam.postgres", "clinical"),
            ("cofferdam.postgres.password-file", "/tmp/wrong"),
        ],
        &["--env", "POSTGRES_INITDB_ARGS=--auth-local=scram-sha-256"],
    );
    postgres
        .container
        .sh("echo not-the-password-at-all > /tmp/wrong && chmod 644 /tmp/wrong");
    let run = stack
        .cofferdam(&["backup"])
        .expect_says(1, "password authentication failed");
    assert!(!format!("{}{}", run.stdout, run.stderr).contains("not-the-password-at-all"));
}

#[test]
fn a_volume_that_is_not_mounted_is_an_error_that_lists_those_that_are() {
    let stack = TestStack::new("volume");
    let volume = compose_volume(&stack, "uploads");
    let mount = format!("{}:/srv", volume.name);
    let _app = stack.toolbox(
        "app",
        &[("cofferdam.volumes", "upload")],
        &["--volume", &mount],
    );
    stack.cofferdam(&["backup"]).expect_says(2, "uploads");
}

#[test]
fn no_room_in_the_container_says_what_to_set() {
    let stack = TestStack::new("room");
    let small = crate::support::TestVolume::of_size("24m");
    let mount = format!("{}:/scratch", small.name);
    let postgres = stack.postgres_with(
        "db",
        &[
            ("cofferdam.postgres", "clinical"),
            ("cofferdam.postgres.scratch", "/scratch"),
        ],
        &["--volume", &mount],
    );
    postgres.sql(
        "clinical",
        "CREATE TABLE noise AS SELECT string_agg(md5(random()::text), '') AS text FROM generate_series(1, 2000000) g GROUP BY g % 500",
    );
    stack
        .cofferdam(&["backup", "*/clinical"])
        .expect_says(1, "cofferdam.postgres.transfer");
    assert_eq!(postgres.container.sh("ls -A /scratch"), "");
}

#[test]
fn a_repository_that_is_full_or_cannot_be_written_to_loses_nothing() {
    let stack = TestStack::new("full");
    let app = stack.toolbox(
        "app",
        &[
            ("cofferdam.files.data", "/srv"),
            ("cofferdam.stop", "backup"),
        ],
        &[],
    );
    app.sh("mkdir -p /srv && head -c 8000000 /dev/urandom > /srv/blob");
    let repository = stack.repository();
    fs::create_dir(&repository).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(&repository)
        .status()
        .unwrap();
    assert!(mounted.success());
    let run = stack.cofferdam(&["backup"]);
    let listed = stack.cofferdam(&["list", "--json"]);
    std::process::Command::new("umount")
        .arg(&repository)
        .status()
        .unwrap();
    run.expect_says(1, "space");
    assert_eq!(listed.expect(0).json().as_array().map(Vec::len), Some(0));
    assert!(is_running(&app));
    stack.ensure_nothing_is_left();
}

#[test]
fn an_engine_that_does_not_answer_is_named() {
    let stack = TestStack::new("engine");
    for (host, words) in [
        ("unix:///no/such/docker.sock", "/no/such/docker.sock"),
        ("tcp://127.0.0.1:1", "127.0.0.1:1"),
    ] {
        let mut command = stack.command(&["plan"]);
        command.env("DOCKER_HOST", host);
        crate::support::stack::Run::from(command.output().unwrap()).expect_says(1, words);
    }
}

#[test]
fn snapshots_that_are_unknown_ambiguous_cut_or_damaged_are_refused_and_the_old_data_stands() {
    let stack = TestStack::new("damage");
    let volume = compose_volume(&stack, "data");
    let mount = format!("{}:/data", volume.name);
    let app = stack.toolbox(
        "app",
        &[("cofferdam.volumes", "data")],
        &["--volume", &mount],
    );
    app.sh("head -c 300000 /dev/urandom > /data/saved");
    stack.cofferdam(&["backup"]).expect(0);
    stack.cofferdam(&["backup"]).expect(0);
    app.sh("echo present > /data/present && rm /data/saved");
    let untouched = || assert_eq!(app.sh("ls -A /data"), "present");

    stack
        .cofferdam(&["restore", "1999", "--yes"])
        .expect_says(2, "1999");
    stack
        .cofferdam(&["restore", "20", "--yes"])
        .expect_says(2, "20");
    untouched();

    let snapshot = stack.newest_snapshot();
    let object = fs::read_dir(&snapshot)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains(".tar"))
        .unwrap();
    let sound = fs::read(&object).unwrap();
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    fs::set_permissions(&object, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&object, &flipped).unwrap();
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(1);
    untouched();
    stack.cofferdam(&["verify", "latest", "--read"]).expect(4);
    fs::write(&object, &sound[..sound.len() - 1]).unwrap();
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(1);
    untouched();
    stack.cofferdam(&["verify", "latest"]).expect(4);
    fs::write(&object, &sound).unwrap();
    stack.cofferdam(&["verify", "latest", "--read"]).expect(0);

    let manifest = snapshot.join("manifest.json");
    let whole = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, &whole[..whole.len() / 2]).unwrap();
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(1, "manifest");
    untouched();
    fs::write(
        &manifest,
        whole.replacen("\"format\": 1", "\"format\": 2", 1),
    )
    .unwrap();
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(1, "newer cofferdam");
    untouched();
    fs::write(&manifest, &whole).unwrap();
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert_eq!(app.sh("ls -A /data"), "saved");
}

#[test]
fn a_second_run_at_the_same_time_is_refused() {
    let stack = TestStack::new("two");
    let postgres = stack.postgres("db", &[("cofferdam.postgres", "clinical")]);
    postgres.sql("clinical", "CREATE TABLE state (word text)");
    let session = block_dumps(&postgres);
    let mut first = stack.start(&["backup"]);
    let journal = format!("label=cofferdam.hold={}", stack.project);
    eventually("the first run has the lock", || {
        !docker(["ps", "--all", "--quiet", "--filter", &journal]).is_empty()
    });
    stack.cofferdam(&["backup"]).expect_says(5, &stack.project);
    stack.cofferdam(&["recover"]).expect(5);
    unblock(&postgres, session);
    assert_eq!(first.wait().unwrap().code(), Some(0));
    stack.ensure_nothing_is_left();
}

#[test]
fn a_database_container_that_stops_or_goes_is_a_failed_target() {
    let stack = TestStack::new("gone");
    let _app = stack.toolbox(
        "app",
        &[("cofferdam.files.conf", "/etc/debian_version")],
        &[],
    );
    let postgres = stack.postgres("db", &[("cofferdam.postgres", "clinical")]);
    postgres.sql("clinical", "CREATE TABLE state (word text)");
    let session = block_dumps(&postgres);
    let child = stack.start(&["backup"]);
    eventually("the dump waits", || {
        postgres.sql(
            "template1",
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
        ) != "0"
    });
    docker(["kill", &postgres.container.id]);
    let run = crate::support::stack::Run::from(child.wait_with_output().unwrap()).expect(3);
    drop(session);
    assert!(
        run.stderr.contains("db/postgres/clinical") || run.stdout.contains("db/postgres/clinical")
    );
    stack.cofferdam(&["backup"]).expect(3);
    // Nothing of what failed is left out without a word: neither roles, which have an older copy, nor what has none.
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(2, "docker start");
    stack
        .cofferdam(&["restore", "latest", "app/*", "--yes"])
        .expect(0);
    docker(["start", &postgres.container.id]);
    postgres.wait_until_ready();
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(3, "is not restored");
    stack.ensure_nothing_is_left();
}

#[test]
fn a_dump_that_fails_half_way_is_a_failed_target() {
    let stack = TestStack::new("half");
    let _app = stack.toolbox(
        "app",
        &[("cofferdam.files.conf", "/etc/debian_version")],
        &[],
    );
    let postgres = stack.postgres("db", &[("cofferdam.postgres", "clinical")]);
    postgres.seed("clinical", 20_000);
    // A damaged page in the middle of the table: the dump begins well.
    let file = postgres.sql(
        "clinical",
        "CHECKPOINT; SELECT pg_relation_filepath('patients')",
    );
    postgres.container.sh(&format!(
        "dd if=/dev/urandom of=$PGDATA/{file} bs=8192 seek=20 count=1 conv=notrunc status=none"
    ));
    docker(["restart", &postgres.container.id]);
    postgres.wait_until_ready();
    stack.cofferdam(&["backup"]).expect_says(3, "invalid page");
    assert_eq!(postgres.container.sh("ls -A /tmp"), "");
}

#[test]
fn an_image_named_like_a_database_is_not_taken_for_one() {
    let stack = TestStack::new("detect");
    let postgres = stack.postgres("db", &[("cofferdam.enable", "true")]);
    postgres.seed("clinical", 10);
    docker([
        "tag",
        crate::support::stack::TOOLBOX,
        "cofferdam-test-postgres:15",
    ]);
    let fake = stack.service(
        "fake",
        &[("cofferdam.enable", "true")],
        &[],
        &["cofferdam-test-postgres:15"],
    );
    let refused = stack.cofferdam(&["plan", "--json"]);
    docker(["rmi", "cofferdam-test-postgres:15"]);
    refused.expect_says(2, "there is nothing to save: no database server runs in it");
    drop(fake);
    stack
        .cofferdam(&["plan", "--json"])
        .expect_says(0, "db/postgres/clinical");

    // A server that is seen is never left out because its clients cannot be run.
    drop(postgres);
    let misspelt = [
        ("cofferdam.enable", "true"),
        ("cofferdam.postgres.exec-user", "postgers"),
    ];
    let _postgres = stack.postgres("db", &misspelt);
    stack.cofferdam(&["plan"]).expect_says(3, "postgers");
}

/// The engine repeats all options of a volume that it cannot mount.
#[test]
fn a_share_that_cannot_be_mounted_fails_its_target_and_keeps_its_password() {
    let stack = TestStack::new("share");
    let volume = TestVolume::create(&[
        "--opt",
        "type=cifs",
        "--opt",
        "device=//127.0.0.1/nowhere",
        "--opt",
        "o=addr=127.0.0.1,username=u,password=hunter2",
    ]);
    let project = format!("com.docker.compose.project={}", stack.project);
    let mount = format!("{}:/media/share", volume.name);
    let options = [
        "--label",
        &project,
        "--label",
        "com.docker.compose.service=app",
        "--label",
        "cofferdam.volumes=*",
        "--volume",
        &mount,
    ];
    let _app = TestContainer::create(&options, &[TOOLBOX]);
    let run = stack.cofferdam(&["backup"]).expect(1);
    let text = format!("{}{}", run.stdout, run.stderr);
    assert!(text.contains("failed to mount local volume"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}
