//! The side that faces the mail client: from the greeting until the backend has taken over.

use super::command::{self, Command, Fault};
use super::reply;
use crate::model::{Credentials, Mechanism, Refusal, Secret};
use crate::protocol::line::without_end;
use crate::protocol::sasl::{self, Exchange, Progress};
use crate::protocol::tally::Tally;
use crate::protocol::{
    BackendRefusal, Bounds, ClientWish, Farewell, FrontendSettings, Handover, Input, Machine, Output, Violation,
};

/// A conversation with a mail client.
pub struct Frontend {
    settings: FrontendSettings,
    state: State,
    /// The name that USER gave and no PASS has used.
    user: Option<String>,
    proxy_ttl: Option<u32>,
    tally: Tally,
}

/// What comes next.
enum State {
    Command,
    /// An answer to a SASL prompt.
    Response(Exchange),
    /// Nothing, until the session says what became of the login.
    Verdict,
    /// Nothing, until TLS is up.
    Tls,
    /// Nothing at all.
    Over,
}

/// What a line led to.
enum Step {
    /// There may be more to do with what is in the input.
    Next(State),
    /// The line is not complete.
    Incomplete(State),
    Wish(State, ClientWish),
}

type Outcome = Result<Step, Violation>;

impl Frontend {
    /// For a client that has just come; [`greet`](crate::protocol::Frontend::greet) has the first word.
    pub fn new(settings: FrontendSettings) -> Self {
        Self { settings, state: State::Command, user: None, proxy_ttl: None, tally: Tally::default() }
    }

    fn bounds(&self) -> &Bounds {
        &self.settings.bounds
    }

    fn step(&mut self, state: State, input: &mut Input, out: &mut Output) -> Outcome {
        match state {
            State::Command => self.command(input, out),
            State::Response(exchange) => self.response(exchange, input, out),
            State::Verdict | State::Tls | State::Over => Ok(Step::Incomplete(state)),
        }
    }

    fn command(&mut self, input: &mut Input, out: &mut Output) -> Outcome {
        let Some(length) = input.line(self.bounds().line)? else { return Ok(Step::Incomplete(State::Command)) };
        self.tally.command(&self.settings.bounds)?;
        let private = self.settings.secured || self.settings.plaintext_login;
        let understood = command::parse(&input.filled()[..length], private);
        input.consume(length);
        match understood {
            Ok(command) => self.perform(command, input, out),
            Err(fault) => self.fault(fault, out),
        }
    }

    fn perform(&mut self, command: Command, input: &Input, out: &mut Output) -> Outcome {
        match command {
            Command::Capa => reply::capabilities(&self.settings, out),
            Command::Noop => reply::noop(out),
            Command::Mechanisms => reply::mechanisms(&self.settings, out),
            Command::Xclient(ttl) => {
                self.proxy_ttl = ttl;
                reply::announced(out);
            }
            Command::User(name) => {
                self.user = Some(name);
                reply::user(out);
            }
            Command::Quit => {
                reply::quit(out);
                return Ok(Step::Wish(State::Over, ClientWish::Logout));
            }
            Command::Stls => return self.start_tls(input, out),
            Command::Pass(password) => return self.pass(password, out),
            Command::Auth(exchange, Some(message)) => return self.answer(exchange, &message, out),
            Command::Auth(exchange, None) => return Ok(prompt(exchange, out)),
        }
        Ok(Step::Next(State::Command))
    }

    fn start_tls(&mut self, input: &Input, out: &mut Output) -> Outcome {
        if self.settings.secured {
            return self.fault(Fault::TlsIsOn, out);
        }
        if !self.settings.starttls {
            return self.fault(Fault::NoTls, out);
        }
        if !input.is_empty() {
            // Somebody on the way put these in front of what the client will say under TLS (CVE-2011-0411).
            return Err(Violation::InjectionBehindStartTls);
        }
        reply::begin_tls(out);
        Ok(Step::Wish(State::Tls, ClientWish::StartTls))
    }

    fn pass(&mut self, password: Secret, out: &mut Output) -> Outcome {
        let Some(user) = self.user.take() else { return self.fault(Fault::NoUser, out) };
        Ok(verify(Credentials { user, authzid: None, password, mechanism: Mechanism::Command }))
    }

