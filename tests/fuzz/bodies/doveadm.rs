//! What mail servers answer to doveadm's questions: no panic, and every name comes back as it was sent.

use homing::doveadm::{escape, rows, rows_of_json, unescape};

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
