//! A real server in a container, for the tests of one module, and a line to it that can be cut.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(super) struct TestServer {
    container: String,
    /// Its input is closed when this process ends, however it ends: then it removes the container.
    _keeper: Child,
}

const KEEPER: &str = r#"
trap '' INT TERM
container=$(docker run --detach --rm --label cofferdam.test=1 "$@") || exit
echo "$container"
read -r _
docker rm --force --volumes "$container" >/dev/null 2>&1
"#;

impl TestServer {
    /// `arguments` are those of `docker run`.
    pub(super) fn start(arguments: &[&str]) -> Self {
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut container = String::new();
        BufReader::new(keeper.stdout.take().unwrap())
            .read_line(&mut container)
            .unwrap();
        assert!(
            !container.trim().is_empty(),
            "docker run failed; scripts/test-images.sh builds what it needs"
        );
        Self {
            container: container.trim().to_owned(),
            _keeper: keeper,
        }
    }

    /// Where a port of the container is published, once something answers `greeting` there.
    pub(super) fn port(&self, port: u16, greeting: &[u8]) -> u16 {
        let published = Command::new("docker")
            .args(["port", &self.container, &port.to_string()])
            .output()
            .unwrap();
        let published = String::from_utf8(published.stdout).unwrap();
        let address: SocketAddr = published.lines().next().unwrap().parse().unwrap();
        let started = Instant::now();
        while !answers(address, greeting) {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "nothing answers"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        address.port()
    }

    /// Runs a script in the container, and returns what it prints.
    pub(super) async fn run(
        &self,
        user: &str,
        script: &str,
        arguments: &[&str],
        stdin: &[u8],
    ) -> String {
        let mut child = tokio::process::Command::new("docker")
            .args(["exec", "--interactive", "--user", user, &self.container])
            .args(["sh", "-c", script, "sh"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(stdin).await.unwrap();
        drop(input);
        let output = child.wait_with_output().await.unwrap();
        assert!(output.status.success(), "{script}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn answers(address: SocketAddr, greeting: &[u8]) -> bool {
    let Ok(mut stream) = std::net::TcpStream::connect(address) else {
        return false;
    };
    let patience = Some(Duration::from_secs(5));
    stream.set_read_timeout(patience).unwrap();
    stream.write_all(greeting).is_ok() && matches!(stream.read(&mut [0]), Ok(1))
}

/// A directory of a server, for one test.
pub(super) struct Place {
    pub server: &'static TestServer,
    /// As whom files are written there.
    pub user: &'static str,
    pub path: String,
}

impl Place {
    pub(super) async fn plant(&self, path: &str, bytes: &[u8]) {
        let script = r#"mkdir -p "$(dirname "$1")" && cat >"$1""#;
        let path = format!("{}/{path}", self.path);
        self.server.run(self.user, script, &[&path], bytes).await;
    }

    pub(super) async fn content(&self, path: &str) -> Vec<u8> {
        let path = format!("{}/{path}", self.path);
        let text = self
            .server
            .run(self.user, r#"cat "$1""#, &[&path], b"")
            .await;
        text.into_bytes()
    }

    /// Everything in it, without `cofferdam.json`. Sorted.
    pub(super) async fn names(&self) -> Vec<String> {
        let script = r#"[ ! -d "$1" ] || find "$1" -mindepth 1 \( -type d -printf '%P/\n' -o -printf '%P\n' \)"#;
        let found = self.server.run(self.user, script, &[&self.path], b"").await;
        let mut names: Vec<_> = found.lines().map(str::to_owned).collect();
        names.retain(|name| name != "cofferdam.json");
        names.sort();
        names
    }

    /// Makes everything two days old.
    pub(super) async fn age(&self) {
        let script = r#"find "$1" -exec touch -d '2 days ago' {} +"#;
        self.server.run(self.user, script, &[&self.path], b"").await;
    }

    /// Waits until only directories are left.
    pub(super) async fn becomes_empty(&self) {
        let empty = async {
            while self.names().await.iter().any(|name| !name.ends_with('/')) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(40), empty)
            .await
            .expect("something stays");
    }
}

/// A line to a local port that ends when so many bytes have gone one way, on each connection.
pub(super) struct Line {
    pub port: u16,
    connections: Arc<AtomicU64>,
    cut: watch::Sender<()>,
}

#[derive(Clone, Copy)]
pub(super) enum Cut {
    Never,
    AfterSending(u64),
    AfterReceiving(u64),
}

impl Line {
    pub(super) async fn to(port: u16, cut: Cut) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let line = Self {
            port: listener.local_addr().unwrap().port(),
            connections: Arc::default(),
            cut: watch::Sender::default(),
        };
        let connections = Arc::clone(&line.connections);
        let receiver = line.cut.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
                let mut receiver = receiver.clone();
                receiver.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        () = carry(client, server.unwrap(), cut) => {}
                        _ = receiver.changed() => {}
                    }
                });
            }
        });
        line
    }

    /// Ends all connections there are.
    pub(super) fn cut(&self) {
        self.cut.send_replace(());
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn carry(client: TcpStream, server: TcpStream, cut: Cut) {
    let (up, down) = match cut {
        Cut::Never => (u64::MAX, u64::MAX),
        Cut::AfterSending(bytes) => (bytes, u64::MAX),
        Cut::AfterReceiving(bytes) => (u64::MAX, bytes),
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = copy(from_client, to_server, up) => {}
        () = copy(from_server, to_client, down) => {}
    }
}

async fn copy(from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, limit: u64) {
    let _ = tokio::io::copy(&mut from.take(limit), &mut to).await;
}
