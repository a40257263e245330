//! The side that faces the mail client: from the greeting until the backend has taken over.
//!
//! [`State`] is what the client is expected to send next. A command may be larger than the input: its pieces are taken
//! over as they complete, and those of a command that is refused anyway are wiped instead.

use zeroize::Zeroizing;

use super::command::{self, Body, Fault, Faulty, Head, Tag};
use super::{id, reply};
use crate::model::{Credentials, Refusal};
use crate::protocol::buffer::append;
use crate::protocol::line::{self, Literal};
use crate::protocol::sasl::{self, Exchange, Progress};
use crate::protocol::{
    BackendRefusal, Bounds, ClientWish, Farewell, FrontendSettings, Handover, Input, Machine, Output, Violation,
};

/// A conversation with a mail client.
pub struct Frontend {
    settings: FrontendSettings,
    state: State,
    client_id: Vec<id::Pair>,
    proxy_ttl: Option<u32>,
    commands: u32,
    errors: u32,
    failures: u32,
}

/// What comes next.
enum State {
    /// A line: of a new command, or of one whose literal has come.
    Line(Partial),
    /// So many bytes of a literal, then a line.
    Literal(Partial, usize),
    /// An answer to a SASL prompt.
    Response(Tag, Exchange),
    /// Nothing, until the session says what became of the login.
    Verdict(Tag),
    /// Nothing, until TLS is up.
    Tls,
    /// Nothing at all.
    Over,
}

/// What has come of a command that is not complete.
#[derive(Default)]
struct Partial {
    bytes: Zeroizing<Vec<u8>>,
    /// Bytes outside literals, which together may be one line.
    text: usize,
    /// Bytes of literals.
    literals: usize,
    /// It is refused already: its bytes are swallowed, and at its end it gets this answer.
    refused: Option<Faulty>,
}

/// What an event led to.
enum Step {
    /// There may be more to do with what is in the input.
    Next(State),
    /// The line or literal is not complete.
    Incomplete(State),
    Wish(State, ClientWish),
}

impl Frontend {
    /// For a client that has just come; [`greet`](crate::protocol::Frontend::greet) has the first word.
    pub fn new(settings: FrontendSettings) -> Self {
        let state = State::default();
        Self { settings, state, client_id: Vec::new(), proxy_ttl: None, commands: 0, errors: 0, failures: 0 }
    }

    fn bounds(&self) -> &Bounds {
        &self.settings.bounds
    }

    fn step(&mut self, state: State, input: &mut Input, out: &mut Output) -> Result<Step, Violation> {
        match state {
            State::Line(partial) => self.line(partial, input, out),
            State::Literal(partial, left) => Ok(partial.literal(left, input)),
            State::Response(tag, exchange) => self.response(tag, exchange, input, out),
            State::Verdict(_) | State::Tls | State::Over => Ok(Step::Incomplete(state)),
        }
    }

    fn line(&mut self, mut partial: Partial, input: &mut Input, out: &mut Output) -> Result<Step, Violation> {
        let Some(length) = input.line(self.bounds().line.saturating_sub(partial.text))? else {
            return Ok(Step::Incomplete(State::Line(partial)));
        };
        if partial.text == 0 {
            if self.commands >= self.bounds().commands {
                return Err(Violation::TooManyCommands);
            }
            self.commands += 1;
        }
        if let Some(literal) = line::announced(&input.filled()[..length]) {
            partial.take_text(length, input);
            return self.literal(partial, literal, out);
        }
        if partial.text == 0 {
            // The usual case: all in one line. It is understood where it lies and copied nowhere.
            let understood = self.understand(&input.filled()[..length]);
            input.consume(length);
            return self.perform(understood, input, out);
        }
        partial.take_text(length, input);
        let understood = partial.refused.take().map_or_else(|| self.understand(&partial.bytes), Err);
        self.perform(understood, input, out)
    }

    /// Parses a whole command. A password that may not be sent is not even looked at.
    fn understand(&self, command: &[u8]) -> Result<(Tag, Body), Faulty> {
        let head = command::head(command)?;
        let body = self.permit(&head).and_then(|()| head.body());
        match body {
            Ok(body) => Ok((head.tag, body)),
            Err(fault) => Err(Faulty { tag: Some(head.tag), fault }),
        }
    }

