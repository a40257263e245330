//! The fuzz targets' bodies with a fixed number of inputs, the same in every run: the transcripts' own words, changed at
//! random. A panic shows its input, which `cargo fuzz` can then minimise.

#![allow(clippy::unwrap_used, clippy::panic)] // so do tests end

mod bodies;
#[path = "../dialogs/escape.rs"]
mod escape;
mod mirror;
mod mutate;
mod oracle;

use std::ops::RangeInclusive;
use std::path::Path;

use escape::unescaped;
use homing::model::Protocol;
use mutate::Mutator;

/// Where every bit of the choice is used.
const ALL: RangeInclusive<u8> = 0..=u8::MAX;

/// What has frontends and backends to be told anything.
const SPOKEN: [Protocol; 4] = [Protocol::Imap, Protocol::Pop3, Protocol::Sieve, Protocol::Submission];

#[test]
fn whatever_clients_say_they_get_bounded_answers_in_our_own_words() {
    for protocol in SPOKEN {
        let seeds = seeds(protocol, "client_", "C");
        vary(&seeds, 0..=3, 30_000, |data| bodies::frontend::run(protocol, data));
    }
}

#[test]
fn whatever_servers_say_is_taken_the_same_however_it_is_cut() {
    for protocol in SPOKEN {
        let seeds = seeds(protocol, "server_", "S");
        vary(&seeds, ALL, 30_000, |data| bodies::backend::run(protocol, data));
    }
}

#[test]
fn whatever_is_answered_to_sasl_is_understood_or_refused() {
    vary(&seeds(Protocol::Imap, "client_", "C"), ALL, 20_000, bodies::sasl::run);
}

#[test]
fn whatever_mail_servers_say_of_who_is_there_is_understood_or_refused() {
    let answers: [&[u8]; 4] = [
        b"ann\timap\t4640\t127.0.0.1\ttab\x01tx\timap\t4644\t127.0.0.1\t",
        br#"[["doveadmResponse",[{"username":"a\tb","service":"imap","pid":"4644","ip":"::1"}],"homing"]]"#,
        br#"[["doveadmResponse",[{"username":"a","service":"imap"}],{"username":"b","pid":7},"homing"]]"#,
        br#"[["error",{"type":"unknownMethod", "exitCode":0},"homing"]]"#,
    ];
    vary(&answers.map(<[u8]>::to_vec), ALL, 50_000, bodies::doveadm::run);
}

#[test]
fn whatever_an_auth_service_says_is_understood_or_refused() {
    let said: [&[u8]; 5] = [
        b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t2\nCOOKIE\t0123456789abcdef\nDONE\n",
        b"OK\t1\tuser=ann\tproxy\thost=mail.test\tpass=a\x01tb\x011\tforward_x=1\n",
        b"FAIL\t2\tuser=ann\tcode=temp_fail\ttemp\treason=Try later\nCONT\t3\t\n",
        b"PASS\t4\tuser=ann\thost=10.0.0.1\nNOTFOUND\t5\nFAIL\t6\n",
        b"LIST\t7\tann\nLIST\t7\tbob=x\nDONE\t7\t\nDONE\t7\tfail\n",
    ];
    vary(&said.map(<[u8]>::to_vec), ALL, 50_000, bodies::auth::run);
}

#[test]
fn whatever_brings_mail_has_bounded_answers_and_messages_with_one_end() {
    vary(&seeds(Protocol::Lmtp, "client_", "C"), ALL, 30_000, bodies::lmtp::client);
}

#[test]
fn whatever_clients_of_doveadm_and_their_servers_say_is_understood_or_refused() {
    let seeds: [&[u8]; 7] = [
        b"VERSION\tdoveadm-server\t1\t2\nPLAIN\tAGRvdmVhZG0AeA==\nD\tann\tquota get\t-u\tann\t--\n\t\twho\t-1\n",
        b"VERSION\tdoveadm-server\t1\t3\nSTARTTLS\n",
        b"VERSION\tdoveadm-server\t1\t3\nPLAIN\tAGRvdmVhZG0AeA==\n\t\tOPTION\tlog-passthrough\nx\tproxy-ttl=3\x01tforward=a\tann\tmailbox\tlist\t-A\n",
        b"\0\0\0\0\x06INBOX\tL\0\0\0\x05\x04oh!\n\0\0\0\0\x0a\n-NOUSER\n",
        b"INBOX\t3\t\n-REFERRAL ann@[::1]:24245\n",
        br#"[["quotaGet",{"user":"ann"},"t1"],["mailboxStatus",{"user":"a*","field":["all"],"mailboxMask":["*"]},"t2"]]"#,
        br#"[["error",{"type":"exitCode", "exitCode":67},"t"]]"#,
    ];
    vary(&seeds.map(<[u8]>::to_vec), ALL, 30_000, bodies::doveadm_door::run);
}

#[test]
fn whatever_servers_say_before_they_take_mail_is_taken_the_same_however_it_is_cut() {
    vary(&seeds(Protocol::Lmtp, "server_", "S"), ALL, 20_000, bodies::lmtp::server);
}

/// Every seed as it is with each of the choices, then `count` changed ones.
fn vary(seeds: &[Vec<u8>], choices: RangeInclusive<u8>, count: usize, body: impl Fn(&[u8])) {
    let mut mutator = Mutator::new(0x686f_6d69_6e67, seeds);
    for seed in seeds {
        for choice in choices.clone() {
            show_if_panicking(&[&[choice], seed.as_slice()].concat(), &body);
        }
    }
    for _ in 0..count {
        show_if_panicking(&mutator.next(), &body);
    }
}

fn show_if_panicking(data: &[u8], body: &impl Fn(&[u8])) {
    struct Shown<'a>(&'a [u8]);
    impl Drop for Shown<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("input: \"{}\"", self.0.escape_ascii());
            }
        }
    }
    let _shown = Shown(data);
    body(data);
}

/// What one side says in each dialogue of the transcripts whose name begins so.
fn seeds(protocol: Protocol, files: &str, mark: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs").join(protocol.word());
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(files)));
    let texts = paths.iter().map(|path| std::fs::read_to_string(path).unwrap());
    let seeds: Vec<_> =
        texts.flat_map(|text| text.split("\n== ").map(|text| said(text, mark)).collect::<Vec<_>>()).collect();
    assert!(seeds.len() > 10, "the transcripts are gone");
    seeds
}

fn said(dialogue: &str, mark: &str) -> Vec<u8> {
    let lines = dialogue.lines().filter_map(|line| line.strip_prefix(mark));
    let bytes = lines.filter_map(|line| match line.split_at_checked(1)? {
        (":", text) => Some([unescaped(text.strip_prefix(' ').unwrap_or(text)), b"\r\n".to_vec()].concat()),
        ("|", text) => Some(unescaped(text.strip_prefix(' ').unwrap_or(text))),
        _ => None,
    });
    bytes.flatten().collect()
}
