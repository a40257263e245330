//! Programs of the real world, run against a server.

use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Result;

/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a program with `input`; gives whatever it did.
pub async fn run(command: &mut Command, input: &[u8]) -> Result<Output> {
    let what = format!("{:?}", command.as_std());
    command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| what.clone())?;
    let mut stdin = child.stdin.take().context("piped above")?;
    let feed = async {
        // A program that does not want all of it is no fault.
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let both = async { tokio::join!(feed, child.wait_with_output()).1 };
    Ok(tokio::time::timeout(PATIENCE, both).await.with_context(|| format!("{what} does not end"))??)
}

/// Runs a program that must succeed; gives what it printed.
pub async fn succeed(command: &mut Command, input: &[u8]) -> Result<String> {
    let output = run(command, input).await?;
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "{:?} ended with {}: {}{}",
        command.as_std(),
        output.status,
        shown(&output.stdout),
        shown(&output.stderr)
    );
    Ok(shown(&output.stdout))
}
