//! SQL of the operator with places for what is known about a login. The values never become part of the text.

use std::path::Path;

use toml::de::DeValue;

use crate::config::value::{Shown, Value, Wrong, quoted};

/// A statement with `:name` for its parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    text: String,
    pieces: Vec<Piece>,
}

/// What a statement is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// SQL as it stands.
    Text(String),
    /// A value.
    Parameter(Parameter),
}

/// What is known about a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// `:user`, the whole name.
    User,
    /// `:local`, before the @.
    Local,
    /// `:domain`, behind it.
    Domain,
    /// `:service`, the protocol.
    Service,
    /// `:client`, the client's address.
    Client,
    /// `:server`, the address that it came to.
    Server,
}

impl Parameter {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "user" => Self::User,
            "local" => Self::Local,
            "domain" => Self::Domain,
            "service" => Self::Service,
            "client" => Self::Client,
            "server" => Self::Server,
            _ => return None,
        })
    }
}

impl Statement {
    /// In order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// It says the same of everybody.
    pub(in crate::config) fn names_nobody(&self) -> bool {
        let names = |piece: &Piece| matches!(piece, Piece::Parameter(Parameter::User | Parameter::Local));
        !self.pieces.iter().any(names)
    }

    fn parse(text: &str) -> Result<Vec<Piece>, Wrong> {
        let mut pieces = Vec::new();
        let (mut plain, mut at) = (String::new(), 0);
        while at < text.len() {
            let rest = &text[at..];
            if let Some(length) = uninterpreted(rest) {
                let piece = &rest[..length];
                mistaken(piece)?;
                plain.push_str(piece);
                at += length;
            } else if let Some(name) = rest.strip_prefix(':').map(word).filter(|name| !name.is_empty()) {
                let Some(parameter) = Parameter::of(name) else {
                    let remedy = "there are :user, :local, :domain, :service, :client and :server";
                    return Err(Wrong::new(format!("has an unknown parameter :{name}"), remedy));
                };
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
                pieces.push(Piece::Parameter(parameter));
                at += 1 + name.len();
            } else {
                let next = rest.chars().next().map_or(1, char::len_utf8);
                plain.push_str(&rest[..next]);
                at += next;
            }
        }
        pieces.push(Piece::Text(plain));
        Ok(pieces)
    }
}

/// The bytes at the start that are a string, a quoted name, a comment or a cast: no parameter is in there.
fn uninterpreted(rest: &str) -> Option<usize> {
    let until = |begin: usize, end: &str| rest[begin..].find(end).map_or(rest.len(), |at| begin + at + end.len());
    match rest.as_bytes() {
        [quote @ (b'\'' | b'"' | b'`'), ..] => Some(until(1, char::from(*quote).encode_utf8(&mut [0; 4]))),
        [b'-', b'-', ..] => Some(until(2, "\n")),
        [b'/', b'*', ..] => Some(until(2, "*/")),
        [b':', b':', ..] => Some(2 + word(&rest[2..]).len()),
        _ if !word(rest).is_empty() => {
            let length = word(rest).len();
            match &rest.as_bytes()[length..] {
                // A colon within a word ("12:30") is none of ours.
                [b':', next, ..] if *next != b':' => Some(length + 1 + word(&rest[length + 1..]).len()),
                _ => Some(length),
            }
        }
        _ => None,
    }
}

/// Parameters in quotes would be texts of their own, and Dovecot's variables mean nothing here.
fn mistaken(piece: &str) -> Result<(), Wrong> {
    let inner = piece.trim_matches(['\'', '"', '`']);
    if inner.strip_prefix(':').is_some_and(|name| Parameter::of(name).is_some()) {
        return Err(Wrong::new(format!("has {inner} in quotes"), "remove the quotes: values are no part of the text"));
    }
    if matches!(inner, "%u" | "%n" | "%d" | "%Lu" | "%Ln" | "%Ld" | "%{user}") && inner.len() < piece.len() {
        let remedy = "write :user, :local or :domain, without quotes";
        return Err(Wrong::new(format!("has {piece} as Dovecot writes it"), remedy));
    }
    Ok(())
}

fn word(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())]
}

impl Value for Statement {
    fn read(&mut self, given: &DeValue<'_>, _base: &Path) -> Result<(), Wrong> {
        let remedy = "write a statement in quotes, like \"SELECT password FROM users WHERE name = :user\"";
        let text = given.as_str().filter(|text| !text.trim().is_empty() && !text.contains('\0'));
        let text = text.ok_or_else(|| Wrong::new("is no SQL statement", remedy))?;
        *self = Self { text: text.to_owned(), pieces: Self::parse(text)? };
        Ok(())
    }

    fn shown(&self) -> Option<Shown> {
        (!self.text.is_empty()).then(|| Shown { text: quoted(&self.text), secret: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(text: &str) -> Vec<Parameter> {
        let parameter = |piece: &Piece| match piece {
            Piece::Parameter(parameter) => Some(*parameter),
            Piece::Text(_) => None,
        };
        Statement::parse(text).unwrap().iter().filter_map(parameter).collect()
    }

    #[test]
    fn parameters_are_found_outside_of_strings_comments_and_casts() {
        assert_eq!(parameters("SELECT p FROM u WHERE n = :user AND d=:domain"), [Parameter::User, Parameter::Domain]);
        assert_eq!(
            parameters("SELECT 'it''s :x', a::text, \":x\", '12:30' -- :x\n, :local /* :x */"),
            [Parameter::Local]
        );
        assert_eq!(parameters("SELECT 'ä' ::text, lower(:user::text)"), [Parameter::User]);
        assert_eq!(parameters("SELECT ':"), []);
    }

    #[test]
    fn mistakes_of_those_who_come_from_dovecot_are_told() {
        for text in ["SELECT ':user'", "SELECT p FROM u WHERE n = '%u'", "SELECT :nobody"] {
            assert!(Statement::parse(text).is_err(), "{text}");
        }
        assert!(Statement::parse("SELECT p FROM u WHERE n LIKE '%ux'").is_ok());
    }
}
