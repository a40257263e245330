//! LMTP: one client, several mail servers that the test plays, and a reply for each recipient.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use homing::app::rules;
use homing::config::{BackendTls, Config, ListenAddress, ListenerTls, PassdbConfig, SocketMode, TlsConfig};
use homing::model::{BackendId, Ending, Protocol};
use homing::net::ServerTls;
use homing::store::memory::Memory;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::front::certificate;
use crate::parts::{Line, Peer, Server, Site, config, until};

/// What the servers offer, unless a test says otherwise.
const OFFERS: &str = "250-b\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE\r\n250 CHUNKING\r\n";
/// ann and dan are at home at the first server, ben at the second, cat at the third.
const USERS: &str = "ann@x:{PLAIN}x::::::host=a\nben@x:{PLAIN}x::::::host=b\ncat@x:{PLAIN}x::::::host=c\n\
                     dan@x:{PLAIN}x::::::host=a\neve@x:{PLAIN}x::::::host=a destuser=eve.home@y\n";

/// A proxy before three mail servers.
struct Post {
    site: Site,
    others: [Server; 2],
    _directory: tempfile::TempDir,
}

impl Post {
    async fn open() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        std::fs::write(&path, USERS).unwrap();
        let (first, others) = (Server::open().await, [Server::open().await, Server::open().await]);
        let mut config = config(first.address);
        config.limits.kick_deadline = Duration::ZERO;
        config.listeners[0].protocol = Protocol::Lmtp;
        let sample = config.backends.pop_first().unwrap().1;
        for (name, server) in ["a", "b", "c"].into_iter().zip([&first, &others[0], &others[1]]) {
            let mut backend = sample.clone();
            backend.lmtp.port = server.address.port();
            config.backends.insert(BackendId::new(name), backend);
        }
        config.passdb = vec![PassdbConfig::File { path, default_scheme: "PLAIN".to_owned(), master: false }];
        change(&mut config);
        let store = Arc::new(Memory::embedded(rules(&config)));
        Self { site: Site::over(store, first, config).await, others, _directory: directory }
    }

    /// A client that has said hello.
    async fn client(&self) -> Peer {
        let mut client = self.site.dial().await;
        hello(&mut client).await;
        client
    }

    /// The lines about recipients that this client named.
    async fn deliveries(&self, client: &Peer, count: usize) -> Vec<Line> {
        let address = client.address.to_string();
        let of = |line: &Line| line["message"] == "delivery" && line["client"] == address;
        until("the lines about deliveries", || self.site.lines(of).len() >= count).await;
        self.site.lines(of)
    }
}

async fn hello(client: &mut Peer) {
    client.expect_start("220 ").await;
    client.send("LHLO mx\r\n").await;
    while client.expect_start("250").await.starts_with("250-") {}
}

/// Greets the proxy, as a server that offers this.
async fn greet(server: &Server, offers: &str) -> Peer {
    let mut peer = server.accept().await;
    peer.send("220 b LMTP\r\n").await;
    peer.expect_start("LHLO ").await;
    peer.send(offers).await;
    peer
}

/// Takes an envelope with one recipient.
async fn take(peer: &mut Peer, recipient: &str) {
    peer.expect_start("MAIL FROM:<s@y>").await;
    peer.expect_start(&format!("RCPT TO:<{recipient}>")).await;
    peer.send("250 2.1.0 sender\r\n250 2.1.5 yes\r\n").await;
}

async fn envelope(server: &Server, recipient: &str) -> Peer {
    let mut peer = greet(server, OFFERS).await;
    take(&mut peer, recipient).await;
    peer
}

