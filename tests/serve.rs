//! What the daemon shows over HTTP, and who may ask it for what.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::serving::{Serving, TOKEN};
use crate::support::stack::{PASSWORD, Run, TestStack, compose_volume, eventually};
use crate::support::web::{Answer, ask, basic, bearer};
use crate::support::{TestContainer, TestVolume};

struct Store {
    _container: TestContainer,
    volume: TestVolume,
}

/// A service with a volume, in which one file lies.
fn store(stack: &TestStack, service: &str, labels: &[(&str, &str)]) -> Store {
    let volume = compose_volume(stack, service);
    let mount = format!("{}:/data", volume.name);
    let container = stack.toolbox(service, labels, &["--volume", &mount]);
    container.sh("echo saved > /data/word");
    Store {
        _container: container,
        volume,
    }
}

fn saved(stack: &TestStack, service: &str) -> Store {
    store(stack, service, &[("cofferdam.volumes", service)])
}

#[test]
fn who_has_the_token_asks_for_a_backup_and_sees_what_came_of_it() {
    let stack = TestStack::new("asked");
    let _db = saved(&stack, "db");
    let daemon = Serving::start(&stack);
    let url = format!("POST /backup?project={}", stack.project);
    eventually("labels are read", || {
        daemon.ask("POST /backup?project=none").status != 503
    });

    let asked = |headers: &[(&str, &str)]| ask(daemon.port, &url, headers);
    for headers in [
        &[][..],
        &[("Authorization", "Bearer wrong")],
        &[("Authorization", &basic(&format!("ops:{TOKEN}")))],
        &[("Cookie", TOKEN)],
    ] {
        let answer = asked(headers);
        assert_eq!(answer.status, 401, "{headers:?}");
        assert!(
            answer.headers.contains("www-authenticate: bearer"),
            "{answer:?}"
        );
        assert!(answer.error().contains("Authorization: Bearer"));
    }
    for (request, status, why) in [
        ("POST /backup?project=nobody", 404, stack.project.as_str()),
        ("POST /backup?projekt=x", 400, "?project=NAME"),
        ("GET /backup", 405, "POST"),
        ("DELETE /", 405, "GET"),
        ("GET /backups", 404, "POST /backup"),
    ] {
        let answer = daemon.ask(request);
        assert_eq!(answer.status, status, "{request}");
        assert!(answer.error().contains(why), "{answer:?}");
    }
    assert_eq!(stack.manifests().len(), 0);

    let answer = asked(&[("Authorization", &bearer(TOKEN))]);
    assert_eq!(
        (answer.status, answer.json()),
        (202, json!({ "asked": [stack.project] }))
    );
    eventually("a snapshot", || stack.manifests().len() == 1);
    assert!(daemon.log().contains("backing up: requested"));

    let whole = format!(
        "cofferdam_backup_last_run_success{{project=\"{}\"}}",
        stack.project
    );
    eventually("it is shown", || daemon.metric(&whole) == Some(1.0));
    let page = ask(
        daemon.port,
        "GET /",
        &[("Authorization", &basic(&format!("ops:{TOKEN}")))],
    );
    assert_eq!(page.status, 200);
    let snapshot = stack.newest_snapshot();
    let snapshot = snapshot
        .file_name()
        .and_then(|name| name.to_str())
        .expect("its id");
    for words in [
        "Everything is backed up",
        snapshot,
        "db/volume/db",
        "backing up: requested",
    ] {
        assert!(page.body.contains(words), "{words}");
    }

    // Without a name, everything that this daemon saves.
    assert_eq!(daemon.ask("POST /backup").status, 202);
    eventually("a second snapshot", || stack.manifests().len() == 2);
    assert!(!daemon.log().contains(TOKEN));
}

#[test]
fn only_whether_it_is_well_is_told_to_everybody() {
    let stack = TestStack::new("token");
    let _db = saved(&stack, "db");
    let daemon = Serving::start(&stack);
    for path in ["/", "/metrics", "/style.css", "/icon.svg", "/nothing"] {
        let answer = ask(daemon.port, &format!("GET {path}"), &[]);
        assert_eq!(answer.status, 401, "{path}");
        assert!(
            answer.headers.contains("www-authenticate: basic"),
            "{answer:?}"
        );
        assert!(!answer.body.contains(&stack.project));
    }
    let health = ask(daemon.port, "GET /healthz", &[]);
    assert_eq!(
        (health.status, health.json()),
        (200, json!({ "healthy": true }))
    );
    // What a run before it may have left is looked for first.
    eventually("it waits", || {
        daemon.ask("GET /healthz").json()["why"] == "waiting for the next backup"
    });
}

