//! Mail users with passwords that occur nowhere else, so that a leak can be found by searching for them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A mail user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Password.
    pub password: String,
}

impl User {
    /// `user000`, `user001` and so on.
    pub fn nth(number: usize) -> Self {
        Self::named(format!("user{number:03}"))
    }

    /// A user with a name and the password made from it.
    pub fn named(name: impl Into<String>) -> Self {
        let name = name.into();
        let password = format!("Geheim+{name}+{}", std::process::id());
        Self { name, password }
    }

    /// What SASL PLAIN says of this user, in base64 (RFC 4616).
    pub fn sasl_plain(&self) -> String {
        STANDARD.encode(format!("\0{}\0{}", self.name, self.password))
    }

    /// The first `count`.
    pub fn first(count: usize) -> Vec<Self> {
        (0..count).map(Self::nth).collect()
    }
}
