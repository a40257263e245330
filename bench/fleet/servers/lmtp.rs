//! As much LMTP as a proxy or the load needs, with the extensions of a Dovecot that trusts its proxies: LHLO, XCLIENT, MAIL,
//! RCPT, DATA, BDAT, RSET, NOOP, QUIT. Everybody exists, and every message is taken and thrown away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::say;

/// What is offered in LHLO.
const EXTENSIONS: &str = "250-mail.bench.example\r\n250-8BITMIME\r\n250-CHUNKING\r\n250-ENHANCEDSTATUSCODES\r\n\
    250-PIPELINING\r\n250 XCLIENT ADDR PORT PROTO HELO LOGIN SESSION TTL TIMEOUT";

/// Bytes read at once.
const PIECE: usize = 64 * 1024;

/// Bytes of the long messages that a server has got to their end.
pub(crate) type Taken = Arc<AtomicU64>;

/// Of a longer message the slow server takes a piece each [`PAUSE`], so that a proxy has somebody to wait for.
const LONG: usize = 1 << 20;

/// See [`LONG`]. The timer rounds up to the next millisecond.
const PAUSE: Duration = Duration::from_millis(1);

/// Ends a message by DATA.
const END: &[u8] = b"\r\n.\r\n";

/// Answers for ever. `slow`: see [`LONG`].
pub(crate) async fn serve(listener: TcpListener, slow: bool, count: Taken) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::task::spawn_local(converse(stream, slow, count.clone()));
    }
}

async fn converse(mut stream: TcpStream, slow: bool, count: Taken) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"220 mail.bench.example Dovecot ready.\r\n").await?;
    let mut dialogue = Dialogue { state: State::Command, to: Vec::new(), taken: 0, count };
    let (mut input, mut output) = (Vec::with_capacity(PIECE), Vec::new());
    while (&mut stream).take((PIECE - input.len()) as u64).read_buf(&mut input).await? > 0 {
        dialogue.take(&mut input, &mut output);
        if !output.is_empty() {
            stream.write_all(&output).await?;
            output.clear();
        }
        if matches!(dialogue.state, State::Over) || input.len() == PIECE {
            return stream.shutdown().await;
        }
        if slow && dialogue.taken > LONG {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// What must be remembered from one read to the next.
struct Dialogue {
    state: State,
    /// The recipients of the transaction.
    to: Vec<String>,
    /// Bytes of the message at hand.
    taken: usize,
    count: Taken,
}

#[derive(Clone, Copy)]
enum State {
    Command,
    /// A message up to [`END`].
    Data,
    /// So many more bytes of a chunk.
    Chunk {
        left: usize,
        last: bool,
    },
    Over,
}

impl Dialogue {
    /// Takes from `input` what can be taken, and answers it.
    fn take(&mut self, input: &mut Vec<u8>, output: &mut Vec<u8>) {
        loop {
            match self.state {
                State::Over => return,
                State::Command => {
                    let Some(end) = memchr::memchr(b'\n', input) else { return };
                    let line: Vec<u8> = input.drain(..=end).collect();
                    self.answer(String::from_utf8_lossy(&line).trim_end(), output);
                }
                State::Data => {
                    let end = memmem::find(input, END);
                    // What is left may be the beginning of the end.
                    let used = end.map_or(input.len().saturating_sub(END.len() - 1), |at| at + END.len());
                    self.taken += used;
                    input.drain(..used);
                    if end.is_none() {
                        return;
                    }
                    self.stored(output);
                }
                State::Chunk { left, last } => {
                    let used = left.min(input.len());
                    self.taken += used;
                    input.drain(..used);
                    self.state = State::Chunk { left: left - used, last };
                    match (left == used, last) {
                        (false, _) => return,
                        (true, true) => self.stored(output),
                        (true, false) => {
                            say(output, "250 2.0.0 OK");
                            self.state = State::Command;
                        }
                    }
                }
            }
        }
    }

    /// The message is complete: a word for each recipient.
    fn stored(&mut self, output: &mut Vec<u8>) {
        for recipient in self.to.drain(..) {
            say(output, &format!("250 2.0.0 {recipient} Saved"));
        }
        if self.taken > LONG {
            self.count.fetch_add(self.taken as u64, Ordering::Relaxed);
        }
        (self.state, self.taken) = (State::Command, 0);
    }

    fn answer(&mut self, line: &str, output: &mut Vec<u8>) {
        let mut words = line.split_ascii_whitespace();
        match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "LHLO" => say(output, EXTENSIONS),
            "XCLIENT" => say(output, "220 mail.bench.example Dovecot ready."),
            "MAIL" => say(output, "250 2.1.0 OK"),
            "RCPT" => {
                let address = words.next().and_then(|to| to.get("TO:".len()..));
                self.to.push(address.unwrap_or_default().to_owned());
                say(output, "250 2.1.5 OK");
            }
            "DATA" => {
                say(output, "354 OK");
                self.state = State::Data;
            }
            "BDAT" => {
                let left = words.next().and_then(|size| size.parse().ok()).unwrap_or(0);
                self.state = State::Chunk { left, last: words.next().is_some() };
            }
            "RSET" | "NOOP" => {
                self.to.clear();
                say(output, "250 2.0.0 OK");
            }
            "QUIT" => {
                say(output, "221 2.0.0 Bye");
                self.state = State::Over;
            }
            _ => say(output, "502 5.5.2 Unknown command"),
        }
    }
}
