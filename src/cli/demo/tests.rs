//! Dialogues with the built-in mail server, as a client sees them, and what the tour's own arithmetic relies on.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::mailbox::{Live, MailStore, Server, samples};
use super::report::{Act, Report};
use super::tour::at_two_backends;

/// Two messages of known size for "alice".
fn mail() -> Arc<MailStore> {
    MailStore::new(&["alice".to_owned()], "demo", |_| {
        vec![
            b"Subject: One\r\nFrom: \"A, B\" <a@b.example>, c@d.example\r\n\r\nfirst\r\n".to_vec(),
            b"Subject: Two\r\n folded\r\n\r\nsecond\r\n".to_vec(),
        ]
    })
}

struct Peer {
    stream: TcpStream,
    seen: Vec<u8>,
}

impl Peer {
    async fn connect(server: &Server) -> Self {
        let mut peer = Self { stream: TcpStream::connect(server.address()).await.unwrap(), seen: Vec::new() };
        peer.until("ready.").await;
        peer
    }

    async fn logged_in(server: &Server) -> Self {
        let mut peer = Self::connect(server).await;
        peer.ask("l LOGIN alice demo").await;
        peer
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Reads up to the end of the line in which `mark` stands, and returns all of it.
    async fn until(&mut self, mark: &str) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.seen).into_owned();
            if let Some(at) = text.find(mark)
                && let Some(end) = text[at..].find('\n')
            {
                let end = at + end + 1;
                self.seen.drain(..end);
                return text[..end].to_owned();
            }
            let read = self.stream.read_buf(&mut self.seen);
            let count =
                tokio::time::timeout(std::time::Duration::from_secs(60), read).await.expect("no answer").unwrap();
            assert!(count > 0, "closed before {mark:?}; so far {text:?}");
        }
    }

    /// Sends a command line and returns everything up to its tagged answer.
    async fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes()).await;
        let tag = command.split(' ').next().unwrap();
        let mut all = String::new();
        loop {
            let line = self.until("\n").await;
            all += &line;
            if line.starts_with(&format!("{tag} ")) {
                return all;
            }
        }
    }

    async fn end(mut self) -> String {
        let mut rest = self.seen;
        let read = self.stream.read_to_end(&mut rest);
        tokio::time::timeout(std::time::Duration::from_secs(60), read).await.expect("not closed").unwrap();
        String::from_utf8(rest).unwrap()
    }
}

async fn server() -> Server {
    Server::start("mail2", mail()).await.unwrap()
}

#[tokio::test]
async fn the_greeting_login_id_and_noop_say_which_backend_this_is() {
    let server = server().await;
    let mut peer = Peer::connect(&server).await;
    assert!(peer.ask("a LOGIN alice demo").await.contains("logged in at mail2."));
    assert!(peer.ask("b ID NIL").await.contains("\"backend\" \"mail2\""));
    assert!(peer.ask("c NOOP").await.ends_with("c OK This is mail2.\r\n"));
}

#[tokio::test]
async fn the_first_id_announces_the_client_and_later_ones_cannot_change_it() {
    let server = server().await;
    let mut peer = Peer::connect(&server).await;
    peer.ask("a ID (\"x-session-id\" \"s1\" \"x-originating-ip\" \"192.0.2.7\")").await;
    peer.ask("b ID (\"x-session-id\" \"s2\" \"x-originating-ip\" \"192.0.2.8\")").await;
    peer.ask("c LOGIN alice demo").await;
    let live = Live { user: "alice".into(), client: "192.0.2.7".into(), session: "s1".into() };
    assert_eq!(server.live(), [live]);
    assert!(peer.ask("d LOGOUT").await.contains("* BYE"));
    peer.end().await;
    assert_eq!(server.live(), []);
}

#[tokio::test]
async fn every_way_to_send_a_password_works_and_a_wrong_one_is_refused() {
    let server = server().await;
    for login in [
        "a LOGIN ALICE \"demo\"\r\n",
        "a LOGIN {5+}\r\nalice {4+}\r\ndemo\r\n",
        "a AUTHENTICATE PLAIN AGFsaWNlAGRlbW8=\r\n",
        "a AUTHENTICATE PLAIN\r\nAGFsaWNlAGRlbW8=\r\n",
    ] {
        let mut peer = Peer::connect(&server).await;
        peer.send(login.as_bytes()).await;
        assert!(peer.until("a ").await.contains("a OK"), "{login}");
    }
    let mut peer = Peer::connect(&server).await;
    for wrong in ["a LOGIN alice other", "a LOGIN nobody demo", "a AUTHENTICATE PLAIN AGFsaWNlAGRlbW9v"] {
        assert!(peer.ask(wrong).await.contains("a NO [AUTHENTICATIONFAILED]"), "{wrong}");
    }
    assert!(peer.ask("a SELECT INBOX").await.contains("a BAD"));
}

