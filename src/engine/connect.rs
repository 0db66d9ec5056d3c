//! Endpoints, version negotiation and time-outs.

use super::{Engine, EngineError};
use crate::manifest::EngineFacts;

/// Where the engine listens, from `DOCKER_HOST`, `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Unix(String),
    Tcp {
        address: String,
        tls: Option<TlsFiles>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub ca: String,
    pub certificate: String,
    pub key: String,
}

impl Engine {
    /// Connects and agrees on an API version; fails with a hint when the engine does not answer.
    pub async fn connect(_endpoint: Endpoint) -> Result<Self, EngineError> {
        todo!()
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub async fn facts(&self) -> Result<EngineFacts, EngineError> {
        todo!()
    }
}
