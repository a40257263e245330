//! `homing reload`: have a proxy read its configuration again.

use super::status::Door;
use super::{Failure, runtime};
use crate::admin::wire::Reloaded;

/// Have a proxy read its configuration again. A faulty file leaves the old one in force and says why.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    door: Door,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let done: Reloaded = runtime()?.block_on(self.door.client().post("/v1/reload")).map_err(anyhow::Error::from)?;
        self.door.print(&done, text)
    }
}

fn text(done: &Reloaded) -> String {
    if done.applied.is_empty() && done.needs_restart.is_empty() {
        return "The settings are as they were; certificates and passwords were read again.".to_owned();
    }
    let mut lines = Vec::new();
    if !done.applied.is_empty() {
        lines.push(format!("In force: {}", done.applied.join(", ")));
    }
    if !done.needs_restart.is_empty() {
        lines.push(format!("Needs a restart: {}", done.needs_restart.join(", ")));
    }
    lines.join("\n")
}
