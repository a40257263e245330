//! Sets of message numbers or UIDs, as in `1,4:7,9:*` (RFC 3501 9, `sequence-set`).

use super::command::number;

/// How many ranges a set may have.
const RANGES: usize = 1000;

/// A set of numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SequenceSet(Vec<(Bound, Bound)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Number(u32),
    Largest,
}

impl SequenceSet {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let ranges: Vec<_> = text.split(',').take(RANGES + 1).map(range).collect::<Option<_>>()?;
        (ranges.len() <= RANGES).then_some(Self(ranges))
    }

    /// Whether `number` is meant, `*` being `largest`. A range may run backwards.
    pub(super) fn contains(&self, number: u32, largest: u32) -> bool {
        let resolve = |bound| match bound {
            Bound::Number(number) => number,
            Bound::Largest => largest,
        };
        self.0.iter().any(|&(one, other)| {
            let (one, other) = (resolve(one), resolve(other));
            (one.min(other)..=one.max(other)).contains(&number)
        })
    }
}

fn range(text: &str) -> Option<(Bound, Bound)> {
    let (one, other) = text.split_once(':').unwrap_or((text, text));
    Some((bound(one)?, bound(other)?))
}

fn bound(text: &str) -> Option<Bound> {
    if text == "*" {
        return Some(Bound::Largest);
    }
    number(text.as_bytes()).filter(|&number| number > 0).map(Bound::Number)
}