/// A page of a browser on the same host comes by a name that its site had rebound to 127.0.0.1.
#[test]
fn without_a_token_this_host_may_look_and_nobody_may_ask() {
    let stack = TestStack::new("loopback");
    let _db = saved(&stack, "db");
    let command = stack.command(&["daemon", "--schedule", "off"]);
    let daemon = Serving::of(&stack, command, None);
    let get = |path: &str, host: &str| ask(daemon.port, &format!("GET {path}"), &[("Host", host)]);
    for host in ["127.0.0.1", "localhost:1234"] {
        let page = get("/", host);
        assert_eq!(page.status, 200, "{host}");
        for header in [
            "content-security-policy: default-src 'none'; style-src 'self'",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "connection: close",
        ] {
            assert!(
                page.headers.contains(header),
                "{header} in {}",
                page.headers
            );
        }
        assert_eq!(get("/metrics", host).status, 200, "{host}");
    }
    let rebound = get("/", "rebound.example.org");
    assert_eq!(rebound.status, 403);
    assert!(rebound.error().contains("COFFERDAM_TOKEN"));
    assert_eq!(
        get("/healthz", "rebound.example.org").json(),
        json!({ "healthy": true })
    );

    let refused = ask(daemon.port, "POST /backup", &[("Authorization", "Bearer ")]);
    assert_eq!(refused.status, 403);
    assert!(refused.error().contains("COFFERDAM_TOKEN"));
}

#[test]
fn a_place_where_nobody_can_listen_ends_it_at_the_start() {
    let stack = TestStack::new("listen");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let run = |address: &str, token: Option<&str>| -> Run {
        let mut command = stack.command(&["daemon", "--listen", address]);
        if let Some(token) = token {
            command.env("COFFERDAM_TOKEN", token);
        }
        command.output().expect("cofferdam").into()
    };
    run(&address, None).expect_says(2, "which another program uses");
    run("192.0.2.1:8080", Some(TOKEN)).expect_says(2, "not an address of this host");
    for open in [":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:8080"] {
        run(open, None).expect_says(
            2,
            "set COFFERDAM_TOKEN_FILE or COFFERDAM_TOKEN (generate one with",
        );
    }
    let short = run(":0", Some("hunter2")).expect_says(2, "COFFERDAM_TOKEN has 7 characters");
    assert!(!short.stderr.contains("hunter2"));
}

