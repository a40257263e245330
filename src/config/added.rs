//! A backend that an operator adds while the fleet runs: a `[backend.NAME]` that stands in no file, as one line of TOML
//! in the store. It is read as the file is, but for what must not be shared: passwords, and paths that mean another file
//! to another proxy.

use std::path::Path;

use toml::de::DeTable;

use super::backends::BackendKeys;
use super::key::{Key, Section, Visit};
use super::value::{Value, checked_name, quoted};
use super::{BackendConfig, Config, document, reader};

/// Bytes of the line. All keys with long values need half of it.
const LONGEST: usize = 4096;
/// Keys that name files.
const PATHS: [&str; 6] =
    ["tls_ca", "tls_certificate", "tls_key", "master_password_file", "doveadm_password_file", "doveadm_api_key_file"];

impl Config {
    /// The line for a backend with these settings: keys of `[backend.NAME]` with their values, as in a file, where text
    /// need not be quoted.
    ///
    /// # Errors
    /// What is wrong with them, for the operator.
    pub fn added_line(name: &str, settings: &[(String, String)]) -> Result<String, String> {
        for (key, _) in settings {
            if !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(format!("{key:?} is not a setting of a backend"));
            }
        }
        let pairs: Vec<String> = settings.iter().map(|(key, value)| format!("{key} = {}", toml_value(value))).collect();
        let line = format!("{{ {} }}", pairs.join(", "));
        Self::read_added(name, &line).map(|_| line)
    }

    /// The settings that such a line was made of; `None` if it cannot be read.
    pub fn added_settings(name: &str, line: &str) -> Option<Vec<(String, String)>> {
        Self::read_added(name, line).ok()?;
        let text = format!("{} = {line}", reader::join("backend", name));
        let document: toml::Table = toml::from_str(&text).ok()?;
        let given = document.get("backend")?.get(name)?.as_table()?;
        let value = |value: &toml::Value| match value.as_str() {
            Some(text) if toml_value(text).starts_with('"') && !text.starts_with('"') => text.to_owned(),
            _ => value.to_string(),
        };
        Some(given.iter().map(|(key, given)| (key.clone(), value(given))).collect())
    }

    /// Reads such a line.
    ///
    /// # Errors
    /// What is wrong with it, for the operator; another version of homing may have written it.
    pub fn read_added(name: &str, line: &str) -> Result<BackendConfig, String> {
        checked_name(name).map_err(|wrong| format!("backend {name:?} {}; {}", wrong.meaning, wrong.remedy))?;
        if line.len() > LONGEST || line.contains(['\n', '\r']) {
            return Err(format!("the settings of a backend are one line of at most {LONGEST} bytes"));
        }
        let path = reader::join("backend", name);
        let text = format!("{path} = {line}");
        let document = DeTable::parse(&text).map_err(|error| format!("{path}: {}", error.message()))?;
        if let Some(given) = settings(document.get_ref(), name) {
            fit_to_share(given)?;
        }
        let mut reader = reader::Reader::new(document.get_ref(), Path::new(""));
        reader.names("backend");
        let config = document::backend(&mut reader, &path);
        reader.finish("settings", &text).map(|()| config).map_err(|faults| {
            let said = faults.list().iter().map(|fault| format!("{}; {}", fault.meaning, fault.remedy));
            said.collect::<Vec<_>>().join("\n")
        })
    }
}

/// A value as TOML has it: numbers, truth and what is quoted already stay, all else is text.
fn toml_value(value: &str) -> String {
    let whole = value.parse::<i64>().is_ok();
    let quoted_already = value.len() > 1 && value.starts_with('"') && value.ends_with('"');
    if whole || quoted_already || matches!(value, "true" | "false") { value.to_owned() } else { quoted(value) }
}

fn settings<'a>(document: &'a DeTable<'a>, name: &str) -> Option<&'a DeTable<'a>> {
    document.get("backend")?.get_ref().as_table()?.get(name)?.get_ref().as_table()
}

fn fit_to_share(given: &DeTable<'_>) -> Result<(), String> {
    for (key, value) in given {
        let key = key.get_ref().as_ref();
        if is_secret(key) {
            return Err(format!(
                "{key} cannot be set at runtime: the store holds no password. Write it into a file at every proxy and name \
                 that with {key}_file, or write [backend.NAME] into the proxies' configurations"
            ));
        }
        if PATHS.contains(&key) && !value.get_ref().as_str().is_some_and(|path| path.starts_with('/')) {
            return Err(format!("{key} must be a path from the root: every proxy reads its own file of that name"));
        }
    }
    Ok(())
}

fn is_secret(name: &str) -> bool {
    let mut search = Search { name, secret: false };
    BackendKeys::default().fields(&mut search);
    search.secret
}

struct Search<'a> {
    name: &'a str,
    secret: bool,
}

impl Visit for Search<'_> {
    fn field(&mut self, key: &Key, _: &mut dyn Value) {
        self.secret |= key.secret && key.name == self.name;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(settings: &[(&str, &str)]) -> Result<String, String> {
        let settings: Vec<_> = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Config::added_line("mail3.example", &settings)
    }

    #[test]
    fn what_is_written_in_words_is_read_as_a_file_would_be() {
        let settings =
            [("host", "mail3"), ("port", "1143"), ("connect_timeout", "2s"), ("drain", "true"), ("pool", "\"7\"")];
        let config = Config::read_added("mail3.example", &line(&settings).unwrap()).unwrap();
        assert_eq!((config.host.as_str(), config.port, config.drain), ("mail3", 1143, true));
        assert_eq!((config.connect_timeout.as_secs(), config.pool.as_str()), (2, "7"));
    }

    #[test]
    fn the_settings_of_a_line_make_the_same_line_again() {
        let made = line(&[("host", "mail3"), ("port", "1143"), ("pool", "\"7\""), ("drain", "true")]).unwrap();
        let settings = Config::added_settings("mail3.example", &made).unwrap();
        let again = Config::added_line("mail3.example", &settings).unwrap();
        let read = |line| Config::read_added("mail3.example", line).unwrap();
        assert_eq!(read(&again), read(&made), "{settings:?}");
        assert!(Config::added_settings("m", "{ host = 5 }").is_none());
    }

    #[test]
    fn what_a_file_would_be_refused_for_is_refused_here() {
        assert!(line(&[]).unwrap_err().contains("host is missing"));
        assert!(line(&[("host", "mail3"), ("wieght", "5")]).unwrap_err().contains("did you mean weight?"));
        assert!(line(&[("host", "mail3"), ("weight", "many")]).unwrap_err().contains("weight"));
        assert!(line(&[("host", "x"), ("a\nb", "c")]).unwrap_err().contains("not a setting"));
        assert!(Config::added_line("no/name", &[]).is_err());
        let smuggled = "{ host = \"x\" }\n[store]\nkind = \"memory\"";
        assert!(Config::read_added("m", smuggled).unwrap_err().contains("one line"));
        assert!(line(&[("host", &"x".repeat(5000))]).unwrap_err().contains("bytes"));
    }

    #[test]
    fn passwords_and_paths_that_mean_other_files_elsewhere_are_refused_without_being_repeated() {
        let why = line(&[("host", "mail3"), ("master_user", "m"), ("master_password", "hunter2")]).unwrap_err();
        assert!(why.contains("the store holds no password") && !why.contains("hunter2"), "{why}");
        let why = line(&[("host", "mail3"), ("tls", "implicit"), ("tls_ca", "ca.pem")]).unwrap_err();
        assert!(why.contains("from the root"), "{why}");
    }
}
