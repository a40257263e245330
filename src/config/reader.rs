//! Reads tables out of a TOML document, key by key. It remembers every key that was asked for, so that whatever else
//! stands in the file can be refused, and goes on after a fault, so that all are found at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::fault::{Fault, Faults, REFUSED};
use super::key::{Key, Section, Visit};
use super::value::{Value, Wrong, kind_of, limit, quoted};
use super::words::closest;
use crate::model::Secret;

/// Bytes of a password file that are read. No password is longer.
const LONGEST_SECRET: u64 = 4096;

/// Something that stands in the file.
struct Entry<'a> {
    key: Range<usize>,
    value: &'a Spanned<DeValue<'a>>,
}

/// A document being read.
pub(super) struct Reader<'a> {
    entries: BTreeMap<String, Entry<'a>>,
    /// Where relative paths start.
    base: PathBuf,
    /// Paths of all keys and tables that were asked for.
    known: BTreeSet<String>,
    faults: Vec<Fault>,
    /// What must not be shown in a report.
    masks: Vec<Range<usize>>,
}

impl<'a> Reader<'a> {
    /// `file` is the document's own path.
    pub(super) fn new(root: &'a DeTable<'a>, file: &Path) -> Self {
        let mut entries = BTreeMap::new();
        index(&mut entries, "", root);
        let base = file.parent().unwrap_or(Path::new("")).to_owned();
        Self { entries, base, known: BTreeSet::new(), faults: Vec::new(), masks: Vec::new() }
    }

    /// Reads the table at `path` ("" is the document itself). What is missing or at fault has its default.
    pub(super) fn section<S: Section>(&mut self, path: &str) -> S {
        let mut section = S::default();
        self.known.insert(path.to_owned());
        if self.has_form(path, "a table", &format!("write it as [{path}]"), |given| given.is_table()) {
            section.fields(&mut Table { reader: self, path });
        }
        section
    }

    /// Paths of the tables of the list at `path`: `listener[1]`, `listener[2]`.
    pub(super) fn list(&mut self, path: &str) -> Vec<String> {
        self.known.insert(path.to_owned());
        let of_tables =
            |list: &DeValue<'_>| list.as_array().is_some_and(|list| list.iter().all(|item| item.get_ref().is_table()));
        if !self.has_form(path, "a list of tables", &format!("write it as [[{path}]]"), of_tables) {
            return Vec::new();
        }
        let items = self.entries.get(path).and_then(|entry| entry.value.get_ref().as_array()).map_or(0, |a| a.len());
        (1..=items).map(|n| format!("{path}[{n}]")).collect()
    }

    /// Names and paths of the tables inside the table at `path`.
    pub(super) fn names(&mut self, path: &str) -> Vec<(String, String)> {
        self.known.insert(path.to_owned());
        if !self.has_form(path, "a table", &format!("write it as [{path}.NAME]"), |given| given.is_table()) {
            return Vec::new();
        }
        let table = self.entries.get(path).and_then(|entry| entry.value.get_ref().as_table());
        let names = table.into_iter().flat_map(|table| table.keys()).map(|name| name.get_ref().to_string());
        names.map(|name| (join(path, &name), name)).map(|(path, name)| (name, path)).collect()
    }

    /// The first line of the file at `path`, which the key `key` names.
    pub(super) fn secret_file(&mut self, key: &str, path: Option<&Path>) -> Option<Arc<Secret>> {
        match first_line(path?) {
            Ok(secret) => Some(Arc::new(secret)),
            Err(meaning) => {
                let remedy = "write the password into the first line of that file and let homing's user read it";
                self.fault(key, &meaning, REFUSED, remedy);
                None
            }
        }
    }

    /// Notes a fault at a key or table. `meaning` goes on after the key.
    pub(super) fn fault(&mut self, key: &str, meaning: &str, consequence: &str, remedy: &str) {
        let span = self.place(key);
        let meaning = if key.is_empty() { meaning.to_owned() } else { format!("{key} {meaning}") };
        let (consequence, remedy) = (consequence.to_owned(), remedy.to_owned());
        // Line and column follow from the span when all faults are known.
        self.faults.push(Fault { key: key.to_owned(), line: 0, column: 0, meaning, consequence, remedy, span });
    }

