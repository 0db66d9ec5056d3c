//! The ways in which servers let clients in: a dump and a restore through each of them, and a clear word where there is none.

use crate::support::mysql::{self, MARIADB, MYSQL, MysqlRun, MysqlServer};
use crate::support::postgres::{PostgresServer, Run};
use crate::support::{docker, engine};
use cofferdam::driver::Driver;
use cofferdam::driver::postgres::Server;
use cofferdam::labels::{MysqlLabels, PostgresLabels, Selection};

const SHOP: &str = "CREATE TABLE goods (a INT); INSERT INTO goods VALUES (42)";

/// A server with the database `shop`.
fn shop(version: &str, options: &[&str]) -> MysqlServer {
    let server = MysqlServer::start(version, options);
    server.make("shop", "", SHOP);
    server
}

/// Saves the shop, and puts it back.
async fn comes_back(server: &MysqlServer, labels: &MysqlLabels) {
    let run = MysqlRun::new(&engine().await).await;
    let driver = run.driver(server, labels).await;
    let target = mysql::target(server, "shop");
    let record = run.dump(&driver, &target).await.expect("a dump");
    server.sql("shop", "DELETE FROM goods");
    run.restore(&driver, &record).await.expect("a restore");
    assert_eq!(server.sql("shop", "SELECT a FROM goods"), "42");
}

/// Why nobody is let in.
async fn refused(server: &MysqlServer, labels: &MysqlLabels) -> String {
    let run = MysqlRun::new(&engine().await).await;
    let driver = run.driver(server, labels).await;
    driver.targets().await.unwrap_err().to_string()
}

/// What the server remembers of passwords that were right is gone: the next login has to go all the way.
fn forget_logins(server: &MysqlServer) {
    server.sql("", "FLUSH PRIVILEGES");
}

#[tokio::test]
async fn caching_sha2_password_over_the_socket_and_over_tcp_with_and_without_tls() {
    for tls in [true, false] {
        let without_tls = tempfile::tempdir().unwrap();
        let file = without_tls.path().join("no-tls.cnf");
        std::fs::write(&file, "[mysqld]\ntls_version=\n").unwrap();
        let mount = format!("{}:/etc/mysql/conf.d/zzz-no-tls.cnf:ro", file.display());
        let options: &[&str] = if tls { &[] } else { &["-v", &mount] };
        let server = shop(MYSQL, options);
        let plugin = "SELECT DISTINCT plugin FROM mysql.user WHERE user = 'root'";
        assert_eq!(server.sql("", plugin), "caching_sha2_password");
        let has_tls = "SELECT COUNT(*) > 0 FROM performance_schema.tls_channel_status \
                       WHERE PROPERTY = 'Enabled' AND VALUE = 'Yes' AND CHANNEL = 'mysql_main'";
        assert_eq!(server.sql("", has_tls), i32::from(tls).to_string());
        for port in [None, Some(3306)] {
            forget_logins(&server);
            let labels = MysqlLabels {
                port,
                ..mysql::labels(&["shop"])
            };
            comes_back(&server, &labels).await;
        }
    }
}

/// Debian's way, and that of MariaDB's own packages: who is root of the system is root of the server.
#[tokio::test]
async fn unix_socket_lets_root_in_without_a_password() {
    let empty = ["-e", "MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1"];
    let server = MysqlServer::start_with(MARIADB, &empty);
    let by_socket = "ALTER USER root@localhost IDENTIFIED VIA unix_socket; \
                     DELETE FROM mysql.global_priv WHERE User = 'root' AND Host <> 'localhost'; FLUSH PRIVILEGES";
    server
        .container
        .sh(&format!("mariadb -uroot -e \"{by_socket}\""));
    server.make("shop", "", SHOP);
    comes_back(&server, &mysql::labels(&["shop"])).await;

    // Others may be root when they say that they are.
    let as_mysql = |exec_user: &str| MysqlLabels {
        exec_user: Some(exec_user.to_owned()),
        ..mysql::labels(&["shop"])
    };
    let error = refused(&server, &as_mysql("mysql")).await;
    assert!(
        error.contains("Access denied for user 'root'@'localhost'")
            && error.contains("cofferdam.mysql.exec-user"),
        "{error}"
    );
    comes_back(&server, &as_mysql("root")).await;
}

