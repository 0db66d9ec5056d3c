//! The one place where bollard's errors become ours.

use std::error::Error as StdError;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use bollard::errors::Error;

use super::connect::Endpoint;
use super::{Engine, EngineError};

/// What Linux shows in the place of a user or group that a namespace does not have.
const NOBODY: u32 = 65534;

/// What a call was about; it decides what "not found" and "conflict" mean.
#[derive(Clone, Copy)]
pub(super) enum About<'a> {
    /// The engine itself, or something that has no error of its own.
    Engine,
    Container(&'a str),
    Volume(&'a str),
    /// A container that is about to get this name.
    NewName(&'a str),
}

impl Engine {
    /// `action` completes the sentence "the engine failed to …".
    pub(super) fn fault(
        &self,
        error: Error,
        about: About<'_>,
        action: impl Into<String>,
    ) -> EngineError {
        explain(error, &self.endpoint, about, action.into())
    }
}

pub(super) fn explain(
    error: Error,
    endpoint: &Endpoint,
    about: About<'_>,
    action: String,
) -> EngineError {
    match error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } => refusal(
            status_code,
            without_passwords(&readable(&message)),
            about,
            action,
        ),
        Error::RequestTimeoutError => EngineError::Api {
            action,
            status: None,
            message: "it did not answer in time".to_owned(),
        },
        Error::HyperLegacyError { ref err } if err.is_connect() => {
            unreachable(endpoint, innermost(&error), io_kind(&error))
        }
        other => EngineError::Api {
            action,
            status: None,
            message: innermost(&other),
        },
    }
}

fn refusal(status: u16, message: String, about: About<'_>, action: String) -> EngineError {
    match (status, about) {
        (401 | 403, _) => EngineError::Forbidden { action, message },
        (404, About::Container(container)) => EngineError::NoSuchContainer(container.to_owned()),
        (404, About::Volume(volume)) => EngineError::NoSuchVolume(volume.to_owned()),
        (409, About::NewName(name)) if message.contains("in use") => {
            EngineError::NameTaken(name.to_owned())
        }
        _ => EngineError::Api {
            action,
            status: Some(status),
            message,
        },
    }
}

/// Says why nothing answers at `endpoint`, and what mends it.
pub(super) fn unreachable(
    endpoint: &Endpoint,
    message: String,
    kind: Option<io::ErrorKind>,
) -> EngineError {
    let hint = match (endpoint, kind) {
        (Endpoint::Unix(path), Some(io::ErrorKind::NotFound)) => format!(
            "mount the engine's socket (-v /var/run/docker.sock:{path}), or set DOCKER_HOST"
        ),
        (Endpoint::Unix(path), Some(io::ErrorKind::PermissionDenied)) => permission_hint(path),
        (Endpoint::Unix(_), Some(io::ErrorKind::ConnectionRefused)) => {
            "the socket exists, but nothing listens on it: the engine is not running, or it made a new socket after this \
             container was started (then restart this container)"
                .to_owned()
        }
        (Endpoint::Tcp { .. }, Some(io::ErrorKind::ConnectionRefused)) => {
            "nothing listens there: check DOCKER_HOST, and that the engine or its proxy is running".to_owned()
        }
        (Endpoint::Tcp { tls: Some(files), .. }, _) => format!(
            "check DOCKER_HOST, and that {} signed the engine's certificate and the engine trusts {}",
            files.ca, files.certificate
        ),
        (Endpoint::Tcp { tls: None, .. }, _) => {
            "check DOCKER_HOST; an engine that speaks TLS also needs DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH"
                .to_owned()
        }
        (Endpoint::Unix(path), _) => format!("check that {path} is the engine's socket"),
    };
    EngineError::Unreachable {
        endpoint: endpoint.to_string(),
        message,
        hint,
    }
}

fn permission_hint(path: &str) -> String {
    match std::fs::metadata(path) {
        Ok(socket) if socket.file_type().is_socket() => {
            let mode = socket.mode() & 0o7777;
            socket_hint(path, socket.uid(), socket.gid(), mode)
        }
        _ => {
            format!("this user may not open {path}: run as a member of the socket's group")
        }
    }
}

fn socket_hint(path: &str, user: u32, group: u32, mode: u32) -> String {
    if group == NOBODY {
        return format!(
            "{path} belongs to users of the host that this container does not have, since the engine remaps users \
             (userns-remap): run with --userns host (compose: userns_mode: host)"
        );
    }
    format!(
        "{path} belongs to user {user} and group {group} (mode {mode:04o}): run with --group-add {group} (compose: \
         group_add), or as that user"
    )
}

/// Proxies answer in HTML; people want one line.
fn readable(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut in_tag = false;
    let is_html = message.trim_start().starts_with('<');
    for character in message.chars() {
        match character {
            '<' if is_html => in_tag = true,
            '>' if in_tag => {
                in_tag = false;
                text.push(' ');
            }
            _ if in_tag => {}
            other => text.push(other),
        }
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        "it gave no reason".to_owned()
    } else {
        text
    }
}

