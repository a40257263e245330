//! Where mail servers relay what they are given for submission: takes everything, and remembers it. Who speaks LMTP is
//! served, too, for one recipient at a time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::address::fresh_ip;
use super::{Result, eventually};

/// With XCLIENT, so that a relay tells for whom it comes.
const EXTENSIONS: &str = "250-sink.test\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-8BITMIME\r\n250-DSN\r\n\
                          250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN SESSION TTL\r\n250 ENHANCEDSTATUSCODES\r\n";

/// A message that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sunk {
    /// The arguments of the last XCLIENT before it; empty if there was none.
    pub client: String,
    /// The arguments of MAIL: `FROM:<...>` and parameters.
    pub sender: String,
    /// The arguments of each RCPT.
    pub recipients: Vec<String>,
    /// Header and body with CRLF, dots as they were meant.
    pub text: String,
}

/// A running SMTP server without a store.
pub struct Sink {
    /// Where it listens.
    pub address: SocketAddr,
    mails: Arc<Mutex<Vec<Sunk>>>,
    task: JoinHandle<()>,
}

impl Sink {
    /// Starts at an address of its own.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((fresh_ip(), 0)).await?;
        let address = listener.local_addr()?;
        let mails = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&mails);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(BufReader::new(stream), Arc::clone(&into)));
            }
        });
        Ok(Self { address, mails, task })
    }

    /// Everything so far, in the order of arrival.
    pub fn mails(&self) -> Vec<Sunk> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a message with that subject.
    pub async fn mail(&self, subject: &str) -> Result<Sunk> {
        let line = format!("Subject: {subject}\r\n");
        eventually(&format!("a mail about {subject} is relayed"), Duration::from_secs(15), async || {
            let mails = self.mails();
            let found = mails.iter().find(|mail| mail.text.contains(&line)).cloned();
            found.with_context(|| format!("{mails:?}"))
        })
        .await
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, to its end. What goes wrong with it is the other side's to tell.
async fn serve(mut stream: BufReader<TcpStream>, mails: Arc<Mutex<Vec<Sunk>>>) -> Result {
    stream.write_all(b"220 sink.test ESMTP\r\n").await?;
    let blank = Sunk { client: String::new(), sender: String::new(), recipients: Vec::new(), text: String::new() };
    let mut mail = blank.clone();
    loop {
        let line = line(&mut stream).await?;
        let (word, rest) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        let client = mail.client.clone();
        let reply = match word.to_ascii_uppercase().as_str() {
            "EHLO" | "LHLO" => EXTENSIONS,
            "XCLIENT" => {
                mail.client = rest.to_owned();
                "220 sink.test again\r\n"
            }
            "MAIL" => {
                mail = Sunk { client, sender: rest.to_owned(), ..blank.clone() };
                "250 2.1.0 welcome\r\n"
            }
            "RCPT" => {
                mail.recipients.push(rest.to_owned());
                "250 2.1.5 known\r\n"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                mail.text = text(&mut stream).await?;
                mails.lock().unwrap_or_else(PoisonError::into_inner).push(mail.clone());
                "250 2.0.0 sunk\r\n"
            }
            "QUIT" => return Ok(stream.write_all(b"221 2.0.0 bye\r\n").await?),
            _ => "250 2.0.0 as you like\r\n",
        };
        stream.write_all(reply.as_bytes()).await?;
    }
}

/// A message up to the dot.
async fn text(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut text = String::new();
    loop {
        let line = line(stream).await?;
        if line == ".\r\n" {
            return Ok(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}

/// A line with its end.
async fn line(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = Vec::new();
    let read = stream.read_until(b'\n', &mut line).await?;
    anyhow::ensure!(read > 0, "closed");
    Ok(String::from_utf8_lossy(&line).into_owned())
}