#[tokio::test]
async fn ed25519_over_the_socket_and_over_tcp() {
    let server = shop(MARIADB, &[]);
    server.sql(
        "",
        "INSTALL SONAME 'auth_ed25519'; CREATE USER saver@'%' IDENTIFIED VIA ed25519 USING PASSWORD('weak one'); \
         GRANT ALL ON *.* TO saver@'%'",
    );
    server.container.sh("echo 'weak one' >/run/saver");
    for port in [None, Some(3306)] {
        let labels = MysqlLabels {
            user: Some("saver".to_owned()),
            password_file: Some("/run/saver".to_owned()),
            port,
            ..mysql::labels(&["shop"])
        };
        comes_back(&server, &labels).await;
    }
}

/// Where clients lack what a user's plugin needs, there is another user.
#[tokio::test]
async fn a_plugin_that_the_clients_do_not_have_is_told() {
    let server = shop(MARIADB, &[]);
    server.sql(
        "",
        "INSTALL SONAME 'auth_ed25519'; CREATE USER saver@'%' IDENTIFIED VIA ed25519 USING PASSWORD('weak one')",
    );
    server
        .container
        .sh("echo 'weak one' >/run/saver; rm /usr/lib/*/libmariadb3/plugin/client_ed25519.so");
    let labels = MysqlLabels {
        user: Some("saver".to_owned()),
        password_file: Some("/run/saver".to_owned()),
        ..mysql::labels(&["shop"])
    };
    let error = refused(&server, &labels).await;
    assert!(
        error.contains("cannot log in as saver the way the server wants"),
        "{error}"
    );
}

/// Runs SQL in the shop as the system's user `postgres`, whom every server here lets in.
fn psql(server: &PostgresServer, sql: &str) -> String {
    let exec = ["exec", "-u", "postgres", &server.container.id];
    let psql = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", &server.user];
    docker([&exec[..], &psql, &["-d", "shop", "-c", sql]].concat())
}

async fn postgres_comes_back(server: &PostgresServer, labels: &PostgresLabels) {
    let run = Run::new(&engine().await).await;
    let driver = run.driver(server, labels).await;
    for target in driver.targets().await.expect("targets").targets {
        let record = run.dump(&driver, &target.id).await.expect("a dump");
        run.restore(&driver, &record).await.expect("a restore");
    }
}

#[tokio::test]
async fn scram_sha_256_over_the_socket_and_over_tcp() {
    let options = [
        "-e",
        "POSTGRES_PASSWORD=s3cret",
        "-e",
        "POSTGRES_DB=shop",
        "-e",
        "POSTGRES_INITDB_ARGS=--auth=scram-sha-256",
        "-e",
        "PGPASSFILE=/nowhere",
    ];
    for arguments in [&[][..], &["-c", "unix_socket_directories="]] {
        let server = PostgresServer::start_with("15", "admin", &options, arguments);
        let stored = "SELECT left(rolpassword, 14) FROM pg_authid WHERE rolname = 'admin'";
        let connection = "host=127.0.0.1 user=admin dbname=shop password=s3cret";
        let psql = [
            "exec",
            &server.container.id,
            "psql",
            "-XAtq",
            "-d",
            connection,
            "-c",
        ];
        let sql = |sql: &str| docker([&psql[..], &[sql]].concat());
        assert_eq!(sql(stored), "SCRAM-SHA-256$");
        sql("CREATE TABLE goods AS SELECT 42 AS a");
        postgres_comes_back(&server, &PostgresLabels::default()).await;
        assert_eq!(sql("SELECT a FROM goods"), "42");
    }
}

