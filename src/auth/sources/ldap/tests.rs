//! Names that try to be more than names.

use proptest::prelude::*;

use super::*;

/// Names made of what has a meaning in filters and in names of entries.
fn names() -> impl Strategy<Value = String> {
    let pieces = proptest::sample::select(vec![
        "a", "(", ")", "*", "\\", "\\2a", "|", "&", "!", "=", ",", "+", ";", "<", ">", "#", " ", "\"", "/", "ä", "%u",
        "0",
    ]);
    proptest::collection::vec(pieces, 1..12).prop_map(|pieces| pieces.concat())
}

/// What an escaped text stands for: `\xx` is a byte, `\c` the character.
fn unescaped(text: &str) -> Option<String> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'\\' {
            out.push(*first);
        } else if let Some(byte) =
            behind.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok())
        {
            out.push(byte);
            rest = &behind[2..];
        } else {
            out.push(*behind.first()?);
            rest = &behind[1..];
        }
    }
    String::from_utf8(out).ok()
}

fn template(text: &str) -> Template {
    use crate::config::{Config, PassdbConfig};
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\nplaintext_login = true\n[backend.a]\nhost = \"h\"\n\
         [[passdb]]\nkind = \"ldap\"\nuri = [\"ldap://h\"]\nbase = \"dc=x\"\nfilter = \"{text}\"\n"
    );
    let config = Config::parse(&text, "t").unwrap();
    let PassdbConfig::Ldap(ldap) = &config.passdb[0] else { panic!("ldap") };
    ldap.keys.filter.clone()
}

proptest! {
    #[test]
    fn no_name_says_anything_in_a_filter_but_itself(user in names()) {
        let filter = search_filter(&template("(uid=%u)"), &user);
        let value = filter.strip_prefix("(uid=").unwrap().strip_suffix(')').unwrap();
        prop_assert!(!value.contains(['(', ')', '*', '\0']), "{filter}");
        prop_assert_eq!(unescaped(value), Some(user));
    }

    #[test]
    fn no_name_says_anything_in_the_name_of_an_entry_but_itself(user in names()) {
        let dn = entry_name(&template("uid=%u,dc=x"), &user);
        let value = dn.strip_prefix("uid=").unwrap().strip_suffix(",dc=x").unwrap();
        let mut escaped = false;
        for c in value.chars() {
            prop_assert!(escaped || !matches!(c, ',' | '+' | '"' | ';' | '<' | '>'), "{}", dn);
            escaped = c == '\\' && !escaped;
        }
        prop_assert_eq!(unescaped(value), Some(user));
    }
}

#[test]
fn a_template_takes_the_parts_of_a_name() {
    let filled = |user: &'static str| search_filter(&template("(a=%n)(b=%d)(c=%u)(d=%%u)"), user);
    assert_eq!(filled("ann@x.org"), "(a=ann)(b=x.org)(c=ann@x.org)(d=%u)");
    assert_eq!(filled("%n@%d"), r"(a=\25n)(b=\25d)(c=\25n@\25d)(d=%u)");
    assert_eq!(filled("ann"), "(a=ann)(b=)(c=ann)(d=%u)");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_not_known_waits_as_long_as_the_directory_takes_to_refuse_a_password() {
    use std::time::Duration;
    let pace = Pace::default();
    let timed = async || {
        let begun = tokio::time::Instant::now();
        pace.keep().await;
        begun.elapsed().as_millis()
    };
    assert_eq!(timed().await, 0, "nothing is known yet");
    for millis in (0..10).chain(100..132) {
        pace.note(Duration::from_millis(millis)); // the last 32 count
    }
    let mut waited = Vec::new();
    for _ in 0..32 {
        waited.push(timed().await);
    }
    assert!(waited.iter().all(|millis| (100..=133).contains(millis)), "{waited:?}");
    waited.sort_unstable();
    waited.dedup();
    assert!(waited.len() > 20, "they spread: {waited:?}");
}
