//! One end of a connection that the test plays: a mail client or a mail server.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use homing::net::{ClientTls, ProxyHeader, ServerTls, Stream, receive_proxy_header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::PATIENCE;

/// A greeting that lets the proxy log in with one write.
pub(crate) const GREETING: &str = "* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID AUTH=PLAIN] ready\r\n";

pub(crate) struct Peer {
    stream: Option<Stream>,
    read: Vec<u8>,
    /// Our address, as the other side sees it.
    pub(crate) address: SocketAddr,
}

impl Peer {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        let address = tcp.local_addr().unwrap();
        tcp.set_nodelay(true).unwrap();
        Self { stream: Some(Stream::Plain(tcp)), read: Vec::new(), address }
    }

    pub(crate) async fn connect(to: SocketAddr) -> Self {
        Self::new(TcpStream::connect(to).await.unwrap())
    }

    /// Starts TLS as a client that believes any certificate.
    pub(crate) async fn start_tls(&mut self) {
        assert!(self.read.is_empty());
        let Some(Stream::Plain(tcp)) = self.stream.take() else { panic!("no plain connection") };
        let client = ClientTls::new(None, false).unwrap();
        self.stream = Some(timeout(PATIENCE, client.connect(tcp, "mail.test")).await.unwrap().unwrap());
    }

    /// Starts TLS as a server.
    pub(crate) async fn accept_tls(&mut self, tls: &ServerTls) {
        assert!(self.read.is_empty());
        let Some(Stream::Plain(tcp)) = self.stream.take() else { panic!("no plain connection") };
        self.stream = Some(timeout(PATIENCE, tls.accept(tcp, &[])).await.unwrap().unwrap().0);
    }

    fn stream(&mut self) -> &mut Stream {
        self.stream.as_mut().unwrap()
    }

    pub(crate) async fn send(&mut self, text: impl AsRef<[u8]>) {
        timeout(PATIENCE, async {
            self.stream().write_all(text.as_ref()).await.unwrap();
            self.stream().flush().await.unwrap();
        })
        .await
        .unwrap();
    }

    /// The next line, with its end; empty at the end of the connection.
    pub(crate) async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                return String::from_utf8(self.read.drain(..=end).collect()).unwrap();
            }
            if self.more().await == 0 {
                return String::from_utf8(std::mem::take(&mut self.read)).unwrap();
            }
        }
    }

    /// What comes up to the `count`th `end`, that included.
    pub(crate) async fn line_to(&mut self, end: char, count: usize) -> String {
        loop {
            let ends = self.read.iter().enumerate().filter(|(_, byte)| char::from(**byte) == end);
            if let Some((at, _)) = ends.take(count).nth(count - 1) {
                return String::from_utf8(self.read.drain(..=at).collect()).unwrap();
            }
            assert!(self.more().await > 0, "closed after {:?}", self.read);
        }
    }

    /// The next bytes, so many.
    pub(crate) async fn bytes(&mut self, count: usize) -> String {
        while self.read.len() < count {
            assert!(self.more().await > 0, "closed after {:?}", self.read);
        }
        String::from_utf8(self.read.drain(..count).collect()).unwrap()
    }

    async fn more(&mut self) -> usize {
        let mut bytes = [0; 4096];
        let read = timeout(PATIENCE, self.stream().read(&mut bytes)).await;
        let count = read.unwrap_or_else(|_| panic!("nothing comes; so far {:?}", self.read)).unwrap();
        self.read.extend(&bytes[..count]);
        count
    }

    /// The next lines are these.
    #[track_caller]
    pub(crate) fn expect<'a>(&'a mut self, lines: &'a str) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            for expected in lines.split_inclusive('\n') {
                assert_eq!(self.line().await, expected, "{caller}");
            }
        }
    }

    /// The next line starts so.
    pub(crate) async fn expect_start(&mut self, start: &str) -> String {
        let line = self.line().await;
        assert!(line.starts_with(start), "{line:?} does not start with {start:?}");
        line
    }

    /// The other side has nothing more to say, and says so.
    pub(crate) async fn expect_end(&mut self) {
        while self.more().await > 0 {}
        assert!(self.read.is_empty(), "more: {:?}", String::from_utf8_lossy(&self.read));
    }

    /// The other side has broken the connection.
    pub(crate) async fn expect_reset(&mut self) {
        let mut bytes = [0; 1];
        let read = timeout(PATIENCE, self.stream().read(&mut bytes)).await.expect("nothing comes");
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }

    /// Nothing comes for a moment. Can miss a fault, never invent one.
    pub(crate) async fn expect_silence(&mut self) {
        let mut bytes = [0; 1];
        let read = timeout(Duration::from_millis(50), self.stream().read(&mut bytes)).await;
        assert!(read.is_err(), "{read:?} {bytes:?}");
    }

    /// The connection itself, once all that came was read.
    pub(crate) fn into_tcp(mut self) -> TcpStream {
        assert!(self.read.is_empty());
        let Some(Stream::Plain(tcp)) = self.stream.take() else { panic!("no plain connection") };
        tcp
    }

    /// Closes our sending side.
    pub(crate) async fn half_close(&mut self) {
        self.stream().shutdown().await.unwrap();
    }

    /// Breaks the connection.
    pub(crate) fn reset(mut self) -> SocketAddr {
        self.stream().reset_on_drop();
        self.address
    }

    // --- as a client

    /// Logs in at a server that the test plays, too.
    pub(crate) async fn log_in(&mut self, user: &str, server: &Server) -> Self {
        self.send(format!("a LOGIN {user} secret\r\n")).await;
        let mut backend = server.accept().await;
        backend.take_login().await;
        self.expect("a OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n").await;
        backend
    }

    // --- as a server

    /// Greets, and reads up to the login: the ID, if one came, and who logs in with which password.
    pub(crate) async fn read_login(&mut self) -> (String, [String; 3]) {
        self.send(GREETING).await;
        let mut id = String::new();
        loop {
            let line = self.line().await;
            if line.starts_with("I ID ") {
                id = line;
                continue;
            }
            let Some(response) = line.strip_prefix("L AUTHENTICATE PLAIN ") else { panic!("{line:?}") };
            let message = String::from_utf8(STANDARD.decode(response.trim()).unwrap()).unwrap();
            let parts: Vec<_> = message.split('\0').map(str::to_owned).collect();
            return (id, parts.try_into().unwrap());
        }
    }

    /// Reads a PROXY header.
    pub(crate) async fn header(&mut self) -> ProxyHeader {
        timeout(PATIENCE, receive_proxy_header(self.stream())).await.unwrap().unwrap()
    }

    /// Greets, reads the login and takes it.
    pub(crate) async fn take_login(&mut self) -> (String, [String; 3]) {
        let login = self.read_login().await;
        let id = if login.0.is_empty() { "" } else { "* ID NIL\r\nI OK done\r\n" };
        self.send(format!("{id}L OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n")).await;
        login
    }

    /// Greets, reads the login, and answers it with other words.
    pub(crate) async fn answer_login(&mut self, words: &str) {
        let (id, _) = self.read_login().await;
        let id = if id.is_empty() { "" } else { "* ID NIL\r\nI OK done\r\n" };
        self.send(format!("{id}{words}")).await;
    }
}

/// A mail server whose connections the test plays.
pub(crate) struct Server {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { address: listener.local_addr().unwrap(), listener }
    }

    /// The next connection of the proxy.
    pub(crate) async fn accept(&self) -> Peer {
        Peer::new(timeout(PATIENCE, self.listener.accept()).await.expect("no connection comes").unwrap().0)
    }

    /// No connection comes for a moment.
    pub(crate) async fn expect_nobody(&self) {
        assert!(timeout(Duration::from_millis(50), self.listener.accept()).await.is_err());
    }
}
