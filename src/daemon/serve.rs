//! What the daemon shows over HTTP, and the one thing that can be asked of it there: a backup.
//!
//! ```text
//! daemon ──▶ Shown ◀── look (repository, plan)      what is shown is kept in memory: no request reads anything else
//!              │
//!              ▼
//!           Handler ──▶ page, metrics, health        POST /backup ──▶ the daemon's inbox
//! ```
//!
//! Nothing here changes anything. Whoever may come from another host needs the token; without one only the loopback address
//! is listened at, and only under a name of its own, so that no page of a browser on this host is let in by a name that was
//! rebound. A connection carries one request, and has only so long for it.

mod access;
mod answer;
mod handler;
mod history;
mod look;
mod metrics;
mod page;
#[cfg(test)]
mod samples;
pub(crate) mod shown;
mod standing;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, info};

pub use self::handler::Handler;
pub use self::look::look;
pub use self::shown::Shown;

/// How many connections there are at a time; others wait.
const MAX_CONNECTIONS: usize = 64;

/// From the first byte to the last one of the answer.
const CONNECTION_LIMIT: Duration = Duration::from_secs(30);

/// Until the request is there.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Of a request's line and headers, in bytes.
const LARGEST: usize = 16 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "cannot listen on {0}, which another program uses; set another port with --listen or COFFERDAM_LISTEN"
    )]
    InUse(SocketAddr),
    #[error(
        "cannot listen on {0}, which is not an address of this host or container; use `:{port}` for all its addresses", port = .0.port()
    )]
    NotOurs(SocketAddr),
    #[error("cannot listen on {0}, whose port is reserved for root; use port 1024 or higher")]
    Forbidden(SocketAddr),
    #[error("cannot listen on {address}: {source}")]
    Other {
        address: SocketAddr,
        source: io::Error,
    },
}

/// Listens already, and answers once it runs.
pub struct Server {
    listener: TcpListener,
    handler: Arc<Handler>,
}

impl Server {
    pub async fn bind(address: SocketAddr, handler: Handler) -> Result<Self, ServeError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| match source.kind() {
                ErrorKind::AddrInUse => ServeError::InUse(address),
                ErrorKind::AddrNotAvailable => ServeError::NotOurs(address),
                ErrorKind::PermissionDenied => ServeError::Forbidden(address),
                _ => ServeError::Other { address, source },
            })?;
        let address = listener.local_addr().unwrap_or(address);
        info!("listening on http://{address}/");
        Ok(Self {
            listener,
            handler: Arc::new(handler),
        })
    }

    /// Answers until it is dropped.
    pub async fn run(self) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            while connections.try_join_next().is_some() {}
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let handler = Arc::clone(&self.handler);
                    connections.spawn(async move {
                        let _place = place;
                        let _ =
                            tokio::time::timeout(CONNECTION_LIMIT, converse(stream, handler)).await;
                    });
                }
                // Too many open files, for instance: it passes.
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }
}

/// One request, and its answer.
async fn converse(stream: TcpStream, handler: Arc<Handler>) {
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        // Nothing that can be asked has a body.
        let answer = handler.answer(&request.map(drop));
        std::future::ready(Ok::<_, std::convert::Infallible>(answer))
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(LARGEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!("a connection ended early: {error}");
    }
}
