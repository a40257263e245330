//! Many mail clients at once: they log in through any proxy, idle, append and fetch, come back at once when their
//! connection dies, and remember what they were promised.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use super::dice::{Dice, seed};
use super::imap::{Imap, STEP, Status};
use super::{Dovecot, Result, User};

/// What a client bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Temper {
    /// How long it waits for a connection.
    pub connect: Duration,
    /// How long it waits for an answer before it takes the connection for dead.
    pub answer: Duration,
    /// How long it tries to come back before it counts as shut out.
    pub shut_out: Duration,
}

impl Default for Temper {
    fn default() -> Self {
        Self { connect: STEP, answer: STEP, shut_out: Duration::from_secs(60) }
    }
}

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Stays logged in until its connection dies.
    Stays,
    /// Logs out after some work, stays away for that long, and comes back.
    Returns(Duration),
}

/// What a client lived through.
#[derive(Debug, Default)]
pub struct Diary {
    /// Who.
    pub user: String,
    /// Successful logins.
    pub logins: usize,
    /// Sessions that ended without LOGOUT, and how.
    pub losses: Vec<String>,
    /// For each loss: how long until the next successful login.
    pub returns: Vec<Duration>,
    /// Refused logins, as the server put it.
    pub refusals: Vec<String>,
    /// Message-IDs whose APPEND was answered OK.
    pub acknowledged: Vec<String>,
}

/// A running crowd.
pub struct Crowd {
    orders: watch::Sender<Orders>,
    clients: JoinSet<Result<Diary>>,
    presence: watch::Receiver<Presence>,
}

/// How many clients are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Presence {
    online: i64,
    resting: i64,
}

/// What all clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Orders {
    /// Live as your habit says.
    Live,
    /// Stay as you are and touch nothing.
    Rest,
    /// Log out.
    GoHome,
}

impl Crowd {
    /// Sends in one client for each entry of `who`. They choose among `doors` at random; `seed` makes it repeatable.
    pub fn enter(doors: &[SocketAddr], who: impl IntoIterator<Item = (User, Habit)>, seed: u64) -> Self {
        Self::enter_with(Temper::default(), doors, who, seed)
    }

    /// The same with clients of that temper.
    pub fn enter_with(
        temper: Temper,
        doors: &[SocketAddr],
        who: impl IntoIterator<Item = (User, Habit)>,
        seed: u64,
    ) -> Self {
        let (orders, hear) = watch::channel(Orders::Live);
        let (count, presence) = watch::channel(Presence::default());
        let mut clients = JoinSet::new();
        for (number, (user, habit)) in who.into_iter().enumerate() {
            let diary = Diary { user: user.name.clone(), ..Diary::default() };
            let dice = Dice::new(seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
            let client = Client {
                user,
                habit,
                temper,
                dice,
                diary,
                number,
                doors: doors.to_vec(),
                orders: hear.clone(),
                presence: count.clone(),
                lost_at: None,
            };
            clients.spawn(client.live());
        }
        Self { orders, clients, presence }
    }

    /// Waits until `count` clients are logged in.
    pub async fn all_in(&mut self, count: i64) -> Result {
        self.until(|presence| presence.online == count).await
    }

    /// Tells everybody to idle without touching anything, and waits until `count` clients do.
    pub async fn rest(&mut self, count: i64) -> Result {
        self.orders.send_replace(Orders::Rest);
        self.until(|presence| presence.resting == count).await
    }

    async fn until(&mut self, reached: impl Fn(&Presence) -> bool) -> Result {
        let waited = tokio::time::timeout(Duration::from_secs(120), self.presence.wait_for(reached)).await;
        let waited = waited.map(|inner| inner.map(drop));
        waited.with_context(|| format!("waited in vain: {:?}", *self.presence.borrow()))??;
        Ok(())
    }

    /// Tells everybody to go on.
    pub fn wake(&self) {
        self.orders.send_replace(Orders::Live);
    }

    /// Tells everybody to log out, and gives what they lived through. Fails if anyone was shut out.
    pub async fn go_home(mut self) -> Result<Story> {
        self.orders.send_replace(Orders::GoHome);
        let mut diaries = Vec::new();
        while let Some(client) = self.clients.join_next().await {
            diaries.push(client??);
        }
        Ok(Story { diaries })
    }
}

/// The diaries of all clients.
pub struct Story {
    /// One for each client.
    pub diaries: Vec<Diary>,
}

impl Story {
    /// Sum over all clients.
    pub fn total(&self, what: impl Fn(&Diary) -> usize) -> usize {
        self.diaries.iter().map(what).sum()
    }

    /// How long clients needed to come back, shortest first.
    pub fn returns(&self) -> Vec<Duration> {
        let mut all: Vec<Duration> = self.diaries.iter().flat_map(|diary| diary.returns.iter().copied()).collect();
        all.sort();
        all
    }

    /// Every refusal that anyone was given.
    pub fn refusals(&self) -> Vec<&str> {
        self.diaries.iter().flat_map(|diary| diary.refusals.iter().map(String::as_str)).collect()
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let returns = self.returns();
        let at = |share: f64| percentile(&returns, share).as_millis();
        format!(
            "{} clients: {} logins, {} losses, {} refusals, {} messages acknowledged; back after ms: \
             p50 {} p90 {} p99 {} max {}",
            self.diaries.len(),
            self.total(|d| d.logins),
            self.total(|d| d.losses.len()),
            self.refusals().len(),
            self.total(|d| d.acknowledged.len()),
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0),
        )
    }

