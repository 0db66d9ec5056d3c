//! Whole stacks saved and put back by the real program, on a real engine and real servers.

use crate::support::docker;
use crate::support::stack::{Postgres, TestStack, compose_volume, is_running};
use serde_json::Value;

/// The databases of CanDIG and two clients that are stopped while they are put back.
struct Candig {
    stack: TestStack,
    postgres: Postgres,
    katsu: crate::support::TestContainer,
    htsget: crate::support::TestContainer,
}

impl Candig {
    fn start(extra: &[(&str, &str)]) -> Self {
        let stack = TestStack::new("candig");
        let mut labels = vec![("cofferdam.postgres", "clinical,genomic")];
        labels.extend(extra);
        let postgres = stack.postgres("postgres-db", &labels);
        postgres.sql("clinical", "CREATE DATABASE genomic");
        postgres.seed("clinical", 2000);
        postgres.seed("genomic", 500);
        let client = [
            ("cofferdam.stop", "restore"),
            ("cofferdam.hold-for", "postgres-db"),
        ];
        let katsu = stack.toolbox("katsu", &client, &[]);
        let htsget = stack.toolbox("htsget", &client, &[]);
        Self {
            stack,
            postgres,
            katsu,
            htsget,
        }
    }

    fn destroy(&self) {
        self.postgres.sql("clinical", "DROP TABLE patients");
        self.postgres.sql("genomic", "DELETE FROM patients");
    }
}

fn targets(document: &Value) -> Vec<String> {
    document["targets"]
        .as_array()
        .expect("targets")
        .iter()
        .map(|target| target["target"].as_str().expect("an id").to_owned())
        .collect()
}

#[test]
fn d1_d2_each_database_is_one_artifact_and_nothing_of_it_stays_in_the_container() {
    let candig = Candig::start(&[]);
    let before = candig.postgres.container.sh("find /tmp /var/tmp | sort");
    candig.stack.cofferdam(&["backup"]).expect(0);

    let mut saved = targets(&candig.stack.manifest());
    saved.sort();
    assert_eq!(
        saved,
        [
            "postgres-db/postgres/@globals",
            "postgres-db/postgres/clinical",
            "postgres-db/postgres/genomic"
        ]
    );
    for target in candig.stack.manifest()["targets"].as_array().unwrap() {
        assert_eq!(target["artifacts"].as_array().unwrap().len(), 1);
        if !target["target"].as_str().unwrap().ends_with("globals") {
            assert_eq!(target["transfer"], "copy");
        }
    }
    let after = candig.postgres.container.sh("find /tmp /var/tmp | sort");
    assert_eq!(before, after, "something of the dump stayed behind");
    candig.stack.ensure_nothing_is_left();
}

#[test]
fn d5_a_restore_stops_the_clients_and_replaces_both_databases() {
    let candig = Candig::start(&[]);
    let clinical = candig.postgres.fingerprint("clinical");
    let genomic = candig.postgres.fingerprint("genomic");
    let started = candig.katsu.inspect("{{.State.StartedAt}}");
    candig.stack.cofferdam(&["backup"]).expect(0);
    candig.destroy();

    candig
        .stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect(0);
    assert_eq!(candig.postgres.fingerprint("clinical"), clinical);
    assert_eq!(candig.postgres.fingerprint("genomic"), genomic);
    for client in [&candig.katsu, &candig.htsget] {
        assert!(is_running(client));
    }
    assert_ne!(
        candig.katsu.inspect("{{.State.StartedAt}}"),
        started,
        "katsu was not stopped while its database was replaced"
    );
    assert_eq!(
        candig.postgres.databases(),
        ["clinical", "genomic", "postgres", "template0", "template1"],
        "an old database was left"
    );
    candig.stack.ensure_nothing_is_left();
}

#[test]
fn every_restore_mode_brings_the_rows_back() {
    for mode in ["swap", "recreate", "clean"] {
        let candig = Candig::start(&[("cofferdam.postgres.restore", mode)]);
        let clinical = candig.postgres.fingerprint("clinical");
        candig.stack.cofferdam(&["backup"]).expect(0);
        candig.destroy();
        candig
            .stack
            .cofferdam(&["restore", "latest", "--yes"])
            .expect(0);
        assert_eq!(candig.postgres.fingerprint("clinical"), clinical, "{mode}");
        candig.stack.ensure_nothing_is_left();
    }
}

