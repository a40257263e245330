//! `homing user kick`: one user, or many by what they have in common.

use clap::builder::NonEmptyStringValueParser;
use ipnet::IpNet;

use super::{Wait, escaped, text, went_well};
use crate::admin::wire::{KickAsk, KickMany, KickedMany, Moved, Whom};
use crate::cli::status::Door;
use crate::cli::{Failure, count, runtime};

/// End all sessions of a user, at every proxy: the home stays, and logins wait for moves.kick_delay. Or the sessions of
/// many: they may come back at once.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    whom: Chosen,
    /// Ask the user's backend over doveadm until it has no process of the user; logins wait meanwhile
    #[arg(long, conflicts_with_all = ["no_wait", "address", "backend"])]
    confirm: bool,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    door: Door,
}

/// Whose sessions.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Chosen {
    /// Login name; with * (anything) or ? (one character) all affinity keys that match
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// Clients of that address or network, such as 192.0.2.0/24
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    address: Option<IpNet>,
    /// Everybody at that backend
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    backend: Option<String>,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Chosen { name, address, backend } = self.whom;
        let many = match (name, address, backend) {
            (Some(name), ..) if name.contains(['*', '?']) && self.confirm => {
                return Err(Failure::Usage(anyhow::anyhow!("--confirm asks about one user, not about a pattern")));
            }
            (Some(name), ..) if name.contains(['*', '?']) => Whom::Keys(name),
            (Some(name), ..) => {
                return one(&name, &KickAsk { wait: !self.wait.no_wait, confirm: self.confirm }, &self.door);
            }
            (_, Some(network), _) => Whom::Network(network),
            (.., backend) => Whom::Backend(backend.unwrap_or_default()), // clap sees to it that there is one
        };
        if self.wait.no_wait {
            return Err(Failure::Usage(anyhow::anyhow!(
                "--no-wait goes with the name of one user; a kick of many always waits for the proxies' answers"
            )));
        }
        let work = async { self.door.client().work("/v1/kicks", &KickMany { whom: many }).await };
        let done: KickedMany = runtime()?.block_on(work).map_err(anyhow::Error::from)?;
        self.door.print(&done, kicked_many)?;
        if done.confirmed == done.proxies && done.complaints.is_empty() { Ok(()) } else { Err(Failure::Told) }
    }
}

fn one(name: &str, ask: &KickAsk, door: &Door) -> Result<(), Failure> {
    let path = format!("/v1/users/{}/kick", escaped(name));
    let work = async { door.client().work(&path, ask).await };
    let done: Moved = runtime()?.block_on(work).map_err(anyhow::Error::from)?;
    door.print(&done, text::kicked)?;
    if went_well(&done) { Ok(()) } else { Err(Failure::Told) }
}

fn kicked_many(done: &KickedMany) -> String {
    let mut lines = done.complaints.clone();
    let left = if done.left > 0 { format!(", {} have not ended yet", done.left) } else { String::new() };
    lines.push(format!(
        "{} of {} proxies confirmed, {} closed{left}, {} ms",
        done.confirmed,
        done.proxies,
        count(done.told - done.left.min(done.told), "session"),
        done.ms
    ));
    lines.join("\n")
}

/// An address is the network that has it alone.
fn network(text: &str) -> Result<IpNet, String> {
    let alone = || text.parse().map(|address: std::net::IpAddr| IpNet::from(address.to_canonical()));
    text.parse::<IpNet>().or_else(|_| alone()).map_err(|_| "neither an address nor a network".to_owned())
}
