//! What goes wrong with MySQL and MariaDB, told with what mends it, and what it leaves: the old database as it was.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::mysql_driver::on_both;
use crate::support::mysql::{
    EVERYTHING, MARIADB, MYSQL, MysqlRun, MysqlServer, PASSWORD, assert_same, facts, labels, target,
};
use crate::support::{TestContainer, TestVolume, busybox_image, docker, engine};
use cofferdam::driver::Driver;
use cofferdam::driver::mysql::look_at;
use cofferdam::labels::{MysqlLabels, MysqlRestore, TransferChoice};
use cofferdam::manifest::{MysqlFlavour, TargetRecord};
use cofferdam::target::{DriverKind, TargetId};

on_both!(
    a_load_that_breaks_off_leaves_the_old_database,
    a_dump_without_its_last_line_does_not_count,
    a_dump_that_was_damaged_is_refused,
    wrong_logins_are_told_apart,
    who_is_in_the_way_of_a_commit_is_ended,
    foreign_keys_of_others_are_not_torn,
    a_broken_view_is_told_with_its_remedy,
    an_event_whose_time_is_over_is_not_missed,
    triggers_that_name_their_database_come_back,
    a_view_whose_definer_is_gone_comes_back,
    rows_longer_than_half_a_packet_come_back,
    what_the_user_may_not_see_is_told,
    what_could_not_be_put_back_is_told_beforehand,
    a_prepared_transaction_is_found_before_anything_changes,
    tables_without_transactions_are_told,
    no_room_is_told_and_streaming_needs_none,
    passwords_are_seen_nowhere,
    a_server_tells_where_its_data_are,
);

async fn saved(server: &MysqlServer, run: &MysqlRun, database: &str) -> TargetRecord {
    let driver = run.driver(server, &labels(&[database])).await;
    run.dump(&driver, &target(server, database)).await.unwrap()
}

async fn a_load_that_breaks_off_leaves_the_old_database(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    server.make("half", "", EVERYTHING);
    let record = saved(server, &run, "half").await;
    let script = run.script(&record).await;
    let old = server.portrait("half");
    let middle = script.find("CREATE TABLE `parents`").unwrap();
    let (first, rest) = script.split_at(middle);
    for (what, script, words) in [
        ("a syntax error", format!("{first}NONSENSE;\n{rest}"), "1064"),
        ("no tables", "-- x\n\n-- Dump completed\n".to_owned(), "these tables are missing"),
        ("no routines", script.replace("CREATE TABLE `nothing`", "DROP TABLE IF EXISTS `nothing`; CREATE FUNCTION other() RETURNS INT DETERMINISTIC RETURN 1; CREATE TABLE `nothing`"), "3 routines"),
    ] {
        for transfer in [TransferChoice::Copy, TransferChoice::Stream] {
            let run = run.next();
            let forged = run.forge(&record, &script).await;
            let labels = MysqlLabels {
                transfer,
                ..labels(&["half"])
            };
            let driver = run.driver(server, &labels).await;
            let error = driver.load(&forged, &run.source()).await.unwrap_err().to_string();
            assert!(error.contains(words), "{what}: {error}");
            assert!(!error.contains("sh failed"), "{error}");
            let error = driver.commit(&record.target).await.unwrap_err().to_string();
            assert!(error.contains("never completed"), "{what}: {error}");
            // Another process.
            let driver = run.driver(server, &labels).await;
            driver.rollback(&record.target).await.unwrap();
            driver.rollback(&record.target).await.unwrap();
            assert_same(&server.portrait("half"), &old, what);
            assert_eq!(server.staging_of(&run), Vec::<String>::new(), "{what}");
            assert_eq!(server.left_behind(), "", "{what}");
        }
    }
    // Under its own name, the old database was moved away, wherever the load has come to.
    let run = run.next();
    let forged = run
        .forge(&record, &format!("{first}NONSENSE;\n{rest}"))
        .await;
    let labels = MysqlLabels {
        restore: MysqlRestore::Recreate,
        ..labels(&["half"])
    };
    let driver = run.driver(server, &labels).await;
    driver.load(&forged, &run.source()).await.unwrap_err();
    run.driver(server, &labels)
        .await
        .rollback(&record.target)
        .await
        .unwrap();
    assert_same(&server.portrait("half"), &old, "moved back");
    assert_eq!(server.staging_of(&run), Vec::<String>::new());
    server.sql("", "DROP DATABASE half");
}

