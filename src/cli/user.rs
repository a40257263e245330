//! `homing user`: ask about one user.

use clap::Subcommand;

use super::status::Door;
use super::{Failure, runtime};
use crate::admin::wire::{Holder, Home, Whereabouts};

/// Ask about one user.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

/// What to ask.
#[derive(Debug, Subcommand)]
enum Action {
    /// Where a user is at home, and which proxies hold sessions
    Where {
        /// Login name
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        name: String,
        #[command(flatten)]
        door: Door,
    },
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Action::Where { name, door } = self.action;
        let path = format!("/v1/users/{}", escaped(&name));
        let answer: Whereabouts = runtime()?.block_on(door.client().get(&path)).map_err(anyhow::Error::from)?;
        door.print(&answer, text)
    }
}

fn text(answer: &Whereabouts) -> String {
    match &answer.home {
        Some(home) => format!("{} is at home on {}", answer.key, home_text(home)),
        None => format!("{} is not bound: the next login is placed", answer.key),
    }
}

fn home_text(home: &Home) -> String {
    let holders = home.holders.iter().map(holder_text).collect::<Vec<_>>().join(", ");
    match home.idle_s {
        Some(seconds) => format!("{} (generation {}), idle for {seconds} s", home.backend, home.generation),
        None => format!("{} (generation {}), {} sessions: {holders}", home.backend, home.generation, home.sessions),
    }
}

fn holder_text(holder: &Holder) -> String {
    format!("{} at {}", holder.sessions, holder.proxy.as_deref().unwrap_or(&holder.incarnation))
}

/// A name as one segment of a path (RFC 3986 2.1).
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
