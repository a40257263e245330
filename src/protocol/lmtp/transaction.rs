//! One message, many recipients, a status for each (RFC 2033 4.2): after the message every recipient that was accepted gets
//! a reply, in the order of the RCPTs, whenever and in whatever order the backends answer.

use super::command::Mail;
use super::reply::Reply;
use crate::protocol::Output;

/// A transaction under way.
#[derive(Debug, Default)]
pub struct Transaction {
    /// Its sender, and what was said along with it.
    pub mail: Mail,
    /// What became of the message for each recipient that was accepted, as far as is known.
    statuses: Vec<Option<Reply>>,
    /// How many of these the client has been told.
    told: usize,
    /// Recipients that were named, accepted or not.
    pub(super) named: usize,
}

impl Transaction {
    pub(super) fn new(mail: Mail) -> Self {
        Self { mail, ..Self::default() }
    }

    /// How many recipients were accepted: the number of the next.
    pub fn accepted(&self) -> usize {
        self.statuses.len()
    }

    /// One more is accepted.
    pub(super) fn accept(&mut self) {
        self.statuses.push(None);
    }

    /// What became of the message for a recipient, by its number. The first word counts.
    pub(super) fn settle(&mut self, number: usize, reply: Reply) {
        if let Some(status) = self.statuses.get_mut(number) {
            status.get_or_insert(reply);
        }
    }

    /// Tells what can be told in order. True once all were told.
    pub(super) fn tell(&mut self, out: &mut Output) -> bool {
        while let Some(Some(reply)) = self.statuses.get(self.told) {
            reply.put(out);
            self.told += 1;
        }
        self.told == self.statuses.len()
    }
}
