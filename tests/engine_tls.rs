//! An engine behind TLS: reached with the right certificates only, and just as good then.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{TestContainer, endpoint};
use cofferdam::engine::{Endpoint, Engine, EngineError, ExecSpec};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsAcceptor;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes `ca.pem`, `cert.pem` and `key.pem`, as `DOCKER_CERT_PATH` wants them.
fn write_certificates(directory: &Path, trusted: &Authority, signed_by: &Authority) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, signed_by).unwrap();
    std::fs::write(directory.join("ca.pem"), trusted.pem()).unwrap();
    std::fs::write(directory.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
}

/// Serves the engine over TLS to whom `authority` signed; returns the address.
async fn serve(authority: &Authority) -> String {
    let directory = tempfile::tempdir().unwrap();
    write_certificates(directory.path(), authority, authority);
    let mut trusted = RootCertStore::empty();
    trusted.add(authority.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), provider.clone())
        .build()
        .unwrap();
    let certificate = CertificateDer::from_pem_file(directory.path().join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(directory.path().join("key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let Endpoint::Unix(engine) = endpoint() else {
        panic!("this test puts TLS before the engine's socket");
    };
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, engine) = (acceptor.clone(), engine.clone());
            // Refused clients are what the test looks at from the other side.
            tokio::spawn(async move {
                let mut client = acceptor.accept(client).await.ok()?;
                let mut engine = UnixStream::connect(engine).await.ok()?;
                tokio::io::copy_bidirectional(&mut client, &mut engine)
                    .await
                    .ok()
            });
        }
    });
    format!("localhost:{port}")
}

async fn connect(address: &str, certificates: &Path) -> Result<Engine, EngineError> {
    let endpoint = Endpoint::from_env(|name| match name {
        "DOCKER_HOST" => Some(format!("tcp://{address}")),
        "DOCKER_TLS_VERIFY" => Some("1".to_owned()),
        "DOCKER_CERT_PATH" => Some(certificates.to_str().unwrap().to_owned()),
        _ => None,
    });
    Engine::connect(endpoint.unwrap()).await
}

#[tokio::test]
async fn streams_pass_through_tls_in_both_directions() {
    let authority = authority();
    let address = serve(&authority).await;
    let directory = tempfile::tempdir().unwrap();
    write_certificates(directory.path(), &authority, &authority);
    let engine = connect(&address, directory.path()).await.unwrap();
    assert_eq!(engine.loopback_network().await.unwrap(), None);

    let container = TestContainer::idle();
    let spec = ExecSpec::new(["head", "-c", "3000000", "/dev/zero"]);
    let limit = Duration::from_secs(60);
    let mut stream = engine
        .exec_stream(&container.id, &spec, limit)
        .await
        .unwrap();
    assert_eq!(
        stream.read_to_end(&mut Vec::new()).await.unwrap(),
        3_000_000
    );

    // The end of the input has to get through.
    let input = Box::pin(Cursor::new(vec![b'x'; 700_000]));
    let output = engine
        .exec_with_input(&container.id, &ExecSpec::new(["wc", "-c"]), input)
        .await
        .unwrap();
    assert_eq!(output.stdout.trim_ascii(), b"700000");
}

#[tokio::test]
async fn the_wrong_certificates_lead_nowhere() {
    let (authority, stranger) = (authority(), self::authority());
    let address = serve(&authority).await;
    let directory = tempfile::tempdir().unwrap();

    write_certificates(directory.path(), &stranger, &authority);
    let untrusted = connect(&address, directory.path())
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        untrusted.contains("invalid peer certificate"),
        "{untrusted}"
    );
    assert!(
        untrusted.contains("ca.pem signed the engine's certificate"),
        "{untrusted}"
    );

    write_certificates(directory.path(), &authority, &stranger);
    let unknown = connect(&address, directory.path()).await.err().unwrap();
    assert!(
        matches!(unknown, EngineError::Unreachable { .. }),
        "{unknown:?}"
    );

    std::fs::write(directory.path().join("key.pem"), "not a key").unwrap();
    let broken = connect(&address, directory.path())
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(broken.contains("key.pem"), "{broken}");

    let plain = Endpoint::Tcp { address, tls: None };
    let plain = Engine::connect(plain).await.err().unwrap().to_string();
    assert!(plain.contains("DOCKER_TLS_VERIFY=1"), "{plain}");
}
