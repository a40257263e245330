//! Figures as Markdown tables.

use std::fmt::Write;

use crate::subjects::Subject;

/// The figures of one scenario.
pub(crate) struct Table {
    title: String,
    /// The row that the others are compared with.
    reference: String,
    columns: Vec<&'static str>,
    rows: Vec<Row>,
    remarks: Vec<String>,
}

struct Row {
    name: String,
    /// One sample for each round, with a value for each column.
    samples: Vec<Vec<f64>>,
}

impl Table {
    /// The first column is the one that counts: it is shown with its spread, and compared.
    pub(crate) fn new(title: impl Into<String>, columns: &[&'static str]) -> Self {
        let reference = Subject::HomingMemory.title().to_owned();
        Self { title: title.into(), reference, columns: columns.to_vec(), rows: Vec::new(), remarks: Vec::new() }
    }

    /// Compares with that row instead of homing's.
    pub(crate) fn against(self, reference: impl Into<String>) -> Self {
        Self { reference: reference.into(), ..self }
    }

    /// Adds one round of one subject.
    pub(crate) fn add(&mut self, subject: Subject, sample: Vec<f64>) {
        self.add_to(subject.title(), sample);
    }

    /// Adds one round to the row of that name.
    pub(crate) fn add_to(&mut self, name: &str, sample: Vec<f64>) {
        match self.rows.iter_mut().find(|row| row.name == name) {
            Some(row) => row.samples.push(sample),
            None => self.rows.push(Row { name: name.to_owned(), samples: vec![sample] }),
        }
    }

    /// Adds a line below the table, once.
    pub(crate) fn remark(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.remarks.contains(&text) {
            self.remarks.push(text);
        }
    }

    /// The whole as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("\n## {}\n\n", self.title);
        let (main, others) = self.columns.split_first().map_or(("", &[][..]), |(main, others)| (*main, others));
        let than = self.reference.split(',').next().unwrap_or_default();
        let _ = write!(text, "| | {main}: median | min | max | x {than} |");
        for column in others {
            let _ = write!(text, " {column} |");
        }
        let _ = writeln!(text, "\n|---|{}", "---:|".repeat(4 + others.len()));
        let reference = self.rows.iter().find(|row| row.name == self.reference).map(|row| row.median(0));
        for row in &self.rows {
            row.write(&mut text, others.len(), reference);
        }
        for remark in &self.remarks {
            let _ = writeln!(text, "\n{remark}");
        }
        text
    }
}

impl Row {
    fn write(&self, text: &mut String, others: usize, reference: Option<f64>) {
        let sorted = self.sorted(0);
        let (min, max) = (sorted.first().copied().unwrap_or(f64::NAN), sorted.last().copied().unwrap_or(f64::NAN));
        let median = self.median(0);
        let ratio = reference.filter(|&r| r != 0.0).map_or("-".to_owned(), |r| format!("{:.2}", median / r));
        let name = &self.name;
        let _ = write!(text, "| {name} | **{}** | {} | {} | {ratio} |", figure(median), figure(min), figure(max));
        for column in 1..=others {
            let _ = write!(text, " {} |", figure(self.median(column)));
        }
        text.push('\n');
    }

    fn sorted(&self, column: usize) -> Vec<f64> {
        let mut values: Vec<f64> = self.samples.iter().filter_map(|sample| sample.get(column).copied()).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    fn median(&self, column: usize) -> f64 {
        let sorted = self.sorted(column);
        let upper = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
        let lower = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN);
        f64::midpoint(lower, upper)
    }
}

/// Of sorted values; not a number if there are none.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    // Lossless for any number of samples that fits into memory.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let place = (last as f64 * share).round() as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

/// Three significant digits.
fn figure(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => "-".to_owned(),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 || v == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
