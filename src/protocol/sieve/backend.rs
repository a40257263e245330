//! The side that faces the mail server: from its greeting until the user is logged in.
//!
//! ```text
//! capabilities, OK -> [STARTTLS -> TLS -> capabilities, OK] -> [XCLIENT] -> AUTHENTICATE "PLAIN"
//! ```
//!
//! A probe says LOGOUT where the login would be, or behind its OK.
//!
//! Servers list their capabilities by themselves, behind XCLIENT as well, and such a list ends in an OK of its own. That
//! OK is never taken for the answer to the login, and nothing of the list is left for the client.

use zeroize::Zeroizing;

use super::capability::Capabilities;
use super::response::{self, Response, Status};
use super::token;
use crate::model::Mechanism;
use crate::protocol::line::announced;
use crate::protocol::step::{self, Unsaid};
use crate::protocol::{
    BackendLogin, BackendRefusal, BackendWish, Errand, Handover, Input, Machine, Output, Stage, Violation, sasl,
    xclient,
};

/// Bytes of a response with literals.
const RESPONSE: usize = 16 * 1024;
/// Bytes that a server may say before the login is complete; Dovecot's capabilities are below 1 KiB.
const DIALOGUE: usize = 64 * 1024;

/// What a probe says where a login would be, or behind it.
const GOODBYE: &str = "LOGOUT\r\n";

/// A conversation with a mail server.
pub struct Backend {
    login: BackendLogin,
    errand: Errand,
    state: State,
    stage: Stage,
    /// TLS was not demanded, or is up.
    secured: bool,
    offers: Capabilities,
    /// What of it clients are shown, once all of it has come.
    shown: Vec<String>,
    /// What has come of a response with literals.
    partial: Vec<u8>,
    /// Bytes of its literal that are still to come.
    left: usize,
    /// Bytes heard.
    heard: usize,
}

/// What is awaited.
enum State {
    /// Capabilities, and the OK behind them.
    Greeting,
    /// The answer to STARTTLS.
    StartTls,
    /// That the session has done the TLS handshake.
    Tls,
    /// The answer to XCLIENT. The login may have gone out behind it.
    Announced(Option<LoggingIn>),
    /// The answer to AUTHENTICATE.
    Login(LoggingIn),
    Over,
}

