//! `[auth]`: what all sources of the passdb have in common.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::key::section;
use super::value::{Shown, Value, Wrong, quoted};
use crate::model::Mechanism;

section! {
    /// What all sources of the passdb have in common.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AuthConfig {
        /// What stands between a user's name and that of a master user who logs in on the user's behalf, with the master's own
        /// password: "ann*admin" (as Dovecot's `auth_master_user_separator`). "" for none: the character is part of the name.
        pub master_separator: MasterSeparator = MasterSeparator(Some('*'));
        /// Verify stored passwords of the scheme MD5-CRYPT, too, which is broken: for the time of a migration. Dovecot calls
        /// it `auth_allow_weak_schemes`.
        pub weak_schemes: bool = false;
        /// The SASL mechanisms that clients may choose. Empty: all that work with every source and every mail server. One that
        /// is named is offered wherever a source knows what to do with it: tokens are passed on if the mail server has no
        /// master user; SCRAM and EXTERNAL leave nothing to pass on, so there must be a master user or the field `pass`.
        pub mechanisms: Mechanisms = Mechanisms::default(), example("[\"SCRAM-SHA-256\", \"PLAIN\"]");
        /// Rounds of the keys that SCRAM is given for users whose password is stored in clear, and of those that are made up for
        /// users whom nobody knows: as many as the stored {SCRAM-SHA-256} and {SCRAM-SHA-1} have, so that names cannot be told
        /// by them. The same for all proxies.
        pub scram_rounds: u32 = 4096, min("4096"), max("1000000");
        /// How long the fleet remembers a good answer of a passdb with `cache = true`; after that, and for any other
        /// password, the passdb is asked. 0s: it is always asked.
        pub cache_ttl: Duration = Duration::from_secs(3600), max("7d");
        /// How long it remembers that a password is wrong, or a user not known; for that same password only.
        pub cache_negative_ttl: Duration = Duration::from_secs(60), max("1h");
        /// How much longer a good answer is good while the passdb does not answer. 0s: not at all.
        pub cache_stale: Duration = Duration::from_secs(3600), max("30d");
        /// File with the fleet's secret, of 32 bytes at least, which seals what the store remembers; the same for all proxies,
        /// readable for nobody else. A second line is a secret that was in use before and still opens. By default `secret`
        /// in the directory of `fleet.state_file`, where one is made if there is none.
        pub secret_file: Option<PathBuf> = None, example("\"/etc/homing/secret\"");
        /// The longest time for which a login waits after failures at its address, or of its user, before the password is
        /// looked at: 1s after the first, twice as long after each further one; half of `limits.login_timeout` at most. 0s for
        /// no waiting.
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

/// Names of the IANA registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mechanisms(pub Vec<Mechanism>);

impl Value for Mechanisms {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let wrong =
            || Wrong::new("must be a list of SASL mechanisms", format!("choose from {}", names(&Mechanism::SASL)));
        let given = given.as_array().ok_or_else(wrong)?;
        let read = |name: &str| Mechanism::of_name(name.as_bytes());
        let list = given.iter().map(|name| name.get_ref().as_str().and_then(read));
        self.0 = list.collect::<Option<_>>().ok_or_else(wrong)?;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown { text: format!("[{}]", names(&self.0)), secret: None })
    }
}

fn names(mechanisms: &[Mechanism]) -> String {
    mechanisms.iter().map(|mechanism| quoted(mechanism.name())).collect::<Vec<_>>().join(", ")
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
