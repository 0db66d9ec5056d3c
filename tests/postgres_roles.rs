//! Roles, and names that are not UTF-8, wherever they go.

use crate::support::engine;
use crate::support::postgres::{PostgresServer, Run, target};
use cofferdam::driver::Driver;
use cofferdam::driver::postgres::{CLUSTER, GLOBALS};
use cofferdam::labels::{PostgresLabels, PostgresMode};
use cofferdam::manifest::TargetRecord;

const TRUST: [&str; 2] = ["-e", "POSTGRES_HOST_AUTH_METHOD=trust"];
/// Memberships of both kinds of grantor, what they own, and what they are given.
const STAFF: &str = r#"
CREATE ROLE grp; CREATE ROLE "A ""B""" LOGIN PASSWORD 'p'; CREATE ROLE bob; CREATE ROLE eve;
GRANT grp TO "A ""B""" WITH ADMIN OPTION; GRANT pg_monitor TO grp;
SET ROLE "A ""B"""; GRANT grp TO bob; RESET ROLE;
CREATE DATABASE shop OWNER grp;
"#;
const SHOP: &str = r#"
CREATE TABLE t AS SELECT 42 AS a; ALTER TABLE t OWNER TO grp;
CREATE TABLE theirs (a int);
GRANT SELECT ON theirs TO bob WITH GRANT OPTION; SET ROLE bob; GRANT SELECT ON theirs TO eve; RESET ROLE;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT SELECT ON TABLES TO bob;
ALTER DEFAULT PRIVILEGES FOR ROLE grp IN SCHEMA public GRANT SELECT ON TABLES TO eve;
"#;
/// Everything that names a role, in words that are the same on both servers.
const PORTRAIT: &str = "SELECT r.rolname, m.rolname, admin_option, replace(g.rolname, 'admin', 'postgres') FROM pg_auth_members a
    JOIN pg_roles r ON r.oid = roleid JOIN pg_roles m ON m.oid = member JOIN pg_roles g ON g.oid = grantor
    WHERE r.rolname = 'grp' OR m.rolname = 'grp' ORDER BY 1, 2, 3, 4;
    SELECT relname, pg_get_userbyid(relowner), ARRAY(SELECT a::text FROM unnest(relacl) a ORDER BY 1) FROM pg_class WHERE relname IN ('t', 'theirs') ORDER BY 1;
    SELECT pg_get_userbyid(defaclrole), ARRAY(SELECT a::text FROM unnest(defaclacl) a ORDER BY 1) FROM pg_default_acl ORDER BY 1; SELECT a FROM t;
    SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'shop'";

async fn dump(
    run: &Run,
    server: &PostgresServer,
    mode: PostgresMode,
    names: &[&str],
) -> Vec<TargetRecord> {
    let labels = PostgresLabels {
        mode,
        ..PostgresLabels::default()
    };
    let driver = run.driver(server, &labels).await;
    let mut records = Vec::new();
    for name in names {
        records.push(run.dump(&driver, &target(server, name)).await.unwrap());
    }
    records
}

async fn restore(run: &Run, server: &PostgresServer, mode: PostgresMode, records: &[TargetRecord]) {
    let labels = PostgresLabels {
        mode,
        ..PostgresLabels::default()
    };
    let driver = run.driver(server, &labels).await;
    for record in records {
        run.restore(&driver, record).await.unwrap();
    }
}

/// From PostgreSQL 16 on a grantor needs ADMIN OPTION, or has to be the superuser that the server was made with.
#[tokio::test]
async fn memberships_come_back_where_the_first_superuser_has_another_name() {
    let engine = engine().await;
    let old = PostgresServer::start("17", "postgres", &TRUST);
    old.sql("postgres", STAFF);
    old.sql("shop", SHOP);
    let before = old.sql("shop", PORTRAIT);
    let run = Run::new(&engine).await;
    let dumped = dump(&run, &old, PostgresMode::Dump, &[GLOBALS, "shop"]).await;
    let script = dump(&run.next(), &old, PostgresMode::Dumpall, &[CLUSTER]).await;
    drop(old);

    let new = PostgresServer::start("17", "admin", &TRUST);
    restore(&run.next(), &new, PostgresMode::Dump, &dumped).await;
    assert_eq!(new.sql("shop", PORTRAIT), before);

    new.sql(
        "template1",
        r#"DROP DATABASE shop; REVOKE ADMIN OPTION FOR grp FROM "A ""B""" CASCADE; DROP ROLE grp, "A ""B""", bob, eve, postgres"#,
    );
    restore(&run.next(), &new, PostgresMode::Dumpall, &script).await;
    assert_eq!(new.sql("shop", PORTRAIT), before);
}

/// Up to PostgreSQL 15 any superuser could grant.
#[tokio::test]
async fn memberships_by_any_superuser_come_back_on_a_server_that_asks_for_more() {
    let engine = engine().await;
    let (old, new) = (
        PostgresServer::start("15", "postgres", &TRUST),
        PostgresServer::start("17", "postgres", &TRUST),
    );
    old.sql(
        "postgres",
        "CREATE ROLE carol SUPERUSER; CREATE ROLE grp; CREATE ROLE ada; SET ROLE carol; GRANT grp TO ada",
    );
    let run = Run::new(&engine).await;
    let records = dump(&run, &old, PostgresMode::Dump, &[GLOBALS]).await;
    restore(&run.next(), &new, PostgresMode::Dump, &records).await;
    assert_eq!(
        new.sql("postgres", "SELECT pg_has_role('ada', 'grp', 'MEMBER')"),
        "t"
    );

    // A session of the database SQL_ASCII takes any bytes for a name, and the whole server has them then.
    old.sql(
        "postgres",
        "CREATE DATABASE raw TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
    );
    old.sql(
        "raw",
        r"DO $$BEGIN EXECUTE format('CREATE ROLE %I', E'gr\xfc'); END$$",
    );
    let run = run.next();
    let driver = run.driver(&old, &PostgresLabels::default()).await;
    let error = run.dump(&driver, &target(&old, GLOBALS)).await.unwrap_err();
    let words = error.to_string();
    assert!(
        words.contains("not UTF-8: role gr\u{fffd}; rename"),
        "{words}"
    );

    // A database may have such a name, too; those beside it are saved.
    old.sql(
        "raw",
        r"SELECT format('CREATE DATABASE %I', E'gr\xfc') \gexec",
    );
    let found = driver.targets().await.unwrap();
    let [missing] = found.missing.as_slice() else {
        panic!("{:?}", found.missing);
    };
    assert!(
        missing.reason.contains("database gr\u{fffd}") && missing.reason.contains("not UTF-8"),
        "{}",
        missing.reason
    );
    dump(&run, &old, PostgresMode::Dump, &["raw"]).await;
}
