//! What a passdb wants the next server to know of a user, as Dovecot's proxies pass it on.

use super::xclient::xtext;

/// The value of XCLIENT FORWARD: `key=value`, with TABs between and within escaped, in base64. `None` where there is nothing
/// to tell.
pub(in crate::protocol) fn forwarded(fields: &[(String, String)]) -> Option<String> {
    encoded(&joined(fields, usize::MAX).0)
}

/// The same as the value of a RCPT parameter, of as many fields as fit in `longest` bytes of base64; and how many did not.
/// Dovecot refuses a recipient for good whose base64 has a plain `+` or `=`.
pub fn forwarded_within(fields: &[(String, String)], longest: usize) -> (Option<String>, usize) {
    let (text, left_out) = joined(fields, longest / 4 * 3);
    (encoded(&text).as_deref().map(xtext), left_out)
}

/// The fields that fit, in order, and how many did not.
fn joined(fields: &[(String, String)], longest: usize) -> (String, usize) {
    let (mut text, mut left_out) = (String::new(), 0);
    for (key, value) in fields {
        let gap = if text.is_empty() { "" } else { "\t" };
        let field = format!("{gap}{}={}", tab_escaped(key), tab_escaped(value));
        if text.len() + field.len() > longest {
            left_out += 1;
        } else {
            text.push_str(&field);
        }
    }
    (text, left_out)
}

fn encoded(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| crate::protocol::sasl::encode(text.as_bytes()).to_string())
}

fn tab_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\0' => escaped.push_str("\x010"),
            '\x01' => escaped.push_str("\x011"),
            '\t' => escaped.push_str("\x01t"),
            '\r' => escaped.push_str("\x01r"),
            '\n' => escaped.push_str("\x01n"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn fields_are_escaped_joined_and_told_in_xtext() {
        for (value, base64) in [
            ("1", "eD0xCXk9MQ+3D+3D"),
            ("12", "eD0xCXk9MTI+3D"),
            ("a\tb\n", "eD0xCXk9YQF0YgFu"),
            ("~~~", "eD0xCXk9fn5+2B"),
        ] {
            assert_eq!(forwarded_within(&[field("x", "1"), field("y", value)], 900), (Some(base64.to_owned()), 0));
        }
        assert_eq!(forwarded_within(&[], 900), (None, 0));
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_the_rest_is_told() {
        let fields = [field("a", "1"), field("long", &"x".repeat(700)), field("b", "2")];
        assert_eq!(forwarded_within(&fields, 900), (Some("YT0xCWI9Mg+3D+3D".to_owned()), 1));
        assert_eq!(forwarded_within(&fields[1..2], 900), (None, 1));
        let just = [field("a", &"x".repeat(673))];
        assert_eq!(forwarded_within(&just, 900).0.map(|told| told.len()), Some(900));
    }
}