/// Bitnami's images have variables of their own, and anybody may have another.
#[tokio::test]
async fn variables_of_other_images_hold_the_password() {
    let engine = engine().await;
    let made = [
        "-e",
        "POSTGRES_PASSWORD=s3cret",
        "-e",
        "POSTGRES_INITDB_ARGS=--auth=scram-sha-256",
    ];
    let server = PostgresServer::start("15", "postgres", &made);
    let made = "psql 'user=postgres password=s3cret host=127.0.0.1' -c \"CREATE ROLE app LOGIN PASSWORD 'weak'\"";
    server.container.sh(made);
    server.container.sh("echo s3cret > /run/password");
    let container = server.inspect(&engine).await;
    let app = [
        ("POSTGRESQL_USERNAME", "app"),
        ("POSTGRESQL_PASSWORD", "weak"),
    ];
    let variable = |user: Option<&str>| PostgresLabels {
        user: user.map(str::to_owned),
        password_variable: Some("DB_PASSWORD".to_owned()),
        ..PostgresLabels::default()
    };
    let none = PostgresLabels::default();
    for (environment, labels, user) in [
        (vec![("POSTGRESQL_PASSWORD", "s3cret")], &none, "postgres"),
        (app.to_vec(), &none, "app"),
        (
            [&app[..], &[("POSTGRESQL_POSTGRES_PASSWORD", "s3cret")]].concat(),
            &none,
            "postgres",
        ),
        (
            [
                &app[..],
                &[("POSTGRESQL_POSTGRES_PASSWORD_FILE", "/run/password")],
            ]
            .concat(),
            &none,
            "postgres",
        ),
        (
            vec![("POSTGRESQL_ADMIN_PASSWORD", "s3cret")],
            &none,
            "postgres",
        ),
        (
            vec![("DB_PASSWORD", "s3cret"), ("POSTGRES_PASSWORD", "no")],
            &variable(None),
            "postgres",
        ),
        (vec![("DB_PASSWORD", "weak")], &variable(Some("app")), "app"),
    ] {
        let mut container = container.clone();
        container
            .env
            .retain(|name, _| !name.starts_with("POSTGRES"));
        let more = environment
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        container.env.extend(more);
        let server = Server::connect(&engine, &container, labels).await;
        let server = server.unwrap_or_else(|error| panic!("{environment:?}: {error}"));
        assert_eq!(server.facts.user, user, "{environment:?}");
    }
    let error = Server::connect(&engine, &container, &variable(None))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("cofferdam.postgres.password-variable names a variable")
            && !error.contains("DB_PASSWORD"),
        "{error}"
    );
}

#[tokio::test]
async fn a_variable_of_the_container_holds_the_password() {
    let server = shop(MARIADB, &["-e", "SAVERS_WORD=weak one"]);
    server.sql(
        "",
        "CREATE USER saver@'%' IDENTIFIED BY 'weak one'; GRANT ALL ON *.* TO saver@'%'",
    );
    let labels = MysqlLabels {
        user: Some("saver".to_owned()),
        password_variable: Some("SAVERS_WORD".to_owned()),
        ..mysql::labels(&["shop"])
    };
    comes_back(&server, &labels).await;
}

/// Who is `postgres` of the system is `postgres` of the server, and nobody else comes in.
#[tokio::test]
async fn peer_by_the_user_that_the_label_names() {
    let server = PostgresServer::start(
        "15",
        "postgres",
        &[
            "-e",
            "POSTGRES_PASSWORD=unused",
            "-e",
            "POSTGRES_DB=shop",
            "-e",
            "POSTGRES_INITDB_ARGS=--auth-local=peer --auth-host=reject",
        ],
    );
    psql(&server, "CREATE TABLE goods AS SELECT 42 AS a");
    let run = Run::new(&engine().await).await;
    let driver = run.driver(&server, &PostgresLabels::default()).await;
    let error = driver.targets().await.unwrap_err().to_string();
    assert!(
        error.contains("Peer authentication failed")
            && error.contains("cofferdam.postgres.exec-user"),
        "{error}"
    );
    let labels = PostgresLabels {
        databases: Selection::Names(vec!["shop".to_owned()]),
        exec_user: Some("postgres".to_owned()),
        ..PostgresLabels::default()
    };
    postgres_comes_back(&server, &labels).await;
    assert_eq!(psql(&server, "SELECT a FROM goods"), "42");
    assert_eq!(server.left_behind(&[]), "");
}
