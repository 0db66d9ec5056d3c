//! The HTTP client of all servers that speak it.

use std::path::Path;
use std::time::Duration;

use object_store::client::{HttpClient, HttpConnector};
use object_store::{ClientConfigKey, ClientOptions};
use rustls::ClientConfig;

use crate::trust::{self, TrustError};

pub(super) const CONNECT: Duration = Duration::from_secs(15);

/// How long a server may be silent. While a part is sent it has nothing to say: this also is the time for one part.
const SILENCE: Duration = Duration::from_secs(120);

/// Proxies are taken from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
pub(super) fn client(tls: ClientConfig, connect: Duration) -> reqwest::Client {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("cofferdam/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(connect)
        .read_timeout(SILENCE)
        .tcp_keepalive(Duration::from_secs(30))
        .build()
        .expect("the settings of the client are valid")
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
