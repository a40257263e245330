//! Questions and answers of doveadm, as bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::json;

use crate::protocol::doveadm::{escape, unescape};

/// Where Dovecot's HTTP API is.
pub(super) const HTTP_PATH: &str = "/doveadm/v1";

/// The sessions of one user with one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The user, in the server's spelling.
    pub user: String,
    /// The service: `imap`, `pop3`, ...
    pub service: String,
    /// Their connections.
    pub connections: u32,
    /// The processes that serve them.
    pub processes: u32,
}

/// One connection, as the server told it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Row {
    /// The user.
    #[serde(rename = "username")]
    pub user: String,
    /// The service.
    pub service: String,
    /// The process, as a number or in quotes.
    #[serde(default)]
    pub pid: Pid,
}

/// The number of a process, as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(untagged)]
pub enum Pid {
    /// Not told.
    #[default]
    Unknown,
    /// 4711.
    Number(u64),
    /// "4711".
    Text(String),
}

/// Not an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Garbled(pub &'static str);

/// One line for each connection (`-1`): the one form in which 2.3 writes sound JSON, and which never names several
/// processes in one field. No flags, and no user to run as; then command and arguments.
pub(super) const TCP_QUESTION: &[u8] = b"\t\twho\t-1\n";

/// The same over HTTP.
pub(super) const HTTP_QUESTION: &[u8] = br#"[["who",{"separateConnections":true},"homing"]]"#;

/// All users whose names fit a mask: an object with a list of names, without fields.
pub(super) fn users_question(mask: &str) -> Vec<u8> {
    [b"\t\tuser\t", &escape(mask.as_bytes())[..], b"\n"].concat()
}

/// The same for the HTTP API.
pub(super) fn users_http_question(mask: &str) -> String {
    json!([["user", { "userMask": [mask] }, "homing"]]).to_string()
}

/// The names of such an answer.
pub(super) fn users(answer: &[u8]) -> Result<Vec<String>, Garbled> {
    /// `{"userList": [...]}`.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Users {
        user_list: Vec<String>,
    }
    let users: Users = serde_json::from_slice(answer).map_err(|_| Garbled("it is no list of users"))?;
    Ok(users.user_list)
}

/// Counts what is there.
pub(super) fn present(rows: Vec<Row>) -> Vec<Presence> {
    let mut found: BTreeMap<(String, String), (u32, BTreeSet<Pid>)> = BTreeMap::new();
    for Row { user, service, pid } in rows {
        let (connections, processes) = found.entry((user, service)).or_default();
        *connections += 1;
        processes.insert(pid);
    }
    let count = |((user, service), (connections, processes)): (_, (u32, BTreeSet<Pid>))| Presence {
        user,
        service,
        connections,
        processes: u32::try_from(processes.len()).unwrap_or(u32::MAX),
    };
    found.into_iter().map(count).collect()
}

/// The rows of a TCP answer: user, service, process and address of each connection, each with a tab behind it.
pub fn rows(line: &[u8]) -> Result<Vec<Row>, Garbled> {
    let Some(fields) = line.strip_suffix(b"\t") else {
        return if line.is_empty() { Ok(Vec::new()) } else { Err(Garbled("the last field has no end")) };
    };
    let mut fields = fields.split(|byte| *byte == b'\t');
    let mut rows = Vec::new();
    while let Some(user) = fields.next() {
        let (Some(service), Some(pid), Some(_address)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(Garbled("it has other fields than user, service, process and address"));
        };
        rows.push(row(user, service, pid)?);
    }
    Ok(rows)
}

fn row(user: &[u8], service: &[u8], pid: &[u8]) -> Result<Row, Garbled> {
    let text = |field| String::from_utf8_lossy(&unescape(field)).into_owned();
    let pid = std::str::from_utf8(pid).ok().and_then(|pid| pid.parse().ok());
    let pid = pid.ok_or(Garbled("a process is no number: there are other fields than expected"))?;
    Ok(Row { user: text(user), service: text(service), pid: Pid::Number(pid) })
}

/// The rows of an HTTP answer, or the server's own word for why there are none.
pub fn rows_of_json(body: &[u8]) -> Result<Result<Vec<Row>, String>, Garbled> {
    /// `["error", {...}, tag]`.
    #[derive(Deserialize)]
    struct Failure {
        #[serde(rename = "type")]
        kind: String,
    }
    if let Ok([(word, rows, _tag)]) = serde_json::from_slice::<[(String, Vec<Row>, String); 1]>(body)
        && word == "doveadmResponse"
    {
        return Ok(Ok(rows));
    }
    match serde_json::from_slice::<[(String, Failure, String); 1]>(body) {
        Ok([(word, failure, _tag)]) if word == "error" => Ok(Err(failure.kind.escape_debug().to_string())),
        _ => Err(Garbled("the JSON is none, or of another form")),
    }
}
