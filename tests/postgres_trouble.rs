//! The PostgreSQL driver when things go wrong: clear words, nothing lost, nothing left behind.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::postgres::{PostgresServer, Run, facts, target};
use crate::support::proxy::{Fault, FaultProxy};
use crate::support::{TestContainer, TestVolume, busybox_image, docker, engine, program};
use cofferdam::agent::JOB;
use cofferdam::agent::job::{DumpJob, Form};
use cofferdam::driver::Driver;
use cofferdam::driver::postgres::{CLUSTER, GLOBALS, PostgresDriver, look_at};
use cofferdam::labels::{PostgresLabels, PostgresMode, PostgresRestore, Selection, TransferChoice};
use cofferdam::manifest::{Compression, TargetRecord, Transfer};

fn labels() -> PostgresLabels {
    PostgresLabels::default()
}

fn streaming() -> PostgresLabels {
    PostgresLabels {
        transfer: TransferChoice::Stream,
        ..labels()
    }
}

/// A server with a database `shop` that holds one table of `rows` rows that hardly compress.
fn shop(rows: u32, options: &[&str]) -> PostgresServer {
    let server = PostgresServer::trusting(options);
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql(
        "shop",
        &format!("CREATE TABLE goods AS SELECT n AS id, encode(sha512(n::text::bytea), 'hex') AS name FROM generate_series(1, {rows}) n"),
    );
    server
}

async fn saved(run: &Run, server: &PostgresServer) -> TargetRecord {
    let driver = run.driver(server, &labels()).await;
    run.dump(&driver, &target(server, "shop"))
        .await
        .expect("a dump")
}

/// What the shop's table says of itself.
fn goods(server: &PostgresServer) -> String {
    server.sql(
        "shop",
        "SELECT count(*) || ' ' || coalesce(max(name) FILTER (WHERE id = 1), 'none') FROM goods",
    )
}

