//! A small IMAP client with control over every byte. Each step has a deadline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::{Result, User};

/// How long a single step may take unless the test says otherwise.
pub const STEP: Duration = Duration::from_secs(30);

/// A connection to an IMAP server or proxy.
pub struct Imap {
    stream: BufReader<Wire>,
    tags: u32,
    patience: Duration,
    /// The greeting line.
    pub greeting: String,
}

/// What a command was answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// OK
    Ok,
    /// NO
    No,
    /// BAD
    Bad,
}

/// A complete answer to a command.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Lines before the tagged one, literals included, without the last CRLF.
    pub untagged: Vec<String>,
    /// Of the tagged line.
    pub status: Status,
    /// The tagged line after tag and status.
    pub text: String,
}

impl Answer {
    /// Fails unless the status is `OK`.
    pub fn ok(self) -> Result<Self> {
        ensure!(self.status == Status::Ok, "{:?} {}", self.status, self.text);
        Ok(self)
    }

    /// The first untagged line that starts with `* ` and `word`.
    pub fn line(&self, word: &str) -> Option<&str> {
        self.untagged
            .iter()
            .map(String::as_str)
            .find(|line| line.strip_prefix("* ").is_some_and(|l| l.starts_with(word)))
    }
}

impl Imap {
    /// Connects in plaintext and reads the greeting.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let mut imap = Self::dial(address).await?;
        imap.greet().await?;
        Ok(imap)
    }

    /// Connects from an address of the caller's choice and reads the greeting.
    pub async fn connect_from(from: IpAddr, address: SocketAddr) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let mut imap = Self::over(Wire::Plain(within(STEP, socket.connect(address)).await?));
        imap.greet().await?;
        Ok(imap)
    }

    /// Connects in plaintext and reads nothing.
    pub async fn dial(address: SocketAddr) -> Result<Self> {
        Self::dial_within(address, STEP).await
    }

    /// The same, if it does not take longer than `span`.
    pub async fn dial_within(address: SocketAddr, span: Duration) -> Result<Self> {
        let tcp = within(span, TcpStream::connect(address)).await?;
        tcp.set_nodelay(true)?;
        Ok(Self::over(Wire::Plain(tcp)))
    }

    /// Connects with TLS from the first byte, asking for `name`, and reads the greeting.
    pub async fn connect_tls(address: SocketAddr, name: &str, config: &Arc<rustls::ClientConfig>) -> Result<Self> {
        let mut imap = Self::dial(address).await?.start_handshake(name, config).await?;
        imap.greet().await?;
        Ok(imap)
    }

    /// STARTTLS: the command and the handshake.
    pub async fn starttls(mut self, name: &str, config: &Arc<rustls::ClientConfig>) -> Result<Self> {
        self.command("STARTTLS").await?.ok()?;
        self.start_handshake(name, config).await
    }

    /// Does the TLS handshake on a connection that has been plain so far.
    pub async fn start_handshake(self, name: &str, config: &Arc<rustls::ClientConfig>) -> Result<Self> {
        let Self { stream, greeting, tags, patience } = self;
        ensure!(stream.buffer().is_empty(), "plaintext was left before the handshake");
        let Wire::Plain(tcp) = stream.into_inner() else { bail!("TLS inside TLS") };
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
        let name = rustls::pki_types::ServerName::try_from(name.to_owned())?;
        let tls = within(STEP, connector.connect(name, tcp)).await?;
        Ok(Self { stream: BufReader::new(Wire::Tls(Box::new(tls))), greeting, tags, patience })
    }

    fn over(wire: Wire) -> Self {
        Self { stream: BufReader::new(wire), tags: 0, patience: STEP, greeting: String::new() }
    }

    /// Lets every later step take up to `patience`.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Reads the greeting.
    pub async fn greet(&mut self) -> Result {
        self.greeting = self.line().await.context("greeting")?;
        ensure!(self.greeting.starts_with("* OK"), "greeted with {:?}", self.greeting);
        Ok(())
    }

    /// LOGIN with quoted strings. Fails unless it is accepted.
    pub async fn login(&mut self, user: &User) -> Result<Answer> {
        self.try_login(user).await?.ok()
    }

    /// LOGIN with quoted strings; the answer may be any.
    pub async fn try_login(&mut self, user: &User) -> Result<Answer> {
        self.command(&format!("LOGIN {} {}", quote(&user.name), quote(&user.password))).await
    }

    /// Sends a command without tag and CRLF, and reads its answer.
    pub async fn command(&mut self, text: &str) -> Result<Answer> {
        let tag = self.begin(text).await?;
        self.answer(&tag).await
    }

    /// Sends a command without waiting for its answer; gives its tag.
    pub async fn begin(&mut self, text: &str) -> Result<String> {
        self.tags += 1;
        let tag = format!("a{}", self.tags);
        self.send(format!("{tag} {text}\r\n").as_bytes()).await?;
        Ok(tag)
    }

    /// Reads up to the tagged answer to `tag`.
    pub async fn answer(&mut self, tag: &str) -> Result<Answer> {
        let mut untagged = Vec::new();
        loop {
            let line = self.line().await?;
            let Some(rest) = line.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) else {
                untagged.push(line);
                continue;
            };
            let (word, text) = rest.split_once(' ').unwrap_or((rest, ""));
            let status = match word {
                "OK" => Status::Ok,
                "NO" => Status::No,
                "BAD" => Status::Bad,
                _ => bail!("no status in {line:?}"),
            };
            return Ok(Answer { untagged, status, text: text.to_owned() });
        }
    }

    /// APPEND with a synchronising literal.
    pub async fn append(&mut self, mailbox: &str, message: &str) -> Result<Answer> {
        let tag = self.begin(&format!("APPEND {mailbox} {{{}}}", message.len())).await?;
        let go_on = self.line().await?;
        ensure!(go_on.starts_with('+'), "APPEND was answered {go_on:?}");
        self.send(message.as_bytes()).await?;
        self.send(b"\r\n").await?;
        self.answer(&tag).await?.ok()
    }

    /// Starts IDLE; ends with [`Imap::done`].
    pub async fn idle(&mut self) -> Result<String> {
        let tag = self.begin("IDLE").await?;
        loop {
            let line = self.line().await?;
            if line.starts_with('+') {
                return Ok(tag);
            }
            ensure!(line.starts_with("* "), "IDLE was answered {line:?}");
        }
    }

    /// Ends IDLE.
    pub async fn done(&mut self, tag: &str) -> Result<Answer> {
        self.send(b"DONE\r\n").await?;
        self.answer(tag).await?.ok()
    }

    /// The name that the server gives itself in its answer to ID: which backend this is.
    pub async fn backend(&mut self) -> Result<String> {
        let answer = self.command("ID NIL").await?.ok()?;
        let line = answer.line("ID").context("no ID")?;
        let name = line.split('"').nth(3).with_context(|| format!("no name in {line:?}"))?;
        Ok(name.to_owned())
    }

    /// LOGOUT, up to the end of the connection.
    pub async fn logout(mut self) -> Result {
        self.command("LOGOUT").await?.ok()?;
        self.closed().await
    }

    /// Ends the connection by a reset, as a client that dies with unread mail does.
    pub fn reset(self) -> Result {
        Ok(self.stream.get_ref().tcp().set_zero_linger()?)
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> Result {
        let stream = &mut self.stream;
        within(self.patience, async {
            stream.write_all(bytes).await?;
            stream.flush().await
        })
        .await
    }

    /// Closes the sending side and leaves the other open.
    pub async fn half_close(&mut self) -> Result {
        within(self.patience, self.stream.shutdown()).await
    }

    /// Reads a line with the literals in it, without the last CRLF.
    pub async fn line(&mut self) -> Result<String> {
        let patience = self.patience;
        timeout(patience, self.read_unit()).await.with_context(|| format!("silent for {patience:?}"))?
    }

    /// Whether anything comes, be it the end, within `span`. Reads nothing, so it may be dropped.
    pub async fn heard_within(&mut self, span: Duration) -> Result<bool> {
        match timeout(span, self.stream.fill_buf()).await {
            Err(_) => Ok(false),
            Ok(heard) => Ok(heard.map(|_| true)?),
        }
    }

    /// Reads what is left until the server closes in good order; fails if it sends anything.
    pub async fn closed(&mut self) -> Result {
        let rest = self.read_to_end().await?;
        ensure!(rest.is_empty(), "sent before it closed: {:?}", String::from_utf8_lossy(&rest));
        Ok(())
    }

    /// Reads what is left until the server closes, in good order or not; gives what it sent.
    pub async fn lost(&mut self) -> Result<Vec<u8>> {
        let mut rest = Vec::new();
        match timeout(self.patience, self.stream.read_to_end(&mut rest)).await {
            Err(_) => bail!("still open after {:?}", self.patience),
            Ok(_) => Ok(rest),
        }
    }

    /// Reads until the server closes in good order.
    pub async fn read_to_end(&mut self) -> Result<Vec<u8>> {
        let mut rest = Vec::new();
        within(self.patience, self.stream.read_to_end(&mut rest)).await.context("until the end")?;
        Ok(rest)
    }

    /// The client's own address.
    pub fn local_address(&self) -> Result<SocketAddr> {
        Ok(self.stream.get_ref().tcp().local_addr()?)
    }

    /// The server's certificate.
    pub fn certificate(&self) -> Result<Vec<u8>> {
        let Wire::Tls(tls) = self.stream.get_ref() else { bail!("not TLS") };
        let chain = tls.get_ref().1.peer_certificates().context("no certificate")?;
        Ok(chain.first().context("empty chain")?.to_vec())
    }

    async fn read_unit(&mut self) -> Result<String> {
        let mut unit = Vec::new();
        loop {
            let count = self.stream.read_until(b'\n', &mut unit).await?;
            ensure!(count > 0 && unit.ends_with(b"\r\n"), "closed after {:?}", String::from_utf8_lossy(&unit));
            let Some(length) = announced_literal(&unit) else {
                unit.truncate(unit.len() - 2);
                return Ok(String::from_utf8_lossy(&unit).into_owned());
            };
            let start = unit.len();
            unit.resize(start + length, 0);
            self.stream.read_exact(&mut unit[start..]).await?;
        }
    }
}

/// The length of the literal that a line announces at its end.
fn announced_literal(line: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix("}\r\n")?;
    text.rsplit_once('{')?.1.parse().ok()
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

async fn within<T>(span: Duration, step: impl Future<Output = io::Result<T>>) -> Result<T> {
    Ok(timeout(span, step).await.with_context(|| format!("took longer than {span:?}"))??)
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}
