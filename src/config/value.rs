//! Values of keys: from TOML and back. Each type says what it wants in the words of somebody who writes the file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use humantime_serde::re::humantime;
use toml::de::DeValue;

use crate::model::{Pool, Secret, Weight};

/// No setting makes sense beyond ten years, and clocks added to it must not overflow.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 3600);

/// What is shown instead of a secret.
pub(super) const REDACTED: &str = "[secret]";

/// Why a value was not taken.
#[derive(Debug, PartialEq)]
pub(super) struct Wrong {
    /// Goes on after the key: "must be a number, not a string".
    pub(super) meaning: String,
    /// A full sentence without a stop: "write it without quotes".
    pub(super) remedy: String,
}

impl Wrong {
    pub(super) fn new(meaning: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { meaning: meaning.into(), remedy: remedy.into() }
    }

    /// The value is of another TOML type.
    fn kind(wanted: &str, given: &DeValue<'_>, example: &str) -> Self {
        Self::new(format!("must be {wanted}, not {}", kind_of(given)), format!("write it like {example}"))
    }
}

/// A value as it would stand in a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    /// TOML, safe to show.
    pub(super) text: String,
    /// What the text does not tell; only compared.
    pub(super) secret: Option<Arc<Secret>>,
}

/// A type of setting.
pub(super) trait Value {
    /// Takes what the file says. Relative paths start at `base`.
    fn read(&mut self, given: &DeValue<'_>, base: &Path) -> Result<(), Wrong>;

    /// The value in TOML; `None` if there is none.
    fn shown(&self) -> Option<Shown>;

    /// The number (or seconds) that a range applies to.
    fn number(&self) -> Option<f64> {
        None
    }
}

/// TOML of a text.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A range's limit as a number: "64" or "1s".
pub(super) fn limit(text: &str) -> Option<f64> {
    let duration = || humantime::parse_duration(text).ok().map(|d| d.as_secs_f64());
    text.parse().ok().or_else(duration)
}

/// A duration in its largest whole unit: "15s", "90min", "250ms".
pub(super) fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    if Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)) != duration {
        return humantime::format_duration(duration).to_string();
    }
    let units = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)];
    match units.iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", millis / unit),
        None if millis == 0 => "0s".to_owned(),
        None => format!("{millis}ms"),
    }
}

/// A TOML type in words.
pub(super) fn kind_of(given: &DeValue<'_>) -> &'static str {
    match given {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn text_of<'a>(given: &'a DeValue<'_>, wanted: &str, example: &str) -> Result<&'a str, Wrong> {
    given.as_str().ok_or_else(|| Wrong::kind(wanted, given, example))
}

fn plain(text: String) -> Option<Shown> {
    Some(Shown { text, secret: None })
}

impl Value for bool {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        *self = given.as_bool().ok_or_else(|| Wrong::kind("true or false", given, "true, without quotes"))?;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        plain(self.to_string())
    }
}

/// Whole numbers differ only in their width.
macro_rules! whole_number {
    ($($type:ty),+) => {$(
        impl Value for $type {
            fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
                let wrong = || Wrong::kind("a whole number", given, "100, without quotes");
                let digits = given.as_integer().ok_or_else(wrong)?;
                *self = <$type>::from_str_radix(digits.as_str(), digits.radix()).map_err(|_| {
                    Wrong::new(format!("must be 0 to {}", <$type>::MAX), "write a number in that range")
                })?;
                Ok(())
            }

            fn shown(&self) -> Option<Shown> {
                plain(self.to_string())
            }

            fn number(&self) -> Option<f64> {
                // Past 2^53 the float is inexact, and far outside every range.
                Some(*self as f64)
            }
        }
    )+};
}

whole_number!(u8, u16, u32, u64, usize);

impl Value for f64 {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let digits = match given {
            DeValue::Float(float) => float.as_str(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            _ => return Err(Wrong::kind("a number", given, "1.25, without quotes")),
        };
        let number = digits.parse().ok().filter(|number: &f64| number.is_finite());
        *self = number.ok_or_else(|| Wrong::new("must be a finite number", "write it like 1.25"))?;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        plain(toml::Value::from(*self).to_string())
    }

    fn number(&self) -> Option<f64> {
        Some(*self)
    }
}

impl Value for Duration {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let remedy = "write a number and its unit in quotes: \"500ms\", \"15s\", \"10min\", \"1h\" or \"7d\"";
        let text = given.as_str();
        let text =
            text.ok_or_else(|| Wrong::new(format!("must be a duration in quotes, not {}", kind_of(given)), remedy))?;
        let duration = humantime::parse_duration(text)
            .map_err(|error| Wrong::new(format!("is no duration: {}", error.to_string().to_lowercase()), remedy))?;
        if duration > LONGEST {
            return Err(Wrong::new("is longer than ten years", "write at most \"3650d\""));
        }
        *self = duration;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        plain(quoted(&duration_text(*self)))
    }

    fn number(&self) -> Option<f64> {
        Some(self.as_secs_f64())
    }
}

