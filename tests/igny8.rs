//! The IGNY8 example: real Django, Celery, Redis and PostgreSQL, saved and put back from a stack of its own. Tests are named
//! after what an administrator of such a system needs.

use std::path::Path;

use crate::support::compose::{ComposeStack, Sidecar};
use crate::support::example::{Answer, Event, end_of, position, run_demo};
use crate::support::stack::{POSTGRES, Run, eventually};
use crate::support::{TestVolume, docker};
use serde_json::{Value, json};

const DATABASE: &str = "igny8_db";
const PASSWORD_FILE: &str = "secrets/db-password";
const MIGRATE: &str = "sh -c python manage.py migrate --noinput";
/// The schema that the snapshots here are taken with: one migration behind the code, as after an upgrade.
const OLD_SCHEMA: &str = "0002_sample_accounts";
/// The services that say how they are.
const SERVERS: [&str; 3] = ["postgres", "redis", "backend"];

struct Igny8 {
    stack: ComposeStack,
}

impl Igny8 {
    /// As the example's README brings it up, or only some services of it.
    fn up(services: &str) -> Self {
        let stack = ComposeStack::new("igny8", Sidecar::Apart);
        stack.compose("run --rm -T backend python manage.py migrate --noinput");
        stack.compose(&format!("up --detach {services}"));
        stack.wait_until_healthy(&SERVERS);
        let igny8 = Self { stack };
        igny8.manage("collectstatic --noinput");
        igny8
    }

    fn backend(&self, path: &str) -> Answer {
        self.stack.get("backend", &format!(":8010{path}"))
    }

    fn site_page(&self, slug: &str) -> Answer {
        self.stack.get("sites", &format!(":8024/{slug}/index.html"))
    }

    /// Row counts and checksums, as the backend reads them.
    #[track_caller]
    fn summary(&self) -> Value {
        self.backend("/api/v1/summary/").expect(200).json()
    }

    /// Creates a site and waits until the worker has published it.
    fn publish_site(&self, slug: &str) {
        let site = json!({"account": "account-001", "slug": slug, "title": "Garden & more", "body": "Roses."});
        let sites = "/api/v1/sites/";
        let created = self
            .stack
            .post("backend", &format!(":8010{sites}"), &site.to_string());
        created.expect(201);
        eventually(&format!("{slug} is published"), || {
            let site = self.backend(&format!("{sites}{slug}/")).expect(200).json();
            site["status"] == "published"
        });
    }

    /// `python manage.py` with the words of `line`.
    fn manage(&self, line: &str) -> String {
        let argv = format!("python manage.py {line}");
        let argv: Vec<&str> = argv.split_whitespace().collect();
        self.stack.exec("backend", &argv)
    }

    fn sql(&self, database: &str, sql: &str) -> String {
        let psql = "psql -X -q -A -t -v ON_ERROR_STOP=1 -U igny8 -c";
        let argv: Vec<&str> = psql.split(' ').chain([sql, database]).collect();
        self.stack.exec("postgres", &argv)
    }

    /// Takes a snapshot of data whose schema is behind the code.
    fn back_up_before_the_upgrade(&self) -> Run {
        self.manage(&format!("migrate content {OLD_SCHEMA}"));
        let backup = self.stack.cofferdam("backup --json").expect(0);
        self.manage("migrate");
        backup
    }
}

