//! Caches and search indexes that a restore leaves as they are: what plan and report say of them, and the hook that flushes one.

use serde_json::{Value, json};

use crate::support::stack::{TOOLBOX, TestStack, eventually};
use crate::support::{TestContainer, docker_succeeds};

const LEFT_OUT: (&str, &str) = ("cofferdam.skip", "can be had anew");
const OLD_ANSWERS: &str = "may serve stale data after a restore";

/// A container in which a process of this name runs, as far as anybody can see.
fn running_as(
    stack: &TestStack,
    service: &str,
    process: &str,
    labels: &[(&str, &str)],
) -> TestContainer {
    let script =
        format!("cp /bin/sleep /tmp/{process}; trap 'exit 0' TERM; /tmp/{process} infinity & wait");
    let labels = [&[LEFT_OUT], labels].concat();
    let started = stack.service(service, &labels, &[], &[TOOLBOX, "bash", "-c", &script]);
    eventually("it runs", || {
        docker_succeeds([
            "exec",
            &started.id,
            "sh",
            "-c",
            &format!("grep -qs {process} /proc/[0-9]*/comm"),
        ])
    });
    started
}

fn redis(stack: &TestStack, labels: &[(&str, &str)]) -> TestContainer {
    let labels = [&[LEFT_OUT], labels].concat();
    let redis = stack.service("redis", &labels, &[], &["cofferdam-test/redis:7"]);
    eventually("redis keeps an answer", || {
        docker_succeeds(["exec", &redis.id, "redis-cli", "set", "page", "old"])
    });
    redis
}

/// Each service with the label that the plan wants for it.
fn wanted(plan: &Value) -> Vec<(&str, &str)> {
    let findings = plan["findings"].as_array().expect("findings").iter();
    let told = findings
        .filter_map(|finding| Some((finding["service"].as_str()?, finding["label"].as_str()?)));
    told.collect()
}

#[test]
fn a_cache_that_nothing_flushes_is_told_until_a_hook_flushes_it() {
    let stack = TestStack::new("cache");
    let labels = [
        ("cofferdam.sqlite", "/srv/app.db"),
        ("cofferdam.files.version", "/etc/debian_version"),
        ("cofferdam.volumes.skip", "/srv"),
        ("cofferdam.stop", "restore"),
    ];
    let app = stack.toolbox("app", &labels, &["--volume", "/srv"]);
    app.sh(r#"python3 -c 'import sqlite3; sqlite3.connect("/srv/app.db").execute("CREATE TABLE a (n)")'"#);
    let redis_left_alone = redis(&stack, &[]);
    let pages = running_as(&stack, "pages", "memcached", &[]);
    let search = running_as(&stack, "search", "meilisearch", &[]);

    let plan = stack.cofferdam(&["plan", "--json"]).expect(0).json();
    assert_eq!(
        wanted(&plan[0]),
        [
            ("pages", "cofferdam.stop: restore"),
            (
                "redis",
                "cofferdam.hook.after-restore: sh -c 'redis-cli FLUSHALL | grep -x OK'"
            ),
            ("search", "cofferdam.hook.after-restore: COMMAND"),
        ]
    );
    stack.cofferdam(&["backup"]).expect(0);
    let dry_run = ["restore", "latest", "--dry-run"];
    let planned = stack.cofferdam(&dry_run).expect(0).stdout;
    for service in [
        "redis: its Redis",
        "pages: its Memcached",
        "search: its Meilisearch",
    ] {
        let told = format!("{service} {OLD_ANSWERS}");
        assert!(planned.contains(&told), "{told} is not in:\n{planned}");
    }
    let files = [
        "restore",
        "latest",
        "app/files/version",
        "--dry-run",
        "--json",
    ];
    let planned = stack.cofferdam(&files).expect(0).json();
    assert_eq!(planned["warnings"], json!([]), "no database is replaced");

    let restored = stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    let told = format!("warning: redis: its Redis {OLD_ANSWERS}");
    assert!(restored.stdout.contains(&told), "{restored:?}");
    assert_eq!(redis_left_alone.sh("redis-cli dbsize"), "1");

    drop((redis_left_alone, pages, search));
    let hook = "cofferdam.hook.after-restore";
    let flushed = redis(&stack, &[(hook, "redis-cli -e FLUSHALL")]);
    let _pages = running_as(
        &stack,
        "pages",
        "memcached",
        &[("cofferdam.stop", "restore")],
    );
    let _search = running_as(&stack, "search", "meilisearch", &[(hook, "true")]);
    let plan = stack.cofferdam(&["plan", "--json"]).expect(0).json();
    assert_eq!(wanted(&plan[0]), []);
    let restored = stack.cofferdam(&["restore", "latest", "--yes"]).expect(0);
    assert!(
        !format!("{restored:?}").contains(OLD_ANSWERS),
        "{restored:?}"
    );
    assert_eq!(flushed.sh("redis-cli dbsize"), "0");
}

/// One that refuses to forget must not pass for one that has.
#[test]
fn a_flush_that_the_server_refuses_is_told() {
    let stack = TestStack::new("cache-shut");
    let app = stack.toolbox("app", &[("cofferdam.files.word", "/srv/word")], &[]);
    app.sh("echo saved > /srv/word");
    let hook = ("cofferdam.hook.after-restore", "redis-cli -e FLUSHALL");
    let redis = redis(&stack, &[hook]);
    redis.sh("redis-cli config set requirepass other");
    stack.cofferdam(&["backup"]).expect(0);
    stack
        .cofferdam(&["restore", "latest", "--yes"])
        .expect_says(3, "NOAUTH");
}
