//! Endpoints, version negotiation and time-outs.
//!
//! - `context`: where it is, when a context says so
//! - `transport`: how requests reach the engine
//!
//! Two clients share one transport: `client`, whose short time-out fits calls that are answered at once, and `patient`, for
//! calls whose answer comes only when the work is done (uploads, stops, waits).

mod context;
mod transport;

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};

pub(super) use self::transport::{RawStream, Transport};
use super::fault::{About, explain, unreachable};
use super::turns::Turns;
use super::{Engine, EngineError};
use crate::manifest::EngineFacts;

/// How long the engine may take to say which version it speaks.
const FIRST_ANSWER: Duration = Duration::from_secs(15);
/// How long a call may take that only asks or orders.
const CONTROL: Duration = Duration::from_secs(60);
/// Longer than any upload or wait; these have limits of their own.
const PATIENT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What `DOCKER_HOST` says where there is no engine to be asked.
const NONE: &str = "none";

/// Where the engine listens, from `DOCKER_HOST`, `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH`, or from Docker's contexts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The path of a socket.
    Unix(String),
    Tcp {
        /// `host:port`
        address: String,
        tls: Option<TlsFiles>,
    },
}

/// Paths of PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub ca: String,
    pub certificate: String,
    pub key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("DOCKER_HOST is `{text}`: {reason}")]
pub struct BadEndpoint {
    pub text: String,
    pub reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error(transparent)]
    Host(#[from] BadEndpoint),
    #[error(
        "the docker context `{name}` cannot be used: {reason}; set DOCKER_HOST to the address of the engine, or \
         DOCKER_CONTEXT=default for the one on this machine"
    )]
    Context { name: String, reason: String },
    #[error(
        "cannot read which docker context is selected: {0}; set DOCKER_HOST to the address of the engine, or \
         DOCKER_CONTEXT=default for the one on this machine"
    )]
    ClientConfig(String),
}

impl Default for Endpoint {
    fn default() -> Self {
        Self::Unix("/var/run/docker.sock".to_owned())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix://{path}"),
            Self::Tcp { address, .. } => write!(formatter, "tcp://{address}"),
        }
    }
}

