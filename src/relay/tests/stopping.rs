//! What a session that is told to end may finish first.

use std::pin::pin;

use futures_util::poll;

use super::*;

/// Longer than the silence that makes a safe point.
const LULL: Duration = Duration::from_millis(120);

/// Nothing comes for a while. Can miss a fault, never invent one.
async fn expect_silence(stream: &mut TcpStream) {
    let mut byte = [0];
    let read = tokio::time::timeout(LULL, stream.read(&mut byte)).await;
    assert!(read.is_err(), "{read:?} {byte:?}");
}

async fn ended_well(mut running: Running, last: &[u8]) {
    assert_eq!(String::from_utf8_lossy(&rest(&mut running.client).await), String::from_utf8_lossy(last));
    assert!(rest(&mut running.backend).await.is_empty());
    drop((running.client, running.backend));
    assert_eq!(running.task.await.unwrap().ending, Ending::Kicked);
}

/// A session whose client has said this, which the backend has heard.
async fn after(rig: Rig, command: &[u8]) -> Running {
    let mut running = rig.start().await;
    running.client.write_all(command).await.unwrap();
    expect(&mut running.backend, command).await;
    running
}

#[tokio::test]
async fn a_session_that_idles_is_stopped_within_one_turn_of_its_task() {
    let (mut client, near_client) = tcp_pair().await;
    let (mut backend, near_backend) = tcp_pair().await;
    let (stop, signal) = stop_pair();
    let session = RelaySession {
        settings: Arc::new(Rig::default().settings()),
        stop: signal,
        isolation: Arc::default(),
        leftover: Vec::new(),
        last_words,
    };
    let mut relay = pin!(relay(Stream::Plain(near_client), Stream::Plain(near_backend), session, |_| {}));
    let talk = async {
        client.write_all(b"a IDLE\r\n").await.unwrap();
        expect(&mut backend, b"a IDLE\r\n").await;
        backend.write_all(b"+ idling\r\n").await.unwrap();
        expect(&mut client, b"+ idling\r\n").await;
        tokio::time::sleep(LULL).await;
    };
    tokio::select! {
        outcome = &mut relay => panic!("{outcome:?}"),
        () = talk => {}
    }
    stop.stop(Ending::Kicked);
    assert!(poll!(&mut relay).is_pending());
    assert_eq!(rest(&mut client).await, b"* BYE moved\r\n");
    assert!(rest(&mut backend).await.is_empty());
}

#[tokio::test]
async fn a_message_is_not_cut_in_the_middle_of_its_literal() {
    let mut running = after(Rig::default(), b"a FETCH 1 BODY[]\r\n").await;
    running.backend.write_all(b"* 1 FETCH (BODY[] {20}\r\nDear Ann,").await.unwrap();
    expect(&mut running.client, b"* 1 FETCH (BODY[] {20}\r\nDear Ann,").await;
    running.stop.stop(Ending::Kicked);
    expect_silence(&mut running.client).await;
    running.backend.write_all(b"\r\n\r\nhello!)\r\na OK\r\n").await.unwrap();
    ended_well(running, b"\r\n\r\nhello!)\r\na OK\r\n* BYE moved\r\n").await;
}

#[tokio::test]
async fn a_command_under_way_is_answered_first() {
    let mut running = after(Rig::default(), b"a SEARCH TEXT hay\r\n").await;
    running.stop.stop(Ending::Kicked);
    expect_silence(&mut running.client).await;
    running.backend.write_all(b"* SEARCH 4\r\na OK\r\n").await.unwrap();
    ended_well(running, b"* SEARCH 4\r\na OK\r\n* BYE moved\r\n").await;
}

