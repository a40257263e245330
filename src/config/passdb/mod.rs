//! `[[passdb]]`: who knows the passwords. A file per kind; its keys are a section of their own, behind `kind`.

mod file;

use super::key::{Key, Section, Visit};
use super::words::words;

pub use file::FilePassdb;

/// One source; they are asked in order and the first that knows the user decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PassdbConfig {
    /// `kind = "file"`: Dovecot's passwd-file. Read again when it changes.
    File(FilePassdb),
    /// `kind = "backend"`: the backend decides. Must be the last.
    #[default]
    Backend,
}

/// The word that decides which keys there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Backend,
}

words!(Kind { File = "file", Backend = "backend" });

const KIND: Key = Key::new(
    "kind",
    &["\"file\" for a passwd-file as Dovecot knows it, or \"backend\" to let the backend decide, which must be the last."],
)
.required()
.example("\"file\"");

impl PassdbConfig {
    /// It is asked about users.
    pub fn has_users(&self) -> bool {
        !matches!(self, Self::File(FilePassdb { master: true, .. }))
    }

    /// One of each kind, for the file of defaults.
    pub(super) fn kinds() -> impl Iterator<Item = Self> {
        [Kind::File, Kind::Backend].into_iter().map(Self::of)
    }

    fn of(kind: Kind) -> Self {
        match kind {
            Kind::File => Self::File(FilePassdb::default()),
            Kind::Backend => Self::Backend,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::File(_) => Kind::File,
            Self::Backend => Kind::Backend,
        }
    }
}

impl Section for PassdbConfig {
    const ABOUT: &'static [&'static str] = &[
        "Who knows the passwords. May be repeated: the sources are asked in order and the first that knows the user",
        "decides. Without any, the backends decide.",
    ];

    fn fields(&mut self, visit: &mut dyn Visit) {
        let mut kind = self.kind();
        visit.field(&KIND, &mut kind);
        if kind != self.kind() {
            *self = Self::of(kind);
        }
        match self {
            Self::File(keys) => keys.fields(visit),
            Self::Backend => {}
        }
    }

    fn pristine(&self) -> Self {
        Self::of(self.kind())
    }
}
