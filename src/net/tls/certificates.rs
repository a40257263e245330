//! Our certificates: read from files, and chosen by the name that a client asks for.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{TlsFault, common_name};
use crate::config::Certificate;

/// Chooses among several certificates by SNI. A name may have several, of different key types: the client gets the first
/// that it can check. Without a name, or with one that no certificate bears, the first of the file counts.
#[derive(Debug)]
pub(super) struct Certificates {
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    otherwise: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    pub(super) fn load(files: &[Certificate], provider: &CryptoProvider) -> Result<Self, TlsFault> {
        let mut by_name: HashMap<String, Vec<_>> = HashMap::new();
        let mut otherwise: Vec<Arc<CertifiedKey>> = Vec::new();
        for files in files {
            let key = Arc::new(load(files, provider)?);
            warn_unless_valid(&key, &files.certificate);
            let names = names(&key);
            for name in &names {
                by_name.entry(name.clone()).or_default().push(Arc::clone(&key));
            }
            // A twin of the first, of another key type, shares its names.
            let is_twin = |first| names.iter().any(|name| by_name[name].iter().any(|key| Arc::ptr_eq(key, first)));
            if otherwise.first().is_none_or(is_twin) {
                otherwise.push(key);
            }
        }
        if otherwise.is_empty() {
            return Err(TlsFault::Settings("TLS needs a certificate; add a [[tls.certificate]]".into()));
        }
        Ok(Self { by_name, otherwise })
    }

    fn named(&self, name: &str) -> &[Arc<CertifiedKey>] {
        let name = normal(name);
        let wildcard = || self.by_name.get(&format!("*.{}", name.split_once('.')?.1));
        self.by_name.get(&name).or_else(wildcard).unwrap_or(&self.otherwise)
    }

    /// The certificate that clients get who ask for `name`; `None` if it depends on the client.
    pub(super) fn only(&self, name: Option<&str>) -> Option<&[u8]> {
        match name.map_or(&self.otherwise[..], |name| self.named(name)) {
            [key] => key.cert.first().map(|der| der.as_ref()),
            _ => None,
        }
    }

    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let fitting = name.map_or(&self.otherwise[..], |name| self.named(name));
        let checkable = fitting.iter().find(|key| key.key.choose_scheme(schemes).is_some());
        checkable.or(fitting.first()).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

/// The certificates of a PEM file, at least one.
pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let chain = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| unreadable(path, error))?;
    if chain.is_empty() {
        return Err(TlsFault::file(path, "holds no certificate", "give a PEM file with BEGIN CERTIFICATE"));
    }
    Ok(chain)
}

/// The authorities of a PEM file.
pub(super) fn read_authorities(path: &Path) -> Result<RootCertStore, TlsFault> {
    let mut roots = RootCertStore::empty();
    for der in read_chain(path)? {
        roots
            .add(der)
            .map_err(|error| TlsFault::file(path, error, "every certificate in this file must be a valid X.509 one"))?;
    }
    Ok(roots)
}

fn load(files: &Certificate, provider: &CryptoProvider) -> Result<CertifiedKey, TlsFault> {
    let chain = read_chain(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsFault::file(
            &files.key,
            "holds no private key that can be read",
            "give a PEM file with PKCS#8, PKCS#1 or SEC1, not encrypted with a passphrase",
        ),
        error => unreadable(&files.key, error),
    })?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsFault::file(
            &files.key,
            format!("is not the key of {}", files.certificate.display()),
            "give the key that the certificate was issued for, and the server's own certificate first in its file",
        ),
        rustls::Error::InvalidCertificate(_) => {
            TlsFault::file(&files.certificate, error, "give the server's own X.509 certificate first, then its chain")
        }
        error => {
            TlsFault::file(&files.key, error, "use an ECDSA (P-256, P-384), Ed25519 or RSA (2048 bits or more) key")
        }
    })
}

fn unreadable(path: &Path, error: pem::Error) -> TlsFault {
    match error {
        pem::Error::Io(error) => TlsFault::file(path, error, "it must exist and be readable by the proxy's user"),
        error => TlsFault::file(path, error, "it must be in PEM format"),
    }
}

/// Clients will refuse it, but it may be the only one for names of its own: that is for the operator to judge.
fn warn_unless_valid(key: &CertifiedKey, path: &Path) {
    if let Some(der) = key.cert.first()
        && let Ok((_, certificate)) = X509Certificate::from_der(der)
        && !certificate.validity().is_valid()
    {
        let (from, until) = (&certificate.validity().not_before, &certificate.validity().not_after);
        tracing::warn!(path = %path.display(), %from, %until, "certificate is not valid today; clients will refuse it");
    }
}

/// The DNS names that a certificate bears, or its CN if it has none (RFC 6125 6.4.4).
fn names(key: &CertifiedKey) -> Vec<String> {
    let Some(der) = key.cert.first() else { return Vec::new() };
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names: Vec<_> = alternatives.iter().flat_map(|list| &list.value.general_names).filter_map(dns_name).collect();
    if names.is_empty() { common_name(der).iter().map(|name| normal(name)).collect() } else { names }
}

fn dns_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(normal(name)),
        _ => None,
    }
}

fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
