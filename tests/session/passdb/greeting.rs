//! A Dovecot that the test plays, word by word: the greeting of 2.4, answers out of order, ends of connections.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use homing::auth::Chain;
use homing::config::{AuthConfig, AuthSocket, DovecotPassdb, PassdbConfig, RemoteKeys};
use homing::model::{Protocol, Refusal};

use super::parts::{find, log_in, soon};
use crate::parts::{Peer, Server};

const GREETING: &str =
    "MECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nSPID\t1\nCUID\t2\nCOOKIE\t0123456789abcdef\nDONE\n";

/// A source that asks a server of ours by TCP.
async fn chain(server: &Server, remote: RemoteKeys) -> Chain {
    let file = tempfile::tempdir().unwrap();
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\nplaintext_login = true\n[backend.a]\nhost = \"h\"\n\
         [[passdb]]\nkind = \"dovecot\"\nauth_socket = \"tcp://{0}\"\nlookup_socket = \"tcp://{0}\"\n",
        server.address
    );
    let config = homing::config::Config::parse(&text, &file.path().join("x").display().to_string());
    let config = config.unwrap_or_else(|faults| panic!("{}", faults.report(false)));
    let PassdbConfig::Dovecot(DovecotPassdb { auth_socket: auth_socket @ AuthSocket::Tcp(_), .. }, _) =
        &config.passdb[0]
    else {
        panic!("{:?}", config.passdb);
    };
    let keys = DovecotPassdb { auth_socket: auth_socket.clone(), lookup_socket: None, penalty: false };
    Chain::open(&[PassdbConfig::Dovecot(keys, remote)], &AuthConfig::default(), 1).await
}

/// Greets as 2.4 does: not before the client has.
async fn greet(server: &Server) -> Peer {
    let mut peer = server.accept().await;
    peer.expect("VERSION\t1\t4\n").await;
    let pid = peer.expect_start("CPID\t").await;
    assert!(pid.trim_end()[5..].parse::<u32>().is_ok_and(|pid| pid > 0), "{pid:?}");
    peer.send(format!("VERSION\t1\t4\n{GREETING}")).await;
    peer
}

/// Reads a login: its number, and the name in its message.
async fn login(peer: &mut Peer) -> (u32, String) {
    let line = peer.line().await;
    let fields: Vec<_> = line.trim_end().split('\t').collect();
    assert_eq!((fields[0], fields[2], fields[3]), ("AUTH", "PLAIN", "protocol=imap"), "{line:?}");
    let message = fields.last().unwrap().strip_prefix("resp=").expect("the last field is resp");
    let message = String::from_utf8(STANDARD.decode(message).unwrap()).unwrap();
    let mut parts = message.split('\0').map(str::to_owned);
    (fields[1].parse().unwrap(), parts.nth(1).unwrap())
}

#[tokio::test]
async fn a_server_that_waits_for_our_greeting_is_asked_many_things_at_once_on_one_connection() {
    let server = Server::open().await;
    let chain = chain(&server, RemoteKeys::default()).await;
    let names: Vec<String> = (0..40).map(|number| format!("user{number}")).collect();
    let logins = names.iter().map(|name| log_in(&chain, Protocol::Imap, name, "x"));
    let answers = async {
        let mut peer = greet(&server).await;
        let mut asked = Vec::new();
        for _ in 0..names.len() {
            asked.push(login(&mut peer).await);
        }
        for (id, name) in asked.into_iter().rev() {
            peer.send(format!("OK\t{id}\tuser={name}\tproxy\thost=host-of-{name}\n")).await;
        }
        peer
    };
    let (grants, _peer) = tokio::join!(futures_util::future::join_all(logins), answers);
    for (grant, name) in grants.into_iter().zip(&names) {
        let grant = grant.unwrap();
        assert_eq!((grant.user.as_str(), grant.fields.host), (name.as_str(), Some(format!("host-of-{name}"))));
    }
    server.expect_nobody().await;
}

