//! The MySQL driver on real servers of both families: what comes back is what was saved.

use crate::support::engine;
use crate::support::mysql::{
    DAMAGE, EVERYTHING, MysqlRun, MysqlServer, assert_same, facts, labels, target,
};
use cofferdam::driver::mysql::Committed;
use cofferdam::driver::{Driver, OldDatabase};
use cofferdam::labels::{MysqlLabels, MysqlRestore, Selection, TransferChoice};
use cofferdam::manifest::{MysqlPrograms, Transfer};

const DEFAULTS: &str = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";

/// Each test on a server of each family; those of one family share it, and the families take turns in the order of names, so
/// that both are at work. MySQL's are for `make test-full`, which runs the ignored ones too.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            use $crate::support::mysql::{MARIADB, MYSQL, MysqlServer};

            #[tokio::test]
            async fn mariadb() {
                let server = MysqlServer::shared(MARIADB);
                let _turn = server.turn.lock().await;
                super::$name(server).await;
            }

            #[tokio::test]
            #[ignore = "the other family of servers: make test-full"]
            async fn mysql() {
                let server = MysqlServer::shared(MYSQL);
                let _turn = server.turn.lock().await;
                super::$name(server).await;
            }
        })*
    };
}
pub(crate) use on_both;

on_both!(
    everything_comes_back,
    a1_each_database_is_an_artifact_of_its_own,
    a2_tables_without_rows_come_back_empty,
    tables_left_out_whole_are_not_missed,
    a_commit_may_die_after_every_step,
    a_commit_may_die_within_a_step,
    the_old_database_serves_until_the_commit_and_can_be_kept,
    names_mean_nothing_but_themselves,
    a_database_that_is_gone_comes_back,
    all_means_what_somebody_made,
    a_dump_loads_by_hand,
);

async fn everything_comes_back(server: &MysqlServer) {
    let database = "round";
    let engine = engine().await;
    server.make(database, DEFAULTS, EVERYTHING);
    let before = server.portrait(database);
    assert_eq!(before["complaints of the dump"], "");
    for transfer in [TransferChoice::Copy, TransferChoice::Stream] {
        let run = MysqlRun::new(&engine).await;
        let labels = MysqlLabels {
            transfer,
            ..labels(&[database])
        };
        let target = target(server, database);
        let record = run
            .dump(&run.driver(server, &labels).await, &target)
            .await
            .unwrap();
        assert_eq!(record.warnings, Vec::<String>::new());
        let taken = match transfer {
            TransferChoice::Copy => Transfer::Copy,
            TransferChoice::Stream => Transfer::Stream,
        };
        assert_eq!(record.transfer, taken);
        let facts = facts(&record);
        assert_eq!((facts.charset.as_str(), facts.tables.len()), ("utf8mb4", 7));
        assert_eq!(
            facts.programs,
            Some(MysqlPrograms {
                views: 4,
                triggers: 2,
                routines: 2,
                events: 1
            })
        );
        for restore in [MysqlRestore::Swap, MysqlRestore::Recreate] {
            server.sql(database, DAMAGE);
            server.sql(
                "",
                &format!("ALTER DATABASE `{database}` CHARACTER SET latin1"),
            );
            assert_ne!(server.portrait(database), before);
            let run = run.next();
            let labels = MysqlLabels {
                restore,
                ..labels.clone()
            };
            let driver = run.driver(server, &labels).await;
            run.restore(&driver, &record).await.unwrap();
            let what = format!("{transfer:?} {restore:?}");
            assert_same(&server.portrait(database), &before, &what);
            assert_eq!(server.staging_of(&run), Vec::<String>::new(), "{what}");
            // What was put back works, and belongs together.
            server.sql(database, "START TRANSACTION; CALL write_log('x'); INSERT INTO parents (name) VALUES ('y'); ROLLBACK");
            assert_eq!(
                server.sql(
                    database,
                    "SELECT id FROM children WHERE MATCH (body) AGAINST ('words')"
                ),
                "1"
            );
            let orphan = server.try_sql(
                database,
                "INSERT INTO children (id, parent) VALUES (9, 999)",
            );
            assert!(
                String::from_utf8_lossy(&orphan.stderr).contains("foreign key constraint fails")
            );
            // A rolled back insert takes a number all the same.
            server.sql(database, "ALTER TABLE parents AUTO_INCREMENT = 4711");
        }
    }
    assert_eq!(server.left_behind(), "");
    server.sql("", &format!("DROP DATABASE `{database}`"));
}

