//! The HTTP client of all servers that speak it.

use std::path::Path;
use std::time::Duration;

use object_store::client::{HttpClient, HttpConnector};
use object_store::{ClientConfigKey, ClientOptions};
use rustls::ClientConfig;

use crate::trust::{self, TrustError};

pub(super) const CONNECT: Duration = Duration::from_secs(15);

/// How long a server may be silent. While it is sent something it has nothing to say: this also is the time for one part.
pub(super) const SILENCE: Duration = Duration::from_secs(120);

/// Proxies are taken from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
pub(super) fn client(tls: ClientConfig, connect: Duration) -> reqwest::Client {
    builder(tls, connect)
        .read_timeout(SILENCE)
        .build()
        .expect("the settings of the client are valid")
}

/// For bodies that take longer than any silence may. Who sends them looks after them.
pub(super) fn uploading_client(tls: ClientConfig, connect: Duration) -> reqwest::Client {
    builder(tls, connect)
        .build()
        .expect("the settings of the client are valid")
}

fn builder(tls: ClientConfig, connect: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("cofferdam/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(connect)
        .tcp_keepalive(Duration::from_secs(30))
}

/// Gives `object_store` clients that trust whom we trust. Of its own options only the time to connect counts: it is short
/// where a cloud's machines ask for credentials, at an address that is not there elsewhere.
#[derive(Debug)]
pub(super) struct Connector(ClientConfig);

impl Connector {
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, TrustError> {
        trust::client_config(ca_file).map(Self)
    }

    pub(super) fn client(&self) -> reqwest::Client {
        client(self.0.clone(), CONNECT)
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let connect = options
            .get_config_value(&ClientConfigKey::ConnectTimeout)
            .and_then(|time| humantime::parse_duration(&time).ok());
        let client = client(self.0.clone(), connect.unwrap_or(CONNECT));
        Ok(HttpClient::new(client))
    }
}