#[tokio::test]
async fn codes_become_refusals_and_a_lookup_without_a_socket_for_it_fails_clearly() {
    let server = Server::open().await;
    let chain = chain(&server, RemoteKeys::default()).await;
    let script = async {
        let mut peer = greet(&server).await;
        for words in ["code=temp_fail", "code=user_disabled\treason=Unpaid.", "user=a", "code=pass_expired", "temp"] {
            let (id, _) = login(&mut peer).await;
            peer.send(format!("FAIL\t{id}\t{words}\n")).await;
        }
        let (id, _) = login(&mut peer).await;
        peer.send(format!("CONT\t{id}\t\n")).await;
        peer
    };
    let asks = async {
        let mut refused = Vec::new();
        for _ in 0..6 {
            refused.push(log_in(&chain, Protocol::Imap, "ann", "x").await.unwrap_err());
        }
        refused
    };
    let (_peer, refused) = tokio::join!(script, asks);
    use Refusal::{BadCredentials, Forbidden, PassdbUnavailable};
    let why: Vec<_> = refused.iter().map(|refused| refused.refusal).collect();
    assert_eq!(why, [PassdbUnavailable, Forbidden, BadCredentials, Forbidden, PassdbUnavailable, PassdbUnavailable]);
    assert_eq!(refused[1].words.as_deref(), Some("Unpaid."));
    assert_eq!(find(&chain, "ann").await.unwrap_err(), PassdbUnavailable);
}

#[tokio::test]
async fn what_was_under_way_when_a_connection_ended_is_asked_once_more_on_the_next() {
    let server = Server::open().await;
    let chain = chain(&server, RemoteKeys::default()).await;
    let script = async {
        let mut first = greet(&server).await;
        login(&mut first).await;
        drop(first);
        let mut second = greet(&server).await;
        let (id, name) = login(&mut second).await;
        second.send(format!("OK\t{id}\tuser={name}\n")).await;
        second
    };
    let (granted, _peer) = tokio::join!(log_in(&chain, Protocol::Imap, "ann", "x"), script);
    assert_eq!(granted.unwrap().user.as_str(), "ann");
}

#[tokio::test]
async fn a_connection_that_died_in_silence_is_replaced() {
    let server = Server::open().await;
    let slow = RemoteKeys { timeout: Duration::from_millis(3200), failures: 100, ..soon() };
    let chain = chain(&server, slow).await;
    let (refused, _dead) = tokio::join!(log_in(&chain, Protocol::Imap, "ann", "x"), async {
        let mut peer = greet(&server).await;
        login(&mut peer).await;
        peer
    });
    assert_eq!(refused.unwrap_err().refusal, Refusal::PassdbUnavailable);
    let (granted, _peer) = tokio::join!(log_in(&chain, Protocol::Imap, "ann", "x"), async {
        let mut peer = greet(&server).await;
        let (id, _) = login(&mut peer).await;
        peer.send(format!("OK\t{id}\tuser=ann\n")).await;
        peer
    });
    assert!(granted.is_ok());
}

#[tokio::test]
async fn greetings_that_are_none_are_told_and_nothing_is_asked() {
    for greeting in ["VERSION\t2\t0\nDONE\n", "VERSION\t1\t2\nMECH\tCRAM-MD5\nDONE\n", "* OK IMAP\nVERSION\n", "DONE\n"]
    {
        let server = Server::open().await;
        let chain = chain(&server, RemoteKeys::default()).await;
        let (refused, said) = tokio::join!(log_in(&chain, Protocol::Imap, "ann", "x"), async {
            let mut peer = server.accept().await;
            peer.send(greeting).await;
            peer.expect("VERSION\t1\t4\n").await;
            peer.expect_start("CPID\t").await;
            peer.line().await
        });
        assert_eq!(refused.unwrap_err().refusal, Refusal::PassdbUnavailable, "{greeting:?}");
        assert_eq!(said, "", "{greeting:?}");
    }
}
