use std::path::PathBuf;
use std::sync::OnceLock;

use russh::keys::Algorithm;
use russh::keys::ssh_key::LineEnding;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::RemoteRepository;
use super::super::test_server::{Cut, Line, Place, TestServer};
use super::*;
use crate::repository::Repository;
use crate::repository::contract::{Fixture, repository_contract};
use crate::repository::samples::{body, id, path};
use crate::repository::url::RepositoryUrl;

const PASSWORD: &str = "hunter2";

struct Openssh {
    server: TestServer,
    port: u16,
    files: tempfile::TempDir,
}

impl Openssh {
    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }
}

fn openssh() -> &'static Openssh {
    static OPENSSH: OnceLock<Openssh> = OnceLock::new();
    OPENSSH.get_or_init(|| {
        let files = tempfile::tempdir().unwrap();
        let mut random = russh::keys::key::safe_rng();
        let key = PrivateKey::random(&mut random, Algorithm::Ed25519).unwrap();
        let text = key.to_openssh(LineEnding::LF).unwrap();
        std::fs::write(files.path().join("key"), text.as_bytes()).unwrap();
        let public = key.public_key().to_openssh().unwrap();
        let server = TestServer::start(&[
            "--publish=127.0.0.1::22",
            "--tmpfs=/srv/sftp/small:size=3m,mode=0777",
            "--env=SFTP_PASSWORD=hunter2",
            &format!("--env=SFTP_KEY={public}"),
            "cofferdam-test/sftp:1",
        ]);
        let port = server.port(22, b"");
        Openssh {
            server,
            port,
            files,
        }
    })
}

/// A file that knows the server, by the port that it is reached at.
async fn known_hosts(port: u16) -> PathBuf {
    let script = "cat /etc/ssh/ssh_host_ed25519_key.pub";
    let key = openssh().server.run("root", script, &[], b"").await;
    let file = openssh().file(&format!("known_hosts-{:08x}", rand::random::<u32>()));
    std::fs::write(&file, format!("[127.0.0.1]:{port} {key}")).unwrap();
    file
}

fn open_at(url: &str, password: &str) -> Result<SftpStorage, OpenError> {
    let url = match RepositoryUrl::parse(url, Path::new("/")).unwrap() {
        RepositoryUrl::Store(url) => *url,
        other => panic!("{other}"),
    };
    let credentials = Credentials::among([("SFTP_PASSWORD", password)]);
    open_with_patience(&url, &credentials, Duration::from_secs(2))
}

/// In which the port and the directory of the test's files have other names.
fn plain(error: impl ToString) -> String {
    let files = openssh().files.path().display().to_string();
    error
        .to_string()
        .replace(&files, "FILES")
        .replace(&openssh().port.to_string(), "PORT")
}

struct Sftp {
    place: Place,
    path: String,
    known_hosts: PathBuf,
}

impl Sftp {
    async fn new() -> Self {
        let name = format!("{:016x}", rand::random::<u64>());
        Self {
            place: Place {
                server: &openssh().server,
                user: "me",
                path: format!("/srv/sftp/a b%20é#/{name}"),
            },
            path: format!("/srv/sftp/a%20b%2520%C3%A9%23/{name}"),
            known_hosts: known_hosts(openssh().port).await,
        }
    }

    fn url(&self, port: u16, known_hosts: &Path) -> String {
        format!(
            "sftp://me@127.0.0.1:{port}{}?key-file={}&known-hosts={}",
            self.path,
            openssh().file("key").display(),
            known_hosts.display(),
        )
    }

    fn storage(&self) -> SftpStorage {
        open_at(&self.url(openssh().port, &self.known_hosts), "").unwrap()
    }

    async fn repository_by(&self, line: &Line) -> Arc<dyn Repository> {
        let known_hosts = known_hosts(line.port).await;
        let storage = open_at(&self.url(line.port, &known_hosts), "").unwrap();
        Arc::new(RemoteRepository::new(Arc::new(storage)))
    }
}

#[async_trait]
impl Fixture for Sftp {
    fn repository(&self) -> Arc<dyn Repository> {
        Arc::new(RemoteRepository::new(Arc::new(self.storage())))
    }