#[tokio::test]
async fn news_from_before_a_command_is_not_taken_for_its_answer() {
    let (mut client, near_client) = tcp_pair().await;
    let (mut backend, near_backend) = tcp_pair().await;
    // Both stand before the relay in its first turn.
    backend.write_all(b"* 5 EXISTS\r\n").await.unwrap();
    client.write_all(b"b SEARCH TEXT hay\r\n").await.unwrap();
    let (near_client, near_backend) = (Stream::Plain(near_client), Stream::Plain(near_backend));
    let mut running = Rig::default().between(client, backend, near_client, near_backend);
    expect(&mut running.client, b"* 5 EXISTS\r\n").await;
    expect(&mut running.backend, b"b SEARCH TEXT hay\r\n").await;
    running.stop.stop(Ending::Kicked);
    expect_silence(&mut running.client).await;
    running.backend.write_all(b"b OK\r\n").await.unwrap();
    ended_well(running, b"b OK\r\n* BYE moved\r\n").await;
}

#[tokio::test]
async fn a_message_on_its_way_to_the_backend_arrives() {
    let mut running = after(Rig::default(), b"a APPEND INBOX {12}\r\n").await;
    running.backend.write_all(b"+ OK\r\n").await.unwrap();
    expect(&mut running.client, b"+ OK\r\n").await;
    running.client.write_all(b"Dear\r\n").await.unwrap();
    expect(&mut running.backend, b"Dear\r\n").await;
    running.stop.stop(Ending::Kicked);
    expect_silence(&mut running.client).await;
    running.client.write_all(b" Ann\r\n\r\n").await.unwrap();
    expect(&mut running.backend, b" Ann\r\n\r\n").await;
    running.backend.write_all(b"a OK\r\n").await.unwrap();
    ended_well(running, b"a OK\r\n* BYE moved\r\n").await;
}

#[tokio::test]
async fn a_command_that_takes_longer_than_the_kick_deadline_is_cut() {
    let running = after(Rig { kick_deadline: LULL, ..Rig::default() }, b"a SEARCH TEXT hay\r\n").await;
    let began = Instant::now();
    running.stop.stop(Ending::Kicked);
    ended_well(running, b"* BYE moved\r\n").await;
    assert!(began.elapsed() >= LULL, "it has its time");
}

#[tokio::test]
async fn a_client_that_never_rests_is_cut_at_the_kick_deadline() {
    let mut running = after(Rig { kick_deadline: LULL, ..Rig::default() }, b"a NOOP\r\n").await;
    let (mut client_reads, mut client) = running.client.into_split();
    let flood = tokio::spawn(async move { while client.write_all(&[b'\n'; 1 << 16]).await.is_ok() {} });
    running.stop.stop(Ending::Kicked);
    let (_, said) = tokio::join!(rest(&mut running.backend), rest(&mut client_reads));
    assert_eq!(said, b"* BYE moved\r\n");
    drop((running.backend, client_reads));
    assert_eq!(running.task.await.unwrap().ending, Ending::Kicked);
    within(flood).await.unwrap();
}

#[tokio::test]
async fn a_session_that_waits_to_be_stopped_ends_at_once_when_its_proxy_is_isolated() {
    let mut running = after(Rig::default(), b"a SEARCH TEXT hay\r\n").await;
    assert!(running.stop.stop(Ending::Kicked));
    assert!(!running.stop.stop(Ending::Shutdown), "the first reason counts");
    expect_silence(&mut running.client).await;
    assert!(running.stop.stop(Ending::Isolated), "but this one cannot wait");
    let error = within(running.backend.read_to_end(&mut Vec::new())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(within(running.closed).await.unwrap().ending, Ending::Isolated);
}

#[tokio::test]
async fn a_session_that_waits_to_be_stopped_may_end_by_itself() {
    let mut running = after(Rig::default(), b"a LOGOUT\r\n").await;
    running.stop.stop(Ending::Kicked);
    running.backend.write_all(b"* BYE\r\na OK\r\n").await.unwrap();
    drop(running.backend);
    assert_eq!(rest(&mut running.client).await, b"* BYE\r\na OK\r\n");
    assert_eq!(within(running.closed).await.unwrap().ending, Ending::BackendClosed);
}
