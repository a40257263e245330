//! The machines, told and asked in the words of the transcripts.

use homing::model::{Credentials, Mechanism, Proof, Protocol, Refusal, ScramHash, ScramKeys, Secret, SessionId};
use homing::protocol::sasl::{ScramGift, Terms};
use homing::protocol::{
    Announcement, Backend, BackendLogin, BackendRefusal, BackendWish, Bounds, ClientWish, Errand, Farewell, Frontend,
    FrontendSettings, Handover, Input, Means, Output, Referral, Violation, spoken,
};

use crate::escape::unescaped;

/// Either side.
pub(crate) enum Side {
    Front(Box<dyn Frontend>),
    Back(Box<dyn Backend>),
}

impl Side {
    /// As a header says: `frontend:` with `starttls`, `secured`, `plaintext`, `banner=`, `line=`, `literal=`,
    /// `commands=`, `errors=`, `failures=`, `host=`, `offers=line,line`; `backend:` with `user=`, `master=`, `password=`, `starttls`, `pipelining`,
    /// `noauth`, `token`, `certificate`, `utf8`, `forward=name/value`, `announce`, `client=` (its address), `tls` (of the client), `sni=`, `helo=`,
    /// `id=field/value`, and the errands `look` and `try`.
    pub(crate) fn new(protocol: Protocol, header: &str) -> Self {
        let settings = Settings(header);
        let side = match header.split(':').next() {
            Some("frontend") => spoken::frontend(protocol, settings.frontend()).map(Self::Front),
            Some("backend") => spoken::backend(protocol, settings.errand(), settings.backend()).map(Self::Back),
            _ => None,
        };
        side.unwrap_or_else(|| panic!("neither frontend nor backend: {header}"))
    }

    /// Bytes of one line.
    pub(crate) fn line(header: &str) -> usize {
        Settings(header).number("line", 512)
    }

    pub(crate) fn advance(&mut self, input: &mut Input, out: &mut Output) -> Result<Option<String>, Violation> {
        match self {
            Self::Front(machine) => Ok(machine.advance(input, out)?.map(client_wish)),
            Self::Back(machine) => Ok(machine.advance(input, out)?.map(backend_wish)),
        }
    }

    /// `greet`, `secured`, `refuse WORD`, `relay TEXT`, `welcome TEXT`, `welcome TEXT behind UNTAGGED`, `farewell WORD`.
    pub(crate) fn tell(&mut self, verdict: &str, out: &mut Output) -> Result<(), Violation> {
        let (word, rest) = verdict.split_once(' ').unwrap_or((verdict, ""));
        let machine = match self {
            Self::Back(machine) => {
                assert_eq!(word, "secured");
                machine.secured(out);
                return Ok(());
            }
            Self::Front(machine) => machine,
        };
        match word {
            "greet" => machine.greet(out),
            "secured" => machine.secured(),
            "refuse" => return machine.refuse(refusal(rest), out),
            "keys" => machine.give_keys(keys(), out),
            "relay" => {
                let words = BackendRefusal { text: unescaped(rest), ..BackendRefusal::default() };
                return machine.relay_refusal(&words, out);
            }
            "welcome" => {
                let (text, untagged) = rest.split_once(" behind ").unwrap_or((rest, ""));
                machine.welcome(&Handover { text: unescaped(text), untagged: unescaped(untagged) }, out);
            }
            "farewell" => machine.farewell(farewell(rest), out),
            _ => panic!("no such verdict: {verdict}"),
        }
        Ok(())
    }

    /// What a server has said that it offers, line by line, or the TTL and the name that a client has told.
    pub(crate) fn known(&self) -> String {
        match self {
            Self::Back(machine) => machine.offers().join(", "),
            Self::Front(machine) => {
                let mut ttl = machine.proxy_ttl().map_or("no TTL".to_owned(), |ttl| format!("TTL {ttl}"));
                ttl.push_str(if machine.utf8() { ", UTF8" } else { "" });
                machine.helo().map_or(ttl.clone(), |helo| format!("{ttl}, {helo}"))
            }
        }
    }

    /// `"field" "value" "field" NIL`.
    pub(crate) fn client_id(&self) -> String {
        let Self::Front(machine) = self else { panic!("only clients have an ID") };
        let value = |value: &Option<String>| value.as_ref().map_or("NIL".to_owned(), |value| format!("{value:?}"));
        let pairs = machine.client_id().iter().map(|(field, given)| format!("{field:?} {}", value(given)));
        pairs.collect::<Vec<_>>().join(" ")
    }
}

/// Those of RFC 7677 section 3, and the nonce there.
fn keys() -> ScramGift {
    let salt = [0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81];
    let rounds = std::num::NonZeroU32::new(4096).expect("not zero");
    let keys = ScramKeys::derive(ScramHash::Sha256, rounds, &salt, b"pencil");
    ScramGift { keys, nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned() }
}

fn client_wish(wish: ClientWish) -> String {
    match wish {
        ClientWish::StartTls => "starttls".to_owned(),
        ClientWish::Logout => "logout".to_owned(),
        ClientWish::Keys(wanted) => format!("keys of {} for {}", wanted.user, wanted.mechanism.name()),
        ClientWish::Authenticate(Credentials { user, authzid, proof, mechanism }) => {
            let authzid = authzid.map(|name| format!(" as {name}")).unwrap_or_default();
            let proof = match proof {
                Proof::Password(password) => format!("password {}", password.expose().escape_ascii()),
                Proof::Token(token) => format!("token {}", token.expose().escape_ascii()),
                Proof::Proven => "proven".to_owned(),
                Proof::Failed(_) => "failed".to_owned(),
            };
            format!("{} user {user} {proof}{authzid}", mechanism.name())
        }
    }
}

