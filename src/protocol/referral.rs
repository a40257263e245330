//! Where a backend sends a user whom it does not serve, as the protocols write it: `user@host:port`, or a URL with that
//! in it. Anything that is not quite so is no referral, and the client is told what the backend said.

use std::net::Ipv6Addr;

use super::Referral;
use super::sasl::user_name;

/// Bytes of a destination: a user name of any sensible length, percent-encoded, and a host.
const LONGEST: usize = 1024;
/// RFC 1035 section 2.3.4.
const LONGEST_HOST: usize = 253;

impl Referral {
    /// `user@host:port`, without user and port if need be. An IPv6 address is in brackets.
    pub(super) fn to(destination: &[u8]) -> Option<Self> {
        let (user, server) = split(destination)?;
        let user = user.map(user_name).transpose().ok()?;
        Self::at(user, server)
    }

    /// `scheme://user;AUTH=mechanism@host:port/`, percent-encoded (RFC 2221, RFC 5804 section 1.3).
    pub(super) fn url(scheme: &str, url: &[u8]) -> Option<Self> {
        let (name, rest) = url.split_at_checked(scheme.len())?;
        let rest = rest.strip_prefix(b"://").filter(|_| name.eq_ignore_ascii_case(scheme.as_bytes()))?;
        let authority = rest.split(|byte| matches!(byte, b'/' | b'?' | b'#')).next()?;
        let (user, server) = split(authority)?;
        let user = user.and_then(|user| user.split(|byte| *byte == b';').next()).filter(|user| !user.is_empty());
        let user = user.map(|user| user_name(&percent_decoded(user)?).ok());
        match user {
            Some(None) => None,
            user => Self::at(user.flatten(), server),
        }
    }

    fn at(user: Option<String>, server: &[u8]) -> Option<Self> {
        let server = std::str::from_utf8(server).ok()?;
        let (host, port) = match server.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                address.parse::<Ipv6Addr>().ok()?;
                (address, port.strip_prefix(':').or(port.is_empty().then_some(""))?)
            }
            None => server.split_once(':').unwrap_or((server, "")),
        };
        let port = if port.is_empty() { None } else { Some(number(port)?) };
        is_host(host).then(|| Self { user, host: host.to_owned(), port })
    }
}

/// The user, if there is one, and the server.
fn split(destination: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    if destination.len() > LONGEST {
        return None;
    }
    let Some(at) = destination.iter().rposition(|byte| *byte == b'@') else { return Some((None, destination)) };
    let (user, server) = destination.split_at(at);
    Some((Some(user).filter(|user| !user.is_empty()), &server[1..]))
}

fn number(port: &str) -> Option<u16> {
    port.bytes().all(|byte| byte.is_ascii_digit()).then_some(port)?.parse().ok().filter(|port| *port > 0)
}

/// A name or an address.
fn is_host(host: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (1..=LONGEST_HOST).contains(&host.len()) && host.bytes().all(plain)
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            decoded.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let byte = digit(digits[0])? * 16 + digit(digits[1])?;
        decoded.push(u8::try_from(byte).ok()?);
        rest = after;
    }
    Some(decoded)
}

/// What is in the brackets at the beginning of a text. A bracket inside, as of an IPv6 address, does not end it.
pub(super) fn bracketed(text: &[u8]) -> Option<&[u8]> {
    let code = text.strip_prefix(b"[")?;
    let ends = |at: usize| code[at] == b']' && code.get(at + 1).is_none_or(|next| *next == b' ');
    let end = (0..code.len()).find(|at| ends(*at))?;
    Some(&code[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(referral: Option<Referral>) -> String {
        let Some(Referral { user, host, port }) = referral else { return "none".to_owned() };
        format!("{} at {host} port {}", user.unwrap_or_default(), port.map_or(String::new(), |port| port.to_string()))
    }

    #[test]
    fn a_destination_is_a_user_a_host_and_a_port() {
        for (destination, expected) in [
            ("anna@mail.example:110", "anna at mail.example port 110"),
            ("anna@example.org@mail.example", "anna@example.org at mail.example port "),
            ("b2:1100", " at b2 port 1100"),
            ("@192.0.2.7", " at 192.0.2.7 port "),
            ("an na@[2001:db8::1]:1100", "an na at 2001:db8::1 port 1100"),
            ("anna@[2001:db8::1]", "anna at 2001:db8::1 port "),
            ("", "none"),
            ("anna@", "none"),
            ("anna@:110", "none"),
            ("anna@host:0", "none"),
            ("anna@host:65536", "none"),
            ("anna@host:+1", "none"),
            ("anna@ho st", "none"),
            ("anna@[::1", "none"),
            ("anna@[::1]x", "none"),
            ("anna@[host]:1", "none"),
            ("an\tna@host", "none"),
        ] {
            assert_eq!(told(Referral::to(destination.as_bytes())), expected, "{destination}");
        }
        assert_eq!(told(Referral::to(&[b'x'; 1025])), "none");
    }

    #[test]
    fn a_url_may_be_encoded_and_name_a_mechanism() {
        for (url, expected) in [
            ("imap://anna;AUTH=*@b2:1430/", "anna at b2 port 1430"),
            ("IMAP://an%40na%2Fx;AUTH=PLAIN@b2/INBOX@x", "an@na/x at b2 port "),
            ("imap://b2", " at b2 port "),
            ("imap://;AUTH=*@b2/", " at b2 port "),
            ("imap://anna@[::1]:143/?x", "anna at ::1 port 143"),
            ("imaps://anna@b2/", "none"),
            ("imap:/anna@b2/", "none"),
            ("imap://an%4@b2/", "none"),
            ("imap://an%zzna@b2/", "none"),
            ("imap://an%00na@b2/", "none"),
            ("imap://%ff@b2/", "none"),
            ("ima", "none"),
        ] {
            assert_eq!(told(Referral::url("imap", url.as_bytes())), expected, "{url}");
        }
    }

    #[test]
    fn a_code_ends_at_the_bracket_before_the_words() {
        assert_eq!(bracketed(b"[REFERRAL/a@[::1]:110] Go there."), Some(&b"REFERRAL/a@[::1]:110"[..]));
        assert_eq!(bracketed(b"[X]"), Some(&b"X"[..]));
        assert_eq!(bracketed(b"[X"), None);
        assert_eq!(bracketed(b"x [X]"), None);
    }
}
