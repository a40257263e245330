//! The command line of the bench.

use std::path::PathBuf;

use clap::Parser;

/// Measures what the store's scripts cost one core of a real Redis.
#[derive(Debug, Parser)]
#[command(name = "bench/run store")]
pub(crate) struct Args {
    /// Few keys and calls: shows that all works, not what it costs.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write the tables to this file, too.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Keys to bind. 1000000, or 20000 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1_000..=20_000_000))]
    keys: Option<u32>,
    /// Calls of each kind to measure, at most a fifth of the keys. 100000, or 4000 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(100..=4_000_000))]
    calls: Option<u32>,
    /// Backends in the table.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) backends: u32,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    /// Ends the process with an explanation if the command line is wrong.
    pub(crate) fn from_command_line() -> Self {
        Self::parse()
    }

    /// How many keys are bound.
    pub(crate) fn keys(&self) -> u32 {
        self.keys.unwrap_or(if self.quick { 20_000 } else { 1_000_000 })
    }

    /// How many calls of a kind are measured.
    pub(crate) fn calls(&self) -> u32 {
        self.calls.unwrap_or(if self.quick { 4_000 } else { 100_000 }).min(self.keys() / 5)
    }
}
