//! The database's own client as the agent's child, and the thread that watches over it.
//!
//! The attendant ends the client when cofferdam goes away, or when the client has been silent for too long. Cofferdam
//! shows that it is there by sending frames to the agent's standard input ([`super::incoming`]) from time to time and
//! keeping it open; the engine closes it when the connection ends, however that came about. An input that was never
//! written to means nothing: some proxies do not carry it.
//!
//! A client ends with all that it has started when it is ended. One that ends by itself may leave children, whom its pipes do
//! not wait for (`pipes`).
//!
//! The attendant also writes to standard error from time to time, so that no proxy takes a long silence for a dead
//! connection.

mod pipes;

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use self::pipes::{Input, LastWords, Output};
use super::JOB;
use super::incoming::{Incoming, QUEUE, hung_up, read_frame};
use super::job::{ClientEnd, Failure, Side};
use super::processes::{self, Marked};

/// How often cofferdam and its agent show each other that they are there.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// What a client is given between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// The same for what it leaves behind.
const GRACE_OF_CHILDREN: Duration = Duration::from_secs(1);
/// The environment variable by which a client's children are found.
const MARK: &str = "COFFERDAM_CLIENT";

/// Watches over the clients of one job.
pub struct Attendant {
    shared: Arc<Shared>,
}

struct Shared {
    /// The process group of the client that runs; gone before its id can be used again.
    running: Mutex<Option<Pid>>,
    verdict: OnceLock<Verdict>,
    /// Bytes that the client has printed.
    printed: AtomicU64,
    /// Something has come in: the input is carried.
    heard: AtomicBool,
    /// Somebody has begun to end the client.
    unwanted: AtomicBool,
}

/// Why the attendant ended a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Abandoned,
    Silent {
        seconds: u64,
    },
    /// A child that it left keeps a pipe of it open.
    Held {
        side: Side,
    },
}

impl Attendant {
    /// `idle_limit`: `None` for clients that print nothing by nature.
    pub fn begin(idle_limit: Option<Duration>) -> Self {
        Self::attend(idle_limit, None)
    }

    /// For a client that gets `bytes` of what cofferdam sends.
    pub fn begin_with_input(bytes: u64) -> (Self, Incoming) {
        let (sender, pieces) = sync_channel(QUEUE);
        let attendant = Self::attend(None, Some(sender));
        let shared = attendant.shared.clone();
        let is_carried = move || shared.heard.load(Ordering::Relaxed);
        (attendant, Incoming::new(pieces, bytes, is_carried))
    }

    fn attend(idle_limit: Option<Duration>, input: Option<SyncSender<Vec<u8>>>) -> Self {
        let shared = Arc::new(Shared {
            running: Mutex::new(None),
            verdict: OnceLock::new(),
            printed: AtomicU64::new(0),
            heard: AtomicBool::new(false),
            unwanted: AtomicBool::new(false),
        });
        let listening = shared.clone();
        thread::spawn(move || listening.listen(io::stdin(), input.as_ref(), hung_up));
        let watching = shared.clone();
        thread::spawn(move || watching.watch(idle_limit));
        Self { shared }
    }

    /// An error when cofferdam is gone: for loops that run without a client.
    pub fn ensure_wanted(&self) -> Result<(), Failure> {
        match self.shared.verdict.get() {
            Some(Verdict::Abandoned) => Err(Failure::Abandoned),
            _ => Ok(()),
        }
    }

    /// Whether a failure of the client is the attendant's verdict, which says more than whatever else fails because of it.
    pub fn has_ruled(&self) -> bool {
        self.shared.verdict.get().is_some()
    }

    /// Starts a client in a process group of its own, so that its own children end with it.
    pub fn start(&self, argv: &[String], stdin: Stdio, stdout: Stdio) -> Result<Client, Failure> {
        let (program, arguments) = argv.split_first().ok_or_else(|| Failure::Other {
            message: "the job names no client".to_owned(),
        })?;
        let mut running = self.shared.lock();
        // Also covers a verdict that falls while nothing runs.
        self.ensure_wanted()?;
        let mark = format!("{:032x}", rand::random::<u128>());
        let mut child = Command::new(program)
            .args(arguments)
            .env_remove(JOB)
            .env(MARK, &mark)
            .process_group(0)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::NoClient {
                program: program.clone(),
                message: error.to_string(),
            })?;
        *running = Some(Pid::from_child(&child));
        Ok(Client {
            program: program.clone(),
            mark,
            last_words: LastWords::listen(child.stderr.take()),
            shared: self.shared.clone(),
            child,
        })
    }
}

/// A client that runs.
pub struct Client {
    program: String,
    child: Child,
    /// The value of [`MARK`].
    mark: String,
    last_words: LastWords,
    shared: Arc<Shared>,
}

