//! Whether a container runs a PostgreSQL server. Never by its image's name: `postgrest/…` is none, `registry/pgvector` is
//! one.

use std::time::Duration;

use super::server::Server;
use crate::engine::{Container, Engine, EngineError, ExecSpec};
use crate::labels::PostgresLabels;

const LIMIT: Duration = Duration::from_secs(30);

/// A PostgreSQL server in a container.
#[derive(Clone, Debug)]
pub struct Detected {
    /// `None`: it let nobody in (yet).
    pub server: Option<Server>,
    /// Where the server keeps its data: a volume there is saved by the server's dumps, not as files. `None` when neither
    /// the container's environment nor the server tells.
    pub data_directory: Option<String>,
}

/// For a container in which such a server is seen. `Ok(None)`: it lacks the clients to save it.
pub async fn detect(
    engine: &Engine,
    container: &Container,
    labels: &PostgresLabels,
) -> Result<Option<Detected>, EngineError> {
    let spec = ExecSpec {
        user: labels.exec_user.clone(),
        limit: Some(LIMIT),
        ..ExecSpec::new(["pg_dump", "--version"])
    };
    match engine.exec(&container.id, &spec).await {
        Ok(output) if output.exit_code == 0 => Ok(Some(look_at(engine, container, labels).await)),
        Ok(_) | Err(EngineError::CannotRun { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// For a container that is known to run a server, or said to. What the server says counts; without a login the environment
/// has to do.
pub async fn look_at(engine: &Engine, container: &Container, labels: &PostgresLabels) -> Detected {
    let server = if container.is_running() {
        // Whoever needs the login tries again, and tells why there is none.
        Server::connect(engine, container, labels).await.ok()
    } else {
        None
    };
    let told = server
        .as_ref()
        .and_then(|server| server.facts.data_directory.clone());
    Detected {
        data_directory: told.or_else(|| container.env.get("PGDATA").cloned()),
        server,
    }
}