#[tokio::test]
async fn a_mail_goes_to_each_recipients_own_backend_and_each_gets_an_answer_in_order() {
    let post = Post::open().await;
    let mut client = post.client().await;
    client
        .send("MAIL FROM:<s@y> SIZE=7\r\nRCPT TO:<Ann+in/box@x>\r\nRCPT TO:<nobody@x>\r\nRCPT TO:<ben@x>\r\nRCPT TO:<dan@x>\r\nDATA\r\n")
        .await;
    let (mut a, mut b) = (greet(&post.site.server, OFFERS).await, greet(&post.others[0], OFFERS).await);
    a.expect("MAIL FROM:<s@y> SIZE=7\r\nRCPT TO:<Ann+in/box@x>\r\nRCPT TO:<dan@x>\r\n").await;
    b.expect("MAIL FROM:<s@y> SIZE=7\r\nRCPT TO:<ben@x>\r\n").await;
    b.send("250 ok\r\n250-two\r\n250 lines\r\n").await;
    client.expect("250 2.1.0 Sender OK\r\n").await;
    client.expect_silence().await;
    a.send("250 ok\r\n250 ann\r\n550 5.1.1 no dan\r\n").await;
    client
        .expect("250 ann\r\n550 5.1.1 There is no such user here\r\n250-two\r\n250 lines\r\n550 5.1.1 no dan\r\n")
        .await;
    for peer in [&mut a, &mut b] {
        peer.expect("DATA\r\n").await;
        peer.send("354 go\r\n").await;
    }
    client.expect_start("354 ").await;
    post.site.sessions(2).await;
    client.send("hello\r\n.\r\n").await;
    for peer in [&mut a, &mut b] {
        peer.expect("hello\r\n.\r\n").await;
    }
    b.send("452 4.2.2 <ben@x> full\r\n").await;
    client.expect_silence().await;
    a.send("250 2.0.0 <ann@x> saved\r\n").await;
    client.expect("250 2.0.0 <ann@x> saved\r\n452 4.2.2 <ben@x> full\r\n").await;
    post.site.sessions(0).await;
    client.send("QUIT\r\n").await;
    client.expect_start("221 ").await;
    for peer in [&mut a, &mut b] {
        peer.expect("QUIT\r\n").await;
    }
    let lines = post.deliveries(&client, 3).await;
    let of = |user: &str| lines.iter().find(|line| line["user"] == user).unwrap();
    let facts = |line: &Line| ["key", "backend", "reply", "bytes"].map(|field| line[field].clone());
    assert_eq!(facts(of("ann@x")), ["ann@x", "a", "250", "7"]);
    assert_eq!(facts(of("ben@x")), ["ben@x", "b", "452", "7"]);
    assert_eq!(facts(of("dan@x")), ["dan@x", "a", "550", "0"]);
    let line = post.site.end_of(client.address).await;
    assert_eq!(
        ["message", "protocol", "messages", "recipients", "in_bytes", "ending"].map(|field| line[field].clone()),
        ["session", "lmtp", "1", "1", "7", "client_closed"]
    );
}

#[tokio::test]
async fn a_backend_that_dies_is_a_temporary_failure_of_its_own_recipients_alone() {
    for after_the_end in [false, true] {
        let post = Post::open().await;
        let mut client = post.client().await;
        client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\nRCPT TO:<ben@x>\r\nDATA\r\n").await;
        let (mut a, mut b) = tokio::join!(envelope(&post.site.server, "ann@x"), envelope(&post.others[0], "ben@x"));
        for peer in [&mut a, &mut b] {
            peer.expect("DATA\r\n").await;
            peer.send("354 go\r\n").await;
        }
        client.expect("250 2.1.0 Sender OK\r\n250 2.1.5 yes\r\n250 2.1.5 yes\r\n").await;
        client.expect_start("354 ").await;
        client.send("hello\r\n").await;
        for peer in [&mut a, &mut b] {
            peer.expect("hello\r\n").await;
        }
        if after_the_end {
            client.send(".\r\n").await;
            b.expect(".\r\n").await;
            drop(b);
        } else {
            drop(b);
            client.send(".\r\n").await;
        }
        a.expect(".\r\n").await;
        a.send("250 saved\r\n").await;
        client.expect("250 saved\r\n").await;
        client.expect_start("451 4.4.2 ").await;
        post.site.sessions(0).await;
    }
}

#[tokio::test]
async fn a_backend_that_takes_nothing_is_left_behind_and_the_others_go_on() {
    let post = Post::with(|config| config.lmtp.backend_timeout = Duration::from_millis(300)).await;
    let mut client = post.client().await;
    client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\nRCPT TO:<ben@x>\r\nDATA\r\n").await;
    let (mut a, mut b) = tokio::join!(envelope(&post.site.server, "ann@x"), envelope(&post.others[0], "ben@x"));
    for peer in [&mut a, &mut b] {
        peer.expect("DATA\r\n").await;
        peer.send("354 go\r\n").await;
    }
    client.expect("250 2.1.0 Sender OK\r\n250 2.1.5 yes\r\n250 2.1.5 yes\r\n").await;
    client.expect_start("354 ").await;
    // More than the kernel takes for somebody who does not read.
    let line = format!("{}\r\n", "x".repeat(998));
    let writing = async {
        for _ in 0..20_000 {
            client.send(&line).await;
        }
        client.send(".\r\n").await;
        client.expect("250 saved\r\n").await;
        client.expect_start("451 4.4.2 ").await;
    };
    let reading = async {
        for _ in 0..20_000 {
            a.expect(&line).await;
        }
        a.expect(".\r\n").await;
        a.send("250 saved\r\n").await;
    };
    tokio::join!(writing, reading);
    drop(b);
    post.site.sessions(0).await;
}

