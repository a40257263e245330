//! Every word that we say to clients before login. Response codes are those of RFC 5530 and 9051 section 7.1; the texts
//! tell people what to do, and name nothing inside.

use super::Frontend;
use super::command::{Fault, Own, Tag};
use crate::model::{Ending, Refusal};
use crate::protocol::talk::Words;
use crate::protocol::{BackendRefusal, Bounds, Farewell, FrontendSettings, Handover, Output, Violation, sasl};

/// What is truly handled before login, and nothing else.
///
/// Not IMAP4rev2: which revision the user will have is for the backend to say, after login. Not ENABLE and the like, for
/// the same reason. LITERAL+ rather than LITERAL-: a literal above the bound gets a clear answer whatever its kind.
fn capabilities(settings: &FrontendSettings) -> String {
    let mut list = String::from("CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID");
    if settings.offers_tls() {
        list.push_str(" STARTTLS");
    }
    if settings.takes_passwords() {
        for mechanism in settings.sasl.names() {
            list.push_str(" AUTH=");
            list.push_str(mechanism);
        }
    }
    if !settings.takes_commands() {
        list.push_str(" LOGINDISABLED");
    }
    list
}

impl Words for Frontend {
    type Tag = Tag;
    type Own = Own;

    fn greeting(settings: &FrontendSettings, out: &mut Output) {
        // A banner with a line end would be a second response.
        let banner: String = settings.banner.chars().filter(|c| !c.is_control()).collect();
        let banner = if banner.trim().is_empty() { "Ready." } else { banner.trim() };
        out.put(format!("* OK [{}] {banner}\r\n", capabilities(settings)));
    }

    fn begin_tls(tag: &Tag, out: &mut Output) {
        tagged(Some(tag), "OK Begin TLS negotiation now.", out);
    }

    /// RFC 9051 section 7.6: `+`, a blank even if nothing follows, base64.
    fn challenge(text: &[u8], out: &mut Output) {
        out.put("+ ");
        out.put(sasl::encode(text).as_bytes());
        out.put("\r\n");
    }

    fn fault(tag: Option<&Tag>, fault: Fault, out: &mut Output) {
        if let Fault::Usage(usage) = fault {
            return tagged(tag, &format!("BAD Faulty arguments, expected: {usage}."), out);
        }
        tagged(tag, fault_words(fault), out);
    }

    fn refusal(tag: &Tag, why: Refusal, out: &mut Output) {
        tagged(Some(tag), refusal_words(why), out);
    }

    /// The backend's own words, in the client's tag. What the backend says is one line already; this makes sure.
    fn relayed_refusal(tag: &Tag, words: &BackendRefusal, out: &mut Output) {
        answer(tag, "NO", &words.text, "[UNAVAILABLE] Login failed.", out);
    }

    fn welcome(tag: &Tag, handover: &Handover, out: &mut Output) {
        out.put(&handover.untagged);
        answer(tag, "OK", &handover.text, "Logged in.", out);
    }

    fn farewell(why: Farewell, _: bool, out: &mut Output) {
        let words = match why {
            Farewell::TimedOut => "BYE Disconnected for inactivity; log in sooner next time.",
            Farewell::Overloaded => "BYE [UNAVAILABLE] Too many connections at the moment; try again in a minute.",
            Farewell::ShuttingDown => "BYE [UNAVAILABLE] This server is going down; connect again.",
        };
        tagged(None, words, out);
    }

    /// The last word to a client that went too far.
    fn violation(what: Violation, bounds: &Bounds, out: &mut Output) {
        let words = match what {
            Violation::LineTooLong => format!("BYE Line too long: at most {} bytes before login.", bounds.line),
            Violation::LiteralTooLong => {
                format!("BYE Literal too long: at most {} bytes before login.", bounds.literal)
            }
            Violation::TooManyCommands => "BYE Too many commands before login.".to_owned(),
            Violation::TooManyErrors => "BYE Too many faulty commands.".to_owned(),
            Violation::TooManyFailures => "BYE Too many failed logins; connect again later.".to_owned(),
            Violation::InjectionBehindStartTls => {
                "BYE Nothing may be sent behind STARTTLS before TLS is on.".to_owned()
            }
            Violation::Nonsense(_) | Violation::TurnedAway | Violation::Missing(_) => "BYE Protocol error.".to_owned(),
        };
        tagged(None, &words, out);
    }
}

pub(super) fn capability(tag: &Tag, settings: &FrontendSettings, out: &mut Output) {
    out.put(format!("* {}\r\n", capabilities(settings)));
    tagged(Some(tag), "OK Capability completed.", out);
}

