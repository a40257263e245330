//! Clients who come and go, at several proxies at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use homing::model::{Ending, Refusal};
use tokio::task::JoinSet;

use super::proxy::wanted;
use super::{Dice, Proxy};

/// The proxies that are open for clients, by name. A killed one is replaced under its name.
pub type Doors = Arc<Mutex<BTreeMap<String, Arc<Proxy>>>>;

#[derive(Clone, Copy)]
pub struct Habits {
    /// Sessions last up to so many milliseconds.
    pub stay: u64,
    /// One in eight lasts up to so many.
    pub long_stay: u64,
    /// One in so many logins is never accepted by the backend; 0 for none.
    pub unproven: u64,
}

pub struct Crowd {
    going: Arc<AtomicBool>,
    pub diary: Arc<Diary>,
    clients: JoinSet<()>,
}

/// What the clients met with.
#[derive(Default)]
pub struct Diary {
    pub logins: AtomicU64,
    pub refusals: Mutex<BTreeMap<String, u64>>,
    pub endings: Mutex<BTreeMap<String, u64>>,
}

impl Diary {
    fn refused(&self, why: Refusal) {
        *self.refusals.lock().unwrap_or_else(PoisonError::into_inner).entry(format!("{why:?}")).or_default() += 1;
    }

    fn ended(&self, why: Option<Ending>) {
        if let Some(why) = why {
            *self.endings.lock().unwrap_or_else(PoisonError::into_inner).entry(format!("{why:?}")).or_default() += 1;
        }
    }

    pub fn endings(&self) -> u64 {
        self.endings.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    pub fn summary(&self) -> String {
        let (refusals, endings) = (self.refusals.lock().unwrap(), self.endings.lock().unwrap());
        format!("{} logins, refused {refusals:?}, ended {endings:?}", self.logins.load(Ordering::Relaxed))
    }
}

impl Crowd {
    /// So many clients, each at any proxy, as any of the keys.
    pub fn enter(doors: &Doors, clients: u64, keys: &[String], habits: Habits, seed: u64) -> Self {
        let (going, diary) = (Arc::new(AtomicBool::new(true)), Arc::new(Diary::default()));
        let mut set = JoinSet::new();
        for number in 0..clients {
            let (doors, keys, going, diary) = (doors.clone(), keys.to_vec(), going.clone(), diary.clone());
            set.spawn(async move {
                let dice = Dice::new(seed ^ (number << 40));
                while going.load(Ordering::Relaxed) {
                    visit(&doors, &keys, habits, &dice, &diary).await;
                }
            });
        }
        Self { going, diary, clients: set }
    }

    /// Everybody finishes and goes.
    pub async fn go_home(mut self) -> Arc<Diary> {
        self.going.store(false, Ordering::Relaxed);
        while let Some(one) = self.clients.join_next().await {
            one.unwrap();
        }
        self.diary
    }
}

async fn visit(doors: &Doors, keys: &[String], habits: Habits, dice: &Dice, diary: &Diary) {
    let door = {
        let doors = doors.lock().unwrap();
        doors.values().nth(dice.below(doors.len() as u64) as usize).unwrap().clone()
    };
    let key = &keys[dice.below(keys.len() as u64) as usize];
    let mut wanted = wanted(key);
    wanted.unproven = habits.unproven > 0 && dice.once_in(habits.unproven);
    let outcome = tokio::select! {
        outcome = door.log_in_as(wanted) => outcome,
        // A client without patience.
        () = tokio::time::sleep(Duration::from_millis(500 + dice.below(2500))) => return,
    };
    match outcome {
        Ok(session) => {
            let stay = dice.below(if dice.once_in(8) { habits.long_stay } else { habits.stay });
            diary.logins.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(stay)).await;
            diary.ended(session.ended());
            session.leave().await;
        }
        Err(why) => {
            diary.refused(why);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
