//! Keys of `kind = "http"`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeValue;

use crate::config::WebUrl;
use crate::config::key::section;
use crate::config::value::{Shown, Value, Wrong, quoted};
use crate::config::words::words;
use crate::model::Secret;

section! {
    /// A web service.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct HttpPassdb {
        /// Where it is: "http://" or "https://".
        pub url: WebUrl = WebUrl::default(), required, example("\"https://auth.example.org/auth\"");
        /// "nginx" for a service made for nginx' auth_http, "json" for one that takes and gives JSON, such as Nauthilus.
        pub format: HttpFormat = HttpFormat::Nginx;
        /// One more header line by which the service knows its clients (nginx: auth_http_header), like "X-Auth-Key: secret".
        pub header: Option<Arc<Secret>> = None, example("\"X-Auth-Key: secret\""), secret;
        /// File whose first line is that header, so that it need not stand here.
        pub header_file: Option<PathBuf> = None, example("\"auth.header\"");
        /// Only for "nginx". Obey Auth-Server and Auth-Port: a server of the table becomes the user's home, another is used
        /// as it is. Without, homing chooses the home.
        pub obey_server: bool = true;
        /// Only for "json". Attributes that bear on proxying, each as "attribute=field", where a field is one of Dovecot's
        /// (host, port, pool, destuser, ...).
        pub attributes: Vec<AttributeField> = Vec::new();
        /// PEM file of authorities to trust instead of the system's.
        pub tls_ca: Option<PathBuf> = None, example("\"ca.pem\"");
        /// Without, any certificate is taken, and passwords may go to anybody.
        pub tls_verify: bool = true;
    }
}

/// What a web service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpFormat {
    /// Headers, as nginx' auth_http.
    Nginx,
    /// JSON, as Nauthilus.
    Json,
}

words!(HttpFormat { Nginx = "nginx", Json = "json" });

/// An attribute of the service's answer, and the field that it stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributeField {
    /// As the service names it.
    pub attribute: String,
    /// As Dovecot names it.
    pub field: String,
}

impl Value for AttributeField {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let remedy = "write it like \"mailHost=host\"";
        let pair = given.as_str().and_then(|text| text.split_once('='));
        let pair = pair.filter(|(attribute, field)| !attribute.is_empty() && !field.is_empty());
        let (attribute, field) = pair.ok_or_else(|| Wrong::new("is no pair \"attribute=field\"", remedy))?;
        *self = Self { attribute: attribute.to_owned(), field: field.to_owned() };
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown { text: quoted(&format!("{}={}", self.attribute, self.field)), secret: None })
    }
}
