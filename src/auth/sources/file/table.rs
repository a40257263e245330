//! A passwd-file in memory: its text as it is, and an index of eight to sixteen bytes per user.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};

use zeroize::Zeroizing;

use crate::auth::extra::Extra;
use crate::auth::fault::Fault;
use crate::auth::scheme::{Cost, Schemes, Stored};
use crate::model::ScramHash;

/// Lines named in the log for one reading; the rest is counted.
const NAMED_FAULTS: usize = 10;

/// Unknown fields named in the log for one reading.
const NAMED_FIELDS: usize = 20;

/// The content of one passwd-file.
pub(super) struct Table {
    /// Wiped when dropped: it may hold cleartext passwords.
    text: Zeroizing<Vec<u8>>,
    schemes: Schemes,
    hasher: RandomState,
    /// Open addressing by user name: where a user's line begins, plus one. Zero is free. At most half full.
    slots: Vec<u32>,
    /// Where the line begins whose hash is of the most common cost.
    typical: Option<u32>,
    /// The hashes for which all users have keys of SCRAM, or a password that they can be made of.
    scram: Vec<ScramHash>,
}

/// What reading a file found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) users: usize,
    /// Users who cannot log in because of their line; the first few by line number.
    pub(super) faulty: usize,
    pub(super) faults: Vec<(usize, Fault)>,
    /// Lines of users that an earlier line has; the first few by line number.
    pub(super) repeated: usize,
    pub(super) repeats: Vec<usize>,
    /// Names that no login can match, because names are lower-cased before they are looked up; the first line.
    pub(super) unreachable: usize,
    pub(super) first_unreachable: usize,
    /// Extra fields that mean nothing to a proxy.
    pub(super) unknown_fields: BTreeSet<String>,
}

/// One user, as the file has it.
pub(super) struct Entry {
    pub(super) stored: Stored,
    pub(super) cost: Cost,
    pub(super) extra: Extra,
}

impl Table {
    /// Indexes and checks every line. `text` must be shorter than 4 GiB; what is beyond is not looked at.
    pub(super) fn build(text: impl Into<Zeroizing<Vec<u8>>>, schemes: &Schemes) -> (Self, Findings) {
        let text = text.into();
        let lines = memchr::memchr_iter(b'\n', &text).count() + 1;
        let slots = vec![0; (lines * 2).next_power_of_two()];
        let scram = vec![ScramHash::Sha1, ScramHash::Sha256];
        let mut table =
            Self { text, schemes: schemes.clone(), hasher: RandomState::new(), slots, typical: None, scram };
        let findings = table.index();
        (table, findings)
    }

    /// The user's entry, or what is wrong with it and in which line. `None` if there is no such user.
    pub(super) fn find(&self, user: &str) -> Option<Result<Entry, (usize, Fault)>> {
        let slot = self.slot(user.as_bytes());
        let begin = self.slots[slot].checked_sub(1)?;
        let entry = parse_line(self.line(begin), &self.schemes, |_| ());
        Some(entry.map_err(|fault| (self.number(begin), fault)))
    }

    /// The names of all users, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let lines = self.slots.iter().filter_map(|slot| Some(self.line(slot.checked_sub(1)?)));
        lines.filter_map(|line| std::str::from_utf8(user_of(line)).ok())
    }

    /// All users can log in by SCRAM with that hash; false if there are none.
    pub(super) fn has_scram_keys(&self, hash: ScramHash) -> bool {
        self.typical.is_some() && self.scram.contains(&hash)
    }

    /// A password that costs as much to verify as most do.
    pub(super) fn typical(&self) -> Option<(Stored, Cost)> {
        let entry = parse_line(self.line(self.typical?), &self.schemes, |_| ()).ok()?;
        Some((entry.stored, entry.cost))
    }

    /// Bytes held.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.text.capacity() + self.slots.capacity() * size_of::<u32>()
    }

    fn index(&mut self) -> Findings {
        let mut findings = Findings::default();
        let mut costs: HashMap<Cost, (usize, u32)> = HashMap::new();
        let (mut begin, mut number) = (0_u32, 0);
        while (begin as usize) < self.text.len() {
            number += 1;
            let line = self.line_to_its_end(begin);
            let next = begin.checked_add(line.len() as u32 + 1); // a line lies within 4 GiB
            if !is_comment(line) {
                let (user, slot) = (user_of(line), self.slot(user_of(line)));
                if user.iter().any(u8::is_ascii_uppercase) {
                    findings.note_unreachable(number);
                } else if self.slots[slot] != 0 {
                    findings.note_repeat(number);
                } else {
                    match parse_line(trim(line), &self.schemes, |field| findings.note_field(field)) {
                        Ok(entry) => {
                            self.scram.retain(|hash| entry.stored.gives_scram_keys(*hash));
                            costs.entry(entry.cost).or_insert((0, begin)).0 += 1;
                        }
                        Err(fault) => findings.note_fault(number, fault),
                    }
                    findings.users += 1;
                    self.slots[slot] = begin + 1;
                }
            }
            let Some(next) = next else { break };
            begin = next;
        }
        self.typical = costs.into_values().max().map(|(_, begin)| begin);
        findings
    }

    /// Where the user is, or would be.
    fn slot(&self, user: &[u8]) -> usize {
        let mask = self.slots.len() - 1; // a power of two
        let mut slot = self.hasher.hash_one(user) as usize & mask;
        // Ends: at most half of the slots are taken.
        while let Some(begin) = self.slots[slot].checked_sub(1) {
            if user_of(self.line(begin)) == user {
                break;
            }
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn line_to_its_end(&self, begin: u32) -> &[u8] {
        let rest = &self.text[begin as usize..];
        &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())]
    }

    fn line(&self, begin: u32) -> &[u8] {
        trim(self.line_to_its_end(begin))
    }

    fn number(&self, begin: u32) -> usize {
        memchr::memchr_iter(b'\n', &self.text[..begin as usize]).count() + 1
    }
}

