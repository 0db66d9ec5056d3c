use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Server;

/// A line to a server, beginning at a local port, whose connections end when so many bytes have gone one way.
pub(crate) struct Line {
    pub port: u16,
    connections: Arc<AtomicU64>,
    cut: watch::Sender<()>,
}

#[derive(Clone, Copy)]
pub(crate) enum Cut {
    Never,
    AfterSending(u64),
    AfterReceiving(u64),
}

impl Line {
    pub(crate) async fn to(server: &Server, port: u16, cut: Cut) -> Self {
        let address = server.address();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let line = Self {
            port: listener.local_addr().unwrap().port(),
            connections: Arc::default(),
            cut: watch::Sender::default(),
        };
        let connections = Arc::clone(&line.connections);
        let receiver = line.cut.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let server = TcpStream::connect((address.as_str(), port)).await;
                let mut receiver = receiver.clone();
                receiver.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        () = carry(client, server.unwrap(), cut) => {}
                        _ = receiver.changed() => {}
                    }
                });
            }
        });
        line
    }

    /// Ends all connections there are.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(());
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn carry(client: TcpStream, server: TcpStream, cut: Cut) {
    let (up, down) = match cut {
        Cut::Never => (u64::MAX, u64::MAX),
        Cut::AfterSending(bytes) => (bytes, u64::MAX),
        Cut::AfterReceiving(bytes) => (u64::MAX, bytes),
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = copy(from_client, to_server, up) => {}
        () = copy(from_server, to_client, down) => {}
    }
}

async fn copy(from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, limit: u64) {
    let _ = tokio::io::copy(&mut from.take(limit), &mut to).await;
}
