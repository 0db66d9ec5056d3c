//! Checks of freshness, and mail about them, through a real mail server.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::stack::{Run, TestStack, eventually};
use crate::support::{TestContainer, docker, docker_succeeds, program};
use cofferdam::manifest::{
    Artifact, CommandFacts, Compression, ContainerRecord, Encryption, EngineFacts, FORMAT, Facts,
    Failure, Manifest, ObjectPath, Purpose, Role, TargetRecord, Transfer,
};
use cofferdam::notify::mail::{
    Letter, Login, MailSettings, Mailer, Password, Patience, Security, SmtpServer,
};
use cofferdam::repository::Repository as _;
use cofferdam::repository::local::LocalRepository;
use cofferdam::secret::Secret;
use cofferdam::target::{DriverKind, RunId, TargetId};
use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const IMAGE: &str = "cofferdam-test/postfix:3";
const USER: &str = "cofferdam";
const PASSWORD: &str = "tr0ub4dor and three";

/// A mail server that wants TLS and a login, and has the mailboxes `ops` and `night`.
struct Postfix {
    container: TestContainer,
    directory: TempDir,
}

impl Postfix {
    fn start() -> Self {
        assert!(
            docker_succeeds(["image", "inspect", IMAGE]),
            "there is no image {IMAGE}: run scripts/test-images.sh postfix"
        );
        let directory = tempfile::tempdir().unwrap();
        write_certificates(directory.path());
        let mount = format!("{}:/certs:ro", directory.path().display());
        let password = format!("SMTP_PASSWORD={PASSWORD}");
        let options = [
            "--volume",
            &mount,
            "--publish",
            "127.0.0.1::25",
            "--publish",
            "127.0.0.1::465",
            "--env",
            "SMTP_USER=cofferdam",
            "--env",
            &password,
        ];
        let server = Self {
            container: TestContainer::running(&options, &[IMAGE]),
            directory,
        };
        eventually("the mail server runs", || {
            let log = docker(["logs", &server.container.id]);
            log.contains("daemon started")
        });
        server
    }

    fn port(&self, inside: &str) -> u16 {
        let published = docker(["port", &self.container.id, inside]);
        let (_, port) = published.rsplit_once(':').unwrap();
        port.parse().unwrap()
    }

    fn starttls(&self) -> String {
        format!("smtp+starttls://localhost:{}", self.port("25"))
    }

    fn tls(&self) -> String {
        format!("smtps://localhost:{}", self.port("465"))
    }

    fn ca_file(&self) -> String {
        self.directory.path().join("ca.pem").display().to_string()
    }

    /// What every good client says.
    fn client(&self) -> Vec<(&'static str, String)> {
        vec![
            ("COFFERDAM_SMTP_URL", self.starttls()),
            ("COFFERDAM_SMTP_USER", USER.to_owned()),
            ("COFFERDAM_SMTP_PASSWORD", PASSWORD.to_owned()),
            ("COFFERDAM_SMTP_CA_FILE", self.ca_file()),
            (
                "COFFERDAM_MAIL_FROM",
                "Cofferdam <cofferdam@example.org>".to_owned(),
            ),
            ("COFFERDAM_MAIL_TO", "ops@mail.test".to_owned()),
        ]
    }

    /// All letters that have arrived, as they lie in the mailbox, once there are as many.
    #[track_caller]
    fn letters(&self, mailbox: &str, number: usize) -> Vec<String> {
        let read = || {
            self.container
                .sh(&format!("cat /var/mail/{mailbox} 2>/dev/null || true"))
        };
        let count = |text: &str| {
            text.lines()
                .filter(|line| line.starts_with("From "))
                .count()
        };
        eventually("the mail arrives", || count(&read()) >= number);
        // Long lines are broken softly on the way.
        let text = format!("\n{}", read()).replace("=\n", "");
        let letters: Vec<String> = text.split("\nFrom ").skip(1).map(str::to_owned).collect();
        assert_eq!(letters.len(), number, "{text}");
        letters
    }

