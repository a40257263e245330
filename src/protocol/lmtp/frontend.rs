//! The side that faces whoever brings mail (a mail transfer agent), for as long as the connection lasts: nobody logs in, so
//! there is no hand-over.
//!
//! RCPT commands that come in one go are handed out in one go, so that they can be looked up and passed on together; all
//! else is answered in the order in which it came. What is said of a message while its bytes come in is in
//! [`Transaction`], and where it ends in `body.rs`. Here a line finds its command; `commands.rs` says what each does, and
//! `content.rs` takes the message's bytes.

mod commands;
mod content;

use super::body::Undotted;
use super::command::{self, Command, Fault, Rcpt};
use super::reply::{self, Reply};
use super::transaction::Transaction;
use crate::protocol::{Bounds, Farewell, FrontendSettings, Input, Machine, Output, Violation};
pub use content::Content;

/// What bounds the mail that one connection may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Recipients of one transaction, refused ones among them.
    pub recipients: usize,
    /// Messages of one connection; 0 for any number.
    pub messages: u32,
    /// Bytes of one message; 0 for any size.
    pub size: u64,
}

/// What a frontend needs to know.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) host: String,
    pub(super) starttls: bool,
    /// All backends take it.
    pub(super) smtputf8: bool,
    /// All backends take it.
    pub(super) dsn: bool,
    pub(super) limits: Limits,
    bounds: Bounds,
}

/// A conversation with a client.
pub struct Frontend {
    settings: Settings,
    secured: bool,
    state: State,
    helo: Option<String>,
    ttl: Option<u32>,
    transaction: Option<Transaction>,
    /// Chunks of a message have come, and more will.
    chunking: bool,
    /// Bytes of the present message.
    received: u64,
    /// Commands since the last message, but for RCPT.
    commands: u32,
    errors: u32,
    messages: u32,
}

/// What comes next.
enum State {
    /// A command.
    Line,
    /// Nothing, until the session has answered.
    Verdict,
    /// A message, by DATA.
    Data(Undotted),
    /// So many bytes more of a chunk.
    Chunk { left: u64, last: bool },
    /// The same, but of a chunk that nobody has asked for.
    Unwanted { left: u64, fault: Fault },
    /// Nothing at all.
    Over,
}

/// What a client wants done.
#[derive(Debug)]
pub enum Wish {
    /// The answer is in `out`; then the TLS handshake.
    StartTls,
    /// Each is to be found and asked; then [`Frontend::answer`].
    Recipients(Vec<Rcpt>),
    /// The message comes by DATA: [`Frontend::go_on`], or [`Frontend::refuse`].
    Data,
    /// A chunk of so many bytes follows at once: read [`Frontend::content`].
    Chunk {
        /// Bytes.
        size: u64,
        /// The message ends with it.
        last: bool,
    },
    /// The transaction is given up; that was answered.
    Forget,
    /// That was answered: close.
    Quit,
}

impl Frontend {
    /// For a client that has just come; [`Frontend::greet`] has the first word.
    pub fn new(settings: FrontendSettings, limits: Limits) -> Self {
        let offered = |word: &str| settings.offers.iter().any(|line| line.eq_ignore_ascii_case(word));
        let (smtputf8, dsn, secured) = (offered("SMTPUTF8"), offered("DSN"), settings.secured);
        let FrontendSettings { host, starttls, bounds, .. } = settings;
        Self {
            settings: Settings { host, starttls, smtputf8, dsn, limits, bounds },
            secured,
            state: State::Line,
            helo: None,
            ttl: None,
            transaction: None,
            chunking: false,
            received: 0,
            commands: 0,
            errors: 0,
            messages: 0,
        }
    }

    /// The first words after accept.
    pub fn greet(&mut self, out: &mut Output) {
        reply::greeting(&self.settings.host, out);
    }

    /// TLS is up: what was said in plaintext is forgotten (RFC 3207 4.2).
    pub fn secured(&mut self) {
        self.secured = true;
        self.helo = None;
        self.state = State::Line;
    }

    /// The name that the client gave itself.
    pub fn helo(&self) -> Option<&str> {
        self.helo.as_deref()
    }

    /// How many more proxies may follow, if the client is a proxy that says so.
    pub fn proxy_ttl(&self) -> Option<u32> {
        self.ttl
    }

    /// The transaction under way.
    pub fn transaction(&self) -> Option<&Transaction> {
        self.transaction.as_ref()
    }

    /// A message is coming in by chunks.
    pub fn is_chunking(&self) -> bool {
        self.chunking
    }

    /// The present message is above the limit.
    pub fn is_too_large(&self) -> bool {
        self.settings.limits.size > 0 && self.received > self.settings.limits.size
    }

