//! How many sessions a user has from one address, and how many connections an address, over the whole fleet.
//!
//! Each proxy notes how many it has itself; what a proxy has that has no lease does not count, so a proxy that was killed
//! takes its share along. A number that could not be told is told again.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use super::attempt::network;
use super::board::{Board, millis};
use crate::auth::cache::seal::{Purpose, SharedSeals};
use crate::auth::cache::shard_of;
use crate::model::Incarnation;
use crate::store::notes::{Name, Note, Noted, Notes};

/// How long the store knows of sessions after the last came or went.
const REMEMBER: Duration = Duration::from_secs(7 * 24 * 3600);
/// Until a number is told again that could not be told; doubled each time.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is told again: for about a day.
const TRIES: u32 = 16;

/// The sessions of this proxy by user and address, and its connections by address.
pub struct Seats {
    board: Board,
    seals: SharedSeals,
    holder: Incarnation,
    taken: Mutex<HashMap<Place, u32>>,
    /// Of which somebody is about to tell the store.
    telling: Mutex<HashSet<Place>>,
}

/// A user at an address, or an address, and in which shard that is noted.
type Place = (u16, Name);

/// A session, or a connection, that counts until this is dropped.
pub struct Seat {
    seats: Arc<Seats>,
    place: Place,
}

impl Seats {
    /// Of that proxy. `fleet` and `seals` are as the penalties have them.
    pub fn new(fleet: Arc<dyn Notes>, shards: u16, seals: SharedSeals, holder: Incarnation) -> Arc<Self> {
        Arc::new(Self {
            board: Board::new(fleet, shards),
            seals,
            holder,
            taken: Mutex::default(),
            telling: Mutex::default(),
        })
    }

    /// A seat for one more session; `None` if there are `most` already.
    pub async fn take(self: &Arc<Self>, user: &str, client: IpAddr, ipv6_prefix: u8, most: u32) -> Option<Seat> {
        let user = user.to_ascii_lowercase();
        let client = network(client, ipv6_prefix);
        let name = self.seals.load().name(Purpose::Sessions, &[user.as_bytes(), client.as_bytes()]);
        self.take_at((shard_of(&user, self.board.shards), name), most).await
    }

    /// A seat for one more connection of an address, whoever's; `None` if there are `most` already.
    pub async fn take_connection(self: &Arc<Self>, client: IpAddr, ipv6_prefix: u8, most: u32) -> Option<Seat> {
        let client = network(client, ipv6_prefix);
        let name = self.seals.load().name(Purpose::Sessions, &[client.as_bytes()]);
        self.take_at((shard_of(&client, self.board.shards), name), most).await
    }

    async fn take_at(self: &Arc<Self>, place: Place, most: u32) -> Option<Seat> {
        let count = {
            let mut taken = self.taken();
            let count = taken.get(&place).map_or(1, |count| count.saturating_add(1));
            // Who has them all itself need not ask.
            if count > most {
                return None;
            }
            taken.insert(place, count);
            count
        };
        // From here on it is given back, whatever happens.
        let seat = Seat { seats: self.clone(), place };
        let (answers, alone) = self.board.exchange(&[(place.0, vec![self.note(place, count, most)])]).await;
        let fits = !matches!(answers.iter().flatten().next(), Some(Noted::Occupied { fits: false, .. }));
        if fits && (alone || self.count(place) != count) {
            // Others came or went meanwhile, and the store may have heard of them first; or it has not heard at all.
            self.tell_later(place);
        }
        fits.then_some(seat)
    }

    /// By one task for each place, however many come and go.
    fn tell_later(self: &Arc<Self>, place: Place) {
        // Without a runtime the process goes down, and its lease with it.
        let Ok(runtime) = Handle::try_current() else { return };
        if self.telling().insert(place) {
            let seats = self.clone();
            runtime.spawn(async move { seats.tell(place).await });
        }
    }

    fn telling(&self) -> MutexGuard<'_, HashSet<Place>> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, (_, name): Place, count: u32, most: u32) -> Note {
        Note::Occupy { name, holder: self.holder.clone(), count, most, ttl: millis(REMEMBER) }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Place, u32>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, place: Place) -> u32 {
        self.taken().get(&place).copied().unwrap_or_default()
    }

    /// Tells how many there are now, until the store has heard it. Two who tell at once may be heard in either order: so whoever
    /// has told a number that is not true any more tells again.
    async fn tell(&self, place: Place) {
        let mut pause = AGAIN;
        for _ in 0..TRIES {
            // Whoever comes or goes from here on has it told by a task of its own, or sees that the number differs.
            self.telling().remove(&place);
            let count = self.count(place);
            let told = self.board.ask_fleet(&[(place.0, vec![self.note(place, count, 0)])]).await;
            let is_told = told.iter().all(Option::is_some);
            if is_told && self.count(place) == count {
                return;
            }
            if !self.telling().insert(place) {
                return; // another does so
            }
            if !is_told {
                sleep(pause).await;
                pause *= 2;
            }
        }
        self.telling().remove(&place);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let (seats, place) = (self.seats.clone(), self.place);
        {
            let mut taken = seats.taken();
            let left = taken.get(&place).map_or(0, |count| count.saturating_sub(1));
            if left > 0 {
                taken.insert(place, left)
            } else {
                taken.remove(&place)
            };
        }
        seats.tell_later(place);
    }
}