#[test]
fn a_clean_restore_that_fails_changes_nothing() {
    let stack = TestStack::new("clean");
    let labels = [
        ("cofferdam.postgres", "clinical,genomic"),
        ("cofferdam.postgres.restore", "clean"),
        ("cofferdam.postgres.exclude-table-data", "sessions"),
    ];
    let postgres = stack.postgres("db", &labels);
    postgres.sql("clinical", "CREATE DATABASE genomic");
    for database in ["clinical", "genomic"] {
        postgres.seed(database, 5);
    }
    postgres.sql("clinical", "CREATE TABLE sessions AS SELECT 7 AS id");
    stack.cofferdam(&["backup"]).expect(0);
    postgres.sql("clinical", "INSERT INTO patients VALUES (6, 'new')");
    // The view keeps the table from being dropped. A dump of the constraint does not load: it looks into a later table.
    postgres.sql(
        "genomic",
        "CREATE VIEW latest AS SELECT * FROM patients; CREATE TABLE zones AS SELECT 1 AS id; \
         CREATE FUNCTION is_zone(int) RETURNS bool LANGUAGE sql \
            AS 'SELECT EXISTS (SELECT FROM public.zones WHERE id = $1)'; \
         CREATE TABLE areas (zone int CHECK (public.is_zone(zone))); INSERT INTO areas VALUES (1)",
    );
    let before = ["clinical", "genomic"].map(|database| postgres.fingerprint(database));
    stack
        .cofferdam(&["restore", "latest", "--dry-run"])
        .expect_says(0, "does not hold the data matching sessions");
    let run = stack.cofferdam(&["restore", "latest", "--yes"]).expect(1);
    assert!(!run.stderr.contains("NOT FINISHED"), "{run:?}");
    let after = ["clinical", "genomic"].map(|database| postgres.fingerprint(database));
    assert_eq!(after, before);
    // The first database was loaded, and put back with rows that no other snapshot holds.
    assert_eq!(postgres.sql("clinical", "SELECT id FROM sessions"), "7");
    assert_eq!(postgres.sql("genomic", "SELECT zone FROM areas"), "1");
    stack.ensure_nothing_is_left();
}

#[test]
fn keep_old_leaves_the_replaced_database_beside_the_new_one() {
    let candig = Candig::start(&[]);
    candig.stack.cofferdam(&["backup"]).expect(0);
    candig
        .postgres
        .sql("clinical", "DELETE FROM patients WHERE id > 10");
    let run = candig
        .stack
        .cofferdam(&["restore", "latest", "*/clinical", "--yes", "--keep-old"])
        .expect(0);
    let old: Vec<String> = candig
        .postgres
        .databases()
        .into_iter()
        .filter(|name| name.starts_with("clinical_before_"))
        .collect();
    assert_eq!(old.len(), 1, "{run:?}");
    // Nobody takes it for the present one: it is closed until somebody opens it.
    candig.postgres.sql(
        "template1",
        &format!("ALTER DATABASE \"{}\" ALLOW_CONNECTIONS true", old[0]),
    );
    assert!(candig.postgres.fingerprint(&old[0]).starts_with("10:"));
    assert!(candig.postgres.fingerprint("clinical").starts_with("2000:"));
}

