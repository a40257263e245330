//! The selected mailbox: the message numbers that this session knows, and the commands that use them.
//!
//! Numbers are this session's own view: what another session appends or expunges shows only when [`Folder::sync`] says
//! so, between commands that do not use numbers (RFC 3501 7.4.1).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::command::Argument;
use super::super::mail::{self, Account};
use super::super::search::{Largest, Search};
use super::super::sequence::SequenceSet;
use super::super::{date, fetch};
use super::{Refused, Verdict, bytes};

/// The INBOX is never made anew while the demo runs.
pub(super) const UID_VALIDITY: u32 = 1;
const FLAGS: &str = "\\Answered \\Flagged \\Deleted \\Seen \\Draft";
/// Flags of one message, and bytes of one flag.
const FLAGS_MAX: usize = 50;
const FLAG_MAX: usize = 100;

pub(super) struct Folder {
    account: Arc<Account>,
    /// UIDs by message number less one.
    uids: Vec<u32>,
    read_only: bool,
}

impl Folder {
    /// Opens the INBOX and tells what SELECT tells.
    pub(super) fn open(account: Arc<Account>, read_only: bool, out: &mut Vec<u8>) -> Self {
        let (next, uids): (_, Vec<_>) =
            account.with(|inbox| (inbox.next_uid(), inbox.messages.iter().map(|message| message.uid).collect()));
        say(out, &format!("* FLAGS ({FLAGS})"));
        say(out, &format!("* OK [PERMANENTFLAGS ({FLAGS} \\*)] Any flag is kept."));
        say(out, &format!("* {} EXISTS", uids.len()));
        say(out, "* 0 RECENT");
        say(out, &format!("* OK [UIDVALIDITY {UID_VALIDITY}] Valid."));
        say(out, &format!("* OK [UIDNEXT {next}] Next."));
        Self { account, uids, read_only }
    }

    pub(super) fn act(&mut self, verb: &str, arguments: &[Argument], out: &mut Vec<u8>) -> Verdict {
        let by_uid = verb.starts_with("UID ");
        match verb {
            "FETCH" | "UID FETCH" => self.fetch(arguments, by_uid, out),
            "STORE" | "UID STORE" => self.store(arguments, by_uid, out),
            "SEARCH" | "UID SEARCH" => self.search(arguments, by_uid, out),
            "EXPUNGE" => {
                self.expunge(None);
                self.sync(out);
                Ok("Done.".to_owned())
            }
            "UID EXPUNGE" => {
                self.expunge(Some(&set(arguments.first())?));
                self.sync(out);
                Ok("Done.".to_owned())
            }
            _ => Err(Refused::Bad("This server does not know that command.")),
        }
    }

    /// Catches up with what other sessions did.
    pub(super) fn sync(&mut self, out: &mut Vec<u8>) {
        let now: Vec<u32> = self.account.with(|inbox| inbox.messages.iter().map(|message| message.uid).collect());
        let known = self.uids.len();
        for at in (0..known).rev() {
            if now.binary_search(&self.uids[at]).is_err() {
                self.uids.remove(at);
                say(out, &format!("* {} EXPUNGE", at + 1));
            }
        }
        if now.len() > self.uids.len() {
            say(out, &format!("* {} EXISTS", now.len()));
        }
        self.uids = now;
    }

    /// Removes what is flagged \Deleted, of `only` those UIDs if given. The numbers change with the next sync.
    pub(super) fn expunge(&self, only: Option<&SequenceSet>) {
        if self.read_only {
            return;
        }
        let largest = self.largest().uid;
        self.account.with(|inbox| {
            inbox.messages.retain(|message| {
                !message.has("\\Deleted") || only.is_some_and(|set| !set.contains(message.uid, largest))
            });
        });
        self.account.announce();
    }

    fn fetch(&self, arguments: &[Argument], by_uid: bool, out: &mut Vec<u8>) -> Verdict {
        let [numbers, items] = arguments else { return Err(Refused::Bad("FETCH takes a set and items.")) };
        let chosen = self.chosen(&set(Some(numbers))?, by_uid);
        let mut items = fetch::parse(items).ok_or(Refused::Bad("An unknown item to fetch."))?;
        if by_uid && !items.contains(&fetch::Item::Uid) {
            items.insert(0, fetch::Item::Uid);
        }
        let marks_seen = fetch::marks_seen(&items) && !self.read_only;
        for (number, uid) in chosen {
            let message = self.account.with(|inbox| {
                let message = inbox.message(uid)?;
                let newly_seen = marks_seen && message.flags.insert("\\Seen".to_owned());
                Some((message.clone(), newly_seen))
            });
            let Some((message, newly_seen)) = message else { continue };
            fetch::answer(&items, number, &message, out);
            if newly_seen && !items.contains(&fetch::Item::Flags) {
                fetch::answer(&[fetch::Item::Flags], number, &message, out);
            }
        }
        Ok("Done.".to_owned())
    }

