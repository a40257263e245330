//! `homing config`: look at a configuration without running it.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Subcommand;

use super::Failure;
use crate::app;
use crate::config::Config;

/// Where the configuration is unless somebody says otherwise.
const DEFAULT_FILE: &str = "/etc/homing/homing.toml";

/// Variable that names another one.
const VARIABLE: &str = "HOMING_CONFIG";

/// Check, show or write a configuration.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Action {
    /// Look for faults: all of them, with line and remedy. Exit code 2 if there are any
    Check(File),
    /// Print the settings in force, defaults filled in, without secrets
    Show(File),
    /// Print a complete file with every setting explained
    Default,
}

/// Which file.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct File {
    /// Configuration file. Otherwise the one named by HOMING_CONFIG, otherwise /etc/homing/homing.toml
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl File {
    /// The file that is meant.
    pub(super) fn path(&self) -> PathBuf {
        // Not clap's env: a variable set for the machine must not forbid `serve --backend`.
        let named = || std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        self.config.clone().or_else(named).unwrap_or_else(|| DEFAULT_FILE.into())
    }
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let text = match self.action {
            Action::Check(file) => check(&file)?,
            Action::Show(file) => Config::load(&file.path())?.show(),
            Action::Default => Config::default_file(),
        };
        io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
        Ok(())
    }
}

fn check(file: &File) -> Result<String, Failure> {
    let path = file.path();
    let config = Config::load(&path)?;
    warn(&config);
    let faults = app::check(&config);
    if !faults.is_empty() {
        return Err(Failure::Usage(anyhow!("{}", faults.join("\nhoming: "))));
    }
    Ok(format!("{}: no faults\n", path.display()))
}

/// Tells the operator what is allowed, but seldom meant.
pub(super) fn warn(config: &Config) {
    for warning in config.warnings() {
        eprintln!("homing: warning: {warning}");
    }
}
