//! What the tour promised and what it saw.

use std::fmt;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{ContentArrangement, Table};

/// Columns of a table that no terminal limits.
const WIDTH: u16 = 120;

/// One act of the tour.
pub(super) struct Act {
    /// What was done.
    pub(super) what: &'static str,
    /// What homing promises for it.
    pub(super) promised: String,
    /// What happened.
    pub(super) seen: String,
    /// Whether that is what was promised.
    pub(super) kept: bool,
}

/// All acts, in their order.
#[derive(Default)]
pub(super) struct Report(Vec<Act>);

impl Report {
    /// Adds an act, and tells it to whoever watches.
    pub(super) fn add(&mut self, act: Act) {
        eprintln!("{} {}: {}", if act.kept { "ok  " } else { "FAIL" }, act.what, act.seen);
        self.0.push(act);
    }

    /// Whether every promise was kept.
    pub(super) fn kept(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|act| act.kept)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
        if table.width().is_none() {
            table.set_width(WIDTH); // not a terminal
        }
        table.set_header(["", "What happened", "Promised", "Seen"]);
        for act in &self.0 {
            table.add_row([if act.kept { "ok" } else { "FAIL" }, act.what, &act.promised, &act.seen]);
        }
        writeln!(f, "{table}")?;
        f.write_str(if self.kept() { "Every promise was kept." } else { "A promise was broken." })
    }
}