#[tokio::test]
async fn what_a_backend_says_to_a_recipient_is_passed_on_but_never_ends_the_connection_or_bounces_mail() {
    let post = Post::open().await;
    let mut client = post.client().await;
    client
        .send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\nRCPT TO:<ben@x>\r\nRCPT TO:<dan@x>\r\nRCPT TO:<cat@x>\r\n")
        .await;
    let (mut a, mut b) = (greet(&post.site.server, OFFERS).await, greet(&post.others[0], OFFERS).await);
    let mut c = greet(&post.others[1], OFFERS).await;
    a.send("250 ok\r\n552-5.2.2 over\r\n552 5.2.2 quota\r\n503 5.5.1 what?\r\n").await;
    b.send("250 ok\r\n421 4.3.2 going down\r\n").await;
    c.send("502 5.5.1 no MAIL here\r\n503 5.5.1 no\r\n").await;
    client.expect("250 2.1.0 Sender OK\r\n552-5.2.2 over\r\n552 5.2.2 quota\r\n451 4.3.2 going down\r\n").await;
    client.expect_start("451 4.4.2 ").await;
    client.expect_start("451 4.4.2 ").await;
    client.send("DATA\r\nNOOP\r\n").await;
    client.expect("503 5.5.1 There is no valid recipient\r\n250 2.0.0 OK\r\n").await;
    post.site.sessions(0).await;
}

#[tokio::test]
async fn a_backend_that_answers_in_the_middle_of_a_message_is_heard() {
    let post = Post::open().await;
    let mut client = post.client().await;
    client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\nRCPT TO:<dan@x>\r\nRCPT TO:<ben@x>\r\nDATA\r\n").await;
    let mut a = greet(&post.site.server, OFFERS).await;
    a.expect("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\nRCPT TO:<dan@x>\r\n").await;
    a.send("250 ok\r\n250 ok\r\n250 ok\r\n").await;
    let mut b = envelope(&post.others[0], "ben@x").await;
    for peer in [&mut a, &mut b] {
        peer.expect("DATA\r\n").await;
        peer.send("354 go\r\n").await;
    }
    client.expect("250 2.1.0 Sender OK\r\n250 ok\r\n250 ok\r\n250 2.1.5 yes\r\n").await;
    client.expect_start("354 ").await;
    client.send("hello\r\n").await;
    a.expect("hello\r\n").await;
    // A yes to half a message is none.
    a.send("552 5.2.3 too big\r\n250 saved?\r\n").await;
    b.expect("hello\r\n").await;
    client.send("more\r\n.\r\n").await;
    b.expect("more\r\n.\r\n").await;
    b.send("250 saved\r\n").await;
    client.expect("552 5.2.3 too big\r\n").await;
    client.expect_start("451 4.4.2 ").await;
    client.expect("250 saved\r\n").await;
}

#[tokio::test]
async fn a_kick_before_the_end_of_a_message_ends_the_delivery_and_after_it_the_answer_is_awaited() {
    // Between two commands, in the message, and behind it.
    for stage in 0..3 {
        let post = Post::open().await;
        let mut client = post.client().await;
        client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\n").await;
        let mut a = envelope(&post.site.server, "ann@x").await;
        client.expect("250 2.1.0 Sender OK\r\n250 2.1.5 yes\r\n").await;
        let kick = || post.site.proxy.fleet().shards()[0].ledger.close_all(Ending::Kicked);
        if stage == 0 {
            kick();
            a.expect_end().await;
            drop(a);
            client.send("DATA\r\n").await;
            client.expect_start("451 4.3.2 ").await;
            post.site.sessions(0).await;
            continue;
        }
        client.send("DATA\r\n").await;
        a.expect("DATA\r\n").await;
        a.send("354 go\r\n").await;
        client.expect_start("354 ").await;
        client.send("hello\r\n").await;
        a.expect("hello\r\n").await;
        if stage == 1 {
            kick();
            // Not one byte that could end the message.
            a.expect_end().await;
            post.site.sessions(1).await;
            drop(a);
            client.send(".\r\n").await;
            client.expect_start("451 4.3.2 ").await;
        } else {
            client.send(".\r\n").await;
            a.expect(".\r\n").await;
            kick();
            client.expect_silence().await;
            a.send("250 saved\r\n").await;
            client.expect("250 saved\r\n").await;
        }
        post.site.sessions(0).await;
    }
}

