//! The Apiary example: an application with MySQL, a search index and uploads, started by plain `docker run` as under Nomad,
//! lost, and put back into a new, empty instance. Tests are named after what an administrator of such a system needs.

use std::process::{Command, Stdio};

use crate::support::example::{
    self, Answer, Event, Listening, cofferdam_image, directory_of, end_of, position, remove_all,
    run_demo, said_since_start,
};
use crate::support::mysql::{MARIADB, MYSQL};
use crate::support::stack::{Run, TOOLBOX};
use crate::support::{TEST_LABEL, TestVolume, docker, unique};
use serde_json::{Value, json};
use tempfile::TempDir;

const SERVICES: [&str; 4] = ["worker", "web", "meilisearch", "mysql"];
const DATABASES: [&str; 2] = ["apiary_production", "apiary_sandbox"];
const LEFT_OUT: [&str; 14] = [
    "action_events",
    "attendance_exports",
    "failed_jobs",
    "jobs",
    "notification_templates",
    "nova_notifications",
    "oauth_access_tokens",
    "oauth_refresh_tokens",
    "recruiting_campaign_recipients",
    "recruiting_campaigns",
    "recruiting_responses",
    "recruiting_visits",
    "remote_attendance_links",
    "webhook_calls",
];
const RESUME: &str = "/api/v1/users/mjemison/resume";
const IMPORT: &str = "php artisan scout:import-all";

/// Everything of it is removed on drop, and carries the label `cofferdam.test`.
struct Apiary {
    project: String,
    /// The image of its server, as `mysql:9`.
    server: &'static str,
    /// Passwords, which the containers mount.
    directory: TempDir,
}

impl Apiary {
    /// A running, empty instance.
    fn up(server: &'static str) -> Self {
        let apiary = Self {
            project: unique("apiary"),
            server,
            directory: tempfile::tempdir().expect("a temporary directory"),
        };
        apiary.script("./init.sh", "");
        apiary.start("restore");
        apiary
    }

    /// Starts what is not there; `stop` says what the application is stopped for.
    fn start(&self, stop: &str) {
        self.script("./run.sh", stop);
    }

    fn script(&self, script: &str, stop: &str) {
        let output = Command::new(script)
            .current_dir(directory_of("apiary"))
            .env("APIARY_PROJECT", &self.project)
            .env("APIARY_TMP", self.directory.path())
            .env("APIARY_LABEL", TEST_LABEL)
            .env("APIARY_STOP", stop)
            .env("MYSQL_IMAGE", format!("cofferdam-test/{}", self.server))
            .stdin(Stdio::null())
            .output();
        Run::from(output.expect(script)).expect(0);
    }

    /// `docker run --rm cofferdam` with the words of `line`, as the example's README has it.
    fn cofferdam(&self, line: &str) -> Run {
        self.cofferdam_with(&[], line)
    }

    fn cofferdam_with(&self, options: &[&str], line: &str) -> Run {
        let backups = format!("{}-backups:/backups", self.project);
        let output = Command::new("docker")
            .args(["run", "--rm", "--label", TEST_LABEL])
            .args(["-v", "/var/run/docker.sock:/var/run/docker.sock"])
            .args(["-v", &backups])
            .args(options)
            .arg(cofferdam_image())
            .args(line.split_whitespace())
            .args(["--project", &self.project])
            .stdin(Stdio::null())
            .output();
        output.expect("docker").into()
    }

    fn container(&self, service: &str) -> String {
        format!("{}-{service}", self.project)
    }

    fn get(&self, path: &str) -> Answer {
        example::get(&self.container("web"), &format!(":8000{path}"))
    }

    #[track_caller]
    fn post(&self, path: &str, body: &str) {
        example::post(&self.container("web"), &format!(":8000{path}"), body).expect(201);
    }

    fn sh(&self, line: &str) -> String {
        docker(["exec", &self.container("web"), "sh", "-c", line])
    }

    /// `php artisan` with the words of `line`, on a database.
    fn artisan(&self, database: &str, line: &str) -> String {
        let database = format!("DB_DATABASE={database}");
        let web = self.container("web");
        let artisan = ["exec", "--env", &database, &web, "php", "artisan"];
        docker(artisan.into_iter().chain(line.split_whitespace()))
    }

