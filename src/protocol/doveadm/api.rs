//! A body of the HTTP API: a list of commands, each a name, parameters and a tag.

use serde_json::{Map, Value};

use super::{Aim, NotForUs, normal};
use crate::model::Exit;

/// One command.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiCall {
    /// As given: `quotaGet`.
    pub name: String,
    /// As given.
    pub parameters: Map<String, Value>,
    /// What the client calls it.
    pub tag: String,
}

/// A body that is none; the text is Dovecot's own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ApiFault(String);

/// Reads a body.
pub fn parse_calls(body: &[u8]) -> Result<Vec<ApiCall>, ApiFault> {
    let fault = |text: &str| Err(ApiFault(text.to_owned()));
    match serde_json::from_slice(body) {
        Ok(Value::Array(calls)) => calls.into_iter().map(ApiCall::read).collect(),
        Ok(_) => fault("Request must be a JSON array"),
        // Its own text quotes nothing of the body.
        Err(error) => Err(ApiFault(format!("JSON parse error: {error}"))),
    }
}

impl ApiFault {
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl ApiCall {
    fn read(call: Value) -> Result<Self, ApiFault> {
        let fault = |text: &str| Err(ApiFault(text.to_owned()));
        let Value::Array(parts) = call else { return fault("Command must be a JSON array") };
        let mut parts = parts.into_iter();
        let Some(Value::String(name)) = parts.next() else { return fault("Command name must be a string") };
        let Some(Value::Object(parameters)) = parts.next() else {
            return fault("Parameters must be contained in a JSON object");
        };
        let Some(Value::String(tag)) = parts.next() else { return fault("Command ID must be a string") };
        match parts.next() {
            None => Ok(Self { name, parameters, tag }),
            Some(_) => fault("Unexpected JSON element at end of command"),
        }
    }

    /// The name by which the command's [`kind`](super::kind) is known.
    pub fn known_name(&self) -> String {
        normal(&self.name)
    }

    /// Whom it is about, and the command without the parameters that say so. `separator`: what stands between a user's
    /// name and a master's.
    pub fn aim(mut self, separator: Option<char>) -> Result<(Aim, Self), NotForUs> {
        let mut aim = Aim::Nobody;
        let named: Vec<(String, Value)> = std::mem::take(&mut self.parameters).into_iter().collect();
        for (name, value) in named {
            match (normal(&name).as_str(), value) {
                ("user", Value::String(user)) => aim = Aim::of(user, separator),
                ("user", _) => return Err(NotForUs("the user must be a string")),
                ("all users", value) if value == Value::Bool(true) || value == "true" => {
                    aim = Aim::Mask("*".to_owned())
                }
                ("all users", _) => {}
                ("user file", _) => {
                    return Err(NotForUs("userFile names a file, which must be read where the command is given"));
                }
                (_, value) => drop(self.parameters.insert(name, value)),
            }
        }
        Ok((aim, self))
    }

    /// The body for a mail server, with a tag of our own.
    pub fn body(&self, user: Option<&str>) -> Vec<u8> {
        let mut parameters = self.parameters.clone();
        if let Some(user) = user {
            parameters.insert("user".to_owned(), Value::String(user.to_owned()));
        }
        Value::from(vec![Value::from(vec![
            Value::from(self.name.clone()),
            Value::Object(parameters),
            Value::from("homing"),
        ])])
        .to_string()
        .into_bytes()
    }
}

/// What one command came to, of the whole body that a mail server answers: the result, or the code with Dovecot's word for
/// the kind of failure.
pub fn split_answer(body: &[u8]) -> Result<Result<Value, (String, Exit)>, ApiFault> {
    let fault = || ApiFault("the JSON is none, or of another form".to_owned());
    let Ok(Value::Array(mut answers)) = serde_json::from_slice(body) else { return Err(fault()) };
    let (Some(Value::Array(answer)), None) = (answers.pop(), answers.pop()) else { return Err(fault()) };
    let mut parts = answer.into_iter();
    match (parts.next(), parts.next()) {
        (Some(Value::String(word)), Some(result)) if word == "doveadmResponse" => Ok(Ok(result)),
        (Some(Value::String(word)), Some(Value::Object(failure))) if word == "error" => {
            let kind = failure.get("type").and_then(Value::as_str).unwrap_or("internalError").to_owned();
            let code = failure.get("exitCode").and_then(Value::as_i64).filter(|_| kind == "exitCode");
            let exit = match (kind.as_str(), code) {
                (_, Some(code)) => Exit::numbered(code),
                ("unknownMethod" | "invalidRequest", None) => Exit::USAGE,
                ("unAuthorized", None) => Exit::NOT_PERMITTED,
                _ => Exit::TEMPORARY,
            };
            Ok(Err((kind, exit)))
        }
        _ => Err(fault()),
    }
}