#[tokio::test]
async fn a_held_user_and_one_with_too_many_deliveries_get_mail_later() {
    let post = Post::with(|config| {
        config.fleet.login_wait = Duration::from_millis(300);
        config.lmtp.user_concurrency = 1;
    })
    .await;
    let key = post.site.proxy.fleet().key_of("ben@x");
    assert!(post.site.proxy.moves().hold(&key, None, false).await.is_ok());
    let mut client = post.client().await;
    client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ben@x>\r\nRCPT TO:<ann@x>\r\nRCPT TO:<ann+other@x>\r\n").await;
    let _a = envelope(&post.site.server, "ann@x").await;
    client.expect("250 2.1.0 Sender OK\r\n").await;
    client.expect_start("451 4.3.2 ").await;
    client.expect("250 2.1.5 yes\r\n").await;
    client.expect_start("451 4.3.0 Too many deliveries").await;
    let mut other = post.client().await;
    other.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\n").await;
    other.expect("250 2.1.0 Sender OK\r\n").await;
    other.expect_start("451 4.3.0 Too many deliveries").await;
    assert_eq!(post.site.proxy.services().deliveries.users(), 1);
    drop(client);
    until("no delivery is left", || post.site.proxy.services().deliveries.users() == 0).await;
}

#[tokio::test]
async fn a_connection_serves_the_next_transaction_and_one_that_was_closed_meanwhile_is_made_anew() {
    let post = Post::open().await;
    let mut client = post.client().await;
    let talk = "MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\nDATA\r\n";
    let mut a = None;
    for round in 0..3 {
        client.send(talk).await;
        let mut peer = match a.take() {
            None => greet(&post.site.server, OFFERS).await,
            Some(peer) => peer,
        };
        take(&mut peer, "ann@x").await;
        peer.expect("DATA\r\n").await;
        peer.send("354 go\r\n").await;
        client.expect("250 2.1.0 Sender OK\r\n250 2.1.5 yes\r\n").await;
        client.expect_start("354 ").await;
        client.send("hello\r\n.\r\n").await;
        peer.expect("hello\r\n.\r\n").await;
        peer.send("250 saved\r\n").await;
        client.expect("250 saved\r\n").await;
        post.site.sessions(0).await;
        // The second comes by the connection of the first, the third by one of its own.
        a = (round == 0).then_some(peer);
    }
    client.send(format!("{}RSET\r\nNOOP\r\n", talk.replace("DATA\r\n", ""))).await;
    let mut peer = envelope(&post.site.server, "ann@x").await;
    peer.expect("RSET\r\n").await;
    post.site.sessions(1).await;
    peer.send("250 ok\r\n").await;
    client.expect("250 2.1.0 Sender OK\r\n250 2.1.5 yes\r\n250 2.0.0 OK\r\n250 2.0.0 OK\r\n").await;
    post.site.sessions(0).await;
}

#[tokio::test]
async fn chunks_go_on_byte_for_byte_or_with_their_dots_doubled() {
    let post = Post::open().await;
    let mut client = post.client().await;
    client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\nRCPT TO:<ben@x>\r\n").await;
    let mut a = envelope(&post.site.server, "ann@x").await;
    let mut b = greet(&post.others[0], "250 b\r\n").await;
    // No PIPELINING.
    for _ in 0..2 {
        b.line().await;
        b.expect_silence().await;
        b.send("250 ok\r\n").await;
    }
    client.expect("250 2.1.0 Sender OK\r\n250 2.1.5 yes\r\n250 ok\r\n").await;
    client.send("BDAT 9\r\none\n.\r\n.xBDAT 3\r\n\r\ryBDAT 0 LAST\r\n").await;
    b.expect("DATA\r\n").await;
    b.send("354 go\r\n").await;
    a.expect("BDAT 9\r\none\n.\r\n.xBDAT 3\r\n\r\ryBDAT 0 LAST\r\n").await;
    b.expect("one\r\n..\r\n..x\r\n\r\ny\r\n.\r\n").await;
    client.expect("250 2.0.0 Chunk taken\r\n250 2.0.0 Chunk taken\r\n").await;
    b.send("250 saved\r\n").await;
    a.send("250 chunk\r\n250 chunk\r\n250 saved\r\n").await;
    client.expect("250 saved\r\n250 saved\r\n").await;
    post.site.sessions(0).await;
}

