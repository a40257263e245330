//! The words of POP3.

use std::io;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::Client;
use crate::world::PASSWORD;

impl Client {
    pub(super) async fn pop3_login(&mut self, user: &str) -> io::Result<()> {
        self.pop3_command(&format!("USER {user}")).await?;
        self.pop3_command(&format!("PASS {PASSWORD}")).await
    }

    pub(super) async fn pop3_authenticate(&mut self, user: &str) -> io::Result<()> {
        let response = BASE64_STANDARD.encode(format!("\0{user}\0{PASSWORD}"));
        self.pop3_command(&format!("AUTH PLAIN {response}")).await
    }

    /// Says something and waits for its OK.
    pub(super) async fn pop3_command(&mut self, command: &str) -> io::Result<()> {
        self.write(format!("{command}\r\n").as_bytes()).await?;
        let ok = self.line(|line| Some(line.starts_with(b"+OK"))).await?;
        if ok { Ok(()) } else { Err(io::Error::other("the command was refused")) }
    }
}
