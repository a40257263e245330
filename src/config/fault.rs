//! What is wrong with a configuration: every fault of a file at once, each with its place, meaning, consequence and remedy.

use std::fmt;
use std::ops::Range;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

/// What happens to a file with a fault for which nothing more particular can be said.
pub(super) const REFUSED: &str = "homing does not start with it; on reload the settings in force stay";

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Dotted key, such as `fleet.lease` or `listener[2].address` (counted from 1); empty for the file as a whole.
    pub key: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub meaning: String,
    /// What comes of it.
    pub consequence: String,
    /// What to do about it.
    pub remedy: String,
    /// The bytes of the file at fault.
    pub(super) span: Range<usize>,
}

/// All faults of a file, in its order; never empty.
pub struct Faults {
    file: String,
    /// The file's text, in which whatever may be a secret has been blanked.
    masked: String,
    list: Vec<Fault>,
}

impl Faults {
    /// `masks` are the spans of the text that must never be shown.
    pub(super) fn new(file: &str, text: &str, masks: &[Range<usize>], mut list: Vec<Fault>) -> Self {
        for fault in &mut list {
            (fault.line, fault.column) = position(text, fault.span.start);
        }
        list.sort_by_key(|fault| fault.span.start);
        Self { file: file.to_owned(), masked: masked(text, masks), list }
    }

    /// A file of which nothing could be read.
    pub(super) fn unreadable(file: &str, meaning: String, remedy: &str) -> Self {
        let fault = Fault {
            key: String::new(),
            line: 1,
            column: 1,
            meaning,
            consequence: REFUSED.to_owned(),
            remedy: remedy.to_owned(),
            span: 0..0,
        };
        Self { file: file.to_owned(), masked: String::new(), list: vec![fault] }
    }

    /// A text that is not TOML.
    pub(super) fn syntax(file: &str, text: &str, error: &toml::de::Error) -> Self {
        let start = text.floor_char_boundary(error.span().map_or(0, |span| span.start));
        let end = error.span().map_or(start, |span| text.ceil_char_boundary(span.end));
        let fault = Fault {
            key: String::new(),
            line: 0,
            column: 0,
            meaning: format!("this is not TOML: {}", error.message()),
            consequence: REFUSED.to_owned(),
            remedy: "correct the line; the rest is checked once the file can be read as TOML".to_owned(),
            span: start..end.max(start),
        };
        Self::new(file, text, &suspicious(text), vec![fault])
    }

    /// The faults, in the order of the file.
    pub fn list(&self) -> &[Fault] {
        &self.list
    }

    /// A report for people: each fault with its line and a caret. Secrets in those lines are blanked.
    pub fn report(&self, colour: bool) -> String {
        let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::none() };
        let handler = GraphicalReportHandler::new_themed(theme).with_context_lines(0).with_width(120);
        let source = NamedSource::new(&self.file, self.masked.clone());
        let mut report = String::new();
        for fault in &self.list {
            let view = Snippet { fault, source: (!self.masked.is_empty()).then_some(&source) };
            if handler.render_report(&mut report, &view).is_err() {
                report.push_str(&fault.to_string()); // the plain form says the same
            }
        }
        match self.list.len() {
            1 => report + &format!("{}: 1 fault", self.file),
            n => report + &format!("{}: {n} faults", self.file),
        }
    }
}

impl fmt::Display for Faults {
    /// One line per fault, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.list.iter().enumerate() {
            let separator = if n == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{fault}", self.file)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Faults {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, meaning, consequence, remedy, .. } = self;
        write!(f, "{line}:{column}: {meaning}; {consequence}; remedy: {remedy}")
    }
}

/// A fault as miette wants to see it.
#[derive(Debug)]
struct Snippet<'a> {
    fault: &'a Fault,
    source: Option<&'a NamedSource<String>>,
}

impl fmt::Display for Snippet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fault.meaning)?;
        match self.source {
            Some(_) => Ok(()),
            None => write!(f, " ({})", self.fault.consequence),
        }
    }
}

impl std::error::Error for Snippet<'_> {}

impl Diagnostic for Snippet<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.fault.remedy))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.fault.span.clone();
        let label = LabeledSpan::new(Some(self.fault.consequence.clone()), span.start, span.len());
        Some(Box::new(std::iter::once(label)))
    }
}

/// Line and column of a byte, both counted from 1. A place inside a character is that character's.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..text.floor_char_boundary(byte)).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

/// The text with every character of the `masks` replaced by as many asterisks as it has bytes, so that places stay right.
fn masked(text: &str, masks: &[Range<usize>]) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if c != '\n' && masks.iter().any(|mask| mask.contains(&at)) {
            out.extend(std::iter::repeat_n('*', c.len_utf8()));
        } else {
            out.push(c);
        }
    }
    out
}

/// Where secrets may stand in a text that cannot be parsed: behind the first `=` of lines that sound like it.
fn suspicious(text: &str) -> Vec<Range<usize>> {
    let mut start = 0;
    let mut masks = Vec::new();
    for line in text.split_inclusive('\n') {
        let lower = line.to_ascii_lowercase();
        if let Some(equals) = line.find('=')
            && ["pass", "secret", "url", "://"].iter().any(|word| lower.contains(word))
        {
            masks.push(start + equals + 1..start + line.len());
        }
        start += line.len();
    }
    masks
}
