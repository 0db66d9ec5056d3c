//! Passwords and users that a container's own environment holds, or files in it, as compose mounts secrets.

use std::time::Duration;

use super::DriverError;
use crate::engine::{Container, Engine, ExecSpec};
use crate::secret::Secret;

const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);

/// What the container of a server says of its logins.
#[derive(Clone, Copy)]
pub struct Logins<'a> {
    pub engine: &'a Engine,
    pub container: &'a Container,
    /// What the driver's labels begin with: `cofferdam.postgres`.
    pub label: &'a str,
}

/// Where the labels say that the password is; no more than one of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct PasswordLabels<'a> {
    /// A path inside the container.
    pub file: Option<&'a str>,
    /// The name of one of the container's variables.
    pub variable: Option<&'a str>,
}

impl Logins<'_> {
    /// A variable of the container that is not empty.
    pub fn value(&self, variable: &str) -> Option<&str> {
        let value = self.container.env.get(variable).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// Whether [`Logins::secret`] has something to read.
    pub fn has(&self, variable: &str) -> bool {
        self.value(variable).is_some() || self.value(&format!("{variable}_FILE")).is_some()
    }

    /// A variable, or the file that the same variable with `_FILE` names.
    pub async fn secret(&self, variable: &str) -> Result<Option<Secret>, DriverError> {
        if let Some(value) = self.value(variable) {
            return Ok(Some(Secret::new(value)));
        }
        let variable = format!("{variable}_FILE");
        match self.value(&variable) {
            Some(path) => self.file(path, &variable).await.map(Some),
            None => Ok(None),
        }
    }

    /// The first of these that there is.
    pub async fn first(&self, variables: &[&str]) -> Result<Option<Secret>, DriverError> {
        for variable in variables {
            if let found @ Some(_) = self.secret(variable).await? {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// What the labels name; `None` where they name nothing.
    pub async fn labelled(
        &self,
        labels: PasswordLabels<'_>,
    ) -> Result<Option<Secret>, DriverError> {
        let label = self.label;
        if let Some(path) = labels.file {
            return self
                .file(path, &format!("{label}.password-file"))
                .await
                .map(Some);
        }
        let Some(variable) = labels.variable else {
            return Ok(None);
        };
        // What is written there might be the password itself: it is not shown.
        let value = self.value(variable).ok_or_else(|| {
            DriverError::failed_with_hint(
                format!(
                    "{label}.password-variable names a variable that container {} does not have, or that is empty",
                    self.container.name
                ),
                format!("name the variable that holds the password, or a file with {label}.password-file"),
            )
        })?;
        Ok(Some(Secret::new(value)))
    }

    /// A file's content. Secret files are often for root alone, also where the server is not root. `origin`: the variable or
    /// label that names it.
    async fn file(&self, path: &str, origin: &str) -> Result<Secret, DriverError> {
        let mut why = String::new();
        for user in [None, Some("0")] {
            let spec = ExecSpec {
                user: user.map(str::to_owned),
                limit: Some(LOGIN_TIMEOUT),
                ..ExecSpec::new(["cat", "--", path])
            };
            let mut output = self.engine.exec(&self.container.id, &spec).await?;
            if output.says_nothing() {
                // It is empty, or the engine has lost it.
                output = self.engine.exec(&self.container.id, &spec).await?;
            }
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
                self.container.name
            ),
            format!(
                "name a readable file with the label {}.password-file",
                self.label
            ),
        ))
    }
}
