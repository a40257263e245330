//! Clients that come by another protocol than IMAP, do what they came for, leave, and come again; and an MTA's part: mail that
//! is brought again until it is taken. They write names differently each time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, ensure};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::crowd::percentile;
use super::dice::Dice;
use super::letter::{letter, stuffed};
use super::{Dialect, Fleet, MailStore, Pop3, Protocol, Result, Sieve, Smtp, User, sieve};

/// How long one tries before it counts as shut out.
const SHUT_OUT: Duration = Duration::from_secs(60);

/// Who comes, and how.
#[derive(Clone, Debug)]
pub struct Caller {
    /// POP3, ManageSieve or LMTP.
    pub protocol: Protocol,
    /// Who logs in; those who get each mail.
    pub users: Vec<User>,
    /// How long it stays away, at least; up to twice as long.
    pub away: Duration,
}

/// Callers at work.
pub struct Callers {
    leave: watch::Sender<bool>,
    clients: JoinSet<Result<Calls>>,
}

/// What one caller lived through.
#[derive(Debug)]
pub struct Calls {
    /// How it came.
    pub protocol: Protocol,
    /// How often it got what it came for.
    pub done: usize,
    /// Visits that broke off after the greeting, and how.
    pub losses: Vec<String>,
    /// For each visit that broke off: how long until it was let in again.
    pub returns: Vec<Duration>,
    /// What it was refused, in the server's words.
    pub refusals: Vec<String>,
    /// What it brought, for each recipient.
    pub mails: Vec<Mail>,
}

/// One mail for one recipient.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Left of the `@` in its Message-ID.
    pub id: String,
    /// To whom.
    pub user: User,
    /// Whether a server has said that it has it.
    pub acknowledged: bool,
    /// How often it was sent without an answer: each of these may be a copy.
    pub unanswered: usize,
}

impl Callers {
    /// Sends them in by the doors of all proxies.
    pub fn enter(fleet: &Fleet, callers: impl IntoIterator<Item = Caller>, seed: u64) -> Result<Self> {
        let (leave, told) = watch::channel(false);
        let mut clients = JoinSet::new();
        for (number, caller) in callers.into_iter().enumerate() {
            let doors = fleet.proxies.iter().map(|proxy| proxy.door(caller.protocol)).collect::<Result<Vec<_>>>()?;
            let (losses, returns, refusals, mails) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            let calls = Calls { protocol: caller.protocol, done: 0, losses, returns, refusals, mails };
            let dice = Dice::new(seed.wrapping_mul(1_000_033).wrapping_add(number as u64));
            let client =
                Client { caller, number, doors, dice, told: told.clone(), greeted: false, lost_at: None, calls };
            clients.spawn(client.live());
        }
        Ok(Self { leave, clients })
    }

    /// Tells them to come no more once they have what they came for. Fails if anyone was shut out.
    pub async fn go_home(mut self) -> Result<Chronicle> {
        self.leave.send_replace(true);
        let mut all = Vec::new();
        while let Some(client) = self.clients.join_next().await {
            all.push(client??);
        }
        Ok(Chronicle { all })
    }
}

/// What all callers lived through.
pub struct Chronicle {
    /// One for each.
    pub all: Vec<Calls>,
}

impl Chronicle {
    /// How long those who came by a protocol needed after a loss, shortest first.
    pub fn returns(&self, protocol: Protocol) -> Vec<Duration> {
        let mut spans: Vec<Duration> = self.by(protocol).flat_map(|calls| calls.returns.iter().copied()).collect();
        spans.sort();
        spans
    }

    /// Every refusal that anyone was given.
    pub fn refusals(&self) -> Vec<&str> {
        self.all.iter().flat_map(|calls| calls.refusals.iter().map(String::as_str)).collect()
    }

