//! The command line of the bench.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::subjects::Subject;

/// Measures homing beside other proxies on the same work in the same run.
#[derive(Debug, Parser)]
#[command(name = "bench/run")]
pub(crate) struct Args {
    /// What to measure; everything if none is named.
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// Short rounds and few sessions: shows that all works, not what it costs.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write the tables to this file, too.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Only these proxies, separated by commas; all if not given.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Subject>,
    /// Rounds, in each of which every proxy has its turn. 5 (20 of POP3, LMTP and hashes, whose turns are shorter), or 2 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Idle sessions to hold. 5000, or 500 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    sessions: Option<u32>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Logins without TLS.
    LoginPlain,
    /// Logins with a full TLS 1.3 handshake.
    LoginTls,
    /// Logins with a resumed TLS 1.3 session.
    LoginResumed,
    /// Memory of idle sessions without TLS.
    IdlePlain,
    /// Memory of idle sessions with TLS.
    IdleTls,
    /// Relayed bytes without TLS.
    BulkPlain,
    /// Relayed bytes with TLS towards the client.
    BulkTls,
    /// Round trip of a NOOP.
    RoundTrip,
    /// POP3 logins beside IMAP's, without TLS.
    Pop3Plain,
    /// POP3 logins beside IMAP's, with a full TLS 1.3 handshake.
    Pop3Tls,
    /// Deliveries by LMTP.
    Delivery,
    /// Memory for 100 MB by LMTP to 50 recipients on 5 servers.
    LargeMail,
    /// Logins by plain passwords while password hashes queue.
    Hashes,
}

impl Args {
    /// Ends the process with an explanation if the command line is wrong.
    pub(crate) fn from_command_line() -> Self {
        Self::parse()
    }

    /// The scenarios to run, in the order in which they are reported.
    pub(crate) fn scenarios(&self) -> Vec<Scenario> {
        let all = Scenario::value_variants().iter();
        all.copied().filter(|s| self.scenarios.is_empty() || self.scenarios.contains(s)).collect()
    }

    /// The proxies to measure.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        let all = Subject::value_variants().iter();
        all.copied().filter(|s| self.only.is_empty() || self.only.contains(s)).collect()
    }

    /// How often each proxy has its turn.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 2 } else { 5 })
    }

    /// The same where turns are short.
    pub(crate) fn short_rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 2 } else { 20 })
    }

    /// How many idle sessions are held.
    pub(crate) fn sessions(&self) -> u32 {
        self.sessions.unwrap_or(if self.quick { 500 } else { 5000 })
    }
}
