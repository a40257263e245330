//! `homing proxy`: the proxies of the fleet, and what dead ones still hold.

use std::time::Duration;

use clap::Subcommand;

use super::status::{Door, for_people, table};
use super::{Failure, runtime};
use crate::admin::wire::{ForgetAsk, Forgotten, Proxy, Status};

/// Show the proxies of the fleet, and free what dead ones still hold.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Action {
    /// The proxies of the fleet, dead ones too until they are freed
    List {
        #[command(flatten)]
        door: Door,
    },
    /// Free at once what a dead proxy holds, and not when fleet.orphan_grace is over
    Forget {
        /// Its name, or one incarnation of it
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        name: String,
        /// Also if it has a lease, and so seems to live: its users may have two homes until it has heard of it
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        door: Door,
    },
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::List { door } => list(&door),
            Action::Forget { name, force, door } => forget(&name, force, &door),
        }
    }
}

fn list(door: &Door) -> Result<(), Failure> {
    let status: Status = runtime()?.block_on(door.client().get("/v1/status")).map_err(anyhow::Error::from)?;
    let why = || anyhow::anyhow!("{}", status.store_error.as_deref().unwrap_or("the store cannot be asked"));
    let fleet = status.fleet.as_ref().ok_or_else(why)?;
    door.print(&fleet.proxies, |proxies| proxies_text(proxies))
}

/// A table of proxies.
pub(super) fn proxies_text(proxies: &[Proxy]) -> String {
    let mut rows = table(&["proxy", "incarnation", "version", "state", "lease left", "up", "sessions"], &[6]);
    for proxy in proxies {
        rows.add_row([
            proxy.name.clone(),
            proxy.incarnation.clone(),
            proxy.version.clone(),
            proxy.state.clone(),
            format!("{:.1} s", Duration::from_millis(proxy.left_ms).as_secs_f64()),
            for_people(proxy.age_s),
            proxy.sessions.to_string(),
        ]);
    }
    rows.to_string()
}

fn forget(name: &str, force: bool, door: &Door) -> Result<(), Failure> {
    let path = format!("/v1/proxies/{}/forget", super::user::escaped(name));
    let work = async { door.client().work(&path, &ForgetAsk { force }).await };
    let done: Forgotten = runtime()?.block_on(work).map_err(anyhow::Error::from)?;
    door.print(&done, |done| forgotten(name, done))?;
    if done.freed.is_empty() { Err(Failure::Told) } else { Ok(()) }
}

fn forgotten(name: &str, done: &Forgotten) -> String {
    let mut lines = Vec::new();
    if !done.freed.is_empty() {
        lines.push(format!("freed what {} held: {}", name, done.freed.join(", ")));
    }
    if !done.alive.is_empty() {
        lines.push(format!(
            "left alone, because it has a lease: {}. If it is dead all the same, wait until that is over, or use --force",
            done.alive.join(", ")
        ));
    }
    lines.join("\n")
}