    /// One line for people.
    pub fn summary(&self, protocol: Protocol) -> String {
        let total = |what: fn(&Calls) -> usize| self.by(protocol).map(what).sum::<usize>();
        let returns = self.returns(protocol);
        let at = |share: f64| percentile(&returns, share).as_millis();
        format!(
            "{}: {} clients, {} visits, {} losses, {} refusals, {} mails acknowledged; back after ms: p50 {} p90 {} max {}",
            protocol.word(),
            self.by(protocol).count(),
            total(|calls| calls.done),
            total(|calls| calls.losses.len()),
            total(|calls| calls.refusals.len()),
            total(|calls| calls.mails.iter().filter(|mail| mail.acknowledged).count()),
            at(0.5),
            at(0.9),
            at(1.0),
        )
    }

    /// Holds that every mail was acknowledged and is there, and no more often than a killed proxy owed the answer. Gives
    /// how many are there more than once.
    pub fn mail_is_whole(&self, store: &MailStore) -> Result<usize> {
        let mut stored: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
        let mut doubles = 0;
        for mail in self.all.iter().flat_map(|calls| &calls.mails) {
            let name = mail.user.name.as_str();
            if !stored.contains_key(name) {
                stored.insert(name, letters_of(store, name)?);
            }
            let copies = stored[name].get(&mail.id).copied().unwrap_or(0);
            ensure!(mail.acknowledged && copies > 0, "{copies} copies: {mail:?}");
            ensure!(copies <= 1 + mail.unanswered, "{copies} copies: {mail:?}");
            doubles += usize::from(copies > 1);
        }
        Ok(doubles)
    }

    /// Of those who came by one protocol.
    pub fn by(&self, protocol: Protocol) -> impl Iterator<Item = &Calls> {
        self.all.iter().filter(move |calls| calls.protocol == protocol)
    }
}

/// How often a user has each letter.
fn letters_of(store: &MailStore, user: &str) -> Result<BTreeMap<String, usize>> {
    let mut found = BTreeMap::new();
    for (_, text) in store.mail_of(user)? {
        let mut ids = text.lines().filter_map(|line| line.strip_prefix("Message-ID: <")?.strip_suffix("@far.test>"));
        if let Some(id) = ids.next() {
            *found.entry(id.to_owned()).or_default() += 1;
        }
    }
    Ok(found)
}

struct Client {
    caller: Caller,
    number: usize,
    doors: Vec<SocketAddr>,
    dice: Dice,
    told: watch::Receiver<bool>,
    /// Whether the present attempt has got so far.
    greeted: bool,
    lost_at: Option<Instant>,
    calls: Calls,
}

impl Client {
    async fn live(mut self) -> Result<Calls> {
        while !*self.told.borrow() {
            self.write();
            self.call().await?;
            let away = self.caller.away + self.caller.away.mul_f64(self.dice.below(1000) as f64 / 1000.0);
            let _ = tokio::time::timeout(away, self.told.wait_for(|leave| *leave)).await;
        }
        Ok(self.calls)
    }

    /// The next mail, for who brings some.
    fn write(&mut self) {
        if self.caller.protocol == Protocol::Lmtp {
            let id = format!("called-{}-{}", self.number, self.calls.done);
            let mail = |user: &User| Mail { id: id.clone(), user: user.clone(), acknowledged: false, unanswered: 0 };
            self.calls.mails.extend(self.caller.users.iter().map(mail));
        }
    }

