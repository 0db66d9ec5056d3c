//! What is to be known of a PostgreSQL server before anything is asked of it.

use super::server::Server;
use crate::engine::{Container, Engine};
use crate::labels::PostgresLabels;

/// A PostgreSQL server in a container.
#[derive(Clone, Debug)]
pub struct Detected {
    /// `None`: it let nobody in (yet).
    pub server: Option<Server>,
    /// Where the server keeps its data: a volume there is saved by the server's dumps, not as files. `None` when neither
    /// the container's environment nor the server tells.
    pub data_directory: Option<String>,
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
