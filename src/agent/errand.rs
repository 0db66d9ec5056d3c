//! An agent inside a target's container does one errand: it reads its job, works, and prints its report.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::job::{Errand, Failure};
use super::{dump, load, place, remove, report, sqlite};

/// Does the errand that `job` (JSON) describes. The report, as JSON.
pub fn run(errand: Errand, job: &str) -> String {
    match errand {
        Errand::Arrive => answer(job, place::arrive),
        Errand::Dump => answer(job, dump::run),
        Errand::Load => answer(job, load::run),
        Errand::Remove => answer(job, remove::run),
        Errand::Sqlite => answer(job, sqlite::inside::run),
        Errand::Leave => answer(job, place::leave),
    }
}

fn answer<J, T>(job: &str, work: impl FnOnce(&J) -> Result<T, Failure>) -> String
where
    J: DeserializeOwned,
    T: Serialize,
{
    let done = serde_json::from_str(job)
        .map_err(|error| Failure::Other {
            message: format!("the agent does not understand its job: {error}"),
        })
        .and_then(|job| work(&job));
    if matches!(done, Err(Failure::Abandoned)) {
        // Nobody is there who could be told that it failed; the next run sweeps.
        let _ = place::remove_after_abandonment();
    }
    report(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::job::{Left, Report};

    #[test]
    fn a_job_that_is_not_understood_is_a_failure() {
        for (errand, job) in [
            (Errand::Dump, ""),
            (Errand::Dump, r#"{"client":["true"]}"#),
            (
                Errand::Remove,
                r#"{"within":"../etc","list":"list","paths":1}"#,
            ),
            (Errand::Leave, r#"{"surprise":1}"#),
        ] {
            let report: Report<Left> = serde_json::from_str(&run(errand, job)).unwrap();
            let Report::Failed(Failure::Other { message }) = report else {
                panic!("{report:?}");
            };
            assert!(message.contains("does not understand"), "{message}");
        }
    }

    #[test]
    fn errands_read_back_from_their_arguments() {
        for errand in Errand::ALL {
            assert_eq!(Errand::from_argument(errand.as_str()), Some(errand));
        }
        assert_eq!(Errand::from_argument("pack"), None);
    }
}