async fn a1_each_database_is_an_artifact_of_its_own(server: &MysqlServer) {
    let engine = engine().await;
    let names = ["apiary", "apiary_reports"];
    for name in names {
        server.make(
            name,
            "",
            &format!("CREATE TABLE only_in_{name} (a INT); INSERT INTO only_in_{name} VALUES (1)"),
        );
    }
    let run = MysqlRun::new(&engine).await;
    let driver = run.driver(server, &labels(&names)).await;
    let targets = driver.targets().await.unwrap();
    assert!(targets.missing.is_empty());
    let found: Vec<&str> = targets
        .targets
        .iter()
        .map(|target| target.id.name.as_str())
        .collect();
    assert_eq!(found, names);
    for (name, other) in [(names[0], names[1]), (names[1], names[0])] {
        let record = run.dump(&driver, &target(server, name)).await.unwrap();
        assert_eq!(record.artifacts.len(), 1);
        let script = run.script(&record).await;
        assert!(script.contains(&format!("CREATE TABLE `only_in_{name}`")));
        assert!(!script.contains(&format!("only_in_{other}`")));
        assert!(!script.contains("USE `"), "it loads into any database");
    }
    for name in names {
        server.sql("", &format!("DROP DATABASE {name}"));
    }
}

/// The tables of row A2.
const WITHOUT_ROWS: [&str; 14] = [
    "action_events",
    "attendance_exports",
    "failed_jobs",
    "jobs",
    "notification_templates",
    "nova_notifications",
    "oauth_refresh_tokens",
    "oauth_access_tokens",
    "recruiting_campaign_recipients",
    "recruiting_campaigns",
    "recruiting_responses",
    "recruiting_visits",
    "remote_attendance_links",
    "webhook_calls",
];

async fn a2_tables_without_rows_come_back_empty(server: &MysqlServer) {
    let engine = engine().await;
    let mut sql = String::from(
        "CREATE TABLE people (id INT PRIMARY KEY); INSERT INTO people VALUES (1), (2);",
    );
    for table in WITHOUT_ROWS {
        sql.push_str(&format!(
            "CREATE TABLE {table} (id INT AUTO_INCREMENT PRIMARY KEY, person INT, FOREIGN KEY (person) REFERENCES people (id));\
             INSERT INTO {table} (person) VALUES (1);"
        ));
    }
    sql.push_str("CREATE VIEW job_list AS SELECT id FROM jobs; CREATE TRIGGER on_job BEFORE INSERT ON jobs FOR EACH ROW SET NEW.person = 2");
    server.make("apiary_a2", "", &sql);
    let definitions = |server: &MysqlServer| -> Vec<String> {
        WITHOUT_ROWS
            .iter()
            .map(|table| {
                server
                    .sql("apiary_a2", &format!("SHOW CREATE TABLE {table}"))
                    .replace(" AUTO_INCREMENT=2", "")
                    .replace(" AUTO_INCREMENT=3", "")
            })
            .collect()
    };
    let before = definitions(server);
    let mut patterns: Vec<String> = WITHOUT_ROWS[..8]
        .iter()
        .map(|&name| name.to_owned())
        .collect();
    patterns.extend(
        [
            "recruiting_*",
            "remote_attendance_link?",
            "webhook_calls",
            "no_such_*",
        ]
        .map(str::to_owned),
    );
    for transfer in [TransferChoice::Copy, TransferChoice::Stream] {
        let labels = MysqlLabels {
            exclude_table_data: patterns.clone(),
            transfer,
            ..labels(&["apiary_a2"])
        };
        let run = MysqlRun::new(&engine).await;
        let driver = run.driver(server, &labels).await;
        let record = run
            .dump(&driver, &target(server, "apiary_a2"))
            .await
            .unwrap();
        assert_eq!(record.artifacts.len(), 1);
        assert_eq!(
            record.warnings,
            [
                "`no_such_*` of cofferdam.mysql.exclude-table-data matches nothing in database apiary_a2"
            ]
        );
        assert_eq!(facts(&record).tables.len(), 15);
        let script = run.script(&record).await;
        assert!(script.contains("INSERT INTO `people`"));
        assert!(!script.contains("INSERT INTO `jobs`"));

        server.sql("", "DROP DATABASE apiary_a2");
        run.restore(&driver, &record).await.unwrap();
        assert_eq!(definitions(server), before);
        for table in WITHOUT_ROWS {
            assert_eq!(
                server.sql("apiary_a2", &format!("SELECT COUNT(*) FROM {table}")),
                "0",
                "{table}"
            );
        }
        assert_eq!(server.sql("apiary_a2", "SELECT COUNT(*) FROM people"), "2");
        // The app runs.
        server.sql("apiary_a2", "INSERT INTO jobs (person) VALUES (1)");
        assert_eq!(
            server.sql(
                "apiary_a2",
                "SELECT person FROM jobs; SELECT COUNT(*) FROM job_list"
            ),
            "2\n1"
        );
    }
    server.sql("", "DROP DATABASE apiary_a2");
}

