//! How to log in: what the labels say, else the official image's variables, else `postgres`.

use std::time::Duration;

use crate::driver::DriverError;
use crate::engine::{Container, Engine, ExecSpec};
use crate::labels::PostgresLabels;
use crate::secret::Secret;

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct Credentials {
    pub user: String,
    /// `None`: the server asks for none, or the container's own means (`PGPASSWORD`, `.pgpass`) are enough.
    pub password: Option<Secret>,
}

impl Credentials {
    /// Reads what the labels and the container's environment name, inside the container.
    pub async fn find(
        engine: &Engine,
        container: &Container,
        labels: &PostgresLabels,
    ) -> Result<Self, DriverError> {
        let variable = |name: &str| container.env.get(name).filter(|value| !value.is_empty());
        let user = match (
            &labels.user,
            variable("POSTGRES_USER"),
            variable("POSTGRES_USER_FILE"),
        ) {
            (Some(user), _, _) | (None, Some(user), _) => user.clone(),
            (None, None, Some(path)) => read(engine, container, path, "POSTGRES_USER_FILE")
                .await?
                .expose()
                .to_owned(),
            (None, None, None) => "postgres".to_owned(),
        };
        let file = match (&labels.password_file, variable("POSTGRES_PASSWORD_FILE")) {
            (Some(path), _) => Some((path, "cofferdam.postgres.password-file")),
            (None, Some(path)) if variable("POSTGRES_PASSWORD").is_none() => {
                Some((path, "POSTGRES_PASSWORD_FILE"))
            }
            (None, _) => None,
        };
        let password = match file {
            Some((path, origin)) => Some(read(engine, container, path, origin).await?),
            None => variable("POSTGRES_PASSWORD").map(Secret::new),
        };
        Ok(Self { user, password })
    }
}

/// The content of a file in the container. Secret files are often for root alone, also where the server is not root.
async fn read(
    engine: &Engine,
    container: &Container,
    path: &str,
    origin: &str,
) -> Result<Secret, DriverError> {
    let mut why = String::new();
    for user in [None, Some("0")] {
        let spec = ExecSpec {
            user: user.map(str::to_owned),
            limit: Some(LIMIT),
            ..ExecSpec::new(["cat", "--", path])
        };
        let output = engine.exec(&container.id, &spec).await?;
        if output.exit_code == 0 && !output.truncated {
            return String::from_utf8(output.stdout)
                .map(|content| Secret::from_file_content(&content))
                .map_err(|_| {
                    DriverError::failed(format!("{path}, which {origin} names, is not UTF-8"))
                });
        }
        why = output.last_words();
    }
    Err(DriverError::failed_with_hint(
        format!(
            "{path}, which {origin} names, cannot be read in container {}: {why}",
            container.name
        ),
        "name a readable file with the label cofferdam.postgres.password-file",
    ))
}
