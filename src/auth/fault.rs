//! What can be wrong with what an operator wrote about a user. Texts for the operator's log: they never quote a password,
//! nor anything that could be a piece of one.

/// Why a user's entry cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// Neither UTF-8 nor anything else that names and fields are made of.
    #[error("the line is not UTF-8")]
    NotText,
    /// `user` alone.
    #[error("there is no password field; write user:{{SCHEME}}hash")]
    NoPasswordField,
    /// `{SCHEME}` is one that Dovecot has and homing has not.
    #[error("homing does not verify {{{0}}}; use {{ARGON2ID}}, {{BLF-CRYPT}} or {{SHA512-CRYPT}}")]
    UnsupportedScheme(&'static str),
    /// `{SCHEME}` is broken, and the operator has not said that it will do.
    #[error("{{{0}}} is broken: homing verifies it only with weak_schemes = true in [auth]")]
    WeakScheme(&'static str),
    /// `{SCHEME}` is nothing known.
    #[error("the password scheme is unknown")]
    UnknownScheme,
    /// No `{SCHEME}`, and not a crypt hash either.
    #[error("the password is no hash that its prefix tells; write {{SCHEME}} before it")]
    UnknownHash,
    /// The hash is cut or mistyped.
    #[error("the hash is malformed")]
    BadHash,
    /// The hash would cost more than a login may.
    #[error("the hash asks for too much work: {0}")]
    TooCostly(&'static str),
    /// A field's value.
    #[error("the field {field} needs {wanted}")]
    BadField {
        /// Its name.
        field: &'static str,
        /// What it takes.
        wanted: &'static str,
    },
    /// Dovecot refuses this combination, too.
    #[error("nopassword is set, but there is a password")]
    NoPasswordWithPassword,
    /// `pass` without `master` is fine, the other way round is not.
    #[error("the field master needs the field pass, the master user's password")]
    MasterWithoutPass,
}