    /// RFC 9051 6.2.2, 6.2.3: no login while LOGINDISABLED.
    fn permit(&self, head: &Head<'_>) -> Result<(), Fault> {
        let private = self.settings.secured || self.settings.plaintext_login;
        if head.verb.is_login() && !private { Err(Fault::TlsRequired) } else { Ok(()) }
    }

    /// A line has announced a literal: is it wanted? If not, a client that waits for our `+` is refused at once and
    /// never sends it; one that does not wait has sent it already, so it is swallowed with the rest of the command.
    fn literal(&mut self, mut partial: Partial, literal: Literal, out: &mut Output) -> Result<Step, Violation> {
        if !literal.synchronising && self.is_too_long(&partial, literal) {
            // RFC 7888 section 4 gives a choice. Swallowing any size would let a stranger keep us reading.
            return Err(Violation::LiteralTooLong);
        }
        if partial.refused.is_none()
            && let Err(faulty) = self.permit_literal(&partial, literal)
        {
            partial.refuse(faulty);
        }
        if literal.synchronising {
            if let Some(Faulty { tag, fault }) = partial.refused {
                return self.fault(tag.as_ref(), fault, out);
            }
            reply::literal_wanted(out);
        }
        partial.literals += literal.size;
        Ok(Step::Next(State::Literal(partial, literal.size)))
    }

    fn permit_literal(&self, partial: &Partial, literal: Literal) -> Result<(), Faulty> {
        let head = command::head(&partial.bytes)?;
        let verdict = match self.permit(&head) {
            Ok(()) if !head.verb.takes_literals() => Err(Fault::NoLiteralHere),
            Ok(()) if self.is_too_long(partial, literal) => Err(Fault::LiteralTooLong),
            other => other,
        };
        verdict.map_err(|fault| Faulty { tag: Some(head.tag), fault })
    }

    /// A LOGIN has two literals; a command of many small ones must not hold more than that.
    fn is_too_long(&self, partial: &Partial, literal: Literal) -> bool {
        let bound = self.bounds().literal;
        literal.size > bound || partial.literals + literal.size > bound.saturating_mul(2)
    }

    fn perform(
        &mut self,
        understood: Result<(Tag, Body), Faulty>,
        input: &Input,
        out: &mut Output,
    ) -> Result<Step, Violation> {
        let (tag, body) = match understood {
            Ok(understood) => understood,
            Err(Faulty { tag, fault }) => return self.fault(tag.as_ref(), fault, out),
        };
        match body {
            Body::Capability => reply::capability(&tag, &self.settings, out),
            Body::Noop => reply::noop(&tag, out),
            Body::Id(mut pairs) => {
                self.proxy_ttl = id::take_ttl(&mut pairs);
                self.client_id = pairs;
                reply::id(&tag, out);
            }
            Body::Logout => {
                reply::logout(&tag, out);
                return Ok(Step::Wish(State::Over, ClientWish::Logout));
            }
            Body::StartTls => return self.start_tls(&tag, input, out),
            Body::Login(given) => return Ok(verify(tag, given)),
            Body::Authenticate(exchange, Some(message)) => return self.answer(tag, exchange, &message, out),
            Body::Authenticate(exchange, None) => return Ok(prompt(tag, exchange, out)),
        }
        Ok(Step::Next(State::default()))
    }

    fn start_tls(&mut self, tag: &Tag, input: &Input, out: &mut Output) -> Result<Step, Violation> {
        if self.settings.secured {
            return self.fault(Some(tag), Fault::TlsIsOn, out);
        }
        if !self.settings.starttls {
            return self.fault(Some(tag), Fault::NoTls, out);
        }
        if !input.is_empty() {
            // Somebody on the way put these in front of what the client will say under TLS (CVE-2011-0411).
            return Err(Violation::InjectionBehindStartTls);
        }
        reply::begin_tls(tag, out);
        Ok(Step::Wish(State::Tls, ClientWish::StartTls))
    }

    fn response(
        &mut self,
        tag: Tag,
        exchange: Exchange,
        input: &mut Input,
        out: &mut Output,
    ) -> Result<Step, Violation> {
        let Some(length) = input.line(self.bounds().line)? else {
            return Ok(Step::Incomplete(State::Response(tag, exchange)));
        };
        let line = line::without_end(&input.filled()[..length]);
        let message = if line == b"*" { Err(Fault::Cancelled) } else { sasl::decode(line).map_err(Fault::Sasl) };
        input.consume(length);
        match message {
            Ok(message) => self.answer(tag, exchange, &message, out),
            Err(fault) => self.fault(Some(&tag), fault, out),
        }
    }

