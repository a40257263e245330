//! What mail servers answer to doveadm's questions: no panic, and every name comes back as it was sent.

use homing::doveadm::{rows, rows_of_json, unescape};

use super::choice;

/// Takes the bytes for both kinds of answer, and for a user's name.
pub fn run(data: &[u8]) {
    let (_, data) = choice(data); // there is nothing to choose
    if let Ok(found) = rows(data) {
        let tabs = data.iter().filter(|byte| **byte == b'\t').count();
        assert_eq!(found.len() * 4, tabs, "a row is four fields");
    }
    if let Ok(Ok(found)) = rows_of_json(data) {
        assert!(found.len() <= data.len() / 10, "a row is some bytes at least");
    }
    assert_eq!(unescape(&escape(data)), data);
    let name = String::from_utf8_lossy(data);
    let line = [&escape(name.as_bytes())[..], b"\timap\t1\t::1\t"].concat();
    assert_eq!(rows(&line).map(|rows| rows[0].user.clone()), Ok(name.to_string()));
    let body = serde_json::json!([["doveadmResponse", [{ "username": name, "service": "imap", "pid": "1" }], "t"]]);
    assert_eq!(
        rows_of_json(body.to_string().as_bytes()).map(|rows| rows.map(|rows| rows[0].user.clone())),
        Ok(Ok(name.to_string()))
    );
}

/// As Dovecot writes a field, which may hold neither tab nor end of line.
fn escape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            0 => out.extend(b"\x010"),
            1 => out.extend(b"\x011"),
            b'\t' => out.extend(b"\x01t"),
            b'\r' => out.extend(b"\x01r"),
            b'\n' => out.extend(b"\x01n"),
            other => out.push(*other),
        }
    }
    out
}
