//! `homing audit`: is every user at home, and only there.

use super::status::Door;
use super::{Failure, count, runtime};
use crate::admin::wire::{Audit, ProxyDifference, Stray};

/// Compare what the proxies hold, and what the mail servers say (where they have a doveadm), with the fleet's table. Exit
/// code 1 if they differ or somebody could not be asked.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    door: Door,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let audit: Audit =
            runtime()?.block_on(self.door.client().work("/v1/audit", &())).map_err(anyhow::Error::from)?;
        self.door.print(&audit, text)?;
        let clean = audit.differences.is_empty() && audit.strays.is_empty() && audit.complaints.is_empty();
        if clean { Ok(()) } else { Err(Failure::Told) }
    }
}

fn text(audit: &Audit) -> String {
    let mut lines: Vec<String> = audit.split.iter().map(|key| format!("TWO HOMES: {key}")).collect();
    lines.extend(audit.differences.iter().map(difference));
    if audit.more > 0 {
        lines.push(format!("and {} more differences", audit.more));
    }
    lines.extend(audit.strays.iter().map(stray));
    lines.extend(audit.complaints.iter().cloned());
    lines.push(format!(
        "{} of {} proxies have compared {} with the table; {}; {}",
        audit.confirmed,
        audit.proxies,
        count(audit.sessions, "session"),
        match audit.backends {
            0 => "no mail server has said who is there (doveadm in [backend.NAME] says how to ask it)".to_owned(),
            asked => format!("{} asked who is there", count(asked.into(), "mail server")),
        },
        count((audit.differences.len() + audit.strays.len()) as u64 + audit.more, "difference")
    ));
    if audit.splits_ended > 0 {
        lines.push(format!("the store has found a user at two backends, and ended one, {} times", audit.splits_ended));
    }
    lines.join("\n")
}

fn stray(found: &Stray) -> String {
    let table = match (&found.home, found.counted) {
        (None, _) => "by the table the user is not bound".to_owned(),
        (Some(home), 0) if *home == found.backend => "by the table the user has no session".to_owned(),
        (Some(home), counted) => format!("by the table the user is at home at {home}, with {}", sessions(counted)),
    };
    format!(
        "{}: {} says that it has {} of the user; {table}",
        found.key,
        found.backend,
        count(found.connections.into(), "connection")
    )
}

fn sessions(number: u32) -> String {
    count(number.into(), "session")
}

fn difference(row: &ProxyDifference) -> String {
    let found = &row.difference;
    let place = |backend: &Option<String>| backend.clone().unwrap_or_else(|| "nowhere".to_owned());
    format!(
        "{}: proxy {} has {} at {}; the table has the user at {} and counts {} of that proxy",
        found.key,
        row.proxy,
        sessions(found.sessions),
        place(&found.here),
        place(&found.table),
        found.counted
    )
}