    /// Nothing is under way to anybody any more.
    fn wait_until_idle(&self) {
        eventually("the queue is empty", || {
            self.container.sh("postqueue -p") == "Mail queue is empty"
        });
    }
}

/// `cert.pem` for `localhost`, its key, and the authority that signed it.
fn write_certificates(directory: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    std::fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(directory.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
}

/// A repository, written by hand.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A snapshot of so many hours ago.
    async fn save(&self, project: &str, hours: i64, saved: &[&str], failed: &[&str]) {
        let repository = LocalRepository::new(self.0.path());
        repository.prepare().await.unwrap();
        let started = Timestamp::now() - SignedDuration::from_hours(hours);
        let id = RunId::generate(started);
        let mut targets = Vec::new();
        for name in saved {
            targets.push(self.target(&repository, project, &id, name).await);
        }
        let failed = failed.iter().map(|name| Failure {
            target: target(name),
            reason: format!("{name} said no"),
        });
        let manifest = Manifest {
            format: FORMAT,
            tool: "cofferdam test".to_owned(),
            snapshot: id,
            project: project.to_owned(),
            node: None,
            purpose: Purpose::Backup,
            by_hand: false,
            started,
            finished: started,
            engine: EngineFacts::default(),
            targets,
            failed: failed.collect(),
            skipped: Vec::new(),
            warnings: Vec::new(),
            selection: Vec::new(),
            shrunken: Vec::new(),
            disturbed: Vec::new(),
        };
        repository.commit(&manifest).await.unwrap();
    }

    async fn target(
        &self,
        repository: &LocalRepository,
        project: &str,
        id: &RunId,
        name: &str,
    ) -> TargetRecord {
        let target = target(name);
        let file = format!("{}.dump", target.file_stem());
        let object = ObjectPath::new(project, id, &file).unwrap();
        let body = Box::pin(std::io::Cursor::new(b"rows".to_vec()));
        let digest = repository.put(&object, body).await.unwrap();
        let artifact = Artifact {
            role: Role::Dump,
            object,
            plain: digest.clone(),
            stored: digest,
            compression: Compression::None,
            encryption: Encryption::None,
        };
        TargetRecord {
            target,
            container: ContainerRecord::default(),
            transfer: Transfer::Copy,
            facts: Facts::Command(CommandFacts::default()),
            artifacts: vec![artifact],
            warnings: Vec::new(),
        }
    }

    /// No engine answers: none is needed.
    fn cofferdam(&self, arguments: &[&str], variables: &[(&str, String)]) -> Run {
        Command::new(program())
            .args(arguments)
            .arg("--repository")
            .arg(self.0.path())
            .env("DOCKER_HOST", "tcp://127.0.0.1:1")
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .output()
            .expect("cofferdam")
            .into()
    }

    fn status(&self, project: &str, name: &str) -> Value {
        let path = format!("status/{project}/{}.json", target(name).file_stem());
        let bytes = std::fs::read(self.path(&path)).expect("a status file");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    fn status_text(&self, project: &str, name: &str) -> String {
        let path = format!("status/{project}/{}.txt", target(name).file_stem());
        std::fs::read_to_string(self.path(&path)).expect("a status file")
    }
}

fn target(name: &str) -> TargetId {
    TargetId::new("hq", DriverKind::Command, name)
}

#[tokio::test]
async fn c3_a_target_without_a_recent_backup_is_mailed_and_each_has_a_status_file_with_its_time_of_checking()
 {
    let server = Postfix::start();
    let place = Place::new();
    place
        .save("hq", 50, &["postgres", "couchdb", "blobs"], &[])
        .await;
    place
        .save("hq", 2, &["postgres", "blobs"], &["couchdb"])
        .await;
    let before = Timestamp::now();
    let check = ["check", "--project", "hq", "--max-age", "26h"];
    let expect = ["--expect", "hq/command/elasticsearch"];
    let run = place
        .cofferdam(&[&check[..], &expect].concat(), &server.client())
        .expect(4);
    for words in ["STALE", "MISSING", "couchdb said no", "2 days ago"] {
        assert!(run.stdout.contains(words), "{words} is not in {run:?}");
    }
    let letter = server.letters("ops", 1).remove(0);
    for words in [
        "Subject: [cofferdam] hq: 1 backup missing, 1 backup stale",
        "To: ops@mail.test",
        "Auto-Submitted: auto-generated",
        "hq/command/couchdb is stale",
        "couchdb said no",
        "hq/command/elasticsearch has no good backup",
    ] {
        assert!(letter.contains(words), "{words} is not in {letter}");
    }
    assert!(
        letter.contains("ESMTPSA"),
        "without TLS and a login: {letter}"
    );

    for (name, state) in [
        ("postgres", "ok"),
        ("blobs", "ok"),
        ("couchdb", "stale"),
        ("elasticsearch", "missing"),
    ] {
        let status = place.status("hq", name);
        assert_eq!(status["state"], state, "{name}");
        assert_eq!(status["target"], format!("hq/command/{name}"));
        let checked: Timestamp = status["checked"].as_str().unwrap().parse().unwrap();
        assert!(before <= checked && checked <= Timestamp::now());
        let text = place.status_text("hq", name);
        assert!(text.starts_with(&format!("state: {state}\n")), "{text}");
        assert!(text.contains("\nchecked: 20"), "{text}");
    }
    assert_eq!(
        place.status("hq", "couchdb")["last_good"]["stored_bytes"],
        4
    );

    // In order again: nobody is bothered, and the files say so.
    let all = ["postgres", "couchdb", "blobs", "elasticsearch"];
    place.save("hq", 0, &all, &[]).await;
    place.cofferdam(&check, &server.client()).expect(0);
    for name in all {
        assert_eq!(place.status("hq", name)["state"], "ok");
    }
    server.wait_until_idle();
    server.letters("ops", 1);
}

#[tokio::test]
async fn mail_arrives_over_starttls_and_over_tls_from_the_first_byte_on() {
    let server = Postfix::start();
    let place = Place::new();
    let file = place.path("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    for (number, url) in [server.starttls(), server.tls()].into_iter().enumerate() {
        let mut client = server.client();
        client.retain(|(name, _)| *name != "COFFERDAM_SMTP_PASSWORD");
        client.push(("COFFERDAM_SMTP_PASSWORD_FILE", file.display().to_string()));
        client.push(("COFFERDAM_SMTP_URL", url));
        let run = place
            .cofferdam(&["check", "--notify-test"], &client)
            .expect(0);
        assert_eq!(run.stderr, "");
        let letters = server.letters("ops", number + 1);
        assert!(letters[number].contains("Subject: [cofferdam] notifications arrive"));
    }
}

#[tokio::test]
async fn mail_that_cannot_be_sent_is_told_and_the_finding_stands() {
    let server = Postfix::start();
    let place = Place::new();
    place.save("hq", 50, &["postgres"], &[]).await;
    let with = |name: &'static str, value: &str| {
        let mut client = server.client();
        client.push((name, value.to_owned()));
        client
    };
    let without = |name: &str| {
        let mut client = server.client();
        client.retain(|(known, _)| *known != name);
        client
    };
    let address = format!("smtps://127.0.0.1:{}", server.port("465"));
    let closed = "smtps://localhost:1".to_owned();
    let stranger = "stranger@mail.test";
    for (client, words) in [
        (
            with("COFFERDAM_SMTP_PASSWORD", "wrong horse"),
            "correct COFFERDAM_SMTP_USER",
        ),
        (
            without("COFFERDAM_SMTP_CA_FILE"),
            "invalid peer certificate",
        ),
        (
            with("COFFERDAM_SMTP_URL", &address),
            "invalid peer certificate",
        ),
        (
            with("COFFERDAM_SMTP_URL", &closed),
            "check the host and port",
        ),
        (
            with("COFFERDAM_SMTP_CA_FILE", "/no/such/file"),
            "check COFFERDAM_SMTP_CA_FILE",
        ),
        (
            with("COFFERDAM_MAIL_TO", stranger),
            "550 5.1.1 <stranger@mail.test>",
        ),
    ] {
        let check = ["check", "--project", "hq"];
        let run = place.cofferdam(&check, &client).expect_says(4, words);
        assert!(run.stdout.contains("STALE"), "{run:?}");
        let shown = format!("{run:?}");
        assert!(
            !shown.contains(PASSWORD) && !shown.contains("wrong horse"),
            "{shown}"
        );
        place
            .cofferdam(&["check", "--notify-test"], &client)
            .expect_says(1, words);
    }
    server.wait_until_idle();
    server.letters("ops", 0);

    // One who is unknown does not keep it from the others.
    let both = with(
        "COFFERDAM_MAIL_TO",
        "stranger@mail.test, Night <night@mail.test>",
    );
    let run = place.cofferdam(&["check", "--project", "hq"], &both);
    run.expect_says(4, "550 5.1.1 <stranger@mail.test>");
    server.letters("night", 1);

    // That mail would not work is told on good days too.
    place.save("hq", 1, &["postgres"], &[]).await;
    let check = ["check", "--project", "hq"];
    let unreadable = with("COFFERDAM_SMTP_CA_FILE", "/no/such/file");
    place
        .cofferdam(&check, &unreadable)
        .expect_says(1, "COFFERDAM_SMTP_CA_FILE");
    place.cofferdam(&check, &server.client()).expect(0);
}

