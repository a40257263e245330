//! SEARCH (RFC 3501 6.4.4): the keys that mail programs use most; dates, sizes and OR are refused.

use super::command::Argument;
use super::mail::Message;
use super::message;
use super::sequence::SequenceSet;

/// What a message must be like.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    All,
    /// Nothing is ever recent here.
    Nothing,
    Flag {
        flag: String,
        set: bool,
    },
    Numbers(SequenceSet),
    Uids(SequenceSet),
    Header {
        name: String,
        part: String,
    },
    Anywhere(String),
    Body(String),
    Not(Box<Key>),
}

/// All keys of a SEARCH; a message must meet each.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Search(Vec<Key>);

/// The largest message number and UID, which `*` stands for.
#[derive(Clone, Copy)]
pub(super) struct Largest {
    pub(super) number: u32,
    pub(super) uid: u32,
}

impl Search {
    /// Parses the arguments of a SEARCH. A CHARSET is taken if it is one that this server writes anyway.
    pub(super) fn parse(arguments: &[Argument]) -> Option<Self> {
        let mut words = arguments.iter().map(Argument::text).collect::<Option<Vec<_>>>()?.into_iter().peekable();
        if words.next_if(|word| word.eq_ignore_ascii_case("CHARSET")).is_some() {
            words.next().filter(|name| ["UTF-8", "US-ASCII"].iter().any(|known| known.eq_ignore_ascii_case(name)))?;
        }
        let mut keys = Vec::new();
        while let Some(word) = words.next() {
            keys.push(key(word, &mut words)?);
        }
        (!keys.is_empty()).then_some(Self(keys))
    }

    pub(super) fn finds(&self, number: u32, message: &Message, largest: Largest) -> bool {
        self.0.iter().all(|key| key.finds(number, message, largest))
    }
}

/// Parses one key that begins with `word`. NOT may nest as deep as a command has arguments, which is bounded.
fn key<'a>(word: &str, rest: &mut impl Iterator<Item = &'a str>) -> Option<Key> {
    let upper = word.to_ascii_uppercase();
    match upper.as_str() {
        "ALL" | "OLD" => Some(Key::All),
        "NEW" | "RECENT" => Some(Key::Nothing),
        "SUBJECT" | "FROM" | "TO" | "CC" => Some(Key::Header { name: upper, part: rest.next()?.to_lowercase() }),
        "HEADER" => Some(Key::Header { name: rest.next()?.to_owned(), part: rest.next()?.to_lowercase() }),
        "TEXT" => Some(Key::Anywhere(rest.next()?.to_lowercase())),
        "BODY" => Some(Key::Body(rest.next()?.to_lowercase())),
        "UID" => SequenceSet::parse(rest.next()?).map(Key::Uids),
        "KEYWORD" => Some(Key::Flag { flag: rest.next()?.to_owned(), set: true }),
        "UNKEYWORD" => Some(Key::Flag { flag: rest.next()?.to_owned(), set: false }),
        "NOT" => key(rest.next()?, rest).map(|key| Key::Not(Box::new(key))),
        _ => system_flag(&upper).or_else(|| SequenceSet::parse(word).map(Key::Numbers)),
    }
}

/// SEEN, UNSEEN and so on.
fn system_flag(word: &str) -> Option<Key> {
    let (name, set) = word.strip_prefix("UN").map_or((word, true), |name| (name, false));
    let known = ["SEEN", "ANSWERED", "FLAGGED", "DELETED", "DRAFT"].contains(&name);
    known.then(|| Key::Flag { flag: format!("\\{name}"), set })
}

impl Key {
    fn finds(&self, number: u32, message: &Message, largest: Largest) -> bool {
        let within = |bytes: &[u8], part: &str| String::from_utf8_lossy(bytes).to_lowercase().contains(part);
        match self {
            Self::All => true,
            Self::Nothing => false,
            Self::Flag { flag, set } => message.has(flag) == *set,
            Self::Numbers(set) => set.contains(number, largest.number),
            Self::Uids(set) => set.contains(message.uid, largest.uid),
            Self::Header { name, part } => {
                message::value(&message.raw, name).is_some_and(|value| value.to_lowercase().contains(part))
            }
            Self::Anywhere(part) => within(&message.raw, part),
            Self::Body(part) => within(message::split(&message.raw).1, part),
            Self::Not(key) => !key.finds(number, message, largest),
        }
    }
}
