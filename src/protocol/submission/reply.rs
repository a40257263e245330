//! Every word that we say to clients before login. Reply codes are those of RFC 5321 and 4954, enhanced ones those of
//! RFC 3463 and 5248; the texts tell people what to do, and name nothing inside.

use super::Frontend;
use super::command::{Fault, Own};
use super::response;
use crate::model::{Ending, Refusal};
use crate::protocol::talk::Words;
use crate::protocol::{BackendRefusal, Bounds, Farewell, FrontendSettings, Handover, Output, Violation, sasl};

/// What any submission server of today has, shown until a backend has said what it has.
const USUAL: [&str; 3] = ["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"];

impl Words for Frontend {
    type Tag = ();
    type Own = Own;

    fn greeting(settings: &FrontendSettings, out: &mut Output) {
        // A banner with a line end would be a second reply.
        let banner: String = settings.banner.chars().filter(|c| !c.is_control()).collect();
        let words = format!("220 {} ESMTP {}", host(settings), banner.trim());
        say(words.trim_end(), out);
    }

    fn begin_tls(_: &(), out: &mut Output) {
        out.put("220 2.0.0 Begin TLS negotiation now.\r\n");
    }

    /// RFC 4954 section 4: 334, a blank even if nothing follows, base64.
    fn challenge(text: &[u8], out: &mut Output) {
        out.put("334 ");
        out.put(sasl::encode(text).as_bytes());
        out.put("\r\n");
    }

    fn fault(_: Option<&()>, fault: Fault, out: &mut Output) {
        if let Fault::Usage(usage) = fault {
            return say(&format!("501 5.5.4 Faulty arguments, expected: {usage}."), out);
        }
        say(fault_words(fault), out);
    }

    fn refusal(_: &(), why: Refusal, out: &mut Output) {
        say(refusal_words(why), out);
    }

    /// The backend's own words, with its own code, if that is one that refuses. 421 would mean that we close, too.
    fn relayed_refusal(_: &(), words: &BackendRefusal, out: &mut Output) {
        let otherwise = if words.temporary { "454" } else { "535" };
        let line = one_line(&words.text);
        let (code, text) = match response::code(line) {
            Some((421, text)) => ("454".to_owned(), text),
            Some((code @ 400..=599, text)) => (code.to_string(), text),
            _ => (otherwise.to_owned(), line),
        };
        out.put(code);
        out.put(" ");
        out.put(if text.is_empty() { b"Login failed." } else { text });
        out.put("\r\n");
    }

    fn welcome(_: &(), handover: &Handover, out: &mut Output) {
        let text = one_line(&handover.text);
        out.put("235 ");
        out.put(if text.is_empty() { b"2.7.0 Logged in." } else { text });
        out.put("\r\n");
    }

    fn farewell(why: Farewell, _: bool, out: &mut Output) {
        let words = match why {
            Farewell::TimedOut => "421 4.4.2 Disconnected for inactivity; log in sooner next time.",
            Farewell::Overloaded => "421 4.3.2 Too many connections at the moment; try again in a minute.",
            Farewell::ShuttingDown => "421 4.3.2 This server is going down; connect again.",
        };
        say(words, out);
    }

    /// The last word to a client that went too far.
    fn violation(what: Violation, bounds: &Bounds, out: &mut Output) {
        let words = match what {
            Violation::LineTooLong => format!("421 4.3.2 Line too long: at most {} bytes before login.", bounds.line),
            Violation::LiteralTooLong => "421 4.3.2 No mail is taken before login.".to_owned(),
            Violation::TooManyCommands => "421 4.3.2 Too many commands before login.".to_owned(),
            Violation::TooManyErrors => "421 4.3.2 Too many faulty commands.".to_owned(),
            Violation::TooManyFailures => "421 4.3.2 Too many failed logins; connect again later.".to_owned(),
            Violation::InjectionBehindStartTls => {
                "421 4.3.2 Nothing may be sent behind STARTTLS before TLS is on.".to_owned()
            }
            Violation::Nonsense(_) | Violation::TurnedAway | Violation::Missing(_) => {
                "421 4.3.2 Protocol error.".to_owned()
            }
        };
        say(&words, out);
    }
}

/// The name of this proxy, as far as it can stand where a domain must.
fn host(settings: &FrontendSettings) -> &str {
    let host = settings.host.as_str();
    if super::command::is_proper_name(host) { host } else { "homing" }
}

