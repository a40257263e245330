//! An operator who moves users, empties backends and rebalances, whatever the weather, at whichever proxy is at hand.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::fault::BACKENDS;
use crate::harness::crowd::Dice;
use crate::harness::proxy::BINARY;
use crate::harness::{Fleet, Result, User, eventually};

/// How long a command may take. Then the proxy that it asks stands still or is dead.
const PATIENCE: Duration = Duration::from_secs(12);
/// Moves that are waited for at once.
const AT_ONCE: usize = 6;
/// Between two commands, on average.
const PACE: Duration = Duration::from_millis(150);

/// At work until told to stop.
pub struct Operator {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<Records>>,
}

/// What came of the commands, by command and end.
pub type Records = BTreeMap<String, usize>;

/// Whom to ask, and about whom.
#[derive(Clone)]
struct Desk {
    sockets: Vec<PathBuf>,
    users: Vec<User>,
    records: Arc<Mutex<Records>>,
}

impl Operator {
    /// Begins.
    pub fn at_work(fleet: &Fleet, dice: Dice) -> Self {
        let sockets = fleet.proxies.iter().map(|proxy| proxy.socket.clone()).collect();
        let desk = Desk { sockets, users: fleet.users.clone(), records: Arc::default() };
        let (stop, told) = watch::channel(false);
        Self { stop, task: tokio::spawn(desk.work(dice, told)) }
    }

    /// Waits for the last commands; gives what came of all.
    pub async fn stop(self) -> Result<Records> {
        self.stop.send_replace(true);
        self.task.await?
    }
}

/// Puts all backends back in service, and ends what is done to them.
pub async fn all_up(fleet: &Fleet) -> Result {
    let desk = Desk { sockets: vec![fleet.proxy().socket.clone()], users: Vec::new(), records: Arc::default() };
    for number in 1..=BACKENDS {
        let name = format!("mail{number}");
        for verb in [&["rebalance", "--abort"][..], &["up"]] {
            let words: Vec<String> = [&["backend"], verb, &[&name]].concat().iter().map(ToString::to_string).collect();
            eventually(&format!("{words:?} is in force"), Duration::from_secs(60), async || {
                let (code, said) = desk.homing(0, &words).await?;
                ensure!(code == 0 || said.contains("nothing is under way"), "{said}");
                Ok(())
            })
            .await?;
        }
    }
    Ok(())
}

impl Desk {
    async fn work(self, mut dice: Dice, mut told: watch::Receiver<bool>) -> Result<Records> {
        let mut moves = JoinSet::new();
        let mut drained = None;
        loop {
            let pause = PACE / 2 + PACE.mul_f64(dice.below(1000) as f64 / 1000.0);
            if timeout(pause, told.wait_for(|stop| *stop)).await.is_ok() {
                break;
            }
            let proxy = dice.below(self.sockets.len() as u64) as usize;
            match dice.below(40) {
                0 => drained = self.tend_backends(proxy, drained, &mut dice).await?,
                1 => self.note("rebalance", proxy, &["backend", "rebalance"]).await?,
                _ if moves.len() < AT_ONCE => {
                    let words = self.any_move(&mut dice);
                    let desk = self.clone();
                    moves.spawn(async move { desk.move_user(proxy, &words).await });
                }
                _ => {}
            }
            while let Some(done) = moves.try_join_next() {
                done??;
            }
        }
        while let Some(done) = moves.join_next().await {
            done??;
        }
        Ok(self.records.lock().map(|records| records.clone()).unwrap_or_default())
    }

    /// Drains or evicts a backend; puts it back the next time. One at a time, so that others may take its users.
    async fn tend_backends(&self, proxy: usize, drained: Option<String>, dice: &mut Dice) -> Result<Option<String>> {
        if let Some(name) = drained {
            self.note("up", proxy, &["backend", "up", &name]).await?;
            return Ok(None);
        }
        let name = format!("mail{}", 1 + dice.below(BACKENDS as u64));
        let verb = if dice.below(2) == 0 { "drain" } else { "evict" };
        self.note(verb, proxy, &["backend", verb, &name]).await?;
        Ok(Some(name))
    }

    fn any_move(&self, dice: &mut Dice) -> Vec<String> {
        let user = &self.users[dice.below(self.users.len() as u64) as usize].name;
        let mut words = vec!["user".to_owned(), "move".to_owned(), user.clone(), "--json".to_owned()];
        if dice.below(2) == 0 {
            words.extend(["--to".to_owned(), format!("mail{}", 1 + dice.below(BACKENDS as u64))]);
        }
        words
    }

    async fn move_user(&self, proxy: usize, words: &[String]) -> Result {
        let end = match self.homing(proxy, words).await {
            Ok((_, said)) => {
                let answer: Option<Value> = serde_json::from_str(&said).ok();
                answer
                    .and_then(|moved| moved["end"].as_str().map(str::to_owned))
                    .unwrap_or_else(|| "refused".to_owned())
            }
            Err(_) => "unanswered".to_owned(),
        };
        self.count(format!("move {end}"))
    }

    async fn note(&self, verb: &str, proxy: usize, words: &[&str]) -> Result {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let end = match self.homing(proxy, &words).await {
            Ok((0, _)) => "done",
            Ok((2, said)) => bail!("{words:?}: {said}"),
            Ok(_) => "refused",
            Err(_) => "unanswered",
        };
        self.count(format!("{verb} {end}"))
    }

    fn count(&self, what: String) -> Result {
        let mut records = self.records.lock().ok().context("a command panicked")?;
        *records.entry(what).or_default() += 1;
        Ok(())
    }

    /// Runs `homing`: its exit code and what it printed. Fails if it does not end in time.
    async fn homing(&self, proxy: usize, words: &[String]) -> Result<(i32, String)> {
        let mut command = Command::new(BINARY);
        command.args(words).arg("--socket").arg(&self.sockets[proxy]).kill_on_drop(true);
        let output = timeout(PATIENCE, command.output()).await??;
        let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned()))
    }
}
