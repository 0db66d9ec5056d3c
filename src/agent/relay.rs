//! Inside a container: stands between a MySQL dump client and its server, and has the server print some columns another way.
//!
//! The dump clients read rows as the server prints them, and it prints a FLOAT with six digits. They cannot be told to ask
//! otherwise, and rows that another session reads are those of another moment. So the one session that dumps everything
//! goes through here, and [`select`] replaces columns in its SELECTs by expressions that lose nothing. Everything else,
//! and every answer, goes through as it is.
//!
//! ```text
//!   client ─▶ socket in the visit's directory ─▶ packets, SELECTs replaced ─▶ server
//!   client ◀───────────────────────────── bytes ◀──────────────────────────── server
//! ```
//!
//! The socket lies in a directory that only the visit's user can enter, and goes with it. The connection has no TLS: both
//! ends are in this container.

mod select;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use self::select::replaced;
use super::job::{Endpoint, RELAY_SOCKET, RelayJob, Selects};

/// The largest payload of a packet; a longer message goes on in the next one.
/// See <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html>.
const LONGEST_PACKET: usize = 0xFF_FFFF;
const HEADER: usize = 4;
/// The first packet of a command has this number; those of a login have others.
const FIRST: u8 = 0;
/// A command that holds a statement.
const QUERY: u8 = 3;

/// A relay that waits for the client.
pub struct Relay {
    tables: BTreeSet<String>,
    shared: Arc<Shared>,
}

struct Shared {
    server: Endpoint,
    selects: Selects,
    /// Tables whose SELECT was replaced.
    done: Mutex<BTreeSet<String>>,
}

impl Relay {
    /// Listens in `directory`, which becomes the working directory: the path of a socket has to be short.
    pub fn begin(job: &RelayJob, directory: &Path) -> io::Result<Self> {
        let selects: Selects = serde_json::from_reader(BufReader::new(File::open(&job.selects)?))?;
        // Where the server is somewhere else, it is better to know now.
        connect(&job.server)?;
        std::env::set_current_dir(directory)?;
        let listener = UnixListener::bind(RELAY_SOCKET)?;
        let relay = Self {
            tables: selects.keys().cloned().collect(),
            shared: Arc::new(Shared {
                server: job.server.clone(),
                selects,
                done: Mutex::default(),
            }),
        };
        let shared = relay.shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = shared.clone();
                thread::spawn(move || shared.attend(client));
            }
        });
        Ok(relay)
    }

    /// The tables whose SELECT did not come by in a form that is known here.
    pub fn left_alone(&self) -> Vec<String> {
        let done = self.shared.done();
        self.tables.difference(&done).cloned().collect()
    }
}

impl Shared {
    fn done(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When one side ends, so does the other: a client that is cut off fails, and with it the dump.
    fn attend(&self, client: UnixStream) {
        // The client says by itself that nobody answers.
        let Ok(server) = connect(&self.server) else {
            return;
        };
        let (Ok(from_server), Ok(to_client)) = (server.try_clone(), client.try_clone()) else {
            return;
        };
        let answers = thread::spawn(move || {
            let (mut from, mut to) = (from_server, to_client);
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
        let mut to_server = server;
        let _ = self.forward(BufReader::new(client), &mut to_server);
        let _ = to_server.shutdown();
        let _ = answers.join();
    }

    fn forward(&self, mut from: impl Read, to: &mut impl Write) -> io::Result<()> {
        let mut goes_on = false;
        while let Some((number, payload)) = read_packet(&mut from)? {
            let is_whole = !goes_on && payload.len() < LONGEST_PACKET;
            goes_on = payload.len() == LONGEST_PACKET;
            let replaced = if is_whole && number == FIRST && payload.first() == Some(&QUERY) {
                replaced(&payload, &self.selects)
                    .filter(|replaced| replaced.payload.len() < LONGEST_PACKET)
            } else {
                None
            };
            match replaced {
                Some(replaced) => {
                    write_packet(to, number, &replaced.payload)?;
                    self.done().insert(replaced.table);
                }
                None => write_packet(to, number, &payload)?,
            }
        }
        Ok(())
    }
}

/// `None` at the end of the stream.
fn read_packet(from: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut header = [0; HEADER];
    match from.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let [low, middle, high, number] = header;
    let length = u32::from_le_bytes([low, middle, high, 0]);
    let mut payload = Vec::new();
    let read = from.take(u64::from(length)).read_to_end(&mut payload)?;
    if read as u64 != u64::from(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((number, payload)))
}

fn write_packet(to: &mut impl Write, number: u8, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let [low, middle, high, _] = length.to_le_bytes();
    let mut packet = vec![low, middle, high, number];
    packet.extend_from_slice(payload);
    to.write_all(&packet)
}

fn connect(server: &Endpoint) -> io::Result<Connection> {
    match server {
        Endpoint::Socket { path } => UnixStream::connect(path).map(Connection::Local),
        Endpoint::Loopback { port } => {
            TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).map(Connection::Loopback)
        }
    }
}

enum Connection {
    Local(UnixStream),
    Loopback(TcpStream),
}

impl Connection {
    fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Local(stream) => stream.try_clone().map(Self::Local),
            Self::Loopback(stream) => stream.try_clone().map(Self::Loopback),
        }
    }

    fn shutdown(&self) -> io::Result<()> {
        match self {
            Self::Local(stream) => stream.shutdown(std::net::Shutdown::Both),
            Self::Loopback(stream) => stream.shutdown(std::net::Shutdown::Both),
        }
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Local(stream) => stream.read(buffer),
            Self::Loopback(stream) => stream.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Local(stream) => stream.write(bytes),
            Self::Loopback(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Local(stream) => stream.flush(),
            Self::Loopback(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::job::SelectedColumn;

    fn shared() -> Shared {
        let column = SelectedColumn {
            name: "v".to_owned(),
            expression: Some("CONCAT(`v`*1e0)".to_owned()),
            is_hidden: false,
        };
        Shared {
            server: Endpoint::Loopback { port: 1 },
            selects: Selects::from([("t".to_owned(), vec![column])]),
            done: Mutex::default(),
        }
    }

    fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        write_packet(&mut packet, number, payload).unwrap();
        packet
    }

    fn forwarded(stream: &[u8]) -> (Vec<u8>, Vec<String>) {
        let shared = shared();
        let mut out = Vec::new();
        shared.forward(stream, &mut out).unwrap();
        (out, shared.done().iter().cloned().collect())
    }

    const SELECT: &[u8] = b"\x03SELECT /*!40001 SQL_NO_CACHE */ * FROM `t`";

    #[test]
    fn only_a_statement_of_the_dump_is_replaced() {
        let expected =
            b"\x03SELECT /*!40001 SQL_NO_CACHE */ CONCAT(`v`*1e0) AS `v` FROM `t`".to_vec();
        assert_eq!(
            forwarded(&packet(0, SELECT)),
            (packet(0, &expected), vec!["t".to_owned()])
        );
        // A login's packet may look like anything; a long message may look like a statement where it goes on.
        let mut long = vec![b'x'; LONGEST_PACKET];
        long[0] = QUERY;
        let goes_on = [packet(0, &long), packet(0, SELECT)].concat();
        for stream in [packet(1, SELECT), packet(0, b"\x03SHOW TABLES"), goes_on] {
            let (out, done) = forwarded(&stream);
            assert!(out == stream && done.is_empty());
        }
    }

    #[test]
    fn a_packet_that_is_cut_is_an_error() {
        let stream = packet(0, SELECT);
        let cut = &stream[..stream.len() - 1];
        assert!(shared().forward(cut, &mut Vec::new()).is_err());
    }
}
