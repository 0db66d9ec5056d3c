use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::RemoteRepository;
use super::super::test_server::{Cut, Line, Place, TestServer};
use super::*;
use crate::repository::Repository;
use crate::repository::contract::{Fixture, repository_contract};
use crate::repository::samples::{body, id, path};
use crate::repository::url::RepositoryUrl;

const PASSWORD: &str = "hunter2";

struct Apache {
    server: TestServer,
    plain: u16,
    tls: u16,
}

fn apache() -> &'static Apache {
    static APACHE: OnceLock<Apache> = OnceLock::new();
    APACHE.get_or_init(|| {
        let server = TestServer::start(&[
            "--publish=127.0.0.1::80",
            "--publish=127.0.0.1::443",
            "--tmpfs=/srv/dav/small:size=3m,mode=0777",
            "--env=WEBDAV_PASSWORD=hunter2",
            "cofferdam-test/webdav:1",
        ]);
        let plain = server.port(80, b"GET / HTTP/1.0\r\n\r\n");
        // It answers a word that is no TLS too.
        let tls = server.port(443, b"GET / HTTP/1.0\r\n\r\n");
        Apache { server, plain, tls }
    })
}

fn random() -> String {
    format!("{:016x}", rand::random::<u64>())
}

fn credentials(password: &str) -> Credentials {
    Credentials::among([("WEBDAV_USER", "me"), ("WEBDAV_PASSWORD", password)])
}

fn storage_at(url: &str, password: &str) -> WebDavStorage {
    let url = match RepositoryUrl::parse(url, Path::new("/")).unwrap() {
        RepositoryUrl::Store(url) => *url,
        other => panic!("{other}"),
    };
    open_with_patience(&url, &credentials(password), Duration::from_secs(2)).unwrap()
}

fn repository_at(url: &str) -> Arc<dyn Repository> {
    Arc::new(RemoteRepository::new(Arc::new(storage_at(url, PASSWORD))))
}

/// A collection below one whose name needs encoding, in the manner of Nextcloud.
struct WebDav {
    place: Place,
    path: String,
}

impl WebDav {
    fn new() -> Self {
        let name = random();
        Self {
            place: Place {
                server: &apache().server,
                user: "www-data",
                path: format!("/srv/dav/a b%20é#/{name}"),
            },
            path: format!("/remote.php/dav/files/me/a%20b%2520%C3%A9%23/{name}"),
        }
    }

    fn url(&self, port: u16) -> String {
        format!("webdav+http://127.0.0.1:{port}{}", self.path)
    }

    fn repository_by(&self, port: u16) -> Arc<dyn Repository> {
        repository_at(&self.url(port))
    }
}

