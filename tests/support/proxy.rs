//! A proxy between Cofferdam and the engine, or another server, that does what real ones and dying servers do: it cuts,
//! delays, hangs, refuses, damages and leaves out.
//!
//! It listens on a socket or port of its own and carries one request a connection. Connections that are upgraded (exec) pass raw
//! in both directions. It runs on a thread of its own, so that it goes on while a test waits for a program.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cofferdam::engine::{Endpoint, Engine};
use globset::{GlobBuilder, GlobMatcher};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Runtime;

use super::endpoint;

type Change = dyn Fn(&mut [u8]) + Send + Sync;

/// What happens to a request that a rule matches.
#[derive(Clone)]
pub enum Fault {
    /// Closes the connection after this many bytes of the answer's body (of the raw stream, when it is upgraded).
    Cut(u64),
    /// The same, but the body seems to end there by itself.
    EndEarly(u64),
    /// Passes this many bytes of the answer's body, then nothing more.
    HangAfter(u64),
    /// Never answers.
    Hang,
    /// Waits before it passes the request on.
    Delay(Duration),
    /// Closes the connection after this many bytes of the request's body.
    CutRequest(u64),
    /// Answers with 403 itself, as a socket proxy does.
    Refuse,
    /// Answers itself: with a status line's code and reason, and a body.
    Answer(&'static str, &'static str),
    /// Changes an answer in JSON.
    Rewrite(Arc<dyn Fn(&mut Value) + Send + Sync>),
    /// Changes what is sent over an upgraded connection, piece by piece.
    Damage(Arc<Change>),
    /// Never tells the engine that nothing more is sent over an upgraded connection.
    NoEndOfInput,
    /// Carries nothing of what is sent over an upgraded connection.
    NoInput,
}

impl Fault {
    pub fn rewrite(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self::Rewrite(Arc::new(change))
    }

    /// Overwrites every `from` with `to`, in the first piece that holds it. Pieces end anywhere.
    pub fn damage_once(from: &'static [u8], to: &'static [u8]) -> Self {
        assert_eq!(from.len(), to.len());
        let done = AtomicBool::new(false);
        Self::Damage(Arc::new(move |piece| {
            for at in 0..(piece.len() + 1).saturating_sub(from.len()) {
                let found = &mut piece[at..at + from.len()];
                if found == from && !done.swap(true, Ordering::Relaxed) {
                    found.copy_from_slice(to);
                }
            }
        }))
    }
}

struct Rule {
    method: String,
    path: GlobMatcher,
    fault: Fault,
    /// How often it still applies; `None`: always.
    left: Option<u32>,
}

#[derive(Default)]
struct Shared {
    rules: Vec<Rule>,
    seen: Vec<String>,
    versions: BTreeSet<String>,
    /// How many calls that change something still pass; `None`: all.
    changes_left: Option<u32>,
    is_hanging: bool,
}

pub struct FaultProxy {
    shared: Arc<Mutex<Shared>>,
    front: Front,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    _directory: tempfile::TempDir,
}

