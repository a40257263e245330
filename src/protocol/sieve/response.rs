//! What a mail server says, taken apart: a complete response, with its literals in it.

use zeroize::Zeroizing;

use super::token::Tokens;
use crate::protocol::line::without_end;
use crate::protocol::{Referral, Violation};

/// A response.
pub(super) enum Response<'a> {
    /// The end of what was asked, or of the connection; code and words behind it as they came.
    Status(Status, &'a [u8]),
    /// A capability, or a challenge.
    Strings(Zeroizing<Vec<u8>>, Option<Zeroizing<Vec<u8>>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    No,
    Bye,
}

/// Takes a response apart, its end included.
pub(super) fn parse(response: &[u8]) -> Result<Response<'_>, Violation> {
    let mut rest = Tokens(without_end(response));
    let parsed = match rest.0.first() {
        Some(b'"' | b'{') => strings(rest),
        _ => {
            let status = rest.word().and_then(status);
            let text = rest.space().map_or(&b""[..], |()| rest.0);
            status.filter(|_| text.is_empty() || is_whole(text)).map(|status| Response::Status(status, text))
        }
    };
    parsed.ok_or(Violation::Nonsense("a line that is no ManageSieve response"))
}

fn strings(mut rest: Tokens<'_>) -> Option<Response<'_>> {
    let first = rest.string()?;
    if rest.is_at_end() {
        return Some(Response::Strings(first, None));
    }
    rest.space()?;
    let second = rest.string()?;
    rest.is_at_end().then_some(Response::Strings(first, Some(second)))
}

fn status(word: &[u8]) -> Option<Status> {
    match word.to_ascii_uppercase().as_slice() {
        b"OK" => Some(Status::Ok),
        b"NO" => Some(Status::No),
        b"BYE" => Some(Status::Bye),
        _ => None,
    }
}

/// A code in parentheses, then words in a string; one of them may be missing.
pub(super) fn is_whole(text: &[u8]) -> bool {
    let mut rest = Tokens(text);
    if rest.0.first() == Some(&b'(') {
        if rest.parenthesis().is_none() {
            return false;
        }
        if rest.0.is_empty() {
            return true;
        }
        if rest.space().is_none() {
            return false;
        }
    }
    rest.string().is_some() && rest.0.is_empty()
}

/// The code of a text: its name and the rest.
pub(super) fn code(text: &[u8]) -> Option<(&[u8], Tokens<'_>)> {
    let mut code = Tokens(Tokens(text).parenthesis()?);
    Some((code.word()?, code))
}

/// RFC 5804 section 1.3: it is not the password's fault, and may be over in a while.
pub(super) fn is_temporary(text: &[u8]) -> bool {
    code(text).is_some_and(|(name, _)| name.eq_ignore_ascii_case(b"TRYLATER"))
}

/// `(REFERRAL "sieve://user@host:port")`.
pub(super) fn referral(text: &[u8]) -> Option<Referral> {
    let (name, mut rest) = code(text)?;
    if !name.eq_ignore_ascii_case(b"REFERRAL") {
        return None;
    }
    rest.space()?;
    Referral::url("sieve", &rest.string()?)
}

/// Without `(SASL "...")`, which answers our own login and would mean nothing to a client that used another mechanism.
pub(super) fn without_sasl(text: &[u8]) -> &[u8] {
    let is_sasl = code(text).is_some_and(|(name, _)| name.eq_ignore_ascii_case(b"SASL"));
    let mut rest = Tokens(text);
    if !is_sasl || rest.parenthesis().is_none() {
        return text;
    }
    rest.space().map_or(b"", |()| rest.0)
}
