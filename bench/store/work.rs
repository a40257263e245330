//! What is asked of the store: users with names as people have them, and backends of unequal weight.

use std::collections::BTreeMap;

use homing::model::{BackendId, Generation, Key, Pool, Weight};
use homing::store::{Claim, Declared, PAGE, Request, Row};

use crate::proxies::PROXIES;

const FIRST: [&str; 8] = ["anna", "benjamin", "charlotte", "daniel", "elisabeth", "florian", "gabriele", "heinrich"];
const LAST: [&str; 8] = ["bauer", "fischer", "hoffmann", "lindqvist", "mueller", "schneider", "wagner", "zimmermann"];

/// The user of that number: 37 bytes on average.
pub(crate) fn key(number: u32) -> Key {
    let first = FIRST[number as usize % 8];
    let last = LAST[number as usize / 8 % 8];
    Key::new(format!("{first}.{last}{:04}@example-domain.org", number / 64))
}

/// The proxy that holds the sessions of a user.
pub(crate) fn proxy_of(number: u32) -> usize {
    (number % PROXIES) as usize
}

fn backend(number: u32) -> BackendId {
    BackendId::new(format!("mail{:03}", number + 1))
}

/// Weights of 50 to 400. The last one came up at `since`; the others have always been there.
pub(crate) fn table(backends: u32, since: u64) -> BTreeMap<BackendId, Row> {
    let row = |number: u32| Row {
        weight: Weight::new(50 * (1 + number * 7 % 8)).unwrap_or_default(),
        since: if number + 1 == backends { since } else { 0 },
        ..Row::default()
    };
    (0..backends).map(|number| (backend(number), row(number))).collect()
}

/// A claim by a proxy that has so many sessions of the user.
pub(crate) fn claim(number: u32, have: u32) -> Request {
    let key = key(number);
    Request::Claim(Claim { key, have, pool: Pool::default(), pin: None, limit: 0, unproven: false, hint: None })
}

/// Declarations of so many sessions of each of these users, a page at most in each.
pub(crate) fn declares(numbers: &[u32], count: u32, backends: u32) -> Vec<Request> {
    let line = |number: &u32| Declared {
        key: key(*number),
        backend: backend(number / PROXIES % backends),
        generation: Generation(1_700_000_000_000 + u64::from(*number)),
        count,
        unproven: false,
    };
    numbers.chunks(PAGE).map(|page| Request::Declare(page.iter().map(line).collect())).collect()
}
