//! The side that faces mail clients. Whatever they send, and however it is cut: no panic, the same conversation, answers
//! of bounded size, and no word that the transcripts do not show, so nothing of what the client sent but its tags.

use std::collections::HashSet;
use std::sync::LazyLock;

use homing::model::{Protocol, Refusal};
use homing::protocol::{BackendRefusal, Bounds, ClientWish, FrontendSettings, Handover, Violation, spoken};

use super::{PIECES, Peer, choice};

const BOUNDS: Bounds = Bounds { line: 128, literal: 32, commands: 12, errors: 6, failures: 3 };

/// Holds one conversation per way of cutting.
pub fn run(protocol: Protocol, data: &[u8]) {
    let (choice, data) = choice(data);
    let settings = settings(choice);
    let first = converse(protocol, &settings, data, PIECES[0]);
    for piece in &PIECES[1..] {
        let other = converse(protocol, &settings, data, *piece);
        if !(first.is_about_tls() && other.is_about_tls()) {
            assert_eq!(first, other, "in pieces of {piece}: {}", data.escape_ascii());
        }
    }
}

fn settings(choice: u8) -> FrontendSettings {
    FrontendSettings {
        secured: choice & 3 == 0,
        starttls: choice & 1 == 1,
        plaintext_login: choice & 2 == 2,
        banner: "homing ready.".to_owned(),
        host: "proxy.example".to_owned(),
        offers: std::sync::Arc::default(),
        sasl: std::sync::Arc::default(),
        bounds: BOUNDS,
    }
}

/// What one conversation came to.
#[derive(Debug, PartialEq, Eq)]
struct Conversation {
    said: String,
    wishes: Vec<String>,
    end: String,
    unread: String,
}

impl Conversation {
    /// STARTTLS is the one place where it matters what comes at once.
    fn is_about_tls(&self) -> bool {
        self.end == "starttls" || self.end == Violation::InjectionBehindStartTls.to_string()
    }
}

fn converse(protocol: Protocol, settings: &FrontendSettings, data: &[u8], piece: usize) -> Conversation {
    let mut machine = spoken::frontend(protocol, settings.clone()).expect("it has logins");
    let mut peer = Peer::new(data, piece, BOUNDS.line);
    peer.hear(|out| machine.greet(out));
    let mut wishes = Vec::new();
    let end = loop {
        match peer.advance(machine.as_mut()) {
            None => break "more awaited".to_owned(),
            Some(Err(violation)) => break violation,
            Some(Ok(ClientWish::StartTls)) => break "starttls".to_owned(),
            Some(Ok(ClientWish::Keys(_))) => break "keys".to_owned(),
            Some(Ok(ClientWish::Logout)) => break "logout".to_owned(),
            Some(Ok(ClientWish::Authenticate(given))) => {
                let password = given.password().expect("nothing else is offered").expose();
                assert!(!given.user.is_empty() && !password.contains(&0));
                assert!(settings.secured || settings.plaintext_login, "a password without TLS");
                wishes.push(format!("{given:?} {}", password.escape_ascii()));
                let verdict = peer.hear(|out| match wishes.len() {
                    1 => machine.refuse(Refusal::BadCredentials, out),
                    2 => machine.relay_refusal(&BackendRefusal { temporary: true, ..BackendRefusal::default() }, out),
                    _ => {
                        machine.welcome(&Handover::default(), out);
                        Ok(())
                    }
                });
                match verdict {
                    Err(violation) => break violation.to_string(),
                    Ok(()) if wishes.len() > 2 => break "logged in".to_owned(),
                    Ok(()) => {}
                }
            }
        }
    };
    check_words(protocol, &peer.said, data);
    wishes.push(format!("{:?} {:?}", machine.client_id(), machine.proxy_ttl()));
    let unread = if end == "logged in" { peer.unread().escape_ascii().to_string() } else { String::new() };
    Conversation { said: peer.said.escape_ascii().to_string(), wishes, end, unread }
}

