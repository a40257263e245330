//! A mail client that says only what the bench needs. What it says is in a file for each protocol.

mod imap;
mod lmtp;
mod pop3;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, HandshakeKind};

pub(crate) use lmtp::{Form, Message};

use crate::world::{TLS_NAME, user_name};

/// No step of a client may take longer, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// IMAP with LOGIN.
    Imap,
    /// POP3 with USER and PASS, which is a round trip more.
    Pop3,
    /// POP3 with AUTH PLAIN and an initial response.
    Pop3Sasl,
    /// LMTP.
    Lmtp,
}

impl Speech {
    /// How a server's first line begins.
    fn greeting(self) -> &'static [u8] {
        match self {
            Self::Imap => b"* OK",
            Self::Pop3 | Self::Pop3Sasl => b"+OK",
            Self::Lmtp => b"220 ",
        }
    }
}

/// Where and how a client connects.
#[derive(Clone)]
pub(crate) struct Door {
    /// What is spoken there.
    pub(crate) speech: Speech,
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
    speech: Speech,
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
            let mut client = Self { speech: door.speech, wire, unread: BytesMut::new(), resumed };
            let greeting = door.speech.greeting();
            client.line(|line| line.starts_with(greeting).then_some(())).await?;
            Ok(client)
        })
        .await
    }

    /// Logs the user with this number in.
    pub(crate) async fn login(&mut self, user: usize) -> io::Result<()> {
        self.login_as(&user_name(user)).await
    }

    /// Logs somebody in.
    pub(crate) async fn login_as(&mut self, user: &str) -> io::Result<()> {
        patiently(async {
            match self.speech {
                Speech::Imap => self.imap_login(user).await,
                Speech::Pop3 => self.pop3_login(user).await,
                Speech::Pop3Sasl => self.pop3_authenticate(user).await,
                Speech::Lmtp => Err(io::Error::other("nobody logs in by LMTP")),
            }
        })
        .await
    }

    /// Says goodbye and waits until the other side has closed.
    pub(crate) async fn logout(mut self) -> io::Result<()> {
        patiently(async {
            match self.speech {
                Speech::Imap => self.command("LOGOUT").await?,
                Speech::Pop3 | Speech::Pop3Sasl => self.pop3_command("QUIT").await?,
                Speech::Lmtp => self.lmtp_command("QUIT").await?,
            }
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

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write_all(bytes).await?;
        self.wire.flush().await
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