#[tokio::test]
async fn a_chunk_that_a_backend_refuses_is_refused_for_all_of_its_recipients() {
    for last in ["", " LAST"] {
        let post = Post::open().await;
        let mut client = post.client().await;
        client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\nRCPT TO:<dan@x>\r\n").await;
        let mut a = greet(&post.site.server, OFFERS).await;
        a.expect("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\nRCPT TO:<dan@x>\r\n").await;
        a.send("250 ok\r\n250 ok\r\n250 ok\r\n").await;
        client.expect("250 2.1.0 Sender OK\r\n250 ok\r\n250 ok\r\n").await;
        client.send("BDAT 2\r\nhi").await;
        a.expect_start("BDAT 2\r\n").await;
        client.expect("250 2.0.0 Chunk taken\r\n").await;
        if last.is_empty() {
            a.send("552 5.3.4 too large\r\n").await;
            client.send("BDAT 2\r\nhiBDAT 0 LAST\r\n").await;
            client.expect("250 2.0.0 Chunk taken\r\n").await;
        } else {
            client.send("BDAT 0 LAST\r\n").await;
            a.expect("hiBDAT 0 LAST\r\n").await;
            a.send("552 5.3.4 too large\r\n").await;
        }
        client.expect("552 5.3.4 too large\r\n552 5.3.4 too large\r\n").await;
        drop(a);
        post.site.sessions(0).await;
    }
}

#[tokio::test]
async fn starttls_protects_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    let files = certificate(directory.path(), "a");
    let tls = ServerTls::new(&TlsConfig { certificates: vec![files.clone()], ..TlsConfig::default() }).unwrap();
    let post = Post::with(|config| {
        config.listeners[0].tls = ListenerTls::StartTls;
        config.tls.certificates = vec![files];
        for backend in config.backends.values_mut() {
            (backend.lmtp.tls, backend.tls_verify) = (BackendTls::StartTls, false);
        }
    })
    .await;
    let mut client = post.client().await;
    client.send("STARTTLS\r\n").await;
    client.expect_start("220 2.0.0 ").await;
    client.start_tls().await;
    client.send("LHLO mx\r\n").await;
    let mut said = String::new();
    while said.is_empty() || said.starts_with("250-") {
        said = client.expect_start("250").await;
        assert!(!said.contains("STARTTLS"));
    }
    client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\n").await;
    let mut a = greet(&post.site.server, "250-a\r\n250 STARTTLS\r\n").await;
    a.expect("STARTTLS\r\n").await;
    a.send("220 go\r\n").await;
    a.accept_tls(&tls).await;
    a.expect_start("LHLO ").await;
    a.send(OFFERS).await;
    take(&mut a, "ann@x").await;
    client.expect("250 2.1.0 Sender OK\r\n250 2.1.5 yes\r\n").await;
}