    /// Rows and checksum of every table.
    fn tables(&self, database: &str) -> Value {
        let shown = self.artisan(database, "db:show");
        serde_json::from_str(&shown).expect("JSON")
    }

    /// Rows of both databases, without the tables that are left out.
    fn saved_rows(&self) -> [Value; 2] {
        DATABASES.map(|database| {
            let mut tables = self.tables(database);
            let tables = tables.as_object_mut().expect("tables");
            tables.retain(|table, _| !LEFT_OUT.contains(&table.as_str()));
            assert_eq!(tables.len(), 3, "{tables:?}");
            json!(tables)
        })
    }

    fn search(&self, keyword: &str) -> Value {
        let path = format!("/api/v1/users/search?keyword={keyword}");
        self.get(&path).expect(200).json()
    }

    /// Rows in every table, a new user with a resume, and files of all kinds.
    fn fill(&self) {
        for database in DATABASES {
            self.artisan(database, "db:seed");
        }
        self.artisan(DATABASES[0], "scout:import-all");
        let user = json!({"uid": "mjemison", "first_name": "Mae", "last_name": "Jemison"});
        self.post("/api/v1/users", &user.to_string());
        self.post(RESUME, "%PDF-1.7");
        self.sh("cd /storage/app && echo signed >docusign/agreement.pdf \
             && echo export >nova-exports/users.csv && echo font >dompdf/font.php");
    }

    /// As on another machine: containers and volumes are new, only the repository is there.
    fn lose_everything_but_the_repository(&self) {
        self.remove(&SERVICES);
        for volume in ["mysql", "meilisearch", "storage"] {
            docker(["volume", "rm", &self.container(volume)]);
        }
        self.start("restore");
        assert_eq!(self.tables(DATABASES[0])["users"]["rows"], 0);
        assert_eq!(self.search("jemison"), json!([]));
        assert_eq!(self.get(RESUME).status, 404);
    }

    fn remove(&self, services: &[&str]) {
        let containers = services.iter().map(|service| self.container(service));
        let remove = ["rm", "--force", "--volumes"].map(str::to_owned);
        docker(remove.into_iter().chain(containers));
    }

    /// What a run does to the containers.
    fn events_of(&self, run: impl FnOnce()) -> Vec<Event> {
        let listening = Listening::to(&format!("cofferdam.project={}", self.project));
        run();
        listening.stop()
    }
}

impl Drop for Apiary {
    fn drop(&mut self) {
        for label in ["cofferdam.hold", "cofferdam.project"] {
            let label = format!("label={label}={}", self.project);
            remove_all(&["ps", "--all"], &["rm", "--force", "--volumes"], &label);
            remove_all(&["volume", "ls"], &["volume", "rm", "--force"], &label);
            remove_all(&["network", "ls"], &["network", "rm"], &label);
        }
    }
}

/// A file that `cofferdam export` has written to a volume.
fn exported(volume: &TestVolume, file: &str) -> String {
    let mount = format!("{}:/exported:ro", volume.name);
    let path = format!("/exported/latest/{file}");
    let run = ["run", "--rm", "--volume", &mount];
    docker([&run[..], &[TOOLBOX, "cat", &path]].concat())
}

/// Services in the order in which this happened to them.
fn order_of<'a>(events: &'a [Event], action: &str) -> Vec<&'a str> {
    let such = events.iter().filter(|event| event.action == action);
    such.map(|event| event.service.as_str()).collect()
}

#[test]
#[ignore = "a demo beside the tests of its stack: make test-full"]
fn the_demo_saves_loses_and_restores() {
    run_demo(
        "apiary",
        &[
            "4 targets saved",
            "Restored 4 targets",
            "%PDF-1.7 Mae Jemison",
        ],
    );
}