async fn a_dump_without_its_last_line_does_not_count(server: &MysqlServer) {
    let engine = engine().await;
    server.make(
        "tail",
        "",
        "CREATE TABLE t (a INT); CREATE TABLE jobs (a INT)",
    );
    let run = MysqlRun::new(&engine).await;
    // The dump client as it is when it is cut, or when it fails after all.
    let name = if server.is_mariadb() {
        "mariadb-dump"
    } else {
        "mysqldump"
    };
    for (script, words) in [
        (
            r#"exec "$REAL" "$@" | grep -v '^-- Dump completed'"#,
            "does not end with the line",
        ),
        (
            r#""$REAL" "$@"; echo 'mysqldump: it broke' >&2; exit 5"#,
            "exit code 5: mysqldump: it broke",
        ),
        (r#""$REAL" "$@"; kill -9 $$"#, "137"),
    ] {
        let real = server
            .container
            .sh(&format!("readlink -f $(command -v {name})"));
        let wrapper = format!(
            "#!/bin/sh\nREAL={real}\ncase $* in *--help*) exec \"$REAL\" \"$@\";; *tail*) ;; *) exec \"$REAL\" \"$@\";; esac\n{script}\n"
        );
        // Before the real one on the path of execs.
        server.container.sh(&format!(
            "printf '%s' '{}' >/usr/local/bin/{name}; chmod 755 /usr/local/bin/{name}",
            wrapper.replace('\'', "'\\''")
        ));
        let mut errors = Vec::new();
        for transfer in [TransferChoice::Copy, TransferChoice::Stream] {
            let labels = MysqlLabels {
                transfer,
                ..labels(&["tail"])
            };
            let driver = run.driver(server, &labels).await;
            errors.push(run.next().dump(&driver, &target(server, "tail")).await);
        }
        server.container.sh(&format!("rm /usr/local/bin/{name}"));
        for result in errors {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
    server.sql("", "DROP DATABASE tail");
}

async fn a_dump_that_was_damaged_is_refused(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    server.make(
        "damaged",
        "",
        "CREATE TABLE t (a INT); INSERT INTO t VALUES (1)",
    );
    let record = saved(server, &run, "damaged").await;
    let mut lying = record.clone();
    lying.artifacts[0].plain.sha256 = "0".repeat(64);
    for transfer in [TransferChoice::Copy, TransferChoice::Stream] {
        let run = run.next();
        let labels = MysqlLabels {
            transfer,
            ..labels(&["damaged"])
        };
        let driver = run.driver(server, &labels).await;
        let error = driver.load(&lying, &run.source()).await.unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
        driver.rollback(&record.target).await.unwrap();
        assert_eq!(server.sql("damaged", "SELECT a FROM t"), "1");
        assert_eq!(server.staging_of(&run), Vec::<String>::new());
    }
    server.sql("", "DROP DATABASE damaged");
}

async fn wrong_logins_are_told_apart(server: &MysqlServer) {
    let engine = engine().await;
    server.make(
        "logins",
        "",
        "CREATE TABLE t (a INT); INSERT INTO t VALUES (1)",
    );
    let user = format!("reader{}", std::process::id());
    server.sql("", &format!("DROP USER IF EXISTS {user}@'%'; CREATE USER {user}@'%' IDENTIFIED BY 'weak one'; GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, EXECUTE ON logins.* TO {user}@'%'"));
    server
        .container
        .sh("printf 'wrong\\n' >/tmp/wrong; printf 'weak one\\n' >/tmp/right");
    let run = MysqlRun::new(&engine).await;
    let with = |user: Option<&str>, file: Option<&str>, port: Option<u16>| MysqlLabels {
        user: user.map(str::to_owned),
        password_file: file.map(str::to_owned),
        port,
        ..labels(&["logins"])
    };
    for (labels, words) in [
        (
            with(None, Some("/tmp/wrong"), None),
            "cofferdam.mysql.password-file",
        ),
        (
            with(Some("nobody"), None, None),
            "set cofferdam.mysql.user (now nobody)",
        ),
        (
            with(None, Some("/no/such"), None),
            "/no/such, which cofferdam.mysql.password-file names, cannot be read",
        ),
    ] {
        let started = Instant::now();
        let error = run
            .driver(server, &labels)
            .await
            .targets()
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
        assert!(
            !error.contains("wrong\n") && !error.contains(PASSWORD),
            "{error}"
        );
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "nobody waits for a wrong password"
        );
    }
    // A user who may only read saves, and cannot restore.
    let labels = with(Some(&user), Some("/tmp/right"), Some(3306));
    let driver = run.driver(server, &labels).await;
    let record = run.dump(&driver, &target(server, "logins")).await.unwrap();
    let error = driver
        .load(&record, &run.source())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("to root, or grant it what is missing"),
        "{error}"
    );
    driver.rollback(&record.target).await.unwrap();
    assert_eq!(server.sql("logins", "SELECT a FROM t"), "1");
    server.sql("", &format!("DROP DATABASE logins; DROP USER {user}@'%'"));
    server.container.sh("rm /tmp/wrong /tmp/right");
}

async fn who_is_in_the_way_of_a_commit_is_ended(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    server.make(
        "busy",
        "",
        "CREATE TABLE t (a INT); INSERT INTO t VALUES (1)",
    );
    let record = saved(server, &run, "busy").await;
    server.sql("busy", "UPDATE t SET a = 2");
    let driver = run.driver(server, &labels(&["busy"])).await;
    driver.load(&record, &run.source()).await.unwrap();
    let client = if server.is_mariadb() {
        "mariadb"
    } else {
        "mysql"
    };
    let mut session = Command::new("docker")
        .args([
            "exec",
            "-e",
            &format!("MYSQL_PWD={PASSWORD}"),
            &server.container.id,
            client,
            "-uroot",
            "busy",
            "-e",
        ])
        .arg("START TRANSACTION; SELECT * FROM t; SELECT SLEEP(300)")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.sql("", "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = 'busy' AND INFO LIKE '%SLEEP(300)%'") == "0" {
        assert!(Instant::now() < deadline, "nobody is in the way");
        std::thread::sleep(Duration::from_millis(100));
    }
    driver.commit(&record.target).await.unwrap();
    assert!(!session.wait().unwrap().success(), "the session was ended");
    assert_eq!(server.sql("busy", "SELECT a FROM t"), "1");
    server.sql("", "DROP DATABASE busy");
}

async fn foreign_keys_of_others_are_not_torn(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    server.make(
        "referred",
        "",
        "CREATE TABLE p (id INT PRIMARY KEY); INSERT INTO p VALUES (1)",
    );
    let record = saved(server, &run, "referred").await;
    server.make("referring", "", "CREATE TABLE c (p INT, FOREIGN KEY (p) REFERENCES referred.p (id)); INSERT INTO c VALUES (1)");
    let swap = labels(&["referred"]);
    let driver = run.driver(server, &swap).await;
    let error = driver
        .load(&record, &run.source())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("referring.c") && error.contains("recreate"),
        "{error}"
    );
    driver.rollback(&record.target).await.unwrap();

    let run = run.next();
    let recreate = MysqlLabels {
        restore: MysqlRestore::Recreate,
        ..swap
    };
    let driver = run.driver(server, &recreate).await;
    run.restore(&driver, &record).await.unwrap();
    let orphan = server.try_sql("referring", "INSERT INTO c VALUES (2)");
    assert!(String::from_utf8_lossy(&orphan.stderr).contains("foreign key constraint fails"));
    server.sql("referring", "INSERT INTO c VALUES (1)");
    server.sql("", "DROP DATABASE referring; DROP DATABASE referred");
}

