//! Where a web service is.

use std::path::Path;

use toml::de::DeValue;

use super::Endpoint;
use super::value::{Shown, Value, Wrong, quoted};

/// `http://host[:port]/path` or `https://...`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebUrl(Endpoint);

impl WebUrl {
    /// Reads one, as it is written in the file or came from a service.
    ///
    /// # Errors
    /// What is wrong with it; the text goes on after what was read.
    pub fn parse(text: &str) -> Result<Self, String> {
        Endpoint::parse(text, &[("http", Some(80)), ("https", Some(443))]).map(Self)
    }

    /// TLS from the first byte.
    pub fn is_tls(&self) -> bool {
        self.0.scheme == "https"
    }

    /// Without path and query: for logs.
    pub fn place(&self) -> String {
        self.0.place()
    }

    /// With one more pair in its query.
    pub fn with(&self, pair: &str) -> Self {
        let mut longer = self.clone();
        let path = &mut longer.0.path;
        if !path.ends_with(['?', '&']) {
            path.push(if path.contains('?') { '&' } else { '?' });
        }
        path.push_str(pair);
        longer
    }

    /// The whole of it.
    pub fn full(&self) -> String {
        format!("{}{}", self.0.place(), self.0.path)
    }
}

impl Value for WebUrl {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let remedy = "write it like \"https://auth.example.org/path\"";
        let text = given.as_str().ok_or_else(|| Wrong::new("must be a URL in quotes", remedy))?;
        *self = Self::parse(text).map_err(|what| Wrong::new(what, remedy))?;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        (!self.0.host.is_empty()).then(|| Shown { text: quoted(&self.full()), secret: None })
    }
}