#[test]
#[ignore = "the other family of servers: make test-full"]
fn a1_a2_a3_a4_a5_a6_an_apiary_on_mysql_is_put_back_into_an_empty_instance() {
    let apiary = Apiary::up(MYSQL);
    apiary.fill();
    let before = apiary.saved_rows();
    let found = apiary.search("jemison");
    assert_eq!(found[0]["first_name"], "Mae");
    a6_nothing_is_known_of_compose(&apiary);
    a6_the_plan_says_what_is_left_out_and_why(&apiary);

    let mut manifest = Value::Null;
    let events = apiary.events_of(|| {
        let backup = apiary.cofferdam("backup --json").expect(0).json();
        manifest = backup[0]["manifest"].clone();
    });
    assert_eq!(
        order_of(&events, "die"),
        [""; 0],
        "A4: nothing is stopped unasked"
    );
    a1_a2_each_database_is_a_script_of_its_own(&apiary, &manifest);
    a3_only_what_is_worth_its_space_is_saved(&apiary);

    apiary.lose_everything_but_the_repository();
    let events = apiary.events_of(|| {
        apiary
            .cofferdam("restore latest --yes")
            .expect_says(0, "Restored 4 targets");
    });

    assert_eq!(apiary.saved_rows(), before);
    assert_eq!(apiary.search("jemison"), found);
    assert_eq!(apiary.get(RESUME).expect(200).body, "%PDF-1.7");
    a2_tables_left_out_are_there_and_empty(&apiary);
    a3_what_was_left_out_is_not_there(&apiary);
    a5_users_come_back_when_all_is_there(&apiary, &events);

    a4_the_application_is_stopped_for_a_backup_where_that_is_asked_for(&apiary);
    a5_where_nothing_may_stop_users_are_kept_out(&apiary);
}

#[test]
fn a1_a2_a3_a5_an_apiary_on_mariadb_is_put_back_into_an_empty_instance() {
    let apiary = Apiary::up(MARIADB);
    apiary.fill();
    let before = apiary.saved_rows();
    let found = apiary.search("jemison");
    apiary.cofferdam("backup").expect_says(0, "4 targets saved");
    apiary.lose_everything_but_the_repository();
    apiary
        .cofferdam("restore latest --yes")
        .expect_says(0, "Restored 4 targets");
    assert_eq!(apiary.saved_rows(), before);
    assert_eq!(apiary.search("jemison"), found);
    assert_eq!(apiary.get(RESUME).expect(200).body, "%PDF-1.7");
    a2_tables_left_out_are_there_and_empty(&apiary);
}

fn a6_nothing_is_known_of_compose(apiary: &Apiary) {
    for service in SERVICES {
        let container = apiary.container(service);
        let labels = docker(["inspect", "--format", "{{json .Config.Labels}}", &container]);
        assert!(!labels.contains("com.docker.compose"), "{labels}");
    }
}

fn a6_the_plan_says_what_is_left_out_and_why(apiary: &Apiary) {
    let plan = apiary.cofferdam("plan --json").expect(0).json();
    let reason = "the search index; scout:import-all builds it from the database";
    assert_eq!(
        plan[0]["skipped"],
        json!([{"service": "meilisearch", "reason": reason}])
    );
    assert_eq!(
        plan[0]["findings"],
        json!([]),
        "nothing is left out by accident"
    );
    assert_eq!(plan[0]["holds"], json!([]));
}

fn a1_a2_each_database_is_a_script_of_its_own(apiary: &Apiary, manifest: &Value) {
    let targets = manifest["targets"].as_array().expect("targets");
    let mut ids: Vec<&str> = targets
        .iter()
        .filter_map(|record| record["target"].as_str())
        .collect();
    ids.sort();
    let storage = format!("web/volume/{}-storage", apiary.project);
    let databases = [
        "mysql/mysql/apiary_production",
        "mysql/mysql/apiary_sandbox",
    ];
    let users = ["mysql/mysql/@users"];
    assert_eq!(ids, [&users[..], &databases, &[&storage]].concat());

    let volume = TestVolume::create(&[]);
    let mount = format!("{}:/exported", volume.name);
    let export = "export latest /exported/latest";
    apiary
        .cofferdam_with(&["--volume", &mount], export)
        .expect(0);
    for (database, other) in [(DATABASES[0], DATABASES[1]), (DATABASES[1], DATABASES[0])] {
        let script = exported(&volume, &format!("mysql.mysql.{database}.sql"));
        assert!(script.contains("INSERT INTO `users`"), "{script}");
        for foreign in [other, "CREATE DATABASE", "\nUSE "] {
            assert!(!script.contains(foreign), "{foreign} in that of {database}");
        }
        for table in LEFT_OUT {
            assert!(
                script.contains(&format!("CREATE TABLE `{table}`")),
                "{table}"
            );
            assert!(
                !script.contains(&format!("INSERT INTO `{table}`")),
                "{table}"
            );
        }
    }
}

