//! A hook that writes down when it is run, by whom and for whom, and does as it is told.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use homing::fleet::{Hook, HookTurn};

/// What it does to a proxy that runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    Succeed,
    Fail,
    /// It never comes to an end, for the first who runs it; then it succeeds.
    HangOnce,
}

pub struct Script {
    does: Mutex<Does>,
    runs: Mutex<Vec<(String, HookTurn)>>,
}

impl Script {
    pub fn new(does: Does) -> Arc<Self> {
        Arc::new(Self { does: Mutex::new(does), runs: Mutex::default() })
    }

    /// From now on.
    pub fn does(&self, what: Does) {
        *self.does.lock().unwrap() = what;
    }

    /// Who ran it and what it was told, in order.
    pub fn runs(&self) -> Vec<(String, HookTurn)> {
        self.runs.lock().unwrap().clone()
    }

    /// As a proxy of that name has it.
    pub fn at(self: &Arc<Self>, proxy: &str) -> Arc<At> {
        Arc::new(At { script: self.clone(), proxy: proxy.to_owned() })
    }
}

pub struct At {
    script: Arc<Script>,
    proxy: String,
}

#[async_trait]
impl Hook for At {
    async fn run(&self, turn: &HookTurn) -> Result<(), String> {
        self.script.runs.lock().unwrap().push((self.proxy.clone(), turn.clone()));
        let does = *self.script.does.lock().unwrap();
        match does {
            Does::Succeed => Ok(()),
            Does::Fail => Err("the script says no".to_owned()),
            Does::HangOnce => {
                self.script.does(Does::Succeed);
                std::future::pending().await
            }
        }
    }
}
