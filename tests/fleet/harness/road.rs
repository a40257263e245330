//! One proxy's way to the store, which can be fair, rough, broken or silent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use homing::model::{Incarnation, Key};
use homing::store::memory::Memory;
use homing::store::{
    BindingPage, BindingView, Call, Census, Connection, Nudges, Order, Ordered, Reply, Request, Store, StoreError,
};
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::Dice;

/// Well below what a link waits for.
const SLOW: Duration = Duration::from_millis(50);

/// What happens to calls and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Fair,
    /// Every call takes a while, but not too long.
    Slow,
    /// Anything may be lost, late, repeated, torn.
    Rough,
    /// Nothing passes, and whoever tries hears of it.
    Cut,
    /// Nothing passes, and nobody hears anything.
    Silent,
    /// Fair, but somebody else is always faster to change the table.
    Beaten,
    /// Fair, but nobody can look up the key `fog`.
    Foggy,
}

/// A store behind a road.
#[derive(Clone)]
pub struct Road(Arc<Way>);

struct Way {
    memory: Memory,
    weather: Mutex<Weather>,
    dice: Dice,
    /// What arrives although its sender has given up, or is dead.
    late: Handle,
    asked: Mutex<HashMap<&'static str, u64>>,
}

impl Road {
    /// A fair one. Must be called on the test's own runtime, which carries what is late.
    pub fn new(memory: Memory, seed: u64) -> Self {
        let weather = Mutex::new(Weather::Fair);
        let (dice, late) = (Dice::new(seed), Handle::current());
        Self(Arc::new(Way { memory, weather, dice, late, asked: Mutex::default() }))
    }

    pub fn set(&self, weather: Weather) {
        *self.0.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// How many requests of that name have arrived in good order.
    pub fn asked(&self, what: &str) -> u64 {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).get(what).copied().unwrap_or(0)
    }

    /// Waits for so many more heartbeats.
    pub async fn beats(&self, more: u64) {
        let until = self.asked("heartbeat") + more;
        while self.asked("heartbeat") < until {
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn weather(&self) -> Weather {
        *self.0.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn apply(&self, shard: u16, calls: &[Call]) -> Result<Vec<Reply>, StoreError> {
        self.blocked().await?;
        let connection = self.0.memory.connect(shard).await;
        let replies = match self.weather() {
            Weather::Beaten => connection?.exchange(&too_late(calls)).await?,
            _ => connection?.exchange(calls).await?,
        };
        {
            let mut asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
            calls.iter().for_each(|call| *asked.entry(name(&call.request)).or_default() += 1);
        }
        // The answers go the same way.
        self.blocked().await?;
        Ok(replies)
    }

    async fn blocked(&self) -> Result<(), StoreError> {
        match self.weather() {
            Weather::Cut => Err(broken()),
            Weather::Silent => std::future::pending().await,
            _ => Ok(()),
        }
    }

    /// The calls arrive later, whatever becomes of whoever sent them.
    fn arrive_late(&self, shard: u16, calls: &[Call], after: u64) {
        let (memory, calls) = (self.0.memory.clone(), calls.to_vec());
        self.0.late.spawn(async move {
            sleep(Duration::from_millis(after)).await;
            let _ = memory.connect(shard).await.unwrap().exchange(&calls).await;
        });
    }

    async fn roughly(&self, shard: u16, calls: &[Call]) -> Result<Vec<Reply>, StoreError> {
        let dice = &self.0.dice;
        match dice.below(100) {
            0..8 => {
                sleep(Duration::from_millis(dice.below(40))).await;
                self.apply(shard, calls).await
            }
            8..16 => {
                let replies = self.apply(shard, calls).await;
                sleep(Duration::from_millis(dice.below(150))).await;
                replies
            }
            16..18 => Err(broken()),
            18..21 => self.apply(shard, calls).await.and(Err(broken())),
            21..23 => {
                let some = dice.below(calls.len() as u64 + 1) as usize;
                self.apply(shard, &calls[..some]).await.and(Err(broken()))
            }
            23 => std::future::pending().await,
            24 => {
                self.arrive_late(shard, calls, dice.below(400));
                std::future::pending().await
            }
            25..27 => {
                self.arrive_late(shard, calls, dice.below(400));
                Err(broken())
            }
            27..30 => {
                let replies = self.apply(shard, calls).await;
                self.arrive_late(shard, calls, dice.below(400));
                replies
            }
            30 => {
                let _ = self.apply(shard, calls).await;
                self.apply(shard, calls).await
            }
            _ => self.apply(shard, calls).await,
        }
    }
}

fn broken() -> StoreError {
    StoreError::NoAnswer { at: "the road".to_owned(), why: "the weather".to_owned() }
}

/// The same calls, but each table was made from another than the one in force.
fn too_late(calls: &[Call]) -> Vec<Call> {
    let mut calls = calls.to_vec();
    for call in &mut calls {
        if let Request::Table { based_on, .. } = &mut call.request {
            *based_on += 1;
        }
    }
    calls
}

fn name(request: &Request) -> &'static str {
    match request {
        Request::Hello(_) => "hello",
        Request::Heartbeat(_) => "heartbeat",
        Request::Claim(_) => "claim",
        Request::Declare(_) => "declare",
        Request::Held { .. } => "held",
        Request::Reap { .. } => "reap",
        Request::Forget { .. } => "forget",
        Request::Table { .. } => "table",
    }
}

#[async_trait]
impl Store for Road {
    async fn connect(&self, shard: u16) -> Result<Box<dyn Connection>, StoreError> {
        self.blocked().await?;
        if self.weather() == Weather::Rough && self.0.dice.once_in(20) {
            return Err(broken());
        }
        Ok(Box::new(Line { road: self.clone(), shard, torn: false }))
    }

    async fn order(&self, shard: u16, order: &Order) -> Result<Ordered, StoreError> {
        self.blocked().await?;
        let ordered = self.0.memory.order(shard, order).await?;
        self.blocked().await?;
        Ok(ordered)
    }

    async fn nudges(&self, shard: u16, incarnation: &Incarnation) -> Result<Box<dyn Nudges>, StoreError> {
        self.blocked().await?;
        self.0.memory.nudges(shard, incarnation).await
    }

    async fn bindings(&self, shard: u16, cursor: &str) -> Result<BindingPage, StoreError> {
        self.0.memory.bindings(shard, cursor).await
    }

    async fn binding(&self, shard: u16, key: &Key) -> Result<Option<BindingView>, StoreError> {
        if self.weather() == Weather::Foggy && key.as_str() == "fog" {
            return Err(broken());
        }
        self.0.memory.binding(shard, key).await
    }

    async fn census(&self, shard: u16) -> Result<Census, StoreError> {
        self.0.memory.census(shard).await
    }
}

struct Line {
    road: Road,
    shard: u16,
    torn: bool,
}

#[async_trait]
impl Connection for Line {
    async fn exchange(&mut self, calls: &[Call]) -> Result<Vec<Reply>, StoreError> {
        assert!(!self.torn, "a connection that broke is used again");
        let outcome = match self.road.weather() {
            Weather::Rough => self.road.roughly(self.shard, calls).await,
            Weather::Slow => {
                sleep(SLOW).await;
                self.road.apply(self.shard, calls).await
            }
            _ => self.road.apply(self.shard, calls).await,
        };
        self.torn = outcome.is_err();
        outcome
    }
}
