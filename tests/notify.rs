//! Notifications, to servers that write down what they get.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::listener::Answer::{self, Close, Hang, Repeat, Say, With};
use crate::support::listener::{Internet, Listener};
use crate::support::program;
use crate::support::stack::Run;
use cofferdam::notify::mail::{MailSettings, Patience, Security, SmtpServer};
use cofferdam::notify::{Channel, Facts, Kind, Notice, Notifier, NotifySettings};

fn notice(kind: Kind) -> Notice {
    Notice {
        kind,
        projects: vec!["shop".to_owned()],
        title: "shop: backup failed".to_owned(),
        body: "the engine does not answer".to_owned(),
        facts: Facts::default(),
        is_overshadowed: false,
        is_remarkable: false,
        time: "2026-11-21T02:01:23Z".parse().unwrap(),
    }
}

/// With little patience.
fn notifier(urls: &[String]) -> Notifier {
    let channels = urls.iter().map(|url| Channel::parse(url, None).expect(url));
    let settings = NotifySettings {
        channels: channels.collect(),
        ..NotifySettings::default()
    };
    opened(&settings)
}

fn opened(settings: &NotifySettings) -> Notifier {
    let (notifier, unusable) = Notifier::open(settings);
    assert!(unusable.is_empty());
    notifier.with_patience(Patience {
        attempts: 3,
        limit: Duration::from_millis(500),
        pause: Duration::from_millis(20),
    })
}

fn webhook(listener: &Listener) -> String {
    format!("generic+http://127.0.0.1:{}/hook/SECRET", listener.port)
}

