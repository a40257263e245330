//! The machine: what is written above the tables, and its limits.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use rustix::process::{Resource, Rlimit};

/// Sessions need two descriptors here and two in the proxy, which inherits the limit.
const WANTED_FILES: u64 = 1 << 18;

/// Raises the number of open files as far as we may.
pub(crate) fn raise_open_files() -> anyhow::Result<()> {
    let now = rustix::process::getrlimit(Resource::Nofile);
    let hard = now.maximum.unwrap_or(WANTED_FILES);
    let most = Rlimit { current: Some(hard.max(WANTED_FILES)), maximum: Some(hard.max(WANTED_FILES)) };
    if hard < WANTED_FILES && rustix::process::setrlimit(Resource::Nofile, most).is_ok() {
        return Ok(());
    }
    let usual = Rlimit { current: Some(hard), maximum: now.maximum };
    Ok(rustix::process::setrlimit(Resource::Nofile, usual)?)
}

/// How many files a process may open.
pub(crate) fn open_files() -> u64 {
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The header of a report.
pub(crate) fn describe(quick: bool) -> String {
    let mut text = format!("# Fleet bench, {}\n\n", output("date", &["+%F"]));
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "- {name}: {value}");
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    row("machine", &format!("{cores} cores, {}, {}", cpu_model(), output("uname", &["-srm"])));
    row("load before the run (1, 5, 15 min)", &load());
    row(
        "homing",
        &format!("{}, commit {}", env!("CARGO_PKG_VERSION"), output("git", &["describe", "--always", "--dirty"])),
    );
    row("nginx", &output("nginx", &["-v"]));
    row("HAProxy", &output("haproxy", &["-v"]));
    row("Dovecot", &output("dovecot", &["--version"]));
    row("Redis", &output("redis-server", &["--version"]));
    if quick {
        row("**quick run**", "shows that everything works; the figures mean little");
    }
    text
}

/// Averages over 1, 5 and 15 minutes, as the kernel keeps them.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()));
    model.unwrap_or("unknown CPU").to_owned()
}

/// The first line that a program prints.
fn output(program: &str, args: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(args).output() else { return "not installed".to_owned() };
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
}
