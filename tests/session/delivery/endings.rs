//! Kicks, a proxy that goes down, and clients that do not listen, while something else is waited for.

use std::time::Duration;

use homing::model::Ending;

use tokio::time::timeout;

use super::{OFFERS, Post, envelope, go_on, greet};
use crate::parts::Peer;

#[tokio::test]
async fn a_kick_before_the_end_of_a_message_ends_the_delivery_and_after_it_the_answer_is_awaited() {
    // Between two commands, in the message, and behind it.
    for stage in 0..3 {
        let post = Post::open().await;
        let mut client = post.client().await;
        let [mut a] = post.name(&mut client, ["ann@x"]).await;
        if stage == 0 {
            post.kick();
            a.expect_end().await;
            drop(a);
            client.send("DATA\r\n").await;
            client.expect_start("451 4.3.2 ").await;
            post.site.sessions(0).await;
            continue;
        }
        client.send("DATA\r\n").await;
        go_on(&mut a).await;
        client.expect_start("354 ").await;
        client.send("hello\r\n").await;
        a.expect("hello\r\n").await;
        if stage == 1 {
            post.kick();
            // Not one byte that could end the message.
            a.expect_end().await;
            post.site.sessions(1).await;
            drop(a);
            client.send(".\r\n").await;
            client.expect_start("451 4.3.2 ").await;
        } else {
            client.send(".\r\n").await;
            a.expect(".\r\n").await;
            post.kick();
            client.expect_silence().await;
            a.send("250 saved\r\n").await;
            client.expect("250 saved\r\n").await;
        }
        post.site.sessions(0).await;
    }
}

#[tokio::test]
async fn a_proxy_that_goes_down_finishes_the_message_under_way_and_takes_no_other() {
    let post = Post::with(|config| config.limits.shutdown_grace = Duration::from_secs(10)).await;
    let (mut client, mut idle) = (post.client().await, post.client().await);
    let [mut a] = post.begin(&mut client, ["ann@x"]).await;
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
async fn a_kick_is_obeyed_while_another_recipient_waits_for_his_home() {
    let post = Post::open().await;
    let mut client = post.client().await;
    let [mut a] = post.name(&mut client, ["ann@x"]).await;
    let key = post.site.proxy.fleet().key_of("ben@x");
    assert!(post.site.proxy.moves().hold(&key, None, false).await.is_ok());
    // Of those who come together one waits, and the other has a home.
    client.send("RCPT TO:<ben@x>\r\nRCPT TO:<cat@x>\r\n").await;
    post.site.sessions(2).await;
    post.kick();
    a.expect_end().await;
    drop(a);
    post.site.sessions(0).await;
    assert!(post.site.proxy.moves().release(&key).await.is_ok());
    let _b = envelope(post.server("ben@x"), "ben@x").await;
    client.expect("250 2.1.5 yes\r\n").await;
    client.expect_start("451 4.3.2 ").await;
}

#[tokio::test]
async fn a_kick_is_obeyed_while_another_backend_is_waited_for() {
    let post = Post::open().await;
    let mut client = post.client().await;
    let [mut a, mut b] = post.name(&mut client, ["ann@x", "ben@x"]).await;
    client.send("DATA\r\n").await;
    go_on(&mut a).await;
    b.expect("DATA\r\n").await;
    let ledger = &post.site.proxy.fleet().shards()[0].ledger;
    ledger.close_at(|backend| backend.as_str() == "a", Ending::Kicked);
    a.expect_end().await;
    drop(a);
    post.site.sessions(1).await;
    b.send("354 go\r\n").await;
    client.expect_start("354 ").await;
    client.send(".\r\n").await;
    b.expect(".\r\n").await;
    b.send("250 saved\r\n").await;
    client.expect_start("451 4.3.2 ").await;
    client.expect("250 saved\r\n").await;
}

#[tokio::test]
async fn a_recipient_whose_backend_has_answered_is_free_while_another_is_waited_for() {
    let post = Post::open().await;
    let mut client = post.client().await;
    let [mut a, mut b] = post.begin(&mut client, ["ann@x", "ben@x"]).await;
    client.send(".\r\n").await;
    for peer in [&mut a, &mut b] {
        peer.expect(".\r\n").await;
    }
    post.site.sessions(2).await;
    b.send("250 saved\r\n").await;
    post.site.sessions(1).await;
    client.expect_silence().await;
    a.send("250 saved\r\n").await;
    client.expect("250 saved\r\n250 saved\r\n").await;
}

/// A client that reads no answers, of which there are more than the kernel takes for it: so many recipients, and what each
/// is told; ben comes before them.
async fn deaf_client() -> (Post, Peer, [Peer; 2], usize, String) {
    const MANY: usize = 800;
    let post = Post::with(|config| (config.lmtp.max_recipients, config.lmtp.user_concurrency) = (MANY + 1, 0)).await;
    let mut client = post.client().await;
    client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ben@x>\r\n").await;
    let mut b = envelope(&post.others[0], "ben@x").await;
    client.expect("250 2.1.0 Sender OK\r\n250 2.1.5 yes\r\n").await;
    client.send("RCPT TO:<ann@x>\r\n".repeat(MANY)).await;
    let mut a = greet(&post.site.server, OFFERS).await;
    a.expect("MAIL FROM:<s@y>\r\n").await;
    a.send("250 sender\r\n").await;
    for _ in 0..MANY {
        a.expect("RCPT TO:<ann@x>\r\n").await;
        a.send("250 yes\r\n").await;
    }
    client.expect(&"250 yes\r\n".repeat(MANY)).await;
    client.send("DATA\r\n").await;
    for peer in [&mut a, &mut b] {
        go_on(peer).await;
    }
    client.expect_start("354 ").await;
    client.send(".\r\n").await;
    for peer in [&mut a, &mut b] {
        peer.expect(".\r\n").await;
    }
    let long = format!("250 {}\r\n", "x".repeat(15_000));
    b.send("250 first\r\n").await;
    a.send(long.repeat(MANY)).await;
    (post, client, [a, b], MANY, long)
}

#[tokio::test]
async fn a_client_that_reads_no_answers_holds_nobody_up() {
    let (post, mut client, _peers, many, long) = deaf_client().await;
    post.site.sessions(0).await;
    client.expect("250 first\r\n").await;
    for _ in 0..many {
        client.expect(&long).await;
    }
}

#[tokio::test]
async fn a_proxy_that_goes_down_waits_for_no_client_that_reads_no_answers() {
    let (post, _client, peers, ..) = deaf_client().await;
    post.site.sessions(0).await;
    drop(peers);
    // It would leave the connection behind after twice `close_timeout`, which is 20 seconds.
    assert!(timeout(Duration::from_secs(10), post.site.proxy.stop()).await.is_ok());
}
