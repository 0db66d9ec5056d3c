//! What went wrong, in the terms of a database's administrator.

use std::io;

use super::server::Server;
use super::trouble::Trouble;
use crate::agent::inside::VisitError;
use crate::agent::job::{ClientEnd, Failure};
use crate::driver::{DriverError, StoreError};
use crate::engine::{EngineError, ExecOutput};
use crate::repository::RepositoryError;

impl Server {
    /// For words of clients that came as data; the engine layer redacts only what it saw as messages.
    pub fn redact(&self, words: &str) -> String {
        self.environment()
            .secret
            .iter()
            .fold(words.to_owned(), |words, (_, secret)| secret.redact(&words))
    }

    pub fn ensure_success(&self, program: &str, output: &ExecOutput) -> Result<(), DriverError> {
        match output.exit_code {
            0 => Ok(()),
            code => Err(self.client_error(program, code, &output.last_words())),
        }
    }

    /// The failure of a client, with what mends it where that is known.
    pub fn client_error(&self, program: &str, code: i64, words: &str) -> DriverError {
        self.with_hint(
            format!("{program} failed with exit code {code}"),
            words,
            DriverError::Client {
                program: program.to_owned(),
                code,
                message: words.to_owned(),
            },
        )
    }

    /// `what` happened, and these were the client's last words: with a hint where one is known, else `otherwise`.
    pub fn with_hint(&self, what: String, words: &str, otherwise: DriverError) -> DriverError {
        match Trouble::of(words) {
            Some(trouble) => DriverError::failed_with_hint(
                format!("{what}: {words}"),
                trouble.hint(&self.container().name, &self.facts.user),
            ),
            None => otherwise,
        }
    }

    /// An engine's error, with what mends it when the client is not there.
    pub fn engine_error(&self, error: EngineError) -> DriverError {
        match error {
            EngineError::CannotRun {
                program, message, ..
            } => no_client(&program, &self.container().name, &message),
            EngineError::Exited {
                program,
                code,
                message,
                ..
            } => self.client_error(&program, code, &message),
            other => other.into(),
        }
    }
}

pub fn no_client(program: &str, container: &str, message: &str) -> DriverError {
    DriverError::failed_with_hint(
        format!(
            "container {container} carries cofferdam.postgres, but {program} cannot be run in it: {message}"
        ),
        "put the label on the container of the database server, whose image has its clients",
    )
}

/// A failure of what was done inside the container. The words of clients come through the agent as data, so they are
/// redacted here.
pub fn visit_error(server: &Server, error: VisitError) -> DriverError {
    let container = &server.container().name;
    match error {
        VisitError::NoRoom { place, .. } => no_room(container, &place),
        VisitError::NoPlace { .. } => DriverError::failed_with_hint(
            error.to_string(),
            "set cofferdam.postgres.scratch to a directory on a volume, or cofferdam.postgres.transfer: stream",
        ),
        VisitError::NoUser { .. } => DriverError::failed_with_hint(
            error.to_string(),
            "set cofferdam.postgres.exec-user to a user of the container",
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
            server.client_error(&program, code, &server.redact(&stderr))
        }
        VisitError::Failed(Failure::NoClient { program, message }) => {
            no_client(&program, container, &message)
        }
        VisitError::Failed(failure @ Failure::Silent { .. }) => {
            DriverError::failed(server.redact(&failure.to_string()))
        }
        VisitError::Engine(error) => server.engine_error(error),
        other => DriverError::failed(server.redact(&other.to_string())),
    }
}

pub fn no_room(container: &str, place: &str) -> DriverError {
    DriverError::failed_with_hint(
        format!("there is no room left for the dump in {place} of container {container}"),
        "set cofferdam.postgres.transfer: stream, which needs no room, or cofferdam.postgres.scratch to a directory that has it",
    )
}

/// A stream from the container failed.
pub fn body_error(server: &Server, error: io::Error) -> DriverError {
    match error.downcast::<EngineError>() {
        Ok(error) => server.engine_error(error),
        Err(error) => DriverError::failed(server.redact(&error.to_string())),
    }
}

/// An artifact could not be stored: because of its stream, or because of the repository.
pub fn store_error(server: &Server, error: StoreError) -> DriverError {
    match error {
        StoreError::Body(error) | StoreError::Repository(RepositoryError::Body(error)) => {
            body_error(server, error)
        }
        other => other.into(),
    }
}
