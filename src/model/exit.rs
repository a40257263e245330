//! How a doveadm command ended.

/// A code of sysexits.h, as doveadm uses them; 0 is success. The larger is the worse of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exit(u16);

impl Exit {
    /// Success.
    pub const DONE: Self = Self(0);
    /// The command cannot be meant.
    pub const USAGE: Self = Self(64);
    /// Nobody knows the user.
    pub const NO_USER: Self = Self(67);
    /// There is no such thing.
    pub const NOT_FOUND: Self = Self(68);
    /// Later it may work.
    pub const TEMPORARY: Self = Self(75);
    /// The command is not for this place.
    pub const NOT_PERMITTED: Self = Self(77);
    /// Something that has no word in the protocol.
    pub const UNKNOWN: Self = Self(255);

    /// What Dovecot's protocol writes for a code.
    const WORDS: [(u16, &'static str); 8] = [
        (64, "USAGE"),
        (65, "DATAERR"),
        (67, "NOUSER"),
        (68, "NOTFOUND"),
        (75, "TEMPFAIL"),
        (76, "PROTOCOL"),
        (77, "NOPERM"),
        (255, "UNKNOWN"),
    ];

    /// The code, 0 to 255.
    pub fn code(self) -> u16 {
        self.0
    }

    /// Whether all went well.
    pub fn is_done(self) -> bool {
        self == Self::DONE
    }

    /// The word of the TCP protocol for a failure.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(code, _)| *code == self.0).map_or("UNKNOWN", |(_, word)| word)
    }

    /// The failure that a server named: by a word, by a number, or not at all, as old ones did.
    pub fn named(word: &[u8]) -> Self {
        let known = Self::WORDS.iter().find(|(_, name)| name.as_bytes() == word).map(|(code, _)| *code);
        let number = || std::str::from_utf8(word).ok()?.parse().ok().filter(|code| (1..255).contains(code));
        match known.or_else(number) {
            Some(code) => Self(code),
            None if word.is_empty() => Self::TEMPORARY,
            None => Self::UNKNOWN,
        }
    }

    /// The failure that a number stands for: 0 was meant for one by nobody.
    pub fn numbered(code: i64) -> Self {
        u16::try_from(code).ok().filter(|code| (1..255).contains(code)).map_or(Self::UNKNOWN, Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_the_same_meaning_by_word_and_by_number() {
        for (word, code) in [("NOUSER", 67), ("67", 67), ("TEMPFAIL", 75), ("", 75), ("78", 78), ("NOREPLICATE", 255)] {
            assert_eq!(Exit::named(word.as_bytes()).code(), code, "{word}");
        }
        assert_eq!(Exit::named(b"0"), Exit::UNKNOWN);
        assert_eq!(
            (Exit::numbered(67), Exit::numbered(0), Exit::numbered(-1)),
            (Exit::NO_USER, Exit::UNKNOWN, Exit::UNKNOWN)
        );
        assert_eq!(Exit::NO_USER.word(), "NOUSER");
    }
}
