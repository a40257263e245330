//! The store bench: what claims, declarations, heartbeats and reaping cost one core of Redis, and what a key takes there,
//! in a fleet of 50 proxies and 200 unequal backends with a million bound keys.
//!
//! It speaks to a real redis-server of its own through the library's own store. `work` makes the requests, `proxies` sends
//! them, `story` says what is measured, `logins` what passdbs' answers cost that are remembered, `server` reads the figures. bench/README.md says what they mean.

mod args;
#[path = "../header.rs"]
mod header;
mod logins;
mod proxies;
mod report;
mod server;
mod story;
mod work;

use std::process::ExitCode;

use args::Args;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    // `cargo test --all-targets` runs bench targets without the flag that `cargo bench` gives; it is not meant to wait.
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("store: takes a minute and both cores; start it with bench/run store");
        return ExitCode::SUCCESS;
    }
    match run(&Args::from_command_line()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("store: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let redis: (&str, &str, &[&str]) = ("Redis", "redis-server", &["--version"]);
    let mut report = header::describe("Store bench", &[redis], args.quick);
    print!("{report}");
    let figures = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        // Dropping the story drops its server, which ends the process.
        tokio::select! {
            told = Box::pin(async { Ok(story::tell(args).await? + &logins::cost().await?) }) => told,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("terminated"),
        }
    })?;
    let end = format!("\nLoad after the run: {}\n", header::load());
    print!("{figures}{end}");
    report.extend([figures, end]);
    if let Some(path) = &args.out {
        std::fs::write(path, report)?;
    }
    Ok(())
}
