//! The words of IMAP.

use std::io;

use bytes::Buf;
use tokio::io::AsyncReadExt;

use super::{Client, patiently};
use crate::world::PASSWORD;

impl Client {
    pub(super) async fn imap_login(&mut self, user: &str) -> io::Result<()> {
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

    async fn say(&mut self, command: &str) -> io::Result<()> {
        self.write(format!("a {command}\r\n").as_bytes()).await
    }

    async fn tagged_ok(&mut self) -> io::Result<()> {
        let ok = self.line(|line| line.starts_with(b"a ").then(|| line.starts_with(b"a OK"))).await?;
        if ok { Ok(()) } else { Err(io::Error::other("the command was refused")) }
    }
}
