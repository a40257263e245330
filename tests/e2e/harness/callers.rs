//! Clients that come by another protocol than IMAP, do what they came for, leave, and come again; and an MTA's part: mail that
//! is brought again until it is taken. They write names differently each time. What they do is in `callers/visit.rs`.

mod visit;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::visit::Client;
use super::crowd::percentile;
use super::dice::Dice;
use super::{Fleet, MailStore, Protocol, Result, Sink, User};

/// Who comes, and how.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Any but IMAP.
    pub protocol: Protocol,
    /// Who logs in, or whom a command is about; those who get each mail by LMTP.
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
    /// What it brought, for each recipient; what it submitted.
    pub mails: Vec<Mail>,
}

/// One mail for one recipient.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Left of the `@` in its Message-ID.
    pub id: String,
    /// To whom; of what is submitted, from whom.
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
            clients.spawn(Client::new(caller, number, doors, dice, told.clone(), calls).live());
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

    /// Holds that every mail was acknowledged and is there (what was submitted at the relay, the rest in its mailbox), and
    /// no more often than a killed proxy owed the answer. Gives how many are there more than once.
    pub fn mail_is_whole(&self, fleet: &Fleet) -> Result<usize> {
        let mut mailboxes: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
        let relayed = letters_at(fleet.sink.as_ref());
        let mut doubles = 0;
        for (protocol, mail) in self.all.iter().flat_map(|calls| calls.mails.iter().map(|mail| (calls.protocol, mail)))
        {
            let name = mail.user.name.as_str();
            if !mailboxes.contains_key(name) {
                mailboxes.insert(name, letters_of(&fleet.store, name)?);
            }
            let there = if protocol == Protocol::Submission { &relayed } else { &mailboxes[name] };
            let copies = there.get(&mail.id).copied().unwrap_or(0);
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
    Ok(count(store.mail_of(user)?.into_iter().map(|(_, text)| text)))
}

/// How often each letter was relayed.
fn letters_at(sink: Option<&Sink>) -> BTreeMap<String, usize> {
    count(sink.iter().flat_map(|sink| sink.mails()).map(|mail| mail.text))
}

/// The letters among these mails, by the left side of their Message-ID.
fn count(texts: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for text in texts {
        let mut ids = text.lines().filter_map(|line| line.strip_prefix("Message-ID: <")?.strip_suffix("@far.test>"));
        if let Some(id) = ids.next() {
            *found.entry(id.to_owned()).or_default() += 1;
        }
    }
    found
}
