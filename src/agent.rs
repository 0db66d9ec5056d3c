//! What runs elsewhere: in a helper container beside a volume, or inside a target's own container.
//!
//! The agent is this same binary. Its kind is its argument (`cofferdam agent dump`), its job a JSON document in the
//! environment variable [`JOB`], its report one JSON document: on standard output when it runs inside a target, as the
//! last frame of the connection when it runs in a helper. A report that is absent or does not parse is a failure.
//!
//! Inside a target: `errand` (dispatch), `job` (what is asked and answered), `place` (the agent's directory), `dump` and
//! `load` (work with the database's own client, `client`), `incoming` (what cofferdam sends meanwhile), `relay` (between
//! a client and its server), `remove` (for trees). On cofferdam's side: `inside`.
//!
//! In a helper: `task` (what is asked and answered), `wire` (the connection), `flow` (streams through threads), `pack`,
//! `unpack`, `exchange`, `discard`, `list` and `room`. On cofferdam's side: `helper`. `alive` is a helper too, which only looks; so is the
//! one that idles in a server's network until it is given a `request`. `ended` ends commands in a container whose processes
//! its helper shares.
//!
//! In both: `sqlite`, which needs no client, and `processes` (which are ours, and their end).

pub(crate) mod alive;
mod client;
mod discard;
mod dump;
pub(crate) mod ended;
pub(crate) mod errand;
mod exchange;
mod flow;
pub mod helper;
mod incoming;
pub mod inside;
pub mod job;
mod list;
mod load;
mod pack;
mod place;
mod processes;
mod relay;
mod remove;
pub(crate) mod request;
mod room;
pub(crate) mod sqlite;
pub(crate) mod task;
mod unpack;
mod wire;

use std::process::ExitCode;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::alive::AliveJob;
use self::ended::EndJob;
use self::job::{Errand, Failure, Report};
use self::task::{RoomTask, Task};
use self::wire::{HelperJob, Kind, Line};

/// The environment variable that holds the job. It never holds a secret of the user's.
pub const JOB: &str = "COFFERDAM_AGENT_JOB";

/// What an agent is called that waits for execs.
pub const IDLE: &str = "idle";
/// What an agent is called that ends a command.
pub const END: &str = "end";
/// What an agent is called that asks a server.
pub const REQUEST: &str = "request";

/// A wrong argument, or a job that is not one: nothing could be done, and nobody be told.
const EXIT_USAGE: u8 = 2;

/// `cofferdam agent <kind>`. The job comes from the environment.
pub fn run(kind: &str) -> ExitCode {
    let job = std::env::var(JOB).unwrap_or_default();
    if let Some(errand) = Errand::from_argument(kind) {
        println!("{}", errand::run(errand, &job));
        return ExitCode::SUCCESS;
    }
    if kind == "alive" {
        return match serde_json::from_str::<AliveJob>(&job) {
            Ok(job) => alive::run(&job),
            Err(_) => ExitCode::from(EXIT_USAGE),
        };
    }
    if kind == END {
        return match serde_json::from_str::<EndJob>(&job) {
            Ok(job) => ended::run(&job),
            Err(_) => ExitCode::from(EXIT_USAGE),
        };
    }
    if kind == IDLE {
        loop {
            std::thread::park();
        }
    }
    if kind == REQUEST {
        println!("{}", report(request::run()));
        return ExitCode::SUCCESS;
    }
    match Task::from_argument(kind) {
        Some(Task::Pack) => over_the_line(&job, pack::run),
        Some(Task::Unpack) => over_the_line(&job, unpack::run),
        Some(Task::Exchange) => over_the_line(&job, |task, _| exchange::run(task)),
        Some(Task::Discard) => over_the_line(&job, |task, _| discard::run(task)),
        Some(Task::List) => over_the_line(&job, list::run),
        Some(Task::Room) => over_the_line(&job, |_: &RoomTask, _| room::run()),
        Some(Task::SqlitePack) => over_the_line(&job, sqlite::helper::pack),
        Some(Task::SqliteUnpack) => over_the_line(&job, sqlite::helper::unpack),
        Some(Task::Writers) => over_the_line(&job, |task, _| sqlite::writers::run(task)),
        None => ExitCode::from(EXIT_USAGE),
    }
}

/// Calls cofferdam, works, and reports.
fn over_the_line<W, T>(
    job: &str,
    work: impl FnOnce(&W, &mut Line) -> Result<T, Failure>,
) -> ExitCode
where
    W: DeserializeOwned,
    T: Serialize,
{
    let Ok(job) = serde_json::from_str::<HelperJob<W>>(job) else {
        return ExitCode::from(EXIT_USAGE);
    };
    let Ok(mut line) = Line::connect(&job.call) else {
        return ExitCode::FAILURE;
    };
    allow_many_open_files();
    let report = report(work(&job.work, &mut line));
    // The helper's own end is good once its report is on its way, whatever the report says.
    match line.sender().send(Kind::Report, report.as_bytes()) {
        Ok(()) => {
            line.wait_for_hang_up();
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

fn report<T: Serialize>(done: Result<T, Failure>) -> String {
    let report = match done {
        Ok(done) => Report::Done(done),
        Err(failure) => Report::Failed(failure),
    };
    serde_json::to_string(&report).expect("a report has only string keys")
}

/// Files are read ahead and written by several threads, each of them open.
fn allow_many_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // The soft limit does for nearly every tree.
    let _ = setrlimit(Resource::Nofile, raised);
}
