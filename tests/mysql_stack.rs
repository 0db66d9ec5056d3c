//! The whole program on a stack with a MySQL or MariaDB server.

use crate::support::mysql::{MARIADB, MYSQL, MysqlServer, PASSWORD};
use crate::support::stack::{TestStack, compose_volume, files_with};

/// Rows A1 and A5, where no label says more than that the container is to be saved.
#[test]
fn a5_a_detected_server_is_saved_and_put_back() {
    for version in [MARIADB, MYSQL] {
        let stack = TestStack::new("mysql");
        let volume = compose_volume(&stack, "data");
        let mount = format!("{}:/var/lib/mysql", volume.name);
        let password = format!("MYSQL_ROOT_PASSWORD={PASSWORD}");
        let image = format!("cofferdam-test/{version}");
        let container = stack.service(
            "db",
            &[("cofferdam.enable", "true")],
            &["--volume", &mount, "--env", &password],
            &[&image],
        );
        // What counts is what runs.
        let _other = stack.service(
            "client",
            &[("cofferdam.enable", "true")],
            &[],
            &[&image, "sleep", "600"],
        );
        let server = MysqlServer::of(container, version);
        for name in ["shop", "reports"] {
            server.make(name, "", "CREATE TABLE t (a INT); INSERT INTO t VALUES (1)");
        }
        server.sql("", "CREATE USER teller@'%' IDENTIFIED BY 'a teller''s secret'; GRANT SELECT ON shop.t TO teller@'%'");
        let hash = server.sql(
            "",
            "SELECT HEX(authentication_string) FROM mysql.user WHERE User = 'teller'",
        );
        let grants = server.sql("", "SHOW GRANTS FOR teller@'%'");
        let saved = stack.cofferdam(&["backup"]).expect_says(0, "db/mysql/shop");
        let manifest = stack.manifest();
        let targets: Vec<&str> = manifest["targets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|record| record["target"].as_str().unwrap())
            .collect();
        // The server's own volume is not saved as files; that of a container without a server is.
        assert_eq!(
            targets,
            [
                "db/mysql/@users",
                "db/mysql/reports",
                "db/mysql/shop",
                "client/files/%2Fvar%2Flib%2Fmysql"
            ],
            "{version}"
        );

        server.sql("shop", "DROP TABLE t; CREATE TABLE other (a INT)");
        server.sql("", "DROP DATABASE reports; DROP USER teller@'%'");
        let restored = stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
        for name in ["shop", "reports"] {
            assert_eq!(server.sql(name, "SHOW TABLES; SELECT a FROM t"), "t\n1");
        }
        assert_eq!(server.databases(), ["reports", "shop"]);
        assert_eq!(server.sql("", "SHOW GRANTS FOR teller@'%'"), grants);
        let plain = server.sql(
            "",
            "SELECT authentication_string FROM mysql.user WHERE User = 'teller'",
        );
        for told in [
            &saved.stderr,
            &saved.stdout,
            &restored.stderr,
            &restored.stdout,
        ] {
            assert!(!told.contains(&hash) && !told.contains(&plain), "{told}");
        }
        stack
            .cofferdam(&["show", "latest"])
            .expect_says(0, "database `shop` of M");
        stack.ensure_nothing_is_left();
        let leaks = files_with(stack.directory.path(), PASSWORD);
        assert!(leaks.is_empty(), "{leaks:?}");
        assert!(!restored.stderr.contains(PASSWORD) && !restored.stdout.contains(PASSWORD));
    }
}
