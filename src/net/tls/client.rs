//! TLS towards mail servers.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use super::certificates::{read_authorities, read_identity};
use super::{TlsFault, provider};
use crate::config::Certificate;
use crate::net::Stream;

/// How a mail server must prove who it is. Sessions with the same server are resumed, unless it is shown a certificate.
pub struct ClientTls {
    config: OnceCell<Arc<ClientConfig>>,
    identity: Option<Identity>,
}

/// What we show to a server that asks who we are.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl ClientTls {
    /// Trusts the authorities in the PEM file `ca`, read at once, or those of the system, read at the first connection.
    /// Without `verify` any certificate is taken: the connection is private, but nobody knows with whom.
    pub fn new(ca: Option<&Path>, verify: bool) -> Result<Self, TlsFault> {
        Self::with_identity(ca, verify, None)
    }

    /// The same, with a certificate of our own, read at once, for servers that ask for one.
    pub fn with_identity(ca: Option<&Path>, verify: bool, own: Option<&Certificate>) -> Result<Self, TlsFault> {
        let identity = own.map(read_identity).transpose()?;
        let config = match ca {
            _ if !verify => Some(configure(Arc::new(AnyCertificate(provider())), identity.as_ref())?),
            Some(path) => Some(trusting(read_authorities(path)?, identity.as_ref())?),
            None => None,
        };
        Ok(Self { config: OnceCell::new_with(config), identity })
    }

    async fn made(&self) -> Result<&Arc<ClientConfig>, TlsFault> {
        self.config.get_or_try_init(|| trusting_the_system(self.identity.as_ref())).await
    }

    /// The same for a library that does the handshake itself.
    pub async fn config(&self) -> Result<Arc<ClientConfig>, TlsFault> {
        self.made().await.map(Arc::clone)
    }

    /// Does the handshake with the mail server `name`, a host name or an address (IPv6 also in brackets), which its
    /// certificate must bear. The caller sets the deadline; dropping the future closes the connection.
    pub async fn connect(&self, tcp: TcpStream, name: &str) -> Result<Stream, TlsFault> {
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        let server = ServerName::try_from(bare.to_owned()).map_err(|_| TlsFault::Name(name.to_owned()))?;
        let config = self.made().await?;
        let tls = TlsConnector::from(Arc::clone(config)).connect(server, tcp).await.map_err(TlsFault::of_handshake)?;
        Ok(Stream::Tls(Box::new(tls.into())))
    }
}

/// The system's authorities are some hundred files on some systems: they are read away from the event loop.
async fn trusting_the_system(identity: Option<&Identity>) -> Result<Arc<ClientConfig>, TlsFault> {
    let unusable = |why: String| TlsFault::Settings(format!("no authorities of the system ({why}); set tls_ca"));
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
        .await
        .map_err(|error| unusable(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        return Err(unusable(found.errors.first().map_or("none installed".into(), ToString::to_string)));
    }
    trusting(roots, identity)
}

fn trusting(roots: RootCertStore, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, TlsFault> {
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    configure(verifier.map_err(|error| TlsFault::Settings(error.to_string()))?, identity)
}

fn configure(
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, TlsFault> {
    let refused = |error: Error| TlsFault::Settings(error.to_string());
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some((chain, key)) = identity else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let mut config = builder.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(refused)?;
    // A Dovecot 2.3 that asks for certificates hands out tickets, and breaks the handshake of whoever comes with one
    // ("session id context uninitialized").
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// `tls_verify = false`: whoever holds the key of the certificate shown is taken for the mail server.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
