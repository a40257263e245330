//! Mail servers that do what real ones never do when a test wants it: nonsense, silence, half a word.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::Result;
use super::address::fresh_ip;

/// A greeting as Dovecot's, which lets a proxy send its steps without waiting.
pub const GREETING: &str = "* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID AUTH=PLAIN] scripted\r\n";

/// A server that plays a script for each connection.
pub struct Scripted {
    /// Where it listens.
    pub address: SocketAddr,
    count: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Scripted {
    /// Plays `script` with the number of the connection, from 0 on, and its peer. What it returns is of no interest.
    pub async fn start<F, Fut>(script: F) -> Result<Self>
    where
        F: Fn(usize, Peer) -> Fut + Send + 'static,
        Fut: Future<Output = Result> + Send + 'static,
    {
        let listener = TcpListener::bind((fresh_ip(), 0)).await?;
        let address = listener.local_addr()?;
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(script(number, Peer { stream: BufReader::new(stream) }));
            }
        });
        Ok(Self { address, count, task })
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whoever connected.
pub struct Peer {
    stream: BufReader<TcpStream>,
}

impl Peer {
    /// Sends text.
    pub async fn say(&mut self, text: &str) -> Result {
        Ok(self.stream.write_all(text.as_bytes()).await?)
    }

    /// Sends text byte by byte, each in a packet of its own as far as that can be had.
    pub async fn spell(&mut self, text: &str) -> Result {
        self.stream.get_ref().set_nodelay(true)?;
        for byte in text.bytes() {
            self.stream.write_all(&[byte]).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Reads a line without its end.
    pub async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = tokio::time::timeout(Duration::from_secs(60), self.stream.read_line(&mut line)).await??;
        if read == 0 {
            bail!("closed");
        }
        Ok(line.trim_end().to_owned())
    }

    /// Reads a message up to the line with nothing but a dot, and forgets it; gives its bytes, that line among them.
    pub async fn message(&mut self) -> Result<usize> {
        let (mut line, mut count) = (Vec::new(), 0);
        while line != b".\r\n" {
            line.clear();
            let read =
                tokio::time::timeout(Duration::from_secs(60), self.stream.read_until(b'\n', &mut line)).await??;
            if read == 0 {
                bail!("closed");
            }
            count += read;
        }
        Ok(count)
    }

    /// Greets, answers what comes before the login, and gives the login's tag without answering it.
    pub async fn until_login(&mut self) -> Result<String> {
        self.say(GREETING).await?;
        loop {
            let line = self.line().await?;
            let (tag, command) = line.split_once(' ').with_context(|| line.clone())?;
            let word = command.split(' ').next().unwrap_or("").to_ascii_uppercase();
            match word.as_str() {
                "ID" => self.say(&format!("* ID NIL\r\n{tag} OK done\r\n")).await?,
                "CAPABILITY" => self.say(&format!("* CAPABILITY IMAP4rev1\r\n{tag} OK done\r\n")).await?,
                "NOOP" => self.say(&format!("{tag} OK done\r\n")).await?,
                "LOGIN" | "AUTHENTICATE" => return Ok(tag.to_owned()),
                _ => bail!("unexpected: {line}"),
            }
        }
    }

    /// Reads until the peer closes; `true` if in good order, `false` if by a reset.
    pub async fn is_closed_in_order(&mut self) -> bool {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).await.is_ok()
    }
}
