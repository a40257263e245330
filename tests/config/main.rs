//! Configuration files as operators write them: what arrives, what is refused and how, what is shown again.

// A test that cannot go on has failed, in its own functions as in those it calls.
#![allow(clippy::unwrap_used, clippy::panic)]

mod arrives;
mod changes;
mod command;
mod readme;
mod refused;
mod shown;

use std::path::Path;

use homing::config::{Config, Fault, Faults};
use tempfile::TempDir;

/// The least that a file needs.
const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\nplaintext_login = true\n";
const BACKEND: &str = "[backend.mail1]\nhost = \"mail1.example.org\"\n";

/// A directory with the files that settings may name.
fn files() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["cert.pem", "key.pem", "ca.pem", "users.passwd"] {
        std::fs::write(dir.path().join(name), "some file\n").unwrap();
    }
    std::fs::write(dir.path().join("word"), "from-a-file\r\nignored\n").unwrap();
    std::fs::write(dir.path().join("hmac"), "from-a-file-with-more-than-32-bytes\n").unwrap();
    std::fs::write(dir.path().join("empty"), "\n").unwrap();
    std::fs::write(dir.path().join("long"), "x".repeat(5000)).unwrap();
    dir
}

fn parse_in(dir: &Path, text: &str) -> Result<Config, Faults> {
    Config::parse(text, &dir.join("homing.toml").display().to_string())
}

/// Parses a text that must be right.
fn parse(text: &str) -> Config {
    parse_in(files().path(), text).unwrap_or_else(|faults| panic!("{text}\n{faults}"))
}

/// The faults of a text that must be wrong, without those that any text without listener or backend has.
fn faults(text: &str) -> Vec<Fault> {
    let faults = parse_in(files().path(), text).expect_err("there is a fault");
    faults.list().iter().filter(|fault| !fault.meaning.starts_with("there is no [")).cloned().collect()
}
