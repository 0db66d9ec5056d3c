//! How to log in: what the labels say, else the official image's variables, else `postgres`.

use crate::driver::DriverError;
use crate::driver::secret_file::SecretFile;
use crate::engine::{Container, Engine};
use crate::labels::PostgresLabels;
use crate::secret::Secret;

const PASSWORD_FILE: &str = "cofferdam.postgres.password-file";

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
            (Some(path), _) => Some((path, PASSWORD_FILE)),
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

async fn read(
    engine: &Engine,
    container: &Container,
    path: &str,
    origin: &str,
) -> Result<Secret, DriverError> {
    let file = SecretFile {
        path,
        origin,
        label: PASSWORD_FILE,
    };
    file.read(engine, container).await
}
