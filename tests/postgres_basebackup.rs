//! A PostgreSQL server saved and put back as its data directory, by the real program: rows C5 (`pg_basebackup`), C6, T3.

use crate::support::stack::{
    POSTGRES, Postgres, TestStack, compose_volume, eventually, is_running,
};
use crate::support::{TestContainer, TestVolume, docker, docker_succeeds};

const LABELS: [(&str, &str); 2] = [
    ("cofferdam.postgres", "*"),
    ("cofferdam.postgres.mode", "basebackup"),
];

/// A server on a named volume, and a client that is stopped while it is put back.
struct Commcare {
    stack: TestStack,
    postgres: Postgres,
    client: TestContainer,
    data: TestVolume,
}

impl Commcare {
    fn start(image: &str, directory: &str) -> Self {
        Self::start_with(&[image], directory, &[])
    }

    /// With more options, and arguments after the image.
    fn start_with(image: &[&str], directory: &str, more: &[&str]) -> Self {
        let stack = TestStack::new("commcare");
        let data = compose_volume(&stack, "pgdata");
        let mount = format!("{}:{directory}", data.name);
        let password = format!("POSTGRES_PASSWORD={}", crate::support::stack::PASSWORD);
        let options = [
            "--volume",
            &mount,
            "--env",
            "POSTGRES_USER=admin",
            "--env",
            "POSTGRES_DB=clinical",
            "--env",
            &password,
        ];
        let options = [&options, more].concat();
        let postgres = Postgres {
            container: stack.service("db", &LABELS, &options, image),
        };
        postgres.wait_until_ready();
        postgres.seed("clinical", 2000);
        let client = stack.toolbox("client", &[("cofferdam.stop", "restore")], &[]);
        Self {
            stack,
            postgres,
            client,
            data,
        }
    }

    /// Everything in the volume but what a running server changes by itself.
    fn root_of_volume(&self) -> String {
        let mount = format!("{}:/data:ro", self.data.name);
        docker([
            "run",
            "--rm",
            "--label",
            crate::support::TEST_LABEL,
            "--volume",
            &mount,
            crate::support::stack::TOOLBOX,
            "sh",
            "-c",
            "cd /data && ls -A && stat -c '%u %g %a' .",
        ])
    }
}

fn round_trip(image: &str, directory: &str) {
    let commcare = Commcare::start(image, directory);
    let before = commcare.postgres.fingerprint("clinical");
    let root = commcare.root_of_volume();
    commcare
        .stack
        .cofferdam(&["plan"])
        .expect_says(0, "db/basebackup/cluster");
    commcare.stack.cofferdam(&["backup"]).expect(0);
    commcare.stack.cofferdam(&["verify", "--read"]).expect(0);
    commcare
        .stack
        .cofferdam(&["show", "latest"])
        .expect_says(0, "PostgreSQL");

    commcare
        .postgres
        .sql("clinical", "DELETE FROM patients WHERE id > 7");
    commcare.postgres.sql("clinical", "CREATE DATABASE later");
    let lives = [&commcare.postgres.container, &commcare.client]
        .map(|container| container.inspect("{{.State.StartedAt}}"));
    commcare
        .stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(0, "takes connections on the restored data directory");
    commcare.postgres.wait_until_ready();
    assert_eq!(commcare.postgres.fingerprint("clinical"), before);
    assert!(
        !commcare.postgres.databases().contains(&"later".to_owned()),
        "what is extra goes"
    );
    for (container, life) in [&commcare.postgres.container, &commcare.client]
        .iter()
        .zip(lives)
    {
        assert!(is_running(container));
        assert_ne!(
            container.inspect("{{.State.StartedAt}}"),
            life,
            "it was not stopped"
        );
    }
    // `backup_label.old` and the manifest are what a server leaves of the backup that it was made from.
    let now = commcare.root_of_volume();
    let extra: Vec<&str> = now
        .lines()
        .filter(|line| {
            !root.contains(line)
                && !line.starts_with("backup_")
                && !line.starts_with("tablespace_map")
        })
        .collect();
    assert_eq!(extra, Vec::<&str>::new(), "before:\n{root}\nnow:\n{now}");
    commcare.stack.ensure_nothing_is_left();
    assert_eq!(by_hand(&commcare, image, directory), before);
}

/// What a server says that was put back with nothing but the tools that `docs/repository-format.md` names.
fn by_hand(commcare: &Commcare, image: &str, directory: &str) -> String {
    let volume = TestVolume::create(&[]);
    let data = commcare.stack.manifest()["targets"][0]["facts"]["tree"]["path"].clone();
    let place = data
        .as_str()
        .expect("a path")
        .replacen(directory, "/data", 1);
    let archive = commcare
        .stack
        .newest_snapshot()
        .join("db.basebackup.cluster.tar.zst");
    let line = format!(
        "zstd -dc '{}' | docker run --rm -i --label {} -v {}:/data {} sh -c 'mkdir -p {place} && tar -x -p -f - --same-owner --numeric-owner -C {place}'",
        archive.display(),
        crate::support::TEST_LABEL,
        volume.name,
        crate::support::stack::TOOLBOX,
    );
    let done = std::process::Command::new("sh")
        .args(["-c", &line])
        .status()
        .expect("sh");
    assert!(done.success());
    let mount = format!("{}:{directory}", volume.name);
    let server = Postgres {
        container: TestContainer::running(&["--volume", &mount], &[image]),
    };
    server.wait_until_ready();
    server.fingerprint("clinical")
}

#[test]
fn c5_c6_t3_a_server_comes_back_as_its_data_directory() {
    round_trip(POSTGRES, "/var/lib/postgresql/data");
}