    async fn plant(&self, path: &str, bytes: &[u8]) {
        self.place.plant(path, bytes).await;
    }

    async fn content(&self, path: &str) -> Vec<u8> {
        self.place.content(path).await
    }

    async fn names(&self) -> Vec<String> {
        self.place.names().await
    }
}

repository_contract!(Sftp::new().await);
repository_contract!(Sftp::new().await => only_one_of_two_equal_puts_wins);

fn large() -> ByteStream {
    body(vec![7; 30_000_000])
}

#[tokio::test]
async fn a_password_lets_in_and_a_path_may_begin_at_home() {
    let known_hosts = known_hosts(openssh().port).await;
    let name = format!("{:016x}", rand::random::<u64>());
    let url = format!(
        "sftp://me@127.0.0.1:{}/~/{name}/b?known-hosts={}",
        openssh().port,
        known_hosts.display()
    );
    let storage = open_at(&url, PASSWORD).unwrap();
    storage.create("a/k", body("rows")).await.unwrap();
    let place = Place {
        server: &openssh().server,
        user: "me",
        path: format!("/home/me/{name}"),
    };
    assert_eq!(place.names().await, ["b/", "b/a/", "b/a/k"]);
    storage.delete(&["a/k".to_owned()]).await.unwrap();
    assert_eq!(place.names().await, ["b/"]);
}

#[tokio::test]
async fn backups_are_readable_by_their_owner_alone() {
    let fixture = Sftp::new().await;
    let storage = fixture.storage();
    storage.create("a/k", body("rows")).await.unwrap();
    let script = r#"stat -c %a "$1/a/k" "$1/a" "$1""#;
    let path = fixture.place.path.as_str();
    let modes = openssh().server.run("me", script, &[path], b"").await;
    assert_eq!(modes, "600\n700\n700\n");
}

#[tokio::test]
async fn who_is_not_let_in_is_told_what_to_do() {
    let known_hosts = known_hosts(openssh().port).await;
    let url = |user: &str| {
        format!(
            "sftp://{user}@127.0.0.1:{}/srv/sftp?known-hosts={}",
            openssh().port,
            known_hosts.display()
        )
    };
    let error = open_at(&url("me"), "wrong").unwrap().list("").await;
    insta::assert_snapshot!(plain(error.unwrap_err()), @"cannot list sftp://me@127.0.0.1:PORT/srv/sftp: it refuses to log in the user `me`; check the user in the URL and SFTP_PASSWORD");
    let with_key = format!(
        "{}&key-file={}",
        url("you"),
        openssh().file("key").display()
    );
    let error = open_at(&with_key, "").unwrap().list("").await.unwrap_err();
    let error = plain(error);
    assert!(error.contains("add the line `ssh-ed25519 AAAA"), "{error}");
    assert!(error.contains("authorized_keys"), "{error}");
}

#[tokio::test]
async fn a_server_is_known_once_its_line_is_in_the_file() {
    let port = openssh().port;
    let url = format!("sftp://me@127.0.0.1:{port}/srv/sftp");
    let error = open_at(&url, PASSWORD).unwrap().list("").await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("ssh-ed25519 SHA256:"), "{error}");
    let (_, rest) = error.split_once("put the line `").unwrap();
    let (line, _) = rest.split_once('`').unwrap();
    let file = openssh().file("line");
    std::fs::write(&file, line).unwrap();
    let url = format!("{url}?known-hosts={}", file.display());
    open_at(&url, PASSWORD).unwrap().list("").await.unwrap();
}

