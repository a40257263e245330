//! Understands the answer of a mail server, as it comes in: the frames, and where the answer ends. Nothing is kept of it.

use super::{MINOR_FRAMES, reply};
use crate::model::Exit;
use crate::protocol::{Referral, Violation};

/// Bytes of the line behind an answer.
const VERDICT_MAX: usize = 1024;
/// Bytes before the content of a frame: the channel, and how long it is.
const HEAD: usize = 5;

/// Takes the channels apart.
#[derive(Debug)]
pub struct Demultiplexer {
    framed: bool,
    head: [u8; HEAD],
    known: usize,
    /// Of the present frame.
    left: usize,
}

/// Finds the end of one answer.
#[derive(Debug, Default)]
pub struct Answer {
    /// What came behind the first end of line; `None` before that.
    verdict: Option<Vec<u8>>,
}

/// What an answer came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// With success or a code.
    Exit(Exit),
    /// The user belongs to another server.
    Referral(Referral),
}

/// What the bytes of an answer mean.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// These belong to the answer.
    Output(&'a [u8]),
    /// It is over.
    End(Verdict),
}

impl Demultiplexer {
    /// Of a server that speaks this minor version.
    pub fn new(minor: u32) -> Self {
        Self { framed: minor >= MINOR_FRAMES, head: [0; HEAD], known: 0, left: 0 }
    }

    /// The last `count` bytes of the content that [`Demultiplexer::next`] gave are not done with yet.
    pub fn put_back(&mut self, count: usize) {
        if self.framed {
            self.left += count;
        }
    }

    /// The first bytes of one channel in `bytes`, and how many bytes are done with then. No content, if there was only
    /// (part of) a head.
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> (u8, &'a [u8], usize) {
        if !self.framed {
            return (reply::ANSWER, bytes, bytes.len());
        }
        let mut taken = 0;
        while self.left == 0 && taken < bytes.len() {
            self.head[self.known] = bytes[taken];
            (self.known, taken) = (self.known + 1, taken + 1);
            if self.known == HEAD {
                let [_, length @ ..] = self.head;
                (self.known, self.left) = (0, u32::from_be_bytes(length) as usize);
            }
        }
        let content = &bytes[taken..bytes.len().min(taken + self.left)];
        self.left -= content.len();
        (self.head[0], content, taken + content.len())
    }
}

impl Answer {
    /// What the first bytes mean, and how many they are. `None`: they are done with and mean nothing by themselves.
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<(Option<Event<'a>>, usize), Violation> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let Some(verdict) = &mut self.verdict else {
            return Ok(match end {
                Some(0) => {
                    self.verdict = Some(Vec::new());
                    (None, 1)
                }
                Some(end) => (Some(Event::Output(&bytes[..end])), end),
                None if bytes.is_empty() => (None, 0),
                None => (Some(Event::Output(bytes)), bytes.len()),
            });
        };
        let part = &bytes[..end.unwrap_or(bytes.len())];
        if verdict.len() + part.len() > VERDICT_MAX {
            return Err(Violation::LineTooLong);
        }
        verdict.extend(part);
        match end {
            None => Ok((None, part.len())),
            Some(end) => Ok((Some(Event::End(Verdict::parse(verdict)?)), end + 1)),
        }
    }
}

impl Verdict {
    fn parse(line: &[u8]) -> Result<Self, Violation> {
        match line.strip_suffix(b"\r").unwrap_or(line) {
            b"+" => Ok(Self::Exit(Exit::DONE)),
            [b'-', word @ ..] => match word.strip_prefix(b"REFERRAL ") {
                Some(target) => referral(target).map(Self::Referral),
                None => Ok(Self::Exit(Exit::named(word))),
            },
            _ => Err(Violation::Nonsense("the end of the answer is missing")),
        }
    }
}

/// `user@host:port`, of which only the host must be there. The user may have an `@` of its own.
fn referral(target: &[u8]) -> Result<Referral, Violation> {
    let fault = Violation::Nonsense("the referral names no server");
    let target = std::str::from_utf8(target).map_err(|_| fault)?;
    if target.contains(|c: char| c.is_control() || c == ' ') {
        return Err(fault);
    }
    let (user, server) = target.rsplit_once('@').map_or((None, target), |(user, server)| (Some(user), server));
    let (host, port) = split_port(server).ok_or(fault)?;
    let user = user.filter(|user| !user.is_empty()).map(str::to_owned);
    Ok(Referral { user, host: host.to_owned(), port })
}

fn split_port(server: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match server.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']')?;
            (host, if behind.is_empty() { None } else { Some(behind.strip_prefix(':')?) })
        }
        // An IPv6 address without brackets has no port.
        None if server.matches(':').count() == 1 => server.split_once(':').map(|(host, port)| (host, Some(port)))?,
        None => (server, None),
    };
    let port = port.map(|port| port.parse().ok().filter(|port| *port > 0));
    match port {
        _ if host.is_empty() => None,
        Some(None) => None,
        Some(port) => Some((host, port)),
        None => Some((host, None)),
    }
}
