//! `agent end`: ends a command in the container whose processes this one shares, with all that it has started.

use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::processes::{self, Marked};

/// The environment variable by which a command and its children are found.
pub const MARK: &str = "COFFERDAM_EXEC";
/// What a command is given to end by itself.
pub const GRACE: Duration = Duration::from_secs(5);

pub const EXIT_ENDED: i64 = 0;
pub const EXIT_RUNS: i64 = 7;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndJob {
    /// The value of [`MARK`].
    pub mark: String,
}

/// Answers by the exit code: a helper's output is not kept.
pub fn run(job: &EndJob) -> ExitCode {
    let mut marked = Marked::new(MARK, &job.mark);
    let left = processes::end(|| marked.running(), GRACE);
    let code = if left.is_empty() && marked.can_tell() {
        EXIT_ENDED
    } else {
        EXIT_RUNS
    };
    ExitCode::from(code as u8)
}
