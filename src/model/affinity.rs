//! What of a user's name is bound to a backend.

use std::fmt;

use super::Key;

/// How a name becomes an affinity key: `{user}`, `{local}` (before the last `@`) and `{domain}` (behind it) between other
/// text, all of it lower-cased and without detail if so wished. Every door and every proxy must come to the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTemplate {
    parts: Vec<Part>,
    /// Beyond ASCII, too, for a mailbox that a backend finds under either spelling must not have two homes.
    lower_case: bool,
    /// What begins a detail (`user+folder@domain`); `None`: names have no detail.
    detail: Option<char>,
    /// The domain of names that have none.
    domain: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    User,
    Local,
    Domain,
}

impl Part {
    const NAMED: [(&'static str, Part); 3] =
        [("{user}", Part::User), ("{local}", Part::Local), ("{domain}", Part::Domain)];
}

/// Why a text is no template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateFault {
    /// A brace that begins or ends nothing known.
    #[error("has a brace that is not part of {{user}}, {{local}} or {{domain}}")]
    Brace,
    /// All users would have one key.
    #[error("names nothing of the user: all users would be bound to one backend")]
    Constant,
}

impl KeyTemplate {
    /// Reads a template such as `{user}` or `{domain}`.
    pub fn parse(text: &str, lower_case: bool, detail: Option<char>) -> Result<Self, TemplateFault> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            if let Some((name, part)) = Part::NAMED.iter().find(|(name, _)| rest.starts_with(name)) {
                parts.push(part.clone());
                rest = &rest[name.len()..];
                continue;
            }
            let end = rest.find(['{', '}']).unwrap_or(rest.len());
            if end == 0 {
                return Err(TemplateFault::Brace);
            }
            parts.push(Part::Text(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        if parts.iter().all(|part| matches!(part, Part::Text(_))) {
            return Err(TemplateFault::Constant);
        }
        Ok(Self { parts, lower_case, detail, domain: None })
    }

    /// The key of a name. A name that lacks all that the template asks for (no domain) is its own key: otherwise all such
    /// users would be one.
    pub fn key_of(&self, name: &str) -> Key {
        let given = self.domain.as_deref().unwrap_or_default();
        let (local, domain) = name.rsplit_once('@').unwrap_or((name, given));
        let bare = self.detail.and_then(|detail| local.split_once(detail)).map_or(local, |(bare, _)| bare);
        // A name that is nothing but detail keeps it.
        let local = if bare.is_empty() { local } else { bare };
        let user = if domain.is_empty() { local.to_owned() } else { format!("{local}@{domain}") };
        let mut key = String::with_capacity(name.len());
        let mut said = false;
        for part in &self.parts {
            let value = match part {
                Part::Text(text) => {
                    key.push_str(text);
                    continue;
                }
                Part::User => &user,
                Part::Local => local,
                Part::Domain => domain,
            };
            said |= !value.is_empty();
            key.push_str(value);
        }
        let key = if said { key } else { user };
        Key::new(if self.lower_case { key.to_lowercase() } else { key })
    }

    /// A name without its detail, where names have one: `ann@example.org` for `ann+folder@example.org`.
    pub fn without_detail(&self, name: &str) -> String {
        let (local, domain) = name.rfind('@').map_or((name, ""), |at| name.split_at(at));
        let bare = self.detail.and_then(|detail| local.split_once(detail)).map_or(local, |(bare, _)| bare);
        if bare.is_empty() { name.to_owned() } else { format!("{bare}{domain}") }
    }

    /// The same template with another word on case.
    pub fn with_case(self, lower_case: bool) -> Self {
        Self { lower_case, ..self }
    }

    /// The same template with another word on details.
    pub fn with_detail(self, detail: Option<char>) -> Self {
        Self { detail, ..self }
    }

    /// The same template with another word on names without a domain.
    pub fn with_domain(self, domain: Option<String>) -> Self {
        Self { domain, ..self }
    }
}

impl Default for KeyTemplate {
    /// All of the name, lower-cased.
    fn default() -> Self {
        Self { parts: vec![Part::User], lower_case: true, detail: None, domain: None }
    }
}

impl fmt::Display for KeyTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            named => Part::NAMED.iter().filter(|(_, part)| part == named).try_for_each(|(name, _)| f.write_str(name)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(template: &str, name: &str) -> String {
        KeyTemplate::parse(template, true, Some('+')).unwrap().key_of(name).to_string()
    }

    #[test]
    fn a_key_is_made_of_what_the_template_names() {
        assert_eq!(key("{user}", "Ann+Spam@Example.org"), "ann@example.org");
        assert_eq!(key("{local}", "Ann@Example.org"), "ann");
        assert_eq!(key("{domain}", "Ann@Example.org"), "example.org");
        assert_eq!(key("mail/{domain}/{local}", "Ann@Example.org"), "mail/example.org/ann");
    }

    #[test]
    fn case_and_detail_are_kept_where_they_mean_something() {
        let template = KeyTemplate::parse("{user}", false, None).unwrap();
        assert_eq!(template.key_of("Ann+Spam@Example.org").as_str(), "Ann+Spam@Example.org");
        assert_eq!(KeyTemplate::default().key_of("ÄNNE@Example.org").as_str(), "änne@example.org");
    }

    #[test]
    fn a_name_without_domain_is_that_of_the_default_domain() {
        let template = KeyTemplate::default().with_detail(Some('+')).with_domain(Some("Example.org".to_owned()));
        for name in ["ann", "Ann@example.org", "ann+spam", "ANN+x@EXAMPLE.ORG"] {
            assert_eq!(template.key_of(name).as_str(), "ann@example.org", "{name}");
        }
        assert_eq!(template.key_of("ann@example.net").as_str(), "ann@example.net");
    }

    #[test]
    fn a_name_without_what_the_template_names_is_its_own_key() {
        assert_eq!(key("{domain}", "Ann"), "ann");
        assert_eq!(key("d:{domain}", "Ann"), "ann");
        assert_eq!(key("{user}", "+odd@example.org"), "+odd@example.org");
        assert_eq!(key("{local}", "a@b@example.org"), "a@b");
    }

    #[test]
    fn a_name_loses_its_detail_and_nothing_else() {
        let template = KeyTemplate::default().with_detail(Some('+'));
        for (name, bare) in [
            ("Ann+Spam@Example.org", "Ann@Example.org"),
            ("ann+a+b", "ann"),
            ("ann@ex+y.org", "ann@ex+y.org"),
            ("+odd@example.org", "+odd@example.org"),
        ] {
            assert_eq!(template.without_detail(name), bare);
            assert_eq!(template.key_of(name), template.key_of(bare));
        }
        assert_eq!(KeyTemplate::default().without_detail("ann+x"), "ann+x");
    }

    #[test]
    fn a_template_that_cannot_be_meant_is_refused() {
        for (text, fault) in [
            ("", TemplateFault::Constant),
            ("all", TemplateFault::Constant),
            ("{usr}", TemplateFault::Brace),
            ("{user", TemplateFault::Brace),
            ("user}", TemplateFault::Brace),
        ] {
            assert_eq!(KeyTemplate::parse(text, true, None), Err(fault), "{text:?}");
        }
    }

    #[test]
    fn a_template_is_shown_as_it_was_written() {
        for text in ["{user}", "x{local}y{domain}z"] {
            assert_eq!(KeyTemplate::parse(text, true, None).unwrap().to_string(), text);
        }
    }
}
