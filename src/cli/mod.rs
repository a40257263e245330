//! The command line: a file per noun. Each command is a clap struct with a `run`; what a command prints for people goes
//! to standard output, complaints go to standard error.

mod audit;
mod auth;
mod backend;
mod config;
mod demo;
mod dump;
mod proxy;
mod reload;
mod serve;
mod socket;
mod status;
mod user;

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::app;
use crate::config::Faults;

/// Interchangeable proxies for mail access that bring every user home to one backend.
#[derive(Debug, Parser)]
#[command(name = "homing", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One variant per noun, in the order of the help.
#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Demo(demo::Args),
    Config(config::Args),
    Status(status::Args),
    User(user::Args),
    Proxy(proxy::Args),
    Backend(backend::Args),
    Audit(audit::Args),
    Auth(auth::Args),
    Dump(dump::Args),
    Reload(reload::Args),
}

/// Why a command failed, as its exit code tells.
#[derive(Debug)]
enum Failure {
    /// Exit code 1: something went wrong while it ran.
    Runtime(anyhow::Error),
    /// Exit code 1: what it printed says what went wrong.
    Told,
    /// Exit code 2: what was asked for cannot be done.
    Usage(anyhow::Error),
    /// Exit code 2: the configuration is faulty.
    Config(Faults),
}

/// Runs the command that the process was started with. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
pub fn main() -> ExitCode {
    // Before the file with the passwords is read, whatever the command.
    if let Err(error) = app::close_to_others() {
        eprintln!("homing: core dumps could not be switched off: {error}");
    }
    // Libraries that speak TLS ask for the process's provider. It can only be there already if a test put it there.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let _ = error.print(); // nowhere left to complain
            return ExitCode::from(code);
        }
    };
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

impl Command {
    fn run(self) -> Result<(), Failure> {
        match self {
            Self::Serve(args) => args.run(),
            Self::Demo(args) => args.run(),
            Self::Config(args) => args.run(),
            Self::Status(args) => args.run(),
            Self::User(args) => args.run(),
            Self::Proxy(args) => args.run(),
            Self::Backend(args) => args.run(),
            Self::Audit(args) => args.run(),
            Self::Auth(args) => args.run(),
            Self::Dump(args) => args.run(),
            Self::Reload(args) => args.run(),
        }
    }
}

impl Failure {
    /// Tells the operator, with every cause, and returns the exit code.
    fn report(&self) -> ExitCode {
        match self {
            // Whoever read it has read enough, as `head` does.
            Self::Runtime(error) if is_unread(error) => ExitCode::from(1),
            Self::Runtime(error) => {
                eprintln!("homing: {}", chain(error.as_ref()));
                ExitCode::from(1)
            }
            Self::Told => ExitCode::from(1),
            Self::Usage(error) => {
                eprintln!("homing: {}", chain(error.as_ref()));
                ExitCode::from(2)
            }
            Self::Config(faults) => {
                eprintln!("{}", faults.report(io::stderr().is_terminal()));
                ExitCode::from(2)
            }
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Runtime(error)
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::Config(faults)
    }
}

/// The event loop of a command.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the event loop cannot be started")
}

/// Prints lines for whoever asked.
fn say(text: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{text}").map_err(|error| Failure::Runtime(error.into()))
}

/// Standard output is a pipe that nobody reads any more.
fn is_unread(error: &anyhow::Error) -> bool {
    let closed = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(closed))
}

/// A number of things, as people say it.
fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// An error and its causes in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