#[test]
fn i3_i4_i5_i6_i7_i8_i10_i11_the_stack_is_saved_lost_and_put_back_from_a_stack_of_its_own() {
    let igny8 = Igny8::up("");
    let stack = &igny8.stack;
    igny8.publish_site("garden");
    let page = igny8.site_page("garden").expect(200);
    stack
        .post("backend", ":8010/api/v1/uploads/1/logo.svg", "<svg/>")
        .expect(201);
    let before = igny8.summary();

    i3_i4_i6_the_plan_says_what_is_left_out_and_why(stack);

    let backup = igny8.back_up_before_the_upgrade().json();
    let manifest = &backup[0]["manifest"];
    i4_i5_one_snapshot_holds_what_belongs_together(manifest);
    i10_no_secret_is_stored(stack);

    // Everything that was saved is lost, and something that was not saved is there.
    igny8.publish_site("later");
    igny8.sql(
        "template1",
        &format!("DROP DATABASE {DATABASE} WITH (FORCE)"),
    );
    let everything = "rm -r /data/app/sites-data/* /data/app/igny8/sites/* /data/app/logs/* /app/logs/publish-sync-logs/* /app/staticfiles/*";
    stack.exec("backend", &["sh", "-c", everything]);
    assert_eq!(igny8.backend("/api/v1/summary/").status, 500);
    assert_eq!(igny8.site_page("garden").status, 404);

    let listening = stack.listen();
    stack
        .cofferdam("restore latest --yes")
        .expect_says(0, "Restored 6 targets");
    let events = listening.stop();

    assert_eq!(igny8.summary(), before);
    assert_eq!(igny8.site_page("garden"), page);
    assert_eq!(igny8.site_page("later").status, 404);
    let upload = igny8.backend("/api/v1/uploads/1/logo.svg").expect(200);
    assert_eq!(upload.body, "<svg/>");
    let styles = igny8.backend("/static/content/app.css").expect(200);
    assert!(styles.body.contains("font-family"), "{}", styles.body);
    let log = stack.exec("worker", &["cat", "/data/app/logs/backend.log"]);
    assert!(log.contains("site garden created"), "{log}");

    i7_everything_that_uses_the_data_is_stopped_first(&events);
    i8_worker_and_beat_start_after_the_migration(&igny8, &events);
}

fn i3_i4_i6_the_plan_says_what_is_left_out_and_why(stack: &ComposeStack) {
    let plan = stack.cofferdam("plan --json").expect(0).json();
    let reason = "Celery's broker and results; nothing of record is in it";
    assert_eq!(
        plan[0]["skipped"],
        json!([{"service": "redis", "reason": reason}])
    );
    assert_eq!(
        plan[0]["findings"],
        json!([]),
        "nothing is left out by accident"
    );
    let holds = plan[0]["holds"].as_array().expect("holds");
    let held: Vec<_> = holds
        .iter()
        .map(|hold| (&hold["service"], &hold["action"]))
        .collect();
    assert_eq!(
        held,
        [(&json!("worker"), &json!("pause"))],
        "nothing is published meanwhile"
    );
    stack.cofferdam("plan").expect_says(0, reason);
}

/// Database and published sites, as well as uploads; logs have targets of their own, static files none.
fn i4_i5_one_snapshot_holds_what_belongs_together(manifest: &Value) {
    let targets = manifest["targets"].as_array().expect("targets");
    let mut ids: Vec<&str> = targets
        .iter()
        .filter_map(|record| record["target"].as_str())
        .collect();
    ids.sort();
    let expected = [
        "backend/files/logs",
        "backend/files/publish-sync-logs",
        "backend/volume/sites-data",
        "backend/volume/uploads",
        "postgres/postgres/@globals",
        "postgres/postgres/igny8_db",
    ];
    assert_eq!(ids, expected);
    assert_eq!(manifest["failed"], json!([]));
    assert_eq!(manifest["skipped"][0]["service"], "redis");
}

fn i10_no_secret_is_stored(stack: &ComposeStack) {
    let password = password_of(stack);
    let manifest = stack.cofferdam("show latest --json").expect(0);
    assert!(!manifest.stdout.contains(&password));
    assert!(!manifest.stderr.contains(&password));

    let exported = Exported::of(stack);
    let found = exported.run(&["grep", "-rlF", "-e", &password, "/exported"]);
    assert_eq!(found, "", "the password stands in what is stored");
    assert_ne!(
        exported.run(&["grep", "-rlF", "-e", "igny8", "/exported"]),
        ""
    );
}

