//! Every word that we say to clients before login, and the last ones after. Response codes are those of RFC 5804 section
//! 1.3; the texts tell people what to do, and name nothing inside.

use super::Frontend;
use super::capability;
use super::command::{Fault, Own};
use super::response;
use super::token::quoted;
use crate::model::{Ending, Refusal};
use crate::protocol::talk::Words;
use crate::protocol::{BackendRefusal, Bounds, Farewell, FrontendSettings, Handover, Output, Violation, sasl};

impl Words for Frontend {
    type Tag = ();
    type Own = Own;
    const CONFIRMS: bool = true;

    /// The greeting is an answer to CAPABILITY that nobody has asked for; so is the one behind STARTTLS.
    fn greeting(settings: &FrontendSettings, out: &mut Output) {
        capabilities(settings, out);
        let banner = settings.banner.trim();
        status("OK", "", if banner.is_empty() { "Ready." } else { banner }, out);
    }

    fn begin_tls(_: &(), out: &mut Output) {
        status("OK", "", "Begin TLS negotiation now.", out);
    }

    fn challenge(text: &[u8], out: &mut Output) {
        out.put(format!("\"{}\"\r\n", *sasl::encode(text)));
    }

    fn fault(_: Option<&()>, fault: Fault, out: &mut Output) {
        match fault {
            Fault::Usage(usage) => status("NO", "", &format!("Faulty arguments, expected: {usage}."), out),
            Fault::TlsRequired => {
                status("NO", "ENCRYPT-NEEDED", "Turn on TLS (STARTTLS) first; no password is taken without it.", out);
            }
            other => status("NO", "", fault_words(other), out),
        }
    }

    /// A refusal that has nothing to do with the password has TRYLATER.
    fn refusal(_: &(), why: Refusal, out: &mut Output) {
        let (code, words) = match why {
            Refusal::BadCredentials => ("", "Wrong user name or password."),
            Refusal::Forbidden => ("", "This account may not log in here; ask your administrator."),
            Refusal::PassdbUnavailable => ("TRYLATER", "Logins cannot be checked at the moment; try again later."),
            Refusal::StoreUnavailable | Refusal::NoBackend | Refusal::BackendUnavailable | Refusal::BackendFull => {
                ("TRYLATER", "Your mailbox cannot be reached at the moment; try again later.")
            }
            Refusal::HomeUnsettled => ("TRYLATER", "Your mailbox is not ready yet; try again in a minute."),
            Refusal::TooManySessions => {
                ("TRYLATER", "Too many connections to this mailbox; close some of them and try again.")
            }
            Refusal::TooManyFromAddress => (
                "TRYLATER",
                "Too many connections from your address to this mailbox; close some of them and try again.",
            ),
            Refusal::TooManyLogins => ("TRYLATER", "Too many logins from your address; try again in a minute."),
            Refusal::ShuttingDown => ("TRYLATER", "This server is going down; connect again."),
        };
        status("NO", code, words, out);
    }

    /// The backend's own words.
    fn relayed_refusal(_: &(), words: &BackendRefusal, out: &mut Output) {
        answer("NO", &words.text, "(TRYLATER) \"Login failed.\"", out);
    }

    fn welcome(_: &(), handover: &Handover, out: &mut Output) {
        answer("OK", &handover.text, "\"Logged in.\"", out);
    }

    /// RFC 5804 section 2.1: what the mechanism shows goes with the OK.
    fn confirm(shown: &[u8], out: &mut Output) -> bool {
        status("OK", &format!("SASL \"{}\"", *sasl::encode(shown)), "Logged in.", out);
        true
    }

    fn farewell(why: Farewell, _: bool, out: &mut Output) {
        match why {
            Farewell::TimedOut => status("BYE", "", "Disconnected for inactivity; log in sooner next time.", out),
            Farewell::Overloaded => {
                status("BYE", "TRYLATER", "Too many connections at the moment; try again in a minute.", out);
            }
            Farewell::ShuttingDown => status("BYE", "TRYLATER", "This server is going down; connect again.", out),
        }
    }

