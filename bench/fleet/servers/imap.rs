//! As much IMAP as a proxy or the load needs: CAPABILITY, ID, LOGIN and AUTHENTICATE (any password is right),
//! NOOP, LOGOUT, literals of both kinds, and `X-BULK n`, which is answered with n bytes.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::say;

/// Before login, as Dovecot 2.3 greets.
const CAPABILITIES: &str = "IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ AUTH=PLAIN AUTH=LOGIN";

/// After login; as long as Dovecot's, because proxies pass it on.
const LOGGED_IN: &str = "IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE SORT SORT=DISPLAY THREAD=REFERENCES \
    THREAD=REFS THREAD=ORDEREDSUBJECT MULTIAPPEND URL-PARTIAL CATENATE UNSELECT CHILDREN NAMESPACE UIDPLUS LIST-EXTENDED \
    I18NLEVEL=1 CONDSTORE QRESYNC ESEARCH ESORT SEARCHRES WITHIN CONTEXT=SEARCH LIST-STATUS BINARY MOVE SNIPPET=FUZZY \
    PREVIEW=FUZZY PREVIEW STATUS=SIZE SAVEDATE LITERAL+ NOTIFY";

/// Written at once while bulk is sent.
static CHUNK: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// No proxy sends a longer command.
const MAX_COMMAND: usize = 64 * 1024;

/// Answers for ever.
pub(crate) async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::task::spawn_local(converse(stream));
    }
}

async fn converse(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(format!("* OK [CAPABILITY {CAPABILITIES}] Dovecot ready.\r\n").as_bytes()).await?;
    let mut dialogue = Dialogue::default();
    let mut input = Vec::with_capacity(512);
    while stream.read_buf(&mut input).await? > 0 && input.len() <= MAX_COMMAND {
        let mut output = Vec::new();
        let bulk = dialogue.take(&mut input, &mut output);
        stream.write_all(&output).await?;
        match bulk {
            Wish::Listen => {}
            Wish::Close => return stream.shutdown().await,
            Wish::Bulk { tag, bytes } => send_bulk(&mut stream, &tag, bytes).await?,
        }
    }
    Ok(())
}

async fn send_bulk(stream: &mut TcpStream, tag: &str, bytes: usize) -> std::io::Result<()> {
    stream.write_all(format!("* BULK {bytes}\r\n").as_bytes()).await?;
    let mut left = bytes;
    while left > 0 {
        let now = left.min(CHUNK.len());
        stream.write_all(&CHUNK[..now]).await?;
        left -= now;
    }
    stream.write_all(format!("\r\n{tag} OK Bulk completed.\r\n").as_bytes()).await
}

/// What is to be done after the answers are sent.
enum Wish {
    Listen,
    Close,
    Bulk { tag: String, bytes: usize },
}

/// What must be remembered from one read to the next.
#[derive(Default)]
struct Dialogue {
    /// Synchronising literals of the command at hand that were asked for already.
    invited: usize,
    /// The tag of an AUTHENTICATE that waits for its response.
    sasl: Option<String>,
}

impl Dialogue {
    /// Answers every whole command in `input` and takes it out. A bulk command must be the last of a batch.
    fn take(&mut self, input: &mut Vec<u8>, output: &mut Vec<u8>) -> Wish {
        loop {
            match scan(input) {
                Scan::Partial { literals } => {
                    for _ in self.invited..literals {
                        output.extend_from_slice(b"+ OK\r\n");
                    }
                    self.invited = literals;
                    return Wish::Listen;
                }
                Scan::Whole { bytes } => {
                    self.invited = 0;
                    let command: Vec<u8> = input.drain(..bytes).collect();
                    match self.answer(&String::from_utf8_lossy(&command), output) {
                        Wish::Listen => {}
                        wish => return wish,
                    }
                }
            }
        }
    }

    fn answer(&mut self, command: &str, output: &mut Vec<u8>) -> Wish {
        if let Some(tag) = self.sasl.take() {
            say(output, &format!("{tag} OK [CAPABILITY {LOGGED_IN}] Logged in"));
            return Wish::Listen;
        }
        let mut words = command.split_ascii_whitespace();
        let (tag, verb) = (words.next().unwrap_or("*"), words.next().unwrap_or_default());
        match verb.to_ascii_uppercase().as_str() {
            "CAPABILITY" => say(output, &format!("* CAPABILITY {CAPABILITIES}\r\n{tag} OK Capability completed.")),
            "ID" => say(output, &format!("* ID (\"name\" \"Dovecot\")\r\n{tag} OK ID completed.")),
            "NOOP" => say(output, &format!("{tag} OK NOOP completed.")),
            "AUTHENTICATE" if words.nth(1).is_none() => {
                self.sasl = Some(tag.to_owned());
                say(output, "+ ");
            }
            "LOGIN" | "AUTHENTICATE" => say(output, &format!("{tag} OK [CAPABILITY {LOGGED_IN}] Logged in")),
            "X-BULK" => {
                let bytes = words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
                return Wish::Bulk { tag: tag.to_owned(), bytes };
            }
            "LOGOUT" => {
                say(output, &format!("* BYE Logging out\r\n{tag} OK Logout completed."));
                return Wish::Close;
            }
            _ => say(output, &format!("{tag} BAD Unknown command.")),
        }
        Wish::Listen
    }
}

/// How far a command has come.
enum Scan {
    /// More is to come; this many synchronising literals were announced so far.
    Partial { literals: usize },
    /// The first command has this many bytes.
    Whole { bytes: usize },
}

fn scan(input: &[u8]) -> Scan {
    let (mut at, mut literals) = (0, 0);
    loop {
        let Some(end) = input.get(at..).and_then(|rest| memchr::memchr(b'\n', rest)) else {
            return Scan::Partial { literals };
        };
        let line = &input[at..at + end];
        at += end + 1;
        match literal(line) {
            None => return Scan::Whole { bytes: at },
            Some((bytes, synchronising)) => {
                at += bytes;
                literals += usize::from(synchronising);
            }
        }
    }
}

/// The length of the literal that a line announces, and whether its sender waits for us.
fn literal(line: &[u8]) -> Option<(usize, bool)> {
    let line = line.strip_suffix(b"\r").unwrap_or(line).strip_suffix(b"}")?;
    let digits = &line[memchr::memrchr(b'{', line)? + 1..];
    let (digits, synchronising) = match digits.strip_suffix(b"+") {
        Some(digits) => (digits, false),
        None => (digits, true),
    };
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((length.min(MAX_COMMAND), synchronising))
}
