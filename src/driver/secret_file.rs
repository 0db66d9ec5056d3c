//! Secrets that lie as files in a container, as compose mounts them.

use std::time::Duration;

use super::DriverError;
use crate::engine::{Container, Engine, ExecSpec};
use crate::secret::Secret;

const LIMIT: Duration = Duration::from_secs(30);

/// A file in a container that holds a secret, or another thing that must not stand in a label.
#[derive(Clone, Copy, Debug)]
pub struct SecretFile<'a> {
    pub path: &'a str,
    /// What names the file, for people: a variable or a label.
    pub origin: &'a str,
    /// The label that names another one.
    pub label: &'a str,
}

impl SecretFile<'_> {
    /// Its content. Secret files are often for root alone, also where the server is not root.
    pub async fn read(
        &self,
        engine: &Engine,
        container: &Container,
    ) -> Result<Secret, DriverError> {
        let Self {
            path,
            origin,
            label,
        } = self;
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
            format!("name a readable file with the label {label}"),
        ))
    }
}