/// A login under way.
struct LoggingIn {
    /// The response, for a server that asks for it although it was in the command.
    unsaid: Unsaid,
    /// What answers a prompt that we have nothing for.
    last: &'static str,
    /// By a token: what is wrong with it comes as a prompt.
    by_token: bool,
    /// Capabilities come, and an OK that ends them.
    listing: bool,
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
            offers: Capabilities::default(),
            shown: Vec::new(),
            partial: Vec::new(),
            left: 0,
            heard: 0,
        }
    }

    fn respond(&mut self, state: State, response: Response<'_>, rest: bool, out: &mut Output) -> Outcome {
        match (state, response) {
            (_, Response::Status(Status::Bye, text)) if self.stage == Stage::Login => Ok(turned_away(text)),
            (_, Response::Status(Status::Bye, _)) => Err(Violation::TurnedAway),
            (State::Greeting, Response::Strings(name, value)) => {
                self.offers.add(&name, value.as_ref().map(|value| value.as_slice()));
                Ok(Step::Next(State::Greeting))
            }
            (State::Greeting, Response::Status(Status::Ok, _)) => {
                self.stage = Stage::Dialogue;
                self.go_on(out)
            }
            (State::StartTls, Response::Status(Status::Ok, _)) => Step::tls(State::Tls, rest),
            (State::StartTls, Response::Status(..)) => Err(Violation::Missing("STARTTLS")),
            (State::Announced(ahead), Response::Strings(..)) => Ok(Step::Next(State::Announced(ahead))),
            // A server that does not take it back after all sees the wrong address, and its log says so.
            (State::Announced(Some(login)), Response::Status(..)) => Ok(Step::Next(State::Login(login))),
            (State::Announced(None), Response::Status(..)) => {
                self.mechanism().map(|mechanism| self.log_in(mechanism, out))
            }
            (State::Login(login), response) => self.during_login(login, response, out),
            _ => Err(Violation::Nonsense("an answer to nothing that was asked")),
        }
    }

    /// TLS, then who the client is, then the login.
    fn go_on(&mut self, out: &mut Output) -> Outcome {
        if !self.secured {
            if !self.offers.starttls {
                return Err(Violation::Missing("STARTTLS"));
            }
            out.put("STARTTLS\r\n");
            return Ok(Step::Next(State::StartTls));
        }
        self.shown = std::mem::take(&mut self.offers.shown);
        let mechanism = self.mechanism()?;
        if self.errand == Errand::Look {
            return Ok(Step::goodbye(State::Over, GOODBYE, out));
        }
        let Some(client) = self.login.announce.as_ref().filter(|_| self.offers.xclient) else {
            return Ok(self.log_in(mechanism, out));
        };
        out.put(xclient::line(client));
        if !self.login.pipelining {
            return Ok(Step::Next(State::Announced(None)));
        }
        Ok(match self.log_in(mechanism, out) {
            Step::Next(State::Login(login)) => Step::Next(State::Announced(Some(login))),
            refused => refused,
        })
    }

    fn mechanism(&self) -> Result<Mechanism, Violation> {
        self.login.mechanism(self.offers.plain, self.offers.sasl)?.ok_or(Violation::Missing("SASL PLAIN"))
    }

    fn log_in(&mut self, mechanism: Mechanism, out: &mut Output) -> Step {
        let Some(message) = self.login.message(mechanism) else {
            return refused(b"\"This name or password cannot be passed on.\"".to_vec(), false);
        };
        let response = token::string(sasl::encode(&message).as_bytes());
        let response = Zeroizing::new([response.as_slice(), b"\r\n"].concat());
        self.stage = Stage::Login;
        out.put(format!("AUTHENTICATE \"{}\" ", mechanism.name()));
        out.put(response.as_slice());
        Step::Next(State::Login(LoggingIn {
            unsaid: Unsaid::pieces([response]),
            last: self.login.nothing_more(mechanism),
            by_token: mechanism.is_by_token(),
            listing: false,
        }))
    }

    fn during_login(&self, mut login: LoggingIn, response: Response<'_>, out: &mut Output) -> Outcome {
        match response {
            Response::Strings(text, None) if !login.listing && login.is_prompt(&text) => {
                if !text.is_empty() {
                    login.unsaid.forget(); // the token has been understood, and refused
                }
                login.unsaid.go_on(&format!("\"{}\"\r\n", login.last), out)?;
                Ok(Step::Next(State::Login(login)))
            }
            Response::Strings(..) => {
                login.listing = true;
                Ok(Step::Next(State::Login(login)))
            }
            Response::Status(..) if login.listing => {
                login.listing = false;
                Ok(Step::Next(State::Login(login)))
            }
            Response::Status(Status::Ok, _) if self.errand == Errand::Try => {
                Ok(Step::goodbye(State::Over, GOODBYE, out))
            }
            Response::Status(Status::Ok, text) => {
                let text = response::without_sasl(text).to_vec();
                let handover = Handover { untagged: Vec::new(), text };
                Ok(Step::Wish(State::Over, BackendWish::LoggedIn(handover)))
            }
            Response::Status(_, text) => Ok(refused(text.to_vec(), response::is_temporary(text))),
        }
    }

    /// Takes a line, and what is complete with it. `rest`: there is more in the input.
    fn line(&mut self, line: &[u8], rest: bool, out: &mut Output) -> Result<Option<Step>, Violation> {
        self.heard += line.len();
        if self.heard > DIALOGUE {
            return Err(Violation::Nonsense("too much before login is complete"));
        }
        if let Some(literal) = announced(line) {
            if literal.size.saturating_add(self.partial.len()) > RESPONSE {
                return Err(Violation::Nonsense("a literal too long before login is complete"));
            }
            self.partial.extend_from_slice(line);
            self.left = literal.size;
            return Ok(None);
        }
        let state = std::mem::replace(&mut self.state, State::Over);
        if self.partial.is_empty() {
            return self.respond(state, response::parse(line)?, rest, out).map(Some);
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(line);
        self.respond(state, response::parse(&whole)?, rest, out).map(Some)
    }

    /// Takes what has come of a literal.
    fn literal(&mut self, input: &mut Input) {
        let length = self.left.min(input.filled().len());
        self.partial.extend_from_slice(&input.filled()[..length]);
        self.heard += length;
        self.left -= length;
        input.consume(length);
    }
}

impl LoggingIn {
    /// Nothing, or the JSON that says what is wrong with a token. A list of capabilities, which servers send by themselves,
    /// has strings alone in a line, too.
    fn is_prompt(&self, text: &[u8]) -> bool {
        text.is_empty() || (self.by_token && sasl::decode(text).is_ok_and(|about| about.starts_with(b"{")))
    }
}

/// A BYE instead of an answer, with a code that tells clients not to ask for another password.
fn turned_away(text: &[u8]) -> Step {
    if response::code(text).is_some() {
        return refused(text.to_vec(), true);
    }
    let blank: &[u8] = if text.is_empty() { b"" } else { b" " };
    refused([b"(TRYLATER)", blank, text].concat(), true)
}

fn refused(text: Vec<u8>, temporary: bool) -> Step {
    let referral = response::referral(&text);
    Step::Wish(State::Over, BackendWish::Refused(BackendRefusal { text, temporary, referral }))
}

impl Machine for Backend {
    type Wish = BackendWish;

    fn advance(&mut self, input: &mut Input, out: &mut Output) -> Result<Option<BackendWish>, Violation> {
        loop {
            if matches!(self.state, State::Tls | State::Over) {
                return Ok(None);
            }
            self.literal(input);
            if self.left > 0 {
                return Ok(None);
            }
            let Some(length) = input.line(usize::MAX)? else { return Ok(None) };
            let (line, rest) = input.filled().split_at(length);
            let step = self.line(line, !rest.is_empty(), out);
            input.consume(length);
            if let Some(wish) = step?.and_then(|step| step.enter(&mut self.state)) {
                return Ok(Some(wish));
            }
        }
    }
}

impl crate::protocol::Backend for Backend {
    fn stage(&self) -> Stage {
        self.stage
    }

    /// RFC 5804 section 2.2: what it offered before is worthless, and it says by itself what it offers now.
    fn secured(&mut self, _: &mut Output) {
        self.secured = true;
        self.offers = Capabilities::default();
        self.state = State::Greeting;
    }

    fn offers(&self) -> &[String] {
        &self.shown
    }
}