fn password_of(stack: &ComposeStack) -> String {
    std::fs::read_to_string(stack.made_on_host(PASSWORD_FILE)).expect("the password")
}

fn i7_everything_that_uses_the_data_is_stopped_first(events: &[Event]) {
    let stopped = |service| position(events, service, "die");
    let started = position(events, "backend", "start");
    for service in ["backend", "worker", "beat", "sites"] {
        assert!(stopped(service) < started, "{service}: {events:#?}");
    }
    assert!(stopped("beat") < stopped("backend") && stopped("worker") < stopped("backend"));
    assert!(
        !events
            .iter()
            .any(|event| event.service == "postgres" && event.action == "die"),
        "the server runs on"
    );
}

/// Backend started → healthy → `migrate` begun → `migrate` done → worker and beat started.
fn i8_worker_and_beat_start_after_the_migration(igny8: &Igny8, events: &[Event]) {
    let stack = &igny8.stack;
    let begun = position(events, "backend", &format!("exec_start: {MIGRATE}"));
    let done = end_of(events, begun);
    let steps = [
        position(events, "backend", "start"),
        position(events, "backend", "health_status: healthy"),
        begun,
        done,
    ];
    assert!(steps.is_sorted(), "{events:#?}");
    for service in ["worker", "beat", "sites"] {
        assert!(
            done < position(events, service, "start"),
            "{service}: {events:#?}"
        );
    }

    // The saved schema was older than the code.
    let status = igny8.backend("/api/v1/system/status/").expect(200).json();
    assert_eq!(status["pending_migrations"], json!([]));
    eventually("the worker has looked at the sites", || {
        stack
            .said_since_start("worker")
            .contains("all sites match the database")
    });
    let said = stack.said_since_start("worker");
    assert!(said.contains("worker started: schema up to date"), "{said}");
    assert!(!said.contains("do not match"), "{said}");
}

#[test]
fn i1_i9_dumps_are_what_pg_restore_reads_and_restores_are_tried_elsewhere() {
    let igny8 = Igny8::up("postgres redis backend");
    let stack = &igny8.stack;
    stack
        .post("backend", ":8010/api/v1/uploads/1/logo.svg", "<svg/>")
        .expect(201);
    let before = igny8.summary();
    let backup = igny8.back_up_before_the_upgrade().json();
    let targets = backup[0]["manifest"]["targets"]
        .as_array()
        .expect("targets");
    let is_dump = |record: &&Value| record["target"] == "postgres/postgres/igny8_db";
    let dump = targets.iter().find(is_dump).expect("the database");
    let entries = &dump["facts"]["entries"];
    assert!(
        entries.as_u64() > Some(10),
        "pg_restore --list counted {entries}"
    );
    stack
        .cofferdam("verify latest --read")
        .expect_says(0, "whole");

    // By hand, with the commands of IGNY8's own page.
    let exported = Exported::of(stack);
    let dump = exported.dump();
    let list = exported.run(&["pg_restore", "--list", &dump]);
    assert!(list.contains("Format: CUSTOM"), "{list}");
    assert!(list.contains("TABLE DATA public content_invoice"), "{list}");
    igny8.sql("template1", "CREATE DATABASE by_hand");
    let restore = format!("pg_restore -d by_hand -h postgres -U igny8 {dump}");
    let restore: Vec<&str> = restore.split(' ').collect();
    exported.run(&restore);
    igny8.sql("by_hand", "DELETE FROM content_invoice");
    exported.run(&[&restore[..], &["-c"]].concat());
    let count = "SELECT count(*) FROM content_invoice";
    assert_eq!(igny8.sql("by_hand", count), igny8.sql(DATABASE, count));

    // With cofferdam, into a stack that is thrown away.
    let trial = Igny8 {
        stack: ComposeStack::new("igny8", Sidecar::Apart),
    };
    trial.stack.compose("up --detach postgres redis backend");
    trial.stack.wait_until_healthy(&SERVERS);
    assert_eq!(trial.backend("/api/v1/summary/").status, 500, "it is empty");
    let project = &trial.stack.project;
    let into = format!("restore latest --to-project {project} --yes postgres/* backend/volume/*");
    stack.cofferdam(&into).expect_says(0, "Restored 4 targets");
    assert_eq!(trial.summary(), before);
    assert_eq!(
        trial.backend("/api/v1/uploads/1/logo.svg").expect(200).body,
        "<svg/>"
    );
}

