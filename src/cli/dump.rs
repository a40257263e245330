//! `homing dump`: what operators have set, as commands that set it again.

use super::status::Door;
use super::{Failure, runtime};
use crate::admin::wire::Dump;

/// Print what was set at runtime as commands that set it again: backends, then pins and holds of users
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    door: Door,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let dump: Dump = runtime()?.block_on(self.door.client().get("/v1/dump")).map_err(anyhow::Error::from)?;
        if dump.cut {
            eprintln!("homing: warning: there are more pins and holds than are printed");
        }
        self.door.print(&dump, |dump| dump.commands.join("\n"))
    }
}
