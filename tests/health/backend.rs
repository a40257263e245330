//! A mail server that behaves as a test wants, and changes its manners while it runs.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use homing::config::BackendConfig;
use homing::net::receive_proxy_header;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

pub(crate) const GREETING: &str = "* OK [CAPABILITY IMAP4rev1 SASL-IR ID AUTH=PLAIN] ready\r\n";

/// What it does with a connection.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// Serves whoever comes.
    Good,
    /// The same, with a greeting that comes late.
    Late(Duration),
    /// The same, behind a PROXY header, which it notes as a line.
    Proxied,
    /// Accepts, and says nothing.
    Silent,
    /// Sends its greeting a byte at a time, at this pace.
    Dribbling(Duration),
    /// Says this, and then nothing.
    Saying(&'static str),
    /// Says this, and closes.
    SayingAndClosing(&'static str),
    /// Closes without reading, which resets.
    Resetting,
    /// Serves, but answers a login with this.
    AtLogin(&'static str),
    /// Serves, but closes at a login.
    ClosingAtLogin,
    /// Serves, but never answers a login.
    SilentAtLogin,
}

/// A mail server.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    lines: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Backend {
    pub(crate) async fn start(manner: Manner) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), manner).await
    }

    pub(crate) async fn at(address: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (manner, lines) = (Arc::new(Mutex::new(manner)), Arc::default());
        let task = tokio::spawn(serve(listener, Arc::clone(&manner), Arc::clone(&lines)));
        Self { address, manner, lines, task }
    }

    /// Behaves so from the next connection on.
    pub(crate) fn becomes(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// How a proxy's file has it.
    pub(crate) fn entry(&self) -> BackendConfig {
        entry(self.address)
    }

    /// Every line that it was told.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How a proxy's file has a server at this address.
pub(crate) fn entry(address: SocketAddr) -> BackendConfig {
    BackendConfig { host: address.ip().to_string(), port: address.port(), ..BackendConfig::default() }
}

async fn serve(listener: TcpListener, manner: Arc<Mutex<Manner>>, lines: Arc<Mutex<Vec<String>>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let now = manner.lock().unwrap().clone();
        let lines = Arc::clone(&lines);
        tokio::spawn(async move {
            let _ = meet(stream, now, &lines).await; // the other side may go at any time
        });
    }
}

async fn meet(mut stream: TcpStream, manner: Manner, lines: &Mutex<Vec<String>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    match manner {
        Manner::Silent => {}
        Manner::Late(pause) => sleep(pause).await,
        Manner::Proxied => {
            let header = receive_proxy_header(&mut stream).await.map_err(std::io::Error::other)?;
            lines.lock().unwrap().push(format!("local: {}", header.local));
        }
        Manner::Dribbling(pause) => {
            for byte in GREETING.bytes() {
                stream.write_all(&[byte]).await?;
                sleep(pause).await;
            }
        }
        Manner::Saying(words) => stream.write_all(words.as_bytes()).await?,
        Manner::SayingAndClosing(words) => return stream.write_all(words.as_bytes()).await,
        Manner::Resetting => {
            return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        _ => {}
    }
    if matches!(manner, Manner::Silent | Manner::Saying(_)) {
        sleep(Duration::from_secs(3600)).await;
    }
    if !matches!(manner, Manner::Dribbling(_)) {
        stream.write_all(GREETING.as_bytes()).await?;
    }
    converse(stream, manner, lines).await
}

async fn converse(stream: TcpStream, manner: Manner, lines: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        lines.lock().unwrap().push(line.trim_end().to_owned());
        let answer = match (line.split(' ').nth(1).map(str::trim_end), &manner) {
            (Some("LOGOUT"), _) => "* BYE bye\r\nQ OK done\r\n",
            (Some("AUTHENTICATE"), Manner::AtLogin(words)) => words,
            (Some("AUTHENTICATE"), Manner::ClosingAtLogin) => return Ok(()),
            (Some("AUTHENTICATE"), Manner::SilentAtLogin) => "",
            (Some("AUTHENTICATE"), _) => "L OK [CAPABILITY IMAP4rev1] in\r\n",
            _ => "* BAD what?\r\n",
        };
        stream.write_all(answer.as_bytes()).await?;
        if line.contains("LOGOUT") {
            return Ok(());
        }
    }
}
