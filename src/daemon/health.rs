//! Whether the daemon is well, for `cofferdam health` in the same container.
//!
//! It is asked over an abstract Unix socket (unix(7)): there is no file, which a read-only container could not hold, and no
//! port. Whoever shares the network namespace can ask, and gets nothing but the answer.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener, UnixStream as StdStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tracing::warn;

/// An idle daemon turns round at least once a minute.
const SILENCE: Duration = Duration::from_secs(5 * 60);

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// No answer is longer.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// Cheap to clone: all clones are one.
#[derive(Clone)]
pub struct Pulse(Arc<Mutex<State>>);

struct State {
    /// When the daemon last turned round; `None` while a backup or a check is running.
    turned: Option<Instant>,
    /// Why the engine could not be asked, the last time.
    engine: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub healthy: bool,
    /// For people.
    pub why: String,
}

impl Default for Pulse {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            turned: Some(Instant::now()),
            engine: None,
        })))
    }
}

impl Pulse {
    pub fn turns_round(&self) {
        self.state().turned = Some(Instant::now());
    }

    pub fn begins_work(&self) {
        self.state().turned = None;
    }

    /// What came of asking the engine.
    pub fn engine(&self, trouble: Option<String>) {
        self.state().engine = trouble;
    }

    pub fn health(&self, now: Instant) -> Health {
        let state = self.state();
        let silent = state.turned.map(|turned| now.duration_since(turned));
        let (healthy, why) = match (&state.engine, silent) {
            (Some(trouble), _) => (false, trouble.clone()),
            (None, Some(silent)) if silent > SILENCE => {
                let minutes = silent.as_secs() / 60;
                (
                    false,
                    format!("the daemon has done nothing for {minutes} minutes"),
                )
            }
            (None, Some(_)) => (true, "waiting for the next backup".to_owned()),
            (None, None) => (true, "at work".to_owned()),
        };
        Health { healthy, why }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers until it is dropped.
pub async fn answer(pulse: Pulse) {
    let listener = match address().and_then(|address| listen(&address)) {
        Ok(listener) => listener,
        Err(error) => {
            warn!("`cofferdam health` cannot reach this daemon: {error}");
            return std::future::pending().await;
        }
    };
    answer_at(&listener, &pulse).await;
}

async fn answer_at(listener: &UnixListener, pulse: &Pulse) {
    loop {
        match listener.accept().await {
            Ok((mut asking, _)) => {
                let health = serde_json::to_vec(&pulse.health(Instant::now())).unwrap_or_default();
                let _ = tokio::time::timeout(ANSWER_TIMEOUT, asking.write_all(&health)).await;
            }
            // Too many open files, for instance: it passes.
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// Asks the daemon of this container.
pub async fn ask() -> io::Result<Health> {
    ask_at(&address()?).await
}

async fn ask_at(address: &SocketAddr) -> io::Result<Health> {
    let asked = async {
        let stream = StdStream::connect_addr(address)?;
        stream.set_nonblocking(true)?;
        let mut answer = Vec::new();
        let stream = UnixStream::from_std(stream)?;
        stream
            .take(MAX_ANSWER_BYTES)
            .read_to_end(&mut answer)
            .await?;
        serde_json::from_slice(&answer).map_err(io::Error::from)
    };
    tokio::time::timeout(ANSWER_TIMEOUT, asked)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it does not answer"))?
}

fn listen(address: &SocketAddr) -> io::Result<UnixListener> {
    let listener = StdListener::bind_addr(address)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Containers may share a network namespace, and with it these addresses; processes they do not share.
fn address() -> io::Result<SocketAddr> {
    let processes = std::fs::read_link("/proc/self/ns/pid")?;
    SocketAddr::from_abstract_name(format!("cofferdam health {}", processes.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_is_told() {
        let name = format!("cofferdam test {}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let nobody = ask_at(&address).await.unwrap_err();
        assert_eq!(nobody.kind(), io::ErrorKind::ConnectionRefused);
        let pulse = Pulse::default();
        let listener = listen(&address).unwrap();
        let asked = async {
            assert!(ask_at(&address).await.unwrap().healthy);
            pulse.engine(Some("cannot reach the Docker Engine".to_owned()));
            let ill = ask_at(&address).await.unwrap();
            assert_eq!(
                (ill.healthy, ill.why.as_str()),
                (false, "cannot reach the Docker Engine")
            );
            pulse.engine(None);
            pulse.begins_work();
            assert!(ask_at(&address).await.unwrap().why.contains("at work"));
        };
        tokio::select! {
            () = asked => {}
            () = answer_at(&listener, &pulse) => unreachable!(),
        }
    }

    #[test]
    fn a_daemon_that_hangs_is_not_well() {
        let pulse = Pulse::default();
        let later = Instant::now() + SILENCE * 2;
        assert!(pulse.health(Instant::now()).healthy);
        assert_eq!(
            pulse.health(later).why,
            "the daemon has done nothing for 10 minutes"
        );
        pulse.begins_work();
        assert!(pulse.health(later).healthy);
    }
}