    /// Whether the key stands in the file.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether what the key or table says can be relied on: neither it nor what it lies in was at fault so far.
    pub(super) fn is_sound(&self, key: &str) -> bool {
        !self.faults.iter().any(|fault| contains(&fault.key, key))
    }

    /// Whether no fault lies at this table, nor anywhere in it.
    pub(super) fn is_sound_throughout(&self, table: &str) -> bool {
        !self.faults.iter().any(|fault| contains(table, &fault.key))
    }

    /// Refuses what nobody asked for, and hands out all faults, if there are any.
    pub(super) fn finish(mut self, file: &str, text: &str) -> Result<(), Faults> {
        self.refuse_unknown_keys();
        if self.faults.is_empty() {
            return Ok(());
        }
        Err(Faults::new(file, text, &self.masks, self.faults))
    }

    fn refuse_unknown_keys(&mut self) {
        // Nobody knows what an unknown key holds; it may be a password under a misspelt name.
        let unknown = |path: &&String| !self.known.contains(*path);
        let paths: Vec<String> = self.entries.keys().filter(unknown).cloned().collect();
        self.masks.extend(paths.iter().filter_map(|path| self.entries.get(path)).map(|entry| entry.value.span()));
        let reported: BTreeSet<String> = self.faults.iter().map(|fault| fault.key.clone()).collect();
        for path in &paths {
            // Inside a table that is unknown or at fault itself, the keys are no news.
            let told = |table: &str| paths.binary_search_by(|path| path.as_str().cmp(table)).is_ok();
            if !tables_of(path).any(|table| told(table) || reported.contains(table)) && !reported.contains(path) {
                self.refuse(path);
            }
        }
    }

    fn refuse(&mut self, path: &str) {
        let remedy = self.suggestion(path);
        self.fault(path, "is not a setting", REFUSED, &remedy);
        if let (Some(fault), Some(entry)) = (self.faults.last_mut(), self.entries.get(path)) {
            fault.span = entry.key.clone(); // the caret belongs under the key, not under its value
        }
    }

    /// What an unknown key might have been meant to be: a neighbour of like name, or the same name in another table.
    fn suggestion(&self, path: &str) -> String {
        let (table, name) = split(path);
        let neighbours: Vec<_> = self.known.iter().map(|known| split(known)).filter(|known| known.0 == table).collect();
        if let Some(name) = closest(name, neighbours.iter().map(|known| known.1).filter(|name| !name.is_empty())) {
            return format!("did you mean {name}?");
        }
        match self.known.iter().find(|known| split(known).1 == name) {
            Some(known) => format!("did you mean {known}, in another table?"),
            None => "remove it; `homing config default` prints every setting".to_owned(),
        }
    }

