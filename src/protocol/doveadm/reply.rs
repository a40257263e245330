//! Every word that we say to a client of either way.

use serde_json::{Value, json};

use super::{MINOR, MINOR_FRAMES};
use crate::model::Exit;

/// The channel of what is logged.
pub const LOG: u8 = b'L';
/// The channel of the answer.
pub const ANSWER: u8 = 0;
/// How the text of an error begins on the channel of what is logged.
const ERROR: u8 = 4;

/// Yes, on a line of its own: the password is right.
pub const YES: &[u8] = b"+\n";
/// No; in the greeting: a password is needed.
pub const NO: &[u8] = b"-\n";

/// The greeting for a client that speaks this minor version: old ones expect no version.
pub fn greeting(minor: u32) -> Vec<u8> {
    let version = if minor >= MINOR_FRAMES { format!("VERSION\tdoveadm-client\t1\t{MINOR}\n") } else { String::new() };
    [version.as_bytes(), NO].concat()
}

/// The end of an answer.
pub fn verdict(exit: Exit) -> Vec<u8> {
    if exit.is_done() { b"\n+\n".to_vec() } else { format!("\n-{}\n", exit.word()).into_bytes() }
}

/// The end of an answer for which there is no word: what was sent before is not whole.
pub fn error_line(text: &str) -> Vec<u8> {
    let mut line = vec![ERROR];
    line.extend(text.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
    line.push(b'\n');
    line
}

/// Bytes of one channel, as a client that speaks this minor version gets them. Old ones have no channel but the answer's.
pub fn framed(minor: u32, channel: u8, bytes: &[u8]) -> Vec<u8> {
    if minor < MINOR_FRAMES {
        return if channel == ANSWER { bytes.to_vec() } else { Vec::new() };
    }
    let mut out = Vec::with_capacity(bytes.len() + 5);
    for part in bytes.chunks(u32::MAX as usize) {
        out.push(channel);
        out.extend((part.len() as u32).to_be_bytes()); // a chunk is no longer than that
        out.extend(part);
    }
    out
}

/// The failure of one command of the HTTP API. `kind`: "exitCode", "unknownMethod", ...
pub fn api_error(kind: &str, exit: Exit, tag: &str) -> Value {
    json!(["error", { "type": kind, "exitCode": exit.code() }, tag])
}

/// The failure of a command that was understood, with its reason, which Dovecot only logs.
pub fn api_failure(exit: Exit, why: Option<&str>, tag: &str) -> Value {
    match why {
        None => api_error("exitCode", exit, tag),
        Some(why) => json!(["error", { "type": "exitCode", "exitCode": exit.code(), "message": why }, tag]),
    }
}

/// What stands before the result of a command of the HTTP API.
pub const API_RESULT: &str = "[\"doveadmResponse\",";

/// What stands behind it.
pub fn api_tag(tag: &str) -> String {
    format!(",{}]", Value::from(tag))
}