impl Value for String {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let text = text_of(given, "a string", "\"text\", in quotes")?;
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(Wrong::new("is empty or has control characters", "write at least one printable character"));
        }
        *self = text.to_owned();
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        plain(quoted(self))
    }
}

impl Value for PathBuf {
    fn read(&mut self, given: &DeValue<'_>, base: &Path) -> Result<(), Wrong> {
        let text = text_of(given, "a path", "\"/etc/homing/file\", in quotes")?;
        if text.is_empty() || text.contains('\0') {
            return Err(Wrong::new("is not a path", "write the path of a file, or leave the key out"));
        }
        *self = base.join(text);
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        plain(quoted(&self.to_string_lossy()))
    }
}

impl Value for SocketAddr {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let remedy = "write an IP address and a port: \"0.0.0.0:143\", \"[::]:993\" or \"127.0.0.1:1143\"";
        let wrong = |_| Wrong::new("is not an IP address with a port", remedy);
        *self = text_of(given, "an address", "\"0.0.0.0:143\", in quotes")?.parse().map_err(wrong)?;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        plain(quoted(&self.to_string()))
    }
}

impl Value for ipnet::IpNet {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let text = text_of(given, "a network", "\"10.0.0.0/8\", in quotes")?;
        let address = || text.parse::<std::net::IpAddr>().ok().map(Self::from);
        let wrong = || Wrong::new("is not a network", "write it like \"10.0.0.0/8\", \"fd00::/8\" or \"192.0.2.7\"");
        *self = text.parse().ok().or_else(address).ok_or_else(wrong)?;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        plain(quoted(&self.to_string()))
    }
}

impl Value for Pool {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        *self = Self::new(checked_name(text_of(given, "a name", "\"default\", in quotes")?)?);
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        plain(quoted(self.as_str()))
    }
}

impl Value for Weight {
    fn read(&mut self, given: &DeValue<'_>, base: &Path) -> Result<(), Wrong> {
        let mut number = 0_u32;
        number.read(given, base)?;
        let wrong = || Wrong::new(format!("must be 0 to {}", Self::MAX), "write a number in that range; 100 is usual");
        *self = Self::new(number).ok_or_else(wrong)?;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        plain(self.get().to_string())
    }
}

impl Value for Arc<Secret> {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let text = text_of(given, "a password", "\"password\", in quotes")?;
        if text.is_empty() {
            return Err(Wrong::new("is empty", "write the password, or leave the key out"));
        }
        *self = Self::new(Secret::new(text.as_bytes().to_vec()));
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown { text: quoted(REDACTED), secret: Some(Self::clone(self)) })
    }
}

impl<T: Value + Default> Value for Option<T> {
    fn read(&mut self, given: &DeValue<'_>, base: &Path) -> Result<(), Wrong> {
        let mut value = T::default();
        value.read(given, base)?;
        *self = Some(value);
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        self.as_ref()?.shown()
    }

    fn number(&self) -> Option<f64> {
        self.as_ref()?.number()
    }
}

impl<T: Value + Default> Value for Vec<T> {
    fn read(&mut self, given: &DeValue<'_>, base: &Path) -> Result<(), Wrong> {
        let list = given.as_array().ok_or_else(|| Wrong::kind("a list", given, "[\"one\", \"two\"]"))?;
        let read = |(at, item): (usize, &toml::Spanned<DeValue<'_>>)| {
            let mut value = T::default();
            let of_item = |wrong: Wrong| Wrong { meaning: format!("(item {}) {}", at + 1, wrong.meaning), ..wrong };
            value.read(item.get_ref(), base).map_err(of_item).map(|()| value)
        };
        *self = list.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        let items: Vec<_> = self.iter().filter_map(Value::shown).map(|shown| shown.text).collect();
        plain(format!("[{}]", items.join(", ")))
    }
}

/// A name that goes into store keys, logs and header lines unquoted.
pub(super) fn checked_name(text: &str) -> Result<&str, Wrong> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=64).contains(&text.len()) && text.chars().all(fits) {
        return Ok(text);
    }
    Err(Wrong::new("is not a name", "use 1 to 64 letters, digits, \".\", \"_\" and \"-\""))
}

#[cfg(test)]
mod tests;