#[test]
fn d6_vault_is_hooked_stopped_saved_and_started_again() {
    let stack = TestStack::new("vault");
    let data = compose_volume(&stack, "vault-data");
    let log = compose_volume(&stack, "log");
    let data_mount = format!("{}:/vault", data.name);
    let log_mount = format!("{}:/log", log.name);
    let note = "sh -c 'echo $COFFERDAM_OUTCOME hook >> /log/log'";
    let vault = stack.toolbox(
        "vault",
        &[
            ("cofferdam.volumes", "vault-data"),
            ("cofferdam.stop", "backup,restore"),
            ("cofferdam.hold-for", "vault"),
            ("cofferdam.hook.before-backup", note),
            ("cofferdam.hook.after-backup", note),
            ("cofferdam.hook.after-restore", note),
        ],
        &["--volume", &data_mount, "--volume", &log_mount],
    );
    let runner = stack.toolbox(
        "vault-runner",
        &[
            ("cofferdam.stop", "backup,restore"),
            ("cofferdam.hold-for", "vault"),
        ],
        &["--volume", &data_mount],
    );
    vault.sh("mkdir -p /vault/core && echo sealed > /vault/core/key && chmod 600 /vault/core/key && chown 100:1000 /vault/core/key");
    let first_life = vault.inspect("{{.State.StartedAt}}");

    stack.cofferdam(&["backup"]).expect(0);
    assert_eq!(targets(&stack.manifest()), ["vault/volume/vault-data"]);
    assert_ne!(
        vault.inspect("{{.State.StartedAt}}"),
        first_life,
        "vault was not stopped"
    );
    assert_eq!(vault.sh("cat /log/log"), "running hook\ndone hook");

    vault.sh("rm -r /vault/core && echo extra > /vault/extra");
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert_eq!(
        vault.sh("cat /vault/core/key; stat -c '%a %u %g' /vault/core/key; ls -A /vault"),
        "sealed\n600 100 1000\ncore"
    );
    assert_eq!(vault.sh("tail -n 1 /log/log"), "done hook");
    assert!(is_running(&vault) && is_running(&runner));
    stack.ensure_nothing_is_left();
}

#[test]
fn t4_t5_single_files_and_files_of_a_containers_own_layer_come_back() {
    let stack = TestStack::new("tethys");
    let host = stack.directory.path().join("portal_config.yml");
    std::fs::write(&host, "version: 2\n").unwrap();
    let bind = format!("{}:/home/tethys/portal_config.yml", host.display());
    let portal = stack.toolbox(
        "portal",
        &[
            ("cofferdam.files.portal", "/home/tethys/portal_config.yml"),
            ("cofferdam.files.nginx", "/etc/tethys/tethys_nginx.conf"),
            ("cofferdam.files.apps", "/opt/apps"),
        ],
        &["--volume", &bind],
    );
    portal.sh(
        "mkdir -p /etc/tethys /opt/apps/dam/empty && echo nginx > /etc/tethys/tethys_nginx.conf && chmod 640 /etc/tethys/tethys_nginx.conf
         echo app > /opt/apps/dam/app.py && ln -s app.py /opt/apps/dam/link && chown -R 33:33 /opt/apps/dam",
    );
    stack.cofferdam(&["backup"]).expect(0);

    portal.sh("rm -r /opt/apps/dam /etc/tethys/tethys_nginx.conf && echo broken > /home/tethys/portal_config.yml");
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert_eq!(
        portal.sh("cat /home/tethys/portal_config.yml"),
        "version: 2"
    );
    assert_eq!(std::fs::read_to_string(&host).unwrap(), "version: 2\n");
    assert_eq!(
        portal.sh("cat /etc/tethys/tethys_nginx.conf; stat -c %a /etc/tethys/tethys_nginx.conf"),
        "nginx\n640"
    );
    assert_eq!(
        portal.sh("cat /opt/apps/dam/link; stat -c '%u %g' /opt/apps/dam/app.py; ls -A /opt/apps /opt/apps/dam"),
        "app\n33 33\n/opt/apps:\ndam\n\n/opt/apps/dam:\napp.py\nempty\nlink"
    );
}

#[test]
fn a_restore_of_a_containers_own_layer_is_exact_while_it_runs_and_says_so_when_it_cannot_be() {
    for (labels, expected) in [
        (vec![], "app.py\nrun"),
        (vec![("cofferdam.stop", "restore")], "app.py\nextra\nrun"),
    ] {
        let stack = TestStack::new("layer");
        let is_exact = labels.is_empty();
        let mut all = vec![("cofferdam.files.app", "/opt/app")];
        all.extend(labels);
        let app = stack.toolbox("app", &all, &["--tmpfs", "/opt/app/run"]);
        app.sh("echo saved > /opt/app/app.py");
        stack.cofferdam(&["backup"]).expect(0);
        app.sh("cd /opt/app && echo changed > app.py && echo extra > extra");
        let run = stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
        assert_eq!(
            app.sh("cat /opt/app/app.py; ls -A /opt/app"),
            format!("saved\n{expected}")
        );
        let told = run
            .stderr
            .contains("extras that were not saved stay below /opt (1 in all): app/extra")
            && run
                .stderr
                .contains("without `restore` in its `cofferdam.stop`");
        assert_eq!(told, !is_exact, "{}", run.stderr);
        assert!(!run.stderr.contains("not restored"), "{}", run.stderr);
        assert_eq!(app.sh("ls -A /tmp /var/tmp | grep coffer || true"), "");
        stack.ensure_nothing_is_left();
    }
}

