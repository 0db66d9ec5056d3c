//! HTTP servers that write down what they are asked, and answer as a test wants it: one that is named by its port, and all of
//! the Internet behind a proxy.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A request, as it arrived.
#[derive(Clone, Debug)]
pub struct Heard {
    /// `https://hooks.slack.com` behind the proxy, else empty.
    pub server: String,
    /// `POST /path`
    pub line: String,
    /// With a line break behind each; their names are in lower case.
    pub headers: String,
    pub body: String,
}

#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// Status and body.
    Say(u16, &'static str),
    /// Status, a header, and no body.
    With(u16, &'static str),
    /// Status, and all that was heard.
    Repeat(u16),
    /// Nothing, as long as the client waits.
    Hang,
    /// The end of the connection.
    Close,
}

/// Answers each request with the next of the answers, and with the last one from then on.
pub struct Listener {
    pub port: u16,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Listener {
    pub async fn answering(answers: &'static [Answer]) -> Self {
        let (listener, port, heard) = begin().await;
        let written = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let heard = Arc::clone(&written);
                tokio::spawn(async move { converse(client, "", answers, &heard).await });
            }
        });
        Self { port, heard }
    }

    /// What was asked, in its order.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.heard().into_iter().map(|one| one.line).collect()
    }
}

/// Whatever server a client wants to reach through this proxy, it finds this one, with a certificate for that name.
pub struct Internet {
    pub proxy: Listener,
    /// The certificate of the authority that vouches for it.
    pub ca_file: NamedTempFile,
}

impl Internet {
    pub async fn answering(answers: &'static [Answer]) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let ca_file = NamedTempFile::new().unwrap();
        std::fs::write(ca_file.path(), authority.pem()).unwrap();
        let authority = Arc::new(authority);
        let (listener, port, heard) = begin().await;
        let written = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (heard, authority) = (Arc::clone(&written), Arc::clone(&authority));
                tokio::spawn(async move {
                    let mut client = BufReader::new(client);
                    let Some((line, _)) = head(&mut client).await else {
                        return;
                    };
                    let host = line
                        .strip_prefix("CONNECT ")
                        .expect("a proxy is asked to connect");
                    let name = host.split(':').next().unwrap().to_owned();
                    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                    if let Ok(tls) = acceptor(&name, &authority).accept(client).await {
                        converse(tls, &format!("https://{name}"), answers, &heard).await;
                    }
                });
            }
        });
        Self {
            proxy: Listener { port, heard },
            ca_file,
        }
    }
}

async fn begin() -> (TcpListener, u16, Arc<Mutex<Vec<Heard>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port, Arc::default())
}

fn acceptor(name: &str, authority: &CertifiedIssuer<'_, KeyPair>) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// The first line and the headers of a request.
async fn head(client: &mut (impl AsyncBufReadExt + Unpin)) -> Option<(String, String)> {
    let mut line = String::new();
    client
        .read_line(&mut line)
        .await
        .ok()
        .filter(|read| *read > 0)?;
    let line = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
    let mut headers = String::new();
    while client
        .read_line(&mut headers)
        .await
        .ok()
        .filter(|read| *read > 0)?
        > 2
    {}
    Some((line, headers.replace("\r\n", "\n")))
}

async fn converse(
    client: impl AsyncRead + AsyncWrite + Unpin,
    server: &str,
    answers: &[Answer],
    heard: &Mutex<Vec<Heard>>,
) {
    let mut client = BufReader::new(client);
    let Some((line, headers)) = head(&mut client).await else {
        return;
    };
    let length = headers.split("content-length: ").nth(1);
    let length = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    client.read_exact(&mut body).await.unwrap();
    let one = Heard {
        server: server.to_owned(),
        line,
        headers,
        body: String::from_utf8(body).unwrap(),
    };
    let number = {
        let mut heard = heard.lock().unwrap();
        heard.push(one.clone());
        heard.len()
    };
    let (status, header, body) = match answers[(number - 1).min(answers.len() - 1)] {
        Answer::Say(status, body) => (status, "", body.to_owned()),
        Answer::With(status, header) => (status, header, String::new()),
        Answer::Repeat(status) => {
            let said = format!("{} {} {}", one.line, one.headers, one.body);
            (status, "", said.replace('\n', " "))
        }
        Answer::Hang => return tokio::time::sleep(Duration::from_secs(60)).await,
        Answer::Close => return,
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n{header}\r\n{body}"
    );
    let _ = client.write_all(answer.as_bytes()).await;
    let _ = client.shutdown().await;
}
