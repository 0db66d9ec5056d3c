//! How to log in: what the labels say, else the variables of the official images and of Bitnami's, `MARIADB_…` before
//! `MYSQL_…`; root where its password is known.

use crate::driver::DriverError;
use crate::driver::logins::{Logins, PasswordLabels};
use crate::engine::{Container, Engine};
use crate::labels::MysqlLabels;
use crate::secret::Secret;

const LABEL: &str = "cofferdam.mysql";
const ROOT: &str = "root";
/// What the official images set their variables' names off with.
const PREFIXES: [&str; 2] = ["MARIADB_", "MYSQL_"];
const EMPTY_PASSWORD: [&str; 3] = [
    "MARIADB_ALLOW_EMPTY_ROOT_PASSWORD",
    "MYSQL_ALLOW_EMPTY_PASSWORD",
    "ALLOW_EMPTY_PASSWORD",
];

#[derive(Clone, Debug)]
pub struct Credentials {
    pub user: String,
    /// `None`: the server asks for none, or the container's own means (an option file, its socket) are enough.
    pub password: Option<Secret>,
}

impl Credentials {
    /// Reads what the labels and the container's environment name, inside the container.
    pub async fn find(
        engine: &Engine,
        container: &Container,
        labels: &MysqlLabels,
    ) -> Result<Self, DriverError> {
        let variables = Variables(Logins {
            engine,
            container,
            label: LABEL,
        });
        let root = variables.root().await?;
        let labelled = PasswordLabels {
            file: labels.password_file.as_deref(),
            variable: labels.password_variable.as_deref(),
        };
        if let password @ Some(_) = variables.0.labelled(labelled).await? {
            return Ok(Self::of(labels.user.as_deref().unwrap_or(&root), password));
        }
        let root_password = match labels.user.as_deref() {
            Some(user) if user != root => None,
            _ => variables.read("ROOT_PASSWORD").await?,
        };
        if root_password.is_some() {
            return Ok(Self::of(&root, root_password));
        }
        let named = variables.read("USER").await?;
        let named = named.as_ref().map(Secret::expose);
        let user = match (labels.user.as_deref(), named) {
            (Some(user), _) => user,
            (None, _) if variables.allow_empty_password() => &root,
            (None, Some(user)) => user,
            (None, None) => &root,
        };
        let password = match named {
            Some(named) if named == user => variables.read("PASSWORD").await?,
            _ => None,
        };
        Ok(Self::of(user, password))
    }

    fn of(user: &str, password: Option<Secret>) -> Self {
        Self {
            user: user.to_owned(),
            password,
        }
    }
}

struct Variables<'a>(Logins<'a>);

impl Variables<'_> {
    fn allow_empty_password(&self) -> bool {
        EMPTY_PASSWORD
            .iter()
            .any(|name| self.0.value(name).is_some())
    }

    /// Bitnami's images let root have another name.
    async fn root(&self) -> Result<String, DriverError> {
        let root = self.read("ROOT_USER").await?;
        Ok(root.map_or_else(|| ROOT.to_owned(), |root| root.expose().to_owned()))
    }

    /// `MARIADB_<name>`, or the file of `MARIADB_<name>_FILE`, or the same with `MYSQL_`.
    async fn read(&self, name: &str) -> Result<Option<Secret>, DriverError> {
        let variables = PREFIXES.map(|prefix| format!("{prefix}{name}"));
        let variables = variables.each_ref().map(String::as_str);
        self.0.first(&variables).await
    }
}