/// Options of a mount that hold a password. The engine repeats all of a volume's when it cannot mount it.
const SECRET_OPTIONS: [&str; 5] = ["password=", "password2=", "passwd=", "pass=", "secret="];

fn without_passwords(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    let mut rest = message;
    loop {
        let options = SECRET_OPTIONS.iter();
        let values = options.filter_map(|option| Some(rest.find(option)? + option.len()));
        let Some(value) = values.min() else {
            shown.push_str(rest);
            return shown;
        };
        shown.push_str(&rest[..value]);
        shown.push_str("[redacted]");
        rest = &rest[value..];
        // The cause comes after the last option.
        let end = rest.find(',').or_else(|| rest.rfind(": "));
        rest = &rest[end.unwrap_or(rest.len())..];
    }
}

/// The cause at the bottom: hyper's own layers say only "client error".
fn innermost(error: &(dyn StdError + 'static)) -> String {
    chain(error)
        .last()
        .map_or_else(String::new, |cause| cause.to_string())
}

fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    chain(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .map(io::Error::kind)
        .last()
}

fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |cause| (*cause).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_remapped_users_is_no_matter_of_groups() {
        let hint = socket_hint("/run/docker.sock", 0, 998, 0o660);
        assert!(hint.contains("--group-add 998"), "{hint}");
        let hint = socket_hint("/run/docker.sock", NOBODY, NOBODY, 0o660);
        assert!(
            hint.contains("--userns host") && !hint.contains("group"),
            "{hint}"
        );
    }

    fn answer(status_code: u16, message: &str, about: About<'_>) -> String {
        let error = Error::DockerResponseServerError {
            status_code,
            message: message.to_owned(),
        };
        explain(
            error,
            &Endpoint::default(),
            about,
            "create a container".to_owned(),
        )
        .to_string()
    }

    #[test]
    fn answers_of_the_engine_and_of_proxies_become_sentences() {
        let proxy = "<html><body><h1>403 Forbidden</h1>\nRequest forbidden by administrative rules.\n</body></html>\n";
        let conflict =
            "Conflict. The container name \"/x\" is already in use by container \"0123\".";
        let sentences = [
            answer(403, proxy, About::Engine),
            answer(404, "No such container: db", About::Container("db")),
            answer(404, "get data: no such volume", About::Volume("data")),
            answer(404, "No such image: nope:latest", About::Engine),
            answer(409, conflict, About::NewName("x")),
            answer(409, "Container db is not running", About::Container("db")),
            answer(500, "", About::Engine),
        ];
        insta::assert_snapshot!(sentences.join("\n"), @r#"
        the Docker Engine does not allow Cofferdam to create a container: 403 Forbidden Request forbidden by administrative rules.
        container db does not exist (any more)
        volume data does not exist (any more)
        the Docker Engine failed to create a container: No such image: nope:latest
        name x is in use already
        the Docker Engine failed to create a container: Container db is not running
        the Docker Engine failed to create a container: it gave no reason
        "#);
    }

    #[test]
    fn passwords_of_mounts_are_not_repeated() {
        let told = |data: &str| {
            let message = format!("failed to mount //nas/x, data: {data}: connection refused");
            answer(500, &message, About::Engine)
        };
        for data in [
            "username=u,password=geheim: nein,vers=3.0",
            "username=u,password=geheim: nein",
            "pass=geheim,password2=geheim",
            "name=admin,secret=geheim",
        ] {
            let told = told(data);
            assert!(!told.contains("geheim") && !told.contains("nein"), "{told}");
            assert!(told.ends_with(": connection refused"), "{told}");
        }
        assert!(
            told("addr=10.0.0.1,soft").contains("data: addr=10.0.0.1,soft: connection refused")
        );
    }

    #[test]
    fn unreachable_says_what_mends_it() {
        let unix = Endpoint::default();
        let plain = Endpoint::Tcp {
            address: "proxy:2375".to_owned(),
            tls: None,
        };
        let hints = [
            unreachable(&unix, "no".into(), Some(io::ErrorKind::NotFound)),
            unreachable(&unix, "no".into(), Some(io::ErrorKind::ConnectionRefused)),
            unreachable(&plain, "no".into(), Some(io::ErrorKind::ConnectionRefused)),
            unreachable(&plain, "no".into(), None),
        ];
        insta::assert_snapshot!(hints.map(|hint| hint.to_string()).join("\n"), @r#"
        cannot reach the Docker Engine at unix:///var/run/docker.sock: no; mount the engine's socket (-v /var/run/docker.sock:/var/run/docker.sock), or set DOCKER_HOST
        cannot reach the Docker Engine at unix:///var/run/docker.sock: no; the socket exists, but nothing listens on it: the engine is not running, or it made a new socket after this container was started (then restart this container)
        cannot reach the Docker Engine at tcp://proxy:2375: no; nothing listens there: check DOCKER_HOST, and that the engine or its proxy is running
        cannot reach the Docker Engine at tcp://proxy:2375: no; check DOCKER_HOST; an engine that speaks TLS also needs DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH
        "#);
    }
}
