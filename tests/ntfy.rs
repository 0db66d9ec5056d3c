//! Notifications to a real ntfy, read back by ntfy's own client.

use serde_json::Value;

use crate::support::stack::{PASSWORD, Run, TestStack, eventually};
use crate::support::{TestContainer, docker, docker_succeeds};

const IMAGE: &str = "cofferdam-test/ntfy:2";

struct Ntfy(TestContainer);

impl Ntfy {
    fn start() -> Self {
        assert!(
            docker_succeeds(["image", "inspect", IMAGE]),
            "there is no image {IMAGE}: run scripts/test-images.sh ntfy"
        );
        let server = Self(TestContainer::running(
            &["--publish", "127.0.0.1::80"],
            &[IMAGE],
        ));
        eventually("ntfy runs", || {
            let log = ["sh", "-c", &format!("docker logs {} 2>&1", server.0.id)];
            let log = std::process::Command::new(log[0]).args(&log[1..]).output();
            String::from_utf8_lossy(&log.expect("a log").stdout).contains("Listening on")
        });
        server
    }

    /// `login` is what stands before the `@`.
    fn url(&self, login: &str, rest: &str) -> String {
        let published = docker(["port", &self.0.id, "80"]);
        let (_, port) = published.rsplit_once(':').expect("a port");
        format!("ntfy://{login}@127.0.0.1:{port}/{rest}")
    }

    /// A new access token.
    fn token(&self) -> String {
        let said = self.0.sh("ntfy token add ops 2>&1");
        let token = said.split_whitespace().find(|word| word.starts_with("tk_"));
        token.unwrap_or_else(|| panic!("{said}")).to_owned()
    }

    fn messages(&self, topic: &str) -> Vec<Value> {
        let said = self.0.sh(&format!(
            "ntfy subscribe --poll --user ops:{PASSWORD} http://localhost/{topic} 2>/dev/null"
        ));
        let messages = said.lines().map(serde_json::from_str);
        messages.collect::<Result<_, _>>().expect("JSON")
    }
}

fn notify_test(url: &str) -> Run {
    let stack = TestStack::new("ntfy");
    let mut command = stack.command(&["check", "--notify-test"]);
    command.env("COFFERDAM_NOTIFY", url);
    command.output().expect("cofferdam").into()
}

#[test]
fn it_takes_what_it_is_told_with_each_kind_of_login() {
    let ntfy = Ntfy::start();
    let options = "scheme=http&priority=high&tags=floppy_disk,shop&click=https://example.org/";
    let password = ntfy.url(&format!("ops:{PASSWORD}"), &format!("backups?{options}"));
    assert_eq!(notify_test(&password).expect(0).stderr, "");
    let token = ntfy.url(&format!(":{}", ntfy.token()), "backups?scheme=http");
    assert_eq!(notify_test(&token).expect(0).stderr, "");

    let messages = ntfy.messages("backups");
    assert_eq!(messages.len(), 2, "{messages:?}");
    for message in &messages {
        let (title, body) = (&message["title"], &message["message"]);
        assert!(
            title.as_str().unwrap().ends_with(": notifications arrive"),
            "{title}"
        );
        assert!(
            body.as_str().unwrap().starts_with("Notifications from"),
            "{body}"
        );
    }
    assert_eq!(messages[0]["priority"], 4);
    assert_eq!(
        messages[0]["tags"],
        serde_json::json!(["floppy_disk", "shop"])
    );
    assert_eq!(messages[0]["click"], "https://example.org/");
}

#[test]
fn what_it_refuses_is_said_in_its_own_words() {
    let ntfy = Ntfy::start();
    let wrong = ntfy.url("ops:wrong-password", "backups?scheme=http");
    let run = notify_test(&wrong).expect_says(
        1,
        "401 Unauthorized: unauthorized; check the token or login in its URL",
    );
    assert!(!run.stderr.contains("wrong-password"), "{run:?}");
    assert!(!run.stderr.contains("attempts"), "{run:?}");
}

/// Nothing becomes an attachment, and nothing is refused, for its length.
#[test]
fn a_long_report_is_cut_to_what_it_takes() {
    let ntfy = Ntfy::start();
    let stack = TestStack::new("long");
    let missing = |number| {
        let label = format!("cofferdam.files.missing-{number:02}");
        (label, format!("/no/such/path/as/{number}"))
    };
    let labels: Vec<(String, String)> = (0..60).map(missing).collect();
    let labels: Vec<(&str, &str)> = labels
        .iter()
        .map(|(key, value)| (&**key, &**value))
        .collect();
    let good = [("cofferdam.files.conf", "/etc/debian_version")];
    let labels = [&good, &labels[..]].concat();
    let _app = stack.toolbox("app", &labels, &[]);
    let url = ntfy.url(&format!("ops:{PASSWORD}"), "backups?scheme=http");
    let run = stack.cofferdam(&["backup", "--notify", &url]).expect(3);
    assert!(!run.stderr.contains("ntfy"), "{run:?}");
    let messages = ntfy.messages("backups");
    let body = messages[0]["message"].as_str().expect("text");
    assert!(body.ends_with("(cut here)"), "{body}");
    assert!(
        body.len() > 4_000 && messages[0].get("attachment").is_none(),
        "{messages:?}"
    );
}
