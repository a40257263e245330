//! The side that faces the mail client: from the greeting until the backend has taken over.

use zeroize::Zeroizing;

use super::command::{self, Command, Fault};
use super::reply;
use crate::model::Refusal;
use crate::protocol::buffer::append;
use crate::protocol::line::announced;
use crate::protocol::sasl::{Exchange, Progress};
use crate::protocol::tally::Tally;
use crate::protocol::{
    BackendRefusal, Bounds, ClientWish, Farewell, FrontendSettings, Handover, Input, Machine, Output, Violation,
};

/// A conversation with a mail client.
pub struct Frontend {
    settings: FrontendSettings,
    state: State,
    proxy_ttl: Option<u32>,
    tally: Tally,
}

/// What comes next.
enum State {
    /// Our capabilities, which a client may await behind STARTTLS without asking.
    Greeting,
    /// A line: the first, or one whose literal has come.
    Line(Awaited, Partial),
    /// So many bytes of a literal, then a line.
    Literal(Awaited, Partial, usize),
    /// Nothing, until the session says what became of the login.
    Verdict,
    /// Nothing, until TLS is up.
    Tls,
    /// Nothing at all.
    Over,
}

/// What the client is in the midst of saying.
enum Awaited {
    Command,
    /// An answer to a SASL prompt.
    Response(Exchange),
}

/// What has come of something that is not complete. It may be larger than the input.
#[derive(Default)]
struct Partial {
    bytes: Zeroizing<Vec<u8>>,
    /// Bytes outside literals, which together may be one line.
    text: usize,
    /// Bytes of literals.
    literals: usize,
}

/// Something complete.
enum Said {
    Command(Result<Command, Fault>),
    Response(Exchange, Result<Zeroizing<Vec<u8>>, Fault>),
}

/// What an event led to.
enum Step {
    /// There may be more to do with what is in the input.
    Next(State),
    /// The line or literal is not complete.
    Incomplete(State),
    Wish(State, ClientWish),
}

type Outcome = Result<Step, Violation>;

impl Frontend {
    /// For a client that has just come; [`greet`](crate::protocol::Frontend::greet) has the first word.
    pub fn new(settings: FrontendSettings) -> Self {
        Self { settings, state: State::default(), proxy_ttl: None, tally: Tally::default() }
    }

    fn bounds(&self) -> &Bounds {
        &self.settings.bounds
    }

    fn step(&mut self, state: State, input: &mut Input, out: &mut Output) -> Outcome {
        match state {
            State::Greeting => {
                reply::greeting(&self.settings, out);
                Ok(Step::Next(State::default()))
            }
            State::Line(awaited, partial) => self.line(awaited, partial, input, out),
            State::Literal(awaited, partial, left) => Ok(partial.literal(awaited, left, input)),
            State::Verdict | State::Tls | State::Over => Ok(Step::Incomplete(state)),
        }
    }

    fn line(&mut self, awaited: Awaited, mut partial: Partial, input: &mut Input, out: &mut Output) -> Outcome {
        let Some(length) = input.line(self.bounds().line.saturating_sub(partial.text))? else {
            return Ok(Step::Incomplete(State::Line(awaited, partial)));
        };
        if partial.text == 0 && matches!(awaited, Awaited::Command) {
            self.tally.command(&self.settings.bounds)?;
        }
        if let Some(literal) = announced(&input.filled()[..length]) {
            // RFC 5804 section 4: nobody waits for leave to send it. One that is too long cannot be refused, only left.
            self.permit(&partial, literal.size)?;
            partial.take_text(length, input);
            partial.literals += literal.size;
            return Ok(Step::Next(State::Literal(awaited, partial, literal.size)));
        }
        let said = if partial.text == 0 {
            // The usual case: all in one line. It is understood where it lies and copied nowhere.
            let said = self.understand(awaited, &input.filled()[..length]);
            input.consume(length);
            said
        } else {
            partial.take_text(length, input);
            self.understand(awaited, &partial.bytes)
        };
        match said {
            Said::Command(Ok(command)) => self.perform(command, input, out),
            Said::Response(exchange, Ok(message)) => self.answer(exchange, &message, out),
            Said::Command(Err(fault)) | Said::Response(_, Err(fault)) => self.fault(fault, out),
        }
    }

