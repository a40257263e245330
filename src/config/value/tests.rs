//! Values one by one; `tests/config` reads them from whole files.

use proptest::prelude::*;

use super::*;
use crate::config::words::closest;

fn duration(text: &str) -> Result<Duration, Wrong> {
    let mut value = Duration::ZERO;
    value.read(&DeValue::String(text.into()), Path::new("")).map(|()| value)
}

#[test]
fn durations_are_written_in_their_largest_whole_unit() {
    let written = [
        (0, "0s"),
        (1, "1ms"),
        (1500, "1500ms"),
        (15_000, "15s"),
        (90_000, "90s"),
        (900_000, "15min"),
        (5_400_000, "90min"),
        (3_600_000, "1h"),
        (604_800_000, "7d"),
    ];
    for (millis, text) in written {
        assert_eq!(duration_text(Duration::from_millis(millis)), text);
    }
}

proptest! {
    #[test]
    fn a_duration_that_is_written_is_read_as_the_same(nanos in 0..=LONGEST.as_nanos()) {
        // Whole milliseconds, and anything finer.
        for duration_ns in [nanos, nanos / 1_000_000 * 1_000_000] {
            let wanted = Duration::from_nanos_u128(duration_ns);
            prop_assert_eq!(duration(&duration_text(wanted)), Ok(wanted));
        }
    }
}

#[test]
fn limits_are_numbers_or_seconds() {
    assert_eq!(limit("1024"), Some(1024.0));
    assert_eq!(limit("10min"), Some(600.0));
    assert_eq!(limit("many"), None);
}

#[test]
fn only_what_is_close_is_suggested() {
    let words = ["lease", "recovery", "strict"];
    assert_eq!(closest("leaes", words), Some("lease"));
    assert_eq!(closest("RECOVERY", words), Some("recovery"));
    assert_eq!(closest("strcit", words), Some("strict"));
    assert_eq!(closest("backend", words), None);
    assert_eq!(closest("", words), None);
}

#[test]
fn texts_with_quotes_are_written_as_toml() {
    let value = "a \"b\" \\ 'c'".to_owned();
    let line = format!("x = {}", value.shown().map(|shown| shown.text).unwrap_or_default());
    assert_eq!(toml::from_str::<toml::Table>(&line).unwrap()["x"].as_str(), Some(value.as_str()));
}
