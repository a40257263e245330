//! FETCH (RFC 3501 6.4.5): what was asked for, and the answer for one message.

use super::command::{Argument, number};
use super::date;
use super::mail::Message;
use super::message;

/// One thing asked of each message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    Flags,
    Uid,
    Size,
    InternalDate,
    Envelope,
    /// BODY, or BODYSTRUCTURE with the extension data.
    Structure {
        extended: bool,
    },
    Bytes(Bytes),
}

/// Bytes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bytes {
    /// What the answer calls them.
    label: String,
    section: Section,
    /// First byte and at most how many.
    partial: Option<(usize, usize)>,
    /// They are not to be marked as seen.
    peek: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Section {
    Whole,
    Header,
    Text,
    Fields { names: Vec<String>, listed: bool },
}

/// Parses the items of a FETCH, a lone one, a list, or a macro.
pub(super) fn parse(argument: &Argument) -> Option<Vec<Item>> {
    let items = match argument {
        Argument::List(items) => {
            items.iter().map(|item| item.text().and_then(item_named)).collect::<Option<Vec<_>>>()?
        }
        Argument::Atom(atom) => match atom.to_ascii_uppercase().as_str() {
            "FAST" => vec![Item::Flags, Item::InternalDate, Item::Size],
            "ALL" => vec![Item::Flags, Item::InternalDate, Item::Size, Item::Envelope],
            "FULL" => {
                let body = Item::Structure { extended: false };
                vec![Item::Flags, Item::InternalDate, Item::Size, Item::Envelope, body]
            }
            _ => vec![item_named(atom)?],
        },
        Argument::Text(_) => return None,
    };
    (!items.is_empty()).then_some(items)
}

/// Whether these items mark a message as seen.
pub(super) fn marks_seen(items: &[Item]) -> bool {
    items.iter().any(|item| matches!(item, Item::Bytes(Bytes { peek: false, .. })))
}

/// The untagged answer for the message with that number.
pub(super) fn answer(items: &[Item], number: u32, message: &Message, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("* {number} FETCH (").as_bytes());
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        describe(item, message, out);
    }
    out.extend_from_slice(b")\r\n");
}

/// A set of flags in parentheses.
pub(super) fn flags(message: &Message) -> String {
    let flags: Vec<_> = message.flags.iter().map(String::as_str).collect();
    format!("({})", flags.join(" "))
}

fn item_named(name: &str) -> Option<Item> {
    let upper = name.to_ascii_uppercase();
    let bytes = |section, peek| Some(Item::Bytes(Bytes { label: upper.clone(), section, partial: None, peek }));
    match upper.as_str() {
        "FLAGS" => Some(Item::Flags),
        "UID" => Some(Item::Uid),
        "RFC822.SIZE" => Some(Item::Size),
        "INTERNALDATE" => Some(Item::InternalDate),
        "ENVELOPE" => Some(Item::Envelope),
        "BODY" => Some(Item::Structure { extended: false }),
        "BODYSTRUCTURE" => Some(Item::Structure { extended: true }),
        "RFC822" => bytes(Section::Whole, false),
        "RFC822.HEADER" => bytes(Section::Header, true),
        "RFC822.TEXT" => bytes(Section::Text, false),
        _ => sectioned(&upper),
    }
}

/// `BODY[section]<partial>` or `BODY.PEEK[..]`, in capitals.
fn sectioned(name: &str) -> Option<Item> {
    let (peek, rest) = match name.strip_prefix("BODY.PEEK[") {
        Some(rest) => (true, rest),
        None => (false, name.strip_prefix("BODY[")?),
    };
    let (section, rest) = rest.split_once(']')?;
    let partial = if rest.is_empty() { None } else { Some(partial(rest)?) };
    let start = partial.map(|(start, _)| format!("<{start}>")).unwrap_or_default();
    Some(Item::Bytes(Bytes { label: format!("BODY[{section}]{start}"), section: named(section)?, partial, peek }))
}

fn partial(text: &str) -> Option<(usize, usize)> {
    let (start, length) = text.strip_prefix('<')?.strip_suffix('>')?.split_once('.')?;
    Some((usize::try_from(number(start.as_bytes())?).ok()?, usize::try_from(number(length.as_bytes())?).ok()?))
}

/// Every message is a single part, so part 1 is its text.
fn named(section: &str) -> Option<Section> {
    match section {
        "" => return Some(Section::Whole),
        "HEADER" => return Some(Section::Header),
        "TEXT" | "1" => return Some(Section::Text),
        _ => {}
    }
    let (list, listed) = match section.strip_prefix("HEADER.FIELDS.NOT ") {
        Some(list) => (list, false),
        None => (section.strip_prefix("HEADER.FIELDS ")?, true),
    };
    let list = list.strip_prefix('(')?.strip_suffix(')')?;
    let names = list.split_ascii_whitespace().map(|name| name.trim_matches('"').to_owned()).collect();
    Some(Section::Fields { names, listed })
}

fn describe(item: &Item, message: &Message, out: &mut Vec<u8>) {
    let text = match item {
        Item::Flags => format!("FLAGS {}", flags(message)),
        Item::Uid => format!("UID {}", message.uid),
        Item::Size => format!("RFC822.SIZE {}", message.raw.len()),
        Item::InternalDate => format!("INTERNALDATE \"{}\"", date::format(message.received)),
        Item::Envelope => format!("ENVELOPE {}", message::envelope(&message.raw)),
        Item::Structure { extended } => {
            let name = if *extended { "BODYSTRUCTURE" } else { "BODY" };
            format!("{name} {}", message::structure(&message.raw, *extended))
        }
        Item::Bytes(bytes) => return bytes.put(message, out),
    };
    out.extend_from_slice(text.as_bytes());
}

impl Bytes {
    fn put(&self, message: &Message, out: &mut Vec<u8>) {
        let picked;
        let bytes = match &self.section {
            Section::Whole => &message.raw[..],
            Section::Header => message::split(&message.raw).0,
            Section::Text => message::split(&message.raw).1,
            Section::Fields { names, listed } => {
                picked = message::pick(&message.raw, names, *listed);
                &picked
            }
        };
        let bytes = match self.partial {
            Some((start, length)) => {
                let rest = bytes.get(start..).unwrap_or_default();
                &rest[..length.min(rest.len())]
            }
            None => bytes,
        };
        out.extend_from_slice(format!("{} {{{}}}\r\n", self.label, bytes.len()).as_bytes());
        out.extend_from_slice(bytes);
    }
}