async fn tables_left_out_whole_are_not_missed(server: &MysqlServer) {
    let engine = engine().await;
    server.make("partial", DEFAULTS, EVERYTHING);
    let labels = MysqlLabels {
        exclude_tables: ["odd *", "log", "children", "*_second", "z_*", "counted"]
            .map(str::to_owned)
            .into(),
        exclude_table_data: vec!["measures".to_owned(), "log".to_owned()],
        ..labels(&["partial"])
    };
    let run = MysqlRun::new(&engine).await;
    let driver = run.driver(server, &labels).await;
    let record = run.dump(&driver, &target(server, "partial")).await.unwrap();
    assert_eq!(record.warnings, Vec::<String>::new());
    run.restore(&driver, &record).await.unwrap();
    assert_eq!(
        server.sql("partial", "SHOW TABLES"),
        "careful\nmeasures\nnothing\nold_words\nparents"
    );
    assert_eq!(server.sql("partial", "SELECT COUNT(*) FROM measures"), "0");
    assert_eq!(server.sql("partial", "SELECT COUNT(*) FROM parents"), "3");
    server.sql("", "DROP DATABASE partial");
}

/// A snapshot of `database`, which is something else by now.
async fn changed(
    server: &MysqlServer,
    run: &MysqlRun,
    database: &str,
) -> (
    cofferdam::manifest::TargetRecord,
    std::collections::BTreeMap<&'static str, String>,
) {
    server.make(database, DEFAULTS, EVERYTHING);
    let before = server.portrait(database);
    let driver = run.driver(server, &labels(&[database])).await;
    let record = run.dump(&driver, &target(server, database)).await.unwrap();
    server.sql(database, DAMAGE);
    (record, before)
}

async fn a_commit_may_die_after_every_step(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    let (record, before) = changed(server, &run, "steps").await;
    let labels = labels(&["steps"]);
    for old in OldDatabase::ALL {
        let mut run = run.next();
        run.options.old_database = old;
        let driver = run.driver(server, &labels).await;
        driver.load(&record, &run.source()).await.unwrap();
        driver.check(&record).await.unwrap();
        let mut steps = 0;
        loop {
            // Another process each time.
            let driver = run.driver(server, &labels).await;
            steps += 1;
            if driver.commit_steps(&record.target, 1).await.unwrap() == Committed::Done {
                break;
            }
            let error = driver.rollback(&record.target).await.unwrap_err();
            assert!(error.to_string().contains("recover"), "{error}");
        }
        assert!(steps > 6, "{steps}");
        assert_same(&server.portrait("steps"), &before, &format!("{old:?}"));
        let kept = match old {
            OldDatabase::Drop => vec![],
            OldDatabase::Keep => vec![format!("steps_before_{}", run.id.short())],
        };
        assert_eq!(server.staging_of(&run), kept);
        for name in kept {
            server.sql("", &format!("DROP DATABASE {name}"));
        }
    }
    server.sql("", "DROP DATABASE steps");
}

