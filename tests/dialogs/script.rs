//! The transcripts' language. A file holds dialogues, each headed by its name and by who we are in it:
//!
//! ```text
//! == a quoted password may hold escapes
//! frontend: starttls line=64        or    backend: user=anna password=x pipelining
//! C: a LOGIN anna "x\\"y"           the client says this, and CRLF
//! C| a LOG                          the client says just this
//! S: a OK ...                       the server says this, and CRLF
//! W: starttls                       the machine wants this done
//! V: secured                        the machine is told this
//! E: line too long                  the peer's violation, with which all ends
//! I: "name" "mutt"                  what the client has said about itself
//! K: TOP, UIDL                      what is known by now: the server's offers, or the client's TTL and name
//! L: b NOOP                         what is left in the input, and CRLF
//! # a remark
//! ```
//!
//! `\r`, `\n`, `\0`, `\xNN` and `\\` are as in Rust. `machine.rs` lists settings, wishes and verdicts. With the setting
//! `whole` a dialogue is not cut, for those in which it matters what comes at once.

use homing::model::Protocol;

use crate::escape::unescaped;
use crate::machine::Side;

/// One conversation.
pub(crate) struct Dialogue {
    /// A sentence.
    pub(crate) name: String,
    /// It cannot be cut.
    pub(crate) whole: bool,
    /// What is said and expected, in turn.
    pub(crate) items: Vec<Item>,
    protocol: Protocol,
    header: String,
}

/// A step of a conversation.
pub(crate) enum Item {
    Peer(Vec<u8>),
    Ours(Vec<u8>),
    Wish(String),
    Verdict(String),
    Violation(String),
    ClientId(String),
    Known(String),
    Left(Vec<u8>),
}

impl Dialogue {
    /// The machine that it is about.
    pub(crate) fn side(&self) -> Side {
        Side::new(self.protocol, &self.header)
    }

    /// Bytes of the input buffer.
    pub(crate) fn capacity(&self) -> usize {
        Side::line(&self.header)
    }

    fn add(&mut self, line: &str) {
        let (mark, text) = line.split_at_checked(2).unwrap_or_else(|| panic!("a line too short: {line}"));
        let text = text.strip_prefix(' ').unwrap_or(text);
        let from_client = mark.starts_with('C');
        match mark {
            "C:" | "S:" => self.said(from_client, [unescaped(text), b"\r\n".to_vec()].concat()),
            "C|" | "S|" => self.said(from_client, unescaped(text)),
            "W:" => self.items.push(Item::Wish(text.to_owned())),
            "V:" => self.items.push(Item::Verdict(text.to_owned())),
            "E:" => self.items.push(Item::Violation(text.to_owned())),
            "I:" => self.items.push(Item::ClientId(text.to_owned())),
            "K:" => self.items.push(Item::Known(text.to_owned())),
            "L:" => self.items.push(Item::Left([unescaped(text), b"\r\n".to_vec()].concat())),
            _ => panic!("a line without a mark: {line}"),
        }
    }

    /// What the peer says in one go is one item, so that it may arrive at once.
    fn said(&mut self, from_client: bool, mut bytes: Vec<u8>) {
        if from_client != self.header.starts_with("frontend:") {
            return self.items.push(Item::Ours(bytes));
        }
        match self.items.last_mut() {
            Some(Item::Peer(before)) => before.append(&mut bytes),
            _ => self.items.push(Item::Peer(bytes)),
        }
    }
}

impl Item {
    /// How many bytes the peer sends here.
    pub(crate) fn peer_bytes(&self) -> usize {
        if let Self::Peer(bytes) = self { bytes.len() } else { 0 }
    }
}

/// All dialogues of a file.
pub(crate) fn parse(protocol: Protocol, text: &str) -> Vec<Dialogue> {
    let mut dialogues: Vec<Dialogue> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("== ") {
            let (name, header) = (name.to_owned(), String::new());
            dialogues.push(Dialogue { name, protocol, header, whole: false, items: Vec::new() });
            continue;
        }
        let dialogue = dialogues.last_mut().expect("a file begins with a name");
        if dialogue.header.is_empty() {
            line.clone_into(&mut dialogue.header);
            dialogue.whole = line.split(' ').any(|word| word == "whole");
        } else {
            dialogue.add(line);
        }
    }
    dialogues
}