/// Nothing of ours in the container: no files, no processes, no sessions.
fn assert_untouched(server: &PostgresServer, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let files = server.left_behind(&["/scratch", "/srv"]);
        let processes = server.container.sh("cat /proc/[0-9]*/comm 2>/dev/null | grep -E 'cofferdam|pg_dump|pg_restore|psql' || true");
        let sessions = server.sql("template1", "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'cofferdam%' OR application_name LIKE 'pg\\_%'");
        if files.is_empty() && processes.is_empty() && sessions == "0" {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{what}: files {files:?}, processes {processes:?}, sessions {sessions}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Holds a lock on the shop's table, so that a dump waits, until it is dropped.
struct Lock(std::process::Child);

impl Lock {
    fn take(server: &PostgresServer) -> Self {
        let mut child = Command::new("docker")
            .args([
                "exec",
                "-i",
                &server.container.id,
                "psql",
                "-U",
                "postgres",
                "-d",
                "shop",
                "-q",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the docker program");
        let stdin = child.stdin.as_mut().expect("a pipe");
        stdin
            .write_all(b"BEGIN; LOCK TABLE goods;\n")
            .expect("psql reads");
        let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation IS NOT NULL";
        while server.sql("template1", held) == "0" {
            std::thread::sleep(Duration::from_millis(50));
        }
        Self(child)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}

/// Waits until a dump waits for the lock.
async fn dump_waits(server: &Arc<PostgresServer>) {
    let server = server.clone();
    let waiting = tokio::task::spawn_blocking(move || {
        let deadline = Instant::now() + Duration::from_secs(60);
        while server.sql(
            "template1",
            "SELECT count(*) FROM pg_locks WHERE NOT granted",
        ) == "0"
        {
            assert!(Instant::now() < deadline, "no dump waits");
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    waiting.await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_with_its_remedy() {
    let engine = engine().await;
    let server = PostgresServer::start(
        "15",
        "admin",
        &[
            "-e",
            "POSTGRES_PASSWORD=correct horse",
            "-e",
            "POSTGRES_INITDB_ARGS=--auth=scram-sha-256",
        ],
    );
    let run = Run::new(&engine).await;
    server.container.sh("echo 'wrong horse' > /wrong");
    for (labels, words) in [
        (
            PostgresLabels {
                user: Some("nobody".to_owned()),
                ..labels()
            },
            &[
                "password authentication failed",
                "cofferdam.postgres.user (now nobody)",
            ][..],
        ),
        (
            PostgresLabels {
                password_file: Some("/wrong".to_owned()),
                ..labels()
            },
            &[
                "password authentication failed",
                "cofferdam.postgres.password-file",
            ],
        ),
        (
            PostgresLabels {
                password_file: Some("/no such".to_owned()),
                ..labels()
            },
            &["/no such, which cofferdam.postgres.password-file names, cannot be read"],
        ),
        (
            PostgresLabels {
                maintenance_db: "nowhere".to_owned(),
                ..labels()
            },
            &[
                "database \"nowhere\" does not exist",
                "cofferdam.postgres.maintenance-db",
            ],
        ),
        (
            PostgresLabels {
                exec_user: Some("nobody-here".to_owned()),
                ..labels()
            },
            &["nobody-here"],
        ),
    ] {
        let driver = run.driver(&server, &labels).await;
        let error = driver.targets().await.unwrap_err().to_string();
        for words in words {
            assert!(error.contains(words), "{error}");
        }
        assert!(!error.contains("horse"), "{error}");
    }
}

#[tokio::test]
async fn one_database_that_is_not_there_does_not_keep_the_others_from_being_saved() {
    let engine = engine().await;
    let server = PostgresServer::trusting(&[]);
    let run = Run::new(&engine).await;
    let databases = ["clinical", "postgres"].map(str::to_owned).to_vec();
    let labels = PostgresLabels {
        databases: Selection::Names(databases),
        ..labels()
    };
    let found = run.driver(&server, &labels).await.targets().await.unwrap();
    let names: Vec<_> = found
        .targets
        .iter()
        .map(|target| target.id.name.as_str())
        .collect();
    assert_eq!(names, ["@globals", "postgres"]);
    let [missing] = found.missing.as_slice() else {
        panic!("{:?}", found.missing);
    };
    assert_eq!(missing.target.name, "clinical");
    for words in [
        "has no database clinical",
        "the databases are: ",
        "template1",
    ] {
        assert!(missing.reason.contains(words), "{}", missing.reason);
    }
}

#[tokio::test]
async fn a_container_without_a_server_says_so() {
    let engine = engine().await;
    let run = Run::new(&engine).await;
    let idle = TestContainer::idle();
    let container = engine.inspect(&idle.id).await.unwrap();
    let detected = look_at(&engine, &container, &labels()).await;
    assert!(detected.server.is_none(), "{detected:?}");
    let driver = PostgresDriver::new(
        engine.clone(),
        container,
        labels(),
        run.id.clone(),
        run.options.clone(),
    );
    let error = driver.targets().await.unwrap_err().to_string();
    assert!(
        error.contains("psql cannot be run") && error.contains("put the label on the container"),
        "{error}"
    );

    let stopped = TestContainer::create(&[], &[busybox_image(), "true"]);
    let container = engine.inspect(&stopped.id).await.unwrap();
    let driver = PostgresDriver::new(
        engine.clone(),
        container,
        labels(),
        run.id.clone(),
        run.options.clone(),
    );
    let error = driver.targets().await.unwrap_err().to_string();
    assert!(error.contains("is not running; start it"), "{error}");
}

#[tokio::test]
async fn a_server_is_found_by_what_runs_and_where_it_keeps_its_data() {
    let engine = engine().await;
    let server = PostgresServer::start("15", "admin", &["-e", "POSTGRES_PASSWORD=x"]);
    let container = server.inspect(&engine).await;
    let detected = look_at(&engine, &container, &labels()).await;
    assert!(detected.server.is_some(), "{detected:?}");
    assert_eq!(
        detected.data_directory.as_deref(),
        Some("/var/lib/postgresql/data")
    );
}

/// A password that must be typed, a user that is not `postgres`, and no local socket.
#[tokio::test]
async fn a_password_goes_its_way_unseen() {
    let engine = engine().await;
    const PASSWORD: &str = "s3cret 'horse\" $HOME";
    let secrets = tempfile::tempdir().unwrap();
    let file = secrets.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let mount = format!("{}:/run/secrets/db:ro", file.display());
    let server = PostgresServer::start_with(
        "15",
        "admin",
        &[
            "-v",
            &mount,
            "-e",
            "POSTGRES_PASSWORD_FILE=/run/secrets/db",
            "-e",
            "POSTGRES_DB=shop",
        ],
        &["-c", "unix_socket_directories="],
    );
    let connection = format!(
        "host=127.0.0.1 user=admin dbname=shop password='{}'",
        PASSWORD.replace('\'', "\\'")
    );
    docker([
        "exec",
        &server.container.id,
        "psql",
        "-q",
        "-d",
        &connection,
        "-c",
        "CREATE TABLE goods AS SELECT 1 AS a; CREATE ROLE clerk PASSWORD 'clerk pass'",
    ]);
    let watching = Watching::start(&server.container.id);
    for labels in [labels(), streaming()] {
        let run = Run::new(&engine).await;
        let driver = run.driver(&server, &labels).await;
        let mut printed = String::new();
        for target in driver.targets().await.unwrap().targets {
            let record = run.dump(&driver, &target.id).await.unwrap();
            printed.push_str(&serde_json::to_string(&record).unwrap());
            run.restore(&driver, &record).await.unwrap();
        }
        assert!(
            printed.contains("goods") && !printed.contains("s3cret"),
            "{printed}"
        );
        assert!(!format!("{driver:?}", driver = run.options).contains("s3cret"));
    }
    let seen = watching.stop();
    assert!(
        seen.contains("pg_dump") && seen.contains("pg_restore"),
        "{seen}"
    );
    assert!(
        !seen.contains("s3cret") && !seen.contains("clerk pass") && !seen.contains("SCRAM-SHA"),
        "{seen}"
    );
    assert_eq!(server.left_behind(&[]), "");
}

/// Collects the arguments of all processes of a container.
struct Watching {
    stop: std::sync::mpsc::Sender<()>,
    seen: std::thread::JoinHandle<String>,
}

impl Watching {
    fn start(container: &str) -> Self {
        let (stop, stopped) = std::sync::mpsc::channel();
        let container = container.to_owned();
        let seen = std::thread::spawn(move || {
            let mut seen = String::new();
            let line = "for n in $(seq 200); do cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; echo; sleep 0.02; done";
            while stopped.try_recv().is_err() {
                seen.push_str(&docker(["exec", &container, "sh", "-c", line]));
            }
            seen
        });
        Self { stop, seen }
    }

    fn stop(self) -> String {
        self.stop.send(()).ok();
        self.seen.join().unwrap()
    }
}

#[tokio::test]
async fn no_room_is_told_and_leaves_none_taken() {
    let engine = engine().await;
    let program = std::fs::metadata(program()).unwrap().len() / 1024;
    for (what, kilobytes) in [
        ("for the agent", program / 2),
        ("for the dump", program + 9 * 1024),
    ] {
        let volume = TestVolume::of_size(&format!("{kilobytes}k"));
        let mount = format!("{}:/scratch", volume.name);
        let server = shop(200_000, &["-v", &mount]);
        let run = Run::new(&engine).await;
        let scratch = PostgresLabels {
            scratch: Some("/scratch".to_owned()),
            ..labels()
        };
        let driver = run.driver(&server, &scratch).await;
        let error = run
            .dump(&driver, &target(&server, "shop"))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("not enough space")
                && error.contains("cofferdam.postgres.transfer: stream"),
            "{what}: {error}"
        );
        run.options.removals.done().await;
        assert_untouched(&server, what);
        assert_eq!(server.container.sh("ls -A /scratch"), "", "{what}");

        // On the way back the dump itself takes no room. Either way, the old data is in place.
        let record = saved(&run, &server).await;
        let loaded = driver.load(&record, &run.source()).await;
        if kilobytes < program {
            let error = loaded.unwrap_err().to_string();
            assert!(error.contains("not enough space"), "{what}: {error}");
        } else {
            loaded.unwrap();
        }
        driver.rollback(&record.target).await.unwrap();
        run.options.removals.done().await;
        assert!(goods(&server).starts_with("200000 "));
        assert_untouched(&server, what);
    }
}

#[tokio::test]
async fn a_dump_that_fails_half_way_is_no_dump() {
    let engine = engine().await;
    let server = shop(50_000, &[]);
    let path = server.sql("shop", "CHECKPOINT; SELECT current_setting('data_directory') || '/' || pg_relation_filepath('goods')");
    docker(["stop", &server.container.id]);
    // A page in the middle becomes one that the server refuses.
    let directory = tempfile::tempdir().unwrap();
    let local = directory.path().join("relation");
    let inside = format!("{}:{path}", server.container.id);
    docker(["cp", &inside, local.to_str().unwrap()]);
    let mut content = std::fs::read(&local).unwrap();
    let middle = content.len() / 8192 / 2 * 8192;
    content[middle..middle + 24].fill(0xff);
    std::fs::write(&local, content).unwrap();
    docker(["start", &server.container.id]);
    server.wait();
    let spoil = format!("cat > {path}");
    let mut child = Command::new("docker")
        .args(["exec", "-i", &server.container.id, "sh", "-c", &spoil])
        .stdin(std::fs::File::open(&local).unwrap())
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
    for labels in [labels(), streaming()] {
        let run = Run::new(&engine).await;
        let driver = run.driver(&server, &labels).await;
        let error = run
            .dump(&driver, &target(&server, "shop"))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("pg_dump failed with exit code 1") && error.contains("invalid page"),
            "{error}"
        );
        run.options.removals.done().await;
        assert_untouched(&server, "a damaged relation");
    }
}

/// A script says in its last line that it is whole. `pg_dumpall` may end well without it: a full disk behind a pipe is enough.
#[tokio::test]
async fn a_script_without_its_last_line_does_not_count() {
    let engine = engine().await;
    let server = shop(10, &[]);
    let real = server.container.sh("command -v pg_dumpall");
    let cut =
        format!("#!/bin/sh\n{real} \"$@\" | grep -v 'PostgreSQL database cluster dump complete'\n");
    server.container.sh(&format!(
        "printf '%s' '{}' >/usr/local/bin/pg_dumpall; chmod 755 /usr/local/bin/pg_dumpall",
        cut.replace('\'', "'\\''")
    ));
    let whole_server = PostgresLabels {
        mode: PostgresMode::Dumpall,
        ..labels()
    };
    for transfer in [TransferChoice::Copy, TransferChoice::Stream] {
        for (labels, name) in [(labels(), GLOBALS), (whole_server.clone(), CLUSTER)] {
            let labels = PostgresLabels { transfer, ..labels };
            let run = Run::new(&engine).await;
            let driver = run.driver(&server, &labels).await;
            let dumped = run.dump(&driver, &target(&server, name)).await;
            let error = dumped.unwrap_err().to_string();
            assert!(
                error.contains("last line is missing"),
                "{name}, {transfer:?}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn a_server_that_dies_in_mid_dump_is_no_success() {
    let engine = engine().await;
    let server = Arc::new(shop(1000, &[]));
    for labels in [labels(), streaming()] {
        let lock = Lock::take(&server);
        let run = Run::new(&engine).await;
        let driver = run.driver(&server, &labels).await;
        let target = target(&server, "shop");
        let dump = run.dump(&driver, &target);
        let kill = async {
            dump_waits(&server).await;
            docker(["kill", &server.container.id]);
        };
        let (dumped, ()) = tokio::join!(dump, kill);
        let error = dumped.unwrap_err().to_string();
        assert!(!error.is_empty());
        drop(lock);
        docker(["start", &server.container.id]);
        server.wait();
        // What was put in could not be removed then; the next visit does.
        saved(&run.next(), &server).await;
        assert_untouched(&server, &error);
    }
}

#[tokio::test]
async fn a_dump_that_is_given_up_leaves_nothing_behind() {
    let engine = engine().await;
    let noexec = TestVolume::create(&[
        "--opt",
        "type=tmpfs",
        "--opt",
        "device=tmpfs",
        "--opt",
        "o=noexec,size=256m",
    ]);
    let mount = format!("{}:/scratch", noexec.name);
    let server = Arc::new(shop(1000, &["-v", &mount]));
    let without_agent = PostgresLabels {
        scratch: Some("/scratch".to_owned()),
        ..labels()
    };
    for (what, labels) in [
        ("agent", labels()),
        ("no agent", without_agent),
        ("stream", streaming()),
    ] {
        let lock = Lock::take(&server);
        let run = Run::new(&engine).await;
        let driver = run.driver(&server, &labels).await;
        let target = target(&server, "shop");
        {
            let dump = std::pin::pin!(run.dump(&driver, &target));
            tokio::select! {
                dumped = dump => panic!("{what}: {:?}", dumped.map(drop)),
                () = dump_waits(&server) => {}
            }
        }
        run.options.removals.done().await;
        assert_untouched_but_for_lock(&server, what);
        drop(lock);
        assert_untouched(&server, what);
    }
}

/// The dump is gone while the lock that it waited for is still held.
fn assert_untouched_but_for_lock(server: &PostgresServer, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.sql(
        "template1",
        "SELECT count(*) FROM pg_locks WHERE NOT granted",
    ) != "0"
    {
        assert!(Instant::now() < deadline, "{what}: the dump still waits");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// As after `kill -9` of cofferdam: nobody is there to remove anything, and the agent does it by itself.
#[tokio::test]
async fn an_agent_that_is_left_alone_ends_its_client_and_itself() {
    let container = TestContainer::idle();
    let directory = "/tmp/.cofferdam-20261121T020000Z-9f2c61aa-00000001";
    container.sh(&format!("mkdir -m 700 {directory}"));
    docker([
        "cp",
        program(),
        &format!("{}:{directory}/cofferdam", container.id),
    ]);
    let job = DumpJob {
        client: ["sh", "-c", "echo begun; sleep 4321"]
            .map(str::to_owned)
            .to_vec(),
        output: format!("{directory}/dump"),
        compression: Compression::DEFAULT,
        form: Form::Anything,
        idle_limit_seconds: 3600,
        relay: None,
    };
    let variable = format!("{JOB}={}", serde_json::to_string(&job).unwrap());
    let mut docker = Command::new("docker")
        .args(["exec", "-i", "-e", &variable, &container.id])
        .args([&format!("{directory}/cofferdam"), "agent", "dump"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let sign_of_life = 0_u32.to_be_bytes();
    let stdin = docker.stdin.as_mut().unwrap();
    stdin.write_all(&sign_of_life).unwrap();
    let wait_until = |condition: &str| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while container.sh(&format!("if {condition}; then echo yes; fi")) != "yes" {
            assert!(
                Instant::now() < deadline,
                "{condition}: {}",
                container.sh("ps; find /tmp")
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    wait_until("ps | grep -q '[s]leep 4321'");
    docker.kill().unwrap();
    docker.wait().unwrap();
    wait_until("! ps | grep -q '[s]leep 4321'");
    wait_until(&format!("[ ! -e {directory} ]"));
}

#[tokio::test]
async fn what_dead_runs_left_is_swept() {
    let engine = engine().await;
    let server = shop(10, &[]);
    server.container.sh("cd /tmp && mkdir .cofferdam-20250101T000000Z-00000000-11111111 && echo x > .cofferdam-20250101T000000Z-00000000-11111111/dump");
    let run = Run::new(&engine).await;
    saved(&run, &server).await;
    assert_eq!(server.left_behind(&[]), "");
}

#[tokio::test]
async fn a_cut_connection_is_never_a_success() {
    let engine = engine().await;
    let server = shop(100_000, &[]);
    let record = saved(&Run::new(&engine).await, &server).await;
    let size = facts(&record).size;
    assert!(size > 1_000_000);
    // The stream of the exec, and the archive that brings the agent's file out.
    for (what, labels, method, path, fault) in [
        (
            "exec",
            streaming(),
            "POST",
            "**/exec/*/start",
            Fault::Cut(3_000_000),
        ),
        (
            "exec that seems to end",
            streaming(),
            "POST",
            "**/exec/*/start",
            Fault::EndEarly(3_000_000),
        ),
        (
            "archive",
            labels(),
            "GET",
            "**/containers/*/archive*",
            Fault::Cut(3_000_000),
        ),
        (
            "archive that seems to end",
            labels(),
            "GET",
            "**/containers/*/archive*",
            Fault::EndEarly(3_000_000),
        ),
    ] {
        let proxy = FaultProxy::start();
        proxy.on(method, path, fault);
        let mut run = Run::new(&engine).await;
        run.engine = proxy.engine().await;
        let driver = run.driver(&server, &labels).await;
        let dumped = run.dump(&driver, &target(&server, "shop")).await;
        assert!(dumped.is_err(), "{what}");
        run.options.removals.done().await;
        assert_untouched(&server, what);
    }
}

#[tokio::test]
async fn damage_in_the_repository_costs_nothing_old() {
    let engine = engine().await;
    let server = shop(10_000, &[]);
    let run = Run::new(&engine).await;
    let record = saved(&run, &server).await;
    let before = goods(&server);
    let mut lied = record.clone();
    lied.artifacts[0].plain.sha256 = "0".repeat(64);
    for transfer in [TransferChoice::Copy, TransferChoice::Stream] {
        for restore in [
            PostgresRestore::Swap,
            PostgresRestore::Recreate,
            PostgresRestore::Clean,
        ] {
            let run = run.next();
            let driver = run
                .driver(
                    &server,
                    &PostgresLabels {
                        restore,
                        transfer,
                        ..labels()
                    },
                )
                .await;
            let error = driver
                .load(&lied, &run.source())
                .await
                .unwrap_err()
                .to_string();
            assert!(error.contains("damaged"), "{restore:?}: {error}");
            driver.rollback(&record.target).await.unwrap();
            // Nothing is dropped before the stored digest is proven; this lie is one that only a decompressed dump shows.
            if restore == PostgresRestore::Swap || transfer == TransferChoice::Stream {
                assert_eq!(goods(&server), before, "{restore:?}");
                assert_eq!(server.databases(), ["postgres", "shop"]);
            }
            run.options.removals.done().await;
            assert_untouched(&server, "damage");
            // In place, the way back is the safety snapshot.
            run.restore(&driver, &record).await.unwrap();
            assert_eq!(goods(&server), before);
        }
    }
}

#[tokio::test]
async fn versions_go_forward_only() {
    let engine = engine().await;
    let old = PostgresServer::start("15", "postgres", &["-e", "POSTGRES_HOST_AUTH_METHOD=trust"]);
    let new = PostgresServer::start("17", "postgres", &["-e", "POSTGRES_HOST_AUTH_METHOD=trust"]);
    let run = Run::new(&engine).await;
    for server in [&old, &new] {
        server.sql("postgres", "CREATE DATABASE shop");
        server.sql("shop", "CREATE TABLE goods AS SELECT 1 AS id, 'x' AS name; ALTER DATABASE shop SET default_transaction_read_only = on");
    }
    let from_old = saved(&run, &old).await;
    let from_new = saved(&run, &new).await;
    assert_eq!(
        (from_old.transfer, from_new.transfer),
        (Transfer::Copy, Transfer::Copy)
    );
    for (server, record) in [(&old, &from_old), (&new, &from_new), (&new, &from_old)] {
        let run = run.next();
        server.sql(
            "shop",
            "SET default_transaction_read_only = off; UPDATE goods SET name = 'changed'",
        );
        run.restore(&run.driver(server, &labels()).await, record)
            .await
            .unwrap();
        assert_eq!(goods(server), "1 x");
    }
    for restore in [
        PostgresRestore::Swap,
        PostgresRestore::Recreate,
        PostgresRestore::Clean,
    ] {
        let labels = PostgresLabels {
            restore,
            ..labels()
        };
        let driver = run.driver(&old, &labels).await;
        let loaded = driver.load(&from_new, &run.source()).await;
        let error = loaded.unwrap_err().to_string();
        assert!(
            error.contains("PostgreSQL 17")
                && error.contains("restore it into PostgreSQL 17 or later"),
            "{error}"
        );
        assert_eq!(old.databases(), ["postgres", "shop"], "{restore:?}");
        assert_eq!(goods(&old), "1 x", "{restore:?}");
    }
}

#[tokio::test]
async fn who_is_no_superuser_saves_what_it_owns() {
    let engine = engine().await;
    let server = PostgresServer::trusting(&[]);
    server.sql("postgres", "CREATE ROLE owner LOGIN CREATEDB PASSWORD 'x'");
    server.sql("postgres", "CREATE DATABASE shop OWNER owner");
    server.sql(
        "shop",
        "SET SESSION AUTHORIZATION owner; CREATE TABLE goods AS SELECT 1 AS id, 'x' AS name",
    );
    let run = Run::new(&engine).await;
    let owner = PostgresLabels {
        user: Some("owner".to_owned()),
        databases: Selection::Names(vec!["shop".to_owned()]),
        ..labels()
    };
    let driver = run.driver(&server, &owner).await;
    let globals = run.dump(&driver, &target(&server, GLOBALS)).await.unwrap();
    assert!(
        globals.warnings[0].contains("passwords of roles are not saved"),
        "{:?}",
        globals.warnings
    );
    let record = run.dump(&driver, &target(&server, "shop")).await.unwrap();
    server.sql("shop", "UPDATE goods SET name = 'changed'");
    run.restore(&driver, &globals).await.unwrap();
    run.restore(&driver, &record).await.unwrap();
    assert_eq!(goods(&server), "1 x");
    assert_eq!(server.databases(), ["postgres", "shop"]);
}

/// Something between `pg_dump` and us may cut what it writes, and still end with 0.
#[tokio::test]
async fn a_dump_that_was_cut_is_no_dump_whatever_its_exit_code_says() {
    let engine = engine().await;
    let server = shop(3000, &[]);
    server.sql(
        "shop",
        "CREATE TABLE last AS SELECT 1 AS a; SELECT lo_from_bytea(0, 'large')",
    );
    let dump = "pg_dump -U postgres -Fc -Z0 shop";
    let length: usize = server
        .container
        .sh(&format!("{dump} | wc -c"))
        .trim()
        .parse()
        .unwrap();
    let run = Run::new(&engine).await;
    let stream = PostgresLabels {
        transfer: TransferChoice::Stream,
        ..labels()
    };
    // In the middle of the rows, before the last block, and within the mark of its end.
    for kept in [length / 2, length - 60, length - 1] {
        let script = format!("#!/bin/sh\n/usr/bin/pg_dump \"$@\" | head -c {kept}\nexit 0\n");
        server.container.sh(&format!(
            "printf '%s' '{script}' > /usr/local/bin/pg_dump; chmod +x /usr/local/bin/pg_dump"
        ));
        for labels in [labels(), stream.clone()] {
            let run = run.next();
            let driver = run.driver(&server, &labels).await;
            let dumped = run.dump(&driver, &target(&server, "shop")).await;
            let error = dumped.unwrap_err().to_string();
            assert!(
                error.contains("the dump is not complete"),
                "{kept}: {error}"
            );
        }
    }
}

/// Decisions go by SQLSTATE, and by what clients say in English.
#[tokio::test]
async fn a_server_that_speaks_german_is_understood() {
    let engine = engine().await;
    let password = [
        "-e",
        "POSTGRES_PASSWORD=s3cret",
        "-e",
        "POSTGRES_INITDB_ARGS=--auth-local=trust --auth-host=scram-sha-256",
    ];
    let german = ["-c", "lc_messages=de_DE.UTF-8"];
    let server = PostgresServer::start_with("15", "postgres", &password, &german);
    let refused = server.try_sql("postgres", "SELECT x");
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("FEHLER:"), "{words}");
    server.sql(
        "postgres",
        "CREATE ROLE keeper LOGIN CREATEDB; CREATE DATABASE shop OWNER keeper",
    );
    // What no superuser loads is told in German.
    server.sql(
        "shop",
        "SET ROLE keeper; CREATE FUNCTION norm(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(t)';
         CREATE FUNCTION slug(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT trim(norm(t))';
         CREATE TABLE goods (id int, name text CHECK (slug(name) <> '')); INSERT INTO goods VALUES (1, 'x')",
    );
    let run = Run::new(&engine).await;
    let keeper = PostgresLabels {
        user: Some("keeper".to_owned()),
        ..labels()
    };
    for labels in [labels(), keeper.clone()] {
        let run = run.next();
        let driver = run.driver(&server, &labels).await;
        let target = target(&server, "shop");
        let record = run.dump(&driver, &target).await.unwrap();
        server.sql("shop", "DELETE FROM goods");
        let container = server.container.id.as_str();
        let stay = "SELECT pg_sleep(600)";
        docker([
            "exec", "-d", container, "psql", "-U", "keeper", "-d", "shop", "-c", stay,
        ]);
        run.restore(&driver, &record).await.unwrap();
        assert_eq!(goods(&server), "1 x");
    }
    let by_tcp = PostgresLabels {
        port: Some(1),
        ..labels()
    };
    let error = run
        .driver(&server, &by_tcp)
        .await
        .targets()
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("cofferdam.postgres.port"),
        "{error}"
    );
    let nobody = PostgresLabels {
        user: Some("nobody".to_owned()),
        ..labels()
    };
    let error = run
        .driver(&server, &nobody)
        .await
        .targets()
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("existiert nicht")
            && error
                .to_string()
                .contains("cofferdam.postgres.user (now nobody)"),
        "{error}"
    );
}

/// What could not be put back is told when it is saved.
#[tokio::test]
async fn what_could_not_be_put_back_is_told_beforehand() {
    let engine = engine().await;
    let server = PostgresServer::start_with(
        "15",
        "postgres",
        &["-e", "POSTGRES_HOST_AUTH_METHOD=trust"],
        &["-c", "cron.database_name=jobs"],
    );
    server.sql("postgres", "CREATE ROLE clerk LOGIN; CREATE DATABASE shop");
    server.sql(
        "shop",
        "CREATE TABLE sessions (id int PRIMARY KEY); CREATE SEQUENCE sessions_seen; \
         CREATE TABLE users (id int PRIMARY KEY, last_session int CONSTRAINT seen REFERENCES sessions, \
            n int DEFAULT nextval('sessions_seen')); \
         CREATE TABLE visits (session int REFERENCES sessions, day int) PARTITION BY RANGE (day); \
         CREATE TABLE visits_1 PARTITION OF visits FOR VALUES FROM (1) TO (2); \
         CREATE VIEW lately AS SELECT id FROM sessions; \
         INSERT INTO sessions VALUES (1); INSERT INTO users VALUES (1, 1)",
    );
    let run = Run::new(&engine).await;
    let leaving_out = |tables: &[&str], rows: &[&str]| PostgresLabels {
        exclude_tables: tables.iter().map(|&name| name.to_owned()).collect(),
        exclude_table_data: rows.iter().map(|&name| name.to_owned()).collect(),
        ..labels()
    };
    let target = target(&server, "shop");
    let doubts = async |labels: &PostgresLabels| {
        let driver = run.driver(&server, labels).await;
        driver.doubts(&target).await.unwrap()
    };
    let rows = leaving_out(&[], &["sessions"]);
    for (labels, expected) in [
        (&labels(), &[][..]),
        (
            &rows,
            &[
                "foreign key seen of table users refers to rows of sessions",
                "foreign key visits_session_fkey of table visits refers to rows of sessions",
            ],
        ),
        (&leaving_out(&[], &["sessions", "users", "visits_*"]), &[]),
        (
            &leaving_out(&["sessions*"], &[]),
            &[
                "foreign key seen of table users refers to sessions, which",
                "foreign key visits_session_fkey of table visits refers to sessions, which",
                "the default of users.n needs sessions_seen",
                "view lately needs sessions",
            ],
        ),
        (&leaving_out(&["*s*", "lately"], &[]), &[]),
    ] {
        let told = doubts(labels).await;
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{told}");
        }
    }

    // The restore says the way out too, and tries nothing twice.
    let driver = run.driver(&server, &rows).await;
    let record = run.dump(&driver, &target).await.unwrap();
    let error = driver.load(&record, &run.source()).await.unwrap_err();
    let words = error.to_string();
    for part in [
        "\"seen\"",
        "cofferdam.postgres.exclude-table-data",
        "cofferdam export",
    ] {
        assert!(words.contains(part), "{words}");
    }
    assert!(!words.contains("search_path"), "{words}");
    driver.rollback(&target).await.unwrap();
    assert_eq!(server.sql("shop", "SELECT count(*) FROM users"), "1");

    // Who may neither make databases nor give tables to others.
    server.sql(
        "shop",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO clerk",
    );
    let clerk = PostgresLabels {
        user: Some("clerk".to_owned()),
        ..labels()
    };
    let told = doubts(&clerk).await;
    assert!(
        told.len() == 2 && told[0].contains("CREATEDB") && told[1].ends_with("superuser: postgres"),
        "{told:?}"
    );

    // An extension of this name, which is all that is looked at.
    server.container.sh(
        "cd /usr/share/postgresql/15/extension; echo \"default_version = '1'\" >pg_cron.control; touch pg_cron--1.sql",
    );
    server.sql(
        "shop",
        "CREATE EXTENSION pg_cron; CREATE INDEX half ON users (n); \
         UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'half'::regclass",
    );
    let told = doubts(&labels()).await;
    assert!(
        told.len() == 2
            && told[0].contains("in database jobs only")
            && told[1].ends_with("drop half"),
        "{told:?}"
    );
}

/// As a new collation of the system's libraries leaves an index.
#[tokio::test]
async fn duplicates_under_a_unique_index_have_a_way_out() {
    let engine = engine().await;
    let server = shop(1, &[]);
    let index = |is_used: bool| {
        format!(
            "UPDATE pg_index SET indisready = {is_used}, indisvalid = {is_used} WHERE indexrelid = 'by_id'::regclass"
        )
    };
    server.sql("shop", "CREATE UNIQUE INDEX by_id ON goods (id)");
    server.sql("shop", &index(false));
    server.sql("shop", "INSERT INTO goods VALUES (1, 'twice')");
    server.sql("shop", &index(true));
    let run = Run::new(&engine).await;
    let record = saved(&run, &server).await;
    for restore in [PostgresRestore::Swap, PostgresRestore::Clean] {
        let labels = PostgresLabels {
            restore,
            ..labels()
        };
        let driver = run.next().driver(&server, &labels).await;
        let error = driver.load(&record, &run.source()).await.unwrap_err();
        let words = error.to_string();
        assert!(
            words.contains("by_id")
                && words.contains("cofferdam export")
                && !words.contains("search_path"),
            "{words}"
        );
        driver.rollback(&record.target).await.unwrap();
        assert_eq!(server.databases(), ["postgres", "shop"]);
        assert!(goods(&server).starts_with("2 "), "{restore:?}");
    }
}
