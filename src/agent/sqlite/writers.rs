//! `agent writers`: which processes of the host can write to a database on a mount.
//!
//! Names say nothing: a program may have opened the file through another mount of its directory, in a container of another
//! runtime, or on the host itself. Files are told by device and inode, in `/proc`. Where the host's processes are not all
//! shown, SQLite's own locks tell at least of a program that is at work.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, openat, statx};
use rustix::io::Errno;
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};
use serde::{Deserialize, Serialize};

use crate::agent::job::Failure;
use crate::agent::pack::open_mount;
use crate::agent::task::MOUNT;
use crate::sqlite::COMPANIONS;
use crate::tree::fs::{Identity, open_below, status_if_present};
use crate::tree::{TreeError, TreePath};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WritersTask {
    /// Where the database lies in the mount.
    pub place: TreePath,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundWriters {
    pub processes: Vec<WritingProcess>,
    /// Why there may be others.
    pub unseen: Option<String>,
    /// Asked only where there may be others: whether anybody has a lock of SQLite's on the database.
    pub is_locked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WritingProcess {
    pub pid: u32,
    /// The short name, without arguments, as the process has it.
    pub command: String,
    /// The ids of the containers that it is in, the outermost first.
    pub containers: Vec<String>,
}

/// The kernel gives its first process namespace always this number (`PROC_PID_INIT_INO` in its `proc_ns.h`).
const WHOLE_HOST: &str = "pid:[4026531836]";
/// PENDING, RESERVED and SHARED, on the database (`os.h` of SQLite).
const DATABASE_LOCKS: (u64, u64) = (0x4000_0000, 512);
/// Those of write-ahead mode, on its `-shm`, with the one that each connection keeps (`os_unix.c` of SQLite).
const LOG_LOCKS: (u64, u64) = (120, 9);

pub fn run(task: &WritersTask) -> Result<FoundWriters, Failure> {
    let mount = open_mount(Path::new(MOUNT))?;
    let files = match Files::of(&mount, &task.place)? {
        Some(files) => files,
        None => return Ok(FoundWriters::default()),
    };
    let mut found = look(&files.identities);
    if found.unseen.is_some() {
        found.is_locked = files.are_locked()?;
    }
    Ok(found)
}

/// A database, with what lies beside it.
struct Files<'a> {
    directory: OwnedFd,
    place: &'a TreePath,
    name: &'a [u8],
    identities: Vec<Identity>,
}

impl<'a> Files<'a> {
    /// `None` when there is no such directory.
    fn of(mount: &OwnedFd, place: &'a TreePath) -> Result<Option<Self>, TreeError> {
        let Some((parent, name)) = place.split_last() else {
            return Ok(None);
        };
        let directory = match open_below(mount, &parent) {
            Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(None),
            other => other?,
        };
        let mut identities = Vec::new();
        for end in [""].into_iter().chain(COMPANIONS) {
            let status = status_if_present(&directory, &beside(name, end))
                .map_err(TreeError::file("inspect", place))?;
            let status = status.filter(|status| status.file_type == FileType::RegularFile);
            identities.extend(status.map(|status| status.identity));
        }
        Ok(Some(Self {
            directory,
            place,
            name,
            identities,
        }))
    }

    fn are_locked(&self) -> Result<bool, TreeError> {
        for (end, bytes) in [("", DATABASE_LOCKS), ("-shm", LOG_LOCKS)] {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let name = beside(self.name, end);
            let file = match openat(&self.directory, name.as_slice(), flags, Mode::empty()) {
                Err(Errno::NOENT) => continue,
                other => other.map_err(TreeError::file("open", self.place))?,
            };
            let failed = TreeError::file("ask for the locks on", self.place);
            if is_locked(&file, bytes).map_err(failed)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn beside(name: &[u8], end: &str) -> Vec<u8> {
    [name, end.as_bytes()].concat()
}

/// Nothing is locked by asking.
fn is_locked(file: &OwnedFd, (start, length): (u64, u64)) -> Result<bool, Errno> {
    let wanted = Flock {
        start,
        length,
        pid: None,
        typ: FlockType::WriteLock,
        offset_type: FlockOffsetType::Set,
    };
    Ok(fcntl_getlk(file, &wanted)?.is_some())
}

fn look(files: &[Identity]) -> FoundWriters {
    let mut found = FoundWriters::default();
    let own = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else {
        found.unseen = Some("there is no /proc".to_owned());
        return found;
    };
    let pids = entries.flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut closed = 0_u64;
    for pid in pids.filter(|pid| *pid != own) {
        match can_write(pid, files) {
            Ok(true) => found.processes.push(WritingProcess::of(pid)),
            Ok(false) => {}
            Err(error) if has_ended(&error) => {}
            Err(_) => closed += 1,
        }
    }
    let is_whole = fs::read_link("/proc/self/ns/pid").is_ok_and(|it| it == Path::new(WHOLE_HOST));
    found.unseen = match closed {
        _ if !is_whole => Some("not all processes of the host are visible".to_owned()),
        0 => None,
        closed => Some(format!(
            "{closed} of the host's processes cannot be inspected"
        )),
    };
    found
}

fn has_ended(error: &io::Error) -> bool {
    let gone = [Errno::NOENT, Errno::SRCH];
    Errno::from_io_error(error).is_some_and(|errno| gone.contains(&errno))
}

fn can_write(pid: u32, files: &[Identity]) -> io::Result<bool> {
    for descriptor in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let descriptor = descriptor?;
        let opened = match identity(&descriptor.path()) {
            // Closed since it was listed.
            Err(error) if has_ended(&error) => continue,
            // The process may be looked into, and it is its file system that refuses; that of the database does not.
            Err(_) if fs::read_link(descriptor.path()).is_ok() => continue,
            other => other?,
        };
        if !files.contains(&opened) {
            continue;
        }
        let number = descriptor.file_name();
        let info = format!("/proc/{pid}/fdinfo/{}", number.to_string_lossy());
        match fs::read_to_string(info) {
            Ok(info) if is_for_reading(&info) => {}
            Err(error) if has_ended(&error) => {}
            // What cannot be read in it counts as well.
            _ => return Ok(true),
        }
    }
    let maps = BufReader::new(fs::File::open(format!("/proc/{pid}/maps"))?);
    for line in maps.split(b'\n') {
        let line = line?;
        let mapped = shared_for_writing(&String::from_utf8_lossy(&line));
        if mapped.is_some_and(|mapped| files.contains(&mapped)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// No file system is waited for: the server of a remote one may be gone.
fn identity(path: &Path) -> io::Result<Identity> {
    let flags = AtFlags::STATX_DONT_SYNC;
    let found = statx(CWD, path, flags, StatxFlags::INO)?;
    Ok(Identity {
        device: (found.stx_dev_major, found.stx_dev_minor),
        inode: found.stx_ino,
    })
}

/// As `fdinfo` has it: `flags:\t0100000`, in octal digits.
fn is_for_reading(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & OFlags::RWMODE.bits() == OFlags::RDONLY.bits())
}

/// As `maps` has it: `7f1a2000-7f1a3000 rw-s 00000000 08:01 1234   /a/path`.
fn shared_for_writing(line: &str) -> Option<Identity> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let access = fields.next()?.as_bytes();
    if access.get(1) != Some(&b'w') || access.get(3) != Some(&b's') {
        return None;
    }
    let (major, minor) = fields.nth(1)?.split_once(':')?;
    let number = |digits| u32::from_str_radix(digits, 16).ok();
    Some(Identity {
        device: (number(major)?, number(minor)?),
        inode: fields.next()?.parse().ok()?,
    })
}

impl WritingProcess {
    fn of(pid: u32) -> Self {
        let read = |file: &str| {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).trim().to_owned()
        };
        Self {
            pid,
            command: read("comm"),
            containers: containers_in(&read("cgroup")),
        }
    }
}

/// Engines call a container's control group after its id: `12:pids:/docker/<id>`, `0::/system.slice/docker-<id>.scope`.
fn containers_in(groups: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for part in groups.split(|letter: char| !letter.is_ascii_hexdigit()) {
        if part.len() == 64 && found.iter().all(|known| known != part) {
            found.push(part.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use rusqlite::Connection;

    use super::*;

    /// Starts what says `ready` when it has come to it, and goes on until its input ends.
    fn begin(command: &mut Command) -> Child {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(
            said.map_while(Result::ok)
                .any(|line| line.ends_with("ready"))
        );
        child
    }

    fn end(mut child: Child) {
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    fn files<'a>(directory: &Path, place: &'a TreePath) -> Files<'a> {
        let directory = directory.as_os_str().as_encoded_bytes();
        let mount = crate::tree::fs::open_directory(CWD, directory).unwrap();
        Files::of(&mount, place).unwrap().unwrap()
    }

    #[test]
    fn whoever_can_write_is_found_by_the_file_and_not_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        fs::write(directory.join("db"), "x").unwrap();
        fs::write(directory.join("db-wal"), "x").unwrap();
        fs::hard_link(directory.join("db"), directory.join("alias")).unwrap();
        let place = TreePath::parse(b"db").unwrap();
        let found = || {
            let found = look(&files(directory, &place).identities).processes;
            found.iter().map(|it| it.pid).collect::<Vec<_>>()
        };
        for (opens, writes) in [
            ("< alias", false),
            ("<> alias", true),
            (">> db-wal", true),
            ("<> /dev/null", false),
        ] {
            let script = format!("exec 9{opens}; echo ready; exec cat");
            let mut program = Command::new("sh");
            let child = begin(program.args(["-c", &script]).current_dir(directory));
            let (pids, own) = (found(), child.id());
            end(child);
            let expected: Vec<u32> = writes.then_some(own).into_iter().collect();
            assert_eq!(pids, expected, "{opens}");
        }
        assert_eq!(found(), Vec::<u32>::new());
    }

    const STATEMENTS: &str = "COFFERDAM_TEST_STATEMENTS";

    #[test]
    #[ignore = "a program of the test below, since no process sees its own locks"]
    fn a_program_at_work() {
        let Ok(statements) = std::env::var(STATEMENTS) else {
            return;
        };
        let database = Connection::open("db").unwrap();
        database.execute_batch(&statements).unwrap();
        println!("ready");
        io::stdin().lines().for_each(drop);
    }

    #[test]
    fn locks_tell_of_a_program_in_a_transaction_and_in_write_ahead_mode_of_any() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        Connection::open(directory.join("db"))
            .unwrap()
            .execute_batch("CREATE TABLE t (n); INSERT INTO t VALUES (1)")
            .unwrap();
        let place = TreePath::parse(b"db").unwrap();
        let is_locked = || files(directory, &place).are_locked().unwrap();
        let name = "agent::sqlite::writers::tests::a_program_at_work";
        for (statements, expected) in [
            ("SELECT * FROM t", false),
            ("BEGIN; SELECT * FROM t", true),
            ("BEGIN IMMEDIATE", true),
            ("PRAGMA journal_mode = WAL; SELECT * FROM t", true),
        ] {
            let mut program = Command::new(std::env::current_exe().unwrap());
            program
                .args(["--exact", name, "--ignored", "--nocapture"])
                .env(STATEMENTS, statements)
                .current_dir(directory);
            let child = begin(&mut program);
            let found = is_locked();
            end(child);
            assert_eq!(found, expected, "{statements}");
            assert!(!is_locked(), "{statements}: nobody is there any more");
        }
    }

    #[test]
    fn what_proc_says_is_understood() {
        assert!(is_for_reading("pos:\t0\nflags:\t0100000\nmnt_id:\t29\n"));
        assert!(!is_for_reading("pos:\t0\nflags:\t0100002\n"));
        assert!(!is_for_reading("pos:\t0\n"));
        let shared = "7f1a20000000-7f1a20008000 rw-s 00000000 fd:1a 1234      /data/a b-shm";
        let identity = Identity {
            device: (0xfd, 0x1a),
            inode: 1234,
        };
        assert_eq!(shared_for_writing(shared), Some(identity));
        for other in ["rw-p", "r--s"] {
            assert_eq!(shared_for_writing(&shared.replace("rw-s", other)), None);
        }
        assert_eq!(shared_for_writing("garbage"), None);
        let (outer, inner) = ("a1".repeat(32), "b2".repeat(32));
        let groups = format!(
            "12:pids:/docker/{outer}/docker/{inner}\n0::/system.slice/docker-{outer}.scope\n1:cpu:/user/1000"
        );
        assert_eq!(containers_in(&groups), [outer, inner]);
        assert_eq!(containers_in("0::/"), Vec::<String>::new());
    }
}