    /// Two literals are an AUTHENTICATE; a command of many small ones must not hold more than that.
    fn permit(&self, partial: &Partial, size: usize) -> Result<(), Violation> {
        let bound = self.bounds().literal;
        if size > bound || partial.literals + size > bound.saturating_mul(2) {
            return Err(Violation::LiteralTooLong);
        }
        Ok(())
    }

    fn understand(&self, awaited: Awaited, bytes: &[u8]) -> Said {
        let private = self.settings.secured || self.settings.plaintext_login;
        match awaited {
            Awaited::Command => Said::Command(command::parse(bytes, private)),
            Awaited::Response(exchange) => Said::Response(exchange, command::response(bytes)),
        }
    }

    fn perform(&mut self, command: Command, input: &Input, out: &mut Output) -> Outcome {
        match command {
            Command::Capability => reply::capability(&self.settings, out),
            Command::Noop(tag) => reply::noop(tag.as_deref(), out),
            Command::Xclient(ttl) => {
                self.proxy_ttl = ttl;
                reply::announced(out);
            }
            Command::Logout => {
                reply::logout(out);
                return Ok(Step::Wish(State::Over, ClientWish::Logout));
            }
            Command::StartTls => return self.start_tls(input, out),
            Command::Authenticate(exchange, Some(message)) => return self.answer(exchange, &message, out),
            Command::Authenticate(exchange, None) => return Ok(prompt(exchange, out)),
        }
        Ok(Step::Next(State::default()))
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

    fn answer(&mut self, exchange: Exchange, message: &[u8], out: &mut Output) -> Outcome {
        match exchange.answer(message) {
            Ok(Progress::Done(given)) => Ok(Step::Wish(State::Verdict, ClientWish::Authenticate(given))),
            Ok(Progress::Continue(exchange)) => Ok(prompt(exchange, out)),
            Err(fault) => self.fault(Fault::Sasl(fault), out),
        }
    }

    /// Answers a faulty command and goes on, unless it was one too many.
    fn fault(&mut self, fault: Fault, out: &mut Output) -> Outcome {
        reply::fault(fault, out);
        self.tally.error(&self.settings.bounds)?;
        Ok(Step::Next(State::default()))
    }

    /// The session refused the login, and the client was told.
    fn failed(&mut self, out: &mut Output) -> Result<(), Violation> {
        self.state = State::default();
        self.tally.failure(&self.settings.bounds).map_err(|violation| self.violated(violation, out))
    }

    /// Nothing more is taken from this client; tells it why.
    fn violated(&mut self, what: Violation, out: &mut Output) -> Violation {
        self.state = State::Over;
        reply::violation(what, self.bounds(), out);
        what
    }

    /// Whether the session has a login to judge.
    fn is_judged(&self) -> bool {
        matches!(self.state, State::Verdict)
    }
}

fn prompt(exchange: Exchange, out: &mut Output) -> Step {
    reply::prompt(exchange.prompt(), out);
    Step::Next(State::Line(Awaited::Response(exchange), Partial::default()))
}

impl Default for State {
    fn default() -> Self {
        Self::Line(Awaited::Command, Partial::default())
    }
}

impl Partial {
    fn take_text(&mut self, length: usize, input: &mut Input) {
        self.text += length;
        self.take(length, input);
    }

    /// Takes what has come of a literal of which so many bytes are `left`.
    fn literal(mut self, awaited: Awaited, left: usize, input: &mut Input) -> Step {
        let length = left.min(input.filled().len());
        self.take(length, input);
        if length < left {
            Step::Incomplete(State::Literal(awaited, self, left - length))
        } else {
            Step::Next(State::Line(awaited, self))
        }
    }

    fn take(&mut self, length: usize, input: &mut Input) {
        append(&mut self.bytes, &input.filled()[..length]);
        input.consume(length);
    }
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

    /// RFC 5804 section 2.2: the client hears our capabilities again, and what it has said before is worthless.
    fn secured(&mut self) {
        self.settings.secured = true;
        self.proxy_ttl = None;
        self.state = State::Greeting;
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
        reply::relayed_refusal(&words.text, out);
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
        self.proxy_ttl
    }
}