#[test]
fn a_failed_restore_of_a_containers_own_layer_takes_back_what_it_added() {
    let stack = TestStack::new("layer");
    let app = stack.toolbox(
        "app",
        &[
            ("cofferdam.files.a", "/opt/a"),
            ("cofferdam.files.b", "/opt/b/tree"),
        ],
        &[],
    );
    app.sh("mkdir -p /opt/a/sub /opt/b/tree && echo saved > /opt/a/sub/file && echo b > /opt/b/tree/file");
    stack.cofferdam(&["backup"]).expect(0);
    // There is no directory any more that `tree` could come back into.
    app.sh("rm -r /opt/a/sub /opt/b && echo now > /opt/a/now && echo file > /opt/b");
    let before = app.sh("find /opt | sort; cat /opt/a/now");
    let run = stack.cofferdam(&["restore", "latest", "--yes"]).expect(1);
    assert!(run.stderr.contains("app/files/b"), "{run:?}");
    assert_eq!(app.sh("find /opt | sort; cat /opt/a/now"), before);
    stack.ensure_nothing_is_left();
}

#[test]
fn a_deleted_directory_on_a_volume_comes_back_in_place() {
    let stack = TestStack::new("deleted");
    let volume = compose_volume(&stack, "data");
    let mount = format!("{}:/data", volume.name);
    let labels = [("cofferdam.files.uploads", "/data/uploads")];
    let app = stack.toolbox("app", &labels, &["--volume", &mount]);
    app.sh("mkdir /data/uploads && echo saved > /data/uploads/file && echo other > /data/other");
    stack.cofferdam(&["backup"]).expect(0);
    app.sh("rm -r /data/uploads");
    stack
        .cofferdam(&["restore", "latest", "--yes", "--in-place"])
        .expect(0);
    let found = app.sh("cd /data && find . -type f | sort | xargs cat");
    assert_eq!(found, "other\nsaved");
    stack.ensure_nothing_is_left();
}

#[test]
fn i3_what_is_left_out_on_purpose_is_shown_with_its_reason() {
    let stack = TestStack::new("igny8");
    let volume = compose_volume(&stack, "redis-data");
    let mount = format!("{}:/data", volume.name);
    let reason = "a broker: nothing in it outlives a restart";
    let _redis = stack.toolbox(
        "redis",
        &[("cofferdam.skip", reason)],
        &["--volume", &mount],
    );
    let _app = stack.toolbox(
        "app",
        &[("cofferdam.files.conf", "/etc/debian_version")],
        &[],
    );
    stack.cofferdam(&["plan"]).expect_says(0, reason);
    stack.cofferdam(&["backup"]).expect(0);
    let manifest = stack.manifest();
    assert_eq!(manifest["skipped"][0]["service"], "redis");
    assert_eq!(manifest["skipped"][0]["reason"], reason);
    assert_eq!(targets(&manifest), ["app/files/conf"]);
}

#[test]
fn a4_a6_plain_containers_are_saved_and_the_app_is_stopped_only_when_asked() {
    for stop in [true, false] {
        let stack = TestStack::new("apiary");
        let volume = crate::support::TestVolume::create(&[]);
        let mount = format!("{}:/storage/app", volume.name);
        let project = format!("cofferdam.project={}", stack.project);
        let mut options = vec![
            "--label",
            &project,
            "--label",
            "cofferdam.volumes=*",
            "--volume",
            &mount,
        ];
        if stop {
            options.extend(["--label", "cofferdam.stop=backup"]);
        }
        let app =
            crate::support::TestContainer::running(&options, &[crate::support::stack::TOOLBOX]);
        app.sh("mkdir /storage/app/resumes && echo pdf > /storage/app/resumes/1.pdf");
        let first_life = app.inspect("{{.State.StartedAt}}");
        stack.cofferdam(&["backup"]).expect(0);
        assert_eq!(app.inspect("{{.State.StartedAt}}") != first_life, stop);
        assert_eq!(
            targets(&stack.manifest()),
            [format!("{}/volume/{}", app.name, volume.name)]
        );
        app.sh("rm -r /storage/app/resumes");
        stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
        assert_eq!(app.sh("cat /storage/app/resumes/1.pdf"), "pdf");
    }
}

