//! A mail client that says only what the bench needs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, HandshakeKind};

use crate::world::{PASSWORD, TLS_NAME};

/// No step of a client may take longer, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where and how a client connects.
#[derive(Clone)]
pub(crate) struct Door {
    /// The proxy.
    pub(crate) address: SocketAddr,
    /// Set if TLS starts with the first byte.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// Whatever bytes go through.
trait Wire: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Wire for T {}

/// One connection.
pub(crate) struct Client {
    wire: Box<dyn Wire>,
    unread: BytesMut,
    /// Whether TLS went on with an earlier session.
    pub(crate) resumed: bool,
}

impl Client {
    /// Connects, shakes hands and reads the greeting.
    pub(crate) async fn connect(door: &Door) -> io::Result<Self> {
        patiently(async {
            let tcp = TcpStream::connect(door.address).await?;
            tcp.set_nodelay(true)?;
            let (wire, resumed) = match &door.tls {
                None => (Box::new(tcp) as Box<dyn Wire>, false),
                Some(config) => shake_hands(tcp, config.clone()).await?,
            };
            let mut client = Self { wire, unread: BytesMut::new(), resumed };
            client.line(|line| line.starts_with(b"* OK").then_some(())).await?;
            Ok(client)
        })
        .await
    }

    /// Logs the user with this number in.
    pub(crate) async fn login(&mut self, user: usize) -> io::Result<()> {
        let user = crate::world::user_name(user);
        self.command(&format!("LOGIN {user} {PASSWORD}")).await
    }

    /// Says something and waits for its OK.
    pub(crate) async fn command(&mut self, command: &str) -> io::Result<()> {
        patiently(async {
            self.say(command).await?;
            self.tagged_ok().await
        })
        .await
    }

    /// Has the server send so many bytes, and reads them.
    pub(crate) async fn bulk(&mut self, bytes: usize) -> io::Result<()> {
        patiently(async {
            self.say(&format!("X-BULK {bytes}")).await?;
            self.line(|line| line.starts_with(b"* BULK").then_some(())).await?;
            let mut left = bytes.saturating_sub(self.unread.len());
            self.unread.advance(self.unread.len().min(bytes));
            let mut buffer = vec![0; left.min(256 * 1024)];
            while left > 0 {
                let room = left.min(buffer.len());
                match self.wire.read(&mut buffer[..room]).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => left -= read,
                }
            }
            self.tagged_ok().await
        })
        .await
    }

    /// Says goodbye and waits until the other side has closed.
    pub(crate) async fn logout(mut self) -> io::Result<()> {
        patiently(async {
            self.command("LOGOUT").await?;
            loop {
                match self.wire.read_buf(&mut self.unread).await {
                    Ok(0) => return Ok(()),
                    // rustls' word for a close without close_notify, as many mail servers do it.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                    Err(error) => return Err(error),
                    Ok(_) => self.unread.clear(),
                }
            }
        })
        .await
    }

    async fn say(&mut self, command: &str) -> io::Result<()> {
        self.wire.write_all(format!("a {command}\r\n").as_bytes()).await?;
        self.wire.flush().await
    }

    async fn tagged_ok(&mut self) -> io::Result<()> {
        let ok = self.line(|line| line.starts_with(b"a ").then(|| line.starts_with(b"a OK"))).await?;
        if ok { Ok(()) } else { Err(io::Error::other("the command was refused")) }
    }

    /// Reads lines until one has what is looked for.
    async fn line<T>(&mut self, find: impl Fn(&[u8]) -> Option<T>) -> io::Result<T> {
        loop {
            while let Some(end) = memchr::memchr(b'\n', &self.unread) {
                let line = self.unread.split_to(end + 1);
                if let Some(found) = find(&line) {
                    return Ok(found);
                }
            }
            if self.wire.read_buf(&mut self.unread).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

async fn shake_hands(tcp: TcpStream, config: Arc<ClientConfig>) -> io::Result<(Box<dyn Wire>, bool)> {
    let name = ServerName::try_from(TLS_NAME).map_err(io::Error::other)?;
    let tls = TlsConnector::from(config).connect(name, tcp).await?;
    let resumed = tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
    Ok((Box::new(tls), resumed))
}

async fn patiently<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    Box::pin(tokio::time::timeout(PATIENCE, step)).await?
}
