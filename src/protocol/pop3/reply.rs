//! Every word that we say to clients before login. Response codes are those of RFC 2449 and 3206; the texts tell people
//! what to do, and name nothing inside.

use super::Frontend;
use super::command::{Fault, Own};
use crate::model::Refusal;
use crate::protocol::talk::Words;
use crate::protocol::{BackendRefusal, Bounds, Farewell, FrontendSettings, Handover, Output, Violation, sasl};

/// What any server of today has, shown until a backend has said what it has.
const USUAL: [&str; 3] = ["TOP", "UIDL", "PIPELINING"];

impl Words for Frontend {
    type Tag = ();
    type Own = Own;

    /// XCLIENT is offered, where Dovecot's proxy looks for it, for the sake of the TTL, which ends loops of proxies.
    fn greeting(settings: &FrontendSettings, out: &mut Output) {
        // A banner with a line end would be a second response; one with `<...>` would offer APOP.
        let banner: String = settings.banner.chars().filter(|c| !c.is_control() && !"<>".contains(*c)).collect();
        let banner = if banner.trim().is_empty() { "Ready." } else { banner.trim() };
        out.put(format!("+OK [XCLIENT] {banner}\r\n"));
    }

    fn begin_tls(_: &(), out: &mut Output) {
        out.put("+OK Begin TLS negotiation now.\r\n");
    }

    /// RFC 5034 section 4: `+`, a blank even if nothing follows, base64.
    fn challenge(text: &[u8], out: &mut Output) {
        out.put("+ ");
        out.put(sasl::encode(text).as_bytes());
        out.put("\r\n");
    }

    fn fault(_: Option<&()>, fault: Fault, out: &mut Output) {
        if let Fault::Usage(usage) = fault {
            return refused(&format!("Faulty arguments, expected: {usage}."), out);
        }
        refused(fault_words(fault), out);
    }

    fn refusal(_: &(), why: Refusal, out: &mut Output) {
        refused(refusal_words(why), out);
    }

    /// The backend's own words.
    fn relayed_refusal(_: &(), words: &BackendRefusal, out: &mut Output) {
        answer("-ERR", &words.text, "[SYS/TEMP] Login failed.", out);
    }

    fn welcome(_: &(), handover: &Handover, out: &mut Output) {
        answer("+OK", &handover.text, "Logged in.", out);
    }

    /// RFC 1939 section 3: a client that has asked nothing is told nothing.
    fn farewell(why: Farewell, awaited: bool, out: &mut Output) {
        if !awaited {
            return;
        }
        let words = match why {
            Farewell::TimedOut => "Disconnected for inactivity; log in sooner next time.",
            Farewell::Overloaded => "[SYS/TEMP] Too many connections at the moment; try again in a minute.",
            Farewell::ShuttingDown => "[SYS/TEMP] This server is going down; connect again.",
        };
        refused(words, out);
    }

    /// The last word to a client that went too far. Where a fault or a refusal was answered already, that was it: nothing
    /// may be said twice.
    fn violation(what: Violation, bounds: &Bounds, out: &mut Output) {
        match what {
            Violation::LineTooLong => {
                refused(&format!("Line too long: at most {} bytes before login.", bounds.line), out);
            }
            Violation::TooManyCommands => refused("Too many commands before login.", out),
            Violation::InjectionBehindStartTls => refused("Nothing may be sent behind STLS before TLS is on.", out),
            _ => {}
        }
    }
}

/// What backends have after login, and what we have before. RFC 2449 section 5: PIPELINING is for all of the session, so
/// that is for the backends to offer; what is sent before their answer waits with us.
pub(super) fn capabilities(settings: &FrontendSettings, out: &mut Output) {
    out.put("+OK Capabilities follow.\r\n");
    if settings.offers.is_empty() {
        USUAL.iter().for_each(|line| item(line, out));
    }
    settings.offers.iter().for_each(|line| item(line, out));
    item("RESP-CODES", out);
    item("AUTH-RESP-CODE", out);
    if settings.offers_tls() {
        item("STLS", out);
    }
    if settings.takes_commands() {
        item("USER", out);
    }
    if settings.takes_passwords() {
        item(&format!("SASL {}", settings.sasl.list()), out);
    }
    out.put(".\r\n");
}

