//! What went wrong, in the terms of a database's administrator.

use std::io;

use super::server::{Server, no_client};
use crate::agent::inside::VisitError;
use crate::agent::job::{ClientEnd, Failure};
use crate::driver::{DriverError, StoreError};
use crate::engine::EngineError;
use crate::repository::RepositoryError;

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
