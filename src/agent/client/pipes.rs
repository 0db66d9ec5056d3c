//! The pipes between the agent and a client, which end soon after the client does.
//!
//! A child that the client leaves behind may keep them open for as long as it likes. What it would still print, or read,
//! belongs to a dump or a load that nobody answers for any more.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Shared, Verdict};
use crate::agent::job::{CUT, Side};

/// How long a pipe may stay open once the client has ended, and what it had printed was read.
pub(super) const LINGER: Duration = Duration::from_secs(5);
/// How often is looked whether the client has ended.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
/// How much of the client's standard error is kept, in bytes.
const LAST_WORDS: usize = 8 * 1024;
/// Pipes are this big where the kernel allows it: fewer changes between client and agent.
const PIPE_BYTES: usize = 1024 * 1024;

/// A client's standard output; reading it counts as a sign of the client's life.
pub(super) struct Output {
    pipe: Option<ChildStdout>,
    patience: Patience,
}

/// A client's standard input.
pub(super) struct Input {
    pipe: ChildStdin,
    patience: Patience,
}

/// Waits at a pipe for as long as there is a client.
struct Patience {
    shared: Arc<Shared>,
    side: Side,
    ended: Option<Ended>,
}

/// A client that was seen to have ended.
struct Ended {
    since: Instant,
    /// What lay in its output then, in bytes. It was printed in time, however slowly it is read.
    left: u64,
}

impl Output {
    pub(super) fn new(pipe: Option<ChildStdout>, shared: &Arc<Shared>) -> Self {
        if let Some(pipe) = &pipe {
            widen(pipe);
        }
        Self {
            pipe,
            patience: Patience::new(shared, Side::Output),
        }
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(pipe) = &mut self.pipe else {
            return Ok(0);
        };
        self.patience.wait(pipe, PollFlags::IN)?;
        let length = pipe.read(buffer)?;
        self.patience.was_read(length as u64);
        let printed = &self.patience.shared.printed;
        printed.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

impl Input {
    pub(super) fn new(pipe: ChildStdin, shared: &Arc<Shared>) -> io::Result<Self> {
        widen(&pipe);
        // A write of more than there is room for must not wait where nobody looks whether the client has ended.
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self {
            pipe,
            patience: Patience::new(shared, Side::Input),
        })
    }
}

impl Write for Input {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.pipe.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.patience.wait(&self.pipe, PollFlags::OUT)?;
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Patience {
    fn new(shared: &Arc<Shared>, side: Side) -> Self {
        Self {
            shared: shared.clone(),
            side,
            ended: None,
        }
    }

    /// Until the pipe is ready, or closed. An error when it is still open a while after the client's end, even where a child
    /// of it prints or reads on: the verdict is given then.
    fn wait(&mut self, pipe: &impl AsFd, events: PollFlags) -> io::Result<()> {
        loop {
            self.look(pipe)?;
            let mut polled = [PollFd::new(pipe, events)];
            let ready = match poll(&mut polled, Some(&LOOK)) {
                Ok(ready) => ready > 0,
                Err(rustix::io::Errno::INTR) => false,
                Err(error) => return Err(error.into()),
            };
            // With nobody at its other end, what is left in it is all there will be.
            let closed = PollFlags::HUP | PollFlags::ERR;
            let is_closed = polled[0].revents().intersects(closed);
            if ready && (is_closed || !self.is_over()) {
                return Ok(());
            }
            if self.is_over() {
                let _ = self.shared.verdict.set(Verdict::Held { side: self.side });
                return Err(io::Error::other("a child of the client holds its pipe"));
            }
        }
    }

    fn look(&mut self, pipe: &impl AsFd) -> io::Result<()> {
        if self.ended.is_none() && self.shared.client_has_ended() {
            let left = match self.side {
                Side::Output => rustix::io::ioctl_fionread(pipe)?,
                Side::Input => 0,
            };
            let since = Instant::now();
            self.ended = Some(Ended { since, left });
        }
        Ok(())
    }

    fn was_read(&mut self, length: u64) {
        if let Some(ended) = &mut self.ended
            && ended.left > 0
        {
            ended.left = ended.left.saturating_sub(length);
            ended.since = Instant::now();
        }
    }

    fn is_over(&self) -> bool {
        let is_over = |ended: &Ended| ended.left == 0 && ended.since.elapsed() >= LINGER;
        self.ended.as_ref().is_some_and(is_over)
    }
}

/// The end of a client's standard error, read in a thread of its own.
pub(super) struct LastWords {
    kept: Arc<Mutex<Kept>>,
    is_over: Receiver<()>,
}

impl LastWords {
    pub(super) fn listen(pipe: Option<ChildStderr>) -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let (over, is_over) = sync_channel(1);
        let keeping = kept.clone();
        thread::spawn(move || {
            if let Some(pipe) = pipe {
                read_to_end(pipe, &keeping);
            }
            // Nobody listens any more who has not waited for all of it.
            let _ = over.send(());
        });
        Self { kept, is_over }
    }

