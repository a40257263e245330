//! Addresses of an envelope (RFC 5321 4.1.2, RFC 6531 3.3): `<local@domain>`, the local part plain or quoted.

/// An address as it was given, and the name that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// What stood between `<` and `>`, without a source route: this is what backends are told.
    text: String,
    /// Without quotes.
    local: String,
    /// None for `<postmaster>` and for names without a domain.
    domain: Option<String>,
}

impl Mailbox {
    /// Reads a path up to its `>`; gives what stands behind it. `None` in it for the empty path `<>`.
    pub(super) fn path(text: &str) -> Option<(Option<Self>, &str)> {
        let text = text.strip_prefix('<')?;
        if let Some(rest) = text.strip_prefix('>') {
            return Some((None, rest));
        }
        let text = without_route(text)?;
        let (local, behind) = local_part(text)?;
        let (domain, behind) = match behind.strip_prefix('@') {
            Some(behind) => {
                let end = behind.find('>')?;
                (Some(domain(&behind[..end])?), &behind[end..])
            }
            None => (None, behind),
        };
        let rest = behind.strip_prefix('>')?;
        let text = text[..text.len() - behind.len()].to_owned();
        Some((Some(Self { text, local, domain }), rest))
    }

    /// As it stood between the brackets.
    pub fn as_given(&self) -> &str {
        &self.text
    }

    /// Whether it is of ASCII alone.
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// The user's name, and the detail with its delimiter (`+folder`), which may be empty. A local part that is
    /// nothing but detail is a name.
    pub fn user(&self, delimiter: Option<char>) -> (String, &str) {
        let cut = delimiter.and_then(|delimiter| self.local.find(delimiter)).filter(|at| *at > 0);
        let (name, detail) = self.local.split_at(cut.unwrap_or(self.local.len()));
        let user = self.domain.as_ref().map_or_else(|| name.to_owned(), |domain| format!("{name}@{domain}"));
        (user, detail)
    }

    /// The address of a user by another name, with a detail as [`Mailbox::user`] gives it.
    pub fn of(user: &str, detail: &str) -> String {
        let (local, domain) = user.rsplit_once('@').unwrap_or((user, ""));
        let local = format!("{local}{detail}");
        let plain = !local.is_empty() && local.chars().all(is_atom) && !local.starts_with('.') && !local.ends_with('.');
        let mut address = String::with_capacity(user.len() + detail.len() + 4);
        if plain {
            address.push_str(&local);
        } else {
            address.push('"');
            for c in local.chars().filter(|c| !c.is_control()) {
                if matches!(c, '"' | '\\') {
                    address.push('\\');
                }
                address.push(c);
            }
            address.push('"');
        }
        if !domain.is_empty() {
            address.push('@');
            address.extend(domain.chars().filter(|c| !c.is_control() && !matches!(c, '<' | '>' | ' ')));
        }
        address
    }
}

/// RFC 5321 appendix C: a source route (`@a,@b:`) is taken and ignored.
fn without_route(text: &str) -> Option<&str> {
    if !text.starts_with('@') {
        return Some(text);
    }
    let (route, rest) = text.split_once(':')?;
    let sound = route.split(',').all(|hop| hop.strip_prefix('@').is_some_and(|hop| domain(hop).is_some()));
    sound.then_some(rest)
}

/// The local part without its quotes, and what stands behind it.
fn local_part(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c| !is_atom(c)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let (mut local, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            _ if c.is_control() => return None,
            _ if escaped => escaped = false,
            '"' => return (!local.is_empty()).then_some((local, &quoted[at + 1..])),
            '\\' => {
                escaped = true;
                continue;
            }
            _ => {}
        }
        local.push(c);
    }
    None
}

/// RFC 5321 `atext` and the dot, wherever it stands: real mailboxes begin and end with one. Beyond ASCII: RFC 6531.
fn is_atom(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~.".contains(c)
        || (!c.is_ascii() && !c.is_control() && !c.is_whitespace())
}

/// A host's name, or an address in brackets.
fn domain(text: &str) -> Option<String> {
    let inner = text.strip_prefix('[').map(|inner| inner.strip_suffix(']'));
    let sound = match inner {
        Some(literal) => literal?.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-')),
        None => text.chars().all(|c| {
            c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || (!c.is_ascii() && c.is_alphanumeric())
        }),
    };
    (sound && !text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Option<(Mailbox, &str)> {
        let (mailbox, rest) = Mailbox::path(path)?;
        Some((mailbox?, rest))
    }

    #[test]
    fn an_address_stands_for_a_name_and_a_detail() {
        for (path, user, detail) in [
            ("<ann@example.org>", "ann@example.org", ""),
            ("<ann+spam+more@example.org>", "ann@example.org", "+spam+more"),
            ("<+ann@example.org>", "+ann@example.org", ""),
            ("<postmaster>", "postmaster", ""),
            ("<\"a b\\\"c@d+x\"@example.org>", "a b\"c@d@example.org", "+x"),
            ("<@hop.example,@[192.0.2.1]:ann@example.org>", "ann@example.org", ""),
            ("<ann@[IPv6:2001:db8::1]>", "ann@[IPv6:2001:db8::1]", ""),
            ("<änne+Ü@bücher.example>", "änne@bücher.example", "+Ü"),
            ("<.ann.@example.org>", ".ann.@example.org", ""),
        ] {
            let (mailbox, rest) = read(path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!((mailbox.user(Some('+')), rest), ((user.to_owned(), detail), ""), "{path}");
        }
        assert_eq!(read("<ann+spam@x>").unwrap().0.user(None), ("ann+spam@x".to_owned(), ""));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for path in [
            "ann@example.org",
            "<ann@example.org",
            "<@example.org>",
            "<ann@>",
            "<ann@a@b>",
            "<a b@x>",
            "<\"\"@x>",
            "<\"a@x>",
            "<ann@ex ample>",
            "<ann@[1.2>",
            "<@hop ann@x>",
            "<ann\u{1}@x>",
            "<\"a\u{7f}\"@x>",
            "<ann@x\u{85}>",
        ] {
            assert!(Mailbox::path(path).is_none(), "{path}");
        }
        assert_eq!(Mailbox::path("<> X"), Some((None, " X")));
    }

    #[test]
    fn another_name_is_an_address_again_and_cannot_end_its_brackets() {
        assert_eq!(Mailbox::of("ann@home", "+spam"), "ann+spam@home");
        assert_eq!(Mailbox::of("ann", ""), "ann");
        for user in ["a b\"c\\@home", "ann>@home", "x y", ".a@home", "@home"] {
            let text = Mailbox::of(user, "+d");
            let path = format!("<{text}> rest");
            let (mailbox, rest) = read(&path).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((mailbox.as_given(), rest), (text.as_str(), " rest"));
        }
        assert_eq!(Mailbox::of("ann@ho>me\r\n", ""), "ann@home");
    }
}
