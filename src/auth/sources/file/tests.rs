//! passwd-files on disk, read, changed and broken.

use std::fs;

use super::*;
use crate::auth::Denial;
use crate::auth::fault::Fault;
use crate::auth::hasher::Hasher;
use crate::auth::tests::{credentials, question};
use crate::auth::verifier::Verifier;
use crate::model::SessionId;

/// A file and the source that reads it, which looks after it at every question.
struct Rig {
    dir: tempfile::TempDir,
    source: FileSource,
    verifier: Verifier,
}

impl Rig {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        fs::write(&path, text).unwrap();
        let mut source = FileSource::new(&path, Schemes::new("CRYPT", false));
        source.check_interval = Duration::ZERO;
        Self { dir, source, verifier: Verifier::new(Hasher::new(2)) }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("users")
    }

    async fn ask(&self, user: &str, password: &str) -> Verdict {
        self.judge(&question(&credentials(user, password), &SessionId::random())).await
    }

    async fn judge(&self, question: &Question<'_>) -> Verdict {
        self.verifier.judge(self.source.ask(question).await, question, || self.source.decoy()).await
    }

    async fn lets_in(&self, user: &str, password: &str) -> bool {
        matches!(self.ask(user, password).await, Verdict::Granted(_))
    }
}

fn is_wrong_password(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Denied(Denial::Password))
}

#[tokio::test]
async fn users_are_found_by_their_lower_cased_name() {
    let rig =
        Rig::new("# comment\n\nann:{PLAIN}a:x:y\nbob@example.org:{PLAIN}b::::::\r\n :\n:{PLAIN}nobody\ncat:{PLAIN}c");
    let Verdict::Granted(grant) = rig.ask("ANN", "a").await else { panic!("ann") };
    assert_eq!((grant.user.as_str(), grant.unproven), ("ann", false));
    assert!(rig.lets_in("Bob@Example.Org", "b").await);
    assert!(rig.lets_in("cat", "c").await);
    assert!(is_wrong_password(&rig.ask("ann", "b").await));
    assert!(is_wrong_password(&rig.ask("ann", "").await));
    for unknown in ["an", "annn", "bob", "# comment", "x"] {
        assert!(matches!(rig.ask(unknown, "a").await, Verdict::Unknown), "{unknown}");
    }
}

#[tokio::test]
async fn fields_behind_the_seventh_colon_may_have_colons() {
    let rig =
        Rig::new("ann:{PLAIN}a:1000:1000:Ann:/home/ann:/bin/sh:host=2001:db8::1 pool=ssd\nbob:{PLAIN}b::::::host=x\n");
    let Verdict::Granted(grant) = rig.ask("ann", "a").await else { panic!("ann") };
    assert_eq!(grant.fields.host.as_deref(), Some("2001:db8::1"));
    assert_eq!(grant.fields.pool.unwrap().as_str(), "ssd");
    let Verdict::Granted(grant) = rig.ask("bob", "b").await else { panic!("bob") };
    assert_eq!(grant.fields.host.as_deref(), Some("x"));
}

#[tokio::test]
async fn slow_hashes_are_verified() {
    let rig = Rig::new(
        "ann:$6$a./b$.tth8GtN/eCuj01z.nAYmKZoRIXaDFy2UdmlMIZxlEGCti6tvehSJwfwkAsdC9Y1EY3SCWDdD8WnC1xusztBZ1\n\
         bob:{BLF-CRYPT}$2y$05$KawqTLLP/EbCRp5YPYHvSewiLIY0Is6msfQc/LLt7rrP7rzUsaLgG\n",
    );
    for user in ["ann", "bob"] {
        assert!(rig.lets_in(user, "pässword 1").await);
        assert!(is_wrong_password(&rig.ask(user, "pässword").await));
    }
}

