//! What the backends themselves saw: who was where, from when to when, read from their logs.
//!
//! A visit begins with the `Login:` line of imap-login (pop3-login and so on) and ends with the `Disconnected:` line of
//! the imap process (pop3 and so on). A delivery by LMTP is a visit too: it has one line at its end, which tells how long
//! it took from the message's last byte; where it came from stands in other lines of its process. And so is what doveadm
//! does for a user, from taking up the mailbox to letting it go, by the stamps of its own process. Each server's
//! log process stamps them in microseconds of the machine's one clock, and both are late, never early: the first is
//! written when the imap process has taken the session over, the second when it has closed the mailbox (which it does
//! after the connection), and the log process must get to them. That makes 0.3 to 5 ms on a busy machine. So an overlap
//! of two stamps may be false by as much if a user changes backends within milliseconds. A fleet never does that: after
//! a session's end its user changes only once `user_expire`, a recovery window or an orphan's grace is over. Therefore
//! nothing is tolerated here. An overlap shorter than the first line's delay could escape.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;

use anyhow::{Context, ensure};

use super::deliveries::{Deliveries, Delivery};
use super::{Dovecot, Protocol, Result};

/// Protocols with a login.
const WITH_LOGIN: [Protocol; 4] = [Protocol::Imap, Protocol::Pop3, Protocol::Sieve, Protocol::Submission];

/// What a submission session says of a mail that the relay has taken. If its client goes away before that, the process says
/// nothing more for minutes. Clients of the tests have come for one mail and go at once: who says no more has gone.
const RELAYED: &str = ">: Info: Successfully relayed message: ";

/// What the line begins with that reports what doveadm has done for a user. Fields follow, each behind a tab.
const COMMAND: &str = "stats: Info: event:mail_user_session_finished\t";

/// What a backend says when the connection ended amid an APPEND, or before doveadm's command was whole: no fault of its own.
const CUT_OFF: [&str; 3] = [
    "Saving mail: read(<imap client>) failed",
    "dot-input stream ends without '.' line",
    "doveadm client disconnected before handshake: EOF",
];

/// One session, one delivery, or one mailbox in the hands of doveadm, at one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// What the user came by.
    pub protocol: Protocol,
    /// Which backend.
    pub backend: String,
    /// Who.
    pub user: String,
    /// Dovecot's name for the session.
    pub session: String,
    /// The whole line that reported the login; of a delivery, its own with `rip` behind it once its connection has ended;
    /// of what doveadm did, the one about its end.
    pub login: String,
    /// Microseconds since 1970.
    pub from: u64,
    /// The same; `None` while it lasts.
    pub to: Option<u64>,
    /// Bytes that the session was sent after its login, known at its end.
    pub received: Option<u64>,
}

impl Visit {
    /// A field of the login line, such as `rip`.
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.login, name)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.backend != other.backend
            && self.from <= other.to.unwrap_or(u64::MAX)
            && other.from <= self.to.unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, user, session, from, to, .. } = self;
        write!(f, "{user} at {backend} in {session} from {from} to {to:?}")
    }
}

/// All visits to some backends up to the moment it was called.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    /// In the order of the logs.
    pub visits: Vec<Visit>,
    /// Lines by which a backend complains: errors, panics, broken indexes.
    pub complaints: Vec<String>,
}