fn a3_only_what_is_worth_its_space_is_saved(apiary: &Apiary) {
    let list = format!("ls latest web/volume/{}-storage", apiary.project);
    let listed = apiary.cofferdam(&list).expect(0).stdout;
    for saved in ["resumes", "docusign"] {
        assert!(listed.contains(saved), "{listed}");
    }
    for left_out in ["nova-exports", "dompdf"] {
        assert!(!listed.contains(left_out), "{listed}");
    }
}

fn a2_tables_left_out_are_there_and_empty(apiary: &Apiary) {
    for database in DATABASES {
        let tables = apiary.tables(database);
        for table in LEFT_OUT {
            assert_eq!(tables[table]["rows"], 0, "{table} of {database}");
        }
    }
    // The application writes to one of them.
    let user = json!({"uid": "sride", "first_name": "Sally", "last_name": "Ride"});
    apiary.post("/api/v1/users", &user.to_string());
    assert_eq!(apiary.tables(DATABASES[0])["action_events"]["rows"], 1);
}

fn a3_what_was_left_out_is_not_there(apiary: &Apiary) {
    let found = apiary.sh("cd /storage/app && find . -type f | sort");
    assert_eq!(found, "./docusign/agreement.pdf\n./resumes/mjemison.pdf");
}

/// Stopped → data → web started → healthy → index built → worker started: without compose the order is that of creation.
fn a5_users_come_back_when_all_is_there(apiary: &Apiary, events: &[Event]) {
    assert_eq!(order_of(events, "die"), ["worker", "web"], "{events:#?}");
    assert_eq!(order_of(events, "start"), ["web", "worker"], "{events:#?}");
    let begun = position(events, "web", &format!("exec_start: {IMPORT}"));
    let steps = [
        position(events, "web", "die"),
        position(events, "web", "start"),
        position(events, "web", "health_status: healthy"),
        begun,
        end_of(events, begun),
        position(events, "worker", "start"),
    ];
    assert!(steps.is_sorted(), "{events:#?}");
    let said = said_since_start(&apiary.container("worker"));
    let words = "horizon started: 201 users, 201 of them in the search index";
    assert!(said.contains(words), "{said}");
}

fn a4_the_application_is_stopped_for_a_backup_where_that_is_asked_for(apiary: &Apiary) {
    apiary.remove(&["worker", "web"]);
    apiary.start("backup,restore");
    let events = apiary.events_of(|| {
        apiary.cofferdam("backup").expect(0);
    });
    assert_eq!(order_of(&events, "die"), ["worker", "web"], "{events:#?}");
    assert_eq!(order_of(&events, "start"), ["web", "worker"], "{events:#?}");
}

fn a5_where_nothing_may_stop_users_are_kept_out(apiary: &Apiary) {
    apiary.remove(&["worker", "web"]);
    apiary.start("");
    let before = apiary.saved_rows();
    let user = json!({"uid": "guest", "first_name": "A", "last_name": "Newcomer"});
    apiary.post("/api/v1/users", &user.to_string());
    assert_ne!(apiary.search("newcomer"), json!([]));
    let events = apiary.events_of(|| {
        apiary.cofferdam("restore latest --yes").expect(0);
    });
    assert_eq!(order_of(&events, "die"), [""; 0], "{events:#?}");
    let down = position(&events, "web", "exec_start: php artisan down");
    let up = position(
        &events,
        "web",
        &format!("exec_start: sh -c {IMPORT} && php artisan up"),
    );
    assert!(end_of(&events, down) < up);
    assert_eq!(apiary.saved_rows(), before);
    assert_eq!(apiary.search("newcomer"), json!([]));
}
