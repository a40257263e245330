//! Names and numbers of the state protocol.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Defines a cheaply cloned name of one kind, so that two kinds cannot be mixed up.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text as it is.
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(Arc::from(text.as_ref()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name! {
    /// The affinity key: what is bound to a backend. The lower-cased user by default.
    Key
}
name! {
    /// A backend's configured name.
    BackendId
}
name! {
    /// A set of backends that can serve the same users.
    Pool
}
name! {
    /// One run of one proxy: ten random characters, new for each start.
    Incarnation
}
name! {
    /// Names one client connection in our logs and, sent along at login, in the backend's.
    SessionId
}

impl Pool {
    /// The pool of backends and users for which none was named.
    pub const DEFAULT: &'static str = "default";
}

impl Default for Pool {
    fn default() -> Self {
        Self::new(Self::DEFAULT)
    }
}

/// Letters and digits only: an id must be safe in a log line, a Redis key and an IMAP quoted string.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// `N` random characters of [`ALPHABET`] from the operating system's generator.
fn random_text<const N: usize>() -> String {
    let mut raw = [0_u8; N];
    aws_lc_rs::rand::fill(&mut raw).unwrap_or_else(|_| std::process::abort()); // no entropy: nothing can be safe
    raw.iter().map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()])).collect()
}

impl Incarnation {
    /// A new one, for a proxy that starts.
    pub fn random() -> Self {
        Self::new(random_text::<10>())
    }
}

impl SessionId {
    /// A new one, for a client that was accepted. 16 characters: 95 bits.
    pub fn random() -> Self {
        Self::new(random_text::<16>())
    }
}

/// Orders the bindings of one key over time: `max(old + 1, store clock in ms)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A backend's share of new users relative to its peers. 100 by default, 0 takes no new users, at most 10,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Weight(u32);

impl Weight {
    /// The largest weight.
    pub const MAX: u32 = 10_000;
    /// Nobody comes.
    pub const NONE: Self = Self(0);

    /// `None` above [`Weight::MAX`].
    pub fn new(weight: u32) -> Option<Self> {
        (weight <= Self::MAX).then_some(Self(weight))
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(100)
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(deserializer)?;
        Self::new(number)
            .ok_or_else(|| serde::de::Error::custom(format!("a weight is 0 to {}, not {number}", Self::MAX)))
    }
}
