//! Settings back to TOML: the effective ones without secrets, and the commented file of defaults.

use std::fmt::Write;

use super::backends::BackendKeys;
use super::document::TopKeys;
use super::doveadm::DoveadmDoorKeys;
use super::front::{Certificate, TlsKeys};
use super::health::HealthKeys;
use super::key::{Key, Section, Visit};
use super::reader::join;
use super::store::StoreKeys;
use super::value::{Shown, Value};
use super::{Config, PassdbConfig, changes};
use crate::model::BackendId;

/// Columns of a comment in the default file.
const WIDTH: usize = 110;

/// A table as it would stand in a file.
pub(super) struct Table {
    /// Its path as faults name it: `listener[2]`.
    pub(super) path: String,
    header: String,
    about: &'static [&'static str],
    /// Its keys; those without a value are not set.
    pub(super) lines: Vec<Line>,
}

/// A key as it would stand in a file.
pub(super) struct Line {
    pub(super) key: Key,
    pub(super) value: Option<Shown>,
    default: Option<Shown>,
}

/// All tables of a configuration, in the order of the file.
pub(super) fn tables(config: &Config) -> Vec<Table> {
    let listeners = config.listeners.iter().enumerate();
    let certificates = config.tls.certificates.iter().enumerate();
    let passdbs = config.passdb.iter().cloned().enumerate();
    let mut tables = vec![
        table("", TopKeys { name: config.name.clone() }),
        table("store", StoreKeys::from(&config.store)),
        table("fleet", config.fleet.clone()),
    ];
    tables.extend(listeners.map(|(at, listener)| item("listener", at, listener.clone())));
    tables.push(table("tls", TlsKeys::from(&config.tls)));
    tables.extend(certificates.map(|(at, certificate)| item("tls.certificate", at, certificate.clone())));
    tables.push(table("limits", config.limits.clone()));
    tables.push(table("auth", config.auth.clone()));
    tables.push(table("auth_policy", config.auth_policy.clone()));
    tables.push(table("lmtp", config.lmtp.clone()));
    tables.push(table("doveadm", DoveadmDoorKeys::from(&config.doveadm)));
    tables.extend(passdbs.map(|(at, passdb)| item("passdb", at, passdb)));
    tables.push(table("health", HealthKeys::from(&config.health)));
    tables.push(table("sieve", config.sieve.clone()));
    tables.extend(config.backends.iter().map(|(name, backend)| {
        let path = join("backend", name.as_str());
        table(&path, BackendKeys::from(backend))
    }));
    tables.push(table("moves", config.moves.clone()));
    tables.push(table("log", config.log.clone()));
    tables.push(table("admin", config.admin.clone()));
    tables
}

impl Config {
    /// What is in force, as TOML. Passwords are "[secret]" and files of passwords are not named.
    pub fn show(&self) -> String {
        let mut out = String::new();
        for table in tables(self) {
            if !table.header.is_empty() {
                let _ = writeln!(out, "\n{}", table.header); // a String takes everything
            }
            for Line { key, value, .. } in table.lines {
                if let Some(value) = value {
                    let _ = writeln!(out, "{} = {}", key.name, value.text);
                }
            }
        }
        out
    }

    /// A complete file: every key with its meaning and default. It can be used as it is, with two backends to replace.
    pub fn default_file() -> String {
        let mut out = String::new();
        for table in tables(&Self::example()) {
            if table.path == "passdb[1]" {
                // Before the one that must be the last.
                for kind in PassdbConfig::kinds().filter(|kind| *kind != PassdbConfig::Backend) {
                    explain(&mut out, &item("passdb", 0, kind), Style::CommentedOut);
                }
            }
            match table.path.as_str() {
                "backend.mail2" => explain(&mut out, &table, Style::Brief),
                _ => explain(&mut out, &table, Style::Full),
            }
            if table.path == "tls" {
                explain(&mut out, &item("tls.certificate", 0, Certificate::default()), Style::CommentedOut);
            }
        }
        out
    }

    /// Two backends, and a listener that needs no certificate.
    pub(super) fn example() -> Self {
        let backend = |name: &str| (BackendId::new(name), format!("{name}.example.org"), 143);
        Self::from_backends(&["mail1", "mail2"].map(backend), Vec::new())
    }
}

