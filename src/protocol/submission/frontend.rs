//! The side that faces the mail client: from the greeting until the backend has taken over.

use super::command::{self, Command, Fault, Verb};
use super::reply;
use crate::model::{Credentials, Refusal};
use crate::protocol::sasl::{self, Exchange, Progress};
use crate::protocol::tally::Tally;
use crate::protocol::{
    BackendRefusal, Bounds, ClientWish, Farewell, FrontendSettings, Handover, Input, Machine, Output, Violation,
};

/// A conversation with a mail client.
pub struct Frontend {
    settings: FrontendSettings,
    state: State,
    hello: Option<Hello>,
    tally: Tally,
}

/// How the client has introduced itself.
struct Hello {
    name: String,
    /// By EHLO.
    extended: bool,
}

/// What comes next.
enum State {
    Command,
    /// So many bytes of a mail that nobody wants: refused, and not to be taken for commands.
    Unwanted(usize),
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
    /// What is awaited is not complete.
    Incomplete(State),
    Wish(State, ClientWish),
}

type Outcome = Result<Step, Violation>;

impl Frontend {
    /// For a client that has just come; [`greet`](crate::protocol::Frontend::greet) has the first word.
    pub fn new(settings: FrontendSettings) -> Self {
        Self { settings, state: State::Command, hello: None, tally: Tally::default() }
    }

    fn bounds(&self) -> &Bounds {
        &self.settings.bounds
    }

    fn step(&mut self, state: State, input: &mut Input, out: &mut Output) -> Outcome {
        match state {
            State::Command => self.command(input, out),
            State::Unwanted(left) => Ok(discard(left, input)),
            State::Response(exchange) => self.response(exchange, input, out),
            State::Verdict | State::Tls | State::Over => Ok(Step::Incomplete(state)),
        }
    }

    fn command(&mut self, input: &mut Input, out: &mut Output) -> Outcome {
        let Some(length) = input.line(self.bounds().line)? else { return Ok(Step::Incomplete(State::Command)) };
        self.tally.command(&self.settings.bounds)?;
        let understood = self.understand(&input.filled()[..length]);
        input.consume(length);
        match understood {
            Ok(command) => self.perform(command, input, out),
            Err(fault) => self.fault(fault, out),
        }
    }

    /// Parses a command. A password that may not be sent is not even looked at.
    fn understand(&self, line: &[u8]) -> Result<Command, Fault> {
        let private = self.settings.secured || self.settings.plaintext_login;
        match command::head(line) {
            Ok((Verb::Auth, _)) if !private => Err(Fault::TlsRequired),
            Ok((Verb::Auth, _)) if !self.hello.as_ref().is_some_and(|hello| hello.extended) => Err(Fault::EhloFirst),
            Ok((verb, rest)) => command::body(verb, rest),
            Err(Fault::LogInFirst) => Err(self.log_in_first()),
            Err(fault) => Err(fault),
        }
    }

    /// RFC 3207 section 4: what a client must do first, while it cannot log in either.
    fn log_in_first(&self) -> Fault {
        let locked = !self.settings.secured && !self.settings.plaintext_login && self.settings.starttls;
        if locked { Fault::TlsFirst } else { Fault::LogInFirst }
    }

    fn perform(&mut self, command: Command, input: &Input, out: &mut Output) -> Outcome {
        match command {
            Command::Ehlo(name) => {
                self.hello = Some(Hello { name, extended: true });
                reply::ehlo(&self.settings, out);
            }
            Command::Helo(name) => {
                self.hello = Some(Hello { name, extended: false });
                reply::helo(&self.settings, out);
            }
            Command::Rset | Command::Noop => reply::done(out),
            Command::Help => reply::help(out),
            Command::Quit => {
                reply::quit(out);
                return Ok(Step::Wish(State::Over, ClientWish::Logout));
            }
            Command::StartTls => return self.start_tls(input, out),
            Command::Bdat(size) => return self.unwanted(size, out),
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

    /// RFC 3030 section 2: the bytes come whatever we say. Swallowing any number would let a stranger keep us reading.
    fn unwanted(&mut self, size: usize, out: &mut Output) -> Outcome {
        if size > self.bounds().literal {
            return Err(Violation::LiteralTooLong);
        }
        let fault = self.log_in_first();
        self.fault(fault, out)?;
        Ok(Step::Next(State::Unwanted(size)))
    }

    fn response(&mut self, exchange: Exchange, input: &mut Input, out: &mut Output) -> Outcome {
        let Some(length) = input.line(self.bounds().line)? else {
            return Ok(Step::Incomplete(State::Response(exchange)));
        };
        let line = command::without_end(&input.filled()[..length]);
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

    /// The client was told that its login is refused.
    fn failed(&mut self, out: &mut Output) -> Result<(), Violation> {
        self.tally.failure(&self.settings.bounds).map_err(|violation| self.violated(violation, out))
    }

    /// Nothing more is taken from this client; tells it why.
    fn violated(&mut self, what: Violation, out: &mut Output) -> Violation {
        self.state = State::Over;
        reply::violation(what, self.bounds(), out);
        what
    }

    /// Whether the session has a verdict to give; if so, the next command may come.
    fn is_judged(&mut self) -> bool {
        let waits = matches!(self.state, State::Verdict);
        if waits {
            self.state = State::Command;
        }
        waits
    }
}

fn verify(given: Credentials) -> Step {
    Step::Wish(State::Verdict, ClientWish::Authenticate(given))
}

fn prompt(exchange: Exchange, out: &mut Output) -> Step {
    reply::prompt(exchange.prompt(), out);
    Step::Next(State::Response(exchange))
}

fn discard(left: usize, input: &mut Input) -> Step {
    let length = left.min(input.filled().len());
    input.consume(length);
    if length < left { Step::Incomplete(State::Unwanted(left - length)) } else { Step::Next(State::Command) }
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
                Err(violation) => return Err(self.violated(violation, out)),
            }
        }
    }
}

impl crate::protocol::Frontend for Frontend {
    fn greet(&mut self, out: &mut Output) {
        reply::greeting(&self.settings, out);
    }

    /// RFC 3207 section 4.2: the client must introduce itself again. The counters stay; else STARTTLS would reset them.
    fn secured(&mut self) {
        self.settings.secured = true;
        self.hello = None;
        self.state = State::Command;
    }

    fn refuse(&mut self, why: Refusal, out: &mut Output) -> Result<(), Violation> {
        if !self.is_judged() {
            return Ok(());
        }
        reply::refusal(why, out);
        self.failed(out)
    }

    fn relay_refusal(&mut self, words: &BackendRefusal, out: &mut Output) -> Result<(), Violation> {
        if !self.is_judged() {
            return Ok(());
        }
        reply::relayed_refusal(words, out);
        self.failed(out)
    }

    fn welcome(&mut self, handover: &Handover, out: &mut Output) {
        if self.is_judged() {
            self.state = State::Over;
            reply::welcome(handover, out);
        }
    }

    fn farewell(&mut self, why: Farewell, out: &mut Output) {
        self.state = State::Over;
        reply::farewell(why, out);
    }

    fn client_id(&self) -> &[(String, Option<String>)] {
        &[]
    }

    fn proxy_ttl(&self) -> Option<u32> {
        None
    }

    fn helo(&self) -> Option<&str> {
        self.hello.as_ref().map(|hello| hello.name.as_str())
    }
}