/// The last keeps its data two directories below its volume.
#[test]
#[ignore = "images of several PostgreSQL majors: make test-full"]
fn c5_c6_servers_of_other_majors_come_back_as_their_data_directories() {
    round_trip("cofferdam-test/postgres:13", "/var/lib/postgresql/data");
    round_trip("cofferdam-test/postgres:17", "/var/lib/postgresql/data");
    round_trip("cofferdam-test/postgres:18", "/var/lib/postgresql");
}

#[test]
fn c6_a_server_that_cannot_start_any_more_gets_its_data_directory_back() {
    let commcare = Commcare::start(POSTGRES, "/var/lib/postgresql/data");
    let before = commcare.postgres.fingerprint("clinical");
    commcare.stack.cofferdam(&["backup"]).expect(0);
    commcare
        .postgres
        .container
        .sh("rm -rf /var/lib/postgresql/data/base /var/lib/postgresql/data/global");
    docker(["restart", "--time", "1", &commcare.postgres.container.id]);
    eventually("the server gives up", || {
        !is_running(&commcare.postgres.container)
    });

    commcare
        .stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect(0);
    assert!(
        !is_running(&commcare.postgres.container),
        "it did not run before"
    );
    docker(["start", &commcare.postgres.container.id]);
    commcare.postgres.wait_until_ready();
    assert_eq!(commcare.postgres.fingerprint("clinical"), before);
}

#[test]
fn c6_a_server_comes_back_whose_configuration_lies_elsewhere() {
    let scripts = tempfile::tempdir().unwrap();
    let script = scripts.path().join("move.sh");
    let elsewhere = "/var/lib/postgresql/conf";
    let text = format!(
        "mkdir {elsewhere} && mv \"$PGDATA\"/{{postgresql,pg_hba,pg_ident}}.conf {elsewhere}"
    );
    std::fs::write(&script, text).unwrap();
    let mount = format!(
        "{}:/docker-entrypoint-initdb.d/move.sh:ro",
        script.display()
    );
    let files = ["config_file", "hba_file", "ident_file"];
    let names = ["postgresql", "pg_hba", "pg_ident"];
    let settings: Vec<String> = std::iter::zip(files, names)
        .map(|(file, name)| format!("--{file}={elsewhere}/{name}.conf"))
        .collect();
    let commcare = Commcare::start_with(
        &[
            POSTGRES,
            "postgres",
            &settings[0],
            &settings[1],
            &settings[2],
            "--track_commit_timestamp=on",
        ],
        "/var/lib/postgresql/data",
        &["--volume", &mount],
    );
    let before = commcare.postgres.fingerprint("clinical");
    let stamp = "SELECT pg_xact_commit_timestamp(xmin) FROM patients WHERE id = 1";
    let committed = commcare.postgres.sql("clinical", stamp);
    commcare.stack.cofferdam(&["backup"]).expect(0);
    commcare
        .stack
        .cofferdam(&["show", "latest"])
        .expect_says(0, "/var/lib/postgresql/conf/pg_hba.conf");
    commcare
        .postgres
        .sql("clinical", "DELETE FROM patients WHERE id > 7");
    commcare
        .stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect(0);
    commcare.postgres.wait_until_ready();
    assert_eq!(commcare.postgres.fingerprint("clinical"), before);
    assert_eq!(commcare.postgres.sql("clinical", stamp), committed);
    commcare.stack.ensure_nothing_is_left();
}

#[test]
fn c6_the_old_data_directory_stays_when_no_server_starts_on_the_new_one() {
    let commcare = Commcare::start(POSTGRES, "/var/lib/postgresql/data");
    commcare.stack.cofferdam(&["backup"]).expect(0);
    commcare
        .postgres
        .sql("clinical", "DELETE FROM patients WHERE id > 7");
    let present = commcare.postgres.fingerprint("clinical");
    // The same server, moved into an image whose programs are of another major version: what does not fit is found out
    // before anything is given up.
    let other = "cofferdam-test/postgres:17";
    if !docker_succeeds(["image", "inspect", other]) {
        panic!("there is no image {other}: run scripts/test-images.sh postgres:17");
    }
    docker(["stop", &commcare.postgres.container.id]);
    let mount = format!("{}:/var/lib/postgresql/data", commcare.data.name);
    let name = commcare.postgres.container.id.clone();
    docker(["rm", "--force", &name]);
    let newer = commcare.stack.service(
        "db",
        &LABELS,
        &["--volume", &mount],
        &[other, "sleep", "infinity"],
    );
    commcare
        .stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(
            1,
            "from PostgreSQL 15, but the container has postgres (PostgreSQL) 17",
        );
    assert!(is_running(&newer), "it ran before");
    docker(["rm", "--force", &newer.id]);
    let password = format!("POSTGRES_PASSWORD={}", crate::support::stack::PASSWORD);
    let older = Postgres {
        container: commcare.stack.service(
            "db",
            &LABELS,
            &["--volume", &mount, "--env", &password],
            &[POSTGRES],
        ),
    };
    older.wait_until_ready();
    assert_eq!(
        older.fingerprint("clinical"),
        present,
        "the old data is as it was"
    );
    commcare.stack.ensure_nothing_is_left();
}

#[test]
fn a_server_that_cannot_be_copied_says_what_to_change() {
    let commcare = Commcare::start(POSTGRES, "/var/lib/postgresql/data");
    commcare
        .postgres
        .container
        .sh("mkdir -m 700 /fast && chown postgres:postgres /fast");
    commcare
        .postgres
        .sql("clinical", "CREATE TABLESPACE fast LOCATION '/fast'");
    commcare
        .stack
        .cofferdam(&["backup"])
        .expect_says(1, "cofferdam.postgres.mode to dump or dumpall");
    commcare.stack.ensure_nothing_is_left();
}
