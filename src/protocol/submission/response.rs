//! The keywords in a mail server's answer to EHLO.

use crate::protocol::sasl::outgoing::Offered;
pub(super) use crate::protocol::smtp::{Partial, Response as Reply, code};

/// What a server offers, as far as it matters for logging in, or for the client behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keywords {
    pub(super) starttls: bool,
    /// AUTH PLAIN.
    pub(super) plain: bool,
    /// AUTH with other mechanisms.
    pub(super) sasl: Offered,
    pub(super) pipelining: bool,
    /// What may be told by XCLIENT, in upper case.
    pub(super) xclient: Vec<String>,
    /// Lines that are true of a session after login, whoever answers before.
    pub(super) shown: Vec<String>,
}

impl Keywords {
    /// From the answer to EHLO. Its first line is a name and a greeting.
    pub(super) fn parse(reply: &Reply) -> Self {
        let mut found = Self::default();
        for line in reply.lines.iter().skip(1) {
            found.add(line);
        }
        found
    }

    fn add(&mut self, line: &[u8]) {
        let Some(line) = std::str::from_utf8(line).ok().map(str::trim).filter(|line| is_sound(line)) else { return };
        let upper = line.to_ascii_uppercase();
        // `AUTH=PLAIN LOGIN` is what servers said before the RFC, and some say both.
        let mut words = upper.split([' ', '=']).filter(|word| !word.is_empty());
        match words.next().unwrap_or_default() {
            "STARTTLS" => self.starttls = true,
            "AUTH" => words.for_each(|word| {
                self.plain |= word == "PLAIN";
                self.sasl.add(word);
            }),
            "XCLIENT" => self.xclient = words.map(str::to_owned).collect(),
            // What proxies may tell is nothing that clients may.
            "XFORWARD" | "XRCPTFORWARD" => {}
            word => {
                self.pipelining |= word == "PIPELINING";
                self.shown.push(line.to_owned());
            }
        }
    }
}

/// RFC 5321 4.1.1.1: a keyword begins with a letter or a digit; all is text.
fn is_sound(line: &str) -> bool {
    line.starts_with(|c: char| c.is_ascii_alphanumeric()) && line.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}
