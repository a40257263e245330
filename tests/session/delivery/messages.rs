//! What becomes of a message's bytes.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{OFFERS, Post, envelope, go_on, greet};
use crate::parts::Server;

#[tokio::test]
async fn no_lone_line_end_smuggles_a_second_message() {
    let post = Post::open().await;
    let mut client = post.client().await;
    let [mut a] = post.begin(&mut client, ["ann@x"]).await;
    client.send("a\n.\nMAIL FROM:<evil>\r\n.\rb\r\n.\nc\n.\r\n.\r\n").await;
    a.expect("a\r\n..\r\nMAIL FROM:<evil>\r\n\r\nb\r\n\r\nc\r\n..\r\n.\r\n").await;
    a.send("250 saved\r\n").await;
    client.expect("250 saved\r\n").await;
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
    go_on(&mut b).await;
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
async fn a_message_given_up_between_two_chunks_is_forgotten_with_its_connections() {
    let post = Post::open().await;
    let mut client = post.client().await;
    client.send("MAIL FROM:<s@y>\r\nRCPT TO:<ann@x>\r\nRCPT TO:<ben@x>\r\nBDAT 2\r\nhi").await;
    let mut a = envelope(&post.site.server, "ann@x").await;
    let mut b = greet(&post.others[0], "250-b\r\n250 PIPELINING\r\n").await;
    super::take(&mut b, "ben@x").await;
    go_on(&mut b).await;
    client.expect("250 2.1.0 Sender OK\r\n250 2.1.5 yes\r\n250 2.1.5 yes\r\n250 2.0.0 Chunk taken\r\n").await;
    a.expect("BDAT 2\r\n").await;
    client.send("RSET\r\n").await;
    client.expect("250 2.0.0 OK\r\n").await;
    // The server's answer to the chunk, which nobody waits for any more, is not taken for one to RSET or what comes next.
    a.send("250 chunk\r\n").await;
    assert_eq!([a.line().await, b.line().await], ["hi", "hi"]);
    drop((a, b));
    post.site.sessions(0).await;
    let [mut a] = post.begin(&mut client, ["ann@x"]).await;
    client.send(".\r\n").await;
    a.expect(".\r\n").await;
    a.send("452 4.2.2 full\r\n").await;
    client.expect("452 4.2.2 full\r\n").await;
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused_at_its_announcement_or_when_it_is() {
    let post = Post::with(|config| config.lmtp.max_message_size = 10).await;
    let mut client = post.client().await;
    client.send("MAIL FROM:<s@y> SIZE=11\r\nMAIL FROM:<s@y> SIZE=10\r\nRCPT TO:<ann@x>\r\nDATA\r\n").await;
    let mut a = envelope(&post.site.server, "ann@x").await;
    go_on(&mut a).await;
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
    go_on(&mut peer).await;
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
