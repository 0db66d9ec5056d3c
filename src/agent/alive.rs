//! `agent alive`: whether a process of this process namespace is the one that a hold journal names.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::processes::Process;

pub const EXIT_ALIVE: i64 = 0;
pub const EXIT_DEAD: i64 = 7;

#[derive(Debug, Serialize, Deserialize)]
pub struct AliveJob {
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`.
    pub started: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliveReport {
    pub alive: bool,
}

impl AliveJob {
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a job has only string keys")
    }
}

impl AliveReport {
    pub fn of(job: &AliveJob) -> Self {
        Self {
            alive: start_time(job.pid) == Some(job.started),
        }
    }

    pub fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}

/// Answers twice, on standard output and by the exit code: a helper's output is not kept.
pub fn run(job: &AliveJob) -> ExitCode {
    let report = AliveReport::of(job);
    println!(
        "{}",
        serde_json::to_string(&report).expect("a report has only string keys")
    );
    ExitCode::from(if report.alive { EXIT_ALIVE } else { EXIT_DEAD } as u8)
}

/// When a process started, in clock ticks since boot; `None` when there is none of that number, or only its corpse.
pub fn start_time(pid: u32) -> Option<u64> {
    let process = Process::look(i32::try_from(pid).ok()?)?;
    Some(process.started)
}
