//! How to log in: what the labels say, else the variables of the images that people run, else `postgres`.
//!
//! | image | superuser | its password |
//! | --- | --- | --- |
//! | official | `POSTGRES_USER` | `POSTGRES_PASSWORD` |
//! | Bitnami's | `postgres` | `POSTGRESQL_POSTGRES_PASSWORD`; `POSTGRESQL_PASSWORD` where no other user is made |
//! | Red Hat's | `postgres` | `POSTGRESQL_ADMIN_PASSWORD` |
//!
//! The last two also make a user that is none (`POSTGRESQL_USERNAME`, `POSTGRESQL_USER`, `POSTGRESQL_PASSWORD`), who serves
//! where nothing better is known.

use super::server::LABEL;
use crate::driver::DriverError;
use crate::driver::logins::{Logins, PasswordLabels};
use crate::engine::{Container, Engine};
use crate::labels::PostgresLabels;
use crate::secret::Secret;

const SUPERUSER: &str = "postgres";
const SUPERUSER_PASSWORDS: [&str; 2] =
    ["POSTGRESQL_POSTGRES_PASSWORD", "POSTGRESQL_ADMIN_PASSWORD"];
const USERS: [&str; 3] = ["POSTGRES_USER", "POSTGRESQL_USERNAME", "POSTGRESQL_USER"];
const PASSWORDS: [&str; 2] = ["POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD"];

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
        let logins = Logins {
            engine,
            container,
            label: LABEL,
        };
        let labelled = PasswordLabels {
            file: labels.password_file.as_deref(),
            variable: labels.password_variable.as_deref(),
        };
        let password = logins.labelled(labelled).await?;
        let superuser = match (&password, labels.user.as_deref()) {
            (None, None | Some(SUPERUSER)) => logins.first(&SUPERUSER_PASSWORDS).await?,
            _ => None,
        };
        if superuser.is_some() {
            return Ok(Self {
                user: SUPERUSER.to_owned(),
                password: superuser,
            });
        }
        let user = match &labels.user {
            Some(user) => user.clone(),
            None => logins
                .first(&USERS)
                .await?
                .map_or_else(|| SUPERUSER.to_owned(), |user| user.expose().to_owned()),
        };
        let password = match password {
            None => logins.first(&PASSWORDS).await?,
            labelled => labelled,
        };
        Ok(Self { user, password })
    }
}
