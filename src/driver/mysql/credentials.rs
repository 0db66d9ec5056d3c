//! How to log in: what the labels say, else the official images' variables, `MARIADB_…` before `MYSQL_…`; root where its
//! password is known.

use crate::driver::DriverError;
use crate::driver::secret_file::SecretFile;
use crate::engine::{Container, Engine};
use crate::labels::MysqlLabels;
use crate::secret::Secret;

const PASSWORD_FILE: &str = "cofferdam.mysql.password-file";
const ROOT: &str = "root";
/// What the official images set their variables' names off with.
const PREFIXES: [&str; 2] = ["MARIADB_", "MYSQL_"];
const EMPTY_PASSWORD: [&str; 2] = [
    "MARIADB_ALLOW_EMPTY_ROOT_PASSWORD",
    "MYSQL_ALLOW_EMPTY_PASSWORD",
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
        let variables = Variables { engine, container };
        if let Some(path) = &labels.password_file {
            let password = variables.file(path, PASSWORD_FILE).await?;
            return Ok(Self {
                user: labels.user.clone().unwrap_or_else(|| ROOT.to_owned()),
                password: Some(password),
            });
        }
        let root_password = match labels.user.as_deref() {
            None | Some(ROOT) => variables.read("ROOT_PASSWORD").await?,
            Some(_) => None,
        };
        if root_password.is_some() {
            return Ok(Self::of(ROOT, root_password));
        }
        let named = variables.read("USER").await?;
        let named = named.as_ref().map(Secret::expose);
        let user = match (labels.user.as_deref(), named) {
            (Some(user), _) => user,
            (None, _) if variables.allow_empty_password() => ROOT,
            (None, Some(user)) => user,
            (None, None) => ROOT,
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

struct Variables<'a> {
    engine: &'a Engine,
    container: &'a Container,
}

impl Variables<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        let value = self.container.env.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    fn allow_empty_password(&self) -> bool {
        EMPTY_PASSWORD.iter().any(|name| self.value(name).is_some())
    }

    /// `MARIADB_<name>`, or the file of `MARIADB_<name>_FILE`, or the same with `MYSQL_`.
    async fn read(&self, name: &str) -> Result<Option<Secret>, DriverError> {
        for prefix in PREFIXES {
            let variable = format!("{prefix}{name}");
            if let Some(value) = self.value(&variable) {
                return Ok(Some(Secret::new(value)));
            }
            let variable = format!("{variable}_FILE");
            if let Some(path) = self.value(&variable) {
                return self.file(path, &variable).await.map(Some);
            }
        }
        Ok(None)
    }

    async fn file(&self, path: &str, origin: &str) -> Result<Secret, DriverError> {
        let file = SecretFile {
            path,
            origin,
            label: PASSWORD_FILE,
        };
        file.read(self.engine, self.container).await
    }
}
