//! `[fleet]`: times and factors of the state protocol. Every proxy of a fleet must have the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::key::section;
use super::value::{Shown, Value, Wrong, quoted};
use crate::model::KeyTemplate;

section! {
    /// Times and factors of the state protocol; the same in every proxy of a fleet. The defaults suit a fleet of any size.
    #[derive(Clone, Debug, PartialEq)]
    pub struct FleetConfig {
        /// How long a proxy that does not renew is counted. Heartbeats come every fifteenth of it, at most 1s and at
        /// least 100ms apart.
        pub lease: Duration = Duration::from_secs(15), min("1s"), max("10min");
        /// How long the keys of a proxy that is cut off or dead stay bound by it after its lease; at least `lease`. A
        /// store outage shorter than this disconnects nobody.
        pub orphan_grace: Duration = Duration::from_secs(3600), min("1s");
        /// How long logins wait after the store lost its memory, while the proxies tell it what they hold; at least
        /// two heartbeats.
        pub recovery: Duration = Duration::from_secs(4), min("200ms"), max("10min");
        /// How long a user without sessions keeps the home.
        pub user_expire: Duration = Duration::from_secs(15 * 60), min("10s");
        /// How long a user without sessions is remembered at all; at least `user_expire`. A remembered home is taken
        /// again while it is not overloaded, because its index files are still there.
        pub remember: Duration = Duration::from_secs(7 * 24 * 3600), min("10s");
        /// A remembered home is taken again while its load is below this times its fair share.
        pub balance_factor: f64 = 1.25, min("1"), max("1000");
        /// How long the weight of a backend ramps up once it is up.
        pub slow_start: Duration = Duration::ZERO;
        /// The largest part of a pool's backends that the proxies' votes may call dead. If more look dead, the network is
        /// the suspect, and those that were alive stay in use.
        pub max_down: f64 = 0.5, min("0"), max("1");
        /// Wait for proxies that are cut off, too, before a user leaves a dead backend. Safer, but such users wait up to
        /// `orphan_grace`.
        pub strict: bool = false;
        /// What of a user's name is bound to a backend: "{user}", "{local}" (before the @), "{domain}", or several with
        /// text between them. "{domain}" for mailboxes that a domain's users share.
        pub affinity_key: KeyTemplate = KeyTemplate::default();
        /// Names that differ only in case are one user.
        pub affinity_lower_case: bool = true;
        /// What begins a detail that does not count: "+" takes "user+folder@domain" for "user@domain".
        pub affinity_detail: Option<Separator> = None, example("\"+\"");
        /// What a name without @ is completed with, so that "ann" and "ann@example.org" have one home. By default nothing.
        pub affinity_domain: Option<String> = None, example("\"example.org\"");
        /// How long a login waits for its home before it gets a temporary failure.
        pub login_wait: Duration = Duration::from_secs(10), min("100ms"), max("5min");
        /// File that remembers this proxy's incarnations, so that a restart frees at once what the dead one held. Of use
        /// only with a redis store.
        pub state_file: Option<PathBuf> = None, example("\"/var/lib/homing/state\"");
    }
}

impl FleetConfig {
    /// How names become keys.
    pub fn key_template(&self) -> KeyTemplate {
        let detail = self.affinity_detail.as_ref().map(|separator| separator.0);
        self.affinity_key
            .clone()
            .with_case(self.affinity_lower_case)
            .with_detail(detail)
            .with_domain(self.affinity_domain.clone())
    }

    /// Time from one heartbeat to the next: short against the lease, and no busier than the store deserves.
    pub fn heartbeat(&self) -> Duration {
        (self.lease / 15).clamp(Duration::from_millis(100), Duration::from_secs(1))
    }
}

impl Value for KeyTemplate {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let remedy = "write it like \"{user}\", \"{domain}\" or \"{local}\"";
        let text = given.as_str().ok_or_else(|| Wrong::new("must be a text in quotes", remedy))?;
        *self = Self::parse(text, true, None).map_err(|fault| Wrong::new(fault.to_string(), remedy))?;
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown { text: quoted(&self.to_string()), secret: None })
    }
}

/// One character that separates parts of a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Separator(pub char);

impl Value for Separator {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let wrong = || Wrong::new("must be one character other than @", "write it like \"+\"");
        let mut characters = given.as_str().ok_or_else(wrong)?.chars();
        self.0 = characters.next().filter(|first| !first.is_control() && *first != '@').ok_or_else(wrong)?;
        if characters.next().is_some() { Err(wrong()) } else { Ok(()) }
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown { text: quoted(&self.0.to_string()), secret: None })
    }
}