    fn answer(&mut self, tag: Tag, exchange: Exchange, message: &[u8], out: &mut Output) -> Result<Step, Violation> {
        match exchange.answer(message) {
            Ok(Progress::Done(given)) => Ok(verify(tag, given)),
            Ok(Progress::Continue(exchange)) => Ok(prompt(tag, exchange, out)),
            Err(fault) => self.fault(Some(&tag), Fault::Sasl(fault), out),
        }
    }

    /// Answers a faulty command and goes on, unless it was one too many.
    fn fault(&mut self, tag: Option<&Tag>, fault: Fault, out: &mut Output) -> Result<Step, Violation> {
        reply::fault(tag, fault, out);
        self.errors = self.errors.saturating_add(1);
        if self.errors >= self.bounds().errors {
            return Err(Violation::TooManyErrors);
        }
        Ok(Step::Next(State::default()))
    }

    /// The session refused the login, and the client was told. Temporary refusals count, too: each costs the fleet as
    /// much as a wrong password, and a client that connects again may reach a healthier proxy.
    fn failed(&mut self, out: &mut Output) -> Result<(), Violation> {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.bounds().failures {
            return Err(self.violated(Violation::TooManyFailures, out));
        }
        Ok(())
    }

    /// Nothing more is taken from this client; tells it why.
    fn violated(&mut self, what: Violation, out: &mut Output) -> Violation {
        self.state = State::Over;
        reply::violation(what, self.bounds(), out);
        what
    }

    /// The tag of the login that the session has a verdict on; `None`, and nothing changes, if there was no login.
    fn judged(&mut self) -> Option<Tag> {
        match std::mem::take(&mut self.state) {
            State::Verdict(tag) => Some(tag),
            other => {
                self.state = other;
                None
            }
        }
    }
}

fn verify(tag: Tag, given: Credentials) -> Step {
    Step::Wish(State::Verdict(tag), ClientWish::Authenticate(given))
}

fn prompt(tag: Tag, exchange: Exchange, out: &mut Output) -> Step {
    reply::prompt(exchange.prompt(), out);
    Step::Next(State::Response(tag, exchange))
}

impl Default for State {
    fn default() -> Self {
        Self::Line(Partial::default())
    }
}

impl Partial {
    fn take_text(&mut self, length: usize, input: &mut Input) {
        self.text += length;
        self.take(length, input);
    }

    /// Takes what has come of a literal of which so many bytes are `left`.
    fn literal(mut self, left: usize, input: &mut Input) -> Step {
        let length = left.min(input.filled().len());
        self.take(length, input);
        if length < left {
            Step::Incomplete(State::Literal(self, left - length))
        } else {
            Step::Next(State::Line(self))
        }
    }

    fn take(&mut self, length: usize, input: &mut Input) {
        if self.refused.is_none() {
            append(&mut self.bytes, &input.filled()[..length]);
        }
        input.consume(length);
    }

    /// From here on the command is only swallowed.
    fn refuse(&mut self, faulty: Faulty) {
        self.refused = Some(faulty);
        self.bytes = Zeroizing::default();
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

    /// RFC 9051 6.2.1: what was learnt before is worthless. The counters stay; else STARTTLS would reset them.
    fn secured(&mut self) {
        self.settings.secured = true;
        self.client_id.clear();
        self.proxy_ttl = None;
        self.state = State::default();
    }

    fn refuse(&mut self, why: Refusal, out: &mut Output) -> Result<(), Violation> {
        let Some(tag) = self.judged() else { return Ok(()) };
        reply::refusal(&tag, why, out);
        self.failed(out)
    }

    fn relay_refusal(&mut self, words: &BackendRefusal, out: &mut Output) -> Result<(), Violation> {
        let Some(tag) = self.judged() else { return Ok(()) };
        reply::relayed_refusal(&tag, &words.text, out);
        self.failed(out)
    }

    fn welcome(&mut self, handover: &Handover, out: &mut Output) {
        if let Some(tag) = self.judged() {
            self.state = State::Over;
            reply::welcome(&tag, handover, out);
        }
    }

    fn farewell(&mut self, why: Farewell, out: &mut Output) {
        self.state = State::Over;
        reply::farewell(why, out);
    }

    fn client_id(&self) -> &[id::Pair] {
        &self.client_id
    }

    fn proxy_ttl(&self) -> Option<u32> {
        self.proxy_ttl
    }
}
