//! Closed sets of words, and what somebody who misspelt one may have meant.

use toml::de::DeValue;

use super::value::{Wrong, quoted};

/// A closed set of words.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ }) => {
        impl $crate::config::value::Value for $type {
            fn read(
                &mut self,
                given: &toml::de::DeValue<'_>,
                _base: &std::path::Path,
            ) -> Result<(), $crate::config::value::Wrong> {
                *self = match given.as_str() {
                    $(Some($word) => Self::$variant,)+
                    _ => return Err($crate::config::words::not_a_word(given, &[$($word),+])),
                };
                Ok(())
            }

            fn shown(&self) -> Option<$crate::config::value::Shown> {
                let word = match self {
                    $(Self::$variant => $word,)+
                };
                Some($crate::config::value::Shown { text: $crate::config::value::quoted(word), secret: None })
            }
        }
    };
}

pub(super) use words;

/// The value is none of the words that the key takes.
pub(super) fn not_a_word(given: &DeValue<'_>, words: &[&str]) -> Wrong {
    let list: Vec<_> = words.iter().map(|word| quoted(word)).collect();
    let meaning = format!("must be one of {}", list.join(", "));
    match given.as_str().and_then(|text| closest(text, words.iter().copied())) {
        Some(word) => Wrong::new(meaning, format!("did you mean {}?", quoted(word))),
        None => Wrong::new(meaning, "write one of these words, in quotes"),
    }
}

/// The candidate closest to what was written, if it is close enough to be meant.
pub(super) fn closest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = |candidate: &&str| distance(given, candidate) <= (candidate.len() / 3).max(1);
    candidates.into_iter().filter(near).min_by_key(|candidate| distance(given, candidate))
}

/// Edits from one word to the other (Damerau and Levenshtein: swapped neighbours are one), without regard to case, `-`
/// and `_`. Of long texts only the start counts.
fn distance(left: &str, right: &str) -> usize {
    let plain = |text: &str| text.to_lowercase().replace('-', "_").chars().take(64).collect::<Vec<_>>();
    let (left, right) = (plain(left), plain(right));
    let mut cost = vec![vec![0; right.len() + 1]; left.len() + 1];
    for i in 0..=left.len() {
        for j in 0..=right.len() {
            if i == 0 || j == 0 {
                cost[i][j] = i + j;
                continue;
            }
            let replaced = cost[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
            cost[i][j] = replaced.min(cost[i - 1][j] + 1).min(cost[i][j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                cost[i][j] = cost[i][j].min(cost[i - 2][j - 2] + 1);
            }
        }
    }
    cost[left.len()][right.len()]
}