fn table<S: Section>(path: &str, section: S) -> Table {
    let header = if path.is_empty() { String::new() } else { format!("[{path}]") };
    Table { path: path.to_owned(), header, about: S::ABOUT, lines: lines(section) }
}

/// One table of a list; `at` counts from 0.
fn item<S: Section>(list: &str, at: usize, section: S) -> Table {
    Table { path: format!("{list}[{}]", at + 1), header: format!("[[{list}]]"), about: S::ABOUT, lines: lines(section) }
}

fn lines<S: Section>(mut section: S) -> Vec<Line> {
    let (mut values, mut defaults) = (Values::default(), Values::default());
    section.pristine().fields(&mut defaults);
    section.fields(&mut values);
    let pairs = values.0.into_iter().zip(defaults.0);
    pairs.map(|((key, value), (_, default))| Line { key, value, default }).collect()
}

/// Collects what a table holds.
#[derive(Default)]
struct Values(Vec<(Key, Option<Shown>)>);

impl Visit for Values {
    fn field(&mut self, key: &Key, value: &mut dyn Value) {
        self.0.push((*key, value.shown()));
    }
}

/// How a table of the default file is written.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    /// Every key explained.
    Full,
    /// Only what has no default: its like was explained before.
    Brief,
    /// A sample that would need files of the operator's.
    CommentedOut,
}

fn explain(out: &mut String, table: &Table, style: Style) {
    if !table.header.is_empty() {
        out.push('\n');
    }
    if style != Style::Brief {
        comment(out, &joined(table.about));
    }
    match style {
        _ if table.header.is_empty() => {}
        Style::CommentedOut => line(out, &format!("#{}", table.header)),
        Style::Full | Style::Brief => line(out, &table.header),
    }
    for entry in &table.lines {
        match (style, &entry.value) {
            (Style::Brief, Some(value)) if entry.key.required => line(out, &setting(&entry.key, &value.text)),
            (Style::Brief, _) => {}
            _ => explain_key(out, table, entry, style),
        }
    }
}

fn explain_key(out: &mut String, table: &Table, entry: &Line, style: Style) {
    let Line { key, value, default } = entry;
    out.push('\n');
    let live = if changes::is_live(&join(&table.path, key.name)) { "A reload applies it." } else { "Needs a restart." };
    comment(out, &format!("{} {}{live}", joined(key.about), facts(key, default.as_ref())));
    let default_text = default.as_ref().map(|default| default.text.clone());
    // Of several kinds of table each shows what is its own.
    let own = default_text.clone().filter(|text| style == Style::CommentedOut && text != "\"\"" && text != "[]");
    let sample = own.or(key.example.map(str::to_owned)).or(default_text);
    match value {
        Some(value) if style == Style::Full && !key.computed => line(out, &setting(key, &value.text)),
        _ => line(out, &format!("#{}", setting(key, &sample.unwrap_or_default()))),
    }
}

/// Default and range, in words.
fn facts(key: &Key, default: Option<&Shown>) -> String {
    let mut facts = match default {
        _ if key.required => "Required. ".to_owned(),
        _ if key.computed => String::new(),
        Some(default) => format!("Default: {}. ", default.text),
        None => "Not set by default. ".to_owned(),
    };
    match (key.min, key.max) {
        (Some(min), Some(max)) => facts += &format!("{min} to {max}. "),
        (Some(min), None) => facts += &format!("At least {min}. "),
        (None, Some(max)) => facts += &format!("At most {max}. "),
        (None, None) => {}
    }
    match key.example {
        Some(example) if example.starts_with('[') => facts + &format!("Example: {example}. "),
        _ => facts,
    }
}

fn setting(key: &Key, text: &str) -> String {
    format!("{} = {text}", key.name)
}

/// Doc lines as one sentence line.
fn joined(about: &[&str]) -> String {
    about.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// Writes a comment, broken between words.
fn comment(out: &mut String, text: &str) {
    let mut current = "#".to_owned();
    for word in text.split_whitespace() {
        if current.len() + 1 + word.len() > WIDTH {
            line(out, &current);
            current = "#".to_owned();
        }
        current.push(' ');
        current.push_str(word);
    }
    line(out, &current);
}
