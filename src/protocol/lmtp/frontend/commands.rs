//! What each command does, but for RCPT, of which several are handed out together.

use super::super::command::{Command, Fault, Mail, Rcpt};
use super::super::reply;
use super::super::transaction::Transaction;
use super::{Frontend, Limits, State, Wish};
use crate::protocol::{Input, Output, Violation};

impl Frontend {
    /// One command that is no RCPT.
    pub(super) fn perform(
        &mut self,
        command: Command,
        input: &Input,
        out: &mut Output,
    ) -> Result<Option<Wish>, Violation> {
        match command {
            Command::Lhlo(name) => {
                self.helo = Some(name);
                reply::hello(&self.settings, self.secured, out);
                return Ok(self.give_up());
            }
            Command::Rset => {
                reply::ok(out);
                return Ok(self.give_up());
            }
            Command::Noop => reply::ok(out),
            Command::Vrfy => reply::maybe(out),
            Command::Quit => {
                reply::bye(&self.settings.host, out);
                self.state = State::Over;
                return Ok(Some(Wish::Quit));
            }
            Command::StartTls => return self.start_tls(input, out),
            Command::Xclient(ttl) => self.xclient(ttl, out)?,
            Command::Mail(mail) => return self.mail(mail, out),
            Command::Data => return self.data(out),
            Command::Bdat { size, last } => return self.bdat(size, last),
            Command::Rcpt(_) => {} // never comes here
        }
        Ok(None)
    }

    fn give_up(&mut self) -> Option<Wish> {
        let accepted = self.transaction.as_ref().is_some_and(|transaction| transaction.accepted() > 0);
        self.forget();
        accepted.then_some(Wish::Forget)
    }

    fn start_tls(&mut self, input: &Input, out: &mut Output) -> Result<Option<Wish>, Violation> {
        let fault = match (self.settings.starttls && !self.secured, &self.transaction) {
            (false, _) => Fault::NoTls,
            (true, Some(_)) => Fault::Nested,
            (true, None) => {
                if !input.is_empty() {
                    // Somebody on the way put these in front of what the client will say under TLS.
                    reply::too_much(&self.settings.host, "Plaintext behind STARTTLS", out);
                    return Err(Violation::InjectionBehindStartTls);
                }
                reply::begin_tls(out);
                self.state = State::Verdict;
                return Ok(Some(Wish::StartTls));
            }
        };
        self.fault(fault, out).map(|()| None)
    }

    /// As Postfix has it, all begins anew.
    fn xclient(&mut self, ttl: Option<u32>, out: &mut Output) -> Result<(), Violation> {
        if self.transaction.is_some() {
            return self.fault(Fault::Nested, out);
        }
        self.ttl = ttl.or(self.ttl);
        self.helo = None;
        reply::greeting(&self.settings.host, out);
        Ok(())
    }

    fn mail(&mut self, mail: Mail, out: &mut Output) -> Result<Option<Wish>, Violation> {
        let Limits { messages, size, .. } = self.settings.limits;
        if messages > 0 && self.messages >= messages {
            reply::too_much(&self.settings.host, "Enough messages for one connection", out);
            self.state = State::Over;
            return Ok(Some(Wish::Quit));
        }
        let fault = if self.helo.is_none() {
            Fault::NoHello
        } else if self.transaction.is_some() {
            Fault::Nested
        } else if (mail.smtputf8 && !self.settings.smtputf8) || (!mail.dsn.is_empty() && !self.settings.dsn) {
            Fault::Parameter
        } else if size > 0 && mail.size.is_some_and(|announced| announced > size) {
            Fault::TooLarge
        } else {
            self.transaction = Some(Transaction::new(mail));
            reply::sender_ok(out);
            return Ok(None);
        };
        self.fault(fault, out).map(|()| None)
    }

    /// Whether a recipient may be named here.
    pub(super) fn permit(&self, rcpt: &Rcpt, before: usize) -> Result<(), Fault> {
        let transaction = self.transaction.as_ref().ok_or(Fault::NoSender)?;
        if self.chunking {
            Err(Fault::MidMessage)
        } else if !rcpt.dsn.is_empty() && !self.settings.dsn {
            Err(Fault::Parameter)
        } else if !rcpt.mailbox.is_ascii() && !transaction.mail.smtputf8 {
            Err(Fault::NotAscii)
        } else if transaction.named + before >= self.settings.limits.recipients {
            Err(Fault::TooManyRecipients)
        } else {
            Ok(())
        }
    }

    /// Whether a message may come.
    pub(super) fn message(&self) -> Result<(), Fault> {
        let transaction = self.transaction.as_ref().ok_or(Fault::NoSender)?;
        if transaction.accepted() == 0 { Err(Fault::NoRecipient) } else { Ok(()) }
    }

    fn data(&mut self, out: &mut Output) -> Result<Option<Wish>, Violation> {
        match self.message() {
            Ok(()) if self.chunking => self.fault(Fault::MidMessage, out).map(|()| None),
            Ok(()) => {
                self.state = State::Verdict;
                Ok(Some(Wish::Data))
            }
            Err(fault) => self.fault(fault, out).map(|()| None),
        }
    }

    /// RFC 3030 section 2: the bytes follow, whatever we think of them.
    fn bdat(&mut self, size: u64, last: bool) -> Result<Option<Wish>, Violation> {
        match self.message() {
            Ok(()) => {
                self.chunking = !last;
                self.state = State::Chunk { left: size, last };
                Ok(Some(Wish::Chunk { size, last }))
            }
            Err(fault) => {
                self.state = State::Unwanted { left: size, fault };
                Ok(None)
            }
        }
    }
}
