//! A source file as text: code without comments and strings, and the paths in it.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// One `.rs` file.
pub(crate) struct Source {
    path: PathBuf,
    /// As it is.
    pub(crate) text: String,
    /// Without comments, and with string literals emptied.
    code: String,
}

impl Source {
    /// The repository.
    pub(crate) fn root() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
    }

    /// Every file of `src/`.
    pub(crate) fn all() -> &'static [Self] {
        static FILES: LazyLock<Vec<Source>> = LazyLock::new(|| below(&Source::root().join("src")));
        &FILES
    }

    /// Every file of `tests/` but those that hold these rules, which name what they forbid.
    pub(crate) fn tests() -> impl Iterator<Item = &'static Self> {
        static FILES: LazyLock<Vec<Source>> = LazyLock::new(|| below(&Source::root().join("tests")));
        FILES.iter().filter(|file| !file.name().starts_with("tests/layout"))
    }

    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        Self { path: path.to_owned(), code: strip(&text), text }
    }

    /// Its path in the repository.
    pub(crate) fn name(&self) -> String {
        self.path.strip_prefix(Self::root()).unwrap().display().to_string()
    }

    /// The module of `src/` that it belongs to; `None` for `lib.rs` and `main.rs`.
    pub(crate) fn room(&self) -> Option<String> {
        let inside = self.path.strip_prefix(Self::root().join("src")).ok()?.with_extension("");
        if inside.starts_with("cli/demo") {
            return Some("cli/demo".to_owned());
        }
        let first = inside.iter().next()?.to_str()?.to_owned();
        (!["lib", "main"].contains(&first.as_str())).then_some(first)
    }

    /// How many `super` lead from this file's module to the root of the crate.
    pub(crate) fn depth(&self) -> usize {
        let inside = self.path.strip_prefix(Self::root().join("src")).unwrap().with_extension("");
        let names = inside.iter().count();
        if inside.ends_with("mod") { names - 1 } else { names }
    }

    /// Whether a word occurs in the code.
    pub(crate) fn says(&self, word: &str) -> bool {
        let whole = |at: usize| {
            let before = self.code[..at].chars().next_back().is_none_or(|c| !is_name(c));
            let after = self.code[at + word.len()..].chars().next().is_none_or(|c| !is_name(c));
            let ends_in_name = word.chars().next_back().is_some_and(is_name);
            before && (after || !ends_in_name)
        };
        self.code.match_indices(word).any(|(at, _)| whole(at))
    }

    /// Whether the code uses a path or name that starts with `word`.
    pub(crate) fn has_path(&self, word: &str) -> bool {
        self.code.match_indices(word).any(|(at, _)| self.code[..at].chars().next_back().is_none_or(|c| !is_name(c)))
    }

    /// Every path behind `crate::`, groups taken apart, without macros' `$crate`.
    pub(crate) fn imports(&self) -> Vec<Vec<String>> {
        self.paths_from("crate")
    }

    /// Every path behind `start::`, groups taken apart.
    pub(crate) fn paths_from(&self, start: &str) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        let needle = format!("{start}::");
        for (at, _) in self.code.match_indices(&needle) {
            if self.code[..at].chars().next_back().is_none_or(|c| !is_name(c)) {
                expand(&self.code[at + needle.len()..], &mut Vec::new(), &mut found);
            }
        }
        found
    }

    /// Every chain of `super::`: how many, and the name behind it.
    pub(crate) fn climbs(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        let mut rest = self.code.as_str();
        while let Some(at) = rest.find("super::") {
            let mut steps = 0;
            rest = &rest[at..];
            while let Some(next) = rest.strip_prefix("super::") {
                steps += 1;
                rest = next;
            }
            found.push((steps, rest.chars().take_while(|c| is_name(*c)).collect()));
        }
        found
    }
}

fn below(dir: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(below(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(Source::read(&path));
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Takes `a::{b, c::d}` apart, adding each full path to `found`. Gives what stands behind it.
fn expand<'a>(mut text: &'a str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    text = text.trim_start();
    if let Some(mut inner) = text.strip_prefix('{') {
        loop {
            inner = expand(inner, &mut prefix.clone(), found).trim_start();
            match inner.strip_prefix(',') {
                Some(next) if !next.trim_start().starts_with('}') => inner = next,
                Some(next) => return next.trim_start().strip_prefix('}').unwrap_or(next),
                None => return inner.strip_prefix('}').unwrap_or(inner),
            }
        }
    }
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    if end > 0 {
        prefix.push(text[..end].to_owned());
    }
    match text[end..].strip_prefix("::") {
        Some(rest) if end > 0 => expand(rest, prefix, found),
        _ => {
            if !prefix.is_empty() {
                found.push(prefix.clone());
            }
            text[end..]
                .split_once(" as ")
                .filter(|(gap, _)| gap.is_empty())
                .map_or(&text[end..], |(_, renamed)| renamed.trim_start_matches(is_name))
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Removes comments and empties string literals, so that prose does not count as code.
fn strip(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal(rest, out.chars().next_back()) {
            out.push_str("\"\"");
            length
        } else {
            out.push(c);
            c.len_utf8()
        };
        rest = &rest[skip..];
    }
    out
}

/// The length of the string or character literal that `text` starts with, if it does.
fn literal(text: &str, before: Option<char>) -> Option<usize> {
    let raw = text.strip_prefix("br").or_else(|| text.strip_prefix('r'));
    if let Some(raw) = raw.filter(|_| !before.is_some_and(is_name)) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if let Some(body) = raw[hashes..].strip_prefix('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let start = text.len() - body.len();
            return Some(body.find(&close).map_or(text.len(), |end| start + end + close.len()));
        }
    }
    if text.starts_with('"') {
        return Some(quoted(text, '"'));
    }
    // A lifetime has no closing quote within two characters, a character literal has.
    let inner = text.strip_prefix('\'')?;
    (inner.starts_with('\\') || inner.chars().nth(1) == Some('\'')).then(|| quoted(text, '\''))
}

/// The length of a literal in `quote` with backslash escapes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

#[test]
fn paths_are_found_in_groups_and_in_expressions_but_not_in_prose() {
    let text = r##"
        // crate::comment::x
        use crate::{a::{B, c as d}, e::F, g};
        use crate::h::I as J;
        fn f<'a>(x: &'a str) -> crate::k::L { let _ = ("crate::m::n", '"', r#"crate::o"#); crate::p::q() }
    "##;
    let source = Source { path: PathBuf::new(), text: text.to_owned(), code: strip(text) };
    let found: Vec<String> = source.imports().iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["a::B", "a::c", "e::F", "g", "h::I", "k::L", "p::q"]);
}

#[test]
fn chains_of_super_are_counted() {
    let text = "use super::super::store::X; fn f() { super::y() }";
    let source = Source { path: PathBuf::new(), text: text.to_owned(), code: strip(text) };
    assert_eq!(source.climbs(), [(2, "store".to_owned()), (1, "y".to_owned())]);
}
