//! Words and answers. Real servers are asked in `tests/e2e`.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::wire::{Pid, Row, present};
use super::*;
use crate::config::Config;
use crate::model::Secret;

fn row(user: &str, service: &str, pid: u64) -> Row {
    Row { user: user.into(), service: service.into(), pid: Pid::Number(pid) }
}

#[test]
fn connections_are_counted_by_user_and_service() {
    let rows = vec![row("ann", "imap", 1), row("ann", "imap", 1), row("Ann", "pop3", 2), row("bob", "imap", 3)];
    let all = present(rows);
    let lines: Vec<_> = all.iter().map(|p| (p.user.as_str(), p.service.as_str(), p.connections, p.processes)).collect();
    assert_eq!(lines, [("Ann", "pop3", 1, 1), ("ann", "imap", 2, 1), ("bob", "imap", 1, 1)]);
}

#[test]
fn answers_of_dovecot_2_3_are_understood_in_both_forms() {
    let line = b"we\"ird\timap\t4640\t127.0.0.1\ttab\x01tx\timap\t4644\t127.0.0.1\t";
    assert_eq!(rows(line), Ok(vec![row("we\"ird", "imap", 4640), row("tab\tx", "imap", 4644)]));
    assert_eq!(rows(b""), Ok(Vec::new()));
    let body = br#"[["doveadmResponse",[{"username":"tab\tx","service":"imap","pid":"4644","ip":"127.0.0.1"},
        {"username":"b","service":"pop3","pid":7}],"homing"]]"#;
    let found = rows_of_json(body).unwrap().unwrap();
    assert_eq!(found, [Row { pid: Pid::Text("4644".into()), ..row("tab\tx", "imap", 0) }, row("b", "pop3", 7)]);
    let refusal = rows_of_json(br#"[["error",{"type":"unknownMethod", "exitCode":0},"homing"]]"#);
    assert_eq!(refusal, Ok(Err("unknownMethod".to_owned())));
}

#[test]
fn other_answers_are_no_empty_ones() {
    for line in [&b"x"[..], b"ann\timap\t1\t", b"ann\t2\timap\t(1 2)\t", b"\t", b"a\tb\tc\td\te\t"] {
        assert!(rows(line).is_err(), "{}", line.escape_ascii());
    }
    // What 2.3 answers to a question for more than one connection in a line.
    let broken = br#"[["doveadmResponse",[{"username":"a","service":"imap"}],{"username":"b","service":"imap"},"t"]]"#;
    for body in [&broken[..], b"", b"[]", b"[[]]", b"{}", br#"[["doveadmResponse",{},"t"]]"#, br#"[["other",[],"t"]]"#]
    {
        assert!(rows_of_json(body).is_err(), "{}", body.escape_ascii());
    }
}

/// Asks a server that the test plays, which says these lines, one after each line that it hears.
async fn ask(said: &'static [&'static [u8]]) -> (Result<Vec<Presence>, DoveadmFault>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let doveadm = doveadm(&format!("tcp://{}", listener.local_addr().unwrap()));
    let server = async {
        let mut peer = BufReader::new(listener.accept().await.unwrap().0);
        let mut heard = Vec::new();
        for words in said {
            let mut line = String::new();
            peer.read_line(&mut line).await.unwrap();
            heard.push(line);
            if peer.write_all(words).await.is_err() {
                break;
            }
        }
        let _ = peer.get_mut().shutdown().await;
        let _ = peer.read_to_end(&mut Vec::new()).await;
        heard
    };
    tokio::join!(doveadm.who(), server)
}

fn doveadm(url: &str) -> Doveadm {
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\nplaintext_login = true\n[backend.a]\nhost = \"a\"\ndoveadm = \"{url}\"\ndoveadm_password = \"pass word\"\ndoveadm_timeout = \"2s\"\n"
    );
    let config = Config::parse(&text, "test.toml").unwrap();
    Doveadm::new(config.backends.values().next().unwrap().doveadm.as_ref().unwrap()).unwrap()
}

