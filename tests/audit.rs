//! What `plan` says of database servers that nothing saves, on servers that run.

use serde_json::{Value, json};

use crate::support::mysql::{MARIADB, MysqlServer, PASSWORD};
use crate::support::proxy::{Fault, FaultProxy};
use crate::support::stack::{Run, TOOLBOX, TestStack, compose_volume};
use crate::support::{TestContainer, docker};

/// Runs as `java`, as far as anybody can see, with the main class of the server.
const ELASTICSEARCH: &str = "cp /bin/bash /tmp/java && exec /tmp/java -c 'sleep 600; :' \
    -Xmx1g org.elasticsearch.server/org.elasticsearch.bootstrap.Elasticsearch";

/// Its image asks for a volume where a server would keep its data.
const OF_THE_CLIENT: &str = "cofferdam.files.data: /var/lib/postgresql/data";

/// The plan, as programs read it, of an engine that is asked through `proxy`.
fn plan(stack: &TestStack, proxy: &FaultProxy) -> Value {
    plan_with(stack, proxy, &["plan", "--json"])
}

fn plan_with(stack: &TestStack, proxy: &FaultProxy, arguments: &[&str]) -> Value {
    let mut command = stack.command(arguments);
    command.env("DOCKER_HOST", proxy.docker_host());
    let run = Run::from(command.output().expect("cofferdam"));
    run.expect(0).json()[0].clone()
}

/// Each service with the label that the plan wants for it.
fn wanted(plan: &Value) -> Vec<(&str, &str)> {
    let findings = plan["findings"].as_array().expect("findings");
    findings
        .iter()
        .filter_map(|finding| Some((finding["service"].as_str()?, finding["label"].as_str()?)))
        .collect()
}

fn mariadb(stack: &TestStack, mount: &str, labels: &[(&str, &str)]) -> MysqlServer {
    let password = format!("MARIADB_ROOT_PASSWORD={PASSWORD}");
    let image = format!("cofferdam-test/{MARIADB}");
    let options = ["--volume", mount, "--env", &password];
    MysqlServer::of(
        stack.service("crm-db", labels, &options, &[&image]),
        MARIADB,
    )
}

fn redis(stack: &TestStack, labels: &[(&str, &str)]) -> TestContainer {
    stack.service("broker", labels, &[], &["cofferdam-test/redis:7"])
}

#[test]
fn servers_that_nothing_saves_are_listed_until_they_have_their_label() {
    let stack = TestStack::new("audit");
    let volumes = ["pgdata", "crm", "uploads"].map(|name| compose_volume(&stack, name));
    let mount = |at: usize, place: &str| format!("{}:{place}", volumes[at].name);
    let pgdata = mount(0, "/var/lib/postgresql/data");
    let crm = mount(1, "/var/lib/mysql");
    let uploads = mount(2, "/srv/uploads");

    let postgres = stack.postgres_with("db", &[], &["--volume", &pgdata]);
    let mysql = mariadb(&stack, &crm, &[]);
    let broker = redis(&stack, &[]);
    let search = stack.service("search", &[], &[], &[TOOLBOX, "sh", "-c", ELASTICSEARCH]);
    // What only looks like one: a client of the same image, and another program in a virtual machine.
    let client = ["cofferdam-test/postgres:15", "sleep", "600"];
    let _client = stack.service("client", &[], &[], &client);
    let logstash =
        ELASTICSEARCH.replace("elasticsearch.bootstrap.Elasticsearch", "logstash.Logstash");
    let _logstash = stack.service("logstash", &[], &[], &[TOOLBOX, "sh", "-c", &logstash]);
    let disabled = [("cofferdam.enable", "false")];
    let _ignored = stack.service("ignored", &disabled, &[], &["cofferdam-test/redis:7"]);
    let _app = stack.toolbox("app", &[], &["--volume", &uploads]);

    let proxy = FaultProxy::start();
    let planned = plan(&stack, &proxy);
    assert_eq!(
        wanted(&planned),
        [
            ("broker", "cofferdam.command.rdb.dump: redis-cli --rdb -"),
            ("crm-db", r#"cofferdam.mysql: "*""#),
            ("db", r#"cofferdam.postgres: "*""#),
            ("search", r#"cofferdam.elasticsearch: "*""#),
            ("app", "cofferdam.volumes: uploads"),
            ("client", OF_THE_CLIENT),
        ]
    );
    assert_eq!(planned["warnings"], json!([]));
    let seen = proxy.seen().join("\n");
    assert!(
        seen.contains("/top") && !seen.contains("/exec"),
        "nobody opted in, and nobody was asked: {seen}"
    );

    let dry_run = stack.cofferdam(&["backup", "--dry-run"]).expect(0).stdout;
    assert_eq!(dry_run, stack.cofferdam(&["plan"]).expect(0).stdout);
    for line in [
        r#"db: nothing saves its PostgreSQL server; to fix this, add the label `cofferdam.postgres: "*"`"#,
        "broker: nothing saves its Redis server; to fix this, add the label `cofferdam.command.rdb.dump: redis-cli --rdb -` \
         (see docs/recipes.md",
    ] {
        assert!(dry_run.contains(line), "{line} is not in:\n{dry_run}");
    }

    drop((postgres, mysql, broker, search));
    let labels = [("cofferdam.postgres", "*")];
    let _postgres = stack.postgres_with("db", &labels, &["--volume", &pgdata]);
    let _mysql = mariadb(&stack, &crm, &[("cofferdam.mysql", "*")]);
    let labels = [
        ("cofferdam.skip", "queues are filled again"),
        ("cofferdam.hook.after-restore", "true"),
    ];
    let _broker = redis(&stack, &labels);
    let planned = plan(&stack, &proxy);
    assert_eq!(
        wanted(&planned),
        [
            ("app", "cofferdam.volumes: uploads"),
            ("client", OF_THE_CLIENT)
        ]
    );
}

/// A proxy that does not let `top` through, and a server that does not run: the environment has to do.
#[test]
fn what_cannot_be_seen_is_told_and_guessed_at() {
    let stack = TestStack::new("audit-blind");
    let pgdata = compose_volume(&stack, "pgdata");
    let mount = format!("{}:/var/lib/postgresql/data", pgdata.name);
    let postgres = stack.postgres_with("db", &[], &["--volume", &mount]);
    // Its image asks for a volume, and its environment speaks of a server.
    let client = ["cofferdam-test/postgres:15", "sleep", "600"];
    let _client = stack.service("client", &[], &[], &client);

    let blind = FaultProxy::start();
    blind.on("GET", "**/containers/*/top", Fault::Refuse);
    let planned = plan_with(&stack, &blind, &["plan", "--no-audit", "--json"]);
    assert_eq!(planned.get("findings"), None, "nobody looked");
    let seen = blind.seen().join("\n");
    assert!(
        !seen.contains("/top"),
        "and the engine lists nothing: {seen}"
    );

    let planned = plan(&stack, &blind);
    let label = r#"cofferdam.postgres: "*""#;
    assert_eq!(wanted(&planned), [("db", label), ("client", OF_THE_CLIENT)]);
    let warning = planned["warnings"][0].as_str().expect("a warning");
    assert!(
        warning.contains("cannot tell which databases run in client, db"),
        "{warning}"
    );
    assert!(warning.contains("403"), "{warning}");

    docker(["stop", &postgres.container.id]);
    let planned = plan(&stack, &FaultProxy::start());
    assert_eq!(wanted(&planned), [("db", label), ("client", OF_THE_CLIENT)]);
    assert_eq!(planned["warnings"], json!([]));
}
