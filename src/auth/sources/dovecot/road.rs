//! A connection to an auth socket, from dialling to the end of the greeting.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use zeroize::{Zeroize, Zeroizing};

use super::text::{Line, MAX_LINE, read_auth_line};
use crate::config::AuthSocket;
use crate::model::Mechanism;
use crate::net::{Stream, tune};

/// How long dialling and the greeting may take together.
const GREETING: Duration = Duration::from_secs(4);

/// Longest greeting, in lines: a line for each mechanism, and a few more.
const GREETING_LINES: usize = 100;

/// Which of the two protocols is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Passwords are checked.
    Client,
    /// Users are looked up.
    Master,
}

/// A connection on which questions may be put.
pub(super) struct Road {
    pub(super) lines: Lines,
    pub(super) write: WriteHalf<Stream>,
    /// The server's minor version.
    pub(super) minor: u32,
    /// What it offers to clients.
    pub(super) mechanisms: Vec<Mechanism>,
}

/// Where it leads.
pub(super) fn place(socket: &AuthSocket) -> String {
    match socket {
        AuthSocket::Unix(path) => path.display().to_string(),
        AuthSocket::Tcp(endpoint) => endpoint.authority(),
    }
}

impl Road {
    /// Dials, and exchanges greetings. Dovecot 2.3 greets at once, 2.4 only when it was greeted: so we speak first, and wait
    /// for nothing.
    pub(super) async fn open(socket: &AuthSocket, role: Role) -> Result<Self, String> {
        match timeout(GREETING, Self::greeted(socket, role)).await {
            Ok(opened) => opened.map_err(|why| format!("{}: {why}", place(socket))),
            Err(_) => Err(format!("{}: no greeting in time", place(socket))),
        }
    }

    async fn greeted(socket: &AuthSocket, role: Role) -> Result<Self, String> {
        let stream = dial(socket).await.map_err(|error| format!("cannot be reached: {error}"))?;
        let (read, mut write) = tokio::io::split(stream);
        let hello = match role {
            Role::Client => format!("VERSION\t1\t4\nCPID\t{}\n", name()),
            Role::Master => "VERSION\t1\t2\n".to_owned(),
        };
        write.write_all(hello.as_bytes()).await.map_err(|error| error.to_string())?;
        write.flush().await.map_err(|error| error.to_string())?;
        let mut lines = Lines::new(read);
        let (minor, mechanisms) = greeting(&mut lines, role).await?;
        Ok(Self { lines, write, minor, mechanisms })
    }
}

async fn dial(socket: &AuthSocket) -> io::Result<Stream> {
    match socket {
        AuthSocket::Unix(path) => Ok(Stream::Local(UnixStream::connect(path).await?)),
        AuthSocket::Tcp(endpoint) => {
            let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
            tune(&tcp);
            Ok(Stream::Plain(tcp))
        }
    }
}

/// What we call ourselves instead of by a process's number: Dovecot takes no second client of a name, and ours may come
/// from containers, in each of which we are number 1.
fn name() -> u32 {
    let mut raw = [0; 4];
    aws_lc_rs::rand::fill(&mut raw).unwrap_or_else(|_| std::process::abort()); // no entropy: nothing can be safe
    (u32::from_ne_bytes(raw) >> 1).max(1)
}

/// Reads up to the end of the greeting.
async fn greeting(lines: &mut Lines, role: Role) -> Result<(u32, Vec<Mechanism>), String> {
    let (mut minor, mut mechanisms) = (None, Vec::new());
    let no_version = || "its greeting has no version".to_owned();
    for _ in 0..GREETING_LINES {
        match lines.next(read_auth_line).await?.map_err(|garbled| garbled.to_string())? {
            Line::Version(1, theirs) => minor = Some(theirs),
            Line::Version(major, _) => return Err(format!("it speaks version {major} of the protocol, not 1")),
            Line::Mechanism(name) => mechanisms.extend(Mechanism::of_name(name.as_bytes())),
            Line::Process if role == Role::Master => {
                return Ok((minor.ok_or_else(no_version)?, mechanisms));
            }
            Line::Done if role == Role::Client && !mechanisms.contains(&Mechanism::Plain) => {
                return Err("it does not offer the mechanism PLAIN; see its auth_mechanisms".to_owned());
            }
            Line::Done if role == Role::Client => {
                return Ok((minor.ok_or_else(no_version)?, mechanisms));
            }
            _ => {}
        }
    }
    Err("its greeting has no end".to_owned())
}

/// What a server says, line by line. Wiped, for lines may hold passwords.
pub(super) struct Lines {
    from: ReadHalf<Stream>,
    buffer: Zeroizing<Vec<u8>>,
    taken: usize,
    filled: usize,
}

impl Lines {
    fn new(from: ReadHalf<Stream>) -> Self {
        Self { from, buffer: Zeroizing::new(vec![0; MAX_LINE]), taken: 0, filled: 0 }
    }

    /// Reads the next line, which comes without its end. May be dropped at any time: nothing is lost.
    pub(super) async fn next<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Result<T, String> {
        loop {
            let unread = &self.buffer[self.taken..self.filled];
            if let Some(end) = memchr::memchr(b'\n', unread) {
                let line = &mut self.buffer[self.taken..self.taken + end];
                let result = read(line);
                line.zeroize();
                self.taken += end + 1;
                return Ok(result);
            }
            if self.taken > 0 {
                self.buffer.copy_within(self.taken..self.filled, 0);
                (self.filled, self.taken) = (self.filled - self.taken, 0);
            }
            if self.filled == self.buffer.len() {
                return Err(format!("it sends a line of more than {MAX_LINE} bytes"));
            }
            match self.from.read(&mut self.buffer[self.filled..]).await {
                Ok(0) => return Err("it has closed the connection".to_owned()),
                Ok(more) => self.filled += more,
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