/// The answer to AUTH alone: what clients older than CAPA look for.
pub(super) fn mechanisms(settings: &FrontendSettings, out: &mut Output) {
    out.put("+OK Mechanisms follow.\r\n");
    if settings.takes_passwords() {
        settings.sasl.names().for_each(|name| item(name, out));
    }
    out.put(".\r\n");
}

fn item(line: &str, out: &mut Output) {
    out.put(line);
    out.put("\r\n");
}

pub(super) fn noop(out: &mut Output) {
    out.put("+OK\r\n");
}

pub(super) fn utf8(out: &mut Output) {
    out.put("+OK UTF8 enabled.\r\n");
}

pub(super) fn user(out: &mut Output) {
    out.put("+OK Send the password.\r\n"); // whoever it is: nobody learns here who exists
}

pub(super) fn announced(out: &mut Output) {
    out.put("+OK Updated.\r\n");
}

pub(super) fn quit(out: &mut Output) {
    out.put("+OK Logging out.\r\n");
}

fn fault_words(fault: Fault) -> &'static str {
    match fault {
        Fault::UnknownCommand => "Unknown command.",
        Fault::LogInFirst => "Log in first.",
        Fault::Own(Own::NotOffered) => "This command is not offered; see CAPA.",
        Fault::Usage(_) => "Faulty arguments.",
        Fault::Own(Own::NoUser) => "Send USER first.",
        // No [AUTH]: it is not the password that is wrong, and clients shall not ask for another.
        Fault::TlsRequired => "Turn on TLS (SSL or STLS) first; no password is taken without it.",
        Fault::TlsIsOn => "TLS is on already.",
        Fault::NoTls => "TLS is not available on this port.",
        Fault::Sasl(sasl::Fault::UnknownMechanism) => "This authentication mechanism is not offered; see CAPA.",
        Fault::Sasl(sasl::Fault::NotBase64) => "Invalid base64.",
        Fault::Sasl(sasl::Fault::Malformed) => "Not a message of this authentication mechanism.",
        Fault::Sasl(sasl::Fault::BadName) => "Not a valid user name.",
        Fault::Sasl(sasl::Fault::Binding) => {
            "This connection is not the one that you mean; somebody may be in between."
        }
        Fault::Sasl(sasl::Fault::Cancelled) => "Authentication cancelled.",
    }
}

/// Only [AUTH] lets a client ask for another password.
fn refusal_words(why: Refusal) -> &'static str {
    match why {
        Refusal::BadCredentials => "[AUTH] Wrong user name or password.",
        Refusal::Forbidden => "[SYS/PERM] This account may not log in here; ask your administrator.",
        Refusal::PassdbUnavailable => "[SYS/TEMP] Logins cannot be checked at the moment; try again later.",
        Refusal::StoreUnavailable | Refusal::NoBackend | Refusal::BackendUnavailable | Refusal::BackendFull => {
            "[SYS/TEMP] Your mailbox cannot be reached at the moment; try again later."
        }
        Refusal::HomeUnsettled => "[SYS/TEMP] Your mailbox is not ready yet; try again in a minute.",
        Refusal::TooManySessions => "[IN-USE] Too many connections to this mailbox; close some of them and try again.",
        Refusal::TooManyFromAddress => {
            "[IN-USE] Too many connections from your address to this mailbox; close some of them and try again."
        }
        Refusal::TooManyLogins => "[LOGIN-DELAY] Too many logins from your address; try again in a minute.",
        Refusal::ShuttingDown => "[SYS/TEMP] This server is going down; connect again.",
    }
}

/// What the backend says is one line already; this makes sure.
fn answer(status: &str, text: &[u8], otherwise: &str, out: &mut Output) {
    let line = text.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    out.put(status);
    out.put(" ");
    out.put(if line.is_empty() { otherwise.as_bytes() } else { line });
    out.put("\r\n");
}

fn refused(words: &str, out: &mut Output) {
    out.put("-ERR ");
    out.put(words);
    out.put("\r\n");
}