/// What could not be told, and how often it was tried.
async fn given_up(answers: &'static [Answer]) -> (String, usize) {
    let listener = Listener::answering(answers).await;
    let faults = notifier(&[webhook(&listener)])
        .send_all(&notice(Kind::Failure))
        .await;
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let faults = faults
        .join("\n")
        .replace(&listener.port.to_string(), "PORT");
    assert!(!faults.contains("SECRET"), "{faults}");
    (faults, listener.heard().len())
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_nothing_else() {
    let cases: [(&[Answer], usize, &str); 15] = [
        (&[Say(200, "")], 1, ""),
        (&[Say(204, "")], 1, ""),
        (&[Say(500, ""), Say(503, ""), Say(200, "")], 3, ""),
        (&[Close, Say(200, "")], 2, ""),
        (&[Hang, Say(200, "")], 2, ""),
        (&[With(429, "retry-after: 0.3\r\n"), Say(200, "")], 2, ""),
        (
            &[Say(500, "out of order")],
            3,
            "in 3 attempts: the server answered 500 Internal Server Error: out of order",
        ),
        (&[Close], 3, "in 3 attempts: error sending request"),
        (
            &[Hang],
            3,
            "in 3 attempts: it did not answer in time; check the host",
        ),
        (
            &[With(429, "retry-after: 3600\r\n")],
            1,
            "429 Too Many Requests; it asks to wait 3600 seconds",
        ),
        (
            &[Say(400, r#"{"message": "no"}"#)],
            1,
            "notification: the server answered 400 Bad Request: no",
        ),
        (&[Repeat(401)], 1, "401 Unauthorized: POST /[redacted]"),
        (
            &[Say(404, "<html>")],
            1,
            "404 Not Found; check the path in its URL",
        ),
        (
            &[With(301, "location: http://127.0.0.1:1/hook/SECRET\r\n")],
            1,
            "secrets are not sent elsewhere",
        ),
        (
            &[With(307, "location: /elsewhere\r\n"), Say(200, "")],
            1,
            "secrets are not sent elsewhere",
        ),
    ];
    for (answers, attempts, fault) in cases {
        let (faults, heard) = given_up(answers).await;
        assert_eq!(heard, attempts, "{answers:?}: {faults}");
        assert_eq!(faults.is_empty(), fault.is_empty(), "{answers:?}: {faults}");
        assert!(faults.contains(fault), "{answers:?}: {faults}");
        if !faults.is_empty() {
            assert!(
                faults.starts_with("generic+http://127.0.0.1:PORT did not accept the "),
                "{faults}"
            );
        }
    }
}

#[tokio::test]
async fn a_server_that_wants_to_be_left_alone_for_a_moment_is() {
    let listener = Listener::answering(&[With(429, "retry-after: 0.3\r\n"), Say(200, "")]).await;
    let start = Instant::now();
    let faults = notifier(&[webhook(&listener)])
        .send_all(&notice(Kind::Failure))
        .await;
    assert!(
        faults.is_empty() && start.elapsed() >= Duration::from_millis(300),
        "{faults:?}"
    );
}

#[tokio::test]
async fn one_that_is_down_keeps_nothing_from_the_others() {
    let (hangs, works) = (
        Listener::answering(&[Hang]).await,
        Listener::answering(&[Say(200, "")]).await,
    );
    let closed = "ntfy://127.0.0.1:1/SECRET?scheme=http".to_owned();
    let notifier = notifier(&[webhook(&hangs), closed, webhook(&works)]);
    let start = Instant::now();
    let sending = tokio::spawn(async move { notifier.send_all(&notice(Kind::Stale)).await });
    while works.heard().is_empty() {
        assert!(
            start.elapsed() < Duration::from_millis(400),
            "it waits for the others"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let faults = sending.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(4));
    assert_eq!(faults.len(), 2, "{faults:?}");
    let shown = faults[1].to_string();
    assert!(
        shown.starts_with("ntfy://127.0.0.1:1 did not accept") && !shown.contains("SECRET"),
        "{shown}"
    );
}

#[tokio::test]
async fn people_are_told_what_they_chose_and_signs_of_life_are_always_given() {
    let listener = Listener::answering(&[Say(200, "OK")]).await;
    let port = listener.port;
    let notifier = notifier(&[
        format!("generic+http://127.0.0.1:{port}/people"),
        format!("hc+http://127.0.0.1:{port}/check"),
    ]);
    assert!(notifier.started(&["shop".to_owned()]).await.is_empty());
    for kind in [
        Kind::Success,
        Kind::Failure,
        Kind::Recovery,
        Kind::Stale,
        Kind::Test,
    ] {
        assert!(notifier.send_all(&notice(kind)).await.is_empty());
    }
    let lines = listener.lines();
    let of = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    let pings: Vec<&String> = lines.iter().filter(|line| line.contains("check")).collect();
    assert_eq!(
        pings,
        [
            "POST /check/start",
            "POST /check",
            "POST /check/fail",
            "POST /check",
            "POST /check/fail",
            "POST /check/log"
        ]
    );
    assert_eq!(of("people"), 4, "{lines:?}");
    let heard = listener.heard();
    assert_eq!(heard[0].body, "backup begins: shop");
    assert!(
        heard[0].headers.contains("user-agent: cofferdam/"),
        "{heard:?}"
    );
    let failed = heard
        .iter()
        .find(|one| one.line == "POST /check/fail")
        .unwrap();
    assert_eq!(
        failed.body,
        "shop: backup failed\n\nthe engine does not answer"
    );
}

#[tokio::test]
async fn a_start_that_does_not_arrive_is_tried_once() {
    let listener = Listener::answering(&[Hang]).await;
    let notifier = notifier(&[format!("hc+http://127.0.0.1:{}/SECRET", listener.port)]);
    let faults = notifier.started(&[]).await;
    assert!(
        faults[0].to_string().contains("it did not answer in time"),
        "{faults:?}"
    );
    assert_eq!(listener.heard().len(), 1);
}

#[tokio::test]
async fn a_mail_server_that_never_speaks_is_given_up() {
    let listener = Listener::answering(&[Hang]).await;
    let settings = NotifySettings {
        mail: Some(MailSettings {
            server: SmtpServer {
                host: "127.0.0.1".to_owned(),
                port: listener.port,
                security: Security::Plain,
            },
            login: None,
            ca_file: None,
            from: "cofferdam@example.org".parse().unwrap(),
            to: vec!["ops@example.org".parse().unwrap()],
        }),
        ..NotifySettings::default()
    };
    let start = Instant::now();
    let faults = opened(&settings).send_all(&notice(Kind::Failure)).await;
    assert!(start.elapsed() < Duration::from_secs(4));
    assert!(
        faults[0]
            .to_string()
            .contains("did not accept the mail in 3 attempts"),
        "{faults:?}"
    );
}

/// Without an engine.
fn cofferdam(repository: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    Command::new(program())
        .args(arguments)
        .arg("--repository")
        .arg(repository)
        .env("DOCKER_HOST", "tcp://127.0.0.1:1")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("cofferdam")
        .into()
}

const EVERYTHING: [&str; 8] = [
    "slack://hook:T0SECRET1-B0SECRET2-SECRET3@webhook",
    "slack://xoxb:1-2-SECRET4@C0123",
    "discord://SECRET5@693853386302554172",
    "telegram://110201543:SECRET6@telegram?chats=@backups",
    "ntfy://me:SECRET7@ntfy.example.org/SECRET8",
    "gotify://gotify.example.org/SECRET9",
    "generic://user:SECRETa@hooks.example.org/SECRETb?x=SECRETc&@authToken=SECRETd&$field=SECRETe",
    "hc+https://hc-ping.com/SECRETf",
];

/// Tells everything everywhere, and logs all that it can.
async fn notify_test(internet: &Internet, ca_file: &Path) -> Run {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), EVERYTHING.join("\n") + "\n").unwrap();
    let variables = [
        (
            "HTTPS_PROXY",
            format!("http://127.0.0.1:{}", internet.proxy.port),
        ),
        ("NO_PROXY", String::new()),
        ("COFFERDAM_NOTIFY_CA_FILE", ca_file.display().to_string()),
        ("COFFERDAM_NOTIFY_FILE", file.path().display().to_string()),
    ];
    let run = tokio::task::spawn_blocking(move || {
        let variables = variables.each_ref();
        let variables = variables.map(|(name, value)| (*name, value.as_str()));
        let command = ["check", "--notify-test", "--log", "trace"];
        cofferdam(Path::new("/nowhere"), &command, &variables)
    });
    run.await.unwrap()
}

#[tokio::test]
async fn every_service_is_reached_where_it_is_with_what_it_wants() {
    let internet = Internet::answering(&[Say(200, "ok")]).await;
    let run = notify_test(&internet, internet.ca_file.path()).await;
    let run = run.expect(0);
    assert_eq!(run.stderr, "");
    let mut heard: Vec<String> = internet
        .proxy
        .heard()
        .iter()
        .map(|one| format!("{} {}", one.server, one.line))
        .collect();
    heard.sort();
    assert_eq!(
        heard,
        [
            "https://api.telegram.org POST /bot110201543:SECRET6/sendMessage",
            "https://discord.com POST /api/webhooks/693853386302554172/SECRET5",
            "https://gotify.example.org POST /message",
            "https://hc-ping.com POST /SECRETf/log",
            "https://hooks.example.org POST /SECRETb?x=SECRETc",
            "https://hooks.slack.com POST /services/T0SECRET1/B0SECRET2/SECRET3",
            "https://ntfy.example.org POST /",
            "https://slack.com POST /api/chat.postMessage",
        ]
    );
    for (server, header) in [
        (
            "https://slack.com",
            "authorization: Bearer xoxb-1-2-SECRET4\n",
        ),
        ("https://ntfy.example.org", "authorization: Basic "),
        ("https://gotify.example.org", "x-gotify-key: SECRET9\n"),
        ("https://hooks.example.org", "auth-token: SECRETd\n"),
    ] {
        let all = internet.proxy.heard();
        let one = all.iter().find(|one| one.server == server).unwrap();
        assert!(one.headers.contains(header), "{one:?}");
        assert!(one.body.contains("notifications arrive"), "{one:?}");
    }
}

#[tokio::test]
async fn no_secret_is_logged_whatever_a_server_says() {
    let repeats = Internet::answering(&[Repeat(403)]).await;
    let refused = notify_test(&repeats, repeats.ca_file.path()).await;
    let refused = refused.expect(1);
    assert_eq!(repeats.proxy.heard().len(), EVERYTHING.len());
    let repeated = refused.stderr.matches("403 Forbidden: ").count();
    assert_eq!(repeated, EVERYTHING.len(), "{refused:?}");

    let closes = Internet::answering(&[Close]).await;
    let given_up = notify_test(&closes, closes.ca_file.path()).await;
    let given_up = given_up.expect_says(1, "trying again");
    assert_eq!(closes.proxy.heard().len(), 3 * EVERYTHING.len());
    for run in [refused, given_up] {
        let said = format!("{}{}", run.stdout, run.stderr).to_lowercase();
        assert!(!said.contains("secret"), "{said}");
    }
}

#[tokio::test]
async fn a_server_for_whom_nobody_vouches_gets_nothing() {
    let internet = Internet::answering(&[Say(200, "ok")]).await;
    let other = Internet::answering(&[Say(200, "ok")]).await;
    let run = notify_test(&internet, other.ca_file.path()).await;
    let run = run.expect_says(1, "set COFFERDAM_NOTIFY_CA_FILE to");
    assert!(!run.stderr.contains("attempts"), "{run:?}");
    assert!(internet.proxy.heard().is_empty());

    let run = notify_test(&internet, Path::new("/no/such/file")).await;
    run.expect_says(1, "check COFFERDAM_NOTIFY_CA_FILE");
}

#[tokio::test]
async fn commands_tell_what_becomes_of_them() {
    let listener = Listener::answering(&[Say(200, "OK")]).await;
    let place = tempfile::tempdir().unwrap();
    let urls = format!(
        "generic+http://127.0.0.1:{0}/people?template=%7B%22text%22:%22%7B%7Bkind%7D%7D%20%7B%7Btitle%7D%7D%22%7D,\
         hc+http://127.0.0.1:{0}/check",
        listener.port
    );
    let repository = place.path().to_owned();
    let runs = tokio::task::spawn_blocking(move || {
        let run = |arguments: &[&str], variable: &str| {
            let variables = [(variable, urls.as_str())];
            cofferdam(&repository, arguments, &variables)
        };
        run(&["check", "--project", "shop"], "COFFERDAM_NOTIFY").expect(4);
        run(&["backup", "--project", "shop", "--notify", &urls], "X").expect(1);
        // Nobody is told about a question.
        run(
            &["backup", "--project", "shop", "--dry-run"],
            "COFFERDAM_NOTIFY",
        )
        .expect(1);
        run(&["check", "--notify-test"], "X")
            .expect_says(2, "no notification target is configured");
    });
    runs.await.unwrap();
    let heard = listener.heard();
    let mut told: Vec<String> = heard
        .iter()
        .filter(|one| one.line.starts_with("POST /people"))
        .map(|one| one.body.clone())
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            r#"{"text":"failure shop: backup failed"}"#,
            r#"{"text":"stale shop: no snapshots"}"#
        ]
    );
    let pings: Vec<&str> = heard
        .iter()
        .map(|one| one.line.as_str())
        .filter(|line| line.contains("/check"))
        .collect();
    assert_eq!(pings, ["POST /check/fail", "POST /check/fail"]);
}

