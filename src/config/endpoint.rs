//! Where a server listens that homing asks something: a URL, checked and taken apart.

use std::net::Ipv6Addr;

use hyper::Uri;

/// A URL in its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The word before `://`, in lower case.
    pub scheme: String,
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query; `/` if the URL has none.
    pub path: String,
}

impl Endpoint {
    /// Takes a URL of one of these schemes, each with its port if the URL may leave it out. An error goes on after the key.
    pub(super) fn parse(text: &str, schemes: &[(&str, Option<u16>)]) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("is not a URL: {error}"))?;
        let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
        let Some((_, usual_port)) = schemes.iter().find(|(known, _)| *known == scheme) else {
            let list: Vec<_> = schemes.iter().map(|(known, _)| format!("\"{known}://\"")).collect();
            return Err(format!("does not start with {}", list.join(" or ")));
        };
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("has a user or password in its host".to_owned());
        }
        let host = bare(uri.host().unwrap_or_default()).ok_or("has no valid host")?;
        let has_port =
            uri.authority().is_some_and(|authority| authority.as_str().len() > uri.host().map_or(0, str::len));
        let port = if has_port { uri.port_u16() } else { *usual_port };
        let port = port.filter(|port| *port > 0).ok_or("has no valid port")?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self { host: host.to_owned(), port, path: path.to_owned(), scheme })
    }

    /// Host and port as they stand in a URL.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Without path and query, which may hold a secret.
    pub fn place(&self) -> String {
        format!("{}://{}", self.scheme, self.authority())
    }
}

/// Without the brackets of an IPv6 address.
fn bare(host: &str) -> Option<&str> {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|host| host.parse::<Ipv6Addr>().is_ok()),
        None => Some(host).filter(|host| super::document::is_host(host)),
    }
}