#[async_trait]
impl Fixture for WebDav {
    fn repository(&self) -> Arc<dyn Repository> {
        self.repository_by(apache().plain)
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

repository_contract!(WebDav::new());
repository_contract!(WebDav::new() => only_one_of_two_equal_puts_wins);

/// Much more than sockets take before the other side has read anything.
fn large() -> ByteStream {
    body(vec![7; 30_000_000])
}

/// In a file that lives as long as the test.
async fn certificate() -> (tempfile::TempDir, PathBuf) {
    let script = "cat /etc/apache2/server.pem";
    let pem = apache().server.run("root", script, &[], b"").await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, pem).unwrap();
    (directory, file)
}

#[tokio::test]
async fn a_certificate_of_the_users_own_is_trusted_when_named() {
    let (_directory, file) = certificate().await;
    let fixture = WebDav::new();
    let url = format!("webdav+https://localhost:{}{}", apache().tls, fixture.path);
    let repository = repository_at(&format!("{url}?ca-file={}", file.display()));
    repository.prepare().await.unwrap();
    let object = path("candig", &id(1), "app.tar");
    repository.put(&object, large()).await.unwrap();
    let mut back = Vec::new();
    let mut stream = repository.open(&object).await.unwrap();
    stream.read_to_end(&mut back).await.unwrap();
    assert!(back == vec![7; 30_000_000]);

    let error = repository_at(&url).prepare().await.unwrap_err();
    assert!(error.to_string().contains("`ca-file="), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_told() {
    let url = format!("webdav+http://127.0.0.1:{}/x", apache().plain);
    let error = storage_at(&url, "wrong").list("").await.unwrap_err();
    insta::assert_snapshot!(
        error.to_string().replace(&apache().plain.to_string(), "PORT"),
        @"cannot list webdav+http://127.0.0.1:PORT/x: the server answered 401 Unauthorized; check WEBDAV_USER and WEBDAV_PASSWORD"
    );
}

#[tokio::test]
async fn half_a_login_is_refused() {
    let url = RepositoryUrl::parse("webdav+https://host/x", Path::new("/")).unwrap();
    let RepositoryUrl::Store(url) = url else {
        panic!("{url}");
    };
    let refused = |name| {
        let credentials = Credentials::among([(name, "x")]);
        open(&url, &credentials).err().unwrap().to_string()
    };
    assert!(refused("WEBDAV_USER").contains("WEBDAV_PASSWORD_FILE"));
    assert!(refused("WEBDAV_PASSWORD").contains("set WEBDAV_USER too"));
}

#[tokio::test]
async fn a_server_that_is_away_is_told() {
    let error = repository_at("webdav+http://127.0.0.1:1/x")
        .prepare()
        .await
        .unwrap_err();
    let error = error.to_string();
    assert!(error.contains("onnection refused"), "{error}");
    assert!(error.contains("this container can reach it"), "{error}");
}

#[tokio::test]
async fn an_upload_that_is_cut_leaves_nothing() {
    let fixture = WebDav::new();
    fixture.repository().prepare().await.unwrap();
    let line = Line::to(apache().plain, Cut::AfterSending(3_000_000)).await;
    let repository = fixture.repository_by(line.port);
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
    let fixture = WebDav::new();
    let repository = fixture.repository();
    repository.prepare().await.unwrap();
    let object = path("candig", &id(1), "app.tar");
    repository.put(&object, large()).await.unwrap();
    let line = Line::to(apache().plain, Cut::AfterReceiving(3_000_000)).await;
    let mut stream = fixture
        .repository_by(line.port)
        .open(&object)
        .await
        .unwrap();
    let mut back = Vec::new();
    let error = stream.read_to_end(&mut back).await.unwrap_err();
    assert!(error.to_string().contains("cannot read candig/"), "{error}");
    assert!(back.len() <= 3_000_000);
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_stays() {
    let name = random();
    let place = Place {
        server: &apache().server,
        user: "www-data",
        path: format!("/srv/dav/small/{name}"),
    };
    let repository = repository_at(&format!(
        "webdav+http://127.0.0.1:{}/small/{name}",
        apache().plain
    ));
    repository.prepare().await.unwrap();
    let object = path("candig", &id(1), "app.tar");
    let error = repository.put(&object, large()).await.unwrap_err();
    assert!(error.to_string().contains("make room there"), "{error}");
    place.becomes_empty().await;
}

#[tokio::test]
async fn a_limit_on_bodies_is_told() {
    let url = format!(
        "webdav+http://127.0.0.1:{}/limited/{}",
        apache().plain,
        random()
    );
    let storage = storage_at(&url, PASSWORD);
    storage.create("small", body("rows")).await.unwrap();
    let error = storage.create("k", large()).await.unwrap_err();
    assert!(error.to_string().contains("LimitRequestBody"), "{error}");
    let keys = storage
        .list("")
        .await
        .unwrap()
        .into_iter()
        .map(|item| item.key);
    assert_eq!(keys.collect::<Vec<_>>(), ["small"]);
}

#[tokio::test]
async fn what_killed_runs_left_behind_is_swept_when_it_is_old() {
    let fixture = WebDav::new();
    let repository = fixture.repository();
    repository.prepare().await.unwrap();
    let kept = path("candig", &id(1), "db.dump");
    repository.put(&kept, body("rows")).await.unwrap();
    let hidden = format!("candig/{}/.cofferdam-0011223344556677.partial", id(1));
    fixture.plant(&hidden, b"half").await;
    fixture.plant(&format!("candig/{}/x", id(2)), b"x").await;
    let storage = storage_at(&fixture.url(apache().plain), PASSWORD);
    storage
        .delete(&[format!("candig/{}/x", id(2))])
        .await
        .unwrap();
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

/// Gives each request the next answer, and returns the first lines of the requests with their destinations.
async fn scripted(answers: &'static [&'static str]) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = request_head(&mut stream).await;
            let told = |line: &&str| line.contains("HTTP/1.1") || line.starts_with("destination:");
            asked.push(head.lines().filter(told).collect::<Vec<_>>().join(" "));
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        asked
    });
    (port, task)
}

/// Reads a whole request, and returns what stands before its body.
async fn request_head(stream: &mut tokio::net::TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let is_whole = match head.split_once("content-length: ") {
                Some((_, rest)) => {
                    let length: usize = rest.lines().next().unwrap().parse().unwrap();
                    body.len() >= length
                }
                None => !head.contains("chunked") || body.ends_with("0\r\n\r\n"),
            };
            if is_whole {
                return head.to_owned();
            }
        }
        assert!(stream.read_buf(&mut request).await.unwrap() > 0);
    }
}

