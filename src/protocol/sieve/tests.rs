//! Corners that a transcript shows badly: sizes, and functions with many cases.

use super::Backend;
use super::capability::{self, Capabilities};
use super::response::{self, Response, Status};
use super::token::Tokens;
use crate::model::Secret;
use crate::protocol::{BackendLogin, Errand, Input, Machine as _, Output, Violation};

#[test]
fn strings_are_quoted_or_literal() {
    for (text, expected) in [
        (r#""a b""#, Some("a b")),
        (r#""a\"\\b""#, Some(r#"a"\b"#)),
        (r#""""#, Some("")),
        ("{3}\r\na\"b", Some("a\"b")),
        ("{3+}\na\r\n", Some("a\r\n")),
        (r#""a\b""#, None),
        (r#""a"#, None),
        ("\"a\r\n\"", None),
        ("{4}\r\nabc", None),
        ("{3}abc", None),
        ("{3}\r\na\0b", None),
        ("abc", None),
        ("", None),
    ] {
        let found = Tokens(text.as_bytes()).string();
        assert_eq!(found.as_deref().map(Vec::as_slice), expected.map(str::as_bytes), "{text:?}");
    }
}

#[test]
fn a_text_is_whole_with_a_code_or_words_or_both() {
    for text in [r#""x""#, "(TRYLATER)", r#"(A "x)" (B)) "y""#, "(TAG {2}\r\n))) {1}\r\n\n", r#"(QUOTA/MAXSIZE)  "x""#]
    {
        assert!(response::is_whole(text.as_bytes()), "{text:?}");
    }
    for text in ["", "x", r#""x" "#, r#""x" "y""#, "(A", r#"(A)"x""#, "(A) ", "(A) x", "(A\r\n)", "(A) \"x\r\n\""] {
        assert!(!response::is_whole(text.as_bytes()), "{text:?}");
    }
}

#[test]
fn a_response_is_a_status_or_strings() {
    let kind = |text: &str| match response::parse(text.as_bytes()) {
        Ok(Response::Status(status, text)) => format!("{status:?} {}", String::from_utf8_lossy(text)),
        Ok(Response::Strings(_, value)) => format!("{} strings", 1 + usize::from(value.is_some())),
        Err(_) => "none".to_owned(),
    };
    for (text, expected) in [
        ("OK\r\n", "Ok "),
        ("ok \"x\"\n", "Ok \"x\""),
        ("No (TRYLATER) \"x\"\r\n", "No (TRYLATER) \"x\""),
        ("BYE (X)\r\n", "Bye (X)"),
        ("\"SASL\" \"\"\r\n", "2 strings"),
        ("{4}\r\nSASL \"x\"\r\n", "2 strings"),
        ("\"\"\r\n", "1 strings"),
        ("OK x\r\n", "none"),
        ("OKAY \"x\"\r\n", "none"),
        ("\"a\" \"b\" \"c\"\r\n", "none"),
        ("\"a\"\"b\"\r\n", "none"),
        ("* OK hi\r\n", "none"),
        ("\r\n", "none"),
    ] {
        assert_eq!(kind(text), expected, "{text:?}");
    }
}

#[test]
fn a_sasl_code_is_left_out_and_others_are_not() {
    for (text, expected) in [
        (r#"(SASL "cnNwYXV0aA==") "Hi""#, r#""Hi""#),
        (r#"(sasl "x")"#, ""),
        (r#"(WARNINGS) "Hi""#, r#"(WARNINGS) "Hi""#),
        (r#""(SASL)""#, r#""(SASL)""#),
    ] {
        assert_eq!(response::without_sasl(text.as_bytes()), expected.as_bytes(), "{text}");
    }
}

#[test]
fn what_a_server_offers_is_shown_word_by_word_and_put_together_again() {
    let mut found = Capabilities::default();
    let said: [(&str, Option<&str>); 9] = [
        ("Implementation", Some("Pigeon \"x\"")),
        ("SIEVE", Some("fileinto  reject")),
        ("NOTIFY", Some("mailto xmpp")),
        ("SASL", Some("login plain")),
        ("STARTTLS", None),
        ("XCLIENT", None),
        ("OWNER", Some("anna")),
        ("LANGUAGE", Some("d\ne")),
        ("UNAUTHENTICATE", None),
    ];
    for (name, value) in said {
        found.add(name.as_bytes(), value.map(str::as_bytes));
    }
    found.add(b"VERSION", Some(b"\xff"));
    assert!(found.plain && found.starttls && found.xclient);
    let lines = ["IMPLEMENTATION Pigeon \"x\"", "SIEVE fileinto", "SIEVE reject", "NOTIFY mailto", "NOTIFY xmpp"];
    assert_eq!(found.shown, lines);
    let shown = [
        r#""IMPLEMENTATION" "Pigeon \"x\"""#,
        r#""SIEVE" "fileinto reject""#,
        r#""NOTIFY" "mailto xmpp""#,
        r#""VERSION" "1.0""#,
    ];
    assert_eq!(capability::shown(&found.shown), shown);
}

fn backend(password: &[u8]) -> (Backend, Input, Output) {
    let login = BackendLogin {
        user: "anna".to_owned(),
        master: None,
        password: Secret::new(password.to_vec()),
        announce: None,
        starttls: false,
        pipelining: true,
        ..BackendLogin::default()
    };
    (Backend::on(Errand::Session, login), Input::with_capacity(32 * 1024), Output::new())
}

#[test]
fn a_server_that_talks_without_end_is_cut_off() {
    let (mut backend, mut input, mut out) = backend(b"x");
    let line = format!("\"X\" \"{}\"\r\n", "x".repeat(1016)); // 1024 bytes
    for _ in 0..64 {
        input.push(line.as_bytes());
        assert!(backend.advance(&mut input, &mut out).unwrap().is_none());
    }
    input.push(b"OK\r\n");
    let violation = backend.advance(&mut input, &mut out).unwrap_err();
    assert_eq!(violation, Violation::Nonsense("too much before login is complete"));
}

#[test]
fn a_literal_without_end_is_cut_off() {
    for size in ["16385", "99999999999999999999999999"] {
        let (mut backend, mut input, mut out) = backend(b"x");
        input.push(format!("NO {{{size}}}\r\n").as_bytes());
        let violation = backend.advance(&mut input, &mut out).unwrap_err();
        assert_eq!(violation, Violation::Nonsense("a literal too long before login is complete"));
    }
}

#[test]
fn a_password_too_long_for_quotes_goes_as_a_literal() {
    for (length, start) in
        [(762, "AUTHENTICATE \"PLAIN\" \"AGFubmEAeHh4"), (763, "AUTHENTICATE \"PLAIN\" {1028+}\r\nAGFu")]
    {
        let (mut backend, mut input, mut out) = backend(&vec![b'x'; length]);
        input.push(b"\"SASL\" \"PLAIN\"\r\nOK\r\n");
        assert!(backend.advance(&mut input, &mut out).unwrap().is_none());
        assert!(out.bytes().starts_with(start.as_bytes()), "{length}: {}", out.bytes().escape_ascii());
    }
}

#[test]
fn the_three_statuses_are_words_not_beginnings_of_words() {
    assert!(matches!(response::parse(b"bye\r\n"), Ok(Response::Status(Status::Bye, b""))));
    assert!(response::parse(b"NOT \"x\"\r\n").is_err());
}
