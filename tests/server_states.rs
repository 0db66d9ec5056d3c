//! Servers that are down, or not up yet, when a backup or a restore wants them.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::stack::{POSTGRES, TestStack, eventually};
use crate::support::{TestContainer, docker, docker_succeeds};

const PASSWORD: &str = crate::support::stack::PASSWORD;

/// Runs the server for as long as nobody keeps it down, and takes its time to start.
const SWITCH: &str = r#"#!/bin/bash
trap 'kill "$child" 2>/dev/null; wait "$child"; exit 0' TERM
while :; do
  sleep 3 & child=$!; wait "$child"
  until [ ! -e /tmp/down ]; do sleep 0.2; done
  docker-entrypoint.sh "$@" & child=$!
  wait "$child"
done
"#;

#[derive(Clone, Copy, Debug)]
enum Family {
    Postgres,
    Mariadb,
    Mysql,
}

/// A project with one server that can be down while its container runs.
struct Database {
    stack: TestStack,
    container: TestContainer,
    family: Family,
}

impl Family {
    fn image(self) -> String {
        match self {
            Self::Postgres => POSTGRES.to_owned(),
            Self::Mariadb => format!("cofferdam-test/{}", crate::support::mysql::MARIADB),
            Self::Mysql => format!("cofferdam-test/{}", crate::support::mysql::MYSQL),
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Postgres => "cofferdam.postgres",
            Self::Mariadb | Self::Mysql => "cofferdam.mysql",
        }
    }

    fn client(self) -> &'static str {
        match self {
            Self::Postgres => "psql -XAtq -h server -U postgres -d shop -c",
            Self::Mariadb => "mariadb -BN -hserver -uroot shop -e",
            Self::Mysql => "mysql -BN -hserver -uroot shop -e",
        }
    }

    fn environment(self) -> Vec<String> {
        let variables: &[&str] = match self {
            Self::Postgres => &["POSTGRES_PASSWORD", "PGPASSWORD"],
            Self::Mariadb | Self::Mysql => &["MYSQL_ROOT_PASSWORD", "MYSQL_PWD"],
        };
        let database = match self {
            Self::Postgres => "POSTGRES_DB=shop",
            Self::Mariadb | Self::Mysql => "MYSQL_DATABASE=shop",
        };
        let passwords = variables.iter().map(|name| format!("{name}={PASSWORD}"));
        passwords.chain([database.to_owned()]).collect()
    }
}

impl Database {
    fn start(family: Family) -> Self {
        let stack = TestStack::new("down");
        let switch = stack.directory.path().join("switch.sh");
        let mut file = std::fs::File::create(&switch).expect("a file");
        file.write_all(SWITCH.as_bytes()).expect("written");
        let executable = std::fs::Permissions::from_mode(0o755);
        file.set_permissions(executable).expect("permissions");
        drop(file);
        let environment = family.environment();
        let mount = format!("{}:/switch.sh:ro", switch.display());
        let mut options = vec!["--volume", &mount, "--entrypoint", "/switch.sh"];
        // By this name the server is reached over TCP only, where the one of the initialisation does not listen.
        options.extend(["--hostname", "server"]);
        for variable in &environment {
            options.extend(["--env", variable]);
        }
        let labels = [(family.label(), "shop")];
        let command = match family {
            Family::Postgres => "postgres",
            Family::Mariadb | Family::Mysql => "server",
        };
        let container = stack.service("db", &labels, &options, &[&family.image(), command]);
        let database = Self {
            stack,
            container,
            family,
        };
        database.wait();
        database.sql("CREATE TABLE goods (word VARCHAR(9)); INSERT INTO goods VALUES ('saved')");
        database
    }

    fn wait(&self) {
        eventually("the server answers", || self.succeeds("SELECT 1"));
    }

    fn argv<'a>(&'a self, sql: &'a str) -> Vec<&'a str> {
        let client = self.family.client().split(' ');
        let exec = ["exec", &self.container.id].into_iter();
        exec.chain(client).chain([sql]).collect()
    }

    fn succeeds(&self, sql: &str) -> bool {
        docker_succeeds(self.argv(sql))
    }

    fn sql(&self, sql: &str) -> String {
        docker(self.argv(sql))
    }

    fn word(&self) -> String {
        self.sql("SELECT word FROM goods")
    }

    /// The server ends, and the container runs on.
    fn take_down(&self) {
        self.container
            .sh("touch /tmp/down; kill -TERM $(cat /proc/1/task/1/children) 2>/dev/null; true");
        eventually("the server is down", || !self.succeeds("SELECT 1"));
    }

    fn put_up(&self) {
        self.container.sh("rm /tmp/down");
    }
}

fn is_waited_for_or_told(family: Family) {
    let database = Database::start(family);
    let stack = &database.stack;
    let app = stack.toolbox("app", &[("cofferdam.stop", "restore")], &[]);

    docker(["restart", "--time", "20", &database.container.id]);
    stack.cofferdam(&["backup"]).expect(0);
    database.sql("UPDATE goods SET word = 'present'");
    // Killed in the middle of its work, it has to recover first.
    docker(["kill", &database.container.id]);
    docker(["start", &database.container.id]);
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert_eq!(database.word(), "saved");

    database.sql("UPDATE goods SET word = 'present'");
    database.take_down();
    let words = "is the server in container";
    stack.cofferdam(&["backup"]).expect_says(1, words);
    let life = app.inspect("{{.State.StartedAt}}");
    stack
        .cofferdam(&["restore", "latest", "db/*/shop", "--yes"])
        .expect_says(1, words);
    stack.ensure_nothing_is_left();
    assert_eq!(
        app.inspect("{{.State.StartedAt}}"),
        life,
        "nothing was held"
    );
    database.put_up();
    database.wait();
    assert_eq!(database.word(), "present");

    docker(["stop", "--time", "20", &database.container.id]);
    let words = "is not running; start it";
    stack.cofferdam(&["backup"]).expect_says(1, words);
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(2, "start it first: docker start");
    docker(["start", &database.container.id]);
    database.wait();
    assert_eq!(database.word(), "present");
    // What was saved is as good as before.
    stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert_eq!(database.word(), "saved");
    stack.ensure_nothing_is_left();
}

/// Side by side, since most of it is waiting.
#[test]
fn servers_that_start_are_waited_for_and_those_that_are_down_are_told() {
    std::thread::scope(|scope| {
        for family in [Family::Postgres, Family::Mariadb, Family::Mysql] {
            scope.spawn(move || is_waited_for_or_told(family));
        }
    });
}
