//! What is to be known of a MySQL or MariaDB server before anything is asked of it.

use super::server::Server;
use crate::engine::{Container, Engine};
use crate::labels::MysqlLabels;

/// Where servers of both families keep their data unless they are told otherwise.
const USUAL_DATA_DIRECTORY: &str = "/var/lib/mysql";

/// A server in a container.
#[derive(Clone, Debug)]
pub struct Detected {
    /// `None`: it let nobody in (yet).
    pub server: Option<Server>,
    /// Where the server keeps its data: a volume there is saved by the server's dumps, not as files.
    pub data_directory: String,
}

/// For a container that is known to run a server, or said to. What the server says counts.
pub async fn look_at(engine: &Engine, container: &Container, labels: &MysqlLabels) -> Detected {
    let server = if container.is_running() {
        // Whoever needs the login tries again, and tells why there is none.
        Server::connect(engine, container, labels).await.ok()
    } else {
        None
    };
    let told = server
        .as_ref()
        .map(|server| server.facts.data_directory.trim_end_matches('/'))
        .filter(|directory| !directory.is_empty());
    Detected {
        data_directory: told.unwrap_or(USUAL_DATA_DIRECTORY).to_owned(),
        server,
    }
}
