//! Texts with the user's name in them, as Dovecot writes them: %u, %n, %d.

use std::borrow::Cow;
use std::path::Path;

use toml::de::DeValue;

use crate::config::value::{Shown, Value, Wrong, quoted};

/// A text in which %u is the user's name, %n what stands before its @, %d what stands behind it, and %% is a %.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(String);

impl Template {
    /// One that is known to be well-formed.
    pub(super) fn fixed(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text for this user; every piece of the name goes through `escape`.
    pub fn fill<'a>(&self, user: &'a str, escape: impl Fn(&'a str) -> Cow<'a, str>) -> String {
        let (local, domain) = user.split_once('@').unwrap_or((user, ""));
        let mut filled = String::with_capacity(self.0.len() + user.len());
        let mut rest = self.0.as_str();
        while let Some((before, behind)) = rest.split_once('%') {
            filled.push_str(before);
            rest = behind.get(1..).unwrap_or_default(); // checked when read: a letter of ASCII follows
            match behind.as_bytes().first() {
                Some(b'u') => filled.push_str(&escape(user)),
                Some(b'n') => filled.push_str(&escape(local)),
                Some(b'd') => filled.push_str(&escape(domain)),
                _ => filled.push('%'),
            }
        }
        filled + rest
    }

    /// Neither %u nor %n is in it: it says the same of everybody.
    pub(in crate::config) fn names_nobody(&self) -> bool {
        !self.0.contains("%u") && !self.0.contains("%n")
    }
}

impl Value for Template {
    fn read(&mut self, given: &DeValue<'_>, base: &Path) -> Result<(), Wrong> {
        let mut text = String::new();
        text.read(given, base)?;
        for (at, _) in text.replace("%%", "  ").match_indices('%') {
            if !matches!(text.as_bytes().get(at + 1), Some(b'u' | b'n' | b'd')) {
                return Err(Wrong::new(
                    "has a % that is none of %u, %n, %d, %%",
                    "write %u for the user's name, %n and %d for what stands before and behind its @, %% for a %",
                ));
            }
        }
        self.0 = text;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        (!self.0.is_empty()).then(|| Shown { text: quoted(&self.0), secret: None })
    }
}