impl Findings {
    /// For the operator: each begins with the number of a line.
    pub(super) fn complaints(&self) -> Vec<String> {
        let fault = |(line, fault): &(usize, Fault)| format!("{line}: {fault}; this user cannot log in");
        let mut complaints: Vec<String> = self.faults.iter().map(fault).collect();
        if let Some((line, _)) = self.faults.last().filter(|_| self.faulty > self.faults.len()) {
            complaints
                .push(format!("{line}: {} more lines behind this one are faulty", self.faulty - self.faults.len()));
        }
        let repeat = |line: &usize| format!("{line}: an earlier line has this user; this one is ignored");
        complaints.extend(self.repeats.iter().map(repeat));
        if let Some(line) = self.repeats.last().filter(|_| self.repeated > self.repeats.len()) {
            let more = self.repeated - self.repeats.len();
            complaints.push(format!("{line}: {more} more users behind this line are there twice"));
        }
        if self.unreachable > 0 {
            complaints.push(format!(
                "{}: {} names have upper-case letters (this is the first); names are lower-cased before they are looked \
                 up, so that these never match",
                self.first_unreachable, self.unreachable
            ));
        }
        complaints
    }

    fn note_fault(&mut self, line: usize, fault: Fault) {
        self.faulty += 1;
        if self.faults.len() < NAMED_FAULTS {
            self.faults.push((line, fault));
        }
    }

    fn note_repeat(&mut self, line: usize) {
        self.repeated += 1;
        if self.repeats.len() < NAMED_FAULTS {
            self.repeats.push(line);
        }
    }

    fn note_unreachable(&mut self, line: usize) {
        self.unreachable += 1;
        if self.unreachable == 1 {
            self.first_unreachable = line;
        }
    }

    /// Only what looks like a field's name: anything else may be a piece of a password in the wrong column.
    fn note_field(&mut self, field: &str) {
        let is_name = field.len() <= 40 && field.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if is_name && self.unknown_fields.len() < NAMED_FIELDS && !self.unknown_fields.contains(field) {
            self.unknown_fields.insert(field.to_owned());
        }
    }
}

/// `user:password:uid:gid:gecos:home:shell:extra fields`; all behind the password may be missing, and the extra fields
/// may have colons.
fn parse_line(line: &[u8], schemes: &Schemes, unknown: impl FnMut(&str)) -> Result<Entry, Fault> {
    let line = std::str::from_utf8(line).map_err(|_| Fault::NotText)?;
    let mut columns = line.splitn(8, ':').skip(1);
    let password = columns.next().ok_or(Fault::NoPasswordField)?;
    let extra = Extra::parse(columns.nth(5).unwrap_or(""), unknown)?;
    let (stored, cost) = Stored::parse(password, schemes)?;
    if extra.nopassword && !matches!(stored, Stored::Empty) {
        return Err(Fault::NoPasswordWithPassword);
    }
    Ok(Entry { stored, cost, extra })
}

fn is_comment(line: &[u8]) -> bool {
    matches!(trim(line).first(), None | Some(b'#' | b':'))
}

fn user_of(line: &[u8]) -> &[u8] {
    let line = trim(line);
    &line[..memchr::memchr(b':', line).unwrap_or(line.len())]
}

/// Without the carriage return of files that were edited elsewhere.
fn trim(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
