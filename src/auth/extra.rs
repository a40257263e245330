//! Extra fields of a passdb, with Dovecot's names and meanings. Every source that knows them reads them here.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::fault::Fault;
use super::{FieldTls, Fields};
use crate::model::{Pool, Secret};

/// Longest host, pool or user name.
const MAX_NAME: usize = 255;

/// What the fields of one user say.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// For the backend's side.
    pub(super) fields: Fields,
    /// May not log in.
    pub(super) nologin: bool,
    /// Any password will do here.
    pub(super) nopassword: bool,
}

impl Extra {
    /// Reads `key=value key=value ...`. `unknown` hears the names of fields that mean nothing here.
    pub(super) fn parse(text: &str, unknown: impl FnMut(&str)) -> Result<Self, Fault> {
        Self::read(text.split_ascii_whitespace().map(|field| field.split_once('=').unwrap_or((field, ""))), unknown)
    }

    /// Reads fields that are apart already.
    pub(super) fn read<'a>(
        fields: impl Iterator<Item = (&'a str, &'a str)>,
        mut unknown: impl FnMut(&str),
    ) -> Result<Self, Fault> {
        let mut extra = Self::default();
        for (key, value) in fields {
            if !extra.set(key, value)? {
                unknown(key);
            }
        }
        if extra.fields.master.is_some() && extra.fields.pass.is_none() {
            return Err(Fault::MasterWithoutPass);
        }
        Ok(extra)
    }

    /// False if the field means nothing here.
    fn set(&mut self, key: &str, value: &str) -> Result<bool, Fault> {
        let fields = &mut self.fields;
        match key {
            "pool" => fields.pool = Some(Pool::new(name("pool", value)?)),
            "director_tag" => fields.pool = Some(Pool::new(name("director_tag", value)?)),
            "host" => fields.host = Some(name("host", value)?),
            "port" => fields.port = Some(port(value)?),
            "destuser" => fields.destuser = Some(name("destuser", value)?),
            "master" => fields.master = Some(name("master", value)?),
            "pass" => fields.pass = Some(Secret::new(value.as_bytes().to_vec())),
            "ssl" => fields.tls = tls("ssl", value)?.or(fields.tls),
            "starttls" => fields.tls = tls("starttls", value)?.or(fields.tls),
            "proxy_timeout" => fields.timeout = Some(timeout(value)?),
            "proxy_nopipelining" => fields.no_pipelining = flag(value),
            "proxy_not_trusted" => fields.not_trusted = flag(value),
            "proxy_noauth" => fields.no_auth = flag(value),
            "nologin" => self.nologin = flag(value),
            "nopassword" => self.nopassword = flag(value),
            "allow_nets" => fields.allow_nets = Some(nets(value)?),
            "proxy" | "proxy_maybe" | "proxy_always" => {} // everybody is proxied
            _ => match key.strip_prefix("forward_") {
                Some(key) => fields.forward.push((key.to_owned(), value.to_owned())),
                None => return Ok(key.starts_with("userdb_")),
            },
        }
        Ok(true)
    }
}

/// Present means yes, as in Dovecot 2.3; `=no` means no, as in 2.4.
fn flag(value: &str) -> bool {
    !matches!(value, "n" | "no" | "N" | "NO")
}

fn name(field: &'static str, value: &str) -> Result<String, Fault> {
    let fits = !value.is_empty() && value.len() <= MAX_NAME && !value.contains(char::is_control);
    fits.then(|| value.to_owned()).ok_or(Fault::BadField { field, wanted: "a name of 1 to 255 bytes" })
}

fn port(value: &str) -> Result<u16, Fault> {
    value
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or(Fault::BadField { field: "port", wanted: "a number from 1 to 65535" })
}

fn tls(field: &'static str, value: &str) -> Result<Option<FieldTls>, Fault> {
    let starttls = field == "starttls";
    match value {
        "yes" | "y" | "" => Ok(Some(FieldTls { starttls, verify: true })),
        "any-cert" => Ok(Some(FieldTls { starttls, verify: false })),
        "no" | "n" => Ok(None),
        _ => Err(Fault::BadField { field, wanted: "yes, any-cert or no" }),
    }
}

/// Seconds, or a number with `ms`, `s` or `secs`, `m` or `mins`. Up to an hour.
fn timeout(value: &str) -> Result<Duration, Fault> {
    let split = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(split);
    let scale = match unit.trim() {
        "ms" | "msecs" => Some(1),
        "" | "s" | "secs" => Some(1_000),
        "m" | "mins" => Some(60_000),
        _ => None,
    };
    let millis = scale.and_then(|scale| number.parse::<u64>().ok()?.checked_mul(scale));
    match millis {
        Some(millis @ 1..=3_600_000) => Ok(Duration::from_millis(millis)),
        _ => Err(Fault::BadField { field: "proxy_timeout", wanted: "seconds, or a number with ms, s or m, up to 1 h" }),
    }
}

fn nets(value: &str) -> Result<Vec<IpNet>, Fault> {
    let net = |text: &str| text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok();
    value
        .split(',')
        .filter(|text| !text.is_empty() && *text != "local") // clients of a proxy never come by a Unix socket
        .map(|text| net(text).ok_or(Fault::BadField { field: "allow_nets", wanted: "networks with commas between" }))
        .collect()
}