#[test]
fn i8_a_migration_that_fails_is_told_and_the_restored_data_stays() {
    let igny8 = Igny8::up("postgres redis backend worker beat");
    let stack = &igny8.stack;
    let before = igny8.summary();
    // Somebody has made by hand what the next migration makes.
    igny8.manage(&format!("migrate content {OLD_SCHEMA}"));
    igny8.sql(
        DATABASE,
        "CREATE INDEX content_site_status ON content_site (status)",
    );
    stack.cofferdam("backup postgres/*").expect(0);
    igny8.sql(
        DATABASE,
        "DROP INDEX content_site_status; DELETE FROM content_invoice",
    );

    let restore = stack.cofferdam("restore latest --yes");
    let restore = restore.expect_says(3, "hook after-restore of backend");
    assert!(
        restore
            .stdout
            .contains("\"content_site_status\" already exists"),
        "{}",
        restore.stdout
    );
    assert_eq!(igny8.summary(), before);
    // The workers do not come to a schema that is not theirs.
    let is_running = |service| stack.inspect(service, "{{.State.Running}}");
    assert_eq!(is_running("backend"), "true");
    for service in ["worker", "beat"] {
        assert_eq!(is_running(service), "false", "{service}");
        let name = stack.inspect(service, "{{.Name}}");
        let said = restore.stdout.rsplit_once("docker start ").expect("how").1;
        assert!(said.contains(name.trim_start_matches('/')), "{said}");
    }
    // Nothing is left over that a later run would start them by.
    stack.cofferdam("recover").expect(0);
    assert_eq!(is_running("worker"), "false");
}

#[test]
fn i2_the_sqlite_fallback_is_saved_while_the_backend_writes_and_comes_back() {
    let igny8 = Igny8 {
        stack: ComposeStack::of_file("igny8", "docker-compose.sqlite.yml", Sidecar::Apart),
    };
    let stack = &igny8.stack;
    stack.compose("run --rm -T backend python manage.py migrate --noinput");
    stack.compose("up --detach");
    stack.wait_until_healthy(&["redis", "backend"]);
    igny8.publish_site("garden");
    let accounts = igny8.summary()["account"].clone();

    // Every answer of the backend is a row that has to come back.
    let write = "n=0; while n=$((n + 1)) && curl -s --fail -o /dev/null localhost:8010/api/v1/sites/ \
                 -d '{\"account\": \"account-001\", \"slug\": \"site-'$n'\", \"title\": \"x\", \"body\": \"x\"}'; \
                 do echo $n >/tmp/written; done";
    docker([
        "exec",
        "--detach",
        &stack.container("backend"),
        "sh",
        "-c",
        write,
    ]);
    let written = || {
        let written = stack.exec("backend", &["sh", "-c", "cat /tmp/written || echo 0"]);
        written.parse::<u64>().expect("a number")
    };
    eventually("the backend writes", || written() > 10);
    let before = written();
    stack.cofferdam("backup").expect_says(0, "3 targets saved");
    assert!(written() > before, "nobody wrote while it was saved");

    stack.compose("rm --stop --force backend worker");
    docker(["volume", "rm", &format!("{}_database", stack.project)]);
    stack.compose("up --detach");
    stack.wait_until_healthy(&["backend"]);
    assert_eq!(igny8.backend("/api/v1/summary/").status, 500, "it is empty");

    stack
        .cofferdam("restore latest --yes")
        .expect_says(0, "Restored 3 targets");
    let saved = igny8.summary();
    assert_eq!(saved["account"], accounts);
    let sites = saved["site"]["rows"].as_u64().expect("a number");
    assert!(sites > before, "{sites} of {before} came back");
    for n in [1, before, sites - 1] {
        igny8
            .backend(&format!("/api/v1/sites/site-{n}/"))
            .expect(200);
    }
    assert_eq!(
        igny8
            .backend(&format!("/api/v1/sites/site-{sites}/"))
            .status,
        404
    );
    let check = "import sqlite3; print(sqlite3.connect('/data/app/db/db.sqlite3').execute('PRAGMA integrity_check').fetchall())";
    assert_eq!(stack.exec("backend", &["python", "-c", check]), "[('ok',)]");
}