pub(super) fn id(tag: &Tag, out: &mut Output) {
    out.put("* ID (\"name\" \"homing\")\r\n");
    tagged(Some(tag), "OK ID completed.", out);
}

pub(super) fn noop(tag: &Tag, out: &mut Output) {
    tagged(Some(tag), "OK NOOP completed.", out);
}

pub(super) fn logout(tag: &Tag, out: &mut Output) {
    tagged(None, "BYE Logging out.", out);
    tagged(Some(tag), "OK Logout completed.", out);
}

pub(super) fn literal_wanted(out: &mut Output) {
    out.put("+ OK\r\n");
}

fn fault_words(fault: Fault) -> &'static str {
    match fault {
        Fault::Own(Own::EmptyLine) => "BAD Empty line.",
        Fault::Own(Own::BadTag) => "BAD Invalid tag.",
        Fault::Own(Own::NoCommand) => "BAD A tag and a command are needed.",
        Fault::UnknownCommand => "BAD Unknown command.",
        Fault::LogInFirst => "BAD Log in first.",
        Fault::Usage(_) => "BAD Faulty arguments.",
        Fault::Own(Own::NoLiteralHere) => "BAD No literal is allowed here.",
        Fault::Own(Own::LiteralTooLong) => "NO [TOOBIG] This literal is too long before login.",
        Fault::TlsRequired => {
            "NO [PRIVACYREQUIRED] Turn on TLS (SSL or STARTTLS) first; no password is taken without it."
        }
        Fault::TlsIsOn => "BAD TLS is on already.",
        Fault::NoTls => "BAD TLS is not available on this port.",
        Fault::Sasl(sasl::Fault::UnknownMechanism) => {
            "NO [CANNOT] This authentication mechanism is not offered; see CAPABILITY."
        }
        Fault::Sasl(sasl::Fault::NotBase64) => "BAD Invalid base64.",
        Fault::Sasl(sasl::Fault::Malformed) => "BAD Not a message of this authentication mechanism.",
        Fault::Sasl(sasl::Fault::BadName) => "BAD Not a valid user name.",
        Fault::Sasl(sasl::Fault::Binding) => {
            "NO [CONTACTADMIN] This connection is not the one that you mean; somebody may be in between."
        }
        Fault::Sasl(sasl::Fault::Cancelled) => "BAD Authentication cancelled.",
    }
}

fn refusal_words(why: Refusal) -> &'static str {
    match why {
        Refusal::BadCredentials => "NO [AUTHENTICATIONFAILED] Wrong user name or password.",
        Refusal::Forbidden => "NO [AUTHORIZATIONFAILED] This account may not log in here; ask your administrator.",
        Refusal::PassdbUnavailable => "NO [UNAVAILABLE] Logins cannot be checked at the moment; try again later.",
        Refusal::StoreUnavailable | Refusal::NoBackend | Refusal::BackendUnavailable | Refusal::BackendFull => {
            "NO [UNAVAILABLE] Your mailbox cannot be reached at the moment; try again later."
        }
        Refusal::HomeUnsettled => "NO [UNAVAILABLE] Your mailbox is not ready yet; try again in a minute.",
        Refusal::TooManySessions => {
            "NO [LIMIT] Too many connections to this mailbox; close some of them and try again."
        }
        Refusal::TooManyFromAddress => {
            "NO [LIMIT] Too many connections from your address to this mailbox; close some of them and try again."
        }
        Refusal::TooManyLogins => "NO [LIMIT] Too many logins from your address; try again in a minute.",
        Refusal::ShuttingDown => "NO [UNAVAILABLE] This server is going down; connect again.",
    }
}

fn answer(tag: &Tag, status: &str, text: &[u8], otherwise: &str, out: &mut Output) {
    let line = text.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    out.put(format!("{} {status} ", tag.as_str()));
    out.put(if line.is_empty() { otherwise.as_bytes() } else { line });
    out.put("\r\n");
}

/// To a client that is logged in: why this proxy ends its session. It may come back at once, to any proxy.
pub(super) fn last_words(why: Ending) -> &'static [u8] {
    match why {
        Ending::ClientIdle => b"* BYE Disconnected for inactivity.\r\n",
        Ending::Kicked => b"* BYE [UNAVAILABLE] Your mailbox has moved; connect again.\r\n",
        Ending::Isolated => b"* BYE [UNAVAILABLE] This server is cut off; connect again.\r\n",
        Ending::Shutdown => b"* BYE [UNAVAILABLE] This server is going down; connect again.\r\n",
        _ => b"",
    }
}

fn tagged(tag: Option<&Tag>, words: &str, out: &mut Output) {
    out.put(tag.map_or("*", Tag::as_str));
    out.put(" ");
    out.put(words);
    out.put("\r\n");
}
