//! A scripted machine over a stream: every way in which bytes, and dropped futures, can come.

use std::pin::pin;
use std::task::{Context, Waker};

use homing::net::{DriveError, drive, flush};
use homing::protocol::{Input, Machine, Output, Violation};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

use crate::wire::PATIENCE;

/// Answers each line with itself in angle brackets; wishes for the text behind `wish `; takes offence at `offend`.
struct Echo;

impl Machine for Echo {
    type Wish = String;

    fn advance(&mut self, input: &mut Input, out: &mut Output) -> Result<Option<String>, Violation> {
        while let Some(end) = input.filled().windows(2).position(|two| two == b"\r\n") {
            let line = String::from_utf8(input.filled()[..end].to_vec()).unwrap();
            input.consume(end + 2);
            out.put(format!("<{line}>"));
            if line == "offend" {
                return Err(Violation::TooManyErrors);
            }
            if let Some(wish) = line.strip_prefix("wish ") {
                return Ok(Some(wish.to_owned()));
            }
        }
        Ok(None)
    }
}

struct Driven {
    stream: DuplexStream,
    input: Input,
    out: Output,
}

impl Driven {
    /// Ours and the peer's end of a pipe that holds `pipe` bytes; `line` bytes of input at most.
    fn new(pipe: usize, line: usize) -> (Self, DuplexStream) {
        let (stream, peer) = duplex(pipe);
        (Self { stream, input: Input::with_capacity(line), out: Output::new() }, peer)
    }

    async fn drive(&mut self) -> Result<String, DriveError> {
        timeout(PATIENCE, drive(&mut Echo, &mut self.stream, &mut self.input, &mut self.out)).await.unwrap()
    }

    /// The same, but dropped when it has had to wait `patience` times; whether it was.
    async fn drive_until_dropped(&mut self, patience: usize) -> bool {
        let waiting = async {
            for _ in 0..patience {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            _ = self.drive() => false,
            () = waiting => true,
        }
    }
}

async fn heard(mut peer: DuplexStream) -> String {
    let mut text = String::new();
    peer.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_wish_comes_after_its_words_were_sent_and_leaves_what_follows() {
    let (mut driven, mut peer) = Driven::new(1000, 100);
    peer.write_all(b"one\r\nwish two\r\nthree\r\nwish four\r\n").await.unwrap();
    assert_eq!(driven.drive().await.unwrap(), "two");
    let mut words = [0; 15];
    peer.read_exact(&mut words).await.unwrap();
    assert_eq!(&words, b"<one><wish two>");
    assert_eq!(driven.input.filled(), b"three\r\nwish four\r\n");
    assert_eq!(driven.drive().await.unwrap(), "four");
}

#[tokio::test]
async fn a_peer_that_sends_and_takes_one_byte_at_a_time_is_served() {
    let (mut driven, peer) = Driven::new(1, 100);
    let (mut hears, mut says) = tokio::io::split(peer);
    let saying = async { says.write_all(b"a\r\nb\r\nwish c\r\n").await.unwrap() };
    let hearing = async {
        let mut words = [0; 14];
        hears.read_exact(&mut words).await.unwrap();
        words
    };
    let (wish, (), words) = tokio::join!(driven.drive(), saying, hearing);
    assert_eq!(wish.unwrap(), "c");
    assert_eq!(&words, b"<a><b><wish c>");
}

#[tokio::test]
async fn a_half_closing_peer_is_answered_in_full_before_its_end_is_noticed() {
    let (mut driven, mut peer) = Driven::new(1000, 100);
    peer.write_all(b"one\r\nwish two\r\nthree\r\nhalf a li").await.unwrap();
    peer.shutdown().await.unwrap();
    assert_eq!(driven.drive().await.unwrap(), "two");
    assert!(matches!(driven.drive().await, Err(DriveError::Closed)));
    drop(driven);
    assert_eq!(heard(peer).await, "<one><wish two><three>");
}

#[tokio::test]
async fn dropped_at_any_await_it_leaves_what_last_words_can_follow() {
    let (mut dropped, whole) = (0, "<alpha><beta><wish gamma>");
    for (pipe, patience) in (1..12).flat_map(|pipe| (1..40).map(move |patience| (pipe, patience))) {
        let (mut driven, peer) = Driven::new(pipe, 100);
        let (mut hears, mut says) = tokio::io::split(peer);
        let saying = async { says.write_all(b"alpha\r\nbeta\r\nwish gamma\r\n").await };
        let hearing = async {
            let mut words = String::new();
            hears.read_to_string(&mut words).await.unwrap();
            words
        };
        let driving = async {
            dropped += usize::from(driven.drive_until_dropped(patience).await);
            driven.out.put("<bye>");
            flush(&mut driven.stream, &mut driven.out).await.unwrap();
            drop(driven);
        };
        let all = async { tokio::join!(driving, saying, hearing) };
        let ((), _, words) = timeout(PATIENCE, all).await.unwrap();
        let before = words.strip_suffix("<bye>").unwrap();
        assert!(whole.starts_with(before) && (before.is_empty() || before.ends_with('>')), "{words} {pipe} {patience}");
    }
    assert!(dropped > 100, "{dropped}");
}

#[tokio::test]
async fn a_dropped_flush_goes_on_where_it_stopped() {
    let (mut near, far) = duplex(4);
    let mut out = Output::new();
    out.put("0123456789");
    {
        let flushing = pin!(flush(&mut near, &mut out));
        assert!(flushing.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!(out.bytes(), b"456789");
    let (flushed, text) = tokio::join!(
        async {
            flush(&mut near, &mut out).await.unwrap();
            drop(near);
        },
        heard(far)
    );
    assert_eq!((flushed, text.as_str()), ((), "0123456789"));
    assert!(out.is_empty());
}

#[tokio::test]
async fn last_words_are_sent_before_a_violation_ends_it() {
    let (mut driven, mut peer) = Driven::new(1000, 100);
    peer.write_all(b"offend\r\nmore\r\n").await.unwrap();
    assert!(matches!(driven.drive().await, Err(DriveError::Violation(Violation::TooManyErrors))));
    drop(driven);
    assert_eq!(heard(peer).await, "<offend>");
}

#[tokio::test]
async fn a_violation_is_told_even_if_its_sender_is_gone() {
    let (mut driven, mut peer) = Driven::new(1000, 100);
    peer.write_all(b"offend\r\n").await.unwrap();
    drop(peer);
    assert!(matches!(driven.drive().await, Err(DriveError::Violation(Violation::TooManyErrors))));
}

#[tokio::test]
async fn a_machine_that_neither_takes_nor_refuses_a_full_input_is_stopped() {
    let (mut driven, mut peer) = Driven::new(1000, 8);
    peer.write_all(b"0123456789").await.unwrap();
    assert!(matches!(driven.drive().await, Err(DriveError::Violation(Violation::LineTooLong))));
}
