//! The side that faces the mail client: from the greeting until the backend has taken over.

use super::command::{self, Command, Fault, Own, Verb};
use super::reply;
use crate::protocol::talk::{Dialect, Outcome, State, Step, Talk, Told, Words};
use crate::protocol::{FrontendSettings, Input, Output, Violation};

/// A conversation with a mail client.
pub struct Frontend {
    talk: Talk<Place, ()>,
    /// The client has said EHLO, and not HELO since.
    extended: bool,
}

/// What comes next.
#[derive(Default)]
pub(in crate::protocol) enum Place {
    #[default]
    Command,
    /// So many bytes of a mail that nobody wants: refused, and not to be taken for commands.
    Unwanted(usize),
}

impl Frontend {
    /// For a client that has just come; [`greet`](crate::protocol::Frontend::greet) has the first word.
    pub fn new(settings: FrontendSettings) -> Self {
        Self { talk: Talk::new(settings), extended: false }
    }

    fn line(&mut self, input: &mut Input, out: &mut Output) -> Outcome<Self> {
        let Talk { settings, tally, .. } = &mut self.talk;
        let Some(length) = input.line(settings.bounds.line)? else { return Ok(Step::more(Place::Command)) };
        tally.command(&settings.bounds)?;
        let understood = self.understand(&input.filled()[..length]);
        input.consume(length);
        match understood {
            Ok(command) => self.perform(command, input, out),
            Err(fault) => self.wrong(None, fault, out),
        }
    }

    /// Parses a command. A password that may not be sent is not even looked at.
    fn understand(&self, line: &[u8]) -> Result<Command, Fault> {
        match command::head(line) {
            Ok((Verb::Auth, _)) if !self.talk.settings.takes_passwords() => Err(Fault::TlsRequired),
            Ok((Verb::Auth, _)) if !self.extended => Err(Fault::Own(Own::EhloFirst)),
            Ok((verb, rest)) => command::body(verb, rest),
            Err(Fault::LogInFirst) => Err(self.log_in_first()),
            Err(fault) => Err(fault),
        }
    }

    /// RFC 3207 section 4: what a client must do first, while it cannot log in either.
    fn log_in_first(&self) -> Fault {
        let settings = &self.talk.settings;
        if settings.offers_tls() && !settings.takes_passwords() { Fault::Own(Own::TlsFirst) } else { Fault::LogInFirst }
    }

    fn perform(&mut self, command: Command, input: &Input, out: &mut Output) -> Outcome<Self> {
        match command {
            Command::Ehlo(name) => {
                self.introduced(name, true);
                reply::ehlo(&self.talk.settings, out);
            }
            Command::Helo(name) => {
                self.introduced(name, false);
                reply::helo(&self.talk.settings, out);
            }
            Command::Xclient(ttl) => self.begin_anew(ttl, out),
            Command::Rset | Command::Noop => reply::done(out),
            Command::Help => reply::help(out),
            Command::Quit => {
                reply::quit(out);
                return Ok(Step::logout());
            }
            Command::StartTls => return self.start_tls(&(), input, out),
            Command::Bdat(size) => return self.unwanted(size, out),
            Command::Auth(opening) => return self.begin((), opening, out),
        }
        Ok(Step::next())
    }

    fn introduced(&mut self, name: String, extended: bool) {
        self.talk.told.helo = Some(name);
        self.extended = extended;
    }

    /// As Postfix has it: the next word is EHLO. Of all that a proxy before us says only the TTL is believed.
    fn begin_anew(&mut self, ttl: Option<u32>, out: &mut Output) {
        let told = &mut self.talk.told;
        *told = Told { ttl: ttl.or(told.ttl), ..Told::default() };
        self.extended = false;
        Self::greeting(&self.talk.settings, out);
    }

    /// RFC 3030 section 2: the bytes come whatever we say. Swallowing any number would let a stranger keep us reading.
    fn unwanted(&mut self, size: usize, out: &mut Output) -> Outcome<Self> {
        if size > self.talk.bounds().literal {
            return Err(Violation::LiteralTooLong);
        }
        let fault = self.log_in_first();
        self.wrong(None, fault, out)?;
        Ok(Step::Next(State::Command(Place::Unwanted(size))))
    }
}

impl Dialect for Frontend {
    type Place = Place;

    fn talk(&mut self) -> &mut Talk<Place, ()> {
        &mut self.talk
    }

    fn told(&self) -> &Told {
        &self.talk.told
    }

    fn command(&mut self, place: Place, input: &mut Input, out: &mut Output) -> Outcome<Self> {
        match place {
            Place::Command => self.line(input, out),
            Place::Unwanted(left) => {
                let length = left.min(input.filled().len());
                input.consume(length);
                Ok(if length < left { Step::more(Place::Unwanted(left - length)) } else { Step::next() })
            }
        }
    }

    /// RFC 3207 section 4.2: the client must introduce itself again.
    fn forget(&mut self) {
        self.extended = false;
    }
}
