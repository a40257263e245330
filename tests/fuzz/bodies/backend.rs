//! The side that faces mail servers. Whatever they say, and however it is cut: no panic, the same conversation, and
//! bounded words on our side and for the client.

use homing::model::{Protocol, Secret, SessionId};
use homing::protocol::{Announcement, BackendLogin, BackendWish, Errand, Violation, spoken};

use super::{PIECES, Peer, choice};

/// Holds one conversation per way of cutting.
pub fn run(protocol: Protocol, data: &[u8]) {
    let (choice, data) = choice(data);
    let first = converse(protocol, choice, data, PIECES[0]);
    for piece in &PIECES[1..] {
        let other = converse(protocol, choice, data, *piece);
        // STARTTLS is the one place where it matters what comes at once.
        let injection = Violation::InjectionBehindStartTls.to_string();
        if first.end != injection && other.end != injection {
            assert_eq!(first, other, "in pieces of {piece}: {}", data.escape_ascii());
        }
    }
}

fn login(choice: u8) -> BackendLogin {
    let has = |bit: u8| choice & bit != 0;
    let announcement = Announcement {
        client: ([192, 0, 2, 7], 4711).into(),
        local: ([127, 0, 0, 1], 993).into(),
        session: SessionId::new("s1"),
        ttl: u32::from(choice & 1),
        secured: has(1),
        server_name: has(1).then(|| "mail.example.org".to_owned()),
        helo: has(8).then(|| "laptop.example".to_owned()),
        client_id: vec![("name".to_owned(), Some("mutt".to_owned()))],
    };
    BackendLogin {
        user: if has(2) { "jürgen" } else { "anna" }.to_owned(),
        master: has(4).then(|| "root".to_owned()),
        password: Secret::new(if has(8) { b"\xff\"\\".to_vec() } else { b"secret".to_vec() }),
        announce: has(16).then_some(announcement),
        starttls: has(32),
        pipelining: has(64),
        noauth: has(2) && has(4),
        ..BackendLogin::default()
    }
}

/// What one conversation came to.
#[derive(Debug, PartialEq, Eq)]
struct Conversation {
    said: String,
    end: String,
}

fn converse(protocol: Protocol, choice: u8, data: &[u8], piece: usize) -> Conversation {
    let errand = [Errand::Session, Errand::Look, Errand::Try, Errand::Session][usize::from(choice >> 6)];
    let mut machine = spoken::backend(protocol, errand, login(choice)).expect("it has logins");
    let mut peer = Peer::new(data, piece, 256);
    let mut end = peer.advance(machine.as_mut());
    if let Some(Ok(BackendWish::StartTls)) = end {
        // The rest is what it says under TLS.
        peer.hear(|out| machine.secured(out));
        end = peer.advance(machine.as_mut());
    }
    assert!(peer.said.len() <= 8192, "{} bytes said", peer.said.len());
    let end = match end {
        None => "more awaited".to_owned(),
        Some(Err(violation)) => violation,
        Some(Ok(wish)) => {
            if let BackendWish::LoggedIn(handover) = &wish {
                let one_line = !handover.text.contains(&b'\n');
                assert!(one_line || protocol == Protocol::Sieve, "only ManageSieve has literals there");
                assert!(handover.untagged.len() <= 64 * 1024 && handover.text.len() <= 32 * 1024);
            }
            format!("{wish:?} {:?} {}", machine.offers(), peer.unread().escape_ascii())
        }
    };
    Conversation { said: peer.said.escape_ascii().to_string(), end }
}