#[tokio::test]
async fn a_synchronising_literal_is_asked_for() {
    let server = server().await;
    let mut peer = Peer::connect(&server).await;
    peer.send(b"a LOGIN {5}\r\n").await;
    peer.until("+ ").await;
    peer.send(b"alice {4}\r\n").await;
    peer.until("+ ").await;
    peer.send(b"demo\r\n").await;
    peer.until("a OK").await;
}

#[tokio::test]
async fn fetch_returns_what_was_asked_for_and_marks_as_seen_unless_it_peeks() {
    let server = server().await;
    let mut peer = Peer::logged_in(&server).await;
    let selected = peer.ask("a SELECT inbox").await;
    assert!(selected.contains("* 2 EXISTS") && selected.contains("[READ-WRITE]"), "{selected}");
    let peeked = peer.ask("b FETCH 2 (FLAGS UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (Subject)])").await;
    let expected = "* 2 FETCH (FLAGS () UID 2 RFC822.SIZE 33 BODY[HEADER.FIELDS (SUBJECT)] {25}\r\n\
                    Subject: Two\r\n folded\r\n\r\n)\r\nb OK Done.\r\n";
    assert_eq!(peeked, expected);
    let read = peer.ask("c UID FETCH 1:* BODY[TEXT]<1.3>").await;
    let expected = "* 1 FETCH (UID 1 BODY[TEXT]<1> {3}\r\nirs)\r\n* 1 FETCH (FLAGS (\\Seen))\r\n\
                    * 2 FETCH (UID 2 BODY[TEXT]<1> {3}\r\neco)\r\n* 2 FETCH (FLAGS (\\Seen))\r\nc OK Done.\r\n";
    assert_eq!(read, expected);
    let envelope = peer.ask("d FETCH 1 ENVELOPE").await;
    let from = "((\"A, B\" NIL \"a\" \"b.example\")(NIL NIL \"c\" \"d.example\"))";
    assert_eq!(
        envelope,
        format!("* 1 FETCH (ENVELOPE (NIL \"One\" {from} {from} {from} NIL NIL NIL NIL NIL))\r\nd OK Done.\r\n")
    );
    let structure = peer.ask("e FETCH 2 BODYSTRUCTURE").await;
    assert!(structure.contains("(\"text\" \"plain\" (\"charset\" \"utf-8\") NIL NIL \"7bit\" 8 1 NIL"), "{structure}");
}

#[tokio::test]
async fn a_message_appended_at_one_backend_wakes_an_idle_session_at_another() {
    let mail = mail();
    let (here, there) =
        (Server::start("mail1", mail.clone()).await.unwrap(), Server::start("mail2", mail).await.unwrap());
    let mut waiting = Peer::logged_in(&there).await;
    waiting.ask("a SELECT INBOX").await;
    waiting.send(b"b IDLE\r\n").await;
    waiting.until("+ idling").await;
    let mut writer = Peer::logged_in(&here).await;
    writer.send(b"c APPEND INBOX (\\Flagged) \"17-Jul-1996 02:44:25 -0700\" {6+}\r\nA: b\r\n\r\n").await;
    assert!(writer.until("c ").await.contains("c OK [APPENDUID 1 3]"));
    waiting.until("* 3 EXISTS").await;
    waiting.send(b"DONE\r\n").await;
    waiting.until("b OK").await;
    let fetched = waiting.ask("d FETCH 3 (FLAGS INTERNALDATE)").await;
    assert!(fetched.contains("(FLAGS (\\Flagged) INTERNALDATE \"17-Jul-1996 09:44:25 +0000\")"), "{fetched}");
}

