//! `[moves]`: what happens when a user moves from one backend to another.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use super::Endpoint;
use super::key::section;
use super::value::{REDACTED, Shown, Value, Wrong, quoted};
use crate::model::Secret;

section! {
    /// Moves of users from one backend to another, and kicks. A hook runs once for each user: when no session is left at the old
    /// backend, and before the new one is used. If it fails, the user stays.
    #[derive(Clone, Debug, PartialEq)]
    pub struct MovesConfig {
        /// How long the sessions at the old backend may take to end, and the hook to begin, before a move is given up and
        /// the user stays.
        pub timeout: Duration = Duration::from_secs(60), min("1s"), max("1h");
        /// Between the end of the last session at the old backend and the first at the new one, and after a kick: the
        /// backend may still be writing what the session left. A hook that succeeds ends it early. The same in every
        /// proxy of a fleet.
        pub kick_delay: Duration = Duration::from_secs(2), max("5min");
        /// The hook as a command: absolute path and arguments, without a shell. Behind these it gets those of a Dovecot
        /// Director's flush script: FLUSH, the key, host of the old backend, host of the new one (or "-"), "up" or "down"
        /// and weight of the old. HOMING_KEY, HOMING_FROM, HOMING_TO and others are in its environment; HOMING_AGAIN is 1
        /// if it may have run for this move before. Any exit code but 0 is a failure.
        pub before_move: Vec<String> = Vec::new(), example("[\"/usr/local/bin/before-move\"]");
        /// The hook as a URL, which gets the same as JSON by POST. Any answer but 2xx is a failure.
        pub before_move_url: Option<HookUrl> = None, example("\"http://127.0.0.1:8000/before-move\""), secret;
        /// How long a hook may take. A command is then killed with all that it has started.
        pub hook_timeout: Duration = Duration::from_secs(30), min("100ms"), max("10min");
        /// The most users that are being moved at once, fleet-wide.
        pub max_parallel_moves: u32 = 100, min("1"), max("100000");
        /// The most migrations (homing user migrate) that are under way at once in this proxy, and so the most of their
        /// hooks. Users who wait for their turn are not kept out yet.
        pub max_parallel_migrations: u32 = 20, min("1"), max("1000");
        /// The most moves begun in a second, fleet-wide; 0 for any number.
        pub move_rate: u32 = 50, max("100000");
        /// A rebalance ends when a backend has no more than its fair share and this part of it: 0.1 is a tenth.
        pub rebalance_tolerance: f64 = 0.1, min("0.01"), max("10");
        /// When more than this part of the logins at a backend fail, moves to it stop until an operator resumes them.
        pub max_errors: f64 = 0.2, min("0"), max("1");
    }
}

/// `http://host[:port]/path` or `https://...`. What stands behind a `?` is taken for a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookUrl(Endpoint);

impl HookUrl {
    /// Reads one, as it is written in the file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let schemes = [("http", Some(80)), ("https", Some(443))];
        Endpoint::parse(text, &schemes).map(Self).map_err(|what| format!("{text} {what}"))
    }

    /// Where to post.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0
    }

    /// TLS from the first byte.
    pub fn is_tls(&self) -> bool {
        self.0.scheme == "https"
    }
}

impl Value for HookUrl {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let remedy = "write it like \"http://127.0.0.1:8000/before-move\" or \"https://host/path\"";
        let text = given.as_str().ok_or_else(|| Wrong::new("must be a URL in quotes", remedy))?;
        let schemes = [("http", Some(80)), ("https", Some(443))];
        self.0 = Endpoint::parse(text, &schemes).map_err(|what| Wrong::new(what, remedy))?;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        let (path, query) = match self.0.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.0.path.as_str(), None),
        };
        let hidden = query.map_or(String::new(), |_| format!("?{REDACTED}"));
        let text = quoted(&format!("{}{path}{hidden}", self.0.place()));
        Some(Shown { text, secret: query.map(|query| Arc::new(Secret::new(query.as_bytes().to_vec()))) })
    }
}
