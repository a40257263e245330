//! Capabilities (RFC 5804 section 1.7): what servers say, and what of it our clients are shown.
//!
//! Between the two sides a capability is a line `NAME value`; one that is a list of words is a line for each word, so
//! that what several servers have in common is found word by word.

use super::token::quoted;
use crate::protocol::sasl::outgoing::Offered;

/// Those that clients are shown, and whether they are lists of words. All others belong to one connection (SASL,
/// STARTTLS, OWNER), or would have to be heeded before login.
const SHOWN: [(&str, bool); 7] = [
    ("IMPLEMENTATION", false),
    ("SIEVE", true),
    ("NOTIFY", true),
    ("EXTLISTS", true),
    ("MAXREDIRECTS", false),
    ("LANGUAGE", false),
    ("VERSION", false),
];

/// What is shown of these until a server has said it: they must be there, and hardly a server lacks the extensions.
const USUAL: [(&str, &str); 3] =
    [("IMPLEMENTATION", "homing"), ("SIEVE", "fileinto envelope vacation"), ("VERSION", "1.0")];

/// What a server offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub(super) plain: bool,
    /// Other mechanisms of SASL.
    pub(super) sasl: Offered,
    pub(super) starttls: bool,
    pub(super) xclient: bool,
    /// As lines for our clients.
    pub(super) shown: Vec<String>,
}

impl Capabilities {
    pub(super) fn add(&mut self, name: &[u8], value: Option<&[u8]>) {
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value.unwrap_or_default())) else {
            return;
        };
        match name.to_ascii_uppercase().as_str() {
            "SASL" => {
                self.plain = value.split(' ').any(|word| word.eq_ignore_ascii_case("PLAIN"));
                value.split(' ').for_each(|word| self.sasl.add(word));
            }
            "STARTTLS" => self.starttls = true,
            "XCLIENT" => self.xclient = true,
            name => self.show(name, value),
        }
    }

    fn show(&mut self, name: &str, value: &str) {
        let Some((name, is_list)) = SHOWN.iter().find(|(shown, _)| *shown == name) else { return };
        if value.chars().any(char::is_control) {
            return;
        }
        if *is_list {
            self.shown.extend(value.split_ascii_whitespace().map(|word| format!("{name} {word}")));
        } else {
            self.shown.push(format!("{name} {value}"));
        }
    }
}

/// The capabilities that are not ours, as lines for a client, each without its end.
pub(super) fn shown(offers: &[String]) -> Vec<String> {
    let lines = SHOWN.iter().filter_map(|(name, _)| {
        let values = |line: &'_ String| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
        let values: Vec<String> = offers.iter().filter_map(values).collect();
        let usual = USUAL.iter().find(|(usual, _)| usual == name).map(|(_, value)| (*value).to_owned());
        let value = if values.is_empty() { usual? } else { values.join(" ") };
        Some(format!("{} {}", quoted(name), quoted(&value)))
    });
    lines.collect()
}