#[tokio::test]
async fn stored_flags_are_found_by_search_and_expunge_renumbers() {
    let server = server().await;
    let mut peer = Peer::logged_in(&server).await;
    peer.ask("a SELECT INBOX").await;
    assert!(peer.ask("b STORE 1 +FLAGS (\\deleted Work)").await.contains("* 1 FETCH (FLAGS (Work \\Deleted))"));
    assert!(!peer.ask("c UID STORE 2 +FLAGS.SILENT \\Answered").await.contains("FETCH"));
    for (search, found) in [
        ("ALL", "* SEARCH 1 2\r\n"),
        ("DELETED", "* SEARCH 1\r\n"),
        ("NOT KEYWORD work", "* SEARCH 2\r\n"),
        ("UNDELETED ANSWERED", "* SEARCH 2\r\n"),
        ("SUBJECT \"two f\"", "* SEARCH 2\r\n"),
        ("CHARSET UTF-8 BODY first", "* SEARCH 1\r\n"),
        ("UID 2:* HEADER From x", "* SEARCH\r\n"),
    ] {
        assert!(peer.ask(&format!("d SEARCH {search}")).await.starts_with(found), "{search}");
    }
    assert!(peer.ask("e EXPUNGE").await.starts_with("* 1 EXPUNGE\r\n"));
    assert!(peer.ask("f UID SEARCH 1").await.starts_with("* SEARCH 2\r\n"));
    assert!(
        peer.ask("g STATUS INBOX (MESSAGES UIDNEXT UNSEEN)")
            .await
            .starts_with("* STATUS INBOX (MESSAGES 1 UIDNEXT 3 UNSEEN 1)\r\n")
    );
}

#[tokio::test]
async fn a_mailbox_opened_by_examine_is_not_changed() {
    let server = server().await;
    let mut peer = Peer::logged_in(&server).await;
    assert!(peer.ask("a EXAMINE INBOX").await.contains("[READ-ONLY]"));
    assert!(!peer.ask("b FETCH 1 BODY[]").await.contains("\\Seen"));
    assert!(peer.ask("c STORE 1 +FLAGS (\\Deleted)").await.contains("c NO"));
    peer.ask("d CLOSE").await;
    assert!(peer.ask("e STATUS INBOX (MESSAGES)").await.contains("MESSAGES 2"));
}

#[tokio::test]
async fn list_patterns_find_the_inbox() {
    let server = server().await;
    let mut peer = Peer::logged_in(&server).await;
    for (pattern, found) in
        [("*", true), ("%", true), ("inbox", true), ("IN*x", true), ("INBOX/%", false), ("Sent", false)]
    {
        assert_eq!(peer.ask(&format!("a LIST \"\" \"{pattern}\"")).await.contains("INBOX\r\n"), found, "{pattern}");
    }
}

#[tokio::test]
async fn what_is_too_long_or_makes_no_sense_ends_the_connection() {
    let server = server().await;
    let mut endless = Peer::connect(&server).await;
    endless.send(&[b'a'; 16 * 1024]).await;
    assert!(endless.end().await.contains("* BYE That was too long."));
    let mut greedy = Peer::connect(&server).await;
    greedy.send(b"a APPEND INBOX {999999999+}\r\n").await;
    assert!(greedy.end().await.contains("* BYE That was too long."));
    let mut babbler = Peer::connect(&server).await;
    babbler.send("nonsense\r\n".repeat(20).as_bytes()).await;
    assert!(babbler.end().await.contains("* BYE Too many commands"));
}

#[test]
fn a_report_is_kept_only_if_something_was_promised_and_nothing_broken() {
    let act = |kept| Act { what: "something", promised: "a".into(), seen: "b".into(), kept };
    let mut report = Report::default();
    assert!(!report.kept());
    report.add(act(true));
    assert!(report.kept());
    report.add(act(false));
    assert!(!report.kept());
    assert!(report.to_string().contains("A promise was broken."));
}

#[test]
fn every_sample_is_a_whole_message_with_network_line_ends() {
    for message in samples("alice") {
        let text = String::from_utf8(message).unwrap();
        assert!(text.contains("\r\n\r\n") && text.ends_with("\r\n"));
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
    }
}

#[test]
fn a_user_with_sessions_at_two_backends_is_found_and_two_at_one_are_not() {
    let users = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(at_two_backends(&[users(&["a", "a", "b"]), users(&["c"]), users(&[])]), 0);
    assert_eq!(at_two_backends(&[users(&["a", "b"]), users(&["c", "a"]), users(&["a", "c"])]), 2);
}