#[tokio::test]
async fn no_lone_line_end_smuggles_a_second_message() {
    let post = Post::open().await;
    let mut client = post.client().await;
    client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\nDATA\r\n").await;
    let mut a = envelope(&post.site.server, "ann@x").await;
    a.expect("DATA\r\n").await;
    a.send("354 go\r\n").await;
    client.expect("250 2.1.0 Sender OK\r\n250 2.1.5 yes\r\n").await;
    client.expect_start("354 ").await;
    client.send("a\n.\nMAIL FROM:<evil>\r\n.\rb\r\n.\nc\n.\r\n.\r\n").await;
    a.expect("a\r\n..\r\nMAIL FROM:<evil>\r\n\r\nb\r\n\r\nc\r\n..\r\n.\r\n").await;
    a.send("250 saved\r\n").await;
    client.expect("250 saved\r\n").await;
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused_at_its_announcement_or_when_it_is() {
    let post = Post::with(|config| config.lmtp.max_message_size = 10).await;
    let mut client = post.client().await;
    client.send("MAIL FROM:<s@y> SIZE=11\r\nMAIL FROM:<s@y> SIZE=10\r\nRCPT TO:<ann@x>\r\nDATA\r\n").await;
    let mut a = envelope(&post.site.server, "ann@x").await;
    a.expect("DATA\r\n").await;
    a.send("354 go\r\n").await;
    client.expect_start("552 5.3.4 ").await;
    client.expect("250 2.1.0 Sender OK\r\n250 2.1.5 yes\r\n").await;
    client.expect_start("354 ").await;
    client.send("twelve bytes\r\n").await;
    a.expect_end().await;
    drop(a);
    client.send("more\r\n.\r\nNOOP\r\n").await;
    client.expect_start("552 5.3.4 ").await;
    client.expect("250 2.0.0 OK\r\n").await;
    post.site.sessions(0).await;
}

#[tokio::test]
async fn a_proxy_that_goes_down_finishes_the_message_under_way_and_takes_no_other() {
    let post = Post::with(|config| config.limits.shutdown_grace = Duration::from_secs(10)).await;
    let (mut client, mut idle) = (post.client().await, post.client().await);
    client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\nDATA\r\n").await;
    let mut a = envelope(&post.site.server, "ann@x").await;
    a.expect("DATA\r\n").await;
    a.send("354 go\r\n").await;
    client.expect("250 2.1.0 Sender OK\r\n250 2.1.5 yes\r\n").await;
    client.expect_start("354 ").await;
    let talk = async {
        idle.expect_start("421 4.3.2 ").await;
        client.send("hello\r\n.\r\nMAIL FROM:<s@y>\r\n").await;
        a.expect("hello\r\n.\r\n").await;
        a.send("250 saved\r\n").await;
        client.expect("250 saved\r\n").await;
        client.expect_start("421 4.3.2 ").await;
        a.expect("QUIT\r\n").await;
        drop((client, idle, a));
    };
    tokio::join!(post.site.proxy.stop(), talk);
    assert_eq!(post.site.holding().sessions, 0);
}

#[tokio::test]
async fn backends_are_told_of_the_client_and_loops_end() {
    let post = Post::open().await;
    let mut client = post.client().await;
    client.send("MAIL FROM:<s@y>\r\nRCPT TO:<eve+in@x>\r\n").await;
    let offers = "250-b\r\n250-PIPELINING\r\n250 XCLIENT ADDR PORT PROTO HELO SESSION TTL TIMEOUT\r\n";
    let mut a = greet(&post.site.server, offers).await;
    let told = a.expect_start("XCLIENT HELO=mx PROTO=LMTP SESSION=").await;
    let port = client.address.port();
    assert!(told.ends_with(&format!(":P1 TTL=4 TIMEOUT=125 PORT={port} ADDR=127.0.0.1\r\n")), "{told}");
    a.send("220 b\r\n").await;
    a.expect_start("LHLO ").await;
    a.send(offers).await;
    // The passdb has another name for her, and the detail stays.
    take(&mut a, "eve.home+in@y").await;
    client.expect("250 2.1.0 Sender OK\r\n250 2.1.5 yes\r\n").await;
    client.send("RSET\r\n").await;
    a.expect("RSET\r\n").await;
    a.send("250 ok\r\n").await;
    client.expect("250 2.0.0 OK\r\n").await;
    client.send("XCLIENT TTL=0\r\nLHLO mx\r\n").await;
    hello_again(&mut client).await;
    client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\n").await;
    client.expect("250 2.1.0 Sender OK\r\n").await;
    client.expect_start("451 4.4.1 ").await;
}

async fn hello_again(client: &mut Peer) {
    client.expect_start("220 ").await;
    while client.expect_start("250").await.starts_with("250-") {}
}

#[tokio::test]
async fn a_passdb_that_cannot_answer_and_a_store_that_has_no_home_keep_mail_where_it_is() {
    let post = Post::with(|config| {
        config.passdb = vec![PassdbConfig::File {
            path: "/nowhere/users".into(),
            default_scheme: "PLAIN".to_owned(),
            master: false,
        }];
    })
    .await;
    let mut client = post.client().await;
    client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\n").await;
    client.expect("250 2.1.0 Sender OK\r\n").await;
    client.expect_start("451 4.3.0 Users cannot be looked up").await;
    let post = Post::with(|config| {
        config.passdb = vec![PassdbConfig::Backend];
        config.backends.values_mut().for_each(|backend| backend.drain = true);
    })
    .await;
    let mut client = post.client().await;
    client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\n").await;
    client.expect("250 2.1.0 Sender OK\r\n").await;
    client.expect_start("451 4.4.1 ").await;
}

#[tokio::test]
async fn mail_comes_by_a_unix_socket_that_only_its_owner_may_open() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lmtp");
    let post = Post::with(|config| {
        let mut local = config.listeners[0].clone();
        (local.address, local.mode) = (ListenAddress::Unix(path.clone()), Some(SocketMode(0o620)));
        config.listeners.push(local);
    })
    .await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o620);
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(b"LHLO mx\r\nMAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\nDATA\r\n").await.unwrap();
    let mut a = envelope(&post.site.server, "ann@x").await;
    a.expect("DATA\r\n").await;
    a.send("354 go\r\n").await;
    client.write_all(b"hello\r\n.\r\nQUIT\r\n").await.unwrap();
    a.expect("hello\r\n.\r\n").await;
    a.send("250 saved\r\n").await;
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    let codes: Vec<_> = said.lines().map(|line| &line[..4]).filter(|code| !code.ends_with('-')).collect();
    assert_eq!(codes, ["220 ", "250 ", "250 ", "250 ", "354 ", "250 ", "221 "], "{said}");
    drop(a);
    post.site.proxy.stop().await;
    assert!(!path.exists(), "the name is given up");
}

