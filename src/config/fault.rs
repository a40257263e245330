//! What is wrong with a configuration: every fault of a file at once, each with its place, meaning, consequence and remedy.

use std::fmt;
use std::ops::Range;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode,
    SourceSpan, SpanContents,
};

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
        let mut report = String::new();
        for fault in &self.list {
            if handler.render_report(&mut report, &Snippet { fault, faults: self }).is_err() {
                report.push_str(&fault.to_string()); // the plain form says the same
            }
            report.push('\n');
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
    faults: &'a Faults,
}

impl fmt::Display for Snippet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fault.meaning)?;
        if self.faults.masked.is_empty() {
            write!(f, " ({})", self.fault.consequence)?; // there is no line to write it under
        }
        Ok(())
    }
}

impl std::error::Error for Snippet<'_> {}

impl Diagnostic for Snippet<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.fault.remedy))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        (!self.faults.masked.is_empty()).then_some(self)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let text = &self.faults.masked;
        let line = line_at(text, self.fault.span.start);
        // miette draws no caret behind the end of a line, so it goes under the last character.
        let last = text.floor_char_boundary(line.end.saturating_sub(1)).max(line.start);
        let start = self.fault.span.start.min(last);
        let length = self.fault.span.end.min(line.end).saturating_sub(start);
        let label = LabeledSpan::new(Some(self.fault.consequence.clone()), start, length);
        Some(Box::new(std::iter::once(label)))
    }
}

/// Shows the one line of the fault, whole: its neighbours are not at fault, and may be secret.
impl SourceCode for Snippet<'_> {
    fn read_span<'a>(
        &'a self,
        _span: &SourceSpan,
        _lines_before: usize,
        _lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let line = line_at(&self.faults.masked, self.fault.span.start);
        let at = SourceSpan::from((line.start, line.len()));
        let text = match &self.faults.masked[line] {
            "" => "\n", // miette draws nothing at all for a line without bytes
            text => text,
        };
        let (row, column) = (self.fault.line.saturating_sub(1), self.fault.column.saturating_sub(1));
        let contents = MietteSpanContents::new_named(self.faults.file.clone(), text.as_bytes(), at, row, column, 1);
        Ok(Box::new(contents))
    }
}

/// The line that a byte belongs to, without its end.
fn line_at(text: &str, byte: usize) -> Range<usize> {
    let byte = text.floor_char_boundary(byte);
    let start = text[..byte].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[byte..].find('\n').map_or(text.len(), |newline| byte + newline);
    start..end
}

/// Line and column of a byte, both counted from 1. A place inside a character is that character's.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let byte = text.floor_char_boundary(byte);
    let start = line_at(text, byte).start;
    (text[..start].matches('\n').count() + 1, text[start..byte].chars().count() + 1)
}

/// The text with every character of the `masks` replaced by as many asterisks as it has bytes, so that places stay right.
fn masked(text: &str, masks: &[Range<usize>]) -> String {
    let mut hidden = vec![false; text.len()];
    for mask in masks {
        let end = mask.end.min(text.len());
        hidden[mask.start.min(end)..end].fill(true);
    }
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if c != '\n' && hidden[at] {
            out.extend(std::iter::repeat_n('*', c.len_utf8()));
        } else {
            out.push(c);
        }
    }
    out
}

/// Where secrets may stand in a text that cannot be parsed: behind the first `=` of lines that sound like it, and in
/// strings of several lines.
fn suspicious(text: &str) -> Vec<Range<usize>> {
    let mut start = 0;
    let mut inside_string = false;
    let mut masks = Vec::new();
    for line in text.split_inclusive('\n') {
        let lower = line.to_ascii_lowercase();
        let telling = ["pass", "secret", "url", "://"].iter().any(|word| lower.contains(word));
        match line.find('=') {
            _ if inside_string => masks.push(start..start + line.len()),
            Some(equals) if telling => masks.push(start + equals + 1..start + line.len()),
            _ => {}
        }
        let quotes = line.matches("\"\"\"").count() + line.matches("\'\'\'").count();
        inside_string ^= quotes % 2 == 1;
        start += line.len();
    }
    masks
}
