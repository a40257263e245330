//! `homing auth`: what the passdbs say, and what the fleet remembers of it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::status::{Door, table};
use super::{Failure, count, runtime};
use crate::admin::wire::{AuthStats, FlushAsk, Flushed, ForgiveAsk, Forgiven, PolicyCounts, Trial, TrialAsk};

/// Longest password, in bytes.
const LONGEST: u64 = 4096;

/// Try passwords out, and see or clear what the fleet remembers of passdbs and of failed logins.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Ask the passdbs as a login would, and show who answered, from where, and what. Exit code 1 if it would be refused
    Test {
        /// Name as a client would give it; "ann*admin" tries the master user admin for ann
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        user: String,
        /// File whose first line is the password. Otherwise it is asked for, or read from standard input
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// By which protocol: imap, pop3, submission, sieve
        #[arg(long, default_value = "imap")]
        service: String,
        /// The client's address, for allow_nets [default: 127.0.0.1]
        #[arg(long, value_name = "ADDRESS")]
        client: Option<IpAddr>,
        #[command(flatten)]
        door: Door,
    },
    /// Have the fleet forget what passdbs said about a user, or about everybody: the next login asks them
    Flush {
        /// The user's name, or a master user's
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        user: Option<String>,
        /// Everybody
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        door: Door,
    },
    /// Have the fleet forget the failed logins of a user, or those at an address, so that nobody waits for them
    Forgive {
        /// An address, or the user's name; of an IPv6 address all of its network is forgiven
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        whom: String,
        #[command(flatten)]
        door: Door,
    },
    /// How this proxy's passdbs and the cache before them fare, and how many logins fail
    Stats {
        #[command(flatten)]
        door: Door,
    },
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Test { user, password_file, service, client, door } => {
                let password = password(password_file.as_deref())?;
                test(TrialAsk { user, password, service, client }, &door)
            }
            Action::Flush { user, door, .. } => flush(FlushAsk { user }, &door),
            Action::Forgive { whom, door } => forgive(ForgiveAsk { whom }, &door),
            Action::Stats { door } => {
                let stats: AuthStats =
                    runtime()?.block_on(door.client().get("/v1/auth")).map_err(anyhow::Error::from)?;
                door.print(&stats, stats_text)
            }
        }
    }
}

fn test(ask: TrialAsk, door: &Door) -> Result<(), Failure> {
    let work = async { door.client().work("/v1/auth/test", &ask).await };
    let trial: Trial = runtime()?.block_on(work).map_err(anyhow::Error::from)?;
    door.print(&trial, trial_text)?;
    if trial.outcome == "granted" { Ok(()) } else { Err(Failure::Told) }
}

fn trial_text(trial: &Trial) -> String {
    let took = format!("{:.1} ms", trial.micros as f64 / 1000.0);
    let by = match (&trial.source, &trial.origin) {
        (Some(source), Some(origin)) => {
            format!("by {source}, from its {origin}").replace("from its source", "just asked")
        }
        _ => "no passdb knows the name".to_owned(),
    };
    let mut lines = vec![format!("{}: {by}, in {took}", trial.outcome.replace('_', " "))];
    if let Some(user) = &trial.user {
        lines.push(format!("user: {user}"));
    }
    if trial.unproven {
        lines.push("The password was not checked: the backend does that.".to_owned());
    }
    lines.extend(trial.fields.iter().map(|(field, value)| format!("{field}: {value}")));
    lines.join("\n")
}

fn flush(ask: FlushAsk, door: &Door) -> Result<(), Failure> {
    let work = async { door.client().work("/v1/auth/flush", &ask).await };
    let done: Flushed = runtime()?.block_on(work).map_err(anyhow::Error::from)?;
    door.print(&done, |done| format!("forgot {}", count(done.records, "record")))
}

fn forgive(ask: ForgiveAsk, door: &Door) -> Result<(), Failure> {
    let work = async { door.client().work("/v1/auth/forgive", &ask).await };
    let done: Forgiven = runtime()?.block_on(work).map_err(anyhow::Error::from)?;
    door.print(&done, |done| format!("forgave {}", count(u64::from(done.failures), "failed login")))
}

fn stats_text(stats: &AuthStats) -> String {
    let AuthStats { cache, penalties, .. } = stats;
    let mut rows = table(
        &["passdb", "asked", "granted", "denied", "unknown", "failed", "late", "not asked", "mean", "state"],
        &[1, 2, 3, 4, 5, 6, 7, 8],
    );
    for source in &stats.sources {
        let answered = source.asked - source.refused;
        let mean =
            source.micros.checked_div(answered).map_or("-".to_owned(), |mean| format!("{:.1} ms", mean as f64 / 1e3));
        let counts =
            [source.asked, source.granted, source.denied, source.unknown, source.unavailable, source.timed_out];
        let mut row = vec![format!("{}{}", source.source, if source.master { " (masters)" } else { "" })];
        row.extend(counts.iter().chain([&source.refused]).map(ToString::to_string));
        row.extend([mean, if source.paused { "left alone" } else { "asked" }.to_owned()]);
        rows.add_row(row);
    }
    let policy = stats.policy.as_ref().map(policy_text).unwrap_or_default();
    format!(
        "Cache: {} answered, {} while a passdb was away, {} asked, {} shared a question, {} without the store\n\
         Failed logins: {}; {} logins waited for that, {} were turned away, {} were forgiven, {} judged without the store\n{policy}{rows}",
        cache.fresh,
        cache.stale,
        cache.missed,
        cache.shared,
        cache.unreachable,
        penalties.failed,
        penalties.delayed,
        penalties.too_fast,
        penalties.forgiven,
        penalties.alone
    )
}

fn policy_text(policy: &PolicyCounts) -> String {
    let PolicyCounts { server, welcome, delayed, unwelcome, unavailable, reported, lost, paused } = policy;
    let state = if *paused { ", left alone" } else { "" };
    format!(
        "The {server}{state}: {welcome} welcome, {delayed} delayed, {unwelcome} turned away, {unavailable} without an answer, \
         {reported} reported, {lost} reports lost\n"
    )
}

/// The first line of the file, of the terminal without echo, or of standard input.
fn password(file: Option<&Path>) -> anyhow::Result<String> {
    if let Some(path) = file {
        let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        return first_line(file);
    }
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return first_line(stdin.lock());
    }
    write!(io::stderr(), "Password: ")?;
    let mut silent = Silent::new(stdin.lock())?;
    first_line(&mut silent.0)
}

fn first_line(from: impl Read) -> anyhow::Result<String> {
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1)); // never grows: no copies are left
    BufReader::with_capacity(1, from.take(LONGEST + 1)).read_until(b'\n', &mut line)?;
    anyhow::ensure!(line.len() as u64 <= LONGEST, "the password is longer than {LONGEST} bytes");
    let text = std::str::from_utf8(&line).context("the password is not UTF-8")?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Silent<'a>(io::StdinLock<'a>, Termios);

impl<'a> Silent<'a> {
    fn new(terminal: io::StdinLock<'a>) -> anyhow::Result<Self> {
        let before = tcgetattr(&terminal).context("the terminal cannot be made silent")?;
        let mut silent = before.clone();
        silent.local_modes -= LocalModes::ECHO;
        silent.local_modes |= LocalModes::ECHONL;
        tcsetattr(&terminal, OptionalActions::Flush, &silent).context("the terminal cannot be made silent")?;
        Ok(Self(terminal, before))
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.0, OptionalActions::Flush, &self.1); // nobody to complain to
    }
}
