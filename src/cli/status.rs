//! `homing status`: proxies with their leases, backends with their sessions.

use std::path::PathBuf;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use super::proxy::proxies_text;
use super::{Failure, runtime, say, socket};
use crate::admin::wire::{Client, FleetView, Health, Status};

/// Which proxy to ask.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Door {
    /// Admin socket of the proxy to ask; any proxy of a fleet knows all of it [default: /run/homing/admin.sock, or
    /// $XDG_RUNTIME_DIR/homing/admin.sock if there is only that]
    #[arg(short, long, value_name = "PATH", env = "HOMING_SOCKET")]
    socket: Option<PathBuf>,

    /// Print JSON for scripts
    #[arg(long)]
    pub(super) json: bool,
}

impl Door {
    pub(super) fn client(&self) -> Client {
        Client::new(&self.socket.clone().unwrap_or_else(socket::to_ask))
    }

    /// Prints an answer as JSON, if that was asked for; else as `text` has it.
    pub(super) fn print<T: serde::Serialize>(
        &self,
        answer: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let text =
            if self.json { serde_json::to_string_pretty(answer).map_err(anyhow::Error::from)? } else { text(answer) };
        say(&printable(&text))
    }
}

/// Show proxies with their leases, and backends with their sessions.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    door: Door,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let status: Status = runtime()?.block_on(self.door.client().get("/v1/status")).map_err(anyhow::Error::from)?;
        self.door.print(&status, text)
    }
}

fn text(status: &Status) -> String {
    let this = &status.this;
    let mut lines = vec![format!(
        "This proxy: {} (homing {}), up {}, {} connections, {} sessions of {} users, {} undeclared, store link {}",
        this.incarnation,
        this.version,
        for_people(this.uptime_s),
        this.connections,
        this.sessions,
        this.users,
        this.undeclared,
        if this.store_link { "up" } else { "DOWN" },
    )];
    match (&status.fleet, &status.store_error) {
        (Some(fleet), _) => lines.extend(fleet_text(fleet)),
        (None, error) => lines.push(format!("The fleet: unknown, {}", error.as_deref().unwrap_or("no answer"))),
    }
    if !status.health.is_empty() {
        lines.push("The backends as this proxy finds them:".to_owned());
        lines.push(health_table(&status.health).to_string());
    }
    lines.join("\n")
}

fn fleet_text(fleet: &FleetView) -> Vec<String> {
    let recovery = match fleet.recovering_ms {
        Some(ms) => format!("recovering, logins wait (at least {ms} ms more)"),
        None => "settled".to_owned(),
    };
    let proxies = proxies_text(&fleet.proxies);
    let mut backends = table(&["backend", "pool", "state", "weight", "sessions", "users"], &[3, 4, 5]);
    for backend in &fleet.backends {
        backends.add_row([
            backend.name.clone(),
            backend.pool.clone(),
            backend.state.clone(),
            backend.weight.to_string(),
            backend.sessions.to_string(),
            backend.users.to_string(),
        ]);
    }
    let moving = if fleet.moving > 0 { format!(", {} users are being moved", fleet.moving) } else { String::new() };
    let splits = match fleet.splits {
        0 => String::new(),
        times => format!(", {times} times a user was found at two backends (see homing audit)"),
    };
    let store =
        format!("Store: epoch {}, backend table {}, {recovery}{moving}{splits}", fleet.epoch, fleet.table_version);
    vec![store, proxies, backends.to_string()]
}

fn health_table(health: &[Health]) -> Table {
    let mut rows = table(&["backend", "service", "health", "for", "probe", "errors", "last error"], &[4, 5]);
    for row in health {
        let verdict = if row.probed { row.health.as_str() } else { "not probed" };
        let error = row.last_error.as_ref().zip(row.last_error_ago_ms);
        rows.add_row([
            row.backend.clone(),
            row.service.clone(),
            verdict.to_owned(),
            for_people(row.for_ms / 1000),
            row.probe_ms.map_or_else(String::new, |ms| format!("{ms} ms")),
            row.error_rate.map_or_else(String::new, |rate| format!("{:.0} %", rate * 100.0)),
            error.map_or_else(String::new, |(error, ms)| format!("{error} ({} ago)", for_people(ms / 1000))),
        ]);
    }
    rows
}

/// Fit for a terminal: names come from clients, and may be meant for it.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

/// A table with those columns, of which some are numbers.
pub(super) fn table(header: &[&str], numbers: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header.to_vec());
    for number in numbers {
        if let Some(column) = table.column_mut(*number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A span as people say it.
pub(super) fn for_people(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
