//! What becomes of a message's bytes.

use super::{OFFERS, Post, envelope, go_on, greet};

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