/// Resident memory of this process, in bytes.
fn memory() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Reads a message and throws it away; gives how many bytes came before the end.
async fn swallow(mut tcp: TcpStream, recipients: usize) -> usize {
    let (mut bytes, mut count, mut tail) = (vec![0; 64 * 1024], 0, Vec::new());
    loop {
        let read = tcp.read(&mut bytes).await.unwrap();
        assert!(read > 0, "the message was cut");
        count += read;
        tail.extend_from_slice(&bytes[..read]);
        tail.drain(..tail.len().saturating_sub(5));
        if tail == b"\r\n.\r\n" {
            break;
        }
    }
    tcp.write_all("250 saved\r\n".repeat(recipients).as_bytes()).await.unwrap();
    count
}

/// A server that takes any envelope, and a message.
async fn any_envelope(server: &Server, recipients: usize) -> usize {
    let mut peer = greet(server, OFFERS).await;
    peer.expect_start("MAIL ").await;
    for _ in 0..recipients {
        peer.expect_start("RCPT ").await;
    }
    peer.send("250 ok\r\n".repeat(recipients + 1)).await;
    peer.expect("DATA\r\n").await;
    peer.send("354 go\r\n").await;
    swallow(peer.into_tcp(), recipients).await
}

#[tokio::test]
async fn a_large_message_to_many_recipients_is_never_held() {
    const SIZE: usize = 100 << 20;
    let users: BTreeMap<&str, usize> = BTreeMap::from([("ann", 20), ("ben", 20), ("cat", 10)]);
    let post = Post::with(|config| config.lmtp.user_concurrency = 0).await;
    let mut client = post.client().await;
    let rcpt: String = users
        .iter()
        .flat_map(|(user, count)| (0..*count).map(move |number| format!("RCPT TO:<{user}+{number}@x>\r\n")))
        .collect();
    client.send(format!("MAIL FROM:<s@y>\r\n{rcpt}DATA\r\n")).await;
    let before = memory();
    let line = format!("{}\r\n", "x".repeat(1022));
    let piece = line.repeat(64);
    let sending = async {
        client.expect("250 2.1.0 Sender OK\r\n").await;
        for _ in 0..50 {
            client.expect("250 ok\r\n").await;
        }
        client.expect_start("354 ").await;
        let mut most = 0;
        for _ in 0..SIZE / piece.len() {
            client.send(&piece).await;
            most = most.max(memory().saturating_sub(before));
        }
        client.send(".\r\n").await;
        for _ in 0..50 {
            client.expect("250 saved\r\n").await;
        }
        most
    };
    let servers = (&post.site.server, &post.others);
    let (most, a, b, c) = tokio::join!(
        sending,
        any_envelope(servers.0, 20),
        any_envelope(&servers.1[0], 20),
        any_envelope(&servers.1[1], 10)
    );
    let whole = SIZE / piece.len() * piece.len() + 3;
    assert_eq!([a, b, c], [whole; 3]);
    // Other tests run in this process, and the message goes out three times.
    assert!(most < 64 << 20, "{} MB more", most >> 20);
}