#[tokio::test]
async fn a_check_that_cannot_look_is_mailed() {
    let server = Postfix::start();
    let place = Place::new();
    std::fs::write(place.path("holiday.jpg"), "sea").unwrap();
    let check = ["check", "--project", "hq"];
    place
        .cofferdam(&check, &server.client())
        .expect_says(1, "holiday.jpg");
    let letter = server.letters("ops", 1).remove(0);
    let subject = "Subject: [cofferdam] hq: backups could not be checked";
    assert!(
        letter.contains(subject) && letter.contains("holiday.jpg"),
        "{letter}"
    );
    // An empty place is one from which the backups have gone.
    std::fs::remove_file(place.path("holiday.jpg")).unwrap();
    place
        .cofferdam(&check, &server.client())
        .expect_says(4, "Project hq has no snapshots");
    server.letters("ops", 2);
}

#[tokio::test]
async fn hostile_names_stay_in_the_body_and_in_their_directory() {
    let server = Postfix::start();
    let place = Place::new();
    let project = "../hq\r\nBcc: night@mail.test\r\n\r\n.\r\nMAIL FROM:<x@example.org>";
    let name = "a\r\n.\r\nRCPT TO:<night@mail.test>\u{1b}[2J/../../x";
    place.save(project, 50, &[name], &[]).await;
    place
        .cofferdam(&["check", "--all-projects"], &server.client())
        .expect(4);
    let letter = server.letters("ops", 1).remove(0);
    let (head, body) = letter.split_once("\n\n").unwrap();
    assert!(!head.contains("\nBcc:"), "{letter}");
    assert!(body.contains("is stale"), "{letter}");
    server.wait_until_idle();
    server.letters("night", 0);
    assert_eq!(
        place.status(&cofferdam::target::encode_component(project), name)["state"],
        "stale"
    );
}

