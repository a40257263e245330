//! What the fleet remembers of passdbs' answers, so that a login storm meets no database.
//!
//! `seal.rs` is what the fleet's secret does and `secret.rs` the file that it is in; `record.rs` what is kept about a user, and what that says to a question;
//! `flight.rs` lets those who ask the same at once ask once. A user's records of all sources are recalled in one round trip,
//! before the first source would be asked. A password that is not the one kept is always shown to the source.

mod flight;
mod record;
pub mod seal;
mod secret;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;

use self::flight::{Flights, Seat};
use self::record::{Record, Said};
use self::seal::{Purpose, Seals, SharedSeals};
use super::keys::MadeUp;
use super::link::Answer;
use crate::model::{Credentials, Mechanism, Proof, Protocol, ScramHash, Secret};
use crate::store::notes::{MAX_NOTE, Name, Note, Noted, Notes};

pub use record::Times;
pub use secret::SecretFault;

/// What a question is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    /// Name as given.
    pub(super) user: &'a str,
    /// By which protocol.
    pub(super) service: Protocol,
    /// What is asked.
    pub(super) kind: Kind,
    /// The password or token that was given, if the question is about one.
    pub(super) proof: Option<&'a Secret>,
    /// The source's present word is wanted; what it says is kept.
    pub(super) anew: bool,
}

/// Kinds of questions, whose answers are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Is this the password?
    Login,
    /// Is this token good? The name may be empty: the token has it.
    Token,
    /// What is known of somebody who has shown otherwise who it is?
    Proven,
    /// What is known of somebody whom a certificate names? Some sources answer that alone.
    External,
    /// What does SCRAM need with that hash?
    Keys(ScramHash),
    /// What is known of somebody who does not log in?
    Lookup,
}

/// Good tokens of one user that are kept: as many as there are devices, each with its own.
const TOKENS: usize = 8;

impl Kind {
    /// Of a login with that proof; `None` for one that has failed already.
    pub(super) fn of(credentials: &Credentials) -> Option<Self> {
        match &credentials.proof {
            Proof::Password(_) => Some(Self::Login),
            Proof::Token(_) => Some(Self::Token),
            Proof::Proven if credentials.mechanism == Mechanism::External => Some(Self::External),
            Proof::Proven => Some(Self::Proven),
            Proof::Failed(_) => None,
        }
    }

    const ALL: [Self; 7] = [
        Self::Login,
        Self::Token,
        Self::Proven,
        Self::External,
        Self::Keys(ScramHash::Sha1),
        Self::Keys(ScramHash::Sha256),
        Self::Lookup,
    ];

    fn word(self) -> &'static [u8] {
        match self {
            Self::Login => b"login",
            Self::Token => b"token",
            Self::Proven => b"proven",
            Self::External => b"external",
            Self::Keys(ScramHash::Sha1) => b"keys of SHA-1",
            Self::Keys(ScramHash::Sha256) => b"keys of SHA-256",
            Self::Lookup => b"lookup",
        }
    }

    /// How many good answers are kept of one source.
    fn room(self) -> usize {
        if self == Self::Token { TOKENS } else { 1 }
    }
}

/// The memory that a fleet has of passdbs' answers.
pub struct Cache {
    notes: Arc<dyn Notes>,
    shards: u16,
    seals: SharedSeals,
    times: ArcSwap<Times>,
    flights: Arc<Flights<Flight, Answer>>,
    counters: Counters,
}

/// Who asks the same: the record, and a mark of the password.
type Flight = (Option<Name>, [u8; 32]);

#[derive(Debug, Default)]
struct Counters {
    fresh: AtomicU64,
    stale: AtomicU64,
    missed: AtomicU64,
    shared: AtomicU64,
    unreachable: AtomicU64,
}

/// How much the cache has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Questions that it answered.
    pub fresh: u64,
    /// Questions that it answered because the source could not.
    pub stale: u64,
    /// Questions that went to a source.
    pub missed: u64,
    /// Questions that waited for the same question of somebody else.
    pub shared: u64,
    /// Looks that failed because the store could not be asked.
    pub unreachable: u64,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The source.
    Source,
    /// The source, which somebody else was asking the same.
    Shared,
    /// The fleet's memory.
    Fresh,
    /// The fleet's memory, because the source cannot answer.
    Stale,
}

/// What is to be asked about one user: in which shard, and by which names, of each source newest secret first.
pub struct Recall {
    pub(super) shard: u16,
    names: Vec<Vec<Name>>,
    seals: Arc<Seals>,
    /// Taken before anybody looks what is kept.
    seats: Vec<Seat<Flight, Answer>>,
}

