//! Whether a container runs a PostgreSQL server. Never by its image's name: `postgrest/…` is none, `registry/pgvector` is
//! one.

use std::time::Duration;

use super::server::Server;
use crate::engine::{Container, Engine, EngineError, ExecSpec};
use crate::labels::PostgresLabels;

const LIMIT: Duration = Duration::from_secs(30);

/// A PostgreSQL server that runs in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// As `pg_dump --version` prints it.
    pub client: String,
    /// Where the server keeps its data: a volume there is saved by the server's dumps, not as files. `None` when neither
    /// the container's environment nor the server tells.
    pub data_directory: Option<String>,
}

/// `Ok(None)`: the container runs no server, or lacks the clients to save one.
pub async fn detect(
    engine: &Engine,
    container: &Container,
    labels: &PostgresLabels,
) -> Result<Option<Detected>, EngineError> {
    if !container.is_running() {
        return Ok(None);
    }
    let processes = engine.process_names(&container.id).await?;
    if !processes.iter().any(|name| is_server(name)) {
        return Ok(None);
    }
    let spec = ExecSpec {
        user: labels.exec_user.clone(),
        limit: Some(LIMIT),
        ..ExecSpec::new(["pg_dump", "--version"])
    };
    let output = match engine.exec(&container.id, &spec).await {
        Ok(output) if output.exit_code == 0 => output,
        Ok(_) | Err(EngineError::CannotRun { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(Detected {
        client: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        data_directory: data_directory(engine, container, labels).await,
    }))
}

/// The kernel cuts names at 15 bytes; these are shorter.
fn is_server(process: &str) -> bool {
    matches!(process, "postgres" | "postmaster")
}

/// What the server says counts; without a login the environment has to do.
pub async fn data_directory(
    engine: &Engine,
    container: &Container,
    labels: &PostgresLabels,
) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Setting {
        directory: String,
    }
    let asked = async {
        let server = Server::connect(engine, container, labels, "cofferdam".to_owned())
            .await
            .ok()?;
        let query = "SELECT pg_catalog.current_setting('data_directory') AS directory";
        let mut rows: Vec<Setting> = server.query(server.maintenance_db(), query).await.ok()?;
        rows.pop().map(|row| row.directory)
    };
    match asked.await {
        Some(directory) => Some(directory),
        None => container.env.get("PGDATA").cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_server_itself_counts() {
        for (process, expected) in [
            ("postgres", true),
            ("postmaster", true),
            ("postgrest", false),
            ("postgres_export", false),
            ("pgbouncer", false),
        ] {
            assert_eq!(is_server(process), expected, "{process}");
        }
    }
}
