//! The side that faces the mail server: from its greeting until the user is logged in.
//!
//! ```text
//! greeting -> EHLO -> [STARTTLS -> TLS -> EHLO] -> [XCLIENT ... -> EHLO] -> AUTH PLAIN
//! ```
//!
//! A server that is configured to take our word has no AUTH: there the user's name goes with XCLIENT. A probe says QUIT
//! where the login would be, or behind its 235. Only XCLIENT and the EHLO behind it are sent without waiting, and only to
//! a server that offers PIPELINING; the login is always alone in a write.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::command::is_proper_name;
use super::response::{Keywords, Partial, Reply};
use super::xclient;
use crate::model::Mechanism;
use crate::protocol::step::{self, Unsaid};
use crate::protocol::{
    BackendLogin, BackendRefusal, BackendWish, Errand, Handover, Input, Machine, Output, Stage, Violation, sasl,
};

/// Bytes of an AUTH command with its response (RFC 5321 4.5.3.1.4); one that is longer goes without.
const COMMAND: usize = 512;
/// Bytes of a line of a SASL exchange, its CRLF included (RFC 4954 section 4).
const RESPONSE: usize = 12_288;

/// What a probe says where a login would be, or behind it.
const GOODBYE: &str = "QUIT\r\n";

/// A conversation with a mail server.
pub struct Backend {
    login: BackendLogin,
    errand: Errand,
    state: State,
    stage: Stage,
    partial: Partial,
    /// What the server offered in its last answer to EHLO.
    keywords: Keywords,
    /// What it offers to those who log in; empty until that is known.
    offers: Vec<String>,
    /// TLS was not demanded, or is up.
    secured: bool,
    /// XCLIENT has been said.
    announced: bool,
}

/// What is awaited.
enum State {
    Greeting,
    /// The answer to EHLO.
    Hello,
    /// The answer to STARTTLS.
    StartTls,
    /// That the session has done the TLS handshake.
    Tls,
    /// The answers to XCLIENT.
    Announced(Announcing),
    /// The answer to the login.
    Login(LoggingIn),
    Over,
}

/// A login under way.
struct LoggingIn {
    unsaid: Unsaid,
    /// What answers a prompt that we have nothing for.
    last: &'static str,
}

/// XCLIENT under way.
struct Announcing {
    /// Answers that are still to come.
    owed: usize,
    /// What is sent at each answer; the last of it is EHLO.
    unsaid: VecDeque<String>,
}

type Step = step::Step<State>;
type Outcome = Result<Step, Violation>;

impl Backend {
    /// For a connection that is up, with TLS if the port has TLS from the start. The server has the first word. Who only
    /// looks needs neither user nor password.
    pub fn on(errand: Errand, login: BackendLogin) -> Self {
        Self {
            secured: !login.starttls,
            login,
            errand,
            state: State::Greeting,
            stage: Stage::Greeting,
            partial: Partial::default(),
            keywords: Keywords::default(),
            offers: Vec::new(),
            announced: false,
        }
    }

    fn respond(&mut self, state: State, reply: &Reply, rest: bool, out: &mut Output) -> Outcome {
        match (state, reply.code) {
            (State::Login(login), _) => self.during_login(login, reply, out),
            (_, 421) => Err(Violation::TurnedAway),
            (State::Greeting, 220) => {
                self.stage = Stage::Dialogue;
                Ok(Step::Next(self.hello(out)))
            }
            (State::Greeting, 400..) => Err(Violation::TurnedAway),
            (State::Greeting, _) => Err(Violation::Nonsense("no SMTP greeting")),
            (State::Hello, 250) => {
                self.keywords = Keywords::parse(reply);
                self.go_on(out)
            }
            (State::Hello, 400..=499) => Err(Violation::TurnedAway),
            (State::Hello, _) => Err(Violation::Missing("EHLO")),
            (State::StartTls, code) => start_tls(code, rest),
            (State::Announced(announcing), code) => self.heard(announcing, code, out),
            (State::Tls | State::Over, _) => Err(Violation::Nonsense("an answer to nothing that was asked")),
        }
    }

    fn hello(&self, out: &mut Output) -> State {
        out.put(self.ehlo());
        State::Hello
    }

    /// In the client's name, which is what the server knows it by in mails and logs; a probe has our own.
    fn ehlo(&self) -> String {
        let client = self.login.announce.as_ref().and_then(|client| client.helo.as_deref());
        let names = [client.unwrap_or_default(), &self.login.host];
        let name = names.into_iter().find(|name| is_proper_name(name)).unwrap_or("homing");
        format!("EHLO {name}\r\n")
    }

    /// TLS, then who the client is, then the login.
    fn go_on(&mut self, out: &mut Output) -> Outcome {
        if !self.secured {
            if !self.keywords.starttls {
                return Err(Violation::Missing("STARTTLS"));
            }
            out.put("STARTTLS\r\n");
            return Ok(Step::Next(State::StartTls));
        }
        if !self.announced {
            self.is_possible()?;
            if self.errand != Errand::Look
                && let Some(announcing) = self.announce(out)
            {
                return Ok(Step::Next(State::Announced(announcing)));
            }
        }
        self.log_in(out)
    }

    /// A server that takes our word must say so; what others offer may yet change with XCLIENT.
    fn is_possible(&self) -> Result<(), Violation> {
        let listed = self.keywords.xclient.iter().any(|name| name == xclient::LOGIN);
        if self.login.noauth && !listed { Err(Violation::Missing("XCLIENT LOGIN")) } else { Ok(()) }
    }

