//! What went wrong, in the terms of an administrator.
//!
//! The words of clients that come as data, through an agent, are redacted here; the engine layer redacts what it saw as
//! messages.

use std::io;

use super::Clients;
use crate::agent::inside::VisitError;
use crate::agent::job::{CUT, ClientEnd, Failure};
use crate::driver::DriverError;
use crate::engine::{EngineError, ExecOutput};
use crate::repository::RepositoryError;
use crate::secret::{Redactor, secrets_of};
use crate::snapshot::StoreError;

impl Clients {
    /// Of what the clients are told, and of what else the container's environment holds.
    pub fn redactor(&self) -> Redactor {
        let others = secrets_of(&self.container.env);
        let secrets = self.environment.secret.iter().chain(&others);
        Redactor::new(secrets.map(|(_, secret)| secret))
    }

    pub fn redact(&self, words: &str) -> String {
        self.redactor().text(words, CUT)
    }

    pub fn ensure_success(&self, program: &str, output: &ExecOutput) -> Result<(), DriverError> {
        match output.exit_code {
            0 => Ok(()),
            code => Err(self.client_error(program, code, &output.last_words())),
        }
    }

    /// The failure of a client, with what mends it where that is known.
    pub fn client_error(&self, program: &str, code: i64, words: &str) -> DriverError {
        let hint = (self.remedy)(words);
        let words = self.redact(words);
        match hint {
            Some(hint) => DriverError::failed_with_hint(
                format!("{program} failed with exit code {code}: {words}"),
                hint,
            ),
            None => DriverError::Client {
                program: program.to_owned(),
                code,
                message: words,
            },
        }
    }

    /// An engine's error, with what mends it when the client is not there.
    pub fn engine_error(&self, error: EngineError) -> DriverError {
        match error {
            EngineError::CannotRun {
                program, message, ..
            } => self.no_client(&program, &message),
            EngineError::Exited {
                program,
                code,
                message,
                ..
            } => self.client_error(&program, code, &message),
            other => other.into(),
        }
    }

    fn no_client(&self, program: &str, message: &str) -> DriverError {
        DriverError::failed_with_hint(
            format!(
                "container {} has the label {}, but {program} cannot be run in it: {message}",
                self.container.name, self.label
            ),
            "put the label on the container of the database server, whose image has its clients",
        )
    }

    /// A failure of what was done inside the container.
    pub fn visit_error(&self, error: VisitError) -> DriverError {
        let label = &self.label;
        match error {
            VisitError::NoRoom { place, .. } => self.no_room(&place),
            VisitError::NoPlace { .. } => DriverError::failed_with_hint(
                error.to_string(),
                format!(
                    "set {label}.scratch to a directory on a volume, or {label}.transfer: stream"
                ),
            ),
            VisitError::Unsafe {
                ref container,
                ref why,
                ..
            } => DriverError::failed_with_hint(
                error.to_string(),
                format!(
                    "set {label}.scratch to a directory where only root can write, or, if nothing else uses this one, run \
                     docker exec --user 0 {container} {}",
                    why.remedy
                ),
            ),
            VisitError::NoUser { .. } => DriverError::failed_with_hint(
                error.to_string(),
                format!("set {label}.exec-user to a user of the container"),
            ),
            VisitError::Failed(Failure::Client {
                program,
                end,
                stderr,
            }) => {
                let code = match end {
                    ClientEnd::Code(code) => i64::from(code),
                    // As a shell has it.
                    ClientEnd::Signal(signal) => 128 + i64::from(signal),
                };
                self.client_error(&program, code, &stderr)
            }
            VisitError::Failed(Failure::NoClient { program, message }) => {
                self.no_client(&program, &message)
            }
            VisitError::Engine(error) => self.engine_error(error),
            other => DriverError::failed(self.redact(&other.to_string())),
        }
    }

    pub fn no_room(&self, place: &str) -> DriverError {
        let label = &self.label;
        DriverError::failed_with_hint(
            format!(
                "there is not enough space for the dump in {place} of container {}",
                self.container.name
            ),
            format!(
                "set {label}.transfer: stream, which needs no space, or {label}.scratch to a directory that has enough"
            ),
        )
    }

    /// A stream from the container failed.
    pub fn body_error(&self, error: io::Error) -> DriverError {
        match error.downcast::<EngineError>() {
            Ok(error) => self.engine_error(error),
            Err(error) => DriverError::failed(self.redact(&error.to_string())),
        }
    }

    /// An artifact could not be stored: because of its stream, or because of the repository.
    pub fn store_error(&self, error: StoreError) -> DriverError {
        match error {
            StoreError::Body(error) | StoreError::Repository(RepositoryError::Body(error)) => {
                self.body_error(error)
            }
            other => other.into(),
        }
    }
}
