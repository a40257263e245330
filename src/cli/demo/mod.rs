//! `homing demo`: a whole site on the loopback address, to touch or to watch.
//!
//! Three backends (small built-in IMAP servers, or Dovecot) with a mail store that they share, and two proxies in front
//! of them over one store. [`site`] builds it, [`tour`] plays the story that the project is about, and fails if it is not
//! true. Everything is on loopback and gone when the process ends.

mod backends;
mod client;
mod dovecot;
mod mailbox;
mod proxy;
mod report;
mod scratch;
mod shared;
mod site;
mod tour;

#[cfg(test)]
mod tests;

use std::pin::pin;

use anyhow::{Context, anyhow, ensure};
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, runtime};
use crate::config::LogConfig;
use crate::telemetry;
use site::{Ports, Site};

/// Try homing on this machine: three mail servers, two proxies, and commands to play with.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Play the whole story alone, show it as a table, and succeed only if every promise was kept
    #[arg(long)]
    tour: bool,

    /// Share state in a Redis or Valkey server (under keys of the demo's own) instead of in memory; without a URL, in that
    /// of this machine
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "redis://127.0.0.1:6379/")]
    redis: Option<String>,

    /// Use Dovecot 2.3 (/usr/sbin/dovecot) for the three mail servers instead of the built-in ones
    #[arg(long)]
    dovecot: bool,
}

/// Who can log in for a person to play with; the tour brings its own.
const PEOPLE: [&str; 4] = ["alice", "bob", "carol", "dave"];
/// Everybody's password.
const PASSWORD: &str = "demo";

impl Args {
    /// Runs the demo until Ctrl-C, or the tour to its end.
    pub(super) fn run(self) -> Result<(), Failure> {
        // The tour breaks connections on purpose; its table says what came of that.
        let level = if self.tour { "off" } else { "info" };
        let log = LogConfig { level: level.to_owned(), ..LogConfig::default() };
        telemetry::start(&log).context("cannot start the log")?;
        let runtime = runtime()?;
        Ok(runtime.block_on(Box::pin(self.play()))?)
    }

    async fn play(self) -> anyhow::Result<()> {
        let ports = if self.tour { Ports::Any } else { Ports::WellKnown };
        eprintln!("Starting three backends and two proxies; a new fleet in Redis waits some seconds for its members.");
        let mut end = pin!(told_to_end());
        let site = tokio::select! {
            site = Box::pin(Site::build(self.redis.as_deref(), self.dovecot, ports)) => site?,
            told = &mut end => return told,
        };
        if self.tour {
            return tokio::select! {
                outcome = Box::pin(tour(site)) => outcome,
                _ = &mut end => Err(anyhow!("interrupted")), // what ran is dropped, and gone with it
            };
        }
        println!("{}", hints(&site));
        end.await?;
        eprintln!("Closing.");
        site.close().await
    }
}

/// Ctrl-C or SIGTERM. Both end the demo in good order, so that no file and no Dovecot is left behind.
async fn told_to_end() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    tokio::select! {
        interrupt = tokio::signal::ctrl_c() => interrupt.context("cannot wait for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
    }
}

/// Plays the tour, shows its table, and fails if a promise was broken.
async fn tour(mut site: Site) -> anyhow::Result<()> {
    let report = tour::play(&mut site).await;
    println!("{report}");
    site.close().await?;
    ensure!(report.kept(), "a promise was broken");
    Ok(())
}

/// What to try, with this site's own ports and files.
fn hints(site: &Site) -> String {
    let [one, two] = site.fronts();
    let certificate = site.certificate().display();
    let homing = std::env::args().next().unwrap_or_else(|| "homing".to_owned());
    let backends: Vec<_> = site.backends().list().iter().map(|(name, at)| format!("{name} ({at})")).collect();
    format!(
        "\n\
         Backends: {}, one mail store\n\
         Proxies:  one (IMAP {}, IMAPS {}), two (IMAP {}, IMAPS {})\n\
         Users:    {}, each with password {PASSWORD}\n\
         \n\
         Read a message, through each proxy:\n\
         \x20 curl -u alice:{PASSWORD} 'imap://{}/INBOX;UID=1'\n\
         \x20 curl -u alice:{PASSWORD} --cacert {certificate} 'imaps://localhost:{}/INBOX;UID=1'\n\
         \n\
         Ask where you are, by hand, in two windows; the answer to ID names the backend, the same in both:\n\
         \x20 openssl s_client -quiet -crlf -connect {}\n\
         \x20 openssl s_client -quiet -crlf -starttls imap -connect {}\n\
         \x20   a LOGIN alice {PASSWORD}\n\
         \x20   b ID NIL\n\
         \n\
         Ask the fleet:\n\
         \x20 {homing} status --socket {}\n\
         \x20 {homing} user where alice --socket {}\n\
         \n\
         `{homing} demo --tour` kills a proxy and shows what happens. Ctrl-C ends this.",
        backends.join(", "),
        one.imap,
        one.imaps,
        two.imap,
        two.imaps,
        PEOPLE.join(", "),
        one.imap,
        two.imaps.port(),
        one.imaps,
        two.imap,
        one.admin.display(),
        two.admin.display(),
    )
}
