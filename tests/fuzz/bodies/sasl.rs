//! SASL: no message makes it panic, base64 has one spelling, and what we would say ourselves is understood.

use std::num::NonZeroU32;

use homing::model::{Credentials, Mechanism, Proof, ScramKeys};
use homing::protocol::sasl::{self, Bindings, ScramGift, Step, Terms};

use super::choice;

/// Lines are messages of one exchange, in base64 and in clear.
pub fn run(data: &[u8]) {
    let (choice, data) = choice(data);
    if let Ok(message) = sasl::decode(data) {
        assert_eq!(sasl::encode(&message).as_bytes(), data, "two spellings of one message");
    }
    assert_eq!(sasl::decode(sasl::encode(data).as_bytes()).expect("our own base64").as_slice(), data);

    let terms = Terms {
        mechanisms: Mechanism::SASL.to_vec(),
        bindings: Bindings { exporter: Some(b"binding".to_vec()), end_point: None },
        certificate: Some("ann@example.org".to_owned()),
    };
    let mechanism = Mechanism::SASL[usize::from(choice) % Mechanism::SASL.len()];
    let mut step = sasl::open(mechanism.name().as_bytes(), None).and_then(|opening| opening.begin(&terms));
    for message in data.split(|byte| *byte == b'\n') {
        step = match step {
            Ok(Step::Challenge(text, exchange)) => {
                assert!(text.len() < 128 + data.len());
                exchange.answer(message)
            }
            Ok(Step::Keys(wanted, waiting)) => {
                let keys = ScramKeys::derive(wanted.hash, NonZeroU32::MIN, b"salt", b"password");
                let (_, exchange) = waiting.go_on(ScramGift { keys, nonce: "nonce".to_owned() });
                exchange.answer(message)
            }
            Ok(Step::Shown(..)) => return,
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
    match &given.proof {
        Proof::Password(_) => {}
        Proof::Token(token) => {
            let message = sasl::bearer::response(given.mechanism, &given.user, token).expect("it can be said");
            let terms = Terms { mechanisms: vec![given.mechanism], ..Terms::default() };
            let opening = sasl::open(given.mechanism.name().as_bytes(), Some(Ok(message))).expect("it is known");
            let Ok(Step::Ask(again)) = opening.begin(&terms) else { panic!("our own response is not understood") };
            assert_eq!(again.user, given.user);
            assert!(again.token() == given.token());
            return;
        }
        Proof::Proven | Proof::Failed(_) => return,
    }
    let message = sasl::plain::response(user, master, given.password().expect("it has one")).expect("it can be said");
    let Ok(Step::Ask(again)) =
        sasl::open(b"PLAIN", Some(Ok(message))).and_then(|opening| opening.begin(&Terms::default()))
    else {
        panic!("our own response is not understood")
    };
    assert_eq!((&again.user, &again.authzid), (&given.user, &given.authzid));
    assert!(again.password() == given.password());
}
