//! Who gets a mail, where, and what is said of recipients.

use std::time::Duration;

use homing::config::{FilePassdb, PassdbConfig};

use super::{OFFERS, Post, envelope, go_on, greet, take};
use crate::parts::{Line, Peer, until};

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
        go_on(peer).await;
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
async fn what_a_backend_says_to_a_recipient_is_passed_on_but_never_ends_the_connection_or_bounces_mail() {
    let post = Post::open().await;
    let mut client = post.client().await;
    client
        .send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\nRCPT TO:<ben@x>\r\nRCPT TO:<dan@x>\r\nRCPT TO:<cat@x>\r\n")
        .await;
    let (mut a, mut b) = (greet(&post.site.server, OFFERS).await, greet(&post.others[0], OFFERS).await);
    let mut c = greet(&post.others[1], OFFERS).await;
    for (peer, recipients) in [(&mut a, 2), (&mut b, 1), (&mut c, 1)] {
        peer.line_to('\n', 1 + recipients).await;
    }
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
async fn a_held_user_and_one_with_too_many_deliveries_get_mail_later() {
    let post = Post::with(|config| {
        config.fleet.login_wait = Duration::from_secs(1);
        config.lmtp.user_concurrency = 1;
    })
    .await;
    let key = post.site.proxy.fleet().key_of("ben@x");
    assert!(post.site.proxy.moves().hold(&key, None, false).await.is_ok());
    let mut client = post.client().await;
    client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ben@x>\r\nRCPT TO:<ann@x>\r\nRCPT TO:<ann+other@x>\r\n").await;
    let a = envelope(&post.site.server, "ann@x").await;
    client.expect("250 2.1.0 Sender OK\r\n").await;
    client.expect_start("451 4.3.2 ").await;
    client.expect("250 2.1.5 yes\r\n").await;
    client.expect_start("451 4.3.0 Too many deliveries").await;
    let mut other = post.client().await;
    other.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\n").await;
    other.expect("250 2.1.0 Sender OK\r\n").await;
    other.expect_start("451 4.3.0 Too many deliveries").await;
    assert_eq!(post.site.proxy.services().deliveries.users(), 1);
    drop((client, a));
    until("no delivery is left", || post.site.proxy.services().deliveries.users() == 0).await;
}

#[tokio::test]
async fn a_passdb_that_cannot_answer_and_a_store_that_has_no_home_keep_mail_where_it_is() {
    let post = Post::with(|config| {
        config.passdb = vec![PassdbConfig::File(FilePassdb {
            path: "/nowhere/users".into(),
            default_scheme: "PLAIN".to_owned(),
            master: false,
            cache: false,
        })];
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
async fn what_the_passdb_forwards_of_a_recipient_is_told_to_a_backend_that_asks_for_it_and_is_trusted() {
    let offers = "250-b\r\n250-PIPELINING\r\n250 XRCPTFORWARD\r\n";
    // note=a/b, TAB, x=1.
    let told = "RCPT TO:<fay@x> XRCPTFORWARD=bm90ZT1hL2IJeD0x\r\n";
    for (user, offers, expected) in [
        ("fay@x", offers, told),
        ("fay@x", OFFERS, "RCPT TO:<fay@x>\r\n"),
        ("guy@x", offers, "RCPT TO:<guy@x>\r\n"),
        ("ann@x", offers, "RCPT TO:<ann@x>\r\n"),
    ] {
        let post = Post::open().await;
        let mut client = post.client().await;
        client.send(format!("MAIL FROM:<s@y>\r\nRCPT TO:<{user}>\r\n")).await;
        let mut a = greet(&post.site.server, offers).await;
        a.expect(&format!("MAIL FROM:<s@y>\r\n{expected}")).await;
    }
}
