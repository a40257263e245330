//! SASL: no message makes it panic, base64 has one spelling, and what we would say ourselves is understood.

use homing::model::Credentials;
use homing::protocol::sasl::{self, OFFERED, Step};

use super::choice;

/// Lines are messages of one exchange, in base64 and in clear.
pub fn run(data: &[u8]) {
    let (choice, data) = choice(data);
    if let Ok(message) = sasl::decode(data) {
        assert_eq!(sasl::encode(&message).as_bytes(), data, "two spellings of one message");
    }
    assert_eq!(sasl::decode(sasl::encode(data).as_bytes()).expect("our own base64").as_slice(), data);

    let name = OFFERED[usize::from(choice) % OFFERED.len()];
    let mut step = sasl::start(name.as_bytes(), None);
    for message in data.split(|byte| *byte == b'\n') {
        step = match step {
            Ok(Step::Challenge(text, exchange)) => {
                assert!(text.len() < 32);
                exchange.answer(message)
            }
            Ok(Step::Ask(given)) => return survives(&given),
            Err(_) => return,
        }
    }
}

/// Credentials that were taken can be passed on to a backend, and say the same there.
fn survives(given: &Credentials) {
    let (user, master) = match &given.authzid {
        Some(authzid) => (authzid.as_str(), Some(given.user.as_str())),
        None => (given.user.as_str(), None),
    };
    let message = sasl::plain::response(user, master, given.password().expect("it has one")).expect("it can be said");
    let Ok(Step::Ask(again)) = sasl::start(b"PLAIN", Some(Ok(message))) else {
        panic!("our own response is not understood")
    };
    assert_eq!((&again.user, &again.authzid), (&given.user, &given.authzid));
    assert!(again.password() == given.password());
}
