//! What operators forgive.

use std::net::IpAddr;

use super::Penalties;
use super::attempt::{self, network};
use crate::auth::cache::seal::Purpose;
use crate::auth::cache::shard_of;
use crate::store::StoreError;
use crate::store::notes::{Name, Note, Notes};

impl Penalties {
    /// Forgets all failures of a user, wherever they came from. Says how many there were.
    pub async fn forgive_user(&self, user: &str) -> Result<u32, StoreError> {
        let user = user.to_ascii_lowercase();
        let names = self.seals.load().names(Purpose::User, &[user.as_bytes()]).collect();
        self.forgive(shard_of(user.as_bytes(), self.board.shards), names).await
    }

    /// Forgets all failures at an address, or rather in its network, whoever's. Says how many there were.
    pub async fn forgive_address(&self, client: IpAddr) -> Result<u32, StoreError> {
        let client = network(client.to_canonical(), self.ipv6_prefix());
        let names = self.seals.load().names(Purpose::Address, &[client.as_bytes()]).collect();
        self.forgive(shard_of(client.as_bytes(), self.board.shards), names).await
    }

    /// In the fleet's notes, and in those that this proxy made while it could not reach them.
    async fn forgive(&self, shard: u16, names: Vec<Name>) -> Result<u32, StoreError> {
        let there = forget(self.board.fleet.as_ref(), shard, &names).await?;
        Ok(there + forget(self.board.here().as_ref(), shard, &names).await?)
    }
}

async fn forget(notes: &dyn Notes, shard: u16, names: &[Name]) -> Result<u32, StoreError> {
    let looks: Vec<Note> = names.iter().copied().map(Note::Traces).collect();
    let found = notes.exchange(shard, &looks).await?;
    let all = (0..names.len()).map(|at| attempt::traces(&found, at).to_vec());
    let wipes = names.iter().zip(all).filter(|(_, traces)| !traces.is_empty());
    let wipes: Vec<Note> = wipes.map(|(&name, traces)| Note::Wipe { name, traces }).collect();
    let wiped = notes.exchange(shard, &wipes).await?;
    Ok(wiped.iter().filter_map(attempt::count).sum())
}