#[tokio::test]
async fn failed_backups_are_mailed() {
    let server = Postfix::start();
    let stack = TestStack::new("mail");
    let _app = stack.toolbox(
        "app",
        &[
            ("cofferdam.postgres", "shop"),
            ("cofferdam.files.conf", "/etc/debian_version"),
        ],
        &[],
    );
    let backup = |arguments: &[&str]| -> Run {
        let mut command = stack.command(arguments);
        let client = server.client();
        command.envs(client.iter().map(|(name, value)| (*name, value)));
        command.output().expect("cofferdam").into()
    };
    backup(&["backup", "--dry-run"]).expect(3);
    backup(&["backup"]).expect(3);
    let letter = server.letters("ops", 1).remove(0);
    let subject = format!("{}: backup incomplete, 1 target failed", stack.project);
    let unfolded = letter.replace("\n ", " ");
    assert!(unfolded.contains(&subject), "{letter}");
    assert!(letter.contains("FAILED: app/postgres/"), "{letter}");

    let typo = stack.toolbox("web", &[("cofferdam.postgress", "shop")], &[]);
    backup(&["backup"]).expect(2);
    let letter = server.letters("ops", 2).remove(1);
    assert!(letter.contains("Nothing was backed up"), "{letter}");
    drop(typo);
    backup(&["backup", "app/files/*"]).expect(0);
    server.wait_until_idle();
    server.letters("ops", 2);
}