/// What a dying server or client may leave of one step.
async fn a_commit_may_die_within_a_step(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    let (record, before) = changed(server, &run, "within").await;
    let labels = labels(&["within"]);
    // `:L` and `:O` stand for the staged database and the aside, `:M` for the mark.
    for (steps, done) in [
        // The aside is made, its mark is empty.
        (
            1,
            "CREATE TABLE :O.:M (id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, kind VARCHAR(16) NOT NULL, content LONGBLOB NOT NULL)",
        ),
        // Some of the old definitions are gone.
        (2, "DROP VIEW within.careful; DROP TRIGGER within.new_one"),
        // The order that moves tables was cut: one old table is out, one new one in, one of no counterpart is out.
        (
            3,
            "RENAME TABLE within.measures TO :O.measures, :L.measures TO within.measures, within.newcomer TO :O.newcomer, within.log TO :O.log",
        ),
        (
            3,
            "RENAME TABLE :L.children TO within.children, within.parents TO :O.parents",
        ),
        // All is moved, but it was not noted.
        (4, "ALTER DATABASE within CHARACTER SET latin1"),
        // Some definitions are made, but it was not noted.
        (
            5,
            "CREATE VIEW within.careful AS SELECT 5 AS wrong; CREATE PROCEDURE within.write_log() SELECT 1; CREATE TRIGGER within.shout BEFORE INSERT ON within.parents FOR EACH ROW SET NEW.name = 'wrong'",
        ),
        // The staged database lost its mark, but is there.
        (6, "DROP TABLE :L.:M"),
        (7, "DROP TABLE :O.:M"),
    ] {
        let run = run.next();
        let driver = run.driver(server, &labels).await;
        driver.load(&record, &run.source()).await.unwrap();
        assert_eq!(
            driver.commit_steps(&record.target, steps).await.unwrap(),
            Committed::StepsAreLeft,
            "{done}"
        );
        let digits = run.id.short();
        let done = done
            .replace(":L", &format!("within_loading_{digits}"))
            .replace(":O", &format!("within_replaced_{digits}"))
            .replace(":M", &format!("cofferdam_{digits}"));
        server.sql("", &done);
        // Another process.
        let driver = run.driver(server, &labels).await;
        driver.commit(&record.target).await.unwrap();
        driver.commit(&record.target).await.unwrap();
        assert_same(&server.portrait("within"), &before, &done);
        assert_eq!(server.staging_of(&run), Vec::<String>::new(), "{done}");
        server.sql("within", DAMAGE);
    }
    server.sql("", "DROP DATABASE within");
}