/// By the stack of its own: nobody asks for anything.
#[test]
fn i11_a_stack_of_its_own_saves_by_its_schedule() {
    let mut stack = ComposeStack::new("igny8", Sidecar::Apart);
    stack.set("IGNY8_SCHEDULE", "every 6h");
    stack.compose("up --detach postgres redis");
    stack.wait_until_healthy(&["postgres", "redis"]);
    stack.start_daemon();
    eventually("there is a snapshot", || {
        let listed = stack.cofferdam("list --json").expect(0).json();
        !listed.as_array().expect("snapshots").is_empty()
    });
    let shown = stack.cofferdam("show latest --json").expect(0).json();
    let targets = shown["targets"].as_array().expect("targets");
    assert!(
        targets
            .iter()
            .any(|it| it["target"] == "postgres/postgres/igny8_db")
    );
    assert_eq!(shown["skipped"][0]["service"], "redis");
}

#[test]
#[ignore = "a demo beside the tests of its stack: make test-full"]
fn the_demo_saves_loses_and_restores() {
    run_demo("igny8", &["6 targets saved", "whole", "Restored 6 targets"]);
}

/// The newest snapshot of a stack, as `cofferdam export` writes it, and PostgreSQL's own tools beside it.
struct Exported<'a> {
    stack: &'a ComposeStack,
    volume: TestVolume,
}

impl<'a> Exported<'a> {
    fn of(stack: &'a ComposeStack) -> Self {
        let volume = TestVolume::create(&[]);
        let mount = format!("{}:/exported", volume.name);
        let export = "export latest /exported/latest";
        stack.cofferdam_with_volume(&mount, export).expect(0);
        Self { stack, volume }
    }

    fn dump(&self) -> String {
        let found = self.run(&["find", "/exported", "-name", "*.dump"]);
        assert_eq!(found.lines().count(), 1, "{found}");
        assert!(
            Path::new(&found).ends_with("postgres.postgres.igny8_db.dump"),
            "{found}"
        );
        found
    }

    /// Runs a program of the database's image where it sees what was exported, and the server.
    fn run(&self, argv: &[&str]) -> String {
        let exported = format!("{}:/exported:ro", self.volume.name);
        let password = self.stack.made_on_host(PASSWORD_FILE);
        let password = format!("{}:/password:ro", password.display());
        let network = format!("{}_default", self.stack.project);
        // `grep` ends with 1 when it finds nothing.
        let line =
            r#"export PGPASSWORD="$(cat /password)"; "$@" || { [ "$?" = 1 ] && [ "$1" = grep ]; }"#;
        let run = [
            "run",
            "--rm",
            "--label",
            crate::support::TEST_LABEL,
            "--network",
            &network,
        ];
        let mounts = ["--volume", &exported, "--volume", &password];
        let shell = [POSTGRES, "sh", "-c", line, "sh"];
        docker([&run[..], &mounts, &shell, argv].concat())
    }
}
