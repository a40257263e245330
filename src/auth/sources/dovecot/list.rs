//! The names of all users, on a connection of their own: there may be many, and they are asked for seldom.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::road::{Lines, Road, Role};
use super::text::{Line, Word, read_auth_line};
use crate::config::AuthSocket;

/// All names together, in bytes.
const MOST: usize = 256 << 20;

/// How long the server may be silent between two names.
const SILENCE: Duration = Duration::from_secs(30);

/// Asks a userdb that can list its users.
pub(super) async fn names(socket: &AuthSocket) -> Result<Vec<String>, String> {
    let Road { mut lines, mut write, .. } = Road::open(socket, Role::Master).await?;
    write.write_all(b"LIST\t1\tservice=doveadm\n").await.map_err(|error| error.to_string())?;
    read(&mut lines).await
}

async fn read(lines: &mut Lines) -> Result<Vec<String>, String> {
    let (mut names, mut bytes) = (Vec::new(), 0);
    loop {
        let line = timeout(SILENCE, lines.next(read_auth_line)).await;
        let line = line.map_err(|_| "it stopped in the middle of the list of users".to_owned())??;
        let Line::Answer(answer) = line.map_err(|garbled| garbled.to_string())? else { continue };
        match (answer.word, answer.fields.first().map(|field| field.whole())) {
            (Word::List, Some(name)) => {
                bytes += name.len();
                names.push(String::from_utf8_lossy(name).into_owned());
            }
            (Word::Done, None | Some(b"")) => return Ok(names),
            _ => return Err("it cannot list its users".to_owned()),
        }
        if bytes > MOST {
            return Err("it has more users than can be listed".to_owned());
        }
    }
}
