//! Corners that a transcript shows badly: sizes, and functions with many cases.

use super::response::{self, Capabilities};
use super::{Backend, id};
use crate::model::{Secret, SessionId};
use crate::protocol::line::{Literal, announced};
use crate::protocol::{Announcement, BackendLogin, BackendWish, Input, Machine as _, Output, Violation};

#[test]
fn a_literal_is_announced_at_the_end_of_a_line_and_outside_quotes() {
    let literal = |size, synchronising| Some(Literal { size, synchronising });
    for (line, expected) in [
        ("a LOGIN {5}\r\n", literal(5, true)),
        ("a LOGIN {5+}\n", literal(5, false)),
        ("a LOGIN ~{0005}\r\n", literal(5, true)),
        (" {0+}\r\n", literal(0, false)),
        ("{99999999999999999999999}\r\n", literal(usize::MAX, true)),
        ("a ID (\"x\" {1}\r\n", literal(1, true)),
        ("a LOGIN x\"y {5+}\r\n", literal(5, false)),
        ("a LOGIN \"a\\\" \" {5}\r\n", literal(5, true)),
        ("a LOGIN \"x {5}\"\r\n", None),
        ("a LOGIN \"x {5+}\r\n", None),
        ("a LOGIN (\"x\\\" {5+}\r\n", None),
        ("a LOGIN {5} x\r\n", None),
        ("a LOGIN {}\r\n", None),
        ("a LOGIN {+}\r\n", None),
        ("a LOGIN {-5}\r\n", None),
        ("a LOGIN 5}\r\n", None),
        ("5}\r\n", None),
        ("}", None),
        ("", None),
    ] {
        assert_eq!(announced(line.as_bytes()), expected, "{line:?}");
    }
}

#[test]
fn response_codes_are_found_at_the_beginning_only() {
    assert_eq!(response::code(b"[LIMIT] x"), Some((&b"LIMIT"[..], &b""[..])));
    assert_eq!(response::code(b"[CAPABILITY A B]"), Some((&b"CAPABILITY"[..], &b"A B"[..])));
    assert_eq!(response::code(b"[LIMIT x"), None);
    assert_eq!(response::code(b" [LIMIT] x"), None);
    assert!(!response::is_temporary(b"Server is [UNAVAILABLE]"));
}

#[test]
fn capabilities_are_words_not_parts_of_words() {
    let found = Capabilities::parse(b"IMAP4rev1 XID SASL-IRX AUTH=PLAIN-CLIENTTOKEN NOSTARTTLS");
    assert_eq!(found, Capabilities::default());
}

fn announcement(client_id: Vec<id::Pair>) -> Announcement {
    Announcement {
        client: ([192, 0, 2, 7], 4711).into(),
        local: ([192, 0, 2, 8], 993).into(),
        session: SessionId::new("s1"),
        ttl: 4,
        secured: true,
        server_name: None,
        helo: None,
        client_id,
    }
}

#[test]
fn a_long_client_id_never_makes_our_line_too_long_for_the_backend() {
    let pairs = (0..30).map(|number| (format!("field{number}"), Some("\"".repeat(500)))).collect();
    let list = id::list(&announcement(pairs));
    assert!(list.len() <= 3584, "{} bytes", list.len());
    assert!(list.starts_with("(\"x-session-id\" \"s1\" \"x-originating-ip\" \"192.0.2.7\""));
    assert!(list.contains("\"field0\"") && list.ends_with("\")"));
}

#[test]
fn an_id_of_more_than_thirty_pairs_is_never_sent() {
    let pairs = (0..30).map(|number| (format!("f{number}"), None)).collect();
    let list = id::list(&announcement(pairs));
    assert!(list.contains("\"f22\" NIL") && !list.contains("\"f23\""), "{list}");
}

/// A backend that has been sent the login.
fn logging_in() -> (Backend, Input, Output) {
    let login = BackendLogin {
        user: "anna".to_owned(),
        master: None,
        password: Secret::new(b"x".to_vec()),
        announce: None,
        starttls: false,
        pipelining: false,
        ..BackendLogin::default()
    };
    let (mut backend, mut input, mut out) = (Backend::new(login), Input::with_capacity(8192), Output::new());
    input.push(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n");
    assert!(backend.advance(&mut input, &mut out).unwrap().is_none());
    assert!(out.bytes().starts_with(b"L AUTHENTICATE"));
    (backend, input, out)
}

#[test]
fn a_server_that_talks_without_end_before_its_ok_is_cut_off() {
    let (mut backend, mut input, mut out) = logging_in();
    let line = format!("* OK {}\r\n", "x".repeat(1017)); // 1024 bytes
    for _ in 0..64 {
        input.push(line.as_bytes());
        assert!(backend.advance(&mut input, &mut out).unwrap().is_none());
    }
    input.push(b"* OK x\r\n");
    let violation = backend.advance(&mut input, &mut out).unwrap_err();
    assert_eq!(violation, Violation::Nonsense("too much before login is complete"));
}

#[test]
fn nothing_more_is_read_once_logged_in() {
    let (mut backend, mut input, mut out) = logging_in();
    input.push(b"L OK [CAPABILITY IMAP4rev1] hi\r\nL OK again\r\n");
    assert!(matches!(backend.advance(&mut input, &mut out), Ok(Some(BackendWish::LoggedIn(_)))));
    assert!(matches!(backend.advance(&mut input, &mut out), Ok(None)));
    assert_eq!(input.filled(), b"L OK again\r\n");
}