async fn a_broken_view_is_told_with_its_remedy(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    server.make("broken", "", "CREATE TABLE t (a INT); INSERT INTO t VALUES (1); CREATE TABLE u (a INT); CREATE VIEW v AS SELECT a FROM u; DROP TABLE u");
    let driver = run.driver(server, &labels(&["broken"])).await;
    let error = run
        .dump(&driver, &target(server, "broken"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("cofferdam.mysql.exclude-tables"), "{error}");
    let without = MysqlLabels {
        exclude_tables: vec!["v".to_owned()],
        ..labels(&["broken"])
    };
    let driver = run.driver(server, &without).await;
    let record = run
        .next()
        .dump(&driver, &target(server, "broken"))
        .await
        .unwrap();
    assert_eq!(facts(&record).programs.unwrap().views, 0);
    // A restore over a database with a broken view goes on, whatever becomes of the view.
    let mut run = run.next();
    run.options.old_database = cofferdam::driver::OldDatabase::Keep;
    let record = saved_without(&run, server, &without).await;
    let driver = run.driver(server, &without).await;
    run.restore(&driver, &record).await.unwrap();
    assert_eq!(server.sql("broken", "SHOW TABLES"), "t");
    for name in server.staging_of(&run) {
        server.sql("", &format!("DROP DATABASE {name}"));
    }
    server.sql("", "DROP DATABASE broken");
}

async fn saved_without(run: &MysqlRun, server: &MysqlServer, labels: &MysqlLabels) -> TargetRecord {
    let driver = run.driver(server, labels).await;
    run.dump(&driver, &target(server, "broken")).await.unwrap()
}

/// The server would have dropped it by now, and makes none whose time is over.
async fn an_event_whose_time_is_over_is_not_missed(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    server.make(
        "bygone",
        "",
        "CREATE TABLE t (a INT); \
         CREATE EVENT once ON SCHEDULE AT NOW() + INTERVAL 5 SECOND DO DELETE FROM t; \
         CREATE EVENT daily ON SCHEDULE EVERY 1 DAY STARTS '2035-01-01' DO DELETE FROM t",
    );
    let record = saved(server, &run, "bygone").await;
    assert_eq!(facts(&record).programs.unwrap().events, 1);
    server.sql("", "SELECT SLEEP(6)");
    let driver = run.driver(server, &labels(&["bygone"])).await;
    run.restore(&driver, &record).await.unwrap();
    assert_eq!(
        server.sql(
            "",
            "SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'bygone'"
        ),
        "daily"
    );
    server.sql("", "DROP DATABASE bygone");
}

/// MariaDB keeps the text of a trigger as it was written.
async fn triggers_that_name_their_database_come_back(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    server.make(
        "spelled",
        "",
        "CREATE TABLE t (a INT); CREATE TABLE u (a INT); \
         CREATE TRIGGER spelled.one BEFORE INSERT ON t FOR EACH ROW SET NEW.a = NEW.a + 1; \
         CREATE TRIGGER spelled.two BEFORE INSERT ON spelled.u FOR EACH ROW SET NEW.a = NEW.a + 2; \
         INSERT INTO t VALUES (1)",
    );
    let record = saved(server, &run, "spelled").await;
    server.sql("spelled", "DELETE FROM t");
    let driver = run.driver(server, &labels(&["spelled"])).await;
    run.restore(&driver, &record).await.unwrap();
    server.sql(
        "spelled",
        "INSERT INTO t VALUES (2); INSERT INTO u VALUES (2)",
    );
    assert_eq!(
        server.sql("spelled", "SELECT a FROM t UNION ALL SELECT a FROM u"),
        "2\n3\n4"
    );
    server.sql("", "DROP DATABASE spelled");
}

/// MariaDB writes all names of such a view in full, and so the name of the database that it was loaded into.
async fn a_view_whose_definer_is_gone_comes_back(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    let ghost = format!("ghost{}@localhost", std::process::id());
    server.sql(
        "",
        &format!("CREATE USER {ghost}; GRANT ALL ON *.* TO {ghost}"),
    );
    server.make(
        "haunted",
        "",
        &format!(
            "CREATE TABLE t (a INT); INSERT INTO t VALUES (1); \
             CREATE DEFINER={ghost} SQL SECURITY INVOKER VIEW v AS SELECT a FROM t"
        ),
    );
    let record = saved(server, &run, "haunted").await;
    server.sql("", &format!("DROP USER {ghost}"));
    server.sql("haunted", "UPDATE t SET a = 2");
    let driver = run.driver(server, &labels(&["haunted"])).await;
    run.restore(&driver, &record).await.unwrap();
    assert_eq!(server.sql("haunted", "SELECT a FROM v"), "1");
    assert_eq!(server.staging_of(&run), Vec::<String>::new());
    server.sql("", "DROP DATABASE haunted");
}

/// In a dump a row has up to twice its length.
async fn rows_longer_than_half_a_packet_come_back(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    let limit = "SELECT @@GLOBAL.max_allowed_packet";
    let usual = server.sql("", limit);
    server.sql("", "SET GLOBAL max_allowed_packet = 1048576");
    server.make(
        "lengthy",
        "",
        "CREATE TABLE t (a LONGBLOB); INSERT INTO t VALUES (REPEAT('x', 800000))",
    );
    let record = saved(server, &run, "lengthy").await;
    for restore in [MysqlRestore::Swap, MysqlRestore::Recreate] {
        let run = run.next();
        server.sql("lengthy", "DELETE FROM t");
        let labels = MysqlLabels {
            restore,
            ..labels(&["lengthy"])
        };
        let driver = run.driver(server, &labels).await;
        run.restore(&driver, &record).await.unwrap();
        assert_eq!(
            server.sql(
                "lengthy",
                "SELECT LENGTH(a), a = REPEAT('x', 800000) FROM t"
            ),
            "800000\t1"
        );
        assert_eq!(server.sql("", limit), "1048576", "it is set back");
    }
    server.sql(
        "",
        &format!("SET GLOBAL max_allowed_packet = {usual}; DROP DATABASE lengthy"),
    );
}

async fn what_the_user_may_not_see_is_told(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    let user = format!("clerk{}@localhost", std::process::id());
    server.sql("", &format!("CREATE USER {user} IDENTIFIED BY 'weak one'"));
    server.make(
        "hidden",
        "",
        "CREATE TABLE t (a INT); INSERT INTO t VALUES (1); CREATE PROCEDURE p() SELECT 1; \
         CREATE TRIGGER one BEFORE INSERT ON t FOR EACH ROW SET NEW.a = NEW.a + 1",
    );
    server.container.sh("printf 'weak one\\n' >/tmp/clerk");
    let labels = MysqlLabels {
        user: user.split('@').next().map(str::to_owned),
        password_file: Some("/tmp/clerk".to_owned()),
        ..labels(&["hidden"])
    };
    let target = target(server, "hidden");
    let show_routines = if server.is_mariadb() {
        "SELECT ON mysql.proc"
    } else {
        "SHOW_ROUTINE ON *.*"
    };
    for (granted, told, triggers) in [
        (
            "SELECT, SHOW VIEW, EVENT ON `hid%`.*",
            Some("triggers, procedures and functions"),
            0,
        ),
        (show_routines, Some("triggers"), 0),
        ("TRIGGER ON `hid%`.*", None, 1),
    ] {
        server.sql("", &format!("GRANT {granted} TO {user}"));
        let driver = run.next().driver(server, &labels).await;
        let record = run.next().dump(&driver, &target).await.unwrap();
        let warnings = record.warnings.join("\n");
        match told {
            Some(told) => assert!(
                warnings.contains(&format!("may not see {told} of database hidden")),
                "{granted}: {warnings}"
            ),
            None => assert_eq!(warnings, "", "{granted}"),
        }
        assert_eq!(facts(&record).programs.unwrap().triggers, triggers);
        if triggers == 0 {
            let error = driver.load(&record, &run.source()).await.unwrap_err();
            let error = error.to_string();
            assert!(error.contains("may not see the triggers"), "{error}");
        }
    }
    server.container.sh("rm /tmp/clerk");
    server.sql("", &format!("DROP DATABASE hidden; DROP USER {user}"));
}

async fn what_could_not_be_put_back_is_told_beforehand(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    let user = format!("keeper{}@localhost", std::process::id());
    server.make("beside", "", "CREATE TABLE theirs (a INT)");
    server.make(
        "doubted",
        "",
        "CREATE TABLE t (id INT PRIMARY KEY); CREATE VIEW `over``there` AS SELECT t.id FROM t JOIN beside.theirs ON id = a; \
         CREATE DEFINER = 'gone'@'%' PROCEDURE p() SELECT 1",
    );
    server.sql(
        "",
        &format!("CREATE USER {user} IDENTIFIED BY 'weak one'; GRANT ALL ON doubted.* TO {user}; CREATE TABLE beside.refers (t INT, FOREIGN KEY (t) REFERENCES doubted.t (id))"),
    );
    server.container.sh("printf 'weak one\\n' >/tmp/keeper");
    let keeper = MysqlLabels {
        user: user.split('@').next().map(str::to_owned),
        password_file: Some("/tmp/keeper".to_owned()),
        ..labels(&["doubted"])
    };
    let recreating = MysqlLabels {
        restore: MysqlRestore::Recreate,
        exclude_tables: vec!["t".to_owned()],
        ..labels(&["doubted"])
    };
    let view = "view over`there of database doubted uses database beside";
    let gone = "create these users: gone@%";
    let refers = "refused: foreign keys of tables in other databases refer to this one";
    for (labels, expected) in [
        (labels(&["doubted"]), vec![view, gone, refers]),
        (
            recreating,
            vec![
                view,
                "view over`there of database doubted uses t, which",
                gone,
            ],
        ),
        (
            keeper,
            vec![
                "may not create and drop other databases",
                "may not create them, so a restore fails",
                view,
            ],
        ),
    ] {
        let driver = run.driver(server, &labels).await;
        let told = driver.doubts(&target(server, "doubted")).await.unwrap();
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.contains(expected), "{told}");
        }
    }
    let driver = run.driver(server, &labels(&["beside"])).await;
    let nothing = driver.doubts(&target(server, "beside")).await.unwrap();
    assert_eq!(nothing, Vec::<String>::new());
    server.container.sh("rm /tmp/keeper");
    server.sql(
        "",
        &format!("DROP DATABASE beside; DROP DATABASE doubted; DROP USER {user}"),
    );
}