#[tokio::test]
async fn only_who_knows_the_password_learns_that_login_is_forbidden() {
    let rig = Rig::new("ann:{PLAIN}a::::::nologin\n");
    assert!(matches!(rig.ask("ann", "a").await, Verdict::Denied(Denial::Forbidden)));
    assert!(is_wrong_password(&rig.ask("ann", "b").await));
}

#[tokio::test]
async fn nopassword_leaves_the_check_to_the_backend_and_needs_an_empty_password() {
    let rig = Rig::new("ann:::::::nopassword\nbob:{PLAIN}b::::::nopassword\ncat:!::::::nopassword\ndan::::::\n");
    let Verdict::Granted(grant) = rig.ask("ann", "anything").await else { panic!("ann") };
    assert!(grant.unproven);
    for user in ["bob", "cat"] {
        assert!(matches!(rig.ask(user, "b").await, Verdict::Faulty(_)), "{user}");
    }
    assert!(is_wrong_password(&rig.ask("dan", "").await));
}

#[tokio::test]
async fn a_faulty_line_stops_only_its_own_user_and_is_named() {
    let rig = Rig::new("ann:{PLAIN}a\nbob\ncat:{MD5}c\ndan:{PLAIN}d::::::port=x\neve:{PLAIN}e\n");
    assert!(rig.lets_in("ann", "a").await && rig.lets_in("eve", "e").await);
    for (user, line) in [("bob", 2), ("cat", 3), ("dan", 4)] {
        let Verdict::Faulty(why) = rig.ask(user, "x").await else { panic!("{user}") };
        assert!(why.contains(&format!("users:{line}: ")), "{why}");
    }
}

#[tokio::test]
async fn a_changed_file_is_read_again() {
    let rig = Rig::new("ann:{PLAIN}a\n");
    assert!(rig.lets_in("ann", "a").await);
    fs::write(rig.path(), "ann:{PLAIN}b\n").unwrap();
    assert!(rig.lets_in("ann", "b").await && !rig.lets_in("ann", "a").await, "written in place");
    fs::write(rig.dir.path().join("new"), "ann:{PLAIN}c\n").unwrap();
    fs::rename(rig.dir.path().join("new"), rig.path()).unwrap();
    assert!(rig.lets_in("ann", "c").await, "replaced by another");
}

#[tokio::test]
async fn what_was_read_stays_in_force_while_the_file_cannot_be_read() {
    let rig = Rig::new("ann:{PLAIN}a\n");
    assert!(rig.lets_in("ann", "a").await);
    fs::remove_file(rig.path()).unwrap();
    assert!(rig.lets_in("ann", "a").await);
    fs::create_dir(rig.path()).unwrap();
    assert!(rig.lets_in("ann", "a").await);
    fs::remove_dir(rig.path()).unwrap();
    fs::write(rig.path(), "bob:{PLAIN}b\n").unwrap();
    assert!(rig.lets_in("bob", "b").await && !rig.lets_in("ann", "a").await);
}

#[tokio::test]
async fn a_file_that_was_never_read_is_unavailable_until_it_is_there() {
    let rig = Rig::new("");
    fs::remove_file(rig.path()).unwrap();
    let Verdict::Unavailable(why) = rig.ask("ann", "a").await else { panic!("no file, no verdict") };
    assert!(why.contains("users"), "{why}");
    fs::write(rig.path(), "ann:{PLAIN}a\n").unwrap();
    assert!(rig.lets_in("ann", "a").await);
}

#[tokio::test]
async fn a_file_is_not_looked_after_more_often_than_once_in_the_interval() {
    let mut rig = Rig::new("ann:{PLAIN}a\n");
    rig.source.check_interval = Duration::from_secs(3600);
    assert!(rig.lets_in("ann", "a").await);
    fs::write(rig.path(), "ann:{PLAIN}b\n").unwrap();
    assert!(rig.lets_in("ann", "a").await);
    rig.source.refresh().await;
    assert!(rig.lets_in("ann", "b").await);
}

