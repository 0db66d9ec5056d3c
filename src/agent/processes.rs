//! Inside a container, or beside it in its process namespace: which processes are ours to end, and their end.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, kill_process};

/// What a process is given to be gone after SIGKILL.
const LAST: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// One process, told apart from any later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub session: i32,
    /// In clock ticks since boot.
    pub started: u64,
}

impl Process {
    /// `None` when there is none of that number, or only its corpse.
    pub fn look(pid: i32) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(pid, &String::from_utf8_lossy(&stat))
    }

    /// See proc_pid_stat(5). The command name in field 2 may hold blanks and parentheses: fields are counted from its last
    /// `)`.
    fn parse(pid: i32, stat: &str) -> Option<Self> {
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        if matches!(state, "Z" | "X") {
            return None;
        }
        Some(Self {
            pid,
            parent: fields.next()?.parse().ok()?,
            session: fields.nth(1)?.parse().ok()?,
            started: fields.nth(15)?.parse().ok()?,
        })
    }

    /// All that can be seen, but for this one.
    fn all() -> Vec<Self> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let own = getpid().as_raw_nonzero().get();
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| *pid != own)
            .filter_map(Self::look)
            .collect()
    }
}

/// Processes that run a program from `directory`. Those of other users cannot be seen.
pub fn of_directory(directory: &Path) -> Vec<Pid> {
    let runs_from_there = |process: &Process| {
        let program = fs::read_link(format!("/proc/{}/exe", process.pid));
        program.is_ok_and(|program| program.starts_with(directory))
    };
    let processes = Process::all().into_iter().filter(runs_from_there);
    processes.filter_map(|it| Pid::from_raw(it.pid)).collect()
}

/// A command and all that it has started, found by an environment variable of its own, and from there by descent.
pub struct Marked {
    /// `NAME=value`
    mark: Vec<u8>,
    known: BTreeSet<Process>,
    /// Sessions that one of them leads: what has lost its parent stays in them.
    sessions: BTreeSet<i32>,
    /// The environment of some process could not be looked at.
    is_blind: bool,
}

impl Marked {
    pub fn new(name: &str, value: &str) -> Self {
        Self {
            mark: format!("{name}={value}").into_bytes(),
            known: BTreeSet::new(),
            sessions: BTreeSet::new(),
            is_blind: false,
        }
    }

    /// Whether the absence of processes proves that there are none but those that have given themselves another environment.
    pub fn can_tell(&self) -> bool {
        !self.is_blind || !self.known.is_empty()
    }

    /// Those that run now.
    pub fn running(&mut self) -> Vec<Pid> {
        let all = Process::all();
        let seeds = all
            .iter()
            .filter(|process| self.is_known(process) || self.carries_mark(process.pid));
        let mut found: BTreeSet<i32> = seeds.map(|process| process.pid).collect();
        loop {
            let is_found = |process: &&Process| found.contains(&process.pid);
            let leaders = all.iter().filter(is_found);
            let leaders = leaders.filter(|process| process.pid == process.session);
            self.sessions.extend(leaders.map(|process| process.pid));
            let descends = |process: &&Process| {
                found.contains(&process.parent) || self.sessions.contains(&process.session)
            };
            let more = all.iter().filter(|it| !is_found(it)).filter(descends);
            let more: Vec<i32> = more.map(|process| process.pid).collect();
            if more.is_empty() {
                break;
            }
            found.extend(more);
        }
        let running = all.iter().filter(|process| found.contains(&process.pid));
        let running: Vec<&Process> = running.collect();
        self.known.extend(running.iter().copied());
        running
            .into_iter()
            .filter_map(|process| Pid::from_raw(process.pid))
            .collect()
    }

    /// It may have another parent than it had.
    fn is_known(&self, process: &Process) -> bool {
        let same = |known: &Process| (known.pid, known.started) == (process.pid, process.started);
        self.known.iter().any(same)
    }

    fn carries_mark(&mut self, pid: i32) -> bool {
        match fs::read(format!("/proc/{pid}/environ")) {
            Ok(environment) => environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == self.mark),
            Err(_) => {
                self.is_blind |= Process::look(pid).is_some();
                false
            }
        }
    }
}

/// Ends what `find` finds, again and again: SIGTERM, `grace`, SIGKILL. What runs even then.
pub fn end(mut find: impl FnMut() -> Vec<Pid>, grace: Duration) -> Vec<Pid> {
    for (signal, patience) in [(Signal::TERM, grace), (Signal::KILL, LAST)] {
        let deadline = Instant::now() + patience;
        let mut told = BTreeSet::new();
        loop {
            let running = find();
            if running.is_empty() {
                return running;
            }
            for pid in running {
                if told.insert(pid.as_raw_nonzero()) {
                    // One that is gone already needs no signal.
                    let _ = kill_process(pid, signal);
                }
            }
            if Instant::now() >= deadline {
                break;
            }
            thread::sleep(PAUSE);
        }
    }
    find()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    const NAME: &str = "COFFERDAM_TEST_MARK";
    const GRACE: Duration = Duration::from_secs(5);

    #[test]
    fn a_process_is_read_behind_a_hostile_name() {
        let stat = "42 (a) b (c) S 7 42 40 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1";
        let expected = Process {
            pid: 42,
            parent: 7,
            session: 40,
            started: 98765,
        };
        assert_eq!(Process::parse(42, stat), Some(expected));
        assert_eq!(Process::parse(42, &stat.replace(" S ", " Z ")), None);
        assert_eq!(Process::parse(42, "garbage"), None);
    }

    fn start(mark: &str, script: &str) -> Child {
        Command::new("sh")
            .args(["-c", script])
            .env(NAME, mark)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn eventually(mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "it never came");
            thread::sleep(PAUSE);
        }
    }

    #[test]
    fn a_command_ends_with_all_that_it_has_started_and_nothing_else_does() {
        let mut other = start("other", "sleep 1000 & wait");
        // One that does not listen, one in a session of its own, one without the mark, and one that forks on.
        let script = format!(
            "trap '' TERM; setsid sleep 1001 & env -u {NAME} sleep 1002 & (sleep 1003 &) ; sleep 1004; true"
        );
        let mut child = start("own", &script);
        let mut marked = Marked::new(NAME, "own");
        eventually(|| marked.running().len() == 5);
        let reaper = thread::spawn(move || child.wait());
        assert!(end(|| marked.running(), Duration::from_millis(300)).is_empty());
        assert!(marked.can_tell());
        assert!(!reaper.join().unwrap().unwrap().success());

        let mut others = Marked::new(NAME, "other");
        assert_eq!(others.running().len(), 2);
        let reaper = thread::spawn(move || other.wait());
        assert!(end(|| others.running(), GRACE).is_empty());
        reaper.join().unwrap().unwrap();
    }
}