impl Client {
    /// The client's standard output; reading it counts as a sign of the client's life.
    pub fn stdout(&mut self) -> impl Read + use<> {
        Output::new(self.child.stdout.take(), &self.shared)
    }

    pub fn stdin(&mut self) -> io::Result<Option<impl Write + use<>>> {
        let stdin = self.child.stdin.take();
        stdin.map(|pipe| Input::new(pipe, &self.shared)).transpose()
    }

    /// Begins to end the client: what it would still do is of no use any more. [`Client::wait`] has to follow.
    pub fn end(&self) {
        let shared = self.shared.clone();
        shared.unwanted.store(true, Ordering::Relaxed);
        thread::spawn(move || shared.end_running());
    }

    /// Waits for the client. `Ok` holds the end of its standard error.
    pub fn wait(mut self) -> Result<String, Failure> {
        let status = self.reap()?;
        let verdict = self.shared.verdict.get().copied();
        if verdict.is_some() || self.shared.unwanted.load(Ordering::Relaxed) {
            let mut marked = Marked::new(MARK, &self.mark);
            processes::end(|| marked.running(), GRACE_OF_CHILDREN);
        }
        let stderr = self.last_words.end();
        let program = self.program;
        match (verdict, client_end(status)) {
            (Some(Verdict::Abandoned), _) => Err(Failure::Abandoned),
            (Some(Verdict::Silent { seconds }), _) => Err(Failure::Silent {
                program,
                seconds,
                stderr,
            }),
            (_, Some(end)) => Err(Failure::Client {
                program,
                end,
                stderr,
            }),
            (Some(Verdict::Held { side }), None) => Err(Failure::Held {
                program,
                side,
                stderr,
            }),
            (None, None) => Ok(stderr),
        }
    }

    /// Takes the client off the attendant's list before its process id can be used again.
    fn reap(&mut self) -> Result<ExitStatus, Failure> {
        let other = |error: io::Error| Failure::Other {
            message: format!("cannot wait for {}: {error}", self.program),
        };
        let pid = Pid::from_child(&self.child);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        loop {
            match waitid(WaitId::Pid(pid), options) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(other(error.into())),
            }
        }
        *self.shared.lock() = None;
        self.child.wait().map_err(other)
    }
}

/// `None` for success.
fn client_end(status: ExitStatus) -> Option<ClientEnd> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(ClientEnd::Code(code)),
        (None, signal) => Some(ClientEnd::Signal(signal.unwrap_or_default())),
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Pid>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has ended, or was not there.
    fn client_has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let running = *self.lock();
        running.is_none_or(|pid| !matches!(waitid(WaitId::Pid(pid), options), Ok(None)))
    }

    /// Hands on what comes in, and waits for the end of an input that was alive.
    fn listen(
        &self,
        mut input: impl Read,
        to: Option<&SyncSender<Vec<u8>>>,
        hung_up: impl Fn() -> bool,
    ) {
        while let Ok(Some(piece)) = read_frame(&mut input) {
            self.heard.store(true, Ordering::Relaxed);
            if let Some(to) = to
                && !piece.is_empty()
                && !deliver(to, piece, &hung_up)
            {
                break;
            }
        }
        if self.heard.load(Ordering::Relaxed) {
            self.give(Verdict::Abandoned);
        }
    }

    fn watch(&self, idle_limit: Option<Duration>) {
        let mut last_printed = 0;
        let mut silent_since = Instant::now();
        loop {
            thread::sleep(SIGN_OF_LIFE.min(idle_limit.unwrap_or(SIGN_OF_LIFE)));
            // Nobody there to see it is the listener's business.
            let _ = io::stderr().write_all(b"\n");
            let printed = self.printed.load(Ordering::Relaxed);
            if printed != last_printed {
                last_printed = printed;
                silent_since = Instant::now();
            } else if let Some(limit) = idle_limit
                && silent_since.elapsed() >= limit
                && self.lock().is_some()
            {
                self.give(Verdict::Silent {
                    seconds: limit.as_secs(),
                });
                return;
            }
        }
    }

    fn give(&self, verdict: Verdict) {
        let _ = self.verdict.set(verdict);
        self.end_running();
    }

    fn end_running(&self) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + GRACE;
        while self.lock().is_some() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = *self.lock() {
            // A group that is gone already needs no signal.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// Waits until there is room; `false` when cofferdam goes away meanwhile. What nobody wants any more is thrown away.
fn deliver(to: &SyncSender<Vec<u8>>, mut piece: Vec<u8>, hung_up: impl Fn() -> bool) -> bool {
    const PAUSE: Duration = Duration::from_millis(5);
    loop {
        match to.try_send(piece) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => return true,
            Err(TrySendError::Full(back)) => piece = back,
        }
        if hung_up() {
            return false;
        }
        thread::sleep(PAUSE);
    }
}
