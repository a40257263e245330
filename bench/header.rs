//! What is written above the tables of every bench: the machine, what else it did, and the versions of what is measured.

use std::fmt::Write;
use std::fs;
use std::process::Command;

/// The header of a report; `programs` are names with the command that prints their version.
pub(crate) fn describe(title: &str, programs: &[(&str, &str, &[&str])], quick: bool) -> String {
    let mut text = format!("# {title}, {}\n\n", output("date", &["+%F"]));
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
    for (name, program, args) in programs {
        row(name, &output(program, args));
    }
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