async fn the_old_database_serves_until_the_commit_and_can_be_kept(server: &MysqlServer) {
    let engine = engine().await;
    let mut run = MysqlRun::new(&engine).await;
    run.options.old_database = OldDatabase::Keep;
    let (record, before) = changed(server, &run, "kept").await;
    let old = server.portrait("kept");
    let labels = labels(&["kept"]);
    let driver = run.driver(server, &labels).await;
    driver.load(&record, &run.source()).await.unwrap();
    driver.check(&record).await.unwrap();
    assert_same(&server.portrait("kept"), &old, "before the decision");
    // Going back is possible until then, and again.
    driver.rollback(&record.target).await.unwrap();
    driver.rollback(&record.target).await.unwrap();
    assert_eq!(server.staging_of(&run), Vec::<String>::new());
    assert_same(&server.portrait("kept"), &old, "after going back");
    assert!(
        driver.commit(&record.target).await.is_ok(),
        "nothing is left to do"
    );
    assert_same(&server.portrait("kept"), &old, "after a commit of nothing");

    run.restore(&driver, &record).await.unwrap();
    assert_same(&server.portrait("kept"), &before, "after the commit");
    let kept = format!("kept_before_{}", run.id.short());
    assert_eq!(server.staging_of(&run), std::slice::from_ref(&kept));
    assert_eq!(
        server.sql(
            &kept,
            "SELECT DISTINCT price FROM parents; SELECT COUNT(*) FROM newcomer"
        ),
        "99.00\n0"
    );
    let text = server.sql(
        &kept,
        &format!("SELECT CONVERT(content USING utf8mb4) FROM cofferdam_{} WHERE kind = 'definitions' ORDER BY id", run.id.short()),
    );
    for word in ["new_view", "new_function", "new_event", "new_one"] {
        assert!(text.contains(word), "{word} is missing in {text}");
    }
    // Both ends are idempotent.
    driver.commit(&record.target).await.unwrap();
    driver.rollback(&record.target).await.unwrap();
    assert_same(&server.portrait("kept"), &before, "after all");
    // What is kept is none of the next backup's.
    let all = MysqlLabels {
        databases: Selection::All,
        ..labels
    };
    let targets = run
        .driver(server, &all)
        .await
        .targets()
        .await
        .unwrap()
        .targets;
    assert!(targets.iter().any(|target| target.id.name == "kept"));
    assert!(!targets.iter().any(|target| target.id.name == kept));
    server.sql("", &format!("DROP DATABASE kept; DROP DATABASE {kept}"));
}

async fn names_mean_nothing_but_themselves(server: &MysqlServer) {
    let engine = engine().await;
    let long = "x".repeat(64);
    let names = [
        "we`ird \"name'",
        "a b",
        "Üñï",
        "-x",
        "--all-databases",
        "a\\b",
        "$HOME$(id)",
        "a.b",
        "UPPER",
        "select",
        "100%_x",
        &long,
    ];
    for name in names {
        let sql = "CREATE TABLE `t;1` (a INT PRIMARY KEY); INSERT INTO `t;1` VALUES (1); CREATE TABLE jobs (a INT); INSERT INTO jobs VALUES (1); \
            CREATE VIEW `v``1` AS SELECT a FROM `t;1`; CREATE TRIGGER `tr 1` BEFORE INSERT ON `t;1` FOR EACH ROW SET NEW.a = 3";
        server.make(name, "", sql);
    }
    let run = MysqlRun::new(&engine).await;
    let labels = MysqlLabels {
        exclude_table_data: vec!["jobs".to_owned()],
        ..labels(&names)
    };
    let driver = run.driver(server, &labels).await;
    assert_eq!(driver.targets().await.unwrap().targets.len(), names.len());
    for name in names {
        server.sql(name, "DELETE FROM jobs");
        let before = server.portrait(name);
        server.sql(name, "INSERT INTO jobs VALUES (1)");
        let record = run
            .dump(&driver, &target(server, name))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        server.sql(name, "DROP TABLE `t;1`; CREATE TABLE another (a INT)");
        run.restore(&driver, &record)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_same(&server.portrait(name), &before, name);
        assert_eq!(server.staging_of(&run), Vec::<String>::new(), "{name}");
    }
    for name in names {
        server.sql("", &format!("DROP DATABASE `{}`", name.replace('`', "``")));
    }
}

async fn a_database_that_is_gone_comes_back(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    let (record, before) = changed(server, &run, "gone").await;
    for (restore, old) in [
        (MysqlRestore::Swap, OldDatabase::Drop),
        (MysqlRestore::Swap, OldDatabase::Keep),
        (MysqlRestore::Recreate, OldDatabase::Drop),
        (MysqlRestore::Recreate, OldDatabase::Keep),
    ] {
        server.sql("", "DROP DATABASE IF EXISTS gone");
        let mut run = run.next();
        run.options.old_database = old;
        let labels = MysqlLabels {
            restore,
            ..labels(&["gone"])
        };
        let driver = run.driver(server, &labels).await;
        assert!(!driver.exists(&record.target).await.unwrap());
        // Given up half way, it is gone again.
        driver.load(&record, &run.source()).await.unwrap();
        driver.rollback(&record.target).await.unwrap();
        assert!(!driver.exists(&record.target).await.unwrap());

        run.restore(&driver, &record).await.unwrap();
        assert_same(&server.portrait("gone"), &before, &format!("{restore:?}"));
        assert_eq!(server.staging_of(&run), Vec::<String>::new());
    }
    server.sql("", "DROP DATABASE gone");
}

