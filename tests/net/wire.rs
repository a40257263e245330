//! What the tests of sockets and TLS share: connected pairs, certificates, and a TLS client with a will of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use homing::config::{Certificate, TlsConfig};
use homing::net::{ServerTls, Stream, TlsFacts, TlsFault};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// For a client that speaks TLS 1.2 only.
pub(crate) static V12: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
/// For a client that speaks TLS 1.3 only.
pub(crate) static V13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

/// Two ends of a connection on loopback.
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
    (ours.unwrap(), theirs.unwrap().0)
}

/// An authority, in a directory of its own that goes with it.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

/// A certificate that it gave out.
pub(crate) struct Issued {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) key: KeyPair,
    pub(crate) files: Certificate,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = Self { directory: tempfile::tempdir().unwrap(), issuer: Issuer::new(params.clone(), key) };
        let certificate = params.self_signed(authority.issuer.key()).unwrap();
        std::fs::write(authority.pem(), certificate.pem()).unwrap();
        authority
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> PathBuf {
        self.path("authority.pem")
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub(crate) fn issue(&self, file: &str, common_name: &str, names: &[&str]) -> Issued {
        self.issue_for(KeyPair::generate().unwrap(), file, common_name, names)
    }

    pub(crate) fn issue_for(&self, key: KeyPair, file: &str, common_name: &str, names: &[&str]) -> Issued {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files =
            Certificate { certificate: self.path(&format!("{file}.pem")), key: self.path(&format!("{file}.key")) };
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        Issued { der: certificate.der().clone(), key, files }
    }
}

/// A server's settings with nothing but these certificates.
pub(crate) fn settings<'a>(certificates: impl IntoIterator<Item = &'a Issued>) -> TlsConfig {
    TlsConfig {
        certificates: certificates.into_iter().map(|issued| issued.files.clone()).collect(),
        ..TlsConfig::default()
    }
}

/// A TLS client that takes any certificate, so that tests can see which one came.
pub(crate) struct Client {
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    pub(crate) alpn: &'static [&'static str],
    pub(crate) schemes: Option<Vec<SignatureScheme>>,
    pub(crate) identity: Option<(CertificateDer<'static>, Vec<u8>)>,
}

impl Default for Client {
    fn default() -> Self {
        Self { versions: rustls::ALL_VERSIONS, alpn: &[], schemes: None, identity: None }
    }
}

impl Client {
    pub(crate) fn showing(issued: &Issued) -> Self {
        Self { identity: Some((issued.der.clone(), issued.key.serialize_der())), ..Self::default() }
    }

    pub(crate) fn build(self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(self.versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(self.schemes)));
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                builder.with_client_auth_cert(vec![certificate], PrivateKeyDer::Pkcs8(key.into())).unwrap()
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

#[derive(Debug)]
struct Anyone(Option<Vec<SignatureScheme>>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let all = || default_provider().signature_verification_algorithms.supported_schemes();
        self.0.clone().unwrap_or_else(all)
    }
}

pub(crate) type Met = (Result<(Stream, TlsFacts), TlsFault>, std::io::Result<TlsStream<TcpStream>>);

/// A handshake of `client`, asking for `name`, with `server`, offering `alpn`.
pub(crate) async fn meet_with(server: &ServerTls, alpn: &[&str], client: &Arc<ClientConfig>, name: &str) -> Met {
    let (near, far) = pair().await;
    let alpn: Vec<_> = alpn.iter().map(ToString::to_string).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connecting = TlsConnector::from(Arc::clone(client)).connect(name, near);
    let both = async { tokio::join!(server.accept(far, &alpn), connecting) };
    tokio::time::timeout(PATIENCE, both).await.unwrap()
}

/// The same without ALPN.
pub(crate) async fn meet(server: &ServerTls, client: &Arc<ClientConfig>, name: &str) -> Met {
    meet_with(server, &[], client, name).await
}

/// One that must succeed.
pub(crate) async fn greet(
    server: &ServerTls,
    client: &Arc<ClientConfig>,
    name: &str,
) -> (Stream, TlsFacts, TlsStream<TcpStream>) {
    let (served, connected) = meet(server, client, name).await;
    let (stream, facts) = served.unwrap();
    let mut greeted = (stream, facts, connected.unwrap());
    // The client reads the tickets along with the first words.
    exchange(&mut greeted.0, &mut greeted.2).await;
    greeted
}

/// Words both ways.
pub(crate) async fn exchange(server: &mut Stream, client: &mut TlsStream<TcpStream>) {
    let mut words = [0; 4];
    server.write_all(b"* OK").await.unwrap();
    server.flush().await.unwrap();
    client.read_exact(&mut words).await.unwrap();
    assert_eq!(&words, b"* OK");
    client.write_all(b"a ID").await.unwrap();
    client.flush().await.unwrap();
    server.read_exact(&mut words).await.unwrap();
    assert_eq!(&words, b"a ID");
}

/// Whether the server showed this certificate.
pub(crate) fn was_shown(client: &TlsStream<TcpStream>, issued: &Issued) -> bool {
    client.get_ref().1.peer_certificates().is_some_and(|chain| chain[0] == issued.der)
}

pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) {
    std::fs::write(path, text).unwrap();
}