impl Recall {
    pub(super) fn notes(&self) -> Vec<Note> {
        self.names.iter().flatten().copied().map(Note::Recall).collect()
    }
}

/// What was recalled about one user.
pub struct Recalled {
    /// In the order of the sources; each is used once.
    kept: Vec<Option<Recollection>>,
    /// The secrets of that moment.
    seals: Arc<Seals>,
}

struct Recollection {
    /// Where it is kept; behind that, where it is if another secret sealed it.
    name: Name,
    elsewhere: Vec<Name>,
    record: Record,
    /// There was something under one of these names.
    was_kept: bool,
    /// Taken before anybody looked what is kept.
    seat: Seat<Flight, Answer>,
}

impl Cache {
    /// A cache in those notes, of a store with so many shards.
    pub fn new(notes: Arc<dyn Notes>, shards: u16, seals: SharedSeals, times: Times) -> Self {
        let times = ArcSwap::from_pointee(times);
        Self { notes, shards, seals, times, flights: Arc::default(), counters: Counters::default() }
    }

    /// From now on with these secrets, here and with whomever it shares them.
    pub fn reseal(&self, seals: Seals) {
        self.seals.store(Arc::new(seals));
    }

    /// From now on for so long.
    pub fn retime(&self, times: Times) {
        self.times.store(Arc::new(times));
    }

    /// What is shown of users who have no keys for SCRAM of their own.
    pub(super) fn made_up(&self, rounds: NonZeroU32) -> MadeUp {
        MadeUp::new(self.seals.load_full(), rounds)
    }

    /// What is kept about the user by these sources, in one round trip. Nothing, if the store cannot be asked.
    pub(super) async fn recall(&self, sources: &[&str], about: &About<'_>) -> Recalled {
        let recall = self.to_recall(sources, about);
        let answers = self.notes.exchange(recall.shard, &recall.notes()).await.ok();
        self.recalled(recall, answers)
    }

    /// What has to be asked for that, for whoever asks more in the same round trip.
    pub(super) fn to_recall(&self, sources: &[&str], about: &About<'_>) -> Recall {
        let seals = self.seals.load_full();
        let names: Vec<Vec<Name>> = sources.iter().map(|source| names(&seals, source, about)).collect();
        let mark = seals.mark(Purpose::Proof, &[about.proof.map_or(&[], Secret::expose)]);
        let seats = names.iter().map(|names| self.flights.seat((names.first().copied(), mark))).collect();
        Recall { shard: self.shard(about), names, seals, seats }
    }

    /// What the answers say; `None` if the store could not be asked.
    pub(super) fn recalled(&self, recall: Recall, answers: Option<Vec<Noted>>) -> Recalled {
        if answers.is_none() {
            // The links complain of a store that is gone.
            self.counters.unreachable.fetch_add(1, Ordering::Relaxed);
        }
        let Recall { names, seals, seats, .. } = recall;
        let mut answers = answers.unwrap_or_default().into_iter();
        let recollection = |(names, seat): (Vec<Name>, Seat<Flight, Answer>)| {
            let mut found = None;
            for name in &names {
                // The newest secret's first; the other's only if that has nothing.
                if let Some(Noted::Kept(Some(sealed))) = answers.next() {
                    found = found.or_else(|| Record::read(&seals.open(name, &sealed)?));
                }
            }
            let (name, elsewhere) = names.split_first()?;
            let (was_kept, record) = (found.is_some(), found.unwrap_or_default());
            Some(Recollection { name: *name, elsewhere: elsewhere.to_vec(), record, was_kept, seat })
        };
        let kept = names.into_iter().zip(seats).map(recollection).collect();
        Recalled { kept, seals }
    }

    /// The answer of source number `source` of those recalled: what is kept, or else what `ask` says now.
    pub(super) async fn answer(
        &self,
        recalled: &mut Recalled,
        source: usize,
        about: &About<'_>,
        ask: impl Future<Output = Answer>,
    ) -> (Answer, Origin) {
        let Some(mut kept) = recalled.kept.get_mut(source).and_then(Option::take) else {
            return (ask.await, Origin::Source);
        };
        let (seals, times) = (&recalled.seals, self.times.load_full());
        let stale = match kept.record.says(about.proof, seals, now(), &times) {
            _ if about.anew => None,
            Said::Fresh(answer) => {
                self.counters.fresh.fetch_add(1, Ordering::Relaxed);
                return (answer, Origin::Fresh);
            }
            Said::Stale(answer) => Some(answer),
            Said::Nothing => None,
        };
        let answer = kept.seat.answer(ask).await.duplicate();
        let is_own = kept.seat.is_own();
        let (counter, origin) =
            if is_own { (&self.counters.missed, Origin::Source) } else { (&self.counters.shared, Origin::Shared) };
        counter.fetch_add(1, Ordering::Relaxed);
        match (&answer, stale) {
            (Answer::Unavailable, Some(stale)) => {
                self.counters.stale.fetch_add(1, Ordering::Relaxed);
                (stale, Origin::Stale)
            }
            _ => {
                let (now, room) = (now(), about.kind.room());
                if is_own && kept.record.learn(&answer, about.proof, seals, now, room).unwrap_or_default() {
                    self.keep(kept, about, seals, &times);
                }
                (answer, origin)
            }
        }
    }

