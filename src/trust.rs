//! Whom we believe to be the server that we wanted: the public authorities, which are compiled in since an image may have
//! none, and those of a file that the user names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

#[derive(Debug, thiserror::Error)]
#[error("cannot use the certificates in {}: {why}", path.display())]
pub struct TrustError {
    pub path: PathBuf,
    pub why: String,
}

/// The public authorities, and the certificates of a file in PEM.
pub fn authorities(more: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let mut authorities = webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec();
    if let Some(path) = more {
        authorities.extend(certificates(path)?);
    }
    Ok(authorities)
}

/// For connections to servers that [`authorities`] vouch for.
pub fn client_config(more: Option<&Path>) -> Result<ClientConfig, TrustError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(authorities(more)?);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(config)
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match found {
        Ok(certificates) if certificates.is_empty() => {
            Err(refused(path, "it contains no certificate"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(refused(path, error)),
    }
}

fn refused(path: &Path, why: impl ToString) -> TrustError {
    TrustError {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_authorities_need_no_file() {
        assert!(client_config(None).is_ok());
    }

    #[test]
    fn a_file_without_certificates_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = client_config(Some(file.path())).unwrap_err();
        assert_eq!(error.why, "it contains no certificate");
        assert!(client_config(Some(Path::new("/nowhere/ca.pem"))).is_err());
    }
}
