//! Extra fields of a passdb, with Dovecot's names and meanings. Every source that knows them reads them here.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use super::fault::Fault;
use super::{Denial, FieldTls, Fields, LONGEST_WAIT, Refused};
use crate::model::{Pool, Refusal, Secret};

/// Longest host, pool or user name.
const MAX_NAME: usize = 255;

/// What the fields of one user say.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// For the backend's side.
    pub(super) fields: Fields,
    /// May not log in.
    pub(super) nologin: bool,
    /// What is told to who may not.
    pub(super) reason: Option<String>,
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
        extra.finished()
    }

    /// Takes over one field of an answer, whose value may be any bytes.
    pub(super) fn take(&mut self, key: &str, value: &[u8]) -> Result<(), Fault> {
        if key == "pass" {
            self.fields.pass = Some(Secret::new(value.to_vec()));
            return Ok(());
        }
        self.set(key, std::str::from_utf8(value).map_err(|_| Fault::NotText)?).map(drop)
    }

    /// All fields are there: do they go together?
    pub(super) fn finished(self) -> Result<Self, Fault> {
        if self.fields.master.is_some() && self.fields.pass.is_none() {
            return Err(Fault::MasterWithoutPass);
        }
        Ok(self)
    }

    /// Who may not log in wherever they are, with the reason that the passdb has for it.
    pub(super) fn forbids(&self) -> Option<Denial> {
        if !self.nologin {
            return None;
        }
        let told = |words: &String| Refused { words: Some(words.clone()), ..Refusal::Forbidden.into() };
        Some(self.reason.as_ref().map_or(Denial::Forbidden, |words| Denial::Told(told(words))))
    }

    /// False if the field means nothing here.
    fn set(&mut self, key: &str, value: &str) -> Result<bool, Fault> {
        let fields = &mut self.fields;
        match key {
            "pool" => fields.pool = Some(Pool::new(name("pool", value)?)),
            "director_tag" => fields.pool = Some(Pool::new(name("director_tag", value)?)),
            "host" => fields.host = Some(name("host", value)?),
            "hostip" => fields.hostip = Some(address(value)?),
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
            "reason" => self.reason = Some(value.to_owned()).filter(|reason| !reason.is_empty()),
            "delay_until" => fields.delay_until = Some(delay_until(value, SystemTime::now())?),
            "nopassword" => self.nopassword = flag(value),
            "allow_nets" => fields.allow_nets = Some(nets(value)?),
            "proxy" | "proxy_maybe" | "proxy_always" => {} // everybody is proxied
            "code" | "nodelay" | "proxy_refresh" | "proxy_redirect_reauth" => {} // for Dovecot's own processes
            _ => match key.strip_prefix("forward_") {
                Some(key) => fields.forward.push((key.to_owned(), value.to_owned())),
                // Other names of the user: sessions are found by the one name that they logged in with.
                None => return Ok(key.starts_with("userdb_") || key.starts_with("user_")),
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

fn address(value: &str) -> Result<IpAddr, Fault> {
    value.parse().map_err(|_| Fault::BadField { field: "hostip", wanted: "an IP address" })
}

/// `SECONDS` since 1970, with `+MOST` up to so many more, by chance: so that not all come back at once.
fn delay_until(value: &str, now: SystemTime) -> Result<SystemTime, Fault> {
    let wrong = || Fault::BadField { field: "delay_until", wanted: "seconds since 1970, or SECONDS+RANDOM" };
    let (base, most) = value.split_once('+').unwrap_or((value, "0"));
    let base: u64 = base.parse().map_err(|_| wrong())?;
    let most: u64 = most.parse().map_err(|_| wrong())?;
    let more = most.checked_add(1).map_or(0, |most| chance() % most);
    let until = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(base.saturating_add(more)));
    Ok(until.unwrap_or(now + LONGEST_WAIT).min(now + LONGEST_WAIT))
}

/// Any number.
fn chance() -> u64 {
    let mut raw = [0; 8];
    // Without entropy there is no spreading; the delay itself holds.
    let _ = aws_lc_rs::rand::fill(&mut raw);
    u64::from_ne_bytes(raw)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_spread_by_chance_and_never_longer_than_five_minutes() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let after = |text: &str| delay_until(text, now).map(|until| until.duration_since(now).unwrap_or_default());
        assert_eq!(after("1000007"), Ok(Duration::from_secs(7)));
        assert_eq!(after("5"), Ok(Duration::ZERO));
        assert_eq!(after("18446744073709551615"), Ok(LONGEST_WAIT));
        assert!(after("1000000+18446744073709551615").is_ok());
        let spread: std::collections::BTreeSet<_> = (0..200).map(|_| after("1000010+3").unwrap()).collect();
        assert_eq!(spread.into_iter().map(|wait| wait.as_secs()).collect::<Vec<_>>(), [10, 11, 12, 13]);
        for text in ["", "+", "x", "1+", "1+x", "-1"] {
            assert!(after(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_reason_is_told_to_whom_it_keeps_out_and_to_nobody_else() {
        let mut extra = Extra::default();
        extra.take("reason", b"Moved away.").unwrap();
        assert_eq!(extra.forbids(), None);
        extra.take("nologin", b"").unwrap();
        let Some(Denial::Told(told)) = extra.forbids() else { panic!("not told") };
        assert_eq!((told.refusal, told.words.as_deref()), (Refusal::Forbidden, Some("Moved away.")));
        let bare = Extra { nologin: true, ..Extra::default() };
        assert_eq!(bare.forbids(), Some(Denial::Forbidden));
    }
}
