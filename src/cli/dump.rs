//! `homing dump`: what operators have set, as commands that set it again.

use std::io::{self, Write};

use super::status::Door;
use super::{Failure, runtime};
use crate::admin::wire::Restoring;

/// Print what was set at runtime as commands that set it again: backends, then pins and holds of users
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    door: Door,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut is_empty = true;
        let each = |restoring: Restoring| {
            is_empty = false;
            let mut out = io::stdout().lock();
            if self.door.json {
                serde_json::to_writer(&mut out, &restoring)?;
                return out.write_all(b"\n");
            }
            writeln!(out, "{}", restoring.command)
        };
        runtime()?.block_on(self.door.client().list("/v1/dump", each)).map_err(anyhow::Error::from)?;
        if is_empty && !self.door.json {
            // A comment, so that the output is a script all the same.
            writeln!(io::stdout(), "# nothing was set at runtime: all is as the files say")
                .map_err(anyhow::Error::from)?;
        }
        Ok(())
    }
}