    fn response(&mut self, exchange: Exchange, input: &mut Input, out: &mut Output) -> Outcome {
        let Some(length) = input.line(self.bounds().line)? else {
            return Ok(Step::Incomplete(State::Response(exchange)));
        };
        let line = without_end(&input.filled()[..length]);
        let message = if line == b"*" { Err(Fault::Cancelled) } else { sasl::decode(line).map_err(Fault::Sasl) };
        input.consume(length);
        match message {
            Ok(message) => self.answer(exchange, &message, out),
            Err(fault) => self.fault(fault, out),
        }
    }

    fn answer(&mut self, exchange: Exchange, message: &[u8], out: &mut Output) -> Outcome {
        match exchange.answer(message) {
            Ok(Progress::Done(given)) => Ok(verify(given)),
            Ok(Progress::Continue(exchange)) => Ok(prompt(exchange, out)),
            Err(fault) => self.fault(Fault::Sasl(fault), out),
        }
    }

    /// Answers a faulty command and goes on, unless it was one too many.
    fn fault(&mut self, fault: Fault, out: &mut Output) -> Outcome {
        reply::fault(fault, out);
        self.tally.error(&self.settings.bounds)?;
        Ok(Step::Next(State::Command))
    }

    /// The session refused the login, and the client was told.
    fn failed(&mut self) -> Result<(), Violation> {
        let verdict = self.tally.failure(&self.settings.bounds);
        self.state = if verdict.is_ok() { State::Command } else { State::Over };
        verdict
    }

    /// Whether the session has a login to judge.
    fn is_judged(&self) -> bool {
        matches!(self.state, State::Verdict)
    }
}

fn verify(given: Credentials) -> Step {
    Step::Wish(State::Verdict, ClientWish::Authenticate(given))
}

fn prompt(exchange: Exchange, out: &mut Output) -> Step {
    reply::prompt(exchange.prompt(), out);
    Step::Next(State::Response(exchange))
}

impl Machine for Frontend {
    type Wish = ClientWish;

    fn advance(&mut self, input: &mut Input, out: &mut Output) -> Result<Option<ClientWish>, Violation> {
        loop {
            let state = std::mem::replace(&mut self.state, State::Over);
            match self.step(state, input, out) {
                Ok(Step::Next(state)) => self.state = state,
                Ok(Step::Incomplete(state)) => {
                    self.state = state;
                    return Ok(None);
                }
                Ok(Step::Wish(state, wish)) => {
                    self.state = state;
                    return Ok(Some(wish));
                }
                Err(violation) => {
                    reply::violation(violation, self.bounds(), out);
                    return Err(violation);
                }
            }
        }
    }
}

impl crate::protocol::Frontend for Frontend {
    fn greet(&mut self, out: &mut Output) {
        reply::greeting(&self.settings, out);
    }

    /// RFC 2595 section 4: what was learnt before is worthless.
    fn secured(&mut self) {
        self.settings.secured = true;
        self.user = None;
        self.proxy_ttl = None;
        self.state = State::Command;
    }

    fn refuse(&mut self, why: Refusal, out: &mut Output) -> Result<(), Violation> {
        if !self.is_judged() {
            return Ok(());
        }
        reply::refusal(why, out);
        self.failed()
    }

    fn relay_refusal(&mut self, words: &BackendRefusal, out: &mut Output) -> Result<(), Violation> {
        if !self.is_judged() {
            return Ok(());
        }
        reply::relayed_refusal(&words.text, out);
        self.failed()
    }

    fn welcome(&mut self, handover: &Handover, out: &mut Output) {
        if self.is_judged() {
            self.state = State::Over;
            reply::welcome(handover, out);
        }
    }

    /// RFC 1939 section 3: a client that has asked nothing is told nothing.
    fn farewell(&mut self, why: Farewell, out: &mut Output) {
        if matches!(self.state, State::Response(_) | State::Verdict) {
            reply::farewell(why, out);
        }
        self.state = State::Over;
    }

    fn client_id(&self) -> &[(String, Option<String>)] {
        &[]
    }

    fn proxy_ttl(&self) -> Option<u32> {
        self.proxy_ttl
    }
}