const MISSING: &str = "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const CREATED: &str = "HTTP/1.1 201 Created\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const COLLECTION: &str = concat!(
    "HTTP/1.1 207 Multi-Status\r\nconnection: close\r\n\r\n",
    "<multistatus xmlns=\"DAV:\"><response><href>/x/</href><propstat><prop><resourcetype><collection/></resourcetype>",
    "</prop><status>HTTP/1.1 200 OK</status></propstat></response></multistatus>"
);
const FOUR_BYTES: &str = concat!(
    "HTTP/1.1 207 Multi-Status\r\nconnection: close\r\n\r\n",
    "<multistatus xmlns=\"DAV:\"><response><href>/x/k</href><propstat><prop><getcontentlength>4</getcontentlength>",
    "</prop><status>HTTP/1.1 200 OK</status></propstat></response></multistatus>"
);

#[tokio::test]
async fn a_busy_server_is_asked_again() {
    let (port, asked) = scripted(&[
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        // An answer that got lost.
        "",
        MISSING,
    ])
    .await;
    let storage = storage_at(&format!("webdav+http://127.0.0.1:{port}/x"), PASSWORD);
    assert!(storage.open("k").await.unwrap().is_none());
    assert_eq!(asked.await.unwrap(), ["GET /x/k HTTP/1.1"; 3]);
}

#[tokio::test]
async fn a_server_behind_a_proxy_that_ends_tls_gets_a_path() {
    let (port, asked) = scripted(&[
        MISSING,
        COLLECTION,
        CREATED,
        FOUR_BYTES,
        CREATED,
        "HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        CREATED,
        CREATED,
    ])
    .await;
    let storage = storage_at(&format!("webdav+http://127.0.0.1:{port}/x"), PASSWORD);
    storage.create("k", body("rows")).await.unwrap();
    let asked = asked.await.unwrap();
    let url = format!("destination: http://127.0.0.1:{port}/x/k");
    assert!(
        asked[5].starts_with("MOVE") && asked[5].ends_with(&url),
        "{asked:?}"
    );
    assert!(asked[6].ends_with("destination: /x/k"), "{asked:?}");
    assert!(asked[7].starts_with("DELETE"), "{asked:?}");
}

#[tokio::test]
async fn a_body_that_a_proxy_dropped_is_noticed() {
    let (port, asked) = scripted(&[MISSING, COLLECTION, CREATED, FOUR_BYTES, CREATED]).await;
    let storage = storage_at(&format!("webdav+http://127.0.0.1:{port}/x"), PASSWORD);
    let error = storage.create("k", body("more rows")).await.unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("the server has 4 bytes of it, but 9 were sent"),
        "{error}"
    );
    assert!(asked.await.unwrap()[4].starts_with("DELETE /x/.cofferdam-"));
}

#[tokio::test]
async fn a_rename_whose_answer_got_lost_is_no_failure() {
    let (port, asked) = scripted(&[
        MISSING, COLLECTION, CREATED, FOUR_BYTES, CREATED, "", MISSING, MISSING, FOUR_BYTES,
        CREATED,
    ])
    .await;
    let storage = storage_at(&format!("webdav+http://127.0.0.1:{port}/x"), PASSWORD);
    storage.create("k", body("rows")).await.unwrap();
    assert_eq!(asked.await.unwrap().len(), 10);
}