#[tokio::test]
async fn status_files_go_where_they_are_wanted_and_those_of_retired_targets_go_away() {
    use std::os::unix::fs::PermissionsExt as _;

    let place = Place::new();
    place.save("status", 50, &["old"], &[]).await;
    place.save("status", 1, &["new"], &[]).await;
    let check = ["check", "--project", "status"];
    place
        .cofferdam(&[&check[..], &["--no-status"]].concat(), &[])
        .expect(4);
    assert!(!place.path("status/status").exists());
    place.cofferdam(&check, &[]).expect(4);
    assert_eq!(place.status("status", "old")["state"], "stale");
    let retired = ["--retired", "*/old"];
    place
        .cofferdam(&[&check[..], &retired].concat(), &[])
        .expect(0);
    assert_eq!(place.status("status", "new")["state"], "ok");
    assert!(!place.path("status/status/hq.command.old.json").exists());
    assert!(!place.path("status/status/hq.command.old.txt").exists());
    // Neither is mistaken for the other.
    place
        .cofferdam(&["verify", "--all-projects"], &[])
        .expect(0);

    let elsewhere = tempfile::tempdir().unwrap();
    let directory = elsewhere.path().join("a/b");
    let variable = [("COFFERDAM_STATUS_DIR", directory.display().to_string())];
    place.cofferdam(&check, &variable).expect(4);
    for file in ["hq.command.old.json", "hq.command.new.txt"] {
        let file = directory.join("status").join(file);
        let mode = std::fs::metadata(&file)
            .expect("a status file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o444, 0o444, "{}", file.display());
    }

    // That they cannot be written is an error, unless there is a worse one.
    let blocked = [("COFFERDAM_STATUS_DIR", "/dev/null/status".to_owned())];
    place
        .cofferdam(&check, &blocked)
        .expect_says(4, "/dev/null");
    place
        .cofferdam(&[&check[..], &retired].concat(), &blocked)
        .expect_says(1, "/dev/null");
}

#[tokio::test]
async fn a_week_of_partial_readings_finds_what_a_whole_one_does() {
    let place = Place::new();
    let names: Vec<String> = (0..20).map(|number| format!("target{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    place.save("hq", 1, &names, &[]).await;
    let snapshot = std::fs::read_dir(place.path("hq")).unwrap().next().unwrap();
    let file = snapshot.unwrap().path().join("hq.command.target7.dump");
    std::fs::write(file, "ROWS").unwrap();
    let (mut read, mut found) = (0, 0);
    for number in 1..=7 {
        let part = format!("{number}/7");
        let run = place.cofferdam(&["verify", "--read-part", &part, "--json"], &[]);
        found += usize::from(run.code == 4);
        read += run.json()[0]["read_objects"].as_u64().unwrap();
        assert_eq!(run.json()[0]["depth"]["read-part"], part);
    }
    assert_eq!((read, found), (20, 1));
    let run = place.cofferdam(&["verify", "--read-part", "today/7"], &[]);
    assert!(run.stdout.contains("/7 was read: "), "{run:?}");
    place
        .cofferdam(&["verify", "--read"], &[])
        .expect_says(4, "Everything was read: 20 objects, 80 B");
}

/// A server of a few words: each line that it gets is answered by the next of these. After the last one it says nothing.
async fn speaks(
    words: &'static [&'static str],
) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heard, hears) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(converse(client, words, heard.clone()));
        }
    });
    (port, hears)
}

