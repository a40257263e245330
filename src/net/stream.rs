//! One connection, plain or inside TLS, towards a client or a backend.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsStream;
use zeroize::Zeroizing;

/// A connection. TLS state is boxed: it is ten times the size of the rest.
pub enum Stream {
    /// Plaintext.
    Plain(TcpStream),
    /// TLS, either side.
    Tls(Box<TlsStream<TcpStream>>),
    /// From this machine, by a Unix socket.
    Local(UnixStream),
}

impl Stream {
    /// Makes the drop of this connection send a reset instead of an orderly end.
    pub fn reset_on_drop(&self) {
        // Fails only on a socket that is gone already; then there is nothing left to reset.
        let _ = match self {
            Self::Plain(tcp) => socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO)),
            Self::Tls(tls) => socket2::SockRef::from(tls.get_ref().0).set_linger(Some(Duration::ZERO)),
            Self::Local(_) => Ok(()), // it has none
        };
    }

    /// Ends our side and throws away what the peer still sends, until it has ended its own: closing over unread bytes
    /// would make the kernel send a reset, which destroys our last words in the peer's buffer. False if the peer took
    /// longer than `patience`.
    pub async fn part(&mut self, patience: Duration) -> bool {
        // It may hold the password of somebody who was told to go.
        let mut discarded = Zeroizing::new([0; 1024]);
        let parting = async {
            self.shutdown().await?;
            while self.read(discarded.as_mut_slice()).await? > 0 {}
            io::Result::Ok(())
        };
        // A connection that broke is over, too.
        timeout(patience, parting).await.is_ok()
    }

    /// Resolves when the connection has broken (a reset, a time-out of the kernel). No byte is read, and an end in good
    /// order is not noticed: a client may close its sending side and wait for answers.
    pub async fn broken(&self) {
        // An error means that the runtime is going down, and everything with it.
        let _ = match self {
            Self::Plain(tcp) => tcp.ready(Interest::ERROR).await,
            Self::Tls(tls) => tls.get_ref().0.ready(Interest::ERROR).await,
            Self::Local(local) => local.ready(Interest::ERROR).await,
        };
    }
}

/// Many mail programs just close the socket, without the close_notify of TLS (RFC 8446 6.1), and rustls calls that an
/// error. Here it is an end like any other: mail protocols tell themselves where each message ends, so nobody takes a
/// text that was cut for a whole one.
fn end_without_notice(read: io::Result<()>) -> io::Result<()> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        read => read,
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Local(local) => Pin::new(local).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf).map(end_without_notice),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Local(local) => Pin::new(local).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Local(local) => Pin::new(local).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Local(local) => Pin::new(local).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}