#[test]
fn what_was_stopped_before_stays_stopped_and_other_projects_are_left_alone() {
    let stack = TestStack::new("one");
    let other = TestStack::new("other");
    let volume = compose_volume(&stack, "data");
    let mount = format!("{}:/data", volume.name);
    let app = stack.toolbox(
        "app",
        &[("cofferdam.volumes", "data")],
        &["--volume", &mount],
    );
    app.sh("echo 1 > /data/file");
    let stopped = stack.toolbox("worker", &[("cofferdam.stop", "backup,restore")], &[]);
    docker(["stop", &stopped.id]);
    let foreign = other.toolbox("worker", &[("cofferdam.stop", "backup,restore")], &[]);
    let foreign_life = foreign.inspect("{{.State.StartedAt}}");

    stack.cofferdam(&["backup"]).expect(0);
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert!(!is_running(&stopped));
    assert_eq!(foreign.inspect("{{.State.StartedAt}}"), foreign_life);
}

#[test]
fn latest_is_the_newest_of_each_target() {
    let stack = TestStack::new("parts");
    let stores = ["db", "web"].map(|name| {
        let volume = compose_volume(&stack, name);
        let mount = format!("{}:/data", volume.name);
        let labels = [("cofferdam.volumes", name)];
        (stack.toolbox(name, &labels, &["--volume", &mount]), volume)
    });
    let write = |word: &str| {
        for (container, _) in &stores {
            container.sh(&format!("echo {word} > /data/word"));
        }
    };
    write("first");
    stack.cofferdam(&["backup"]).expect(0);
    let whole = stack.manifest()["snapshot"]
        .as_str()
        .expect("an id")
        .to_owned();
    write("second");
    stack.cofferdam(&["backup", "db/*"]).expect(0);
    write("lost");
    let plan = stack.cofferdam(&["restore", "latest", "--dry-run"]);
    plan.expect_says(0, &format!("in snapshot {whole}"));
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    let read = |at: usize| stores[at].0.sh("cat /data/word");
    assert_eq!([read(0), read(1)], ["second", "first"]);

    write("lost");
    let part = stack.manifest()["snapshot"]
        .as_str()
        .expect("an id")
        .to_owned();
    stack.cofferdam(&["restore", &part, "--yes"]).expect(0);
    assert_eq!([read(0), read(1)], ["second", "lost"]);
}

#[test]
fn single_files_come_back_out_of_a_volume() {
    let stack = TestStack::new("path");
    let volume = compose_volume(&stack, "uploads");
    let mount = format!("{}:/srv", volume.name);
    let app = stack.toolbox(
        "app",
        &[("cofferdam.volumes", "uploads")],
        &["--volume", &mount],
    );
    app.sh("mkdir -p /srv/a /srv/b && echo old > /srv/a/file && echo old > /srv/b/file");
    stack.cofferdam(&["backup"]).expect(0);
    stack
        .cofferdam(&["ls", "latest", "app/volume/uploads", "a"])
        .expect_says(0, "file");
    app.sh("echo new > /srv/a/file && echo new > /srv/b/file && echo extra > /srv/a/extra");
    stack
        .cofferdam(&[
            "restore",
            "latest",
            "app/volume/uploads",
            "--path",
            "a",
            "--yes",
        ])
        .expect(0);
    assert_eq!(
        app.sh("cat /srv/a/file /srv/b/file; ls -A /srv/a"),
        "old\nnew\nfile"
    );
}

