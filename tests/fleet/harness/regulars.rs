//! Clients who are always there: each has one session, and whoever loses it comes back at once, through any proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::crowd::Doors;
use super::{Dice, Proxy};

pub struct Regulars {
    over: watch::Sender<bool>,
    clients: JoinSet<()>,
    came: Arc<AtomicU64>,
}

impl Regulars {
    /// One client for each key.
    pub fn enter(doors: &Doors, keys: &[String], seed: u64) -> Self {
        let (over, _) = watch::channel(false);
        let (mut clients, came) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
        for (number, key) in keys.iter().enumerate() {
            let (doors, key, came, mut end) = (doors.clone(), key.clone(), came.clone(), over.subscribe());
            clients.spawn(async move {
                let dice = Dice::new(seed ^ ((number as u64) << 32));
                while !*end.borrow_and_update() {
                    match door(&doors, &dice).log_in(&key).await {
                        Ok(session) => {
                            came.fetch_add(1, Ordering::Relaxed);
                            session.until(async { drop(end.wait_for(|over| *over).await) }).await;
                        }
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            });
        }
        Self { over, clients, came }
    }

    /// How often they came, all together.
    pub fn came(&self) -> u64 {
        self.came.load(Ordering::Relaxed)
    }

    pub async fn go_home(mut self) {
        self.over.send_replace(true);
        while let Some(one) = self.clients.join_next().await {
            one.unwrap();
        }
    }
}

fn door(doors: &Doors, dice: &Dice) -> Arc<Proxy> {
    let doors = doors.lock().unwrap();
    doors.values().nth(dice.below(doors.len() as u64) as usize).unwrap().clone()
}
