//! What a server refuses while another snapshot of its own goes on, and does not once that has ended.

use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use crate::agent::request::{Answer, Method};
use crate::driver::DriverError;
use crate::driver::http::{Http, words};

const SNAPSHOT_PAUSE: Duration = Duration::from_secs(1);
/// How long another snapshot may take.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Types of errors that pass.
const PASSING: [&str; 3] = [
    "snapshot_in_progress_exception",
    "concurrent_snapshot_execution_exception",
    "repository_conflict_exception",
];

/// Deletes what is at `path`. What is not there is deleted already.
pub async fn delete(http: &Http<'_>, path: &str) -> Result<(), DriverError> {
    let begun = Instant::now();
    loop {
        let answer = http.ask(Method::Delete, path, None).await?;
        match answer.status {
            200..300 | 404 => return Ok(()),
            _ if is_passing(&answer) && begun.elapsed() < SNAPSHOT_LIMIT => {
                info!(
                    "waiting for another snapshot of the server: {}",
                    words(&answer)
                );
                tokio::time::sleep(SNAPSHOT_PAUSE).await;
            }
            _ => {
                return Err(DriverError::failed(format!(
                    "{} refused DELETE {path}: {}",
                    http.access.server,
                    words(&answer)
                )));
            }
        }
    }
}

fn is_passing(answer: &Answer) -> bool {
    let kind = answer.body["error"]["type"].as_str();
    kind.is_some_and(|kind| PASSING.contains(&kind))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_passes_is_waited_for() {
        let is_passing = |kind: &str| {
            let body = json!({"error": {"type": kind, "reason": "no"}, "status": 400});
            is_passing(&Answer { status: 400, body })
        };
        assert!(is_passing("snapshot_in_progress_exception"));
        assert!(!is_passing("security_exception"));
        assert!(!super::is_passing(&Answer {
            status: 500,
            body: json!("no JSON at all")
        }));
    }
}
