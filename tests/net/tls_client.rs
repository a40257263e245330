//! TLS towards mail servers: whom we believe.

use homing::net::{ClientTls, ServerTls, Stream, TlsFault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::wire::{Authority, PATIENCE, pair, settings, write};

/// What comes of connecting to a server that shows a certificate of `authority` for these names.
async fn connect(tls: &ClientTls, authority: &Authority, names: &[&str], asked: &str) -> Result<Stream, TlsFault> {
    let server = ServerTls::new(&settings([&authority.issue("backend", "backend", names)])).unwrap();
    let (near, far) = pair().await;
    let both = async { tokio::join!(tls.connect(near, asked), server.accept(far, &[])) };
    let (connected, served) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    let mut stream = connected?;
    let mut backend = served.unwrap().0;
    backend.write_all(b"* OK\r\n").await.unwrap();
    let mut words = [0; 6];
    stream.read_exact(&mut words).await.unwrap();
    assert_eq!(&words, b"* OK\r\n");
    Ok(stream)
}

#[tokio::test]
async fn a_mail_server_must_bear_the_name_or_address_that_was_asked_for() {
    let authority = Authority::new("ours");
    let tls = ClientTls::new(Some(&authority.pem()), true).unwrap();
    let names = ["mail1.test", "127.0.0.1", "::1"];
    for asked in ["mail1.test", "MAIL1.test", "127.0.0.1", "::1", "[::1]"] {
        assert!(connect(&tls, &authority, &names, asked).await.is_ok(), "{asked}");
    }
    for asked in ["mail2.test", "127.0.0.2", "::2"] {
        let refused = connect(&tls, &authority, &names, asked).await;
        assert!(matches!(refused, Err(TlsFault::Handshake(_))), "{asked}");
    }
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_is_refused_unless_anything_is_taken() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let careful = ClientTls::new(Some(&ours.pem()), true).unwrap();
    assert!(matches!(connect(&careful, &theirs, &["a.test"], "a.test").await, Err(TlsFault::Handshake(_))));
    let the_system = ClientTls::new(None, true).unwrap();
    assert!(connect(&the_system, &theirs, &["a.test"], "a.test").await.is_err());
    let careless = ClientTls::new(None, false).unwrap();
    assert!(connect(&careless, &theirs, &["a.test"], "b.test").await.is_ok());
}

#[tokio::test]
async fn what_cannot_be_a_name_or_is_not_tls_is_said_so() {
    let tls = ClientTls::new(None, false).unwrap();
    let (near, _far) = pair().await;
    assert!(matches!(tls.connect(near, "no name at all").await, Err(TlsFault::Name(_))));
    let (near, mut far) = pair().await;
    far.write_all(b"* OK a greeting in plaintext\r\n").await.unwrap();
    assert!(matches!(tls.connect(near, "a.test").await, Err(TlsFault::NotTls)));
}

#[test]
fn a_file_without_authorities_is_named() {
    let authority = Authority::new("ours");
    write(&authority.path("empty"), "");
    for file in ["empty", "missing"] {
        let fault = ClientTls::new(Some(&authority.path(file)), true).err().unwrap();
        assert!(matches!(&fault, TlsFault::File { path, .. } if path.ends_with(file)), "{fault}");
    }
}
