//! The mail itself: one INBOX per account, in memory, shared by all servers of the demo.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use subtle::ConstantTimeEq;
use tokio::sync::watch;

/// Bytes of one message.
pub(super) const MESSAGE_MAX: usize = 1024 * 1024;
/// Bytes of one INBOX.
const INBOX_MAX: usize = 16 * MESSAGE_MAX;
/// Messages of one INBOX.
const MESSAGES_MAX: usize = 10_000;

/// All accounts. Who they are is fixed when it is made; what is in them is not.
pub(in super::super) struct MailStore {
    accounts: BTreeMap<String, Arc<Account>>,
    password: String,
}

/// One user's mail.
pub(super) struct Account {
    pub(super) user: String,
    inbox: Mutex<Inbox>,
    changed: watch::Sender<()>,
}

/// The messages of an INBOX in the order of their UIDs.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) messages: Vec<Message>,
    last_uid: u32,
}

/// One message. Cheap to clone.
#[derive(Clone)]
pub(super) struct Message {
    pub(super) uid: u32,
    pub(super) flags: BTreeSet<String>,
    /// Seconds since 1970, UTC.
    pub(super) received: u64,
    pub(super) raw: Arc<[u8]>,
}

impl MailStore {
    /// Accounts for `users`, all with the same password, each with what `messages` makes for it.
    pub(in super::super) fn new(
        users: &[String],
        password: &str,
        messages: impl Fn(&str) -> Vec<Vec<u8>>,
    ) -> Arc<Self> {
        let account = |user: &String| {
            let account = Account { user: user.clone(), inbox: Mutex::default(), changed: watch::Sender::default() };
            for raw in messages(user) {
                account.with(|inbox| inbox.append(raw, BTreeSet::new(), now()));
            }
            (user.clone(), Arc::new(account))
        };
        Arc::new(Self { accounts: users.iter().map(account).collect(), password: password.to_owned() })
    }

    /// The account, if there is one and this is its password. Names are not case-sensitive.
    pub(super) fn log_in(&self, user: &str, password: &[u8]) -> Option<Arc<Account>> {
        let account = self.accounts.get(&user.to_ascii_lowercase())?;
        bool::from(self.password.as_bytes().ct_eq(password)).then(|| account.clone())
    }
}

impl Account {
    /// Looks at or changes the INBOX. `action` must not wait for anything.
    pub(super) fn with<T>(&self, action: impl FnOnce(&mut Inbox) -> T) -> T {
        action(&mut self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells all sessions that messages came or went.
    pub(super) fn announce(&self) {
        self.changed.send_replace(());
    }

    /// Hears of such changes.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

impl Inbox {
    /// Adds a message and tells its UID; `None` if there is no room.
    pub(super) fn append(&mut self, raw: Vec<u8>, flags: BTreeSet<String>, received: u64) -> Option<u32> {
        let used: usize = self.messages.iter().map(|message| message.raw.len()).sum();
        if raw.len() > MESSAGE_MAX || used + raw.len() > INBOX_MAX || self.messages.len() >= MESSAGES_MAX {
            return None;
        }
        self.last_uid += 1;
        self.messages.push(Message { uid: self.last_uid, flags, received, raw: raw.into() });
        Some(self.last_uid)
    }

    pub(super) fn next_uid(&self) -> u32 {
        self.last_uid + 1
    }

    pub(super) fn message(&mut self, uid: u32) -> Option<&mut Message> {
        let at = self.messages.binary_search_by_key(&uid, |message| message.uid).ok()?;
        Some(&mut self.messages[at])
    }

    pub(super) fn unseen(&self) -> usize {
        self.messages.iter().filter(|message| !message.has("\\Seen")).count()
    }
}

impl Message {
    /// Whether it has a flag. Flags are not case-sensitive (RFC 3501 2.3.2).
    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|set| set.eq_ignore_ascii_case(flag))
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
