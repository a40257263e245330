//! Names and seals.

use proptest::prelude::*;

use super::seal::{MIN_SECRET, Purpose, Seals};
use crate::model::Secret;

fn secret(byte: u8) -> Secret {
    Secret::new(vec![byte; MIN_SECRET])
}

fn seals(first: u8, second: Option<u8>) -> Seals {
    Seals::new(&secret(first), second.map(secret).as_ref()).unwrap()
}

#[test]
fn what_is_sealed_opens_under_its_name_with_the_secret_and_nowhere_else() {
    let ours = seals(1, None);
    let ann = ours.name(Purpose::Answer, &[b"ann", b"imap"]);
    let sealed = ours.seal(&ann, b"the answer").unwrap();
    assert_eq!(ours.open(&ann, &sealed).unwrap()[..], b"the answer"[..]);
    let bob = ours.name(Purpose::Answer, &[b"bob", b"imap"]);
    assert!(ours.open(&bob, &sealed).is_none(), "another user's note must not open");
    assert!(seals(2, None).open(&ann, &sealed).is_none(), "nor one of another fleet");
    for at in 0..sealed.len() {
        let mut broken = sealed.clone();
        broken[at] ^= 1;
        assert!(ours.open(&ann, &broken).is_none(), "bit {at}");
        assert!(ours.open(&ann, &sealed[..at]).is_none(), "cut at {at}");
    }
}

#[test]
fn two_seals_of_the_same_differ() {
    let ours = seals(1, None);
    let name = ours.name(Purpose::User, &[b"ann"]);
    assert_ne!(ours.seal(&name, b"same").unwrap(), ours.seal(&name, b"same").unwrap());
}

#[test]
fn while_a_secret_is_replaced_both_open_and_the_new_one_seals() {
    let (old, both, new) = (seals(1, None), seals(2, Some(1)), seals(2, None));
    let about: &[&[u8]] = &[b"ann"];
    let old_name = old.name(Purpose::Answer, about);
    let sealed = old.seal(&old_name, b"old").unwrap();
    let names: Vec<_> = both.names(Purpose::Answer, about).collect();
    assert_eq!(names, [new.name(Purpose::Answer, about), old_name]);
    assert_eq!(both.open(&old_name, &sealed).unwrap()[..], b"old"[..]);
    let sealed = both.seal(&names[0], b"new").unwrap();
    assert_eq!(new.open(&names[0], &sealed).unwrap()[..], b"new"[..]);
    assert!(old.open(&names[0], &sealed).is_none());
}

#[test]
fn a_secret_that_could_be_guessed_is_refused() {
    assert!(Seals::new(&Secret::new(vec![7; MIN_SECRET - 1]), None).is_none());
    assert!(Seals::new(&secret(7), Some(&Secret::new(b"short".to_vec()))).is_none());
}

proptest! {
    #[test]
    fn no_two_things_have_one_name(a: Vec<Vec<u8>>, b: Vec<Vec<u8>>) {
        let ours = seals(1, None);
        let parts = |list: &[Vec<u8>]| ours.name(Purpose::User, &list.iter().map(Vec::as_slice).collect::<Vec<_>>());
        prop_assert_eq!(a == b, parts(&a) == parts(&b));
        prop_assert_ne!(ours.name(Purpose::User, &[b"x"]), ours.name(Purpose::Address, &[b"x"]));
    }

    #[test]
    fn garbage_does_not_open(garbage: Vec<u8>) {
        let ours = seals(1, Some(2));
        prop_assert!(ours.open(&ours.name(Purpose::User, &[b"x"]), &garbage).is_none());
    }
}
