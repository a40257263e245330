//! One question over Dovecot's doveadm protocol, in its version 1.0: every 2.3 and 2.4 speaks it, and only from 1.1 on
//! are answers cut into frames.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use zeroize::Zeroizing;

use super::wire::Garbled;
use crate::model::Secret;

/// Lines that a server may say before it lets us in.
const GREETING_LINES: usize = 4;
/// Bytes of a line that is no data.
const LINE_MAX: usize = 1024;

/// Why there is no answer.
pub(super) enum Fault {
    Denied,
    Refused(String),
    Garbled(Garbled),
    Lost(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// Says hello, shows the password if it is asked for, asks with a whole line. Returns the line of the answer, without its
/// end.
pub(super) async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    password: &Secret,
    question: &[u8],
    most: usize,
) -> Result<Vec<u8>, Fault> {
    let mut stream = BufReader::new(stream);
    log_in(&mut stream, password, 0).await?;
    say(&mut stream, question).await?;
    let fields = line(&mut stream, most).await?;
    match line(&mut stream, LINE_MAX).await?.as_slice() {
        b"+" => Ok(fields),
        b"-" => Err(Fault::Refused("it gives no reason".to_owned())),
        [b'-', code @ ..] => Err(Fault::Refused(code.escape_ascii().to_string())),
        _ => Err(Fault::Garbled(Garbled("the end of the answer is missing"))),
    }
}

/// Says hello as one who speaks this minor version, and shows the password if it is asked for. Returns the minor version
/// that both speak.
pub(super) async fn log_in(
    stream: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>,
    password: &Secret,
    minor: u32,
) -> Result<u32, Fault> {
    say(stream, format!("VERSION\tdoveadm-server\t1\t{minor}\n").as_bytes()).await?;
    let (theirs, is_in) = greeting(stream).await?;
    // Not before it is asked for: what listens there may be anything.
    if !is_in {
        say(stream, &plain(password)).await?;
        if !verdict(&line(stream, LINE_MAX).await?)? {
            return Err(Fault::Denied);
        }
    }
    Ok(theirs.min(minor))
}

pub(super) async fn say(stream: &mut (impl AsyncWrite + Unpin), words: &[u8]) -> io::Result<()> {
    stream.write_all(words).await?;
    stream.flush().await
}

/// The server's minor version, and whether it lets us in without a password. Old ones name no version.
async fn greeting(stream: &mut BufReader<impl AsyncRead + Unpin>) -> Result<(u32, bool), Fault> {
    let mut minor = 0;
    for _ in 0..GREETING_LINES {
        let line = line(stream, LINE_MAX).await?;
        match line.strip_prefix(b"VERSION\tdoveadm-client\t1\t") {
            Some(theirs) => minor = std::str::from_utf8(theirs).ok().and_then(|minor| minor.parse().ok()).unwrap_or(0),
            None if line.starts_with(b"VERSION\t") => {}
            None => return Ok((minor, verdict(&line)?)),
        }
    }
    Err(Fault::Garbled(Garbled("the greeting has no end")))
}

fn verdict(line: &[u8]) -> Result<bool, Fault> {
    match line {
        b"+" => Ok(true),
        b"-" => Ok(false),
        _ => Err(Fault::Garbled(Garbled("the greeting is none"))),
    }
}

/// RFC 4616, for the one user that there is.
fn plain(password: &Secret) -> Zeroizing<Vec<u8>> {
    let message = Zeroizing::new([b"\0doveadm\0", password.expose()].concat());
    let text = Zeroizing::new(STANDARD.encode(&*message));
    Zeroizing::new([b"PLAIN\t", text.as_bytes(), b"\n"].concat())
}

/// The next line, without its end.
async fn line(stream: &mut BufReader<impl AsyncRead + Unpin>, most: usize) -> Result<Vec<u8>, Fault> {
    let mut line = Vec::new();
    let read = stream.take(most as u64 + 1).read_until(b'\n', &mut line).await?;
    match line.pop() {
        Some(b'\n') => Ok(line),
        _ if read > most => Err(Fault::Garbled(Garbled("the answer is too long"))),
        _ => Err(Fault::Lost(io::ErrorKind::UnexpectedEof.into())),
    }
}