    fn store(&self, arguments: &[Argument], by_uid: bool, out: &mut Vec<u8>) -> Verdict {
        let [numbers, Argument::Atom(how), given] = arguments else {
            return Err(Refused::Bad("STORE takes a set, what to do, and flags."));
        };
        let chosen = self.chosen(&set(Some(numbers))?, by_uid);
        let flags = match given {
            Argument::List(list) => flags(list)?,
            one => flags(std::slice::from_ref(one))?,
        };
        let how = how.to_ascii_uppercase();
        let (how, silent) = how.strip_suffix(".SILENT").map_or((how.as_str(), false), |how| (how, true));
        if !["FLAGS", "+FLAGS", "-FLAGS"].contains(&how) {
            return Err(Refused::Bad("STORE knows FLAGS, +FLAGS and -FLAGS."));
        }
        if self.read_only {
            return Err(Refused::No("The mailbox is open for reading only."));
        }
        let items: &[fetch::Item] =
            if by_uid { &[fetch::Item::Uid, fetch::Item::Flags] } else { &[fetch::Item::Flags] };
        for (number, uid) in chosen {
            let message = self.account.with(|inbox| {
                let message = inbox.message(uid)?;
                match how {
                    "FLAGS" => message.flags.clone_from(&flags),
                    "+FLAGS" if message.flags.union(&flags).count() <= FLAGS_MAX => message.flags.extend(flags.clone()),
                    "+FLAGS" => {}
                    _ => message.flags.retain(|flag| !flags.contains(flag)),
                }
                Some(message.clone())
            });
            if let Some(message) = message.filter(|_| !silent) {
                fetch::answer(items, number, &message, out);
            }
        }
        Ok("Done.".to_owned())
    }

    fn search(&self, arguments: &[Argument], by_uid: bool, out: &mut Vec<u8>) -> Verdict {
        let search = Search::parse(arguments).ok_or(Refused::Bad("This server does not know that search."))?;
        let largest = self.largest();
        let mut answer = "* SEARCH".to_owned();
        for (number, &uid) in (1..).zip(&self.uids) {
            let message = self.account.with(|inbox| inbox.message(uid).map(|message| message.clone()));
            if message.is_some_and(|message| search.finds(number, &message, largest)) {
                answer += &format!(" {}", if by_uid { uid } else { number });
            }
        }
        say(out, &answer);
        Ok("Done.".to_owned())
    }

    /// Numbers and UIDs of the messages that a set means.
    fn chosen(&self, set: &SequenceSet, by_uid: bool) -> Vec<(u32, u32)> {
        let largest = self.largest();
        let meant = |&(number, uid): &(u32, u32)| {
            if by_uid { set.contains(uid, largest.uid) } else { set.contains(number, largest.number) }
        };
        (1..).zip(self.uids.iter().copied()).filter(meant).collect()
    }

    fn largest(&self) -> Largest {
        // An INBOX has far fewer messages than fit.
        let number = u32::try_from(self.uids.len()).unwrap_or(u32::MAX);
        Largest { number, uid: self.uids.last().copied().unwrap_or(0) }
    }
}

/// The items of a STATUS answer; `None` if one is unknown.
pub(super) fn status(account: &Account, items: &[Argument]) -> Option<String> {
    let (messages, unseen, next) = account.with(|inbox| (inbox.messages.len(), inbox.unseen(), inbox.next_uid()));
    let item = |item: &Argument| {
        let name = item.text()?.to_ascii_uppercase();
        let value = match name.as_str() {
            "MESSAGES" => messages,
            "RECENT" => 0,
            "UNSEEN" => unseen,
            "UIDNEXT" => usize::try_from(next).ok()?,
            "UIDVALIDITY" => usize::try_from(UID_VALIDITY).ok()?,
            _ => return None,
        };
        Some(format!("{name} {value}"))
    };
    Some(items.iter().map(item).collect::<Option<Vec<_>>>()?.join(" "))
}

/// Keeps a message: `arguments` are flags and date, if given, and the message. Tells its UID.
pub(super) fn append(account: &Account, arguments: &[Argument]) -> Result<u32, Refused> {
    let (message, rest) = arguments.split_last().ok_or(Refused::Bad("APPEND takes a message."))?;
    let (given, received) = match rest {
        [] => (&[][..], None),
        [Argument::List(list)] => (&list[..], None),
        [Argument::List(list), date] => (&list[..], Some(date)),
        [date] => (&[][..], Some(date)),
        _ => return Err(Refused::Bad("APPEND takes flags, a date and a message.")),
    };
    let received = match received {
        Some(text) => text.text().and_then(date::parse).ok_or(Refused::Bad("That is not a date."))?,
        None => mail::now(),
    };
    let flags = flags(given)?;
    let uid = account.with(|inbox| inbox.append(bytes(message).to_vec(), flags, received));
    account.announce();
    uid.ok_or(Refused::No("[OVERQUOTA] There is no room for it."))
}

fn set(argument: Option<&Argument>) -> Result<SequenceSet, Refused> {
    let text = argument.and_then(Argument::text);
    text.and_then(SequenceSet::parse).ok_or(Refused::Bad("That is not a set of messages."))
}

/// Flags as a client gives them; \Recent cannot be set.
fn flags(list: &[Argument]) -> Result<BTreeSet<String>, Refused> {
    let fits = |flag: &str| !flag.is_empty() && flag.len() <= FLAG_MAX && !flag.eq_ignore_ascii_case("\\Recent");
    let flag = |argument: &Argument| match argument {
        Argument::Atom(flag) if fits(flag) => Ok(system(flag)),
        _ => Err(Refused::Bad("That is not a flag.")),
    };
    if list.len() > FLAGS_MAX {
        return Err(Refused::Bad("Those are too many flags."));
    }
    list.iter().map(flag).collect()
}

/// The system flags in one spelling, so that they can be compared.
fn system(flag: &str) -> String {
    let known = FLAGS.split(' ').find(|known| known.eq_ignore_ascii_case(flag));
    known.unwrap_or(flag).to_owned()
}

fn say(out: &mut Vec<u8>, line: &str) {
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(b"\r\n");
}
