//! LMTP, both sides. Whatever a client sends, and however it is cut: no panic, the same conversation and the same messages,
//! answers of bounded size, and in a message that came by DATA no line end but CRLF. Whatever a server says: the same.

use homing::model::Secret;
use homing::protocol::lmtp::{Backend, Content, Dotted, Frontend, Limits, Lines, Reply, Undotted, Wish};
use homing::protocol::{
    Backend as _, BackendLogin, BackendWish, Bounds, Errand, FrontendSettings, Input, Machine, Output, Violation,
};

use super::{PIECES, Peer, choice};

const BOUNDS: Bounds = Bounds { line: 128, literal: 0, commands: 20, errors: 6, failures: 0 };

/// Holds one conversation with a client per way of cutting.
pub fn client(data: &[u8]) {
    let (choice, data) = choice(data);
    let first = converse(choice, data, PIECES[0]);
    for piece in &PIECES[1..] {
        let other = converse(choice, data, *piece);
        if !(is_about_tls(&first.end) && is_about_tls(&other.end)) {
            assert_eq!(first, other, "in pieces of {piece}: {}", data.escape_ascii());
        }
    }
}

/// STARTTLS is the one place where it matters what comes at once.
fn is_about_tls(end: &str) -> bool {
    end == "starttls" || end == Violation::InjectionBehindStartTls.to_string()
}

#[derive(Debug, PartialEq, Eq)]
struct Conversation {
    said: String,
    messages: Vec<String>,
    end: String,
}

fn frontend(choice: u8) -> Frontend {
    let has = |bit: u8| choice & bit != 0;
    let offers: &[String] = if has(1) { &["SMTPUTF8".to_owned(), "DSN".to_owned()] } else { &[] };
    let settings = FrontendSettings {
        secured: false,
        starttls: has(2),
        plaintext_login: false,
        banner: String::new(),
        host: "proxy.example".to_owned(),
        offers: offers.into(),
        sasl: std::sync::Arc::default(),
        bounds: BOUNDS,
    };
    let limits =
        Limits { recipients: if has(4) { 2 } else { 100 }, messages: u32::from(has(8)), size: u64::from(has(16)) * 9 };
    Frontend::new(settings, limits)
}

fn converse(choice: u8, data: &[u8], piece: usize) -> Conversation {
    let mut machine = frontend(choice);
    let (mut input, mut out, mut rest) = (Input::with_capacity(BOUNDS.line), Output::new(), data);
    let (mut content, mut messages, mut by_data) = (Vec::new(), Vec::new(), false);
    machine.greet(&mut out);
    let end = loop {
        match machine.content(&mut input, &mut content, &mut out) {
            Content::More => {}
            Content::ChunkTaken => continue,
            Content::End => {
                if by_data {
                    check_lines(&content);
                }
                messages.push(content.escape_ascii().to_string());
                content.clear();
                let accepted = machine.transaction().map_or(0, |transaction| transaction.accepted());
                (0..accepted).rev().for_each(|number| machine.settle(number, Reply::new(250, "2.0.0 saved"), &mut out));
                continue;
            }
        }
        match machine.advance(&mut input, &mut out) {
            Err(violation) => break violation.to_string(),
            Ok(Some(Wish::Quit)) => break "quit".to_owned(),
            Ok(Some(Wish::StartTls)) => break "starttls".to_owned(),
            Ok(Some(Wish::Forget)) => content.clear(),
            Ok(Some(Wish::Chunk { .. })) => by_data = false,
            Ok(Some(Wish::Data)) => {
                by_data = true;
                machine.go_on(&mut out);
            }
            Ok(Some(Wish::Recipients(list))) => {
                let odd = |text: &str| text.len() % 2 == 1;
                let reply = |text| if odd(text) { Reply::new(250, "2.1.5 yes") } else { Reply::new(550, "5.1.1 no") };
                let replies: Vec<_> = list.iter().map(|rcpt| reply(rcpt.mailbox.as_given())).collect();
                machine.answer(&replies, &mut out);
            }
            Ok(None) if rest.is_empty() => break "more awaited".to_owned(),
            Ok(None) => {
                let taken = input.push(&rest[..piece.min(rest.len())]);
                assert!(taken > 0, "the machine leaves a full input as it is");
                rest = &rest[taken..];
            }
        }
    };
    assert!(out.bytes().len() <= 300 * (data.len() / 4 + 4), "{} bytes said", out.bytes().len());
    Conversation { said: out.bytes().escape_ascii().to_string(), messages, end }
}

/// Every line end is CRLF, and what is sent on comes to its end where the message does.
fn check_lines(content: &[u8]) {
    let (mut lines, mut whole) = (Lines::default(), Vec::new());
    lines.take(content, &mut whole);
    lines.finish(&mut whole);
    assert_eq!(whole, content, "a lone line end");
    let (mut dotted, mut wire) = (Dotted::default(), Vec::new());
    dotted.take(content, &mut wire);
    dotted.finish(&mut wire);
    let mut again = Vec::new();
    let (used, end) = Undotted::default().take(&wire, &mut again);
    assert!(end && used == wire.len() && again == content, "another message than that which came");
}

/// Holds one conversation with a server per way of cutting.
pub fn server(data: &[u8]) {
    let (choice, data) = choice(data);
    let first = listen(choice, data, PIECES[0]);
    for piece in &PIECES[1..] {
        let other = listen(choice, data, *piece);
        let injection = Violation::InjectionBehindStartTls.to_string();
        if !first.ends_with(&injection) && !other.ends_with(&injection) {
            assert_eq!(first, other, "in pieces of {piece}: {}", data.escape_ascii());
        }
    }
}

fn listen(choice: u8, data: &[u8], piece: usize) -> String {
    let errand = if choice & 1 == 1 { Errand::Look } else { Errand::Session };
    let login = BackendLogin {
        user: String::new(),
        master: None,
        password: Secret::default(),
        announce: None,
        starttls: choice & 2 == 2,
        pipelining: true,
        ..BackendLogin::default()
    };
    let mut machine = Backend::on(errand, login);
    let mut peer = Peer::new(data, piece, 256);
    let mut end = peer.advance(&mut machine);
    if let Some(Ok(BackendWish::StartTls)) = end {
        peer.hear(|out| machine.secured(out));
        end = peer.advance(&mut machine);
    }
    let end =
        end.map_or_else(|| "more awaited".to_owned(), |end| end.map_or_else(|fault| fault, |wish| format!("{wish:?}")));
    assert!(peer.said.len() < 100, "{}", peer.said.escape_ascii());
    format!("{} {:?} {end}", peer.said.escape_ascii(), machine.offers())
}