async fn a_prepared_transaction_is_found_before_anything_changes(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    server.make(
        "prepared",
        "",
        "CREATE TABLE t (a INT); INSERT INTO t VALUES (1); CREATE VIEW v AS SELECT a FROM t",
    );
    let record = saved(server, &run, "prepared").await;
    // From a session that has another database.
    server.sql(
        "mysql",
        "XA START 'cofferdam'; UPDATE prepared.t SET a = 2; XA END 'cofferdam'; XA PREPARE 'cofferdam'",
    );
    let driver = run.driver(server, &labels(&["prepared"])).await;
    let error = driver.load(&record, &run.source()).await.unwrap_err();
    assert!(error.to_string().contains("XA RECOVER"), "{error}");
    driver.rollback(&record.target).await.unwrap();
    assert_eq!(server.sql("prepared", "SELECT a FROM v"), "1");

    server.sql("", "XA ROLLBACK 'cofferdam'");
    let run = run.next();
    let driver = run.driver(server, &labels(&["prepared"])).await;
    run.restore(&driver, &record).await.unwrap();
    server.sql("", "DROP DATABASE prepared");
}

async fn tables_without_transactions_are_told(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    server.make("loose", "", "CREATE TABLE safe (a INT) ENGINE=InnoDB; CREATE TABLE loose (a INT) ENGINE=MyISAM; INSERT INTO loose VALUES (5)");
    let record = saved(server, &run, "loose").await;
    assert_eq!(record.warnings.len(), 1);
    assert!(
        record.warnings[0].ends_with("saved only in part: loose"),
        "{:?}",
        record.warnings
    );
    server.sql("loose", "DELETE FROM loose");
    let driver = run.driver(server, &labels(&["loose"])).await;
    run.restore(&driver, &record).await.unwrap();
    assert_eq!(server.sql("loose", "SELECT a FROM loose"), "5");
    server.sql("", "DROP DATABASE loose");
}