    /// To be called after the client's end. What a child of it would still say is not waited for.
    pub(super) fn end(self) -> String {
        let _ = self.is_over.recv_timeout(LINGER);
        lock(&self.kept).words()
    }
}

fn lock(kept: &Mutex<Kept>) -> std::sync::MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_to_end(mut stream: impl Read, kept: &Mutex<Kept>) {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => lock(kept).add(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
}

/// The last [`LAST_WORDS`] bytes of a stream.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Kept {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let excess = self.bytes.len().saturating_sub(LAST_WORDS);
        self.is_cut |= excess > 0;
        self.bytes.drain(..excess);
    }

    /// Begins with [`CUT`] where something is missing.
    fn words(&self) -> String {
        if !self.is_cut {
            return String::from_utf8_lossy(&self.bytes).trim().to_owned();
        }
        // The first line was cut; where there is no other one, at least no character is.
        let newline = self.bytes.iter().position(|byte| *byte == b'\n');
        let is_start = |byte: &u8| *byte & 0b1100_0000 != 0b1000_0000;
        let start = match newline {
            Some(newline) if newline + 1 < self.bytes.len() => newline + 1,
            _ => self.bytes.iter().position(is_start).unwrap_or(0),
        };
        let words = String::from_utf8_lossy(&self.bytes[start..]);
        format!("{CUT}{}", words.trim())
    }
}

fn widen(pipe: impl AsFd) {
    // Only speed depends on it, and an unprivileged user may have used up what the kernel allows.
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU64};

    /// A child of a client that has ended, and the client's output, which was left alone for too long.
    fn left(script: &str, left: u64) -> (Child, Output) {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let shared = Arc::new(Shared {
            running: Mutex::new(None),
            verdict: OnceLock::new(),
            printed: AtomicU64::new(0),
            heard: AtomicBool::new(false),
            unwanted: AtomicBool::new(false),
        });
        let mut output = Output::new(child.stdout.take(), &shared);
        let since = Instant::now() - LINGER;
        output.patience.ended = Some(Ended { since, left });
        (child, output)
    }

    #[test]
    fn what_a_client_has_printed_is_read_however_late() {
        let (mut child, mut output) = left("printf client; exec sleep 1000", 6);
        let mut printed = [0; 6];
        output.read_exact(&mut printed).unwrap();
        assert_eq!(&printed, b"client");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(output.read(&mut printed).unwrap(), 0);

        // All of it comes from children, which have ended.
        let (mut child, mut output) = left("printf child", 0);
        child.wait().unwrap();
        let mut printed = String::new();
        output.read_to_string(&mut printed).unwrap();
        assert_eq!(printed, "child");
    }

    #[test]
    fn a_child_that_prints_on_is_not_read_for_ever() {
        let (mut child, mut output) = left("exec cat /dev/zero", 0);
        let error = output.read(&mut [0; 6]).unwrap_err();
        assert!(error.to_string().contains("holds its pipe"), "{error}");
        let verdict = output.patience.shared.verdict.get();
        let side = Side::Output;
        assert_eq!(verdict, Some(&Verdict::Held { side }));
        drop(output);
        child.wait().unwrap();
    }

    fn kept(pieces: &[&[u8]]) -> String {
        let mut kept = Kept::default();
        for piece in pieces {
            kept.add(piece);
        }
        kept.words()
    }

    #[test]
    fn what_is_missing_is_marked_and_nothing_begins_in_the_middle() {
        assert_eq!(kept(&[b" all of it\n"]), "all of it");
        let line = [&b"x".repeat(LAST_WORDS)[..], b"\nthe end\n"].concat();
        assert_eq!(kept(&[&line]), format!("{CUT}the end"));
        let umlauts = "ü".repeat(LAST_WORDS / 2);
        let cut = kept(&[umlauts.as_bytes(), b"!"]);
        assert_eq!(cut, format!("{CUT}{}!", &umlauts[2..]));
        let one_line = [&b"x".repeat(LAST_WORDS)[..], b"END\n"].concat();
        assert!(kept(&[&one_line]).ends_with("xEND"));
    }
}
