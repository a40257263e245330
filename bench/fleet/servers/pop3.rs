//! As much POP3 as a proxy or the load needs, with the words of a Dovecot that trusts its proxies: CAPA, XCLIENT, USER, PASS
//! and AUTH PLAIN (any password is right), NOOP, QUIT.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::say;

/// As Dovecot 2.3 lists them.
const CAPABILITIES: &str = "+OK\r\nCAPA\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\nAUTH-RESP-CODE\r\nUSER\r\n\
    SASL PLAIN LOGIN\r\n.";

/// No proxy sends a longer line.
const MAX_LINE: usize = 16 * 1024;

/// Answers for ever.
pub(crate) async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::task::spawn_local(converse(stream));
    }
}

async fn converse(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"+OK [XCLIENT] Dovecot ready.\r\n").await?;
    let mut input = Vec::with_capacity(512);
    let mut waits_for_response = false;
    while stream.read_buf(&mut input).await? > 0 && input.len() <= MAX_LINE {
        let (mut output, mut over) = (Vec::new(), false);
        while let Some(end) = memchr::memchr(b'\n', &input) {
            let line: Vec<u8> = input.drain(..=end).collect();
            over |= answer(&String::from_utf8_lossy(&line), &mut waits_for_response, &mut output);
        }
        stream.write_all(&output).await?;
        if over {
            return stream.shutdown().await;
        }
    }
    Ok(())
}

/// True if this was the last one.
fn answer(line: &str, waits_for_response: &mut bool, output: &mut Vec<u8>) -> bool {
    if std::mem::take(waits_for_response) {
        say(output, "+OK Logged in.");
        return false;
    }
    let mut words = line.split_ascii_whitespace();
    let verb = words.next().unwrap_or_default().to_ascii_uppercase();
    match verb.as_str() {
        "CAPA" => say(output, CAPABILITIES),
        "XCLIENT" => say(output, "+OK Updated"),
        "AUTH" if words.nth(1).is_none() => {
            *waits_for_response = true;
            say(output, "+ ");
        }
        "USER" | "NOOP" => say(output, "+OK"),
        "PASS" | "AUTH" => say(output, "+OK Logged in."),
        "QUIT" => say(output, "+OK Logging out."),
        _ => say(output, "-ERR Unknown command."),
    }
    verb == "QUIT"
}
