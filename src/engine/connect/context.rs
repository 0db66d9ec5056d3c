//! The context that `docker context use` or `DOCKER_CONTEXT` has chosen, as Docker's own client keeps it.
//!
//! Whoever chooses one means it for every tool: to go to the local engine instead, in silence, would restore into the wrong one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{Endpoint, EndpointError};

/// What is asked without any context.
const DEFAULT: &str = "default";

#[derive(Deserialize)]
struct ClientConfig {
    #[serde(default, rename = "currentContext")]
    current_context: String,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "Endpoints")]
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: DockerEndpoint,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEndpoint {
    host: String,
    #[serde(default, rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

/// The endpoint of the context that is chosen; `None`: none is. `variable` looks one up.
pub(super) fn chosen(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Endpoint>, EndpointError> {
    let variable = |name| variable(name).filter(|value| !value.is_empty());
    let home = || variable("HOME").map(|home| Path::new(&home).join(".docker"));
    let directory = variable("DOCKER_CONFIG").map(PathBuf::from).or_else(home);
    let name = match (variable("DOCKER_CONTEXT"), &directory) {
        (Some(name), _) => name,
        (None, Some(directory)) => current(&directory.join("config.json"))?,
        (None, None) => return Ok(None),
    };
    if name.is_empty() || name == DEFAULT {
        return Ok(None);
    }
    let directory = directory.unwrap_or_default().join("contexts");
    let followed = follow(&name, &directory);
    followed
        .map(Some)
        .map_err(|reason| EndpointError::Context { name, reason })
}

/// The name in the client's configuration; without that, none.
fn current(file: &Path) -> Result<String, EndpointError> {
    let config: Option<ClientConfig> = read(file).map_err(EndpointError::ClientConfig)?;
    Ok(config.map_or_else(String::new, |config| config.current_context))
}

fn follow(name: &str, contexts: &Path) -> Result<Endpoint, String> {
    // As the client names the directories.
    let id: String = Sha256::digest(name.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let metadata: Option<Metadata> = read(&contexts.join("meta").join(&id).join("meta.json"))?;
    let Some(metadata) = metadata else {
        return Err(format!(
            "there is no context of that name in {}",
            contexts.display()
        ));
    };
    let DockerEndpoint {
        host,
        skip_tls_verify,
    } = metadata.endpoints.docker;
    if skip_tls_verify {
        return Err(
            "it does not verify the server's certificate, which Cofferdam always does".to_owned(),
        );
    }
    let certificates = contexts.join("tls").join(&id).join("docker");
    let has_certificates = certificates.is_dir();
    let variable = |name: &str| match name {
        "DOCKER_TLS_VERIFY" if has_certificates => Some("1".to_owned()),
        "DOCKER_CERT_PATH" if has_certificates => Some(certificates.display().to_string()),
        _ => None,
    };
    Endpoint::parse(&host, variable)
        .map_err(|bad| format!("its host is `{}`: {}", bad.text, bad.reason))
}

/// `None` where there is no such file.
fn read<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, String> {
    let bytes = match std::fs::read(file) {
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(None);
        }
        read => read.map_err(|error| format!("{}: {error}", file.display()))?,
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed
        .map(Some)
        .map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::engine::connect::TlsFiles;

    /// `printf prod | sha256sum`
    const PROD: &str = "6754af9632a2745e85c293e5aac0863370d9bd3330b9938c00cadfd215227d77";

    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn context(&self, id: &str, endpoint: &str) {
            let text =
                format!(r#"{{"Name":"x","Metadata":{{}},"Endpoints":{{"docker":{endpoint}}}}}"#);
            self.write(&format!("contexts/meta/{id}/meta.json"), &text);
        }

        fn chosen(&self, variables: &[(&str, &str)]) -> Result<Option<Endpoint>, String> {
            let chosen = chosen(|name| {
                let own = self.0.path().to_str().unwrap();
                let all = [variables, &[("DOCKER_CONFIG", own)]].concat();
                let found = all.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            });
            chosen.map_err(|error| {
                error
                    .to_string()
                    .replace(self.0.path().to_str().unwrap(), "~")
            })
        }
    }

    #[test]
    fn a_context_is_followed() {
        let home = Home::new();
        assert_eq!(home.chosen(&[]), Ok(None));
        home.write("config.json", r#"{"auths":{},"currentContext":"prod"}"#);
        assert_snapshot!(home.chosen(&[]).unwrap_err(), @"the docker context `prod` cannot be used: there is no context of that name in ~/contexts; set DOCKER_HOST to the address of the engine, or DOCKER_CONTEXT=default for the one on this machine");
        home.context(
            PROD,
            r#"{"Host":"unix:///run/user/1000/docker.sock","SkipTLSVerify":false}"#,
        );
        let socket = Endpoint::Unix("/run/user/1000/docker.sock".to_owned());
        assert_eq!(home.chosen(&[]), Ok(Some(socket)));
        assert_eq!(home.chosen(&[("DOCKER_CONTEXT", "default")]), Ok(None));

        home.context(PROD, r#"{"Host":"tcp://prod.example.org:2376"}"#);
        home.write(&format!("contexts/tls/{PROD}/docker/ca.pem"), "");
        let file = |name| {
            let path = format!("contexts/tls/{PROD}/docker/{name}.pem");
            home.0.path().join(path).display().to_string()
        };
        let endpoint = Endpoint::Tcp {
            address: "prod.example.org:2376".to_owned(),
            tls: Some(TlsFiles {
                ca: file("ca"),
                certificate: file("cert"),
                key: file("key"),
            }),
        };
        assert_eq!(
            home.chosen(&[("DOCKER_CONTEXT", "prod")]),
            Ok(Some(endpoint))
        );
    }

    #[test]
    fn one_that_cannot_be_followed_is_refused() {
        let home = Home::new();
        let prod = [("DOCKER_CONTEXT", "prod")];
        let refused = |endpoint: &str| {
            home.context(PROD, endpoint);
            home.chosen(&prod).unwrap_err()
        };
        for (endpoint, reason) in [
            (
                r#"{"Host":"ssh://prod"}"#,
                "its host is `ssh://prod`: ssh is not supported",
            ),
            (
                r#"{"Host":"tcp://h:1","SkipTLSVerify":true}"#,
                "it does not verify the server's certificate, which Cofferdam always does; set DOCKER_HOST",
            ),
            ("{}", "meta.json: missing field `Host`"),
        ] {
            let refused = refused(endpoint);
            assert!(
                refused.contains("context `prod` cannot be used"),
                "{refused}"
            );
            assert!(refused.contains(reason), "{refused}");
        }
        home.write("config.json", "{");
        let refused = home.chosen(&[]).unwrap_err();
        assert!(
            refused.contains("is selected: ~/config.json: "),
            "{refused}"
        );
    }
}