async fn all_means_what_somebody_made(server: &MysqlServer) {
    let engine = engine().await;
    // It looks like one of a restore, and is none.
    for name in ["mine", "mine_before_0123abcd"] {
        server.make(name, "", "CREATE TABLE t (a INT)");
    }
    let run = MysqlRun::new(&engine).await;
    let all = MysqlLabels::default();
    let found = run
        .driver(server, &all)
        .await
        .targets()
        .await
        .unwrap()
        .targets;
    let names: Vec<&str> = found.iter().map(|target| target.id.name.as_str()).collect();
    for name in ["mine", "mine_before_0123abcd"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for name in ["mysql", "sys", "information_schema", "performance_schema"] {
        assert!(!names.contains(&name), "{names:?}");
    }
    let named = run
        .driver(server, &labels(&["mine", "mysql", "no_such"]))
        .await
        .targets()
        .await
        .unwrap();
    assert_eq!(named.targets.len(), 1);
    let reasons: Vec<&str> = named
        .missing
        .iter()
        .map(|missing| missing.reason.as_str())
        .collect();
    assert!(reasons[0].contains("is the server's own"), "{reasons:?}");
    assert!(
        reasons[1].contains("has no database no_such") && reasons[1].contains("mine"),
        "{reasons:?}"
    );
    // An empty database is worth saving: that it is empty is a fact.
    server.make("nothing_yet", "CHARACTER SET latin1", "SELECT 1");
    let driver = run.driver(server, &labels(&["nothing_yet"])).await;
    let record = run
        .dump(&driver, &target(server, "nothing_yet"))
        .await
        .unwrap();
    assert!(facts(&record).tables.is_empty());
    server.sql("nothing_yet", "CREATE TABLE t (a INT)");
    run.restore(&driver, &record).await.unwrap();
    assert_eq!(
        server.sql(
            "nothing_yet",
            "SHOW TABLES; SELECT @@character_set_database"
        ),
        "latin1"
    );
    server.sql(
        "",
        "DROP DATABASE mine; DROP DATABASE mine_before_0123abcd; DROP DATABASE nothing_yet",
    );
}

async fn a_dump_loads_by_hand(server: &MysqlServer) {
    let engine = engine().await;
    let run = MysqlRun::new(&engine).await;
    let (record, _) = changed(server, &run, "byhand").await;
    server.make("byhand", DEFAULTS, "SELECT 1");
    server.sql("byhand", &run.script(&record).await);
    assert_eq!(
        server.sql(
            "byhand",
            "SELECT COUNT(*) FROM counted; SELECT COUNT(*) FROM parents"
        ),
        "2\n3"
    );
    server.sql("", "DROP DATABASE byhand");
}

#[tokio::test]
#[ignore = "needs the images of all versions"]
async fn every_version_makes_the_round_trip() {
    for version in ["mariadb:11", "mariadb:10.5"] {
        let server = MysqlServer::start(version, &[]);
        everything_comes_back(&server).await;
        a2_tables_without_rows_come_back_empty(&server).await;
        a_commit_may_die_after_every_step(&server).await;
        a_commit_may_die_within_a_step(&server).await;
        // The dump client of 10.5 fails, and says so, at views of a database whose name has a backslash in it.
        if version != "mariadb:10.5" {
            names_mean_nothing_but_themselves(&server).await;
        }
        crate::mysql_away::all(&server).await;
        crate::mysql_exact::all(&server).await;
        crate::mysql_users::all(&server).await;
    }
}