#[tokio::test]
async fn a_server_that_asks_for_no_password_is_shown_none() {
    let (answer, heard) = ask(&[b"VERSION\tdoveadm-client\t1\t2\n+\n", b"\n+\n"]).await;
    assert_eq!(answer.unwrap(), []);
    assert_eq!(heard, ["VERSION\tdoveadm-server\t1\t0\n", "\t\twho\t-1\n"]);
}

#[tokio::test]
async fn what_is_not_doveadm_gets_no_password() {
    let (answer, heard) = ask(&[b"* OK IMAP4rev1\r\n"]).await;
    assert!(matches!(answer, Err(DoveadmFault::Garbled { .. })), "{answer:?}");
    assert_eq!(heard.len(), 1);
}

#[tokio::test]
async fn a_server_that_fails_in_the_middle_is_believed_nothing() {
    let cut = ask(&[b"+\n", b"ann\timap\t1\t127.0.0.1\t\n"]).await.0;
    assert!(matches!(cut, Err(DoveadmFault::Lost { .. })), "{cut:?}");
    let refused = ask(&[b"+\n", b"\n-NOPERM\n"]).await.0.unwrap_err().to_string();
    assert!(refused.ends_with("refuses to answer: NOPERM"), "{refused}");
    let garbled = ask(&[b"+\n", b"\n*\n"]).await.0;
    assert!(matches!(garbled, Err(DoveadmFault::Garbled { .. })), "{garbled:?}");
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let mut stream = tokio::io::join(tokio::io::repeat(b'x').chain(&b""[..]), tokio::io::sink());
    let fault = tcp::ask(&mut stream, &Secret::new(b"p".to_vec()), wire::TCP_QUESTION, 100).await;
    assert!(matches!(fault, Err(tcp::Fault::Garbled(Garbled("the answer is too long")))));
    let endless = tokio::io::repeat(b'x');
    let mut stream = tokio::io::join((&b"+\n"[..]).chain(endless), tokio::io::sink());
    let fault = tcp::ask(&mut stream, &Secret::new(b"p".to_vec()), wire::TCP_QUESTION, 100_000).await;
    assert!(matches!(fault, Err(tcp::Fault::Garbled(Garbled("the answer is too long")))));
}

#[tokio::test]
async fn a_silent_server_is_given_up_in_time_whatever_it_should_speak() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for scheme in ["tcp", "http", "tls", "https"] {
        let fault = doveadm(&format!("{scheme}://{}", listener.local_addr().unwrap())).who().await.unwrap_err();
        assert!(fault.to_string().ends_with("does not answer within 2s"), "{fault}");
        assert!(fault.is_temporary());
    }
}

#[tokio::test]
async fn until_gone_asks_again_after_an_outage_and_reports_at_the_deadline_who_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let doveadm = Arc::new(doveadm(&format!("tcp://{}", listener.local_addr().unwrap())));
    let asking = |limit| {
        let doveadm = doveadm.clone();
        tokio::spawn(async move { doveadm.until_gone(|user| user == "ann", Instant::now() + limit).await })
    };
    let gone = asking(Duration::from_secs(60));
    drop(listener.accept().await.unwrap()); // breaks off
    answer(&listener, b"ann\timap\t1\t127.0.0.1\t\n+\n").await;
    answer(&listener, b"\n+\n").await;
    assert_eq!(gone.await.unwrap().unwrap(), []);
    let mut stays = asking(Duration::from_secs(4));
    let left = loop {
        tokio::select! {
            () = answer(&listener, b"ann\timap\t1\t127.0.0.1\t\n+\n") => {}
            left = &mut stays => break left.unwrap(),
        }
    };
    assert_eq!(left.unwrap()[0].connections, 1);
}

/// Lets one client in without a password and answers its question, if it still listens.
async fn answer(listener: &TcpListener, words: &[u8]) {
    let mut peer: TcpStream = listener.accept().await.unwrap().0;
    let _ = peer.write_all(b"+\n").await;
    let mut lines = BufReader::new(&mut peer).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.contains("who") {
            break;
        }
    }
    let _ = peer.write_all(words).await;
}
