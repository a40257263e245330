//! The tour's mail program: one IMAP connection that logs in, asks which backend it has reached, and sits in IDLE.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::net::Stream;

/// How long an answer may take: longer than a login may wait for its home.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of one line, and lines of one answer.
const LINE: u64 = 64 * 1024;
const LINES: usize = 1000;

/// One connection.
pub(super) struct Client {
    stream: BufReader<Stream>,
    commands: u32,
    /// The tag of the IDLE that runs.
    idling: Option<String>,
}

impl Client {
    /// Connects, with TLS from the first byte if `tls` is given, and reads the greeting.
    pub(super) async fn connect(address: SocketAddr, tls: Option<&TlsConnector>) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        tcp.set_nodelay(true)?;
        let stream = match tls {
            Some(tls) => {
                let name = ServerName::from(address.ip());
                Stream::Tls(Box::new(timeout(PATIENCE, tls.connect(name, tcp)).await??.into()))
            }
            None => Stream::Plain(tcp),
        };
        let mut client = Self { stream: BufReader::new(stream), commands: 0, idling: None };
        let greeting = client.line().await?;
        ensure!(greeting.starts_with("* OK"), "greeted with {greeting:?}");
        Ok(client)
    }

    /// Logs in; names and passwords must not need quoting.
    pub(super) async fn log_in(&mut self, user: &str, password: &str) -> anyhow::Result<()> {
        self.command(&format!("LOGIN \"{user}\" \"{password}\"")).await?;
        Ok(())
    }

    /// Asks the backend for its name: the field "backend" of its ID.
    pub(super) async fn backend(&mut self) -> anyhow::Result<String> {
        let answers = self.command("ID NIL").await?;
        let id = answers.iter().find(|line| line.starts_with("* ID ")).context("no answer to ID")?;
        let (_, value) = id.split_once("\"backend\" \"").with_context(|| format!("no backend in {id:?}"))?;
        Ok(value.split('"').next().unwrap_or_default().to_owned())
    }

    /// Selects the INBOX and sits in IDLE.
    pub(super) async fn idle(&mut self) -> anyhow::Result<()> {
        self.command("SELECT INBOX").await?;
        let tag = self.send("IDLE").await?;
        while !self.line().await?.starts_with('+') {}
        self.idling = Some(tag);
        Ok(())
    }

    /// Ends the IDLE: this shows that the session lives.
    pub(super) async fn done(&mut self) -> anyhow::Result<()> {
        let tag = self.idling.take().context("not in IDLE")?;
        self.write("DONE\r\n").await?;
        self.answer(&tag).await?;
        Ok(())
    }

    /// Waits, in IDLE, until the connection is gone.
    pub(super) async fn gone(&mut self) -> anyhow::Result<()> {
        let mut news = Vec::new();
        let end = async {
            while matches!((&mut self.stream).take(LINE).read_until(b'\n', &mut news).await, Ok(count) if count > 0) {
                news.clear();
            }
        };
        timeout(PATIENCE, end).await.context("the connection was not closed")
    }

    /// Logs out and waits until the server has closed.
    pub(super) async fn log_out(mut self) -> anyhow::Result<()> {
        if self.idling.is_some() {
            self.done().await?;
        }
        self.command("LOGOUT").await?;
        self.gone().await
    }

    async fn command(&mut self, command: &str) -> anyhow::Result<Vec<String>> {
        let tag = self.send(command).await?;
        self.answer(&tag).await
    }

    async fn send(&mut self, command: &str) -> anyhow::Result<String> {
        self.commands += 1;
        let tag = format!("t{}", self.commands);
        self.write(&format!("{tag} {command}\r\n")).await?;
        Ok(tag)
    }

    /// The untagged lines up to the tagged OK.
    async fn answer(&mut self, tag: &str) -> anyhow::Result<Vec<String>> {
        let mut lines = Vec::new();
        while lines.len() < LINES {
            let line = self.line().await?;
            match line.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) {
                Some(verdict) if verdict.starts_with("OK") => return Ok(lines),
                Some(verdict) => bail!("refused: {}", verdict.trim_end()),
                None => lines.push(line),
            }
        }
        bail!("an answer without end")
    }

    async fn write(&mut self, text: &str) -> anyhow::Result<()> {
        let write = async {
            self.stream.write_all(text.as_bytes()).await?;
            self.stream.flush().await
        };
        timeout(PATIENCE, write).await.context("the server takes no bytes")?.context("the connection broke")
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let read = (&mut self.stream).take(LINE);
        let mut read = std::pin::pin!(read);
        let count = timeout(PATIENCE, read.read_line(&mut line)).await.context("no answer")?;
        ensure!(count.context("the connection broke")? > 0, "the connection was closed");
        ensure!(line.ends_with('\n'), "a line without end");
        Ok(line)
    }
}
