//! `[auth]`: what all sources of the passdb have in common.

use std::path::Path;

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
        /// Verify stored passwords of the scheme MD5-CRYPT, too, which is broken: for the time of a migration. Dovecot calls
        /// it `auth_allow_weak_schemes`.
        pub weak_schemes: bool = false;
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
