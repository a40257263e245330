//! `homing user list`.

use std::io::{self, Write};

use clap::ValueEnum;

use super::super::status::{Door, for_people, printable, table};
use super::super::{Failure, runtime, say};
use super::escaped;
use crate::admin::wire::{BackendLine, Backends, UserRow};

/// Users, their homes and sessions; any proxy knows all of them
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only users at home there
    #[arg(long)]
    backend: Option<String>,
    /// Only users at home in that pool
    #[arg(long)]
    pool: Option<String>,
    /// Only held users
    #[arg(long)]
    held: bool,
    /// Only pinned users
    #[arg(long)]
    pinned: bool,
    /// Only users who are being moved
    #[arg(long)]
    moving: bool,
    /// At most so many; 0 for all [default: 1000 in a table, else all]
    #[arg(long)]
    limit: Option<usize>,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    door: Door,
}

/// How to print a list.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Form {
    /// Print a table for people, or lines for programs
    #[arg(long, value_enum, default_value_t = Shape::Table, conflicts_with = "json")]
    format: Shape,
}

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shape {
    /// Columns
    Table,
    /// A JSON object on each line
    Json,
    /// Comma-separated values with a header, RFC 4180
    Csv,
}

impl Form {
    /// The form, where `--json` is another word for one.
    pub(super) fn shape(self, door: &Door) -> Shape {
        if door.json { Shape::Json } else { self.format }
    }
}

/// Rows of a table for people.
const TABLE: usize = 1000;

const COLUMNS: [&str; 7] = ["user", "backend", "sessions", "idle", "pin", "hold", "moving"];

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let shape = self.form.shape(&self.door);
        let limit = self.limit.unwrap_or(if shape == Shape::Table { TABLE } else { 0 });
        let mut rows = table(&COLUMNS, &[2]);
        let mut number = 0;
        if shape == Shape::Csv {
            csv_line(&COLUMNS).map_err(anyhow::Error::from)?;
        }
        let each = |user: UserRow| {
            number += 1;
            match shape {
                _ if limit > 0 && number > limit => {} // it only tells that there are more
                Shape::Table => drop(rows.add_row(columns(&user))),
                Shape::Csv => return csv_line(&columns(&user)),
                Shape::Json => return json_line(&user),
            }
            Ok(())
        };
        runtime()?.block_on(self.door.client().list(&self.path(limit), each)).map_err(anyhow::Error::from)?;
        if number == 0 {
            self.there_may_be_some()?;
        }
        if shape == Shape::Table {
            say(&printable(&rows.to_string()))?;
        }
        if limit > 0 && number > limit {
            eprintln!("homing: there are more than these {limit}; --limit 0 lists all");
        }
        Ok(())
    }

    /// Fails if nobody was found because what was asked for does not exist.
    fn there_may_be_some(&self) -> Result<(), Failure> {
        if self.backend.is_none() && self.pool.is_none() {
            return Ok(());
        }
        let fleet: Backends =
            runtime()?.block_on(self.door.client().get("/v1/backends")).map_err(anyhow::Error::from)?;
        let has = |name: fn(&BackendLine) -> &str, wanted: &str| fleet.backends.iter().any(|line| name(line) == wanted);
        if let Some(backend) = self.backend.as_deref().filter(|wanted| !has(|line| &line.name, wanted)) {
            return Err(anyhow::anyhow!("there is no backend {backend}").into());
        }
        if let Some(pool) = self.pool.as_deref().filter(|wanted| !has(|line| &line.pool, wanted)) {
            return Err(anyhow::anyhow!("there is no pool {pool}").into());
        }
        Ok(())
    }

    fn path(&self, limit: usize) -> String {
        let limit = if limit == 0 { 0 } else { limit.saturating_add(1) };
        let mut path = format!("/v1/users?limit={limit}");
        for (key, value) in [("backend", &self.backend), ("pool", &self.pool)] {
            if let Some(value) = value {
                path.push_str(&format!("&{key}={}", escaped(value)));
            }
        }
        for (key, set) in [("held", self.held), ("pinned", self.pinned), ("moving", self.moving)] {
            if set {
                path.push_str(&format!("&{key}=true"));
            }
        }
        path
    }
}

fn columns(user: &UserRow) -> [String; 7] {
    let hold = |ms| if ms == 0 { "until release".to_owned() } else { for_people(u64::div_ceil(ms, 1000)) };
    [
        user.key.clone(),
        user.backend.clone().unwrap_or_default(),
        user.sessions.to_string(),
        user.idle_s.map(for_people).unwrap_or_default(),
        user.marks.pin.clone().unwrap_or_default(),
        match user.marks.locked_by {
            Some(_) => "migrating".to_owned(),
            None => user.marks.hold_ms.map(hold).unwrap_or_default(),
        },
        user.marks.moving.clone().unwrap_or_default(),
    ]
}

/// Prints an object on a line.
pub(super) fn json_line(item: &impl serde::Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, item)?;
    out.write_all(b"\n")
}

/// Prints a line of values (RFC 4180).
pub(super) fn csv_line(values: &[impl AsRef<str>]) -> io::Result<()> {
    let line = values.iter().map(|value| csv(value.as_ref())).collect::<Vec<_>>().join(",");
    io::stdout().lock().write_all(format!("{line}\r\n").as_bytes())
}

fn csv(value: &str) -> String {
    if value.contains([',', '"', '\r', '\n']) {
        return format!("\"{}\"", value.replace('"', "\"\""));
    }
    value.to_owned()
}

#[cfg(test)]
mod tests {
    use super::csv;

    #[test]
    fn a_value_is_quoted_where_it_could_be_taken_for_two() {
        assert_eq!(csv("ann@example.org"), "ann@example.org");
        assert_eq!(csv("a,b \"c\""), "\"a,b \"\"c\"\"\"");
        assert_eq!(csv("a\nb"), "\"a\nb\"");
    }
}
