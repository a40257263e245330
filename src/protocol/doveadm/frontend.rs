//! Faces a client of the TCP protocol: greeting, TLS, password, then commands, one after the other.

use zeroize::Zeroize;

use super::{Command, MINOR, NotForUs, reply};
use crate::model::Secret;
use crate::protocol::sasl;
use crate::protocol::{Input, Machine, Output, Violation};

/// What this machine needs to know about its listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrontendSettings {
    /// STARTTLS must come before the password.
    pub starttls: bool,
    /// Bytes of a line before the password is known to be right.
    pub line: usize,
    /// Bytes of a line behind that; also the capacity of the input buffer.
    pub command: usize,
}

/// What it wants done.
#[derive(Debug)]
pub enum FrontendWish {
    /// The TLS handshake; then [`Frontend::secured`].
    StartTls,
    /// Check this password; then [`Frontend::welcome`] or [`Frontend::refuse`].
    Check(Secret),
    /// Carry out, say the answer and its end.
    Run(Box<Command>),
    /// Say that this is no command for us.
    Refuse(NotForUs),
}

/// The dialogue with one client.
#[derive(Debug)]
pub struct Frontend {
    settings: FrontendSettings,
    stage: Stage,
    minor: u32,
    logging: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Hello,
    Password,
    Commands,
}

impl Frontend {
    /// The client speaks first.
    pub fn new(settings: FrontendSettings) -> Self {
        Self { settings, stage: Stage::Hello, minor: 0, logging: false }
    }

    /// The minor version that both sides speak.
    pub fn minor(&self) -> u32 {
        self.minor
    }

    /// What is logged while a command runs may be sent.
    pub fn takes_log(&self) -> bool {
        self.logging
    }

    /// TLS is up.
    pub fn secured(&mut self) {
        self.settings.starttls = false;
    }

    /// The password is right.
    pub fn welcome(&mut self, out: &mut Output) {
        self.stage = Stage::Commands;
        // Only from 1.3 on it must be asked for.
        self.logging = (super::MINOR_FRAMES..super::MINOR_EXTRA_FIELDS).contains(&self.minor);
        out.put(reply::YES);
    }

    /// The password is wrong. There is no second try.
    pub fn refuse(&mut self, out: &mut Output) -> Violation {
        out.put(reply::NO);
        Violation::TooManyFailures
    }

    fn hello(&mut self, line: &[u8], out: &mut Output) -> Result<(), Violation> {
        let mut fields = line.split(|byte| *byte == b'\t');
        let name = [fields.next(), fields.next(), fields.next()];
        if name != [Some(&b"VERSION"[..]), Some(b"doveadm-server"), Some(b"1")] {
            return Err(Violation::Nonsense("the greeting is not that of doveadm"));
        }
        let minor = fields.next().and_then(|minor| std::str::from_utf8(minor).ok()?.parse::<u32>().ok());
        self.minor = minor.ok_or(Violation::Nonsense("the greeting names no version"))?.min(MINOR);
        self.stage = Stage::Password;
        out.put(reply::greeting(self.minor));
        Ok(())
    }

    fn password(&mut self, line: &[u8], rest: bool, out: &mut Output) -> Result<FrontendWish, Violation> {
        if line == b"STARTTLS" {
            return match (self.settings.starttls, rest) {
                (true, false) => Ok(FrontendWish::StartTls),
                (true, true) => Err(Violation::InjectionBehindStartTls),
                (false, _) => {
                    out.put(reply::NO);
                    Err(Violation::Nonsense("STARTTLS where it is not offered"))
                }
            };
        }
        if self.settings.starttls {
            out.put(reply::NO);
            return Err(Violation::Nonsense("a password before STARTTLS, which this listener demands"));
        }
        match plain(line) {
            Some(password) => Ok(FrontendWish::Check(password)),
            None => {
                out.put(reply::NO);
                Err(Violation::Nonsense("the password is not said as PLAIN of the user doveadm"))
            }
        }
    }

    /// A command, or nothing if the line set an option.
    fn command(&mut self, line: &[u8]) -> Option<FrontendWish> {
        match Command::parse(line) {
            Ok(command) if command.name == "OPTION" => {
                self.logging |= self.minor >= super::MINOR_FRAMES
                    && command.arguments.iter().any(|option| option == b"log-passthrough");
                None
            }
            Ok(command) => Some(FrontendWish::Run(Box::new(command))),
            Err(fault) => Some(FrontendWish::Refuse(fault)),
        }
    }

    fn take(&mut self, line: &[u8], rest: bool, out: &mut Output) -> Result<Option<FrontendWish>, Violation> {
        match self.stage {
            Stage::Hello => self.hello(line, out).map(|()| None),
            Stage::Password => self.password(line, rest, out).map(Some),
            Stage::Commands => Ok(self.command(line)),
        }
    }
}

impl Machine for Frontend {
    type Wish = FrontendWish;

    fn advance(&mut self, input: &mut Input, out: &mut Output) -> Result<Option<FrontendWish>, Violation> {
        loop {
            let limit = if self.stage == Stage::Commands { self.settings.command } else { self.settings.line };
            let Some(length) = input.line(limit)? else { return Ok(None) };
            let mut line = input.filled()[..length - 1].to_vec(); // its end is one byte
            let rest = input.filled().len() > length;
            input.consume(length);
            let bare = line.strip_suffix(b"\r").unwrap_or(&line);
            let outcome = self.take(bare, rest, out);
            line.zeroize();
            match outcome {
                Ok(None) => {}
                other => return other,
            }
        }
    }
}

/// RFC 4616, for the one user that there is.
fn plain(line: &[u8]) -> Option<Secret> {
    let message = sasl::decode(line.strip_prefix(b"PLAIN\t")?).ok()?;
    let password = message.strip_prefix(b"\0doveadm\0")?;
    Some(Secret::new(password.to_vec()))
}