fn backend_wish(wish: BackendWish) -> String {
    match wish {
        BackendWish::StartTls => "starttls".to_owned(),
        BackendWish::Seen => "seen".to_owned(),
        BackendWish::LoggedIn(Handover { untagged, text }) if untagged.is_empty() => {
            format!("logged in: {}", text.escape_ascii())
        }
        BackendWish::LoggedIn(Handover { untagged, text }) => {
            format!("logged in: {} behind {}", text.escape_ascii(), untagged.escape_ascii())
        }
        BackendWish::Refused(BackendRefusal { text, temporary, referral }) => {
            let for_now = if temporary { " for now" } else { "" };
            format!("refused{for_now}{}: {}", referral.map(referred).unwrap_or_default(), text.escape_ascii())
        }
    }
}

fn referred(Referral { user, host, port }: Referral) -> String {
    let user = user.map(|user| format!(" as {user}")).unwrap_or_default();
    let port = port.map(|port| format!(" port {port}")).unwrap_or_default();
    format!(" to {host}{port}{user}")
}

fn refusal(word: &str) -> Refusal {
    let all = [
        Refusal::BadCredentials,
        Refusal::Forbidden,
        Refusal::PassdbUnavailable,
        Refusal::StoreUnavailable,
        Refusal::NoBackend,
        Refusal::BackendUnavailable,
        Refusal::BackendFull,
        Refusal::HomeUnsettled,
        Refusal::TooManySessions,
        Refusal::TooManyFromAddress,
        Refusal::TooManyLogins,
        Refusal::ShuttingDown,
    ];
    all.into_iter().find(|refusal| refusal.word() == word).unwrap_or_else(|| panic!("no such refusal: {word}"))
}

fn farewell(word: &str) -> Farewell {
    match word {
        "timed out" => Farewell::TimedOut,
        "overloaded" => Farewell::Overloaded,
        "shutting down" => Farewell::ShuttingDown,
        _ => panic!("no such farewell: {word}"),
    }
}

/// The words of a header.
struct Settings<'a>(&'a str);

impl Settings<'_> {
    fn frontend(&self) -> FrontendSettings {
        let bound = |name, default| u32::try_from(self.number(name, default)).expect("a small number");
        FrontendSettings {
            secured: self.has("secured"),
            starttls: self.has("starttls"),
            plaintext_login: self.has("plaintext"),
            banner: self.text("banner").unwrap_or_else(|| "homing ready.".to_owned()),
            host: self.text("host").unwrap_or_else(|| "proxy.example".to_owned()),
            offers: self.lines("offers").into(),
            sasl: self.terms().into(),
            bounds: Bounds {
                line: self.number("line", 512),
                literal: self.number("literal", 64),
                commands: bound("commands", 50),
                errors: bound("errors", 10),
                failures: bound("failures", 3),
            },
        }
    }

    fn terms(&self) -> Terms {
        let mut terms = Terms::default();
        if let Some(names) = self.value("sasl") {
            let known = |name: &str| Mechanism::of_name(name.as_bytes()).unwrap_or_else(|| panic!("no {name}"));
            terms.mechanisms = names.split(',').map(known).collect();
        }
        terms.bindings.exporter = self.text("exporter").map(String::into_bytes);
        terms.certificate = self.text("certificate");
        terms
    }

    fn errand(&self) -> Errand {
        match (self.has("look"), self.has("try")) {
            (true, _) => Errand::Look,
            (_, true) => Errand::Try,
            _ => Errand::Session,
        }
    }

    fn backend(&self) -> BackendLogin {
        BackendLogin {
            user: self.text("user").unwrap_or_else(|| "anna".to_owned()),
            master: self.text("master"),
            password: Secret::new(self.value("password").map_or(b"secret".to_vec(), unescaped)),
            means: match (self.has("token"), self.has("certificate")) {
                (true, _) => Means::Token,
                (_, true) => Means::Certificate,
                _ => Means::Password,
            },
            announce: self.has("announce").then(|| self.announcement()),
            starttls: self.has("starttls"),
            pipelining: self.has("pipelining"),
            host: "proxy.example".to_owned(),
            noauth: self.has("noauth"),
            forward: self.pairs("forward").into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect(),
            utf8: self.has("utf8"),
        }
    }

    fn announcement(&self) -> Announcement {
        Announcement {
            client: self.value("client").unwrap_or("[::ffff:192.0.2.7]:4711").parse().expect("an address"),
            local: "[2001:db8::1]:993".parse().expect("an address"),
            session: SessionId::new("s1"),
            ttl: u32::try_from(self.number("ttl", 4)).expect("a small number"),
            secured: self.has("tls"),
            server_name: self.text("sni"),
            helo: self.text("helo"),
            client_id: self.pairs("id"),
        }
    }

    /// `name=field/value,field/NIL`
    fn pairs(&self, name: &str) -> Vec<(String, Option<String>)> {
        let pair = |(field, value): (&str, &str)| {
            let value = String::from_utf8(unescaped(value)).expect("UTF-8");
            (field.to_owned(), (value != "NIL").then_some(value))
        };
        let texts = self.value(name).into_iter().flat_map(|pairs| pairs.split(','));
        texts.filter_map(|text| text.split_once('/')).map(pair).collect()
    }

    fn has(&self, word: &str) -> bool {
        self.0.split(' ').any(|found| found == word)
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn text(&self, name: &str) -> Option<String> {
        self.value(name).map(|value| String::from_utf8(unescaped(value)).expect("UTF-8"))
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let lines = self.text(name).map(|text| text.split(',').map(str::to_owned).collect());
        lines.unwrap_or_default()
    }

    fn number(&self, name: &str, default: usize) -> usize {
        self.value(name).map_or(default, |value| value.parse().expect("a number"))
    }
}