    /// Notes a fault if there is something at `path`, but not of this form.
    fn has_form(&mut self, path: &str, form: &str, remedy: &str, fits: impl Fn(&DeValue<'_>) -> bool) -> bool {
        let given = self.entries.get(path).map(|entry| entry.value.get_ref());
        let Some(given) = given.filter(|given| !fits(given)) else { return true };
        let meaning = format!("must be {form}, not {}", kind_of(given));
        self.fault(path, &meaning, REFUSED, remedy);
        false
    }

    /// Where a key stands; if it does not, its table; if that does not, the top of the file.
    fn place(&self, key: &str) -> Range<usize> {
        match self.entries.get(key) {
            Some(entry) => entry.value.span(),
            None if key.is_empty() => 0..0,
            None => self.place(split(key).0),
        }
    }
}

/// One table, while its keys are asked for.
struct Table<'r, 'a> {
    reader: &'r mut Reader<'a>,
    path: &'r str,
}

impl Visit for Table<'_, '_> {
    fn field(&mut self, key: &Key, value: &mut dyn Value) {
        let path = join(self.path, key.name);
        self.reader.known.insert(path.clone());
        let Some(entry) = self.reader.entries.get(&path) else {
            return self.missing(key, &path);
        };
        if key.secret {
            self.reader.masks.push(entry.value.span());
        }
        // A value that is a table has names of its own.
        if entry.value.get_ref().is_table() {
            let within = self.reader.entries.keys().filter(|key| contains(&path, key));
            self.reader.known.extend(within.cloned());
        }
        let read = value.read(entry.value.get_ref(), &self.reader.base);
        if let Err(Wrong { meaning, remedy }) = read.and_then(|()| in_range(key, value)) {
            self.reader.fault(&path, &meaning, REFUSED, &remedy);
        }
    }
}

impl Table<'_, '_> {
    fn missing(&mut self, key: &Key, path: &str) {
        if key.required {
            let remedy = format!("add {} = {}", key.name, key.example.unwrap_or("\"...\""));
            self.reader.fault(path, "is missing", REFUSED, &remedy);
        }
    }
}

fn in_range(key: &Key, value: &dyn Value) -> Result<(), Wrong> {
    let Some(number) = value.number() else { return Ok(()) };
    let given = value.shown().map(|shown| shown.text).unwrap_or_default();
    let bound = |word: &str, text: &str| {
        let text = if text.ends_with(|c: char| c.is_ascii_digit()) { text.to_owned() } else { quoted(text) };
        Wrong::new(format!("is {given}, but must be {word} {text}"), format!("write {text} or {}", more_or_less(word)))
    };
    let beyond = |text: Option<&'static str>, far: fn(f64, f64) -> bool| {
        text.filter(|text| limit(text).is_some_and(|limit| far(number, limit)))
    };
    if let Some(min) = beyond(key.min, |number, min| number < min) {
        return Err(bound("at least", min));
    }
    beyond(key.max, |number, max| number > max).map_or(Ok(()), |max| Err(bound("at most", max)))
}

fn more_or_less(word: &str) -> &'static str {
    if word == "at least" { "more" } else { "less" }
}

/// Notes every key and table of the document under its dotted path.
fn index<'a>(entries: &mut BTreeMap<String, Entry<'a>>, path: &str, table: &'a DeTable<'a>) {
    for (key, value) in table {
        let path = join(path, key.get_ref());
        if let DeValue::Array(items) = value.get_ref() {
            for (n, item) in items.iter().enumerate() {
                // Values of a plain list are read as a whole; only tables have keys of their own.
                if let DeValue::Table(table) = item.get_ref() {
                    let path = format!("{path}[{}]", n + 1);
                    index(entries, &path, table);
                    entries.insert(path, Entry { key: key.span(), value: item });
                }
            }
        }
        if let DeValue::Table(table) = value.get_ref() {
            index(entries, &path, table);
        }
        entries.insert(path, Entry { key: key.span(), value });
    }
}

/// `fleet` and `lease` are `fleet.lease`. A name that could be mistaken for a path is quoted.
pub(super) fn join(table: &str, name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let name = if bare { name.to_owned() } else { quoted(name) };
    if table.is_empty() { name } else { format!("{table}.{name}") }
}

/// Table and name of a path; for an item of a list, the list and "".
fn split(path: &str) -> (&str, &str) {
    if let Some(list) = path.strip_suffix(']').and_then(|path| path.rsplit_once('[')) {
        return (list.0, "");
    }
    let mut in_quotes = false;
    let dot = path.char_indices().rev().find(|(_, c)| {
        in_quotes ^= *c == '"';
        *c == '.' && !in_quotes
    });
    dot.map_or(("", path), |(at, _)| (&path[..at], &path[at + 1..]))
}

/// The tables and lists that `path` lies in, without the document itself.
fn tables_of(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| Some(split(path).0)).skip(1).take_while(|table| !table.is_empty())
}

/// Whether `path` is `table` or lies in it.
pub(super) fn contains(table: &str, path: &str) -> bool {
    path.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn first_line(path: &Path) -> Result<Secret, String> {
    let broken = |error: std::io::Error| format!("names {}, which cannot be read: {error}", path.display());
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST_SECRET as usize + 1)); // never grows: no copies are left
    let file = std::fs::File::open(path).map_err(broken)?;
    file.take(LONGEST_SECRET + 1).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() as u64 > LONGEST_SECRET {
        return Err(format!("names {}, which is longer than {LONGEST_SECRET} bytes", path.display()));
    }
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(format!("names {}, whose first line is empty", path.display()));
    }
    Ok(Secret::new(line.to_vec()))
}