async fn no_room_is_told_and_streaming_needs_none(shared: &MysqlServer) {
    let engine = engine().await;
    let volume = TestVolume::of_size("1m");
    let mount = format!("{}:/scratch", volume.name);
    let server = MysqlServer::start(&shared.version, &["-v", &mount]);
    server.make(
        "big",
        "",
        "CREATE TABLE t (a INT); INSERT INTO t VALUES (1)",
    );
    let run = MysqlRun::new(&engine).await;
    let mut labels = MysqlLabels {
        scratch: Some("/scratch".to_owned()),
        ..labels(&["big"])
    };
    let driver = run.driver(&server, &labels).await;
    let error = run
        .dump(&driver, &target(&server, "big"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("not enough space") && error.contains("cofferdam.mysql.transfer: stream"),
        "{error}"
    );
    assert_eq!(server.container.sh("ls -A /scratch"), "");
    labels.transfer = TransferChoice::Stream;
    let run = run.next();
    let driver = run.driver(&server, &labels).await;
    run.dump(&driver, &target(&server, "big")).await.unwrap();
}

async fn passwords_are_seen_nowhere(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    server.make("secret", "", "CREATE TABLE t (a INT)");
    let driver = run.driver(server, &labels(&["secret"])).await;
    let target = target(server, "secret");
    // The dump waits for this lock, and can be looked at.
    let client = if server.is_mariadb() {
        "mariadb"
    } else {
        "mysql"
    };
    let mut session = Command::new("docker")
        .args([
            "exec",
            "-e",
            &format!("MYSQL_PWD={PASSWORD}"),
            &server.container.id,
            client,
            "-uroot",
            "-e",
        ])
        .arg("LOCK TABLES secret.t WRITE; SELECT SLEEP(8)")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // From a thread of its own: the engine answers only when nothing is copied out, and that goes on here.
    let container = server.container.id.clone();
    let look = std::thread::spawn(move || {
        let mut seen = String::new();
        for _ in 0..25 {
            seen += &docker(["top", &container, "-o", "pid,args"]);
            seen.push('\n');
            std::thread::sleep(Duration::from_millis(200));
        }
        seen
    });
    let record = run.dump(&driver, &target).await;
    let seen = look.join().unwrap();
    let record = record.unwrap();
    session.wait().unwrap();
    assert!(seen.contains("--single-transaction"), "the client was seen");
    let told = format!("{seen}{record:?}");
    assert!(!told.contains(PASSWORD) && !told.contains("$battery"));
    server.sql("", "DROP DATABASE secret");
}

async fn a_server_tells_where_its_data_are(server: &MysqlServer) {
    let engine = engine().await;
    let options = MysqlLabels::default();
    let found = look_at(&engine, &server.inspect(&engine).await, &options).await;
    assert_eq!(found.data_directory, "/var/lib/mysql");
    assert!(found.server.is_some());
}

#[tokio::test]
async fn a_container_without_clients_or_not_running_is_told() {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    let idle = TestContainer::idle();
    let driver = |container| {
        cofferdam::driver::mysql::MysqlDriver::new(
            engine.clone(),
            container,
            MysqlLabels::default(),
            run.id.clone(),
            run.options.clone(),
        )
    };
    let error = driver(engine.inspect(&idle.id).await.unwrap())
        .targets()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("has neither mariadb-dump") && error.contains("put the label on"),
        "{error}"
    );
    let stopped = TestContainer::create(&[], &[busybox_image(), "true"]);
    let error = driver(engine.inspect(&stopped.id).await.unwrap())
        .targets()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("is not running; start it"), "{error}");
}

