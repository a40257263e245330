//! The words of LMTP, as Postfix says them: an envelope and DATA in one go, then the message in as few writes as it takes.

use std::fmt::Write;
use std::io;

use super::{Client, patiently};

/// How a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// By DATA.
    Data,
    /// By BDAT, each piece in a chunk of its own.
    Chunks,
}

/// A message of the same piece over and over; whole lines without a dot at their beginning.
pub(crate) struct Message {
    /// The piece.
    pub(crate) piece: Vec<u8>,
    /// How often.
    pub(crate) times: usize,
}

impl Message {
    /// Of about so many bytes.
    pub(crate) fn of(bytes: usize, times: usize) -> Self {
        let mut piece = b"From: sender@bench.example\r\nSubject: bench\r\n\r\n".to_vec();
        while piece.len() < bytes {
            piece.extend_from_slice(b"It was a bright cold day in April, and the clocks were striking thirteen.\r\n");
        }
        Self { piece, times }
    }
}

impl Client {
    /// Says who it is; comes first.
    pub(crate) async fn hello(&mut self) -> io::Result<()> {
        patiently(self.lmtp_command("LHLO mta.bench.example")).await
    }

    /// Sends a message to those addresses. Gives what is said of it for each.
    pub(crate) async fn deliver(&mut self, to: &[String], message: &Message, form: Form) -> io::Result<Vec<String>> {
        patiently(async {
            let mut envelope = "MAIL FROM:<sender@bench.example>\r\n".to_owned();
            for address in to {
                let _ = write!(envelope, "RCPT TO:<{address}>\r\n"); // a String takes everything
            }
            if form == Form::Data {
                envelope += "DATA\r\n";
            }
            self.write(envelope.as_bytes()).await?;
            for _ in 0..=to.len() {
                self.reply(b'2').await?;
            }
            match form {
                Form::Data => self.data(message).await?,
                Form::Chunks => self.chunks(message).await?,
            }
            let mut words = Vec::with_capacity(to.len());
            for _ in to {
                words.push(self.reply(b'2').await?);
            }
            Ok(words)
        })
        .await
    }

    /// The go-ahead is awaited here.
    async fn data(&mut self, message: &Message) -> io::Result<()> {
        self.reply(b'3').await?;
        let last = [&message.piece[..], b".\r\n"].concat();
        for _ in 1..message.times {
            self.write(&message.piece).await?;
        }
        self.write(&last).await
    }

    async fn chunks(&mut self, message: &Message) -> io::Result<()> {
        for number in 1..=message.times {
            let mark = if number == message.times { " LAST" } else { "" };
            let command = format!("BDAT {}{mark}\r\n", message.piece.len());
            self.write(&[command.as_bytes(), &message.piece].concat()).await?;
            if number < message.times {
                self.reply(b'2').await?;
            }
        }
        Ok(())
    }

    pub(super) async fn lmtp_command(&mut self, command: &str) -> io::Result<()> {
        self.write(format!("{command}\r\n").as_bytes()).await?;
        self.reply(b'2').await.map(drop)
    }

    /// The last line of the next reply, whose code must begin with that digit.
    async fn reply(&mut self, kind: u8) -> io::Result<String> {
        let is_last =
            |line: &[u8]| (line.get(3) != Some(&b'-')).then(|| String::from_utf8_lossy(line).trim().to_owned());
        let line = self.line(is_last).await?;
        if line.as_bytes().first() == Some(&kind) { Ok(line) } else { Err(io::Error::other(line)) }
    }
}
