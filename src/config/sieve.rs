//! `[sieve]`: what ManageSieve clients are told before they log in.

use std::sync::Arc;

use super::fault::REFUSED;
use super::key::section;
use super::reader::Reader;

section! {
    /// What ManageSieve clients are told of the server before they log in. By default what the backends say and have in
    /// common, as probes and logins find it out.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SieveConfig {
        /// The name of the server's software. Some clients work around the faults of those that they know.
        pub implementation: Option<String> = None, example("\"Dovecot Pigeonhole\"");
        /// The extensions that scripts may use. None: those that all backends have.
        pub extensions: Vec<String> = Vec::new(), example("[\"fileinto\", \"vacation\"]");
        /// The ways in which scripts may notify (RFC 5435). None: those that all backends have.
        pub notify: Vec<String> = Vec::new(), example("[\"mailto\"]");
    }
}

impl SieveConfig {
    /// What backends `offer`, a line `NAME value` for each word, with what is set here instead.
    pub fn over(&self, offer: Arc<[String]>) -> Arc<[String]> {
        let implementation = self.implementation.iter();
        let set = [
            ("IMPLEMENTATION", implementation.collect::<Vec<_>>()),
            ("SIEVE", self.extensions.iter().collect()),
            ("NOTIFY", self.notify.iter().collect()),
        ];
        let set: Vec<_> = set.into_iter().filter(|(_, words)| !words.is_empty()).collect();
        if set.is_empty() {
            return offer;
        }
        let is_set = |line: &str| set.iter().any(|(name, _)| line.split(' ').next() == Some(name));
        let learnt = offer.iter().filter(|line| !is_set(line)).cloned();
        let words = set.iter().flat_map(|(name, words)| words.iter().map(move |word| format!("{name} {word}")));
        learnt.chain(words).collect()
    }
}

/// Notes what is not one word to a client.
pub(super) fn check(config: &SieveConfig, reader: &mut Reader<'_>) {
    let lists = [("sieve.extensions", &config.extensions), ("sieve.notify", &config.notify)];
    for (key, words) in lists {
        let is_word =
            |word: &String| !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\".contains(&b));
        if let Some(word) = words.iter().find(|word| !is_word(word)) {
            reader.fault(key, &format!("has {word:?}, which is no word"), REFUSED, "write each name by itself");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_stands_in_for_what_backends_offer() {
        let lines = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Arc<[String]>>();
        let offer = lines(&["IMPLEMENTATION Pigeonhole", "SIEVE fileinto", "SIEVE date", "VERSION 1.0"]);
        assert_eq!(SieveConfig::default().over(offer.clone()), offer);
        let extensions = SieveConfig { extensions: vec!["reject".into(), "copy".into()], ..SieveConfig::default() };
        let expected = ["IMPLEMENTATION Pigeonhole", "VERSION 1.0", "SIEVE reject", "SIEVE copy"];
        assert_eq!(extensions.over(offer.clone()), lines(&expected));
        let named = SieveConfig { implementation: Some("A B".into()), ..SieveConfig::default() };
        assert_eq!(named.over(lines(&[])), lines(&["IMPLEMENTATION A B"]));
    }
}
