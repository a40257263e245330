//! `homing user`: ask about users, and move, kick, hold, pin and migrate them.

mod kick;
mod list;
mod migrate;
mod text;

use std::time::Duration;

use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::status::Door;
use super::{Failure, runtime};
use crate::admin::wire::{Explained, History, HoldAsk, Marked, MoveAsk, Moved, PinAsk, Whereabouts};

/// Ask about users, and move, kick, hold, pin and migrate them. Names become affinity keys as at a login.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

/// Whom to ask about.
#[derive(Debug, clap::Args)]
struct User {
    /// Login name
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
    #[command(flatten)]
    door: Door,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Action {
    /// Where a user is at home, and which proxies hold sessions
    Where(User),
    List(list::Args),
    /// Empty a user's home, then open another: wherever a new user would go, or where --to says
    Move {
        #[command(flatten)]
        user: User,
        /// The new home
        #[arg(long, value_name = "BACKEND")]
        to: Option<String>,
        /// At once and without the hook, not waiting for sessions at the old home to end: two homes are possible for a
        /// moment
        #[arg(long)]
        force: bool,
        /// Do not run the before_move hook
        #[arg(long)]
        no_hook: bool,
        /// Only if the old backend says over doveadm that it has no process of the user: logins wait until it does, and
        /// the user stays if it does not
        #[arg(long, conflicts_with_all = ["force", "no_wait"])]
        confirm: bool,
        #[command(flatten)]
        wait: Wait,
    },
    Kick(kick::Args),
    /// Keep a user out: logins wait for fleet.login_wait, then get a temporary failure
    Hold {
        #[command(flatten)]
        user: User,
        /// For so long, such as 10m [default: until release]
        #[arg(long = "for", value_name = "TIME", value_parser = some_span)]
        span: Option<Duration>,
        /// End the user's sessions, too
        #[arg(long)]
        kick: bool,
    },
    /// Let a held user in again
    Release(User),
    /// Make a backend the user's home whenever it can be, and move the user there
    Pin {
        #[command(flatten)]
        user: User,
        /// The backend
        backend: String,
        /// Leave the user where they are until the next login without a session
        #[arg(long)]
        no_move: bool,
    },
    /// Forget a user's pin; the user stays
    Unpin(User),
    /// Why a user is where they are, and where a login would go now
    Explain {
        #[command(flatten)]
        user: User,
        /// The pool that the passdb would name [default: that of the present home]
        #[arg(long)]
        pool: Option<String>,
    },
    /// The homes that a user has had
    History(User),
    Migrate(migrate::Args),
}

/// Whether to wait.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Wait {
    /// Answer when it is done [default]
    #[arg(long, conflicts_with = "no_wait")]
    wait: bool,
    /// Answer when it has begun
    #[arg(long)]
    no_wait: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Where(user) => user.ask::<Whereabouts>("", text::whereabouts),
            Action::List(args) => args.run(),
            Action::Move { user, to, force, no_hook, confirm, wait } => {
                let ask = MoveAsk { to, force, hook: !no_hook, wait: !wait.no_wait, confirm };
                user.work("move", &ask, text::moved, went_well)
            }
            Action::Kick(args) => args.run(),
            Action::Hold { user, span, kick } => {
                let for_ms = span.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
                user.work("hold", &HoldAsk { for_ms, kick }, text::held, all_went_well)
            }
            Action::Release(user) => user.work("release", &(), text::released, all_went_well),
            Action::Pin { user, backend, no_move } => {
                let said = |marked: &Marked| text::pinned(marked, &backend);
                user.work("pin", &PinAsk { backend: backend.clone(), go: !no_move }, said, all_went_well)
            }
            Action::Unpin(user) => user.work("unpin", &(), text::unpinned, all_went_well),
            Action::Explain { user, pool } => {
                let query = pool.map_or_else(String::new, |pool| format!("?pool={}", escaped(&pool)));
                user.ask::<Explained>(&format!("/explain{query}"), text::explained)
            }
            Action::History(user) => user.ask::<History>("/history", text::history),
            Action::Migrate(args) => args.run(),
        }
    }
}

impl User {
    fn path(&self) -> String {
        format!("/v1/users/{}", escaped(&self.name))
    }

    fn ask<T: DeserializeOwned + Serialize>(&self, what: &str, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        let path = format!("{}{what}", self.path());
        let answer: T = runtime()?.block_on(self.door.client().get(&path)).map_err(anyhow::Error::from)?;
        self.door.print(&answer, text)
    }

    /// Has something done, and fails if that did not go well.
    fn work<T: DeserializeOwned + Serialize>(
        &self,
        what: &str,
        ask: &impl Serialize,
        text: impl FnOnce(&T) -> String,
        well: impl FnOnce(&T) -> bool,
    ) -> Result<(), Failure> {
        let path = format!("{}/{what}", self.path());
        let answer: T = runtime()?.block_on(self.door.client().work(&path, ask)).map_err(anyhow::Error::from)?;
        self.door.print(&answer, text)?;
        if well(&answer) { Ok(()) } else { Err(Failure::Told) }
    }
}

fn went_well(moved: &Moved) -> bool {
    (moved.end == "done" || moved.end == "begun") && moved.backend_let_go != Some(false)
}

fn all_went_well(marked: &Marked) -> bool {
    marked.moved.as_ref().is_none_or(went_well)
}

/// A span of time as in the configuration.
fn span(text: &str) -> Result<Duration, String> {
    humantime_serde::re::humantime::parse_duration(text).map_err(|error| error.to_string())
}

/// The same, for what must last: held for no time is not held.
fn some_span(text: &str) -> Result<Duration, String> {
    span(text)
        .and_then(|span| if span.as_millis() == 0 { Err("must be longer than that".to_owned()) } else { Ok(span) })
}

/// A name as one segment of a path, or a value of a query (RFC 3986 2.1).
pub(super) fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