/// Where the proxy listens.
enum Front {
    Socket(PathBuf),
    Port(SocketAddr),
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Connection>> {
        Ok(match self {
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

impl FaultProxy {
    /// Before the engine, on a socket.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("engine.sock");
        let runtime = runtime();
        let listener = {
            let _guard = runtime.enter();
            Listener::Unix(UnixListener::bind(&socket).unwrap())
        };
        Self::serve(
            runtime,
            listener,
            Front::Socket(socket),
            endpoint(),
            directory,
        )
    }

    /// Before a server of HTTP, as `10.0.0.2:3900`, on a port of this machine.
    pub fn before(address: &str) -> Self {
        let runtime = runtime();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = {
            let _guard = runtime.enter();
            TcpListener::from_std(listener).unwrap()
        };
        let front = Front::Port(listener.local_addr().unwrap());
        let server = Endpoint::Tcp {
            address: address.to_owned(),
            tls: None,
        };
        let directory = tempfile::tempdir().unwrap();
        Self::serve(runtime, Listener::Tcp(listener), front, server, directory)
    }

    fn serve(
        runtime: Runtime,
        listener: Listener,
        front: Front,
        server: Endpoint,
        directory: tempfile::TempDir,
    ) -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let serve = {
            let shared = shared.clone();
            async move {
                while let Ok(client) = listener.accept().await {
                    let (shared, server) = (shared.clone(), server.clone());
                    // What goes wrong here is what the code under test has to notice.
                    tokio::spawn(async move { carry(client, &server, &shared).await.ok() });
                }
            }
        };
        runtime.spawn(serve);
        Self {
            shared,
            front,
            runtime: Some(runtime),
            _directory: directory,
        }
    }

    /// `127.0.0.1:41234`
    pub fn address(&self) -> SocketAddr {
        match &self.front {
            Front::Port(address) => *address,
            Front::Socket(path) => panic!("it listens on {}", path.display()),
        }
    }

    pub fn endpoint(&self) -> Endpoint {
        match &self.front {
            Front::Socket(path) => Endpoint::Unix(path.to_str().unwrap().to_owned()),
            Front::Port(address) => panic!("it listens on {address}"),
        }
    }

    pub async fn engine(&self) -> Engine {
        Engine::connect(self.endpoint()).await.unwrap()
    }

    /// From now on, `fault` happens to every request with this method whose path matches the glob: `*` stands for one
    /// component, `**` for several. The version prefix and the query do not count. The first rule that matches applies.
    pub fn on(&self, method: &str, path: &str, fault: Fault) {
        self.add(method, path, fault, None);
    }

    /// The same, for the first such request only.
    pub fn once(&self, method: &str, path: &str, fault: Fault) {
        self.add(method, path, fault, Some(1));
    }

    fn add(&self, method: &str, path: &str, fault: Fault, left: Option<u32>) {
        let glob = GlobBuilder::new(path).literal_separator(true).build();
        self.shared.lock().unwrap().rules.push(Rule {
            method: method.to_owned(),
            path: glob.unwrap().compile_matcher(),
            fault,
            left,
        });
    }

    /// Lets `count` calls pass that change something (every method but GET and HEAD), and never answers the next.
    pub fn hang_after_changes(&self, count: u32) {
        self.shared.lock().unwrap().changes_left = Some(count);
    }

    /// Whether that next call has come.
    pub fn is_hanging(&self) -> bool {
        self.shared.lock().unwrap().is_hanging
    }

    /// For `DOCKER_HOST`.
    pub fn docker_host(&self) -> String {
        match &self.front {
            Front::Socket(path) => format!("unix://{}", path.display()),
            Front::Port(address) => format!("tcp://{address}"),
        }
    }

    /// The requests so far: `GET /containers/db/json`.
    pub fn seen(&self) -> Vec<String> {
        self.shared.lock().unwrap().seen.clone()
    }

    /// The API versions that requests named: `v1.41`; empty for those that named none.
    pub fn versions(&self) -> BTreeSet<String> {
        self.shared.lock().unwrap().versions.clone()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The head of a request or an answer, as it stood on the wire.
struct Head {
    lines: Vec<String>,
}

impl Head {
    async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(from.read_u8().await?);
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.trim_end().lines().map(str::to_owned).collect();
        Ok(Self { lines })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.lines.iter().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// 0 where there is none, or where it is not known.
    fn content_length(&self) -> io::Result<u64> {
        let length = self.header("content-length").unwrap_or("0");
        length.parse().map_err(io::Error::other)
    }

    fn is_upgraded(&self) -> bool {
        self.lines[0].split(' ').nth(1) == Some("101")
    }

    fn without(mut self, names: &[&str]) -> Self {
        self.lines.retain(|line| {
            let key = line.split(':').next().unwrap_or_default();
            !names.iter().any(|name| key.eq_ignore_ascii_case(name))
        });
        self
    }

    fn with(mut self, header: String) -> Self {
        self.lines.push(header);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        format!("{}\r\n\r\n", self.lines.join("\r\n")).into_bytes()
    }

    /// Method, version, and path without version and query.
    fn request(&self) -> (String, String, String) {
        let mut words = self.lines[0].split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default();
        let target = target.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = target.splitn(3, '/').collect();
        let is_version = |part: &str| part.starts_with('v') && part.contains('.');
        match parts.as_slice() {
            ["", version, rest] if is_version(version) => {
                (method, (*version).to_owned(), format!("/{rest}"))
            }
            _ => (method, String::new(), target.to_owned()),
        }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

async fn carry(
    client: Box<dyn Connection>,
    server: &Endpoint,
    shared: &Mutex<Shared>,
) -> io::Result<()> {
    let (from_client, to_client) = tokio::io::split(client);
    let mut from_client = BufReader::new(from_client);
    let request = Head::read(&mut from_client).await?;
    match take_fault(shared, &request) {
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Refuse) => {
            let page = "<html><body><h1>403 Forbidden</h1>\nRequest forbidden by administrative rules.\n</body></html>\n";
            answer_itself(from_client, to_client, "403 Forbidden", page).await
        }
        Some(Fault::Answer(status, page)) => {
            answer_itself(from_client, to_client, status, page).await
        }
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            exchange(request, server, from_client, to_client, None).await
        }
        fault => exchange(request, server, from_client, to_client, fault).await,
    }
}

async fn answer_itself(
    mut from_client: impl AsyncRead + Unpin,
    mut to_client: impl AsyncWrite + Unpin,
    status: &str,
    page: &str,
) -> io::Result<()> {
    let answer =
        format!("HTTP/1.1 {status}\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n{page}");
    to_client.write_all(answer.as_bytes()).await?;
    to_client.shutdown().await?;
    // As real ones do: closing at once would take the answer away from a client that is still sending.
    tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await?;
    Ok(())
}

fn take_fault(shared: &Mutex<Shared>, request: &Head) -> Option<Fault> {
    let (method, version, path) = request.request();
    let mut shared = shared.lock().unwrap();
    shared.versions.insert(version);
    shared.seen.push(format!("{method} {path}"));
    if !matches!(method.as_str(), "GET" | "HEAD") {
        match &mut shared.changes_left {
            Some(0) => {
                shared.is_hanging = true;
                return Some(Fault::Hang);
            }
            Some(left) => *left -= 1,
            None => {}
        }
    }
    let rule = shared
        .rules
        .iter_mut()
        .find(|rule| rule.left != Some(0) && rule.method == method && rule.path.is_match(&path))?;
    rule.left = rule.left.map(|left| left - 1);
    Some(rule.fault.clone())
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

async fn upstream(server: &Endpoint) -> io::Result<Box<dyn Connection>> {
    Ok(match server {
        Endpoint::Unix(path) => Box::new(UnixStream::connect(path).await?),
        Endpoint::Tcp { address, .. } => Box::new(TcpStream::connect(address).await?),
    })
}

async fn exchange(
    request: Head,
    server: &Endpoint,
    mut from_client: BufReader<impl AsyncRead + Unpin>,
    mut to_client: impl AsyncWrite + Unpin,
    fault: Option<Fault>,
) -> io::Result<()> {
    let (from_engine, mut to_engine) = tokio::io::split(upstream(server).await?);
    let mut from_engine = BufReader::new(from_engine);
    let is_upgrade = request.header("upgrade").is_some();
    let request = if is_upgrade {
        request
    } else {
        request
            .without(&["connection"])
            .with("Connection: close".to_owned())
    };
    to_engine.write_all(&request.bytes()).await?;

    let body = request.content_length()?;
    if let Some(Fault::CutRequest(bytes)) = fault {
        let sent = &mut (&mut from_client).take(body.min(bytes));
        tokio::io::copy(sent, &mut to_engine).await?;
        return Ok(());
    }
    let input = fault.clone();
    let up = async {
        tokio::io::copy(&mut (&mut from_client).take(body), &mut to_engine).await?;
        to_engine.flush().await?;
        let passed = match &input {
            Some(Fault::NoInput) => Ok(()),
            Some(Fault::Damage(change)) => {
                damaged(&mut from_client, &mut to_engine, &**change).await
            }
            _ => tokio::io::copy(&mut from_client, &mut to_engine)
                .await
                .map(drop),
        };
        // Half of an upgraded connection may be closed, by either side; otherwise, the client is gone.
        if !is_upgrade {
            return passed;
        }
        if !matches!(input, Some(Fault::NoEndOfInput | Fault::NoInput)) {
            to_engine.shutdown().await.ok();
        }
        // What the engine does not take any more is taken all the same, and what it says goes on.
        tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await?;
        std::future::pending().await
    };
    let down = answer(&mut from_engine, &mut to_client, fault);
    tokio::select! {
        result = up => result?,
        result = down => result?,
    }
    if is_upgrade {
        // Closing at once would take the answer away from a client that is still sending.
        tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await?;
    }
    Ok(())
}

async fn damaged(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    change: &Change,
) -> io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        change(&mut piece[..length]);
        to.write_all(&piece[..length]).await?;
        to.flush().await?;
    }
}

async fn answer(
    from_engine: &mut (impl AsyncRead + Unpin),
    to_client: &mut (impl AsyncWrite + Unpin),
    fault: Option<Fault>,
) -> io::Result<()> {
    let head = Head::read(from_engine).await?;
    match fault {
        None
        | Some(
            Fault::Hang
            | Fault::Refuse
            | Fault::Answer(..)
            | Fault::CutRequest(_)
            | Fault::Delay(_)
            | Fault::Damage(_)
            | Fault::NoEndOfInput
            | Fault::NoInput,
        ) => {
            to_client.write_all(&head.bytes()).await?;
            tokio::io::copy(from_engine, to_client).await?;
        }
        Some(Fault::Cut(bytes)) => {
            to_client.write_all(&head.bytes()).await?;
            tokio::io::copy(&mut from_engine.take(bytes), to_client).await?;
        }
        Some(Fault::HangAfter(bytes)) => {
            to_client.write_all(&head.bytes()).await?;
            tokio::io::copy(&mut from_engine.take(bytes), to_client).await?;
            to_client.flush().await?;
            std::future::pending::<()>().await;
        }
        // Both directions of an upgraded connection go on until the engine has said everything.
        Some(Fault::EndEarly(bytes)) if head.is_upgraded() => {
            to_client.write_all(&head.bytes()).await?;
            tokio::io::copy(&mut (&mut *from_engine).take(bytes), to_client).await?;
            tokio::io::copy(from_engine, &mut tokio::io::sink()).await?;
        }
        Some(Fault::EndEarly(bytes)) => {
            let mut body = read_body(&head, from_engine).await?;
            body.truncate(usize::try_from(bytes).unwrap());
            send_whole(head, &body, to_client).await?;
        }
        Some(Fault::Rewrite(change)) => {
            let body = read_body(&head, from_engine).await?;
            let mut value: Value = serde_json::from_slice(&body)?;
            change(&mut value);
            send_whole(head, value.to_string().as_bytes(), to_client).await?;
        }
    }
    to_client.shutdown().await
}

async fn send_whole(
    head: Head,
    body: &[u8],
    to_client: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let head = head
        .without(&["transfer-encoding", "content-length"])
        .with(format!("Content-Length: {}", body.len()));
    to_client.write_all(&head.bytes()).await?;
    to_client.write_all(body).await
}

async fn read_body(head: &Head, from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if head.header("transfer-encoding") == Some("chunked") {
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.push(from.read_u8().await?);
            }
            let size = String::from_utf8_lossy(&line);
            let size = u64::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            from.take(size).read_to_end(&mut body).await?;
            from.read_exact(&mut [0; 2]).await?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
    match head.header("content-length") {
        Some(length) => {
            let length = length.parse().map_err(io::Error::other)?;
            from.take(length).read_to_end(&mut body).await?;
        }
        None => {
            from.read_to_end(&mut body).await?;
        }
    }
    Ok(body)
}
