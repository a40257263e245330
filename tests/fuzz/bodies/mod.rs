//! What must hold for any bytes whatever, one file per parser: a library for the fuzz targets, a module of the bounded
//! test.

#![allow(unreachable_pub)] // public for the fuzz targets

pub mod auth;
pub mod backend;
pub mod doveadm;
pub mod doveadm_door;
pub mod frontend;
pub mod lmtp;
pub mod sasl;

use homing::protocol::{Input, Machine, Output};

/// Takes the first byte as a choice of settings.
pub(crate) fn choice(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

/// How bytes come in: all at once, one by one, or in pieces of so many.
pub(crate) const PIECES: [usize; 4] = [usize::MAX, 1, 2, 7];

/// A peer that sends `data` in pieces, whatever it is told.
pub(crate) struct Peer<'a> {
    sent: &'a [u8],
    piece: usize,
    input: Input,
    out: Output,
    /// All that the machine has said.
    pub(crate) said: Vec<u8>,
}

impl<'a> Peer<'a> {
    pub(crate) fn new(data: &'a [u8], piece: usize, capacity: usize) -> Self {
        Self { sent: data, piece, input: Input::with_capacity(capacity), out: Output::new(), said: Vec::new() }
    }

    /// Lets the machine say something by itself.
    pub(crate) fn hear<T>(&mut self, say: impl FnOnce(&mut Output) -> T) -> T {
        let told = say(&mut self.out);
        self.said.extend_from_slice(self.out.bytes());
        self.out.clear();
        told
    }

    /// Feeds the machine until it wishes something (`Ok`), ends (`Err`), or all has been sent (`None`).
    pub(crate) fn advance<M: Machine + ?Sized>(&mut self, machine: &mut M) -> Option<Result<M::Wish, String>> {
        loop {
            let input = &mut self.input;
            let step = machine.advance(input, &mut self.out);
            self.hear(|_| ());
            match step {
                Err(violation) => return Some(Err(violation.to_string())),
                Ok(Some(wish)) => return Some(Ok(wish)),
                Ok(None) if self.sent.is_empty() => return None,
                Ok(None) => {}
            }
            let taken = self.input.push(&self.sent[..self.piece.min(self.sent.len())]);
            assert!(taken > 0, "the machine leaves a full input as it is");
            self.sent = &self.sent[taken..];
        }
    }

    /// What nobody has read.
    pub(crate) fn unread(&self) -> Vec<u8> {
        [self.input.filled(), self.sent].concat()
    }
}
