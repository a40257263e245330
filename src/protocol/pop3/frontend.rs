//! The side that faces the mail client: from the greeting until the backend has taken over.

use super::command::{self, Command, Fault, Own};
use super::reply;
use super::response::UTF8;
use crate::model::{Credentials, Mechanism, Proof, Secret};
use crate::protocol::talk::{Dialect, Outcome, Step, Talk, Told};
use crate::protocol::{FrontendSettings, Input, Output, sasl};

/// A conversation with a mail client.
pub struct Frontend {
    talk: Talk<(), ()>,
    /// The name that USER gave and no PASS has used.
    user: Option<String>,
}

impl Frontend {
    /// For a client that has just come; [`greet`](crate::protocol::Frontend::greet) has the first word.
    pub fn new(settings: FrontendSettings) -> Self {
        Self { talk: Talk::new(settings), user: None }
    }

    fn perform(&mut self, command: Command, input: &Input, out: &mut Output) -> Outcome<Self> {
        match command {
            Command::Capa => reply::capabilities(&self.talk.settings, out),
            Command::Noop => reply::noop(out),
            Command::Mechanisms => reply::mechanisms(&self.talk.settings, out),
            Command::Xclient(ttl) => {
                self.talk.told.ttl = ttl;
                reply::announced(out);
            }
            Command::Utf8 => return self.utf8(out),
            Command::User(name) => {
                self.user = Some(name);
                reply::user(out);
            }
            Command::Quit => {
                reply::quit(out);
                return Ok(Step::logout());
            }
            Command::Stls => return self.start_tls(&(), input, out),
            Command::Pass(password) => return self.pass(password, out),
            Command::Auth(opening) => return self.begin((), opening, out),
        }
        Ok(Step::next())
    }

    /// RFC 6856 section 2.1: for the backend, which hears it before the login.
    fn utf8(&mut self, out: &mut Output) -> Outcome<Self> {
        let is_utf8 = |line: &String| line.split(' ').next() == Some(UTF8);
        if !self.talk.settings.offers.iter().any(is_utf8) {
            return self.wrong(None, Fault::Own(Own::NotOffered), out);
        }
        self.talk.told.utf8 = true;
        reply::utf8(out);
        Ok(Step::next())
    }

    fn pass(&mut self, password: Secret, out: &mut Output) -> Outcome<Self> {
        let Some(user) = self.user.take() else { return self.wrong(None, Fault::Own(Own::NoUser), out) };
        Ok(Step::ask(
            (),
            Credentials { user, authzid: None, proof: Proof::Password(password), mechanism: Mechanism::Command },
        ))
    }
}

impl Dialect for Frontend {
    type Place = ();

    fn talk(&mut self) -> &mut Talk<(), ()> {
        &mut self.talk
    }

    fn told(&self) -> &Told {
        &self.talk.told
    }

    fn command(&mut self, (): (), input: &mut Input, out: &mut Output) -> Outcome<Self> {
        let Talk { settings, tally, .. } = &mut self.talk;
        let Some(length) = input.line(settings.bounds.line)? else { return Ok(Step::more(())) };
        tally.command(&settings.bounds)?;
        let understood = command::parse(&input.filled()[..length], settings.takes_passwords());
        input.consume(length);
        let by_command = settings.takes_commands();
        match understood {
            Ok(Command::User(_) | Command::Pass(_)) if !by_command => {
                self.wrong(None, sasl::Fault::UnknownMechanism.into(), out)
            }
            Ok(command) => self.perform(command, input, out),
            Err(fault) => self.wrong(None, fault, out),
        }
    }

    /// RFC 2595 section 4.
    fn forget(&mut self) {
        self.user = None;
    }
}
