//! A connection to a server, line by line, plain or under TLS. Each step has a deadline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::Result;

/// How long a single step may take unless the test says otherwise.
pub const STEP: Duration = Duration::from_secs(30);

/// What every client of a mail protocol talks over.
pub struct Talk {
    stream: BufReader<Wire>,
    patience: Duration,
}

impl Talk {
    /// Connects in plaintext and reads nothing, if it does not take longer than `span`.
    pub async fn dial_within(address: SocketAddr, span: Duration) -> Result<Self> {
        let tcp = within(span, TcpStream::connect(address)).await?;
        tcp.set_nodelay(true)?;
        Ok(Self::over(Wire::Plain(tcp)))
    }

    /// Connects in plaintext and reads nothing.
    pub async fn dial(address: SocketAddr) -> Result<Self> {
        Self::dial_within(address, STEP).await
    }

    /// Connects from an address of the caller's choice and reads nothing.
    pub async fn dial_from(from: IpAddr, address: SocketAddr) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        Ok(Self::over(Wire::Plain(within(STEP, socket.connect(address)).await?)))
    }

    /// Connects to a Unix socket and reads nothing.
    pub async fn dial_unix(path: &Path) -> Result<Self> {
        Ok(Self::over(Wire::Unix(within(STEP, UnixStream::connect(path)).await?)))
    }

    /// Does the TLS handshake on a connection that has been plain so far.
    pub async fn secure(self, name: &str, config: &Arc<rustls::ClientConfig>) -> Result<Self> {
        let Self { stream, patience } = self;
        ensure!(stream.buffer().is_empty(), "plaintext was left before the handshake");
        let Wire::Plain(tcp) = stream.into_inner() else { bail!("no TCP connection that is plain") };
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
        let name = rustls::pki_types::ServerName::try_from(name.to_owned())?;
        let tls = within(STEP, connector.connect(name, tcp)).await?;
        Ok(Self { stream: BufReader::new(Wire::Tls(Box::new(tls))), patience })
    }

    fn over(wire: Wire) -> Self {
        Self { stream: BufReader::new(wire), patience: STEP }
    }

    /// Lets every later step take up to `patience`.
    pub fn be_patient(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Ends the connection by a reset, as a client that dies with unread mail does.
    pub fn reset(self) -> Result {
        Ok(self.tcp()?.set_zero_linger()?)
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

    /// Reads a line, without its CRLF.
    pub async fn line(&mut self) -> Result<String> {
        let patience = self.patience;
        let mut line = Vec::new();
        timeout(patience, self.read_line(&mut line)).await.with_context(|| format!("silent for {patience:?}"))??;
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Reads a line that ends with LF, without that: doveadm says no CR.
    pub async fn bare_line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        within(self.patience, self.stream.read_until(b'\n', &mut line)).await?;
        let line =
            line.strip_suffix(b"\n").with_context(|| format!("closed after {:?}", line.escape_ascii().to_string()))?;
        Ok(String::from_utf8_lossy(line).into_owned())
    }

    /// Reads a line with the literals in it (IMAP, ManageSieve), without the last CRLF.
    pub async fn line_with_literals(&mut self) -> Result<String> {
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
        Ok(self.tcp()?.local_addr()?)
    }

    /// The server's certificate.
    pub fn certificate(&self) -> Result<Vec<u8>> {
        let Wire::Tls(tls) = self.stream.get_ref() else { bail!("not TLS") };
        let chain = tls.get_ref().1.peer_certificates().context("no certificate")?;
        Ok(chain.first().context("empty chain")?.to_vec())
    }

    fn tcp(&self) -> Result<&TcpStream> {
        match self.stream.get_ref() {
            Wire::Plain(tcp) => Ok(tcp),
            Wire::Tls(tls) => Ok(tls.get_ref().0),
            Wire::Unix(_) => bail!("a Unix socket"),
        }
    }

    async fn read_line(&mut self, into: &mut Vec<u8>) -> Result {
        let count = self.stream.read_until(b'\n', into).await?;
        ensure!(count > 0 && into.ends_with(b"\r\n"), "closed after {:?}", String::from_utf8_lossy(into));
        Ok(())
    }

    async fn read_unit(&mut self) -> Result<String> {
        let mut unit = Vec::new();
        loop {
            self.read_line(&mut unit).await?;
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

async fn within<T>(span: Duration, step: impl Future<Output = io::Result<T>>) -> Result<T> {
    Ok(timeout(span, step).await.with_context(|| format!("took longer than {span:?}"))??)
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, bytes),
            Self::Unix(unix) => Pin::new(unix).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
            Self::Unix(unix) => Pin::new(unix).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
        }
    }
}
