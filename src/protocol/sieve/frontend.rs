//! The side that faces the mail client: from the greeting until the backend has taken over.

use zeroize::Zeroizing;

use super::command::{self, Command};
use super::reply;
use crate::protocol::buffer::append;
use crate::protocol::line::announced;
use crate::protocol::talk::{Answer, Dialect, Outcome, Step, Talk, Told, Words};
use crate::protocol::{FrontendSettings, Input, Output, Violation};

/// A conversation with a mail client.
pub struct Frontend {
    talk: Talk<(), ()>,
    partial: Partial,
    /// Our capabilities are due, which a client may await behind STARTTLS without asking.
    greets: bool,
}

/// What has come of a command, or of an answer, that is not complete. It may be larger than the input.
#[derive(Default)]
struct Partial {
    bytes: Zeroizing<Vec<u8>>,
    /// Bytes outside literals, which together may be one line.
    text: usize,
    /// Bytes of literals.
    literals: usize,
    /// Bytes of a literal that are still to come.
    left: usize,
}

impl Frontend {
    /// For a client that has just come; [`greet`](crate::protocol::Frontend::greet) has the first word.
    pub fn new(settings: FrontendSettings) -> Self {
        Self { talk: Talk::new(settings), partial: Partial::default(), greets: false }
    }

    /// What `understand` makes of a command, or of the answer to a challenge, once all of it has come.
    fn read<T>(
        &mut self,
        is_command: bool,
        input: &mut Input,
        understand: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, Violation> {
        let Self { talk: Talk { settings, tally, .. }, partial, .. } = self;
        loop {
            partial.take_literal(input);
            let room = settings.bounds.line.saturating_sub(partial.text);
            let Some(length) = (if partial.left > 0 { None } else { input.line(room)? }) else { return Ok(None) };
            if is_command && partial.text == 0 {
                tally.command(&settings.bounds)?;
            }
            if let Some(literal) = announced(&input.filled()[..length]) {
                // RFC 5804 section 4: nobody waits for leave to send it. One that is too long cannot be refused, only left.
                partial.permit(literal.size, settings.bounds.literal)?;
                partial.take_text(length, input);
                (partial.literals, partial.left) = (partial.literals + literal.size, literal.size);
            } else if partial.text == 0 {
                // The usual case: all in one line. It is understood where it lies and copied nowhere.
                let understood = understand(&input.filled()[..length]);
                input.consume(length);
                return Ok(Some(understood));
            } else {
                partial.take_text(length, input);
                return Ok(Some(understand(&std::mem::take(partial).bytes)));
            }
        }
    }

    fn perform(&mut self, command: Command, input: &Input, out: &mut Output) -> Outcome<Self> {
        match command {
            Command::Capability => reply::capability(&self.talk.settings, out),
            Command::Noop(tag) => reply::noop(tag.as_deref(), out),
            Command::Xclient(ttl) => {
                self.talk.told.ttl = ttl;
                reply::announced(out);
            }
            Command::Logout => {
                reply::logout(out);
                return Ok(Step::logout());
            }
            Command::StartTls => return self.start_tls(&(), input, out),
            Command::Authenticate(opening) => return self.begin((), opening, out),
        }
        Ok(Step::next())
    }
}

impl Partial {
    /// Two literals are an AUTHENTICATE; a command of many small ones must not hold more than that.
    fn permit(&self, size: usize, bound: usize) -> Result<(), Violation> {
        if size > bound || self.literals + size > bound.saturating_mul(2) {
            return Err(Violation::LiteralTooLong);
        }
        Ok(())
    }

    fn take_text(&mut self, length: usize, input: &mut Input) {
        self.text += length;
        self.take(length, input);
    }

    fn take_literal(&mut self, input: &mut Input) {
        let length = self.left.min(input.filled().len());
        self.left -= length;
        self.take(length, input);
    }

    fn take(&mut self, length: usize, input: &mut Input) {
        append(&mut self.bytes, &input.filled()[..length]);
        input.consume(length);
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
        if std::mem::take(&mut self.greets) {
            Self::greeting(&self.talk.settings, out);
        }
        let private = self.talk.settings.takes_passwords();
        match self.read(true, input, |line| command::parse(line, private))? {
            None => Ok(Step::more(())),
            Some(Ok(command)) => self.perform(command, input, out),
            Some(Err(fault)) => self.wrong(None, fault, out),
        }
    }

    fn response(&mut self, input: &mut Input) -> Result<Option<Answer<Self>>, Violation> {
        self.read(false, input, command::response)
    }

    /// RFC 5804 section 2.2: the client hears our capabilities again.
    fn forget(&mut self) {
        self.greets = true;
    }
}
