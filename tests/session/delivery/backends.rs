//! Backends that die, hang, answer at the wrong time, or serve many transactions.

use std::time::Duration;

use homing::health::Traffic;
use homing::model::Protocol;

use super::{OFFERS, Post, envelope, go_on, greet, take};

#[tokio::test]
async fn a_backend_that_dies_is_a_temporary_failure_of_its_own_recipients_alone() {
    for after_the_end in [false, true] {
        let post = Post::open().await;
        let mut client = post.client().await;
        let [mut a, mut b] = post.begin(&mut client, ["ann@x", "ben@x"]).await;
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
    let post = Post::with(|config| config.lmtp.backend_timeout = Duration::from_secs(1)).await;
    let mut client = post.client().await;
    let [mut a, b] = post.begin(&mut client, ["ann@x", "ben@x"]).await;
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
async fn a_backend_that_answers_in_the_middle_of_a_message_is_heard() {
    let post = Post::open().await;
    let mut client = post.client().await;
    client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\nRCPT TO:<dan@x>\r\nRCPT TO:<ben@x>\r\nDATA\r\n").await;
    let mut a = greet(&post.site.server, OFFERS).await;
    a.expect("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\nRCPT TO:<dan@x>\r\n").await;
    a.send("250 ok\r\n250 ok\r\n250 ok\r\n").await;
    let mut b = envelope(&post.others[0], "ben@x").await;
    for peer in [&mut a, &mut b] {
        go_on(peer).await;
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
        go_on(&mut peer).await;
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
async fn an_answer_that_nobody_asked_for_is_never_taken_for_that_of_the_next_message() {
    let post = Post::open().await;
    let mut client = post.client().await;
    let [mut a] = post.begin(&mut client, ["ann@x"]).await;
    client.send(".\r\n").await;
    a.expect(".\r\n").await;
    a.send("250 saved\r\n250 2.0.0 once more\r\n").await;
    client.expect("250 saved\r\n").await;
    // The next message goes by another connection.
    let [mut other] = post.name(&mut client, ["ann@x"]).await;
    a.expect_end().await;
    client.send("DATA\r\n").await;
    other.expect("DATA\r\n").await;
    other.send("250 what?\r\n").await;
    client.expect_start("451 4.4.2 ").await;
    other.expect_end().await;
}

#[tokio::test]
async fn a_backend_that_refuses_the_message_is_free_of_its_recipients_while_others_still_get_it() {
    let post = Post::open().await;
    let mut client = post.client().await;
    let [mut a, mut b] = post.name(&mut client, ["ann@x", "ben@x"]).await;
    client.send("DATA\r\n").await;
    a.expect("DATA\r\n").await;
    a.send("452 4.3.1 no room\r\n").await;
    post.site.sessions(1).await;
    go_on(&mut b).await;
    client.expect_start("354 ").await;
    client.send(".\r\n").await;
    b.expect(".\r\n").await;
    b.send("250 saved\r\n").await;
    client.expect("452 4.3.1 no room\r\n250 saved\r\n").await;
    // What it thinks of the sender that it was told nobody knows.
    client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\n").await;
    a.expect("RSET\r\n").await;
}

#[tokio::test]
async fn those_who_watch_the_backends_hear_how_deliveries_went() {
    let post = Post::with(|config| config.lmtp.backend_timeout = Duration::from_secs(1)).await;
    let traffic = || {
        let opinions = post.site.proxy.health().opinions();
        let of_a =
            |opinion: &&homing::health::Opinion| opinion.backend.as_str() == "a" && opinion.service == Protocol::Lmtp;
        let opinion = opinions.iter().find(of_a).unwrap().clone();
        (opinion.traffic, opinion.last_failure.map_or_else(String::new, |failure| failure.words))
    };
    let counted = |logins, failures| Traffic { logins, failures, ..Traffic::default() };
    let mut client = post.client().await;
    let [mut a] = post.begin(&mut client, ["ann@x"]).await;
    assert_eq!(traffic().0, counted(0, 0), "nothing is delivered yet");
    client.send(".\r\n").await;
    a.expect(".\r\n").await;
    a.send("452 4.2.2 full\r\n").await;
    client.expect("452 4.2.2 full\r\n").await;
    assert_eq!(traffic().0, counted(1, 0), "it has answered");

    client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\nDATA\r\n").await;
    take(&mut a, "ann@x").await;
    a.expect("DATA\r\n").await;
    client.expect("250 2.1.0 Sender OK\r\n250 2.1.5 yes\r\n").await;
    client.expect_start("451 4.4.2 ").await;
    let (now, words) = traffic();
    assert_eq!(now, counted(1, 1));
    assert!(words.contains("silent for lmtp.backend_timeout"), "{words}");
    drop(a);

    let [mut a] = post.begin(&mut client, ["ann@x"]).await;
    client.send(".\r\n").await;
    a.expect(".\r\n").await;
    drop(a);
    client.expect_start("451 4.4.2 ").await;
    let (now, words) = traffic();
    assert_eq!(now, counted(1, 2));
    assert!(words.contains("broke off a delivery"), "{words}");
}
