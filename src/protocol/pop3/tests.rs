//! Corners that a transcript shows badly: sizes, and functions with many cases.

use super::Backend;
use super::response::{self, Answer, Capabilities};
use crate::model::Secret;
use crate::protocol::{Backend as _, BackendLogin, BackendWish, Errand, Input, Machine as _, Output, Stage, Violation};

#[test]
fn an_answer_is_known_by_its_first_word() {
    for (line, expected) in [
        ("+OK\r\n", Some(Answer::Ok(b""))),
        ("+ok  x \n", Some(Answer::Ok(b" x "))),
        ("-Err [AUTH] x", Some(Answer::Err(b"[AUTH] x"))),
        ("+", Some(Answer::Continue(b""))),
        ("+ abc\r\n", Some(Answer::Continue(b"abc"))),
        ("+OKAY x", None),
        ("-ERRx", None),
        ("* OK", None),
        (" +OK", None),
        ("", None),
    ] {
        assert_eq!(response::parse(line.as_bytes()).ok(), expected, "{line:?}");
    }
}

#[test]
fn a_refusal_is_temporary_by_its_code_and_not_by_its_words() {
    for code in ["SYS/TEMP", "SYS/PERM", "SYS", "IN-USE", "in-use/lock", "LOGIN-DELAY", "SYS/TEMP x"] {
        assert!(response::is_temporary(format!("[{code}] x").as_bytes()), "{code}");
    }
    for text in ["[AUTH] x", "[SYSTEM] x", "[IN-USER] x", "SYS/TEMP x", "x [SYS/TEMP]", "[SYS/TEMP", "", "[] x"] {
        assert!(!response::is_temporary(text.as_bytes()), "{text}");
    }
}

#[test]
fn only_what_is_true_after_login_is_shown() {
    let mut found = Capabilities::default();
    for line in [
        "TOP\r\n",
        "uidl\n",
        "EXPIRE 30 USER",
        "SASL LOGIN plain",
        "USER",
        "UTF8 USER",
        "LANG",
        "STLS",
        "XCLIENT",
        "RESP-CODES",
        "IMPLEMENTATION Dovecot",
        "",
        " TOPS",
        "TOP\tx\u{7f}",
        "LOGIN-DELAY 900",
    ] {
        found.add(line.as_bytes());
    }
    found.add(b"TOP \xff\r\n");
    let shown = ["TOP", "UIDL", "EXPIRE 30 USER", "UTF8 USER", "LOGIN-DELAY 900"].map(str::to_owned).to_vec();
    assert_eq!(found, Capabilities { plain: true, user: true, shown, ..Capabilities::default() });
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
    (Backend::on(Errand::Session, login), Input::with_capacity(8192), Output::new())
}

#[test]
fn a_server_whose_capabilities_have_no_end_is_cut_off() {
    let (mut backend, mut input, mut out) = backend(b"x");
    input.push(b"+OK hi\r\n+OK list\r\n");
    assert!(backend.advance(&mut input, &mut out).unwrap().is_none());
    let line = format!("{}\r\n", "x".repeat(1022));
    for _ in 0..16 {
        input.push(line.as_bytes());
        assert!(backend.advance(&mut input, &mut out).unwrap().is_none());
    }
    input.push(b"x\r\n");
    let violation = backend.advance(&mut input, &mut out).unwrap_err();
    assert_eq!(violation, Violation::Nonsense("too many capabilities"));
}

#[test]
fn a_password_too_long_for_the_line_waits_for_the_prompt() {
    for (length, at_once) in [(174, true), (175, false)] {
        let (mut backend, mut input, mut out) = backend(&vec![b'x'; length]);
        input.push(b"+OK hi [XCLIENT]\r\n");
        assert!(backend.advance(&mut input, &mut out).unwrap().is_none());
        assert_eq!(backend.stage() == Stage::Login, at_once, "{length}");
        input.push(b"+OK\r\nSASL PLAIN\r\n.\r\n");
        assert!(backend.advance(&mut input, &mut out).unwrap().is_none());
        assert_eq!(backend.stage(), Stage::Login);
        let said = out.bytes().to_vec();
        assert!(said.split(|byte| *byte == b'\n').all(|line| line.len() < 255));
        assert_eq!(said.ends_with(b"AUTH PLAIN\r\n"), !at_once, "{length}");
        if !at_once {
            input.push(b"+ \r\n");
            assert!(backend.advance(&mut input, &mut out).unwrap().is_none());
            assert!(out.bytes()[said.len()..].starts_with(b"AGFubmEAeHh4"));
        }
    }
}

#[test]
fn nothing_more_is_read_once_logged_in() {
    let (mut backend, mut input, mut out) = backend(b"x");
    input.push(b"+OK hi\r\n-ERR what?\r\n+OK anna\r\n+OK hi\r\n+OK 3 messages\r\n");
    assert!(matches!(backend.advance(&mut input, &mut out), Ok(Some(BackendWish::LoggedIn(_)))));
    assert!(matches!(backend.advance(&mut input, &mut out), Ok(None)));
    assert_eq!(input.filled(), b"+OK 3 messages\r\n");
}