    /// Keeps a record, without waiting: nobody's login depends on it. Who asks the same meanwhile has the answer from its seat.
    fn keep(&self, kept: Recollection, about: &About<'_>, seals: &Seals, times: &Times) {
        let Recollection { name, elsewhere, record, was_kept, seat } = kept;
        let lasts = record.lasts(times, now());
        let Ok(value) = seals.seal(&name, &record.write()) else { return };
        let mut changes = Vec::new();
        if lasts >= Duration::from_secs(1) && value.len() <= MAX_NOTE {
            changes.push(Note::Keep { name, value, ttl: u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX) });
        } else if was_kept {
            changes.push(Note::Drop(name)); // a password that was right may be wrong now
        }
        if was_kept {
            // Else it would be found again once the newer one has lapsed.
            changes.extend(elsewhere.into_iter().map(Note::Drop));
        }
        if changes.is_empty() {
            return;
        }
        let (notes, shard) = (Arc::clone(&self.notes), self.shard(about));
        tokio::spawn(async move {
            let _ = notes.exchange(shard, &changes).await;
            drop(seat);
        });
    }

    /// Forgets what these sources said about a user, by every protocol. Says how many records that were.
    pub(super) async fn forget(&self, sources: &[&str], user: &str) -> Result<u64, crate::store::StoreError> {
        let seals = self.seals.load_full();
        let mut notes = Vec::new();
        let about = |service, kind| About { user, service, kind, proof: None, anew: false };
        for service in Protocol::ALL {
            for kind in Kind::ALL {
                let about = about(service, kind);
                notes.extend(sources.iter().flat_map(|source| names(&seals, source, &about)).map(Note::Drop));
            }
        }
        let shard = self.shard(&about(Protocol::Imap, Kind::Lookup));
        let dropped = self.notes.exchange(shard, &notes).await?;
        Ok(dropped.iter().filter(|noted| **noted == Noted::Dropped(true)).count() as u64)
    }

    /// Forgets everything about everybody. Says how many notes that were.
    pub async fn forget_all(&self) -> Result<u64, crate::store::StoreError> {
        let mut gone = 0;
        for shard in 0..self.shards {
            gone += self.notes.forget_all(shard).await?;
        }
        Ok(gone)
    }

    /// How much it has done since the start.
    pub fn stats(&self) -> CacheStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            fresh: read(&self.counters.fresh),
            stale: read(&self.counters.stale),
            missed: read(&self.counters.missed),
            shared: read(&self.counters.shared),
            unreachable: read(&self.counters.unreachable),
        }
    }

    /// All about one user is in one shard, whatever the secret: so that one round trip brings it all.
    fn shard(&self, about: &About<'_>) -> u16 {
        match about.proof {
            // Nobody knows yet whose token it is.
            Some(token) if about.user.is_empty() => spread(token.expose(), self.shards),
            _ => shard_of(about.user, self.shards),
        }
    }
}

/// Where everything is that concerns that user, or address, whatever the secret.
pub(super) fn shard_of(whom: &str, shards: u16) -> u16 {
    spread(whom.as_bytes(), shards)
}

/// FNV-1a: it need only spread, and be the same at every proxy.
fn spread(whom: &[u8], shards: u16) -> u16 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193);
    (whom.iter().fold(0x811c_9dc5, step) % u32::from(shards.max(1))) as u16 // below a u16
}

/// Where a source's record about a user is, newest secret first. A token without a name has a record of its own.
fn names(seals: &Seals, source: &str, about: &About<'_>) -> Vec<Name> {
    let user = about.user.to_ascii_lowercase();
    let is_nameless = about.kind == Kind::Token && user.is_empty();
    let nameless = about.proof.filter(|_| is_nameless).map_or(&[][..], Secret::expose);
    let (service, kind) = (about.service.word().as_bytes(), about.kind.word());
    let parts: [&[u8]; 5] = [source.as_bytes(), user.as_bytes(), service, kind, nameless];
    seals.names(Purpose::Answer, &parts).collect()
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