    /// Holds that every acknowledged message can be read at `backend`, exactly once.
    pub async fn mail_is_whole(&self, backend: &Dovecot, users: &[User]) -> Result {
        for user in users {
            let promised: Vec<&String> =
                self.diaries.iter().filter(|d| d.user == user.name).flat_map(|d| &d.acknowledged).collect();
            if promised.is_empty() {
                continue;
            }
            let mut imap = backend.log_in(user).await?;
            imap.command("EXAMINE INBOX").await?.ok()?;
            let stored =
                imap.command("FETCH 1:* BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]").await?.ok()?.untagged.join("\n");
            for id in promised {
                let copies = stored.matches(id.as_str()).count();
                ensure!(copies == 1, "{} has {id} {copies} times", user.name);
            }
            imap.logout().await?;
        }
        Ok(())
    }
}

/// The value below which `share` of the sorted `values` lie.
pub fn percentile(values: &[Duration], share: f64) -> Duration {
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}

struct Client {
    user: User,
    habit: Habit,
    temper: Temper,
    number: usize,
    dice: Dice,
    doors: Vec<SocketAddr>,
    orders: watch::Receiver<Orders>,
    presence: watch::Sender<Presence>,
    lost_at: Option<Instant>,
    diary: Diary,
}

impl Client {
    async fn live(mut self) -> Result<Diary> {
        while *self.orders.borrow() != Orders::GoHome {
            let mut imap = self.come_in().await?;
            self.presence.send_modify(|presence| presence.online += 1);
            let stayed = self.work(&mut imap).await;
            self.presence.send_modify(|presence| presence.online -= 1);
            // A connection that dies at LOGOUT is as gone as one that dies before.
            let left = match stayed {
                Ok(()) => imap.logout().await.context("LOGOUT"),
                Err(lost) => Err(lost),
            };
            if let Err(lost) = left {
                self.diary.losses.push(format!("{lost:#}"));
                self.lost_at = Some(Instant::now());
            } else if let Habit::Returns(away) = self.habit {
                let mut orders = self.orders.clone();
                let _ = tokio::time::timeout(away, orders.wait_for(|o| *o == Orders::GoHome)).await;
            }
        }
        Ok(self.diary)
    }

    /// Tries the doors in random order, again and again, until one lets it in.
    async fn come_in(&mut self) -> Result<Imap> {
        let begun = Instant::now();
        loop {
            for door in self.dice.shuffled(&self.doors) {
                match self.try_door(door).await {
                    Ok(imap) => {
                        self.diary.logins += 1;
                        self.diary.returns.extend(self.lost_at.take().map(|at| at.elapsed()));
                        return Ok(imap);
                    }
                    Err(reason) if begun.elapsed() > self.temper.shut_out => {
                        bail!("{} is shut out: {reason:#}; refusals {:?}", self.user.name, self.diary.refusals)
                    }
                    Err(_) => {}
                }
            }
            // All doors are shut: what a mail client does then, only faster.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn try_door(&mut self, door: SocketAddr) -> Result<Imap> {
        let Temper { connect, answer, .. } = self.temper;
        let mut imap = Imap::dial_within(door, connect).await?.with_patience(answer);
        imap.greet().await?;
        let answer = imap.try_login(&self.user).await?;
        if answer.status != Status::Ok {
            self.diary.refusals.push(format!("{:?} {}", answer.status, answer.text));
        }
        answer.ok()?;
        Ok(imap)
    }

    /// Idles, appends and fetches until told to leave (`Ok`) or cut off (`Err`).
    async fn work(&mut self, imap: &mut Imap) -> Result {
        imap.command("SELECT INBOX").await.context("SELECT")?.ok()?;
        for round in 0.. {
            if *self.orders.borrow() == Orders::GoHome || (round == 2 && self.habit != Habit::Stays) {
                return Ok(());
            }
            self.idle(imap).await.context("IDLE")?;
            if *self.orders.borrow() == Orders::Live {
                self.append(imap).await.context("APPEND")?;
                imap.command("UID FETCH * (FLAGS BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])").await?.ok()?;
            }
        }
        Ok(())
    }

    /// IDLE for a second or so, or for as long as everybody rests. Notices at once when it is cut off.
    async fn idle(&mut self, imap: &mut Imap) -> Result {
        let tag = imap.idle().await?;
        let mut orders = self.orders.clone();
        if *orders.borrow_and_update() == Orders::Live {
            let span = Duration::from_millis(300 + self.dice.below(1200));
            listen(imap, &mut orders, span).await?;
        }
        while *orders.borrow_and_update() == Orders::Rest {
            self.presence.send_modify(|presence| presence.resting += 1);
            let heard = listen(imap, &mut orders, Duration::from_secs(600)).await;
            self.presence.send_modify(|presence| presence.resting -= 1);
            heard?;
        }
        imap.done(&tag).await.map(drop)
    }

    async fn append(&mut self, imap: &mut Imap) -> Result {
        let id = format!("<{}.{}.{}@test>", self.diary.user, self.number, self.dice.next());
        let message = format!(
            "From: <{0}@test>\r\nTo: <{0}@test>\r\nSubject: hello\r\nMessage-ID: {id}\r\n\r\nA line.\r\n",
            self.diary.user
        );
        imap.append("INBOX", &message).await?;
        self.diary.acknowledged.push(id);
        Ok(())
    }
}

/// Idles until `span` is over or orders change. Fails when cut off.
async fn listen(imap: &mut Imap, orders: &mut watch::Receiver<Orders>, span: Duration) -> Result {
    let end = Instant::now() + span;
    loop {
        tokio::select! {
            biased;
            _ = orders.changed() => return Ok(()),
            heard = imap.heard_within(end.saturating_duration_since(Instant::now())) => {
                if !heard? {
                    return Ok(());
                }
            }
        }
        let line = imap.line().await?;
        ensure!(line.starts_with("* ") && !line.starts_with("* BYE"), "told {line:?} while idle");
    }
}
