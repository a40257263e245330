//! A table's keys, declared once. From `section!` come the struct, its defaults, the reader, the did-you-mean, the
//! output of `config show` and the commented file of `config default`.

use super::value::Value;

/// What operators are told about one key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// As written in the file.
    pub(super) name: &'static str,
    /// Meaning and unit, in the lines of the source.
    pub(super) about: &'static [&'static str],
    /// The least value accepted, as written in the file.
    pub(super) min: Option<&'static str>,
    /// The largest.
    pub(super) max: Option<&'static str>,
    /// A value to show where there is no default, in TOML.
    pub(super) example: Option<&'static str>,
    /// It has no default and cannot be left out.
    pub(super) required: bool,
    /// Its default depends on the machine, so that the default file only mentions it.
    pub(super) computed: bool,
    /// Its value must never be shown.
    pub(super) secret: bool,
}

impl Key {
    pub(super) const fn new(name: &'static str, about: &'static [&'static str]) -> Self {
        let (required, computed, secret) = (false, false, false);
        Self { name, about, min: None, max: None, example: None, required, computed, secret }
    }

    pub(super) const fn min(self, min: &'static str) -> Self {
        Self { min: Some(min), ..self }
    }

    pub(super) const fn max(self, max: &'static str) -> Self {
        Self { max: Some(max), ..self }
    }

    pub(super) const fn example(self, example: &'static str) -> Self {
        Self { example: Some(example), ..self }
    }

    pub(super) const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    pub(super) const fn computed(self) -> Self {
        Self { computed: true, ..self }
    }

    pub(super) const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }
}

/// Something that goes through all keys of a table: the reader, the writer.
pub(super) trait Visit {
    /// Called once for each key, in the order in which operators read them.
    fn field(&mut self, key: &Key, value: &mut dyn Value);
}

/// A table of the file. Its `Default` has the defaults.
pub(super) trait Section: Clone + Default {
    /// What operators are told about the table.
    const ABOUT: &'static [&'static str];

    /// Shows every key to `visit`.
    fn fields(&mut self, visit: &mut dyn Visit);

    /// The same table with its defaults, where a key decides which others there are.
    fn pristine(&self) -> Self {
        Self::default()
    }
}

/// Declares a table: `/// meaning` `name: type = default, mark, mark(argument);`. The marks are the methods of [`Key`].
macro_rules! section {
    (
        $(#[doc = $head:literal])+
        #[derive($($derive:ident),+)]
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $about:literal])+
                $field_vis:vis $field:ident: $type:ty = $default:expr $(, $mark:ident $(($argument:expr))?)*;
            )+
        }
    ) => {
        $(#[doc = $head])+
        #[derive($($derive),+)]
        $vis struct $name {
            $($(#[doc = $about])+ $field_vis $field: $type,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $crate::config::key::Section for $name {
            const ABOUT: &'static [&'static str] = &[$($head),+];

            fn fields(&mut self, visit: &mut dyn $crate::config::key::Visit) {
                $({
                    const KEY: $crate::config::key::Key =
                        $crate::config::key::Key::new(stringify!($field), &[$($about),+])$(.$mark($($argument)?))*;
                    visit.field(&KEY, &mut self.$field);
                })+
            }
        }
    };
}

pub(super) use section;