#[tokio::test]
async fn logins_that_cannot_be_are_refused_before_anything_is_asked() {
    let script = r"rm -f /tmp/k /tmp/r
        ssh-keygen -q -t ed25519 -N secret -f /tmp/k && cat /tmp/k && echo ===== && ssh-keygen -q -t rsa -N '' -f /tmp/r && cat /tmp/r";
    let keys = openssh().server.run("me", script, &[], b"").await;
    let (encrypted, rsa) = keys.split_once("=====\n").unwrap();
    std::fs::write(openssh().file("encrypted"), encrypted).unwrap();
    std::fs::write(openssh().file("rsa"), rsa).unwrap();
    std::fs::write(openssh().file("none"), "x").unwrap();
    let files = openssh().files.path().display();
    let told = |rest: &str| plain(open_at(&format!("sftp://{rest}"), "").err().unwrap());
    let refusals = [
        told("host/x"),
        told("me@host/x"),
        told(&format!("me@host/x?key-file={files}/encrypted")),
        told(&format!("me@host/x?key-file={files}/rsa")),
        told(&format!("me@host/x?key-file={files}/none")),
        told(&format!("me@host/x?key-file={files}/missing")),
    ];
    insta::assert_snapshot!(refusals.join("\n"), @r"
    cannot use sftp://host/x: it names no user; write `sftp://user@host/path`
    cannot use sftp://me@host/x: no way to log in is configured; name a private key with `key-file=` in the URL, or set SFTP_PASSWORD or SFTP_PASSWORD_FILE
    cannot use sftp://me@host/x: the key in FILES/encrypted has a passphrase, which cannot be entered here; remove it with `ssh-keygen -p -N '' -f FILE`, or make one for cofferdam alone: `ssh-keygen -t ed25519 -N '' -f FILE`
    cannot use sftp://me@host/x: the key in FILES/rsa is an RSA key, which is not supported; make one for cofferdam alone: `ssh-keygen -t ed25519 -N '' -f FILE`
    cannot use sftp://me@host/x: the key in FILES/none is not an OpenSSH private key; make one for cofferdam alone: `ssh-keygen -t ed25519 -N '' -f FILE`
    cannot use sftp://me@host/x: cannot read FILES/missing, which `key-file=` names: No such file or directory (os error 2)
    ");
}

#[test]
fn hosts_have_ports() {
    for (authority, expected) in [
        ("host", Some(("host", 22))),
        ("host:2222", Some(("host", 2222))),
        ("[::1]", Some(("::1", 22))),
        ("[::1]:2222", Some(("::1", 2222))),
        ("[::1]x", None),
        ("host:70000", None),
        (":22", None),
    ] {
        let expected = expected.map(|(host, port)| (host.to_owned(), port));
        assert_eq!(host_and_port(authority), expected, "{authority}");
    }
}

#[tokio::test]
async fn an_upload_that_is_cut_leaves_nothing() {
    let fixture = Sftp::new().await;
    fixture.repository().prepare().await.unwrap();
    let line = Line::to(openssh().port, Cut::AfterSending(3_000_000)).await;
    let repository = fixture.repository_by(&line).await;
    let object = path("candig", &id(1), "app.tar");
    let error = repository.put(&object, large()).await.unwrap_err();
    assert!(
        matches!(
            error,
            RepositoryError::Remote {
                action: "store",
                ..
            }
        ),
        "{error:?}"
    );
    fixture.place.becomes_empty().await;
}

#[tokio::test]
async fn a_download_that_is_cut_ends_in_an_error() {
    let fixture = Sftp::new().await;
    let repository = fixture.repository();
    repository.prepare().await.unwrap();
    let object = path("candig", &id(1), "app.tar");
    repository.put(&object, large()).await.unwrap();
    let line = Line::to(openssh().port, Cut::AfterReceiving(3_000_000)).await;
    let repository = fixture.repository_by(&line).await;
    let mut stream = repository.open(&object).await.unwrap();
    let mut back = Vec::new();
    let error = stream.read_to_end(&mut back).await.unwrap_err();
    assert!(error.to_string().contains("cannot read candig/"), "{error}");
    assert!(back.len() <= 3_000_000);
}

#[tokio::test]
async fn a_connection_that_broke_is_made_anew() {
    let fixture = Sftp::new().await;
    let line = Line::to(openssh().port, Cut::Never).await;
    let repository = fixture.repository_by(&line).await;
    repository.prepare().await.unwrap();
    let object = path("candig", &id(1), "db.dump");
    repository.put(&object, body("rows")).await.unwrap();
    assert_eq!(line.connections(), 1);
    line.cut();
    let mut text = String::new();
    let mut stream = repository.open(&object).await.unwrap();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "rows");
    assert_eq!(line.connections(), 2);
}

