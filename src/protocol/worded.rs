//! A refusal in words that are not ours: those of a passdb, in each protocol's form.

use super::BackendRefusal;
use crate::model::{Protocol, Refusal};

/// Longest text, in bytes: with a code before it, it fits into a line of every protocol.
const LONGEST: usize = 400;

/// What a frontend says for a refusal, as if a backend had said it. `None` where the words leave nothing to say.
pub fn refusal_in_words(protocol: Protocol, why: Refusal, words: &str) -> Option<BackendRefusal> {
    let words = printable(words, protocol == Protocol::Sieve);
    if words.is_empty() {
        return None;
    }
    let text = match protocol {
        Protocol::Sieve => match why {
            Refusal::BadCredentials | Refusal::Forbidden => quoted(&words),
            _ => format!("(TRYLATER) {}", quoted(&words)),
        },
        // A code of one's own would be taken for a response code: it stands behind ours.
        other => format!("{} {words}", code(other, why)),
    };
    let temporary = !matches!(why, Refusal::BadCredentials | Refusal::Forbidden);
    Some(BackendRefusal { text: text.into_bytes(), temporary, referral: None })
}

/// The same codes as before our own words.
fn code(protocol: Protocol, why: Refusal) -> &'static str {
    match (protocol, why) {
        (Protocol::Pop3, Refusal::BadCredentials) => "[AUTH]",
        (Protocol::Pop3, Refusal::Forbidden) => "[SYS/PERM]",
        (Protocol::Pop3, _) => "[SYS/TEMP]",
        (Protocol::Submission, Refusal::BadCredentials) => "535 5.7.8",
        (Protocol::Submission, Refusal::Forbidden) => "525 5.7.13",
        (Protocol::Submission, _) => "454 4.7.0",
        (_, Refusal::BadCredentials) => "[AUTHENTICATIONFAILED]",
        (_, Refusal::Forbidden) => "[AUTHORIZATIONFAILED]",
        _ => "[UNAVAILABLE]",
    }
}

/// One line without control characters; of ASCII, where a client may expect nothing else.
fn printable(words: &str, unicode: bool) -> String {
    let mut out = String::new();
    for c in words.trim().chars() {
        let c = match c {
            c if c.is_control() => ' ',
            c if c.is_ascii() || unicode => c,
            _ => '?',
        };
        if out.len() + c.len_utf8() > LONGEST {
            break;
        }
        out.push(c);
    }
    out.trim().to_owned()
}

/// RFC 5804 section 1.2: a quoted string.
fn quoted(words: &str) -> String {
    format!("\"{}\"", words.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(protocol: Protocol, why: Refusal, words: &str) -> String {
        refusal_in_words(protocol, why, words).map_or_else(String::new, |said| String::from_utf8(said.text).unwrap())
    }

    #[test]
    fn words_stand_behind_the_code_of_each_protocol_in_one_line() {
        let words = "Umzug\r\n* BYE: \"später\"";
        let forbidden = |protocol| said(protocol, Refusal::Forbidden, words);
        assert_eq!(forbidden(Protocol::Imap), "[AUTHORIZATIONFAILED] Umzug  * BYE: \"sp?ter\"");
        assert_eq!(forbidden(Protocol::Pop3), "[SYS/PERM] Umzug  * BYE: \"sp?ter\"");
        assert_eq!(forbidden(Protocol::Sieve), "\"Umzug  * BYE: \\\"später\\\"\"");
        assert_eq!(forbidden(Protocol::Submission), "525 5.7.13 Umzug  * BYE: \"sp?ter\"");
        assert_eq!(said(Protocol::Imap, Refusal::BadCredentials, "No."), "[AUTHENTICATIONFAILED] No.");
        assert_eq!(said(Protocol::Sieve, Refusal::PassdbUnavailable, "No."), "(TRYLATER) \"No.\"");
        assert!(said(Protocol::Pop3, Refusal::Forbidden, &"é".repeat(5000)).len() < 450);
        assert_eq!(said(Protocol::Imap, Refusal::Forbidden, " \r\n "), "");
    }
}