    /// Tries the doors in random order, again and again, until it has what it came for.
    async fn call(&mut self) -> Result {
        let begun = Instant::now();
        loop {
            for door in self.dice.shuffled(&self.doors) {
                self.greeted = false;
                let Err(lost) = self.attempt(door).await else {
                    self.calls.done += 1;
                    return Ok(());
                };
                if self.greeted {
                    self.calls.losses.push(format!("{lost:#}"));
                    self.lost_at.get_or_insert_with(Instant::now); // the first of several
                }
                ensure!(begun.elapsed() < SHUT_OUT, "shut out: {lost:#}; {:?} {:?}", self.caller, self.calls.refusals);
            }
            // All doors are shut: what a mail client does then, only faster.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn attempt(&mut self, door: SocketAddr) -> Result {
        match self.caller.protocol {
            Protocol::Pop3 => self.look_for_mail(door).await,
            Protocol::Sieve => self.list_scripts(door).await,
            _ => self.bring_mail(door).await,
        }
    }

    async fn look_for_mail(&mut self, door: SocketAddr) -> Result {
        let mut pop3 = Pop3::connect(door).await?;
        self.greeted = true;
        let verdict = pop3.try_log_in(&self.login()).await.context("PASS")?;
        if !verdict.positive {
            return Err(self.refused(verdict.text));
        }
        self.let_in();
        pop3.count().await.context("STAT")?;
        self.dwell().await;
        pop3.quit().await.context("QUIT")
    }

    async fn list_scripts(&mut self, door: SocketAddr) -> Result {
        let mut client = Sieve::connect(door).await?;
        self.greeted = true;
        let answer = client.try_log_in(&self.login()).await.context("AUTHENTICATE")?;
        if answer.verdict != sieve::Verdict::Ok {
            return Err(self.refused(answer.text));
        }
        self.let_in();
        client.command("LISTSCRIPTS").await.context("LISTSCRIPTS")?.ok()?;
        self.dwell().await;
        client.logout().await.context("LOGOUT")
    }

    /// Brings the last mail to those who have not got it yet.
    async fn bring_mail(&mut self, door: SocketAddr) -> Result {
        let mut lmtp = Smtp::connect(Dialect::Lmtp, door).await?;
        self.greeted = true;
        let first = self.calls.mails.len() - self.caller.users.len();
        let open: Vec<usize> =
            (first..self.calls.mails.len()).filter(|at| !self.calls.mails[*at].acknowledged).collect();
        let names: Vec<String> = open.iter().map(|at| self.calls.mails[*at].user.name.clone()).collect();
        let to: Vec<String> = names.iter().map(|name| self.address(name)).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        for reply in lmtp.envelope("sender@far.test", &to).await.context("RCPT")? {
            if reply.code != 250 {
                return Err(self.refused(format!("{reply:?}")));
            }
        }
        self.let_in();
        self.dwell().await;
        let reply = lmtp.command("DATA").await.context("DATA")?;
        if reply.code != 354 {
            return Err(self.refused(format!("{reply:?}")));
        }
        open.iter().for_each(|at| self.calls.mails[*at].unanswered += 1);
        lmtp.send(stuffed(&letter(&self.calls.mails[first].id)).as_bytes()).await.context("message")?;
        for at in open {
            let reply = lmtp.reply().await.context("answer to the message")?;
            if reply.code != 250 {
                return Err(self.refused(format!("{reply:?}")));
            }
            self.calls.mails[at].acknowledged = true;
            self.calls.mails[at].unanswered -= 1;
        }
        // They have it, whatever becomes of the connection.
        let _ = lmtp.quit().await;
        Ok(())
    }

    /// Its login, or all of its recipients, were accepted.
    fn let_in(&mut self) {
        self.calls.returns.extend(self.lost_at.take().map(|at| at.elapsed()));
    }

    /// Takes its time amid a visit, up to half a second, so that a proxy may die meanwhile.
    async fn dwell(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.dice.below(500))).await;
    }

    fn refused(&mut self, words: String) -> Error {
        self.calls.refusals.push(words.clone());
        Error::msg(words)
    }

    /// A name as it comes.
    fn login(&mut self) -> User {
        let user = self.caller.users[0].clone();
        let name = match self.dice.below(3) {
            0 => user.name,
            1 => user.name.to_uppercase(),
            _ => format!("{}@Test", user.name),
        };
        User { name, ..user }
    }

    /// An address as it comes.
    fn address(&mut self, name: &str) -> String {
        match self.dice.below(3) {
            0 => format!("{name}@test"),
            1 => format!("{}@TEST", name.to_uppercase()),
            _ => format!("{name}+folder@test"),
        }
    }
}
