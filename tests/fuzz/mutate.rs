//! Changes seeds at random, from a fixed start: what bytes a confused or hostile peer may send.

/// What parsers stumble over.
const TOKENS: [&[u8]; 22] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"{3}\r\n",
    b"{3+}\r\n",
    b"{0+}\r\n",
    b"(",
    b")",
    b"*",
    b"+",
    b"=",
    b"\xff",
    b"NIL",
    b"a LOGIN ",
    b"{99999999999999999999}\r\n",
    b"AGEAYg==",
];

pub(crate) struct Mutator<'a> {
    state: u64,
    seeds: &'a [Vec<u8>],
}

impl<'a> Mutator<'a> {
    pub(crate) fn new(start: u64, seeds: &'a [Vec<u8>]) -> Self {
        Self { state: start, seeds }
    }

    /// A choice of settings and one or two seeds with a few changes.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut bytes = vec![self.below(256).to_le_bytes()[0]];
        for _ in 0..=self.below(2) {
            let seed = self.below(self.seeds.len());
            bytes.extend_from_slice(&self.seeds[seed]);
        }
        for _ in 0..=self.below(6) {
            self.change(&mut bytes);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let place = self.below(bytes.len() + 1);
        let end = place + self.below((bytes.len() - place).min(16) + 1);
        match self.below(5) {
            0 => drop(bytes.drain(place..end)),
            1 => bytes.truncate(place),
            2 => {
                let copied = bytes[place..end].to_vec();
                bytes.splice(place..place, copied);
            }
            3 => {
                let token = TOKENS[self.below(TOKENS.len())];
                bytes.splice(place..place, token.iter().copied());
            }
            _ => {
                let bit = self.below(8);
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << bit;
                }
            }
        }
    }

    /// Below `bound`, by xorshift64: good enough here, and the same on every machine.
    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state >> 33).unwrap_or(0) % bound.max(1)
    }
}
