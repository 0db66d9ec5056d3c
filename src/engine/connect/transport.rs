//! How requests reach the engine: bollard's, and the one that bollard cannot make.
//!
//! bollard takes the stream of an exec apart itself, and loses the difference between a stream that ends and one that is
//! cut after a frame's header. So the connection is ours, bollard uses it, and [`Transport::upgrade`] gives the raw stream.
//! It being ours, the engine's certificate must also be signed by the one authority that the user named and not by any of
//! the system's, and a peer that vanishes without a word is noticed by TCP itself.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bollard::errors::Error;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyperlocal::UnixConnector;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::{Endpoint, TlsFiles};

const CONNECT: Duration = Duration::from_secs(15);
/// A connection over TCP that is silent for this long is probed …
const KEEPALIVE: Duration = Duration::from_secs(60);
/// … this often, until it counts as dead.
const PROBES: u32 = 4;
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
/// A refusal is a sentence, or a small page.
const REFUSAL: usize = 64 * 1024;
/// More than a swarm of thousands of services and tasks tells.
const DOCUMENT: usize = 256 * 1024 * 1024;

type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
/// Both directions of an upgraded connection.
pub(in crate::engine) type RawStream = TokioIo<Upgraded>;

#[derive(Clone)]
pub(in crate::engine) struct Transport {
    client: HttpClient,
    /// Scheme and authority, without a slash at the end.
    base: String,
    /// `/v1.41`, once it is agreed on.
    prefix: Arc<OnceLock<String>>,
}

#[derive(Clone)]
enum HttpClient {
    Unix(Client<UnixConnector, Body>),
    Tcp(Client<HttpConnector, Body>),
    Tls(Client<HttpsConnector<HttpConnector>, Body>),
}

impl Transport {
    /// Reads the certificates; connects to nothing yet. The error names the file that is at fault.
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, String> {
        // One connection a request: an engine or a proxy that closes an idle one can then not fail the next request.
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(0);
        let (client, base) = match endpoint {
            Endpoint::Unix(path) => {
                let authority: String = path.bytes().map(|byte| format!("{byte:02x}")).collect();
                let client = builder.build(UnixConnector);
                (HttpClient::Unix(client), format!("unix://{authority}"))
            }
            Endpoint::Tcp { address, tls: None } => {
                let client = builder.build(tcp_connector());
                (HttpClient::Tcp(client), format!("http://{address}"))
            }
            Endpoint::Tcp {
                address,
                tls: Some(files),
            } => {
                let connector = HttpsConnectorBuilder::new()
                    .with_tls_config(tls_config(files)?)
                    .https_only()
                    .enable_http1()
                    .wrap_connector(tcp_connector());
                let client = builder.build(connector);
                (HttpClient::Tls(client), format!("https://{address}"))
            }
        };
        Ok(Self {
            client,
            base,
            prefix: Arc::default(),
        })
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// From now on every request names this version: without one, an engine answers as its newest.
    pub(super) fn agree_on(&self, version: &str) {
        // It is agreed on once, before anybody else has this transport.
        let _ = self.prefix.set(format!("/v{version}"));
    }

    pub(super) async fn send<B>(&self, request: Request<B>) -> Result<Response<Incoming>, Error>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut parts, body) = request.into_parts();
        if let Some(prefix) = self.prefix.get() {
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            parts.uri = format!("{}{prefix}{path}", self.base).parse()?;
        }
        let request = Request::from_parts(parts, body.map_err(Into::into).boxed_unsync());
        let answer = match &self.client {
            HttpClient::Unix(client) => client.request(request),
            HttpClient::Tcp(client) => client.request(request),
            HttpClient::Tls(client) => client.request(request),
        };
        Ok(answer.await?)
    }

    /// A request with or without a document, and the document that answers it; `null` where the answer is empty.
    pub(in crate::engine) async fn exchange(
        &self,
        method: Method,
        path: &str,
        document: Option<&serde_json::Value>,
    ) -> Result<serde_json::Value, Error> {
        let body = document.map(ToString::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let answer = self.send(request).await?;
        if !answer.status().is_success() {
            return Err(refusal(answer).await);
        }
        let body = Limited::new(answer.into_body(), DOCUMENT).collect().await;
        let body = body
            .map_err(|error| Error::from(std::io::Error::other(error)))?
            .to_bytes();
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(serde_json::Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| Error::from(std::io::Error::other(error)))
    }

    /// Posts `json` and takes the connection over.
    pub(in crate::engine) async fn upgrade(
        &self,
        path: &str,
        json: String,
    ) -> Result<RawStream, Error> {
        let request = Request::post(format!("{}{path}", self.base).parse::<Uri>()?)
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "tcp")
            .body(Full::new(Bytes::from(json)))?;
        let answer = self.send(request).await?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS || answer.status().is_success() {
            Ok(TokioIo::new(hyper::upgrade::on(answer).await?))
        } else {
            Err(refusal(answer).await)
        }
    }
}

/// The engine's words, which come as `{"message": …}`; those of a proxy come as they are.
async fn refusal(answer: Response<Incoming>) -> Error {
    let status_code = answer.status().as_u16();
    let body = match Limited::new(answer.into_body(), REFUSAL).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let spoken: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let message = spoken.as_ref().and_then(|value| value["message"].as_str());
    Error::DockerResponseServerError {
        status_code,
        message: message.map_or_else(
            || String::from_utf8_lossy(&body).into_owned(),
            str::to_owned,
        ),
    }
}

fn tcp_connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(PROBE_INTERVAL));
    connector.set_keepalive_retries(Some(PROBES));
    connector
}

fn tls_config(files: &TlsFiles) -> Result<ClientConfig, String> {
    let mut authorities = RootCertStore::empty();
    for certificate in certificates(&files.ca)? {
        authorities
            .add(certificate)
            .map_err(|error| format!("{}: {error}", files.ca))?;
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| format!("{}: {error}", files.key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(authorities)
        .with_client_auth_cert(certificates(&files.certificate)?, key)
        .map_err(|error| format!("{}: {error}", files.certificate))
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match found {
        Ok(certificates) if certificates.is_empty() => {
            Err(format!("{path}: it contains no certificate"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("{path}: {error}")),
    }
}