#[tokio::test]
async fn a_connection_may_break_while_a_put_waits_for_its_body() {
    let fixture = Sftp::new().await;
    let line = Line::to(openssh().port, Cut::Never).await;
    let repository = fixture.repository_by(&line).await;
    repository.prepare().await.unwrap();
    let (mut writer, reader) = tokio::io::duplex(1024);
    let putting = tokio::spawn(async move {
        let object = path("candig", &id(1), "db.dump");
        repository.put(&object, Box::pin(reader)).await
    });
    writer.write_all(&[7; 300_000]).await.unwrap();
    line.cut();
    // Nobody may be reading any more.
    let _ = writer.write_all(&[7; 300_000]).await;
    drop(writer);
    let error = putting.await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            RepositoryError::Remote {
                action: "store",
                ..
            }
        ),
        "{error:?}"
    );
    fixture.place.becomes_empty().await;
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_stays() {
    let name = format!("{:016x}", rand::random::<u64>());
    let place = Place {
        server: &openssh().server,
        user: "me",
        path: format!("/srv/sftp/small/{name}"),
    };
    let known_hosts = known_hosts(openssh().port).await;
    let url = format!(
        "sftp://me@127.0.0.1:{}{}?known-hosts={}",
        openssh().port,
        place.path,
        known_hosts.display()
    );
    let storage = open_at(&url, PASSWORD).unwrap();
    storage.create("a/first", body("rows")).await.unwrap();
    let error = storage.create("a/k", large()).await.unwrap_err();
    assert!(
        error.to_string().contains("no space left there; make room"),
        "{error}"
    );
    assert_eq!(place.names().await, ["a/", "a/first"]);
}

#[tokio::test]
async fn a_place_that_may_not_be_written_to_is_told() {
    let known_hosts = known_hosts(openssh().port).await;
    let url = format!(
        "sftp://me@127.0.0.1:{}/srv/other?known-hosts={}",
        openssh().port,
        known_hosts.display()
    );
    let storage = open_at(&url, PASSWORD).unwrap();
    let error = storage.create("k", body("rows")).await.unwrap_err();
    insta::assert_snapshot!(plain(error), @"cannot store k in sftp://me@127.0.0.1:PORT/srv/other: permission denied; allow that user to read, write and delete there");
}

#[tokio::test]
async fn what_killed_runs_left_behind_is_swept_when_it_is_old() {
    let fixture = Sftp::new().await;
    let repository = fixture.repository();
    repository.prepare().await.unwrap();
    let kept = path("candig", &id(1), "db.dump");
    repository.put(&kept, body("rows")).await.unwrap();
    let hidden = format!("candig/{}/.cofferdam-0011223344556677.partial", id(1));
    fixture.plant(&hidden, b"half").await;
    let script = r#"mkdir "$1""#;
    let empty = format!("{}/candig/{}", fixture.place.path, id(2));
    openssh().server.run("me", script, &[&empty], b"").await;
    let storage = fixture.storage();
    let day = Duration::from_secs(24 * 60 * 60);
    assert_eq!(
        storage.sweep_unfinished("candig/", day).await.unwrap(),
        [""; 0]
    );
    fixture.place.age().await;
    let mut swept = storage.sweep_unfinished("candig/", day).await.unwrap();
    swept.sort();
    assert_eq!(swept, [hidden, format!("candig/{}/", id(2))]);
    let left = fixture.names().await;
    assert_eq!(
        left,
        [
            "candig/".to_owned(),
            format!("candig/{}/", id(1)),
            kept.to_string()
        ]
    );
}

#[tokio::test]
async fn links_are_passed_over() {
    let fixture = Sftp::new().await;
    let storage = fixture.storage();
    storage.create("a/k", body("rows")).await.unwrap();
    let script = r#"ln -s /etc "$1/a/etc" && ln -s k "$1/a/link""#;
    let path = fixture.place.path.as_str();
    openssh().server.run("me", script, &[path], b"").await;
    let listed = storage.list("").await.unwrap();
    let keys: Vec<_> = listed.iter().map(|item| item.key.as_str()).collect();
    assert_eq!(keys, ["a/k"]);
}
