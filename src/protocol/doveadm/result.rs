//! Understands what a mail server answers over the HTTP API, as it comes in. An answer may be a mailbox long, so nothing is
//! kept of the result but where in it the next byte is.

use serde_json::Value;

use super::api::{ApiFault, split_answer};
use crate::model::Exit;

/// How an answer begins that has a result.
const RESULT: &[u8] = b"[[\"doveadmResponse\",";
/// How one begins that has none.
const FAILURE: &[u8] = b"[[\"error\",";
/// Bytes of an answer that is no result.
const FAILURE_MAX: usize = 16 * 1024;

/// The answer to one command that was tagged "homing".
#[derive(Debug, Default)]
pub struct ApiAnswer {
    stage: Stage,
    /// What is kept of the present stage: its words without spaces, or a whole failure.
    kept: Vec<u8>,
    nesting: Nesting,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Head,
    Result,
    Tail,
    Failure,
}

/// How deep in a JSON text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Nesting {
    depth: u32,
    in_string: bool,
    escaped: bool,
}

/// Joins the results for many users to the rows of one list, each with the name of its user, as Dovecot has it where there
/// are several.
#[derive(Debug, Default)]
pub struct Rows {
    /// `"username":"ann"`
    name: Option<String>,
    has_rows: bool,
    at: At,
    nesting: Nesting,
    /// How deep it is between two rows: 1, or 0 where the result is not a list.
    base: u32,
    /// The present row is no object, so it was made one.
    wrapped: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Begin,
    /// Between two rows.
    List,
    /// Behind the bracket of a row that has been given a name.
    Fresh,
    Row,
    End,
}

impl ApiAnswer {
    /// The first bytes that belong to the result, and how many bytes are done with then.
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<(&'a [u8], usize), ApiFault> {
        match self.stage {
            Stage::Head => self.head(bytes).map(|done| (&bytes[..0], done)),
            Stage::Result => {
                let count = bytes.iter().position(|byte| self.is_behind(*byte)).unwrap_or(bytes.len());
                Ok((&bytes[..count], count))
            }
            Stage::Tail => {
                self.kept.extend(bytes.iter().filter(|byte| !byte.is_ascii_whitespace()));
                let is_ours = b",\"homing\"]]".starts_with(&self.kept);
                if is_ours { Ok((&bytes[..0], bytes.len())) } else { Err(garbled()) }
            }
            Stage::Failure => {
                self.kept.extend(bytes);
                if self.kept.len() > FAILURE_MAX { Err(garbled()) } else { Ok((&bytes[..0], bytes.len())) }
            }
        }
    }

    /// No more will come: whether it was a result, or else the code with Dovecot's word for the kind of failure.
    pub fn end(self) -> Result<Result<(), (String, Exit)>, ApiFault> {
        match self.stage {
            Stage::Tail if self.kept == b",\"homing\"]]" => Ok(Ok(())),
            Stage::Failure => split_answer(&self.kept).map(|answer| answer.map(|_: Value| ())),
            _ => Err(garbled()),
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Result<usize, ApiFault> {
        for (at, byte) in bytes.iter().enumerate() {
            if byte.is_ascii_whitespace() {
                continue;
            }
            self.kept.push(*byte);
            match self.kept.as_slice() {
                RESULT => self.stage = Stage::Result,
                FAILURE => self.stage = Stage::Failure,
                begun if RESULT.starts_with(begun) || FAILURE.starts_with(begun) => continue,
                _ => return Err(garbled()),
            }
            return Ok(at + 1);
        }
        Ok(bytes.len())
    }

    /// The result is a value of its own, which ends at a comma or a bracket that is not its own.
    fn is_behind(&mut self, byte: u8) -> bool {
        let is_behind = self.nesting.depth == 0 && !self.nesting.in_string && matches!(byte, b',' | b']' | b'}');
        if is_behind {
            self.stage = Stage::Tail;
            self.kept.clear();
        } else {
            self.nesting.step(byte);
        }
        is_behind
    }
}

impl Nesting {
    fn step(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'[' | b'{' => self.depth = self.depth.saturating_add(1),
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

impl Rows {
    /// The next result is about this user, or about nobody.
    pub fn begin(&mut self, user: Option<&str>) {
        let name = user.map(|user| format!("\"username\":{}", Value::from(user)));
        *self = Self { name, has_rows: self.has_rows, ..Self::default() };
    }

    /// The next bytes of a result, as bytes of the list.
    pub fn put(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            let is_space = byte.is_ascii_whitespace();
            match (self.at, *byte) {
                (At::Begin | At::List | At::Fresh, _) if is_space => {}
                (At::Begin, b'[') => (self.at, self.base, self.nesting.depth) = (At::List, 1, 1),
                (At::List, b',') | (At::End, _) => {}
                (At::List, b']') => self.at = At::End,
                (At::Begin | At::List, byte) => self.row(byte, out),
                (At::Fresh, byte) => {
                    if byte != b'}' {
                        out.push(b',');
                    }
                    self.at = At::Row;
                    self.copy(byte, out);
                }
                (At::Row, byte) => self.copy(byte, out),
            }
        }
    }

    /// The result is whole.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        if self.at == At::Row {
            self.close(out);
        }
        self.at = At::End;
    }

    fn row(&mut self, byte: u8, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.has_rows, true) {
            out.push(b',');
        }
        self.at = At::Row;
        match &self.name {
            None => self.copy(byte, out),
            Some(name) if byte == b'{' => {
                out.push(byte);
                out.extend(name.as_bytes());
                self.nesting.step(byte);
                self.at = At::Fresh;
            }
            Some(name) => {
                out.push(b'{');
                out.extend(name.as_bytes());
                out.extend(b",\"result\":");
                self.wrapped = true;
                self.copy(byte, out);
            }
        }
    }

    fn copy(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.nesting.depth == self.base && !self.nesting.in_string && matches!(byte, b',' | b']') {
            self.close(out);
            self.at = if byte == b',' { At::List } else { At::End };
            return;
        }
        out.push(byte);
        self.nesting.step(byte);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.wrapped) {
            out.push(b'}');
        }
    }
}

fn garbled() -> ApiFault {
    ApiFault::new("the JSON is none, or of another form")
}
