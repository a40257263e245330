//! The fuzz targets' bodies with a fixed number of inputs, the same in every run: the transcripts' own words, changed at
//! random. A panic shows its input, which `cargo fuzz` can then minimise.

#![allow(clippy::unwrap_used, clippy::panic)] // so do tests end

mod bodies;
#[path = "../dialogs/escape.rs"]
mod escape;
mod mutate;
mod oracle;

use std::path::Path;

use escape::unescaped;
use mutate::Mutator;

#[test]
fn whatever_clients_say_they_get_bounded_answers_in_our_own_words() {
    run("client_", "C", 50_000, bodies::imap_frontend::run);
}

#[test]
fn whatever_servers_say_is_taken_the_same_however_it_is_cut() {
    run("server_", "S", 50_000, bodies::imap_backend::run);
}

#[test]
fn whatever_is_answered_to_sasl_is_understood_or_refused() {
    run("client_", "C", 20_000, bodies::sasl::run);
}

#[test]
fn whatever_mail_servers_say_of_who_is_there_is_understood_or_refused() {
    let answers: [&[u8]; 4] = [
        b"ann\timap\t4640\t127.0.0.1\ttab\x01tx\timap\t4644\t127.0.0.1\t",
        br#"[["doveadmResponse",[{"username":"a\tb","service":"imap","pid":"4644","ip":"::1"}],"homing"]]"#,
        br#"[["doveadmResponse",[{"username":"a","service":"imap"}],{"username":"b","pid":7},"homing"]]"#,
        br#"[["error",{"type":"unknownMethod", "exitCode":0},"homing"]]"#,
    ];
    vary(&answers.map(<[u8]>::to_vec), 50_000, bodies::doveadm::run);
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
    vary(&seeds.map(<[u8]>::to_vec), 30_000, bodies::doveadm_door::run);
}

/// With the transcripts for seeds.
fn run(files: &str, mark: &str, count: usize, body: fn(&[u8])) {
    vary(&seeds(files, mark), count, body);
}

/// Every seed as it is, then `count` changed ones.
fn vary(seeds: &[Vec<u8>], count: usize, body: fn(&[u8])) {
    let mut mutator = Mutator::new(0x686f_6d69_6e67, seeds);
    for seed in seeds {
        for choice in 0..=u8::MAX {
            show_if_panicking(&[&[choice], seed.as_slice()].concat(), body);
        }
    }
    for _ in 0..count {
        show_if_panicking(&mutator.next(), body);
    }
}

fn show_if_panicking(data: &[u8], body: fn(&[u8])) {
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
fn seeds(files: &str, mark: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs/imap");
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(files)));
    let texts = paths.iter().map(|path| std::fs::read_to_string(path).unwrap());
    let seeds: Vec<_> =
        texts.flat_map(|text| text.split("\n== ").map(|text| said(text, mark)).collect::<Vec<_>>()).collect();
    assert!(seeds.len() > 20, "the transcripts are gone");
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
