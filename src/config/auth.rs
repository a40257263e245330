//! `[auth]`: what all sources of the passdb have in common.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::key::section;
use super::value::{Shown, Value, Wrong, quoted};

section! {
    /// What all sources of the passdb have in common.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AuthConfig {
        /// What stands between a user's name and that of a master user who logs in on the user's behalf, with the master's own
        /// password: "ann*admin" (as Dovecot's `auth_master_user_separator`). "" for none: the character is part of the name.
        pub master_separator: MasterSeparator = MasterSeparator(Some('*'));
        /// File with the fleet's secret in its first line, at least 32 characters of chance, the same at every proxy. What is
        /// noted of logins goes into the store under names that are keyed with it; without one each proxy notes for itself.
        pub secret_file: Option<PathBuf> = None, example("\"/etc/homing/secret\"");
        /// The longest time for which a login waits after failures at its address, or of its user, before the password is
        /// looked at: 1s after the first, twice as long after each further one. 0s for no waiting.
        pub penalty_max: Duration = Duration::from_secs(15), max("1min");
        /// How long after the last new failure all failures of an address, or of a user, are forgotten.
        pub penalty_forget: Duration = Duration::from_secs(3600), min("1s"), max("30d");
        /// How long an address is known from which a user has logged in: failures elsewhere do not make the user wait there.
        /// 0s for never.
        pub penalty_known: Duration = Duration::from_secs(30 * 24 * 3600), max("365d");
        /// How many bits of an IPv6 address stand for one client.
        pub penalty_ipv6_prefix: u8 = 64, min("16"), max("128");
        /// Networks from which many users come, such as a webmail: they neither wait nor are limited. The client that they
        /// announce (`x-originating-ip` of IMAP's ID) is believed, and counts instead.
        pub penalty_exempt: Vec<ipnet::IpNet> = Vec::new(), example("[\"192.0.2.7\", \"fd00::/8\"]");
    }
}

/// One character, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MasterSeparator(pub Option<char>);

impl Value for MasterSeparator {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let wrong = || Wrong::new("must be one character other than @, or none", "write it like \"*\" or \"\"");
        let mut characters = given.as_str().ok_or_else(wrong)?.chars();
        self.0 = characters.next();
        let fits = self.0.is_none_or(|first| !first.is_control() && first != '@');
        if !fits || characters.next().is_some() { Err(wrong()) } else { Ok(()) }
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown { text: quoted(&self.0.map(String::from).unwrap_or_default()), secret: None })
    }
}