fn check_words(protocol: Protocol, said: &[u8], data: &[u8]) {
    let commands = BOUNDS.commands as usize + 1;
    assert!(said.len() <= 2 * data.len() + 512 * commands, "{} bytes said", said.len());
    let said = without_echo(said);
    let said = std::str::from_utf8(&said).expect("we say ASCII");
    for line in said.split_terminator("\r\n") {
        assert!(WORDS.contains(&words(protocol, line)), "never said in a transcript: {line:?}");
    }
}

/// ManageSieve's NOOP is answered with the client's own bytes, in a literal of their size.
fn without_echo(said: &[u8]) -> Vec<u8> {
    const BEFORE: &[u8] = b"OK (TAG {";
    let Some(at) = said.windows(BEFORE.len()).position(|window| window == BEFORE) else { return said.to_vec() };
    let rest = &said[at + BEFORE.len()..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let size: usize = std::str::from_utf8(&rest[..digits]).unwrap().parse().expect("a size");
    let behind = rest[digits..].strip_prefix(b"}\r\n").expect("a literal");
    [&said[..at], b"OK (TAG {0}", &without_echo(&behind[size..])].concat()
}

/// All that we say to clients, as the transcripts have it.
static WORDS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let transcripts = [
        (Protocol::Imap, include_str!("../../dialogs/imap/client_bounds.txt")),
        (Protocol::Imap, include_str!("../../dialogs/imap/client_commands.txt")),
        (Protocol::Imap, include_str!("../../dialogs/imap/client_id.txt")),
        (Protocol::Imap, include_str!("../../dialogs/imap/client_login.txt")),
        (Protocol::Imap, include_str!("../../dialogs/imap/client_sasl.txt")),
        (Protocol::Imap, include_str!("../../dialogs/imap/client_tls.txt")),
        (Protocol::Pop3, include_str!("../../dialogs/pop3/client_bounds.txt")),
        (Protocol::Pop3, include_str!("../../dialogs/pop3/client_commands.txt")),
        (Protocol::Pop3, include_str!("../../dialogs/pop3/client_login.txt")),
        (Protocol::Pop3, include_str!("../../dialogs/pop3/client_sasl.txt")),
        (Protocol::Pop3, include_str!("../../dialogs/pop3/client_tls.txt")),
        (Protocol::Sieve, include_str!("../../dialogs/sieve/client_bounds.txt")),
        (Protocol::Sieve, include_str!("../../dialogs/sieve/client_commands.txt")),
        (Protocol::Sieve, include_str!("../../dialogs/sieve/client_login.txt")),
        (Protocol::Sieve, include_str!("../../dialogs/sieve/client_tls.txt")),
        (Protocol::Submission, include_str!("../../dialogs/submission/client_bounds.txt")),
        (Protocol::Submission, include_str!("../../dialogs/submission/client_commands.txt")),
        (Protocol::Submission, include_str!("../../dialogs/submission/client_login.txt")),
        (Protocol::Submission, include_str!("../../dialogs/submission/client_tls.txt")),
    ];
    let said = transcripts.iter().flat_map(|(protocol, text)| text.lines().map(|line| (*protocol, line)));
    let said = said.filter_map(|(protocol, line)| Some(words(protocol, line.strip_prefix("S: ")?)));
    said.chain([words(Protocol::Sieve, "OK (TAG {0}) \"Done.\"")]).collect()
});

/// A line without its tag, if the protocol has tags, and with any number for any other.
fn words(protocol: Protocol, line: &str) -> String {
    let (tag, words) = match protocol {
        Protocol::Imap => line.split_once(' ').unwrap_or(("", line)),
        _ => ("*", line),
    };
    let tag = if matches!(tag, "*" | "+") { tag } else { "tag" };
    let words: String = words.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let mut short = format!("{} {tag} {words}", protocol.word());
    while short.contains("00") {
        short = short.replace("00", "0");
    }
    short
}
