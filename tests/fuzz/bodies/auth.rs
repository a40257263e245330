//! What a Dovecot's auth service says: no panic, and every field comes back as it was sent.

use homing::auth::sources::{Line, read_auth_line};
use homing::protocol::doveadm::escape;

use super::choice;

/// Takes the bytes for a line, and for a field of an answer.
pub fn run(data: &[u8]) {
    let (number, data) = choice(data);
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(Line::Answer(answer)) = read_auth_line(line) {
            let tabs = line.iter().filter(|byte| **byte == b'\t').count();
            assert_eq!(answer.fields.len() + 1, tabs, "a field for each tab behind the number");
            let length: usize = answer.fields.iter().map(|field| field.whole().len()).sum();
            assert!(length <= line.len(), "what is read is no longer than what was sent");
            for field in &answer.fields {
                let (name, value) = field.pair();
                assert!(!name.contains(&b'='));
                assert!(name.len() + value.len() <= field.whole().len());
            }
        }
    }
    let line = [format!("OK\t{number}\tuser=").as_bytes(), &escape(data)].concat();
    let Ok(Line::Answer(answer)) = read_auth_line(&line) else { panic!("not taken for an answer") };
    assert_eq!((answer.id, answer.value("user")), (u32::from(number), Some(data)));
}
