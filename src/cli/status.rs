//! `homing status`: proxies with their leases, backends with their sessions.

use std::path::PathBuf;
use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use super::{Failure, runtime, socket};
use crate::admin::wire::{Client, FleetView, Status};

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
        println!("{text}");
        Ok(())
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
    lines.join("\n")
}

fn fleet_text(fleet: &FleetView) -> Vec<String> {
    let recovery = match fleet.recovering_ms {
        Some(ms) => format!("recovering, logins wait (at least {ms} ms more)"),
        None => "settled".to_owned(),
    };
    let mut proxies = table(&["proxy", "incarnation", "version", "state", "lease left", "up", "sessions"], &[6]);
    for proxy in &fleet.proxies {
        proxies.add_row([
            proxy.name.clone(),
            proxy.incarnation.clone(),
            proxy.version.clone(),
            proxy.state.clone(),
            format!("{:.1} s", Duration::from_millis(proxy.left_ms).as_secs_f64()),
            for_people(proxy.age_s),
            proxy.sessions.to_string(),
        ]);
    }
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
    let store = format!("Store: epoch {}, backend table {}, {recovery}", fleet.epoch, fleet.table_version);
    vec![store, proxies.to_string(), backends.to_string()]
}

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

pub(super) fn for_people(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