    /// What became of the recipients that were wished for, in their order. Those with a good answer are accepted.
    pub fn answer(&mut self, replies: &[Reply], out: &mut Output) {
        self.state = State::Line;
        let Some(transaction) = &mut self.transaction else { return };
        for reply in replies {
            reply.put(out);
            if reply.is_good() {
                transaction.accept();
            }
        }
    }

    /// The message may come.
    pub fn go_on(&mut self, out: &mut Output) {
        reply::go_on(out);
        self.state = State::Data(Undotted::default());
    }

    /// No message is wanted: the transaction is over.
    pub fn refuse(&mut self, why: &Reply, out: &mut Output) {
        why.put(out);
        self.forget();
        self.state = State::Line;
    }

    /// What became of the message for a recipient, by the number in which it was accepted. Tells what can be told in order.
    pub fn settle(&mut self, number: usize, reply: Reply, out: &mut Output) {
        let Some(transaction) = &mut self.transaction else { return };
        transaction.settle(number, reply);
        if matches!(self.state, State::Verdict) && transaction.tell(out) {
            self.forget();
            (self.commands, self.state) = (0, State::Line);
            self.messages = self.messages.saturating_add(1);
        }
    }

    /// Last words before the proxy closes for a reason of its own.
    pub fn farewell(&mut self, why: Farewell, out: &mut Output) {
        self.state = State::Over;
        reply::farewell(&self.settings.host, why, out);
    }

    fn forget(&mut self) {
        self.transaction = None;
        (self.chunking, self.received) = (false, 0);
    }

    fn fault(&mut self, fault: Fault, out: &mut Output) -> Result<(), Violation> {
        if fault.is_the_clients() {
            self.errors += 1;
            if self.errors >= self.settings.bounds.errors {
                self.state = State::Over;
                reply::too_much(&self.settings.host, "Too many errors", out);
                return Err(Violation::TooManyErrors);
            }
        }
        reply::fault(fault, out);
        Ok(())
    }

    /// The next line's length; a line that is too long ends it all.
    fn next_line(&mut self, input: &Input, out: &mut Output) -> Result<Option<usize>, Violation> {
        input.line(self.settings.bounds.line).inspect_err(|_| {
            self.state = State::Over;
            reply::too_much(&self.settings.host, "Line too long", out);
        })
    }

    /// Counts a line, unless it is a part of a message (a chunk may be small, so a large message has many), or names one
    /// recipient more than there may be, as clients do that do not know our limit.
    fn count(&mut self, line: &Result<Command, Fault>, out: &mut Output) -> Result<(), Violation> {
        match line {
            Ok(Command::Bdat { size: 1.., .. }) if self.message().is_ok() => return Ok(()),
            Err(Fault::TooManyRecipients) => return Ok(()),
            _ => {}
        }
        self.commands += 1;
        if self.commands > self.settings.bounds.commands {
            self.state = State::Over;
            reply::too_much(&self.settings.host, "Too many commands without a message", out);
            return Err(Violation::TooManyCommands);
        }
        Ok(())
    }

    /// Hands out what was collected, if there is anything.
    fn batch(&mut self, batch: Vec<Rcpt>) -> Option<Wish> {
        let transaction = self.transaction.as_mut().filter(|_| !batch.is_empty())?;
        transaction.named += batch.len();
        self.state = State::Verdict;
        Some(Wish::Recipients(batch))
    }
}

impl Machine for Frontend {
    type Wish = Wish;

    fn advance(&mut self, input: &mut Input, out: &mut Output) -> Result<Option<Wish>, Violation> {
        let mut batch: Vec<Rcpt> = Vec::new();
        loop {
            match self.state {
                State::Line => {}
                State::Unwanted { left, fault } => {
                    if self.unwanted(left, fault, input, out)? {
                        continue;
                    }
                    return Ok(None);
                }
                _ => return Ok(None),
            }
            // What stands before a line that breaks a bound is answered first.
            if !batch.is_empty() && !matches!(input.line(self.settings.bounds.line), Ok(Some(_))) {
                return Ok(self.batch(batch));
            }
            let Some(length) = self.next_line(input, out)? else { return Ok(None) };
            let understood = match command::parse(&input.filled()[..length]) {
                Ok(Command::Rcpt(rcpt)) => match self.permit(&rcpt, batch.len()) {
                    Ok(()) => {
                        batch.push(rcpt);
                        input.consume(length);
                        continue;
                    }
                    Err(fault) => Err(fault),
                },
                other => other,
            };
            if !batch.is_empty() {
                return Ok(self.batch(batch)); // that line comes again
            }
            input.consume(length);
            self.count(&understood, out)?;
            let wish = match understood {
                Ok(command) => self.perform(command, input, out)?,
                Err(fault) => {
                    self.fault(fault, out)?;
                    None
                }
            };
            if wish.is_some() {
                return Ok(wish);
            }
        }
    }
}
