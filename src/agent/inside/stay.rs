//! A directory of ours in a container, and the agent that runs from it.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::lifeline::lifeline;
use super::{ClientEnvironment, Hands, PROGRAM, SHORT, VisitError};
use crate::agent::JOB;
use crate::agent::job::{Errand, Failure, LeaveJob, Left, Report};
use crate::engine::{Engine, EngineError, ExecOutput, ExecSpec};
use crate::pipe::ByteStream;

/// How often an errand is done whose report does not arrive.
const MOST_TRIES: u32 = 3;

/// What errands and the removal need to know.
#[derive(Clone)]
pub(super) struct Stay {
    pub engine: Engine,
    /// The container's id.
    pub container: String,
    /// Its name, for messages.
    pub name: String,
    pub user: Option<String>,
    pub directory: String,
}

impl Stay {
    pub async fn errand<J: Serialize, T: DeserializeOwned>(
        &self,
        errand: Errand,
        job: &J,
        environment: &ClientEnvironment,
        limit: Option<Duration>,
    ) -> Result<T, VisitError> {
        let mut tries = 1;
        loop {
            let done = self
                .errand_with(errand, job, environment, limit, lifeline())
                .await;
            match done {
                Err(VisitError::LostReport { .. })
                    if errand.may_be_repeated() && tries < MOST_TRIES =>
                {
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    /// `input`: a lifeline, which may carry content.
    pub async fn errand_with<J: Serialize, T: DeserializeOwned>(
        &self,
        errand: Errand,
        job: &J,
        environment: &ClientEnvironment,
        limit: Option<Duration>,
        input: ByteStream,
    ) -> Result<T, VisitError> {
        let job = serde_json::to_string(job).expect("a job has only string keys");
        let mut env = environment.plain.clone();
        env.push((JOB.to_owned(), job));
        let spec = ExecSpec {
            env,
            secret_env: environment.secret.clone(),
            user: self.user.clone(),
            limit,
            ..ExecSpec::new([
                format!("{}/{PROGRAM}", self.directory),
                "agent".to_owned(),
                errand.as_str().to_owned(),
            ])
        };
        let output = self
            .engine
            .exec_with_input(&self.container, &spec, input)
            .await?;
        report(&self.name, errand, &output)
    }

    /// The agent removes itself. Where it cannot run, or has gone already, the container's own `rm` does.
    pub async fn remove(&self, hands: &Hands) -> Result<(), VisitError> {
        let mut last_error = String::new();
        if matches!(hands, Hands::Agent(_)) {
            let left: Result<Left, VisitError> = self
                .errand(
                    Errand::Leave,
                    &LeaveJob {},
                    &ClientEnvironment::default(),
                    Some(SHORT),
                )
                .await;
            if let Err(error) = left {
                last_error = error.to_string();
            }
        }
        if self.is_there().await? {
            let spec = ExecSpec {
                user: self.user.clone(),
                limit: Some(SHORT),
                ..ExecSpec::new(["rm", "-rf", "--", &self.directory])
            };
            match self.engine.exec(&self.container, &spec).await {
                Ok(output) if output.exit_code == 0 => {}
                Ok(output) => last_error = output.last_words(),
                Err(error) => last_error = error.to_string(),
            }
            if self.is_there().await? {
                return Err(VisitError::Failed(Failure::Other {
                    message: format!(
                        "{} stays in container {} until the next run: {last_error}",
                        self.directory, self.name
                    ),
                }));
            }
        }
        Ok(())
    }

    async fn is_there(&self) -> Result<bool, VisitError> {
        match self.engine.stat(&self.container, &self.directory).await {
            Ok(stat) => Ok(stat.is_some()),
            // Its files went with it.
            Err(EngineError::NoSuchContainer(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Nothing but one whole report is an answer.
fn report<T: DeserializeOwned>(
    container: &str,
    errand: Errand,
    output: &ExecOutput,
) -> Result<T, VisitError> {
    let errand = errand.as_str();
    let no_report = |why: String| VisitError::NoReport {
        container: container.to_owned(),
        why,
    };
    if output.exit_code != 0 || output.truncated {
        let (code, words) = (output.exit_code, output.last_words());
        return Err(no_report(format!(
            "agent {errand} ended with exit code {code}: {words}"
        )));
    }
    if output.stdout.is_empty() {
        return Err(VisitError::LostReport {
            container: container.to_owned(),
            errand,
        });
    }
    match serde_json::from_slice(&output.stdout) {
        Ok(Report::Done(done)) => Ok(done),
        Ok(Report::Failed(Failure::NoRoom { place })) => Err(VisitError::NoRoom {
            container: container.to_owned(),
            place,
        }),
        Ok(Report::Failed(failure)) => Err(failure.into()),
        Err(error) => Err(no_report(format!(
            "agent {errand} printed something unexpected: {error}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(exit_code: i64, stdout: &str) -> ExecOutput {
        ExecOutput {
            exit_code,
            stdout: stdout.as_bytes().to_vec(),
            stderr: b"its last words\n".to_vec(),
            truncated: false,
        }
    }

    fn read(output: &ExecOutput) -> Result<Left, String> {
        report("db", Errand::Leave, output).map_err(|error| error.to_string())
    }

    #[test]
    fn only_one_whole_report_is_an_answer() {
        assert_eq!(read(&output(0, "{\"done\":{}}\n")), Ok(Left {}));
        for (exit_code, stdout, words) in [
            (0, "", "passed on none of its report"),
            (0, "{\"done\":{}", "printed something unexpected"),
            (
                0,
                "{\"done\":{}}{\"done\":{}}",
                "printed something unexpected",
            ),
            (0, "{\"done\":{\"more\":1}}", "printed something unexpected"),
            (0, "{\"done\":{}} and more", "printed something unexpected"),
            (1, "{\"done\":{}}", "ended with exit code 1: its last words"),
            (0, "{\"failed\":\"abandoned\"}", "cofferdam went away"),
            (
                0,
                "{\"failed\":{\"no-room\":{\"place\":\"/tmp\"}}}",
                "no room left in /tmp of container db",
            ),
        ] {
            let error = read(&output(exit_code, stdout)).unwrap_err();
            assert!(error.contains(words), "{stdout}: {error}");
        }
        let mut truncated = output(0, "{\"done\":{}}");
        truncated.truncated = true;
        assert!(read(&truncated).is_err());
    }
}