#[test]
fn what_is_wrong_with_a_setting_is_said_at_the_start_without_it() {
    let nowhere = Path::new("/nowhere");
    let template = ("COFFERDAM_NOTIFY_TEMPLATE", "{{titel}}");
    let webhook = ("COFFERDAM_NOTIFY", "generic://host/SECRET");
    for (variables, words) in [
        (
            &[("COFFERDAM_NOTIFY", "slack://SECRET@webhook")] as &[_],
            "COFFERDAM_NOTIFY has no Slack token; write `slack://hook:A-B-C@webhook`",
        ),
        (
            &[("COFFERDAM_NOTIFY", "ntfy://ntfy.sh/x,generic://SECRET@")],
            "COFFERDAM_NOTIFY (URL 2) has no host; write `generic+https://HOST/PATH`",
        ),
        (
            &[("COFFERDAM_NOTIFY_ON", "sucess")],
            "COFFERDAM_NOTIFY_ON has `sucess`, which is not an event; did you mean `success`?",
        ),
        (
            &[template, webhook],
            "COFFERDAM_NOTIFY_TEMPLATE has the unknown placeholder `{{titel}}`; did you mean `{{title}}`?",
        ),
        (
            &[("COFFERDAM_NOTIFY_TEMPLATE", "SECRET {{title}}"), webhook],
            "COFFERDAM_NOTIFY has COFFERDAM_NOTIFY_TEMPLATE[_FILE] as its template, which is not JSON",
        ),
        (
            &[("COFFERDAM_NOTIFY_FILE", "/no/such/file")],
            "COFFERDAM_NOTIFY_FILE names /no/such/file, which cannot be read",
        ),
    ] {
        let run = cofferdam(nowhere, &["backup"], variables).expect_says(2, words);
        assert!(!run.stderr.contains("SECRET"), "{run:?}");
    }
    let run = cofferdam(
        nowhere,
        &["backup", "--notify", "hc+https://SECRET:SECRET@h/x"],
        &[],
    );
    let run = run.expect_says(2, "--notify has a user or a password");
    assert!(!run.stderr.contains("SECRET"), "{run:?}");
}
