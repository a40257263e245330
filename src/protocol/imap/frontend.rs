//! The side that faces the mail client: from the greeting until the backend has taken over.
//!
//! [`Place`] is what the client is expected to send next. A command may be larger than the input: its pieces are taken
//! over as they complete, and those of a command that is refused anyway are wiped instead.

use zeroize::Zeroizing;

use super::command::{self, Body, Fault, Faulty, Head, Own, Tag, Verb};
use super::{id, reply};
use crate::protocol::buffer::append;
use crate::protocol::line::{self, Literal};
use crate::protocol::talk::{Dialect, Outcome, State, Step, Talk, Told};
use crate::protocol::{Bounds, FrontendSettings, Input, Output, Violation, sasl};

/// A conversation with a mail client.
pub struct Frontend(Talk<Place, Tag>);

/// What comes next.
pub(in crate::protocol) enum Place {
    /// A line: of a new command, or of one whose literal has come.
    Line(Partial),
    /// So many bytes of a literal, then a line.
    Literal(Partial, usize),
}

/// What has come of a command that is not complete.
#[derive(Default)]
pub(in crate::protocol) struct Partial {
    bytes: Zeroizing<Vec<u8>>,
    /// Bytes outside literals, which together may be one line.
    text: usize,
    /// Bytes of literals.
    literals: usize,
    /// It is refused already: its bytes are swallowed, and at its end it gets this answer.
    refused: Option<Faulty>,
}

impl Frontend {
    /// For a client that has just come; [`greet`](crate::protocol::Frontend::greet) has the first word.
    pub fn new(settings: FrontendSettings) -> Self {
        Self(Talk::new(settings))
    }

    fn bounds(&self) -> &Bounds {
        self.0.bounds()
    }

    fn line(&mut self, mut partial: Partial, input: &mut Input, out: &mut Output) -> Outcome<Self> {
        let Some(length) = input.line(self.bounds().line.saturating_sub(partial.text))? else {
            return Ok(Step::more(Place::Line(partial)));
        };
        if partial.text == 0 {
            let Talk { tally, settings, .. } = &mut self.0;
            tally.command(&settings.bounds)?;
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
        match head.verb {
            verb if verb.is_login() && !self.0.settings.takes_passwords() => Err(Fault::TlsRequired),
            Verb::Login if !self.0.settings.takes_commands() => Err(sasl::Fault::UnknownMechanism.into()),
            _ => Ok(()),
        }
    }

    /// A line has announced a literal: is it wanted? If not, a client that waits for our `+` is refused at once and
    /// never sends it; one that does not wait has sent it already, so it is swallowed with the rest of the command.
    fn literal(&mut self, mut partial: Partial, literal: Literal, out: &mut Output) -> Outcome<Self> {
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
                return self.wrong(tag.as_ref(), fault, out);
            }
            reply::literal_wanted(out);
        }
        partial.literals += literal.size;
        Ok(Step::Next(State::Command(Place::Literal(partial, literal.size))))
    }

    fn permit_literal(&self, partial: &Partial, literal: Literal) -> Result<(), Faulty> {
        let head = command::head(&partial.bytes)?;
        let verdict = match self.permit(&head) {
            Ok(()) if !head.verb.takes_literals() => Err(Fault::Own(Own::NoLiteralHere)),
            Ok(()) if self.is_too_long(partial, literal) => Err(Fault::Own(Own::LiteralTooLong)),
            other => other,
        };
        verdict.map_err(|fault| Faulty { tag: Some(head.tag), fault })
    }

    /// A LOGIN has two literals; a command of many small ones must not hold more than that.
    fn is_too_long(&self, partial: &Partial, literal: Literal) -> bool {
        let bound = self.bounds().literal;
        literal.size > bound || partial.literals + literal.size > bound.saturating_mul(2)
    }

    fn perform(&mut self, understood: Result<(Tag, Body), Faulty>, input: &Input, out: &mut Output) -> Outcome<Self> {
        let (tag, body) = match understood {
            Ok(understood) => understood,
            Err(Faulty { tag, fault }) => return self.wrong(tag.as_ref(), fault, out),
        };
        match body {
            Body::Capability => reply::capability(&tag, &self.0.settings, out),
            Body::Noop => reply::noop(&tag, out),
            Body::Id(mut pairs) => {
                self.0.told.ttl = id::take_ttl(&mut pairs);
                self.0.told.origin = id::take_origin(&mut pairs);
                self.0.told.client_id = pairs;
                reply::id(&tag, out);
            }
            Body::Logout => {
                reply::logout(&tag, out);
                return Ok(Step::logout());
            }
            Body::StartTls => return self.start_tls(&tag, input, out),
            Body::Login(given) => return Ok(Step::ask(tag, given)),
            Body::Authenticate(opening) => return self.begin(tag, opening, out),
        }
        Ok(Step::next())
    }
}

impl Default for Place {
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
    fn literal(mut self, left: usize, input: &mut Input) -> Step<Place, Tag> {
        let length = left.min(input.filled().len());
        self.take(length, input);
        if length < left {
            Step::more(Place::Literal(self, left - length))
        } else {
            Step::Next(State::Command(Place::Line(self)))
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

impl Dialect for Frontend {
    type Place = Place;

    fn talk(&mut self) -> &mut Talk<Place, Tag> {
        &mut self.0
    }

    fn told(&self) -> &Told {
        &self.0.told
    }

    fn command(&mut self, place: Place, input: &mut Input, out: &mut Output) -> Outcome<Self> {
        match place {
            Place::Line(partial) => self.line(partial, input, out),
            Place::Literal(partial, left) => Ok(partial.literal(left, input)),
        }
    }
}