/// Each way in which the official images are told of passwords.
#[tokio::test]
async fn the_containers_own_variables_are_enough() {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    let secrets = tempfile::tempdir().unwrap();
    std::fs::write(secrets.path().join("root"), format!("{PASSWORD}\n")).unwrap();
    std::fs::write(secrets.path().join("app"), "weak one\n").unwrap();
    let mount = format!("{}:/run/secrets:ro", secrets.path().display());
    let app = ["-e", "MYSQL_DATABASE=shop", "-e", "MYSQL_USER=app"];
    for (version, options) in [
        (
            MARIADB,
            &[
                "-v",
                &mount,
                "-e",
                "MARIADB_ROOT_PASSWORD_FILE=/run/secrets/root",
            ][..],
        ),
        (
            MYSQL,
            &[
                "-v",
                &mount,
                "-e",
                "MYSQL_ROOT_PASSWORD_FILE=/run/secrets/root",
                "-e",
                "MYSQL_PASSWORD_FILE=/run/secrets/app",
            ],
        ),
        (
            MARIADB,
            &[
                "-e",
                "MYSQL_ALLOW_EMPTY_PASSWORD=1",
                "-e",
                "MYSQL_PASSWORD=weak one",
            ],
        ),
    ] {
        let server = MysqlServer::start_with(version, &[&app, options].concat());
        let driver = run.driver(&server, &MysqlLabels::default()).await;
        let targets = driver.targets().await.unwrap().targets;
        let names: Vec<&str> = targets
            .iter()
            .map(|target| target.id.name.as_str())
            .collect();
        // The image makes a user only with a password.
        let has_user = options
            .iter()
            .any(|option| option.starts_with("MYSQL_PASSWORD"));
        let expected: &[&str] = if has_user {
            &["@users", "shop"]
        } else {
            &["shop"]
        };
        assert_eq!(names, expected, "{version} {options:?}");
        if options.contains(&"MYSQL_PASSWORD_FILE=/run/secrets/app") {
            let by_name = MysqlLabels {
                user: Some("app".to_owned()),
                ..labels(&["shop"])
            };
            let driver = run.driver(&server, &by_name).await;
            run.dump(&driver, &target(&server, "shop")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_server_that_is_starting_is_waited_for() {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    let server = MysqlServer::start(MARIADB, &[]);
    server.make("shop", "", "CREATE TABLE t (a INT)");
    docker(["stop", &server.container.id]);
    docker(["start", &server.container.id]);
    let driver = run.driver(&server, &labels(&["shop"])).await;
    assert_eq!(driver.targets().await.unwrap().targets.len(), 1);
    // Killed in mid-write, it recovers first.
    docker(["kill", &server.container.id]);
    docker(["start", &server.container.id]);
    let driver = run.driver(&server, &labels(&["shop"])).await;
    assert_eq!(driver.targets().await.unwrap().targets.len(), 1);
}

#[tokio::test]
async fn a_dump_of_the_other_family_fails_with_a_reason_and_costs_nothing() {
    let engine = engine().await;
    let (mariadb, mysql) = (MysqlServer::shared(MARIADB), MysqlServer::shared(MYSQL));
    let _turns = (mariadb.turn.lock().await, mysql.turn.lock().await);
    let run = MysqlRun::new(&engine).await;
    mysql.make(
        "family",
        "CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci",
        "CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('mysql')",
    );
    let record = saved(mysql, &run, "family").await;
    assert_eq!(facts(&record).flavour, MysqlFlavour::Mysql);
    mariadb.make(
        "family",
        "",
        "CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('old')",
    );
    let driver = run.driver(mariadb, &labels(&["family"])).await;
    let error = driver
        .load(&record, &run.source())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("restore it into one of the same"), "{error}");
    driver.rollback(&record.target).await.unwrap();
    assert_eq!(mariadb.sql("family", "SELECT a FROM t"), "old");
    assert_eq!(mariadb.staging_of(&run), Vec::<String>::new());

    // What the other understands, it takes.
    let run = run.next();
    mariadb.sql("family", "UPDATE t SET a = 'mariadb'");
    let record = saved(mariadb, &run, "family").await;
    let driver = run.driver(mysql, &labels(&["family"])).await;
    let moved = TargetRecord {
        target: TargetId::new(&mysql.container.name, DriverKind::Mysql, "family"),
        ..record
    };
    run.restore(&driver, &moved).await.unwrap();
    assert_eq!(mysql.sql("family", "SELECT a FROM t"), "mariadb");
    mysql.sql("", "DROP DATABASE family");
    mariadb.sql("", "DROP DATABASE family");
}

/// A newer server takes what an older one had. An older one says what it does not understand, and keeps what it has.
#[tokio::test]
#[ignore = "needs the images of all versions"]
async fn dumps_go_to_newer_servers_and_to_older_ones_as_far_as_those_understand_them() {
    let engine = engine().await;
    let (older, newer) = (
        MysqlServer::start("mariadb:10.5", &[]),
        MysqlServer::start("mariadb:11", &[]),
    );
    let old_rows = "CREATE TABLE old (a INT); INSERT INTO old VALUES (7)";
    for restore in [MysqlRestore::Swap, MysqlRestore::Recreate] {
        let run = MysqlRun::new(&engine).await;
        let labels = MysqlLabels {
            restore,
            ..labels(&["versions"])
        };
        older.make("versions", "", EVERYTHING);
        newer.make("versions", "", old_rows);
        let record = saved(&older, &run, "versions").await;
        let driver = run.driver(&newer, &labels).await;
        run.restore(&driver, &record).await.unwrap();
        let counts =
            "SELECT COUNT(*) FROM parents; SELECT COUNT(*) FROM counted; SHOW TABLES LIKE 'old'";
        assert_eq!(newer.sql("versions", counts), "3\n2", "{restore:?}");

        // The newer one's own default collation is none of the older's.
        let run = run.next();
        newer.make("versions", "", "CREATE TABLE t (a TEXT)");
        older.make("versions", "", old_rows);
        let record = saved(&newer, &run, "versions").await;
        let driver = run.driver(&older, &labels).await;
        let loaded = driver.load(&record, &run.source()).await;
        let error = loaded.unwrap_err().to_string();
        assert!(error.contains("restore it into one of the same"), "{error}");
        driver.rollback(&record.target).await.unwrap();
        assert_eq!(
            older.sql("versions", "SELECT a FROM old"),
            "7",
            "{restore:?}"
        );
        assert_eq!(older.databases(), ["versions"], "{restore:?}");
    }
}

#[tokio::test]
#[ignore = "needs the images of all versions"]
async fn the_first_line_of_newer_dumps_does_not_break_an_older_client() {
    let engine = engine().await;
    let (newer, older) = (
        MysqlServer::start("mariadb:10.11", &[]),
        MysqlServer::start("mariadb:10.5", &[]),
    );
    for transfer in [TransferChoice::Copy, TransferChoice::Stream] {
        let run = MysqlRun::new(&engine).await;
        newer.make("lines", "", EVERYTHING);
        let record = saved(&newer, &run, "lines").await;
        assert!(
            run.script(&record).await.starts_with("/*M!999999"),
            "the line is there"
        );
        older.make("lines", "", "SELECT 1");
        let labels = MysqlLabels {
            transfer,
            ..labels(&["lines"])
        };
        let driver = run.driver(&older, &labels).await;
        run.restore(&driver, &record).await.unwrap();
        assert_eq!(older.sql("lines", "SELECT COUNT(*) FROM parents"), "3");
    }
}
