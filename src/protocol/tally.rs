//! How often a client has tried our patience. TLS does not reset it.

use super::{Bounds, Violation};

/// What is counted before login, against the [`Bounds`].
#[derive(Debug, Default)]
pub(super) struct Tally {
    commands: u32,
    errors: u32,
    failures: u32,
}

impl Tally {
    /// Another command has come; one more than allowed is not even looked at.
    pub(super) fn command(&mut self, bounds: &Bounds) -> Result<(), Violation> {
        if self.commands >= bounds.commands {
            return Err(Violation::TooManyCommands);
        }
        self.commands += 1;
        Ok(())
    }

    /// A faulty command was answered.
    pub(super) fn error(&mut self, bounds: &Bounds) -> Result<(), Violation> {
        self.errors = self.errors.saturating_add(1);
        if self.errors >= bounds.errors { Err(Violation::TooManyErrors) } else { Ok(()) }
    }

    /// A login was refused. Temporary refusals count, too: each costs the fleet as much as a wrong password, and a client
    /// that connects again may reach a healthier proxy.
    pub(super) fn failure(&mut self, bounds: &Bounds) -> Result<(), Violation> {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= bounds.failures { Err(Violation::TooManyFailures) } else { Ok(()) }
    }
}