    /// `None` if there is nothing to tell.
    fn announce(&mut self, out: &mut Output) -> Option<Announcing> {
        let mut unsaid = VecDeque::from(xclient::commands(&self.keywords.xclient, &self.login));
        let owed = unsaid.len();
        if owed == 0 {
            return None;
        }
        self.announced = true;
        if self.login.noauth {
            self.stage = Stage::Login;
        }
        // The server has forgotten who we are, and may offer more to this client.
        unsaid.push_back(self.ehlo());
        let at_once = if self.login.pipelining && self.keywords.pipelining { unsaid.len() } else { 1 };
        unsaid.drain(..at_once).for_each(|command| out.put(command));
        Some(Announcing { owed, unsaid })
    }

    /// Refused or not: without it the server takes our address for the client's, and the user still comes in; unless
    /// XCLIENT was the login.
    fn heard(&self, mut announcing: Announcing, code: u16, out: &mut Output) -> Outcome {
        match code {
            200..=299 => {}
            _ if !self.login.noauth => {}
            400..=499 => return Err(Violation::TurnedAway),
            _ => return Err(Violation::Missing("XCLIENT LOGIN")),
        }
        if let Some(next) = announcing.unsaid.pop_front() {
            out.put(next);
        }
        announcing.owed -= 1;
        Ok(Step::Next(if announcing.owed == 0 { State::Hello } else { State::Announced(announcing) }))
    }

    fn log_in(&mut self, out: &mut Output) -> Outcome {
        let mechanism = if self.login.noauth {
            None
        } else {
            let mechanism = self.login.mechanism(self.keywords.plain, self.keywords.sasl)?;
            Some(mechanism.ok_or(Violation::Missing("AUTH PLAIN"))?)
        };
        self.offers = self.keywords.shown.clone();
        if self.errand == Errand::Look {
            return Ok(Step::goodbye(State::Over, GOODBYE, out));
        }
        let Some(mechanism) = mechanism else {
            // Never without XCLIENT: `heard` has seen that it was taken.
            return if self.announced {
                Ok(self.logged_in(b"", out))
            } else {
                Err(Violation::Missing("XCLIENT LOGIN"))
            };
        };
        self.stage = Stage::Login;
        let Some(response) = self.response(mechanism) else { return Ok(unsayable()) };
        let begin = format!("AUTH {}", mechanism.name());
        out.put(begin.as_str());
        let unsaid = if begin.len() + 1 + response.len() <= COMMAND {
            out.put(" ");
            out.put(response.as_slice());
            Unsaid::default()
        } else {
            out.put("\r\n");
            Unsaid::pieces([response])
        };
        let last = self.login.nothing_more(mechanism);
        Ok(Step::Next(State::Login(LoggingIn { unsaid, last })))
    }

    /// The line that logs in; `None` if that cannot be said.
    fn response(&self, mechanism: Mechanism) -> Option<Zeroizing<Vec<u8>>> {
        let response = sasl::encode(&self.login.message(mechanism)?);
        let line = Zeroizing::new([response.as_bytes(), b"\r\n"].concat());
        (line.len() <= RESPONSE).then_some(line)
    }

    fn during_login(&self, mut login: LoggingIn, reply: &Reply, out: &mut Output) -> Outcome {
        match reply.code {
            200..=299 => Ok(self.logged_in(reply.text(), out)),
            334 => {
                login.unsaid.go_on(&format!("{}\r\n", login.last), out)?;
                Ok(Step::Next(State::Login(login)))
            }
            // How it wants to be asked, whoever asks: for the operator to mend.
            502..=504 | 523 | 530 | 538 => Err(Violation::Missing("AUTH PLAIN")),
            400..=599 => Ok(refused(reply.code, reply.text())),
            _ => Err(Violation::Nonsense("no answer to AUTH")),
        }
    }

    fn logged_in(&self, text: &[u8], out: &mut Output) -> Step {
        if self.errand == Errand::Try {
            return Step::goodbye(State::Over, GOODBYE, out);
        }
        let handover = Handover { untagged: Vec::new(), text: text.to_vec() };
        Step::Wish(State::Over, BackendWish::LoggedIn(handover))
    }
}

fn start_tls(code: u16, rest: bool) -> Outcome {
    if code != 220 {
        return Err(Violation::Missing("STARTTLS"));
    }
    Step::tls(State::Tls, rest)
}

/// The text begins with the code: it says more than the words do.
fn refused(code: u16, text: &[u8]) -> Step {
    let refusal = BackendRefusal {
        text: [code.to_string().as_bytes(), b" ", text].concat(),
        temporary: code < 500,
        referral: None,
    };
    Step::Wish(State::Over, BackendWish::Refused(refusal))
}

fn unsayable() -> Step {
    refused(535, b"5.7.8 This name or password cannot be passed on.")
}

impl Machine for Backend {
    type Wish = BackendWish;

    fn advance(&mut self, input: &mut Input, out: &mut Output) -> Result<Option<BackendWish>, Violation> {
        loop {
            if matches!(self.state, State::Tls | State::Over) {
                return Ok(None);
            }
            let Some(length) = input.line(usize::MAX)? else { return Ok(None) };
            let reply = self.partial.add(&input.filled()[..length]);
            input.consume(length);
            let Some(reply) = reply? else { continue };
            let state = std::mem::replace(&mut self.state, State::Over);
            if let Some(wish) = self.respond(state, &reply, !input.is_empty(), out)?.enter(&mut self.state) {
                return Ok(Some(wish));
            }
        }
    }
}

impl crate::protocol::Backend for Backend {
    fn stage(&self) -> Stage {
        self.stage
    }

    /// RFC 3207 section 4.2: what it offered before is worthless.
    fn secured(&mut self, out: &mut Output) {
        self.secured = true;
        self.keywords = Keywords::default();
        self.state = self.hello(out);
    }

    fn offers(&self) -> &[String] {
        &self.offers
    }
}
