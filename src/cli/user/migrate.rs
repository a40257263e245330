//! `homing user migrate`: one mailbox or many, each as one operation.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use clap::builder::NonEmptyStringValueParser;
use tokio::sync::mpsc;

use super::super::status::{Door, printable, table};
use super::super::{Failure, runtime, say};
use super::list::{Form, Shape, csv_line, json_line};
use super::{escaped, span};
use crate::admin::wire::{Client, MigrateAsk, Migrated};

/// The most names that a list is read for, and the longest name in bytes.
const NAMES: usize = 1_000_000;
const LONGEST_NAME: usize = 1024;

/// Take mailboxes to another backend: hold, kick, copy, switch, release; and back if anything fails
///
/// A user is held only while the proxy works on it: if it dies, logins go on within two minutes, at the old backend. Run it
/// again then; what is done already is found done.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Login name
    #[arg(value_parser = NonEmptyStringValueParser::new(), required_unless_present = "file", conflicts_with = "file")]
    name: Option<String>,
    /// File with a login name on each line; empty lines and such as begin with # are left out
    #[arg(long, value_name = "LIST")]
    file: Option<PathBuf>,
    /// The backend to migrate to
    #[arg(long, value_name = "BACKEND")]
    to: String,
    /// Command that copies the mailbox, or URL that is asked to. The proxy runs it, with the arguments of before_move
    #[arg(long, value_name = "CMD")]
    hook: Option<String>,
    /// How long the hook may take
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span)]
    hook_timeout: Duration,
    /// Ask the old backend over doveadm until it has no process of the user
    #[arg(long)]
    confirm: bool,
    /// Pin the user to the new backend, too
    #[arg(long)]
    pin: bool,
    /// Users at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    parallel: u16,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    door: Door,
}

const COLUMNS: [&str; 8] = ["user", "result", "from", "home", "failed", "why", "closed", "ms"];

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let names = match (&self.file, &self.name) {
            (Some(file), _) => read(file).map_err(Failure::Usage)?,
            (None, name) => name.iter().cloned().collect(),
        };
        if names.is_empty() {
            return Err(Failure::Usage(anyhow::anyhow!("the list names nobody")));
        }
        let shape = self.form.shape(&self.door);
        if shape == Shape::Csv {
            csv_line(&COLUMNS).map_err(anyhow::Error::from)?;
        }
        let failures = runtime()?.block_on(self.all(names, shape))?;
        if failures == 0 { Ok(()) } else { Err(Failure::Told) }
    }

    /// Migrates all of them, and says of each what came of it as soon as that is known. Returns how many failed.
    async fn all(&self, names: VecDeque<String>, shape: Shape) -> Result<usize, Failure> {
        let (names, (told, mut hear)) = (Arc::new(Mutex::new(names)), mpsc::channel(16));
        for _ in 0..self.parallel {
            tokio::spawn(migrate_some(names.clone(), self.door.client(), Arc::new(self.ask()), told.clone()));
        }
        drop(told);
        let (mut rows, mut failures) = (table(&COLUMNS, &[6, 7]), 0);
        while let Some(result) = hear.recv().await {
            failures += usize::from(result.failed.is_some());
            match shape {
                Shape::Table => drop(rows.add_row(columns(&result))),
                Shape::Csv => csv_line(&columns(&result)).map_err(anyhow::Error::from)?,
                Shape::Json => json_line(&result).map_err(anyhow::Error::from)?,
            }
        }
        if shape == Shape::Table {
            say(&printable(&rows.to_string()))?;
        }
        Ok(failures)
    }

    fn ask(&self) -> MigrateAsk {
        MigrateAsk {
            to: self.to.clone(),
            hook: self.hook.clone(),
            hook_timeout_s: self.hook_timeout.as_secs().max(1),
            confirm: self.confirm,
            pin: self.pin,
        }
    }
}

/// Migrates one after the other until nobody is left.
async fn migrate_some(
    names: Arc<Mutex<VecDeque<String>>>,
    client: Client,
    ask: Arc<MigrateAsk>,
    told: mpsc::Sender<Migrated>,
) {
    loop {
        let name = names.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(name) = name else { return };
        let path = format!("/v1/users/{}/migrate", escaped(&name));
        let result = client.work(&path, &*ask).await.unwrap_or_else(|error| not_begun(name, &error));
        if told.send(result).await.is_err() {
            return; // nobody listens any more
        }
    }
}

/// The proxy did not say what came of it.
fn not_begun(name: String, error: &(dyn std::error::Error + 'static)) -> Migrated {
    Migrated {
        key: name,
        from: None,
        home: None,
        failed: Some("ask".to_owned()),
        why: Some(super::super::chain(error)),
        closed: 0,
        left: Vec::new(),
        ms: 0,
    }
}

fn columns(result: &Migrated) -> [String; 8] {
    let left = result.left.iter().map(|who| who.proxy.as_deref().unwrap_or(&who.incarnation)).collect::<Vec<_>>();
    let left = if left.is_empty() { String::new() } else { format!(" (sessions are left at {})", left.join(", ")) };
    [
        result.key.clone(),
        if result.failed.is_some() { "FAILED" } else { "migrated" }.to_owned(),
        result.from.clone().unwrap_or_default(),
        result.home.clone().unwrap_or_default(),
        result.failed.clone().unwrap_or_default(),
        result.why.as_ref().map(|why| format!("{why}{left}")).unwrap_or_default(),
        result.closed.to_string(),
        result.ms.to_string(),
    ]
}

/// The names of a list.
fn read(file: &Path) -> anyhow::Result<VecDeque<String>> {
    let place = || format!("{} cannot be read", file.display());
    let mut names = VecDeque::new();
    for line in BufReader::new(File::open(file).with_context(place)?).lines() {
        let line = line.with_context(place)?;
        let name = line.trim();
        if name.is_empty() || name.starts_with('#') {
            continue;
        }
        anyhow::ensure!(name.len() <= LONGEST_NAME, "{} has a name of more than {LONGEST_NAME} bytes", file.display());
        anyhow::ensure!(names.len() < NAMES, "{} has more than {NAMES} names", file.display());
        names.push_back(name.to_owned());
    }
    Ok(names)
}
