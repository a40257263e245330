//! XCLIENT as Postfix has it (XCLIENT_README): the server lists what it may be told, and the rest is kept from it.

use std::fmt::Write as _;

/// Bytes of one command, its CRLF included (RFC 5321 4.5.3.1.4).
const LONGEST: usize = 512;

/// A name and its value, plain.
pub(in crate::protocol) type Attribute = (&'static str, String);

/// The commands that tell what the server `lists`, each with its CRLF; none if there is nothing to tell. An attribute
/// that fits in no command has one of its own, as long as it is: servers take more than the 512 bytes.
pub(in crate::protocol) fn commands(
    lists: impl Fn(&str) -> bool,
    attributes: impl IntoIterator<Item = Attribute>,
) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for (name, value) in attributes.into_iter().filter(|(name, _)| lists(name)) {
        let attribute = format!(" {name}={}", xtext(&value));
        match commands.last_mut() {
            Some(command) if command.len() + attribute.len() + "\r\n".len() <= LONGEST => command.push_str(&attribute),
            _ => commands.push(format!("XCLIENT{attribute}")),
        }
    }
    commands.iter_mut().for_each(|command| command.push_str("\r\n"));
    commands
}

/// RFC 3461 section 4.
pub(super) fn xtext(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'!'..=b'~' if !b"+=".contains(&byte) => text.push(char::from(byte)),
            _ => _ = write!(text, "+{byte:02X}"), // a String takes everything
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_cut_at_512_bytes_and_nothing_is_told_that_is_not_listed() {
        let attributes = || [("HELO", "x".repeat(490)), ("SECRET", "s".to_owned()), ("ADDR", "a =+".to_owned())];
        let told = commands(|name| name != "SECRET", attributes());
        assert_eq!(told.len(), 2);
        assert!(told.iter().all(|command| command.len() <= 512));
        assert_eq!(told[1], "XCLIENT ADDR=a+20+3D+2B\r\n");
        assert!(commands(|_| false, attributes()).is_empty());
    }
}