/// What Prometheus itself says of a text.
#[track_caller]
fn promtool(arguments: &[&str], input: &str, directory: Option<&str>) -> String {
    let mut command = Command::new("docker");
    command.args([
        "run",
        "--rm",
        "--interactive",
        "--network",
        "none",
        "--label",
        "cofferdam.test=1",
    ]);
    if let Some(directory) = directory {
        command.args(["--volume", &format!("{directory}:/docs:ro")]);
    }
    let mut child = command
        .arg("cofferdam-test/prometheus:2")
        .arg("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("docker");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(input.as_bytes()).expect("an input");
    drop(stdin);
    let run = Run::from(child.wait_with_output().expect("its output")).expect(0);
    format!("{}{}", run.stdout, run.stderr)
}

#[test]
fn what_fails_and_what_is_not_protected_is_told_to_people_and_prometheus() {
    let stack = TestStack::new("told");
    let _good = saved(&stack, "db");
    let bare = store(&stack, "web", &[]);
    let fails = (
        "cofferdam.command.ldap.dump",
        "sh -c 'echo \"<b>no & entry</b>\" >&2; exit 3'",
    );
    let ldap = stack.toolbox("ldap", &[fails], &[]);
    let daemon = Serving::start(&stack);
    let of = |metric: &str, target: &str| {
        let project = &stack.project;
        daemon.metric(&match target {
            "" => format!("cofferdam_{metric}{{project=\"{project}\"}}"),
            target => format!("cofferdam_{metric}{{project=\"{project}\",target=\"{target}\"}}"),
        })
    };
    eventually("labels are looked at", || {
        of("unprotected", "") == Some(1.0)
    });
    assert_eq!(daemon.ask("POST /backup").status, 202);
    let (good, bad) = ("db/volume/db", "ldap/command/ldap");
    eventually("the failure is shown", || {
        of("backup_failing", bad) == Some(1.0)
    });
    eventually("what was saved is shown", || {
        of("backup_failing", good) == Some(0.0)
    });
    assert_eq!(of("backup_last_run_success", ""), Some(0.0));
    assert_eq!(of("backup_last_success_timestamp_seconds", bad), None);
    let manifest = stack.manifest();
    let record = &manifest["targets"][0];
    let stored = record["artifacts"].as_array().expect("artifacts").iter();
    let stored: f64 = stored.filter_map(|it| it["stored"]["bytes"].as_f64()).sum();
    assert_eq!(of("backup_last_stored_bytes", good), Some(stored));
    assert!(of("backup_age_seconds", good).is_some_and(|age| age < 120.0));

    let page = daemon.ask("GET /").body;
    let volume = &bare.volume.name;
    for words in [
        "Backups need attention",
        &format!("nothing saves volume {volume} at /data"),
        "cofferdam.volumes: web",
        "1 failed",
        "&lt;b&gt;no &amp; entry&lt;/b&gt;",
    ] {
        assert!(page.contains(words), "{words} in {page}");
    }
    assert!(!page.contains("<b>no"));

    let metrics = daemon.ask("GET /metrics");
    assert!(metrics.headers.contains("text/plain; version=0.0.4"));
    assert_eq!(promtool(&["check", "metrics"], &metrics.body, None), "");

    drop(ldap);
    let _ldap = stack.toolbox(
        "ldap",
        &[("cofferdam.command.ldap.dump", "echo entry")],
        &[],
    );
    assert_eq!(daemon.ask("POST /backup").status, 202);
    eventually("it is mended", || of("backup_failing", bad) == Some(0.0));
    assert_eq!(of("backup_last_run_success", ""), Some(1.0));
}

/// What the check finds is what the page and the metrics say.
#[test]
fn a_damaged_only_copy_is_not_shown_as_safe() {
    let stack = TestStack::new("damaged");
    let _db = saved(&stack, "db");
    stack.cofferdam(&["backup"]).expect(0);
    let object = stack.newest_snapshot().join("db.volume.db.tar.zst");
    std::fs::remove_file(object).expect("an object");
    let daemon = Serving::start(&stack);
    let of = |metric: &str| {
        let project = &stack.project;
        daemon.metric(&format!(
            "cofferdam_{metric}{{project=\"{project}\",target=\"db/volume/db\"}}"
        ))
    };
    eventually("the damage is found", || of("backup_damaged") == Some(1.0));
    assert_eq!(of("backup_last_success_timestamp_seconds"), None);
    let page = daemon.ask("GET /").body;
    for words in ["newest copy of 1 target is damaged", "object is missing"] {
        assert!(page.contains(words), "{words} in {page}");
    }

    assert_eq!(daemon.ask("POST /backup").status, 202);
    eventually("a new copy is good", || of("backup_damaged") == Some(0.0));
    assert!(of("backup_last_success_timestamp_seconds").is_some());
}

/// A daemon that begins knows from the repository what was before.
#[test]
fn what_was_before_is_known_and_the_password_of_a_database_is_not_shown() {
    let stack = TestStack::new("before");
    let db = stack.postgres("db", &[("cofferdam.postgres", "*")]);
    db.seed("clinical", 100);
    for _ in 0..2 {
        stack.cofferdam(&["backup"]).expect(0);
    }
    let daemon = Serving::start(&stack);
    let clinical = format!(
        "cofferdam_backup_last_success_timestamp_seconds{{project=\"{}\",target=\"db/postgres/clinical\"}}",
        stack.project
    );
    eventually("the repository is read", || {
        daemon.metric(&clinical).is_some()
    });
    let started: jiff::Timestamp = stack.manifest()["started"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("a time");
    let told = daemon.metric(&clinical).expect("a time");
    assert!((told - started.as_second() as f64).abs() <= 1.0);
    let page = || daemon.ask("GET /");
    eventually("labels are looked at", || {
        page().body.contains("database clinical")
    });
    let page = page();
    for words in ["database clinical", "<svg class=\"plot\"", "@globals"] {
        assert!(page.body.contains(words), "{words}");
    }
    for answer in [page, daemon.ask("GET /metrics")] {
        assert!(!answer.body.contains(PASSWORD));
    }
    // What is shown is kept once, however many look at it.
    let before = daemon.memory();
    let looks: Vec<Answer> = (0..200).map(|_| daemon.ask("GET /")).collect();
    assert!(looks.iter().all(|answer| answer.status == 200));
    let grown = daemon.memory().saturating_sub(before);
    assert!(grown < 4 * 1024, "200 pages have taken {grown} KiB");
}

#[test]
fn the_alert_rules_are_what_prometheus_takes_and_fire_when_they_should() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
    let told = promtool(&["check", "rules", "/docs/alert-rules.yml"], "", Some(docs));
    assert!(told.contains("SUCCESS"), "{told}");
    let test = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/alert-rules.yml");
    let directory = tempfile::tempdir().expect("a directory");
    for file in [test, &format!("{docs}/alert-rules.yml")] {
        let name = if file == test {
            "test.yml"
        } else {
            "alert-rules.yml"
        };
        fs::copy(file, directory.path().join(name)).expect("a copy");
    }
    let directory = directory.path().to_str().expect("a path");
    promtool(&["test", "rules", "/docs/test.yml"], "", Some(directory));
}

/// Every metric that the dashboard, the rules and the manual name is one that there is.
#[test]
fn the_manual_names_every_metric_and_no_other() {
    let stack = TestStack::new("manual");
    let _db = saved(&stack, "db");
    let daemon = Serving::start(&stack);
    let metrics = daemon.ask("GET /metrics").body;
    let known: std::collections::BTreeSet<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(known.len() > 10);
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
    let read = |name: &str| fs::read_to_string(format!("{docs}/{name}")).expect("a document");
    let manual = read("monitoring.md");
    for metric in &known {
        assert!(
            manual.contains(&format!("`{metric}`")),
            "{metric} is not in the manual"
        );
    }
    let dashboard = read("grafana-dashboard.json");
    let _: Value = serde_json::from_str(&dashboard).expect("JSON");
    for text in [&manual, &dashboard, &read("alert-rules.yml")] {
        let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
        for word in words.filter(|word| word.starts_with("cofferdam_")) {
            assert!(known.contains(word), "{word} is no metric");
        }
    }
}