impl Endpoint {
    /// Whether it names this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { address, .. } => ["127.", "[::1]:", "localhost:"]
                .iter()
                .any(|own| address.starts_with(own)),
        }
    }

    /// Reads the variables that Docker's own client reads, with the same meaning: any text in `DOCKER_TLS_VERIFY` turns
    /// TLS on, and the certificates lie in `DOCKER_CERT_PATH` or `~/.docker`. Without `DOCKER_HOST`, the context counts that
    /// `DOCKER_CONTEXT` names, or the client's configuration.
    ///
    /// `variable` looks one up; an empty one counts as absent.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Self, EndpointError> {
        Ok(Self::configured(variable)?.unwrap_or_default())
    }

    /// The same for what only asks an engine where there is one. `None`: `DOCKER_HOST` is `none`, or nothing says where it is
    /// and there is nothing in its usual place.
    pub fn if_any(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, EndpointError> {
        if variable("DOCKER_HOST").is_some_and(|host| host == NONE) {
            return Ok(None);
        }
        let usual = || Some(Self::default()).filter(|usual| !usual.is_absent());
        Ok(Self::configured(variable)?.or_else(usual))
    }

    fn configured(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, EndpointError> {
        match variable("DOCKER_HOST").filter(|host| !host.is_empty()) {
            Some(host) => Ok(Some(Self::parse(&host, variable)?)),
            None => context::chosen(variable),
        }
    }

    /// Whether there is no such socket: not whether anybody listens.
    fn is_absent(&self) -> bool {
        match self {
            Self::Unix(path) => std::fs::symlink_metadata(path).is_err_and(|error| {
                [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind())
            }),
            Self::Tcp { .. } => false,
        }
    }

    /// Reads an address as `DOCKER_HOST` has it; `variable` tells of TLS, as above.
    pub fn parse(
        host: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, BadEndpoint> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let bad = |reason| BadEndpoint {
            text: host.to_owned(),
            reason,
        };
        let (scheme, rest) = host
            .split_once("://")
            .ok_or_else(|| bad("it must begin with unix://, tcp://, http:// or https://"))?;
        let tls = || {
            let directory = variable("DOCKER_CERT_PATH")
                .unwrap_or_else(|| format!("{}/.docker", variable("HOME").unwrap_or_default()));
            let file = |name| format!("{}/{name}", directory.trim_end_matches('/'));
            TlsFiles {
                ca: file("ca.pem"),
                certificate: file("cert.pem"),
                key: file("key.pem"),
            }
        };
        let tls = match scheme {
            "unix" if rest.starts_with('/') => return Ok(Self::Unix(rest.to_owned())),
            "unix" => return Err(bad("a socket needs an absolute path: unix:///path")),
            "tcp" | "http" => variable("DOCKER_TLS_VERIFY").map(|_| tls()),
            "https" => Some(tls()),
            "ssh" => {
                return Err(bad(
                    "ssh is not supported, because there is no ssh program in Cofferdam's image; run Cofferdam beside the \
                     engine, or forward its socket: ssh -nNT -L /run/engine.sock:/var/run/docker.sock HOST",
                ));
            }
            _ => {
                return Err(bad(
                    "it must begin with unix://, tcp://, http:// or https://",
                ));
            }
        };
        let address = rest.trim_end_matches('/');
        if address.is_empty() || address.contains(['/', '?', '#', '@', ' ']) {
            return Err(bad("what follows the scheme must be host:port"));
        }
        let port = if tls.is_some() { 2376 } else { 2375 };
        Ok(Self::Tcp {
            address: if has_port(address) {
                address.to_owned()
            } else {
                format!("{address}:{port}")
            },
            tls,
        })
    }
}

fn has_port(address: &str) -> bool {
    match address.rsplit_once(']') {
        Some((_, after)) => after.starts_with(':'),
        None => address.contains(':'),
    }
}

impl Engine {
    /// Connects and agrees on an API version; fails with a hint when the engine does not answer.
    pub async fn connect(endpoint: Endpoint) -> Result<Self, EngineError> {
        let transport = Transport::new(&endpoint).map_err(|message| EngineError::Unreachable {
            endpoint: endpoint.to_string(),
            message,
            hint: "TLS needs ca.pem, cert.pem and key.pem in the directory that DOCKER_CERT_PATH names".to_owned(),
        })?;
        let client = client_over(transport.clone())
            .map_err(|error| explain_first(error, &endpoint))?
            .with_timeout(FIRST_ANSWER)
            .negotiate_version()
            .await
            .map_err(|error| explain_first(error, &endpoint))?;
        transport.agree_on(&client.client_version().to_string());
        Ok(Self {
            client: client.clone().with_timeout(CONTROL),
            patient: client.with_timeout(PATIENT),
            transport,
            turns: Turns::default(),
            remaps_users: Default::default(),
            endpoint,
            managers: Vec::new(),
        })
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub async fn facts(&self) -> Result<EngineFacts, EngineError> {
        let version = self
            .client
            .version()
            .await
            .map_err(|error| self.fault(error, About::Engine, "report its version"))?;
        Ok(EngineFacts {
            version: version.version.unwrap_or_default(),
            api_version: self.client.client_version().to_string(),
            os: version.os.unwrap_or_default(),
            architecture: version.arch.unwrap_or_default(),
        })
    }
}

fn client_over(transport: Transport) -> Result<Docker, Error> {
    let base = transport.base().to_owned();
    let send = move |request: BollardRequest| {
        let transport = transport.clone();
        async move { transport.send(request).await }
    };
    Docker::connect_with_custom_transport(send, Some(base), CONTROL.as_secs(), API_DEFAULT_VERSION)
}

fn explain_first(error: Error, endpoint: &Endpoint) -> EngineError {
    let timed_out = matches!(error, Error::RequestTimeoutError);
    match explain(error, endpoint, About::Engine, "report its version".to_owned()) {
        EngineError::Api { .. } if timed_out => EngineError::Unreachable {
            endpoint: endpoint.to_string(),
            message: format!("no answer within {FIRST_ANSWER:?}"),
            hint: "something accepts connections there, but does not answer: check the engine, and any proxy in front of it"
                .to_owned(),
        },
        EngineError::Api { message, .. } => unreachable(endpoint, message, None),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(variables: &[(&str, &str)]) -> Result<Endpoint, EndpointError> {
        Endpoint::from_env(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    fn tcp(address: &str, certificates: Option<&str>) -> Endpoint {
        Endpoint::Tcp {
            address: address.to_owned(),
            tls: certificates.map(|directory| TlsFiles {
                ca: format!("{directory}/ca.pem"),
                certificate: format!("{directory}/cert.pem"),
                key: format!("{directory}/key.pem"),
            }),
        }
    }

    #[test]
    fn only_what_is_neither_named_nor_there_is_no_engine() {
        fn if_any(variables: &[(&str, &str)]) -> Result<Option<Endpoint>, EndpointError> {
            Endpoint::if_any(|name| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        }
        assert_eq!(if_any(&[("DOCKER_HOST", "none")]), Ok(None));
        let absent = Endpoint::Unix("/nonexistent/engine.sock".to_owned());
        assert!(absent.is_absent());
        // Somebody has named it.
        let named = if_any(&[("DOCKER_HOST", "unix:///nonexistent/engine.sock")]);
        assert_eq!(named, Ok(Some(absent)));
        assert!(if_any(&[("DOCKER_HOST", "ssh://prod")]).is_err());
        let context = if_any(&[
            ("DOCKER_CONTEXT", "prod"),
            ("DOCKER_CONFIG", "/nonexistent"),
        ]);
        assert!(context.is_err());
        assert!(!Endpoint::Unix("/".to_owned()).is_absent());
        assert!(!tcp("127.0.0.1:1", None).is_absent());
    }

    #[test]
    fn variables_mean_what_they_mean_to_dockers_own_client() {
        let verify = ("DOCKER_TLS_VERIFY", "1");
        let home = ("HOME", "/home/ada");
        let certificates = ("DOCKER_CERT_PATH", "/certs/");
        let socket = |path: &str| Endpoint::Unix(path.to_owned());
        let host = |text| ("DOCKER_HOST", text);
        let table: [(&[(&str, &str)], Endpoint); 10] = [
            (&[], socket("/var/run/docker.sock")),
            (&[host("")], socket("/var/run/docker.sock")),
            (
                &[host("unix:///run/user/1000/docker.sock")],
                socket("/run/user/1000/docker.sock"),
            ),
            (&[host("unix:///a.sock"), verify], socket("/a.sock")),
            (&[host("tcp://proxy:1234")], tcp("proxy:1234", None)),
            (&[host("http://proxy/")], tcp("proxy:2375", None)),
            (&[host("tcp://[::1]")], tcp("[::1]:2375", None)),
            (
                &[host("tcp://h"), ("DOCKER_TLS_VERIFY", ""), home],
                tcp("h:2375", None),
            ),
            (
                &[host("tcp://h"), verify, home],
                tcp("h:2376", Some("/home/ada/.docker")),
            ),
            (
                &[host("https://h:9"), certificates, home],
                tcp("h:9", Some("/certs")),
            ),
        ];
        for (variables, expected) in table {
            assert_eq!(endpoint(variables), Ok(expected), "{variables:?}");
        }
    }

    #[test]
    fn nothing_that_bollard_logs_is_compiled_in() {
        assert_eq!(log::STATIC_MAX_LEVEL, log::LevelFilter::Off);
    }

    #[test]
    fn what_cannot_be_an_engine_is_refused_with_a_reason() {
        let refusals: Vec<String> = [
            "/var/run/docker.sock",
            "unix://docker.sock",
            "npipe:////./pipe/x",
            "tcp://h:1/v1",
            "ssh://h",
        ]
        .into_iter()
        .map(|host| endpoint(&[("DOCKER_HOST", host)]).unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(refusals.join("\n"), @r#"
        DOCKER_HOST is `/var/run/docker.sock`: it must begin with unix://, tcp://, http:// or https://
        DOCKER_HOST is `unix://docker.sock`: a socket needs an absolute path: unix:///path
        DOCKER_HOST is `npipe:////./pipe/x`: it must begin with unix://, tcp://, http:// or https://
        DOCKER_HOST is `tcp://h:1/v1`: what follows the scheme must be host:port
        DOCKER_HOST is `ssh://h`: ssh is not supported, because there is no ssh program in Cofferdam's image; run Cofferdam beside the engine, or forward its socket: ssh -nNT -L /run/engine.sock:/var/run/docker.sock HOST
        "#);
    }
}