#[test]
fn an_unknown_user_costs_as_much_as_most_users_do() {
    let sha = "$6$a./b$.tth8GtN/eCuj01z.nAYmKZoRIXaDFy2UdmlMIZxlEGCti6tvehSJwfwkAsdC9Y1EY3SCWDdD8WnC1xusztBZ1";
    let text = format!("ann:{{PLAIN}}a\nbob:{sha}\ncat:{sha}\n");
    let (table, findings) = Table::build(text.into_bytes(), &Schemes::new("CRYPT", false));
    assert_eq!(findings.users, 3);
    let (_, typical) = table.typical().unwrap();
    let Some(Ok(bob)) = table.find("bob") else { panic!("bob") };
    assert_eq!(typical, bob.cost);
    assert!(Table::build(Vec::new(), &Schemes::new("CRYPT", false)).0.typical().is_none());
}

#[test]
fn doubtful_lines_are_counted_and_the_first_are_named() {
    let text = "ann:{PLAIN}first\nAnn:{PLAIN}x\nann:{PLAIN}second::::::quota=1\nbob:{PLAIN}b::::::quota=1\n".repeat(20);
    let (table, findings) = Table::build(text.into_bytes(), &Schemes::new("CRYPT", false));
    assert_eq!((findings.users, findings.unreachable, findings.first_unreachable), (2, 20, 2));
    assert_eq!((findings.repeated, findings.repeats.len(), findings.repeats[0]), (58, 10, 3));
    assert_eq!(findings.unknown_fields.into_iter().collect::<Vec<_>>(), ["quota"]);
    let Some(Ok(ann)) = table.find("ann") else { panic!("ann") };
    assert!(ann.stored.verify(b"first").unwrap(), "the first line counts");

    let (_, findings) = Table::build(
        (0..30).map(|i| format!("u{i}:x\n")).collect::<String>().into_bytes(),
        &Schemes::new("CRYPT", false),
    );
    assert_eq!((findings.faulty, findings.faults.len(), findings.faults[9]), (30, 10, (10, Fault::UnknownHash)));
}

#[test]
fn a_million_users_take_little_more_than_their_text() {
    use std::fmt::Write;
    let mut text = String::new();
    for i in 0..1_000_000 {
        writeln!(text, "user{i}@example.org:{{PLAIN}}{i}::::::pool=p{}", i % 7).unwrap();
    }
    text.shrink_to_fit();
    let length = text.len();
    let (table, findings) = Table::build(text.into_bytes(), &Schemes::new("CRYPT", false));
    assert_eq!((findings.users, findings.faulty), (1_000_000, 0));
    assert!(table.size() <= length + 17_000_000, "{} bytes for {length} bytes of text", table.size());
    for i in [0, 1, 499_999, 999_999] {
        let Some(Ok(entry)) = table.find(&format!("user{i}@example.org")) else { panic!("user {i}") };
        assert!(entry.stored.verify(i.to_string().as_bytes()).unwrap());
    }
    assert!(table.find("user1000000@example.org").is_none());
}

#[test]
fn no_bytes_crash_the_reader() {
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;
    let pieces = proptest::sample::select(vec![
        &b"ann"[..],
        b":",
        b"::::::",
        b"\n",
        b"\r",
        b"{PLAIN}",
        b"{",
        b"}",
        b"$6$",
        b"$2y$05$",
        b"$argon2id$",
        b"rounds=",
        b"=",
        b" ",
        b"#",
        b"port",
        b"allow_nets=",
        b"proxy_timeout=",
        b"\xff",
        b"\0",
        b"9",
        b"ms",
        b".HEX}",
        b"{SHA256",
        b"\xc3\xa4",
    ]);
    let lines = proptest::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat());
    let mut runner = TestRunner::default();
    let outcome = runner.run(&lines, |text| {
        let (table, _) = Table::build(text, &Schemes::new("CRYPT", false));
        for name in ["ann", "", "port", "ä", "9"] {
            if let Some(Ok(entry)) = table.find(name) {
                let _ = entry.cost;
            }
        }
        Ok(())
    });
    outcome.unwrap();
}
