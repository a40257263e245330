//! What a directory or a database has about one user: fields with Dovecot's names.

use std::borrow::Cow;

use zeroize::Zeroizing;

use super::canonical;
use crate::auth::extra::Extra;
use crate::auth::fault::Fault;
use crate::auth::scheme::Stored;
use crate::auth::{Denial, Grant, Schemes, StoredUser, Verdict};
use crate::model::User;

/// Longest canonical name, as of those that are given.
const MAX_USER: usize = 255;

/// Names and values; any of them may be a password. Wiped when dropped.
#[derive(Default)]
pub(super) struct Found {
    fields: Vec<(String, Zeroizing<String>)>,
}

impl Found {
    pub(super) fn add(&mut self, field: &str, value: String) {
        self.fields.push((field.to_ascii_lowercase(), Zeroizing::new(value)));
    }

    /// The first value, of however many columns.
    pub(super) fn first(&self) -> Option<&str> {
        self.fields.first().map(|(_, value)| value.as_str())
    }

    /// The user `asked` for, with the stored password; `unknown` hears of fields that mean nothing.
    pub(super) fn into_stored(self, asked: &str, schemes: &Schemes) -> Result<StoredUser, Fault> {
        let extra = self.extra()?;
        let password = self.field("password").unwrap_or("");
        let (stored, cost) = Stored::parse(password, schemes)?;
        if extra.nopassword && !matches!(stored, Stored::Empty) {
            return Err(Fault::NoPasswordWithPassword);
        }
        Ok(StoredUser { name: self.name(asked)?, stored, cost, extra })
    }

    /// What is known of the user, who does not log in.
    pub(super) fn into_grant(self, asked: &str) -> Result<Grant, Fault> {
        let extra = self.extra()?;
        let user = User::new(self.name(asked)?);
        Ok(Grant { user, unproven: false, master: None, fields: extra.fields })
    }

    /// Whether the user, whose password was right, may log in.
    pub(super) fn into_verdict(self, asked: &str) -> Result<Verdict, Fault> {
        let extra = self.extra()?;
        if extra.nologin {
            return Ok(Verdict::Denied(Denial::Forbidden));
        }
        self.into_grant(asked).map(|grant| Verdict::Granted(Box::new(grant)))
    }

    fn extra(&self) -> Result<Extra, Fault> {
        let others = self.fields.iter().filter(|(name, _)| !is_name_or_password(name));
        Extra::read(others.map(|(name, value)| (name.as_str(), value.as_str())), |field| {
            tracing::trace!("the field {field} of a passdb means nothing to a proxy");
        })
    }

    fn field(&self, wanted: &str) -> Option<&str> {
        self.fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    /// `user` is the whole name; `username` and `domain` are what stands before and behind the @.
    fn name(&self, asked: &str) -> Result<String, Fault> {
        let asked = canonical(asked);
        let whole = self.field("user").map_or(Cow::Borrowed(asked.as_str()), Cow::Borrowed);
        let (mut local, mut domain) = match whole.split_once('@') {
            Some((local, domain)) => (local, Some(domain)),
            None => (&*whole, None),
        };
        match self.field("username").map(|name| name.split_once('@').ok_or(name)) {
            Some(Ok((given, behind))) => (local, domain) = (given, Some(behind)),
            Some(Err(given)) => local = given,
            None => {}
        }
        domain = self.field("domain").or(domain).filter(|domain| !domain.is_empty());
        let name = domain.map_or_else(|| local.to_owned(), |domain| format!("{local}@{domain}"));
        let fits = !local.is_empty() && name.len() <= MAX_USER && !name.contains(char::is_control);
        fits.then(|| canonical(&name)).ok_or(Fault::BadField { field: "user", wanted: "a name of 1 to 255 bytes" })
    }
}

fn is_name_or_password(field: &str) -> bool {
    matches!(field, "user" | "username" | "domain" | "password")
}
