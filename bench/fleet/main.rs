//! The fleet bench: what a login, an idle session, a relayed gigabyte, a round trip and a delivery cost homing, beside its
//! peers.
//!
//! One program plays both ends, the mail clients (`client`) and the mail servers (`servers`), and starts each proxy
//! (`subjects`) between them as processes of their own, so that what they cost can be read from /proc (`process`,
//! `kernel`). `scenarios` are the stories told, `report` writes the tables. bench/README.md says what the figures mean.

mod args;
mod auth_http;
mod client;
#[path = "../header.rs"]
mod header;
mod kernel;
mod machine;
mod process;
mod report;
mod scenarios;
mod servers;
mod subjects;
mod tls;
mod world;

use std::process::ExitCode;

use args::Args;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    // `cargo test --all-targets` runs bench targets without the flag that `cargo bench` gives; it is not meant to wait.
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("fleet: takes minutes and both cores; start it with bench/run");
        return ExitCode::SUCCESS;
    }
    match run(&Args::from_command_line()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    machine::raise_open_files()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        // Dropping the story drops its proxies, which ends their processes.
        tokio::select! {
            told = Box::pin(scenarios::tell(args)) => told,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("terminated"),
        }
    })
}
