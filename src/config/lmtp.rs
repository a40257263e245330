//! `[lmtp]`: mail that is delivered through homing.

use std::path::Path;
use std::time::Duration;

use toml::de::DeValue;

use super::key::section;
use super::value::{Shown, Value, Wrong, quoted};

section! {
    /// Mail that comes in at listeners with protocol "lmtp". Each recipient is looked up, and gets the mail at its own backend.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LmtpConfig {
        /// What begins a detail that is no part of the user's name: with "+", mail to "ann+folder@example.org" is for
        /// "ann@example.org", and the backend is told all of it. "" for none.
        pub recipient_delimiter: Delimiter = Delimiter(Some('+'));
        /// Bytes of one message; 0 for any size, which leaves it to the backends.
        pub max_message_size: u64 = 0;
        /// Recipients of one message.
        pub max_recipients: usize = 100, min("1"), max("10000");
        /// Messages of one connection; 0 for any number.
        pub max_messages: u32 = 1000;
        /// Deliveries to one user at once, at this proxy (as Dovecot's `lmtp_user_concurrency_limit`); 0 for any number.
        pub user_concurrency: u32 = 10;
        /// How long a client may be silent, or take nothing.
        pub client_timeout: Duration = Duration::from_secs(300), min("1s"), max("1h");
        /// How long a backend may be silent, or take nothing, before its recipients get a temporary failure. RFC 5321
        /// 4.5.3.2 would have ten minutes behind a message, by when many clients have lost patience.
        pub backend_timeout: Duration = Duration::from_secs(125), min("100ms"), max("1h");
    }
}

/// One character, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delimiter(pub Option<char>);

impl Value for Delimiter {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let wrong =
            || Wrong::new("must be one character other than @, or nothing", "write it like \"+\", or \"\" for none");
        let mut characters = given.as_str().ok_or_else(wrong)?.chars();
        let first = characters.next();
        let sound = first.is_none_or(|first| !first.is_control() && first != '@') && characters.next().is_none();
        self.0 = first;
        if sound { Ok(()) } else { Err(wrong()) }
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown { text: quoted(&self.0.map_or_else(String::new, String::from)), secret: None })
    }
}
