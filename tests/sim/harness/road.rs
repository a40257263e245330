//! One proxy's way to the store. What is late on it arrives whatever becomes of its sender.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use homing::model::{Incarnation, Key};
use homing::store::{
    BindingPage, BindingView, Call, Census, Connection, Nudges, Order, Ordered, Reply, Store, StoreError,
};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::executor::{Owner, WORLD};
use super::world::{Weather, World};

#[derive(Clone)]
pub struct Road {
    world: Arc<World>,
    owner: Owner,
}

impl Road {
    pub fn new(world: Arc<World>, owner: Owner) -> Self {
        Self { world, owner }
    }

    /// Passes, or is broken, or waits for ever.
    async fn pass(&self, line: Option<u64>) -> Result<u64, StoreError> {
        match self.world.weather(self.owner) {
            Weather::Cut => return Err(broken()),
            Weather::Silent => std::future::pending().await,
            _ => {}
        }
        let generation = self.world.server.generation().ok_or_else(broken)?;
        if line.is_none_or(|line| line == generation) { Ok(generation) } else { Err(broken()) }
    }

    async fn travel(&self) {
        let dice = &self.world.dice;
        match self.world.weather(self.owner) {
            Weather::Slow => sleep(dice.span(20, 120)).await,
            _ if dice.percent(30) => sleep(Duration::from_millis(1)).await,
            _ => {}
        }
    }

    /// What is on its way gets there, whether or not the sender still lives or waits, and the answer waits for it.
    async fn apply(&self, line: At, calls: &[Call]) -> Result<Vec<Reply>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let (road, calls) = (self.clone(), calls.to_vec());
        self.world.executor.spawn(WORLD, async move {
            let outcome = road.carry(line, &calls).await;
            let _ = answer.send(outcome);
        });
        answered.await.unwrap_or_else(|_| Err(broken()))
    }

    async fn carry(&self, line: At, calls: &[Call]) -> Result<Vec<Reply>, StoreError> {
        self.travel().await;
        self.pass(Some(line.generation)).await?;
        let replies = calls.iter().map(|call| self.world.server.apply(&self.world, self.owner, line.shard, call));
        let replies = replies.collect();
        // The answers go the same way.
        self.travel().await;
        self.pass(Some(line.generation)).await?;
        Ok(replies)
    }

    /// The calls arrive later, whatever becomes of whoever sent them.
    fn arrive_late(&self, shard: u16, calls: &[Call], after: Duration) {
        let (road, calls) = (self.clone(), calls.to_vec());
        self.world.executor.spawn(WORLD, async move {
            sleep(after).await;
            if road.world.server.generation().is_some() {
                for call in &calls {
                    road.world.server.apply(&road.world, road.owner, shard, call);
                }
            }
        });
    }

    async fn roughly(&self, line: At, calls: &[Call]) -> Result<Vec<Reply>, StoreError> {
        let dice = &self.world.dice;
        match dice.below(40) {
            0..4 => {
                sleep(dice.span(0, 150)).await;
                self.apply(line, calls).await
            }
            4..8 => {
                let replies = self.apply(line, calls).await;
                sleep(dice.span(0, 400)).await;
                replies
            }
            8 => Err(broken()),
            9 => self.apply(line, calls).await.and(Err(broken())),
            10 => {
                let some = dice.below(calls.len() as u64 + 1) as usize;
                self.apply(line, &calls[..some]).await.and(Err(broken()))
            }
            11 => std::future::pending().await,
            12 => {
                self.arrive_late(line.shard, calls, dice.span(0, 1500));
                std::future::pending().await
            }
            13 => {
                self.arrive_late(line.shard, calls, dice.span(0, 1500));
                Err(broken())
            }
            14 => {
                let replies = self.apply(line, calls).await;
                self.arrive_late(line.shard, calls, dice.span(0, 1500));
                replies
            }
            15 => {
                let _ = self.apply(line, calls).await;
                self.apply(line, calls).await
            }
            _ => self.apply(line, calls).await,
        }
    }
}

fn broken() -> StoreError {
    StoreError::NoAnswer { at: "the road".to_owned(), why: "the weather".to_owned() }
}

#[async_trait]
impl Store for Road {
    async fn connect(&self, shard: u16) -> Result<Box<dyn Connection>, StoreError> {
        self.travel().await;
        let generation = self.pass(None).await?;
        if self.world.weather(self.owner) == Weather::Rough && self.world.dice.percent(5) {
            return Err(broken());
        }
        Ok(Box::new(Line { road: self.clone(), at: At { generation, shard }, torn: false }))
    }

    async fn order(&self, shard: u16, order: &Order) -> Result<Ordered, StoreError> {
        let (rough, dice) = (self.world.weather(self.owner) == Weather::Rough, &self.world.dice);
        self.travel().await;
        self.pass(None).await?;
        if rough && dice.percent(10) {
            // It arrives late, if at all, and nobody hears of it.
            if dice.percent(50) {
                let (world, order, after) = (self.world.clone(), order.clone(), dice.span(0, 2000));
                self.world.executor.spawn(WORLD, async move {
                    sleep(after).await;
                    if world.server.generation().is_some() {
                        world.server.order(&world, shard, &order);
                    }
                });
            }
            return Err(broken());
        }
        let outcome = self.world.server.order(&self.world, shard, order);
        self.travel().await;
        self.pass(None).await?;
        if rough && dice.percent(10) { Err(broken()) } else { Ok(Ordered { outcome, replicas: None }) }
    }

    async fn nudges(&self, shard: u16, incarnation: &Incarnation) -> Result<Box<dyn Nudges>, StoreError> {
        self.pass(None).await?;
        let inner = self.world.server.nudges(shard, incarnation);
        Ok(Box::new(Ear { road: self.clone(), inner }))
    }

    async fn bindings(&self, shard: u16, _: &str) -> Result<BindingPage, StoreError> {
        self.pass(None).await?;
        Ok(BindingPage { bindings: self.world.server.bindings(shard), next: None })
    }

    async fn binding(&self, _: u16, key: &Key) -> Result<Option<BindingView>, StoreError> {
        self.pass(None).await?;
        Ok(self.world.server.binding(key))
    }

    async fn census(&self, shard: u16) -> Result<Census, StoreError> {
        self.pass(None).await?;
        Ok(self.world.server.census(shard))
    }
}

/// What a connection leads to.
#[derive(Clone, Copy)]
struct At {
    generation: u64,
    shard: u16,
}

struct Line {
    road: Road,
    at: At,
    torn: bool,
}

#[async_trait]
impl Connection for Line {
    async fn exchange(&mut self, calls: &[Call]) -> Result<Vec<Reply>, StoreError> {
        assert!(!self.torn, "a connection that broke is used again");
        let mutant = &self.road.world.server.mutant;
        let sent = mutant.sent(calls);
        let outcome = match self.road.world.weather(self.road.owner) {
            Weather::Rough => self.road.roughly(self.at, &sent).await,
            _ => self.road.apply(self.at, &sent).await,
        };
        self.torn = outcome.is_err();
        if let Ok(replies) = &outcome {
            mutant.heard(calls, replies);
        }
        outcome
    }
}

struct Ear {
    road: Road,
    inner: Box<dyn Nudges>,
}

#[async_trait]
impl Nudges for Ear {
    async fn next(&mut self) -> Result<(), StoreError> {
        loop {
            self.inner.next().await?;
            // Lost in bad weather, and now and then in good.
            self.road.pass(None).await?;
            if !self.road.world.dice.percent(5) {
                return Ok(());
            }
        }
    }
}
