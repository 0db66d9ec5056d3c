//! `agent request`: one HTTP request to a server that listens on the loopback interface of the network that this container
//! shares with it.
//!
//! The job is one line on standard input, since the body of a request may be longer than an environment variable; the
//! password is in the environment ([`PASSWORD`]); the answer is the report.

use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::job::Failure;
use crate::engine::ExecOutput;

/// The environment variable that holds the password of [`RequestJob::user`].
pub const PASSWORD: &str = "COFFERDAM_AGENT_PASSWORD";

const CONNECT: Duration = Duration::from_secs(10);

/// One request. Bodies and answers are JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestJob {
    pub port: u16,
    pub scheme: Scheme,
    /// For basic authentication.
    pub user: Option<String>,
    pub method: Method,
    /// With its query, percent-encoded where that is needed.
    pub path: String,
    pub body: Option<Value>,
    /// How long the server may take to answer.
    pub limit_seconds: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    #[default]
    Http,
    /// With any certificate: what listens on this loopback interface is in the server's container, or shares its network.
    Https,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    Put,
    Post,
    Delete,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub status: u16,
    /// A text where the server did not send JSON.
    pub body: Value,
}

/// Reads the job, asks, and tells the answer.
pub fn run() -> Result<Answer, Failure> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|error| other(format!("the agent cannot read its job: {error}")))?;
    let job: RequestJob = serde_json::from_str(&line)
        .map_err(|error| other(format!("the agent does not understand its job: {error}")))?;
    let password = std::env::var(PASSWORD).ok();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| other(error.to_string()))?;
    let limit = Duration::from_secs(job.limit_seconds);
    runtime.block_on(async {
        tokio::time::timeout(limit, ask(&job, password.as_deref()))
            .await
            .map_err(|_| other(format!("the server did not answer within {limit:?}")))?
    })
}

async fn ask(job: &RequestJob, password: Option<&str>) -> Result<Answer, Failure> {
    let authority = format!("127.0.0.1:{}", job.port);
    let scheme = match job.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let mut request = hyper::Request::builder()
        .method(job.method.as_str())
        .uri(format!("{scheme}://{authority}{}", job.path))
        .header(HOST, &authority)
        .header(ACCEPT, "application/json");
    if let Some(user) = &job.user {
        let login = BASE64_STANDARD.encode(format!("{user}:{}", password.unwrap_or_default()));
        request = request.header(AUTHORIZATION, format!("Basic {login}"));
    }
    let body = match &job.body {
        Some(body) => {
            request = request.header(CONTENT_TYPE, "application/json");
            Bytes::from(body.to_string())
        }
        None => Bytes::new(),
    };
    let request = request
        .body(Full::new(body))
        .map_err(|error| other(error.to_string()))?;
    let answer = client().request(request).await.map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        other(format!("nothing answers at port {}: {cause}", job.port))
    })?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), ExecOutput::MAX_BYTES)
        .collect()
        .await
        .map_err(|error| other(format!("the server's answer was incomplete: {error}")))?
        .to_bytes();
    let body = serde_json::from_slice(&body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
    Ok(Answer { status, body })
}

fn client() -> Client<hyper_rustls::HttpsConnector<HttpConnector>, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT));
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider knows the versions that are compiled in")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    Client::builder(TokioExecutor::new()).build(connector)
}

fn other(message: String) -> Failure {
    Failure::Other { message }
}

/// See [`Scheme::Https`]. Servers make themselves certificates for other names than `127.0.0.1`, signed by nobody.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
