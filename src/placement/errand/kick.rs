//! An errand: close sessions of this proxy.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{LOOK, LOOK_SLOW, Report, Whom};
use crate::fleet::{Fleet, Shard};
use crate::ledger::{Live, Place};
use crate::model::{Ending, Key};

/// How long a proxy waits for kicked sessions to be gone before it reports how many are left.
const CLOSING: Duration = Duration::from_secs(15);

/// Closes the sessions that are meant, and waits until they are gone.
pub(super) async fn kick(fleet: &Fleet, whom: &Whom) -> Report {
    // People write names as they please; keys are lower-cased, or are meant as they are.
    let pattern = if let Whom::Keys(pattern) = whom { pattern.to_lowercase() } else { String::new() };
    let concerned = |key: &Key, place: &Place, client: Option<IpAddr>| match whom {
        Whom::Keys(_) => matches(&pattern, &key.as_str().to_lowercase()),
        Whom::Network(network) => client.is_some_and(|client| network.contains(&client)),
        Whom::Backend(backend) => place.backend.as_str() == backend,
    };
    let close = |shard: &Shard| shard.ledger.close_where(concerned, Ending::Kicked);
    let mut left: Vec<Vec<Live>> = fleet.shards().iter().map(close).collect();
    let told = left.iter().map(Vec::len).sum::<usize>();
    let (deadline, mut pause) = (Instant::now() + CLOSING, LOOK);
    while left.iter().any(|left| !left.is_empty()) && Instant::now() < deadline {
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_SLOW);
        for (shard, left) in fleet.shards().iter().zip(&mut left) {
            left.retain(|session| shard.ledger.has(session));
        }
    }
    Report::Kicked { told: told as u64, left: left.iter().map(Vec::len).sum::<usize>() as u64 }
}

/// Whether `text` is what the pattern describes: `*` stands for any characters, `?` for one.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut here, mut star) = (0, 0, None);
    while here < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, here));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == text[here] => {
                at += 1;
                here += 1;
            }
            // Let the last star stand for one character more.
            _ => match star {
                Some((behind, from)) => {
                    star = Some((behind, from + 1));
                    (at, here) = (behind + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_what_it_describes() {
        for (pattern, text, expected) in [
            ("*@example.org", "ann@example.org", true),
            ("*@example.org", "ann@example.com", false),
            ("a*n@*.org", "ann@example.org", true),
            ("a?n", "ann", true),
            ("a?n", "an", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("ä?*", "äöü", true),
            ("*a*b*c", "xxaxxbxxbxxc", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
