//! What ties a login to its TLS: channel bindings, and the user's name in the client's certificate.

use aws_lc_rs::digest;
use rustls::{ProtocolVersion, ServerConnection};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::ClientName;

/// RFC 9266. With TLS 1.2 it would be unique only under conditions that are not ours to see.
pub(super) fn exporter(connection: &ServerConnection) -> Option<Vec<u8>> {
    if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return None;
    }
    connection.export_keying_material(vec![0; 32], b"EXPORTER-Channel-Binding", Some(b"")).ok()
}

/// RFC 5929 section 4.1: the hash is that of the certificate's signature, but never a weak one. `None` where the signature
/// has none, as Ed25519.
pub(super) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let algorithm = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // MD5 and SHA-1 with RSA, SHA-1 with ECDSA, SHA-256 with RSA and ECDSA.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// The user's name in a client's certificate. Of several, none: which one is meant is not for us to guess.
pub(super) fn client_name(certificate: &[u8], which: ClientName) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    // A session that is resumed shows the certificate of its first handshake, which may be over by now.
    if !parsed.validity().is_valid() {
        return None;
    }
    if which == ClientName::Cn {
        let mut names = parsed.subject().iter_common_name();
        let name = names.next()?.as_str().ok()?.to_owned();
        return names.next().is_none().then_some(name);
    }
    let names = parsed.subject_alternative_name().ok()??;
    let mut fitting = names.value.general_names.iter().filter_map(|name| match (which, name) {
        (ClientName::Email, GeneralName::RFC822Name(name)) | (ClientName::Dns, GeneralName::DNSName(name)) => {
            Some(*name)
        }
        _ => None,
    });
    let name = fitting.next()?.to_owned();
    fitting.next().is_none().then_some(name)
}