#[test]
fn a_snapshot_is_restored_by_hand_with_nothing_but_standard_tools() {
    let candig = Candig::start(&[]);
    let volume = compose_volume(&candig.stack, "uploads");
    let mount = format!("{}:/srv", volume.name);
    let app = candig.stack.toolbox(
        "app",
        &[("cofferdam.volumes", "uploads")],
        &["--volume", &mount],
    );
    app.sh("mkdir /srv/a && echo saved > /srv/a/file && setfattr -n user.key -v value /srv/a/file && ln /srv/a/file /srv/link && chown 33:33 /srv/a");
    candig.postgres.sql(
        "clinical",
        "CREATE ROLE katsu LOGIN; ALTER TABLE patients OWNER TO katsu",
    );
    let clinical = candig.postgres.fingerprint("clinical");
    candig.stack.cofferdam(&["backup"]).expect(0);
    candig.postgres.sql("template1", "DROP DATABASE clinical");
    candig.postgres.sql("template1", "DROP DATABASE genomic");
    candig.postgres.sql("template1", "DROP ROLE katsu");

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/restore-by-hand.sh");
    let out = candig.stack.directory.path().join("out");
    let by_hand = |arguments: &[&std::ffi::OsStr]| {
        let output = std::process::Command::new(script)
            .args(arguments)
            .output()
            .expect("the script");
        crate::support::stack::Run::from(output).expect(0);
    };
    by_hand(&[
        "unpack".as_ref(),
        candig.stack.repository().as_ref(),
        candig.stack.project.as_ref(),
        "latest".as_ref(),
        out.as_ref(),
    ]);
    by_hand(&[
        "load-postgres".as_ref(),
        out.as_ref(),
        "postgres-db".as_ref(),
        candig.postgres.container.name.as_ref(),
        "admin".as_ref(),
    ]);
    assert_eq!(candig.postgres.fingerprint("clinical"), clinical);
    assert_eq!(
        candig.postgres.sql(
            "clinical",
            "SELECT tableowner FROM pg_tables WHERE tablename = 'patients'"
        ),
        "katsu"
    );
    let tree = out.join("app.volume.uploads");
    let shown = std::process::Command::new("sh")
        .args(["-c", "cat a/file; stat -c %u:%g a; stat -c %h link; getfattr --only-values -n user.key a/file"])
        .current_dir(&tree)
        .output()
        .expect("sh");
    assert_eq!(
        String::from_utf8_lossy(&shown.stdout),
        "saved\n33:33\n2\nvalue"
    );
}

#[test]
fn a_stack_is_restored_into_another_that_is_up_and_empty() {
    let production = TestStack::new("shop");
    let uploads = compose_volume(&production, "uploads");
    let mount = format!("{}:/srv", uploads.name);
    let volumes = [
        ("cofferdam.volumes", "uploads"),
        ("cofferdam.stop", "restore"),
    ];
    let app = production.toolbox("app", &volumes, &["--volume", &mount]);
    let database = production.postgres("db", &[("cofferdam.postgres", "clinical")]);
    database.seed("clinical", 300);
    app.sh("echo receipt > /srv/receipt && chown 7:8 /srv/receipt");
    production.cofferdam(&["backup"]).expect(0);

    let staging = TestStack::new("staging");
    let other_uploads = compose_volume(&staging, "uploads");
    let mount = format!("{}:/srv", other_uploads.name);
    let web = staging.toolbox("app", &volumes, &["--volume", &mount]);
    let other = staging.postgres("postgres", &[("cofferdam.postgres", "clinical")]);
    web.sh("echo old > /srv/old");
    let first_life = web.inspect("{{.State.StartedAt}}");
    let restore = |maps: &[&str]| {
        let into = [
            "restore",
            "latest",
            "--yes",
            "--to-project",
            &staging.project,
        ];
        production.cofferdam(&[&into, maps].concat())
    };

    restore(&[]).expect_says(2, "targets of service db");
    restore(&["--map", "nobody=postgres"]).expect_says(2, "no target matches `nobody=postgres`");
    restore(&["--map", "db=app"]).expect_says(2, "needs it running");
    restore(&["--map", "db=postgres", "--dry-run"])
        .expect_says(0, "postgres/postgres/clinical from db/postgres/clinical");
    assert_eq!(web.sh("ls /srv"), "old", "nothing was touched so far");

    restore(&["--map", "db=postgres"]).expect(0);
    assert_eq!(
        other.fingerprint("clinical"),
        database.fingerprint("clinical")
    );
    assert_eq!(
        web.sh("cd /srv && ls && stat -c '%u %g' receipt"),
        "receipt\n7 8"
    );
    assert_ne!(
        web.inspect("{{.State.StartedAt}}"),
        first_life,
        "it was not stopped"
    );
    // The other stack was only read.
    assert_eq!(app.sh("ls /srv"), "receipt");
    assert!(is_running(&app) && is_running(&web));
    production.ensure_nothing_is_left();
    staging.ensure_nothing_is_left();
}
