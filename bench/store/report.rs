//! Figures as Markdown tables.

use std::fmt::Write;
use std::time::Duration;

use crate::server::ScriptTime;

/// What one kind of work cost.
pub(crate) struct Cost {
    pub(crate) name: &'static str,
    /// What is counted: claims, keys, pages.
    pub(crate) units: usize,
    /// CPU of the server for each, in microseconds: a figure for each slice of the measurement.
    pub(crate) cpu: Vec<f64>,
    pub(crate) script: ScriptTime,
}

/// The costs as a table.
pub(crate) fn costs(costs: &[Cost]) -> String {
    let mut text = "\n## Cost in one Redis core\n\n\
        | | CPU us each: median | min | per second of a core | script: mean us | script: p99 us | measured |\n\
        |---|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for cost in costs {
        let mut sorted = cost.cpu.clone();
        sorted.sort_by(f64::total_cmp);
        let (Some(least), Some(median)) = (sorted.first(), sorted.get(sorted.len() / 2)) else { continue };
        let (rate, mean, p99) = (1e6 / median, cost.script.mean, cost.script.p99);
        let _ = writeln!(
            text,
            "| {} | **{median:.1}** | {least:.1} | {rate:.0} | {mean:.1} | {p99:.0} | {} |",
            cost.name, cost.units
        );
    }
    text
}

/// How long callers waited.
pub(crate) fn waits(waits: &mut [(&'static str, Vec<Duration>)]) -> String {
    let mut text = "\n## Latency of a claim, seen by its caller\n\n\
        | | p50 us | p99 us | p99.9 us | measured |\n|---|---:|---:|---:|---:|\n"
        .to_owned();
    for (name, waits) in waits {
        waits.sort();
        let at = |per_mille: usize| waits.get(waits.len() * per_mille / 1000).map_or(0, Duration::as_micros);
        let _ = writeln!(text, "| {name} | {} | {} | {} | {} |", at(500), at(990), at(999), waits.len());
    }
    text
}

/// What a key takes.
pub(crate) fn memory(rows: &[(&'static str, f64)]) -> String {
    let mut text = "\n## Memory\n\n| | bytes per key |\n|---|---:|\n".to_owned();
    for (name, bytes) in rows {
        let _ = writeln!(text, "| {name} | **{bytes:.0}** |");
    }
    text
}