/// What backends have after login, and what we have before. Of XCLIENT only the TTL, which ends loops of proxies: who the
/// client is, only a PROXY header can tell.
pub(super) fn ehlo(settings: &FrontendSettings, out: &mut Output) {
    let usual = if settings.offers.is_empty() { &USUAL[..] } else { &[] };
    let mut lines: Vec<&str> = vec![host(settings)];
    lines.extend(usual);
    lines.extend(settings.offers.iter().map(String::as_str));
    let mechanisms = format!("AUTH {}", settings.sasl.list());
    if settings.takes_passwords() {
        lines.push(&mechanisms);
    }
    if settings.offers_tls() {
        lines.push("STARTTLS");
    }
    lines.push("XCLIENT TTL");
    for (at, line) in lines.iter().enumerate() {
        let more = if at + 1 < lines.len() { '-' } else { ' ' };
        out.put(format!("250{more}{line}\r\n"));
    }
}

pub(super) fn helo(settings: &FrontendSettings, out: &mut Output) {
    out.put(format!("250 {}\r\n", host(settings)));
}

pub(super) fn done(out: &mut Output) {
    out.put("250 2.0.0 OK\r\n");
}

pub(super) fn help(out: &mut Output) {
    out.put("214 2.0.0 Before login: EHLO, HELO, STARTTLS, AUTH, RSET, NOOP, HELP and QUIT.\r\n");
}

pub(super) fn quit(out: &mut Output) {
    out.put("221 2.0.0 Bye.\r\n");
}

fn fault_words(fault: Fault) -> &'static str {
    match fault {
        Fault::UnknownCommand => "500 5.5.2 Unknown command.",
        Fault::Own(Own::NotOffered) => "502 5.5.1 This command is not offered; see EHLO.",
        Fault::LogInFirst => "530 5.7.0 Log in first.",
        Fault::Own(Own::TlsFirst) => "530 5.7.0 Turn on TLS (STARTTLS) and log in first.",
        Fault::Usage(_) => "501 5.5.4 Faulty arguments.",
        Fault::Own(Own::EhloFirst) => "503 5.5.1 Say EHLO first.",
        Fault::TlsRequired => "523 5.7.10 Turn on TLS (SSL or STARTTLS) first; no password is taken without it.",
        Fault::TlsIsOn => "502 5.5.1 TLS is on already.",
        Fault::NoTls => "502 5.5.1 TLS is not available on this port.",
        Fault::Sasl(sasl::Fault::UnknownMechanism) => {
            "504 5.5.4 This authentication mechanism is not offered; see EHLO."
        }
        Fault::Sasl(sasl::Fault::NotBase64) => "501 5.5.2 Invalid base64.",
        Fault::Sasl(sasl::Fault::Malformed) => "501 5.5.2 Not a message of this authentication mechanism.",
        Fault::Sasl(sasl::Fault::BadName) => "501 5.5.2 Not a valid user name.",
        Fault::Sasl(sasl::Fault::Binding) => {
            "535 5.7.8 This connection is not the one that you mean; somebody may be in between."
        }
        Fault::Sasl(sasl::Fault::Cancelled) => "501 5.7.0 Authentication cancelled.",
    }
}

/// RFC 4954 section 6: only 535 lets a client ask for another password.
fn refusal_words(why: Refusal) -> &'static str {
    match why {
        Refusal::BadCredentials => "535 5.7.8 Wrong user name or password.",
        Refusal::Forbidden => "525 5.7.13 This account may not log in here; ask your administrator.",
        Refusal::PassdbUnavailable => "454 4.7.0 Logins cannot be checked at the moment; try again later.",
        Refusal::StoreUnavailable | Refusal::NoBackend | Refusal::BackendUnavailable | Refusal::BackendFull => {
            "454 4.7.0 Your mail server cannot be reached at the moment; try again later."
        }
        Refusal::HomeUnsettled => "454 4.7.0 Your mailbox is not ready yet; try again in a minute.",
        Refusal::TooManySessions => "454 4.7.0 Too many connections of this account; close some of them and try again.",
        Refusal::TooManyFromAddress => {
            "454 4.7.0 Too many connections of this account from your address; close some of them and try again."
        }
        Refusal::TooManyLogins => "454 4.7.0 Too many logins from your address; try again in a minute.",
        Refusal::ShuttingDown => "454 4.7.0 This server is going down; connect again.",
    }
}

/// What the backend says is one line already; this makes sure.
fn one_line(text: &[u8]) -> &[u8] {
    text.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default()
}

/// To a client that is logged in: why this proxy ends its session. It may come back at once, to any proxy.
pub(super) fn last_words(why: Ending) -> &'static [u8] {
    match why {
        Ending::ClientIdle => b"421 4.4.2 Disconnected for inactivity.\r\n",
        Ending::Kicked => b"421 4.3.2 Your mailbox has moved; connect again.\r\n",
        Ending::Isolated => b"421 4.3.2 This server is cut off; connect again.\r\n",
        Ending::Shutdown => b"421 4.3.2 This server is going down; connect again.\r\n",
        _ => b"",
    }
}

fn say(words: &str, out: &mut Output) {
    out.put(words);
    out.put("\r\n");
}
