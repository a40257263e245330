//! Certificates for the length of a test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;

use super::Result;

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Its certificate as a PEM file.
    pub file: PathBuf,
}

/// A certificate and its key as PEM files.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one, kept in `dir` as `NAME.pem`.
    pub fn new(dir: &Path, name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let file = dir.join(format!("{name}.pem"));
        std::fs::write(&file, issuer.pem())?;
        Ok(Self { issuer, file })
    }

    /// A certificate for `names` (host names or addresses), beside the authority's own.
    pub fn issue(&self, names: &[&str]) -> Result<Issued> {
        let name = names.first().copied().unwrap_or("nobody");
        let stem = self.file.with_extension("");
        let paths = Issued {
            certificate: stem.with_extension(format!("{name}.crt")),
            key: stem.with_extension(format!("{name}.key")),
        };
        self.issue_into(names, &paths)?;
        Ok(paths)
    }

    /// A new certificate for `names`, in place of what is in `paths`.
    pub fn issue_into(&self, names: &[&str], paths: &Issued) -> Result {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("nobody"));
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        std::fs::write(&paths.certificate, certificate.pem())?;
        std::fs::write(&paths.key, key.serialize_pem())?;
        Ok(())
    }

    /// How a client that trusts this authority alone speaks TLS.
    pub fn client(&self) -> Result<Arc<rustls::ClientConfig>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls::pki_types::CertificateDer::from_pem_file(&self.file)?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}
