//! Legs that wait for something are watched meanwhile: for the client, for the passdb, or for each other, which may take as
//! long as the slowest of them may. Recipients that must go do so, and their places are free.

use std::pin::pin;

use futures_util::future::select_all;
use tokio::sync::Barrier;

use super::leg::Leg;
use crate::model::{Ending, Refusal};
use crate::protocol::lmtp::{Reply, reply};
use crate::session::Services;

/// Does some `work` while no message is under way: whoever is told to go does so at once.
pub(super) async fn at_rest<T>(services: &Services, legs: &mut [Leg], work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            (at, why) = next_stop(legs) => legs[at].abort(services, why),
            done = work.as_mut() => return done,
        }
    }
}

/// The same in the middle of a message: whoever may finish has a while for it.
pub(super) async fn mid_message<T>(services: &Services, legs: &mut [Leg], work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            (at, why) = next_doom(legs, services) => legs[at].abort(services, why),
            done = work.as_mut() => return done,
        }
    }
}

/// For steps that all legs take at once, see [`Leg::await_others`].
pub(super) fn all_of(legs: &[Leg]) -> Barrier {
    Barrier::new(legs.len())
}

/// What recipients get that were told to go.
pub(super) fn stopped_by(why: Ending) -> Reply {
    if why == Ending::Shutdown { Refusal::ShuttingDown.into() } else { reply::STOPPED }
}

/// The place of a leg whose recipients must go at once.
async fn next_stop(legs: &[Leg]) -> (usize, Ending) {
    let running = legs.iter().enumerate().filter(|(_, leg)| leg.is_alive());
    let stops: Vec<_> = running.map(|(at, leg)| Box::pin(async move { (at, leg.stopped().await) })).collect();
    if stops.is_empty() {
        return std::future::pending().await;
    }
    select_all(stops).await.0
}

/// The place of a leg whose recipients must go.
async fn next_doom(legs: &mut [Leg], services: &Services) -> (usize, Ending) {
    let running = legs.iter_mut().enumerate().filter(|(_, leg)| leg.is_alive());
    let dooms: Vec<_> = running.map(|(at, leg)| Box::pin(async move { (at, leg.doomed(services).await) })).collect();
    if dooms.is_empty() {
        return std::future::pending().await;
    }
    select_all(dooms).await.0
}
