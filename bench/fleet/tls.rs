//! The certificate that every proxy shows, and how clients check it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::CertifiedKey;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, version};

use crate::world::TLS_NAME;

/// A P-256 certificate: what most sites have, and much cheaper than RSA, so that the proxy's own work shows.
pub(crate) struct Certificate {
    /// PEM file with the certificate.
    pub(crate) certificate: PathBuf,
    /// PEM file with its key.
    pub(crate) key: PathBuf,
    /// PEM file with both, as HAProxy wants it.
    pub(crate) both: PathBuf,
    roots: Arc<RootCertStore>,
}

impl Certificate {
    /// Makes one and writes it into the directory.
    pub(crate) fn make(dir: &Path) -> anyhow::Result<Self> {
        let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([TLS_NAME.to_owned()])?;
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone())?;
        let made = Self {
            certificate: dir.join("certificate.pem"),
            key: dir.join("key.pem"),
            both: dir.join("both.pem"),
            roots: Arc::new(roots),
        };
        std::fs::write(&made.certificate, cert.pem())?;
        std::fs::write(&made.key, signing_key.serialize_pem())?;
        std::fs::write(&made.both, cert.pem() + &signing_key.serialize_pem())?;
        Ok(made)
    }

    /// A client's side, TLS 1.3 only, with a ticket store of its own or none.
    pub(crate) fn client(&self, resume: bool) -> anyhow::Result<Arc<ClientConfig>> {
        let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(&[&version::TLS13])?
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.resumption = if resume { Resumption::in_memory_sessions(8) } else { Resumption::disabled() };
        Ok(Arc::new(config))
    }
}
