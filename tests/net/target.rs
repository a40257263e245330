//! Asking other servers: one POST, inside TLS that is verified.

use homing::config::Endpoint;
use homing::net::{Proof, ServerTls, Target, TargetFault};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::wire::{Authority, PATIENCE, settings};

fn question() -> Request<Full<Bytes>> {
    Request::new(Full::new(Bytes::from_static(b"{who?}")))
}

/// Posts to a server that shows a certificate for `mail.test`, and says this. Returns also what the server heard.
async fn post(
    authority: &Authority,
    proof: Proof<'_>,
    answer: &[u8],
) -> (Result<(StatusCode, Bytes), TargetFault>, String) {
    let server = ServerTls::new(&settings([&authority.issue("server", "server", &["mail.test"])])).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let endpoint = Endpoint { scheme: "https".into(), host: "127.0.0.1".into(), port, path: "/a?b=c".into() };
    let target = Target::new(endpoint, Some(proof)).unwrap();
    let serve = async {
        let tcp = listener.accept().await.unwrap().0;
        let Ok((mut stream, _)) = server.accept(tcp, &[]).await else { return Vec::new() };
        let mut heard = Vec::new();
        while !heard.ends_with(b"}") && stream.read_buf(&mut heard).await.unwrap_or(0) > 0 {}
        stream.write_all(answer).await.unwrap();
        stream.flush().await.unwrap();
        // The other side goes as soon as it has what it wants.
        while stream.read_buf(&mut heard).await.unwrap_or(0) > 0 {}
        heard
    };
    let both = async { tokio::join!(target.post(question(), 10), serve) };
    let (answer, heard) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    (answer, String::from_utf8(heard).unwrap())
}

#[tokio::test]
async fn a_post_goes_inside_tls_to_a_server_that_proves_its_name() {
    let authority = Authority::new("ours");
    let pem = authority.pem();
    let proof = Proof { ca: Some(&pem), name: Some("mail.test"), verify: true };
    let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nyes";
    let (answered, heard) = post(&authority, proof, answer).await;
    assert_eq!(answered.unwrap(), (StatusCode::CREATED, Bytes::from_static(b"yes")));
    assert!(heard.starts_with("POST /a?b=c HTTP/1.1\r\n") && heard.ends_with("\r\n\r\n{who?}"), "{heard}");
    for proof in
        [Proof { name: Some("other.test"), ..proof }, Proof { name: None, ..proof }, Proof { ca: None, ..proof }]
    {
        let (refused, heard) = post(&authority, proof, answer).await;
        assert!(matches!(refused, Err(TargetFault::Tls(_))), "{proof:?} {refused:?}");
        assert!(heard.is_empty());
    }
}

#[tokio::test]
async fn of_a_long_answer_only_the_beginning_is_read() {
    let authority = Authority::new("ours");
    let proof = Proof { ca: None, name: None, verify: false };
    // As long as it likes: the rest never comes.
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n0123456789abcdef";
    let (answered, _) = post(&authority, proof, answer).await;
    assert_eq!(answered.unwrap(), (StatusCode::OK, Bytes::from_static(b"0123456789")));
}