    /// The last word to a client that went too far.
    fn violation(what: Violation, bounds: &Bounds, out: &mut Output) {
        let words = match what {
            Violation::LineTooLong => format!("Line too long: at most {} bytes before login.", bounds.line),
            Violation::LiteralTooLong => format!("Literal too long: at most {} bytes before login.", bounds.literal),
            Violation::TooManyCommands => "Too many commands before login.".to_owned(),
            Violation::TooManyErrors => "Too many faulty commands.".to_owned(),
            Violation::TooManyFailures => "Too many failed logins; connect again later.".to_owned(),
            Violation::InjectionBehindStartTls => "Nothing may be sent behind STARTTLS before TLS is on.".to_owned(),
            Violation::Nonsense(_) | Violation::TurnedAway | Violation::Missing(_) => "Protocol error.".to_owned(),
        };
        status("BYE", "", &words, out);
    }
}

pub(super) fn capability(settings: &FrontendSettings, out: &mut Output) {
    capabilities(settings, out);
    status("OK", "", "Capability completed.", out);
}

/// XCLIENT is offered for the sake of the TTL, which ends loops of proxies.
fn capabilities(settings: &FrontendSettings, out: &mut Output) {
    let private = settings.takes_passwords();
    let mechanisms = if private { settings.sasl.list() } else { String::new() };
    let mut lines = capability::shown(&settings.offers);
    lines.push(format!("\"SASL\" \"{mechanisms}\""));
    if settings.offers_tls() {
        lines.push("\"STARTTLS\"".to_owned());
    }
    lines.push("\"XCLIENT\"".to_owned());
    for line in lines {
        out.put(line);
        out.put("\r\n");
    }
}

/// RFC 5804 section 2.13: what came is repeated, whatever it is.
pub(super) fn noop(tag: Option<&[u8]>, out: &mut Output) {
    let Some(tag) = tag else { return status("OK", "", "NOOP completed.", out) };
    out.put(format!("OK (TAG {{{}}}\r\n", tag.len()));
    out.put(tag);
    out.put(") \"Done.\"\r\n");
}

pub(super) fn logout(out: &mut Output) {
    status("OK", "", "Logout completed.", out);
}

pub(super) fn announced(out: &mut Output) {
    status("OK", "", "Updated.", out);
}

fn fault_words(fault: Fault) -> &'static str {
    match fault {
        Fault::UnknownCommand => "Unknown command.",
        Fault::LogInFirst => "Log in first.",
        Fault::Usage(_) => "Faulty arguments.",
        Fault::TlsRequired => "Turn on TLS first.",
        Fault::TlsIsOn => "TLS is on already.",
        Fault::NoTls => "TLS is not available on this port.",
        Fault::Sasl(sasl::Fault::UnknownMechanism) => "This authentication mechanism is not offered; see CAPABILITY.",
        Fault::Own(Own::NoString) => "The answer to a prompt is a string.",
        Fault::Sasl(sasl::Fault::NotBase64) => "Invalid base64.",
        Fault::Sasl(sasl::Fault::Malformed) => "Not a message of this authentication mechanism.",
        Fault::Sasl(sasl::Fault::BadName) => "Not a valid user name.",
        Fault::Sasl(sasl::Fault::Binding) => {
            "This connection is not the one that you mean; somebody may be in between."
        }
        Fault::Sasl(sasl::Fault::Cancelled) => "Authentication cancelled.",
    }
}

/// What the backend says is whole, with its literals; this makes sure.
fn answer(status: &str, text: &[u8], otherwise: &str, out: &mut Output) {
    out.put(status);
    out.put(" ");
    out.put(if response::is_whole(text) { text } else { otherwise.as_bytes() });
    out.put("\r\n");
}

/// To a client that is logged in: why this proxy ends its session. It may come back at once, to any proxy.
pub(super) fn last_words(why: Ending) -> &'static [u8] {
    match why {
        Ending::ClientIdle => b"BYE \"Disconnected for inactivity.\"\r\n",
        Ending::Kicked => b"BYE (TRYLATER) \"Your mailbox has moved; connect again.\"\r\n",
        Ending::Isolated => b"BYE (TRYLATER) \"This server is cut off; connect again.\"\r\n",
        Ending::Shutdown => b"BYE (TRYLATER) \"This server is going down; connect again.\"\r\n",
        _ => b"",
    }
}

fn status(word: &str, code: &str, text: &str, out: &mut Output) {
    out.put(word);
    if !code.is_empty() {
        out.put(format!(" ({code})"));
    }
    out.put(format!(" {}\r\n", quoted(text)));
}