async fn converse(
    mut client: TcpStream,
    words: &[&str],
    heard: tokio::sync::mpsc::UnboundedSender<String>,
) {
    let mut buffer = [0; 4096];
    let _ = heard.send("connected".to_owned());
    for word in words {
        if client
            .write_all(format!("{word}\r\n").as_bytes())
            .await
            .is_err()
        {
            return;
        }
        match client.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                let _ = heard.send(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
        }
    }
    std::future::pending::<()>().await;
}

fn impatient(port: u16, security: Security) -> Mailer {
    let settings = MailSettings {
        server: SmtpServer {
            host: "127.0.0.1".to_owned(),
            port,
            security,
        },
        login: Some(Login {
            user: USER.to_owned(),
            password: Password::Given(Secret::new(PASSWORD)),
        }),
        ca_file: None,
        from: "cofferdam@example.org".parse().unwrap(),
        to: vec!["ops@example.org".parse().unwrap()],
    };
    Mailer::open(&settings).unwrap().with_patience(Patience {
        attempts: 3,
        limit: Duration::from_millis(300),
        pause: Duration::from_millis(20),
    })
}

fn letter() -> Letter {
    Letter {
        subject: "shop: stale".to_owned(),
        body: "the body".to_owned(),
    }
}

/// What the server has heard, in one text.
fn all(mut hears: tokio::sync::mpsc::UnboundedReceiver<String>) -> String {
    let mut text = String::new();
    while let Ok(line) = hears.try_recv() {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_after_a_few_attempts() {
    for security in [Security::Plain, Security::StartTls, Security::Tls] {
        let (port, hears) = speaks(&[]).await;
        let start = Instant::now();
        let error = impatient(port, security).send(&letter()).await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(5));
        let error = error.to_string();
        assert!(
            error.contains("in 3 attempts: it did not answer in time"),
            "{error}"
        );
        assert_eq!(all(hears).matches("connected").count(), 3);
    }
}

#[tokio::test]
async fn without_tls_on_the_servers_side_nothing_is_said_to_it() {
    let (port, hears) = speaks(&["220 here", "250-here\r\n250 AUTH PLAIN", "221 bye"]).await;
    let error = impatient(port, Security::StartTls)
        .send(&letter())
        .await
        .unwrap_err();
    let error = error.to_string();
    assert!(error.contains("STARTTLS is not supported"), "{error}");
    let heard = all(hears);
    assert!(
        !heard.contains("AUTH") && !heard.contains("MAIL"),
        "{heard}"
    );
    assert_eq!(heard.matches("connected").count(), 1);
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again() {
    let (port, hears) = speaks(&["421 4.3.2 too busy"]).await;
    let error = impatient(port, Security::Plain)
        .send(&letter())
        .await
        .unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("in 3 attempts: 421 4.3.2 too busy"),
        "{error}"
    );
    assert_eq!(all(hears).matches("connected").count(), 3);
}

#[tokio::test]
async fn a_password_that_a_server_repeats_is_not_shown() {
    let refusal = "535 5.7.8 `tr0ub4dor and three` is wrong";
    let (port, _hears) = speaks(&[
        "220 here",
        "250-here\r\n250 AUTH PLAIN",
        "535 5.7.8 `tr0ub4dor and three` is wrong",
    ])
    .await;
    let error = impatient(port, Security::Plain)
        .send(&letter())
        .await
        .unwrap_err();
    let shown = error.to_string();
    assert!(
        refusal.contains(PASSWORD) && !shown.contains(PASSWORD),
        "{shown}"
    );
    assert!(shown.contains("[redacted]"), "{shown}");
}