impl Witness {
    /// Reads the logs of `backends`.
    pub fn hear<'a>(backends: impl IntoIterator<Item = &'a Dovecot>) -> Result<Self> {
        let mut witness = Self::default();
        for backend in backends {
            witness.read(&backend.name, &backend.log()?, backend.deaths())?;
        }
        Ok(witness)
    }

    /// A server that is killed says nothing of its sessions' end: they ended with it.
    fn read(&mut self, backend: &str, log: &str, deaths: &[u64]) -> Result {
        let (mut ends, mut relayed) = (BTreeMap::new(), BTreeMap::new());
        let mut lmtp = Deliveries::default();
        let first = self.visits.len();
        // A last line without its end is still being written.
        for line in log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let (stamp, rest) = line.split_once(' ').with_context(|| format!("no stamp in {line:?}"))?;
            if let Some(protocol) = login(rest) {
                self.visits.push(Visit::begin(protocol, backend, line, micros(stamp)?)?);
            } else if let Some(session) = end(rest) {
                ends.insert(session, (micros(stamp)?, received(rest)));
            } else if let Some((who, _)) = rest.split_once(RELAYED) {
                relayed.insert(who.rsplit_once('<').map_or("", |(_, session)| session), micros(stamp)?);
            } else if let Some(event) = rest.strip_prefix(COMMAND) {
                self.visits.push(Visit::command(backend, line, event)?);
            } else if let Some(delivery) = lmtp.read(rest, self.visits.len()) {
                self.visits.push(Visit::delivery(&delivery, backend, line, micros(stamp)?));
            } else if ["Error: ", "Panic: ", "Fatal: "].iter().any(|word| rest.contains(word))
                && !CUT_OFF.iter().any(|words| rest.contains(words))
            {
                self.complaints.push(format!("{backend}: {rest}"));
            }
        }
        for (visit, address) in lmtp.addresses {
            write!(self.visits[visit].login, ", rip={address}")?;
        }
        for visit in self.visits[first..].iter_mut().filter(|visit| WITH_LOGIN.contains(&visit.protocol)) {
            if let Some((to, received)) = ends.get(&*visit.session) {
                visit.from = visit.from.min(*to);
                (visit.to, visit.received) = (Some(*to), *received);
            } else {
                let death = deaths.iter().copied().find(|death| visit.from <= *death);
                visit.to = death.or_else(|| relayed.get(&*visit.session).copied());
            }
        }
        Ok(())
    }

    /// Pairs of visits of the same user that were at different backends at the same time.
    pub fn overlaps(&self) -> Vec<(&Visit, &Visit)> {
        let mut by_user: BTreeMap<&str, Vec<&Visit>> = BTreeMap::new();
        for visit in &self.visits {
            by_user.entry(&visit.user).or_default().push(visit);
        }
        let mut found = Vec::new();
        for visits in by_user.values() {
            for (i, one) in visits.iter().enumerate() {
                found.extend(visits[i + 1..].iter().filter(|other| one.overlaps(other)).map(|other| (*one, *other)));
            }
        }
        found
    }

    /// Holds that nobody was ever on two backends at once, and that no backend complained.
    pub fn swears_one_home(&self) -> Result {
        let overlaps: Vec<String> = self.overlaps().iter().map(|(a, b)| format!("{a}\n  and {b}")).collect();
        ensure!(overlaps.is_empty(), "on two backends at once:\n{}", overlaps.join("\n"));
        ensure!(self.complaints.is_empty(), "backends complained:\n{}", self.complaints.join("\n"));
        Ok(())
    }

    /// Sessions that go on, per backend.
    pub fn open(&self) -> BTreeMap<String, i64> {
        let mut count = BTreeMap::new();
        for visit in self.visits.iter().filter(|visit| visit.to.is_none()) {
            *count.entry(visit.backend.clone()).or_default() += 1;
        }
        count
    }

    /// The backends that a user has ever been on.
    pub fn backends_of(&self, user: &str) -> BTreeSet<&str> {
        self.visits.iter().filter(|visit| visit.user == user).map(|visit| visit.backend.as_str()).collect()
    }

    /// Users who were on more than one backend, one after the other.
    pub fn moved(&self) -> usize {
        let users: BTreeSet<&str> = self.visits.iter().map(|visit| visit.user.as_str()).collect();
        users.into_iter().filter(|user| self.backends_of(user).len() > 1).count()
    }

    /// The last visit of a user.
    pub fn last(&self, user: &str) -> Result<&Visit> {
        let visits = self.visits.iter().filter(|visit| visit.user == user);
        visits.max_by_key(|visit| visit.from).with_context(|| format!("{user} never came"))
    }
}

impl Visit {
    fn begin(protocol: Protocol, backend: &str, line: &str, from: u64) -> Result<Self> {
        let get = |name| field(line, name).map(str::to_owned).with_context(|| format!("no {name} in {line:?}"));
        Ok(Self {
            protocol,
            backend: backend.to_owned(),
            user: get("user")?,
            session: get("session")?,
            login: line.to_owned(),
            from,
            to: None,
            received: None,
        })
    }

    fn delivery(delivery: &Delivery<'_>, backend: &str, line: &str, to: u64) -> Self {
        Self {
            protocol: Protocol::Lmtp,
            backend: backend.to_owned(),
            user: delivery.user.to_owned(),
            session: delivery.session.to_owned(),
            login: line.to_owned(),
            from: to - delivery.span,
            to: Some(to),
            received: None,
        }
    }

    fn command(backend: &str, line: &str, event: &str) -> Result<Self> {
        let get = |name: &str| {
            let value = event.split('\t').find_map(|part| part.strip_prefix(name));
            value.with_context(|| format!("no {name} in {line:?}"))
        };
        Ok(Self {
            protocol: Protocol::Doveadm,
            backend: backend.to_owned(),
            user: get("field:user=")?.to_owned(),
            session: get("field:session=")?.to_owned(),
            login: line.to_owned(),
            from: micros(get("start_time:")?)?,
            to: Some(micros(get("end_time:")?)?),
            received: None,
        })
    }
}

/// `name=value` or `name=<value>` between commas.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let value = line.split([' ', ',']).find_map(|part| part.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_start_matches('<').trim_end_matches('>'))
}

/// What somebody has logged in for, as `imap-login: Info: Login: ...` tells.
fn login(line: &str) -> Option<Protocol> {
    let (process, _) = line.split_once("-login: Info: Login: ")?;
    WITH_LOGIN.into_iter().find(|protocol| protocol.service() == process)
}

/// The session of `imap(USER)<PROCESS><SESSION>: Info: Disconnected: ...`. ManageSieve leaves the last word out when its
/// client has gone without LOGOUT.
fn end(line: &str) -> Option<&str> {
    let (who, what) = line.split_once(": Info: ")?;
    let (process, who) = who.split_once('(')?;
    let ended = what.starts_with("Disconnected") || process == "managesieve" && what.starts_with("Connection closed");
    (ended && WITH_LOGIN.iter().any(|protocol| protocol.service() == process)).then_some(())?;
    who.strip_suffix('>')?.rsplit_once('<').map(|(_, session)| session)
}

/// What the line says that the session was sent: `in=12`, or `bytes=12/34` of ManageSieve. POP3 tells nothing.
fn received(line: &str) -> Option<u64> {
    line.split(' ').find_map(|part| {
        let bytes = part.strip_prefix("in=").or_else(|| Some(part.strip_prefix("bytes=")?.split_once('/')?.0))?;
        bytes.parse().ok()
    })
}

fn micros(stamp: &str) -> Result<u64> {
    let (seconds, fraction) = stamp.split_once('.').with_context(|| format!("not a time: {stamp:?}"))?;
    Ok(seconds.parse::<u64>()? * 1_000_000 + fraction.parse::<u64>()?)
}
